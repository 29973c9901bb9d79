"""Lookup: the queries that read stored messages for users.

The functions take a cursor and block; ``reads`` runs them in threads. This module must not know
sessions, the wire protocol, or how the file is opened and written (``archive``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.reads import (
    MAX_SKIP,
    MAX_TOTAL,
    MAX_UNREAD,
    Found,
    Newest,
    Page,
    RoomMarker,
    Search,
    Span,
    Times,
    Unread,
    UnreadPage,
)
from chat_twisted.core.recent import Recent
from chat_twisted.storage import index, places
from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.tables import COLUMNS
from chat_twisted.storage.terms import expressions

PAGE = 128 * 1024
"""Maximum bytes of text in one page of messages, plus one message. A page is encoded at once, which
takes some milliseconds."""

SCAN = 10_000
"""Maximum number of messages that are scanned for one page of a resumed session."""

RECENT = 50_000
"""Number of the newest messages that a starting server reads, in about 50 milliseconds, to know who
has missed nothing."""

SCAN_OF_AUTHOR = 100_000
"""Maximum number of messages that are scanned for one page of an author's messages."""

UNREAD_PAGE = 50
"""Maximum number of conversations whose unread messages are counted at once."""

UNREAD_SCAN = 2000
"""How many of the newest messages of a conversation are looked at to count its unread ones, or to
find one that is not deleted."""

DELETED_AT_ONCE = 200
"""How many more messages are looked at, at least, after some of a conversation were deleted."""

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


def recent(cursor: Cursor) -> Recent:
    """Read whom the ``RECENT`` newest messages concern."""
    cursor.execute("SELECT number FROM message ORDER BY number DESC LIMIT 1 OFFSET ?", (RECENT,))
    [since] = cursor.fetchone() or (0,)
    to_all, users, rooms = 0, dict[int, int](), dict[int, int]()
    cursor.execute(
        "SELECT number, author, recipient, room FROM message WHERE number > ? ORDER BY number",
        (since,),
    )
    for number, author, recipient, room in cursor.fetchall():
        if recipient:
            users[recipient] = number
        elif room:
            rooms[room] = number
        else:
            to_all = number
            continue
        users[author] = number
    cursor.execute("SELECT user, max(until) FROM member WHERE until > ? GROUP BY user", (since,))
    for user, until in cursor.fetchall():
        users[user] = max(until, users.get(user, 0))
    return Recent(since, to_all, users, rooms)


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


def history(cursor: Cursor, conversation: Conversation, span: Span) -> Found:
    """Read a part of a conversation; its messages, oldest first."""
    times = _times(span)
    total = None
    with index.flag_corruption(cursor):
        if span.total:
            total = places.count_messages(cursor, conversation, times, MAX_TOTAL)
        rows = _rows(cursor, conversation, span, times)
        messages, cut = _take_page(islice(rows, span.limit + 1))
    more = cut or len(messages) > span.limit
    messages = messages[: span.limit]
    return Found(messages if span.oldest_first else messages[::-1], more, total)


def _rows(
    cursor: Cursor, conversation: Conversation, span: Span, times: tuple[int, int] | None
) -> Iterator[Any]:
    """Yield the rows of the messages of a span, in the order in which they are to be taken."""
    low = -1 if span.after is None else span.after
    high = 2**63 - 1 if span.before is None else span.before
    order, wanted = ("ASC" if span.oldest_first else "DESC"), ""
    if not span.deleted:
        wanted = "AND text != ''"
    count = span.limit + 1
    while True:
        numbers = places.numbers(cursor, conversation, low, high, times, order, count)
        cursor.execute(
            f"SELECT {COLUMNS} FROM message WHERE number IN (SELECT value FROM json_each(?)) "
            f"{wanted} ORDER BY number {order}",
            (json.dumps(numbers),),
        )
        yield from iter(cursor.fetchone, None)
        if len(numbers) < count:
            return
        # Some of them were deleted.
        low, high = (numbers[-1], high) if span.oldest_first else (low, numbers[-1])
        count = max(count, DELETED_AT_ONCE)


def unread(
    cursor: Cursor,
    user: int,
    after: str,
    rooms: Mapping[str, RoomMarker],
    markers: Mapping[str, int],
) -> UnreadPage:
    """Count the unread messages of the next ``UNREAD_PAGE`` conversations of a user.

    A partner who had several names has one conversation, and the highest of its markers counts.

    :param after: only conversations with keys after this.
    :param rooms: the user's rooms, and the conversation of all if it has a marker, by their keys.
    :param markers: the markers of direct conversations, by the folded names of the partners.
    """
    with index.flag_corruption(cursor):
        partners, last = places.partners(cursor, user, after, UNREAD_PAGE)
        direct: dict[str, list[places.Partner]] = {}
        for partner in partners:
            direct.setdefault(partner.key, []).append(partner)
        keys = sorted(key for key in {*rooms, *markers, *direct} if key > after)
        if last:
            keys = [key for key in keys if key <= last]
        more = last
        if len(keys) > UNREAD_PAGE:
            keys = keys[:UNREAD_PAGE]
            more = keys[-1]
        found = dict.fromkeys(keys, 0)
        marked: dict[str, int] = {}
        asked: list[tuple[str, tuple[int, int, int]]] = []
        for key in keys:
            if (room := rooms.get(key)) is not None:
                marked[key] = room.marker
                asked.append((key, (0, room.room, room.after)))
                continue
            names = {key, *(name for partner in direct.get(key, ()) for name in partner.keys)}
            marked[key] = marker = max(markers.get(name, 0) for name in names)
            asked += [
                (key, (min(user, number), max(user, number), marker))
                for number, _, _ in direct.get(key, ())
            ]
        counts = places.count_unread(
            cursor, user, [place for _, place in asked], UNREAD_SCAN, MAX_UNREAD
        )
    for (key, _), count in zip(asked, counts, strict=True):
        found[key] = min(found[key] + count, MAX_UNREAD)
    unread = [Unread(key, marked[key], count) for key, count in found.items()]
    return UnreadPage([each for each in unread if each.marker or each.number], more)


def newest(cursor: Cursor, user: int, rooms: Iterable[int], times: Times) -> list[Newest]:
    """Find the conversations of a user of which the newest message is of some time.

    A conversation with several users who had a name one after the other is one. Each conversation
    of the user costs a few lookups, whatever it contains, and deleted messages at its end are
    passed over up to ``UNREAD_SCAN``. All messages must be indexed.

    :param rooms: the rooms that the user is a member of.
    :return: the newest messages that are not deleted, in the order of their times.
    """
    with index.flag_corruption(cursor):
        found = places.newest(
            cursor,
            user,
            [0, *rooms],
            (times.since, times.until),
            "ASC" if times.oldest_first else "DESC",
            times.limit,
            UNREAD_SCAN,
        )
    return list(map(Newest._make, found if times.oldest_first else found[::-1]))


def _times(within: Span | Search) -> tuple[int, int] | None:
    """Return the earliest and the latest time, in milliseconds since the epoch; None for all."""
    if within.since is None and within.until is None:
        return None
    return (
        -(2**63) if within.since is None else within.since,
        2**63 - 1 if within.until is None else within.until,
    )


def search(
    cursor: Cursor,
    user: int,
    rooms: Iterable[int],
    conversation: Conversation | None,
    search: Search,
) -> Found:
    """Search the messages that ``user`` may read; best match first, the newest among equals.

    With more than ``MAX_RANKED`` hits, newer portions of that many hits come first.

    :param user: the user's number.
    :param rooms: the rooms that the user is a member of.
    :param conversation: the conversation to search; None for all.
    """
    condition, parameters = (
        (
            "(recipient = 0 AND room = 0 OR recipient = ? OR author = ? "
            f"OR room IN ({','.join(str(int(room)) for room in rooms)}))",
            (user, user),
        )
        if conversation is None
        else places.conversation_filter(conversation)
    )
    if search.author is not None:
        condition += " AND (lower(sender) = ? OR author = ?)"
        parameters = (*parameters, *search.author)
    first, last = 1, 2**63 - 1
    with index.flag_corruption(cursor):
        if (times := _times(search)) is not None:
            condition += " AND time >= ? AND time <= ?"
            parameters = (*parameters, *times)
            first, last = places.numbers_within(cursor, times)
        hits = _Hits(cursor, condition, parameters, first, last)
        for words in expressions(search.query):
            found, total = hits.find(words, search.skip + search.limit + 1, count=search.total)
            if found:
                break
        else:
            found, total = [], 0
    numbers = found[search.skip :][: search.limit]
    cursor.execute(
        f"SELECT {COLUMNS} FROM json_each(?) CROSS JOIN message ON number = value ORDER BY key",
        (json.dumps(numbers),),
    )
    messages, cut = _take_page(iter(cursor.fetchone, None))
    more = cut or len(found) > search.skip + search.limit
    more = more and search.skip + len(messages) <= MAX_SKIP
    return Found(messages, more, total if search.total else None)


class _Hits:
    """The messages that match a condition and are searched for words.

    :param condition: an SQL condition for rows of ``message``, and its parameters.
    :param first: the lowest and the highest number that may match.
    """

    def __init__(
        self, cursor: Cursor, condition: str, parameters: tuple[Any, ...], first: int, last: int
    ) -> None:
        self._cursor = cursor
        self._parameters = parameters
        self._first = first
        self._last = last
        self._rows = (
            f"FROM words CROSS JOIN message ON number = words.rowid AND {condition} "
            "AND message.text != '' WHERE words MATCH ? AND words.rowid >= ? AND words.rowid < ?"
        )

    def find(self, words: str, limit: int, *, count: bool) -> tuple[list[int], int]:
        """Search portions of the hits, newest first, until there are enough; rank within each.

        :param words: an FTS5 expression.
        :param limit: the maximum number of hits.
        :param count: whether to count all hits.
        :return: the numbers of the messages; and the number of all hits up to ``MAX_TOTAL``, if
            they are to be counted.
        """
        cursor = self._cursor
        found: list[int] = []
        below = min(self._last, 2**63 - 2) + 1
        while below > self._first and len(found) < limit:
            cursor.execute(
                "SELECT rowid FROM words WHERE words MATCH ? AND rowid >= ? AND rowid < ? "
                "ORDER BY rowid DESC LIMIT 1 OFFSET ?",
                (words, self._first, below, MAX_RANKED - 1),
            )
            [start] = cursor.fetchone() or (self._first,)
            # The function bm25 is evaluated only for rows that remain; the column rank for every
            # hit. The numbers come as one row, because each row waits for the interpreter's lock.
            cursor.execute(
                f"SELECT json_group_array(number) FROM (SELECT number {self._rows} "
                "ORDER BY bm25(words), number DESC LIMIT ?)",
                (*self._parameters, words, start, below, limit - len(found)),
            )
            found += json.loads(cursor.fetchone()[0])
            below = start
        if len(found) < limit or not count:
            return found, min(len(found), MAX_TOTAL)
        cursor.execute(
            f"SELECT count(*) FROM (SELECT 1 {self._rows} LIMIT ?)",
            (*self._parameters, words, self._first, min(self._last, 2**63 - 2) + 1, MAX_TOTAL),
        )
        return found, cursor.fetchone()[0]
