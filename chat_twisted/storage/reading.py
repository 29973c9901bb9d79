"""Reading connections: what users ask of the archive is read here, apart from what is written.

A few connections, each with a thread of its own, that are opened at the start and kept. Who asks
waits for a turn (``turns``), so that nobody waits for what another address has asked for; a search
leaves a connection free for what is short. A reading has a deadline, after which it is interrupted,
and its time is charged to who has asked. What is read, ``archive`` knows.
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

from chat_twisted.core.errors import TookTooLong
from chat_twisted.core.turns import RETRY_AFTER, Asker, Places
from chat_twisted.logs import Logger
from chat_twisted.storage import archive, index
from chat_twisted.storage.sql import Cursor

Result = TypeVar("Result")

READERS = 3
"""How many things are read at once. One of them is no search."""

MAX_WAITING = 1000
"""Of one source, how many readings may wait; and as many searches."""

PATIENCE = 10.0
"""Seconds after which a reading that still waits is refused."""

DEADLINE = 2.0
"""Seconds that a reading may take; then it is interrupted."""

NICE = 10
"""How much the threads that read give way to the others."""

STEPS = 10_000
"""Of SQLite's virtual machine, between two looks whether a reading is to end: a millisecond."""


def lower_priority(by: int) -> None:
    """Let the other threads have the processor first, where one can say so for itself alone."""
    if sys.platform == "linux":
        os.nice(by)


def pool(
    folder: Path, mode: str, opened: Callable[[sqlite3.Connection], None], reactor: Any
) -> Any:  # adbapi.ConnectionPool, which is not typed
    """Make an adbapi pool of one connection to the archive, with a thread of its own. It is made as
    soon as the reactor runs, and kept: later there might be no descriptor for it.

    :param mode: ``ro`` or ``rw``.
    :param opened: prepares the connection, in its thread.
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
    reactor.callWhenRunning(_open, made)
    return made


def _open(made: Any) -> None:
    # Only a question makes SQLite open all files that belong to a connection.
    opening: Deferred[object] = made.runInteraction(archive.touch)
    opening.addErrback(_not_open)


def _not_open(failure: Failure) -> None:
    _log.error("can't open the archive: {reason}", reason=failure.getErrorMessage())


_log = Logger()


class Reader:
    """One reading connection.

    :ivar seconds: how long the last reading took.
    """

    def __init__(self, folder: Path, reactor: Any) -> None:
        self._folder = folder
        self._clock = reactor
        self._connection: sqlite3.Connection | None = None
        self._over = False  # what is read is to end
        self.seconds = 0.0
        self._pool = pool(folder, "ro", self._opened, reactor)

    def _opened(self, connection: sqlite3.Connection) -> None:
        index.attach(connection, self._folder, read_only=True)
        connection.execute("PRAGMA temp_store = MEMORY")  # a file would need a descriptor
        connection.set_progress_handler(lambda: self._over, STEPS)
        lower_priority(NICE)
        self._connection = connection

    async def read(self, function: Callable[..., Result], args: tuple[Any, ...], kw: Any) -> Result:
        """Run ``function(cursor, ...)``.

        :raises TookTooLong: it was interrupted.
        """
        self._over = False
        deadline = self._clock.callLater(DEADLINE, self.interrupt)
        try:
            result: Result = await self._pool.runInteraction(self._run, function, args, kw)
        except sqlite3.OperationalError as error:
            if self._over:
                raise TookTooLong(retry_after=RETRY_AFTER) from error
            raise
        finally:
            if deadline.active():
                deadline.cancel()
        if self._over:  # FTS5 takes an interruption for the end of what is to be found
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
        """Let what is being read end, with ``TookTooLong``."""
        self._over = True
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class Readers:
    """The reading connections of an archive.

    :param folder: where ``archive.prepare`` has prepared its files.
    """

    def __init__(self, folder: Path, reactor: Any) -> None:
        self._idle = [Reader(folder, reactor) for _ in range(READERS)]
        self._all = tuple(self._idle)
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
        """Run ``function(cursor, ...)`` when it is the asker's turn, and charge them its time.

        :param search: whether it may take long.
        :raises Unavailable: too much waits, or it has waited too long.
        :raises TookTooLong: it did.
        """

        async def work() -> Result:
            reader = self._idle.pop()
            try:
                return await reader.read(function, args, kw)
            finally:
                self._idle.append(reader)
                asker.charge(reader.seconds)

        return await self._places.do(asker.source, work, patient=search)

    def stop(self) -> None:
        """Interrupt what is being read, and refuse what waits and what comes."""
        self._places.stop()
        for reader in self._all:
            reader.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self.stop()
        for reader in self._all:
            reader.close()
