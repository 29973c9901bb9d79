"""Fair scheduling of work that can be done only a few pieces at a time.

Each source, for example an address, has one piece of work in progress, and sources take turns: a
source with much work does not delay the next piece of another source. The number of waiting pieces
and their waiting time are bounded. This module must not know what the work is, or use threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from chat_twisted.core.errors import Unavailable
from chat_twisted.logs import Logger

Result = TypeVar("Result")

RETRY_AFTER = 5
"""Seconds after which clients may retry if too much work waits."""


class Asker(NamedTuple):
    """The client for which work is done.

    :ivar source: the source whose turn the work takes.
    :ivar charge: called with the seconds that the work has taken.
    """

    source: Hashable
    charge: Callable[[float], None]


def _free(seconds: float) -> None:
    pass


def unlimited(source: Hashable) -> Asker:
    """Return an asker who is not charged."""
    return Asker(source, _free)


class Turns:
    """Gives turns to sources, a limited number at the same time.

    :param clock: a monotonic clock.
    :param at_once: the maximum number of simultaneous turns, all of different sources.
    :param most: the maximum number of waiting requests of one source.
    :param patience: seconds after which a waiting request is refused.
    """

    def __init__(self, clock: IReactorTime, at_once: int, *, most: int, patience: float) -> None:
        self._clock = clock
        self._free = at_once
        self._most = most
        self._patience = patience
        # The next source comes first; within a source, the request that has waited longest.
        self._waiting: dict[Hashable, deque[tuple[Deferred[None], IDelayedCall]]] = {}
        self._having: set[Hashable] = set()
        self._giving = False
        self._stopped = False

    @property
    def waiting(self) -> int:
        """The number of waiting requests."""
        return sum(map(len, self._waiting.values()))

    def take(self, source: Hashable) -> Deferred[None]:
        """Wait for a turn. The caller must give it back (``give_back``).

        :return: fires when the turn begins; fails with ``Unavailable`` after ``patience``.
        :raises Unavailable: if too many requests of this source wait.
        """
        if self._stopped:
            raise Unavailable("the server is stopping")
        if self._free and source not in self._having and source not in self._waiting:
            self._free -= 1
            self._having.add(source)
            return succeed(None)
        queue = self._waiting.setdefault(source, deque())
        if len(queue) >= self._most:
            raise Unavailable("too much waits already", retry_after=RETRY_AFTER)
        turn: Deferred[None] = Deferred()
        # All have the same patience, so the first that times out is the first of its queue.
        queue.append((turn, self._clock.callLater(self._patience, self._too_long, source)))
        return turn

    def give_back(self, source: Hashable) -> None:
        """End the turn of ``source``, and start the next one."""
        self._having.remove(source)
        self._free += 1
        if source in self._waiting:  # it waits for another turn, after all other sources
            self._waiting[source] = self._waiting.pop(source)
        if self._giving:
            return  # called by a turn that the loop below has started; the loop continues
        self._giving = True
        try:
            while self._free and (turn := self._next()) is not None:
                turn.callback(None)
        finally:
            self._giving = False

    def _next(self) -> Deferred[None] | None:
        """Remove the next request from its queue, and return it; None if there is none."""
        for source in self._waiting:
            if source not in self._having:
                break
        else:
            return None
        queue = self._waiting[source]
        turn, timer = queue.popleft()
        timer.cancel()
        if not queue:
            del self._waiting[source]
        self._free -= 1
        self._having.add(source)
        return turn

    def _too_long(self, source: Hashable) -> None:
        queue = self._waiting[source]
        turn, _ = queue.popleft()
        if not queue:
            del self._waiting[source]
        turn.errback(Unavailable("waited too long for its turn", retry_after=RETRY_AFTER))

    def stop(self) -> None:
        """Refuse all waiting and further requests."""
        self._stopped = True
        waiting, self._waiting = self._waiting, {}
        for queue in waiting.values():
            for turn, timer in queue:
                timer.cancel()
                turn.errback(Unavailable("the server is stopping"))


class Places:
    """Does work in turns, of two kinds: patient and urgent.

    One of the places is reserved for urgent work, so that it need not wait for patient work, which
    takes longer or comes in larger numbers. A source has one turn of each kind. The parameters are
    those of ``Turns``; ``at_once`` is the number of places.
    """

    def __init__(self, clock: IReactorTime, at_once: int, *, most: int, patience: float) -> None:
        self._turns, self._patient = (
            Turns(clock, places, most=most, patience=patience) for places in (at_once, at_once - 1)
        )

    @property
    def waiting(self) -> int:
        """The number of pieces of work that wait."""
        return self._turns.waiting + self._patient.waiting

    async def do(
        self, source: Hashable, work: Callable[[], Awaitable[Result]], *, patient: bool
    ) -> Result:
        """Wait for a turn of ``source``, then do ``work`` in it.

        :param patient: the kind of the work.
        :return: the result of ``work``.
        :raises Unavailable: if too much work waits, or this has waited too long.
        """
        if not patient:
            return await self._do((source, patient), work)
        await self._patient.take(source)
        try:
            return await self._do((source, patient), work)
        finally:
            self._patient.give_back(source)

    async def _do(self, source: Hashable, work: Callable[[], Awaitable[Result]]) -> Result:
        await self._turns.take(source)
        try:
            return await work()
        finally:
            self._turns.give_back(source)

    def stop(self) -> None:
        """Refuse all waiting and further work. Work in progress continues."""
        self._patient.stop()
        self._turns.stop()


REACTOR_WEIGHT = 10
"""The factor by which time in the reactor's thread is charged, since everybody waits meanwhile."""


class Paced:
    """Does work in the reactor's thread, a little in each turn of the reactor.

    Work is done at once until it has taken ``budget`` seconds in one turn of the reactor. The rest
    waits; one piece is done in each later turn, and sources take turns. The asker is charged
    ``REACTOR_WEIGHT`` times the duration.

    :param clock: the reactor.
    :param budget: seconds per turn of the reactor.
    :param most: the maximum number of waiting pieces of one source.
    :param patience: seconds after which a waiting piece is refused.
    """

    def __init__(
        self, clock: IReactorTime, budget: float, *, most: int = 10_000, patience: float = 10.0
    ) -> None:
        self._clock = clock
        self._budget = budget
        self._spent = 0.0  # in this turn of the reactor
        self._next_turn: IDelayedCall | None = None
        self._turns = Turns(clock, 1, most=most, patience=patience)

    async def do(self, asker: Asker, work: Callable[[], None]) -> None:
        """Call ``work``, now or in a later turn of the reactor.

        :raises Unavailable: if too much work waits, or this has waited too long.
        """
        if self._spent < self._budget:
            self._do(asker, work)
            return
        await self._turns.take(asker.source)
        try:
            await deferLater(self._clock, 0)
            self._do(asker, work)
        finally:
            self._turns.give_back(asker.source)

    def _do(self, asker: Asker, work: Callable[[], None]) -> None:
        begun = self._clock.seconds()
        try:
            work()
        finally:
            took = self._clock.seconds() - begun
            self._spent += took
            asker.charge(took * REACTOR_WEIGHT)
            if self._next_turn is None:
                self._next_turn = self._clock.callLater(0, self._begin_turn)

    def _begin_turn(self) -> None:
        self._next_turn = None
        self._spent = 0.0


class EndOfTurn:
    """Calls functions at the end of a turn of the reactor: first commits, then writes.

    So all commands that were read in a turn are one batch, and all its output is written together.
    If many sockets are read in one call of the reactor (``doors.poller``), the turn ends with that
    call (``begin``, ``end``); otherwise a timer of zero seconds ends it.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._commits: list[Callable[[], None]] = []
        self._writes: list[Callable[[], None]] = []
        self._has_end = False  # ``end`` will be called, so no timer is needed
        self._timer: IDelayedCall | None = None

    def commit(self, call: Callable[[], None]) -> None:
        """Call ``call`` at the end of this turn, before all writes. During the end of a turn, it
        waits for the next one.
        """
        self._commits.append(call)
        self._plan()

    def write(self, call: Callable[[], None]) -> None:
        """Call ``call`` at the end of this turn, after all commits."""
        self._writes.append(call)
        self._plan()

    def _plan(self) -> None:
        if self._timer is None and not self._has_end:
            self._timer = self._clock.callLater(0, self._at_timer)

    def _at_timer(self) -> None:
        self._timer = None
        self.end()

    def begin(self) -> None:
        """Note that ``end`` will be called at the end of this turn."""
        self._has_end = True

    def end(self) -> None:
        """End the turn: call all functions."""
        self._has_end = True
        commits, self._commits = self._commits, []
        for call in commits:
            self._call(call)
        writes, self._writes = self._writes, []
        for call in writes:
            self._call(call)
        self._has_end = False
        if self._commits or self._writes:
            self._plan()

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001  the other functions must be called all the same
            self._log.failure("at the end of a turn")
