"""What can be typed: messages, switches to another conversation, and commands.

``COMMANDS`` is the one table for parsing (``parsing``), help, completion and the man page. This
module must not know how a line is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chat_twisted.core.message import USER_NAME

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
_MODES = "private|invite-only|secret|moderated|topic"


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
        "[add KEY|remove KEY]",
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


_DURATION = re.compile(r"([0-9]{1,9}[smhd])(?:\s+|\Z)")


def command_names(*, screen: bool) -> Iterator[str]:
    """Return the names of all commands that are available; ``screen`` means on a terminal."""
    return (name for name, form in COMMANDS.items() if screen or not form.screen)


def split_duration(text: str) -> tuple[str, str]:
    """Split the duration of a ban or mute, which may be missing, from the reason behind it."""
    duration = _DURATION.match(text)
    return (duration[1], text[duration.end() :]) if duration else ("", text)
