"""Places: finds the messages of conversations in the index, by number and time.

The functions take a cursor and block; ``lookup`` calls them. This module must not know how the
index is made (``index``), or who may read a message.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from chat_twisted.core.message import Conversation
from chat_twisted.storage.sql import Cursor

# The rows of table "place" that may have messages of a conversation between two numbers.
_ROWS = (
    "(one, other) = (:one, :other) AND first < :high AND first >= ifnull((SELECT max(first) "
    "FROM place WHERE (one, other) = (:one, :other) AND first <= :low), 0)"
)


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


def newest(
    cursor: Cursor,
    user: int,
    rooms: Sequence[int],
    times: tuple[int, int],
    order: str,
    limit: int,
    scan: int,
) -> list[tuple[str, int, int]]:
    """Return the newest messages of conversations, if they are of some time; deleted ones don't
    count, nor those that are not indexed yet.

    :param user: all direct conversations of this user are looked at.
    :param rooms: the rooms that are looked at; 0 for the conversation of all users.
    :param times: the earliest and the latest time, in milliseconds since the epoch.
    :param order: ``ASC`` for the first messages by time, ``DESC`` for the last.
    :param limit: the maximum count.
    :param scan: how many messages of a conversation are looked at if its newest one is deleted.
    :return: the name of each conversation, and the number and the time of the message.
    """
    # A conversation is left out by its last number alone, if nothing after it is of these times.
    first, _ = numbers_within(cursor, times)
    cursor.execute(
        "WITH asked(one, other) AS (SELECT min(:user, partner), max(:user, partner) "
        "FROM partner WHERE user = :user GROUP BY partner "
        "UNION ALL SELECT 0, value FROM json_each(:rooms)), "
        "ended(one, other, last) AS MATERIALIZED (SELECT one, other, (SELECT last FROM place "
        "WHERE (place.one, place.other) = (asked.one, asked.other) ORDER BY first DESC LIMIT 1) "
        "FROM asked), "
        "newest(number) AS (SELECT ifnull((SELECT number FROM message WHERE number = ended.last "
        "AND text != ''), (SELECT max(number) FROM (SELECT base + value AS number "
        "FROM place, json_each(numbers) WHERE (place.one, place.other) = (ended.one, ended.other) "
        "ORDER BY first DESC, key DESC LIMIT :scan) CROSS JOIN message USING (number) "
        "WHERE text != '')) FROM ended WHERE last >= :first), "
        "named AS (SELECT max(number) AS number, time, "
        'CASE recipient WHEN 0 THEN "to" ELSE ifnull('
        "(SELECT user.name FROM user WHERE id = CASE author WHEN :user THEN recipient ELSE author "
        'END), CASE author WHEN :user THEN "to" ELSE sender END) END AS name '
        "FROM newest CROSS JOIN message USING (number) GROUP BY lower(name)) "
        "SELECT json_group_array(json_array(name, number, time)) FROM (SELECT * FROM named "
        "WHERE time >= :since AND time <= :until "
        f"ORDER BY time {order}, number {order} LIMIT :limit)",
        {"user": user, "rooms": json.dumps(rooms), "scan": scan, "limit": limit}
        | {"first": first, "since": times[0], "until": times[1]},
    )
    return [(name, number, time) for name, number, time in json.loads(cursor.fetchone()[0])]
