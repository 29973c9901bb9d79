"""A log in memory that several nodes share, with everything that can go wrong, and nodes on it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from chat_twisted.clocks import LogTime, SettledTime
from chat_twisted.core import snapshot
from chat_twisted.core.commands import Command, Options, Start
from chat_twisted.core.entries import Outcome
from chat_twisted.core.errors import Unavailable
from chat_twisted.storage import archive, replica, tables
from chat_twisted.storage.log import Bounds, LogBroken, NotTaken, Taken, Unknown
from chat_twisted.storage.membership import node_number
from chat_twisted.storage.replicated import ReplicatedLedger

EPOCH = 1_800_000_000.0
OPTIONS = Options()


class MemoryLog:
    """The log, of which each node has a ``Line``.

    :ivar records: the stored records, the first at ``first``.
    :ivar refusing: why no record is taken now; None if it is.
    :ivar limit: how many records are stored at most; None for no limit.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.identity = "one"
        self.first = 1
        self.records: list[bytes] = []
        self.refusing: NotTaken | None = None
        self.limit: int | None = None
        self.lines: list[Line] = []

    @property
    def last(self) -> int:
        return self.first - 1 + len(self.records)

    def line(self) -> Line:
        line = Line(self)
        self.lines.append(line)
        return line

    def add(self, data: bytes) -> int:
        self.records.append(data)
        for line in self.lines:
            line.plan()
        return self.last

    def purge(self, below: int) -> None:
        count = max(0, below - self.first)
        del self.records[:count]
        self.first += count


class Line:
    """What one node has of the log (``log.Log``).

    :ivar cut: nothing goes to or comes from the log.
    :ivar loses_answers: appended records are taken, but that is not said.
    :ivar delays: appended records are not taken before ``deliver_late`` is called.
    :ivar repeats: how often each appended record is taken.
    :ivar holds_back: records are not handed on.
    :ivar cannot_purge: a purge is not answered.
    """

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.cut = False
        self.broken = ""
        self.loses_answers = False
        self.delays = False
        self.repeats = 1
        self.holds_back = False
        self.cannot_purge = False
        self.closed = False
        self.purged: list[int] = []
        self._late: list[bytes] = []
        self._position = 0
        self._take: Taken | None = None
        self._broken: Callable[[LogBroken], None] | None = None
        self._busy = False
        self._planned = False
        self._heard: dict[str, Callable[[bytes], None]] = {}

    def append(self, data: bytes) -> Deferred[int]:
        if self.cut or self.closed:
            return fail(NotTaken("not connected"))
        if self.log.refusing is not None:
            return fail(self.log.refusing)
        if self.log.limit is not None and len(self.log.records) >= self.log.limit:
            return fail(NotTaken("maximum bytes exceeded", full=True))
        if self.delays:
            self._late.append(data)
            return fail(Unknown("no answer"))
        for _ in range(self.repeats):
            position = self.log.add(data)
        if self.loses_answers:
            return fail(Unknown("no answer"))
        return succeed(position)

    def deliver_late(self) -> None:
        """Take the records that were delayed."""
        late, self._late = self._late, []
        for data in late:
            self.log.add(data)

    def follow(self, after: int, take: Taken, broken: Callable[[LogBroken], None]) -> None:
        self._position, self._take, self._broken = after, take, broken
        if self.log.last < after:
            broken(LogBroken("the log is shorter"))
            return
        self.plan()

    def plan(self) -> None:
        if not self._planned:
            self._planned = True
            self.log.clock.callLater(0, self._hand_on)

    def _hand_on(self) -> None:
        self._planned = False
        if self._take is None or self._busy or self.cut or self.holds_back or self.closed:
            return
        log = self.log
        if self._position + 1 < log.first:
            assert self._broken is not None
            self._take = None
            self._broken(LogBroken("records are missing"))
            return
        arrived = [
            (position, log.records[position - log.first])
            for position in range(self._position + 1, log.last + 1)
        ]
        if not arrived:
            return
        self._position = log.last
        waits = self._take(arrived)
        if waits is not None:
            self._busy = True
            waits.addCallback(self._go_on)

    def _go_on(self, result: None) -> None:
        self._busy = False
        self.plan()

    def bounds(self) -> Deferred[Bounds]:
        if self.cut:
            return fail(Unknown("not connected"))
        if self.broken:
            return fail(LogBroken(self.broken))
        return succeed(Bounds(self.log.identity, self.log.first, self.log.last))

    def purge(self, below: int) -> Deferred[None]:
        if self.cannot_purge:
            return fail(Unknown("no answer"))
        self.purged.append(below)
        self.log.purge(below)
        return succeed(None)

    def tell(self, topic: str, data: bytes) -> None:
        if self.cut:
            return
        for line in self.log.lines:
            if line is not self and not line.cut and not line.closed and topic in line._heard:
                line._heard[topic](data)

    def hear(self, topic: str, heard: Callable[[bytes], None]) -> None:
        self._heard[topic] = heard

    def ask(self, topic: str, data: bytes, patience: float) -> Deferred[bytes]:
        return fail(Unknown("nobody answers"))

    def answer(self, topic: str, answer: Callable[[bytes], Deferred[bytes]]) -> None:
        pass

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


class FileWriter:
    """Writes an archive (``embedded.Writer``).

    :ivar takes: the seconds after which writing begins; if 0, it is done within the call.
    :ivar broken: the exception with which writing fails; None if it works.
    :ivar after_commit: the exception that is raised once after a commit that has worked.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self.takes = 0.0
        self.broken: Exception | None = None
        self.after_commit: Exception | None = None

    def write(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        if not self.takes:
            return self._write(function, *args, **kw)
        waiting = deferLater(self._clock, self.takes, self._write, function, *args, **kw)
        return waiting

    def _write(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        if self.broken is not None:
            return fail(self.broken)
        try:
            result = function(self._connection.cursor(), *args, **kw)
            self._connection.commit()
        except Exception:  # noqa: BLE001  passed to the caller
            self._connection.rollback()
            return fail()
        if self.after_commit is not None:
            error, self.after_commit = self.after_commit, None
            return fail(error)
        return succeed(result)


class Node:
    """A node: a ledger over the log, with an archive, and what it has reported.

    :ivar committed: the outcomes, each with its request.
    :ivar refused: the requests of commands that have failed, each with the reason.
    :ivar said: what it has said about being reachable.
    :param ahead: seconds by which its time of day is ahead of that of others.
    """

    def __init__(
        self,
        log: MemoryLog,
        name: str,
        folder: Path,
        options: Options = OPTIONS,
        ahead: float = 0,
    ) -> None:
        self.name = name
        self.after = 0
        self.folder = folder
        self.options = options
        self.line = log.line()
        opened = archive.prepare(folder, wall=lambda: EPOCH + ahead)
        self.connection = archive.connect(folder / archive.FILE)
        self.writer = FileWriter(self.connection, log.clock)
        state = snapshot.load(opened.snapshot)
        clock = log.clock
        settled = SettledTime(clock.seconds, lambda: EPOCH + ahead + clock.seconds(), None)
        self.committed: list[tuple[Outcome, Any]] = []
        self.refused: list[tuple[Any, str]] = []
        self.said: list[str] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.ledger: ReplicatedLedger[Any] = ReplicatedLedger(
            self.writer,
            state,
            clock,
            LogTime(clock.seconds, settled, state.time),
            self.line,
            name,
            replica.load(self.connection.cursor(), name),
        )
        self.number = node_number(name)

    def start(self) -> None:
        self.ledger.start(self.committed.extend, self._failed, self.acknowledged.extend)
        self.ledger.propose(Start(self.number, self.options, self.after), None)
        self.ledger.begin(self)

    def reachable(self) -> None:
        self.said.append("reachable")

    def unreachable(self, reason: str) -> None:
        self.said.append(f"unreachable: {reason}")

    def broken(self, reason: str) -> None:
        self.said.append(f"broken: {reason}")

    def _failed(self, batch: Sequence[tuple[Command, Any]], error: Unavailable) -> None:
        self.refused += [(request, str(error)) for _, request in batch]

    def propose(self, command: Command, request: Any) -> None:
        self.ledger.propose(command, request)

    def result(self, request: Any) -> Any:
        """Return the result that was reported for a request; it must be one."""
        [result] = [outcome.result for outcome, asked in self.committed if asked == request]
        return result

    @property
    def requests(self) -> list[Any]:
        """The requests whose outcomes were reported, in order."""
        return [asked for _, asked in self.committed if asked is not None]

    def kill(self) -> None:
        """End the node without a word."""
        self.line.closed = True
        self.ledger._end()
        self.connection.close()


class ClusterTestCase(TestCase):
    """Nodes a, b, ... on one log.

    ``run_for`` advances the clock in small steps.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.log = MemoryLog(self.clock)
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.nodes: list[Node] = []

    def node(
        self, name: str, options: Options = OPTIONS, *, folder: str = "", ahead: float = 0
    ) -> Node:
        path = self.root / (folder or name)
        path.mkdir(exist_ok=True)
        node = Node(self.log, name, path, options, ahead)
        self.nodes.append(node)
        self.addCleanup(node.connection.close)
        node.start()
        return node

    def up(self, *names: str) -> list[Node]:
        """Start nodes, and wait until they are members."""
        nodes = [self.node(name) for name in names]
        self.run_for(0.5)
        for node in nodes:
            self.assertEqual(node.said, ["reachable"], node.name)
        return nodes

    def run_for(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        for _ in range(5):
            self.clock.advance(0)
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(0.05)
            for _ in range(4):
                self.clock.advance(0)

    def assert_equal_archives(self, *nodes: Node) -> None:
        """All nodes have the same state, in memory and in their files, and the same chain."""
        first, *others = nodes
        for node in nodes:
            stored = tables.load(node.connection.cursor())
            self.assertEqual(stored.progress, node.ledger.state.progress)
            loaded = snapshot.dump(snapshot.load(stored))
            self.assertEqual(loaded, snapshot.dump(node.ledger.state))
        for other in others:
            self.assertEqual(other.ledger.status()["position"], first.ledger.status()["position"])
            self.assertEqual(other.ledger.status()["chain"], first.ledger.status()["chain"])
            self.assertEqual(snapshot.dump(other.ledger.state), snapshot.dump(first.ledger.state))
