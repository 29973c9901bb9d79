"""The ledger of a node of a cluster: commands in the order of a log that all nodes share.

A node puts the commands of its sessions into the log (``outbox``), and applies all records that it
finds there, its own and those of others (``applying``). This module joins the two, and the parts
that make the node a member (``admission``), do what a member does (``duties``), and say when it is
out of touch (``contact``). It keeps the node's lease by a record a second. It must not know
connections, the rules of the chat, SQL, or the program that keeps the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Generic

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.clocks import LogTime
from chat_twisted.core.commands import Command, Start
from chat_twisted.core.entries import Entry
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.facts import Fact
from chat_twisted.core.ledger import Acknowledged, Committed, Failed, Request
from chat_twisted.core.message import Message
from chat_twisted.core.snapshot import dump
from chat_twisted.core.state import State
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.logs import Logger
from chat_twisted.metrics import Commits, Histogram
from chat_twisted.storage import records
from chat_twisted.storage.admission import Admission
from chat_twisted.storage.agreement import Agreement
from chat_twisted.storage.applying import Applied, Applier
from chat_twisted.storage.contact import Contact, Watcher
from chat_twisted.storage.cursors import Cursors
from chat_twisted.storage.duties import Duties
from chat_twisted.storage.embedded import Writer
from chat_twisted.storage.forgetting import Forgetting
from chat_twisted.storage.log import Log, LogBroken, Unknown
from chat_twisted.storage.membership import Verdict, node_number
from chat_twisted.storage.outbox import Batch, Notes, Outbox
from chat_twisted.storage.proposed import RETRY_AFTER, Item, Reports
from chat_twisted.storage.records import FORMAT, Record
from chat_twisted.storage.replica import Replica

BEAT = 1.0
"""Seconds after which a record is appended if nothing else was."""

CHECK = 0.25
"""Seconds between two looks at what is due."""

GIVEN_UP = "the other nodes had no sign of life from it"
"""Why the sessions of a node end that is gone, part of a sentence."""

DOWN_WITHIN = 2.0
"""Maximum time for saying that the node ends, in seconds."""


class ReplicatedLedger(Generic[Request]):
    """Implements ``ledger.Ledger`` on a log that several nodes share.

    :ivar rounds: the seconds from the first attempt to append a batch until it was found in the log
        and decided.
    :param writer: writes the archive.
    :param state: the state, as it is in the archive.
    :param clock: a monotonic clock.
    :param log_time: the log's time.
    :param log: the log.
    :param name: the name of this node.
    :param place: the place of the archive in the cluster; None if it has none yet.
    :param turn: the commands of one turn are one batch, at its end.
    :param written: as in ``EmbeddedLedger``.
    """

    _log = Logger()

    def __init__(
        self,
        writer: Writer,
        state: State,
        clock: IReactorTime,
        log_time: LogTime,
        log: Log,
        name: str,
        place: Replica | None,
        turn: EndOfTurn | None = None,
        written: Callable[[int], Deferred[None] | None] = lambda number: None,
    ) -> None:
        self.name = name
        self.rounds = Histogram()
        self._clock = clock
        self._log_time = log_time
        self._to = log
        self._written = written
        self._contact = Contact(clock)
        begin = place
        if begin is None:
            chain = records.first_link(dump(state)) if state.version else b""
            begin = Replica("", 0, chain, name, 0)
        self._applier: Applier[Request] = Applier(
            name,
            writer,
            state,
            begin,
            clock,
            log_time.reach,
            self._items,
            self._applied,
            self._break,
        )
        self._reports: Reports[Request] = Reports()
        self._outbox: Outbox[Request] = Outbox(
            log,
            clock,
            EndOfTurn(clock) if turn is None else turn,
            lambda command: records.encode_command(command, self._format),
            self._encode,
            self._answer,
            self._reports.failed,
            self._refused,
        )
        self._admission: Admission[Request] = Admission(
            name,
            log,
            writer,
            clock,
            self._applier,
            self._outbox,
            place,
            self._founded,
            self._break,
        )
        # It may be later than the time of the last entry that has changed the state.
        log_time.reach(self._applier.membership.time)
        log_time.leads = False
        self._cursors: Cursors | None = None
        self._appended = clock.seconds()
        self._duties = Duties(name, log, clock, self._propose_or_drop)
        self._checking: IDelayedCall | None = None
        self._giving_up: IDelayedCall | None = None
        self._forgetting = Forgetting(lambda names: self._outbox.note(forget=names))
        self._agreement = Agreement()
        self._ended = False
        self._went_down: Deferred[None] | None = None

    @property
    def state(self) -> State:
        """See ``Ledger.state``."""
        return self._applier.state

    @property
    def has_backlog(self) -> bool:
        """See ``Ledger.has_backlog``."""
        return self._outbox.has_backlog

    @property
    def waiting(self) -> int:
        """The number of commands that wait for the next batch."""
        return self._outbox.waiting

    @property
    def commits(self) -> Commits:
        """Counts the commits of the archive."""
        return self._applier.commits

    @property
    def position(self) -> int:
        """The position in the log up to which all records are applied."""
        return self._applier.position

    @property
    def in_touch(self) -> bool:
        """Whether the node reaches its cluster, and serves."""
        return self._contact.is_made

    def start(
        self,
        committed: Committed[Request | None],
        failed: Failed[Request | None],
        acknowledged: Acknowledged,
    ) -> None:
        """See ``Ledger.start``."""
        self._reports.start(committed, failed)
        self._cursors = Cursors(self._to, self._clock, acknowledged)

    # Proposals

    def propose(self, command: Command, request: Request | None) -> None:
        """See ``Ledger.propose``. ``Start`` is what the node comes up with, when it has begun."""
        if isinstance(command, Start):
            self._admission.set_start(command.options, command.after)
        elif not self._contact.is_made:
            raise Unavailable("the server can't reach its cluster", retry_after=RETRY_AFTER)
        else:
            self._outbox.put(command, request)

    def acknowledge(self, user: int, number: int, *, lasting: bool = True) -> None:
        """See ``Ledger.acknowledge``. The log gets it now and then, and when the user's last
        session here ends.
        """
        if self._cursors is not None and not self._ended:
            self._cursors.move(user, number, lasting=lasting)

    def _choose_clock(self) -> None:
        """The first member's clock leads; all others follow the log's time. So whoever joins with a
        wrong clock does not end holds, sanctions and the leases of others.
        """
        members = self._applier.membership.members
        self._log_time.leads = (
            # By its incarnation: another node may have the name.
            members[0].incarnation in (self._admission.incarnation, self._applier.incarnation)
            if members
            else self._admission.has_caught_up
        )

    # Becoming a member

    def begin(self, watcher: Watcher) -> None:
        """Follow the log from now on, and become a member. Called when the process has forked.

        :param watcher: is told what happens.
        """
        self._contact.watcher = watcher
        following = Deferred.fromCoroutine(self._follow())
        following.addErrback(lambda fault: self._log.failure("while joining the cluster", fault))

    async def _follow(self) -> None:
        place = await self._admission.find_place()
        if place is None:
            return
        self._to.follow(place.applied, self._applier.take, self._log_broken)
        self._checking = self._clock.callLater(CHECK, self._check)
        self._come_up()

    def _come_up(self) -> None:
        """Ask to become a member, if all earlier records are applied."""
        if self._ended or not self._admission.has_caught_up or self._differs():
            return
        self._choose_clock()
        self._admission.ask()

    def _founded(self) -> None:
        """Called when a founder may serve, if it still is a member."""
        self._contact.came_back(None, is_ready=self._admission.is_member)

    def _log_broken(self, error: LogBroken) -> None:
        self._break(str(error))

    def _break(self, reason: str) -> None:
        if self._ended:
            return
        self._end()
        self._lose(reason)
        if self._contact.watcher is not None:
            self._contact.watcher.broken(reason)

    # Appending

    @property
    def _format(self) -> int:
        return min(FORMAT, self._applier.membership.format)

    def _encode(self, number: int, notes: Notes, encoded: Sequence[bytes]) -> bytes:
        applier = self._applier
        self._appended = self._clock.seconds()
        record = Record(
            self.name,
            self._admission.incarnation,
            number,
            self._log_time(),
            applier.position,
            applier.chain,
            *notes,
        )
        return records.encode(record, encoded, self._format)

    def _answer(self, items: Sequence[Item[Request]]) -> None:
        """Answer commands that change nothing."""
        time = self._log_time()
        self._reports.committed(
            [(self.state.apply(Entry(time, command)), request) for command, request in items]
        )

    def _refused(self, notes: Notes) -> None:
        """Called when a record was certainly not taken."""
        self._contact.refused()
        if notes.up is not None:
            self._admission.ask_later()
        self._forgetting.refused(notes.forget)
        if notes.down:
            self._is_down()

    # Following

    def _items(self, record: Record, data: bytes) -> Sequence[Item[Request]] | None:
        """Return the commands of the batch in flight if this record is it."""
        flight = self._outbox.flight
        if (
            flight is not None
            and record.number == flight.number
            and record.incarnation == self._admission.incarnation
            and record.node == self.name
            and data == flight.data  # a copy of this process may have appended another one
        ):
            return flight.items
        return None

    def _applied(self, done: Applied[Request]) -> Deferred[None] | None:
        """Called when records are applied and written."""
        self._duties.heard(done.heard)
        self._choose_clock()
        # Before the outcomes are reported: what is decided is not on its way any more.
        seen = [self._outbox.seen(record.number) for record, _ in done.verdicts]
        if done.outcomes:
            self._reports.committed(done.outcomes)
        for batch, (record, verdict) in zip(seen, done.verdicts, strict=True):
            if batch is not None:  # else it is there twice
                self._seen(batch, record, verdict)
        if self._admission.is_member:
            for record, verdict in done.turnover:
                self._log_members(record, verdict)
        if self._admission.is_member and not self._is_member:
            self._expelled()
        elif not self._admission.is_member and not self._admission.has_asked:
            self._come_up()
        self._differs()
        return self._written(_newest(done.changes)) if done.changes else None

    def _log_members(self, record: Record, verdict: Verdict) -> None:
        """Log which other nodes come and go by a record."""
        if verdict.before and record.node != self.name:
            self._log.info(
                "node {name} has become a member", event="cluster-node-joined", name=record.node
            )
        ended = {start.node for start in verdict.after}
        for name in record.gone:
            if name != self.name and node_number(name) in ended:
                self._log.warn(
                    "no sign of life from node {name}: it is gone",
                    event="cluster-node-gone",
                    name=name,
                )
        if record.down and record.node != self.name:
            self._log.info("node {name} has ended", event="cluster-node-ended", name=record.node)

    def _seen(self, batch: Batch[Request], record: Record, verdict: Verdict) -> None:
        """Called when a batch of this node is decided."""
        if not verdict.taken:
            self._outbox.refuse(batch.items, f"the server can't serve now: {GIVEN_UP}")
            if verdict.refusal is not None:
                self._admission.refused(verdict.refusal, record.time)
            elif batch.notes.up is not None:  # in a version of the format that a new member lacks
                self._admission.ask_later()
            elif self._applier.membership.nodes[self.name].batch > batch.number and self._is_member:
                self._admission.is_member = False
                self._lose("a copy of this process has written to the log")
                self._come_up()
            return
        if batch.notes.up is not None:
            self._admission.admitted()
        self._forgetting.decided(batch.notes.forget, self._applier.membership.nodes)
        if batch.notes.down:
            self._is_down()
        self.rounds.add(self._clock.seconds() - batch.begun)
        self._contact.came_back(batch.begun, is_ready=self._admission.may_serve)

    @property
    def _is_member(self) -> bool:
        return self._applier.membership.is_member(self.name, self._admission.incarnation)

    def _expelled(self) -> None:
        """Called when this node is no member any more, because the log says so."""
        self._admission.is_member = False
        node = self._applier.membership.nodes.get(self.name)
        if self._ended or self._went_down is not None:
            return
        if node is not None and node.live:
            # If it is only a late record of a process that has ended, its lease will be over soon.
            self._lose(f"another node has come up under the name {self.name}")
        else:
            self._lose(GIVEN_UP)
        if (flight := self._outbox.flight) is not None:
            # From here on, all nodes ignore it wherever it is found.
            self._outbox.seen(flight.number)
            self._outbox.refuse(flight.items, f"the server can't serve now: {GIVEN_UP}")
        self._come_up()

    # Being in touch

    def _lose(self, reason: str) -> None:
        said = f"the server can't serve now: {reason}"
        self._contact.lose(reason, lambda: self._outbox.refuse_waiting(said))

    def _check(self) -> None:
        """Do what is due. Called by a timer."""
        self._checking = self._clock.callLater(CHECK, self._check)
        now = self._clock.seconds()
        is_full = self._contact.is_full(self._outbox.full_at)
        if self._contact.is_overdue and not is_full:
            is_failing = self._applier.is_failing
            self._lose("it can't write to its disk" if is_failing else "it can't reach its cluster")
        if self._admission.is_due:
            self._come_up()
        if not self._admission.is_member:
            return
        if now - self._appended >= BEAT:
            self._outbox.beat()
        if self._contact.is_made and is_full:
            self._duties.make_space(self._applier.membership)
        elif self._contact.is_made:
            self._do_duties()

    def _do_duties(self) -> None:
        """Do what a member does for the cluster."""
        membership, duties = self._applier.membership, self._duties
        time, is_idle = self._log_time(), self._outbox.flight is None
        silent = [*duties.silent(membership, time, self._contact.steady_since)]
        if silent and is_idle:
            self._outbox.note(gone=silent)
        if self._cursors is not None:
            duties.record_cursors(self._cursors, self.state)
        duties.lead(membership, self.state, time, is_idle=is_idle)

    def _propose_or_drop(self, command: Command) -> None:
        # These are only delayed: a sweep is proposed again, and clients acknowledge again.
        with contextlib.suppress(Unavailable):
            self.propose(command, None)

    def _differs(self) -> bool:
        """End if the state of this node is not that of the others; return whether it has ended."""
        may_compare = not self._ended and self._admission.has_caught_up
        if may_compare and (reason := self._agreement.find_fault(self._applier)):
            self._break(reason)
        return self._ended

    # Operating

    def forget(self, name: str) -> Deferred[None]:
        """Remove a node that has ended from the known ones: the log is not kept for it any more.

        :return: fires when that is decided, or fails with a ``ChatError``.
        """
        if not self._contact.is_made:
            return fail(Unavailable("the server can't reach its cluster", retry_after=RETRY_AFTER))
        nodes = self._applier.membership.nodes
        node = nodes.get(name)
        if node is None or node.live or not self._contact.is_full(self._outbox.full_at):
            return self._forgetting.ask(name, node)
        # Perhaps only because of this node. If the request does not fit either, it is refused.
        others = [other for other in nodes.values() if other is not node]
        purged = self._duties.purge_for(others).addErrback(lambda fault: fault.trap(Unknown))
        return purged.addCallback(lambda _: self._forgetting.ask(name, nodes.get(name)))

    def status(self) -> dict[str, Any]:
        """Return what the operator wants to know of the cluster."""
        applier, time = self._applier, self._log_time()
        return {
            "node": self.name,
            "in_touch": self._contact.is_made,
            "position": applier.position,
            "format": self._format,
            "chain": applier.chain.hex(),
            "nodes": [
                {
                    "name": node.name,
                    "member": node.live,
                    "position": node.position,
                    "silent": round(max(0, time - node.heard) / 1000, 3),
                    "format": node.format,
                }
                for _, node in sorted(applier.membership.nodes.items())
            ],
        }

    # Stopping

    def stop(self) -> Deferred[None]:
        """Say to the cluster that this node ends, after what was proposed.

        :return: fires when that is in the log, or can't be said.
        """
        self._went_down = Deferred()
        if self._cursors is not None:
            self._duties.record_cursors(self._cursors, self.state, at_once=True)
        went_down = self._went_down
        if self._contact.is_made:
            self._outbox.note(down=True)
            self._giving_up = self._clock.callLater(DOWN_WITHIN, self._is_down)
        else:
            self._is_down()
        return went_down

    def _is_down(self) -> None:
        went_down, self._went_down = self._went_down, None
        if went_down is not None:
            self._end()
            closing = self._to.close()
            closing.addBoth(lambda _: went_down.callback(None))

    def _end(self) -> None:
        self._ended = True
        self._admission.stop()
        self._outbox.stop()
        self._applier.stop()
        if self._cursors is not None:
            self._cursors.stop()
        for call in (self._checking, self._giving_up):
            if call is not None and call.active():
                call.cancel()
        self._forgetting.stop()


def _newest(changes: Sequence[Fact]) -> int:
    """Return the number of the newest message among some facts, or 0. Numbers may have been skipped
    after it.
    """
    for fact in reversed(changes):
        if type(fact) is Message:
            return fact.number
    return 0
