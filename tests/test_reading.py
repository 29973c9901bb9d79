"""Reading connections, with real threads and files; tests wait for their results."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import TookTooLong, Unavailable
from chat_twisted.core.turns import Asker
from chat_twisted.storage import archive, reading
from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.store import SQLiteStore

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def endless(cursor: Cursor) -> None:
    """Read endlessly, in one statement or in many."""
    cursor.execute(ENDLESS)


def endless_steps(cursor: Cursor) -> None:
    while True:
        cursor.execute("SELECT count(*) FROM (VALUES (1), (2)), (VALUES (1), (2))")


def connection_of(cursor: Any) -> int:
    return id(cursor._cursor.connection)


class ReadingTestCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.folder = folder
        archive.prepare(folder, wall=lambda: archive.EPOCH)
        self.store = SQLiteStore(folder, reactor, sync="normal")
        self.addCleanup(self.store.close)
        self.patch(reading, "DEADLINE", 60)  # no test meets this deadline, however slow the machine
        self.charged: dict[str, float] = {}

    def read(self, function, *args, source: str = "somebody", search: bool = False):
        def charge(seconds: float) -> None:
            self.charged[source] = self.charged.get(source, 0) + seconds

        return self.store.read(function, *args, asker=Asker(source, charge), search=search)


class BlockingRead:
    """A read that lasts until it is told to end."""

    def __init__(self) -> None:
        self.begun: Deferred[None] = Deferred()
        self._end = threading.Event()

    def __call__(self, cursor: Cursor) -> None:
        reactor.callFromThread(self.begun.callback, None)
        self._end.wait(60)

    def end(self) -> None:
        self._end.set()


def noted(cursor: Cursor) -> int:
    """Ask for something short."""
    cursor.execute("SELECT number FROM progress")
    [number] = cursor.fetchone()
    return number


class ReadingTests(ReadingTestCase):
    async def test_a_search_that_is_too_broad_is_interrupted(self) -> None:
        self.patch(reading, "DEADLINE", 0.1)
        asked = self.read(endless, source="broad", search=True)
        await self.assertFailure(asked, TookTooLong)
        self.assertGreater(self.charged["broad"], 0)
        self.patch(reading, "DEADLINE", 60)
        self.assertEqual(await self.read(noted), 0)  # the connection can be used again

    async def test_what_takes_many_statements_is_interrupted_too(self) -> None:
        self.patch(reading, "DEADLINE", 0.1)
        self.patch(reading, "STEPS", 1)
        await self.assertFailure(self.read(endless_steps), TookTooLong)

    async def test_requests_are_counted_by_kind_with_their_ends(self) -> None:
        readers = self.store.readers
        await self.read(noted)
        self.patch(reading, "DEADLINE", 0.1)
        await self.assertFailure(self.read(endless, search=True), TookTooLong)
        self.assertEqual((readers.short.seconds.total, readers.short.deadlines), (1, 0))
        self.assertEqual((readers.searches.seconds.total, readers.searches.deadlines), (1, 1))
        self.assertGreater(readers.searches.seconds.sum, 0.05)
        self.assertEqual((readers.short.refused, readers.searches.refused), (0, 0))

    async def test_requests_that_wait_are_counted_and_those_that_are_refused(self) -> None:
        busy, readers = BlockingRead(), self.store.readers
        first = self.read(busy)
        await busy.begun
        second = self.read(noted)
        self.assertEqual(readers.waiting, 1)
        self.store.interrupt()
        await self.assertFailure(second, Unavailable)
        self.assertEqual((readers.waiting, readers.short.refused), (0, 1))
        busy.end()
        await self.assertFailure(first, TookTooLong)

    async def test_a_fault_that_is_no_interruption_is_handed_on(self) -> None:
        def wrong(cursor: Cursor) -> None:
            cursor.execute("SELECT nothing FROM nowhere")

        await self.assertFailure(self.read(wrong), sqlite3.OperationalError)
        self.assertIn("somebody", self.charged)

    async def test_what_is_short_waits_for_no_search(self) -> None:
        searches = [BlockingRead() for _ in range(9)]
        asked = [self.read(search, source=f"{i}", search=True) for i, search in enumerate(searches)]
        await gatherResults([search.begun for search in searches[: reading.READERS - 1]])
        self.assertEqual(await self.read(noted), 0)
        for search in searches:
            search.end()
        await gatherResults(asked)

    async def test_connections_are_kept_and_used_again(self) -> None:
        seen = {await self.read(connection_of) for _ in range(20)}
        self.assertLessEqual(len(seen), reading.READERS)

    async def test_an_opening_that_is_interrupted_is_no_failure_but_others_are(self) -> None:
        events: list[str] = []

        def note(event: LogEvent) -> None:
            events.append(event["log_format"])

        def interrupt(connection: sqlite3.Connection) -> None:
            connection.set_progress_handler(lambda: True, 1)

        async def open_with(prepare: Callable[[sqlite3.Connection], None], query: str) -> None:
            def touch(cursor: Cursor) -> None:
                cursor.execute(query)

            made = reading.pool(self.folder, "ro", prepare, touch, reactor)
            self.addCleanup(made.close)
            await made.runInteraction(lambda cursor: None)  # after it, in the same thread

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        await open_with(interrupt, "SELECT count(*) FROM sqlite_schema")
        self.assertEqual(events, [])
        await open_with(lambda _: None, "SELECT nothing FROM nowhere")
        self.assertEqual(events, ["can't open the archive: {reason}"])

    async def test_when_it_stops_what_is_read_ends_and_what_waits_is_refused(self) -> None:
        busy = BlockingRead()
        first = self.read(busy, source="first")
        await busy.begun
        running = self.read(endless, source="second")
        waiting = self.read(noted, source="first")
        self.store.interrupt()
        await self.assertFailure(waiting, Unavailable)
        await self.assertFailure(self.read(noted, source="third"), Unavailable)
        await self.assertFailure(running, TookTooLong)
        busy.end()
        await self.assertFailure(first, TookTooLong)

    async def test_nothing_can_be_written_by_who_reads(self) -> None:
        def write(cursor: Cursor) -> None:
            cursor.execute("UPDATE progress SET number = 9")

        await self.assertFailure(self.read(write), sqlite3.OperationalError)

    async def test_an_operator_is_seen_whatever_is_read(self) -> None:
        reads = [BlockingRead() for _ in range(reading.READERS)]
        asked = [self.read(read, source=f"{i}") for i, read in enumerate(reads)]
        await gatherResults([read.begun for read in reads])
        self.assertEqual(await self.store.write(noted), 0)
        for read in reads:
            read.end()
        await gatherResults(asked)


class DescriptorTests(ReadingTestCase):
    async def test_all_connections_are_open_before_anybody_asks_and_reading_opens_no_more(
        self,
    ) -> None:
        descriptors = Path("/proc/self/fd")
        if not descriptors.exists():
            return
        await gatherResults(
            [self.store.write(noted), self.store.index(noted)]
            + [self.read(noted, source=f"{i}") for i in range(reading.READERS)]
        )

        def large_sort(cursor: Cursor) -> int:
            cursor.execute(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000) "
                "SELECT hex(randomblob(40)) AS x FROM n ORDER BY x"
            )
            cursor.fetchone()
            return len(list(descriptors.iterdir()))

        before = len(list(descriptors.iterdir()))
        self.assertLessEqual(await self.read(large_sort), before + 1)  # 1: the handle of the folder
