"""A log is followed without gaps, and not any more if it has lost what was taken."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.storage import following
from chat_twisted.storage.following import Fetched, Follower
from chat_twisted.storage.log import Bounds, LogBroken


class Stored:
    """The source: what is stored in the log."""

    def __init__(self, *records: bytes) -> None:
        self.records = [*records]

    def describe(self) -> Deferred[Bounds | None]:
        return succeed(Bounds("one", 1, len(self.records)))

    def fetch(self, after: int) -> Deferred[Fetched]:
        return succeed(Fetched(self.records[after:], len(self.records)))

    def get(self, position: int) -> Deferred[bytes | None]:
        return succeed(self.records[position - 1])


class ReplacedTests(TestCase):
    """The log has lost its newest records, and as many others have come."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Stored(b"1", b"2", b"3")
        self.taken: list[tuple[int, bytes]] = []
        self.said: list[str] = []
        self.follower = Follower(self.clock, self.source, 0, self.take, self.broken)
        self.follower.online()
        self.clock.advance(0)
        self.assertEqual(self.taken, [(1, b"1"), (2, b"2"), (3, b"3")])
        self.addCleanup(self.follower.stop)

    def take(self, arrived: Sequence[tuple[int, bytes]]) -> None:
        self.taken += arrived

    def broken(self, error: LogBroken) -> None:
        self.said.append(str(error))

    def test_it_is_not_followed_any_more(self) -> None:
        self.follower.offline()
        self.source.records = [b"1", b"2", b"other"]
        self.follower.online()
        self.follower.came(3, b"other", False)
        self.clock.advance(0)
        [reason] = self.said
        self.assertIn("record 3 of the log is another one now", reason)
        self.source.records.append(b"4")
        self.follower.came(4, b"4", False)
        self.clock.advance(5)
        self.assertEqual(len(self.taken), 3)

    def test_what_only_seems_to_be_another_record_is_ignored(self) -> None:
        self.follower.came(3, b"not from the log", False)
        self.follower.came(2, b"2", False)
        self.clock.advance(0)
        self.source.records.append(b"4")
        self.follower.came(4, b"4", False)
        self.clock.advance(5)
        self.assertEqual(self.said, [])
        self.assertEqual(self.taken[3:], [(4, b"4")])

    def test_not_all_records_are_remembered(self) -> None:
        self.patch(following, "REMEMBERED", 2)
        for position in range(4, 50):
            self.source.records.append(b"%d" % position)
            self.follower.came(position, b"%d" % position, False)
        self.assertLessEqual(len(self.follower._hashes), 4)
        self.follower.came(5, b"5", False)
        self.clock.advance(0)
        self.assertEqual(self.said, [])
