"""The index: tables for looking up messages, derived from the archive after its commits.

It is a separate SQLite file, because SQLite allows one writer per file, so commits don't wait for
it. It is rebuilt whenever it does not match the archive. Connections to the archive attach its
tables (``attach``): ``place``, the messages of each conversation; ``words``, the full text.

The functions take a cursor and block. ``archive`` calls them, and searches ``words`` itself. This
module must not know threads or who may read a message.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from chat_twisted.core.message import Conversation
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

VERSION = 6
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

# The rows of table "place" that may have messages of a conversation between two numbers.
_ROWS = (
    "(one, other) = (:one, :other) AND first < :high AND first >= ifnull((SELECT max(first) "
    "FROM place WHERE (one, other) = (:one, :other) AND first <= :low), 0)"
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
            f"min(number), max(number), ?1, json_group_array(number - ?1) "
            "FROM message WHERE number > ?1 AND number <= ?2 "
            "GROUP BY one, other RETURNING one, first",
            between,
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
        texts = f"SELECT number, {_TEXT} AS text FROM message WHERE number > ? AND number <= ?"
        _add_texts(cursor, texts, between)
        _yield_thread()
    if upto > done:
        cursor.execute("UPDATE indexed SET upto = ?", (upto,))
    return int(upto)


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
    cursor.execute(f"SELECT 1 FROM ({texts} LIMIT -1) WHERE {MAY_CHANGE} LIMIT 1", parameters)
    if cursor.fetchone() is None:
        cursor.execute(f"{begin} number, text FROM ({texts})", parameters)
        return
    cursor.execute(f"{begin} number, text FROM ({texts}) WHERE NOT {MAY_CHANGE}", parameters)
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
    step = cursor.fetchone()
    cursor.execute(
        "UPDATE step SET count = count + ?1, last = ?3, earliest = min(earliest, ?4), "
        "latest = max(latest, ?5) WHERE first = (SELECT max(first) FROM step) AND count < ?6 "
        "RETURNING 1",
        (*step, _SLICE),
    )
    if not cursor.fetchall():
        cursor.execute("INSERT INTO step VALUES (?2, ?3, ?1, ?4, ?5)", step)


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
        "DELETE FROM place WHERE last <= ?2 AND first <= ?2 AND (one, other) IN "
        f"(SELECT {_ONE}, {_OTHER} FROM message WHERE number BETWEEN ?1 AND ?2)",
        "DELETE FROM step WHERE last <= ?2",
        "UPDATE indexed SET deleted = ?2",
    ):
        cursor.execute(statement, span)
    return span


# Lookups


def touch(cursor: Cursor) -> None:
    """Run a minimal query on both files, so that SQLite opens them."""
    cursor.execute("SELECT upto, (SELECT max(number) FROM message) FROM indexed")
    cursor.fetchall()


def numbers(
    cursor: Cursor,
    conversation: Conversation,
    low: int,
    high: int,
    times: tuple[int, int] | None,
    order: str,
    limit: int,
) -> list[int]:
    """Return the numbers of the first or last messages of a conversation.

    Messages that are not indexed yet are scanned.

    :param low: only numbers greater than this.
    :param high: only numbers less than this.
    :param times: the earliest and the latest time, in milliseconds since the epoch; None for all.
    :param order: ``ASC`` for the first messages, ``DESC`` for the last.
    :param limit: the maximum count.
    """
    cursor.execute("SELECT upto, (SELECT min(number) FROM message) FROM indexed")
    upto, oldest = cursor.fetchone()
    low = max(low, (oldest or 1) - 1)  # older ones were deleted
    found: list[int] = []
    for first, last in [(low, high)] if times is None else _spans(cursor, times, order):
        bounds = (max(low, first), min(high, last))
        found += _numbers(cursor, conversation, bounds, times, order, limit - len(found), upto)
        if len(found) >= limit:
            break
    return found


def count_messages(
    cursor: Cursor, conversation: Conversation, times: tuple[int, int] | None, limit: int
) -> int:
    """Count the messages of a conversation, those that are not indexed yet included.

    :param times: as for ``numbers``.
    :param limit: count up to this.
    """
    cursor.execute("SELECT upto, (SELECT ifnull(min(number), 0) FROM message) FROM indexed")
    upto, oldest = cursor.fetchone()
    found = 0
    timed = ""
    if times is not None:
        timed = (
            "AND EXISTS (SELECT 1 FROM message WHERE number = base + value "
            "AND time >= :since AND time <= :until)"
        )
    since, until = times or (0, 0)
    spans = [(-1, 2**63 - 1)] if times is None else _spans(cursor, times, "ASC")
    keys = _conversations(cursor, conversation)
    for low, high in spans:
        bounds = {"low": max(low, oldest - 1), "high": min(high, upto + 1)}
        for one, other in keys:
            cursor.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM place, json_each(numbers) WHERE {_ROWS} "
                f"AND base + value > :low AND base + value < :high {timed} LIMIT :limit)",
                {"one": one, "other": other, "since": since, "until": until, **bounds}
                | {"limit": limit - found},
            )
            found += cursor.fetchone()[0]
    condition, parameters = conversation_filter(conversation)
    in_time = "" if times is None else "AND time >= ? AND time <= ?"
    cursor.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM message WHERE number > ? AND {condition} {in_time} "
        "LIMIT ?)",
        (upto, *parameters, *(times or ()), limit - found),
    )
    return found + int(cursor.fetchone()[0])


def numbers_within(cursor: Cursor, times: tuple[int, int]) -> tuple[int, int]:
    """Return the first and the last number of indexed messages that may have a time in a range."""
    cursor.execute(
        "SELECT ifnull(min(first), 1), ifnull(max(last), 0) FROM step "
        "WHERE latest >= ? AND earliest <= ?",
        times,
    )
    first, last = cursor.fetchone()
    return first, last


def _spans(cursor: Cursor, times: tuple[int, int], order: str) -> list[tuple[int, int]]:
    """Return ranges of numbers that may contain messages of some time.

    A range is given by the number before it and the number after it. There is one, and one more for
    each time that the clock was wrong.
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
    spans.append((upto, 2**63 - 1))  # messages that are not indexed yet
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
    inner = cursor.connection.cursor()
    found: list[int] = []
    for one, other in _conversations(cursor, conversation):
        cursor.execute(
            f"SELECT base, numbers FROM place WHERE {_ROWS} ORDER BY first {order}",
            {"one": one, "other": other, "low": low, "high": min(high, upto + 1)},
        )
        enough = len(found) + limit
        for base, offsets in iter(cursor.fetchone, None):
            numbers = [base + n for n in json.loads(offsets)]
            numbers = [n for n in numbers if low < n < high and n <= upto]
            found += numbers if times is None else _within_times(inner, numbers, times)
            if len(found) >= enough:
                break
    condition, parameters = conversation_filter(conversation)
    in_time = "" if times is None else "AND time >= ? AND time <= ?"
    cursor.execute(
        f"SELECT number FROM message WHERE number > ? AND number < ? AND {condition} {in_time} "
        f"ORDER BY number {order} LIMIT ?",
        (max(low, upto), high, *parameters, *(times or ()), limit),
    )
    found += [number for (number,) in cursor.fetchall()]
    found.sort(reverse=order == "DESC")
    return found[:limit]


def _within_times(cursor: Cursor, numbers: list[int], times: tuple[int, int]) -> list[int]:
    """Return those of ``numbers`` whose messages have a time in the given range."""
    cursor.execute(
        "SELECT number FROM message WHERE number IN (SELECT value FROM json_each(?)) "
        "AND time >= ? AND time <= ?",
        (json.dumps(numbers), *times),
    )
    return [number for (number,) in cursor.fetchall()]


def conversation_filter(conversation: Conversation) -> tuple[str, tuple[int | str, ...]]:
    """Return an SQL condition for the messages of a conversation, and its parameters."""
    if not conversation.name:
        return "recipient = 0 AND room = ?", (conversation.party,)
    said = 'author = ? AND (lower("to") = ? OR recipient = ?)'
    heard = "recipient = ? AND (lower(sender) = ? OR author = ?)"
    return f"recipient != 0 AND ({said} OR {heard})", (*conversation, *conversation)


def _conversations(cursor: Cursor, conversation: Conversation) -> list[tuple[int, int]]:
    """Return the keys of a conversation in the index: for direct messages, one for each user who
    had the name or has it now.
    """
    if not conversation.name:
        return [(0, conversation.party)]
    party, name, other = conversation
    cursor.execute("SELECT partner FROM partner WHERE user = ? AND name = ?", (party, name))
    partners = dict.fromkeys(partner for (partner,) in cursor.fetchall())
    if other:
        partners[other] = None
    return [(min(party, partner), max(party, partner)) for partner in partners]


class Partner(NamedTuple):
    """A user with whom another one has talked.

    :ivar key: the folded name under which their conversation is listed: the current name if they
        have talked under it, else one that the partner had.
    :ivar keys: all names that the partner had or has, and no other partner of that user had.
    """

    number: int
    key: str
    keys: list[str]


def partners(cursor: Cursor, user: int, after: str, limit: int) -> tuple[list[Partner], str]:
    """Return the partners of a user by the names that they had.

    :param after: only names after this.
    :param limit: the maximum number of names.
    :return: the partners, and the last name if there are more.
    """
    cursor.execute(
        "SELECT json_group_array(json_array(name, partners)) FROM "
        "(SELECT name, json_group_array(partner) AS partners FROM partner "
        "WHERE user = ? AND name > ? GROUP BY name ORDER BY name LIMIT ?)",
        (user, after, limit + 1),
    )
    found = json.loads(cursor.fetchone()[0])
    more = found[limit - 1][0] if len(found) > limit else ""
    numbers = {number for _, some in found[:limit] for number in json.loads(some)}
    cursor.execute(
        "SELECT json_group_array(json_array(partner, name, (SELECT count(*) FROM partner AS same "
        "WHERE same.user = partner.user AND same.name = partner.name), "
        "(SELECT lower(user.name) FROM user WHERE id = partner) = name)) FROM partner "
        "WHERE user = ? AND partner IN (SELECT value FROM json_each(?))",
        (user, json.dumps(list(numbers))),
    )
    keys: dict[int, str] = {}
    alone: dict[int, list[str]] = {number: [] for number in numbers}
    for number, name, owners, is_current in json.loads(cursor.fetchone()[0]):
        if is_current or number not in keys:
            keys[number] = name
        if owners == 1:
            alone[number].append(name)
    # HISTORY of the current name has all messages, even if there are none under it.
    cursor.execute(
        "SELECT json_group_array(json_array(id, lower(user.name))) FROM user WHERE id IN "
        "(SELECT value FROM json_each(?)) AND NOT EXISTS "
        "(SELECT 1 FROM partner WHERE partner.user = ? AND partner.name = lower(user.name))",
        (json.dumps(list(numbers)), user),
    )
    for number, name in json.loads(cursor.fetchone()[0]):
        alone[number].append(name)
    return [Partner(number, keys[number], alone[number]) for number in numbers], more


def count_unread(
    cursor: Cursor, user: int, conversations: Sequence[tuple[int, int, int]], scan: int, limit: int
) -> list[int]:
    """Count the messages of others than ``user`` in conversations; deleted ones don't count.

    Messages that are not indexed yet are not counted.

    :param conversations: for each one, the two columns of its key in table ``place``, and the
        number after which messages are counted.
    :param scan: how many of the newest messages of each conversation are looked at.
    :param limit: count up to this.
    """
    # One statement for all, because each row of a result waits for the interpreter's lock.
    cursor.execute(
        "WITH asked(at, one, other, low) AS (SELECT key, json_extract(value, '$[0]'), "
        "json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(:asked)) "
        "SELECT json_group_array((SELECT count(*) FROM (SELECT 1 FROM "
        "(SELECT base + value AS number FROM place, json_each(numbers) "
        "WHERE (place.one, place.other) = (asked.one, asked.other) AND first >= ifnull((SELECT "
        "max(first) FROM place WHERE (one, other) = (asked.one, asked.other) AND first <= low), 0) "
        "AND base + value > low ORDER BY first DESC LIMIT :scan) CROSS JOIN message USING (number) "
        "WHERE author != :user AND text != '' LIMIT :limit))) FROM asked",
        {"asked": json.dumps(conversations), "user": user, "scan": scan, "limit": limit},
    )
    return [int(number) for number in json.loads(cursor.fetchone()[0])]


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
