"""Turns to a conversation, shows the end of it, and tells the server what was read.

This module must not know how the user types a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from twisted.internet.interfaces import IDelayedCall

from chat_twisted.core.errors import ChatError
from chat_twisted.core.message import fold, parse_target
from chat_twisted.ui.commands import Say
from chat_twisted.ui.console import Console
from chat_twisted.ui.conversations import is_direct
from chat_twisted.ui.errors import NotConnected, Refused
from chat_twisted.ui.sentences import did_you_mean
from chat_twisted.ui.values import ALL, Received, Refusal

MAX_HISTORY = 200
"""Maximum number of messages that are shown on turning to a conversation."""

MARKED_AFTER = 2
"""Seconds after which the server is told what was read: reading goes on meanwhile."""


class Turning:
    """Turns to conversations.

    :ivar removed_from: the room that was the current conversation until the user was removed from
        it; empty after they have turned to another one.
    """

    def __init__(self, console: Console) -> None:
        self.removed_from = ""
        self._console = console
        self._wanted = [ALL]  # the conversations of which the first one is turned to at the start
        self._marking: IDelayedCall | None = None
        self._over = False

    def next_unread(self) -> None:
        """Turn to the next conversation with unread messages."""
        place = self._console.conversations.next_unread()
        if place is None:
            self._console.tell("Nothing is unread")
        else:
            self.turn(place)

    def turn_to(self, number: int) -> None:
        """Turn to the conversation with a number."""
        place = self._console.conversations.nth(number)
        if place is not None:
            self.turn(place)

    def turn(self, to: str) -> bool:
        """Turn to a conversation by its typed name; return whether there is one."""
        roster = self._console.roster
        if to.startswith("#") and not roster.is_member(to):
            code = 111 if roster.is_known(to) else 110
            self._console.refused(Say(to, ""), Refusal(code, ""))
            return False
        try:
            parse_target(to)
        except ChatError:
            self._console.refused(Say(to, ""), Refusal(100, ""))
            return False
        to = ALL if fold(to) == fold(ALL) else to
        self.turn_there(roster.spelling(to) if to != ALL else ALL)
        if is_direct(to) and not roster.is_present(to):
            self._console.tell(f"{to} is not here{did_you_mean(to, self._console.names())}")
        self._console.terminal.refresh()
        return True

    def expect(self, wanted: Sequence[str]) -> None:
        """Prepare to turn to the first of these conversations that there is, or else to ``ALL``.

        Its missed messages, which may come before that is known, wait for its history.
        """
        self._wanted = [*wanted, ALL]
        self._console.conversations.turned(next(filter(None, self._wanted)))

    def arrive(self) -> None:
        """Turn to the first conversation. A room that is missing today stays remembered."""
        expected = self._console.current
        place = next(name for name in self._wanted if self._can_turn_to(name))
        place = self._console.roster.spelling(place) if place != ALL else ALL
        self.turn_there(place, remember=False)
        if fold(place) != fold(expected):  # lines that were typed meanwhile were meant for it
            self.removed_from = expected
            self._console.conversations.pop(expected)

    def _can_turn_to(self, place: str) -> bool:
        """Return whether a name is that of a conversation, and of no room but the user's."""
        if place.startswith("#"):
            return self._console.roster.is_member(place)
        try:
            return bool(place) and bool(parse_target(place))
        except ChatError:
            return False

    def turn_there(self, place: str, *, remember: bool = True) -> None:
        """Turn to a conversation, and show the end of it.

        :param remember: whether the next start is to turn there, too.
        """
        self.removed_from = ""
        turn = self._console.conversations.turned(place)
        if remember:
            self._console.memory.remember_place(place)
        if turn:
            self._console.start(self._fill(turn, place))
        self.mark_soon()

    async def _fill(self, turn: int, place: str) -> None:
        """Show the end of a conversation that was turned to."""
        conversation = self._console.conversations.get(place)
        unread = conversation.unread if conversation is not None else 0
        count = min(max(self._console.settings.history, unread), MAX_HISTORY)
        found: list[Received] = []
        if count:
            with contextlib.suppress(Refused, NotConnected):
                found = await self._console.session.history(place, count)
        found = [m for m in found if fold(m.sender) not in self._console.ignored]
        shown = self._console.conversations.filled(turn, found)
        if shown.more:
            self._console.tell(
                f"{shown.more} more unread messages: /history {shown.more + len(found)}"
            )
        for message in shown.old:
            self._console.show_message(message, dim=True)
        if shown.new:
            self._console.mark("new")
        for message in shown.new:
            self._console.show_message(message)
        self.mark_soon()
        self._console.terminal.refresh()

    def mark_soon(self) -> None:
        """Tell the server in a moment what was read."""
        if self._marking is None and not self._over:
            self._marking = self._console.clock.callLater(MARKED_AFTER, self.mark_read)

    def _cancel(self) -> None:
        if self._marking is not None and self._marking.active():
            self._marking.cancel()
        self._marking = None

    def end(self) -> None:
        """Tell the server nothing more. Called when the session has ended."""
        self._over = True
        self._cancel()

    def mark_read(self) -> None:
        """Tell the server now what was read."""
        self._cancel()
        if self._console.connected:
            for place, number in self._console.conversations.markers_to_send():
                self._console.conversations.read(place, number)
                self._console.start(self._send_marker(place, number))

    async def _send_marker(self, place: str, number: int) -> None:
        try:
            await self._console.session.mark_read(place, number)
        except (Refused, NotConnected):
            return  # it is read here all the same
