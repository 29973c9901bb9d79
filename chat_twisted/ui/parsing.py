"""Parses the lines that a user types.

This module must not know a terminal or a connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from chat_twisted.core.message import USER_NAME, fold
from chat_twisted.ui.commands import (
    ALIASES,
    ALL,
    COMMANDS,
    FORMAT_HELP,
    Command,
    Mistake,
    Names,
    Offer,
    ParsedLine,
    Reading,
    Say,
    SwitchTo,
    command_names,
    split_duration,
)
from chat_twisted.ui.suggestions import nearest
from chat_twisted.ui.when import NoTimeError, take_span

_OLD_NAMES = {"/unregister": "/account unregister"}
"""Commands that had another name, which scripts may still use."""

_MESSAGE = re.compile(r"@([^:]*):(.*)|(#[\w-]+)\s*:(.*)", re.DOTALL)
_NO_COLON = re.compile(rf"@({USER_NAME})(?![\w-])[,;.!?]*\s+(\S.*)", re.DOTALL)
_ROOM_NO_COLON = re.compile(r"(#[\w-]+)\s+(\S.*)", re.DOTALL)
_TURN = re.compile(r"@([A-Za-z0-9][\w-]*)|(#[\w-]+)")
_IS_NAME = re.compile(USER_NAME)
_IS_ROOM = re.compile(r"#[A-Za-z0-9_-]{1,32}")
_IS_PATH = re.compile(r"(/[^/\s]+)/\S*(?:\s.*)?", re.DOTALL)


def parse(
    line: str,
    current: str | None = None,
    *,
    known: Names | None = None,
    now: Callable[[], datetime] = datetime.now,
) -> ParsedLine | None:
    """Parse a typed line; return None if it is blank.

    :param current: on a terminal, the conversation that receives a line without an address. There
        and only there the result may be a ``SwitchTo`` or an ``Offer``.
    :param known: the names that a terminal knows.
    :param now: returns the time of day to which typed times are relative, see ``when.parse_span``.
    """
    text = line.strip()
    if not text:
        return None
    if current is not None:
        return _parse_on_terminal(_tidy(line), current, known, now)
    if message := _MESSAGE.fullmatch(text):
        to, said = message.group(1, 2) if message[3] is None else message.group(3, 4)
        to, said = to.strip(), said.strip()
        return Say(to, said) if to and said else Mistake(FORMAT_HELP)
    return _parse_command(text, None, None, now)


def _tidy(text: str, *, addressed: bool = False) -> str:
    """Remove white space around a text, but keep the indentation of the first of several lines.

    :param addressed: whether the text begins behind an address in the same line.
    """
    text = text.rstrip()
    if blank := re.match(r"(?:[^\S\n]*\n)+", text):
        text, addressed = text[blank.end() :], False
    return text if "\n" in text and not addressed else text.lstrip()


def _parse_on_terminal(
    line: str, current: str, known: Names | None, now: Callable[[], datetime]
) -> ParsedLine:
    text = line.strip()
    if message := _MESSAGE.fullmatch(text):
        to, said = message.group(1, 2) if message[3] is None else message.group(3, 4)
        to, said = to.strip(), _tidy(said, addressed=True)
        # otherwise the line mentions somebody but is not addressed to them
        if not re.search(r"\s", to):
            if not to:
                return Mistake("To whom? @bob: hello")
            if to.startswith("#") and not _is_known(to, known):
                return _not_a_room(line, to, said, current, known)
            return Say(to, said) if said else SwitchTo(to)
    if turn := _TURN.fullmatch(text):
        to = turn[1] or turn[2]
        if _is_number(to) and not _is_known(to, known):
            return Say(current, text)
        return SwitchTo(to)
    if mention := _NO_COLON.fullmatch(text):
        return _offer(line, mention[1], mention[2], current)
    if (mention := _ROOM_NO_COLON.fullmatch(text)) and known and _is_known(mention[1], known):
        return _offer(line, mention[1], mention[2], current)
    if not text.startswith("/"):
        return Say(current, line)
    if text.startswith("//"):
        return Say(current, text.removeprefix("/"))
    path = _IS_PATH.fullmatch(text)
    if path and path[1].lower() not in COMMANDS and path[1].lower() not in ALIASES:
        return Say(current, text)
    return _parse_command(text, current, known, now)


def _is_known(room: str, known: Names | None) -> bool:
    """Return whether there is a room of that name, as far as it is known."""
    return known is None or fold(room) in map(fold, known.rooms())


def _is_number(room: str) -> bool:
    """Return whether a name with ``#`` is rather the number of something."""
    return room.startswith("#") and room[1:].isdecimal()


def _not_a_room(
    line: str, room: str, said: str, current: str, known: Names | None
) -> Say | SwitchTo | Offer:
    """Parse a line that begins as if it were for a room that does not exist."""
    if _is_number(room):
        return Say(current, line)
    if not said:
        return SwitchTo(room)
    meant = nearest(room, known.rooms()) if known else ""
    here = f"Enter once more says it {_where(current)}"
    if not meant:
        return Offer(f"There is no room {room}. {here}", Say(current, line), line)
    there = f"{meant}: {said}"
    text = f"There is no room {room}. Tab makes it {meant}: ...; {here[0].lower()}{here[1:]}"
    return Offer(text, Say(current, line), there)


def _offer(line: str, to: str, said: str, current: str) -> Say | Offer:
    """Ask about a line that begins with a name, but has no colon behind it."""
    if fold(to) == fold(current):
        return Say(current, line)
    address = to if to.startswith("#") else f"@{to}"
    text = f"Enter once more says it {_where(current)}; Tab makes it {address}: ..., for {to} only"
    return Offer(text, Say(current, line), f"{address}: {said}")


def _where(current: str) -> str:
    if current == ALL:
        return "here, to everybody"
    return f"in {current}" if current.startswith("#") else f"to {current}"


def _parse_command(
    text: str, current: str | None, known: Names | None, now: Callable[[], datetime]
) -> ParsedLine:
    name, *rest = _OLD_NAMES.get(text.lower(), text).split(None, 1)
    if not name.startswith("/"):
        return Mistake(FORMAT_HELP)
    typed, name = name, ALIASES.get(name.lower(), name.lower())
    form = COMMANDS.get(name)
    if form is None:
        return Mistake(_unknown_command(typed, screen=current is not None))
    if form.screen and current is None:
        return Mistake(f"{name} is for a terminal (/help)")
    usage = Mistake(f"Usage: {name} {form.usage}".rstrip())
    match = re.fullmatch(form.pattern, rest[0] if rest else "", re.DOTALL)
    if not match:
        return usage
    named = match.groupdict()
    groups = match.groups()[1 if named else 0 :]  # the room comes first
    first, second, *_ = (*groups, None, None)
    room = current if current is not None and current.startswith("#") else None
    match name:
        case "/msg":
            return _parse_msg(first or "", second, current)
        case "/me" | "/say":
            return Say(current or "", first or "", "action" if name == "/me" else "text")
        case "/history" | "/search":
            try:
                return _parse_reading(name, first or "", current, known, now)
            except _ReadingError as error:
                return Mistake(str(error)) if str(error) else usage
        case "/whois" if first is None:
            if current is None or current == ALL or room:
                return usage
            first = current
        case "/mute" | "/unmute" if first and (first.startswith("#") or fold(first) == "all"):
            if current is None:
                return Mistake(f"{name} of a conversation is for a terminal (/help)")
            return usage if second else Command(name, first if first[0] == "#" else ALL)
        case "/leave" if first is None and second and known and not re.search(r"\s", second):
            if _is_known(f"#{second}", known):
                return Mistake(f"Do you mean /leave #{second}? A reason alone has several words")
    if form.here and first is None:
        first = room
    elif name == "/who" and first == ALL:
        first = None
    command = Command(name, first, second, named.get("room"))
    if named and command.room is None and room is not None:
        command = _in_room(command, room)
    if form.needs_room and (command.first if form.here else command.room) is None:
        return Mistake(f"Which room? {name} {form.usage.replace('[#room]', '#room', 1)}")
    if name == "/ban" and command.room is not None and split_duration(command.second or "")[0]:
        return Mistake("A ban from a room lasts until /unban; it can't have a duration")
    return command


def _unknown_command(typed: str, *, screen: bool) -> str:
    names = list(command_names(screen=screen))
    meant = nearest(typed, [*names, *(name for name in ALIASES if ALIASES[name] in names)])
    question = f"; did you mean {meant}?" if meant else ""
    return f"No such command: {typed}{question} (/help)"


def _parse_msg(to: str, said: str | None, current: str | None) -> Say | SwitchTo | Mistake:
    if said:
        return Say(to, said)
    return Mistake(FORMAT_HELP) if current is None else SwitchTo(to)


def _in_room(command: Command, room: str) -> Command:
    """Let a command act in the current room, unless its subject is an address or a network."""
    if command.name in ("/kick", "/ban", "/unban") and not _IS_NAME.fullmatch(command.first or ""):
        return command
    return replace(command, room=room)


# The arguments of /history and /search

_WORD = re.compile(r'[^\s"]*"[^"]*"\S*|\S+')
_BOUNDS = ("since", "after", "before", "until")


class _ReadingError(Exception):
    """The arguments have no meaning. The text explains why; if it is empty, the usage does."""


def _parse_reading(
    name: str,
    text: str,
    current: str | None,
    known: Names | None,
    now: Callable[[], datetime],
) -> Command:
    """Parse the arguments of ``/history`` or ``/search``.

    :raises _ReadingError: if they have no meaning.
    """
    search = name == "/search"
    rest = _WORD.findall(text)
    said: list[str] = []
    place = author = ""
    since = until = count = None
    while rest:
        word = rest.pop(0)
        if word.lower() in _BOUNDS:
            start, end, used = _bound(word.lower(), rest, now, search=search)
            since, until = start or since, end or until
            del rest[:used]
        elif _is_place(word, known, search=search):
            if place:
                raise _ReadingError
            place = word.removeprefix("@")
            place = ALL if fold(place) == "all" else place
        elif search and word.startswith("@") and _IS_NAME.fullmatch(word[1:]):
            if author:
                raise _ReadingError("Only the messages of one author can be searched")
            author = word[1:]
        elif search:
            said.append(word)
        elif count is None and re.fullmatch("[0-9]{1,9}", word):
            count = int(word)
        else:
            raise _ReadingError
    if search and not said:
        raise _ReadingError
    if since and until and since > until:
        raise _ReadingError("That span of time ends before it begins")
    words = " ".join(said)
    given = place or None
    if not search:
        place = place or current or ALL
    reading = Reading(words, place, author, since, until, count)
    if search:
        return Command(name, words, reading=reading)
    return Command(name, given, None if count is None else str(count), reading=reading)


def _is_place(word: str, known: Names | None, *, search: bool) -> bool:
    if _IS_ROOM.fullmatch(word):
        return not (search and _is_number(word) and known and not _is_known(word, known))
    if search:
        return fold(word) == "@all"
    return re.fullmatch(r"[#@]\S+|[A-Za-z_#@-]\S*", word) is not None


def _bound(
    word: str, rest: list[str], now: Callable[[], datetime], *, search: bool
) -> tuple[datetime | None, datetime | None, int]:
    """Return the earliest and the latest time that the words behind a bound mean, and how many
    words they are.

    :raises _ReadingError: if they mean no time.
    """
    try:
        span, used = take_span(rest, now())
    except NoTimeError as error:
        quoted = f'. To search for the word: "{word}"' if search else ""
        raise _ReadingError(f"{error}{quoted}") from None
    last = timedelta(milliseconds=1)
    match word:
        case "since":
            return span.start, None, used
        case "after":
            return span.end, None, used
        case "before":
            return None, span.start - last, used
    return None, span.end - last, used
