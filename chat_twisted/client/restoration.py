"""What a session restores after a reconnect, because the server may have forgotten it: the joined
rooms, the away status, and the subscription to presence.

This module must not know the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from chat_twisted.core.message import fold
from chat_twisted.ui.errors import NotConnected, Refused
from chat_twisted.ui.session import ChatSession, Listener
from chat_twisted.ui.values import MAX_NAMES, Event, Room, Seen

T = TypeVar("T")


class Restoration:
    """Restores the state of a session.

    :ivar watching: whether the session is subscribed to presence.
    :param session: sends the requests.
    """

    def __init__(self, session: ChatSession, listener: Listener) -> None:
        self.watching = False
        self._session = session
        self._listener = listener
        # each joined room, and whether it was private; by folded names
        self._rooms: dict[str, tuple[str, bool]] = {}
        self._restoring: set[str] = set()  # what is being restored: rooms, away, presence
        self._away: str | None = None  # the away text, or None if the user is here

    def moved(self, event: Event) -> None:
        """Note that the user has joined or left a room."""
        if event.verb == "LEFT":
            self._rooms.pop(fold(event.room), None)
        elif len(self._rooms) < MAX_NAMES:
            self._rooms[fold(event.room)] = (event.room, "private" in event.modes)

    def rooms_are(self, rooms: Iterable[Room]) -> None:
        """Note the rooms that the user is in, from a list of rooms."""
        self._rooms = {fold(room.name): (room.name, room.private) for room in rooms if room.member}

    def status_is(self, answer: T, status: str, why: str | None) -> T:
        """Note the user's status; return ``answer``."""
        self._away = (why or "") if status == "away" else None
        return answer

    async def watch(self) -> list[Seen]:
        """Subscribe to presence; return the users who are present."""
        headers = (("Watch", "yes"), ("Identities", "yes"))
        found: list[Seen] = await self._session.ask("WHO", "", headers)
        return found

    def reconnected(self, *, forgotten: bool) -> None:
        """Restore everything. Called when the session is connected again.

        :param forgotten: whether the server may have forgotten the user's rooms.
        """
        for room, private in list(self._rooms.values()) if forgotten else ():
            self._start(fold(room), partial(self._enter, room, private))
        if self._away is not None:
            self._start("away", partial(self._session.set_away, self._away))
        if self.watching:
            self._start("presence", self._watch_again)

    def _start(self, what: str, restore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Restore something, unless that is under way: then its request is repeated anyway."""
        if what not in self._restoring:
            self._restoring.add(what)
            Deferred.fromCoroutine(self._run(what, restore()))

    async def _run(self, what: str, task: Coroutine[Any, Any, None]) -> None:
        try:
            await task
        except Refused as problem:
            self._listener.noticed(f"After the reconnect: {problem}")
        except NotConnected:
            return  # the listener is told that the session has ended
        finally:
            self._restoring.discard(what)

    async def _watch_again(self) -> None:
        self._listener.present(await self.watch())

    async def _enter(self, room: str, private: bool) -> None:
        try:
            await self._session.enter(room, private=private)
        except Refused as problem:
            self._rooms.pop(fold(room), None)
            user, reason = self._session.user, problem.reason
            self._listener.told(Event("LEFT", room, user, "", None, reason=reason))
