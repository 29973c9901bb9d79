"""Lookup: the queries that read stored messages for users.

The functions take a cursor and block; ``reads`` runs them in threads. This module must not know
sessions, the wire protocol, or how the file is opened and written (``archive``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.reads import Page, Span
from chat_twisted.storage import index
from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.tables import COLUMNS

PAGE = 128 * 1024
"""Maximum bytes of text in one page of messages, plus one message. A page is encoded at once, which
takes some milliseconds."""

SCAN = 10_000
"""Maximum number of messages that are scanned for one page of a resumed session."""

SCAN_OF_AUTHOR = 100_000
"""Maximum number of messages that are scanned for one page of an author's messages."""

MAX_RANKED = 50_000
"""Maximum number of search hits that are ranked at once, at 1.5 µs each."""

_MISSED = (
    "number > :after AND number <= :upto AND ("
    "   (recipient = 0 AND room = 0) OR recipient = :user OR author = :user"
    "   OR room != 0 AND EXISTS (SELECT 1 FROM member WHERE user = :user"
    "       AND member.room = message.room AND since < number"
    "       AND (until IS NULL OR number <= until)))"
    "AND (:own OR author != :user OR recipient = :user)"
)


def count_missed(cursor: Cursor, user: int, after: int) -> int:
    """Count the messages of others to ``user`` after the number ``after``, among the ``SCAN``
    newest of all messages.
    """
    cursor.execute("SELECT number FROM message ORDER BY number DESC LIMIT 1 OFFSET ?", (SCAN,))
    [first] = cursor.fetchone() or (0,)
    cursor.execute(
        f"SELECT count(*) FROM message WHERE {_MISSED}",
        {"user": user, "after": max(after, first), "upto": 2**63 - 1, "own": False},
    )
    [number] = cursor.fetchone()
    return int(number)


def missed(cursor: Cursor, user: int, after: int, upto: int, *, own: bool) -> Page:
    """Read the next page of messages to ``user`` with numbers after ``after`` and up to ``upto``.

    :param own: whether to include the user's own messages.
    """
    cursor.execute(
        "SELECT number FROM message WHERE number > ? AND number <= ? "
        "ORDER BY number LIMIT 1 OFFSET ?",
        (after, upto, SCAN - 1),
    )
    [upto] = cursor.fetchone() or (upto,)
    cursor.execute(
        f"SELECT {COLUMNS} FROM message WHERE {_MISSED} ORDER BY number",
        {"user": user, "after": after, "upto": upto, "own": own},
    )
    messages, cut = _take_page(iter(cursor.fetchone, None))
    return Page(messages, messages[-1].number if cut else upto)


def _take_page(rows: Iterable[Any]) -> tuple[list[Message], bool]:
    """Take messages up to the size of a page; return them, and whether some may be left."""
    messages: list[Message] = []
    size = 0
    for row in rows:
        if size > PAGE:
            return messages, True
        message = Message._make(row)
        messages.append(message)
        size += len(message.text.encode()) + 100
    return messages, False


def message(cursor: Cursor, number: int) -> Message | None:
    """Return the message with a number; None if there is none."""
    cursor.execute(f"SELECT {COLUMNS} FROM message WHERE number = ?", (number,))
    row = cursor.fetchone()
    return None if row is None else Message._make(row)


def sent_by(cursor: Cursor, user: int, after: int, count: int) -> tuple[list[Message], int | None]:
    """Return the next messages of an author, oldest first.

    At most ``SCAN_OF_AUTHOR`` messages are scanned, because there is no index by author.

    :param after: only messages with numbers after this.
    :param count: the maximum number of messages.
    :return: the messages, and the number after which there may be more; None at the end.
    """
    cursor.execute(
        "SELECT number FROM message WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?",
        (after, SCAN_OF_AUTHOR - 1),
    )
    [upto] = cursor.fetchone() or (None,)
    cursor.execute(
        f"SELECT {COLUMNS} FROM message WHERE number > ? AND number <= ? AND author = ? "
        "ORDER BY number LIMIT ?",
        (after, 2**63 - 1 if upto is None else upto, user, count + 1),
    )
    messages, cut = _take_page(iter(cursor.fetchone, None))
    if cut or len(messages) > count:
        messages = messages[:count]
        return messages, messages[-1].number if messages else after
    return messages, upto


def history(cursor: Cursor, conversation: Conversation, span: Span) -> tuple[list[Message], bool]:
    """Read a part of a conversation.

    :return: the messages, oldest first, and whether there are more in the direction of reading.
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
        f"SELECT {COLUMNS} FROM message WHERE number IN (SELECT value FROM json_each(?)) "
        f"ORDER BY number {order}",
        (json.dumps(numbers),),
    )
    messages, cut = _take_page(iter(cursor.fetchone, None))
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
    """Search the messages that ``user`` may read; best match first.

    With more than ``MAX_RANKED`` hits, newer portions of that many hits come first.

    :param user: the user's number.
    :param rooms: the rooms that the user is a member of.
    :param conversation: the conversation to search; None for all.
    :param query: an FTS5 query, or plain words.
    :param count: the maximum number of messages.
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
    joined = f"CROSS JOIN message ON message.number = words.rowid AND {mine} AND message.text != ''"
    with index.flag_corruption(cursor):
        try:
            # A leading * would be a special command of FTS5.
            return _search(cursor, f" {query}", joined, parameters, count)
        except sqlite3.OperationalError as error:
            # Usually FTS5 can't parse the query; another error will be raised again.
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise
            return _search(cursor, _quote_words(query), joined, parameters, count)


def _search(
    cursor: Cursor, words: str, joined: str, parameters: tuple[Any, ...], count: int
) -> list[Message]:
    """Search portions of the hits, newest first, until there are enough; rank within each."""
    columns = ", ".join(f"message.{column}" for column in COLUMNS.split(", "))
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
        # The function bm25 is evaluated only for rows that remain; the column rank for every hit.
        cursor.execute(
            f"SELECT {columns} FROM words {joined} WHERE words MATCH ? AND words.rowid >= ? "
            "AND words.rowid < ? ORDER BY bm25(words) LIMIT ?",
            (*parameters, words, start, below, count - len(found)),
        )
        page, cut = _take_page(iter(cursor.fetchone, None))
        found += page
        below = start
    return found


def _quote_words(query: str) -> str:
    return " ".join(f'"{word}"' for word in query.replace('"', " ").split()) or '""'
