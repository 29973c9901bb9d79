"""The rooms: who is a member of which, who owns it, who is invited.

The registry that the hub keeps, and the rules of rooms. A request is checked by a method that
returns the changes it would take and changes nothing; ``apply`` takes a change that the ledger has
committed. Users are meant by their numbers. Nothing here knows sessions, names of users or
messages.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from chat_twisted.changes import (
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
from chat_twisted.errors import NoSuchRoom, NotPermitted, Unavailable
from chat_twisted.message import check_room_name, fold

Members = dict[int, None]


class Room:
    """A room. ``members`` are in the order in which they joined. Of a room that is ``ending`` it is
    on the way that it is gone.
    """

    __slots__ = ("ending", "id", "invited", "members", "name", "owner", "private", "topic")

    def __init__(self, id: int, name: str, topic: str, private: bool, owner: int) -> None:
        self.id = id
        self.name = name
        self.topic = topic
        self.private = private
        self.owner = owner
        self.members: Members = {}
        self.invited: set[int] = set()
        self.ending = False


def new_id() -> int:
    """Draw a number for a user or a room that no other has had or will have."""
    return secrets.randbits(62) + 1


class Rooms:
    """All rooms, by name and by number, and the rooms of each user.

    :param max_rooms: how many a user may be in; None for any number.
    """

    def __init__(
        self,
        rooms: Iterable[tuple[int, str, str, bool, int]] = (),
        members: Iterable[tuple[int, int]] = (),
        invitations: Iterable[tuple[int, int]] = (),
        max_rooms: int | None = None,
    ) -> None:
        self._max_rooms = max_rooms
        self._by_name: dict[str, Room] = {}
        self._by_id: dict[int, Room] = {}
        self._of_user: dict[int, dict[int, Room]] = {}
        self._making: dict[str, RoomMade] = {}  # handed in, not committed yet
        for row in rooms:
            self._add(Room(*row))
        for room, user in members:
            self._join(room, user)
        for kept in self._by_id.values():
            if kept.members:  # there may be another of its name, whose end was not written
                self._by_name[fold(kept.name)] = kept
        for room, user in invitations:
            if room in self._by_id:
                self._by_id[room].invited.add(user)

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

    def seen_by(self, user: int) -> list[Room]:
        """All rooms that ``user`` may know of, ordered by name."""
        rooms = (room for room in self._by_name.values() if self.may_see(room, user))
        return sorted(rooms, key=lambda room: fold(room.name))

    @staticmethod
    def may_see(room: Room, user: int) -> bool:
        """Whether ``user`` may know that there is ``room``."""
        return not room.private or user in room.members or user in room.invited

    # What is asked

    def join(self, name: str, user: int, *, private: bool, since: int) -> list[Change]:
        """Become a member of the room ``name``, which is made if there is none. A member may ask
        for it again.

        :param private: whether it must be a private one.
        :raises NoSuchRoom: nothing can be called so.
        :raises NotPermitted: it is private, and the user is not invited; it is public, and should
            be private; or the user is in too many rooms.
        :raises Unavailable: the room of that name is just ending.
        """
        check_room_name(name)
        room = self._by_name.get(fold(name))
        there = room or self._making.get(fold(name))
        if private and there is not None and not there.private:
            refusal = NotPermitted("a public room")
            refusal.headers = (("Reason", "there is a public room of that name"),)
            raise refusal
        if room is not None and user in room.members:
            return [Joined(room.id, user, since)]
        if self._max_rooms is not None and len(self._of_user.get(user, ())) >= self._max_rooms:
            raise NotPermitted("in too many rooms")
        if room is None:
            made = self._making.get(fold(name))
            if made is None:
                made = self._making[fold(name)] = RoomMade(new_id(), name, private, user)
                return [made, Joined(made.id, user, since)]
            if made.private and made.owner != user:
                raise NotPermitted("a private room")
            return [Joined(made.id, user, since)]
        if not self.may_see(room, user):
            raise NotPermitted("a private room")
        if room.ending:
            raise Unavailable("the room is ending", retry_after=1)
        return [Joined(room.id, user, since)]

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

        :raises NotPermitted: it is a private room of somebody else, or ``user`` is a member.
        """
        if (room.private and room.owner != member) or user in room.members:
            raise NotPermitted("not the owner, or a member already")
        return [Invited(room.id, user)]

    def settle(self, id: int) -> list[Change]:
        """What must follow when somebody has left the room ``id``: the one who is longest in it
        inherits it, and a room without members is no more.
        """
        room = self._by_id.get(id)
        if room is None or room.owner in room.members:
            return []
        heir = next(iter(room.members), None)
        room.ending = heir is None
        return [RoomGone(id)] if heir is None else [OwnerSet(id, heir)]

    def not_settled(self, id: int) -> None:
        """What ``settle`` returned could not be handed in: the room is as it was."""
        if room := self._by_id.get(id):
            room.ending = False

    def unsettled(self) -> list[Change]:
        """What must follow in all rooms, if the server ended before it could."""
        return [change for id in self._by_id for change in self.settle(id)]

    # What has happened

    def apply(self, change: Change) -> None:
        """Take a committed change. One that came too late to make sense changes nothing."""
        match change:
            case RoomMade(id, name, private, owner):
                self._making.pop(fold(name), None)
                self._add(Room(id, name, "", private, owner))
            case RoomGone(id):
                room = self._by_id.get(id)
                if room is None:
                    return
                room.ending = False
                if not room.members:  # somebody may have joined since
                    del self._by_id[id]
                    if self._by_name.get(fold(room.name)) is room:
                        del self._by_name[fold(room.name)]
            case Joined(room_id, user, _):
                self._join(room_id, user)
            case Left(room_id, user, _):
                if room := self._by_id.get(room_id):
                    room.members.pop(user, None)
                self._of_user.get(user, {}).pop(room_id, None)
            case OwnerSet(room_id, owner):
                if room := self._by_id.get(room_id):
                    room.owner = owner
            case TopicSet(room_id, topic):
                if room := self._by_id.get(room_id):
                    room.topic = topic
            case Invited(room_id, user):
                if room := self._by_id.get(room_id):
                    room.invited.add(user)
            case UserGone(user):
                for room in self._of_user.pop(user, {}).values():
                    room.members.pop(user, None)
                for room in self._by_id.values():
                    room.invited.discard(user)

    def failed(self) -> None:
        """What was handed in and is not committed won't be."""
        self._making.clear()
        for room in self._by_id.values():
            room.ending = False

    def _add(self, room: Room) -> None:
        self._by_id[room.id] = room
        self._by_name[fold(room.name)] = room

    def _join(self, room_id: int, user: int) -> None:
        room = self._by_id.get(room_id)
        if room is not None:
            room.members[user] = None
            room.invited.discard(user)
            self._of_user.setdefault(user, {})[room_id] = room
