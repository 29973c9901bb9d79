"""The ledger: the log of what was said, which gives each message its number.

``append`` hands a message in; it comes back through ``committed``, numbered and as durable as the
ledger makes it, in number order and once. Only then may anybody hear of it. A ledger knows neither
users nor rooms nor connections: whom a message is to is for the hub to say.

Here are the interface and the ledger in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from twisted.internet.interfaces import IReactorTime

from chat_twisted.message import Message, Target

Origin = TypeVar("Origin")
"""What the caller of ``append`` wants to have back with the committed message."""

Committed = Callable[[Sequence[tuple[Message, Origin]]], None]
"""Takes the messages of one commit, in number order, each with its origin."""


class Ledger(Protocol[Origin]):
    """What the hub asks of a ledger."""

    @property
    def last(self) -> int:
        """The number of the newest committed message, 0 if there is none."""

    def start(self, committed: Committed[Origin]) -> None:
        """Say who takes committed messages; called once, before the first ``append``."""

    def append(self, sender: str, target: Target, text: str, origin: Origin) -> None:
        """Take a message in. It is not said yet: ``committed`` is called later, never from here."""


class MemoryLedger(Generic[Origin]):
    """Numbers messages and keeps none: they last as long as the process.

    What is appended in one turn of the reactor is committed together at the start of the next, so
    a batch is no longer than what one turn reads.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._committed: Committed[Origin] | None = None
        self._batch: list[tuple[Message, Origin]] = []
        self._last = 0

    @property
    def last(self) -> int:
        """See ``Ledger.last``."""
        return self._last

    def start(self, committed: Committed[Origin]) -> None:
        """See ``Ledger.start``."""
        self._committed = committed

    def append(self, sender: str, target: Target, text: str, origin: Origin) -> None:
        """See ``Ledger.append``."""
        if not self._batch:
            self._clock.callLater(0, self._commit)
        number = self._last + len(self._batch) + 1
        time = int(self._clock.seconds() * 1000)
        self._batch.append((Message(number, time, sender, target, text), origin))

    def _commit(self) -> None:
        batch, self._batch = self._batch, []
        self._last = batch[-1][0].number
        assert self._committed is not None, "the ledger was not started"
        self._committed(batch)
