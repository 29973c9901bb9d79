"""Events: changes that users see, each as an immutable value with names instead of numbers.

``routes`` makes events from facts and selects the sessions that get them; doors write them in their
protocols. ``by`` is the name of the user who caused the event, and empty if nobody or the console
did. ``RealNameChanged``, ``UserArrived``, ``UserLeft`` and ``MemberInvited`` are for sessions that
follow everybody (``sessions.Policy``); for them, ``rooms`` are the names of the user's rooms at the
time of the event. It is empty if there is no such session.
"""

from __future__ import annotations

from typing import NamedTuple


class MemberJoined(NamedTuple):
    """A user has joined a room."""

    room: str
    user: str
    rank: int


class MemberLeft(NamedTuple):
    """A member has left a room, or was removed from it if ``by`` is not empty.

    :ivar present: whether the user was present. It is False if their last session had ended before:
        then sessions that follow everybody have got ``UserLeft``.
    """

    room: str
    user: str
    by: str
    reason: str
    present: bool


class RankChanged(NamedTuple):
    """A member has got another rank than the one ``before``. If ``by`` is empty, they have
    inherited the room.
    """

    room: str
    user: str
    rank: int
    by: str
    before: int


class ModeChanged(NamedTuple):
    """A mode of a room was turned on or off."""

    room: str
    mode: str
    on: bool
    by: str


class TopicChanged(NamedTuple):
    """A room has another topic.

    :ivar time: the time of day, in milliseconds.
    """

    room: str
    topic: str
    by: str
    time: int


class Invitation(NamedTuple):
    """A user is invited to a room."""

    room: str
    user: str
    by: str


class MemberInvited(NamedTuple):
    """A user is invited to a room: the same as ``Invitation``, for the members of the room."""

    room: str
    user: str
    by: str


class BanChanged(NamedTuple):
    """A name was banned from a room, or that ban was lifted."""

    room: str
    name: str
    on: bool
    by: str
    reason: str


class NameChanged(NamedTuple):
    """A user has got another name."""

    before: str
    after: str
    rooms: tuple[str, ...] = ()


class AwayChanged(NamedTuple):
    """A user is away with the text ``why``, or back if it is None."""

    user: str
    why: str | None
    rooms: tuple[str, ...] = ()


class AccountChanged(NamedTuple):
    """A user has got an account, or has deleted it."""

    user: str
    has_account: bool
    rooms: tuple[str, ...] = ()


class RealNameChanged(NamedTuple):
    """A user has got another real name, or none if it is empty."""

    user: str
    real_name: str
    rooms: tuple[str, ...] = ()


class UserArrived(NamedTuple):
    """A user is present now, and was not before."""

    user: str
    rooms: tuple[str, ...]


class UserLeft(NamedTuple):
    """A user is not present any more; ``rooms`` are those until then.

    :ivar reason: the reason that they gave, or the operator who has ended their sessions.
    :ivar lost: whether the connection was lost; otherwise somebody has ended the last session.
    :ivar by: the operator's name; empty if it was none, or the console.
    """

    user: str
    rooms: tuple[str, ...]
    reason: str
    lost: bool
    by: str


class Announcement(NamedTuple):
    """The operator of the server tells everybody something.

    :ivar text: one line of at most ``sanctions.MAX_ANNOUNCEMENT`` bytes.
    """

    text: str


class MessageDeleted(NamedTuple):
    """The text of a message was deleted. ``conversation`` is where those who get this event
    have it: the other user, a room or ALL.
    """

    conversation: str
    number: int
    by: str
    reason: str


class ReadMoved(NamedTuple):
    """A user has read a conversation up to a number and a time (``model.Marker``): another user's,
    a room's or that of ALL.
    """

    conversation: str
    number: int
    time: int


Event = (
    MemberJoined
    | MemberLeft
    | RankChanged
    | ModeChanged
    | TopicChanged
    | Invitation
    | MemberInvited
    | BanChanged
    | NameChanged
    | AwayChanged
    | AccountChanged
    | RealNameChanged
    | UserArrived
    | UserLeft
    | MessageDeleted
    | ReadMoved
    | Announcement
)
