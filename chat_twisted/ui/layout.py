"""Lays out messages and lists as lines of styled text.

The texts in the lines are not printable yet: the terminal makes them so. This module must not know
the terminal, or when something is shown.
"""

from __future__ import annotations

import datetime
import zlib
from collections.abc import Sequence

from chat_twisted.core.message import fold
from chat_twisted.text import lines as lines_of
from chat_twisted.ui.values import Received, Room, Seen, State, conversation_of
from chat_twisted.ui.wording import describe_room, text_of

Line = list[tuple[str, str]]
"""One line: pieces of text, each with a style such as ``class:time``."""

ALL = "ALL"

NAME_COLOURS = 8
"""Number of styles in which names are shown."""


class MessageLayout:
    """Lays out messages, with a line for the date where it changes.

    :param timezone: the zone of displayed times; None for the local one.
    """

    def __init__(self, timezone: datetime.tzinfo | None) -> None:
        self._timezone = timezone
        self._day = ""

    def lines(
        self, message: Received, user: str, *, mentioned: bool = False, state: str = ""
    ) -> list[Line]:
        """Return the lines of the next message.

        :param user: the name of the user who reads it.
        :param mentioned: whether the text mentions this user.
        :param state: a remark that is shown behind the text.
        """
        lines: list[Line] = []
        day, clock = self._local(message.time)
        if day != self._day:
            self._day = day
            lines.append([("class:mark", f"── {day} ──")])
        own = fold(message.sender) == fold(user)
        place = conversation_of(message, user)
        kind = {"#": "class:room", "A": "class:all"}.get(tag(place)[1], "class:direct")
        name = "class:own" if own else colour(message.sender)
        first, *more = lines_of(text_of(message))
        line: Line = [
            ("class:time", clock),
            ("class:mention", "*") if mentioned else ("", " "),
            (kind, tag(place)),
            ("", " "),
            (name, f"{message.sender}:"),
            ("class:mention" if mentioned else "", f" {first}"),
        ]
        lines.append(line)
        # Further lines are indented, so that nobody can imitate another user's message.
        lines.extend([("", f"        {text}")] for text in more)
        if state:
            lines[-1].append(("class:dim", f" ({state})"))
        return lines

    def _local(self, time: str) -> tuple[str, str]:
        """Return the local date and time of day."""
        try:
            local = datetime.datetime.fromisoformat(time).astimezone(self._timezone)
        except (ValueError, OverflowError):
            return self._day, "--:--"
        return local.strftime("%a %d %b %Y"), local.strftime("%H:%M")


def tag(place: str) -> str:
    """Return a conversation's name in the form ``[@bob]``, ``[#dev]`` or ``[ALL]``."""
    if place.startswith("#") or place == ALL:
        return f"[{place}]"
    return f"[@{place}]"


def colour(name: str) -> str:
    """Return the style of a name, which is always the same."""
    return f"class:name-{zlib.crc32(fold(name).encode()) % NAME_COLOURS}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of ``rows``, whose characters must all be one column wide."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def user_row(seen: Seen, *, ranks: bool) -> tuple[str, ...]:
    """Return the row of a user in a table; ``ranks`` adds the column of their rank."""
    state = "" if seen.state is State.HERE else seen.state.value
    return (seen.user, *([seen.rank] if ranks else []), state, seen.why)


def room_row(room: Room) -> tuple[str, ...]:
    """Return the row of a room in a table."""
    name, members, *own = describe_room(room)
    return name, members, ", ".join(own)
