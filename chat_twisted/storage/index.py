"""The index: tables for looking up messages, derived from the archive after its commits.

It is a separate SQLite file, because SQLite allows one writer per file, so commits don't wait for
it. It is rebuilt whenever it does not match the archive. Connections to the archive attach its
tables (``attach``): ``place``, the messages of each conversation; ``words``, the full text.

The functions take a cursor and block. ``places`` finds messages in these tables. This
module must not know threads or who may read a message.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from chat_twisted.storage.sql import (
    NO_LOCKS,
    Cursor,
    count,
    damage,
    make_file,
    uris_to_read,
)
from chat_twisted.storage.terms import MAY_CHANGE, rewrite

FILE = "index.sqlite"
DAMAGED = "index.sqlite-damaged"  # if this file exists, the index is rebuilt

VERSION = 7
"""Version of the index schema. An index with another one is rebuilt."""

# Read early: the server may later run as a user who can't read the file.
_SCHEMA = (resources.files("chat_twisted.storage") / "schema" / "index.sql").read_text()

# The conversation of a message, as in table "place" of schema/index.sql.
_ONE = "CASE recipient WHEN 0 THEN 0 ELSE min(author, recipient) END"
_OTHER = "CASE recipient WHEN 0 THEN room ELSE max(author, recipient) END"

# The text under which the index has, or gets, a message, even if the text was deleted since.
_TEXT = (
    "ifnull((SELECT deletion.text FROM deletion WHERE deletion.number = message.number), "
    "message.text)"
)


_SLICE = 1000  # messages that one statement indexes, about 1 ms; also the size of a row of "step"
_REWRITTEN = 64  # texts that are rewritten at once, which bounds the memory: they may be long
_MERGED = 50  # pages of the full text that one step of a purge rewrites, some milliseconds
_yield_thread: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


# Opening


def attach(connection: sqlite3.Connection, folder: Path | None, *, read_only: bool = False) -> None:
    """Attach the index to a connection to the archive; its tables need no prefix.

    :param folder: the state folder; None for an index in memory.
    :param read_only: attach it for reading.
    :raises sqlite3.OperationalError: if it can't be opened.
    """
    if folder is None:
        connection.execute("ATTACH ':memory:' AS looked_up")
    elif read_only:
        _attach_to_read(connection, folder / FILE)
    else:
        uri = f"{(folder / FILE).absolute().as_uri()}?mode=rw"
        connection.execute("ATTACH ? AS looked_up", (uri,))
        # The index can be rebuilt, so it needs no more durability.
        connection.execute("PRAGMA looked_up.journal_mode = WAL")
        connection.execute("PRAGMA looked_up.synchronous = NORMAL")
        connection.execute("PRAGMA looked_up.secure_delete = ON")


def _attach_to_read(connection: sqlite3.Connection, path: Path) -> None:
    problem = None
    for uri in uris_to_read(path):
        try:
            connection.execute("ATTACH ? AS looked_up", (uri,))
            if NO_LOCKS in uri:
                connection.execute("PRAGMA looked_up.locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA looked_up.schema_version")
            return
        except sqlite3.OperationalError as error:
            problem = problem or error
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("DETACH looked_up")
    assert problem is not None
    raise problem


def open_or_rebuild(connection: sqlite3.Connection, folder: Path) -> None:
    """Attach the index, or rebuild it if it is missing or does not match the archive and this
    version.

    It does not match if it is ahead of the archive, which can happen after a loss of power.

    :raises sqlite3.DatabaseError: if it is damaged, or not a database.
    """
    if (folder / FILE).exists() and not (folder / DAMAGED).exists():
        attach(connection, folder)
        [version] = connection.execute("PRAGMA looked_up.user_version").fetchone()
        if version == VERSION:
            found = connection.execute(
                "SELECT 1 FROM indexed JOIN progress USING (stamp) "
                "WHERE upto <= (SELECT ifnull(max(number), 0) FROM message)"
            ).fetchone()
            if found:
                return
    rebuild(connection, folder)


def rebuild(connection: sqlite3.Connection, folder: Path) -> None:
    """Replace the index, if there is one, by an empty one, and attach it."""
    with contextlib.suppress(sqlite3.OperationalError):  # not attached
        connection.execute("DETACH looked_up")
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{FILE}{suffix}").unlink(missing_ok=True)
    make_file(folder / FILE)
    attach(connection, folder)
    make(connection)
    (folder / DAMAGED).unlink(missing_ok=True)


def renew_stamp(connection: sqlite3.Connection, folder: Path) -> bool:
    """Give an archive and the index in a folder a new stamp, so that no other index matches the
    archive.

    :param connection: the archive.
    :return: whether there is an index that matches the archive and is not damaged.
    :raises sqlite3.OperationalError: if it can't be written.
    """
    [old] = connection.execute("SELECT stamp FROM progress").fetchone()
    new = os.urandom(16)
    connection.execute("UPDATE progress SET stamp = ?", (new,))
    connection.commit()
    if not (folder / FILE).exists():
        return False
    try:
        attach(connection, folder)
        if damage(connection, "looked_up", quick=True):
            return False
        stamped = connection.execute("UPDATE indexed SET stamp = ? WHERE stamp = ?", (new, old))
        connection.commit()
        return bool(stamped.rowcount)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False


def catch_up(connection: sqlite3.Connection) -> None:
    """Index all messages, and commit."""
    before, now = -1, 0
    while now > before:
        before, now = now, extend(connection.cursor(), 10_000)
        connection.commit()


def measure(connection: sqlite3.Connection, folder: Path) -> tuple[int, int]:
    """Return the number up to which messages are indexed, and the count of indexed messages. The
    count may include up to a thousand messages that were deleted since.

    :return: -1 and 0 if the archive has no index of its own.
    """
    with contextlib.suppress(sqlite3.DatabaseError):
        attach(connection, folder, read_only=True)
        found = connection.execute(
            "SELECT upto, (SELECT ifnull(sum(count), 0) FROM step) "
            "FROM indexed JOIN progress USING (stamp)"
        ).fetchone()
        if found is not None:
            return found[0], found[1]
    return -1, 0


def make(connection: sqlite3.Connection) -> None:
    """Create the tables in an attached empty index."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA}; INSERT INTO indexed SELECT 0, 0, stamp FROM progress; "
        f"PRAGMA looked_up.user_version = {VERSION}; COMMIT;"
    )


@contextlib.contextmanager
def flag_corruption(cursor: Cursor) -> Iterator[None]:
    """Have the index rebuilt at the next start if the body of a ``with`` statement meets damage.

    Until then the file stays, because no connection could be opened without it. The error is raised
    again.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) is sqlite3.DatabaseError:  # subclasses are errors of the query, or temporary
            cursor.execute("PRAGMA database_list")
            for _, name, path in cursor.fetchall():
                if name == "looked_up" and path:
                    with contextlib.suppress(OSError):  # then it will be met again
                        Path(path).with_name(DAMAGED).touch(mode=0o600)
        raise


# Extending


def extend(cursor: Cursor, limit: int) -> int:
    """Index the next ``limit`` messages; return the number up to which all are indexed."""
    with flag_corruption(cursor):
        return _extend(cursor, limit)


def _extend(cursor: Cursor, limit: int) -> int:
    cursor.execute("SELECT upto FROM indexed")
    [done] = cursor.fetchone()
    upto = done
    while limit > 0:
        # Slices count messages, because numbers may have gaps.
        cursor.execute(
            "SELECT max(number) FROM "
            "(SELECT number FROM message WHERE number > ? ORDER BY number LIMIT ?)",
            (upto, min(limit, _SLICE)),
        )
        [last] = cursor.fetchone()
        if last is None:
            break
        limit -= _SLICE
        between = (upto, last)
        upto = last
        _note_times(cursor, between)
        cursor.execute(
            f"INSERT INTO place SELECT {_ONE} AS one, {_OTHER} AS other, "
            "min(number), max(number), :after, json_group_array(number - :after) "
            "FROM message WHERE number > :after AND number <= :last "
            "GROUP BY one, other RETURNING one, first",
            {"after": between[0], "last": last},
        )
        # One message of each conversation identifies its parties.
        firsts = json.dumps([first for one, first in cursor.fetchall() if one])
        _yield_thread()
        for party, name, partner in (
            ("author", '"to"', "recipient"),
            ("recipient", "sender", "author"),
        ):
            cursor.execute(
                f"INSERT OR IGNORE INTO partner SELECT {party}, lower({name}), {partner} "
                "FROM message WHERE number IN (SELECT value FROM json_each(?))",
                (firsts,),
            )
        _add_new_texts(cursor, between)
        _yield_thread()
    if upto > done:
        cursor.execute("UPDATE indexed SET upto = ?", (upto,))
    return int(upto)


def _add_new_texts(cursor: Cursor, between: tuple[int, int]) -> None:
    """Add the texts of a range of messages to the full text."""
    in_range = "WHERE number > :after AND number <= :last"
    parameters = dict(zip(("after", "last"), between, strict=True))
    # Nearly all texts are as they were sent, and are indexed so. To find that out for all of them
    # takes less time than to look up each of them among those that were deleted.
    cursor.execute(
        f"SELECT 1 FROM message {in_range} AND {MAY_CHANGE} "
        f"UNION ALL SELECT 1 FROM deletion {in_range} LIMIT 1",
        parameters,
    )
    if cursor.fetchone() is None:
        cursor.execute(
            f"INSERT INTO words (rowid, text) SELECT number, text FROM message {in_range}",
            parameters,
        )
    else:
        texts = f"SELECT number, {_TEXT} AS text FROM message WHERE number > ? AND number <= ?"
        _add_texts(cursor, texts, between)


def _add_texts(
    cursor: Cursor, texts: str, parameters: tuple[Any, ...], *, delete: bool = False
) -> None:
    """Add texts to the full text, or delete them from it; these must be the same.

    :param texts: a query for numbers of messages, and their texts.
    """
    begin = "INSERT INTO words (rowid, text) SELECT"
    if delete:
        begin = "INSERT INTO words (words, rowid, text) SELECT 'delete',"
    # The LIMIT keeps SQLite from looking up a text for each of its mentions in the condition.
    cursor.execute(
        f"{begin} number, text FROM ({texts} LIMIT -1) WHERE NOT {MAY_CHANGE}", parameters
    )
    # Not by a function that SQLite calls: each call would wait for the lock of the interpreter.
    last = -1
    while True:
        cursor.execute(
            "SELECT json_group_array(json_array(number, text)), max(number) FROM (SELECT * FROM "
            f"({texts}) WHERE {MAY_CHANGE} AND number > ? ORDER BY number LIMIT {_REWRITTEN})",
            (*parameters, last),
        )
        some, last = cursor.fetchone()
        if last is None:
            return
        rewritten = [(number, rewrite(text)) for number, text in json.loads(some)]
        cursor.execute(
            f"{begin} json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
            (json.dumps(rewritten, ensure_ascii=False),),
        )


def _note_times(cursor: Cursor, between: tuple[int, int]) -> None:
    """Record the first and last time of a range of messages, for searching by time."""
    cursor.execute(
        "SELECT count(*), min(number), max(number), min(time), max(time) FROM message "
        "WHERE number > ? AND number <= ?",
        between,
    )
    count, first, last, earliest, latest = cursor.fetchone()
    cursor.execute(
        "UPDATE step SET count = count + ?, last = ?, earliest = min(earliest, ?), "
        "latest = max(latest, ?) WHERE first = (SELECT max(first) FROM step) AND count < ? "
        "RETURNING 1",
        (count, last, earliest, latest, _SLICE),
    )
    if not cursor.fetchall():
        cursor.execute(
            "INSERT INTO step VALUES (?, ?, ?, ?, ?)", (first, last, count, earliest, latest)
        )


def remove_texts(cursor: Cursor, limit: int) -> list[int]:
    """Remove the texts of at most ``limit`` deleted messages from the index; return their numbers,
    for ``archive.forget_deletions``.
    """
    cursor.execute(
        "SELECT number FROM deletion WHERE number > 0 AND number <= (SELECT upto FROM indexed) "
        "LIMIT ?",
        (limit,),
    )
    numbers = [number for (number,) in cursor.fetchall()]
    # They may be removed already, by a server that was killed before ``forget_deletions``.
    texts = (
        "SELECT number, text FROM deletion WHERE number IN (SELECT value FROM json_each(?)) "
        "AND number IN (SELECT id FROM words_docsize)"
    )
    _add_texts(cursor, texts, (json.dumps(numbers),), delete=True)
    return numbers


def purge(cursor: Cursor, *, begin: bool) -> bool:
    """Merge a part of the full-text index, so that the words of deleted messages leave the file:
    FTS5 only marks them as deleted until a merge.

    :param begin: whether this is the first step.
    :return: whether further steps are needed.
    """
    connection = cursor.connection
    before = connection.total_changes
    cursor.execute(
        "INSERT INTO words (words, rank) VALUES ('merge', ?)", (-_MERGED if begin else _MERGED,)
    )
    return bool(connection.total_changes - before >= 2)


def remove(cursor: Cursor, upto: int, limit: int) -> tuple[int, int] | None:
    """Remove the oldest messages from the index before ``archive.expire`` deletes them.

    The newest message is never removed: its number is the ``Last`` of the protocol.

    :param upto: the last number to remove.
    :param limit: the maximum number of messages.
    :return: the first and the last removed number, or None.
    """
    cursor.execute(
        "SELECT min(upto, (SELECT max(number) FROM message) - 1, ?) FROM indexed", (upto,)
    )
    [last] = cursor.fetchone()
    cursor.execute(
        "SELECT min(number), max(number) FROM "
        "(SELECT number FROM message WHERE number <= ? ORDER BY number LIMIT ?)",
        (last or 0, limit),
    )
    span: tuple[int, int] = cursor.fetchone()
    if span[0] is None:
        return None
    # They may be removed already, by a server that was killed before it deleted them.
    texts = (
        f"SELECT number, {_TEXT} AS text FROM message WHERE number BETWEEN ? AND ? "
        "AND number IN (SELECT id FROM words_docsize)"
    )
    _add_texts(cursor, texts, span, delete=True)
    for statement in (
        # A row that also has later messages is deleted with the last of them: "first" is in the
        # key.
        "DELETE FROM place WHERE last <= :last AND first <= :last AND (one, other) IN "
        f"(SELECT {_ONE}, {_OTHER} FROM message WHERE number BETWEEN :first AND :last)",
        "DELETE FROM step WHERE last <= :last",
        "UPDATE indexed SET deleted = :last",
    ):
        cursor.execute(statement, {"first": span[0], "last": span[1]})
    return span


# Lookups


def touch(cursor: Cursor) -> None:
    """Run a minimal query on both files, so that SQLite opens them."""
    cursor.execute("SELECT upto, (SELECT max(number) FROM message) FROM indexed")
    cursor.fetchall()


# Checks


def check(connection: sqlite3.Connection, folder: Path) -> list[str]:
    """Check the index beside an archive; return the problems, one line each."""
    made = "the server makes it again when it starts"
    try:
        attach(connection, folder, read_only=True)
    except sqlite3.OperationalError:
        return [f"no {FILE} that could be read: {made}"]
    except sqlite3.DatabaseError:
        return [f"{FILE} is damaged: {made}"]
    try:
        connection.execute("BEGIN")  # one snapshot for all queries
        # The bounds first: the messages within them were there before.
        deleted, upto = connection.execute("SELECT deleted, upto FROM indexed").fetchone()
        indexed = f"number > {deleted} AND number <= {upto}"
        oldest = "(SELECT ifnull(min(number), 0) FROM message)"
        faults = damage(connection, "looked_up")
        [deletes] = connection.execute(
            "SELECT count(*) FROM main.sqlite_schema WHERE name = 'deletion'"
        ).fetchone()
        waiting = "SELECT number FROM deletion WHERE text != ''" if deletes else "number"
        placed = "SELECT one, other, base + value AS number FROM place, json_each(numbers)"
        return faults + count(
            connection,
            {
                "messages that stand in no conversation": "SELECT count(*) FROM "
                f"(SELECT {_ONE}, {_OTHER}, number FROM message WHERE {indexed} "
                f"EXCEPT {placed})",
                "messages to or from a name that nobody had": "SELECT count(*) FROM "
                "(SELECT party, name FROM message_place "
                f"WHERE {indexed} AND name != '' EXCEPT SELECT user, name FROM partner)",
                # Deleted messages may remain in rows that also have others, or reappear after a
                # loss of power.
                "places of messages that are not there": f"SELECT count(*) FROM ({placed}) "
                f"WHERE number NOT IN (SELECT number FROM message) AND number > {oldest}",
                "messages that can't be found by their time": "SELECT count(*) FROM message "
                f"WHERE {indexed} AND NOT EXISTS (SELECT 1 FROM step WHERE first = "
                "(SELECT max(first) FROM step WHERE first <= number) "
                "AND number <= last AND time BETWEEN earliest AND latest)",
                "messages that can't be searched": "SELECT count(*) FROM message "
                f"WHERE {indexed} AND text != '' "
                "AND number NOT IN (SELECT id FROM words_docsize)",
                "words of deleted messages": "SELECT count(*) FROM words_docsize JOIN message "
                f"ON number = id WHERE text = '' AND sz != x'00' AND number NOT IN ({waiting})",
                "words of messages that are not there": "SELECT count(*) FROM words_docsize "
                f"WHERE id NOT IN (SELECT number FROM message) AND id > {oldest}",
            },
        )
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return [f"{FILE} is damaged ({error}): remove it, and {made}"]
