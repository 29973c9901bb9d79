"""Nodes whose archives can be copied, and the log between them, in one process."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from chat_twisted.core.message import Message
from chat_twisted.storage import archive, copying, index
from chat_twisted.storage.log import Bounds, LogBroken, Unknown
from chat_twisted.storage.offering import Copies
from tests.store import write

STREAM = "the log"


class Questions:
    """The questions and answers of a log, without delay.

    :ivar limits: what ``bounds`` returns; None while the log does not answer.
    :ivar broken: why the log can't be followed; empty if it can.
    :ivar asked: the topics of all questions.
    :ivar pieces: how many questions for pieces there were.
    :ivar closed: how often it was closed.
    :ivar between: called before each question; it may raise ``Unknown``.
    :ivar change: what arrives of an answer.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Callable[[bytes], Deferred[bytes]]]] = {}
        self.limits: Bounds | None = Bounds(STREAM, 8, 20)
        self.broken = ""
        self.asked: list[str] = []
        self.pieces = 0
        self.closed = 0
        self.between: Callable[[], None] = lambda: None
        self.change: Callable[[bytes], bytes] = lambda answer: answer

    def answer(self, topic: str, answer: Callable[[bytes], Deferred[bytes]]) -> None:
        self.answers.setdefault(topic, []).append(answer)

    def bounds(self) -> Deferred[Bounds]:
        if self.broken:
            return fail(LogBroken(self.broken))
        return fail(Unknown("no answer")) if self.limits is None else succeed(self.limits)

    def ask(self, topic: str, data: bytes, patience: float) -> Deferred[bytes]:
        self.asked.append(topic)
        self.pieces += b'"offset"' in data
        try:
            self.between()
            [first, *_] = self.answers[topic]
        except (KeyError, ValueError, Unknown):
            return fail(Unknown("no answer"))
        return first(data).addCallbacks(self.change, lambda _: fail(Unknown("no answer")))

    async def close(self) -> None:
        self.closed += 1

    def stop_answering(self) -> None:
        """The node is killed."""
        self.answers.clear()


class ThreadsAndClock:
    """The reactor, with the time of a test."""

    def __init__(self, clock: Clock) -> None:
        self.callLater = clock.callLater
        self.seconds = clock.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


def fill(folder: Path, texts: int = 20, *, applied: int | None = 10, stream: str = STREAM) -> None:
    """Make an archive with messages, and an index.

    :param applied: its position in the log; None for the archive of a single server.
    """
    archive.prepare(folder)
    with closing(archive.connect(folder / archive.FILE)) as connection:
        messages = [
            Message(number, number, 1, "alice", 0, 0, "ALL", f"text {number}", str(number))
            for number in range(1, texts + 1)
        ]
        write(connection.cursor(), messages)
        if applied is not None:
            connection.execute(
                "INSERT INTO cluster VALUES (?, ?, x'', 'peer', 3)", (stream, applied)
            )
        connection.commit()
    archive.prepare(folder)


def texts(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / archive.FILE)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM message")]


def indexed(folder: Path) -> int:
    """Up to which number the index has the messages; 0 if it is not the archive's."""
    with closing(sqlite3.connect(folder / archive.FILE)) as connection:
        index.attach(connection, folder)
        found = connection.execute("SELECT upto FROM indexed JOIN progress USING (stamp)")
        [upto] = found.fetchone() or [0]
        return upto


def not_now(seconds: float) -> Deferred[None]:
    """Wait in the time of the test: give threads and the reactor a turn."""
    return deferLater(reactor, 0.001, lambda: None)


class CopyTestCase(TestCase):
    """A node with 20 messages that offers copies, and the empty folder of a new one."""

    timeout = 60

    def setUp(self) -> None:
        self.peer = self.make_folder()
        self.folder = self.make_folder()
        self.clock = Clock()
        self.log = Questions()
        self.said: list[str] = []
        fill(self.peer)

    def make_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def offer(self, folder: Path | None = None, node: str = "peer") -> Copies:
        copies = Copies(folder or self.peer, node, self.log, ThreadsAndClock(self.clock))  # type: ignore[arg-type]
        self.addCleanup(copies.stop)
        return copies

    def fetch(self, folder: Path | None = None) -> Deferred[None]:
        return Deferred.fromCoroutine(
            copying.fetch(self.log, folder or self.folder, self.said.append, not_now)
        )

    def offer_at_once(self) -> None:
        """Offer the files without a reactor and its threads, and in pieces of any size."""
        data = {name: (self.peer / name).read_bytes() for name in copying.FILES}
        files = [[name, len(of), sha256(of).hexdigest()] for name, of in data.items()]

        def answer(question: bytes) -> Deferred[bytes]:
            asked, _ = copying.unpack(question)
            if "copy" not in asked:
                return succeed(copying.pack({"topic": "copy.peer", "node": "peer"}))
            if "offset" not in asked:
                return succeed(copying.pack({"copy": "1", "files": files}))
            return succeed(copying.pack({}, data[asked["file"]][asked["offset"] :]))

        self.log.answer(copying.TOPIC, answer)
        self.log.answer("copy.peer", answer)
