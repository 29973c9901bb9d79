"""Turns: fair between sources, bounded in number and in time."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import Unavailable
from chat_twisted.core.turns import (
    REACTOR_WEIGHT,
    Asker,
    EndOfTurn,
    Paced,
    Turns,
    unlimited,
)
from tests.store import turn


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


class PacedTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.paced = Paced(self.clock, 0.002)
        self.done: list[str] = []

    def do(self, name: str, takes: float = 0.001) -> Deferred[None]:
        def work() -> None:
            self.clock.rightNow += takes
            self.done.append(name)

        return Deferred.fromCoroutine(self.paced.do(unlimited(name[0]), work))

    def turn(self) -> None:
        turn(self.clock)

    def test_what_takes_little_is_done_at_once(self) -> None:
        for name in ("a1", "a2"):
            self.successResultOf(self.do(name))
        self.assertEqual(self.done, ["a1", "a2"])

    def test_the_rest_is_done_a_piece_a_turn_and_sources_take_turns(self) -> None:
        names = ("a1", "a2", "a3", "a4", "a5", "b1", "b2")
        waiting = [self.do(name) for name in names]
        self.assertEqual(self.done, ["a1", "a2"])
        for count in range(1, 6):
            self.turn()
            self.assertEqual(self.done[2:], ["a3", "b1", "a4", "b2", "a5"][:count])
        for result in waiting:
            self.successResultOf(result)

    def test_a_new_turn_has_time_again(self) -> None:
        for name in ("a1", "a2"):
            self.do(name)
            self.clock.advance(0)
        self.successResultOf(self.do("a3"))

    def test_whoever_asks_pays_for_the_time_and_for_what_fails_too(self) -> None:
        paid: list[float] = []

        def fail() -> None:
            self.clock.rightNow += 0.25
            raise Unavailable

        asked = Deferred.fromCoroutine(self.paced.do(Asker("a", paid.append), fail))
        self.failureResultOf(asked, Unavailable)
        self.assertEqual(paid, [0.25 * REACTOR_WEIGHT])

    def test_what_waits_too_long_is_refused(self) -> None:
        self.paced = Paced(self.clock, 0.002, most=1, patience=10)
        self.do("a1", 1)
        self.paced._turns.take("b")  # which is not given back
        waiting = self.do("a2")
        self.failureResultOf(self.do("a3"), Unavailable)
        self.clock.advance(10)
        self.failureResultOf(waiting, Unavailable)
        self.assertEqual(self.done, ["a1"])


class EndOfTurnTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = EndOfTurn(self.clock)
        self.done: list[str] = []

    def commit(self, name: str) -> None:
        self.turn.commit(lambda: self.done.append(name))

    def write(self, name: str) -> None:
        self.turn.write(lambda: self.done.append(name))

    def test_all_is_committed_before_anything_is_written(self) -> None:
        self.write("written first")
        self.commit("committed")
        self.assertEqual(self.done, [])
        self.clock.advance(0)
        self.assertEqual(self.done, ["committed", "written first"])

    def test_what_comes_of_a_commit_is_written_in_the_same_turn(self) -> None:
        self.turn.commit(lambda: self.write("delivered"))
        turn(self.clock)
        self.assertEqual(self.done, ["delivered"])

    def test_what_a_commit_brings_forth_is_committed_in_the_next(self) -> None:
        self.turn.commit(lambda: self.commit("settled"))
        turn(self.clock)
        self.assertEqual(self.done, [])
        turn(self.clock)
        self.assertEqual(self.done, ["settled"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_where_something_is_read_in_one_call_that_is_the_turn(self) -> None:
        self.turn.begin()
        self.commit("committed")
        self.write("written")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.turn.end()
        self.assertEqual(self.done, ["committed", "written"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_fault_keeps_no_other_from_being_called(self) -> None:
        self.turn.commit(lambda: 1 // 0)
        self.commit("committed")
        self.write("written")
        self.clock.advance(0)
        self.assertEqual(self.done, ["committed", "written"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
