"""The archive's connections: the one that commits, one that indexes, and some that read.

They run functions of ``tables``, ``archive`` and ``index``, each in a thread of its kind. Nothing
here knows a statement or a rule.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

from chat_twisted.core.turns import Asker
from chat_twisted.storage import index
from chat_twisted.storage.reading import Readers, lower_priority, pool
from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.writing import ReactorWriter, ThreadWriter

Result = TypeVar("Result")

NICE = 5
"""Niceness that is added to the thread that indexes."""


class Store(Protocol):
    """Where functions on the archive are run, perhaps within the call. What is to be written is
    done one by one, in order, and so is what is to be indexed.
    """

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` in a transaction of its own, where it may write."""

    def index(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` in a transaction of its own, where it may write the index.
        What ``write`` runs does not wait for it.
        """

    def alone(self, function: Callable[[Cursor], Result]) -> Deferred[Result]:
        """Run ``function(cursor)`` aside; what is to be written waits until it is done."""

    def read(
        self,
        function: Callable[..., Result],
        *args: Any,
        asker: Asker,
        search: bool = False,
        **kw: Any,
    ) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` aside, so that it keeps no writing waiting; see
        ``reading.Readers.read``.
        """

    def interrupt(self) -> None:
        """Interrupt what is being read or indexed, and refuse what is to be read."""

    def close(self) -> None:
        """Close the files when all that was asked for is done."""


class SQLiteStore:
    """The ``Store`` of a state folder.

    :param folder: where ``archive.prepare`` has prepared the files.
    :param reactor: whose threads they are; it must be running.
    :param sync: see ``archive.connect``.
    """

    def __init__(self, folder: Path, reactor: Any, *, sync: str) -> None:
        self._indexing: sqlite3.Connection | None = None

        def prepare_index(connection: sqlite3.Connection) -> None:
            index.attach(connection, folder)
            self._indexing = connection
            lower_priority(NICE)

        writer = ThreadWriter if sync == "full" else ReactorWriter
        self._writer: ThreadWriter | ReactorWriter = writer(folder, reactor, sync)
        self._indexer = pool(folder, "rw", prepare_index, index.touch, reactor)
        self._readers = Readers(folder, reactor)

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """See ``Store.write``."""
        return self._writer.write(function, *args, **kw)

    def index(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """See ``Store.index``."""
        done: Deferred[Result] = self._indexer.runInteraction(function, *args, **kw)
        return done

    def alone(self, function: Callable[[Cursor], Result]) -> Deferred[Result]:
        """See ``Store.alone``."""
        return self._writer.run_exclusively(function, self.index)

    def read(
        self,
        function: Callable[..., Result],
        *args: Any,
        asker: Asker,
        search: bool = False,
        **kw: Any,
    ) -> Deferred[Result]:
        """See ``Store.read``."""
        return Deferred.fromCoroutine(self._readers.read(function, args, kw, asker, search=search))

    def interrupt(self) -> None:
        """See ``Store.interrupt``."""
        self._readers.stop()
        if self._indexing is not None:
            self._indexing.interrupt()

    def close(self) -> None:
        """See ``Store.close``."""
        self._readers.close()
        self._indexer.close()
        self._writer.close()
