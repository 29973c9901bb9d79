"""What a ledger has kept, as values: what a server goes on with, and what is read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from chat_twisted.core.message import Message


class SavedUser(NamedTuple):
    """A row of ``user``. ``account`` is ``GUEST``, ``ACCOUNT`` or ``OPERATOR``."""

    id: int
    name: str
    token: bytes
    since: int
    position: int
    account: int = 0


GUEST, ACCOUNT, OPERATOR = range(3)


@dataclass
class Saved:
    """What a server must know to go on where one ended."""

    last: int = 0
    noted: tuple[int, int] = (0, 0)
    """Up to which number numbers were given, and when that was (``note``)."""
    forgotten: int = 0
    """Ids of the messages up to this number are not remembered."""
    users: list[SavedUser] = field(default_factory=list)
    keys: list[tuple[int, str, str]] = field(default_factory=list)
    """user, key, comment"""
    passwords: list[tuple[int, str]] = field(default_factory=list)
    """user, hash"""
    sanctions: list[tuple[str, str, int, str, str]] = field(default_factory=list)
    """kind, subject, until, reason, by"""
    rooms: list[tuple[int, str, str, bool, int]] = field(default_factory=list)
    """id, name, topic, private, owner"""
    members: list[tuple[int, int]] = field(default_factory=list)
    """room, user"""
    invitations: list[tuple[int, int]] = field(default_factory=list)
    """room, user"""
    newest: int = 0
    """The highest number that is known to have been used. It is above ``last`` if the last ones
    that were drawn are of no message: it was not committed, or was a repeat."""


class Page(NamedTuple):
    """A part of what a user has missed: everything up to the number ``upto``."""

    messages: list[Message]
    upto: int


class Span(NamedTuple):
    """A part of a conversation: ``limit`` messages, the first (or the last) between two numbers and
    two times (milliseconds), all of them exclusive but ``since`` and ``until``. None is no bound.
    """

    limit: int
    after: int | None = None
    before: int | None = None
    since: int | None = None
    until: int | None = None
    oldest_first: bool = False
