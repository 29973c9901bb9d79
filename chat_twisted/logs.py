"""The logger of this project: Twisted's, with named events whose values can't act on a terminal."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogLevel

from chat_twisted.log_lines import FAULT
from chat_twisted.text import printable


class Logger(TwistedLogger):
    """A logger that writes one line per entry, even if names or reasons in it have line ends.

    Each call in the server has an argument ``event``, the name of the event; ``failure`` has its
    own. ``docs/operations/logs.rst`` lists the names and the values. No value may be the text of a
    message, a token or a password.
    """

    def emit(self, level: LogLevel, format: str | None = None, **values: Any) -> None:
        """Log an entry. Called by the other methods of Twisted's ``Logger``."""
        if "log_failure" in values:
            values.setdefault("event", FAULT)
        for name, value in values.items():
            if isinstance(value, str):
                values[name] = printable(value)
        if "event" in values:  # Twisted's observers may add further values
            values["log_fields"] = [name for name in values if name not in ("event", "log_failure")]
        super().emit(level, format, **values)
