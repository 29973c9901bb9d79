"""Notices that a server does not answer any more, although the connection stands.

This module must not know which requests the client makes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

CHECK_EVERY = 10
"""Seconds between two checks."""

IDLE = 60
"""Seconds of silence after which the client sends PING, and seconds to wait for the answer, while
nothing else is asked."""

PING_AFTER = 10
SILENT_FOR = 40
"""The same while an answer is due: seconds of silence after which the client sends PING, and after
which the connection counts as lost."""

ANSWERED_FOR = 120
"""Seconds after which the connection counts as lost although something is received, if no request
is answered."""


HASTE = 0.25
"""The other times are this part of themselves if another host could answer instead:
15 and 30 seconds, and 2.5 and 10."""


class Liveness:
    """Watches one connection after the other.

    :param waits: returns whether an answer of the server is due.
    :param paused: returns whether nothing is received for now.
    :param ping: sends PING.
    :param give_up: called with the reason when the server does not answer any more.
    :param has_alternative: returns whether another host could answer instead.
    """

    def __init__(
        self,
        clock: IReactorTime,
        waits: Callable[[], bool],
        paused: Callable[[], bool],
        ping: Callable[[], object],
        give_up: Callable[[str], object],
        has_alternative: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._waits = waits
        self._paused = paused
        self._ping = ping
        self._give_up = give_up
        self._has_alternative = has_alternative
        self._pace = 1.0  # the part of the times above
        self._heard_at = 0.0  # when something was received last
        self._answered_at = 0.0  # when an answer was received, or the first request made
        self._has_pinged = False
        self._checked_at = 0.0
        self._checks: LoopingCall | None = None  # while it watches
        self._first: IDelayedCall | None = None  # while nothing has been received

    def start(self) -> None:
        """Start to watch a new connection."""
        self._is_heard()
        self.answered()
        self._checked_at = self._clock.seconds()
        self._checks = LoopingCall(self._check)
        self._checks.clock = self._clock
        self._pace = HASTE if self._has_alternative() else 1.0
        self._checks.start(CHECK_EVERY * self._pace, now=False)

    def expect_within(self, seconds: float, reason: str) -> None:
        """Give up with ``reason`` unless something is received within so many seconds."""
        self._first = self._clock.callLater(seconds, self._nothing_came, reason)

    def _nothing_came(self, reason: str) -> None:
        self._first = None
        if not self._paused():  # while it is paused, nothing can be heard
            self._give_up(reason)

    def _expect_no_more(self) -> None:
        if self._first is not None:
            self._first.cancel()
            self._first = None

    def stop(self) -> None:
        """Watch no longer: the connection is lost."""
        self._expect_no_more()
        if self._checks is not None:
            self._checks.stop()
            self._checks = None

    def heard(self) -> None:
        """Note that something was received."""
        self._expect_no_more()
        self._is_heard()

    def _is_heard(self) -> None:
        self._heard_at = self._clock.seconds()
        self._has_pinged = False

    def answered(self) -> None:
        """Note that a request was answered, or is the first to wait for an answer."""
        self._answered_at = self._clock.seconds()

    def _check(self) -> None:
        waits, now = self._waits(), self._clock.seconds()
        # After a stop (Ctrl-Z), what was sent meanwhile is not read yet.
        was_stopped = now - self._checked_at > 2 * CHECK_EVERY * self._pace
        self._checked_at = now
        if was_stopped or self._paused():
            self._is_heard()
        if was_stopped or not waits:
            self.answered()
        silent = now - (max(self._heard_at, self._answered_at) if waits else self._heard_at)
        silent /= self._pace
        if silent >= (SILENT_FOR if waits else 2 * IDLE) or now - self._answered_at >= ANSWERED_FOR:
            self._give_up("the server does not answer")
        elif silent >= (PING_AFTER if waits else IDLE) and not self._has_pinged:
            self._has_pinged = True
            self._ping()
