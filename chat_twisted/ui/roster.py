"""The users who are present, and the known rooms, as the terminal completes and names them.

This module must not know how names are shown, or which requests are made for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chat_twisted.core.message import fold
from chat_twisted.ui.values import MAX_NAMES, Room, Seen, State

MAX_PRESENT = 12
"""Maximum number of users for which each change of presence is described."""


class Roster:
    """Names of users and rooms, by their folded form."""

    def __init__(self) -> None:
        self._present: dict[str, str] = {}
        self._returning: set[str] = set()  # users whose next arrival is no news
        self._rooms: dict[str, str] = {}
        self._own_rooms: dict[str, str] = {}

    # Users

    def __len__(self) -> int:
        """Return the number of users who are present, the user included."""
        return len(self._present)

    def users(self, user: str) -> list[str]:
        """Return the names of the users who are present, except ``user``."""
        own = fold(user)
        return sorted((name for key, name in self._present.items() if key != own), key=fold)

    def is_present(self, name: str) -> bool:
        """Return whether a user is present."""
        return fold(name) in self._present

    def set_present(self, seen: Sequence[Seen]) -> None:
        """Replace the list of users who are present."""
        self._present = {fold(user.user): user.user for user in seen[:MAX_NAMES]}

    def disconnected(self) -> None:
        """Remember who is present: their arrival after the reconnect is no news."""
        self._returning = set(self._present)

    def follow(self, seen: Seen, user: str) -> str:
        """Follow a change of presence; return its description, or an empty text if it is no news.

        :param user: the user's own name.
        """
        key, name = fold(seen.user), seen.user
        was_here = key in self._present
        if seen.state is State.GONE:
            self._present.pop(key, None)
        elif was_here or len(self._present) < MAX_NAMES:
            self._present[key] = name
        if key == fold(user) or len(self._present) > MAX_PRESENT:
            return ""
        returning = key in self._returning
        self._returning.discard(key)
        match seen.state:
            case State.AWAY:
                return f"{name} is away{': ' if seen.why else ''}{seen.why}"
            case State.GONE:
                return f"{name} left" if was_here else ""
        return "" if returning else f"{name} is {'back' if was_here else 'here'}"

    def rename(self, old: str, new: str) -> None:
        """Use the new name of a user. The change of presence that follows is no news."""
        if self._present.pop(fold(old), None) is not None:
            self._present[fold(new)] = new
            self._returning.add(fold(new))

    # Rooms

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""
        return sorted(self._rooms.values(), key=fold)

    def own_rooms(self) -> Iterable[str]:
        """Return the names of the rooms that the user has joined."""
        return self._own_rooms.values()

    def is_member(self, room: str) -> bool:
        """Return whether the user has joined a room."""
        return fold(room) in self._own_rooms

    def set_rooms(self, rooms: Sequence[Room]) -> None:
        """Replace the list of rooms."""
        self._rooms = {fold(room.name): room.name for room in rooms[:MAX_NAMES]}
        self._own_rooms = {fold(room.name): room.name for room in rooms if room.member}

    def add_room(self, room: str, *, member: bool) -> None:
        """Add a room that was mentioned; ``member`` says that the user has joined it."""
        for rooms in (self._rooms, self._own_rooms) if member else (self._rooms,):
            if len(rooms) < MAX_NAMES:
                rooms.setdefault(fold(room), room)

    def leave(self, room: str) -> None:
        """Note that the user has left a room."""
        self._own_rooms.pop(fold(room), None)

    def spelling(self, name: str) -> str:
        """Return a user's or a room's name as its owner spells it, if it is known."""
        return self._rooms.get(fold(name)) or self._present.get(fold(name)) or name
