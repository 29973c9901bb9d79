"""The ledger that has commands decided in its order, and what becomes of them if writing fails."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import facts
from chat_twisted.core.entries import Entry, LoggedIn, Outcome, Swept
from chat_twisted.core.errors import ChatError, NotAMember, Unavailable
from chat_twisted.core.message import Message
from chat_twisted.core.snapshot import dump, load
from chat_twisted.core.state import State
from chat_twisted.storage import embedded, proposed, tables
from chat_twisted.storage.embedded import EmbeddedLedger
from tests.random_logs import Maker, everything, plain
from tests.test_tables import new_file


class Cursor:
    """A cursor whose statements fail from the n-th on."""

    def __init__(self, cursor: sqlite3.Cursor, fails_at: int | None) -> None:
        self._cursor = cursor
        self._left = fails_at

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise sqlite3.OperationalError("database or disk is full")
        return self._cursor.execute(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class Writer:
    """A ``embedded.Writer`` in memory, within the call or when it is let.

    :ivar fails_at: which statement of what is written fails.
    :ivar end: ``fails``, ``fails after it was taken``, or empty: what COMMIT does.
    :ivar unreadable: whether nothing can be read.
    """

    def __init__(self) -> None:
        self.connection = new_file()
        self.fails_at: int | None = None
        self.end = ""
        self.unreadable = False
        self.waits = False
        self.waiting: list[Callable[[], None]] = []
        self.calls: list[Callable[..., Any]] = []

    def write(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.calls.append(function)

        def run() -> None:
            try:
                done.callback(self.transact(function, *args))
            except sqlite3.Error:
                done.errback()

        if self.waits:
            self.waiting.append(run)
        else:
            run()
        return done

    def transact(self, function: Callable[..., Any], *args: Any) -> Any:
        reads = function is tables.load
        if reads and self.unreadable:
            raise sqlite3.OperationalError("disk I/O error")
        try:
            cursor = Cursor(self.connection.cursor(), None if reads else self.fails_at)
            result = function(cursor, *args)
            if not reads and self.end == "fails":
                raise sqlite3.OperationalError("disk I/O error")
            self.connection.commit()
        except sqlite3.Error:
            self.connection.rollback()
            raise
        if not reads and self.end:
            raise sqlite3.OperationalError("disk I/O error")
        return result

    def go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for run in waiting:
            run()

    @property
    def writes(self) -> int:
        return self.calls.count(tables.write)


class LedgerTestCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.writer = Writer()
        self.addCleanup(self.writer.connection.close)
        self.begin()

    def begin(self) -> None:
        """Begin with what the file holds."""
        state = load(tables.load(self.writer.connection.cursor()))
        self.time = max(state.time, 1_000_000)
        self.ledger: EmbeddedLedger[str] = EmbeddedLedger(
            self.writer, state, self.clock, lambda: self.time
        )
        self.told: list[tuple[Outcome | None, str | None]] = []
        self.ledger.start(self.committed, self.failed, self.fail)
        self.propose(c.Start(0, c.Options(grace=1000), 0), "start")
        self.turn()

    def committed(self, batch: Any) -> None:
        self.told += batch

    def failed(self, batch: Any, error: Unavailable) -> None:
        self.told += [(None, request) for _, request in batch]

    def propose(self, command: Any, request: str) -> None:
        self.ledger.propose(command, request)

    def turn(self) -> None:
        self.clock.advance(0)

    def login(self, name: str, id: int) -> tuple[int, int]:
        self.propose(c.Login(name, id, b"token %d" % id), name)
        self.turn()
        outcome = self.outcome(name)
        assert isinstance(outcome.result, LoggedIn)
        return outcome.result[:2]

    def outcome(self, request: str) -> Outcome:
        [found] = [outcome for outcome, asked in self.told if asked == request]
        assert found is not None, "it failed"
        return found

    def check_file(self) -> None:
        """Check that the state is what the file holds."""
        found = load(tables.load(self.writer.connection.cursor()))
        self.assertEqual(dump(found), dump(self.ledger.state))


class CommitTests(LedgerTestCase):
    def test_what_is_proposed_in_a_turn_is_one_write_and_told_in_order(self) -> None:
        ann = self.login("ann", 1)
        before = self.writer.writes
        for number in range(5):
            self.propose(c.Send(*ann, "ALL", "hi", 1), str(number))
        self.assertEqual(len(self.told), 2)
        self.turn()
        self.assertEqual(self.writer.writes, before + 1)
        said = [(o.result.number, r) for o, r in self.told if o and type(o.result) is Message]
        self.assertEqual(said, [(number + 1, str(number)) for number in range(5)])
        self.check_file()

    def test_a_batch_that_changes_nothing_is_not_written(self) -> None:
        ann = self.login("ann", 1)
        before = len(self.writer.calls)
        self.propose(c.Send(*ann, "nobody", "hi", 1), "refused")
        self.propose(c.Turn(), "turn")
        self.turn()
        self.assertEqual(len(self.writer.calls), before)
        self.assertIsInstance(self.outcome("refused").result, ChatError)
        self.assertEqual(self.outcome("turn"), Outcome(()))

    def test_who_is_removed_in_a_batch_says_nothing_more_in_it(self) -> None:
        ann, bob = self.login("ann", 1), self.login("bob", 2)
        for at in (ann, bob):
            self.propose(c.Join(*at, "#dev", 9), f"join {at}")
        self.turn()
        self.propose(c.RemoveMember(*ann, "#dev", "bob"), "kick")
        self.propose(c.Send(*bob, "#dev", "hi", 1), "said")
        self.turn()
        self.assertIsInstance(self.outcome("kick").facts[0], facts.Left)
        self.assertIsInstance(self.outcome("said").result, NotAMember)

    def test_what_is_proposed_during_a_write_is_decided_after_it(self) -> None:
        ann = self.login("ann", 1)
        self.writer.waits = True
        self.propose(c.Send(*ann, "ALL", "one", 1), "one")
        self.turn()
        self.propose(c.Send(*ann, "ALL", "two", 1), "two")
        self.turn()
        self.assertEqual(self.ledger.state.number, 1)  # one batch ahead, and no more
        self.assertTrue(self.ledger.has_backlog)
        self.writer.go_on()
        self.turn()
        self.writer.go_on()
        self.assertEqual([r for _, r in self.told[-2:]], ["one", "two"])
        self.check_file()

    def test_cursors_are_gathered(self) -> None:
        ann = self.login("ann", 1)
        for number in range(1, 4):
            self.propose(c.Send(*ann, "ALL", "hi", 1), str(number))
        self.turn()
        before = self.writer.writes
        for number in (1, 3, 2):
            self.ledger.acknowledge(1, number)
        self.clock.advance(embedded.GATHER)
        self.turn()
        self.assertEqual(self.writer.writes, before + 1)
        self.assertEqual(self.ledger.state.users[1].cursor, 3)

    def test_a_confirmation_that_is_not_lasting_is_not_proposed(self) -> None:
        ann = self.login("ann", 1)
        self.propose(c.Send(*ann, "ALL", "hi", 1), "1")
        self.turn()
        before = self.writer.writes
        self.ledger.acknowledge(1, 1, lasting=False)
        self.clock.advance(embedded.GATHER)
        self.turn()
        self.assertEqual((self.writer.writes, self.ledger.state.users[1].cursor), (before, 0))

    def test_what_is_due_is_swept_a_step_at_a_time(self) -> None:
        self.patch(embedded, "SWEEP_STEP", 2)
        for id in range(1, 6):
            at = self.login(f"guest{id}", id)
            self.propose(c.Detach(*at), f"bye {id}")
            self.turn()
        self.time += 1000
        self.clock.advance(embedded.SWEEP_EVERY)
        for _ in range(4):
            self.turn()
            self.clock.advance(embedded.SWEEP_PAUSE)
        swept = [o.result.ended for o, _ in self.told if o and isinstance(o.result, Swept)]
        self.assertEqual(swept, [2, 2, 1])
        self.check_file()

    def test_too_much_that_waits_is_refused_at_once(self) -> None:
        self.patch(proposed, "MAX_WAITING_TEXT", 10)
        ann = self.login("ann", 1)
        self.propose(c.Send(*ann, "ALL", "0123456789", 1), "one")
        with self.assertRaises(Unavailable):
            self.propose(c.Send(*ann, "ALL", "more", 1), "two")
        self.turn()
        self.propose(c.Send(*ann, "ALL", "more", 1), "three")

    def test_it_stops_when_all_that_was_proposed_is_committed(self) -> None:
        ann = self.login("ann", 1)
        self.writer.waits = True
        self.propose(c.Send(*ann, "ALL", "hi", 1), "said")
        self.ledger.acknowledge(1, 1)
        stopped = self.ledger.stop()
        self.turn()
        self.assertNoResult(stopped)
        self.writer.go_on()
        self.successResultOf(stopped)
        self.assertEqual(self.ledger.state.users[1].cursor, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.check_file()


class FailureTests(LedgerTestCase):
    def fill(self) -> None:
        """Propose a batch of many sorts of things, which all belong together."""
        ann, bob = self.ann, self.bob
        self.propose(c.Send(*ann, "ALL", "hi", 1, "key"), "said")
        self.propose(c.Join(*ann, "#dev", 9), "made")
        self.propose(c.Join(*bob, "#dev", 10), "joined")
        self.propose(c.Detach(*bob, True), "gone")
        self.propose(c.MakeAccount(*ann, "ssh-ed25519 A", "", "hash"), "account")

    def try_again(self) -> None:
        """Check that all works again, and that what failed is as if it had never been."""
        del self.told[:]
        self.fill()
        self.turn()
        self.assertEqual([r for _, r in self.told], ["said", "made", "joined", "gone", "account"])
        for outcome, request in self.told:
            assert outcome is not None, request
            self.assertTrue(outcome.facts, request)
        self.check_file()

    def setUp(self) -> None:
        super().setUp()
        self.ann, self.bob = self.login("ann", 1), self.login("bob", 2)
        del self.told[:]

    def test_a_statement_that_fails_takes_the_batch_with_it_whichever_it_is(self) -> None:
        for statement in range(40):
            self.writer.fails_at = statement
            self.fill()
            self.turn()
            if self.told[0][0] is not None:  # there are no more statements than that
                self.assertGreater(statement, 17)
                break
            self.assertEqual({outcome for outcome, _ in self.told}, {None})
            self.assertEqual(len(self.told), 5)
            self.check_file()
            self.writer.fails_at = None
            self.propose(c.Turn(), "works again")
            self.turn()
            del self.told[:]
        else:
            self.fail("it never worked")
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_while_nothing_can_be_written_nothing_is_decided_nor_loaded(self) -> None:
        self.writer.fails_at = 0
        for _ in range(3):
            self.fill()
            self.turn()
        self.assertEqual([outcome for outcome, _ in self.told], [None] * 15)
        self.assertEqual(self.writer.calls[-4:], [tables.write, tables.load, *[tables.probe] * 2])
        self.check_file()
        self.writer.fails_at = None
        self.try_again()

    def test_a_commit_that_failed_and_was_not_taken_is_refused(self) -> None:
        self.writer.end = "fails"
        self.fill()
        self.turn()
        self.assertEqual([outcome for outcome, _ in self.told], [None] * 5)
        self.writer.end = ""
        self.try_again()

    def test_a_commit_that_failed_and_was_taken_is_committed(self) -> None:
        self.writer.end = "fails after it was taken"
        self.fill()
        self.turn()
        self.assertEqual([bool(outcome and outcome.facts) for outcome, _ in self.told], [True] * 5)
        self.check_file()

    def test_what_waits_is_refused_with_what_failed(self) -> None:
        self.writer.waits = True
        self.fill()
        self.turn()
        self.propose(c.Send(*self.ann, "#dev", "meant to come after", 1), "after")
        self.writer.fails_at = 0
        self.writer.go_on()
        self.writer.go_on()
        self.assertEqual([outcome for outcome, _ in self.told], [None] * 6)
        self.writer.fails_at, self.writer.waits = None, False
        self.try_again()

    def test_nothing_is_said_of_a_batch_before_it_is_known_what_became_of_it(self) -> None:
        for end in ("fails", "fails after it was taken"):
            del self.told[:]
            self.writer.end, self.writer.unreadable = end, True
            self.propose(c.Send(*self.ann, "ALL", "hi", 1), "said")
            self.turn()
            self.propose(c.Send(*self.ann, "ALL", "more", 1), "waits")
            self.clock.advance(embedded.TRY_AGAIN)
            self.assertEqual(self.told, [(None, "waits")])
            self.writer.end, self.writer.unreadable = "", False
            self.clock.advance(embedded.TRY_AGAIN)
            [(outcome, request)] = self.told[1:]
            self.assertEqual(request, "said")
            self.assertEqual(outcome is not None, end != "fails")
            self.check_file()
            self.propose(c.Turn(), "works again")
            self.turn()

    def test_a_server_that_stops_says_nothing_of_what_it_does_not_know(self) -> None:
        self.writer.end, self.writer.unreadable = "fails", True
        self.propose(c.Send(*self.ann, "ALL", "hi", 1), "said")
        self.turn()
        stopped = self.ledger.stop()
        self.clock.advance(embedded.TRY_AGAIN)
        self.successResultOf(stopped)
        self.assertEqual(self.told, [])

    def test_a_fault_of_ours_while_deciding_ends_nothing(self) -> None:
        self.propose(c.Send(*self.ann, "ALL", "hi", 1), "said")
        self.propose(c.Join(*self.ann, 7, 9), "fault")  # type: ignore[arg-type]
        self.turn()
        self.assertEqual(self.told, [(None, "said"), (None, "fault")])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.check_file()
        self.try_again()

    def test_a_server_that_begins_anew_goes_on_where_one_ended(self) -> None:
        self.fill()
        self.turn()
        self.begin()
        self.check_file()
        self.assertEqual(sorted(self.ledger.state.names), ["ann"])
        self.assertEqual(self.ledger.state.users[1].sessions, {})


class RandomFailureTests(LedgerTestCase):
    @settings(deadline=None, max_examples=30, derandomize=True)
    @given(st.integers(0, 2**32))
    def test_state_equals_the_file_and_the_answers_after_any_failure(self, seed: int) -> None:
        draw = random.Random(seed)
        log, _ = Maker(draw).make(80)
        self.writer.connection.close()
        self.setUp()
        expected = State()
        expected.apply(Entry(self.time, c.Start(0, c.Options(grace=1000), 0)))
        while log:
            batch, log = log[:5], log[5:]
            del self.told[:]
            self.time = max(self.time, batch[-1].time)
            for number, (_, command) in enumerate(batch):
                self.propose(command, str(number))
            ok = draw.randrange(2) == 0
            if not ok:
                self.writer.fails_at = draw.choice((None, 0, 1, 2, 5, 9))
                self.writer.end = draw.choice(("", "fails", "fails after it was taken"))
                self.writer.unreadable = draw.randrange(4) == 0
            self.turn()
            self.writer.fails_at, self.writer.end, self.writer.unreadable = None, "", False
            self.clock.advance(embedded.TRY_AGAIN)  # until it can be read again
            asked = [request for _, request in self.told if request is not None]
            self.assertEqual(asked, [str(number) for number in range(len(batch))])
            failed = {outcome is None for outcome, request in self.told if request is not None}
            self.assertEqual(len(failed), 1, "one batch is one transaction")
            for outcome, request in self.told:
                swept = c.Sweep(embedded.SWEEP_STEP)  # which the ledger proposes by itself
                command = swept if request is None else batch[int(request)].command
                if outcome is not None:
                    entry = Entry(self.time, command)
                    self.assertEqual(plain(outcome), plain(expected.apply(entry)))
            in_file = load(tables.load(self.writer.connection.cursor()))
            self.assertEqual(everything(self.ledger.state), everything(in_file))
            self.assertEqual(everything(self.ledger.state), everything(expected))
