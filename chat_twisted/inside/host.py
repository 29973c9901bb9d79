"""The host of the SSH door: opens a terminal or a pipe for each visitor.

This module must not know SSH's packets, or how a terminal or a pipe works.
"""

from __future__ import annotations

from chat_twisted.client.pipe import NOT_CONNECTED
from chat_twisted.doors.ssh.visits import Peer, Visit, Visitor, VisitRefused, Wish
from chat_twisted.inside.connecting import Connector
from chat_twisted.inside.pipe import USAGE, PipeVisit, parse
from chat_twisted.inside.terminal import TerminalVisit
from chat_twisted.text import printable_lines


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
        """Open a terminal if one was asked for, and no command was given; otherwise a pipe.

        :raises VisitRefused: if the command is wrong, or there is no terminal to be had.
        """
        if wish.size is None or wish.command:
            try:
                parse(wish.command)
            except ValueError as wrong:
                raise _refused(f"{wrong}\n{USAGE}") from None
            return PipeVisit(self._connector, visitor, wish, peer)
        if wish.environment.get("TERM") in (None, "", "dumb"):
            raise _refused("This terminal (TERM) can't move its cursor: use ssh -T")
        if self.terminals >= self._max_terminals:
            raise _refused("There are too many terminals now; ssh -T needs none")
        self.terminals += 1
        return TerminalVisit(self._connector, visitor, wish, peer, self._where, self._closed)

    def _closed(self) -> None:
        self.terminals -= 1


def _refused(reason: str) -> VisitRefused:
    return VisitRefused(printable_lines(reason), NOT_CONNECTED)
