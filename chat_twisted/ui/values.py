"""What a session with a chat server reports, as values: messages, events, users and rooms.

Texts in the values are unchanged: code that shows them must make them printable. This module must
not know how they were received, or how they are shown.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from chat_twisted.core.message import fold

ALL = "ALL"
"""The conversation of all users."""

MAX_NAMES = 100_000
"""Maximum number of users, and of rooms, whose names a listener remembers. Further ones are not
completed or counted, but their messages are shown."""


@dataclass(frozen=True, slots=True)
class Received:
    """A received message.

    :ivar number: the server's number of the message.
    :ivar time: the time of its commit, as ``2026-11-23T10:00:00.123Z``.
    :ivar sender: the sender's name.
    :ivar to: the user's own name, a ``#room`` or ``ALL``.
    :ivar text: the text, as it was sent.
    :ivar deleted: whether the message was deleted; its text is then empty.
    :ivar kind: ``text``, ``action`` (what the sender does: ``* bob waves``) or ``notice``.
    """

    number: int
    time: str
    sender: str
    to: str
    text: str
    deleted: bool = False
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Event:
    """A change in a room, of a user's name, or of a message.

    Which attributes are set depends on the verb; the others have their default values.

    :ivar verb: the protocol's verb: JOINED, LEFT, TOPIC, INVITED, RANK, MODE, BAN or UNBAN in a
        room; RENAMED; DELETED or READ.
    :ivar room: the room's name.
    :ivar user: the user who is affected; may be empty with TOPIC.
    :ivar by: another user who did it, or empty.
    :ivar topic: the topic, or None if it was not sent.
    :ivar reason: the reason for LEFT, BAN, UNBAN or DELETED.
    :ivar rank: the user's rank: with RANK ``operator``, ``voice`` or ``none``; with JOINED one of
        the first two, or empty.
    :ivar mode: the room's mode that has changed: ``private``, ``invite-only``, ``secret``,
        ``moderated`` or ``topic``.
    :ivar on: whether that mode is on now.
    :ivar modes: all modes of the room that are on: in the answers to JOIN and to MODE without a
        mode.
    :ivar operators: the names of the room's operators, in the answer to JOIN.
    :ivar new_name: the user's new name, with RENAMED.
    :ivar conversation: the conversation of a message, with DELETED and READ: a room, ``ALL``, or
        the other user.
    :ivar number: the message that was deleted, or up to which the conversation was read.
    """

    verb: str
    room: str
    user: str
    by: str
    topic: str | None
    reason: str = ""
    rank: str = ""
    mode: str = ""
    on: bool = False
    modes: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    new_name: str = ""
    conversation: str = ""
    number: int = 0


class State(enum.Enum):
    """A user's presence. ``GONE`` means that the user has no connection."""

    HERE = "here"
    AWAY = "away"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Seen:
    """A user's presence.

    :ivar why: the text that they gave for being away.
    :ivar rank: in a list of a room's members, ``operator`` or ``voice`` if the user has that rank.
    :ivar identity: which user has the name: empty for an account, for a guest a token that another
        guest of the same name does not have; None if it was not asked for.
    """

    user: str
    state: State
    why: str = ""
    rank: str = ""
    identity: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Room:
    """A room in the list of rooms.

    :ivar name: its name.
    :ivar members: the number of its members.
    :ivar member: whether the user is a member.
    :ivar private: whether only invited users can join.
    """

    name: str
    members: int
    member: bool
    private: bool


Listed = list[Any]
"""The entries of a list: ``Seen`` for WHO, ``Room`` for ROOMS, text lines for BAN, and ``Marker``
for READ."""


@dataclass(frozen=True, slots=True)
class Found:
    """Messages that were read.

    :ivar more: whether there are more in the direction of reading.
    :ivar total: how many there are in all, or ``MAX_TOTAL`` for that many or more; None if it was
        not asked.
    :ivar after: the number after which there may be more, for a user's own messages.
    """

    messages: list[Received]
    more: bool = False
    total: int | None = None
    after: int = 0


MAX_TOTAL = 10_000


@dataclass(frozen=True, slots=True)
class Marker:
    """A conversation and the user's read marker in it.

    :ivar conversation: a user, a room or ``ALL``.
    :ivar number: the number up to which it was read; 0 without a marker.
    :ivar unread: the number of unread messages, if it was asked.
    """

    conversation: str
    number: int
    unread: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """What the server tells about a user.

    :ivar account: whether they have an account.
    :ivar operator: whether they are an operator of the server.
    :ivar real_name: the line that they have written about themselves; empty without one.
    :ivar bot: whether they are a program.
    :ivar since: the time when the account was made, or the guest came.
    :ivar rooms: the rooms that both users are in.
    :ivar why: the text that they gave for being away.
    """

    user: str
    account: bool
    operator: bool
    since: str
    state: State
    rooms: tuple[str, ...] = ()
    why: str = ""
    real_name: str = ""
    bot: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request that changes an account, a status or a sanction.

    :ivar what: the argument of the request.
    :ivar lines: the keys, if they were requested.
    """

    what: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was refused.

    :ivar code: the code in the protocol's table (docs/protocol.rst, Errors).
    :ivar reason: the reason, from the same table.
    :ivar until: the time at which it ends, as in ``Received``, or ``ever``; empty if it is not
        known.
    :ivar why: the server's or an operator's reason.
    :ivar by: who has imposed it.
    """

    code: int
    reason: str
    until: str = ""
    why: str = ""
    by: str = ""

    @property
    def text(self) -> str:
        """All of it but the code, for people and programs that know the protocol."""
        until = f" until {self.until}" if self.until else ""
        until = " for ever" if self.until == "ever" else until
        return f"{self.reason}{until}{': ' if self.why else ''}{self.why}"


def conversation_of(message: Received, user: str) -> str:
    """Return the conversation of a message as ``user`` sees it: a room, ``ALL``, or the other user.

    A direct message from another user is for ``user``, also if it was sent to an earlier name.
    """
    if message.to == ALL or message.to.startswith("#") or fold(message.sender) == fold(user):
        return message.to
    return message.sender
