"""Lines of the log: what an event looks like as text and as JSON.

An event of this server has a name that stays the same in later versions; its values are fields of
the JSON object (``docs/operations/logs.rst``). Events of libraries are named ``library``, and
defects ``fault``. The message of an exception may quote what a user wrote, so the line of a fault
has it only for exceptions whose messages come from the system or name parts of the program. This
module must not know where lines are written to.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure

from chat_twisted.text import printable

FAULT, LIBRARY, AUDIT = "fault", "library", "audit"
"""Names of events: a defect, an event of a library, and what an operator has done."""

PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""The levels, and their priorities for the journal (syslog(3))."""

FRAMES = 12
"""Maximum number of frames of a traceback in a line: the innermost ones."""

_TELLING = (
    OSError,
    sqlite3.Error,
    AssertionError,
    AttributeError,
    NameError,
    TypeError,
    ImportError,
    RecursionError,
    ZeroDivisionError,
)
"""Exceptions whose messages don't quote users."""

_ROOT = Path(__file__).parent.parent


class Line(NamedTuple):
    """An event, ready to be written.

    :ivar time: seconds since the epoch.
    :ivar level: a key of ``PRIORITIES``.
    :ivar event: the name of the event.
    :ivar text: a description of the event in one line, for people.
    :ivar fields: the values of the event.
    """

    time: float
    level: str
    event: str
    text: str
    fields: dict[str, Any]


def describe(event: LogEvent) -> Line:
    """Return the line of an event."""
    name = event.get("event") or ""
    level = event.get("log_level")
    failure = event.get("log_failure") or event.get("failure")
    fields: dict[str, Any] = {}
    if name:
        fields = {key: _plain(event[key]) for key in event.get("log_fields", ())}
        text = formatEvent(event)
    elif failure is not None:
        text = "in a library"  # whose own text may have the exception's message
    else:
        text = formatEvent(event) or ""
    if failure is not None:
        what, where = _describe_failure(failure)
        text = f"{text}: {what}. Traceback: {' < '.join(where) or 'unknown'}"
        fields |= {"exception": what, "traceback": where}
    return Line(
        event.get("log_time", 0.0),
        level.name if isinstance(level, type(LogLevel.info)) else "info",
        name or (LIBRARY if failure is None else FAULT),
        printable(text),
        fields,
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else printable(str(value))


def _describe_failure(failure: Failure) -> tuple[str, list[str]]:
    """Return the exception, and the places in the program, the innermost first."""
    frames = [(str(frame[1]), frame[2], str(frame[0])) for frame in failure.frames]
    inner = frames[: -FRAMES - 1 : -1]
    where = [f"{_shorten(path)}:{line} in {name}" for path, line, name in inner]
    return explain(failure.value), where


def explain(error: BaseException | None) -> str:
    """Return what an exception says, without what it may quote of a user."""
    name, said = type(error).__qualname__, printable(str(error))
    if type(error).__module__.startswith("chat_twisted."):
        return said or name  # our own exceptions are written for people
    return f"{name}: {said}" if isinstance(error, _TELLING) and said else name


def _shorten(path: str) -> str:
    return str(Path(path).relative_to(_ROOT)) if Path(path).is_relative_to(_ROOT) else path


def as_text(line: Line, *, with_time: bool = True) -> str:
    """Return a line as text: time, level, event and text."""
    rest = f"{line.level} {line.event} {line.text}\n"
    return f"{_show_time(line.time)} {rest}" if with_time else rest


def as_json(line: Line) -> str:
    """Return a line as a JSON object. A field with the name of another part is left out."""
    parts = {
        "time": _show_time(line.time),
        "level": line.level,
        "event": line.event,
        "text": line.text,
    }
    return json.dumps({**parts, **line.fields, **parts}, ensure_ascii=False) + "\n"


def _show_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")
