"""The log of everything here: Twisted's, with values that can't act on a terminal that shows it."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogLevel

from chat_twisted.text import printable


class Logger(TwistedLogger):
    """A logger whose entries are one line each, whatever the names and reasons in them."""

    def emit(self, level: LogLevel, format: str | None = None, **values: Any) -> None:
        """Twisted: something is logged."""
        for name, value in values.items():
            if isinstance(value, str):
                values[name] = printable(value)
        super().emit(level, format, **values)
