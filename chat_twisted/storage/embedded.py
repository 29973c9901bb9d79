"""The ledger of one server: the order of arrival, decided and written in batches (group commit).

What is proposed during one turn of the reactor, or while a commit is under way, is one batch. When
its turn comes the state decides all of it, and what has changed is written by one transaction. Of a
batch in which nothing has changed nothing is written. It knows no connections and no rules, and no
SQL (``tables``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chat_twisted.core.commands import Acknowledge, Command, Send, Sweep
from chat_twisted.core.entries import Entry, Outcome
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.facts import Fact
from chat_twisted.core.ledger import Committed, Failed, Request
from chat_twisted.core.snapshot import Snapshot, load
from chat_twisted.core.state import State
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.logs import Logger
from chat_twisted.storage import tables

Result = TypeVar("Result")

MAX_WAITING = 100_000
"""Commands that may wait for a disk that is slow."""

MAX_WAITING_TEXT = 64 * 1024 * 1024
"""How long the texts that wait may be together, in characters."""

RETRY_AFTER = 5
"""Seconds after which it may be worth trying again when nothing can be written; and after which a
file that can't be read is read again.
"""

GATHER = 1.0
"""Seconds for which cursors are gathered."""

SWEEP_EVERY = 1.0
SWEEP_PAUSE = 0.02
SWEEP_STEP = 100
"""Every how many seconds it is looked whether something is due, how long after a step there may be
another, and how much a step ends at most.
"""


class Writer(Protocol):
    """What runs functions of ``tables``, one by one, perhaps within the call."""

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` in a transaction of its own, where it may write."""


class EmbeddedLedger(Generic[Request]):
    """See ``ledger.Ledger``.

    :param state: what the file holds.
    :param log_time: returns the log's time, in milliseconds; it never goes back.
    :param turn: at whose end is committed what was proposed.
    :param written: called after each commit that wrote something, with the newest number; the next
        commit waits for what it returns, if anything (``housekeeping.Housekeeping.written``).
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
        self._written = written
        self._writer = writer
        self._clock = clock
        self._log_time = log_time
        self._turn = EndOfTurn(clock) if turn is None else turn
        self._committed: Committed[Request | None] | None = None
        self._failed: Failed[Request | None] | None = None
        self._waiting: list[tuple[Command, Request | None]] = []
        self._waiting_text = 0
        self._busy = False  # a commit is under way, or will be at the end of this turn
        self._broken = False  # nothing could be written when it was tried last
        self._cursors: dict[int, int] = {}
        self._gathering: IDelayedCall | None = None
        self._sweeping: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    @property
    def has_backlog(self) -> bool:
        """See ``Ledger.has_backlog``."""
        return bool(self._waiting)

    def start(self, committed: Committed[Request | None], failed: Failed[Request | None]) -> None:
        """See ``Ledger.start``; what the ledger proposes by itself has no request."""
        self._committed = committed
        self._failed = failed
        self._sweeping = self._clock.callLater(SWEEP_EVERY, self._sweep)

    # In

    def propose(self, command: Command, request: Request | None) -> None:
        """See ``Ledger.propose``."""
        if len(self._waiting) >= MAX_WAITING or self._waiting_text >= MAX_WAITING_TEXT:
            raise Unavailable("too much waits for the disk", retry_after=RETRY_AFTER)
        if type(command) is Send:
            self._waiting_text += len(command.text)
        self._waiting.append((command, request))
        if not self._busy:
            self._busy = True
            self._turn.commit(self._commit)

    def acknowledge(self, user: int, number: int) -> None:
        """Note, not at once, that a user has everything up to a number."""
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
        """Called every second, and sooner while there is more that is due."""
        due = self.state.next_due
        pause = SWEEP_EVERY
        if due is not None and due <= self._log_time():
            self._propose_or_drop(Sweep(SWEEP_STEP))
            pause = SWEEP_PAUSE if not self._broken else RETRY_AFTER
        self._sweeping = self._clock.callLater(pause, self._sweep)

    def _propose_or_drop(self, command: Command) -> None:
        # What is due stays due, and a client says again what it has.
        with contextlib.suppress(Unavailable):
            self.propose(command, None)

    # The commit

    def _commit(self) -> None:
        batch, self._waiting = self._waiting, []
        self._waiting_text = 0
        if self._broken:
            # Else each try would cost loading the state anew.
            probed = self._writer.write(tables.probe)
            probed.addCallbacks(lambda _: self._decide(batch), lambda _: self._refuse(batch))
            probed.addErrback(self._fault)
        else:
            self._decide(batch)

    def _decide(self, batch: list[tuple[Command, Request | None]]) -> None:
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
        except Exception:  # noqa: BLE001  a fault of ours must not end the server
            self._log.failure("while deciding")
            self._recover(batch, outcomes, None)
            return
        if not changes:
            self._deliver(outcomes)
            return
        progress = self.state.progress
        written = self._writer.write(tables.write, changes, progress)
        written.addCallbacks(
            lambda _: self._deliver(outcomes, progress.number),
            self._not_written,
            errbackArgs=(batch, outcomes, progress.version),
        )
        written.addErrback(self._fault)

    def _deliver(
        self, outcomes: Sequence[tuple[Outcome, Request | None]], written: int | None = None
    ) -> None:
        """Tell of a batch; ``written`` is the newest number if it was written."""
        if self._broken:
            self._broken = False
            self._log.info("writing works again")
        assert self._committed is not None, "the ledger was not started"
        try:
            self._committed(outcomes)
        except Exception:  # noqa: BLE001  what is committed is committed
            self._log.failure("while telling what is committed")
        wait = None if written is None else self._written(written)
        if wait is None:
            self._next()
        else:
            wait.addCallback(lambda _: self._next())

    def _next(self) -> None:
        if self._waiting:
            # Not at once: a writer may write within the call, and what is committed may have
            # brought forth what waits.
            self._turn.commit(self._commit)
            return
        self._busy = False
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    def _fault(self, failure: Failure) -> None:
        self._log.failure("a fault in what follows a commit", failure)

    # When it fails

    def _not_written(
        self,
        failure: Failure,
        batch: list[tuple[Command, Request | None]],
        outcomes: list[tuple[Outcome, Request | None]],
        version: int,
    ) -> None:
        if not self._broken:
            self._log.error("can't write: {reason}", reason=failure.getErrorMessage())
        self._recover(batch, outcomes, version)

    def _recover(
        self,
        batch: list[tuple[Command, Request | None]],
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
        """Read what the file holds, however long that takes: before it is known, nothing can be
        decided, nor said of what was to be written.
        """
        said = False
        while True:
            try:
                return await self._writer.write(tables.load)
            except Exception as error:
                if self._stopped is not None:
                    raise
                if not said:
                    self._log.error("can't read what was written: {reason}", reason=str(error))
                    said = True
            waiting, self._waiting = self._waiting, []
            self._waiting_text = 0
            self._tell_failed(waiting)
            await deferLater(self._clock, RETRY_AFTER)

    def _recovered(
        self,
        snapshot: Snapshot,
        batch: list[tuple[Command, Request | None]],
        outcomes: list[tuple[Outcome, Request | None]],
        version: int | None,
    ) -> None:
        if snapshot.progress.version == version:  # it was taken after all
            self._deliver(outcomes, snapshot.progress.number)
            return
        self.state = load(snapshot)
        self._refuse(batch)

    def _given_up(self, failure: Failure) -> None:
        """Called when the server stops and the file can't be read: of the batch nothing is said."""
        self._log.error("can't read what was written: {why}", why=failure.getErrorMessage())
        self._waiting = []
        self._next()

    def _refuse(self, batch: list[tuple[Command, Request | None]]) -> None:
        """Refuse a batch, and what waits: it may be meant to come after."""
        batch += self._waiting
        self._waiting = []
        self._waiting_text = 0
        self._tell_failed(batch)
        self._next()

    def _tell_failed(self, batch: Sequence[tuple[Command, Request | None]]) -> None:
        assert self._failed is not None, "the ledger was not started"
        refusal = Unavailable("can't write", retry_after=RETRY_AFTER)
        try:
            self._failed(batch, refusal)
        except Exception:  # noqa: BLE001  the next ones must be told
            self._log.failure("while telling what failed")

    # The end

    def stop(self) -> Deferred[None]:
        """Propose nothing any more; fire when all that was proposed is committed or refused."""
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
