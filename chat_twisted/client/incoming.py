"""Parses frames from the server into values, and validates them.

A frame that violates the protocol raises ``HeaderIncomplete``; its text describes the problem
without quoting the frame. Names in the values are valid names, numbers have at most 18 digits, and
lines contain no line ends. Other texts are unchanged: code that shows them must make them
printable. This module must not know which requests were made, or who listens.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from dataclasses import dataclass

from chat_twisted.core.errors import MalformedName, NoSuchRoom
from chat_twisted.core.message import check_room_name, check_user_name
from chat_twisted.frames import Frame, HeaderIncomplete
from chat_twisted.refusals import Refusal

MAX_BODY_TAKEN = 4 * 1024 * 1024
"""Maximum size of a body in bytes, whatever ``Max-message`` says."""

MAX_NAMES = 100_000
"""Maximum number of users, and of rooms, whose names a listener remembers. Further ones are not
completed or counted, but their messages are shown."""

MAX_WHY = 500
"""Maximum length, in characters, of a topic, a reason or an away text; longer ones are cut."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")
_TOKEN = re.compile(r"[^\x00-\x1f\x7f-\x9f]{0,256}\Z")
_ROOM_LINE = re.compile(r"(\S+) ([0-9]{1,18})((?: \S+)*)\Z")
_ERROR = re.compile(r"([0-9]{3})(?: (.*))?\Z")


@dataclass(frozen=True, slots=True)
class Received:
    """A received message.

    :ivar number: the server's number of the message.
    :ivar time: the time of its commit, as ``2026-11-23T10:00:00.123Z``.
    :ivar sender: the sender's name.
    :ivar to: the user's own name, a ``#room`` or ``ALL``.
    :ivar text: the text, as it was sent.
    """

    number: int
    time: str
    sender: str
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """A change in a room.

    :ivar verb: the protocol's verb: JOINED, LEFT, TOPIC, INVITED or OWNER.
    :ivar room: the room's name.
    :ivar user: the user who is affected; may be empty with TOPIC.
    :ivar by: another user who did it, or empty.
    :ivar topic: the topic, or None if it was not sent.
    """

    verb: str
    room: str
    user: str
    by: str
    topic: str | None


class State(enum.Enum):
    """A user's presence. ``GONE`` means that the user has no connection."""

    HERE = "here"
    AWAY = "away"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Seen:
    """A user's presence, and the text that they gave for being away."""

    user: str
    state: State
    why: str = ""


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


@dataclass(frozen=True, slots=True)
class Welcome:
    """The contents of REGISTERED.

    :ivar name: the user's name, as the server spells it.
    :ivar token: the session token for reconnecting.
    :ivar max_message: the maximum length of a body in bytes.
    :ivar last: the number of the newest message.
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
    """Join the lines of ``text``, and cut it to ``MAX_WHY`` characters."""
    line = " ".join(text[: MAX_WHY + 1].splitlines())
    return line if len(line) <= MAX_WHY else f"{line[: MAX_WHY - 1]}…"


def lines(frame: Frame) -> list[str]:
    """Return the lines of a body."""
    return frame.body.removesuffix("\n").split("\n") if frame.body else []


def time(frame: Frame) -> str:
    """Return the time at which a message was committed."""
    moment = frame.headers.get("time", "")
    if not _TIME.match(moment):
        raise HeaderIncomplete("Time is missing or none")
    return moment


def message(frame: Frame) -> Received:
    """Parse FORWARD or MESSAGE."""
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
    """Parse REGISTERED."""
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
    """Parse ERROR."""
    match = _ERROR.match(frame.argument)
    if match is None:
        raise HeaderIncomplete("an ERROR without a code")
    reason = match[2] or ""
    if until := frame.headers.get("until"):
        reason += " for ever" if until == "ever" else f" until {until}"
    if why := frame.headers.get("reason"):
        reason = f"{reason}: {why}"
    return Refusal(int(match[1]), _line(reason))


def retry_after(frame: Frame) -> int | None:
    """Return the seconds of an ERROR's ``Retry-after``, or None."""
    return frame.number("retry-after") if "retry-after" in frame.headers else None


def challenge(frame: Frame) -> bytes:
    """Return the challenge of ERROR 106: 32 bytes that the client signs."""
    try:
        octets = base64.b64decode(frame.headers.get("challenge", ""), validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if len(octets) != 32:
        raise HeaderIncomplete("Challenge is not 32 bytes")
    return octets


def event(frame: Frame) -> Event:
    """Parse JOINED, LEFT, TOPIC, INVITED or OWNER."""
    user, by = frame.headers.get("user", ""), frame.headers.get("by", "")
    if user or frame.verb != "TOPIC":
        _user(user)
    if by:
        _user(by)
    topic = None if frame.body is None else _line(frame.body)
    return Event(frame.verb, _room(frame.argument), user, by, topic)


def seen(line: str) -> Seen:
    """Parse a line of WHO or PRESENCE."""
    user, _, rest = line.partition(" ")
    state, _, why = rest.partition(" ")
    try:
        return Seen(_user(user), State(state or State.HERE.value), _line(why))
    except ValueError:  # a state that only a newer server knows
        return Seen(user, State.HERE)


def room(line: str) -> Room:
    """Parse a line of ROOMS."""
    match = _ROOM_LINE.match(line)
    if match is None:
        raise HeaderIncomplete("a line of ROOMS that is none")
    flags = match[3].split()
    return Room(_room(match[1]), int(match[2]), "member" in flags, "private" in flags)


def sanction(line: str) -> str:
    """Parse a line of the list of bans; its text is meant for people."""
    return _line(line)
