"""Following a log: what is taken, from a source that leaves out, repeats, is late or wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.storage import following
from chat_twisted.storage.following import DOUBT_PAUSES, QUIET, RETRY, Fetched, Follower
from chat_twisted.storage.log import Bounds, LogBroken, Unknown


def data(position: int) -> bytes:
    return b"%d" % position


class Source:
    """A source with records from ``first`` to ``last``.

    :ivar missing: positions whose records have been deleted.
    :ivar lag: how many of the newest records a fetch does not have.
    :ivar silent: whether nothing is answered.
    :ivar held: whether answers are given when ``answer`` is called.
    :ivar batch: maximum number of records that are fetched at once.
    """

    def __init__(self) -> None:
        self.identity = "one"
        self.first = 1
        self.last = 0
        self.exists = True
        self.missing: set[int] = set()
        self.lag = 0
        self.silent = False
        self.held = False
        self.batch = 3
        self.asked: list[str] = []
        self._waiting: list[tuple[Deferred[object], object]] = []

    def _reply(self, name: str, result: object) -> Deferred[object]:
        self.asked.append(name)
        if self.silent:
            return fail(Unknown("silence"))
        if not self.held:
            return succeed(result)
        waiting: Deferred[object] = Deferred()
        self._waiting.append((waiting, result))
        return waiting

    def answer(self) -> None:
        """Give the answer to the oldest question."""
        waiting, result = self._waiting.pop(0)
        waiting.callback(result)

    def describe(self) -> Deferred[object]:
        bounds = Bounds(self.identity, self.first, self.last) if self.exists else None
        return self._reply("describe", bounds)

    def fetch(self, after: int) -> Deferred[object]:
        there = [
            position
            for position in range(max(after + 1, self.first), self.last + 1 - self.lag)
            if position not in self.missing
        ][: self.batch]
        last = there[-1] if there else after
        return self._reply(f"fetch {after}", Fetched([data(each) for each in there], last))

    def get(self, position: int) -> Deferred[object]:
        there = self.first <= position <= self.last and position not in self.missing
        return self._reply(f"get {position}", data(position) if there else None)

    def peek(self, position: int) -> Deferred[object]:
        there = self.first <= position <= self.last - self.lag and position not in self.missing
        return self._reply(f"peek {position}", data(position) if there else None)


class FollowerTestCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Source()
        self.taken: list[int] = []
        self.calls: list[list[int]] = []
        self.broken: list[str] = []
        self.taking: Deferred[None] | None = None
        self.follower = self.make(0)
        self.addCleanup(lambda: self.assertFalse(self.clock.getDelayedCalls()))
        self.addCleanup(lambda: self.follower.stop())

    def make(self, after: int) -> Follower:
        return Follower(self.clock, self.source, after, self.take, self.broke)

    def take(self, records: Sequence[tuple[int, bytes]]) -> Deferred[None] | None:
        for position, content in records:
            self.assertEqual(content, data(position))
        self.calls.append([position for position, _ in records])
        self.taken += self.calls[-1]
        return self.taking

    def broke(self, reason: LogBroken) -> None:
        self.broken.append(str(reason))

    def store(self, *, sent: bool = True, more: bool = False) -> None:
        """Store a record, and send it to the follower."""
        self.source.last += 1
        if sent:
            self.follower.came(self.source.last, data(self.source.last), more)

    def advance(self, seconds: float, steps: int = 20) -> None:
        self.clock.pump([seconds / steps] * steps)


class TakingTests(FollowerTestCase):
    def test_what_comes_is_taken_at_once(self) -> None:
        self.follower.online()
        self.store()
        self.assertEqual(self.calls, [[1]])
        self.store()
        self.assertEqual(self.calls, [[1], [2]])

    def test_what_has_come_together_is_taken_together(self) -> None:
        self.follower.online()
        self.store(more=True)
        self.store(more=True)
        self.assertEqual(self.calls, [])
        self.store()
        self.assertEqual(self.calls, [[1, 2, 3]])

    def test_while_records_are_taken_the_next_ones_wait(self) -> None:
        self.follower.online()
        self.taking = taking = Deferred()
        for _ in range(4):
            self.store()
        self.assertEqual(self.calls, [[1]])
        self.taking = None
        taking.callback(None)
        self.assertEqual(self.calls, [[1], [2, 3, 4]])

    def test_if_too_many_wait_the_others_are_fetched_when_there_is_room(self) -> None:
        self.patch(following, "MAX_WAITING", 5)
        self.follower.online()
        self.taking = taking = Deferred()
        for _ in range(30):
            self.store()
        self.assertNotIn("fetch", " ".join(self.source.asked))
        self.taking = None
        taking.callback(None)
        self.advance(1)
        self.assertEqual(self.taken, list(range(1, 31)))

    def test_at_the_beginning_everything_is_fetched_that_is_there(self) -> None:
        self.source.last = 10
        self.follower = self.make(2)
        self.follower.online()
        self.assertEqual(self.calls, [[3, 4, 5], [6, 7, 8], [9, 10]])

    def test_nothing_is_taken_before_it_is_known_which_log_it_is(self) -> None:
        self.source.held = True
        self.follower.online()
        self.store()
        self.assertEqual(self.calls, [])
        self.source.answer()
        self.assertEqual(self.calls, [[1]])

    def test_a_record_that_can_not_be_taken_is_the_last(self) -> None:
        self.follower.online()
        self.taking = fail(ZeroDivisionError())
        self.store()
        self.store()
        self.clock.advance(0)
        self.assertEqual(self.broken, ["a record could not be taken"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.taken, [1])

    def test_after_stop_nothing_is_taken(self) -> None:
        self.follower.online()
        self.source.held = True
        self.store(sent=False)
        self.store()
        self.follower.stop()
        self.source.answer()
        self.store()
        self.assertEqual(self.taken, [])


class MissingTests(FollowerTestCase):
    def test_what_was_not_sent_is_fetched_when_the_next_one_comes(self) -> None:
        self.follower.online()
        self.store(sent=False)
        self.store()
        self.assertEqual(self.taken, [1, 2])

    def test_what_comes_meanwhile_is_kept(self) -> None:
        self.follower.online()
        self.source.held = True
        self.store(sent=False)
        self.store()
        self.store()
        self.assertEqual(self.taken, [])
        self.source.answer()
        self.assertEqual(self.taken, [1, 2, 3])
        self.assertEqual(self.source.asked, ["describe", "fetch 0"])

    def test_a_stored_record_that_does_not_come_is_fetched(self) -> None:
        self.follower.online()
        self.store(sent=False)
        self.follower.stored(1)
        self.assertEqual(self.taken, [])
        self.advance(0.1)
        self.assertEqual(self.taken, [1])

    def test_when_it_is_quiet_the_source_is_asked(self) -> None:
        self.follower.online()
        self.store(sent=False)
        self.assertEqual(self.taken, [])
        self.advance(QUIET + 0.1)
        self.assertEqual(self.taken, [1])

    def test_a_server_that_lacks_the_newest_is_asked_again(self) -> None:
        self.follower.online()
        self.source.lag = 2
        self.store(sent=False)
        self.store()
        self.assertEqual(self.taken, [])
        self.source.lag = 0
        self.advance(RETRY)
        self.assertEqual(self.taken, [1, 2])

    def test_a_source_that_does_not_answer_is_asked_again(self) -> None:
        self.source.silent = True
        self.source.last = 4
        self.follower.online()
        self.advance(1)
        self.source.silent = False
        self.advance(RETRY)
        self.assertEqual(self.taken, [1, 2, 3, 4])

    def test_repeated_records_are_taken_once(self) -> None:
        self.follower.online()
        self.store()
        self.store()
        for position in (1, 2):
            self.follower.came(position, b"again", False)
        self.store()
        self.assertEqual(self.taken, [1, 2, 3])

    def test_after_a_lost_connection_what_was_missed_is_fetched(self) -> None:
        self.follower.online()
        self.store()
        self.follower.offline()
        for _ in range(5):
            self.store(sent=False)
        self.advance(2 * QUIET)
        self.assertEqual(self.taken, [1])
        self.follower.online()
        self.assertEqual(self.taken, [1, 2, 3, 4, 5, 6])

    def test_whatever_is_lost_all_is_taken_in_order(self) -> None:
        chance = random.Random(19)
        self.patch(following, "MAX_EARLY", 3)
        self.patch(following, "MAX_WAITING", 6)
        self.follower.online()
        for _ in range(2000):
            match chance.randrange(8):
                case 0:
                    self.follower.offline()
                case 1:
                    self.follower.online()
                case 2:
                    self.source.silent = not self.source.silent
                case 3:
                    self.source.lag = chance.randrange(3)
                case 4:
                    self.advance(chance.random())
                case 5 if self.taking is None:
                    self.taking = Deferred()
                case 5:
                    taking, self.taking = self.taking, None
                    if self.calls:
                        taking.callback(None)
                case _:
                    for _ in range(chance.randrange(10)):
                        self.store(sent=chance.random() < 0.7, more=chance.random() < 0.3)
            self.assertEqual(self.taken, list(range(1, len(self.taken) + 1)))
        self.source.silent, self.source.lag = False, 0
        taking, self.taking = self.taking, None
        if taking is not None:
            taking.callback(None)
        self.follower.online()
        self.advance(60, 1000)
        self.assertEqual(self.taken, list(range(1, self.source.last + 1)))
        self.assertEqual(self.broken, [])


class BrokenTests(FollowerTestCase):
    def breaks(self, *words: str) -> None:
        """Assert that the log is given up now, with a reason that has these words."""
        self.clock.advance(0)
        [reason] = self.broken
        for word in words:
            self.assertIn(word, reason)
        count = len(self.taken)
        self.store()
        self.assertEqual(len(self.taken), count)

    def fill(self, count: int = 5) -> None:
        self.follower.online()
        for _ in range(count):
            self.store()

    def test_the_log_was_purged_too_far(self) -> None:
        self.source.first, self.source.last = 5, 9
        self.follower = self.make(3)
        self.follower.online()
        self.breaks("begins at record 5", "after 3")

    def test_a_purge_of_what_was_taken_is_none_of_its_business(self) -> None:
        self.source.first, self.source.last = 5, 9
        self.follower = self.make(4)
        self.follower.online()
        self.assertEqual(self.taken, [5, 6, 7, 8, 9])

    def test_another_log(self) -> None:
        self.fill()
        self.follower.offline()
        self.source.identity = "another"
        self.follower.online()
        self.breaks("another log")

    def test_another_log_that_appears_without_a_lost_connection(self) -> None:
        self.fill()
        self.source.identity, self.source.last = "another", 1
        self.follower.came(1, b"another one", False)
        self.breaks("another log")
        self.assertEqual(self.taken, [1, 2, 3, 4, 5])

    def test_a_shorter_log_is_believed_in_when_it_is_said_again_and_again(self) -> None:
        self.fill()
        self.follower.offline()
        self.source.last = 4
        self.follower.online()
        self.advance(sum(DOUBT_PAUSES) - 0.01, 400)
        self.assertEqual(self.broken, [])
        self.advance(0.2)
        self.breaks("ends at record 4", "5 was taken")

    def test_a_server_with_old_knowledge_is_not_believed(self) -> None:
        self.fill()
        self.follower.offline()
        self.source.last = 4
        self.follower.online()
        self.advance(DOUBT_PAUSES[0] / 2)
        self.source.last = 6
        self.advance(DOUBT_PAUSES[0])
        self.assertEqual(self.taken, [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.broken, [])

    def test_the_log_does_not_exist_any_more(self) -> None:
        self.fill()
        self.source.exists = False
        self.advance(QUIET)
        self.assertEqual(self.broken, [])
        self.advance(sum(DOUBT_PAUSES) + 1, 400)
        self.breaks("does not exist any more")

    def test_a_deleted_record(self) -> None:
        self.source.last = 5
        self.source.missing = {3}
        self.follower = self.make(2)
        self.follower.online()
        self.assertEqual(self.broken, [])
        self.advance(sum(DOUBT_PAUSES) + 1, 400)
        self.breaks("record 3 is not in the log")

    def test_a_record_that_one_server_lacks_is_got_from_the_leader(self) -> None:
        self.source.last = 5
        self.source.missing = {3}
        self.follower = self.make(2)
        self.source.get = lambda position: succeed(data(position))
        self.follower.online()
        self.assertEqual(self.taken, [3, 4, 5])


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

    peek = get


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

    def test_nor_if_that_was_not_seen(self) -> None:
        self.follower.offline()
        self.source.records = [b"1", b"2", b"other", b"4"]
        self.follower.online()
        self.clock.advance(0)
        [reason] = self.said
        self.assertIn("record 3 of the log is another one now", reason)
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
