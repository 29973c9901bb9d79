"""Doors: each speaks one client protocol, bytes into calls on the hub and messages into bytes.

A door holds no rule of the chat, and none imports another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from twisted.python.failure import Failure

from chat_twisted.core.errors import ChatError


class Channel(NamedTuple):
    """What a connection comes over.

    ``host`` is the peer's address, None for a local socket; ``binding`` the SHA-256 of the
    certificate that the peer was shown, empty without TLS. ``lost`` is to be called when the
    connection is.
    """

    host: str | None = None
    encrypted: bool = False
    binding: bytes = b""
    lost: Callable[[], None] = lambda: None

    @property
    def private(self) -> bool:
        """Whether a password may be said."""
        return self.encrypted or self.local

    @property
    def local(self) -> bool:
        """Whether nobody on a network can listen, since it is all on this machine."""
        return self.host is None or _is_loopback(self.host)


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def forget_frames(reason: Failure) -> None:
    """Let go of where ``reason`` was raised, when it is no longer needed.

    If that was in TLS, there are the connection, its 60 KiB and a buffer of 32 KiB, in a cycle of
    references: they would stay until all objects are looked through for cycles.
    """
    reason.cleanFailure()


class Nowhere:
    """Stands for the connection of a session that has ended.

    Who remembers the session, since a message of it is still on its way, must not keep the
    connection with its buffers alive.
    """

    host: str | None = None
    channel = Channel()

    def write(self, data: bytes) -> None:
        """Write to nobody."""

    def hold(self) -> None:
        """Nothing is read."""

    def go_on(self) -> None:
        """Nothing is read."""

    def when_written(self, then: Callable[[], None]) -> None:
        """Nothing more is to be written."""

    def registered(self, session: object) -> None:
        """Nobody comes."""

    def refuse(self, error: ChatError, id: str | None = None) -> None:
        """Nobody is there to be told."""

    def expect(self) -> None:
        """Nobody is there to be silent."""

    def bye(self, reason: str, *, final: bool = False) -> None:
        """It is closed."""

    def close(self, why: str) -> None:
        """It is closed."""

    def abort(self, why: str) -> None:
        """It is closed."""
