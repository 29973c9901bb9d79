"""Plain counters, and how late the event loop is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import Muted, TooFast
from chat_twisted.metrics import Histogram, LoopLag, Refusals


class HistogramTests(TestCase):
    def test_a_value_counts_in_the_interval_that_ends_at_or_after_it(self) -> None:
        histogram = Histogram((1, 5))
        for value in (0, 1, 1.5, 5, 5.1, 99):
            histogram.add(value)
        self.assertEqual((histogram.counts, histogram.total), ([2, 2, 2], 6))
        self.assertAlmostEqual(histogram.sum, 111.6)


class RefusalTests(TestCase):
    def test_refusals_are_counted_by_the_class_of_the_error(self) -> None:
        refusals = Refusals()
        for error in (Muted(why="a secret"), TooFast(), Muted()):
            refusals.add(error)
        self.assertEqual(dict(refusals), {"Muted": 2, "TooFast": 1})


class LoopLagTests(TestCase):
    def test_it_measures_how_late_a_timer_is_until_it_is_stopped(self) -> None:
        clock = Clock()
        lag = LoopLag(clock)
        lag.start()
        clock.advance(LoopLag.EVERY)
        clock.advance(LoopLag.EVERY + 2)
        self.assertEqual(lag.seconds.total, 2)
        self.assertAlmostEqual(lag.seconds.sum, 2)
        lag.stop()
        self.assertEqual(clock.getDelayedCalls(), [])
