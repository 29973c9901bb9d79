"""The ledger in memory: numbers, order, batches."""

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.ledger import MemoryLedger
from chat_twisted.message import EVERYBODY, Message


class MemoryLedgerTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1.5)
        self.ledger: MemoryLedger[str] = MemoryLedger(self.clock)
        self.batches: list[list[tuple[Message, str]]] = []
        self.ledger.start(lambda batch: self.batches.append(list(batch)))

    def append(self, text: str) -> None:
        self.ledger.append("alice", EVERYBODY, text, f"origin of {text}")

    def test_what_is_appended_in_one_turn_is_committed_together_in_the_next(self) -> None:
        self.append("a")
        self.append("b")
        self.assertEqual((self.batches, self.ledger.last), ([], 0))
        self.clock.advance(0)
        self.assertEqual(
            self.batches,
            [
                [
                    (Message(1, 1500, "alice", EVERYBODY, "a"), "origin of a"),
                    (Message(2, 1500, "alice", EVERYBODY, "b"), "origin of b"),
                ]
            ],
        )
        self.assertEqual(self.ledger.last, 2)

    def test_numbers_go_on_from_batch_to_batch(self) -> None:
        for text in "ab":
            self.append(text)
            self.clock.advance(0)
        self.assertEqual([batch[0][0].number for batch in self.batches], [1, 2])

    def test_what_is_appended_during_a_commit_is_the_next_batch(self) -> None:
        again = ["c"]
        self.ledger = MemoryLedger(self.clock)

        def committed(batch) -> None:
            self.batches.append(list(batch))
            if again:
                self.append(again.pop())

        self.ledger.start(committed)
        self.append("a")
        self.clock.advance(0)
        self.assertEqual([[m.text for m, _ in batch] for batch in self.batches], [["a"], ["c"]])
