"""The two clocks of a process: one that measures, one that says what time it is.

Timers, limits and intervals follow the reactor's clock, which is monotonic: nobody can set it. The
time of day (``wall``: seconds since the epoch) is another argument, for what is written down: the
times of messages, sanctions, retention. It may be set at any moment. Nothing here knows what is
measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import ReactorBase

BELIEVED_AFTER = 60 * 60
"""Seconds for which a jump of the wall clock must stand before anything ends on account of it."""

DRIFT = 1.0
"""By how many seconds the two clocks may differ from one look to the next without having jumped."""


def use_monotonic_clock(reactor: Any) -> None:
    """Have the timers of ``reactor`` follow a monotonic clock; Twisted's own is the time of day.

    Must be called before anything is scheduled. A ``Clock`` of a test stays as it is.
    """
    if isinstance(reactor, ReactorBase):
        reactor.seconds = time.monotonic


class SettledTime:
    """The time of day as far as it can be relied on: a jump of the wall clock is believed when it
    has stood for an hour. It must be looked at now and then, so that it can tell.

    :param clock: a monotonic clock; ``wall`` is the time of day. Both return seconds.
    :param known: a time that was reached before, when another process ran; None if none is known.
        The first step from there is a jump like any other.
    """

    def __init__(
        self, clock: Callable[[], float], wall: Callable[[], float], known: float | None = None
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._ahead = (wall() if known is None else known) - clock()  # of the monotonic clock
        self._confirmed = False  # by the wall clock, since this process began
        self._jump: float | None = None  # how far ahead the wall clock is since it jumped
        self._jumped_at = 0.0

    def now(self) -> float:
        """Return what the time most likely is, for what is written down."""
        settled, wall = self._look()
        return settled if self._confirmed else max(settled, wall)

    def earliest(self) -> float:
        """Return a time that is past in any case. What is to end then may end."""
        return min(self._look())

    def _look(self) -> tuple[float, float]:
        now, wall = self._clock(), self._wall()
        ahead = wall - now
        if abs(ahead - self._ahead) <= DRIFT:
            self._believe(ahead)
        elif self._jump is None or abs(ahead - self._jump) > DRIFT:
            self._jump, self._jumped_at = ahead, now
        elif now - self._jumped_at >= BELIEVED_AFTER:
            self._believe(ahead)
        return now + self._ahead, wall

    def _believe(self, ahead: float) -> None:
        self._ahead = ahead
        self._confirmed = True
        self._jump = None
