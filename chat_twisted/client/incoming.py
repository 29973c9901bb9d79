"""What the server's frames say, as values: whatever comes from a server is checked here, once.

A frame that the protocol does not have so raises ``HeaderIncomplete``, whose text says what is
wrong without quoting it. Names are names when they leave here, numbers have 18 digits at most, and
what is said to be a line is one. Texts are as they came: who shows them makes them printable.
Nothing here knows what was asked or who listens.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from dataclasses import dataclass

from chat_twisted.core.errors import HeaderIncomplete, MalformedName, NoSuchRoom
from chat_twisted.core.message import check_room_name, check_user_name
from chat_twisted.frames import Frame

MAX_BODY_TAKEN = 4 * 1024 * 1024
"""Bytes of a body, whatever ``Max-message`` says."""

MAX_NAMES = 100_000
"""How many users, and how many rooms, a listener remembers the names of. Past it, newer ones are
not offered or counted; what they say is heard all the same."""

MAX_WHY = 500
"""Characters of a topic, a reason, or why somebody is away; what is longer is cut."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")
_TOKEN = re.compile(r"[^\x00-\x1f\x7f-\x9f]{0,256}\Z")
_ROOM_LINE = re.compile(r"(\S+) ([0-9]{1,18})((?: \S+)*)\Z")
_ERROR = re.compile(r"([0-9]{3})(?: (.*))?\Z")


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it was received. ``to`` is one's own name, a ``#room`` or ``ALL``.

    ``number`` is the server's for the message, ``time`` in the form ``2026-11-23T10:00:00.123Z``.
    """

    number: int
    time: str
    sender: str
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's ERROR: ``code`` and ``reason`` as in the protocol's table."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """What happened in a room: ``verb`` is the protocol's (JOINED, LEFT, TOPIC, INVITED, OWNER),
    ``user`` whom it befell, ``by`` who else did it, ``topic`` the room's where it was told.
    """

    verb: str
    room: str
    user: str
    by: str
    topic: str | None


class State(enum.Enum):
    """Whether somebody reads what is said to him: ``GONE`` is without a connection."""

    HERE = "here"
    AWAY = "away"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Seen:
    """Where somebody is, and what he has said about being away."""

    user: str
    state: State
    why: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """A room as it is listed: how many members it has, whether one is a member, and whether only
    those can come in who are invited.
    """

    name: str
    members: int
    member: bool
    private: bool


@dataclass(frozen=True, slots=True)
class Welcome:
    """What REGISTERED says: one's name as the server has it, the token to come back with, the
    greatest length of a body in bytes, and the number of the newest message.
    """

    name: str
    token: str
    max_message: int
    last: int


def _user(name: str) -> str:
    try:
        return check_user_name(name)
    except MalformedName:
        raise HeaderIncomplete("what should be a user's name is none") from None


def _room(name: str) -> str:
    try:
        return check_room_name(name)
    except NoSuchRoom:
        raise HeaderIncomplete("what should be a room's name is none") from None


def _line(text: str) -> str:
    """Make one line of what should be one, and cut what is too long for it."""
    line = " ".join(text[: MAX_WHY + 1].splitlines())
    return line if len(line) <= MAX_WHY else f"{line[: MAX_WHY - 1]}…"


def lines(frame: Frame) -> list[str]:
    """Return the lines of a body."""
    return frame.body.removesuffix("\n").split("\n") if frame.body else []


def time(frame: Frame) -> str:
    """Return when a message was committed."""
    moment = frame.headers.get("time", "")
    if not _TIME.match(moment):
        raise HeaderIncomplete("Time is missing or none")
    return moment


def message(frame: Frame) -> Received:
    """Read FORWARD or MESSAGE."""
    to = frame.headers.get("to", "")
    if to != "ALL" and not to.startswith("#"):
        _user(to)
    elif to != "ALL":
        _room(to)
    number = frame.number("message")
    if not number:
        raise HeaderIncomplete("a message without a number")
    return Received(number, time(frame), _user(frame.argument), to, frame.body or "")


def welcome(frame: Frame) -> Welcome:
    """Read REGISTERED."""
    token = frame.headers.get("session", "")
    if not _TOKEN.match(token):
        raise HeaderIncomplete("Session is no token")
    return Welcome(
        _user(frame.argument),
        token,
        min(frame.number("max-message"), MAX_BODY_TAKEN),
        frame.number("last"),
    )


def refusal(frame: Frame) -> Refusal:
    """Read ERROR."""
    match = _ERROR.match(frame.argument)
    if match is None:
        raise HeaderIncomplete("an ERROR without a code")
    reason = match[2] or ""
    if why := frame.headers.get("reason"):
        reason = f"{reason}: {why}"
    return Refusal(int(match[1]), _line(reason))


def retry_after(frame: Frame) -> int | None:
    """Return the seconds after which ERROR says that waiting helps; None if it does not."""
    return frame.number("retry-after") if "retry-after" in frame.headers else None


def challenge(frame: Frame) -> bytes:
    """Return what ERROR 106 gives to sign: 32 bytes."""
    try:
        octets = base64.b64decode(frame.headers.get("challenge", ""), validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if len(octets) != 32:
        raise HeaderIncomplete("Challenge is not 32 bytes")
    return octets


def event(frame: Frame) -> Event:
    """Read JOINED, LEFT, TOPIC, INVITED or OWNER."""
    user, by = frame.headers.get("user", ""), frame.headers.get("by", "")
    if user or frame.verb != "TOPIC":
        _user(user)
    if by:
        _user(by)
    topic = None if frame.body is None else _line(frame.body)
    return Event(frame.verb, _room(frame.argument), user, by, topic)


def seen(line: str) -> Seen:
    """Read a line of WHO or PRESENCE: the name, and what is known behind it."""
    user, _, rest = line.partition(" ")
    state, _, why = rest.partition(" ")
    try:
        return Seen(_user(user), State(state or State.HERE.value), _line(why))
    except ValueError:  # a newer server's
        return Seen(user, State.HERE)


def room(line: str) -> Room:
    """Read a line of ROOMS: the name, how many members, and what is known behind it."""
    match = _ROOM_LINE.match(line)
    if match is None:
        raise HeaderIncomplete("a line of ROOMS that is none")
    flags = match[3].split()
    return Room(_room(match[1]), int(match[2]), "member" in flags, "private" in flags)


def sanction(line: str) -> str:
    """Read a line of BAN's list, which is for people."""
    return _line(line)
