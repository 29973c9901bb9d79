"""Parses the lines that a user types, and makes requests of commands.

A line is a message, a switch to another conversation, or a command. ``COMMANDS`` is the one table
for parsing, help, completion and the man page. This module must not know a terminal or a
connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from chat_twisted.core.message import USER_NAME

FORMAT_HELP = """\
Use the following format for sending messages:
@[RECIPIENT NAME]: Message
"""

HISTORY_COUNT = 20


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message to a user, a room or ALL."""

    to: str
    text: str


@dataclass(frozen=True, slots=True)
class SwitchTo:
    """Switch to another conversation: ``bob``, ``#dev`` or ``ALL``."""

    to: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command of ``COMMANDS``, with its arguments; None for an omitted one.

    :ivar room: the room in which the command acts, for a command that can act in one.
    """

    name: str
    first: str | None = None
    second: str | None = None
    room: str | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """The line has no meaning. ``text`` explains why, and shows a correct line."""

    text: str


ParsedLine = Say | SwitchTo | Command | Mistake


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
    :ivar screen: whether it works only on a terminal.
    :ivar needs_room: whether it needs a room: the one that was typed, or else the current
        conversation.
    """

    pattern: str
    usage: str
    what: str
    topic: str
    completes: tuple[str, ...] = ()
    screen: bool = False
    needs_room: bool = False


TOPICS = {
    "talking": "messages, and who is here",
    "rooms": "conversations of several users",
    "reading": "earlier messages",
    "account": "keep your name, and prove that it is yours",
    "operators": "for operators, of a room or of the server",
    "program": "this program",
}

_ROOM = r"(#\S+)"
_USER = r"@?([^\s#@]\S*)"
_NAME = f"@?({USER_NAME})"
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
    "/who": CommandSpec(
        rf"{_ROOM}?", "[#room]", "list the users here, or in a room", "talking", ("ROOM",)
    ),
    "/away": CommandSpec(r"(.+)?", "[why]", "tell others that you are away", "talking"),
    "/back": CommandSpec("", "", "tell others that you are back", "talking"),
    "/ignore": CommandSpec(
        rf"(?:{_NAME})?", "[name]", "hide the messages of a user", "talking", ("USER",)
    ),
    "/unignore": CommandSpec(_NAME, "name", "show them again", "talking", ("USER",)),
    "/nick": CommandSpec(r"(\S+)", "name", "change your name, as a guest", "talking"),
    "/delete": CommandSpec(
        r"([0-9]{1,18})?",
        "[number]",
        "delete a message; your last one here",
        "talking",
    ),
    "/unread": CommandSpec("", "", "list the unread messages", "talking", screen=True),
    "/rooms": CommandSpec("", "", "list the rooms", "rooms"),
    "/join": CommandSpec(
        r"(\S+)(?:\s+(private))?",
        "#room [private]",
        "join a room; create it if needed",
        "rooms",
        ("ROOM", "private"),
    ),
    "/leave": CommandSpec(
        rf"{_ROOM}(?:\s+(.+))?", "#room [reason]", "leave a room", "rooms", ("ROOM",)
    ),
    "/topic": CommandSpec(
        rf"{_ROOM}(?:\s+(.+))?",
        "#room [text]",
        "show or set the topic of a room",
        "rooms",
        ("ROOM",),
    ),
    "/invite": CommandSpec(
        rf"{_ROOM}\s+@?(\S+)",
        "#room name",
        "invite a user to a private room",
        "rooms",
        ("ROOM", "USER"),
    ),
    "/history": CommandSpec(
        r"(?:([#@]?[A-Za-z_#@-]\S*))?\s*(\d{1,9})?",
        "[#room|@user] [n]",
        f"the last n messages ({HISTORY_COUNT}) there",
        "reading",
        ("CONVERSATION",),
    ),
    "/search": CommandSpec(r"(.+)", "words", "messages with all these words", "reading"),
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
        rf"{_USER}(?:\s+(.+))?",
        "name [10m] [reason]",
        "forbid a user to write, on the whole server",
        "operators",
        ("USER",),
    ),
    "/unmute": CommandSpec(_USER, "name", "allow it again", "operators", ("USER",)),
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
    "/quit": CommandSpec("", "", "leave; so does the end of input", "program"),
}

_MESSAGE = re.compile(r"@([^:]*):(.*)|(#[\w-]+)\s*:(.*)", re.DOTALL)
_NO_COLON = re.compile(r"@([A-Za-z0-9][\w-]*)\s+\S.*", re.DOTALL)
_TURN = re.compile(r"@([A-Za-z0-9][\w-]*)|(#[\w-]+)")
_IS_NAME = re.compile(USER_NAME)
_DURATION = re.compile(r"([0-9]{1,9}[smhd])(?:\s+|\Z)")


_OLD_NAMES = {"/unregister": "/account unregister"}
"""Commands that had another name, which scripts may still use."""


def parse(line: str, current: str | None = None) -> ParsedLine | None:
    """Parse a typed line; return None if it is blank.

    :param current: on a terminal, the conversation that receives a line without an address.
    """
    text = line.strip()
    if not text:
        return None
    message = _MESSAGE.fullmatch(text)
    if message:
        to, said = message.group(1, 2) if message[3] is None else message.group(3, 4)
        to, said = to.strip(), said.strip()
        # otherwise the line mentions somebody but is not addressed to them
        if current is None or not re.search(r"\s", to):
            if to and not said and current is not None:
                return SwitchTo(to)
            if not to and current is not None:
                return Mistake("To whom? @bob: hello")
            return Say(to, said) if to and said else Mistake(FORMAT_HELP)
    if current is not None:
        if turn := _TURN.fullmatch(text):
            return SwitchTo(turn[1] or turn[2])
        if name := _NO_COLON.fullmatch(text):  # a message meant for one user must not go to all
            return Mistake(
                f"With a colon it goes to {name[1]}: @{name[1]}: ... "
                f"(to speak of {name[1]} here, begin with another word)"
            )
        if not text.startswith("/") or text.startswith("//"):
            return Say(current, text.removeprefix("/"))
    return _parse_command(_OLD_NAMES.get(text, text), current)


def _parse_command(text: str, current: str | None) -> ParsedLine:
    name, *rest = text.split(None, 1)
    form = COMMANDS.get(name)
    if not name.startswith("/"):
        return Mistake(FORMAT_HELP)
    if form is None:
        return Mistake(f"No such command: {name} (/help)")
    if form.screen and current is None:
        return Mistake(f"{name} is for a terminal (/help)")
    match = re.fullmatch(form.pattern, rest[0] if rest else "", re.DOTALL)
    if not match:
        return Mistake(f"Usage: {name} {form.usage}".rstrip())
    named = match.groupdict()
    groups = match.groups()[1 if named else 0 :]  # the room comes first
    first, second, *_ = (*groups, None, None)
    command = Command(name, first, second, named.get("room"))
    if named and command.room is None and current is not None and current.startswith("#"):
        command = _in_room(command, current)
    if form.needs_room and command.room is None:
        return Mistake(f"Which room? {name} {form.usage.replace('[#room]', '#room', 1)}")
    if name == "/ban" and command.room is not None and _DURATION.match(command.second or ""):
        return Mistake("A ban from a room lasts until /unban; it can't have a duration")
    return command


def _in_room(command: Command, room: str) -> Command:
    """Let a command act in the current room, unless its subject is an address or a network."""
    if command.name in ("/kick", "/ban", "/unban") and not _IS_NAME.fullmatch(command.first or ""):
        return command
    return replace(command, room=room)


def help_text(topic: str | None = None, *, screen: bool = False) -> str:
    """Return the help: all of it, or of one of ``TOPICS``, or of one command; on a terminal, an
    overview by default.
    """
    if topic is not None and topic not in TOPICS:
        if f"/{topic}" in command_names(screen=screen):
            return _line_of(f"/{topic}")
        return f"No such topic: {topic}. There are: {', '.join(TOPICS)}"
    if topic is None and screen:
        return _OVERVIEW + "\n".join(f"/help {name:10} {TOPICS[name]}" for name in TOPICS)
    parts = [_help_of(name, screen) for name in ([topic] if topic else TOPICS)]
    head = (
        "" if topic else FORMAT_HELP + "@ALL: Message    to everybody\n#room: Message   to a room\n"
    )
    return head + "\n".join(parts)


_OVERVIEW = """\
hello            to the conversation that the prompt names
@bob: hello      to bob               @bob   alone: the next lines are for bob
#dev: hello      to a room            #dev   alone: the next lines are for it
@ALL: hello      to everybody         //x    says /x
Tab completes; Up and Ctrl-R find what you typed.
F5 sends refused messages again, F8 drops them.
"""


def _help_of(topic: str, screen: bool) -> str:
    lines = []
    for name, form in COMMANDS.items():
        if form.topic == topic and (screen or not form.screen):
            lines.append(_line_of(name))
    return "\n".join(lines)


def _line_of(name: str) -> str:
    form = COMMANDS[name]
    return f"{f'{name} {form.usage}'.rstrip():32} {form.what}"


def command_names(*, screen: bool) -> Iterator[str]:
    """Return the names of all commands that are available; ``screen`` means on a terminal."""
    return (name for name, form in COMMANDS.items() if screen or not form.screen)


class Session(Protocol):
    """The part of a session that this module uses."""

    def ask(
        self,
        verb: str,
        argument: str = "",
        headers: tuple[tuple[str, object], ...] = (),
        body: str | None = None,
    ) -> int:
        """Send a request; return the ID that its answer will have."""


def _room(name: str) -> str:
    return name if name.startswith("#") else f"#{name}"


def about(command: Command, current: str = "ALL") -> str:
    """Return the subject of a command, such as a room, for the text of its answer."""
    match command.name:
        case "/join":
            return _room(command.first or "")
        case "/history":
            return (command.first or current).removeprefix("@")
        case "/search" | "/away" | "/back":
            return ""
    return command.room or command.first or ""


def ask(session: Session, command: Command, current: str = "ALL") -> int | None:
    """Send the request of a command.

    :param current: the conversation for ``/history`` if the command names none.
    :return: the ID of the request, or None if the server is not needed for this command.
    """
    first, second = command.first or "", command.second
    verb = command.name[1:].upper()
    room = command.room
    match command.name:
        case "/who" if first:
            return session.ask("WHO", first, (("Ranks", "yes"),))
        case "/who" | "/rooms":
            return session.ask(verb)
        case "/nick":
            return session.ask("RENAME", first)
        case "/delete" if first:
            return session.ask("DELETE", "", (("Message", int(first)),))
        case "/history":
            count = int(second or HISTORY_COUNT)
            return session.ask("HISTORY", about(command, current), (("Count", count),))
        case "/search":
            return session.ask("SEARCH", "", (), first)
        case "/join":
            return session.ask("JOIN", _room(first), (("Private", "yes"),) if second else ())
        case "/leave" | "/topic":
            return session.ask(verb, first, (), second)
        case "/invite":
            return session.ask("INVITE", first, (("User", second),))
        case "/op" | "/deop" | "/voice" | "/devoice":
            rank = {"/op": "operator", "/voice": "voice"}.get(command.name, "none")
            return session.ask("RANK", room or "", (("User", first), ("Rank", rank)))
        case "/mode":
            change = (("Mode", first), ("On", "no" if second == "off" else "yes"))
            return session.ask("MODE", room or "", change if first else ())
        case "/bans":
            return session.ask("BAN", room or "")
        case "/kick" | "/ban" | "/unban" if room:
            return session.ask(verb, room, (("User", first),), second)
        case "/kick":
            return session.ask("KICK", first, (), second)
        case "/unban" | "/unmute":
            return session.ask(verb, first)
        case "/ban" | "/mute":
            duration = _DURATION.match(second or "")
            headers = (("Duration", duration[1]),) if duration else ()
            reason = (second or "")[duration.end() if duration else 0 :]
            return session.ask(verb, first, headers, reason or None)
        case "/away":
            return session.ask("STATUS", "away", (), command.first)
        case "/back":
            return session.ask("STATUS", "here")
        case "/account" if first == "unregister":
            return session.ask("ACCOUNT", first, (("Erase", "yes"),) if second else ())
        case "/keys" if not first:
            return session.ask("ACCOUNT", "keys")
    return None
