"""The rules of messages: sending, signals, detecting duplicates, deleting, and read markers.

Each rule returns the facts that follow from a command, or raises a ``ChatError`` if the command is
refused. It changes nothing. ``send`` runs for every message, so it only looks things up in tables
and makes no other object than the message.
"""

from __future__ import annotations

from chat_twisted.core import sanctions
from chat_twisted.core.commands import OPERATOR, Delete, DuplicateQuery, MarkRead, Send, Signal
from chat_twisted.core.entries import Duplicate, Outcome, Read, Signalled
from chat_twisted.core.errors import (
    NoSession,
    NoSuchRoom,
    NotAMember,
    NotYours,
    TextTooLong,
    UnableToSend,
)
from chat_twisted.core.facts import Deleted, Fact, MarkerGone, MarkerSet
from chat_twisted.core.message import Audience, Message, parse_target
from chat_twisted.core.model import NO_MARKER, Marker, Model, Room, User
from chat_twisted.core.names import asking

DELETE_WITHIN = 60 * 60_000
"""Milliseconds within which users may delete their own messages."""

MAX_SIGNAL = 8192
"""Maximum bytes of a signal's content."""

MAX_MARKERS = 1000
"""Maximum number of a user's read markers."""


def send(model: Model, command: Send, now: int) -> Outcome:
    """Send a message, unless it is a duplicate of a recent one."""
    user_id, epoch, to, text, time, key, kind, reaches_absent = command
    user = model.users.get(user_id)
    if user is None or epoch not in user.sessions:
        raise NoSession
    if key is not None and (sent := user.find_sent(key, now)) is not None:
        return Outcome((), Duplicate(sent[0], sent[1]))
    if model.sanctions:
        sanctions.check_voice(model, user, now)
    target = parse_target(to)
    recipient = room_id = 0
    audience = target.audience
    if audience is Audience.ROOM:
        room = joined(model, target.key, user)
        if room.bans or room.modes:
            sanctions.check_may_speak(room, user)
        room_id, name = room.id, room.name
    elif audience is Audience.USER:
        other = model.names.get(target.key)
        if other is None or not (
            (reaches_absent and (other is user or other.kept or other.account is not None))
            or _is_there(other, user, epoch)
        ):
            raise UnableToSend("the recipient is not here")
        recipient, name = other.id, other.name
    else:
        name = target.name
        if not reaches_absent and len(model.present) <= user.present:
            raise UnableToSend("nobody else is here")
    message = Message(
        model.number + 1,
        time,
        user_id,
        user.name,
        recipient,
        room_id,
        name,
        text,
        key,
        kind,
        now,
    )
    return Outcome((message,), message)


def signal(model: Model, command: Signal, now: int) -> Outcome:
    """Pass on what is not kept. It is allowed if a message would be, to a user who is present."""
    user, epoch, to, content = command
    if len(content.encode()) > MAX_SIGNAL:
        raise TextTooLong("a signal that is too long")
    message = send(model, Send(user, epoch, to, content, 0), now).result
    assert isinstance(message, Message), "without a key it is no duplicate"
    if message.recipient and not model.users[message.recipient].present:
        raise UnableToSend("the recipient is not here")
    _, _, author, sender, recipient, room, name, *_ = message
    return Outcome((), Signalled(sender, author, recipient, room, name, content))


def joined(model: Model, key: str, user: User) -> Room:
    """Return a room of which a user must be a member.

    :param key: the folded name.
    :raises NoSuchRoom: if there is none, or the user may not know of it because it is private.
    :raises NotAMember: if the user is not a member.
    """
    room = model.room_names.get(key)
    if room is None:
        raise NoSuchRoom
    if user.id not in room.members:
        raise NotAMember if room.visible(user.id) else NoSuchRoom
    return room


def _is_there(other: User, user: User, epoch: int) -> bool:
    """Return whether ``other`` has a present session that is not the asking one."""
    return any(
        session.present and not (other is user and number == epoch)
        for number, session in other.sessions.items()
    )


def duplicate_query(model: Model, command: DuplicateQuery, now: int) -> Outcome:
    """Return whether a message was sent before."""
    user = model.users.get(command.user)
    sent = None if user is None else user.find_sent(command.key, now)
    return Outcome((), None if sent is None else Duplicate(sent[0], sent[1]))


def delete(model: Model, command: Delete, now: int) -> Outcome:
    """Delete the text of a message. A user can delete their own messages for an hour; operators
    of its room, and of the server, can delete any.
    """
    user, _ = asking(model, command.user, command.epoch)
    room = model.rooms.get(command.room)
    own = command.author == user.id and now - command.logged < DELETE_WITHIN
    member = None if room is None else room.members.get(user.id)
    in_charge = member is not None and member.rank == OPERATOR
    if not (own or in_charge or user.operator):
        raise NotYours
    reason = sanctions.checked_reason(
        model, None if member is None else room, user, command.reason, now
    )
    deleted = Deleted(
        command.number,
        command.author,
        command.recipient,
        command.room,
        user.id,
        command.sender,
        command.to,
        reason,
    )
    return Outcome((deleted,))


def mark_read(model: Model, command: MarkRead, now: int) -> Outcome:
    """Advance the read marker of a conversation; if there are too many, the oldest is deleted."""
    user, _ = asking(model, command.user, command.epoch)
    target = parse_target(command.to)
    room, name = 0, ""
    if target.audience is Audience.ROOM:
        room = joined(model, target.key, user).id
    elif target.audience is Audience.USER:
        name = target.key
    number = min(command.number, model.number)
    marker = user.markers.get((room, name), NO_MARKER)
    if number < marker.number:
        return Outcome((), Read(*marker))
    moved = Marker(number, max(command.time, marker.time))
    if not command.time and number > marker.number:
        moved = Marker(number, 0)
    if moved == marker:
        return Outcome((), Read(*marker))
    facts: list[Fact] = []
    if (room, name) not in user.markers and len(user.markers) >= MAX_MARKERS:
        oldest = min(user.markers, key=lambda place: (user.markers[place], place))
        facts.append(MarkerGone(user.id, *oldest))
    facts.append(MarkerSet(user.id, room, name, *moved))
    return Outcome(tuple(facts), Read(*moved))
