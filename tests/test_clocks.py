"""The two clocks of a process."""

from __future__ import annotations

import subprocess
import sys
import time

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.clocks import use_monotonic_clock

PROGRAM = """
import sys, time
from twisted.internet import {name}reactor
{name}reactor.install()
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from chat_twisted.clocks import use_monotonic_clock
use_monotonic_clock(reactor)
times = []
def tick():
    times.append(reactor.seconds())
    if len(times) == 3:
        call = reactor.callLater(3600, reactor.crash)
        call.reset(0)
ticking = LoopingCall(tick)
ticking.start(0.01)
reactor.callLater(20, sys.exit, "too late")
reactor.run()
assert times == sorted(times) and abs(times[-1] - time.monotonic()) < 20, times
"""


class MonotonicClockTests(TestCase):
    def test_timers_of_each_reactor_follow_it(self) -> None:
        for name in ("select", "poll", "epoll", "asyncio"):
            program = PROGRAM.format(name=name)
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)

    def test_clock_of_a_test_stays_as_it_is(self) -> None:
        clock = Clock()
        use_monotonic_clock(clock)
        self.assertEqual(clock.seconds(), 0)
        self.assertNotEqual(clock.seconds, time.monotonic)
