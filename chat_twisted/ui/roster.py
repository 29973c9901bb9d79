"""The users who are present, and the known rooms, as the terminal completes and names them.

Names and identities are interned: in a server with many terminals, which all know the same users,
each text is in memory once.

This module must not know how names are shown, or which requests are made for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from chat_twisted.core.message import fold
from chat_twisted.ui.layout import GUEST
from chat_twisted.ui.values import MAX_NAMES, Room, Seen, State

MAX_PRESENT = 12
"""Maximum number of users for which each change of presence is described."""

UNKNOWN = "?"
"""Stands for the identity of a user who has spoken before it is known who they are."""

MAX_PARTNERS = 1000
"""Maximum number of users that are remembered as those to whom the user has talked."""


class Roster:
    """Names of users and rooms, by their folded form.

    :ivar last_speaker: the name of the user who last spoke to the user; empty if nobody has.
    """

    def __init__(self) -> None:
        self.last_speaker = ""
        self._present: dict[str, str] = {}
        self._away: set[str] = set()
        self._returning: set[str] = set()  # users whose next arrival is no news
        self._identities: dict[str, str] = {}  # see Seen.identity
        self._partners: dict[str, str] = {}  # those of the users to whom the user has talked
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

    def is_guest(self, name: str) -> bool:
        """Return whether a user is known to be a guest, or has spoken and is not known yet."""
        return bool(self._identities.get(fold(name)))

    def spoke(self, name: str) -> None:
        """Note that a user has spoken. Their presence may be told a little later: until then they
        must not look like a user with an account.
        """
        if self._identities and fold(name) not in self._identities:
            _put(self._identities, fold(name), UNKNOWN, MAX_NAMES)

    def marked(self, name: str) -> str:
        """Return a user's name with the mark of a guest, if the user is one."""
        return GUEST + name if self.is_guest(name) else name

    def set_present(self, seen: Sequence[Seen]) -> list[str]:
        """Replace the list of users who are present; return the sentences about names that other
        users have now.
        """
        self._present = {_key(user.user): sys.intern(user.user) for user in seen[:MAX_NAMES]}
        self._away = {_key(u.user) for u in seen[:MAX_NAMES] if u.state is State.AWAY}
        strangers = [(user.user, self._identify(user, stayed=False)) for user in seen]
        return [f"{self.marked(name)} is {stranger}" for name, stranger in strangers if stranger]

    def talked(self, name: str, *, spoken_to: bool = False) -> None:
        """Note that the user and another user talk to each other; ``spoken_to`` says that the other
        one has spoken.
        """
        if spoken_to:
            self.last_speaker = name
        identity = self._identities.get(fold(name), UNKNOWN)
        if identity != UNKNOWN:
            _put(self._partners, fold(name), identity, MAX_PARTNERS)

    def _identify(self, seen: Seen, *, stayed: bool) -> str:
        """Note who has a name. If that is not the user to whom the user has talked, say so.

        :param stayed: whether the name was taken all the time: then a guest has made an account.
        """
        key, identity = _key(seen.user), seen.identity
        if identity is None:
            return ""
        _put(self._identities, key, sys.intern(identity), MAX_NAMES)
        before = self._partners.get(key)
        if before is None or before == identity:
            return ""
        self._partners[key] = identity
        if stayed and not identity:
            return ""
        # A guest may have made an account meanwhile.
        doubt = "not" if identity else "perhaps not"
        return f"{doubt} the {GUEST if before else ''}{seen.user} you talked to"

    def disconnected(self) -> None:
        """Remember who is present: their arrival after the reconnect is no news."""
        self._returning = set(self._present)

    def follow(self, seen: Seen, user: str, *, hide: bool = False) -> str:
        """Follow a change of presence; return its description, or an empty text if it is no news.

        :param user: the user's own name.
        :param hide: whether only the name of another user than before is news.
        """
        key = _key(seen.user)
        was_here, was_away = key in self._present, key in self._away
        stranger = self._identify(seen, stayed=was_here)
        name = self.marked(seen.user)
        self._away.discard(key)
        if seen.state is State.GONE:
            self._present.pop(key, None)
        elif was_here or len(self._present) < MAX_NAMES:
            self._present[key] = sys.intern(seen.user)
            if seen.state is State.AWAY:
                self._away.add(key)
        if key == fold(user):
            return ""
        if stranger:
            return f"{name} is here, {stranger}"
        if hide or len(self._present) > MAX_PRESENT:
            return ""
        returning = key in self._returning
        self._returning.discard(key)
        match seen.state:
            case State.AWAY:
                return f"{name} is away{': ' if seen.why else ''}{seen.why}"
            case State.GONE:
                return f"{name} left" if was_here else ""
        if was_away:
            return f"{name} is back"
        return "" if returning or was_here else f"{name} is here"

    def rename(self, old: str, new: str) -> None:
        """Use the new name of a user. The change of presence that follows is no news."""
        before, after = fold(old), fold(new)
        if self._present.pop(before, None) is not None:
            self._present[after] = new
            self._returning.add(after)
        if before in self._away:
            self._away.remove(before)
            self._away.add(after)
        for names in (self._identities, self._partners):
            if before in names:
                names[after] = names.pop(before)
        if fold(self.last_speaker) == before:
            self.last_speaker = new

    # Rooms

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""
        return sorted(self._rooms.values(), key=fold)

    def own_rooms(self) -> Iterable[str]:
        """Return the names of the rooms that the user has joined."""
        return self._own_rooms.values()

    def is_known(self, room: str) -> bool:
        """Return whether there is a room, as far as it is known."""
        return fold(room) in self._rooms

    def is_member(self, room: str) -> bool:
        """Return whether the user has joined a room."""
        return fold(room) in self._own_rooms

    def set_rooms(self, rooms: Sequence[Room]) -> None:
        """Replace the list of rooms."""
        self._rooms = {_key(room.name): sys.intern(room.name) for room in rooms[:MAX_NAMES]}
        self._own_rooms = {_key(room.name): sys.intern(room.name) for room in rooms if room.member}

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


def _key(name: str) -> str:
    return sys.intern(fold(name))


def _put(names: dict[str, str], key: str, value: str, limit: int) -> None:
    """Put a value at the end of ``names``, and drop the first beyond ``limit``."""
    names.pop(key, None)
    names[key] = value
    if len(names) > limit:
        del names[next(iter(names))]
