"""The listening sockets that systemd, or another program, passes on to the server.

Such a socket outlives the server: the system refuses no client that connects while the server
restarts, and the client waits. The protocol is that of sd_listen_fds(3). This module must not know
what is served.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from chat_twisted.text import printable

AT_START = Path("/proc/self/environ")

FIRST = 3
UNNAMED = "unknown"
"""The descriptor of the first socket, and the name of each if there are no names."""

FAMILIES = (socket.AF_INET, socket.AF_INET6)
"""Twisted takes over Unix sockets, too, but changes their permissions, and removes them."""

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""All TCP sockets of this machine (proc(5))."""

LISTENS = "0A"
"""The state of a socket in these tables."""


class PassedSocketError(Exception):
    """A socket can't be used. The message is a line for the operator."""


@implementer(IStreamServerEndpoint)
class PassedSocket:
    """A socket that was passed on, as an endpoint.

    :ivar name: its name; several sockets may have the same.
    :param descriptor: is closed when the server listens.
    :param backlog: the maximum number of connections that wait to be accepted.
    :raises PassedSocketError: if it can't be used.
    """

    def __init__(self, name: str, descriptor: int, backlog: int, reactor: Any) -> None:
        self.name = name
        self._backlog = backlog
        try:
            with socket.socket(fileno=os.dup(descriptor)) as passed:
                family = passed.family
                listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise PassedSocketError(f"the socket {name}: {error.strerror}") from None
        if family not in FAMILIES:
            raise PassedSocketError(f"the socket {name} is not for TCP; see --listen unix:PATH")
        if not listens:
            raise PassedSocketError(f"the socket {name} does not listen (is there Accept=yes?)")
        self._endpoint = AdoptedStreamServerEndpoint(reactor, descriptor, family)

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen on the socket."""
        listening: Deferred[IListeningPort] = self._endpoint.listen(factory)
        return listening.addCallback(self._lengthen)

    def _lengthen(self, port: Any) -> Any:
        port.socket.listen(self._backlog)  # Twisted has set its own, which is short
        return port


def environment_at_start() -> dict[str, str]:
    """Return the environment with which this process was started: Twisted removes the variables
    when it is imported. Where the system doesn't show it, there is no systemd either.
    """
    try:
        lines = AT_START.read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(line).partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def take_over(environment: Mapping[str, str], backlog: int, reactor: Any) -> list[PassedSocket]:
    """Return the sockets that were passed on to this process.

    :param environment: with which the process was started.
    :param backlog: as in ``PassedSocket``.
    :raises PassedSocketError: if one of them can't be used, or the variables contradict each other.
    """
    count, names = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_FDNAMES", "")
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    if not re.fullmatch("[0-9]{1,4}", count):
        raise PassedSocketError("LISTEN_FDS is no number of sockets")
    named = names.split(":") if names else [UNNAMED] * int(count)
    if len(named) != int(count):
        raise PassedSocketError("LISTEN_FDNAMES has another number of sockets than LISTEN_FDS")
    return [
        PassedSocket(printable(name), descriptor, backlog, reactor)
        for descriptor, name in enumerate(named, FIRST)
    ]


def listens_for_root(port: int) -> bool:
    """Return whether a socket of root listens on a TCP port, as systemd does for a socket unit."""
    for table in TABLES:
        try:
            _, *rows = table.read_text().splitlines()
        except (OSError, ValueError):  # another system has no such table
            continue
        for row in rows:
            _, address, _, state, _, _, _, user, *_ = row.split()
            if (int(address.rpartition(":")[2], 16), state, user) == (port, LISTENS, "0"):
                return True
    return False
