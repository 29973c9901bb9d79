"""The server's process: signals, garbage collection, threads, and free memory.

This module must not know the chat.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
from typing import Any, NoReturn

from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall

from chat_twisted.memory import find_trim

SWITCH_INTERVAL = 0.0005
"""Python's switch interval in seconds. With the default of 5 ms, a commit in a thread waits up to 5
ms for Python's lock after each statement."""

TRIM_EVERY = 10
"""Seconds between two returns of free memory to the system."""

COLLECT_AFTER = (5_000, 10, 400)
"""Thresholds for ``gc.set_threshold`` (generations 0, 1 and 2). A collection of the first two takes
some milliseconds; one of all objects, after 20 million new ones, a second and more."""


def set_up(reactor: Any) -> None:
    """Prepare this process for serving: switch interval, garbage collection, signals."""
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


def stop_as_failed(reactor: Any) -> None:
    """Stop the reactor in the usual way; then the process ends with exit status 1.

    twistd has no way to say so: a reactor that has stopped means success to it, whatever was
    raised. So the status is set when everything else has ended, including all threads.
    """
    atexit.register(_end_as_failed)
    for number in (signal.SIGTERM, signal.SIGINT):  # they would stop the reactor a second time
        signal.signal(number, signal.SIG_IGN)

    def stop() -> None:
        with contextlib.suppress(ReactorNotRunning):  # it was told to stop before
            reactor.stop()

    reactor.callWhenRunning(stop)


def _end_as_failed() -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # nobody reads it any more, perhaps
            stream.flush()
    os._exit(1)


def _spare_the_collector() -> None:
    """Let the garbage collector run rarely, and ignore the objects that exist now.

    Those objects stay until the end. Messages make no reference cycles, so collections find almost
    nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


class GivingBack:
    """Returns free memory to the system every ``TRIM_EVERY`` seconds while the reactor runs."""

    def __init__(self, reactor: Any) -> None:
        self._trimming = LoopingCall(find_trim() or (lambda: None))
        self._trimming.clock = reactor
        reactor.callWhenRunning(self._trimming.start, TRIM_EVERY, now=False)

    def stop(self) -> None:
        """Stop the timer."""
        if self._trimming.running:
            self._trimming.stop()
