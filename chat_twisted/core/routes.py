"""Routes: the sessions of this node that a message or an event reaches.

The state may be ahead of the outcomes that are being delivered, so this module keeps its own copy
of names and of the memberships of users with a session here, and updates it fact by fact. Finding
the sessions of a room is one lookup, whatever the number of its members. This module must not
decide anything, or know what a session is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from chat_twisted.core import facts
from chat_twisted.core.events import (
    AccountChanged,
    AwayChanged,
    BanChanged,
    Event,
    Invitation,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    ModeChanged,
    NameChanged,
    RankChanged,
    ReadMoved,
    TopicChanged,
)
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import EVERYBODY

S = TypeVar("S")
"""A session."""

Sessions = dict[S, None]


class Told(NamedTuple, Generic[S]):
    """An event, and the sessions that get it."""

    event: Event
    sessions: Collection[S]


class Routes(Generic[S]):
    """The sessions of this node, by user and by room, in the order of their logins.

    :param users: the numbers and names of all users at the start; ``rooms`` likewise.
    :param rooms_elsewhere: returns the rooms of a user without a session here, from the state. This
        may be ahead, which only affects events about that user, such as a new name.
    """

    def __init__(
        self,
        users: Iterable[tuple[int, str]] = (),
        rooms: Iterable[tuple[int, str]] = (),
        rooms_elsewhere: Callable[[int], Iterable[int]] = lambda user: (),
    ) -> None:
        self._rooms_elsewhere = rooms_elsewhere
        self._names = dict(users)
        self._room_names = dict(rooms)
        self._of_user: dict[int, Sessions[S]] = {}
        self._in_room: dict[int, Sessions[S]] = {}
        self._rooms_of: dict[int, dict[int, None]] = {}  # of users with sessions here
        self._everybody: Sessions[S] = {}
        self._follow: dict[type, Callable[[Any], Sequence[Told[S]]]] = {
            facts.UserCame: self._came,
            facts.UserRenamed: self._renamed,
            facts.UserGone: self._gone,
            facts.AwaySet: self._away,
            facts.AccountMade: lambda fact: self._account(fact.user, True),
            facts.AccountGone: lambda fact: self._account(fact.user, False),
            facts.RoomMade: self._room_made,
            facts.RoomGone: self._room_gone,
            facts.Joined: self._joined,
            facts.Left: self._left,
            facts.RankSet: self._rank,
            facts.ModeSet: self._mode,
            facts.TopicSet: self._topic,
            facts.Invited: self._invited,
            facts.Asked: self._invited,
            facts.RoomBanned: self._banned,
            facts.RoomUnbanned: self._unbanned,
            facts.Deleted: self._deleted,
            facts.MarkerSet: self._read,
        }

    # Lookups

    @property
    def everybody(self) -> Collection[S]:
        """All sessions."""
        return self._everybody

    def in_room(self, room: int) -> Collection[S]:
        """The sessions of a room's members."""
        return self._in_room.get(room, ())

    def of_user(self, user: int) -> Collection[S]:
        """The sessions of a user."""
        return self._of_user.get(user, ())

    def name_of(self, user: int) -> str:
        """Return the name of a user; empty if there is no such user."""
        return self._names.get(user, "")

    # Changes

    def attach(self, session: S, user: int, rooms: Iterable[int]) -> None:
        """Add a session. Called for the outcome of its login, in order.

        :param rooms: the rooms of the user at the time of the login.
        """
        sessions = self._of_user.get(user)
        if sessions is None:
            sessions = self._of_user[user] = {}
            self._rooms_of[user] = dict.fromkeys(rooms)
        sessions[session] = self._everybody[session] = None
        for room in self._rooms_of[user]:
            self._in_room.setdefault(room, {})[session] = None

    def detach(self, session: S, user: int) -> None:
        """Remove a session, if it was attached."""
        sessions = self._of_user.get(user, {})
        if session not in sessions:
            return
        del sessions[session], self._everybody[session]
        for room in self._rooms_of[user]:
            self._take_out(room, [session])
        if not sessions:
            del self._of_user[user], self._rooms_of[user]

    def follow(self, fact: Fact) -> Sequence[Told[S]]:
        """Update the routes by a fact. Called for all facts, in order.

        :return: the events that sessions get.
        """
        follow = self._follow.get(type(fact))
        return () if follow is None else follow(fact)

    def _take_out(self, room: int, sessions: Iterable[S]) -> None:
        there = self._in_room.get(room)
        if there is None:
            return
        for session in sessions:
            there.pop(session, None)
        if not there:
            del self._in_room[room]

    def _around(self, user: int) -> Collection[S]:
        """Return the sessions of a user, and of all members of the user's rooms."""
        rooms: Iterable[int] | None = self._rooms_of.get(user)
        if rooms is None:
            rooms = self._rooms_elsewhere(user)
        found = dict.fromkeys(self.of_user(user))
        for room in rooms:
            found.update(self._in_room.get(room, {}))
        return found

    def _tell_room(self, room: int, event: Event) -> Sequence[Told[S]]:
        return [Told(event, self.in_room(room))]

    def _came(self, fact: facts.UserCame) -> Sequence[Told[S]]:
        self._names[fact.id] = fact.name
        return ()

    def _renamed(self, fact: facts.UserRenamed) -> Sequence[Told[S]]:
        before, self._names[fact.id] = self._names[fact.id], fact.name
        return [Told(NameChanged(before, fact.name), self._around(fact.id))]

    def _gone(self, fact: facts.UserGone) -> Sequence[Told[S]]:
        del self._names[fact.id]
        return ()

    def _away(self, fact: facts.AwaySet) -> Sequence[Told[S]]:
        event = AwayChanged(self.name_of(fact.user), fact.why)
        return [Told(event, self._around(fact.user))]

    def _account(self, user: int, has_account: bool) -> Sequence[Told[S]]:
        event = AccountChanged(self.name_of(user), has_account)
        return [Told(event, self._around(user))]

    def _room_made(self, fact: facts.RoomMade) -> Sequence[Told[S]]:
        self._room_names[fact.id] = fact.name
        return ()

    def _room_gone(self, fact: facts.RoomGone) -> Sequence[Told[S]]:
        del self._room_names[fact.id]
        return ()

    def _joined(self, fact: facts.Joined) -> Sequence[Told[S]]:
        sessions = self._of_user.get(fact.user)
        if sessions:
            self._rooms_of[fact.user][fact.room] = None
            self._in_room.setdefault(fact.room, {}).update(sessions)
        event = MemberJoined(self._room_names[fact.room], self.name_of(fact.user), fact.rank)
        return self._tell_room(fact.room, event)

    def _left(self, fact: facts.Left) -> Sequence[Told[S]]:
        hearers = list(self.in_room(fact.room))  # including the leaving user
        if fact.user in self._rooms_of:
            self._rooms_of[fact.user].pop(fact.room, None)
            self._take_out(fact.room, self._of_user[fact.user])
        names = (self._room_names[fact.room], self.name_of(fact.user), self.name_of(fact.by))
        return [Told(MemberLeft(*names, fact.reason), hearers)]

    def _rank(self, fact: facts.RankSet) -> Sequence[Told[S]]:
        names = self._room_names[fact.room], self.name_of(fact.user)
        event = RankChanged(*names, fact.rank, self.name_of(fact.by))
        return self._tell_room(fact.room, event)

    def _mode(self, fact: facts.ModeSet) -> Sequence[Told[S]]:
        name = self._room_names[fact.room]
        event = ModeChanged(name, fact.mode, fact.on, self.name_of(fact.by))
        return self._tell_room(fact.room, event)

    def _topic(self, fact: facts.TopicSet) -> Sequence[Told[S]]:
        event = TopicChanged(self._room_names[fact.room], fact.topic, fact.author, fact.time)
        return self._tell_room(fact.room, event)

    def _invited(self, fact: facts.Invited | facts.Asked) -> Sequence[Told[S]]:
        names = self._room_names[fact.room], self.name_of(fact.user), self.name_of(fact.by)
        return [Told(Invitation(*names), self.of_user(fact.user))]

    def _banned(self, fact: facts.RoomBanned) -> Sequence[Told[S]]:
        name = self._room_names[fact.room]
        event = BanChanged(name, fact.name, True, fact.author, fact.reason)
        return self._tell_room(fact.room, event)

    def _unbanned(self, fact: facts.RoomUnbanned) -> Sequence[Told[S]]:
        event = BanChanged(self._room_names[fact.room], fact.name, False, self.name_of(fact.by), "")
        return self._tell_room(fact.room, event)

    def _deleted(self, fact: facts.Deleted) -> Sequence[Told[S]]:
        by = self.name_of(fact.by)
        if fact.room:
            name = self._room_names.get(fact.room, fact.to)
            return self._tell_room(fact.room, MessageDeleted(name, fact.number, by))
        if not fact.recipient:
            return [Told(MessageDeleted(fact.to, fact.number, by), self.everybody)]
        to = self.name_of(fact.recipient) or fact.to
        told = [Told(MessageDeleted(to, fact.number, by), self.of_user(fact.author))]
        if fact.recipient != fact.author:
            sender = self.name_of(fact.author) or fact.sender
            event = MessageDeleted(sender, fact.number, by)
            told.append(Told(event, self.of_user(fact.recipient)))
        return told

    def _read(self, fact: facts.MarkerSet) -> Sequence[Told[S]]:
        name = self._room_names[fact.room] if fact.room else fact.name or EVERYBODY.name
        return [Told(ReadMoved(name, fact.number), self.of_user(fact.user))]
