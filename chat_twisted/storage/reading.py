"""Connections that read the archive for users' requests, apart from the one that writes.

A fixed number of connections, each with its own thread, is opened at the start. A request waits for
its turn (``turns``), so that no address delays another; searches leave one connection free for
short requests. A request is interrupted at its deadline, and its time is charged to the asker. This
module must not know the queries, which are in ``archive``.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chat_twisted.core.errors import TookTooLong, Unavailable
from chat_twisted.core.turns import RETRY_AFTER, Asker, Places
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger
from chat_twisted.metrics import Reads
from chat_twisted.storage import archive, index
from chat_twisted.storage.sql import Cursor

Result = TypeVar("Result")

READERS = 3
"""Number of reading connections. One of them is reserved for requests that are not searches."""

MAX_WAITING = 1000
"""Maximum number of waiting requests of one source, and as many searches."""

PATIENCE = 10.0
"""Seconds after which a waiting request is refused."""

DEADLINE = 2.0
"""Seconds after which a running request is interrupted."""

NICE = 10
"""Niceness that is added to the reading threads."""

STEPS = 10_000
"""Instructions of SQLite's virtual machine between two checks for an interruption; about 1 ms."""


def lower_priority(by: int) -> None:
    """Lower the priority of the calling thread, on systems that can do so for one thread.

    :param by: the niceness to add.
    """
    if sys.platform == "linux":
        os.nice(by)


def pool(
    folder: Path,
    mode: str,
    opened: Callable[[sqlite3.Connection], None],
    touch: Callable[[Cursor], None],
    reactor: Any,
) -> Any:  # adbapi.ConnectionPool, which is not typed
    """Create an adbapi pool of one connection to the archive, with its own thread.

    The connection is opened as soon as the reactor runs, while there are file descriptors, and
    kept.

    :param folder: the state folder.
    :param mode: ``ro`` or ``rw``.
    :param opened: called in the thread with the new connection, to prepare it.
    :param touch: run at once: SQLite opens the files of a connection only at its first query.
    :param reactor: the reactor.
    """
    made = adbapi.ConnectionPool(
        "sqlite3",
        f"{(folder / archive.FILE).absolute().as_uri()}?mode={mode}",
        uri=True,
        check_same_thread=False,
        timeout=10,
        cached_statements=300,
        cp_min=1,
        cp_max=1,
        cp_openfun=opened,
        cp_reactor=reactor,
        cp_noisy=False,
    )
    reactor.callWhenRunning(_open, made, touch)
    return made


def _open(made: Any, touch: Callable[[Cursor], None]) -> None:
    opening: Deferred[object] = made.runInteraction(touch)
    opening.addErrback(_log_failure)


def _log_failure(failure: Failure) -> None:
    error = failure.value
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        return  # the server is stopping
    _log.error("can't open the archive: {reason}", event="archive-failed", reason=explain(error))


_log = Logger()


class Reader:
    """One reading connection.

    :ivar seconds: the duration of the last request.
    """

    def __init__(self, folder: Path, reactor: Any) -> None:
        self._folder = folder
        self._clock = reactor
        self._connection: sqlite3.Connection | None = None
        self._interrupted = False  # set to interrupt the current request
        self.seconds = 0.0
        self._pool = pool(folder, "ro", self._opened, index.touch, reactor)

    def _opened(self, connection: sqlite3.Connection) -> None:
        index.attach(connection, self._folder, read_only=True)
        connection.execute("PRAGMA temp_store = MEMORY")  # a temporary file would need a descriptor
        connection.set_progress_handler(lambda: self._interrupted, STEPS)
        lower_priority(NICE)
        self._connection = connection

    async def read(self, function: Callable[..., Result], args: tuple[Any, ...], kw: Any) -> Result:
        """Run ``function(cursor, *args, **kw)`` in the connection's thread.

        :raises TookTooLong: if it was interrupted.
        """
        self._interrupted = False
        deadline = self._clock.callLater(DEADLINE, self.interrupt)
        try:
            result: Result = await self._pool.runInteraction(self._run, function, args, kw)
        except sqlite3.OperationalError as error:
            if self._interrupted:
                raise TookTooLong(retry_after=RETRY_AFTER) from error
            raise
        finally:
            if deadline.active():
                deadline.cancel()
        if self._interrupted:  # FTS5 treats an interruption as the end of the results
            raise TookTooLong(retry_after=RETRY_AFTER)
        return result

    def _run(
        self, cursor: Cursor, function: Callable[..., Result], args: tuple[Any, ...], kw: Any
    ) -> Result:
        begun = time.monotonic()
        try:
            return function(cursor, *args, **kw)
        finally:
            self.seconds = time.monotonic() - begun

    def interrupt(self) -> None:
        """Interrupt the current request; it fails with ``TookTooLong``."""
        self._interrupted = True
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class Readers:
    """The reading connections of an archive.

    :ivar short, searches: count the requests.
    :param folder: a state folder that ``archive.prepare`` has prepared.
    """

    def __init__(self, folder: Path, reactor: Any) -> None:
        self._idle = [Reader(folder, reactor) for _ in range(READERS)]
        self._all = tuple(self._idle)
        self.short, self.searches = Reads(), Reads()
        self._places = Places(reactor, READERS, most=MAX_WAITING, patience=PATIENCE)

    async def read(
        self,
        function: Callable[..., Result],
        args: tuple[Any, ...],
        kw: Any,
        asker: Asker,
        *,
        search: bool,
    ) -> Result:
        """Run ``function(cursor, *args, **kw)`` in its turn, and charge its time to ``asker``.

        :param search: whether it may take long.
        :raises Unavailable: if too many requests wait, or it has waited too long.
        :raises TookTooLong: if it was interrupted at its deadline.
        """

        reads = self.searches if search else self.short

        async def work() -> Result:
            reader = self._idle.pop()
            try:
                return await reader.read(function, args, kw)
            finally:
                self._idle.append(reader)
                asker.charge(reader.seconds)
                reads.seconds.add(reader.seconds)

        try:
            return await self._places.do(asker.source, work, patient=search)
        except TookTooLong:
            reads.deadlines += 1
            raise
        except Unavailable:
            reads.refused += 1
            raise

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their turn."""
        return self._places.waiting

    def stop(self) -> None:
        """Interrupt all running requests, and refuse the waiting and all further ones."""
        self._places.stop()
        for reader in self._all:
            reader.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self.stop()
        for reader in self._all:
            reader.close()
