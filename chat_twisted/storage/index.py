"""The index: what messages are looked up by, made of the archive behind its commits.

It is a SQLite file of its own, since SQLite lets one writer at a time into a file: so no commit
waits for it. It is thrown away and made again whenever it is not of the archive beside it. A
connection to the archive has its tables too (``attach``): ``place``, in which conversation messages
stand; ``request``, under which Ids they came; ``words``, what is in them.

The functions take a cursor and block. ``archive`` asks them, and searches ``words`` itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path

from chat_twisted.core.message import Conversation
from chat_twisted.storage.sql import (
    NO_LOCKS,
    Cursor,
    count,
    damage,
    in_rows,
    make_file,
    uris_to_read,
)

FILE = "index.sqlite"
DAMAGED = "index.sqlite-damaged"  # where this is, the index is made again

VERSION = 3
"""Of its schema. With another one it is made again."""

# Read at once: the user that the server runs as later may not be able to.
_SCHEMA = (resources.files("chat_twisted.storage") / "schema" / "index.sql").read_text()

# The conversation that a message stands in; see schema/index.sql, place.
_ONE = "CASE recipient WHEN 0 THEN 0 ELSE min(author, recipient) END"
_OTHER = "CASE recipient WHEN 0 THEN room ELSE max(author, recipient) END"

_SLICE = 1000  # messages that are indexed by one statement: a millisecond; of a row of "step"
_let_others: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


# Opening


def attach(connection: sqlite3.Connection, folder: Path | None, *, read_only: bool = False) -> None:
    """Let a connection to the archive use the index beside it, under the same names of tables.

    :param folder: where it is; None for one in memory.
    """
    if folder is None:
        connection.execute("ATTACH ':memory:' AS looked_up")
    elif read_only:
        _attach_to_read(connection, folder / FILE)
    else:
        uri = f"{(folder / FILE).absolute().as_uri()}?mode=rw"
        connection.execute("ATTACH ? AS looked_up", (uri,))
        # It is of no use without the archive, so it need be no safer.
        connection.execute("PRAGMA looked_up.journal_mode = WAL")
        connection.execute("PRAGMA looked_up.synchronous = NORMAL")


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


def open_beside(connection: sqlite3.Connection, folder: Path) -> None:
    """Attach the index; make it anew if it is not there, or not of this archive and this version.

    It is not of this archive either if it has come further: a loss of power can take from the one
    what it leaves to the other.

    :raises sqlite3.DatabaseError: it is damaged, or no index at all.
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
    make_anew(connection, folder)


def make_anew(connection: sqlite3.Connection, folder: Path) -> None:
    """Make an empty index, whatever is there, and attach it."""
    with contextlib.suppress(sqlite3.OperationalError):  # it is not attached
        connection.execute("DETACH looked_up")
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{FILE}{suffix}").unlink(missing_ok=True)
    make_file(folder / FILE)
    attach(connection, folder)
    make(connection)
    (folder / DAMAGED).unlink(missing_ok=True)


def catch_up(connection: sqlite3.Connection) -> None:
    """Make everything findable."""
    before, now = -1, 0
    while now > before:
        before, now = now, extend(connection.cursor(), 10_000)
        connection.commit()


def make(connection: sqlite3.Connection) -> None:
    """Make the tables of an index that was attached and is empty."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA}; INSERT INTO indexed SELECT 0, 0, 0, stamp FROM progress; "
        f"PRAGMA looked_up.user_version = {VERSION}; COMMIT;"
    )


@contextlib.contextmanager
def flag_corruption(cursor: Cursor) -> Iterator[None]:
    """If what is done meets damage, have the index made again at the next start. Until then it
    stays: without its file no further connection could be opened, to write least of all.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) is sqlite3.DatabaseError:  # the others are of what was asked, or pass
            cursor.execute("PRAGMA database_list")
            for _, name, path in cursor.fetchall():
                if name == "looked_up" and path:
                    with contextlib.suppress(OSError):  # then it is met again
                        Path(path).with_name(DAMAGED).touch(mode=0o600)
        raise


# Making


def extend(cursor: Cursor, limit: int) -> int:
    """Make the next ``limit`` messages findable; return up to which number all are."""
    with flag_corruption(cursor):
        return _extend(cursor, limit)


def _extend(cursor: Cursor, limit: int) -> int:
    cursor.execute("SELECT upto FROM indexed")
    [done] = cursor.fetchone()
    upto = done
    span = "number > ? AND number <= ?"
    while limit > 0:
        # Slices are counted in messages: numbers may be far apart.
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
            f"min(number), max(number), ?1, json_group_array(number - ?1) "
            "FROM message WHERE number > ?1 AND number <= ?2 "
            "GROUP BY one, other RETURNING one, first",
            between,
        )
        # One message of each conversation says who its parties are.
        firsts = json.dumps([first for one, first in cursor.fetchall() if one])
        _let_others()
        for party, name, partner in (
            ("author", '"to"', "recipient"),
            ("recipient", "sender", "author"),
        ):
            cursor.execute(
                f"INSERT OR IGNORE INTO partner SELECT {party}, lower({name}), {partner} "
                "FROM message WHERE number IN (SELECT value FROM json_each(?))",
                (firsts,),
            )
        for statement in (
            # Of two messages under one Id the older one's was forgotten.
            "INSERT OR REPLACE INTO request SELECT author, request, number FROM message "
            f"WHERE request IS NOT NULL AND {span} ORDER BY author, request, number",
            f"INSERT INTO words (rowid, text) SELECT number, text FROM message WHERE {span}",
        ):
            cursor.execute(statement, between)
            _let_others()
    if upto > done:
        cursor.execute("UPDATE indexed SET upto = ?", (upto,))
    return int(upto)


def _note_times(cursor: Cursor, between: tuple[int, int]) -> None:
    """Note the first and the last time of messages, so that they are found by it."""
    cursor.execute(
        "SELECT count(*), min(number), max(number), min(time), max(time) FROM message "
        "WHERE number > ? AND number <= ?",
        between,
    )
    step = cursor.fetchone()
    cursor.execute(
        "UPDATE step SET count = count + ?1, last = ?3, earliest = min(earliest, ?4), "
        "latest = max(latest, ?5) WHERE first = (SELECT max(first) FROM step) AND count < ?6 "
        "RETURNING 1",
        (*step, _SLICE),
    )
    if not cursor.fetchall():
        cursor.execute("INSERT INTO step VALUES (?2, ?3, ?1, ?4, ?5)", step)


def forget_requests(cursor: Cursor, upto: int, limit: int) -> bool:
    """Forget the Ids of at most ``limit`` messages up to the number ``upto``; return whether there
    may be more.
    """
    cursor.execute("SELECT forgotten, min(upto, ?) FROM indexed", (upto,))
    forgotten, last = cursor.fetchone()
    cursor.execute(
        "SELECT author, request, number FROM message WHERE number > ? AND number <= ? "
        "ORDER BY number LIMIT ?",
        (forgotten, last, limit),
    )
    old = cursor.fetchall()
    _forget(cursor, old)
    if old:
        cursor.execute("UPDATE indexed SET forgotten = ?", (old[-1][2],))
    return len(old) == limit


def _forget(cursor: Cursor, requests: Iterable[tuple[int, str | None, int]]) -> None:
    """Forget Ids: the author, the Id, the message's number. One that was forgotten before may be
    that of a newer message by now.
    """
    cursor.executemany("DELETE FROM request WHERE user = ? AND id = ? AND number <= ?", requests)


def remove(cursor: Cursor, upto: int, limit: int) -> tuple[int, int] | None:
    """Let at most ``limit`` messages up to the number ``upto`` not be found any more, before they
    are deleted (``archive.expire``); return the first and the last number, None if there are none.
    The newest stays: it is what ``Last`` says.
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
    cursor.execute("SELECT author, request, number FROM message WHERE number BETWEEN ? AND ?", span)
    _forget(cursor, cursor.fetchall())
    for statement in (
        # A row that has later ones too is deleted with the last of them; "first" is in the key.
        "DELETE FROM place WHERE last <= ?2 AND first <= ?2 AND (one, other) IN "
        f"(SELECT {_ONE}, {_OTHER} FROM message WHERE number BETWEEN ?1 AND ?2)",
        # It may have been done before, by a server that was killed before it deleted them.
        "INSERT INTO words (words, rowid, text) SELECT 'delete', number, text FROM message "
        "WHERE number BETWEEN ? AND ? AND number IN (SELECT id FROM words_docsize)",
        "DELETE FROM step WHERE last <= ?2",
        "UPDATE indexed SET deleted = ?2",
    ):
        cursor.execute(statement, span)
    return span


# Looking up


def said_before(
    cursor: Cursor, questions: Sequence[tuple[int, int, str]]
) -> dict[int, tuple[int, int]]:
    """Find what was said before under the same Id; see ``archive.write``."""
    repeats: dict[int, tuple[int, int]] = {}
    with flag_corruption(cursor):
        for values, parameters in in_rows(questions):
            cursor.execute(
                f"WITH sent (number, user, id) AS (VALUES {values}) "
                "SELECT sent.number, message.number, message.time FROM sent "
                "CROSS JOIN request ON request.user = sent.user AND request.id = sent.id "
                "CROSS JOIN message ON message.number = request.number",
                parameters,
            )
            repeats.update((row[0], (row[1], row[2])) for row in cursor.fetchall())
    return repeats


def numbers(
    cursor: Cursor,
    conversation: Conversation,
    low: int,
    high: int,
    times: tuple[int, int] | None,
    order: str,
    limit: int,
) -> list[int]:
    """Find the numbers of the first (or the last) messages of a conversation between two others,
    and between two times, which belong to it. What is not indexed yet is walked through.
    """
    cursor.execute("SELECT upto, (SELECT min(number) FROM message) FROM indexed")
    upto, oldest = cursor.fetchone()
    low = max(low, (oldest or 1) - 1)  # what is older was deleted
    found: list[int] = []
    for first, last in [(low, high)] if times is None else _spans(cursor, times, order):
        bounds = (max(low, first), min(high, last))
        found += _numbers(cursor, conversation, bounds, times, order, limit - len(found), upto)
        if len(found) >= limit:
            break
    return found


def _spans(cursor: Cursor, times: tuple[int, int], order: str) -> list[tuple[int, int]]:
    """Return where messages of some time may be: the number before and the one after. It is one
    span, and a further one for each time that the clock was wrong.
    """
    cursor.execute(
        "SELECT first, last, "
        "(SELECT last FROM step AS s WHERE s.first < step.first ORDER BY s.first DESC LIMIT 1) "
        "FROM step WHERE latest >= ? AND earliest <= ? ORDER BY first",
        times,
    )
    spans: list[tuple[int, int]] = []
    ended = None
    for first, last, before in cursor.fetchall():
        if spans and before == ended:
            spans[-1] = (spans[-1][0], last + 1)
        else:
            spans.append((first - 1, last + 1))
        ended = last
    cursor.execute("SELECT upto FROM indexed")
    [upto] = cursor.fetchone()
    spans.append((upto, 2**63 - 1))  # what is not indexed yet
    return spans if order == "ASC" else spans[::-1]


def _numbers(
    cursor: Cursor,
    conversation: Conversation,
    bounds: tuple[int, int],
    times: tuple[int, int] | None,
    order: str,
    limit: int,
    upto: int,
) -> list[int]:
    low, high = bounds
    looking = cursor.connection.cursor()
    found: list[int] = []
    for one, other in _conversations(cursor, conversation):
        cursor.execute(
            "SELECT base, numbers FROM place WHERE (one, other) = (:one, :other) AND first < :high "
            "AND first >= ifnull((SELECT max(first) FROM place "
            "WHERE (one, other) = (:one, :other) AND first <= :low), 0) "
            f"ORDER BY first {order}",
            {"one": one, "other": other, "low": low, "high": min(high, upto + 1)},
        )
        enough = len(found) + limit
        for base, offsets in iter(cursor.fetchone, None):
            numbers = [base + n for n in json.loads(offsets)]
            numbers = [n for n in numbers if low < n < high and n <= upto]
            found += numbers if times is None else _of_time(looking, numbers, times)
            if len(found) >= enough:
                break
    stands, parameters = conversation_filter(conversation)
    timely = "" if times is None else "AND time >= ? AND time <= ?"
    cursor.execute(
        f"SELECT number FROM message WHERE number > ? AND number < ? AND {stands} {timely} "
        f"ORDER BY number {order} LIMIT ?",
        (max(low, upto), high, *parameters, *(times or ()), limit),
    )
    found += [number for (number,) in cursor.fetchall()]
    found.sort(reverse=order == "DESC")
    return found[:limit]


def _of_time(cursor: Cursor, numbers: list[int], times: tuple[int, int]) -> list[int]:
    """Return those of ``numbers`` whose messages were said between two times."""
    cursor.execute(
        "SELECT number FROM message WHERE number IN (SELECT value FROM json_each(?)) "
        "AND time >= ? AND time <= ?",
        (json.dumps(numbers), *times),
    )
    return [number for (number,) in cursor.fetchall()]


def conversation_filter(conversation: Conversation) -> tuple[str, tuple[int | str, ...]]:
    """Return what is true of a message that stands in a conversation, and its parameters."""
    if not conversation.name:
        return "recipient = 0 AND room = ?", (conversation.party,)
    said, heard = 'author = ? AND lower("to") = ?', "recipient = ? AND lower(sender) = ?"
    return f"recipient != 0 AND ({said} OR {heard})", (*conversation, *conversation)


def _conversations(cursor: Cursor, conversation: Conversation) -> list[tuple[int, int]]:
    """Find what ``conversation`` is in the index: of a direct one, with each who had the name."""
    if not conversation.name:
        return [(0, conversation.party)]
    cursor.execute("SELECT partner FROM partner WHERE user = ? AND name = ?", conversation)
    return [
        (min(conversation.party, partner), max(conversation.party, partner))
        for (partner,) in cursor.fetchall()
    ]


# Whether it is sound


def check(connection: sqlite3.Connection, folder: Path) -> list[str]:
    """Look whether the index beside an archive is sound; return what is not."""
    made = "the server makes it again when it starts"
    try:
        attach(connection, folder, read_only=True)
    except sqlite3.OperationalError:
        return [f"no {FILE} that could be read: {made}"]
    except sqlite3.DatabaseError:
        return [f"{FILE} is damaged: {made}"]
    try:
        connection.execute("BEGIN")  # all that is asked is of one moment
        # The index first: it is of messages that were there before.
        deleted, upto = connection.execute("SELECT deleted, upto FROM indexed").fetchone()
        indexed = f"number > {deleted} AND number <= {upto}"
        oldest = "(SELECT ifnull(min(number), 0) FROM message)"
        faults = damage(connection, "looked_up")
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
                # Of what was deleted, some may stand beside what was not, or be back after a loss
                # of power.
                "places of messages that are not there": f"SELECT count(*) FROM ({placed}) "
                f"WHERE number NOT IN (SELECT number FROM message) AND number > {oldest}",
                "Ids of messages that are not there": "SELECT count(*) FROM request "
                f"WHERE number NOT IN (SELECT number FROM message) AND number > {oldest}",
                "messages that can't be found by their time": "SELECT count(*) FROM message "
                f"WHERE {indexed} AND NOT EXISTS (SELECT 1 FROM step WHERE first = "
                "(SELECT max(first) FROM step WHERE first <= number) "
                "AND number <= last AND time BETWEEN earliest AND latest)",
                "messages that can't be searched": "SELECT count(*) FROM message "
                f"WHERE {indexed} AND number NOT IN (SELECT id FROM words_docsize)",
                "words of messages that are not there": "SELECT count(*) FROM words_docsize "
                f"WHERE id NOT IN (SELECT number FROM message) AND id > {oldest}",
            },
        )
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return [f"{FILE} is damaged ({error}): remove it, and {made}"]
