"""Entries, the input of the state, and outcomes, its output; all are immutable values.

This module must not know rules, connections, files or the wire protocol.
"""

from __future__ import annotations

from typing import NamedTuple

from chat_twisted.core.commands import Command
from chat_twisted.core.errors import ChatError
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import Message


class Entry(NamedTuple):
    """A command that has got its place in the order.

    :ivar time: the time of that, in milliseconds of the log's clock.
    """

    time: int
    command: Command


class Progress(NamedTuple):
    """The progress of a state.

    :ivar version: how many entries it has accepted.
    :ivar time: the time of the last accepted entry, in milliseconds of the log's clock.
    :ivar number: the number of the newest message, or a higher one that was skipped.
    """

    version: int
    time: int
    number: int


class LoggedIn(NamedTuple):
    """The result of a ``Login``.

    :ivar token: the digest of the token with which the user can log in again.
    :ivar new: whether the user did not exist before.
    :ivar rooms: the rooms of which the user is a member.
    """

    user: int
    epoch: int
    token: bytes
    new: bool
    rooms: tuple[int, ...]


class Signalled(NamedTuple):
    """The result of a ``Signal``. The attributes are those of a ``Message``."""

    sender: str
    author: int
    recipient: int
    room: int
    to: str
    content: str


class Announced(NamedTuple):
    """The result of an ``Announce``."""

    text: str


class Duplicate(NamedTuple):
    """The message was sent before.

    :ivar number: the number of that message.
    :ivar time: its time, in milliseconds since the epoch.
    """

    number: int
    time: int


class InRoom(NamedTuple):
    """The result of commands about a room: its number."""

    room: int


class Disconnected(NamedTuple):
    """The result of a ``Disconnect``: the name of the user whose sessions have ended."""

    name: str


class Read(NamedTuple):
    """Up to which message, and to which time, the user has read the conversation
    (``model.Marker``).
    """

    number: int
    time: int


class Swept(NamedTuple):
    """The result of a ``Sweep``: the count of holds and sanctions that have ended."""

    ended: int


Result = (
    Message
    | Signalled
    | Announced
    | LoggedIn
    | Duplicate
    | InRoom
    | Disconnected
    | Read
    | Swept
    | ChatError
    | None
)


class Outcome(NamedTuple):
    """The outcome of an entry.

    :ivar facts: the changes; empty if nothing has changed.
    :ivar result: the answer for the asker; a ``ChatError`` is a refusal.
    """

    facts: tuple[Fact, ...]
    result: Result = None
