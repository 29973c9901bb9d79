"""What is done with the archive behind the commits: indexing, the write-ahead log, retention.

One coroutine does one thing after the other, so that nothing of it gets in its own way. Commits
wait for it in one case: when so many messages are not indexed that it would never catch up. It
knows no state and no rules; what it has done of all that it does is in the files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.model import REMEMBER
from chat_twisted.logs import Logger
from chat_twisted.storage import archive, index
from chat_twisted.storage.store import Store

LAZY = 1.0
"""Seconds after which what need not be done at once is done: indexing a few messages, taking the
write-ahead log into the file; and what failed is tried again.
"""

INDEX_STEP = 2_000
INDEX_LARGE_STEP = 4_000
"""How many messages are waited for with indexing while others are committed, and how many are
indexed at once at most. A large step costs less for each.
"""

INDEX_LAG = 20_000
"""Messages that may wait to be indexed. With more, commits wait for a step."""

MAX_LOG = 16_384
"""Pages of the write-ahead log, of 4 KiB each, past which commits wait until it begins anew."""

CHECKPOINTS_BEFORE = 2
"""How many times what was committed meanwhile is taken into the file before that."""

CLEAN_EVERY = 60.0
CLEAN_STEP = 500
"""Every how many seconds what is too old is deleted, and how many messages at once."""

ERASE_STEP = 2_000
"""Through how many messages one step goes that deletes what a user has said."""


class Housekeeping:
    """Does what is to be done, until it is stopped.

    :param last: the number of the newest message; all up to it is indexed.
    :param log_time: returns the log's time, in milliseconds.
    :param retain: seconds for which messages are kept, at least 15 minutes; None for ever.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        clock: IReactorTime,
        log_time: Callable[[], int],
        last: int,
        *,
        retain: float | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._log_time = log_time
        # What may be sent again must be there: by it, that is known after a restart.
        self._retain = None if retain is None else max(retain, REMEMBER / 1000)
        self._last = self._indexed = self._noted = last
        now = clock.seconds()
        self._index_at: float | None = None  # when the few that wait are to be indexed
        self._checkpoint_at: float | None = None
        self._clean_at = now + CLEAN_EVERY
        self._failing: set[str] = set()  # what failed when it was tried last, and has been logged
        self._waiting_for_step: list[Deferred[None]] = []
        self._waiting_for_index: list[tuple[int, Deferred[None]]] = []
        self._sleeping: Deferred[None] | None = None
        self._alarm: IDelayedCall | None = None
        self._ending = False
        self._ended: Deferred[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._ended = Deferred.fromCoroutine(self._work())
        self._ended.addErrback(lambda fault: self._log.failure("a fault in housekeeping", fault))

    def written(self, number: int) -> Deferred[None] | None:
        """Hear that messages up to a number are committed.

        :return: what the next commit is to wait for, if it is.
        """
        later = self._clock.seconds() + LAZY
        if number > self._last:
            self._last = number
            if self._index_at is None:
                self._index_at = later
        if self._checkpoint_at is None:
            self._checkpoint_at = later
        self._wake()
        if self._last - self._indexed <= INDEX_LAG or "index" in self._failing or self._ending:
            return None
        step: Deferred[None] = Deferred()
        self._waiting_for_step.append(step)
        return step

    def when_indexed(self) -> Deferred[None]:
        """Return what fires when all is indexed that is committed now, or can't be."""
        indexed: Deferred[None] = Deferred()
        if self._last <= self._indexed or "index" in self._failing or self._ending:
            indexed.callback(None)
        else:
            self._waiting_for_index.append((self._last, indexed))
            self._index_at = self._clock.seconds()
            self._wake()
        return indexed

    def stop(self) -> Deferred[None]:
        """Begin nothing more; fire when what is under way is done."""
        self._ending = True
        self._wake()
        done: Deferred[None] = Deferred()
        if self._ended is None:
            done.callback(None)
        else:
            self._ended.addCallback(lambda _: done.callback(None))
        return done

    # The coroutine

    async def _work(self) -> None:
        while not self._ending:
            now = self._clock.seconds()
            if self._is_to_index(now):
                await self._try("index", self._index)
            elif self._checkpoint_at is not None and now >= self._checkpoint_at:
                self._checkpoint_at = None
                await self._try("take the write-ahead log into the file", self._checkpoint)
            elif now >= self._clean_at:
                self._clean_at = now + CLEAN_EVERY
                await self._try("delete what is to be deleted", self._clean)
            else:
                times = (self._index_at, self._checkpoint_at, self._clean_at)
                await self._sleep(min(at for at in times if at is not None) - now)
            self._tell()
        self._tell()

    def _is_to_index(self, now: float) -> bool:
        if self._last - self._indexed >= INDEX_STEP and "index" not in self._failing:
            return True
        return self._index_at is not None and now >= self._index_at

    async def _try(self, what: str, function: Callable[[], Any]) -> None:
        try:
            await function()
        except Exception as error:  # noqa: BLE001  it is tried again
            if what not in self._failing and not self._ending:  # else it was interrupted
                self._failing.add(what)
                self._log.error("can't {what}: {reason}", what=what, reason=str(error))
            if what == "index":
                self._index_at = self._clock.seconds() + LAZY
        else:
            if what in self._failing:
                self._failing.discard(what)
                self._log.info("it works again to {what}", what=what)

    async def _index(self) -> None:
        step = min(max(INDEX_STEP, self._last - self._indexed), INDEX_LARGE_STEP)
        upto = await self._store.index(index.extend, step)
        self._indexed = max(upto, self._indexed)
        waits = self._last > self._indexed
        wanted = any(number > self._indexed for number, _ in self._waiting_for_index)
        later = self._clock.seconds() + (0 if wanted else LAZY)
        self._index_at = later if waits else None

    async def _checkpoint(self) -> None:
        """Have the write-ahead log taken into the file, where no commit waits for that.

        With all of it in the file the log begins anew. While there is no end of commits there is
        always a little that is not; so if it is long, commits wait for what is left. Nor does the
        log begin anew while somebody reads in it, so it is not done while something is indexed.
        """
        store = self._store
        if await store.index(archive.checkpoint) <= MAX_LOG:
            return
        for step in (*[store.index] * CHECKPOINTS_BEFORE, store.alone):
            if self._ending:
                return
            await step(archive.checkpoint)

    async def _clean(self) -> None:
        """Note what time it is, and delete what is to be deleted, a little at a time."""
        store, now = self._store, self._log_time()
        if self._noted != self._last:
            last = self._last
            await store.write(archive.record_moment, now)
            self._noted = last
        while not self._ending and await store.write(archive.erase, ERASE_STEP):
            pass
        while not self._ending and (numbers := await store.index(index.unlearn, CLEAN_STEP)):
            await store.write(archive.forget_deletions, numbers)
        if self._retain is None or self._ending:
            return
        old = await store.index(archive.last_number_before, int(now - self._retain * 1000))
        while not self._ending:
            span = await store.index(index.remove, old, CLEAN_STEP)
            if span is None or self._ending:
                return
            await store.write(archive.expire, *span)

    def _tell(self) -> None:
        """Tell those who wait for a step, and for what is indexed now, or can't be."""
        steps, self._waiting_for_step = self._waiting_for_step, []
        for step in steps:
            step.callback(None)
        all_of_them = self._ending or "index" in self._failing
        waiting, self._waiting_for_index = self._waiting_for_index, []
        for number, indexed in waiting:
            if all_of_them or number <= self._indexed:
                indexed.callback(None)
            else:
                self._waiting_for_index.append((number, indexed))

    # Waiting

    async def _sleep(self, seconds: float) -> None:
        self._sleeping = Deferred()
        self._alarm = self._clock.callLater(max(0.0, seconds), self._wake)
        await self._sleeping

    def _wake(self) -> None:
        sleeping, self._sleeping = self._sleeping, None
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
        if sleeping is not None:
            sleeping.callback(None)
