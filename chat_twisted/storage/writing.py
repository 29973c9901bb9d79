"""Writing connections: the one that commits, in the reactor's own thread or in one beside it.

Where a commit does not wait for the disk (``--sync normal``) it is a write to the page cache: to
hand it to a thread and its result back costs several times as much, and a batch of messages waits
for both. Where it waits for the disk (``--sync full``) it is a thread that does. What is written,
``archive`` knows.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from chat_twisted.storage import archive, index
from chat_twisted.storage.reading import pool
from chat_twisted.storage.sql import Cursor

Result = TypeVar("Result")

LOCKED_AGAIN = 0.005
"""Seconds after which it is tried again to write what another process keeps locked."""

LOCKED_FOR = 10.0
"""Seconds after which that fails."""


def _prepare(connection: sqlite3.Connection, folder: Path, sync: str) -> None:
    # What was said under an Id is looked up in the index. No lock is taken on what is only read.
    index.attach(connection, folder)
    connection.execute(f"PRAGMA main.synchronous = {sync.upper()}")
    # No commit takes it upon itself to tidy the write-ahead log: the ledger does.
    connection.execute("PRAGMA wal_autocheckpoint = 0")


class ThreadWriter:
    """Writes in a thread of its own.

    :param folder: where ``archive.prepare`` has prepared the files.
    :param sync: see ``archive.connect``.
    """

    def __init__(self, folder: Path, reactor: Any, sync: str) -> None:
        self._pool = pool(folder, "rw", lambda opened: _prepare(opened, folder, sync), reactor)

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` in a transaction of its own."""
        done: Deferred[Result] = self._pool.runInteraction(function, *args, **kw)
        return done

    def alone(
        self, function: Callable[[Cursor], Result], aside: Callable[..., Deferred[Result]]
    ) -> Deferred[Result]:
        """Run ``function(cursor)`` while nothing else is written, without keeping the reactor.

        :param aside: does so in another thread, and is not needed here.
        """
        return self.write(function)

    def close(self) -> None:
        """Close the connection when all that was asked for is done."""
        self._pool.close()


class _Work(NamedTuple):
    done: Deferred[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kw: dict[str, Any]


class ReactorWriter:
    """Writes at once, in the reactor's thread. It never waits for another process that writes: it
    tries again later, and what is asked for meanwhile is done after that, in order.

    The parameters are those of ``ThreadWriter``.
    """

    def __init__(self, folder: Path, reactor: Any, sync: str) -> None:
        self._folder = folder
        self._sync = sync
        self._clock = reactor
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[_Work] = deque()
        self._held = False
        self._locked_since: float | None = None
        self._trying_again: IDelayedCall | None = None
        # As early as the others: later there might be no descriptor for it. Not before the reactor
        # runs, since twistd may fork until then.
        reactor.callWhenRunning(self.write, archive.touch)

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` in a transaction of its own, within the call if it can."""
        done: Deferred[Result] = Deferred()
        self._waiting.append(_Work(done, function, args, kw))
        if len(self._waiting) == 1 and not self._held:
            self._go_on()
        return done

    def _go_on(self) -> None:
        if self._trying_again is not None and self._trying_again.active():
            return
        self._trying_again = None
        while self._waiting and not self._held:
            work = self._waiting[0]
            try:
                result = self._transact(work)
            except Exception as error:  # noqa: BLE001  handed on
                if _is_lock(error) and not self._is_late():
                    self._trying_again = self._clock.callLater(LOCKED_AGAIN, self._go_on)
                    return
                self._waiting.popleft()
                work.done.errback()
            else:
                self._waiting.popleft()
                self._locked_since = None
                work.done.callback(result)

    def _is_late(self) -> bool:
        now = self._clock.seconds()
        if self._locked_since is None:
            self._locked_since = now
        return bool(now - self._locked_since >= LOCKED_FOR)

    def _transact(self, work: _Work) -> Any:
        if self._connection is None:
            self._connection = self._open()
        connection = self._connection
        try:
            result = work.function(connection.cursor(), *work.args, **work.kw)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        return result

    def _open(self) -> sqlite3.Connection:
        path = (self._folder / archive.FILE).absolute()
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=0, cached_statements=300
        )
        try:
            _prepare(connection, self._folder, self._sync)
        except BaseException:
            connection.close()
            raise
        return connection

    def alone(
        self, function: Callable[[Cursor], Result], aside: Callable[..., Deferred[Result]]
    ) -> Deferred[Result]:
        """Run ``function(cursor)`` while nothing else is written, without keeping the reactor.

        :param aside: runs it in another thread. What is to be written waits until that is done.
        """
        self._held = True
        return aside(function).addBoth(self._release)

    def _release(self, result: Any) -> Any:
        self._held = False
        self._go_on()
        return result

    def close(self) -> None:
        """Close the connection. What still waits for a lock fails."""
        if self._trying_again is not None:
            self._trying_again.cancel()
            self._trying_again = None
        waiting, self._waiting = self._waiting, deque()
        for work in waiting:
            work.done.errback(sqlite3.OperationalError("database is locked"))
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _is_lock(error: Exception) -> bool:
    """Tell whether another process has what is to be written."""
    return isinstance(error, sqlite3.OperationalError) and (
        getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    )
