"""Helpers for SQLite that ``archive`` and ``index`` share: cursors, rows, files and their checks.

This module must not know any table.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

_ROWS = 256  # per statement; a power of two, so that few different statements are prepared


class Cursor(Protocol):
    """The part of a cursor that is used: of SQLite's own, or of an adbapi transaction."""

    @property
    def connection(self) -> Any:
        """The connection of the cursor."""

    @property
    def rowcount(self) -> int:
        """The number of rows that the last statement has changed."""

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for each of ``parameters``."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> Any:
        """Return the remaining rows."""


def make_file(path: Path) -> None:
    """Create a file if needed. A new file is private from its first moment."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def uris_to_read(path: Path) -> Iterator[str]:
    """Yield the URIs for opening a file read-only, best one first.

    For a file in WAL mode SQLite keeps shared memory in a file beside it. If it can't create that
    file, it can use private memory instead; without a write-ahead log it needs none. This is safe
    because other processes can't write in such a folder either.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    yield uri
    if not os.access(path.absolute().parent, os.W_OK, effective_ids=_EFFECTIVE):
        yield uri + (f"&vfs={NO_LOCKS}" if _log_size(path) else "&immutable=1")


NO_LOCKS = "unix-none"
"""The SQLite VFS that reads files without locks. Such a connection must use exclusive
locking mode."""

_EFFECTIVE = os.access in os.supports_effective_ids


def open_to_read(path: Path, *, in_use: bool = True) -> sqlite3.Connection:
    """Open a file for reading, even in a folder that is not writable.

    :param in_use: whether another process may write it meanwhile. If not, and there is no
        write-ahead log, no file is made beside it.
    :raises sqlite3.OperationalError: if it can't be opened.
    """
    problem = None
    alone = [] if in_use or _log_size(path) else [f"{path.absolute().as_uri()}?immutable=1"]
    for uri in (*alone, *uris_to_read(path)):
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=10)
        try:
            if NO_LOCKS in uri:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA schema_version")
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            problem = problem or error
        except BaseException:
            connection.close()
            raise
    assert problem is not None
    raise problem


def copy(
    source: sqlite3.Connection, path: Path, finish: Callable[[sqlite3.Connection], None]
) -> None:
    """Copy a database, as seen by a connection, to one self-contained file.

    The copy is a consistent snapshot, and writers at the source don't wait for it. The file is
    private. It replaces an existing file atomically, or does not appear at all.

    :param finish: called with the copy before it appears; if it raises, nothing is left behind.
    :raises sqlite3.Error, OSError: if it can't be copied.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        make_file(temporary)
        target = sqlite3.connect(temporary)
        try:
            target.execute("PRAGMA synchronous = OFF")  # synced once, at the end
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
    """Wait until a file's contents, or a folder's names, are on the disk."""
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


# magic, version, page size, sequence number, two salts, two checksums
_LOG_HEADER = struct.Struct(">8I")
# page, size of the file in pages after a commit or else 0, salts, checksums
_FRAME_HEADER = struct.Struct(">6I")
_PENDING_BYTE = 2**30  # its page is never written


def has_foreign_log(path: Path) -> bool:
    """Return whether the write-ahead log beside a file certainly belongs to another file.

    SQLite accepts any log of the right name, and then reads a mixture of both. This happens if a
    file is replaced without removing its log. Two facts hold for a file and its own log at any
    moment at which a process or the machine may stop. First, each page of the database, as of the
    last commit, is in the file or in the log. Second, the header in page 1 contains the number of
    pages and a change counter that never decreases: if page 1 is in the log, the file's counter
    lies between the first and the last one in the log; otherwise the number of pages in the file is
    still correct.

    :raises OSError: if they can't be read.
    """
    if not path.exists() or _log_size(path) < _LOG_HEADER.size:
        return False
    with open(_log_of(path), "rb") as log, open(path, "rb") as file:
        header = log.read(_LOG_HEADER.size)
        magic, _, page_size, _, *salts, _, _ = _LOG_HEADER.unpack(header)
        if magic >> 1 != 0x377F0682 >> 1 or page_size < 512:
            return False  # SQLite ignores such a log
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
            return False  # nothing was committed to it, or it is being written now
    pages.add(_PENDING_BYTE // page_size + 1)
    if not pages.issuperset(range(there + 1, size + 1)):
        return True
    if not counts:
        return int.from_bytes(first[28:32], "big") != size
    return not counts[0] - 1 <= int.from_bytes(first[24:28], "big") <= max(counts)


def in_rows(items: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    """Split ``items`` for INSERT statements.

    :return: yields the text after VALUES, and its parameters.
    """
    size = _ROWS
    start = 0
    while start < len(items):
        while size > len(items) - start:
            size //= 2
        part = items[start : start + size]
        row = f"({','.join('?' * len(part[0]))})"
        yield ",".join([row] * size), list(chain.from_iterable(part))
        start += size


def damage(connection: sqlite3.Connection, schema: str, *, quick: bool = False) -> list[str]:
    """Run SQLite's integrity check; return its findings, one line each.

    :param quick: don't compare the indices with their tables.
    """
    rows = connection.execute(f"PRAGMA {schema}.{'quick' if quick else 'integrity'}_check")
    return [str(row[0]) for row in rows if row[0] != "ok"]


def count(connection: sqlite3.Connection, questions: Mapping[str, str]) -> list[str]:
    """Run queries that count faults; return a line for each that is not zero.

    :param questions: the queries, by the description of their faults.
    """
    found = []
    for what, sql in questions.items():
        [count] = connection.execute(sql).fetchone()
        if count:
            found.append(f"{count} {what}")
    return found
