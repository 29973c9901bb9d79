"""Visits: the interface between the SSH door and the host that it is given.

A visit is what a user sees and does in the session channel of their connection: a terminal or a
pipe. This module must not know SSH's packets, or how a visit works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IAddress

from chat_twisted.doors import Channel


class Visitor(NamedTuple):
    """A user who has logged in.

    :ivar name: the name that was given to ssh, as it was typed; it may be malformed.
    :ivar proof: the verified proof, as in ``commands.Login``; empty for a guest.
    :ivar key: the public key that was used, as ``keys.parse_key`` returns it; empty without one.
    :ivar channel: the properties of the connection.
    :ivar address: the peer's address.
    """

    name: str
    proof: str
    key: str
    channel: Channel
    address: IAddress


class Size(NamedTuple):
    """The size of a terminal, in characters."""

    columns: int
    rows: int


class Wish(NamedTuple):
    """The requests of a session channel before its start.

    :ivar environment: the environment variables; TERM is one of them if there is a terminal.
    :ivar size: the size of the terminal; None without a terminal.
    :ivar command: the command line; None for a shell.
    """

    environment: Mapping[str, str]
    size: Size | None = None
    command: str | None = None


class Peer(Protocol):
    """The session channel, as a visit sees it."""

    def write(self, data: bytes) -> None:
        """Write to standard output."""

    def write_error(self, data: bytes) -> None:
        """Write to standard error."""

    def taken(self, count: int) -> None:
        """Called when so many bytes of input are processed; the peer may send as many more."""

    def when_answered(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the peer has taken all output so far, and has answered a request after
        it. It is never called if the peer is lost before.
        """

    def end(self, code: int) -> None:
        """Send the exit code after all output, and close the connection."""


class Visit(Protocol):
    """A terminal or a pipe, as the session channel sees it."""

    def received(self, data: bytes) -> None:
        """Process input. ``Peer.taken`` must be called for all of it, perhaps later."""

    def input_ended(self) -> None:
        """Called when the peer has ended its input."""

    def resized(self, size: Size) -> None:
        """Called when the peer's terminal has another size."""

    def interrupted(self, signal: str) -> None:
        """Called when the peer sends a signal (RFC 4254, 6.9), for example ``INT``."""

    def pause(self) -> None:
        """Called when output waits for the peer: write as little as possible."""

    def resume(self) -> None:
        """Called when no output waits any more."""

    def lost(self) -> None:
        """Called when the channel is closed or the connection is lost; unless ``Peer.end`` was
        called, it is the end of the visit.
        """


class VisitRefused(Exception):
    """There is no visit. The text of the error tells the user the reason, in printable lines.

    :ivar code: the exit code.
    """

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class Host(Protocol):
    """Makes visits."""

    def open(self, visitor: Visitor, wish: Wish, peer: Peer) -> Visit:
        """Make a visit. It may already write to ``peer``, and may end it.

        :raises VisitRefused: if there is none.
        """
