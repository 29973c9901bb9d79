"""Commits in the reactor's thread, with real files, and another connection that locks them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.storage import archive, index, writing
from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.writing import LOCKED_TIMEOUT, RETRY_LOCKED_AFTER, ReactorWriter


class Reactor(Clock):
    """A clock that runs when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.when_running: list[Any] = []

    def callWhenRunning(self, function: Any, *args: Any) -> None:
        self.when_running.append((function, args))

    def run(self) -> None:
        for function, args in self.when_running:
            function(*args)


def note(cursor: Cursor, number: int) -> int:
    cursor.execute("UPDATE progress SET number = ?", (number,))
    return number


class ReactorWriterTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        archive.prepare(self.folder, wall=lambda: archive.EPOCH)
        self.reactor = Reactor()
        self.writer = ReactorWriter(self.folder, self.reactor, "normal")
        self.addCleanup(self.writer.close)
        self.other = sqlite3.connect(self.folder / archive.FILE, isolation_level=None)
        self.addCleanup(self.other.close)

    def noted(self) -> int:
        [number] = self.other.execute("SELECT number FROM progress").fetchone()
        return int(number)

    def lock(self) -> None:
        self.other.execute("BEGIN IMMEDIATE")

    def test_it_is_opened_when_the_reactor_runs_and_not_before(self) -> None:
        opened: list[str] = []
        connect = sqlite3.connect

        def spy(path: str, **kw: Any) -> sqlite3.Connection:
            opened.append(path)
            return connect(path, **kw)

        self.patch(writing.sqlite3, "connect", spy)
        self.assertEqual(opened, [])
        self.reactor.run()
        self.assertEqual(len(opened), 1)

    def test_what_is_written_is_committed_within_the_call(self) -> None:
        self.assertEqual(self.successResultOf(self.writer.write(note, 5)), 5)
        self.assertEqual(self.noted(), 5)

    def test_nothing_stays_of_what_failed_and_the_next_is_written(self) -> None:
        def fails(cursor: Cursor) -> None:
            note(cursor, 7)
            raise sqlite3.OperationalError("disk is full")

        failing = self.writer.write(fails)
        self.failureResultOf(failing, sqlite3.OperationalError)
        self.assertEqual(self.noted(), 0)
        self.successResultOf(self.writer.write(note, 8))
        self.assertEqual(self.noted(), 8)

    def test_what_is_asked_for_while_something_is_answered_is_written_behind_it(self) -> None:
        order: list[int] = []
        first = self.writer.write(note, 1)
        first.addCallback(order.append)
        first.addCallback(lambda _: self.writer.write(note, 2).addCallback(order.append))
        self.assertEqual((order, self.noted()), ([1, 2], 2))

    def test_who_has_it_locked_does_not_keep_the_reactor_and_all_is_written_in_order(self) -> None:
        self.writer.write(note, 1)
        self.lock()
        order: list[int] = []
        for number in (2, 3):
            self.writer.write(note, number).addCallback(order.append)
        self.reactor.advance(RETRY_LOCKED_AFTER)
        self.assertEqual(order, [])
        self.other.execute("ROLLBACK")
        self.reactor.advance(RETRY_LOCKED_AFTER)
        self.assertEqual((order, self.noted()), ([2, 3], 3))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_what_is_locked_for_too_long_can_not_be_written(self) -> None:
        self.writer.write(note, 1)
        self.lock()
        waiting = self.writer.write(note, 2)
        self.reactor.pump([1.0] * int(LOCKED_TIMEOUT - 1))
        self.assertNoResult(waiting)
        self.reactor.advance(1.0)
        self.failureResultOf(waiting, sqlite3.OperationalError)

    def test_a_lock_after_another_is_waited_for_as_long(self) -> None:
        self.writer.write(note, 1)
        for number in (2, 3):
            self.lock()
            waiting = self.writer.write(note, number)
            self.reactor.advance(LOCKED_TIMEOUT - 1)
            self.assertNoResult(waiting)
            self.other.execute("ROLLBACK")
            self.reactor.advance(RETRY_LOCKED_AFTER)
            self.assertEqual(self.successResultOf(waiting), number)

    def test_a_step_of_the_index_keeps_no_commit_waiting(self) -> None:
        self.writer.write(note, 1)
        indexing = archive.connect(self.folder / archive.FILE)
        self.addCleanup(indexing.close)
        index.attach(indexing, self.folder)
        indexing.execute("UPDATE indexed SET deleted = 1")  # it has locked the index
        self.assertEqual(self.successResultOf(self.writer.write(note, 2)), 2)

    def test_what_is_done_alone_holds_up_what_is_to_be_written(self) -> None:
        alone: Deferred[int] = Deferred()
        done = self.writer.run_exclusively(archive.checkpoint, lambda function: alone)
        written = self.writer.write(note, 1)
        self.assertNoResult(written)
        alone.callback(12)
        self.assertEqual((self.successResultOf(done), self.noted()), (12, 1))
        self.successResultOf(written)

    def test_what_fails_alone_holds_nothing_up_for_longer(self) -> None:
        alone: Deferred[int] = Deferred()
        done = self.writer.run_exclusively(archive.checkpoint, lambda function: alone)
        written = self.writer.write(note, 1)
        alone.errback(sqlite3.OperationalError("disk I/O error"))
        self.failureResultOf(done, sqlite3.OperationalError)
        self.successResultOf(written)

    def test_what_waits_when_it_is_closed_fails(self) -> None:
        self.writer.write(note, 1)
        self.lock()
        waiting = self.writer.write(note, 2)
        self.writer.close()
        self.failureResultOf(waiting, sqlite3.OperationalError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
