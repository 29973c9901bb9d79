"""A new node of a cluster copies the archive and the index of a node that runs.

This is the new node's side, and the form of the questions and answers; the other side is in
``offering``. It runs before the new node has a reactor. This module must not know which program
stores the log, or the rules of the chat.

All questions and answers are a line with a JSON object; data may follow. Every node answers a
question about ``TOPIC`` with ``{"topic": ..., "node": ...}``, a topic of its own. The question
``{"copy": ""}`` there begins a copy; the answer is ``{"making": true}``. When the copy is ready, it
is ``{"copy": ID, "files": [[NAME, SIZE, SHA-256], ...]}``. The question ``{"copy": ID, "file":
NAME, "offset": N}`` asks for a piece, which follows the answer's object. An answer with
``{"error": ...}`` says why there is no other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from chat_twisted.files import Say
from chat_twisted.storage import archive, clustered, index, upgrade
from chat_twisted.storage.log import Bounds, Unknown
from chat_twisted.storage.sql import damage, sync
from chat_twisted.storage.upgrade import ArchiveError
from chat_twisted.text import printable

TOPIC = "copy"
"""The topic of the question for a node that can be copied."""

FILES = (archive.FILE, index.FILE)

RECEIVED = "copy-from-another"
"""The folder in the state folder in which a new node receives a copy."""

PATIENCE = 10.0
"""Seconds to wait for an answer."""

TRIES = 3
TRY_AFTER = 1.0
"""How many times a question is asked, and the seconds between two of these times."""

ATTEMPTS = 5
ATTEMPT_AFTER = 3.0
"""How many times a copy is begun, and the seconds between two of these times. Perhaps another node
answers then."""

ASK_AFTER = 0.25
"""Seconds between two questions whether the copy is ready."""

REPORT_EVERY = 64 * 2**20
"""Bytes after which the progress is reported, if they are at least a tenth of the whole."""

Sleep = Callable[[float], Awaitable[object]]


class Peer(Protocol):
    """What a new node uses of the log."""

    def bounds(self) -> Awaitable[Bounds]:
        """See ``Log.bounds``."""

    def ask(self, topic: str, data: bytes, patience: float) -> Awaitable[bytes]:
        """See ``Log.ask``."""


class NotCopied(Exception):
    """An attempt to copy has failed; another one may succeed. The message is for the operator."""


async def fetch(peer: Peer, folder: Path, say: Say, sleep: Sleep = asyncio.sleep) -> None:
    """Copy the files of another node into a state folder.

    They appear in the folder when they are complete and checked, the archive last. If this is
    interrupted at any moment, the next call begins anew.

    :param folder: as ``files.make_private_folder`` returns it; it has no archive.
    :param say: reports one line to the operator.
    :raises ArchiveError: if there is no copy.
    """
    received = folder / RECEIVED
    problem = ""
    try:
        for attempt in range(ATTEMPTS):
            if attempt:
                say(f"{problem}; trying again")
                await sleep(ATTEMPT_AFTER)
            remove(received)
            received.mkdir(mode=0o700)
            try:
                await _Fetching(peer, received, say, sleep).run()
                _put(received, folder)
            except NotCopied as error:
                problem = str(error)
            else:
                say("the copy is complete")
                return
    except (sqlite3.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArchiveError(f"{folder}: can't copy another node's archive: {reason}") from None
    finally:
        remove(received)
    raise ArchiveError(
        f"{folder}: no node's archive could be copied: {problem}; start a node that has all "
        "messages, or put a backup of it here (admin backup, admin restore), and start again"
    )


class _Fetching:
    """One attempt to copy the files of one node."""

    def __init__(self, peer: Peer, received: Path, say: Say, sleep: Sleep) -> None:
        self._peer = peer
        self._received = received
        self._say = say
        self._sleep = sleep
        self._topic = TOPIC
        self._done = 0
        self._size = 0
        self._reported = 0

    async def run(self) -> None:
        """Receive the files, and check them.

        :raises NotCopied: if the other node, or the way to it, is the reason for the failure.
        """
        try:
            found, _ = await self._ask({})
            self._topic, node = _topic_of(found), printable(str(found["node"]))
            opened = await self._open()
            files = [(str(name), int(size), str(digest)) for name, size, digest in opened["files"]]
            if {name for name, _, _ in files} not in ({*FILES}, {archive.FILE}):
                raise ValueError
            self._size = sum(size for _, size, _ in files)
            self._say(f"copying the archive of node {node}: {size_of(self._size)}")
            for name, size, digest in files:
                await self._receive(str(opened["copy"]), name, size, digest)
        except (KeyError, TypeError, ValueError):
            raise NotCopied("the other node's answer is not understood: another version?") from None
        try:
            bounds = await self._peer.bounds()
        except Unknown:
            raise NotCopied("the log does not answer any more") from None
        _check(self._received, node, bounds)

    async def _ask(self, question: Mapping[str, object]) -> tuple[dict[str, Any], bytes]:
        for remaining in reversed(range(TRIES)):
            try:
                answer = await self._peer.ask(self._topic, pack(question), PATIENCE)
                break
            except Unknown:
                if not remaining and self._topic == TOPIC:
                    raise NotCopied("no node answers") from None
                if not remaining:
                    raise NotCopied("the node that is copied does not answer any more") from None
            await self._sleep(TRY_AFTER)
        fields, data = unpack(answer)
        if "error" in fields:
            raise NotCopied(printable(str(fields["error"])))
        return fields, data

    async def _open(self) -> dict[str, Any]:
        """Wait until the other node has made a copy; return its answer."""
        while True:
            fields, _ = await self._ask({"copy": ""})
            if "files" in fields:
                return fields
            await self._sleep(ASK_AFTER)

    async def _receive(self, copy: str, name: str, size: int, digest: str) -> None:
        path = self._received / name
        computed = hashlib.sha256()
        offset = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            while offset < size:
                _, data = await self._ask({"copy": copy, "file": name, "offset": offset})
                if not data:
                    raise ValueError
                file.write(data)
                computed.update(data)
                offset += len(data)
                self._done += len(data)
                self._report()
        if computed.hexdigest() != digest:
            raise NotCopied("the copy was damaged on the way")

    def _report(self) -> None:
        if self._done - self._reported >= max(REPORT_EVERY, self._size / 10):
            self._reported = self._done
            self._say(f"copied {size_of(self._done)} of {size_of(self._size)}")


def _topic_of(found: Mapping[str, Any]) -> str:
    topic = found["topic"]
    if not re.fullmatch(rf"{TOPIC}\.[0-9a-z]+", topic):  # it becomes a part of a command
        raise ValueError
    return str(topic)


def _check(received: Path, node: str, bounds: Bounds) -> None:
    """Check a copy, and make it another archive than the one that was copied. It gets a stamp of
    its own, because the state folder may have another index.

    :raises NotCopied: if it is of no use.
    :raises ArchiveError: if it never will be.
    """
    try:
        with contextlib.closing(sqlite3.connect(received / archive.FILE)) as connection:
            [version] = connection.execute("PRAGMA user_version").fetchone()
            if version > upgrade.newest_schema():
                raise ArchiveError(
                    f"node {node} is of a newer version (schema {version}): install that here first"
                )
            if problems := damage(connection, "main", quick=True):
                raise NotCopied(f"the archive of node {node} is damaged: {problems[0]}")
            place = clustered.find_node(connection)
            if place is None or place.stream != bounds.identity:
                raise NotCopied(f"the archive of node {node} is not of this cluster")
            if place.applied + 1 < bounds.first:
                raise NotCopied(f"the log does not have what follows the archive of node {node}")
            clustered.forget_incarnation(connection)
            if not index.renew_stamp(connection, received):
                (received / index.FILE).unlink(missing_ok=True)  # the start makes it again
    except sqlite3.OperationalError:
        raise  # the disk is full
    except sqlite3.DatabaseError as error:
        raise NotCopied(f"the archive of node {node} is damaged: {error}") from None


def _put(received: Path, folder: Path) -> None:
    """Move the files to their places. The archive is the last one: with it the folder is one that
    was used before.
    """
    for name in (index.FILE, archive.FILE):
        if (received / name).exists():
            sync(received / name)
            for suffix in ("-wal", "-shm"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
            os.replace(received / name, folder / name)
            (folder / index.DAMAGED).unlink(missing_ok=True)
            sync(folder)


# Questions and answers


def remove(folder: Path) -> None:
    """Delete a folder with an unfinished copy, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def pack(fields: Mapping[str, object], data: bytes = b"") -> bytes:
    """Return a question or an answer."""
    return json.dumps(fields).encode() + b"\n" + data


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Parse a question or an answer.

    :raises ValueError: if it is none.
    """
    head, _, data = message.partition(b"\n")
    try:
        fields = json.loads(head)
    except RecursionError as error:
        raise ValueError from error
    if not isinstance(fields, dict):
        raise ValueError("no object")
    return fields, data


def size_of(count: int) -> str:
    """Return a number of bytes as text for the operator."""
    return f"{count / 2**20:,.1f} MiB"
