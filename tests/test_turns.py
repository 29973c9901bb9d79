"""Turns: fair between sources, bounded in number and in time."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.errors import Unavailable
from chat_twisted.turns import Turns


class TurnsTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock, 2, most=1000, patience=10)
        self.begun: list[str] = []

    def take(self, source: str, name: str = "") -> Deferred[None]:
        turn = self.turns.take(source)
        turn.addCallback(lambda _: self.begun.append(name or source))
        return turn

    def test_so_many_sources_have_a_turn_at_once(self) -> None:
        for source in "abc":
            self.take(source)
        self.assertEqual(self.begun, ["a", "b"])
        self.turns.give_back("a")
        self.assertEqual(self.begun, ["a", "b", "c"])

    def test_of_one_source_one_has_its_turn_and_the_others_wait_in_line(self) -> None:
        for name in "123":
            self.take("a", name)
        self.assertEqual(self.begun, ["1"])
        self.turns.give_back("a")
        self.turns.give_back("a")
        self.assertEqual(self.begun, ["1", "2", "3"])

    def test_another_source_waits_for_nothing_that_waits(self) -> None:
        for _ in range(900):
            self.take("a")
            self.take("b")
        self.take("c")
        self.turns.give_back("a")
        self.turns.give_back("b")
        self.assertIn("c", self.begun[2:4])

    def test_sources_take_turns(self) -> None:
        self.turns = Turns(self.clock, 1, most=1000, patience=10)
        for name in ("a1", "a2", "b1", "a3", "b2", "c1"):
            self.take(name[0], name)
        for name in ("a1", "b1", "c1", "a2", "b2"):
            self.turns.give_back(name[0])
        self.assertEqual(self.begun, ["a1", "b1", "c1", "a2", "b2", "a3"])

    def test_past_the_bound_of_a_source_it_is_refused_and_others_are_not(self) -> None:
        self.turns = Turns(self.clock, 1, most=2, patience=10)
        for _ in range(3):
            self.take("a")
        with self.assertRaises(Unavailable) as caught:
            self.take("a")
        self.assertGreater(caught.exception.retry_after, 0)
        self.assertNoResult(self.take("b"))

    def test_who_waits_too_long_is_refused_and_takes_no_turn(self) -> None:
        self.take("a")
        first = self.take("a")
        self.clock.advance(5)
        second = self.take("a", "second")
        self.clock.advance(5)
        self.failureResultOf(first, Unavailable)
        self.turns.give_back("a")
        self.successResultOf(second)
        self.turns.give_back("a")
        self.clock.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_done_at_once_makes_no_deep_stack(self) -> None:
        done = []

        def work(_: None) -> None:
            done.append(1)
            self.turns.give_back("a")

        self.take("a")
        for _ in range(999):
            self.turns.take("a").addCallback(work)
        self.turns.give_back("a")
        self.assertEqual(len(done), 999)

    def test_when_it_stops_all_who_wait_are_refused_and_all_who_come(self) -> None:
        self.take("a")
        waiting = self.take("a")
        self.turns.stop()
        self.failureResultOf(waiting, Unavailable)
        with self.assertRaises(Unavailable):
            self.turns.take("b")
        self.turns.give_back("a")
        self.assertEqual((self.begun, self.clock.getDelayedCalls()), (["a"], []))
