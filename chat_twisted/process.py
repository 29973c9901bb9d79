"""The server's process: its signals, Python's collector and threads, and the memory that is free.

It knows the process and the reactor, and nothing of the chat.
"""

from __future__ import annotations

import gc
import signal
import sys
from typing import Any

from twisted.internet.task import LoopingCall

from chat_twisted.memory import find_trim

SWITCH_INTERVAL = 0.0005
"""Seconds for which the reactor may keep Python from the thread that writes, and the other way
round. With Python's own 5 ms, a commit of a few statements waits that long for each of them."""

TRIM_EVERY = 10
"""Seconds after which memory that is free is given back to the system."""

COLLECT_AFTER = (20_000, 20, 50)
"""Thresholds for ``gc.set_threshold`` (generations 0, 1 and 2)."""


def set_up(reactor: Any) -> None:
    """Prepare this process for serving: how threads take turns, the collector, and signals."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    reactor.callWhenRunning(_spare_the_collector)
    reactor.callWhenRunning(stop_when_told, reactor)
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # the system's default is to end the process
        signal.signal(number, signal.SIG_IGN)


def stop_when_told(reactor: Any) -> None:
    """Handle the signals that end the server in the reactor's own time.

    Twisted's handlers log at once, and would wait for ever if they interrupted the log. The first
    signal is enough: a reactor that is told twice to stop raises.
    """

    def later(number: int, _: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        stop = reactor.sigInt if number == signal.SIGINT else reactor.sigTerm
        reactor.callFromThread(stop, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, later)


def _spare_the_collector() -> None:
    """Let Python look for cycles among new objects alone, and seldom.

    The objects of the start stay. A message is released by its last user and makes no cycle, so
    counting objects to find that there is none would be wasted.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


class GivingBack:
    """Gives free memory back to the system every ``TRIM_EVERY`` seconds, from when the reactor
    runs until it is stopped.
    """

    def __init__(self, reactor: Any) -> None:
        self._trimming = LoopingCall(find_trim() or (lambda: None))
        self._trimming.clock = reactor
        reactor.callWhenRunning(self._trimming.start, TRIM_EVERY, now=False)

    def stop(self) -> None:
        """Give back no more."""
        if self._trimming.running:
            self._trimming.stop()
