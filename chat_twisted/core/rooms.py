"""The rooms: who is a member of which, who owns it, who is invited.

The registry that the hub keeps, and the rules of rooms. A request is checked by a method that
returns the changes it would take and changes nothing; ``apply`` takes a change that the ledger has
committed. Users are meant by their numbers. Nothing here knows sessions, names of users or
messages.
"""

from __future__ import annotations

import heapq
import secrets
from collections import Counter
from collections.abc import Iterable

from chat_twisted.core.changes import (
    Change,
    Invited,
    Joined,
    Left,
    OwnerSet,
    RoomGone,
    RoomMade,
    TopicSet,
    UserGone,
)
from chat_twisted.core.errors import NoSuchRoom, NotPermitted, Unavailable
from chat_twisted.core.message import check_room_name, fold
from chat_twisted.core.ordered import Listing, Ordered

MAX_INVITED = 1000
"""Users who are invited to a room and have not joined it."""

Members = dict[int, None]


class Room:
    """A room. ``members`` are in the order in which they joined. ``invited`` are users who may join
    a private room. Of a room that is ``ending`` it is on the way that it is gone. ``key`` is the
    folded name, ``address`` is where its maker came from.
    """

    __slots__ = (
        "address",
        "ending",
        "id",
        "invited",
        "key",
        "members",
        "name",
        "owner",
        "private",
        "topic",
    )

    def __init__(
        self, id: int, name: str, topic: str, private: bool, owner: int, address: str = ""
    ) -> None:
        self.id = id
        self.name = name
        self.key = fold(name)
        self.topic = topic
        self.private = private
        self.owner = owner
        self.address = address
        self.members: Members = {}
        self.invited: set[int] = set()
        self.ending = False


def _key(room: Room) -> str:
    return room.key


def new_id() -> int:
    """Draw a number for a user or a room that no other has had or will have."""
    return secrets.randbits(62) + 1


class Rooms:
    """All rooms, by name and by number, and the rooms of each user.

    :param max_rooms: how many a user may be in; None for any number.
    :param share: how many there may be that users of one address have made; None for any number.
        Rooms of an unknown address, which ``rooms`` are, have no such bound.
    """

    def __init__(
        self,
        rooms: Iterable[tuple[int, str, str, bool, int]] = (),
        members: Iterable[tuple[int, int]] = (),
        invitations: Iterable[tuple[int, int]] = (),
        max_rooms: int | None = None,
        share: int | None = None,
    ) -> None:
        self._max_rooms = max_rooms
        self._share = share
        self._by_id = {row[0]: Room(*row) for row in rooms}
        self._of_user: dict[int, dict[int, Room]] = {}
        # Handed in, not committed yet: rooms that are made, with where their makers came from, and
        # rooms that end or get another owner.
        self._making: dict[str, tuple[RoomMade, str]] = {}
        self._settling: set[int] = set()
        self._made: Counter[str] = Counter()  # rooms, by the addresses of their makers
        for id, user in members:
            if (room := self._by_id.get(id)) is not None:
                room.members[user] = None
                self._of_user.setdefault(user, {})[id] = room
        for id, user in invitations:
            if (room := self._by_id.get(id)) is not None and room.private:
                room.invited.add(user)
        # Of two rooms with one name, one has no members, and its end was not written.
        self._by_name = {room.key: room for room in self._by_id.values()}
        self._by_name.update((r.key, r) for r in self._by_id.values() if r.members)
        self._public = Ordered(_key, (r for r in self._by_name.values() if not r.private))
        # The private rooms that each user may know of.
        self._private: dict[int, Ordered[Room]] = {}
        for room in self._by_name.values():
            for user in (*room.members, *room.invited):
                self._show_or_hide(room, user)

    # What there is

    def find(self, name: str, user: int) -> Room:
        """Return the room ``name``.

        :raises NoSuchRoom: there is none, or it is private and ``user`` has no business there, so
            that nobody can find out which private rooms there are.
        """
        room = self._by_name.get(fold(name))
        if room is None or not self.may_see(room, user):
            raise NoSuchRoom
        return room

    def joined(self, name: str, user: int) -> Room:
        """Return the room ``name``, which ``user`` must be a member of.

        :raises NoSuchRoom: as ``find`` does.
        :raises NotPermitted: the user is not a member.
        """
        room = self.find(name, user)
        if user not in room.members:
            raise NotPermitted("not a member")
        return room

    def get(self, id: int) -> Room | None:
        """Return the room with the number ``id``, if there is one."""
        return self._by_id.get(id)

    def of(self, user: int) -> list[Room]:
        """All rooms that ``user`` is a member of."""
        return list(self._of_user.get(user, {}).values())

    def seen_by(self, user: int, after: str = "") -> Listing[Room]:
        """All rooms that ``user`` may know of, in the order of their folded names, those behind
        ``after``.
        """
        rooms, private = self._public.after(after), self._private.get(user)
        if private is None:
            return Listing(len(self._public), rooms)
        both = heapq.merge(rooms, private.after(after), key=_key)
        return Listing(len(self._public) + len(private), both)

    @staticmethod
    def may_see(room: Room, user: int) -> bool:
        """Whether ``user`` may know that there is ``room``."""
        return not room.private or user in room.members or user in room.invited

    # What is asked

    def join(
        self, name: str, user: int, *, private: bool, since: int, address: str = ""
    ) -> list[Change]:
        """Become a member of the room ``name``, which is made if there is none. A member may ask
        for it again.

        :param private: whether it must be a private one.
        :param address: where the user comes from; empty if that is not known.
        :raises NoSuchRoom: nothing can be called so.
        :raises NotPermitted: it is private, and the user is not invited; it is public, and should
            be private; the user is in too many rooms; or users of that address have made too many.
        :raises Unavailable: the room of that name is just ending.
        """
        check_room_name(name)
        key = fold(name)
        room = self._by_name.get(key)
        making, _ = self._making.get(key, (None, ""))
        there = room or making
        if private and there is not None and not there.private:
            refusal = NotPermitted("a public room")
            refusal.headers = (("Reason", "there is a public room of that name"),)
            raise refusal
        if room is not None and user in room.members:
            return [Joined(room.id, user, since)]
        if self._max_rooms is not None and len(self._of_user.get(user, ())) >= self._max_rooms:
            raise NotPermitted("in too many rooms")
        if room is None:
            if making is None:
                self._check_share(address)
                making = RoomMade(new_id(), name, private, user)
                self._making[key] = making, address
                self._made[address] += 1
                return [making, Joined(making.id, user, since)]
            if making.private and making.owner != user:
                raise NotPermitted("a private room")
            return [Joined(making.id, user, since)]
        if not self.may_see(room, user):
            raise NotPermitted("a private room")
        if room.ending:
            raise Unavailable("the room is ending", retry_after=1)
        return [Joined(room.id, user, since)]

    def _check_share(self, address: str) -> None:
        if self._share is not None and address and self._made[address] >= self._share:
            raise NotPermitted("too many rooms from this address")

    def leave(self, room: Room, user: int, *, until: int) -> list[Change]:
        """Be a member of ``room`` no longer."""
        return [Left(room.id, user, until)]

    def kick(self, room: Room, owner: int, user: int, *, until: int) -> list[Change]:
        """Make ``user`` leave.

        :raises NotPermitted: ``owner`` is not the owner, or ``user`` not another member.
        """
        if room.owner != owner or user == owner or user not in room.members:
            raise NotPermitted("not the owner, or not a member")
        return self.leave(room, user, until=until)

    def invite(self, room: Room, member: int, user: int) -> list[Change]:
        """Let ``user`` in.

        :raises NotPermitted: it is a private room of somebody else, or ``user`` is a member, or too
            many are invited who have not joined.
        """
        if (room.private and room.owner != member) or user in room.members:
            raise NotPermitted("not the owner, or a member already")
        if len(room.invited) >= MAX_INVITED and user not in room.invited:
            raise NotPermitted("too many are invited")
        return [Invited(room.id, user)]

    def __len__(self) -> int:
        """How many rooms there are."""
        return len(self._by_id)

    def settle(self, id: int) -> list[Change]:
        """What must follow when somebody has left the room ``id``: the one who is longest in it
        inherits it, and a room without members is no more.
        """
        room = self._by_id.get(id)
        if room is None or room.ending or room.owner in room.members:
            return []
        heir = next(iter(room.members), None)
        room.ending = heir is None
        self._settling.add(id)
        return [RoomGone(id)] if heir is None else [OwnerSet(id, heir)]

    def not_settled(self, id: int) -> None:
        """What ``settle`` returned could not be handed in: the room is as it was."""
        self._settling.discard(id)
        if room := self._by_id.get(id):
            room.ending = False

    @property
    def settling(self) -> int:
        """How many rooms there are of which what ``settle`` returned is not committed yet."""
        return len(self._settling)

    def unsettled(self) -> list[int]:
        """The rooms that ``settle`` is to be called for, if the server ended before it was."""
        return [room.id for room in self._by_id.values() if room.owner not in room.members]

    # What has happened

    def apply(self, change: Change) -> None:
        """Take a committed change. One that came too late to make sense changes nothing."""
        match change:
            case RoomMade(id, name, private, owner):
                _, address = self._making.pop(fold(name), (None, ""))
                made = Room(id, name, "", private, owner, address)
                self._by_id[id] = self._by_name[made.key] = made
                if not private:
                    self._public.put(made)
            case RoomGone(id):
                self._settling.discard(id)
                if (room := self._by_id.get(id)) is not None:
                    room.ending = False
                    if not room.members:  # somebody may have joined since
                        self._remove(room)
            case Joined(room_id, user, _):
                if room := self._by_id.get(room_id):
                    room.members[user] = None
                    room.invited.discard(user)
                    self._of_user.setdefault(user, {})[room_id] = room
                    self._show_or_hide(room, user)
            case Left(room_id, user, _):
                if room := self._by_id.get(room_id):
                    self._leave(room, user)
            case OwnerSet(room_id, owner):
                self._settling.discard(room_id)
                if room := self._by_id.get(room_id):
                    room.owner = owner
            case TopicSet(room_id, topic):
                if room := self._by_id.get(room_id):
                    room.topic = topic
            case Invited(room_id, user):
                # Anybody may join one that is not private.
                if (room := self._by_id.get(room_id)) and room.private:
                    room.invited.add(user)
                    self._show_or_hide(room, user)
            case UserGone(user):
                for joined in self.of(user):
                    self._leave(joined, user)
                if (rooms := self._private.pop(user, None)) is not None:
                    for inviting in rooms.after(""):
                        inviting.invited.discard(user)

    def failed(self) -> None:
        """What was handed in and is not committed won't be."""
        for _, address in self._making.values():
            self._count_out(address)
        self._making.clear()
        for id in list(self._settling):
            self.not_settled(id)

    def _remove(self, room: Room) -> None:
        del self._by_id[room.id]
        if self._by_name.get(room.key) is room:
            del self._by_name[room.key]
        self._public.discard(room)
        invited, room.invited = room.invited, set()
        for user in invited:
            self._show_or_hide(room, user)
        self._count_out(room.address)

    def _count_out(self, address: str) -> None:
        self._made[address] -= 1
        if self._made[address] <= 0:
            del self._made[address]

    def _leave(self, room: Room, user: int) -> None:
        room.members.pop(user, None)
        rooms = self._of_user.get(user, {})
        rooms.pop(room.id, None)
        if not rooms:
            self._of_user.pop(user, None)
        self._show_or_hide(room, user)

    def _show_or_hide(self, room: Room, user: int) -> None:
        """Have ``room`` among the private ones that ``user`` may know of, or not among them."""
        if not room.private:
            return
        rooms = self._private.setdefault(user, Ordered(_key))
        if self.may_see(room, user):
            rooms.put(room)
        else:
            rooms.discard(room)
            if not rooms:
                del self._private[user]
