"""What ``archive`` and ``index`` share in asking SQLite: cursors, rows, files and their soundness.

It knows no table.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

_ROWS = 256  # in one statement at most; a power of two, so that few statements are to be prepared


class Cursor(Protocol):
    """What is asked of a cursor: SQLite's own, or the one of an adbapi transaction."""

    @property
    def connection(self) -> Any:
        """The connection that it is a cursor of."""

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


def uris_to_read(path: Path) -> Iterator[str]:
    """Yield how a file can be opened that is only read, the best way first.

    Of a file in WAL mode SQLite keeps an index beside it. Where it may not make that, it can have
    it in memory, or need none if there is no write-ahead log: nobody else can write there either.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    yield uri
    if not os.access(path.absolute().parent, os.W_OK, effective_ids=_EFFECTIVE):
        yield uri + (f"&vfs={NO_LOCKS}" if _log_size(path) else "&immutable=1")


NO_LOCKS = "unix-none"
"""The part of SQLite that reads files without locks; such a connection must say it is alone."""

_EFFECTIVE = os.access in os.supports_effective_ids


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file to read it, also in a folder that can't be written.

    :raises sqlite3.OperationalError: it can't be opened.
    """
    problem = None
    for uri in uris_to_read(path):
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=10)
        try:
            if NO_LOCKS in uri:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA schema_version")
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            problem = problem or error
    assert problem is not None
    raise problem


def copy(
    source: sqlite3.Connection, path: Path, finish: Callable[[sqlite3.Connection], None]
) -> None:
    """Copy what a connection reads to a file that is alone: nothing need be beside it.

    It is of one moment; whoever writes at the source does not wait for it. The file is for its
    owner alone. It appears whole, in place of one that was there, or not at all.

    :param finish: called with the copy before it appears; if it raises, nothing is left.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        make_file(temporary)
        target = sqlite3.connect(temporary)
        try:
            target.execute("PRAGMA synchronous = OFF")  # all of it is waited for at the end
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
            finish(target)
            target.commit()
        finally:
            target.close()
        sync(temporary)
        os.replace(temporary, path)
        sync(path.absolute().parent)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            temporary.with_name(f"{temporary.name}{suffix}").unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _log_size(path: Path) -> int:
    try:
        return _log_of(path).stat().st_size
    except OSError:
        return 0


_LOG_HEADER = struct.Struct(">8I")  # magic, version, page size, count, two salts, two sums
_FRAME_HEADER = struct.Struct(">6I")  # page, size of the file after a commit or 0, salts, sums
_PENDING_BYTE = 2**30  # its page is never written


def has_foreign_log(path: Path) -> bool:
    """Tell whether the write-ahead log beside a file is certainly of another one.

    SQLite can't tell: it takes any log of that name for the file's, and what it reads then is a
    mixture. That happens if a file is put in the place of another without its log being removed.
    This finds it by two things that hold for a file and its own log, at whatever point a process or
    the machine has stopped. Every page that the file has after the last commit is in one of them.
    And the first page, which says how many there are and how often that page was changed, a count
    that never goes back: if the log has it, the file's count lies between what the log began with
    and what it ends with; if not, the file has had as many pages all the time.

    :raises OSError: they can't be read.
    """
    if not path.exists() or _log_size(path) < _LOG_HEADER.size:
        return False
    with open(_log_of(path), "rb") as log, open(path, "rb") as file:
        header = log.read(_LOG_HEADER.size)
        magic, _, page_size, _, *salts, _, _ = _LOG_HEADER.unpack(header)
        if magic >> 1 != 0x377F0682 >> 1 or page_size < 512:
            return False  # SQLite takes it for none
        pages: set[int] = set()
        counts: list[int] = []
        size = 0
        while len(head := log.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
            page, after, *frame_salts, _, _ = _FRAME_HEADER.unpack(head)
            if frame_salts != salts:
                break
            pages.add(page)
            size = after or size
            start = log.read(28)
            if page == 1:
                counts.append(int.from_bytes(start[24:28], "big"))
            log.seek(page_size - 28, os.SEEK_CUR)
        first = file.read(32)
        there = os.fstat(file.fileno()).st_size // page_size
        log.seek(0)
        if not size or log.read(_LOG_HEADER.size) != header:
            return False  # nothing was committed to it, or somebody writes it just now
    pages.add(_PENDING_BYTE // page_size + 1)
    if not pages.issuperset(range(there + 1, size + 1)):
        return True
    if not counts:
        return int.from_bytes(first[28:32], "big") != size
    return not counts[0] - 1 <= int.from_bytes(first[24:28], "big") <= max(counts)


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
