"""What happens in the chat, as those are told who see it: typed values with names.

Doors bring them in the words of their protocols. ``by`` is who did it to somebody else, and empty
where nobody did. Nothing here decides who is told.
"""

from __future__ import annotations

from typing import NamedTuple


class MemberJoined(NamedTuple):
    """A user is a member of a room, with a rank."""

    room: str
    user: str
    rank: int


class MemberLeft(NamedTuple):
    """A user is no member of a room any more; with ``by``, they were removed."""

    room: str
    user: str
    by: str
    reason: str


class RankChanged(NamedTuple):
    """A member has another rank; without ``by``, they have inherited the room."""

    room: str
    user: str
    rank: int
    by: str


class ModeChanged(NamedTuple):
    """A mode of a room is on, or off."""

    room: str
    mode: str
    on: bool
    by: str


class TopicChanged(NamedTuple):
    """A room has another topic; ``time`` is the log's, in milliseconds."""

    room: str
    topic: str
    by: str
    time: int


class Invitation(NamedTuple):
    """A user is asked into a room."""

    room: str
    user: str
    by: str


class BanChanged(NamedTuple):
    """A name is kept out of a room, or not any more."""

    room: str
    name: str
    on: bool
    by: str
    reason: str


class NameChanged(NamedTuple):
    """A user has another name."""

    before: str
    after: str


class AwayChanged(NamedTuple):
    """A user is away, and why; None if they are back."""

    user: str
    why: str | None


class AccountChanged(NamedTuple):
    """A user has an account, or none any more."""

    user: str
    has_account: bool


class MessageDeleted(NamedTuple):
    """A message has no text any more."""

    number: int
    by: str


Event = (
    MemberJoined
    | MemberLeft
    | RankChanged
    | ModeChanged
    | TopicChanged
    | Invitation
    | BanChanged
    | NameChanged
    | AwayChanged
    | AccountChanged
    | MessageDeleted
)
