"""Lays out messages and lists as lines of styled text.

The texts in the lines are not printable yet: the terminal makes them so. This module must not know
the terminal, or when something is shown.
"""

from __future__ import annotations

import datetime
import zlib
from collections.abc import Callable, Sequence

from chat_twisted.core.message import fold
from chat_twisted.text import lines as lines_of
from chat_twisted.ui.conversations import Active
from chat_twisted.ui.folds import Folds
from chat_twisted.ui.highlight import highlight
from chat_twisted.ui.values import ALL as ALL
from chat_twisted.ui.values import Received, Room, Seen, State, conversation_of
from chat_twisted.ui.wording import describe_room, text_of

Line = list[tuple[str, str]]
"""One line: pieces of text, each with a style such as ``class:time``."""

NAME_COLOURS = 8
"""Number of styles in which names are shown."""


MAX_ROWS = 20
"""Number of rows of a message that are shown; the rest is folded."""

ROW = 72
"""Characters of a text that are counted as one row."""

MAX_TABLE = 12
"""Maximum number of users that are listed with a row for each."""

GUEST = "~"
"""Stands before the name of a guest."""

FENCE = "```"
"""Starts and ends program text, on lines of their own; a language may follow the first."""

INDENT = " " * 8
"""Stands before the lines of a text with several, so that nobody can imitate another's message."""


class MessageLayout:
    """Lays out messages, with a line for the date where it changes.

    :ivar numbers: whether the server's number is shown before each message.
    :param timezone: the zone of displayed times; None for the local one.
    :param folds: keeps the messages that are not shown wholly; None shows all wholly.
    :param is_guest: returns whether a name is a guest's.
    """

    def __init__(
        self,
        timezone: datetime.tzinfo | None,
        folds: Folds | None = None,
        is_guest: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.numbers = False
        self._timezone = timezone
        self._folds = folds
        self._is_guest = is_guest
        self._day = ""
        self._minute = ""  # the minute of the last message, and that time in the zone
        self._in_zone = ("", "")

    def lines(
        self,
        message: Received,
        user: str,
        *,
        mentioned: bool = False,
        state: str = "",
        dim: bool = False,
        whole: bool = False,
    ) -> list[Line]:
        """Return the lines of the next message.

        :param user: the name of the user who reads it.
        :param mentioned: whether the text mentions this user.
        :param state: a remark that is shown behind the text.
        :param dim: whether it is an earlier message, which is shown for its context.
        :param whole: whether to show all of it, however long it is.
        """
        lines: list[Line] = []
        day, clock = self._local(message.time)
        if day != self._day:
            self._day = day
            lines.append(mark(day))
        own = fold(message.sender) == fold(user)
        place = conversation_of(message, user)
        kind = {"#": "class:room", "A": "class:all"}.get(tag(place)[1], "class:direct")
        name = "class:own" if own else colour(message.sender)
        sender = GUEST * (not own and self._is_guest(message.sender)) + message.sender
        line: Line = [
            ("class:time", clock),
            ("class:mention", "*") if mentioned else ("", " "),
            (kind, tag(place)),
            ("", " "),
            (name, speaker(sender, message.kind)),
        ]
        if self.numbers and message.number:
            line.insert(0, ("class:dim", f"{message.number} "))
        texts = lines_of(text_of(message))
        multiple = len(texts) > 1
        hidden = ""
        if self._folds is not None and not whole:
            texts, hidden = folded(texts)
        if multiple:
            lines.append(line)
            lines.extend([("", INDENT), *text] for text in styled(texts))
        else:
            lines.append([*line, ("class:mention" if mentioned else "", f" {texts[0]}")])
        if hidden and self._folds is not None:
            lines.append([("class:dim", f"{INDENT}{hidden}: /show {self._folds.add(message)}")])
        if state:
            lines[-1].append(("class:dim", f" ({state})"))
        return [[("class:dim", text) for _, text in line] for line in lines] if dim else lines

    def _local(self, time: str) -> tuple[str, str]:
        """Return the local date and time of day."""
        minute = time[:16]
        if minute != self._minute:  # many messages have the same one
            try:
                local = datetime.datetime.fromisoformat(time).astimezone(self._timezone)
            except (ValueError, OverflowError):
                return self._day, "--:--"
            self._minute = minute
            self._in_zone = local.strftime("%a %d %b %Y"), local.strftime("%H:%M")
        return self._in_zone


def tag(place: str) -> str:
    """Return a conversation's name in the form ``[@bob]``, ``[#dev]`` or ``[ALL]``."""
    if place.startswith("#") or place == ALL:
        return f"[{place}]"
    return f"[@{place}]"


def colour(name: str) -> str:
    """Return the style of a name, which is always the same."""
    return f"class:name-{zlib.crc32(fold(name).encode()) % NAME_COLOURS}"


def speaker(name: str, kind: str) -> str:
    """Return what stands before the text of a message; ``kind`` is as in ``Received``."""
    return {"action": f"* {name}", "notice": f"-{name}-"}.get(kind, f"{name}:")


def mark(text: str) -> Line:
    """Return a line that divides messages."""
    return [("class:mark", f"── {text} ──")]


def folded(texts: list[str]) -> tuple[list[str], str]:
    """Return the lines of a text that are shown, and words for what is not, or an empty text."""
    rows = 0
    for i, text in enumerate(texts):
        rows += max(1, -(-len(text) // ROW))
        if rows > MAX_ROWS:
            hidden = len(texts) - max(i, 1)
            what = {0: "more", 1: "1 more line"}.get(hidden, f"{hidden:,} more lines")
            return texts[:i] or [text[: MAX_ROWS * ROW] + "…"], f"… {what}"
    return texts, ""


def styled(texts: list[str]) -> list[Line]:
    """Return the lines of a text, with program text between fences highlighted."""
    lines: list[Line] = []
    i = 0
    while i < len(texts):
        line, i = texts[i], i + 1
        if not line.startswith(FENCE):
            lines.append([("", line)])
            continue
        end = next((j for j in range(i, len(texts)) if texts[j].rstrip() == FENCE), len(texts))
        lines.append([("class:dim", line)])
        lines.extend(highlight(texts[i:end], line.removeprefix(FENCE).strip()))
        lines.extend([("class:dim", fence)] for fence in texts[end : end + 1])
        i = end + 1
    return lines


def activity_line(activity: Sequence[Active], columns: int) -> Line:
    """Return the conversations with unread messages for the prompt, as ``[2:#dev 3:@bob!] ``. It
    takes at most half of the columns: names are left out, and in the end conversations.
    """
    names = [f"{active.number}:{tag(active.name)[1:-1]}" for active in activity]
    numbers = [f"{active.number}" for active in activity]
    some = [names[i] if active.highlighted else numbers[i] for i, active in enumerate(activity)]
    ends = ["!" * active.highlighted for active in activity]
    room = columns // 2 - len("[] ")
    for form in (names, some, numbers):
        text = " ".join(map("".join, zip(form, ends, strict=True)))
        if len(text) <= room:
            break
    else:
        text = text[: max(room - 1, 0)].rpartition(" ")[0] + " …"
    return [("class:unread", f"[{text}] ")] if activity else []


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of ``rows``, whose characters must all be one column wide."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def in_columns(cells: Sequence[str], columns: int) -> list[str]:
    """Arrange ``cells`` in columns, downwards, so that the lines are at most ``columns`` long. The
    characters must all be one column wide.
    """
    for count in range(min(len(cells), (columns + 2) // 3), 1, -1):
        rows = -(-len(cells) // count)
        widths = [max(map(len, cells[i : i + rows])) for i in range(0, len(cells), rows)]
        if sum(widths) + 2 * (len(widths) - 1) <= columns:
            lines = [cells[i::rows] for i in range(rows)]
            return ["  ".join(map(str.ljust, line, widths[: len(line)])).rstrip() for line in lines]
    return list(cells)


def user_lines(found: Sequence[Seen], columns: int, *, ranks: bool) -> list[str]:
    """Return a list of users: a table, or columns if they are many.

    :param columns: the width of the terminal.
    :param ranks: whether they have ranks, as the members of a room.
    """
    if len(found) <= MAX_TABLE:
        return table([user_row(seen, ranks=ranks) for seen in found])
    ranked = {"operator": "@", "voice": "+"}
    return in_columns(
        [
            ranked.get(seen.rank, "")
            + guest_marked(seen)
            + (" (away)" if seen.state is State.AWAY else "")
            for seen in found
        ],
        columns - 1,
    )


def guest_marked(seen: Seen) -> str:
    """Return the name of a user, with the mark of a guest."""
    return f"{GUEST if seen.identity else ''}{seen.user}"


def user_row(seen: Seen, *, ranks: bool) -> tuple[str, ...]:
    """Return the row of a user in a table; ``ranks`` adds the column of their rank."""
    state = "" if seen.state is State.HERE else seen.state.value
    return (guest_marked(seen), *([seen.rank] if ranks else []), state, seen.why)


def room_row(room: Room) -> tuple[str, ...]:
    """Return the row of a room in a table."""
    name, members, *own = describe_room(room)
    return name, members, ", ".join(own)
