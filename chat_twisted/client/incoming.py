"""Parses frames from the server into values, and validates them.

A frame that violates the protocol raises ``HeaderIncomplete``; its text describes the problem
without quoting the frame. Names in the values are valid names, numbers have at most 18 digits, and
lines contain no line ends. Other texts are unchanged: code that shows them must make them
printable. This module must not know which requests were made, or who listens.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from dataclasses import dataclass

from chat_twisted.core.errors import MalformedName, NoSuchRoom
from chat_twisted.core.message import check_room_name, check_user_name
from chat_twisted.frames import Frame, HeaderIncomplete
from chat_twisted.ui.values import (
    Done,
    Event,
    Found,
    Marker,
    Profile,
    Received,
    Refusal,
    Room,
    Seen,
    State,
)

MAX_BODY_TAKEN = 4 * 1024 * 1024
"""Maximum size of a body in bytes, whatever ``Max-message`` says."""

MAX_WHY = 500
"""Maximum length, in characters, of a topic, a reason or an away text; longer ones are cut."""

MAX_IDENTITY = 32
"""Maximum characters of a guest's identity that are kept."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")
_TOKEN = re.compile(r"[^\x00-\x1f\x7f-\x9f]{0,256}\Z")
_MARKER_LINE = re.compile(r"(\S+) ([0-9]{1,18})(?: ([0-9]{1,18}))?(?: .*)?\Z")
_ROOM_LINE = re.compile(r"(\S+) ([0-9]{1,18})((?: \S+)*)\Z")
_RANKS = {"@": "operator", "+": "voice"}
KINDS = ("text", "action", "notice")
"""The kinds of messages."""

_WORD = re.compile(r"[a-z][a-z-]{0,30}\Z")
_ERROR = re.compile(r"([0-9]{3})(?: (.*))?\Z")


@dataclass(frozen=True, slots=True)
class Welcome:
    """The contents of REGISTERED.

    :ivar name: the user's name, as the server spells it.
    :ivar token: the session token for reconnecting.
    :ivar max_message: the maximum length of a body in bytes.
    :ivar last: the number of the newest message.
    :ivar kept: for how many seconds messages are kept: ``math.inf`` for ever, 0 if they are not
        kept, None if the server does not say.
    """

    name: str
    token: str
    max_message: int
    last: int
    kept: float | None = None


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


def _conversation(name: str) -> str:
    if name == "ALL":
        return name
    return _room(name) if name.startswith("#") else _user(name)


def _word(text: str) -> str:
    """Check a rank or a mode. A newer server may have others than those of today."""
    if not _WORD.match(text):
        raise HeaderIncomplete("a rank or a mode that is none")
    return text


def _flag(frame: Frame, name: str) -> bool:
    value = frame.headers.get(name, "").lower()
    if value not in ("yes", "no"):
        raise HeaderIncomplete(f"{name} is neither yes nor no")
    return value == "yes"


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
    to = _conversation(frame.headers.get("to", ""))
    deleted = "deleted" in frame.headers and _flag(frame, "deleted")
    text = "" if deleted else frame.body or ""
    kind = frame.headers.get("kind", "text").lower()
    kind = kind if kind in KINDS else "text"  # one that only a newer server knows
    return Received(_number(frame), time(frame), _user(frame.argument), to, text, deleted, kind)


def _number(frame: Frame) -> int:
    number = frame.number("message")
    if not number:
        raise HeaderIncomplete("a message without a number")
    return number


def _kept(frame: Frame) -> float | None:
    match frame.headers.get("kept"):
        case None:
            return None
        case "ever":
            return math.inf
        case "off":
            return 0
    return frame.number("kept")


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
        _kept(frame),
    )


def refusal(frame: Frame) -> Refusal:
    """Parse ERROR."""
    match = _ERROR.match(frame.argument)
    if match is None:
        raise HeaderIncomplete("an ERROR without a code")
    by = frame.headers.get("by", "")
    return Refusal(
        int(match[1]),
        _line(match[2] or ""),
        _line(frame.headers.get("until", "")),
        _line(frame.headers.get("reason", "")),
        _user(by) if by else "",
    )


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
    """Parse JOINED, LEFT, TOPIC, INVITED, RANK, MODE, RENAMED, DELETED, READ, and BAN and UNBAN
    in a room.
    """
    verb, headers = frame.verb, frame.headers
    user, by = headers.get("user", ""), headers.get("by", "")
    if by:
        _user(by)
    match verb:
        case "RENAMED":
            name = _user(headers.get("to", ""))
            return Event(verb, "", _user(frame.argument), "", None, new_name=name)
        case "DELETED" | "READ":
            place, number = _conversation(frame.argument), _number(frame)
            reason = _line(frame.body or "")
            return Event(verb, "", "", by, None, reason=reason, conversation=place, number=number)
    room = _room(frame.argument)
    if verb == "MODE":
        if "mode" not in headers:
            return Event(verb, room, "", "", None, modes=_modes(frame))
        mode = _word(headers["mode"])
        return Event(verb, room, "", by, None, mode=mode, on=_flag(frame, "on"))
    if user or verb != "TOPIC":
        _user(user)
    rank = _word(headers.get("rank", "")) if "rank" in headers or verb == "RANK" else ""
    if verb not in ("JOINED", "TOPIC", "INVITED"):
        return Event(verb, room, user, by, None, reason=_line(frame.body or ""), rank=rank)
    return Event(
        verb,
        room,
        user,
        by,
        None if frame.body is None else _line(frame.body),
        rank=rank,
        modes=_modes(frame),
        operators=tuple(map(_user, headers.get("operators", "").split())),
    )


def _modes(frame: Frame) -> tuple[str, ...]:
    return tuple(map(_word, frame.headers.get("modes", "").split()))


def seen(line: str) -> Seen:
    """Parse a line of WHO or PRESENCE."""
    user, _, rest = line.partition(" ")
    rank = _RANKS.get(user[:1], "")
    user, mark, identity = user[1 if rank else 0 :].partition("!")
    state, _, why = rest.partition(" ")
    known = identity[:MAX_IDENTITY] if mark else None
    return Seen(_user(user), _state(state), _line(why), rank, known)


def _state(word: str) -> State:
    try:
        return State(word or State.HERE.value)
    except ValueError:  # a state that only a newer server knows
        return State.HERE


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


def marker(line: str) -> Marker:
    """Parse a line of READ."""
    match = _MARKER_LINE.match(line)
    if match is None:
        raise HeaderIncomplete("a line of READ that is none")
    return Marker(_conversation(match[1]), int(match[2]), int(match[3] or 0))


def found(frame: Frame, messages: list[Received]) -> Found:
    """Parse the end of the answer to HISTORY, SEARCH or ACCOUNT messages."""
    total = frame.number("total") if "total" in frame.headers else None
    more = frame.headers.get("more", "")
    after = frame.number("more") if frame.verb == "ACCOUNT" and more else 0
    return Found(messages, bool(more), total, after)


def profile(frame: Frame) -> Profile:
    """Parse the answer to WHOIS."""
    headers = frame.headers
    return Profile(
        _user(frame.argument),
        _flag(frame, "account"),
        "operator" in headers and _flag(frame, "operator"),
        headers.get("since", ""),
        _state(headers.get("state", "")),
        tuple(map(_room, headers.get("rooms", "").split())),
        _line(frame.body or ""),
        _line(headers.get("real-name", "")),
        "bot" in headers and _flag(frame, "bot"),
    )


def done(frame: Frame) -> Done:
    """Parse the answer to a request that changes an account, a status or a sanction."""
    return Done(frame.argument, tuple(lines(frame)))
