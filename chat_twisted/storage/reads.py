"""Reads messages from the archive for users; the queries are in ``archive``.

The state has decided before whether a user may read (``core.reads``). A reading sees all messages
that were committed before it was requested; searches, and readings of many conversations at once,
first wait until these are indexed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred

from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.reads import (
    Found,
    Newest,
    Page,
    RoomMarker,
    Search,
    Span,
    Times,
    UnreadPage,
)
from chat_twisted.core.turns import Asker
from chat_twisted.storage import lookup
from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.store import Store


class ArchiveReads:
    """Implements ``core.reads.Reads`` on a ``Store``.

    :param when_indexed: ``housekeeping.Housekeeping.when_indexed``.
    """

    def __init__(self, store: Store, when_indexed: Callable[[], Deferred[None]]) -> None:
        self._store = store
        self._when_indexed = when_indexed

    def missed(
        self, user: int, after: int, upto: Callable[[], int], asker: Asker, *, own: bool
    ) -> Deferred[Page]:
        """See ``Reads.missed``."""

        def read(cursor: Cursor) -> Page:
            return lookup.missed(cursor, user, after, upto(), own=own)

        return self._store.read(read, asker=asker)

    def message(self, number: int, asker: Asker) -> Deferred[Message | None]:
        """See ``Reads.message``."""
        return self._store.read(lookup.message, number, asker=asker)

    def sent_by(
        self, user: int, after: int, count: int, asker: Asker
    ) -> Deferred[tuple[list[Message], int | None]]:
        """See ``Reads.sent_by``."""
        return self._store.read(lookup.sent_by, user, after, count, asker=asker)

    def history(self, conversation: Conversation, span: Span, asker: Asker) -> Deferred[Found]:
        """See ``Reads.history``."""
        return self._store.read(lookup.history, conversation, span, asker=asker)

    def unread(
        self,
        user: int,
        after: str,
        rooms: Mapping[str, RoomMarker],
        markers: Mapping[str, int],
        asker: Asker,
    ) -> Deferred[UnreadPage]:
        """See ``Reads.unread``."""
        what = (user, after, rooms, markers)
        return self._when_indexed().addCallback(
            lambda _: self._store.read(lookup.unread, *what, asker=asker, search=True)
        )

    def newest(
        self, user: int, rooms: Sequence[int], times: Times, asker: Asker
    ) -> Deferred[list[Newest]]:
        """See ``Reads.newest``."""
        what = (user, rooms, times)
        return self._when_indexed().addCallback(
            lambda _: self._store.read(lookup.newest, *what, asker=asker, search=True)
        )

    def search(
        self,
        user: int,
        rooms: Sequence[int],
        conversation: Conversation | None,
        search: Search,
        asker: Asker,
    ) -> Deferred[Found]:
        """See ``Reads.search``."""
        what = (user, rooms, conversation, search)
        return self._when_indexed().addCallback(
            lambda _: self._store.read(lookup.search, *what, asker=asker, search=True)
        )
