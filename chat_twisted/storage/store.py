"""The connections to an archive: one that commits, one that indexes, and several that read.

They run functions of ``tables``, ``archive`` and ``index``. This module must not know their
statements, nor the rules of the chat.
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
    """Runs functions on the archive, possibly within the call. Writing functions run one at a time,
    in the order of the calls; so do indexing functions.
    """

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, *args, **kw)`` in its own transaction; it may write the archive.

        :return: fires with its result after the commit.
        """

    def index(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, *args, **kw)`` in its own transaction; it may write the index.
        Calls of ``write`` don't wait for it.

        :return: fires with its result after the commit.
        """

    def run_exclusively(self, function: Callable[[Cursor], Result]) -> Deferred[Result]:
        """Run ``function(cursor)`` outside the reactor's thread, while nothing else is written.

        :return: fires with its result.
        """

    def read(
        self,
        function: Callable[..., Result],
        *args: Any,
        asker: Asker,
        search: bool = False,
        **kw: Any,
    ) -> Deferred[Result]:
        """Run ``function(cursor, *args, **kw)``, which only reads, on a reading connection, so that
        no commit waits for it. See ``reading.Readers.read``.

        :return: fires with its result.
        """

    def interrupt(self) -> None:
        """Interrupt the functions that read or index, and refuse all further reading."""

    def close(self) -> None:
        """Close the connections after all pending work."""


class SQLiteStore:
    """The ``Store`` of a state folder.

    :ivar readers: the reading connections.
    :param folder: a state folder that ``archive.prepare`` has prepared.
    :param reactor: the reactor, which provides the threads; it must be running.
    :param sync: as in ``archive.connect``.
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
        self.readers = Readers(folder, reactor)

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """See ``Store.write``."""
        return self._writer.write(function, *args, **kw)

    def index(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """See ``Store.index``."""
        done: Deferred[Result] = self._indexer.runInteraction(function, *args, **kw)
        return done

    def run_exclusively(self, function: Callable[[Cursor], Result]) -> Deferred[Result]:
        """See ``Store.run_exclusively``."""
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
        return Deferred.fromCoroutine(self.readers.read(function, args, kw, asker, search=search))

    def interrupt(self) -> None:
        """See ``Store.interrupt``."""
        self.readers.stop()
        if self._indexing is not None:
            self._indexing.interrupt()

    def close(self) -> None:
        """See ``Store.close``."""
        self.readers.close()
        self._indexer.close()
        self._writer.close()
