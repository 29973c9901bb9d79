"""The connection that commits, in the reactor's thread or in a thread of its own.

With ``--sync normal`` a commit is a write to the page cache. To pass it to a thread and back costs
several times as much, and delays a whole batch of messages, so it is done in the reactor's thread.
With ``--sync full`` a commit waits for the disk, so it is done in a thread. This module must not
know the statements, which are in ``tables``.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from chat_twisted.storage import archive, tables
from chat_twisted.storage.reading import pool
from chat_twisted.storage.sql import Cursor

Result = TypeVar("Result")

RETRY_LOCKED_AFTER = 0.005
"""Seconds between two attempts to write while another process holds the lock."""

LOCKED_TIMEOUT = 10.0
"""Seconds after which such a write fails."""


def _prepare(connection: sqlite3.Connection, sync: str) -> None:
    # The index is not attached: BEGIN IMMEDIATE would lock it, too, and wait for its steps.
    connection.execute(f"PRAGMA main.synchronous = {sync.upper()}")
    # Overwrite deleted data, which is not the default of every SQLite.
    connection.execute("PRAGMA secure_delete = ON")
    # No commit does a checkpoint by itself; ``housekeeping`` schedules them.
    connection.execute("PRAGMA wal_autocheckpoint = 0")


class ThreadWriter:
    """Writes in a thread of its own.

    :param folder: a state folder that ``archive.prepare`` has prepared.
    :param reactor: the reactor.
    :param sync: as in ``archive.connect``.
    """

    def __init__(self, folder: Path, reactor: Any, sync: str) -> None:
        self._pool = pool(folder, "rw", partial(_prepare, sync=sync), tables.probe, reactor)

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, *args, **kw)`` in its own transaction.

        :return: fires with its result after the commit.
        """
        done: Deferred[Result] = self._pool.runInteraction(function, *args, **kw)
        return done

    def run_exclusively(
        self, function: Callable[[Cursor], Result], in_thread: Callable[..., Deferred[Result]]
    ) -> Deferred[Result]:
        """Run ``function(cursor)`` while nothing else is written, without blocking the reactor.

        :param in_thread: not used here; see ``ReactorWriter``.
        """
        return self.write(function)

    def close(self) -> None:
        """Close the connection after all pending work."""
        self._pool.close()


class _Work(NamedTuple):
    done: Deferred[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kw: dict[str, Any]


class ReactorWriter:
    """Writes immediately, in the reactor's thread.

    It never waits for a lock of another process: it tries again later, and further work is queued
    in order until then. The parameters are those of ``ThreadWriter``.
    """

    def __init__(self, folder: Path, reactor: Any, sync: str) -> None:
        self._folder = folder
        self._sync = sync
        self._clock = reactor
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[_Work] = deque()
        self._suspended = False
        self._locked_since: float | None = None
        self._retry: IDelayedCall | None = None
        # Opened early, while there are file descriptors, but not before the reactor runs: until
        # then twistd may fork.
        reactor.callWhenRunning(self.write, tables.probe)

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, *args, **kw)`` in its own transaction, if possible within this
        call.

        :return: fires with its result after the commit.
        """
        done: Deferred[Result] = Deferred()
        self._waiting.append(_Work(done, function, args, kw))
        if len(self._waiting) == 1 and not self._suspended:
            self._run_queue()
        return done

    def _run_queue(self) -> None:
        if self._retry is not None and self._retry.active():
            return
        self._retry = None
        while self._waiting and not self._suspended:
            work = self._waiting[0]
            try:
                result = self._transact(work)
            except Exception as error:  # noqa: BLE001  passed to the caller
                if _is_lock(error) and not self._has_timed_out():
                    self._retry = self._clock.callLater(RETRY_LOCKED_AFTER, self._run_queue)
                    return
                self._waiting.popleft()
                work.done.errback()
            else:
                self._waiting.popleft()
                self._locked_since = None
                work.done.callback(result)

    def _has_timed_out(self) -> bool:
        now = self._clock.seconds()
        if self._locked_since is None:
            self._locked_since = now
        return bool(now - self._locked_since >= LOCKED_TIMEOUT)

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
            _prepare(connection, self._sync)
        except BaseException:
            connection.close()
            raise
        return connection

    def run_exclusively(
        self, function: Callable[[Cursor], Result], in_thread: Callable[..., Deferred[Result]]
    ) -> Deferred[Result]:
        """Run ``function(cursor)`` while nothing else is written, without blocking the reactor.

        :param in_thread: runs a function in another thread. Other work is queued until then.
        """
        self._suspended = True
        return in_thread(function).addBoth(self._resume)

    def _resume(self, result: Any) -> Any:
        self._suspended = False
        self._run_queue()
        return result

    def close(self) -> None:
        """Close the connection. Work that waits for a lock fails."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        waiting, self._waiting = self._waiting, deque()
        for work in waiting:
            work.done.errback(sqlite3.OperationalError("database is locked"))
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _is_lock(error: Exception) -> bool:
    """Return whether an error means that another process holds a lock."""
    return isinstance(error, sqlite3.OperationalError) and (
        getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    )
