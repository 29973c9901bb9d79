"""Parsers for the values of options: each turns the text of a command line into a value.

A parser raises ``ValueError`` with the rest of a sentence that begins with the name of the option:
"yes or no, not 'maybe'". This module must not know which options there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_twisted.core.limits import Rate

SWITCHES = (("yes", "no"), ("on", "off"))
"""Pairs of words that a TOML file may also write as true and false."""


@dataclass(frozen=True, slots=True)
class Number:
    """Parses a whole number from ``least`` on."""

    least: int = 1

    def __call__(self, value: str) -> int:
        """Parse ``value``."""
        digits = value.isascii() and value.isdigit() and 0 < len(value) <= 9
        if not digits or int(value) < self.least:
            raise ValueError(f"a whole number from {self.least} on, not {value!r}")
        return int(value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """Parses one of some words."""

    words: tuple[str, ...]

    def __call__(self, value: str) -> str:
        """Return ``value``, if it is one of them."""
        if value not in self.words:
            listed = f"{', '.join(self.words[:-1])} or {self.words[-1]}"
            raise ValueError(f"{listed}, not {value!r}")
        return value


def one_of(*words: str) -> OneOf:
    """Return a parser of one of ``words``."""
    return OneOf(words)


def rate(value: str) -> Rate:
    """Parse a rate limit."""
    per_second, _, burst = value.partition(":")
    try:
        found = Rate(float(per_second), float(burst))
    except ValueError:
        found = Rate(0, 0)
    if not (0 < found.per_second < 1e12 and 1 <= found.burst < 1e12):
        raise ValueError(f"PER_SECOND:BURST, like 50:500, not {value!r}")
    return found


def path(value: str) -> Path:
    """Return an absolute path, because twistd may change the current folder (--rundir)."""
    if not value:
        raise ValueError("the path of a file, not ''")
    return Path(value).absolute()


DASH = Path("-")
"""Stands for a standard file of the process."""


def path_or_dash(value: str) -> Path:
    """Return an absolute path, or ``DASH``."""
    return DASH if value == "-" else path(value)


def show(value: Any) -> str:
    """Return a value as it is written on a command line; empty for none."""
    if value is None:
        return ""
    if isinstance(value, Rate):
        return ":".join(f"{part:.12g}" for part in value)
    if isinstance(value, tuple):
        return ", ".join(map(show, value))
    return str(value)
