"""The archive: the SQLite file of messages, rooms and held users, and what is asked of it.

The functions take a cursor and block; who calls them in which thread is for the ledger to say.
They know no connection, no session and no protocol. ``python -m chat_twisted.archive`` reads a
file, also while a server writes it.

A commit writes messages alone, one statement for many rows: Python's lock is then passed on a few
times a batch, not once a row. What messages are looked up by is made of them behind (``index``).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from chat_twisted import files
from chat_twisted.core.changes import (
    AccountGone,
    AccountMade,
    Change,
    Invited,
    Joined,
    KeyAdded,
    KeyRemoved,
    Left,
    OwnerSet,
    Pardoned,
    PasswordSet,
    RoomGone,
    RoomMade,
    Sanctioned,
    TopicSet,
    UserCame,
    UserGone,
)
from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.saved import Page, Saved, SavedUser, Span, Users
from chat_twisted.files import FilesError, ProcessFile, Say
from chat_twisted.storage import index
from chat_twisted.storage.sql import Cursor, copy, has_foreign_log, in_rows, make_file, open_to_read

FILE = "chat.sqlite"
LOCK = "lock"
BEFORE = "-before-"
"""In the name of a copy that is made of the file before a step of the schema, with its number."""

DEFAULT_FOLDER = "$XDG_STATE_HOME/chat_twisted, else ~/.local/state/chat_twisted"
"""What ``default_folder`` returns, for people."""

PAGE = 128 * 1024
"""How much text, in bytes, one reading brings at most (and a message more). It is encoded in one
go, while nothing else happens: some milliseconds."""

SCAN = 10_000
"""Through how many messages one reading for a returning user goes at most."""

MAX_RANKED = 50_000
"""How many hits of a search are ranked at once: a microsecond and a half each."""

_COLUMNS = 'number, time, author, sender, recipient, room, "to", text, request'


class ArchiveError(FilesError):
    """The archive can't be opened; what is wrong is said in one line."""


# Opening


def lock(folder: Path, say: Say = lambda line: None) -> ProcessFile:
    """Make the archive in a state folder this process's and its children's alone.

    :param folder: as ``files.make_private_folder`` returns it; ``say``: see there.
    :raises FilesError: the lock can't be made, or another server has it.
    """
    files.make_private(folder / LOCK, say)
    try:
        return ProcessFile(folder / LOCK)
    except files.InUse as error:
        raise ArchiveError(f"{folder}: another server uses it ({error})") from None


def connect(path: Path, *, sync: str = "normal") -> sqlite3.Connection:
    """Open the file, which any thread may use afterwards, one at a time.

    :param sync: ``normal`` or ``full``: what of a commit survives a loss of power.
    :raises ArchiveError: its write-ahead log is of another file.
    """
    make_file(path)
    if has_foreign_log(path):
        raise ArchiveError(
            f"{path}: {FILE}-wal beside it is of another file: remove {FILE}-wal and {FILE}-shm if "
            "this file was put here; docs/backup.rst says more"
        )
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, check_same_thread=False, timeout=10
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {sync.upper()}")
    return connection


def prepare(
    folder: Path,
    *,
    sync: str = "normal",
    schema: Path | None = None,
    say: Say = lambda line: None,
) -> Saved:
    """Bring the file in ``folder`` to this version's schema and index; return what it holds.

    :param schema: the folder with the numbered steps, if it is not the package's own.
    :param say: takes a line of what was found and mended.
    :raises FilesError: it can't be opened, read, written or understood, or may be another's.
    """
    _make_private(folder, say)
    path = folder / FILE
    try:
        connection = connect(path, sync=sync)
        try:
            _bring_up_to_date(connection, path, schema, say)
            path = folder / index.FILE
            try:
                index.open_beside(connection, folder)
                index.catch_up(connection)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise  # it is locked, or there is no room: that is no reason to throw it away
                connection.rollback()
                index.make_anew(connection, folder)
                path = folder / FILE  # if it fails again, it is this one
                index.catch_up(connection)
            path = folder / FILE
            cursor = connection.cursor()
            cursor.execute("UPDATE progress SET edition = edition")  # it can be written
            connection.commit()
            return load(cursor)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise ArchiveError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _make_private(folder: Path, say: Say) -> None:
    for name in (FILE, index.FILE):
        for suffix in ("", "-wal", "-shm"):
            files.make_private(folder / f"{name}{suffix}", say)


def _read_steps(folder: Traversable) -> dict[int, str]:
    names = {step.name.removesuffix(".sql"): step for step in folder.iterdir()}
    return {int(name): step.read_text() for name, step in names.items() if name.isdigit()}


# Read at once: the user that the server runs as later may not be able to.
_STEPS = _read_steps(resources.files("chat_twisted.storage") / "schema")


def migrate(connection: sqlite3.Connection, folder: Path | None = None) -> None:
    """Take the steps that lead from the file's schema to the newest; each wholly or not at all.

    :raises ArchiveError: the schema is newer than the newest step.
    """
    steps = _STEPS if folder is None else _read_steps(folder)
    for number in range(_version(connection, steps) + 1, max(steps) + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {steps[number]}; PRAGMA user_version = {number}; COMMIT;"
        )


def newest_schema() -> int:
    """Return the number of the newest schema that this version knows."""
    return max(_STEPS)


def _version(connection: sqlite3.Connection, steps: Collection[int]) -> int:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > max(steps):
        raise ArchiveError(
            f"made by a newer version of the server (schema {version}, this one knows {max(steps)})"
        )
    return int(version)


def _bring_up_to_date(
    connection: sqlite3.Connection, path: Path, folder: Path | None, say: Say
) -> None:
    """Take the steps to the newest schema, after a copy of the file was made.

    One copy is kept, of the newest step that was taken. A copy that is there already is not made
    again if nothing was written since: a step that fails at every start does not fill the disk.

    :raises ArchiveError: there is no room for the copy, for one; nothing was changed then.
    """
    steps = _STEPS if folder is None else _read_steps(folder)
    version = _version(connection, steps)
    if 0 < version < max(steps):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        kept = path.with_name(f"{path.name}{BEFORE}{version + 1}")
        time = path.stat().st_mtime_ns
        if not kept.exists() or kept.stat().st_mtime_ns != time:
            try:
                copy(connection, kept, lambda target: None)
                os.utime(kept, ns=(time, time))  # which says of what it is the copy
            except (sqlite3.Error, OSError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ArchiveError(
                    f"{kept}: {reason}: this copy is needed before the schema is changed"
                ) from None
            for other in set(path.parent.glob(f"{path.name}{BEFORE}*")) - {kept}:
                other.unlink()
        say(f"the schema is brought from {version} to {max(steps)}; {kept} is the file before that")
    migrate(connection, folder)


def load(cursor: Cursor) -> Saved:
    """Read what a server must know to go on."""

    def rows(sql: str) -> Any:
        cursor.execute(sql)
        return cursor.fetchall()

    [(last,)] = rows("SELECT ifnull(max(number), 0) FROM message")
    [noted] = rows("SELECT number, time FROM progress")
    [(forgotten,)] = rows("SELECT forgotten FROM indexed")
    # Whoever came or joined after these numbers would take a message under one of them for old.
    [(drawn,)] = rows(
        "SELECT max(ifnull((SELECT max(since) FROM user), 0), "
        "ifnull((SELECT max(max(since, ifnull(until, 0))) FROM member), 0))"
    )
    return Saved(
        last,
        noted,
        forgotten,
        *_load_users(cursor),
        sanctions=rows('SELECT kind, subject, until, reason, "by" FROM sanction'),
        rooms=rows("SELECT id, name, topic, private, owner FROM room"),
        members=rows("SELECT room, user FROM member WHERE until IS NULL ORDER BY since, joined"),
        invitations=rows("SELECT room, user FROM invitation"),
        newest=max(last, drawn),
    )


def _load_users(cursor: Cursor) -> Users:
    def rows(sql: str) -> Any:
        cursor.execute(sql)
        return cursor.fetchall()

    users = rows(
        "SELECT id, name, token, since, position, account FROM user ORDER BY account, since"
    )
    return (
        [SavedUser._make(row) for row in users],
        rows("SELECT user, key, comment FROM key ORDER BY user, key"),
        rows("SELECT user, hash FROM password"),
        edition(cursor),
    )


def edition(cursor: Cursor) -> int:
    """Return how often accounts were changed by ``edit``."""
    cursor.execute("SELECT edition FROM progress")
    [found] = cursor.fetchone()
    return int(found)


def load_accounts(cursor: Cursor) -> Users:
    """Read users with accounts, their keys and passwords."""
    users, keys, passwords, number = _load_users(cursor)
    return [user for user in users if user.account], keys, passwords, number


# Writing


_CHANGES: dict[type, tuple[str, ...]] = {
    UserCame: ("INSERT OR REPLACE INTO user VALUES (:id, :name, :token, :since, :since, 0)",),
    UserGone: (
        "DELETE FROM user WHERE id = :id",
        "DELETE FROM key WHERE user = :id",
        "DELETE FROM password WHERE user = :id",
        "DELETE FROM member WHERE user = :id",
        "DELETE FROM invitation WHERE user = :id",
    ),
    RoomMade: ("INSERT OR REPLACE INTO room VALUES (:id, :name, '', :private, :owner)",),
    RoomGone: (
        "DELETE FROM room WHERE id = :id AND NOT EXISTS "
        "(SELECT 1 FROM member WHERE room = :id AND until IS NULL)",
        "DELETE FROM invitation WHERE room = :id AND room NOT IN (SELECT id FROM room)",
    ),
    OwnerSet: ("UPDATE room SET owner = :owner WHERE id = :room",),
    TopicSet: ("UPDATE room SET topic = :topic WHERE id = :room",),
    Joined: (
        # Who left and joins again before anything was said has a row with this "since" already.
        "INSERT OR REPLACE INTO member SELECT id, :user, :since, NULL, "
        "(SELECT ifnull(max(joined), 0) + 1 FROM member) FROM room WHERE id = :room "
        "AND NOT EXISTS (SELECT 1 FROM member WHERE room = id AND user = :user AND until IS NULL)",
        "DELETE FROM invitation WHERE room = :room AND user = :user",
    ),
    Left: (
        "UPDATE member SET until = :until WHERE room = :room AND user = :user AND until IS NULL",
    ),
    Invited: (  # anybody may join one that is not private
        "INSERT OR IGNORE INTO invitation SELECT room.id, user.id FROM room, user "
        "WHERE room.id = :room AND private AND user.id = :user",
    ),
    AccountMade: (
        "INSERT INTO user VALUES (:id, :name, x'', :since, :since, 1) "
        "ON CONFLICT (id) DO UPDATE SET account = 1, token = x''",
    ),
    AccountGone: (
        "UPDATE user SET account = 0, token = :token WHERE id = :id",
        "DELETE FROM key WHERE user = :id",
        "DELETE FROM password WHERE user = :id",
    ),
    KeyAdded: (
        "INSERT OR REPLACE INTO key SELECT id, :key, :comment FROM user "
        "WHERE id = :user AND account != 0",
    ),
    KeyRemoved: ("DELETE FROM key WHERE user = :user AND key = :key",),
    PasswordSet: (
        "DELETE FROM password WHERE user = :user",
        "INSERT INTO password SELECT id, :hash FROM user "
        "WHERE id = :user AND account != 0 AND :hash != ''",
    ),
    Sanctioned: ("INSERT OR REPLACE INTO sanction VALUES (:kind, :subject, :until, :reason, :by)",),
    Pardoned: ("DELETE FROM sanction WHERE kind = :kind AND subject = :subject",),
}
"""What a change is in SQL; the parameters are its fields."""


def write(
    cursor: Cursor,
    messages: Sequence[Message] = (),
    changes: Iterable[Change] = (),
    *,
    questions: Sequence[tuple[int, int, str]] = (),
    forgotten: int = 0,
    positions: Iterable[tuple[int, int]] = (),
) -> dict[int, tuple[int, int]]:
    """Write one commit; the caller ends the transaction.

    :param questions: of which of ``messages``, and of what else, it is to be looked up whether it
        was sent before: a number, the author, the Id.
    :param forgotten: the number up to which no Id need be remembered.
    :param positions: up to where users have confirmed: their id, and the number.
    :return: which of ``questions`` had been sent before under the same Id, and are not written
        again: their number, with the number and time that the first one has.
    """
    repeats = _said_before(cursor, questions, forgotten)
    if repeats:
        messages = [message for message in messages if message.number not in repeats]
    for values, parameters in in_rows(messages):
        cursor.execute(f"INSERT INTO message ({_COLUMNS}) VALUES {values}", parameters)
    for change in changes:
        for statement in _CHANGES[type(change)]:
            cursor.execute(statement, change._asdict())
    for user, number in positions:
        cursor.execute("UPDATE user SET position = ? WHERE id = ?", (number, user))
    return repeats


def _said_before(
    cursor: Cursor, questions: Sequence[tuple[int, int, str]], forgotten: int
) -> dict[int, tuple[int, int]]:
    """Find what was said before under the same Id; see ``write``."""
    try:
        return index.said_before(cursor, questions)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:  # the index is damaged: no reason not to write
        repeats = {}
        for number, author, id in questions:
            cursor.execute(
                "SELECT number, time FROM message WHERE number > ? AND author = ? AND request = ?",
                (forgotten, author, id),
            )
            if (first := cursor.fetchone()) is not None:
                repeats[number] = first
        return repeats


def note(cursor: Cursor, number: int, time: int) -> None:
    """Note that at ``time`` numbers were given up to ``number``, and all messages said that are
    here. The time is one that waits before it believes a jump (``clocks.SettledTime``).
    """
    cursor.execute("UPDATE progress SET number = ?, time = ?", (number, time))
    cursor.execute(
        "INSERT INTO moment SELECT number, ? FROM message WHERE TRUE ORDER BY number DESC LIMIT 1 "
        "ON CONFLICT (number) DO UPDATE SET time = min(time, excluded.time)",
        (time,),
    )


def said_before(cursor: Cursor, time: int) -> int:
    """Return the number up to which all messages were said before ``time``; 0 if none were.

    What was noted while the clock was ahead does not count: a later number with an earlier time
    says better when it was.
    """
    cursor.execute("SELECT ifnull(max(number), 0) FROM moment WHERE time < ?", (time,))
    [number] = cursor.fetchone()
    return int(number)


def checkpoint(cursor: Cursor) -> int:
    """Take what was committed from the write-ahead log into the file, as far as can be without
    keeping anybody waiting; return how many pages the log has.
    """
    cursor.execute("PRAGMA main.wal_checkpoint(PASSIVE)")
    [(_, pages, _)] = cursor.fetchall()
    return int(pages)


def expire(cursor: Cursor, first: int, last: int) -> None:
    """Delete the messages between two numbers."""
    cursor.execute("DELETE FROM message WHERE number BETWEEN ? AND ?", (first, last))
    cursor.execute("DELETE FROM member WHERE until <= ?", (last,))
    cursor.execute("DELETE FROM moment WHERE number <= ?", (last,))


def edit(
    folder: Path,
    decide: Callable[[Users, int], tuple[Sequence[Change], Mapping[int, int]]],
    say: Say = lambda line: None,
) -> None:
    """Change accounts in a state folder, also while a server runs, which will see it.

    :param decide: gets all users and the newest number, and returns what changes, and whose
        ``account`` is another; it may raise, and nothing is changed.
    :raises ArchiveError: the file can't be opened or written.
    """
    folder = files.make_private_folder(folder, say)  # it may be before a server ever started
    path = folder / FILE
    _make_private(folder, say)
    try:
        with files.sharing(folder), contextlib.closing(connect(path)) as connection:
            _bring_up_to_date(connection, path, None, say)
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 60000")  # a server that is busy writes a lot
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("SELECT ifnull(max(number), 0) FROM message")
            [newest] = cursor.fetchone()
            changes, roles = decide(_load_users(cursor), newest)
            write(cursor, changes=changes)
            for user, account in roles.items():
                cursor.execute("UPDATE user SET account = ? WHERE id = ?", (account, user))
            cursor.execute("UPDATE progress SET edition = edition + 1")
            connection.commit()
    except (sqlite3.Error, OSError) as error:
        raise ArchiveError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_accounts(folder: Path) -> tuple[Any, Any, Any]:
    """Read the users with accounts, keys and passwords of a state folder.

    :raises ArchiveError: there is no file that could be read.
    """
    path = folder / FILE
    try:
        connection = open_to_read(path)
        try:
            return load_accounts(connection.cursor())[:3]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ArchiveError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


# Reading


def touch(cursor: Cursor) -> None:
    """Ask both files for next to nothing."""
    cursor.execute("SELECT upto, (SELECT max(number) FROM message) FROM indexed")
    cursor.fetchall()


def missed(cursor: Cursor, user: int, after: int, upto: int, *, own: bool) -> Page:
    """Read the next of what ``user`` is a party to after the number ``after``, up to ``upto``.

    :param own: whether what the user sent belongs to it.
    """
    cursor.execute(
        "SELECT number FROM message WHERE number > ? AND number <= ? "
        "ORDER BY number LIMIT 1 OFFSET ?",
        (after, upto, SCAN - 1),
    )
    [upto] = cursor.fetchone() or (upto,)
    cursor.execute(
        f"SELECT {_COLUMNS} FROM message WHERE number > :after AND number <= :upto AND ("
        "   (recipient = 0 AND room = 0) OR recipient = :user OR author = :user"
        "   OR room != 0 AND EXISTS (SELECT 1 FROM member WHERE user = :user"
        "       AND member.room = message.room AND since < number"
        "       AND (until IS NULL OR number <= until)))"
        "AND (:own OR author != :user OR recipient = :user) ORDER BY number",
        {"user": user, "after": after, "upto": upto, "own": own},
    )
    messages, cut = _up_to_a_page(iter(cursor.fetchone, None))
    return Page(messages, messages[-1].number if cut else upto)


def _up_to_a_page(rows: Iterable[Any]) -> tuple[list[Message], bool]:
    """Take messages until they are a page; tell whether some may be left."""
    messages: list[Message] = []
    size = 0
    for row in rows:
        if size > PAGE:
            return messages, True
        message = Message._make(row)
        messages.append(message)
        size += len(message.text.encode()) + 100
    return messages, False


def history(cursor: Cursor, conversation: Conversation, span: Span) -> tuple[list[Message], bool]:
    """Read a part of a conversation, oldest message first.

    :return: it, and whether there is more of it in the direction that was read.
    """
    low = -1 if span.after is None else span.after
    high = 2**63 - 1 if span.before is None else span.before
    times = None
    if span.since is not None or span.until is not None:
        times = (
            -(2**63) if span.since is None else span.since,
            2**63 - 1 if span.until is None else span.until,
        )
    order = "ASC" if span.oldest_first else "DESC"
    with index.flag_corruption(cursor):
        numbers = index.numbers(cursor, conversation, low, high, times, order, span.limit + 1)
    cursor.execute(
        f"SELECT {_COLUMNS} FROM message WHERE number IN (SELECT value FROM json_each(?)) "
        f"ORDER BY number {order}",
        (json.dumps(numbers),),
    )
    messages, cut = _up_to_a_page(iter(cursor.fetchone, None))
    more = cut or len(numbers) > span.limit
    messages = messages[: span.limit]
    return messages if span.oldest_first else messages[::-1], more


def search(
    cursor: Cursor,
    user: int,
    rooms: Iterable[int],
    conversation: Conversation | None,
    query: str,
    count: int,
) -> list[Message]:
    """Find messages by their words, best first, among what ``user`` may read. Of more than
    ``MAX_RANKED`` hits the newest come first.

    :param rooms: those that the user is a member of.
    :param conversation: the conversation to look in, if not all.
    """
    mine, parameters = (
        (
            "(recipient = 0 AND room = 0 OR recipient = ? OR author = ? "
            f"OR room IN ({','.join(str(int(room)) for room in rooms)}))",
            (user, user),
        )
        if conversation is None
        else index.conversation_filter(conversation)
    )
    joined = f"CROSS JOIN message ON message.number = words.rowid AND {mine}"
    with index.flag_corruption(cursor):
        try:
            # With a * at the very front it would be a question to FTS5 about itself.
            return _search(cursor, f" {query}", joined, parameters, count)
        except sqlite3.OperationalError as error:
            # Mostly it is what FTS5 can't parse; another fault comes again.
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise
            return _search(cursor, _plain(query), joined, parameters, count)


def _search(
    cursor: Cursor, words: str, joined: str, parameters: tuple[Any, ...], count: int
) -> list[Message]:
    """Go through the hits in portions, newest first, until there are enough; each by rank."""
    columns = ", ".join(f"message.{column}" for column in _COLUMNS.split(", "))
    found: list[Message] = []
    below = 2**63 - 1
    cut = False
    while below and len(found) < count and not cut:
        cursor.execute(
            "SELECT rowid FROM words WHERE words MATCH ? AND rowid < ? "
            "ORDER BY rowid DESC LIMIT 1 OFFSET ?",
            (words, below, MAX_RANKED - 1),
        )
        [start] = cursor.fetchone() or (0,)
        # The function bm25 is only asked about what is left; the column rank, about every hit.
        cursor.execute(
            f"SELECT {columns} FROM words {joined} WHERE words MATCH ? AND words.rowid >= ? "
            "AND words.rowid < ? ORDER BY bm25(words) LIMIT ?",
            (*parameters, words, start, below, count - len(found)),
        )
        page, cut = _up_to_a_page(iter(cursor.fetchone, None))
        found += page
        below = start
    return found


def _plain(query: str) -> str:
    return " ".join(f'"{word}"' for word in query.replace('"', " ").split()) or '""'


def default_folder(user: int | None = None) -> Path:
    """Return the state folder of the XDG base directory specification.

    :param user: see ``files.base_folder``.
    :raises FilesError: there is no home folder that it could be in.
    """
    return files.base_folder("XDG_STATE_HOME", ".local/state", "--state", user) / "chat_twisted"
