"""The archive: the SQLite file of messages and state: opening it, deleting, numbers, checkpoints.

The functions take a cursor and block; the ledger decides in which thread they run. This module must
not know sessions or the wire protocol. ``python -m chat_twisted.admin`` can read the file while a
server writes it.

``tables`` writes the rows of a commit, ``lookup`` reads messages; ``index`` fills the tables for
finding messages afterwards.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from chat_twisted import files
from chat_twisted.core.snapshot import Snapshot
from chat_twisted.files import ProcessFile, Say
from chat_twisted.storage import index, tables
from chat_twisted.storage.clustered import Node, find_node
from chat_twisted.storage.sql import Cursor, has_foreign_log, make_file, open_to_read
from chat_twisted.storage.upgrade import ArchiveError, update_schema

FILE = "chat.sqlite"
LOCK = "lock"
LOCKED_AGAIN = 0.05
"""Seconds between two attempts to lock the folder."""

DEFAULT_FOLDER = "$XDG_STATE_HOME/chat_twisted, else ~/.local/state/chat_twisted"
"""The path that ``default_folder`` returns, for help texts."""

ERASE_SCAN = 5_000
"""Maximum number of messages that one step of ``erase`` examines."""

NUMBERS_PER_SECOND = 100_000
"""A rate of messages that no server reaches (60,000 per second were measured)."""

EPOCH = 1767225600
"""The assumed time of number 0, in seconds since the epoch: 1 January 2026."""

NUMBERS_LOST = 1_000_000
"""How many numbers a start skips if the clock is behind the time in the file."""

LONGEST_GAP = 10 * 365 * 24 * 60 * 60
"""The longest time, in seconds, for which numbers are skipped: a clock that is centuries ahead must
not use them up. Clients may keep numbers in a double, which is exact up to 2 to the power of 53."""


class Opened(NamedTuple):
    """The data that a server starts with.

    :ivar snapshot: the rows of the state.
    :ivar after: the next message gets a higher number than this one, so that no number is used
        twice (``commands.Start``).
    :ivar newest: the number of the newest message, or 0.
    :ivar node: the node of a cluster that the archive belongs to; None for a single server's.
    """

    snapshot: Snapshot
    after: int
    newest: int
    node: Node | None


# Opening


def lock(folder: Path, say: Say = lambda line: None, *, patience: float = 0.0) -> ProcessFile:
    """Lock the archive of a state folder for this process and its children.

    :param folder: as ``files.make_private_folder`` returns it.
    :param say: as in ``files.make_private_folder``.
    :param patience: seconds to wait for a process that does not serve: a server that starts or
        ends, or an operator's command.
    :raises InUse: if another server has locked it.
    :raises FilesError: if it can't be locked.
    """
    files.make_private(folder / LOCK, say)
    deadline = time.monotonic() + patience
    while True:
        try:
            return ProcessFile(folder / LOCK)
        except files.InUse as error:
            if error.process is not None or time.monotonic() >= deadline:
                raise files.InUse(
                    f"{folder}: another server uses it ({error})", error.process
                ) from None
        time.sleep(LOCKED_AGAIN)


def connect(path: Path, *, sync: str = "normal") -> sqlite3.Connection:
    """Open the archive. Any thread may use the connection, one at a time.

    :param sync: ``full`` if commits must survive a loss of power, else ``normal``.
    :raises ArchiveError: if its write-ahead log belongs to another file.
    """
    make_file(path)
    if has_foreign_log(path):
        raise ArchiveError(
            f"{path}: {FILE}-wal beside it is of another file: remove {FILE}-wal and {FILE}-shm if "
            "this file was put here; docs/backup.rst says more"
        )
    # If it can't be read, this fails without writing. A connection that ends would remove the log,
    # and the archive may be damaged.
    open_to_read(path).close()
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, check_same_thread=False, timeout=10
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {sync.upper()}")
        connection.execute("PRAGMA secure_delete = ON")  # not by default everywhere
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(
    folder: Path,
    *,
    sync: str = "normal",
    schema: Path | None = None,
    say: Say = lambda line: None,
    wall: Callable[[], float] = time.time,
) -> Opened:
    """Create or update the archive and index in a state folder; return the stored data.

    :param sync: as in ``connect``.
    :param schema: a folder of numbered schema steps; None for the package's own.
    :param say: reports one line to the operator, such as a permission that was corrected.
    :param wall: returns the time of day, in seconds since the epoch.
    :raises FilesError: if it can't be opened, read, written or understood.
    """
    _make_private(folder, say)
    path = folder / FILE
    try:
        connection = connect(path, sync=sync)
        try:
            update_schema(connection, path, schema, say)
            path = folder / index.FILE
            try:
                index.open_or_rebuild(connection, folder)
                index.catch_up(connection)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise  # the file is locked or the disk is full, so it must not be replaced
                connection.rollback()
                index.rebuild(connection, folder)
                path = folder / FILE  # if it fails again, the archive is the cause
                index.catch_up(connection)
            path = folder / FILE
            cursor = connection.cursor()
            after = _draw_number(cursor, wall())  # this also checks that the file is writable
            connection.commit()
            node = find_node(connection)
            return Opened(tables.load(cursor), after, newest_number(cursor), node)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise ArchiveError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _make_private(folder: Path, say: Say) -> None:
    for name in (FILE, index.FILE):
        for suffix in ("", "-wal", "-shm"):
            files.make_private(folder / f"{name}{suffix}", say)


def continue_after(noted: tuple[int, int], newest: int, now: float) -> int:
    """Return the number after which a starting server continues, so that it uses no number twice,
    even if the operator has replaced the file by an older copy.

    For each second since the last start, ``NUMBERS_PER_SECOND`` numbers are skipped. These include
    all numbers that were used after the copy was made.

    :param noted: the number after which the last start continued, and its time in milliseconds
        since the epoch.
    :param newest: the highest number that is known to have been used.
    :param now: the time of this start, in seconds since the epoch.
    """
    number, time = noted
    gap = min(now - (time / 1000 or EPOCH), LONGEST_GAP)
    by_clock = number + int(gap * NUMBERS_PER_SECOND)
    if by_clock <= newest and newest:  # the clock is behind
        return newest + NUMBERS_LOST
    return max(by_clock, 0)


def _draw_number(cursor: Cursor, now: float) -> int:
    """Return ``continue_after`` for a file, and record it in the file."""
    cursor.execute("SELECT number, time, newest FROM progress")
    number, time, newest = cursor.fetchone()
    after = continue_after((number, time), newest, now)
    cursor.execute("UPDATE progress SET number = ?, time = ?", (after, int(now * 1000)))
    return after


def newest_number(cursor: Cursor) -> int:
    """Return the number of the newest message, 0 if there is none."""
    cursor.execute("SELECT ifnull(max(number), 0) FROM message")
    [number] = cursor.fetchone()
    return int(number)


# Maintenance, after the commits


def record_moment(cursor: Cursor, time: int) -> None:
    """Record that all stored messages are from before ``time``.

    :param time: milliseconds of the log's clock.
    """
    cursor.execute(
        "INSERT INTO moment SELECT number, ? FROM message WHERE TRUE ORDER BY number DESC LIMIT 1 "
        "ON CONFLICT (number) DO UPDATE SET time = min(time, excluded.time)",
        (time,),
    )


def last_number_before(cursor: Cursor, time: int) -> int:
    """Return the number up to which all messages are older than ``time``, or 0.

    :param time: milliseconds of the log's clock.
    """
    cursor.execute("SELECT ifnull(max(number), 0) FROM moment WHERE time < ?", (time,))
    [number] = cursor.fetchone()
    return int(number)


def checkpoint(cursor: Cursor) -> int:
    """Move commits from the write-ahead log into the file, as far as possible without blocking.

    :return: the number of pages in the log.
    """
    cursor.execute("PRAGMA main.wal_checkpoint(PASSIVE)")
    [(_, pages, _)] = cursor.fetchall()
    return int(pages)


def expire(cursor: Cursor, first: int, last: int) -> int:
    """Delete the messages with the numbers ``first`` to ``last``; return how many there were."""
    cursor.execute("DELETE FROM message WHERE number BETWEEN ? AND ?", (first, last))
    count = cursor.rowcount
    cursor.execute("DELETE FROM member WHERE until <= ?", (last,))
    cursor.execute("DELETE FROM moment WHERE number <= ?", (last,))
    return count


def find_deletions(cursor: Cursor) -> tuple[bool, bool]:
    """Return whether there are texts to delete from the archive or the index, and whether the files
    have to be purged of deleted texts.
    """
    cursor.execute(
        "SELECT EXISTS (SELECT 1 FROM erasure) OR EXISTS (SELECT 1 FROM deletion WHERE number > 0),"
        " EXISTS (SELECT 1 FROM deletion WHERE number = 0)"
    )
    texts, remains = cursor.fetchone()
    return bool(texts), bool(remains)


def forget_deletions(cursor: Cursor, numbers: Sequence[int]) -> None:
    """Erase the texts of deleted messages after ``index.remove_texts`` has removed them from the
    index, and note that the files have to be purged.
    """
    cursor.executemany("DELETE FROM deletion WHERE number = ?", ((number,) for number in numbers))
    cursor.execute("INSERT OR IGNORE INTO deletion VALUES (0, '')")


def note_purge(cursor: Cursor) -> None:
    """Note that the files have been purged."""
    cursor.execute("DELETE FROM deletion WHERE number = 0")


def empty_log(cursor: Cursor, schema: str = "main") -> bool:
    """Copy all commits from a write-ahead log into its file, and truncate the log: it has old
    versions of the file's pages, with deleted texts.

    :param schema: ``main``, or ``looked_up`` for the index.
    :return: False if another connection reads or writes now.
    """
    cursor.execute("PRAGMA busy_timeout = 0")
    try:
        cursor.execute(f"PRAGMA {schema}.wal_checkpoint(TRUNCATE)")
        [(busy, _, _)] = cursor.fetchall()
    finally:
        cursor.execute("PRAGMA busy_timeout = 10000")
    return not busy


def erase(cursor: Cursor, limit: int) -> bool:
    """Delete texts of an author who has asked for the deletion of all their messages.

    :param limit: the maximum number of texts to delete. At most ``ERASE_SCAN`` messages of all
        authors are examined.
    :return: whether anything was left to do; call it again until it returns False.
    """
    cursor.execute("SELECT user, number, done FROM erasure LIMIT 1")
    found = cursor.fetchone()
    if found is None:
        return False
    user, upto, done = found
    cursor.execute(
        "SELECT number FROM message WHERE number > ? AND number <= ? "
        "ORDER BY number LIMIT 1 OFFSET ?",
        (done, upto, ERASE_SCAN - 1),
    )
    [last] = cursor.fetchone() or (upto,)
    cursor.execute(
        "SELECT number FROM message WHERE number > ? AND number <= ? AND author = ? "
        "ORDER BY number LIMIT 1 OFFSET ?",
        (done, last, user, limit - 1),
    )
    [last] = cursor.fetchone() or (last,)
    said = "FROM message WHERE number > ? AND number <= ? AND author = ? AND text != ''"
    cursor.execute(f"INSERT OR IGNORE INTO deletion SELECT number, text {said}", (done, last, user))
    cursor.execute(
        "UPDATE message SET text = '' WHERE number > ? AND number <= ? AND author = ?",
        (done, last, user),
    )
    cursor.execute("UPDATE erasure SET done = ? WHERE user = ?", (last, user))
    cursor.execute("DELETE FROM erasure WHERE done >= number")
    return True


def default_folder(user: int | None = None) -> Path:
    """Return the default state folder (XDG Base Directory Specification).

    :param user: as in ``files.base_folder``.
    :raises FilesError: if the home folder is not known.
    """
    return files.base_folder("XDG_STATE_HOME", ".local/state", "--state", user) / "chat_twisted"
