"""The ledger of a single server: commands in the order of arrival, with group commit.

All commands that are proposed during one turn of the reactor, or during a commit, form a batch.
When the batch starts, the state decides all its commands, and the facts are written in one
transaction; a batch without facts is not written. This module must not know connections, the rules
of the chat, or SQL (``tables``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chat_twisted.core.commands import Acknowledge, Command, Sweep
from chat_twisted.core.entries import Entry, Outcome
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.facts import Fact
from chat_twisted.core.ledger import Acknowledged, Committed, Failed, Request
from chat_twisted.core.snapshot import Snapshot, load
from chat_twisted.core.state import State
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger
from chat_twisted.metrics import Commits
from chat_twisted.storage import tables
from chat_twisted.storage.proposed import RETRY_AFTER, Item, Reports, Waiting

Result = TypeVar("Result")

TRY_AGAIN = 5
"""Seconds after which the ledger tries again to read or write a file that it can't use."""

GATHER = 1.0
"""Seconds for which acknowledged numbers are gathered before they are proposed together."""

SWEEP_EVERY = 1.0
SWEEP_PAUSE = 0.02
SWEEP_STEP = 100
"""Expired holds and sanctions are ended by ``Sweep`` commands: the seconds between two checks, the
seconds between two steps while more are due, and the maximum number per step.
"""


class Writer(Protocol):
    """Runs functions of ``tables``, one at a time, possibly within the call."""

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, *args, **kw)`` in its own transaction; it may write.

        :return: fires with its result after the commit.
        """


class EmbeddedLedger(Generic[Request]):
    """Implements ``ledger.Ledger`` on an archive.

    :ivar commits: counts the commits.
    :param writer: writes the facts.
    :param state: the state, as it is in the archive.
    :param clock: a monotonic clock.
    :param log_time: returns the log's time, in milliseconds; it never goes back.
    :param turn: the commands of one turn are committed at its end.
    :param written: called after each commit that wrote facts, with the number of the newest
        message; if it returns a Deferred, the next commit waits for that
        (``housekeeping.Housekeeping.written``).
    """

    _log = Logger()

    def __init__(
        self,
        writer: Writer,
        state: State,
        clock: IReactorTime,
        log_time: Callable[[], int],
        turn: EndOfTurn | None = None,
        written: Callable[[int], Deferred[None] | None] = lambda number: None,
    ) -> None:
        self.state = state
        self.commits = Commits()
        self._written = written
        self._writer = writer
        self._clock = clock
        self._log_time = log_time
        self._turn = EndOfTurn(clock) if turn is None else turn
        self._reports: Reports[Request] = Reports()
        self._waiting: Waiting[Request] = Waiting("disk")
        self._busy = False  # a commit is under way, or will be at the end of this turn
        self._broken = False  # the last attempt to write has failed
        self._cursors: dict[int, int] = {}
        self._gathering: IDelayedCall | None = None
        self._sweeping: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    @property
    def has_backlog(self) -> bool:
        """See ``Ledger.has_backlog``."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """The number of commands that wait for the next commit."""
        return len(self._waiting)

    def start(
        self,
        committed: Committed[Request | None],
        failed: Failed[Request | None],
        acknowledged: Acknowledged,
    ) -> None:
        """See ``Ledger.start``. The request of a command that the ledger itself proposes is
        None. ``acknowledged`` is never called, because there are no other nodes.
        """
        self._reports.start(committed, failed)
        self._sweeping = self._clock.callLater(SWEEP_EVERY, self._sweep)

    # Proposals

    def propose(self, command: Command, request: Request | None) -> None:
        """See ``Ledger.propose``."""
        self._waiting.add(command, request)
        if not self._busy:
            self._busy = True
            self._turn.commit(self._commit)

    def acknowledge(self, user: int, number: int, *, lasting: bool = True) -> None:
        """See ``Ledger.acknowledge``."""
        if not lasting:
            return
        if number > self._cursors.get(user, 0):
            self._cursors[user] = number
        if self._gathering is None and self._stopped is None:
            self._gathering = self._clock.callLater(GATHER, self._propose_cursors)

    def _propose_cursors(self) -> None:
        self._gathering = None
        cursors, self._cursors = self._cursors, {}
        if cursors:
            self._propose_or_drop(Acknowledge(tuple(cursors.items())))

    def _sweep(self) -> None:
        """Propose to end expired holds and sanctions, if there are any. Called by a timer."""
        due = self.state.next_due
        pause = SWEEP_EVERY
        if due is not None and due <= self._log_time():
            self._propose_or_drop(Sweep(SWEEP_STEP))
            pause = SWEEP_PAUSE if not self._broken else TRY_AGAIN
        self._sweeping = self._clock.callLater(pause, self._sweep)

    def _propose_or_drop(self, command: Command) -> None:
        # These are only delayed: a sweep is proposed again, and clients acknowledge again.
        with contextlib.suppress(Unavailable):
            self.propose(command, None)

    # The commit

    def _commit(self) -> None:
        batch = self._waiting.take()
        if self._broken:
            # A failed commit costs loading the whole state, so first try to write one row.
            probed = self._writer.write(tables.probe)
            probed.addCallbacks(lambda _: self._decide(batch), lambda _: self._refuse(batch))
            probed.addErrback(self._fault)
        else:
            self._decide(batch)

    def _decide(self, batch: list[Item[Request]]) -> None:
        now = self._log_time()
        apply = self.state.apply
        outcomes: list[tuple[Outcome, Request | None]] = []
        changes: list[Fact] = []
        try:
            for command, request in batch:
                outcome = apply(Entry(now, command))
                if outcome.facts:
                    changes += outcome.facts
                outcomes.append((outcome, request))
        except Exception:  # noqa: BLE001  a defect must not stop the server
            self._log.failure("the state has failed")
            self._recover(batch, outcomes, None)
            return
        if not changes:
            self._deliver(outcomes)
            return
        progress = self.state.progress
        begun = self._clock.seconds()
        written = self._writer.write(tables.write, changes, progress)
        written.addCallbacks(
            self._is_written,
            self._not_written,
            callbackArgs=(outcomes, progress.number, begun),
            errbackArgs=(batch, outcomes, progress.version),
        )
        written.addErrback(self._fault)

    def _is_written(
        self,
        _: object,
        outcomes: Sequence[tuple[Outcome, Request | None]],
        number: int,
        begun: float,
    ) -> None:
        self.commits.seconds.add(self._clock.seconds() - begun)
        self.commits.commands.add(len(outcomes))
        self._deliver(outcomes, number)

    def _deliver(
        self, outcomes: Sequence[tuple[Outcome, Request | None]], written: int | None = None
    ) -> None:
        """Report the outcomes of a batch, and continue.

        :param written: the number of the newest message; None if the batch was not written.
        """
        if self._broken:
            self._broken = False
            self._log.info("can write again", event="write-resumed")
        self._reports.committed(outcomes)
        wait = None if written is None else self._written(written)
        if wait is None:
            self._next()
        else:
            wait.addCallback(lambda _: self._next())

    def _next(self) -> None:
        if self._waiting:
            # Not within this call: a writer may write at once, and outcomes may cause further
            # commands without end.
            self._turn.commit(self._commit)
            return
        self._busy = False
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    def _fault(self, failure: Failure) -> None:
        self._log.failure("after a commit", failure)

    # Failures

    def _not_written(
        self,
        failure: Failure,
        batch: list[Item[Request]],
        outcomes: list[tuple[Outcome, Request | None]],
        version: int,
    ) -> None:
        self.commits.failed += 1
        if not self._broken:
            self._log.error(
                "can't write: {reason}", event="write-failed", reason=explain(failure.value)
            )
        self._recover(batch, outcomes, version)

    def _recover(
        self,
        batch: list[Item[Request]],
        outcomes: list[tuple[Outcome, Request | None]],
        version: int | None,
    ) -> None:
        self._broken = True
        recovered = Deferred.fromCoroutine(self._load())
        recovered.addCallbacks(
            self._recovered, self._given_up, callbackArgs=(batch, outcomes, version)
        )
        recovered.addErrback(self._fault)

    async def _load(self) -> Snapshot:
        """Read the state from the file, and try again until it works. Until then no command can be
        decided, and the outcome of the last batch is not known.
        """
        said = False
        while True:
            try:
                return await self._writer.write(tables.load)
            except Exception as error:
                if self._stopped is not None:
                    raise
                if not said:
                    self._log.error(
                        "can't read the archive: {reason}",
                        event="archive-failed",
                        reason=explain(error),
                    )
                    said = True
            self._tell_failed(self._waiting.take())
            await deferLater(self._clock, TRY_AGAIN)

    def _recovered(
        self,
        snapshot: Snapshot,
        batch: list[Item[Request]],
        outcomes: list[tuple[Outcome, Request | None]],
        version: int | None,
    ) -> None:
        if snapshot.progress.version == version:  # the commit has succeeded after all
            self._deliver(outcomes, snapshot.progress.number)
            return
        self.state = load(snapshot)
        self._refuse(batch)

    def _given_up(self, failure: Failure) -> None:
        """Called when the server stops and the file can't be read: nothing is reported."""
        self._log.error(
            "can't read the archive: {reason}",
            event="archive-failed",
            reason=explain(failure.value),
        )
        self._waiting.take()
        self._next()

    def _refuse(self, batch: list[Item[Request]]) -> None:
        """Refuse a batch and all waiting commands, since these may depend on the batch."""
        self._tell_failed([*batch, *self._waiting.take()])
        self._next()

    def _tell_failed(self, batch: Sequence[Item[Request]]) -> None:
        self._reports.failed(batch, Unavailable("can't write", retry_after=RETRY_AFTER))

    # Stopping

    def stop(self) -> Deferred[None]:
        """Propose no further sweep or cursor.

        :return: fires when all proposed commands are committed or refused.
        """
        for call in (self._gathering, self._sweeping):
            if call is not None and call.active():
                call.cancel()
        self._gathering = self._sweeping = None
        self._propose_cursors()
        stopped: Deferred[None] = Deferred()
        if self._busy:
            self._stopped = stopped
        else:
            stopped.callback(None)
        return stopped
