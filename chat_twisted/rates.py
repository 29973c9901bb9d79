"""Rates per second over the last minute, from counters that only grow.

A timer reads the counters six times a minute, and keeps what it read. This module must not know
what is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime

EVERY = 10.0
"""Seconds between two readings of the counters."""

KEPT = 7
"""Number of readings that are kept: the oldest one is a minute older than the newest."""


class Rates:
    """Measures how fast counters grow.

    :param count: returns the counters by name.
    :param clock: the reactor.
    """

    def __init__(self, count: Callable[[], Mapping[str, float]], clock: IReactorTime) -> None:
        self._count = count
        self._clock = clock
        self._readings: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=KEPT)
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Read the counters now, and every ten seconds."""
        self._readings.append((self._clock.seconds(), self._count()))
        self._timer = self._clock.callLater(EVERY, self.start)

    def stop(self) -> None:
        """Stop that."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def per_second(self) -> dict[str, float]:
        """Return how much each counter has grown, a second, over the last minute, or since the
        start if that was later; nothing in the first second.
        """
        if not self._readings:
            return {}
        now = self._clock.seconds()
        then, before = next(
            (reading for reading in self._readings if now - reading[0] <= 60), self._readings[-1]
        )
        if now - then < 1:
            return {}
        return {
            name: round((value - before[name]) / (now - then), 3)
            for name, value in self._count().items()
        }
