"""A node of a cluster offers copies of its archive and its index to new nodes.

The files are copied as they are at one moment, in a thread; commits go on meanwhile. Then questions
for pieces of the copy are answered (``copying`` has their form). This module must not know which
program stores the log, or the rules of the chat.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from chat_twisted.files import FilesError
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger
from chat_twisted.storage import archive, index, reading
from chat_twisted.storage.copying import FILES, TOPIC, pack, remove, size_of, unpack
from chat_twisted.storage.log import Log
from chat_twisted.storage.sql import Cursor, make_file

OFFERED = "copy-for-others"
"""The folder in the state folder in which a copy is made."""

PIECE = 256 * 1024
"""Maximum size of a piece in bytes; NATS allows a message of 1 MiB."""

STEP = 2048
"""Pages that are copied at once, before it is checked whether the copy is still wanted."""

NICE = 10
"""Niceness that is added to the thread that copies."""

SILENCE = 30.0
"""Seconds without a question after which a copy is deleted."""

SLOWEST = 256 * 1024
"""Bytes per second. A copy is deleted when the time is over in which such a reader had read it."""

SPARE = 2
"""A copy is made if the free space is so many times the size of the files: a node without space
can't store what the cluster decides."""


class Copies:
    """Offers copies of a node's files to new nodes. There is one copy at a time; several nodes can
    read it.

    :param folder: the state folder.
    :param node: the node's name.
    :param reactor: the reactor, which provides the thread.
    """

    _log = Logger()

    def __init__(self, folder: Path, node: str, log: Log, reactor: Any) -> None:
        self._folder = folder
        self._node = node
        self._reactor = reactor
        self._topic = f"{TOPIC}.{secrets.token_hex(8)}"
        self._copy: _Copy | None = None
        self._pool: Any = None  # adbapi.ConnectionPool, which is not typed; its thread has the copy
        self._ready = False  # whether the copy can be read
        self._problem = ""  # why no copy could be made
        self._expiry: IDelayedCall | None = None
        self._latest = 0.0  # when the copy is deleted, even if questions come
        self._stopped: Deferred[None] | None = None
        remove(folder / OFFERED)  # left by a process that was killed
        log.answer(TOPIC, self._introduce)
        log.answer(self._topic, self._answer)

    def stop(self) -> Deferred[None]:
        """Delete the copy, and refuse further questions.

        :return: fires when it is deleted.
        """
        self._stopped = Deferred()
        if self._copy is None:
            self._stopped.callback(None)
        else:
            self._delete()
        return self._stopped

    # Questions

    def _introduce(self, question: bytes) -> Deferred[bytes]:
        return succeed(pack({"topic": self._topic, "node": self._node}))

    def _answer(self, question: bytes) -> Deferred[bytes]:
        try:
            asked, _ = unpack(question)
            if not asked["copy"]:
                return succeed(pack(self._open()))
            return self._read(str(asked["copy"]), str(asked["file"]), int(asked["offset"]))
        except (KeyError, TypeError, ValueError):
            return succeed(pack({"error": "the question is not understood"}))

    def _open(self) -> dict[str, object]:
        if self._stopped is not None:
            return {"error": "the node stops"}
        if self._problem:
            problem, self._problem = self._problem, ""
            return {"error": problem}
        if self._copy is None:
            self._begin()
        elif self._ready:
            self._expect_questions()
            files = [[name, file.size, file.digest] for name, file in self._copy.files.items()]
            return {"copy": self._copy.id, "files": files}
        return {"making": True}

    def _read(self, id: str, name: str, offset: int) -> Deferred[bytes]:
        copy = self._copy
        if copy is None or not self._ready or copy.id != id or name not in copy.files:
            return succeed(pack({"error": "the copy was deleted"}))
        if not 0 <= offset < copy.files[name].size:
            return succeed(pack({"error": "there is no such piece"}))
        self._expect_questions()
        read: Deferred[bytes] = self._pool.runWithConnection(copy.read, name, offset)
        return read.addCallback(lambda data: pack({"copy": id, "offset": offset}, data))

    # The copy's life

    def _begin(self) -> None:
        self._copy = _Copy(self._folder)
        self._pool = reading.pool(
            self._folder,
            "ro",
            lambda connection: reading.lower_priority(NICE),
            _touch,
            self._reactor,
        )
        made: Deferred[None] = self._pool.runWithConnection(self._copy.make)
        made.addCallbacks(self._made, self._not_made)

    def _made(self, _: None) -> None:
        copy = self._copy
        if copy is None or copy.unwanted:
            return
        self._ready = True
        size = sum(file.size for file in copy.files.values())
        self._latest = self._reactor.seconds() + SILENCE + size / SLOWEST
        self._log.info(
            "a copy of {size} bytes is ready for a new node", event="copy-ready", size=size
        )
        self._expect_questions()

    def _not_made(self, failure: Failure) -> None:
        if self._copy is not None and not self._copy.unwanted:
            reason = explain(failure.value)
            self._log.error(
                "can't make a copy for a new node: {reason}", event="copy-failed", reason=reason
            )
            self._problem = f"node {self._node} can't make a copy: {reason}"
            self._delete()

    def _expect_questions(self) -> None:
        """Postpone the deletion of the copy."""
        now = self._reactor.seconds()
        pause = max(0.0, min(SILENCE, self._latest - now))
        if self._expiry is None:
            self._expiry = self._reactor.callLater(pause, self._delete)
        else:
            self._expiry.reset(pause)

    def _delete(self) -> None:
        copy = self._copy
        assert copy is not None
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        self._expiry = None
        self._ready = False
        if not copy.unwanted:
            copy.unwanted = True
            # In the thread, after what it does now.
            self._pool.runWithConnection(copy.close).addBoth(self._deleted)

    def _deleted(self, _: object) -> None:
        self._pool.close()
        self._copy = self._pool = None
        if self._stopped is not None:
            self._stopped.callback(None)


class _File(NamedTuple):
    descriptor: int
    size: int
    digest: str


class _Copy:
    """The copy of a node's files. Its methods run in a thread, one at a time.

    :ivar id: identifies the copy.
    :ivar files: the copied files by their names, when the copy is ready.
    :ivar unwanted: set to give the copy up.
    """

    def __init__(self, folder: Path) -> None:
        self.id = secrets.token_hex(8)
        self.files: dict[str, _File] = {}
        self.unwanted = False
        self._folder = folder
        self._open: list[int] = []

    def make(self, connection: sqlite3.Connection) -> None:
        """Copy the files, as they are now. Writers don't wait for it.

        :raises FilesError: if there is too little space.
        :raises sqlite3.Error, OSError: if they can't be copied.
        """
        _require_space(self._folder)
        made = self._folder / OFFERED
        remove(made)
        made.mkdir(mode=0o700)
        try:
            files = {}
            for name in _snapshot(connection, self._folder, made, self._go_on):
                descriptor = os.open(made / name, os.O_RDONLY | os.O_CLOEXEC)
                self._open.append(descriptor)
                files[name] = _File(
                    descriptor, os.fstat(descriptor).st_size, self._digest(descriptor)
                )
            self.files = files
        finally:
            remove(made)  # the open files have no names then, so they are gone when the process is

    def _go_on(self, *progress: object) -> None:
        if self.unwanted:
            raise InterruptedError

    def _digest(self, descriptor: int) -> str:
        digest = hashlib.sha256()
        offset = 0
        while data := os.pread(descriptor, 4 * PIECE, offset):
            self._go_on()
            digest.update(data)
            offset += len(data)
        return digest.hexdigest()

    def read(self, connection: object, name: str, offset: int) -> bytes:
        """Return a piece."""
        return os.pread(self.files[name].descriptor, PIECE, offset)

    def close(self, connection: object) -> None:
        """Delete the copy."""
        self.files = {}
        while self._open:
            os.close(self._open.pop())


def _snapshot(
    connection: sqlite3.Connection, folder: Path, made: Path, go_on: Callable[..., None]
) -> list[str]:
    """Copy the archive and, if it can be read, the index. Return the names of the files.

    The index is the later one of the two. So it may already lack what the archive has to delete,
    which the maintenance expects; and it may be ahead of the archive, which the start notices.
    """
    schemas = {archive.FILE: "main"}
    if not (folder / index.DAMAGED).exists():
        with contextlib.suppress(sqlite3.Error):
            index.attach(connection, folder, read_only=True)
            schemas[index.FILE] = "looked_up"
    connection.execute("BEGIN")
    try:
        for schema in schemas.values():
            # From now on the transaction sees this moment of the file.
            connection.execute(f"SELECT count(*) FROM {schema}.sqlite_schema").fetchone()
        for name, schema in schemas.items():
            make_file(made / name)
            with contextlib.closing(sqlite3.connect(made / name)) as target:
                target.execute("PRAGMA synchronous = OFF")  # it need not outlive the process
                connection.backup(target, pages=STEP, progress=go_on, name=schema)
                target.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.rollback()
    return list(schemas)


def _require_space(folder: Path) -> None:
    needed = 0
    for name in FILES:
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                needed += (folder / f"{name}{suffix}").stat().st_size
    if shutil.disk_usage(folder).free < SPARE * needed:
        raise FilesError(f"there is too little free space for a copy of {size_of(needed)}")


def _touch(cursor: Cursor) -> None:
    cursor.execute("SELECT 1 FROM progress")
    cursor.fetchall()
