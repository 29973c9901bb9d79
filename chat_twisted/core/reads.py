"""The interface by which the core reads stored messages.

The state decides before whether a user may read. This module must not know where messages are
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.turns import Asker


class Page(NamedTuple):
    """A page of the messages that a user has missed; it has all of them up to number ``upto``."""

    messages: list[Message]
    upto: int


class Span(NamedTuple):
    """A part of a conversation. None means no bound.

    :ivar limit: the maximum number of messages.
    :ivar after: only messages with higher numbers.
    :ivar before: only messages with lower numbers.
    :ivar since: only messages of this time or later, in milliseconds since the epoch.
    :ivar until: only messages of this time or earlier.
    :ivar oldest_first: whether to return the first messages of the part, instead of the last.
    """

    limit: int
    after: int | None = None
    before: int | None = None
    since: int | None = None
    until: int | None = None
    oldest_first: bool = False


class Reads(Protocol):
    """Reads messages for users.

    Each reading waits for its turn (``turns``). It fails with ``Unavailable`` if it has waited too
    long or the server stops, and with ``TookTooLong`` if the reading itself takes too long.
    """

    def missed(
        self, user: int, after: int, upto: Callable[[], int], asker: Asker, *, own: bool
    ) -> Deferred[Page]:
        """Read the next page of messages that a user has missed (``lookup.missed``).

        :param upto: called when the reading starts, in any thread; returns the number up to which
            messages are read.
        """

    def message(self, number: int, asker: Asker) -> Deferred[Message | None]:
        """Read the message with a number; None if there is none."""

    def sent_by(
        self, user: int, after: int, count: int, asker: Asker
    ) -> Deferred[tuple[list[Message], int | None]]:
        """Read messages that a user has sent (``lookup.sent_by``)."""

    def history(
        self, conversation: Conversation, span: Span, asker: Asker
    ) -> Deferred[tuple[list[Message], bool]]:
        """Read a part of a conversation (``lookup.history``)."""

    def search(
        self,
        user: int,
        rooms: Sequence[int],
        conversation: Conversation | None,
        query: str,
        count: int,
        asker: Asker,
    ) -> Deferred[list[Message]]:
        """Search messages (``lookup.search``)."""
