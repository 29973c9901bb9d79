"""Applies the records of a cluster's log to the state of this node, and writes what came of them.

All nodes apply the same records in the same order, and so decide the same. What was applied is
written in one transaction, with the position in the log. What is in the log can't be refused: if
the archive can't be written, this waits and tries again. This module must not know how records get
into the log, or the rules of the chat.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

from twisted.enterprise.adbapi import ConnectionLost
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chat_twisted.core.commands import Command
from chat_twisted.core.entries import Entry, Outcome, Progress
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.facts import Fact
from chat_twisted.core.ledger import Request
from chat_twisted.core.snapshot import load
from chat_twisted.core.state import State
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger
from chat_twisted.metrics import Commits
from chat_twisted.storage import records, replica, tables
from chat_twisted.storage.embedded import Writer
from chat_twisted.storage.log import LogBroken
from chat_twisted.storage.membership import Membership, Verdict
from chat_twisted.storage.outbox import LOCAL
from chat_twisted.storage.proposed import Item
from chat_twisted.storage.records import Record
from chat_twisted.storage.replica import Replica, Step
from chat_twisted.storage.sql import Cursor

WRITE_AGAIN = 1.0
"""Seconds between two attempts to write what the log has decided, or to load the state again."""

KNOWN_CHAINS = 10_000
"""How many positions are kept with their hash chain, to compare it with those of other nodes."""


class Unwritable(Exception):
    """What came of some records can't be written, however often one tries."""


class Applied(NamedTuple, Generic[Request]):
    """What came of some records.

    :ivar outcomes: the outcomes of their commands, each with its request; None for those of others.
    :ivar changes: all facts.
    :ivar verdicts: the decisions about the records that this node has appended and waits for, each
        with its record.
    :ivar turnover: those about the records, of any node, by which nodes have come or gone.
    :ivar heard: the names of the nodes whose records were taken.
    """

    outcomes: list[tuple[Outcome, Request | None]]
    changes: list[Fact]
    verdicts: list[tuple[Record, Verdict]]
    turnover: list[tuple[Record, Verdict]]
    heard: set[str]


class Applier(Generic[Request]):
    """The state, the members and the position of a node.

    :ivar state: the state. After a failure it is another object.
    :ivar membership: the nodes.
    :ivar position: the position up to which all records are applied, and ``chain`` the hash chain.
    :ivar commits: counts the commits.
    :ivar incarnation: the last incarnation of this node that became a member; 0 for none.
    :ivar is_failing: whether the archive can't be written at the moment.
    :param name: the name of this node.
    :param clock: a monotonic clock.
    :param reach: called with the time of each record, in milliseconds of the log's clock.
    :param items: returns the commands of a record with their requests, if this node has appended
        just these bytes and waits for them; else None.
    :param applied: called when records are applied and written.
    :param broken: called if the node can't go on, with the reason.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        writer: Writer,
        state: State,
        place: Replica,
        clock: IReactorTime,
        reach: Callable[[int], None],
        items: Callable[[Record, bytes], Sequence[Item[Request]] | None],
        applied: Callable[[Applied[Request]], Deferred[None] | None],
        broken: Callable[[str], None],
    ) -> None:
        self.state = state
        self.commits = Commits()
        self.membership = Membership(place.nodes)
        self.position = place.applied
        self.chain = place.chain
        self.incarnation = place.incarnation
        self._name = name
        self._writer = writer
        self._clock = clock
        self._reach = reach
        self._items = items
        self._applied = applied
        self._broken = broken
        self._chains = OrderedDict({place.applied: place.chain})
        self._agreeing: dict[str, bool] = {}  # whether a node had the same chain, last time
        self._faulty: set[tuple[int, int]] = set()  # commands on which the state has failed
        # The position of the record that is applied now, and the index of the command in it; -1 if
        # it is the record itself.
        self._at = (0, 0)
        # The facts of each command, while one is searched that can't be written.
        self._facts: list[tuple[tuple[int, int], Sequence[Fact]]] | None = None
        self._written = place.applied
        self._stopped = False
        self.is_failing = False

    def stop(self) -> None:
        """Don't try again what fails."""
        self._stopped = True

    @property
    def others_agree(self) -> tuple[list[str], list[str]]:
        """The other members that had the same hash chain as this node when they were last compared,
        and those that had not.
        """
        agree: list[str] = []
        differ: list[str] = []
        for node in self.membership.members:
            if (same := self._agreeing.get(node.name)) is not None:
                (agree if same else differ).append(node.name)
        return agree, differ

    def take(self, arrived: Sequence[tuple[int, bytes]]) -> Deferred[None] | None:
        """Apply records and write what came of them (``log.Taken``)."""
        taking = Deferred.fromCoroutine(self._take(arrived))
        if taking.called and not isinstance(taking.result, Failure):
            return None
        return taking.addErrback(self._fault)

    def _fault(self, failure: Failure) -> Deferred[None]:
        self._log.failure("while records were applied", failure)
        return self._break("records can't be applied; the log of this server says more")

    def _break(self, reason: str) -> Deferred[None]:
        """Report that the node can't go on.

        :return: never fires, so that no further record is taken.
        """
        if not self._stopped:
            self._stopped = True
            self._broken(reason)
        return Deferred()

    async def _take(self, arrived: Sequence[tuple[int, bytes]]) -> None:
        while True:
            done = await self._apply_or_leave_out(arrived)
            try:
                await self._write(done)
                break
            except Unwritable as error:
                await self._find_unwritable(arrived, error)
        self._faulty.clear()
        held = self._applied(done)
        if held is not None:
            await held

    # Applying

    async def _apply_or_leave_out(self, arrived: Sequence[tuple[int, bytes]]) -> Applied[Request]:
        """Apply records without the commands at which the state fails."""
        while True:
            try:
                return self._apply(arrived)
            except (LogBroken, records.TooNew) as error:
                await self._break(str(error))
            except Exception:  # noqa: BLE001  a defect must not stop the cluster
                position, index = self._at
                self._log.failure(
                    "the state has failed at command {index} of record {position}",
                    index=index,
                    position=position,
                )
                await self._leave_out(self._at)

    async def _leave_out(self, at: tuple[int, int]) -> None:
        """Load the state again, and leave out a command from now on. It fails on all nodes, so all
        of them do.
        """
        if at in self._faulty:
            await self._break("records can't be applied; the log of this server says more")
        self._faulty.add(at)
        await self._load()

    def _apply(self, arrived: Sequence[tuple[int, bytes]]) -> Applied[Request]:
        done: Applied[Request] = Applied([], [], [], [], set())
        for position, data in arrived:
            if position != self.position + 1:
                raise LogBroken(
                    f"the log goes on at {position}, and this node has applied it up to "
                    f"{self.position}"
                )
            self._at = (position, -1)
            record = self._read(position, data)
            if record is None:
                self._advance(position, records.link(self.chain, position, ()))
            else:
                self._apply_record(position, record, self._items(record, data), done)
        return done

    def _read(self, position: int, data: bytes) -> Record | None:
        """Return a record; None if it is not one that all members can read. All of them ignore it.

        :raises TooNew: if all members can read it, but not this program.
        """
        try:
            return records.decode(data)
        except records.Unreadable as error:
            reason = str(error)
        except records.TooNew as error:
            if error.version <= self.membership.format:
                raise
            reason = f"the members don't know version {error.version} of the format"
        self._log.error(
            "record {position} of the log is not one of this program: {reason}",
            event="record-unreadable",
            position=position,
            reason=reason,
        )
        return None

    def _apply_record(
        self,
        position: int,
        record: Record,
        own: Sequence[Item[Request]] | None,
        done: Applied[Request],
    ) -> None:
        """Apply one record.

        :param own: its commands with their requests, if this node has appended it.
        """
        membership = self.membership
        before = membership.format
        first = len(done.changes)
        if self._at in self._faulty or record.format > before:
            verdict = Verdict(taken=False)  # a member may not know its format
        else:
            verdict = membership.take(record, position, self.state.options)
        if verdict.taken:
            self._reach(record.time)
            for start in verdict.before:
                self._decide(record.time, start, None, done)
            self._apply_commands(position, record, own, done)
            for start in verdict.after:
                self._decide(record.time, start, None, done)
            if record.up is not None and own is not None:
                self.incarnation = record.incarnation
            done.heard.add(record.node)
        if own is not None:
            done.verdicts.append((record, verdict))
        is_turnover = bool(verdict.before or verdict.after)  # a member has come or gone
        if is_turnover:
            done.turnover.append((record, verdict))
        chain = records.link(self.chain, position, done.changes[first:])
        if is_turnover and membership.format != before:
            # Versions may have other facts, so the chain begins anew.
            chain = records.link(b"", position, ())
            self._chains.clear()
        else:
            self._compare(record)
        self._advance(position, chain)

    def _apply_commands(
        self,
        position: int,
        record: Record,
        own: Sequence[Item[Request]] | None,
        done: Applied[Request],
    ) -> None:
        if own is None:
            for index, command in enumerate(record.commands):
                self._at = (position, index)
                self._decide(record.time, command, None, done)
            return
        index = 0
        for command, request in own:
            if type(command) in LOCAL:  # it has no index, since other nodes don't have it
                self._at = (position, -2)
                self._decide(record.time, command, request, done)
            else:
                self._at = (position, index)
                self._decide(record.time, record.commands[index], request, done)
                index += 1

    def _decide(
        self, time: int, command: Command, request: Request | None, done: Applied[Request]
    ) -> None:
        if self._faulty and self._at in self._faulty:
            outcome = Outcome((), Unavailable("the server has failed at this"))
        else:
            outcome = self.state.apply(Entry(time, command))
        done.outcomes.append((outcome, request))
        if outcome.facts:
            done.changes.extend(outcome.facts)
            if self._facts is not None:
                self._facts.append((self._at, outcome.facts))

    def _compare(self, record: Record) -> None:
        if record.node != self._name:
            known = self._chains.get(record.position)
            if known is not None:
                self._agreeing[record.node] = known == record.chain

    def _advance(self, position: int, chain: bytes) -> None:
        self.position = position
        self.chain = self._chains[position] = chain
        if len(self._chains) > KNOWN_CHAINS:
            self._chains.popitem(last=False)

    # The archive

    async def _write(self, done: Applied[Request]) -> None:
        nodes = self.membership.changes()
        progress = self.state.progress
        position = self.position
        step = Step(self._written, position, self.chain, self.incarnation)
        self.is_failing = False
        while True:
            begun = self._clock.seconds()
            try:
                await self._writer.write(replica.write, done.changes, progress, step, nodes)
                break
            except replica.ForeignWriter as error:
                await self._break(str(error))
            except Exception as error:  # it is in the log, so it must be written
                self.commits.failed += 1
                if not _may_pass(error):
                    raise Unwritable(explain(error)) from error
                if not self.is_failing:
                    self._log.error(
                        "can't write: {reason}", event="write-failed", reason=explain(error)
                    )
                    self.is_failing = True
            await self._wait()
        self._written = position
        self.commits.seconds.add(self._clock.seconds() - begun)
        self.commits.commands.add(len(done.outcomes))
        if self.is_failing:
            self.is_failing = False
            self._log.info("can write again", event="write-resumed")

    async def _find_unwritable(
        self, arrived: Sequence[tuple[int, bytes]], problem: Unwritable
    ) -> None:
        """Find the first command whose facts can't be written, and leave it out. The archives are
        equal, so all nodes find the same one.
        """
        await self._load()
        self._facts = []
        await self._apply_or_leave_out(arrived)
        facts, self._facts = self._facts, None
        progress = self.state.progress
        while True:
            try:
                found = await self._writer.write(_first_unwritable, facts, progress)
                break
            except Exception as error:  # noqa: BLE001  it is tried again
                self._log.error(
                    "can't write: {reason}", event="write-failed", reason=explain(error)
                )
            await self._wait()
        if found is None:
            await self._break(f"what the log has decided can't be written: {problem}")
        else:
            position, index = found
            self._log.error(
                "command {index} of record {position} is left out, because what it leads to can't "
                "be written: {problem}",
                event="command-left-out",
                index=index,
                position=position,
                problem=str(problem),
            )
            await self._leave_out(found)

    async def _load(self) -> None:
        """Load the state as it was after the last commit."""
        while True:
            try:
                snapshot, place = await self._writer.write(replica.load_all, self._name)
                break
            except Exception as error:  # noqa: BLE001  it is tried again
                self._log.error(
                    "can't read the archive: {reason}",
                    event="archive-failed",
                    reason=explain(error),
                )
            await self._wait()
        self.state = load(snapshot)
        self.membership = Membership(place.nodes)
        self.position, self.chain = place.applied, place.chain

    async def _wait(self) -> None:
        if self._stopped:
            await Deferred()  # for ever
        await deferLater(self._clock, WRITE_AGAIN)


def _may_pass(error: Exception) -> bool:
    """Return whether a failure to write is due to the disk, or the files, and not to the values."""
    return isinstance(error, sqlite3.OperationalError | OSError | MemoryError | ConnectionLost) or (
        type(error) in (sqlite3.DatabaseError, sqlite3.InternalError)
    )


def _first_unwritable(
    cursor: Cursor,
    facts: Sequence[tuple[tuple[int, int], Sequence[Fact]]],
    progress: Progress,
) -> tuple[int, int] | None:
    """Return where the first command is whose facts can't be written; None if all can be. Nothing
    stays written.

    :param facts: the facts of the commands, each with the place of the command.
    """
    cursor.execute("SAVEPOINT attempt")
    try:
        for place, changes in facts:
            try:
                tables.write(cursor, changes, progress)
            except Exception as error:
                if _may_pass(error):
                    raise
                return place
    finally:
        cursor.execute("ROLLBACK TO attempt")
        cursor.execute("RELEASE attempt")
    return None
