"""The two clocks of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.clocks import BELIEVED_AFTER, LogTime, SettledTime, use_monotonic_clock

ROOT = Path(__file__).resolve().parents[1]

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
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                timeout=60,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)

    def test_clock_of_a_test_stays_as_it_is(self) -> None:
        clock = Clock()
        use_monotonic_clock(clock)
        self.assertEqual(clock.seconds(), 0)
        self.assertNotEqual(clock.seconds, time.monotonic)


class SettledTimeTests(TestCase):
    NOON = 1_000_000.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.ahead = self.NOON
        self.time = SettledTime(self.clock.seconds, self.wall)

    def wall(self) -> float:
        return self.clock.seconds() + self.ahead

    def check(self, now: float, earliest: float) -> None:
        """Check the lead over the monotonic clock."""
        begun = self.clock.seconds()
        self.assertEqual(
            (self.time.now() - begun, self.time.earliest() - begun), (now, earliest), begun
        )

    def pass_minutes(self, count: int) -> None:
        """Read the time once a minute, as a server does."""
        for _ in range(count):
            self.clock.advance(60)
            self.time.earliest()

    def test_without_a_jump_it_is_the_time_of_day_and_follows_its_drift(self) -> None:
        self.check(self.NOON, self.NOON)
        for _ in range(100):
            self.ahead += 0.5
            self.pass_minutes(1)
        self.check(self.NOON + 50, self.NOON + 50)

    def test_jump_ahead_that_is_undone_within_an_hour_is_never_believed(self) -> None:
        self.pass_minutes(1)
        self.ahead += 40 * 24 * 3600
        for _ in range(59):
            self.pass_minutes(1)
            self.check(self.NOON, self.NOON)
        self.ahead = self.NOON
        self.pass_minutes(1)
        self.check(self.NOON, self.NOON)

    def test_jump_back_ends_nothing_early_and_is_not_believed_either(self) -> None:
        self.pass_minutes(1)
        self.ahead -= 3600
        self.pass_minutes(30)
        self.check(self.NOON, self.NOON - 3600)
        self.ahead += 3600
        self.check(self.NOON, self.NOON)

    def test_jump_that_stands_for_an_hour_is_believed(self) -> None:
        for jump in (5000, -5000, 2):
            self.pass_minutes(1)
            before, self.ahead = self.ahead, self.ahead + jump
            self.pass_minutes(BELIEVED_AFTER // 60)
            self.check(before, min(before, self.ahead))
            self.pass_minutes(1)
            self.check(self.ahead, self.ahead)

    def test_hour_begins_anew_with_each_jump(self) -> None:
        self.pass_minutes(1)
        for _ in range(10):
            self.ahead += 100
            self.pass_minutes(50)
        self.check(self.NOON, self.NOON)

    def test_start_is_at_a_known_time_until_the_clock_has_stood_for_an_hour(self) -> None:
        self.time = SettledTime(self.clock.seconds, self.wall, self.NOON - 7200)
        self.check(self.NOON, self.NOON - 7200)
        self.pass_minutes(59)
        self.check(self.NOON, self.NOON - 7200)
        self.pass_minutes(2)
        self.check(self.NOON, self.NOON)

    def test_start_with_a_clock_that_is_behind_does_not_go_back(self) -> None:
        self.time = SettledTime(self.clock.seconds, self.wall, self.NOON + 7200)
        self.check(self.NOON + 7200, self.NOON)


class LogTimeTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = 1_000_000.0
        self.begin(0)

    def begin(self, known: int) -> None:
        settled = SettledTime(self.clock.seconds, self.now, known / 1000 if known else None)
        self.time = LogTime(self.clock.seconds, settled, known)

    def now(self) -> float:
        return self.wall + self.clock.seconds()

    def test_it_is_the_time_of_day_while_that_is_not_set(self) -> None:
        self.clock.advance(90)
        self.assertEqual(self.time(), 1_000_090_000)

    def test_it_goes_on_when_the_time_of_day_goes_back(self) -> None:
        self.clock.advance(10)
        self.wall -= 5000
        for _ in range(3):
            before = self.time()
            self.clock.advance(BELIEVED_AFTER)
            self.assertEqual(self.time(), before + BELIEVED_AFTER * 1000)

    def test_a_jump_forward_counts_when_it_has_stood(self) -> None:
        self.wall += 5000
        self.assertEqual(self.time(), 1_000_000_000)
        self.clock.advance(BELIEVED_AFTER)
        self.assertEqual(self.time(), 1_005_000_000 + BELIEVED_AFTER * 1000)

    def test_an_entry_of_another_clock_that_is_ahead_advances_it_once(self) -> None:
        self.begin(1_000_000_000)
        for _ in range(10):
            self.clock.advance(1)
            self.time.reach(self.time() + 100)
        self.assertEqual(self.time(), 1_000_011_000)
        self.clock.advance(2)
        self.time.reach(1_000_013_500)
        self.assertEqual(self.time(), 1_000_013_500)

    def test_an_entry_of_another_clock_that_is_behind_changes_nothing(self) -> None:
        for _ in range(10):
            self.clock.advance(1)
            self.time.reach(1_000_000_000)
        self.assertEqual(self.time(), 1_000_010_000)

    def test_who_does_not_lead_does_not_follow_the_time_of_day(self) -> None:
        self.time.leads = False
        self.time.reach(900_000_000)
        self.clock.advance(5)
        self.assertEqual(self.time(), 900_005_000)

    def test_who_begins_to_lead_takes_a_difference_for_a_jump(self) -> None:
        self.time.leads = False
        self.time.reach(900_000_000)
        self.time.leads = True
        self.assertEqual(self.time(), 900_000_000)
        self.clock.advance(BELIEVED_AFTER + 1)
        self.assertEqual(self.time(), 1_000_001_000 + BELIEVED_AFTER * 1000)

    def test_who_begins_to_lead_without_a_known_time_takes_the_time_of_day(self) -> None:
        self.time.leads = False
        self.clock.advance(5)
        self.assertEqual(self.time(), 5000)
        self.time.leads = True
        self.assertEqual(self.time(), 1_000_005_000)

    def test_it_begins_where_it_ended(self) -> None:
        for known in (999_000_000, 1_001_000_000):
            self.begin(known)
            self.assertEqual(self.time(), known)
            self.clock.advance(1)
            self.assertEqual(self.time(), known + 1000)
