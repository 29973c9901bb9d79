"""Follows a log: all its records, in order and without gaps, from a source that may leave some out.

The source sends each record when it is stored, as long as there is a connection. If one is missing,
it is fetched, with all that come after it. The records that have come are taken together, and
while they are taken, the next ones are gathered; if those get too many, they are fetched later.
Whenever there is a new connection, and when it is quiet, the source is asked what it stores: a log
that was purged too far, is shorter than before, or is another one can't be followed.

This module must not know how the records come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chat_twisted.logs import Logger
from chat_twisted.storage.log import Bounds, LogBroken, Taken, Unknown

MAX_WAITING = 8 * 1024 * 1024
"""Size of the records that wait to be taken, in bytes, beyond which no others are gathered."""

MAX_EARLY = 1000
"""Maximum number of records that are kept although some before them are missing."""

REMEMBERED = 1000
"""How many of the newest records are known by their hashes, to notice that they were replaced."""

QUIET = 1.5
"""Seconds without a record after which the source is asked whether there is one."""

LATE = 0.05
"""Seconds for which a record is waited for that is known to be stored, before it is fetched."""

RETRY = 0.2
"""Seconds before the source is asked again that has not answered, or not had a record."""

GONE = "the log does not exist any more"

DOUBT_PAUSES = (0.1, 0.4, 1.0, 2.5)
"""Seconds after which the source is asked again, each time that it has said that records that were
taken are missing. After the last time that is believed: a server that has stood still, or has just
become the leader, may answer with old knowledge.
"""


class Fetched(NamedTuple):
    """Records that follow a position.

    :ivar last: the position of the last one. If it is higher than the number of records says, some
        are missing between them.
    """

    records: Sequence[bytes]
    last: int


class Source(Protocol):
    """Where the records are."""

    def describe(self) -> Deferred[Bounds | None]:
        """Return the bounds of the log; None if there is no log. Fails with ``Unknown``."""

    def fetch(self, after: int) -> Deferred[Fetched]:
        """Return records after a position: an empty list, with this position, if there are none.
        Fails with ``Unknown``. They may be from a server that lacks the newest.
        """

    def get(self, position: int) -> Deferred[bytes | None]:
        """Return one record; None if it is not stored. Fails with ``Unknown``."""

    def peek(self, position: int) -> Deferred[bytes | None]:
        """As ``get``, perhaps from a server that lacks the newest."""


class Follower:
    """Calls ``take`` with the records of a source.

    :param after: the position of the last record that was taken before.
    :param take: see ``log.Log.follow``.
    :param broken: see ``log.Log.follow``.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        source: Source,
        after: int,
        take: Taken,
        broken: Callable[[LogBroken], None],
    ) -> None:
        self._clock = clock
        self._source = source
        self._take = take
        self._broken = broken
        self._identity: str | None = None
        self._end = after  # of the records that were taken or wait
        self._known = after  # the highest position that is known to be stored
        self._waiting: list[tuple[int, bytes]] = []
        self._size = 0  # of the waiting ones
        self._early: dict[int, bytes] = {}
        self._hashes: dict[int, int] = {}  # of the newest records
        self._doubted: int | None = None  # a position at which there seems to be another record
        self._is_taking = False
        self._room: Deferred[None] | None = None  # fires when fewer wait
        self._is_online = False
        self._is_checked = False  # since there is this connection
        self._is_over = False
        self._must_check = False
        self._doubts = 0
        self._gaps = 0
        self._working: Deferred[None] | None = None
        self._heard_at = 0.0
        self._timer: IDelayedCall | None = None
        self._late: IDelayedCall | None = None

    @property
    def known(self) -> int:
        """The highest position that is known to be stored in the source."""
        return max(self._known, self._end)

    def online(self) -> None:
        """Called when there is a connection to the source: from now on it sends new records."""
        self._is_online = True
        self._is_checked = False
        self._early.clear()  # the log may have been changed meanwhile
        self._heard_at = self._clock.seconds()
        self._must_check = True
        self._work()
        if self._timer is None:
            self._timer = self._clock.callLater(QUIET, self._look)

    def offline(self) -> None:
        """Called when the connection is lost."""
        self._is_online = False

    def stop(self) -> None:
        """Call nothing any more."""
        self._is_over = True
        for timer in (self._timer, self._late):
            if timer is not None and timer.active():
                timer.cancel()
        if self._working is not None:
            self._working.cancel()

    # What the source sends

    def came(self, position: int, data: bytes, more: bool) -> None:
        """Called with each new record.

        :param more: whether others have come already.
        """
        if self._is_over:
            return
        self._heard_at = self._clock.seconds()
        self._known = max(self._known, position)
        if self._is_checked and position == self._end + 1 and self._size < MAX_WAITING:
            self._add(data)
            self._add_early()
        elif position > self._end:
            if len(self._early) < MAX_EARLY and self._size < MAX_WAITING:
                self._early[position] = data
            self._work()
        elif self._hashes.get(position) != hash(data):  # else it has been fetched meanwhile
            # It may be another log, or one that has lost its newest records and got others.
            self._doubted = position
            self._is_checked = False
            self._must_check = True
            self._work()
        if not more:
            self._give()

    def stored(self, position: int) -> None:
        """Called when it is known that there is a record at a position. It is about to come."""
        if position > self._end:
            self._known = max(self._known, position)
            if self._late is None or not self._late.active():
                self._late = self._clock.callLater(LATE, self._work)

    def _look(self) -> None:
        """Called from time to time."""
        self._timer = self._clock.callLater(QUIET, self._look)
        if self._clock.seconds() - self._heard_at >= QUIET:
            self._must_check = True
        self._work()

    # What is taken

    def _add(self, data: bytes) -> None:
        self._end += 1
        self._hashes[self._end] = hash(data)
        self._hashes.pop(self._end - REMEMBERED, None)
        self._size += len(data)
        self._waiting.append((self._end, data))

    def _add_early(self) -> None:
        """Add the records that came before those that were missing."""
        if not self._early:
            return
        while (data := self._early.pop(self._end + 1, None)) is not None:
            self._add(data)
        for position in [each for each in self._early if each <= self._end]:
            del self._early[position]

    def _give(self) -> None:
        """Let the waiting records be taken, unless others are."""
        while self._waiting and not self._is_taking and not self._is_over:
            waiting, self._waiting, self._size = self._waiting, [], 0
            self._is_taking = True
            try:
                taking = self._take(waiting)
            except Exception:  # noqa: BLE001  whatever it is, the next record can't be taken
                self._not_taken(Failure())
                return
            if taking is not None:
                taking.addCallbacks(self._taken, self._not_taken)
                break
            self._is_taking = False
        self._tell_room()

    def _taken(self, _: object) -> None:
        self._is_taking = False
        self._give()
        if self._known > self._end:
            self._work()

    def _not_taken(self, failure: Failure) -> None:
        self._log.failure("a record of the log could not be taken", failure)
        self._break("a record could not be taken")

    def _tell_room(self) -> None:
        if self._room is not None and self._size < MAX_WAITING:
            room, self._room = self._room, None
            room.callback(None)

    def _break(self, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._clock.callLater(0, self._broken, LogBroken(reason))

    # What is fetched

    def _work(self) -> None:
        """Check and fetch, if there is something to do, and nothing is done already."""
        is_needed = self._must_check or self._known > self._end
        if is_needed and self._working is None and self._is_online and not self._is_over:
            self._working = Deferred.fromCoroutine(self._work_on())
            if self._working.called:
                self._working = None
            else:
                self._working.addBoth(self._worked)

    def _worked(self, result: object) -> None:
        self._working = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("following the log", result)
            self._break("there is a fault in the program")
        else:
            self._work()

    async def _work_on(self) -> None:
        while self._is_online and not self._is_over:
            try:
                if self._must_check:
                    await self._check()
                elif self._size >= MAX_WAITING:
                    self._room = Deferred()
                    await self._room
                elif self._known > self._end:
                    await self._fetch()
                else:
                    return
            except Unknown:
                if not self._is_over:
                    await self._pause(RETRY)

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._clock, seconds, lambda: None)

    async def _check(self) -> None:
        """Ask the source what it stores, and stop if it can't be followed."""
        bounds = await self._source.describe()
        certain, doubtful = self._judge(bounds)
        if not certain and not doubtful:
            if not self._is_checked and await self._is_other(self._end):
                self._doubted = self._end
            if self._doubted is not None:
                certain = await self._look_at(self._doubted)
        if certain:
            self._break(certain)
        elif doubtful:
            if self._doubts < len(DOUBT_PAUSES):
                self._doubts += 1
                await self._pause(DOUBT_PAUSES[self._doubts - 1])
            else:
                self._break(doubtful)
        elif bounds is not None:
            self._identity = bounds.identity
            self._known = max(bounds.last, self._end, *self._early)
            self._must_check = False
            self._is_checked = True
            self._doubts = 0
            self._add_early()
            self._give()

    def _judge(self, bounds: Bounds | None) -> tuple[str, str]:
        """Return why the log certainly can't be followed, and why perhaps; empty if it can."""
        if bounds is None:
            return "", GONE
        if self._identity is not None and bounds.identity != self._identity:
            return "it is another log: it was deleted and made anew", ""
        if bounds.first > self._end + 1:
            reason = (
                f"the log begins at record {bounds.first}, and the one after {self._end} is"
                " needed: it was purged too far"
            )
            return reason, ""
        if bounds.last < self._end:
            reason = (
                f"the log ends at record {bounds.last}, and {self._end} was taken already: the"
                " newest records are lost"
            )
            return "", reason
        return "", ""

    async def _is_other(self, position: int) -> bool:
        """Return whether some server has another record than was taken: others may have filled the
        places of those that the log has lost, while there was no connection.
        """
        known = self._hashes.get(position)
        if known is None:
            return False
        data = await self._source.peek(position)
        return data is not None and hash(data) != known

    async def _look_at(self, position: int) -> str:
        """Return why the log can't be followed if there is another record than was taken."""
        data = await self._source.get(position)
        known = self._hashes.get(position)
        self._doubted = None
        if known is None or data is None or hash(data) == known:
            return ""
        return f"record {position} of the log is another one now: the newest records were lost"

    async def _fetch(self) -> None:
        """Fetch records after those that have come."""
        after = self._end
        records, last = await self._source.fetch(after)
        if not records:
            await self._pause(RETRY)  # this server does not have them yet
            self._must_check = True
        elif last - after != len(records):
            await self._fill(after + 1)
        else:
            for data in records[self._end - after :]:
                self._add(data)
            self._known = max(self._known, last)
            self._add_early()
            self._gaps = 0
            self._give()

    async def _fill(self, position: int) -> None:
        """Get a record that one server has left out."""
        await self._check()
        if self._must_check or self._is_over or self._end >= position:
            return
        data = await self._source.get(position)
        if data is None:
            if self._gaps < len(DOUBT_PAUSES):
                self._gaps += 1
                await self._pause(DOUBT_PAUSES[self._gaps - 1])
            else:
                self._break(f"record {position} is not in the log any more")
        elif self._end + 1 == position:
            self._add(data)
            self._add_early()
            self._give()
