"""What ``archive`` and ``index`` share in asking SQLite: cursors, rows, files and their soundness.

It knows no table.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

_ROWS = 256  # in one statement at most; a power of two, so that few statements are to be prepared


class Cursor(Protocol):
    """What is asked of a cursor: SQLite's own, or the one of an adbapi transaction."""

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for each of ``parameters``."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> Any:
        """Return all rows that are left."""


def make_file(path: Path) -> None:
    """Make a file, so that it is never readable by others, however briefly."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def in_rows(items: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    """Cut ``items`` for VALUES: yield its text, and the parameters for it."""
    size = _ROWS
    start = 0
    while start < len(items):
        while size > len(items) - start:
            size //= 2
        part = items[start : start + size]
        row = f"({','.join('?' * len(part[0]))})"
        yield ",".join([row] * size), list(chain.from_iterable(part))
        start += size


def damage(connection: sqlite3.Connection, schema: str) -> list[str]:
    """Ask SQLite what is wrong with a file."""
    rows = connection.execute(f"PRAGMA {schema}.integrity_check")
    return [str(row[0]) for row in rows if row[0] != "ok"]


def count(connection: sqlite3.Connection, questions: Mapping[str, str]) -> list[str]:
    """Say of what there is any; each question counts."""
    found = []
    for what, sql in questions.items():
        [count] = connection.execute(sql).fetchone()
        if count:
            found.append(f"{count} {what}")
    return found
