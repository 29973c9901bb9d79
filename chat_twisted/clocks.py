"""The two clocks of a process: a monotonic clock for intervals, and the time of day.

Timers, limits and intervals follow the reactor's clock, which is monotonic: nobody can set it. The
time of day (``wall``, in seconds since the epoch) is a separate argument, for values that are
stored: the times of messages, sanctions and retention. It may be set at any moment. This module
knows nothing of the values that are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import ReactorBase

BELIEVED_AFTER = 60 * 60
"""Seconds for which a jump of the wall clock must persist before anything expires because of it."""

DRIFT = 1.0
"""Seconds by which the two clocks may drift apart between two readings. More is a jump."""


def use_monotonic_clock(reactor: Any) -> None:
    """Make the timers of ``reactor`` follow a monotonic clock; Twisted's default is the time of
    day.

    Call this before anything is scheduled. It does nothing to a ``Clock`` of a test.
    """
    if isinstance(reactor, ReactorBase):
        reactor.seconds = time.monotonic


class SettledTime:
    """The time of day, protected from jumps of the wall clock.

    A jump is accepted after it has persisted for ``BELIEVED_AFTER`` seconds. The time must be read
    now and then, so that a jump is noticed.

    :param clock: returns monotonic seconds.
    :param wall: returns the time of day, in seconds since the epoch.
    :param known: the latest time of day known from an earlier process, or None. A difference from
        it at the start is treated as a jump.
    """

    def __init__(
        self, clock: Callable[[], float], wall: Callable[[], float], known: float | None = None
    ) -> None:
        self._clock = clock
        self._wall = wall
        self.start(wall() if known is None else known)

    def start(self, known: float) -> None:
        """Start anew, with a time of day that is known from others. A difference is a jump."""
        # wall clock minus monotonic clock, as accepted
        self._ahead = known - self._clock()
        self._confirmed = False  # whether the wall clock has agreed since then
        self._jump: float | None = None  # wall clock minus monotonic clock, since the jump
        self._jumped_at = 0.0

    def now(self) -> float:
        """Return the most likely time of day, in seconds since the epoch, for values that are
        stored.
        """
        settled, wall = self._look()
        return settled if self._confirmed else max(settled, wall)

    def earliest(self) -> float:
        """Return a time of day that has certainly passed: things that expire at or before it may
        end.
        """
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


class LogTime:
    """The log's clock, in milliseconds. It never goes back.

    It starts at the time of the last entry and runs with the monotonic clock, so a duration lasts
    as long as it says even if somebody sets the time of day. It also advances to the earliest
    certain time of day, so that things which expire while no server runs are due at the next start.

    :param clock: returns monotonic seconds.
    :param settled: the time of day, protected from jumps.
    :param known: the time of the last entry in the log; 0 if the log is empty.
    """

    def __init__(self, clock: Callable[[], float], settled: SettledTime, known: int) -> None:
        self._clock = clock
        self._settled = settled
        self._time = float(known)
        self._at = clock()
        self._is_known = known > 0
        self._leads = True

    @property
    def leads(self) -> bool:
        """Whether it advances to the time of day. If several servers share a log, one of them
        leads, so that the wrong clock of another one does no harm. If the one that begins to lead
        has another time of day than the log, that is a jump.
        """
        return self._leads

    @leads.setter
    def leads(self, leads: bool) -> None:
        if leads and not self._leads and self._is_known:
            self._settled.start(self() / 1000)
        self._leads = leads

    def reach(self, time: int) -> None:
        """Advance to the time of an entry that another process has made, if that is later."""
        now = self._clock()
        self._time = max(self._time + max(0.0, now - self._at) * 1000, float(time))
        self._is_known = self._is_known or time > 0
        self._at = now

    def __call__(self) -> int:
        """Return the current time, in milliseconds."""
        now = self._clock()
        self._time += max(0.0, now - self._at) * 1000
        self._at = now
        earliest = self._settled.earliest()  # read in any case, so that a jump is noticed
        if self._leads:
            self._time = max(self._time, earliest * 1000)
        return int(self._time)
