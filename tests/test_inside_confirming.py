"""When messages are confirmed that a user has got by ssh."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.inside.confirming import FINISH_WITHIN, LATER, SOON, Confirmer


class ConfirmerTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.waiting: list[Callable[[], None]] = []
        self.confirmed: list[int] = []
        self.confirmer = Confirmer(
            self.clock, lambda then: self.waiting.append(then), self.confirmed.append
        )

    def taken(self) -> None:
        """The user has what was shown so far."""
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then()

    def test_a_direct_message_soon_and_others_later(self) -> None:
        self.confirmer.received(1, False)
        self.clock.advance(SOON)
        self.assertEqual(len(self.waiting), 0)
        self.confirmer.received(2, True)
        self.clock.advance(SOON)
        self.assertEqual((len(self.waiting), self.confirmed), (1, []))
        self.taken()
        self.assertEqual(self.confirmed, [2])
        self.clock.advance(LATER)
        self.assertEqual(self.waiting, [], "one answer is enough for both")

    def test_what_comes_while_it_waits_needs_another_answer(self) -> None:
        self.confirmer.received(1, True)
        self.clock.advance(SOON)
        self.confirmer.received(2, True)
        self.clock.advance(LATER)
        self.assertEqual(len(self.waiting), 1)
        self.taken()
        self.assertEqual(self.confirmed, [1])
        self.clock.advance(SOON)
        self.taken()
        self.assertEqual(self.confirmed, [1, 2])

    def test_many_are_confirmed_together(self) -> None:
        for number in range(1, 100):
            self.confirmer.received(number, False)
            self.clock.advance(0.01)
        self.clock.advance(LATER)
        self.taken()
        self.assertEqual(self.confirmed, [99])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_confirmed_after_the_end(self) -> None:
        self.confirmer.received(1, True)
        self.confirmer.stop()
        self.clock.advance(LATER)
        self.assertEqual((self.waiting, self.clock.getDelayedCalls()), ([], []))
        self.confirmer.stop()

    def test_everything_is_confirmed_before_the_session_quits(self) -> None:
        self.confirmer.received(1, False)
        self.confirmer.before_quit(lambda: self.confirmed.append(-1))
        self.confirmer.received(2, False)
        self.taken()
        self.taken()
        self.assertEqual(self.confirmed, [1, 2, -1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_user_who_does_not_answer_quits_nevertheless(self) -> None:
        self.confirmer.received(1, True)
        self.clock.advance(SOON)
        self.confirmer.before_quit(lambda: self.confirmed.append(-1))
        self.assertEqual(self.confirmed, [])
        self.clock.advance(FINISH_WITHIN)
        self.assertEqual(self.confirmed, [-1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_waits_if_everything_is_confirmed(self) -> None:
        self.confirmer.before_quit(lambda: self.confirmed.append(-1))
        self.assertEqual(self.confirmed, [-1])
        self.confirmer.before_quit(lambda: self.confirmed.append(-2))
        self.assertEqual(self.confirmed, [-1, -2])
