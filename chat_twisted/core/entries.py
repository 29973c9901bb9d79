"""What goes through the log, and what comes of it: entries and outcomes.

Plain immutable values. Nothing here decides anything, and nothing here knows connections, files or
the wire.
"""

from __future__ import annotations

from typing import NamedTuple

from chat_twisted.core.commands import Command
from chat_twisted.core.errors import ChatError
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import Message


class Entry(NamedTuple):
    """A command in its place in the order, and when it was put there, by the log's clock."""

    time: int
    command: Command


class Progress(NamedTuple):
    """How far the log has been applied: how many entries were accepted, when the last one was
    logged, and the highest number that a message has or can't have.
    """

    version: int
    time: int
    number: int


class LoggedIn(NamedTuple):
    """What a login has led to. ``token`` is the digest of the token that lets the user in again;
    ``new``: there was no such user before; ``rooms``: those that the user is a member of.
    """

    user: int
    epoch: int
    token: bytes
    new: bool
    rooms: tuple[int, ...]


class Duplicate(NamedTuple):
    """A message was sent before: the first one's number and time of day."""

    number: int
    time: int


class InRoom(NamedTuple):
    """The asker is a member of the room, and may have been."""

    room: int


class Disconnected(NamedTuple):
    """Whose sessions were closed, by their name."""

    name: str


class Swept(NamedTuple):
    """How many things were ended."""

    ended: int


Result = Message | LoggedIn | Duplicate | InRoom | Disconnected | Swept | ChatError | None


class Outcome(NamedTuple):
    """What became of an entry: what has changed, and the answer; a ``ChatError`` is a refusal.
    Where nothing has changed, there is no fact.
    """

    facts: tuple[Fact, ...]
    result: Result = None
