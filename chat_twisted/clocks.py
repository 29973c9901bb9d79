"""The two clocks of a process: one that measures, one that says what time it is.

Timers, limits and intervals follow the reactor's clock, which is monotonic: nobody can set it. The
time of day (``wall``: seconds since the epoch) is another argument, for what is written down: the
times of messages, sanctions, retention. It may be set at any moment. Nothing here knows what is
measured.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.base import ReactorBase


def use_monotonic_clock(reactor: Any) -> None:
    """Have the timers of ``reactor`` follow a monotonic clock; Twisted's own is the time of day.

    Must be called before anything is scheduled. A ``Clock`` of a test stays as it is.
    """
    if isinstance(reactor, ReactorBase):
        reactor.seconds = time.monotonic
