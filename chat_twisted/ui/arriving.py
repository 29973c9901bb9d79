"""The arrival of a user in the chat: their rooms, the greeting, and what they have missed.

This module must not know typed lines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from chat_twisted.core.message import fold
from chat_twisted.ui.commands import Command
from chat_twisted.ui.console import Console
from chat_twisted.ui.errors import NotConnected, Refused
from chat_twisted.ui.following import Following
from chat_twisted.ui.layout import tag
from chat_twisted.ui.roster import MAX_PRESENT
from chat_twisted.ui.turning import Turning
from chat_twisted.ui.values import Received
from chat_twisted.ui.wording import describe_kept

MAX_EARLY = 1000
"""Maximum number of messages that wait for the greeting; more are shown before it."""

MAX_LISTED = 20
"""Maximum number of rooms, and of unread conversations, that are named at the start."""


class Arrival:
    """Brings a user into the chat.

    :param rooms: rooms to join; the first one is turned to.
    :param show: shows a message that has come.
    """

    def __init__(
        self,
        console: Console,
        turning: Turning,
        following: Following,
        rooms: Sequence[str],
        show: Callable[[Received], object],
    ) -> None:
        self._console = console
        self._turning = turning
        self._following = following
        self._rooms = rooms
        self._show = show
        self._learning = False  # whether it is asked which rooms there are
        self._greeted = False  # whether the greeting was shown
        self._early: list[Received] = []  # messages that came before

    def expect(self) -> None:
        """Prepare to turn to the first room, or to the conversation of the last run."""
        self._turning.expect([*self._rooms[:1], self._console.memory.place])

    async def arrive(self) -> None:
        """Join the rooms of the start, say who and what is there, and turn to a conversation."""
        await _together(
            *map(self._enter_quietly, self._rooms),
            self._greet(),
            self.learn(),
        )
        self._list_rooms()
        self._turning.arrive()
        self._console.terminal.refresh()

    def _list_rooms(self) -> None:
        """Say which rooms the user is in, and where something is unread."""
        unread = {fold(c.name): c for c in self._console.conversations}
        parts = []
        for room in sorted(self._console.roster.own_rooms(), key=fold):
            conversation = unread.pop(fold(room), None)
            parts.append(f"{room} ({conversation.unread} unread)" if conversation else room)
        others = [f"{tag(c.name)[1:-1]} ({c.unread})" for c in unread.values()]
        for what, places, command in (
            ("Your rooms", parts, "/rooms"),
            ("Unread", others, "/unread"),
        ):
            more = len(places) - MAX_LISTED
            rest = f" and {more} more ({command})" if more > 0 else ""
            if places:
                self._console.tell(f"{what}: {', '.join(places[:MAX_LISTED])}{rest}")

    async def _enter_quietly(self, room: str) -> None:
        """Join a room without turning to it."""
        try:
            self._following.follow(await self._console.session.enter(room))
        except Refused as problem:
            self._console.refused(Command("/join", room), problem.refusal)
        except NotConnected:
            return  # ``lost`` is told why

    async def learn(self) -> None:
        """Ask which rooms there are, and what is unread, unless that is asked already."""
        if self._learning:
            return
        self._learning = True
        await _together(self._learn_rooms(), self._learn_unread())
        self._learning = False

    async def _learn_rooms(self) -> None:
        self._following.know_rooms(await self._console.session.rooms())

    async def _learn_unread(self) -> None:
        found = await self._console.session.unread()
        spelling = self._console.roster.spelling  # the server may write names in lower case
        counts = [(spelling(m.conversation), m.number, m.unread) for m in found]
        self._console.conversations.counted(counts, self._console.session.last)

    async def _greet(self) -> None:
        try:
            self._following.present(await self._console.session.watch())
            self._say_who_is_here()
        finally:
            self.show_early()

    def _say_who_is_here(self) -> None:
        where = self._console.session.where
        on = f" on {where}" if where else ""
        here = ", ".join(map(self._console.roster.marked, self._console.names())) or "nobody else"
        if len(self._console.roster) > MAX_PRESENT:
            here = f"{len(self._console.roster) - 1} others (/who)"
        self._console.tell(
            f"You are {self._console.user}{on}. Here: {here}. /help tells what you can do."
        )
        for line in describe_kept(self._console.session.kept):
            self._console.tell(line)

    def received(self, message: Received) -> None:
        """Show a message, after the greeting if it has come before that."""
        if not self._greeted and len(self._early) < MAX_EARLY:
            self._early.append(message)
        else:
            self._show(message)

    def forget(self, number: int) -> None:
        """Forget a deleted message that waits for the greeting."""
        self._early = [message for message in self._early if message.number != number]

    def show_early(self) -> None:
        """Show the messages that came before the greeting: it is known now who is a guest."""
        self._greeted = True
        early, self._early = self._early, []
        for message in early:
            self._show(message)


async def _together(*tasks: Coroutine[Any, Any, None]) -> None:
    """Run tasks at the same time. What they would have learned is missing if they fail."""

    async def quietly(task: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(Refused, NotConnected):
            await task

    for started in [Deferred.fromCoroutine(quietly(task)) for task in tasks]:
        await started
