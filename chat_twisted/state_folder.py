"""The state folder of a server: the files at the start, and the storage while it runs.

``StateFolder`` prepares the lock, the archive and the certificate before twistd makes a daemon.
``Storage`` has the parts that read and write while the server runs. This module must not know doors
or the rules of the chat.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chat_twisted.clocks import LogTime, SettledTime
from chat_twisted.control import Cluster
from chat_twisted.core import snapshot
from chat_twisted.core.commands import Start
from chat_twisted.core.ledger import Ledger
from chat_twisted.core.sessions import Request
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.ssh import host_keys
from chat_twisted.doors.tls import ServerTLS, ensure
from chat_twisted.files import FilesError, Say, acting_as, make_private_folder, require_trusted
from chat_twisted.log_output import open_output
from chat_twisted.metrics import Commits, Histogram
from chat_twisted.options import Options
from chat_twisted.storage import archive, index, lookup, tables
from chat_twisted.storage.embedded import EmbeddedLedger
from chat_twisted.storage.housekeeping import Housekeeping
from chat_twisted.storage.reading import Readers
from chat_twisted.storage.reads import ArchiveReads
from chat_twisted.storage.sql import open_to_read
from chat_twisted.storage.store import SQLiteStore

LOCK_PATIENCE = 5.0
"""Seconds for which a starting server waits for a stopping one, or for an operator's command."""

DAY = 24 * 60 * 60  # seconds


class StateFolder:
    """A state folder that this process has locked, with its files.

    :ivar path: the folder.
    :ivar lock: the lock, a file with the ID of the process that serves.
    :ivar log_output: writes the log; None if the program that runs the server does that.
    :ivar opened: the data in the archive.
    :ivar tls: the certificate.
    :ivar host_keys: the host keys of the SSH door; None without that door.
    :param user, group: the owner of the files, if root starts the server; None for the process's
        own user and group.
    :param say: as in ``files.make_private_folder``.
    :param complete: called with the folder before its archive is opened.
    :raises FilesError: if a file can't be used, another server uses the folder, or the archive
        belongs to a node of a cluster and the options name none.
    :raises TLSError: if the certificate can't be used.
    """

    def __init__(
        self,
        options: Options,
        user: int | None,
        group: int | None,
        say: Say,
        complete: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        with acting_as(user, group):
            folder = options["state"] or archive.default_folder(user)
            self.path = make_private_folder(folder, say)
            if options.cluster is not None:
                require_readable(options.cluster.credentials, secret=True)
                require_readable(options.cluster.ca)
            # The lock lasts until the process ends; a daemon inherits it.
            self.lock = archive.lock(self.path, say, patience=LOCK_PATIENCE)
            self.log_output = open_output(
                options.log_path,
                options.log_stream,
                options["audit"],
                as_objects=options["log-format"] == "json",
                level=options["log-level"],
                environment=os.environ,
            )
            complete(self.path)
            self.opened = archive.prepare(self.path, sync=options["sync"], say=say)
            if self.opened.node is not None and options.cluster is None:
                raise self.opened.node.refuse_start(self.path / archive.FILE)
            self.tls = ServerTLS(*(options.certificate_files or ensure(self.path, say)))
            self.host_keys = host_keys.load(self.path, say) if options["ssh"] == "yes" else None


def require_readable(path: Path | None, *, secret: bool = False) -> None:
    """Check that a file named by the operator can be read, and that only those can change it who
    may.

    :param secret: as in ``files.require_trusted``.
    :raises FilesError: if not.
    """
    if path is None:
        return
    try:
        require_trusted(path, secret=secret)
        path.open("rb").close()
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Watcher(Protocol):
    """The part of the service that a storage calls."""

    def reachable(self) -> None:
        """Called when commands are decided from now on: first, and after each ``unreachable``."""

    def unreachable(self, reason: str) -> None:
        """Called when no command is decided any more, perhaps because the other nodes can't be
        reached. The sessions of this node must end at once: the others will take it for lost.

        :param reason: the reason, part of a sentence.
        """

    def broken(self, reason: str) -> None:
        """Called when the storage can't go on, and the server must stop.

        :param reason: what has happened, and what the operator can do.
        """


class StoppableLedger(Ledger[Request | None], Protocol):
    """A ledger, as its storage sees it."""

    @property
    def commits(self) -> Commits:
        """Counts the commits."""

    @property
    def waiting(self) -> int:
        """The number of commands that wait for the next commit."""

    def stop(self) -> Deferred[None]:
        """Propose nothing more by itself.

        :return: fires when all proposed commands are decided.
        """


class Storage:
    """The storage of a running server: the ledger, the maintenance and the reading connections.

    A subclass sets the ledger, and calls the watcher.

    :ivar ledger: the ledger.
    :ivar start: the first command to propose to it.
    :ivar reads: reads messages for users.
    :ivar recent: whom the newest stored messages concern.
    :ivar settled: returns the time of day from which durations are counted, in seconds.
    :ivar retain: seconds for which messages are kept; None means for ever.
    :ivar cluster: the node that this server is; None for a single server.
    :ivar rounds: of a node: as in ``ReplicatedLedger``; empty for a single server.
    :param turn: the ledger commits at the end of its turns.
    """

    ledger: StoppableLedger

    def __init__(
        self, folder: StateFolder, options: Options, turn: EndOfTurn, reactor: Any
    ) -> None:
        clock: IReactorTime = reactor
        opened = folder.opened
        self._folder = folder.path
        self._store = SQLiteStore(folder.path, reactor, sync=options["sync"])
        state = snapshot.load(opened.snapshot)
        settled = SettledTime(clock.seconds, time.time, state.time / 1000 if state.time else None)
        self.settled = settled.now
        self._log_time = LogTime(clock.seconds, settled, state.time)
        self._state = state
        self.retain = None if options["retain"] is None else options["retain"] * DAY
        self._housekeeping = Housekeeping(
            self._store,
            clock,
            self._log_time,
            opened.after if options.cluster is None else opened.newest,
            retain=self.retain,
        )
        reactor.callWhenRunning(self._housekeeping.start)
        self.reads = ArchiveReads(self._store, self._housekeeping.when_indexed)
        self.start = Start(0, options.decide, opened.after)
        self.newest = opened.newest
        with contextlib.closing(open_to_read(folder.path / archive.FILE)) as connection:
            self.recent = lookup.recent(connection.cursor())
        self.cluster: Cluster | None = None
        self.rounds = Histogram()

    def watch(self, watcher: Watcher) -> None:
        """Tell ``watcher`` what happens. Called once, in the process that serves, at its start."""
        raise NotImplementedError

    def delete_older(self, seconds: float) -> Deferred[int]:
        """See ``Housekeeping.delete_older``."""
        return self._housekeeping.delete_older(seconds)

    # What the operator watches

    @property
    def readers(self) -> Readers:
        """The connections that read the archive."""
        return self._store.readers

    @property
    def index_lag(self) -> int:
        """The number of messages that are not indexed yet."""
        return self._housekeeping.lag

    @property
    def cluster_lag(self) -> int:
        """Of a node: the number of records that are known to be in the log, and not applied."""
        return 0

    def file_sizes(self) -> dict[str, int]:
        """Return the sizes in bytes of the archive, of the index, and of their write-ahead logs; 0
        for one that does not exist.
        """
        files = {"archive": archive.FILE, "index": index.FILE}
        files |= {f"{name}_log": f"{file}-wal" for name, file in files.items()}
        return {name: _size_of(self._folder / file) for name, file in files.items()}

    def free_bytes(self) -> int:
        """Return how many bytes of the disk are free for the server."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    async def check_writing(self) -> None:
        """Write one row without changing it.

        :raises Exception: if messages can't be committed now; its text is the reason.
        """
        await self._store.write(tables.probe)

    def interrupt(self) -> None:
        """Interrupt all readings. Called when the server stops."""
        self._store.interrupt()

    async def stop(self) -> None:
        """Finish writing, and close the files."""
        await self.ledger.stop()
        await self._housekeeping.stop()
        self._store.close()


class EmbeddedStorage(Storage):
    """The storage of a single server."""

    def __init__(
        self, folder: StateFolder, options: Options, turn: EndOfTurn, reactor: Any
    ) -> None:
        super().__init__(folder, options, turn, reactor)
        self.ledger = EmbeddedLedger(
            self._store, self._state, reactor, self._log_time, turn, self._housekeeping.written
        )

    def watch(self, watcher: Watcher) -> None:
        """See ``Storage.watch``. Nothing else is needed to decide commands."""
        watcher.reachable()
