"""What is done behind the commits, one thing after the other."""

from __future__ import annotations

import sqlite3

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import Unavailable
from chat_twisted.core.message import Message
from chat_twisted.storage import archive, housekeeping, index
from chat_twisted.storage.housekeeping import (
    CLEAN_EVERY,
    DELAY,
    PURGE_EVERY,
    PURGE_SHARE,
    Housekeeping,
)
from tests.store import InlineStore, settle, write

DAY = 24 * 60 * 60


class HousekeepingTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = InlineStore(self.clock)
        self.number = 0
        self.asked: list[str] = []
        for name in ("write", "index", "run_exclusively"):
            self.listen(name)
        self.begin()

    def listen(self, name: str) -> None:
        real = getattr(self.store, name)

        def listened(function, *args, **kw):
            if function is not archive.find_deletions:  # once a second
                self.asked.append(function.__name__)
            return real(function, *args, **kw)

        setattr(self.store, name, listened)

    def begin(self, retain: float | None = None) -> None:
        self.keeper = Housekeeping(
            self.store, self.clock, self.log_time, self.number, retain=retain
        )
        self.keeper.start()

    def log_time(self) -> int:
        return int((1_000_000 + self.clock.seconds()) * 1000)

    def say(self, count: int = 1) -> Deferred[None] | None:
        messages = []
        for _ in range(count):
            self.number += 1
            messages.append(Message(self.number, self.log_time(), 1, "a", 0, 0, "ALL", "word"))
        write(self.store.connection.cursor(), messages)
        self.store.connection.commit()
        return self.keeper.written(self.number)

    def delete(self, times: int = 200) -> None:
        """Let the time pass in which texts are deleted."""
        for _ in range(times):
            self.go_on(0.05)

    def go_on(self, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        settle(self.clock)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / 15)):
            self.go_on(15)

    @property
    def indexed(self) -> int:
        [upto] = self.store.connection.execute("SELECT upto FROM indexed").fetchone()
        return int(upto)

    def test_old_messages_are_deleted_when_that_is_asked_for(self) -> None:
        self.patch(housekeeping, "CLEAN_STEP", 2)
        self.patch(housekeeping, "STEPS_WHEN_ASKED", 3)
        self.say(9)
        self.pass_time(2 * CLEAN_EVERY)
        self.say()
        self.pass_time(3600)
        self.say()
        counts = []
        for _ in range(3):
            deleted = self.keeper.delete_older(1800)
            self.go_on()
            counts.append(self.successResultOf(deleted))
        self.assertEqual(counts, [6, 4, 0])
        [left] = self.store.connection.execute("SELECT count(*) FROM message").fetchone()
        self.assertEqual(left, 1)

    def test_messages_by_which_duplicates_are_found_are_not_deleted(self) -> None:
        self.say(3)
        self.pass_time(2 * CLEAN_EVERY)
        self.say()
        deleted = self.keeper.delete_older(1)
        self.go_on()
        self.assertEqual(self.successResultOf(deleted), 0)

    def test_who_asks_for_that_is_told_if_it_fails_or_the_server_stops(self) -> None:
        self.store.broken = sqlite3.OperationalError("disk I/O error")
        deleted = self.keeper.delete_older(1800)
        self.go_on()
        failure = self.failureResultOf(deleted, Unavailable)
        self.assertIn("can't delete old messages: OperationalError: disk", str(failure.value))
        self.keeper.stop()
        deleted = self.keeper.delete_older(1800)
        self.go_on()
        self.failureResultOf(deleted, Unavailable)

    def test_a_server_that_stops_in_the_first_step_does_not_say_that_nothing_is_left(self) -> None:
        self.say(3)
        self.pass_time(3600)
        self.say()
        deleted = self.keeper.delete_older(1800)
        self.keeper.stop()
        self.go_on()
        self.failureResultOf(deleted, Unavailable)

    def test_a_few_messages_are_indexed_a_little_later(self) -> None:
        self.say(3)
        self.go_on()
        self.assertEqual(self.indexed, 0)
        self.go_on(DELAY)
        self.assertEqual(self.indexed, 3)

    def test_many_are_indexed_at_once(self) -> None:
        self.patch(housekeeping, "INDEX_STEP", 5)
        self.say(5)
        self.go_on()
        self.assertEqual(self.indexed, 5)

    def test_what_is_to_be_searched_is_indexed_first(self) -> None:
        self.patch(housekeeping, "INDEX_LARGE_STEP", 2)
        self.say(5)
        indexed = self.keeper.when_indexed()
        self.assertNoResult(indexed)
        self.go_on()
        self.successResultOf(indexed)
        self.assertEqual(self.indexed, 5)
        self.successResultOf(self.keeper.when_indexed())

    def test_commits_wait_for_a_step_when_too_much_is_not_indexed(self) -> None:
        self.patch(housekeeping, "INDEX_LAG", 5)
        self.assertIsNone(self.say(5))
        step = self.say()
        assert step is not None
        self.assertNoResult(step)
        self.go_on(DELAY)
        self.successResultOf(step)

    def test_what_can_not_be_indexed_keeps_nobody_waiting_and_is_tried_again(self) -> None:
        self.patch(housekeeping, "INDEX_LAG", 5)
        self.store.broken = sqlite3.OperationalError("disk I/O error")
        step = self.say(6)
        assert step is not None
        indexed = self.keeper.when_indexed()
        self.go_on()
        self.successResultOf(step)
        self.successResultOf(indexed)
        self.successResultOf(self.keeper.when_indexed())
        self.assertIsNone(self.say())
        self.store.broken = None
        self.go_on(DELAY)
        self.assertEqual(self.indexed, 7)

    def test_the_log_is_taken_into_the_file_a_little_later_and_once(self) -> None:
        self.say()
        self.go_on(DELAY)
        self.assertEqual(self.asked, ["extend", "checkpoint"])
        self.go_on(10)
        self.assertEqual(self.asked, ["extend", "checkpoint"])

    def test_a_long_log_begins_anew(self) -> None:
        self.patch(housekeeping, "MAX_LOG", -2)
        self.say()
        self.go_on(DELAY)
        self.assertEqual(self.asked.count("checkpoint"), 1 + housekeeping.CHECKPOINTS_BEFORE + 1)

    def test_what_is_old_is_deleted_a_little_at_a_time(self) -> None:
        self.keeper.stop()
        self.patch(housekeeping, "CLEAN_STEP", 2)
        self.begin(retain=DAY)
        self.say(5)
        self.go_on(CLEAN_EVERY)
        self.go_on(DAY)
        self.say()
        self.go_on(CLEAN_EVERY)
        rows = self.store.connection.execute("SELECT number FROM message").fetchall()
        self.assertEqual(rows, [(6,)])
        self.assertEqual(self.asked.count("expire"), 3)

    def test_erased_texts_leave_archive_and_index_in_small_steps(self) -> None:
        self.patch(housekeeping, "ERASE_STEP", 2)
        self.patch(housekeeping, "CLEAN_STEP", 2)
        self.say(5)
        self.go_on(DELAY)
        cursor = self.store.connection.cursor()
        cursor.execute("UPDATE message SET author = 2 WHERE number = 4")
        cursor.execute("INSERT INTO erasure VALUES (1, 5, 0)")
        self.say()  # later
        self.delete()
        rows = cursor.execute("SELECT number FROM message WHERE text != ''").fetchall()
        self.assertEqual(rows, [(4,), (6,)])
        rows = cursor.execute("SELECT rowid FROM words WHERE words MATCH 'word'").fetchall()
        self.assertEqual(rows, [(4,), (6,)])
        for table in ("erasure", "deletion"):
            self.assertEqual(cursor.execute(f"SELECT * FROM {table}").fetchall(), [])
        cursor.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 0)")

    def test_message_deleted_before_it_was_indexed_leaves_the_index_afterwards(self) -> None:
        self.say(2)
        cursor = self.store.connection.cursor()
        cursor.execute("INSERT INTO deletion SELECT number, text FROM message WHERE number = 1")
        cursor.execute("UPDATE message SET text = '' WHERE number = 1")
        self.assertEqual(index.remove_texts(cursor, 10), [])
        self.go_on(DELAY)
        self.delete()
        rows = cursor.execute("SELECT rowid FROM words WHERE words MATCH 'word'").fetchall()
        self.assertEqual(rows, [(2,)])
        self.assertEqual(cursor.execute("SELECT * FROM deletion").fetchall(), [])

    def test_no_text_is_removed_from_the_index_twice(self) -> None:
        self.say(2)
        self.go_on(DELAY)
        cursor = self.store.connection.cursor()
        cursor.execute("INSERT INTO deletion SELECT number, text FROM message WHERE number = 1")
        cursor.execute("UPDATE message SET text = '' WHERE number = 1")
        self.assertEqual(index.remove_texts(cursor, 10), [1])  # and then it was killed
        self.delete()
        self.say()
        self.go_on(DELAY)
        rows = cursor.execute("SELECT rowid FROM words WHERE words MATCH 'word'").fetchall()
        self.assertEqual(rows, [(2,), (3,)])

    def test_texts_are_deleted_in_steps_and_others_come_between(self) -> None:
        self.patch(housekeeping, "ERASE_STEP", 1)
        self.say(3)
        self.go_on(DELAY)
        self.store.connection.execute("INSERT INTO erasure VALUES (1, 3, 0)")
        self.say()
        while "erase" not in self.asked:
            self.go_on(0.01)
        indexed = self.keeper.when_indexed()
        self.say()
        self.go_on()
        self.successResultOf(indexed)
        self.assertEqual(self.asked.count("erase"), 1)
        self.delete()
        self.assertEqual(self.asked.count("erase"), 3)

    def test_files_are_purged_at_once_and_then_from_time_to_time(self) -> None:
        for times in (1, 2):
            self.say()
            self.go_on(DELAY)
            cursor = self.store.connection.cursor()
            cursor.execute("INSERT INTO deletion SELECT number, text FROM message")
            cursor.execute("UPDATE message SET text = ''")
            self.say()
            self.delete()
            self.assertEqual(self.asked.count("note_purge"), 1)
            self.assertEqual(archive.find_deletions(cursor), (False, times == 2))
        self.go_on(PURGE_EVERY)
        self.delete()
        self.assertEqual(archive.find_deletions(cursor), (False, False))

    def ask_to_erase(self, user: int) -> None:
        cursor = self.store.connection.cursor()
        cursor.execute("INSERT INTO erasure VALUES (?, ?, 0)", (user, self.number))
        cursor.execute("INSERT OR IGNORE INTO deletion VALUES (0, '')")
        self.store.connection.commit()
        self.keeper.written(self.number)

    def test_texts_are_deleted_at_once_while_a_purge_waits_for_its_time(self) -> None:
        self.say(3)
        self.go_on(DELAY)
        for user in (7, 8, 1):  # the second of them leaves a purge that has to wait
            self.ask_to_erase(user)
            self.delete()
        cursor = self.store.connection.cursor()
        self.assertEqual(archive.find_deletions(cursor), (False, True))
        self.assertEqual(cursor.execute("SELECT DISTINCT text FROM message").fetchall(), [("",)])
        self.assertEqual(self.asked.count("note_purge"), 1)

    def test_what_is_deleted_while_it_looks_is_found(self) -> None:
        self.say(3)
        self.delete()
        real = self.store.index

        def deleted_meanwhile(found: object) -> object:
            self.patch(self.store, "index", real)
            self.ask_to_erase(1)
            return found

        def index_slowly(function, *args, **kw):
            done = real(function, *args, **kw)
            if function is archive.find_deletions:
                done.addCallback(deleted_meanwhile)
            return done

        self.patch(self.store, "index", index_slowly)
        self.keeper.written(self.number)
        self.delete()
        rows = self.store.connection.execute("SELECT DISTINCT text FROM message").fetchall()
        self.assertEqual(rows, [("",)])

    def test_a_long_purge_is_not_soon_followed_by_another(self) -> None:
        self.store.seconds = PURGE_EVERY / PURGE_SHARE  # for each step
        self.store.connection.execute("INSERT INTO deletion VALUES (0, '')")
        self.say()
        self.pass_time(2 * PURGE_EVERY)
        self.assertEqual(self.asked.count("note_purge"), 1)
        self.store.connection.execute("INSERT INTO deletion VALUES (0, '')")
        self.say()
        self.pass_time(2 * PURGE_EVERY)
        self.assertEqual(self.asked.count("note_purge"), 1)
        self.pass_time(20 * PURGE_EVERY)
        self.assertEqual(self.asked.count("note_purge"), 2)

    def test_a_purge_that_was_not_done_is_done_after_the_next_start(self) -> None:
        self.keeper.stop()
        self.store.connection.execute("INSERT INTO deletion VALUES (0, '')")
        self.begin()
        self.delete()
        self.assertEqual(archive.find_deletions(self.store.connection.cursor()), (False, False))

    def test_nothing_is_noted_where_nothing_is_said(self) -> None:
        self.say()
        for _ in range(3):
            self.go_on(CLEAN_EVERY)
        self.assertEqual(self.asked.count("record_moment"), 1)

    def test_it_stops_when_what_is_under_way_is_done(self) -> None:
        self.store.seconds = 0.5
        self.say()
        self.clock.advance(DELAY)
        stopped = self.keeper.stop()
        self.assertNoResult(stopped)
        self.go_on(0.5)
        self.successResultOf(stopped)
        self.assertEqual(self.asked, [index.extend.__name__])
        self.assertEqual(self.clock.getDelayedCalls(), [])
