"""Turns: of work that only a few can do at once, who goes next.

Each source (an address, say) has one turn at a time, and sources take turns: however much one of
them asks for, another waits for what is under way and for nothing that waits. What waits is bounded
in number and time. Nothing here knows what the work is; threads are somebody else's.
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
"""Seconds after which it may be worth asking again when too much waits."""


class Asker(NamedTuple):
    """For whom work is done: the source that it is a turn of, and what is told how many seconds
    the work took.
    """

    source: Hashable
    charge: Callable[[float], None]


def _free(seconds: float) -> None:
    pass


def unlimited(source: Hashable) -> Asker:
    """Return an asker who is not charged."""
    return Asker(source, _free)


class Turns:
    """Gives turns, so many at once.

    :param at_once: turns that may be taken at the same time, by different sources.
    :param most: of one source, how many may wait for their turn.
    :param patience: seconds after which one that still waits is refused.
    """

    def __init__(self, clock: IReactorTime, at_once: int, *, most: int, patience: float) -> None:
        self._clock = clock
        self._free = at_once
        self._most = most
        self._patience = patience
        # The source that is next is first; of each, who has waited longest is.
        self._waiting: dict[Hashable, deque[tuple[Deferred[None], IDelayedCall]]] = {}
        self._having: set[Hashable] = set()
        self._giving = False
        self._stopped = False

    def take(self, source: Hashable) -> Deferred[None]:
        """Wait for a turn, which must be given back. It fails with ``Unavailable`` when that takes
        too long.

        :raises Unavailable: too many wait.
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
        # All wait for equally long at most, so the first whose time is over is the first in line.
        queue.append((turn, self._clock.callLater(self._patience, self._too_long, source)))
        return turn

    def give_back(self, source: Hashable) -> None:
        """The turn of ``source`` is over."""
        self._having.remove(source)
        self._free += 1
        if source in self._waiting:  # for more: behind all others
            self._waiting[source] = self._waiting.pop(source)
        if self._giving:
            return  # what was given a turn is done at once: the loop below goes on
        self._giving = True
        try:
            while self._free and (turn := self._next()) is not None:
                turn.callback(None)
        finally:
            self._giving = False

    def _next(self) -> Deferred[None] | None:
        """Take the next one in line out of it."""
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
        """Refuse all who wait, and whoever comes."""
        self._stopped = True
        waiting, self._waiting = self._waiting, {}
        for queue in waiting.values():
            for turn, timer in queue:
                timer.cancel()
                turn.errback(Unavailable("the server is stopping"))


class Places:
    """Does work in so many places at once, in turns. Work that may wait for longer, and takes
    longer or comes in larger numbers, leaves one place free for what others wait for. A source has
    one turn for each of the two kinds.

    The parameters are those of ``Turns``.
    """

    def __init__(self, clock: IReactorTime, at_once: int, *, most: int, patience: float) -> None:
        self._turns, self._patient = (
            Turns(clock, places, most=most, patience=patience) for places in (at_once, at_once - 1)
        )

    async def do(
        self, source: Hashable, work: Callable[[], Awaitable[Result]], *, patient: bool
    ) -> Result:
        """Call ``work`` when it is the turn of ``source``, which lasts until that is done.

        :param patient: which of the two kinds it is.
        :raises Unavailable: too much waits, or it has waited for too long.
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
        """Refuse all who wait, and whoever comes. What is being done is not touched."""
        self._patient.stop()
        self._turns.stop()


REACTOR_WEIGHT = 10
"""How many times the reactor's time counts: while it does one thing, everybody waits."""


class Paced:
    """Does work in the reactor's own thread, a little in each of the reactor's turns.

    What is asked for is done at once, until that has taken so long in one turn. Of the rest, one
    piece is done in each later turn; sources take turns. Whoever asks is charged for the time,
    ``REACTOR_WEIGHT`` times.

    :param budget: seconds.
    :param most: of one source, how many pieces may wait.
    :param patience: seconds after which one that still waits is refused.
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

        :raises Unavailable: too much waits, or it has waited for too long.
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
    """Calls what is to be done when one of the reactor's turns is over: what was read is committed
    first, and then what came of it is written, all in one go.

    Where much is read in one call of the reactor (``doors.poller``), that call is the turn, and its
    end needs no timer and no further turn.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._commits: list[Callable[[], None]] = []
        self._writes: list[Callable[[], None]] = []
        self._has_end = False  # which is about to come, without a timer
        self._timer: IDelayedCall | None = None

    def commit(self, call: Callable[[], None]) -> None:
        """Have ``call`` called at the end of this turn; of a later one if this is the end."""
        self._commits.append(call)
        self._plan()

    def write(self, call: Callable[[], None]) -> None:
        """Have ``call`` called at the end of this turn, behind all that is committed there."""
        self._writes.append(call)
        self._plan()

    def _plan(self) -> None:
        if self._timer is None and not self._has_end:
            self._timer = self._clock.callLater(0, self._at_timer)

    def _at_timer(self) -> None:
        self._timer = None
        self.end()

    def begin(self) -> None:
        """Something is read, and ``end`` will be called when that is done."""
        self._has_end = True

    def end(self) -> None:
        """The turn is over."""
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
        except Exception:  # noqa: BLE001  it must not keep the others from being called
            self._log.failure("at the end of a turn")
