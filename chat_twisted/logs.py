"""The logger of this project: Twisted's, with values that can't act on a terminal."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogLevel

from chat_twisted.text import printable


class Logger(TwistedLogger):
    """A logger that writes one line per entry, even if names or reasons in it have line ends."""

    def emit(self, level: LogLevel, format: str | None = None, **values: Any) -> None:
        """Log an entry. Called by the other methods of Twisted's ``Logger``."""
        for name, value in values.items():
            if isinstance(value, str):
                values[name] = printable(value)
        super().emit(level, format, **values)
