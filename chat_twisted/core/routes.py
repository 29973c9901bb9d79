"""Routes: the sessions of this node that a message or an event reaches.

The state may be ahead of the outcomes that are being delivered, so this module keeps its own copy
of names, and of the presence and memberships of users with sessions, and updates it fact by fact.
Finding the sessions of a room is one lookup, whatever the number of its members. This module must
not decide anything, or know what a session is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from chat_twisted.core import facts
from chat_twisted.core.events import (
    AccountChanged,
    AwayChanged,
    BanChanged,
    Event,
    Invitation,
    MemberInvited,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    ModeChanged,
    NameChanged,
    RankChanged,
    ReadMoved,
    RealNameChanged,
    TopicChanged,
    UserArrived,
    UserLeft,
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


class _Online:
    """A user with sessions, here or on other nodes.

    :ivar rooms: the rooms of which the user is a member.
    :ivar epochs: the epochs of the sessions, each with whether the session is present.
    """

    __slots__ = ("epochs", "rooms")

    def __init__(self, rooms: Iterable[int], epochs: Mapping[int, bool]) -> None:
        self.rooms = dict.fromkeys(rooms)
        self.epochs = dict(epochs)

    @property
    def present(self) -> bool:
        return True in self.epochs.values()


class Routes(Generic[S]):
    """The sessions of this node, by user and by room, in the order of their logins.

    :param users: the numbers, names, real names and login names of all users at the start.
    :param rooms: the numbers and names of all rooms at the start.
    :param online: the users who have sessions at the start, with their rooms, and the epochs of
        their sessions, each with whether the session is present.
    """

    def __init__(
        self,
        users: Iterable[tuple[int, str, str, str]] = (),
        rooms: Iterable[tuple[int, str]] = (),
        online: Iterable[tuple[int, Iterable[int], Mapping[int, bool]]] = (),
    ) -> None:
        self._names: dict[int, str] = {}
        self._real_names: dict[int, str] = {}  # of those who have one
        self._login_names: dict[int, str] = {}  # likewise
        for user, name, real_name, login_name in users:
            self._names[user] = name
            if real_name:
                self._real_names[user] = real_name
            if login_name:
                self._login_names[user] = login_name
        self._room_names = dict(rooms)
        self._online = {user: _Online(rooms, epochs) for user, rooms, epochs in online}
        self._of_user: dict[int, Sessions[S]] = {}
        self._in_room: dict[int, Sessions[S]] = {}
        self._everybody: Sessions[S] = {}
        self._following: Sessions[S] = {}  # those that follow everybody
        self._follow: dict[type, Callable[[Any], Sequence[Told[S]]]] = {
            facts.UserCame: self._came,
            facts.UserRenamed: self._renamed,
            facts.UserGone: self._gone,
            facts.SessionCame: self._session_came,
            facts.SessionArrived: self._session_arrived,
            facts.SessionGone: self._session_gone,
            facts.AwaySet: self._away,
            facts.RealNameSet: self._real_name,
            facts.LoginNameSet: self._login_name,
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
        """All sessions of this node."""
        return self._everybody

    def in_room(self, room: int) -> Collection[S]:
        """The sessions of a room's members, on this node."""
        return self._in_room.get(room, ())

    def of_user(self, user: int) -> Collection[S]:
        """The sessions of a user on this node; ``has_others`` knows of all nodes."""
        return self._of_user.get(user, ())

    def name_of(self, user: int) -> str:
        """Return the name of a user; empty if there is no such user."""
        return self._names.get(user, "")

    def real_name_of(self, user: int) -> str:
        """Return the real name of a user; empty if there is none."""
        return self._real_names.get(user, "")

    def login_name_of(self, user: int) -> str:
        """Return the name of a user on their own machine; empty if it is not known."""
        return self._login_names.get(user, "")

    def is_present(self, user: int) -> bool:
        """Return whether a user has a present session."""
        online = self._online.get(user)
        return online is not None and online.present

    def is_last(self, user: int, epoch: int) -> bool:
        """Return whether a user is present by this session alone."""
        online = self._online.get(user)
        if online is None or not online.epochs.get(epoch):
            return False
        return sum(online.epochs.values()) == 1

    def has_others(self, user: int, epoch: int) -> bool:
        """Return whether a user has a session besides this one, here or on another node."""
        online = self._online.get(user)
        return online is not None and not online.epochs.keys() <= {epoch}

    @property
    def follower_count(self) -> int:
        """The number of sessions that follow everybody."""
        return len(self._following)

    # Changes

    def attach(self, session: S, user: int, *, follows_everybody: bool = False) -> None:
        """Add a session. Called for the outcome of its login, after the facts.

        :param follows_everybody: as in ``sessions.Policy``.
        """
        self._of_user.setdefault(user, {})[session] = self._everybody[session] = None
        for room in self._online[user].rooms:
            self._in_room.setdefault(room, {})[session] = None
        if follows_everybody:
            self._following[session] = None

    def detach(self, session: S, user: int) -> None:
        """Remove a session, if it was attached. Its end in the order of facts comes later."""
        sessions = self._of_user.get(user, {})
        if session not in sessions:
            return
        del sessions[session], self._everybody[session]
        self._following.pop(session, None)
        for room in self._online[user].rooms:
            self._take_out(room, [session])
        if not sessions:
            del self._of_user[user]

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
        """Return the sessions of a user, and of all members of the user's rooms; and those that
        follow everybody, if the user is present.
        """
        found = dict.fromkeys(self.of_user(user))
        online = self._online.get(user)
        if online is not None:
            for room in online.rooms:
                found.update(self._in_room.get(room, {}))
            if self._following and online.present:
                found.update(self._following)
        return found

    def rooms_of(self, user: int) -> Iterable[int]:
        """Return the numbers of the rooms of a user who has sessions."""
        online = self._online.get(user)
        return () if online is None else online.rooms

    def _rooms_of(self, user: int) -> tuple[str, ...]:
        """Return the names of a user's rooms, for sessions that follow everybody."""
        online = self._online.get(user)
        return self._rooms_named(online) if online is not None and self._following else ()

    def _rooms_named(self, online: _Online) -> tuple[str, ...]:
        return tuple(self._room_names[room] for room in online.rooms)

    def _tell_room(self, room: int, event: Event) -> Sequence[Told[S]]:
        return [Told(event, self.in_room(room))]

    def _came(self, fact: facts.UserCame) -> Sequence[Told[S]]:
        self._names[fact.id] = fact.name
        return ()

    def _renamed(self, fact: facts.UserRenamed) -> Sequence[Told[S]]:
        before, self._names[fact.id] = self._names[fact.id], fact.name
        return [
            Told(NameChanged(before, fact.name, self._rooms_of(fact.id)), self._around(fact.id))
        ]

    def _gone(self, fact: facts.UserGone) -> Sequence[Told[S]]:
        del self._names[fact.id]
        self._real_names.pop(fact.id, None)
        self._login_names.pop(fact.id, None)
        return ()

    def _session_came(self, fact: facts.SessionCame) -> Sequence[Told[S]]:
        online = self._online.get(fact.user)
        if online is None:
            online = self._online[fact.user] = _Online(fact.rooms, {})
        return self._arrived(fact.user, online, fact.epoch, present=fact.present)

    def _session_arrived(self, fact: facts.SessionArrived) -> Sequence[Told[S]]:
        return self._arrived(fact.user, self._online[fact.user], fact.epoch, present=True)

    def _arrived(
        self, user: int, online: _Online, epoch: int, *, present: bool
    ) -> Sequence[Told[S]]:
        before = online.present
        online.epochs[epoch] = present
        if before or not present or not self._following:
            return ()
        event = UserArrived(self.name_of(user), self._rooms_named(online))
        return [Told(event, self._following)]

    def _session_gone(self, fact: facts.SessionGone) -> Sequence[Told[S]]:
        online = self._online[fact.user]
        was_present = online.epochs.pop(fact.epoch)
        if not online.epochs:
            del self._online[fact.user]
        if not was_present or online.present or not self._following:
            return ()
        name, by = self.name_of(fact.user), self.name_of(fact.by)
        rooms = self._rooms_named(online)
        event = UserLeft(name, rooms, fact.reason, not fact.for_good, by)
        return [Told(event, self._following)]

    def _away(self, fact: facts.AwaySet) -> Sequence[Told[S]]:
        event = AwayChanged(self.name_of(fact.user), fact.why, self._rooms_of(fact.user))
        return [Told(event, self._around(fact.user))]

    def _login_name(self, fact: facts.LoginNameSet) -> Sequence[Told[S]]:
        self._login_names[fact.user] = fact.login_name
        return ()

    def _real_name(self, fact: facts.RealNameSet) -> Sequence[Told[S]]:
        if fact.real_name:
            self._real_names[fact.user] = fact.real_name
        else:
            self._real_names.pop(fact.user, None)
        event = RealNameChanged(self.name_of(fact.user), fact.real_name, self._rooms_of(fact.user))
        return [Told(event, self._following if self.is_present(fact.user) else ())]

    def _account(self, user: int, has_account: bool) -> Sequence[Told[S]]:
        event = AccountChanged(self.name_of(user), has_account, self._rooms_of(user))
        return [Told(event, self._around(user))]

    def _room_made(self, fact: facts.RoomMade) -> Sequence[Told[S]]:
        self._room_names[fact.id] = fact.name
        return ()

    def _room_gone(self, fact: facts.RoomGone) -> Sequence[Told[S]]:
        del self._room_names[fact.id]
        return ()

    def _joined(self, fact: facts.Joined) -> Sequence[Told[S]]:
        if (online := self._online.get(fact.user)) is not None:
            online.rooms[fact.room] = None
        if sessions := self._of_user.get(fact.user):
            self._in_room.setdefault(fact.room, {}).update(sessions)
        event = MemberJoined(self._room_names[fact.room], self.name_of(fact.user), fact.rank)
        return self._tell_room(fact.room, event)

    def _left(self, fact: facts.Left) -> Sequence[Told[S]]:
        hearers = list(self.in_room(fact.room))  # including the leaving user
        if (online := self._online.get(fact.user)) is not None:
            online.rooms.pop(fact.room, None)
        self._take_out(fact.room, self.of_user(fact.user))
        names = (self._room_names[fact.room], self.name_of(fact.user), self.name_of(fact.by))
        return [Told(MemberLeft(*names, fact.reason, self.is_present(fact.user)), hearers)]

    def _rank(self, fact: facts.RankSet) -> Sequence[Told[S]]:
        names = self._room_names[fact.room], self.name_of(fact.user)
        event = RankChanged(*names, fact.rank, self.name_of(fact.by), fact.before)
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
        told: list[Told[S]] = [Told(Invitation(*names), self.of_user(fact.user))]
        if self._following:
            members = [s for s in self.in_room(fact.room) if s in self._following]
            told.append(Told(MemberInvited(*names), members))
        return told

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
            return self._tell_room(fact.room, MessageDeleted(name, fact.number, by, fact.reason))
        if not fact.recipient:
            return [Told(MessageDeleted(fact.to, fact.number, by, fact.reason), self.everybody)]
        to = self.name_of(fact.recipient) or fact.to
        told = [Told(MessageDeleted(to, fact.number, by, fact.reason), self.of_user(fact.author))]
        if fact.recipient != fact.author:
            sender = self.name_of(fact.author) or fact.sender
            event = MessageDeleted(sender, fact.number, by, fact.reason)
            told.append(Told(event, self.of_user(fact.recipient)))
        return told

    def _read(self, fact: facts.MarkerSet) -> Sequence[Told[S]]:
        name = self._room_names[fact.room] if fact.room else fact.name or EVERYBODY.name
        return [Told(ReadMoved(name, fact.number, fact.time), self.of_user(fact.user))]
