"""Doors: each translates between the bytes of one client protocol and the hub.

A door must not hold rules of the chat, or import another door.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from chat_twisted.core.errors import ChatError


class Channel(NamedTuple):
    """The properties of a connection.

    :ivar host: the peer's address; None for a local socket.
    :ivar encrypted: whether it uses TLS.
    :ivar port: the port of the server; 0 for a local socket.
    :ivar binding: the SHA-256 digest of the server's certificate; empty without TLS.
    :ivar certificate_key: the public key of the certificate that the client has shown, as
        ``keys.parse_key`` returns it; empty without one.
    :ivar inside: the kind of a client that runs inside the server, such as ``SSH``; empty for all
        others. Its user is verified already, and a guest chooses their own session token.
    :ivar proof: the verified proof of such a user, as in ``commands.Login``; empty for a guest.
    :ivar lost: must be called when the connection is lost.
    """

    host: str | None = None
    encrypted: bool = False
    port: int = 0
    binding: bytes = b""
    certificate_key: str = ""
    inside: str = ""
    proof: str = ""
    lost: Callable[[], None] = lambda: None

    @property
    def private(self) -> bool:
        """Whether clients may send passwords."""
        return self.encrypted or self.local

    @property
    def local(self) -> bool:
        """Whether the peer is on this machine, so that nobody on a network can listen."""
        return self.host is None or is_loopback(self.host)


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether an IP address is of this machine alone."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def describe(address: IAddress) -> str:
    """Describe one end of a connection, for the log."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress) and address.name:
        return f"unix:{os.fsdecode(address.name)}"
    return "a local socket"


def forget_frames(reason: Failure) -> None:
    """Remove the traceback of ``reason``.

    The frames of an error in TLS refer to the connection and its buffers (about 90 KiB) in a
    reference cycle, which would stay until the garbage collector runs.
    """
    reason.cleanFailure()


class Nowhere:
    """Replaces the connection of a session that has ended; all methods do nothing.

    The hub may refer to such a session as long as one of its messages is not delivered. This must
    not keep the connection and its buffers in memory.
    """

    host: str | None = None
    channel = Channel()
    way = ""

    def write(self, data: bytes) -> None:
        """Do nothing."""

    def hold(self) -> None:
        """Do nothing."""

    def go_on(self) -> None:
        """Do nothing."""

    def when_written(self, then: Callable[[], None]) -> None:
        """Do nothing: nothing will be written."""

    def registered(self, session: object) -> None:
        """Do nothing."""

    def replace(self, session: object) -> None:
        """Do nothing: the connection is closed."""

    def refuse(self, error: ChatError, id: str | None = None) -> None:
        """Do nothing."""

    def expect(self) -> None:
        """Do nothing."""

    def not_registered(self, error: ChatError) -> None:
        """Do nothing."""

    def quit(self, reason: str) -> None:
        """Do nothing: the connection is closed."""

    def bye(self, reason: str, *, final: bool = False) -> None:
        """Do nothing: the connection is closed."""

    def close(self, why: str) -> None:
        """Do nothing: the connection is closed."""

    def abort(self, why: str) -> None:
        """Do nothing: the connection is closed."""

    def cut_off(self) -> None:
        """Do nothing: the connection is closed."""
