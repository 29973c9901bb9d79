"""Maintenance of the archive after the commits: indexing, checkpoints, deletion, retention.

One coroutine does one task after the other, so that the tasks never compete. Commits wait for it in
two cases only: if too many messages are not indexed yet, and if the write-ahead log has grown too
long. This module must not know the state or the rules of the chat; the files record its progress.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.errors import Unavailable
from chat_twisted.core.model import REMEMBER
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger
from chat_twisted.storage import archive, index
from chat_twisted.storage.store import Store

DELAY = 1.0
"""Seconds after a commit until a few new messages are indexed and a checkpoint is made; also the
seconds after which a failed task is tried again.
"""

INDEX_STEP = 2_000
INDEX_LARGE_STEP = 4_000
"""The number of new messages that are indexed at once under load, and the maximum number per step.
Larger steps cost less per message.
"""

INDEX_LAG = 20_000
"""Maximum number of messages that wait to be indexed. With more, each commit waits for a step."""

MAX_LOG = 16_384
"""Size of the write-ahead log in pages of 4 KiB. If it is longer, a checkpoint is made while no
commit runs, so that SQLite can start the log again from its beginning."""

CHECKPOINTS_BEFORE = 2
"""Number of checkpoints that are made beside the commits before that one, so that it is short."""

CLEAN_EVERY = 60.0
CLEAN_STEP = 500
"""The interval in seconds at which messages are deleted, and the maximum number per step."""

STEPS_WHEN_ASKED = 10
"""Maximum number of such steps in one call of ``delete_older``."""

ERASE_STEP = 250
"""Maximum number of texts that one step of ``archive.erase`` deletes, in some milliseconds."""

STEP_PAUSE = 0.02
"""Seconds between two steps that delete texts, so that nobody waits for more than one of them."""

PURGE_EVERY = 600.0
PURGE_SHARE = 20
"""Minimum seconds between two purges, and how many times the duration of the last one they are at
least: each one rewrites the full text of the whole index.
"""


class Housekeeping:
    """Runs the maintenance of one archive until it is stopped.

    :param store: the connections to the archive.
    :param clock: a monotonic clock.
    :param log_time: returns the log's time, in milliseconds.
    :param last: the number of the newest message; all messages up to it are indexed.
    :param retain: seconds for which messages are kept, at least 15 minutes; None means for ever.
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
        # Duplicates are detected after a restart by the stored messages of that time.
        self._retain = None if retain is None else max(retain, REMEMBER / 1000)
        self._last = self._indexed = self._noted = last
        now = clock.seconds()
        self._index_at: float | None = None  # when to index even a few messages
        self._checkpoint_at: float | None = None
        self._clean_at = now + CLEAN_EVERY
        self._delete_at: float | None = now + DELAY  # when to look for texts to delete
        self._purge_at = now  # before that, the files are not purged
        self._purging = False  # whether a purge has begun
        self._purge_began = now
        self._purge_again = False  # whether texts were deleted since it has begun
        self._failing: set[str] = set()  # tasks whose last attempt has failed, which was logged
        self._waiting_for_step: list[Deferred[None]] = []
        self._waiting_for_index: list[tuple[int, Deferred[None]]] = []
        self._asked: deque[tuple[float, Deferred[int]]] = deque()
        self._sleeping: Deferred[None] | None = None
        self._alarm: IDelayedCall | None = None
        self._ending = False
        self._ended: Deferred[None] | None = None

    def start(self) -> None:
        """Start the maintenance."""
        self._ended = Deferred.fromCoroutine(self._work())
        self._ended.addErrback(lambda fault: self._log.failure("maintenance has ended", fault))

    def written(self, number: int) -> Deferred[None] | None:
        """Called by the ledger when a commit is done.

        :param number: the number of the newest message.
        :return: None, or fires when the next commit may start.
        """
        later = self._clock.seconds() + DELAY
        if number > self._last:
            self._last = number
            if self._index_at is None:
                self._index_at = later
        if self._checkpoint_at is None:
            self._checkpoint_at = later
        self._delete_by(later)  # perhaps it waits for the time of a purge
        self._wake()
        if self._last - self._indexed <= INDEX_LAG or "index" in self._failing or self._ending:
            return None
        step: Deferred[None] = Deferred()
        self._waiting_for_step.append(step)
        return step

    @property
    def lag(self) -> int:
        """The number of messages that are not indexed yet."""
        return max(0, self._last - self._indexed)

    def when_indexed(self) -> Deferred[None]:
        """Request that all messages committed until now are indexed.

        :return: fires when they are indexed, or when indexing fails or has been stopped.
        """
        indexed: Deferred[None] = Deferred()
        if self._last <= self._indexed or "index" in self._failing or self._ending:
            indexed.callback(None)
        else:
            self._waiting_for_index.append((self._last, indexed))
            self._index_at = self._clock.seconds()
            self._wake()
        return indexed

    def delete_older(self, seconds: float) -> Deferred[int]:
        """Delete some of the messages that are older than ``seconds``, and than 15 minutes.

        :return: fires with their number; 0 means that none is left. It fails with ``Unavailable``
            if they can't be deleted now.
        """
        deleted: Deferred[int] = Deferred()
        if self._ending:
            deleted.errback(Unavailable("the server stops"))
        else:
            self._asked.append((max(seconds, REMEMBER / 1000), deleted))
            self._wake()
        return deleted

    def stop(self) -> Deferred[None]:
        """Stop after the current step.

        :return: fires when that step is done.
        """
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
                await self._try("make a checkpoint", self._checkpoint)
            elif self._delete_at is not None and now >= self._delete_at:
                self._delete_at = None  # a commit meanwhile sets it
                await self._try("delete texts", self._delete)
            elif self._asked:
                await self._delete_as_asked(*self._asked.popleft())
            elif now >= self._clean_at:
                self._clean_at = now + CLEAN_EVERY
                await self._try("delete old messages", self._clean)
            else:
                times = (self._index_at, self._checkpoint_at, self._delete_at, self._clean_at)
                await self._sleep(min(at for at in times if at is not None) - now)
            self._tell()
        self._tell()
        for _, deleted in self._asked:
            deleted.errback(Unavailable("the server stops"))

    def _is_to_index(self, now: float) -> bool:
        if self._last - self._indexed >= INDEX_STEP and "index" not in self._failing:
            return True
        return self._index_at is not None and now >= self._index_at

    async def _try(self, task: str, function: Callable[[], Any]) -> None:
        try:
            await function()
        except Exception as error:  # noqa: BLE001  it is tried again
            if task not in self._failing and not self._ending:  # stopping interrupts the task
                self._failing.add(task)
                self._log.error(
                    "can't {task}: {reason}",
                    event="maintenance-failed",
                    task=task,
                    reason=explain(error),
                )
            if task == "index":
                self._index_at = self._clock.seconds() + DELAY
            elif task == "delete texts":
                self._delete_by(self._clock.seconds() + DELAY)
        else:
            if task in self._failing:
                self._failing.discard(task)
                self._log.info("can {task} again", event="maintenance-resumed", task=task)

    async def _index(self) -> None:
        step = min(max(INDEX_STEP, self._last - self._indexed), INDEX_LARGE_STEP)
        upto = await self._store.index(index.extend, step)
        self._indexed = max(upto, self._indexed)
        waits = self._last > self._indexed
        wanted = any(number > self._indexed for number, _ in self._waiting_for_index)
        later = self._clock.seconds() + (0 if wanted else DELAY)
        self._index_at = later if waits else None

    async def _checkpoint(self) -> None:
        """Make a checkpoint: copy the commits from the write-ahead log into the file.

        SQLite starts the log again from its beginning only if the file has all commits and nobody
        reads from the log. Under constant load a checkpoint beside the commits never copies all of
        them, so if the log has grown too long, the last checkpoint excludes commits. The indexing
        connection makes the checkpoints, so that it does not read from the log meanwhile.
        """
        store = self._store
        if await store.index(archive.checkpoint) <= MAX_LOG:
            return
        for step in (*[store.index] * CHECKPOINTS_BEFORE, store.run_exclusively):
            if self._ending:
                return
            await step(archive.checkpoint)

    async def _delete(self) -> None:
        """Do one step of deleting texts: first texts of authors who asked for it, then the words of
        deleted messages in the index, then remains in both files. Other tasks can run between two
        steps.
        """
        store = self._store
        texts, remains = await store.index(archive.find_deletions)
        pause = DELAY  # for those that are not indexed yet
        if texts:
            self._purge_again = True
            erased = await store.write(archive.erase, ERASE_STEP)
            numbers = await store.index(index.remove_texts, CLEAN_STEP)
            if numbers:
                await store.write(archive.forget_deletions, numbers)
            if erased or numbers:
                pause = STEP_PAUSE
        elif not remains:
            return
        elif self._purging or self._clock.seconds() >= self._purge_at:
            if await self._purge():
                pause = STEP_PAUSE
        else:
            pause = self._purge_at - self._clock.seconds()
        self._delete_by(self._clock.seconds() + pause)

    def _delete_by(self, at: float) -> None:
        """Look for texts to delete at the time ``at``, unless that is due earlier."""
        self._delete_at = at if self._delete_at is None else min(at, self._delete_at)

    async def _purge(self) -> bool:
        """Do one step of removing the remains of deleted texts from the files: words in parts of
        the full-text index that are not merged yet, and old pages in the write-ahead logs.

        :return: whether to continue at once.
        """
        store, begin = self._store, not self._purging
        if begin:
            self._purging, self._purge_again = True, False
            self._purge_began = self._clock.seconds()
        if await store.index(index.purge, begin=begin):
            return True
        if not (
            await store.index(archive.empty_log, "looked_up")
            and await store.run_exclusively(archive.empty_log)
        ):
            return False  # somebody reads
        if not self._purge_again:
            await store.write(archive.note_purge)
        self._purging = False
        now = self._clock.seconds()
        self._purge_at = now + max(PURGE_EVERY, PURGE_SHARE * (now - self._purge_began))
        return True

    async def _clean(self) -> None:
        """Record the time of the newest message, and delete messages that are older than
        ``retain``, in small steps.
        """
        store, now = self._store, self._log_time()
        if self._noted != self._last:
            last = self._last
            await store.write(archive.record_moment, now)
            self._noted = last
        if self._retain is None or self._ending:
            return
        while await self._delete_step(self._retain) and not self._ending:
            pass

    async def _delete_as_asked(self, seconds: float, deleted: Deferred[int]) -> None:
        """Do some steps for ``delete_older``. Other tasks can run before the next ones."""
        count = 0
        try:
            for _ in range(STEPS_WHEN_ASKED):
                step = await self._delete_step(seconds)
                count += step
                if not step or self._ending:
                    break
        except Exception as error:  # noqa: BLE001  who asked is told
            deleted.errback(Unavailable(f"can't delete old messages: {explain(error)}"))
        else:
            if not count and self._ending:  # 0 would say that none is left
                deleted.errback(Unavailable("the server stops"))
            else:
                deleted.callback(count)

    async def _delete_step(self, seconds: float) -> int:
        """Delete up to ``CLEAN_STEP`` messages that are older than ``seconds``; return how many."""
        store, before = self._store, int(self._log_time() - seconds * 1000)
        old = await store.index(archive.last_number_before, before)
        span = await store.index(index.remove, old, CLEAN_STEP)
        if span is None or self._ending:
            return 0
        return await store.write(archive.expire, *span)

    def _tell(self) -> None:
        """Fire the Deferreds that waited for a step, or for messages that are indexed now."""
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
