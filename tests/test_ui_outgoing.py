"""The user's own messages until their outcome is known; the terminal's view tests the rest."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.ui.outgoing import MAX_SHOWN, Outbox, OutgoingMessage


class OutboxTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.settled: list[tuple[str, str]] = []
        self.drawn = 0
        self.outbox = Outbox(self.clock, self.settle, self.redraw)

    def settle(self, own: OutgoingMessage, remark: str) -> None:
        self.settled.append((own.text, remark))

    def redraw(self) -> None:
        self.drawn += 1

    def lines(self) -> list[str]:
        return ["".join(text for _, text in line) for line in self.outbox.lines("alice")]

    def test_refused_messages_take_one_line(self) -> None:
        for id in range(9):
            self.outbox.add(id, "bob", "hello")
        self.assertEqual(len(self.lines()), MAX_SHOWN + 1)
        for id in range(8):
            self.outbox.refused(id, "nobody is there")
        self.assertEqual(
            self.lines(),
            [
                "8 not sent: /again, /drop, or edit with Up",
                "[@bob] alice: hello (on its way)",
            ],
        )
        self.assertEqual(len(self.outbox.take_refused()), 8)
        self.assertEqual(len(self.lines()), 1)

    def test_a_reason_is_told_once(self) -> None:
        for id in (1, 2):
            self.outbox.add(id, "bob", "x")
        self.assertEqual(self.outbox.refused(1, "too fast"), "Not sent to bob: too fast")
        self.assertEqual(self.outbox.refused(2, "too fast"), "")
        self.outbox.take_refused()
        self.outbox.add(1, "bob", "x")
        self.assertNotEqual(self.outbox.refused(1, "too fast"), "")

    def test_it_is_known_for_how_long_the_oldest_is_unanswered(self) -> None:
        self.assertEqual(self.outbox.waits(), 0)
        self.outbox.add(1, "ALL", "one")
        self.clock.advance(5)
        self.outbox.add(2, "bob", "two")
        self.clock.advance(4.9)
        self.assertEqual(self.outbox.waits(), 0)
        self.clock.advance(2.5)
        self.assertEqual(self.outbox.waits(), 12)
        self.outbox.sent(1, 1, "")
        self.assertEqual(self.outbox.waits(), 0)
        self.clock.advance(3)
        self.assertEqual(self.outbox.waits(), 10)
        self.outbox.refused(2, "too fast")
        self.assertEqual(self.outbox.waits(), 0)

    def test_the_prompt_is_drawn_while_it_counts_the_seconds(self) -> None:
        for id, end in ((1, lambda: self.outbox.sent(1, 1, "")), (2, self.outbox.end)):
            self.drawn = 0
            self.outbox.add(id, "ALL", "x")
            self.clock.pump([1] * 9)
            self.assertEqual(self.drawn, 0)
            self.clock.pump([1] * 4)
            self.assertEqual(self.drawn, 4)
            end()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_message_of_another_kind_is_shown_as_that(self) -> None:
        self.outbox.add(1, "#dev", "waves", "action")
        self.assertEqual(self.lines(), ["[#dev] * alice waves (on its way)"])
