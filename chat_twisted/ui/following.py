"""Keeps what is known of users, rooms and conversations in step with events, and describes them.

This module must not know whether the user has caused an event, or how a session gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from chat_twisted.core.message import fold
from chat_twisted.ui.console import Console
from chat_twisted.ui.conversations import MAX_CONVERSATIONS
from chat_twisted.ui.sending import Sending
from chat_twisted.ui.turning import Turning
from chat_twisted.ui.values import Event, Room, Seen, State


class Following:
    """Follows events, lists of rooms, and the presence of users.

    :param is_turning: returns whether another conversation is being turned to.
    """

    def __init__(
        self,
        console: Console,
        turning: Turning,
        sending: Sending,
        is_turning: Callable[[], bool],
    ) -> None:
        self._console = console
        self._turning = turning
        self._sending = sending
        self._is_turning = is_turning

    def follow(self, event: Event, *, hide: bool = False) -> None:
        """Update what is known after an event, and describe the event unless the user hides it."""
        if event.verb == "READ":
            self._console.conversations.read(event.conversation, event.number)
        elif event.verb == "RENAMED":
            self._follow_name(event.user, event.new_name)
        elif event.verb == "DELETED":
            self._forget_message(event)
        elif event.room:
            self._room_changed(event)
        said = self._console.words.told(None, self._marked(event))
        if said and not hide:
            self._console.tell(said)

    def _marked(self, event: Event) -> Event:
        """Mark the names of guests in an event, except the user's own."""

        def mark(name: str) -> str:
            own = fold(name) == fold(self._console.user)
            return name if own else self._console.roster.marked(name)

        return replace(
            event, user=mark(event.user), by=mark(event.by), new_name=mark(event.new_name)
        )

    def is_hidden(self, event: Event) -> bool:
        """Return whether the user does not want to hear of an event."""
        if fold(event.user) == fold(self._console.user):
            return False
        place = event.room or event.conversation
        if place and not self._console.conversations.shows(place):
            return True
        moves = event.verb in ("JOINED", "LEFT") and not event.by
        return moves and "joins" in self._console.settings.hide

    def _room_changed(self, event: Event) -> None:
        own = fold(event.user) == fold(self._console.user)
        self._console.roster.add_room(event.room, member=event.verb == "JOINED" and own)
        if event.verb == "JOINED" and own:
            self._console.conversations.open(event.room)
        if event.verb == "LEFT" and own:
            # A removed user may be typing: the next line is not sent before they have agreed.
            self._console.roster.leave(event.room)
            self._console.conversations.pop(event.room)
            if event.by and fold(self._console.current) == fold(event.room):
                self._turning.turn_there(self._console.conversations.previous())
                self._turning.removed_from = event.room

    def _follow_name(self, old: str, new: str) -> None:
        """Use a user's new name wherever the old one stood."""
        before, after = fold(old), fold(new)
        if before == fold(self._console.user):
            self._console.name_is(new)
            self._console.memory.renamed(new)
        self._console.roster.rename(old, new)
        self._console.conversations.rename(old, new)
        self._sending.rename(old, new)
        if before in self._console.ignored:
            del self._console.ignored[before]
            self._console.ignored[after] = new
            self._console.memory.remember_ignored(self._console.ignored.values())

    def _forget_message(self, event: Event) -> None:
        """Forget a deleted message that may be shown again."""
        self._sending.forget_own(event.conversation, event.number)
        self._console.folds.remove(event.number)
        self._console.conversations.remove(event.conversation, event.number)

    def _follow_own_state(self, users: Sequence[Seen]) -> None:
        for own in (user for user in users if fold(user.user) == fold(self._console.user)):
            self._console.away = own.why if own.state is State.AWAY else None

    def know_rooms(self, rooms: Sequence[Room]) -> None:
        """Take over a list of all rooms, and open the conversations of the user's own."""
        roster, current = self._console.roster, self._console.current
        roster.set_rooms(rooms)
        for room in islice(roster.own_rooms(), MAX_CONVERSATIONS):
            self._console.conversations.open(room)
        if current.startswith("#") and not roster.is_member(current) and not self._is_turning():
            self._console.complain(f"You are not in {current} any more (/join {current}, @ALL)")

    def seen(self, users: Sequence[Seen]) -> None:
        """Follow changes of the presence of users."""
        self._follow_own_state(users)
        for user in users:
            hide = "joins" in self._console.settings.hide
            if news := self._console.roster.follow(user, self._console.user, hide=hide):
                self._console.tell(news)

    def present(self, users: Sequence[Seen]) -> None:
        """Take over the list of all present users."""
        self._follow_own_state(users)
        for news in self._console.roster.set_present(users):
            self._console.tell(news)
