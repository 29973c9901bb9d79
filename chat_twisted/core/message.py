"""A message, whom it is to, and what users and rooms may be called.

Plain immutable values, and the rules of names that everybody shares. Nothing here knows how a
message travels, who is connected, or where it is kept.
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
"""What a user may be called, as a regular expression."""

_USER = re.compile(rf"{USER_NAME}\Z")
_ROOM = re.compile(r"#[A-Za-z0-9_-]{1,32}\Z")


class Audience(enum.Enum):
    """The three sorts of recipient that a message can have."""

    ALL = enum.auto()
    ROOM = enum.auto()
    USER = enum.auto()


def fold(name: str) -> str:
    """Give the form under which ``name`` is looked up: names that differ only in case are one."""
    return name.lower()


def check_user_name(name: str) -> str:
    """Return ``name`` if a user may be called so.

    :raises MalformedName: it is not 1 to 32 of ``[A-Za-z0-9_-]``, begins with one of the two
        marks, or is ALL in any case.
    """
    if not _USER.match(name) or fold(name) == "all":
        raise MalformedName
    return name


def check_room_name(name: str) -> str:
    """Return ``name`` if a room may be called so.

    :raises NoSuchRoom: it is not ``#`` and 1 to 32 of ``[A-Za-z0-9_-]``.
    """
    if not _ROOM.match(name):
        raise NoSuchRoom
    return name


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a message is to: ``name`` as it is shown, ``key`` as it is looked up."""

    audience: Audience
    name: str
    key: str


EVERYBODY = Target(Audience.ALL, "ALL", "all")


@lru_cache(maxsize=4096)
def parse_target(argument: str) -> Target:
    """Read the argument of a SEND: a user, a ``#room`` or ``ALL``.

    :raises UnableToSend: nobody and nothing can be called so.
    """
    if _USER.match(argument):
        key = fold(argument)
        return EVERYBODY if key == "all" else Target(Audience.USER, argument, key)
    if _ROOM.match(argument):
        return Target(Audience.ROOM, argument, fold(argument))
    raise UnableToSend("no user or room can have that name")


class Message(NamedTuple):
    """What was said. It never changes, and nobody hears of it before it is committed.

    ``number`` is positive and grows in the order of commitment; ``time`` is in milliseconds since
    the epoch (UTC), by a clock that may be set. ``author`` is the sender's number and ``sender``
    the name as its owner wrote it. Of ``recipient`` (a user's number) and ``room`` (a room's) at
    most one is not 0; ``to`` names it, and is ALL where both are 0. ``request`` is what the same
    message, sent once more by its author, would have too; None if there is no telling. ``kind`` is
    one of ``entries``'s; ``logged`` is when the message was put into the order, by the log's clock.
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
    """Return messages with the name that a user has now where the user is sender or recipient: by
    it, their client tells what they said from what was said to them.
    """
    return [
        message._replace(sender=name)
        if message.author == user and message.sender != name
        else message._replace(to=name)
        if message.recipient == user and message.to != name
        else message
        for message in messages
    ]


class Conversation(NamedTuple):
    """A conversation: ``(0, "")`` with everybody, ``(room, "")``, ``(user, name of the other)``."""

    party: int
    name: str


PUBLIC = Conversation(0, "")
"""The conversation of all users (target ``ALL``)."""
