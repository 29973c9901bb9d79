"""The interface by which the core reads stored messages.

The state decides before whether a user may read. This module must not know where messages are
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    :ivar total: whether to count the messages of these times.
    :ivar deleted: whether to return deleted messages, too; their texts are empty.
    """

    limit: int
    after: int | None = None
    before: int | None = None
    since: int | None = None
    until: int | None = None
    oldest_first: bool = False
    total: bool = False
    deleted: bool = True


class Search(NamedTuple):
    """A search for messages. None means no bound.

    :ivar query: words, as people type them (``terms``).
    :ivar limit: the maximum number of messages.
    :ivar skip: how many of the best messages to leave out.
    :ivar author: only messages under this folded name, or of the user with this number.
    :ivar since: only messages of this time or later, in milliseconds since the epoch.
    :ivar until: only messages of this time or earlier.
    :ivar total: whether to count all messages that are found.
    """

    query: str
    limit: int
    skip: int = 0
    author: tuple[str, int] | None = None
    since: int | None = None
    until: int | None = None
    total: bool = False


class Found(NamedTuple):
    """Messages that were found.

    :ivar more: whether there are more in the direction of reading.
    :ivar total: the number of all messages, up to ``MAX_TOTAL``; None if it was not asked for.
    """

    messages: list[Message]
    more: bool
    total: int | None = None


class RoomMarker(NamedTuple):
    """The position of a user in a room, or (number 0) in the conversation of all users.

    :ivar room: the number of the room.
    :ivar marker: the read marker, or 0.
    :ivar after: messages with higher numbers may be unread.
    """

    room: int
    marker: int
    after: int


class Unread(NamedTuple):
    """The unread messages of a conversation: those of others after the read marker.

    :ivar key: the folded name of the other user or the room; or ``all``.
    :ivar marker: the read marker, or 0.
    :ivar number: how many these are, up to ``MAX_UNREAD``.
    """

    key: str
    marker: int
    number: int


class UnreadPage(NamedTuple):
    """A page of conversations that have a marker or unread messages, in the order of their keys.

    :ivar more: the key after which there may be more; empty if there are no more.
    """

    conversations: list[Unread]
    more: str


class Times(NamedTuple):
    """A part of a user's conversations, by the times of their newest messages.

    :ivar limit: the maximum number of conversations.
    :ivar since: the earliest time, in milliseconds since the epoch.
    :ivar until: the latest time.
    :ivar oldest_first: whether to return the first conversations of the part, instead of the last.
    """

    limit: int
    since: int
    until: int
    oldest_first: bool = False


class Newest(NamedTuple):
    """The newest message of a conversation.

    :ivar name: the name of the conversation: the other user, the room or ALL.
    :ivar number: the number of the message.
    :ivar time: its time of day, in milliseconds since the epoch.
    """

    name: str
    number: int
    time: int


MAX_UNREAD = 1000
"""The number up to which unread messages of a conversation are counted."""

MAX_TOTAL = 10_000
"""The number up to which messages are counted."""

MAX_SKIP = 1000
"""The number of hits of a search that can be left out."""


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

    def history(self, conversation: Conversation, span: Span, asker: Asker) -> Deferred[Found]:
        """Read a part of a conversation (``lookup.history``)."""

    def unread(
        self,
        user: int,
        after: str,
        rooms: Mapping[str, RoomMarker],
        markers: Mapping[str, int],
        asker: Asker,
    ) -> Deferred[UnreadPage]:
        """Count the unread messages of conversations (``lookup.unread``)."""

    def newest(
        self, user: int, rooms: Sequence[int], times: Times, asker: Asker
    ) -> Deferred[list[Newest]]:
        """Read the newest messages of conversations (``lookup.newest``)."""

    def search(
        self,
        user: int,
        rooms: Sequence[int],
        conversation: Conversation | None,
        search: Search,
        asker: Asker,
    ) -> Deferred[Found]:
        """Search messages (``lookup.search``)."""
