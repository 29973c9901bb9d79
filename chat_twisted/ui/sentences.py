"""Explains a refusal in a sentence: what is wrong, until when, and what to do instead.

The server gives a code and perhaps more (docs/protocol.rst, Errors); the rest follows from what the
user asked for. The sentences quote texts of users: the caller must make them printable. This module
must not know when or where a sentence is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from chat_twisted.core.message import USER_NAME, fold
from chat_twisted.ui.commands import ALL, Command, Names, Say
from chat_twisted.ui.suggestions import nearest
from chat_twisted.ui.values import Refusal

MAX_NAME = 32
MAX_TOPIC = 400
MAX_AWAY = 200
MAX_QUERY = 500
"""The server's limits, in characters (docs/protocol.rst)."""

MAX_REASON = 200
MAX_PASSWORD = 1024
"""The server's limits, in bytes."""

_ROOM_NAME = re.compile(r"#[A-Za-z0-9_-]{1,32}")


# Names


def name_rule(name: str) -> str:
    """Return the rule that a user's name breaks, as a sentence; empty if it breaks none."""
    if fold(name) == "all":
        return "ALL means everybody; nobody can have that name"
    if re.fullmatch(USER_NAME, name):
        return ""
    if not name:
        return "A name has at least one character"
    if len(name) > MAX_NAME:
        return f"A name has at most {MAX_NAME} characters; this one has {len(name)}"
    bad = next((c for c in name if not re.fullmatch("[A-Za-z0-9_-]", c)), "")
    if bad:
        shown = f"U+{ord(bad):04X}" if bad.isspace() or not bad.isprintable() else bad
        return f"A name has only letters (a to z), digits, _ and -; not {shown}"
    return f"A name begins with a letter or a digit, not with {name[0]}"


def other_name(name: str, taken: Iterable[str] = ()) -> str:
    """Return a valid name that is like another one and is not known to be taken.

    :param taken: names that are known to be taken, beside ``name``.
    """
    name = re.sub("[^A-Za-z0-9_-]", "", name).lstrip("_-") or "guest"
    used = {fold(name), *map(fold, taken)}
    endings = ["_", *map(str, range(2, len(used) + 3))]
    names = (name[: MAX_NAME - len(ending)] + ending for ending in endings)
    return next(other for other in names if fold(other) not in used)


# Times


def _describe_until(until: str, now: datetime) -> str:
    """Describe the end of something, as the server writes it; empty if it is not known.

    :param now: an aware time, or a naive one in the zone of this machine.
    """
    if until == "ever":
        return " for ever"
    try:
        end = datetime.fromisoformat(until).astimezone(now.tzinfo)
    except (ValueError, OverflowError, OSError):
        return ""
    if end.date() == now.date():
        return f" until {end:%H:%M}"
    if end.date() == now.date() + timedelta(1):
        return f" until tomorrow {end:%H:%M}"
    return f" until {end:%Y-%m-%d %H:%M}"


# Refusals


def explain_login(
    refusal: Refusal,
    name: str,
    taken: Collection[str] = (),
    now: Callable[[], datetime] = datetime.now,
) -> str:
    """Explain in a sentence why a login was refused.

    :param name: the name under which the user wanted to log in.
    :param taken: other names that are known to be taken.
    :param now: returns the time of day, as in ``parsing.parse``.
    """
    match refusal.code:
        case 100:
            return name_rule(name) or f"Nobody can be called {name} on this server"
        case 105:
            return _taken(refusal, name, taken, now)
        case 106:
            return f"{name} belongs to an account; its key or password is needed"
        case 107:
            return f"That is not the key or the password of {name}"
        case 111 if refusal.until:
            return _sanction(refusal, f"{name} is banned here", now)
        case 111:
            return _with_why(refusal, f"{name} may not log in here")
        case 112:
            return _with_why(refusal, "The server can't take anybody now; try again later")
        case 113:
            return "The server wants an encrypted connection: leave out --plain"
    return _with_why(refusal, f"The server refuses the login ({refusal.code} {refusal.reason})")


def explain(
    refusal: Refusal,
    asked: Say | Command,
    *,
    known: Names | None = None,
    member: bool | None = None,
    max_message: int = 0,
    now: Callable[[], datetime] = datetime.now,
) -> str:
    """Explain in a sentence why a message or a command was refused.

    :param known: known names, for "did you mean".
    :param member: whether the user is in the room that was asked for; None if it is not known.
    :param max_message: maximum length of a text in bytes; 0 if it is not known.
    :param now: returns the time of day, as in ``parsing.parse``.
    """
    first = asked.first or "" if isinstance(asked, Command) else asked.to
    match refusal.code:
        case 100:
            return name_rule(first) or f"Nobody can be called {first} on this server"
        case 102:
            return _nobody(asked, first, known)
        case 103:
            return "The server can't read that: it is too long, or has a character that can't be"
        case 104:
            subject = asked.name if isinstance(asked, Command) else "messages like this"
            return f"This server does not know {subject}; it may be an older one"
        case 105:
            return _taken(refusal, first, known.names() if known else (), now)
        case 106:
            return f"{first} belongs to an account; log in to it with its key or password"
        case 107:
            return "That is not the right key or password"
        case 108:
            return _too_long(asked, max_message)
        case 109:
            return "That was too much at once; wait a moment"
        case 110:
            return _no_room(asked, known)
        case 111 if refusal.until:
            if isinstance(asked, Command) and asked.name == "/nick":
                return _sanction(refusal, f"You are muted, or {first} is banned,", now)
            room = room_of(asked)
            what = f"You are muted, or banned from {room}," if room else "You are muted"
            return _sanction(refusal, what, now)
        case 111 | 112 if refusal.why:
            return f"{refusal.why[0].upper()}{refusal.why[1:]}"
        case 111:
            return _not_permitted(asked, member)
        case 112:
            return "The server can't do that now; try again later"
        case 113:
            return "The server does that only over an encrypted connection"
    return _with_why(refusal, refusal.reason)


def _with_why(refusal: Refusal, sentence: str) -> str:
    return f"{sentence}: {refusal.why}" if refusal.why else sentence


def _sanction(refusal: Refusal, what: str, now: Callable[[], datetime]) -> str:
    by = f" by {refusal.by}" if refusal.by else ""
    return _with_why(refusal, f"{what}{by}{_describe_until(refusal.until, now())}")


def _taken(refusal: Refusal, name: str, taken: Iterable[str], now: Callable[[], datetime]) -> str:
    until = _describe_until(refusal.until, now())
    state = f"is kept{until} for a guest who has left" if until else "is taken"
    return f"{name} {state}; {other_name(name, taken)} may be free"


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return a question for the end of a sentence about a word that is not known; or nothing."""
    meant = nearest(word, candidates)
    return f"; did you mean {meant}?" if meant and fold(meant) != fold(word) else ""


def _nobody(asked: Say | Command, name: str, known: Names | None) -> str:
    if name == ALL and isinstance(asked, Say):
        return "Nobody else is here"
    if isinstance(asked, Command) and asked.name == "/invite":
        name = asked.second or ""
    if rule := name_rule(name):
        return rule
    return f"There is no {name} here{did_you_mean(name, known.names() if known else ())}"


def room_of(asked: Say | Command) -> str:
    """Return the room that a message or a command is for, or an empty text."""
    if isinstance(asked, Say):
        return asked.to if asked.to.startswith("#") else ""
    if asked.reading is not None:
        return asked.reading.place if asked.reading.place.startswith("#") else ""
    room = asked.room or asked.first or ""
    return f"#{room.removeprefix('#')}" if asked.name == "/join" or room[:1] == "#" else ""


def _no_room(asked: Say | Command, known: Names | None) -> str:
    room = room_of(asked)
    if not _ROOM_NAME.fullmatch(room):
        return f"A room is # and 1 to {MAX_NAME} letters (a to z), digits, _ and -"
    meant = did_you_mean(room, known.rooms() if known else ())
    if isinstance(asked, Command) and asked.name == "/search":
        meant = meant or f'. To search for the word: "{room}"'
    return f"There is no room {room}{meant or f' (/join {room} makes one)'}"


def _too_long(asked: Say | Command, max_message: int) -> str:
    text = asked.text if isinstance(asked, Say) else asked.second or asked.first or ""
    most = f"; at most {max_message:,} are possible" if max_message else ""
    return f"The text has {len(text.encode(errors='replace')):,} bytes{most}"


def _not_permitted(asked: Say | Command, member: bool | None) -> str:
    room = room_of(asked)
    if isinstance(asked, Say):
        if not room:
            return f"You may not write to {asked.to}"
        reason = f"it is moderated (an operator can /voice you), or your name is banned from {room}"
        if member:
            return f"You may not write in {room}: {reason}"
        return _not_in(room) if member is False else f"You are not in {room}, or {reason}"
    return _long_argument(asked) or _not_allowed(asked, room, member)


def _not_in(room: str) -> str:
    return f"You are not in {room} (/join {room})"


def _long_argument(command: Command) -> str:
    """Return which argument of a command is longer than the server permits, or an empty text."""
    first, second = command.first or "", command.second or ""
    match command.name:
        case "/topic":
            return _longer("topic", second, MAX_TOPIC, "characters")
        case "/away":
            return _longer("text", first, MAX_AWAY, "characters")
        case "/search" if command.reading is not None:
            return _longer("search", command.reading.words, MAX_QUERY, "characters")
        case "/kick" | "/ban" | "/mute" | "/leave":
            return _longer("reason", second, MAX_REASON, "bytes")
    return ""


def _longer(what: str, text: str, most: int, unit: str) -> str:
    if len(text.splitlines()) > 1 and what != "search":
        return f"A {what} is one line"
    length = len(text) if unit == "characters" else len(text.encode(errors="replace"))
    return f"The {what} has {length} {unit}; at most {most} are possible" if length > most else ""


def _not_allowed(command: Command, room: str, member: bool | None) -> str:
    if member is False and room and command.name != "/join":
        return _not_in(room)
    in_charge = f"Only operators of {room} can do that" if room else ""
    match command.name:
        case "/join":
            return (
                f"{room} is private (a member can /invite you), your name is banned from it, "
                "or you are in too many rooms"
            )
        case "/topic" if room and command.second is not None:
            return f"Only members of {room} can set its topic; if it is locked, only its operators"
        case "/leave" | "/topic" | "/history" | "/search" | "/who" if room:
            return _not_in(room)
        case "/invite" if room:
            return f"{command.second} is in {room} already, or only its operators can invite to it"
        case "/op" | "/deop" | "/voice" | "/devoice" if room:
            return f"{in_charge}, for members; and one operator must stay"
        case "/unban" if room:
            return f"{in_charge}, or {command.first} is not banned from it"
        case "/kick" if room:
            return f"{in_charge}, or {command.first} is not in it"
        case _ if room:
            return in_charge
        case "/unban" | "/unmute":
            return "Only operators of the server can do that, or there is no such ban or mute"
        case "/kick" | "/ban" | "/bans" | "/mute":
            return "Only operators of the server can do that, and for a name, address or network"
        case "/delete":
            return "You can delete your own messages for an hour; others only operators can delete"
        case "/nick":
            return "A name with an account stays, and so does one that is banned from your rooms"
        case "/register":
            return "The name has an account already, or your key is of a kind that can't be used"
        case "/password":
            return f"A password has 1 to {MAX_PASSWORD} bytes, and needs an account (/register)"
        case "/keys" if command.first == "add":
            return "That is no public key, the account has too many, or there is none (/register)"
        case "/keys" if command.first == "remove":
            return "There is no such key (/keys lists them), or it is the last way into the account"
        case "/account" | "/keys":
            return "You have no account (/register), or are not logged in to it"
    return f"You may not do that: {command.name}"
