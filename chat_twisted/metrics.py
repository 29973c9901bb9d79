"""Counters for parts of the server whose work can't be read off their state.

A part counts in plain attributes, which cost next to nothing; the operator's monitoring reads them
(``collecting``). This module must not know what is counted, or how it is exported.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The usual bounds of durations, in seconds."""

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""The usual bounds of numbers of items."""


class Histogram:
    """Counts values by size.

    :ivar bounds: the upper bounds, which belong to their interval; one more interval has no bound.
    :ivar counts: the number of values in each interval.
    :ivar sum: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def total(self) -> int:
        """The number of values."""
        return sum(self.counts)


class Commits:
    """Counts the commits of a ledger.

    :ivar seconds: the duration of each commit.
    :ivar commands: the number of commands of each commit.
    :ivar failed: the number of attempts to commit that have failed.
    """

    __slots__ = ("commands", "failed", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.commands = Histogram(SIZES)
        self.failed = 0


class Reads:
    """Counts the requests that read stored messages, of one kind.

    :ivar seconds: the duration of each request, without the time that it has waited.
    :ivar deadlines: the number of requests that were interrupted at their deadline.
    :ivar refused: the number of requests that were refused because too many waited, or for too
        long.
    """

    __slots__ = ("deadlines", "refused", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.deadlines = 0
        self.refused = 0


class Refusals(Counter[str]):
    """Counts refusals by the class of the error."""

    def add(self, error: Exception) -> None:
        """Count a refusal."""
        self[type(error).__name__] += 1


class LoopLag:
    """Measures how late the reactor is: every client waits as long.

    :ivar seconds: the delays of a timer.
    :param clock: the reactor.
    """

    EVERY = 0.25
    """Seconds between two measurements."""

    def __init__(self, clock: IReactorTime) -> None:
        self.seconds = Histogram()
        self._clock = clock
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Start to measure."""
        due = self._clock.seconds() + self.EVERY
        self._timer = self._clock.callLater(self.EVERY, self._measure, due)

    def _measure(self, due: float) -> None:
        self.seconds.add(max(0.0, self._clock.seconds() - due))
        self.start()

    def stop(self) -> None:
        """Stop to measure."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
