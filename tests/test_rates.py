"""Rates are those of the last minute, whatever was before."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.rates import EVERY, Rates


class RatesTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.count = 100.0
        self.rates = Rates(lambda: {"messages": self.count}, self.clock)

    def grow(self, seconds: int, each: float) -> float:
        """Let the counter grow for some seconds; return the rate after that."""
        for _ in range(seconds):
            self.count += each
            self.clock.advance(1)
        return self.rates.per_second()["messages"]

    def test_there_is_none_before_the_start_and_in_the_first_second(self) -> None:
        self.assertEqual(self.rates.per_second(), {})
        self.rates.start()
        self.assertEqual(self.rates.per_second(), {})

    def test_a_young_server_has_the_rate_since_its_start(self) -> None:
        self.rates.start()
        self.assertEqual(self.grow(3, 2), 2)

    def test_what_is_older_than_a_minute_does_not_count(self) -> None:
        self.rates.start()
        self.grow(600, 5)
        self.assertLess(self.grow(30, 0), 5)
        self.assertEqual(self.grow(60, 0), 0)
        self.assertEqual(self.grow(60, 2), 2)

    def test_it_needs_a_timer_only_until_it_is_stopped(self) -> None:
        self.rates.start()
        self.clock.advance(EVERY)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.rates.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
