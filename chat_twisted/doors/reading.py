"""The requests of version 2 that read stored messages: HISTORY, SEARCH and ACCOUNT messages.

They are answered later, when the messages have been read. This module must not know who may read
what, or how messages are stored.
"""

from __future__ import annotations

from chat_twisted.core.errors import NotPermitted
from chat_twisted.core.message import Message
from chat_twisted.core.reads import MAX_SKIP, Found, Search, Span
from chat_twisted.doors.encoding import encode_messages
from chat_twisted.doors.version2 import Version2
from chat_twisted.frames import Frame, HeaderIncomplete, parse_time

HISTORY_COUNT = 50
MAX_HISTORY = 1000
SEARCH_COUNT = 20
MAX_SEARCH = 100
"""The default and the maximum number of messages in the answers to HISTORY and SEARCH."""

MAX_QUERY = 500
"""Maximum characters of a query."""


def history(session: Version2, frame: Frame) -> None:
    """Answer HISTORY: messages of a conversation."""
    after, since = _number(frame, "after"), _time(frame, "since")
    span = Span(
        _count(frame, HISTORY_COUNT),
        after,
        _number(frame, "before"),
        since,
        _time(frame, "until"),
        oldest_first=after is not None or since is not None,
        total=frame.flag("total") or False,
    )
    found = session.door.hub.queries.history(session, frame.argument, span)
    session.answer_with(frame, found.addCallback(_encode_found, frame))


def search(session: Version2, frame: Frame) -> None:
    """Answer SEARCH: messages that match a query.

    :raises HeaderIncomplete: if there is no query.
    :raises NotPermitted: if it is too long, or too much is to be skipped.
    """
    query = frame.body or ""
    if not query.strip():
        raise HeaderIncomplete("nothing to search for")
    if len(query) > MAX_QUERY:
        raise NotPermitted("too much to search for")
    skip = _number(frame, "skip") or 0
    if skip > MAX_SKIP:
        raise NotPermitted("too much to leave out")
    wanted = Search(
        query,
        _count(frame, SEARCH_COUNT, MAX_SEARCH),
        skip,
        since=_time(frame, "since"),
        until=_time(frame, "until"),
        total=frame.flag("total") or False,
    )
    author = frame.headers.get("from")
    found = session.door.hub.queries.search(session, frame.argument, author, wanted)
    session.answer_with(frame, found.addCallback(_encode_found, frame))


def sent(session: Version2, frame: Frame) -> None:
    """Answer ACCOUNT messages: what the user has sent."""
    after, count = _number(frame, "after") or 0, _count(frame, HISTORY_COUNT)
    found = session.door.hub.queries.sent(session, after, count)
    session.answer_with(frame, found.addCallback(_encode_sent, frame))


def _encode_sent(found: tuple[list[Message], int | None], frame: Frame) -> bytes:
    messages, more = found
    return encode_messages(messages, frame, [] if more is None else [("More", more)])


def _encode_found(found: Found, frame: Frame) -> bytes:
    headers: list[tuple[str, object]] = []
    if found.total is not None:
        headers.append(("Total", found.total))
    if found.more:
        headers.append(("More", "yes"))
    return encode_messages(found.messages, frame, headers)


def _number(frame: Frame, name: str) -> int | None:
    return frame.number(name) if name in frame.headers else None


def _time(frame: Frame, name: str) -> int | None:
    return parse_time(frame.headers[name]) if name in frame.headers else None


def _count(frame: Frame, otherwise: int, most: int = MAX_HISTORY) -> int:
    count = _number(frame, "count")
    return min(otherwise if count is None else count, most)
