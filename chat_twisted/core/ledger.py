"""The interface of a ledger: the log of what was said and of what changed, which gives each message
its number.

``say`` and ``change`` hand an entry in; it comes back through ``committed``, as durable as the
ledger makes it, in the order in which it was handed in and once, or through ``failed``. Only then
may anybody hear of it. A ledger knows neither connections nor rules: whom a message is to is for
the hub to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred

from chat_twisted.clocks import SettledTime
from chat_twisted.core.changes import Change
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.saved import Page, Saved, Span
from chat_twisted.core.turns import Asker

Origin = TypeVar("Origin")
"""What the caller wants to have back with the committed entry."""


class Repeat(NamedTuple):
    """A message that was sent again under the same Id: the first one's number and time."""

    number: int
    time: int


class Again(NamedTuple):
    """A message that may only be said if it was said before: a question whether it was. It comes
    back as the ``Repeat`` or, if it was not, as it is.
    """

    number: int
    author: int
    request: str


Entry = Message | Repeat | Again | Change

Committed = Callable[[Sequence[tuple[Entry, Origin]]], None]
"""Takes the entries of one commit, in order, each with its origin."""

Failed = Callable[[Sequence[tuple[Entry, Origin]], Unavailable], None]
"""Takes entries that were not committed and won't be."""


class Ledger(Protocol[Origin]):
    """What the hub asks of a ledger."""

    saved: Saved
    """What there was at the start."""

    time: SettledTime
    """By which ends what was written down to end at some time."""

    @property
    def newest(self) -> int:
        """The number that was given last; the next message has a higher one."""

    @property
    def pressed(self) -> bool:
        """Whether more waits to be committed."""

    def start(self, committed: Committed[Origin], failed: Failed[Origin]) -> None:
        """Say who takes what became of entries; called once, before the first is handed in."""

    def say(
        self,
        author: int,
        sender: str,
        recipient: int,
        room: int,
        to: str,
        text: str,
        request: str | None,
        origin: Origin,
        *,
        again: bool,
    ) -> None:
        """Take a message in; the parameters are ``Message``'s fields.

        :param again: whether it may have been said before under the same Id, long ago even.
        :raises Unavailable: too much waits already.
        """

    def ask(self, author: int, request: str, origin: Origin) -> None:
        """Take in the question whether ``author`` has said something under the Id ``request``.

        :raises Unavailable: too much waits already.
        """

    def change(self, change: Change, origin: Origin) -> None:
        """Take a change in.

        :raises Unavailable: too much waits already.
        """

    def note_position(self, user: int, number: int) -> None:
        """Write down, not necessarily at once, that ``user`` has everything up to ``number``."""

    def missed(
        self, user: int, after: int, upto: Callable[[], int], asker: Asker, *, own: bool
    ) -> Deferred[Page]:
        """Read what a user has missed (``archive.missed``).

        :param upto: is called when the reading begins, in any thread, and returns a number that
            ``committed`` has had.
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

    def wind_down(self) -> None:
        """The server is about to stop: let all reading fail with ``Unavailable``, and leave what
        the next start does as well.
        """
