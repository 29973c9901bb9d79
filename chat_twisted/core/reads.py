"""What is read back from what was said: the interface by which the hub asks for it.

Whether somebody may read something is decided before, by the state. Nothing here knows where
messages are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.turns import Asker


class Page(NamedTuple):
    """A part of what a user has missed: everything up to the number ``upto``."""

    messages: list[Message]
    upto: int


class Span(NamedTuple):
    """A part of a conversation: ``limit`` messages, the first (or the last) between two numbers and
    two times (milliseconds), all of them exclusive but ``since`` and ``until``. None is no bound.
    """

    limit: int
    after: int | None = None
    before: int | None = None
    since: int | None = None
    until: int | None = None
    oldest_first: bool = False


class Reads(Protocol):
    """What the hub asks of an archive. Each reading waits for its turn (``turns``), and fails with
    ``Unavailable`` if that takes too long or the server stops, and with ``TookTooLong`` if the
    reading does.
    """

    def missed(
        self, user: int, after: int, upto: Callable[[], int], asker: Asker, *, own: bool
    ) -> Deferred[Page]:
        """Read what a user has missed (``archive.missed``).

        :param upto: is called when the reading begins, in any thread, and returns the number of a
            message that has been delivered.
        """

    def history(
        self, conversation: Conversation, span: Span, asker: Asker
    ) -> Deferred[tuple[list[Message], bool]]:
        """Read a part of a conversation (``archive.history``)."""

    def search(
        self,
        user: int,
        rooms: Sequence[int],
        conversation: Conversation | None,
        query: str,
        count: int,
        asker: Asker,
    ) -> Deferred[list[Message]]:
        """Find messages by their words (``archive.search``)."""
