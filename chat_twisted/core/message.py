"""Messages, their targets, and the grammar of names.

This module must not know connections, the wire protocol, or where messages are stored.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from chat_twisted.core.errors import MalformedName, NoSuchRoom, UnableToSend

USER_NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,31}"
"""A regular expression for the names of users."""

_USER = re.compile(rf"{USER_NAME}\Z")
_ROOM = re.compile(r"#[A-Za-z0-9_-]{1,32}\Z")


class Audience(enum.Enum):
    """The three kinds of targets."""

    ALL = enum.auto()
    ROOM = enum.auto()
    USER = enum.auto()


def fold(name: str) -> str:
    """Return the key under which a name is looked up: names that differ only in case are equal."""
    return name.lower()


def check_user_name(name: str) -> str:
    """Return ``name`` if it is valid for a user.

    :raises MalformedName: if it does not match ``USER_NAME``, or is ALL in upper or lower case.
    """
    if not _USER.match(name) or fold(name) == "all":
        raise MalformedName
    return name


def check_room_name(name: str) -> str:
    """Return ``name`` if it is valid for a room.

    :raises NoSuchRoom: if it is not ``#`` followed by 1 to 32 characters of ``[A-Za-z0-9_-]``.
    """
    if not _ROOM.match(name):
        raise NoSuchRoom
    return name


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a message.

    :ivar name: the name as the sender wrote it.
    :ivar key: the folded name.
    """

    audience: Audience
    name: str
    key: str


EVERYBODY = Target(Audience.ALL, "ALL", "all")


@lru_cache(maxsize=4096)
def parse_target(argument: str) -> Target:
    """Parse the target of a message: a user, a ``#room`` or ``ALL``.

    :raises UnableToSend: if it is not a valid name.
    """
    if _USER.match(argument):
        key = fold(argument)
        return EVERYBODY if key == "all" else Target(Audience.USER, argument, key)
    if _ROOM.match(argument):
        return Target(Audience.ROOM, argument, fold(argument))
    raise UnableToSend("no user or room can have that name")


class Message(NamedTuple):
    """A message. It is delivered only after it is committed.

    :ivar number: its number; positive, and increasing in the order of commits.
    :ivar time: the time of day when it was sent, in milliseconds since the epoch (UTC). That clock
        may be set, so times need not increase.
    :ivar author: the number of the user who has sent it.
    :ivar sender: the name of the author at that time.
    :ivar recipient: the number of the user to whom it is, or 0.
    :ivar room: the number of the room to which it is, or 0. It is to all users if both are 0.
    :ivar to: the name of the recipient or the room, or ALL.
    :ivar request: the deduplication key (``commands.Send``), or None.
    :ivar kind: ``commands.TEXT``, ``ACTION`` or ``NOTICE``.
    :ivar logged: the time when it got its place in the order, in milliseconds of the log's clock.
    """

    number: int
    time: int
    author: int
    sender: str
    recipient: int
    room: int
    to: str
    text: str
    request: str | None = None
    kind: int = 0
    logged: int = 0


def seen_by(user: int, name: str, messages: Sequence[Message]) -> list[Message]:
    """Return messages with the current name of a user, if the user is the sender or recipient. By
    the name, the user's client distinguishes sent messages from received ones.

    :param user: the number of the user.
    :param name: the current name.
    """
    return [
        message._replace(
            sender=name if message.author == user else message.sender,
            to=name if message.recipient == user else message.to,
        )
        if user in (message.author, message.recipient)
        else message
        for message in messages
    ]


class Conversation(NamedTuple):
    """A conversation: ``(room, "")``, ``(user, name of the other user)``, or ``(0, "")`` for that
    of all users. ``other`` is the user who has that name now, or 0; their messages under other
    names belong to the conversation, too.
    """

    party: int
    name: str
    other: int = 0


PUBLIC = Conversation(0, "")
"""The conversation of all users (target ``ALL``)."""
