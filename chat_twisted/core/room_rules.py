"""The rules of rooms: joining and leaving, invitations, topics, ranks, modes and bans.

Each rule returns the facts that follow from a command, or raises a ``ChatError`` if the command is
refused. It changes nothing. The user who makes a room is its first operator. If the last operator
leaves, the longest member becomes operator; if the last member leaves, the room ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from chat_twisted.core import sanctions
from chat_twisted.core.commands import (
    MODES,
    NONE,
    OPERATOR,
    TOPIC_LOCKED,
    VOICE,
    BanFromRoom,
    Invite,
    Join,
    Part,
    RemoveMember,
    SetMode,
    SetRank,
    SetTopic,
)
from chat_twisted.core.entries import InRoom, Outcome
from chat_twisted.core.errors import (
    AlreadyThere,
    LastOperator,
    NotPermitted,
    NotThere,
    RoomIsPrivate,
    RoomIsPublic,
    RoomOperatorRequired,
    TextTooLong,
    TooManyRooms,
    TooManyThere,
    UnableToSend,
)
from chat_twisted.core.facts import (
    Asked,
    Fact,
    Invited,
    Joined,
    Left,
    ModeSet,
    RankSet,
    RoomBanned,
    RoomGone,
    RoomMade,
    RoomUnbanned,
    TopicSet,
    Uninvited,
)
from chat_twisted.core.message import check_room_name, check_user_name, fold
from chat_twisted.core.messages import joined
from chat_twisted.core.model import Model, Room, User
from chat_twisted.core.names import asking

MAX_INVITED = 1000
"""Maximum number of users who are invited to a room and have not joined."""

MAX_BANNED = 1000
"""Maximum number of names that are banned from a room."""

MAX_TOPIC = 400
"""Maximum characters of a topic."""


def join(model: Model, command: Join, now: int) -> Outcome:
    """Join a room; make it if it does not exist. For a member this changes nothing."""
    user, session = asking(model, command.user, command.epoch)
    room = model.room_names.get(fold(check_room_name(command.room)))
    if room is not None and command.private and not room.private:
        raise RoomIsPublic
    if room is not None and user.id in room.members:
        return Outcome((), InRoom(room.id))
    most = model.options.rooms
    if most is not None and len(user.rooms) >= most:
        raise TooManyRooms("in too many rooms")
    ordinal = model.version + 1
    if room is None:
        share, address = model.options.address_rooms, session.address
        if share is not None and address and model.rooms_made[address] >= share:
            raise TooManyRooms("too many rooms from this address")
        made = RoomMade(command.id, command.room, command.private, address, now, ordinal)
        first = Joined(made.id, user.id, OPERATOR, model.number, ordinal)
        return Outcome((made, first), InRoom(made.id))
    if user.id not in room.invited:
        if room.invite_only:
            raise RoomIsPrivate
        sanctions.check_room_ban(room, user)
    return Outcome((Joined(room.id, user.id, NONE, model.number, ordinal),), InRoom(room.id))


def part(model: Model, command: Part, now: int) -> Outcome:
    """Leave a room."""
    user, _ = asking(model, command.user, command.epoch)
    room = joined(model, fold(command.room), user)
    reason = sanctions.checked_reason(model, room, user, command.reason, now)
    return Outcome((Left(room.id, user.id, model.number, 0, reason),), InRoom(room.id))


def after_left(model: Model, fact: Left) -> Iterator[Fact]:
    """Called when a member has left: a room without members ends, and in a room without operators
    the longest member becomes one.
    """
    room = model.rooms[fact.room]
    if not room.members:
        yield RoomGone(room.id)
    elif not room.operators:
        heir, member = next(iter(room.members.items()))
        yield RankSet(room.id, heir, OPERATOR, before=member.rank)


def remove_member(model: Model, command: RemoveMember, now: int) -> Outcome:
    """Remove another member."""
    user, room = in_charge(model, command.user, command.epoch, command.room)
    reason = sanctions.checked_reason(model, room, user, command.reason, now)
    other = _member(model, room, command.whom)
    if other is user:
        raise NotThere("the asker must leave instead")
    return Outcome((Left(room.id, other.id, model.number, user.id, reason),), InRoom(room.id))


def invite(model: Model, command: Invite, now: int) -> Outcome:
    """Invite a user. To a room for invited users, and for a banned name, only operators may."""
    user, _ = asking(model, command.user, command.epoch)
    room = joined(model, fold(command.room), user)
    other = model.names.get(fold(command.whom))
    if other is None or not (other.reachable or other.present):
        raise UnableToSend("the invited user is not here")
    if room.invite_only and room.members[user.id].rank != OPERATOR:
        raise RoomOperatorRequired
    if other.id in room.members:
        raise AlreadyThere
    if not room.invite_only and other.key not in room.bans:
        return Outcome((Asked(room.id, other.id, user.id),), InRoom(room.id))
    if room.members[user.id].rank != OPERATOR:
        raise RoomOperatorRequired("the name is kept out")
    if len(room.invited) >= MAX_INVITED and other.id not in room.invited:
        raise TooManyThere("too many are invited")
    return Outcome((Invited(room.id, other.id, user.id),), InRoom(room.id))


def set_topic(model: Model, command: SetTopic, now: int) -> Outcome:
    """Set the topic of a room."""
    user, _ = asking(model, command.user, command.epoch)
    room = joined(model, fold(command.room), user)
    sanctions.check_voice(model, user, now)
    rank = room.members[user.id].rank
    if TOPIC_LOCKED in room.modes and rank != OPERATOR:
        raise RoomOperatorRequired
    if rank == NONE:
        sanctions.check_room_ban(room, user)
    if len(command.topic) > MAX_TOPIC or len(command.topic.splitlines()) > 1:
        raise TextTooLong("a topic that is too long")
    topic = TopicSet(room.id, command.topic.strip(), user.name, command.time, user.id)
    return Outcome((topic,), InRoom(room.id))


def set_rank(model: Model, command: SetRank, now: int) -> Outcome:
    """Set the rank of a member. The last operator keeps that rank."""
    user, room = in_charge(model, command.user, command.epoch, command.room)
    other = _member(model, room, command.whom)
    rank = room.members[other.id].rank
    if command.rank not in (NONE, VOICE, OPERATOR):
        raise NotPermitted("not a rank")
    if rank == command.rank or command.before not in (None, rank):
        return Outcome((), InRoom(room.id))
    if rank == OPERATOR and len(room.operators) == 1:
        raise LastOperator
    changed = RankSet(room.id, other.id, command.rank, user.id, rank)
    return Outcome((changed,), InRoom(room.id))


def set_mode(model: Model, command: SetMode, now: int) -> Outcome:
    """Turn a mode of a room on or off."""
    user, room = in_charge(model, command.user, command.epoch, command.room)
    if command.mode not in MODES:
        raise NotPermitted("not a mode")
    if command.on == (command.mode in room.modes):
        return Outcome((), InRoom(room.id))
    return Outcome((ModeSet(room.id, command.mode, command.on, user.id),), InRoom(room.id))


def ban(model: Model, command: BanFromRoom, now: int) -> Outcome:
    """Ban a name from a room, or lift the ban. A member of that name stays, but can't send; an
    invited user is not invited any more. If the name is banned already, only another reason is a
    change.
    """
    user, room = in_charge(model, command.user, command.epoch, command.room)
    name = fold(check_user_name(command.whom))
    if not command.on:
        if name not in room.bans:
            raise NotThere("not banned")
        return Outcome((RoomUnbanned(room.id, name, user.id),), InRoom(room.id))
    if len(room.bans) >= MAX_BANNED and name not in room.bans:
        raise TooManyThere("too many are banned")
    reason = sanctions.checked_reason(model, room, user, command.reason, now)
    banned = RoomBanned(room.id, name, user.name, command.time, reason, user.id)
    other = model.names.get(name)
    if other is not None and other.id in room.invited:
        return Outcome((banned, Uninvited(room.id, other.id)), InRoom(room.id))
    if name in room.bans and reason in ("", room.bans[name].reason):
        return Outcome((), InRoom(room.id))
    return Outcome((banned,), InRoom(room.id))


def in_charge(model: Model, user: int, epoch: int, name: str) -> tuple[User, Room]:
    """Return the user who asks, and a room of which they are an operator.

    :raises RoomOperatorRequired: if they are not.
    """
    asker, _ = asking(model, user, epoch)
    room = joined(model, fold(name), asker)
    if room.members[asker.id].rank != OPERATOR:
        raise RoomOperatorRequired
    return asker, room


def _member(model: Model, room: Room, name: str) -> User:
    user = model.names.get(fold(name))
    if user is None or user.id not in room.members:
        raise NotThere
    return user
