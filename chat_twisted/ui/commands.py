"""Parses the lines that a user types.

A line is a message, a switch to another conversation, or a command. ``COMMANDS`` is the one table
for parsing, help, completion and the man page. This module must not know a terminal or a
connection.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from chat_twisted.core.message import USER_NAME, fold
from chat_twisted.ui.suggestions import nearest
from chat_twisted.ui.when import NoTimeError, take_span

FORMAT_HELP = """\
Use the following format for sending messages:
@[RECIPIENT NAME]: Message
"""

HISTORY_COUNT = 20

ALL = "ALL"
"""The conversation of all users."""


class Names(Protocol):
    """The names that a terminal knows."""

    def names(self) -> Iterable[str]:
        """Return the names of the other users who are present."""

    def rooms(self) -> Iterable[str]:
        """Return the names of all known rooms."""


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message to a user, a room or ALL.

    :ivar kind: ``text`` or ``action``.
    """

    to: str
    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class SwitchTo:
    """Switch to another conversation: ``bob``, ``#dev`` or ``ALL``."""

    to: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The arguments of ``/history`` and ``/search``.

    :ivar words: the query of ``/search``, in the server's syntax; empty for ``/history``.
    :ivar place: a room, ``ALL`` or the other user of a direct conversation; empty for ``/search``
        in all conversations.
    :ivar author: the user whose messages are searched; empty for all users.
    :ivar since: the earliest time, inclusive; None without one.
    :ivar until: the latest time, inclusive.
    :ivar count: the maximum number of messages; None for the usual one.
    """

    words: str = ""
    place: str = ""
    author: str = ""
    since: datetime | None = None
    until: datetime | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command of ``COMMANDS``, with its arguments; None for an omitted one.

    :ivar room: the room in which the command acts, for a command that can act in one.
    :ivar reading: the arguments of ``/history`` and ``/search``; None for other commands.
    """

    name: str
    first: str | None = None
    second: str | None = None
    room: str | None = None
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """The line has no meaning. ``text`` explains why, and shows a correct line."""

    text: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The line may be meant for another conversation than the current one.

    :ivar text: a sentence that explains both offers.
    :ivar here: what the unchanged line means if the user sends it once more.
    :ivar there: a line that means the other conversation.
    """

    text: str
    here: Say
    there: str


ParsedLine = Say | SwitchTo | Command | Mistake | Offer


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """The syntax and description of a command.

    :ivar pattern: a regular expression for its arguments, with at most two groups, and perhaps a
        group named ``room`` for a room that may be omitted.
    :ivar usage: its arguments, for the help.
    :ivar what: its effect in one line, for the help.
    :ivar topic: one of ``TOPICS``.
    :ivar completes: the kinds of each argument, separated by ``|``: ``ROOM``, ``USER``,
        ``CONVERSATION`` (a room or a user), ``FILE``, ``TOPIC``, or an allowed word.
    :ivar aliases: other names of the command.
    :ivar screen: whether it works only on a terminal.
    :ivar needs_room: whether it needs a room: the one that was typed, or else the current
        conversation.
    :ivar here: whether its first argument, if it is omitted, is the current room.
    """

    pattern: str
    usage: str
    what: str
    topic: str
    completes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    screen: bool = False
    needs_room: bool = False
    here: bool = False


TOPICS = {
    "talking": "messages, and who is here",
    "rooms": "conversations of several users",
    "reading": "earlier messages",
    "view": "what a terminal shows",
    "account": "keep your name, and prove that it is yours",
    "operators": "for operators, of a room or of the server",
    "program": "this program",
}

_ROOM = r"(#\S+)"
_USER = r"@?([^\s#@]\S*)"
_NAME = f"@?({USER_NAME})"
_TO = r"@?([^\s:]+):?"
_MUTED = r"@?([^\s@]\S*)"
_NUMBER = r"([0-9]{1,18})"
_SWITCH = r"(on|off)?"
_IN_ROOM = r"(?:(?P<room>#\S+)\s+)?"
_MODES = "private|moderated|topic"


def _rank_command(what: str) -> CommandSpec:
    return CommandSpec(
        _IN_ROOM + _USER,
        "[#room] name",
        what,
        "operators",
        ("CONVERSATION", "USER"),
        needs_room=True,
    )


COMMANDS = {
    "/msg": CommandSpec(
        rf"{_TO}(?:\s+(.+))?",
        "name|#room [text]",
        "send it there, or turn to them",
        "talking",
        ("CONVERSATION",),
        ("/query", "/q", "/m", "/dm"),
    ),
    "/me": CommandSpec(r"(.+)", "text", "say what you do", "talking", screen=True),
    "/say": CommandSpec(r"(.+)", "text", "say it here, whatever it is", "talking", screen=True),
    "/who": CommandSpec(
        r"(#\S+|ALL)?",
        "[#room|ALL]",
        "list the users here, or in a room",
        "talking",
        ("ROOM",),
        ("/names", "/n", "/w"),
        here=True,
    ),
    "/whois": CommandSpec(
        rf"(?:{_NAME})?", "name", "tell about a user", "talking", ("USER",), ("/wi",), screen=True
    ),
    "/away": CommandSpec(r"(.+)?", "[why]", "tell others that you are away", "talking"),
    "/back": CommandSpec("", "", "tell others that you are back", "talking"),
    "/ignore": CommandSpec(
        rf"(?:{_NAME})?", "[name]", "hide the messages of a user", "talking", ("USER",)
    ),
    "/unignore": CommandSpec(_NAME, "name", "show them again", "talking", ("USER",)),
    "/nick": CommandSpec(r"(\S+)", "name", "change your name, as a guest", "talking"),
    "/delete": CommandSpec(
        rf"{_NUMBER}?",
        "[number]",
        "delete a message; your last one here",
        "talking",
    ),
    "/again": CommandSpec("", "", "send refused messages again", "talking", screen=True),
    "/drop": CommandSpec("", "", "forget refused messages", "talking", screen=True),
    "/unread": CommandSpec("", "", "list the unread messages", "talking", screen=True),
    "/rooms": CommandSpec("", "", "list the rooms", "rooms", aliases=("/list",)),
    "/join": CommandSpec(
        r"(\S+)(?:\s+(private))?",
        "#room [private]",
        "join a room; create it if needed",
        "rooms",
        ("ROOM", "private"),
        ("/j",),
    ),
    "/leave": CommandSpec(
        rf"(?:{_ROOM}(?:\s+|\Z))?(.+)?",
        "[#room] [reason]",
        "leave a room",
        "rooms",
        ("ROOM",),
        ("/part", "/p"),
        needs_room=True,
        here=True,
    ),
    "/topic": CommandSpec(
        rf"(?:{_ROOM}(?:\s+|\Z))?(.+)?",
        "[#room] [text]",
        "show or set the topic of a room",
        "rooms",
        ("ROOM",),
        ("/t",),
        needs_room=True,
        here=True,
    ),
    "/invite": CommandSpec(
        rf"{_ROOM}\s+@?(\S+)",
        "#room name",
        "invite a user to a private room",
        "rooms",
        ("ROOM", "USER"),
    ),
    "/history": CommandSpec(
        r"(.+)?",
        "[#room|@user] [since|before time] [n]",
        f"the last n messages ({HISTORY_COUNT}) there",
        "reading",
        ("CONVERSATION",),
    ),
    "/search": CommandSpec(
        r"(.+)",
        "words [#room] [@author] [since|before time]",
        "messages with all these words",
        "reading",
    ),
    "/more": CommandSpec("", "", "go on with older ones", "reading", screen=True),
    "/view": CommandSpec(
        r"(all|current)?",
        "[all|current]",
        "show all conversations, or one",
        "view",
        ("all|current",),
        screen=True,
    ),
    "/hide": CommandSpec(
        r"(joins)?", "[joins]", "hide who comes and goes", "view", ("joins",), screen=True
    ),
    "/unhide": CommandSpec(r"(joins)", "joins", "show it again", "view", ("joins",), screen=True),
    "/highlight": CommandSpec(
        r"(\S.*)?",
        "[word]",
        "mark messages with a word, as your name",
        "view",
        aliases=("/hilight",),
        screen=True,
    ),
    "/unhighlight": CommandSpec(
        r"(\S.*)", "word", "end that", "view", aliases=("/dehilight",), screen=True
    ),
    "/numbers": CommandSpec(
        _SWITCH, "[on|off]", "show the numbers of messages", "view", ("on|off",), screen=True
    ),
    "/show": CommandSpec(_NUMBER, "number", "show all of a long message", "view", screen=True),
    "/clear": CommandSpec("", "", "clear the screen", "view", screen=True),
    "/register": CommandSpec("", "", "keep your name: tie it to your key", "account"),
    "/password": CommandSpec("", "", "set a password too; you are asked for it", "account"),
    "/keys": CommandSpec(
        r"(?:(add|remove)\s+(.+))?",
        "[add FILE|remove KEY]",
        "list, add or remove keys of your account",
        "account",
        ("add|remove", "FILE"),
    ),
    "/account": CommandSpec(
        r"(unregister(?=\Z|\s+erase\Z)|export(?=\s))(?:\s+(.+))?",
        "unregister [erase]|export FILE",
        "give it up; save all your messages",
        "account",
        ("unregister|export", "erase|FILE"),
    ),
    "/op": _rank_command("make a member an operator of the room"),
    "/deop": _rank_command("end that"),
    "/voice": _rank_command("let a member speak in a moderated room"),
    "/devoice": _rank_command("end that"),
    "/mode": CommandSpec(
        rf"(?:(?P<room>#\S+)(?:\s+|\Z))?(?:({_MODES})(?:\s+(on|off))?)?",
        f"[#room] [{_MODES} [on|off]]",
        "show or set room modes",
        "operators",
        (f"ROOM|{_MODES}", f"{_MODES}|on|off", "on|off"),
        needs_room=True,
    ),
    "/kick": CommandSpec(
        rf"{_IN_ROOM}{_USER}(?:\s+(.+))?",
        "[#room] name [reason]",
        "remove from a room or the server",
        "operators",
        ("CONVERSATION", "USER"),
        ("/k",),
    ),
    "/ban": CommandSpec(
        rf"{_IN_ROOM}{_USER}(?:\s+(.+))?",
        "[#room] name|address|network [2h] [reason]",
        "keep out of room or server",
        "operators",
        ("CONVERSATION", "USER"),
    ),
    "/bans": CommandSpec(
        r"(?P<room>#\S+)?",
        "[#room]",
        "list the bans of a room, or all others",
        "operators",
        ("ROOM",),
    ),
    "/unban": CommandSpec(
        _IN_ROOM + _USER,
        "[#room] name|address|network",
        "end a ban",
        "operators",
        ("CONVERSATION", "USER"),
    ),
    "/mute": CommandSpec(
        rf"{_MUTED}(?:\s+(.+))?",
        "name|#room|ALL [10m] [reason]",
        "forbid a user to write; hide #room or ALL",
        "operators",
        ("CONVERSATION",),
    ),
    "/unmute": CommandSpec(_MUTED, "name|#room|ALL", "end that", "operators", ("CONVERSATION",)),
    "/bell": CommandSpec(
        _SWITCH, "[on|off]", "ring for messages to you", "program", ("on|off",), screen=True
    ),
    "/notify": CommandSpec(
        _SWITCH,
        "[on|off]",
        "show them as desktop notifications",
        "program",
        ("on|off",),
        screen=True,
    ),
    "/help": CommandSpec(r"/?(\w+)?", "[topic]", "this text", "program", ("TOPIC",)),
    "/quit": CommandSpec(
        "", "", "leave; so does the end of input", "program", aliases=("/exit", "/bye")
    ),
}

ALIASES = {alias: name for name, form in COMMANDS.items() for alias in form.aliases}
"""The command that each alias stands for."""

_OLD_NAMES = {"/unregister": "/account unregister"}
"""Commands that had another name, which scripts may still use."""

_MESSAGE = re.compile(r"@([^:]*):(.*)|(#[\w-]+)\s*:(.*)", re.DOTALL)
_NO_COLON = re.compile(rf"@({USER_NAME})(?![\w-])[,;.!?]*\s+(\S.*)", re.DOTALL)
_ROOM_NO_COLON = re.compile(r"(#[\w-]+)\s+(\S.*)", re.DOTALL)
_TURN = re.compile(r"@([A-Za-z0-9][\w-]*)|(#[\w-]+)")
_IS_NAME = re.compile(USER_NAME)
_IS_ROOM = re.compile(r"#[A-Za-z0-9_-]{1,32}")
_IS_PATH = re.compile(r"(/[^/\s]+)/\S*(?:\s.*)?", re.DOTALL)
_DURATION = re.compile(r"([0-9]{1,9}[smhd])(?:\s+|\Z)")


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
    if name == "/ban" and command.room is not None and _DURATION.match(command.second or ""):
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


# The help

_OVERVIEW = (
    ("hello", "to the conversation that the prompt names"),
    ("@bob: hello", "to bob"),
    ("#dev: hello", "to a room"),
    ("@ALL: hello", "to everybody"),
    ("@bob", "alone: the next lines are for bob"),
    ("#dev", "alone: the next lines are for the room"),
    ("//x", "says /x"),
    ("Tab", "completes names, rooms and commands"),
    ("Up, Ctrl-R", "find what you typed"),
)


def help_text(topic: str | None = None, *, screen: bool = False, width: int = 80) -> str:
    """Return the help: all of it, or of one of ``TOPICS``, or of one command; on a terminal, an
    overview by default.

    :param width: every line is shorter than this.
    """
    if topic is not None and topic not in TOPICS:
        return _help_of_command(topic, screen, width)
    if topic is None and screen:
        topics = [(f"/help {name}", TOPICS[name]) for name in TOPICS]
        return "\n".join(_row(left, right, 16, width) for left, right in (*_OVERVIEW, *topics))
    parts = [_help_of(name, screen, width) for name in ([topic] if topic else TOPICS)]
    head = (
        "" if topic else FORMAT_HELP + "@ALL: Message    to everybody\n#room: Message   to a room\n"
    )
    return head + "\n".join(part for part in parts if part)


def _help_of(topic: str, screen: bool, width: int) -> str:
    lines = []
    for name, form in COMMANDS.items():
        if form.topic == topic and (screen or not form.screen):
            lines.append(_line_of(name, width))
    return "\n".join(lines)


def _help_of_command(word: str, screen: bool, width: int) -> str:
    name = f"/{word.lower()}"
    name = ALIASES.get(name, name)
    names = list(command_names(screen=screen))
    if name in names:
        also = ", ".join(COMMANDS[name].aliases)
        return _line_of(name, width) + (f"\nalso {also}" if also else "")
    meant = nearest(word, [*TOPICS, *(known[1:] for known in names)])
    question = f"; did you mean {meant}?" if meant else ""
    text = f"No such topic: {word}{question} There are: {', '.join(TOPICS)}"
    return textwrap.fill(text, width - 1) if width < 80 else text


def _line_of(name: str, width: int) -> str:
    form = COMMANDS[name]
    return _row(f"{name} {form.usage}".rstrip(), form.what, 32, width)


def _row(left: str, right: str, column: int, width: int) -> str:
    """Lay out two texts beside each other, or below each other where the second would be narrow."""
    if len(left) <= column and (column + len(right) + 1 < width or column < width / 2):
        lines, indent = [], " " * (column + 1)
        first = f"{left:{column}} "
    else:
        lines = textwrap.wrap(left, width - 1, subsequent_indent="  ", break_long_words=False)
        first = indent = "    "
    wrapped = textwrap.wrap(right, width - 1, initial_indent=first, subsequent_indent=indent)
    return "\n".join([*lines, *wrapped])


def command_names(*, screen: bool) -> Iterator[str]:
    """Return the names of all commands that are available; ``screen`` means on a terminal."""
    return (name for name, form in COMMANDS.items() if screen or not form.screen)


def split_duration(text: str) -> tuple[str, str]:
    """Split the duration of a ban or mute, which may be missing, from the reason behind it."""
    duration = _DURATION.match(text)
    return (duration[1], text[duration.end() :]) if duration else ("", text)
