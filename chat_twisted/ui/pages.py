"""Reads earlier messages page by page: for ``/history`` and ``/search``, and for a reader.

This module must not know how messages are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chat_twisted.ui.commands import HISTORY_COUNT, Reading
from chat_twisted.ui.conversations import is_direct
from chat_twisted.ui.layout import Line, MessageLayout
from chat_twisted.ui.requests import ChatRequests
from chat_twisted.ui.values import MAX_TOTAL, Found, Received

MAX_SEARCH = 100
"""Maximum number of hits that a server returns at once."""

READER_PAGE = 100
"""Number of messages that a reader requests at once."""


class Pages:
    """The pages of a ``/history`` or ``/search``.

    :ivar shown: how many messages were read so far.
    :ivar total: how many there are in all, as in ``Found``.
    :ivar more: whether there is another page.
    """

    def __init__(self, session: ChatRequests, reading: Reading) -> None:
        self.shown = 0
        self.total: int | None = None
        self.more = True
        self._session = session
        self._reading = reading
        self._before: int | None = None
        self._after: int | None = None

    async def next(self) -> Found:
        """Read the next page.

        :raises Refused, NotConnected: as the methods of ``ChatRequests``.
        """
        found = await (self._search() if self._reading.words else self._history())
        self.shown += len(found.messages)
        self.total = found.total if found.total is not None else self.total
        self.more = found.more
        return found

    async def _search(self) -> Found:
        reading = self._reading
        return await self._session.search_page(
            reading.words,
            reading.place,
            min(reading.count or HISTORY_COUNT, MAX_SEARCH),
            author=reading.author,
            since=reading.since,
            until=reading.until,
            skip=self.shown,
        )

    async def _history(self) -> Found:
        reading = self._reading
        found = await self._session.history_page(
            reading.place,
            HISTORY_COUNT if reading.count is None else reading.count,
            after=self._after,
            before=self._before,
            since=reading.since if self._after is None else None,
            until=reading.until,
        )
        if found.messages and reading.since is not None:  # the oldest came first
            self._after = found.messages[-1].number
        elif found.messages:
            self._before = found.messages[0].number
        return found

    def describe(self, count: int) -> str:
        """Say how many messages were read, and of how many.

        :param count: the number of messages on the last page.
        """
        if self.total is None or self.total <= self.shown:
            return f"{self.shown}" if self.shown == count else f"{count} more, {self.shown}"
        total = f"{self.total:,}{' or more' if self.total >= MAX_TOTAL else ''}"
        return f"{self.shown:,} of {total}"


class ConversationPages:
    """One conversation, as a reader shows it.

    :ivar title: its name, for people.
    :param place: a room, ``ALL`` or the other user.
    :param layout: makes a layout for a run of messages.
    """

    def __init__(
        self,
        session: ChatRequests,
        place: str,
        user: str,
        layout: Callable[[], MessageLayout],
    ) -> None:
        self.title = f"@{place}" if is_direct(place) else place
        self._session = session
        self._place = place
        self._user = user
        self._layout = layout

    async def page(self, *, before: int | None = None, after: int | None = None) -> Found:
        """Read messages before or after a number, oldest first; by default the newest.

        :raises Refused, NotConnected: as the methods of ``ChatRequests``.
        """
        return await self._session.history_page(
            self._place, READER_PAGE, before=before, after=after
        )

    async def search(self, words: str) -> Found:
        """Search the conversation.

        :raises Refused, NotConnected: as the methods of ``ChatRequests``.
        """
        return await self._session.search_page(words, self._place, MAX_SEARCH)

    def lines(self, messages: Sequence[Received]) -> list[Line]:
        """Lay out a run of messages."""
        layout = self._layout()
        return [line for message in messages for line in layout.lines(message, self._user)]
