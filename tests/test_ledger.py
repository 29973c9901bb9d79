"""The embedded ledger: order, group commit, what is repeated, what can't be written."""

from __future__ import annotations

import sqlite3
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core.changes import Joined, Left, RoomMade, UserCame, UserGone
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.ledger import Again, Entry, Repeat
from chat_twisted.core.message import PUBLIC, Message
from chat_twisted.core.saved import Span
from chat_twisted.core.turns import unlimited
from chat_twisted.storage import archive, index
from chat_twisted.storage import embedded as ledger_module
from chat_twisted.storage.embedded import EmbeddedLedger
from tests.store import InlineStore, settle

FULL = sqlite3.OperationalError("database or disk is full")
ANYBODY = unlimited("anybody")


class LedgerTestCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.5)
        self.store = InlineStore(self.clock)
        self.commits: list[list[tuple[Entry, str]]] = []
        self.failures: list[list[str]] = []
        self.open()

    def open(self, retain: float | None = None) -> None:
        """Start a ledger on what is stored; the one before was killed."""
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        self.ledger: EmbeddedLedger[str] = self.store.ledger(retain=retain)
        self.ledger.start(self.committed, self.failed)

    def committed(self, batch) -> None:
        self.commits.append(list(batch))

    def failed(self, batch, error: Unavailable) -> None:
        self.assertGreater(error.retry_after, 0)
        self.failures.append([origin for _, origin in batch])

    def say(self, text: str, id: str | None = None, author: int = 7, *, again: bool = True) -> None:
        origin = f"origin of {text}"
        self.ledger.say(author, "alice", 0, 0, "ALL", text, id, origin, again=again)

    def commit(self) -> None:
        settle(self.clock)

    def entries(self) -> list[Entry]:
        return [entry for batch in self.commits for entry, _ in batch]

    def numbers(self) -> list[int]:
        return [entry[0] for entry in self.entries()]

    def rows(self, sql: str) -> list[Any]:
        return self.store.connection.execute(sql).fetchall()

    def stored(self) -> list[str]:
        return [text for (text,) in self.rows("SELECT text FROM message ORDER BY number")]

    def pass_minutes(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(60)
            self.commit()


class CommitTests(LedgerTestCase):
    def test_what_is_said_in_one_turn_is_committed_together(self) -> None:
        self.say("a")
        self.say("b", "7")
        self.assertEqual((self.commits, self.ledger.newest), ([], 2))
        self.commit()
        a = Message(1, 1000500, 7, "alice", 0, 0, "ALL", "a")
        b = Message(2, 1000500, 7, "alice", 0, 0, "ALL", "b", "7")
        self.assertEqual(self.commits, [[(a, "origin of a"), (b, "origin of b")]])
        self.assertEqual(self.stored(), ["a", "b"])

    def test_what_comes_during_a_commit_is_the_next_one(self) -> None:
        self.store.seconds = 0.1
        self.say("a")
        self.clock.advance(0)  # it is handed to the store
        self.say("b")
        self.say("c")
        self.clock.pump([0.1] * 3)
        self.assertEqual([len(batch) for batch in self.commits], [1, 2])

    def test_changes_keep_their_place_among_the_messages(self) -> None:
        self.say("a")
        self.ledger.change(UserCame(5, "bob", b"", 1), "bob")
        self.say("b")
        self.commit()
        kinds = [type(entry) for entry in self.entries()]
        self.assertEqual(kinds, [Message, UserCame, Message])
        self.assertEqual(self.store.saved().users, [(5, "bob", b"", 1, 1, 0)])

    def test_who_comes_or_joins_after_numbers_of_no_message_misses_nothing(self) -> None:
        self.ledger.change(RoomMade(9, "#dev", False, 1), "")
        self.store.broken = FULL
        for text in "abc":
            self.say(text)
        self.commit()
        self.store.broken = None
        self.ledger.change(RoomMade(9, "#dev", False, 1), "")
        for make in (
            lambda since: [UserCame(6, "bob", b"", since)],
            lambda since: [UserGone(6), Joined(9, 5, since)],
            lambda since: [Left(9, 5, since)],
        ):
            since = self.ledger.newest
            for change in make(since):
                self.ledger.change(change, "")
            self.commit()
            self.open()  # the server starts again
            self.assertGreater(self.ledger.newest, since)

    def test_too_much_that_waits_is_refused(self) -> None:
        self.patch(ledger_module, "MAX_WAITING", 2)
        self.say("a")
        self.say("b")
        with self.assertRaises(Unavailable):
            self.say("c")
        with self.assertRaises(Unavailable):
            self.ledger.change(UserCame(5, "bob", b"", 1), "bob")
        self.commit()
        self.say("c")

    def test_texts_that_wait_are_bounded_together(self) -> None:
        self.patch(ledger_module, "MAX_WAITING_TEXT", 10)
        self.say("x" * 10)
        with self.assertRaises(Unavailable):
            self.say("c")


class NumberTests(LedgerTestCase):
    """No number is given twice, though the file goes back."""

    TODAY = 1_795_000_000.0

    def setUp(self) -> None:
        super().setUp()
        self.clock.rightNow = self.TODAY

    def say_some(self, count: int = 20) -> None:
        for i in range(count):
            self.say(f"text {i}")
        self.commit()

    def put_back(self, connection: sqlite3.Connection) -> None:
        """Start on an older file."""
        self.store = InlineStore(self.clock)
        connection.backup(self.store.connection)
        self.open()

    def copy(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:")
        self.addCleanup(connection.close)
        self.store.connection.backup(connection)
        return connection

    def test_file_that_was_put_back_gives_no_number_again(self) -> None:
        empty = self.copy()
        self.open()
        self.say_some()
        some = self.copy()
        for old, seconds in ((some, 2), (some, 1), (empty, 2), (some, 30 * 24 * 60 * 60)):
            self.say_some()
            given = set(self.numbers())
            self.clock.rightNow += seconds
            self.put_back(old)
            self.say_some()
            self.assertTrue(given.isdisjoint(self.numbers()[len(given) :]))
            self.assertEqual(self.numbers(), sorted(self.numbers()))

    def test_many_restarts_leave_no_more_out_than_the_time_that_passed(self) -> None:
        self.open()
        old = self.copy()
        for _ in range(50):
            self.say_some(1)
            self.clock.rightNow += 20
            self.open()
        self.say_some(1)
        self.clock.rightNow += 1
        self.put_back(old)
        self.say_some(1)
        self.assertEqual(self.numbers(), sorted(set(self.numbers())))

    def test_clock_that_is_behind_gives_no_number_again(self) -> None:
        self.open()
        self.say_some()
        old = self.copy()
        self.say_some()
        self.clock.rightNow -= 1000
        self.put_back(old)
        self.say_some()
        self.assertEqual(self.numbers(), sorted(set(self.numbers())))

    def test_clock_that_is_centuries_ahead_does_not_use_numbers_up(self) -> None:
        for _ in range(20):
            self.clock.rightNow = 2**36
            self.open()
            self.clock.rightNow = self.TODAY
            self.say_some(1)
        self.assertLess(self.numbers()[-1], 2**53)


class ClockTests(LedgerTestCase):
    """The time of day jumps."""

    DAY = 24 * 60 * 60

    def setUp(self) -> None:
        super().setUp()
        self.clock.rightNow = 1_795_000_000.0
        self.store.wall.ahead = 0.0
        self.open(retain=30 * self.DAY)
        self.pass_minutes(1)

    def times(self) -> list[float]:
        """How far from the right time messages are, in minutes before now."""
        now = self.clock.seconds()
        times = self.rows("SELECT time FROM message ORDER BY number")
        return [round((now - time / 1000) / 60) for (time,) in times]

    def test_times_are_right_again_when_the_clock_is_also_after_a_restart(self) -> None:
        for restarts in (False, True):
            for jump in (400 * self.DAY, -3600, 30):
                self.store.wall.ahead = jump
                self.say("wrong")
                self.commit()
                self.store.wall.ahead = 0
                if restarts:
                    self.open()
                self.say("right")
                self.commit()
                self.assertEqual(self.times()[-2:], [round(-jump / 60), 0])
        numbers = [number for (number,) in self.rows("SELECT number FROM message")]
        self.assertEqual(numbers, sorted(numbers))

    def test_jump_that_is_undone_within_an_hour_deletes_nothing(self) -> None:
        for i in range(5):
            self.say(str(i))
            self.pass_minutes(1)
        for jump in (40 * self.DAY, -40 * self.DAY, 400 * self.DAY):
            self.store.wall.ahead = jump
            self.say("during")
            self.pass_minutes(55)
            self.store.wall.ahead = 0
            self.say("after")
            self.pass_minutes(70)
        self.assertEqual(len(self.stored()), 11)

    def test_start_with_a_clock_that_is_ahead_deletes_nothing_for_an_hour(self) -> None:
        self.say("a")
        self.say("b")
        self.pass_minutes(2)
        self.store.wall.ahead = 40 * self.DAY
        self.open(retain=30 * self.DAY)
        self.say("c")
        self.pass_minutes(55)
        self.store.wall.ahead = 0
        self.pass_minutes(120)
        self.assertEqual(self.stored(), ["a", "b", "c"])

    def test_start_after_a_long_time_deletes_what_is_old_and_nothing_new(self) -> None:
        self.say("old")
        self.pass_minutes(2)
        self.clock.rightNow += 40 * self.DAY
        self.open(retain=30 * self.DAY)
        for i in range(4):
            self.say(str(i))
            self.pass_minutes(10)
        self.assertEqual(len(self.stored()), 5)
        self.pass_minutes(40)
        self.assertEqual(self.stored(), list("0123"))

    def test_messages_of_a_wrong_time_are_deleted_when_they_are_old(self) -> None:
        self.open(retain=self.DAY)
        for jump in (400 * self.DAY, -400 * self.DAY):
            self.store.wall.ahead = jump
            self.say("wrong")
            self.pass_minutes(2)
            self.store.wall.ahead = 0
            self.say("right")
            self.pass_minutes(2)
        self.pass_minutes(23 * 60)
        self.say("new")
        self.pass_minutes(30)
        self.assertEqual(len(self.stored()), 5)
        self.pass_minutes(30)
        self.assertEqual(self.stored(), ["new"])

    def test_ids_are_remembered_for_their_time_however_the_clock_jumps(self) -> None:
        for jump in (40 * self.DAY, -3600):
            id = str(jump)
            self.say("once", id)
            self.commit()
            self.pass_minutes(2)  # it can be looked up, and is not in memory any more
            self.say("another", f"{id} more")
            self.store.wall.ahead = jump
            self.pass_minutes(10)
            self.store.wall.ahead = 0
            self.pass_minutes(1)
            self.say("once", id)
            self.commit()
            self.assertEqual(self.stored().count("once"), 1)
            self.pass_minutes(20)
            self.assertEqual(self.rows("SELECT * FROM request"), [])
            self.store.connection.execute("DELETE FROM message")


class FailureTests(LedgerTestCase):
    def test_what_can_not_be_written_fails_with_all_that_waits_behind_it(self) -> None:
        self.store.broken = FULL
        self.store.seconds = 0.1
        self.say("a", "1")
        self.clock.advance(0)
        self.say("b")
        self.clock.pump([0.1] * 3)
        self.store.seconds = 0
        self.assertEqual((self.commits, self.failures), ([], [["origin of a", "origin of b"]]))
        self.store.broken = None
        self.say("a", "1")
        self.commit()
        self.assertEqual(self.stored(), ["a"])
        self.assertEqual([type(entry) for entry in self.entries()], [Message])

    def test_what_was_committed_stays(self) -> None:
        self.say("a")
        self.commit()
        self.store.broken = FULL
        self.say("b")
        self.commit()
        self.assertEqual(self.stored(), ["a"])

    def test_a_fault_of_the_listener_does_not_stop_the_ledger(self) -> None:
        def broken(batch) -> None:
            raise ZeroDivisionError

        self.ledger.start(broken, self.failed)
        self.say("a")
        self.commit()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.ledger.start(self.committed, self.failed)
        self.say("b")
        self.commit()
        self.assertEqual(self.numbers(), [2])


class RepeatTests(LedgerTestCase):
    def assertRepeated(self) -> None:
        self.say("again", "7")
        self.commit()
        self.assertEqual(self.entries()[-1], Repeat(1, 1000500))
        self.assertEqual(self.stored().count("again"), 0)

    def test_an_id_sent_again_at_once_is_one_message(self) -> None:
        self.say("a", "7")
        self.assertRepeated()

    def test_an_id_sent_again_later_is_one_message(self) -> None:
        self.say("a", "7")
        self.commit()
        self.assertRepeated()

    def test_an_id_sent_again_when_it_is_indexed_is_one_message(self) -> None:
        self.forget("7")
        self.assertRepeated()

    def forget(self, id: str) -> None:
        """Have something said under an Id that is in the archive alone."""
        self.say("a", id)
        for text in "bc":
            self.commit()
            self.clock.advance(ledger_module.LAZY)
            self.commit()
            self.say(text)
        self.commit()
        self.clock.advance(ledger_module.LAZY)
        self.commit()
        self.assertEqual((self.ledger._recent, self.ledger._older), ({}, {}))

    def test_what_is_not_indexed_since_the_disk_is_slow_is_remembered(self) -> None:
        self.patch(ledger_module, "MAX_REMEMBERED", 10)
        self.patch(ledger_module, "INDEX_LAG", 20)
        self.patch(ledger_module, "INDEX_STEP", 5)
        inner = self.store.index
        tidying: Deferred[int] = Deferred()

        def index(function, *args):
            return tidying if function is archive.checkpoint else inner(function, *args)

        self.patch(self.store, "index", index)
        self.say("a", "1")
        self.commit()
        self.clock.advance(ledger_module.LAZY)  # the log is being tidied
        for i in range(2, 60):
            self.say("b", str(i))
            self.commit()
        self.assertLessEqual(len(self.stored()), 23)  # commits wait
        tidying.callback(0)
        self.commit()
        self.assertEqual(len(self.stored()), 59)
        self.say("b", "2")
        self.commit()
        self.assertEqual(self.entries()[-1], Repeat(2, 1001500))

    def test_what_can_not_be_indexed_is_not_remembered_without_end(self) -> None:
        self.patch(ledger_module, "MAX_REMEMBERED", 10)
        self.patch(self.store, "index", lambda *_: fail(FULL))
        for i in range(50):
            self.say(f"{i}", f"{i}")
            self.commit()
            self.clock.advance(ledger_module.LAZY)
        self.assertLessEqual(len(self.ledger._recent) + len(self.ledger._older), 22)
        self.say("49 again", "49")
        self.commit()
        self.assertEqual(len(self.stored()), 50)

    def test_it_is_not_looked_up_if_it_can_not_have_been_said(self) -> None:
        self.forget("7")
        self.say("again", "7", again=False)
        self.commit()
        self.assertEqual(self.stored(), ["a", "b", "c", "again"])

    def test_an_id_sent_again_after_a_restart_is_one_message(self) -> None:
        self.say("a", "7")
        self.commit()
        self.open()
        self.assertRepeated()

    def test_an_id_sent_again_and_again_after_a_restart_has_its_first_number(self) -> None:
        self.say("a", "7")
        self.commit()
        self.open()
        self.store.seconds = 0.1
        self.say("again", "7")
        self.say("again", "7")  # in the same commit
        self.clock.advance(0)
        self.say("again", "7")  # while it is under way
        self.clock.pump([0.1] * 3)
        self.say("again", "7")  # and after it
        self.clock.pump([0.1] * 3)
        self.assertEqual(self.entries()[1:], [Repeat(1, 1000500)] * 4)
        self.assertEqual(self.stored(), ["a"])

    def test_an_id_that_could_not_be_written_is_not_a_repeat(self) -> None:
        self.store.broken = FULL
        self.say("a", "7")
        self.commit()
        self.store.broken = None
        self.say("a", "7")
        self.commit()
        self.assertEqual(self.stored(), ["a"])

    def test_an_id_is_one_users(self) -> None:
        self.say("a", "7", author=1)
        self.say("b", "7", author=2)
        self.commit()
        self.assertEqual(self.stored(), ["a", "b"])

    def test_an_id_is_remembered_for_ten_minutes_and_not_for_ever(self) -> None:
        self.say("a", "7")
        self.commit()
        for minutes, count in ((10, 1), (30, 0)):
            while self.clock.seconds() < 1000 + minutes * 60:
                self.clock.advance(30)
                self.commit()
            [found] = self.store.connection.execute("SELECT count(*) FROM request").fetchone()
            self.assertEqual(found, count, minutes)

    def test_it_can_be_asked_whether_something_was_said(self) -> None:
        self.say("a", "7")
        self.commit()
        for restarted in (False, True):
            if restarted:
                self.open()
            self.ledger.ask(7, "7", "known")
            self.ledger.ask(7, "8", "unknown")
            self.commit()
            known, unknown = self.entries()[-2:]
            self.assertEqual(known, Repeat(1, 1000500))
            self.assertIsInstance(unknown, Again)
        self.assertEqual(self.stored(), ["a"])


class ReadingTests(LedgerTestCase):
    def test_history_has_all_that_is_committed(self) -> None:
        self.say("one word")
        self.say("two words")
        self.commit()
        history = self.ledger.history(PUBLIC, Span(10), ANYBODY)
        found = self.ledger.search(7, [], None, "words", 10, ANYBODY)
        self.commit()
        messages, more = self.successResultOf(history)
        self.assertEqual(([m.text for m in messages], more), (["one word", "two words"], False))
        self.assertEqual([m.text for m in self.successResultOf(found)], ["two words"])

    def test_history_has_all_that_was_said_before_it_was_asked_for(self) -> None:
        self.store.seconds = 0.1
        self.say("a")
        self.clock.advance(0)
        first = self.ledger.history(PUBLIC, Span(10), ANYBODY)  # while it is being committed
        self.say("b")
        second = self.ledger.history(PUBLIC, Span(10), ANYBODY)  # while it waits
        self.store.broken = FULL
        self.clock.pump([0.1] * 3)
        self.say("c")
        third = self.ledger.history(PUBLIC, Span(10), ANYBODY)  # of what can't be written
        self.clock.pump([0.1] * 20)
        for reading in (first, second, third):
            self.assertEqual(self.successResultOf(reading)[1], False)
        self.store.broken = None
        self.say("d")
        fourth = self.ledger.history(PUBLIC, Span(10), ANYBODY)
        self.clock.pump([0.1] * 20)
        messages, _ = self.successResultOf(fourth)
        self.assertEqual(messages[-1].text, "d")

    def test_what_was_missed_is_read_up_to_what_is_known_when_the_reading_begins(self) -> None:
        for text in "abc":
            self.say(text)
        self.commit()
        known = 0
        missed = self.ledger.missed(9, 0, lambda: known, ANYBODY, own=False)
        known = 1
        self.commit()
        page = self.successResultOf(missed)
        self.assertEqual(([m.text for m in page.messages], page.upto), (["a"], 1))

    def test_who_has_read_what_is_written_down_in_a_second(self) -> None:
        self.ledger.change(UserCame(5, "bob", b"", 0), "bob")
        self.say("a")
        self.commit()
        self.ledger.note_position(5, 1)
        self.clock.advance(ledger_module.LAZY)
        self.commit()
        self.assertEqual(self.store.saved().users, [(5, "bob", b"", 0, 1, 0)])

    def test_commits_wait_for_indexing_only_when_too_much_waits(self) -> None:
        self.patch(ledger_module, "INDEX_STEP", 1)
        self.patch(ledger_module, "INDEX_LAG", 2)
        steps: list[Deferred[int]] = []

        def index(*_: object) -> Deferred[int]:
            steps.append(Deferred())
            return steps[-1]

        self.patch(self.store, "index", index)
        for text in "abcd":
            self.say(text)
            self.commit()
        self.assertEqual((self.stored(), len(steps)), (["a", "b", "c"], 1))
        steps[0].callback(2)
        self.commit()
        self.assertEqual((self.stored(), len(steps)), (["a", "b", "c", "d"], 2))

    def test_the_write_ahead_log_is_tidied_in_a_second_and_no_step_begins_before(self) -> None:
        self.patch(ledger_module, "INDEX_STEP", 1)
        self.patch(ledger_module, "MAX_LOG", -2)  # in memory there is no log: it has -1 pages
        done: list[tuple[str, str]] = []

        def note(side: str):
            inner = getattr(self.store, side)

            def noted(function, *args, **kw):
                done.append((side, function.__name__))
                return inner(function, *args, **kw)

            self.patch(self.store, side, noted)

        for side in ("write", "index", "alone"):
            note(side)
        self.say("a")
        self.commit()
        self.store.seconds = 0.1
        self.clock.advance(ledger_module.LAZY)
        self.say("b")
        self.clock.pump([0.1] * 7)
        self.assertEqual(
            done,
            [
                ("write", "write"),
                ("index", "extend"),
                ("index", "checkpoint"),
                ("write", "write"),
                ("index", "checkpoint"),
                ("index", "checkpoint"),
                ("alone", "checkpoint"),
                ("index", "extend"),
            ],
        )

    def test_reading_waits_for_no_commit_that_does_not_come(self) -> None:
        self.store.seconds = 1
        self.store.broken = FULL
        self.say("a")
        self.clock.advance(0)
        self.say("b")
        reading = self.ledger.history(PUBLIC, Span(9), ANYBODY)
        self.clock.pump([1] * 3)
        self.assertEqual(self.successResultOf(reading), ([], False))

    def test_what_is_not_indexing_can_fail_and_all_is_found(self) -> None:
        self.say("a")
        self.commit()
        inner = self.store.index

        def only_extend(function, *args):
            return inner(function, *args) if function is index.extend else fail(FULL)

        self.patch(self.store, "index", only_extend)
        self.clock.pump([1] * ledger_module.CLEAN_EVERY)
        self.say("b")
        found = self.ledger.search(7, [], None, "a OR b", 9, ANYBODY)
        self.commit()
        self.assertEqual(len(self.successResultOf(found)), 2)

    def test_one_cleaning_waits_for_the_other(self) -> None:
        asked: list[Deferred[bool]] = []

        def index(*_: object) -> Deferred[bool]:
            asked.append(Deferred())
            return asked[-1]

        self.patch(self.store, "index", index)
        self.clock.pump([1] * (3 * ledger_module.CLEAN_EVERY))
        self.assertEqual(len(asked), 1)
        asked[0].callback(False)
        self.clock.pump([1] * ledger_module.CLEAN_EVERY)
        self.assertEqual(len(asked), 2)

    def test_what_could_not_be_indexed_is_found_when_writing_works_again(self) -> None:
        self.patch(ledger_module, "INDEX_STEP", 1)
        self.patch(ledger_module, "INDEX_LARGE_STEP", 1)
        for text in "abc":
            self.say(text)
        self.commit()
        self.store.broken = FULL
        self.clock.advance(ledger_module.LAZY)
        self.commit()
        self.store.broken = None
        self.clock.advance(ledger_module.LAZY)  # one is indexed: it works again
        self.commit()
        reading = self.ledger.history(PUBLIC, Span(9), ANYBODY)
        self.commit()
        self.assertEqual([m.text for m in self.successResultOf(reading)[0]], ["a", "b", "c"])


class EndTests(LedgerTestCase):
    def test_what_waits_is_committed_and_positions_are_written_before_the_end(self) -> None:
        self.ledger.change(UserCame(5, "bob", b"", 0), "bob")
        self.say("a")
        self.ledger.note_position(5, 1)
        stopped = self.ledger.stop()
        self.assertNoResult(stopped)
        self.commit()
        self.successResultOf(stopped)
        self.assertTrue(self.store.closed)
        self.assertEqual(self.stored(), ["a"])
        self.assertEqual(self.store.saved().users, [(5, "bob", b"", 0, 1, 0)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_full_disk_at_the_end_is_a_line_of_the_log_and_keeps_nothing_from_ending(
        self,
    ) -> None:
        self.ledger.note_position(5, 1)
        self.store.broken = FULL
        stopped = self.ledger.stop()
        self.commit()
        self.successResultOf(stopped)
        self.assertTrue(self.store.closed)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_old_messages_are_deleted_in_steps_and_the_newest_stays(self) -> None:
        self.patch(ledger_module, "CLEAN_STEP", 3)
        self.open(retain=3600)
        for i in range(10):
            self.say(str(i))
        self.pass_minutes(50)
        self.say("new")
        self.pass_minutes(10)
        self.assertEqual(len(self.stored()), 11)
        self.pass_minutes(2)
        self.assertEqual(self.stored(), ["new"])
        self.pass_minutes(100)
        self.assertEqual(self.stored(), ["new"])
        self.assertEqual(len(self.rows("SELECT * FROM moment")), 1)

    def test_nothing_is_written_after_the_end(self) -> None:
        self.patch(ledger_module, "INDEX_LARGE_STEP", 1)
        for text in "abcd":
            self.say(text)
        self.commit()
        self.store.seconds = 0.1
        self.clock.advance(ledger_module.LAZY)  # the first of the steps is under way
        self.ledger.stop()
        self.clock.pump([0.1] * 9)
        self.assertTrue(self.store.closed)
        [indexed] = self.store.connection.execute("SELECT upto FROM indexed").fetchone()
        self.assertEqual(indexed, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_write_ahead_log_is_tidied_no_further_after_the_end(self) -> None:
        self.patch(ledger_module, "MAX_LOG", -2)  # in memory there is no log: it has -1 pages
        asked: list[str] = []
        for side in ("write", "index"):
            inner = getattr(self.store, side)

            def note(function, *args, inner=inner, **kw):
                asked.append(function.__name__)
                return inner(function, *args, **kw)

            self.patch(self.store, side, note)
        self.say("a")
        self.commit()
        self.store.seconds = 0.1
        self.clock.advance(ledger_module.LAZY)
        self.clock.advance(0.1)  # a step of indexing is done; the log is being tidied
        self.assertEqual(asked[-1], "checkpoint")
        before = len(asked)
        stopped = self.ledger.stop()
        self.clock.pump([0.1] * 9)
        self.successResultOf(stopped)
        self.assertEqual(asked[before:], ["record_progress"])
