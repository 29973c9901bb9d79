"""The host of the SSH door: opens a terminal or a pipe for each visitor.

This module must not know SSH's packets, or how a terminal or a pipe works.
"""

from __future__ import annotations

from chat_twisted.client.pipe import NOT_CONNECTED
from chat_twisted.doors.ssh.visits import Peer, Size, Visit, Visitor, Wish
from chat_twisted.inside.connecting import Connector
from chat_twisted.inside.pipe import USAGE, PipeVisit, parse
from chat_twisted.inside.terminal import TerminalVisit
from chat_twisted.text import printable


class InsideHost:
    """Opens visits.

    :ivar terminals: the number of open terminals.
    :param max_terminals: the maximum number of them.
    :param where: the name of the server's machine, for greetings.
    """

    def __init__(self, connector: Connector, max_terminals: int, where: str) -> None:
        self.terminals = 0
        self._connector = connector
        self._max_terminals = max_terminals
        self._where = where

    def open(self, visitor: Visitor, wish: Wish, peer: Peer) -> Visit:
        """Open a terminal if one was asked for, and no command was given; otherwise a pipe."""
        if wish.size is None or wish.command:
            try:
                parse(wish.command)
            except ValueError as wrong:
                return _Refused(peer, f"{wrong}\n{USAGE}")
            return PipeVisit(self._connector, visitor, wish, peer, lambda: None)
        if wish.environment.get("TERM") in (None, "", "dumb"):
            return _Refused(peer, "This terminal (TERM) can't move its cursor: use ssh -T")
        if self.terminals >= self._max_terminals:
            return _Refused(peer, "There are too many terminals now; ssh -T needs none")
        self.terminals += 1
        return TerminalVisit(self._connector, visitor, wish, peer, self._where, self._closed)

    def _closed(self) -> None:
        self.terminals -= 1


class _Refused:
    """A visit that ends at once."""

    def __init__(self, peer: Peer, reason: str) -> None:
        lines = "".join(f"{printable(line)}\r\n" for line in reason.split("\n"))
        peer.write_error(lines.encode())
        peer.end(NOT_CONNECTED)
        self._peer = peer

    def received(self, data: bytes) -> None:
        """See ``Visit.received``."""
        self._peer.taken(len(data))

    def input_ended(self) -> None:
        """Do nothing."""

    def resized(self, size: Size) -> None:
        """Do nothing."""

    def interrupted(self, signal: str) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def lost(self) -> None:
        """Do nothing."""
