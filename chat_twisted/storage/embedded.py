"""The embedded ledger, which writes the archive of this one server, by group commit.

It knows neither connections nor rules (``core.ledger``), and no SQL (``archive``).
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from chat_twisted.clocks import SettledTime
from chat_twisted.core.changes import Change
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.ledger import Again, Committed, Entry, Failed, Origin, Repeat
from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.saved import Page, Saved, Span
from chat_twisted.core.turns import Asker, EndOfTurn
from chat_twisted.logs import Logger
from chat_twisted.storage import archive, index
from chat_twisted.storage.reading import Readers, lower_priority, pool
from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.writing import ReactorWriter, ThreadWriter

Result = TypeVar("Result")

MAX_WAITING = 100_000
"""Entries that may wait for a disk that is slow."""

MAX_WAITING_TEXT = 64 * 1024 * 1024
"""How long the texts that wait may be together, in characters."""

RETRY_WHEN_BROKEN = 5
"""Seconds after which it may be worth trying again when nothing can be written."""

NUMBERS_PER_SECOND = 100_000
"""More than can be committed in a second (60,000 were measured). For each second since the file was
last noted in a start leaves out so many numbers: if the file is an older one put back, all that
were given since are among them."""

EPOCH = 1767225600
"""What counts as the time of number 0, in seconds since the epoch: the first of January 2026."""

NUMBERS_LOST = 1_000_000
"""How many numbers a start leaves out whose clock is behind the file."""

LONGEST_GAP = 10 * 365 * 24 * 60 * 60
"""For how many seconds numbers are left out at most: a clock that is centuries ahead must not use
them up. Clients may keep them in a double, which is exact up to 2 to the power of 53."""

LAZY = 1.0
"""Seconds after which what need not be done at once is done: indexing a few messages, noting who
has read what, tidying the write-ahead log."""

INDEX_STEP = 2_000
INDEX_LARGE_STEP = 4_000
"""How many messages are waited for with indexing while others are committed, and how many are
indexed at once at most. A large step costs less for each."""

INDEX_LAG = 20_000
"""Messages that may wait to be indexed. With more, commits wait for a step."""

NICE = 5
"""How much the thread that indexes gives way to the others."""

MAX_LOG = 16_384
"""Pages of the write-ahead log, of 4 KiB each, past which what writes makes it begin anew."""

TIDY_AGAIN = 2
"""How many times what was committed meanwhile is taken into the file before that."""

MAX_REMEMBERED = 200_000
"""Ids of messages that can't be indexed, for a fault, that are remembered at least; at most it is
twice as many."""

REMEMBER_REQUESTS = 15 * 60
"""Seconds for which an Id is remembered at least; the protocol promises ten minutes."""

NOTE_EVERY = 600
"""Every how many seconds it is noted what time it is though nothing is said."""

CLEAN_EVERY = 60
CLEAN_STEP = 500
"""Every how many seconds what is too old is deleted, and how many messages at once."""


class Store(Protocol):
    """Where the functions of ``archive`` are run, perhaps within the call. What is to be written is
    done one by one, in order, and so is what is to be indexed.
    """

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` in a transaction of its own, where it may write."""

    def index(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` in a transaction of its own, where it may write the index.
        What ``write`` runs does not wait for it.
        """

    def alone(self, function: Callable[[Cursor], Result]) -> Deferred[Result]:
        """Run ``function(cursor)`` aside; what is to be written waits until it is done."""

    def read(
        self,
        function: Callable[..., Result],
        *args: Any,
        asker: Asker,
        search: bool = False,
        **kw: Any,
    ) -> Deferred[Result]:
        """Run ``function(cursor, ...)`` aside, so that it keeps no writing waiting; see
        ``reading.Readers.read``.
        """

    def interrupt(self) -> None:
        """Interrupt what is being read or indexed, and refuse what is to be read."""

    def close(self) -> None:
        """Close the files when all that was asked for is done."""


class SQLiteStore:
    """The archive's two files: what writes them (``writing``), a thread that indexes, and some that
    read (``reading``).

    :param folder: where ``archive.prepare`` has prepared them.
    :param reactor: whose threads they are; it must be running.
    :param sync: see ``archive.connect``.
    """

    def __init__(self, folder: Path, reactor: Any, *, sync: str) -> None:
        self._indexing: sqlite3.Connection | None = None

        def prepare_index(connection: sqlite3.Connection) -> None:
            index.attach(connection, folder)
            self._indexing = connection
            lower_priority(NICE)

        writer = ThreadWriter if sync == "full" else ReactorWriter
        self._writer: ThreadWriter | ReactorWriter = writer(folder, reactor, sync)
        self._indexer = pool(folder, "rw", prepare_index, reactor)
        self._readers = Readers(folder, reactor)

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """See ``Store.write``."""
        return self._writer.write(function, *args, **kw)

    def index(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """See ``Store.index``."""
        done: Deferred[Result] = self._indexer.runInteraction(function, *args, **kw)
        return done

    def alone(self, function: Callable[[Cursor], Result]) -> Deferred[Result]:
        """See ``Store.alone``."""
        return self._writer.run_exclusively(function, self.index)

    def read(
        self,
        function: Callable[..., Result],
        *args: Any,
        asker: Asker,
        search: bool = False,
        **kw: Any,
    ) -> Deferred[Result]:
        """See ``Store.read``."""
        return Deferred.fromCoroutine(self._readers.read(function, args, kw, asker, search=search))

    def interrupt(self) -> None:
        """See ``Store.interrupt``."""
        self._readers.stop()
        if self._indexing is not None:
            self._indexing.interrupt()

    def close(self) -> None:
        """See ``Store.close``."""
        self._readers.close()
        self._indexer.close()
        self._writer.close()


def continue_after(saved: Saved, now: float) -> int:
    """Return the number after which a server goes on that starts at the time ``now`` (seconds since
    the epoch): none that it will give was given before, even if the file is older than it was.
    """
    number, time = saved.noted
    gap = min(now - (time / 1000 or EPOCH), LONGEST_GAP)
    by_clock = number + int(gap * NUMBERS_PER_SECOND)
    if by_clock <= saved.newest and saved.newest:  # the clock is behind
        return saved.newest + NUMBERS_LOST
    return max(by_clock, 0)


class EmbeddedLedger(Generic[Origin]):
    """Writes the archive of one server, by group commit.

    What is handed in during one turn of the reactor, or while a commit is under way, is one
    transaction. Behind the commits it makes messages findable (``index.extend``).

    :param saved: what there is already.
    :param clock: measures intervals; ``wall`` returns the time of day, in seconds since the epoch.
    :param retain: seconds for which messages are kept; None for ever.
    :param turn: at whose end is committed what was handed in.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        saved: Saved,
        clock: IReactorTime,
        wall: Callable[[], float],
        *,
        retain: float | None = None,
        turn: EndOfTurn | None = None,
    ) -> None:
        self.saved = saved
        self._store = store
        self._clock = clock
        self._wall = wall
        _, known = saved.noted
        self.time = SettledTime(clock.seconds, wall, known / 1000 if known else None)
        self._retain = retain
        self._turn = EndOfTurn(clock) if turn is None else turn
        self._committed: Committed[Origin] | None = None
        self._failed: Failed[Origin] | None = None
        # Between two numbers of one run there is nothing but what was refused or a repetition: so
        # their difference says how many messages wait. All up to the first is indexed.
        self._newest = continue_after(saved, wall())
        self._last = self._indexed = self._older_upto = self._newest
        # When numbers were given by the monotonic clock: Ids are forgotten by that.
        self._given = deque([(clock.seconds(), self._newest)])
        self._forgotten = saved.forgotten
        self._noted = saved.noted[0], clock.seconds()  # the number, and when
        self._waiting: list[tuple[Entry, Origin]] = []
        self._waiting_text = 0
        # Of which of them it is to be looked up whether they were said before.
        self._questions: list[tuple[int, int, str]] = []
        # What is under way: one commit, and beside it one step of indexing or one tidying of the
        # write-ahead log. (The index's side of the store keeps order; what is to be searched may
        # have steps of its own between.)
        self._busy = False  # a commit is, or will be in the next turn
        self._indexing = False
        self._tidying = False
        self._held = False  # the next commit waits for the end of one of them
        # What failed when it was tried last, and has been logged.
        self._broken = False  # a commit
        self._index_broken = False  # a step of indexing
        self._untidy = False  # tidying, or deleting what is old
        # Who waits for what is being committed, and for what waits to be.
        self._awaiting: list[Deferred[None]] = []
        self._awaiting_next: list[Deferred[None]] = []
        # What was sent under an Id and can't be looked up in the archive yet: all since some
        # number, and before it, up to another.
        self._recent: dict[tuple[int, str], tuple[int, int]] = {}
        self._older: dict[tuple[int, str], tuple[int, int]] = {}
        self._positions: dict[int, int] = {}
        self._lazy: IDelayedCall | None = None
        self._cleaning: IDelayedCall | None = clock.callLater(CLEAN_EVERY, self._clean)
        self._winding_down = False
        self._stopped: Deferred[None] | None = None

    @property
    def newest(self) -> int:
        """See ``Ledger.newest``."""
        return self._newest

    @property
    def pressed(self) -> bool:
        """See ``Ledger.pressed``."""
        return bool(self._waiting)

    def start(self, committed: Committed[Origin], failed: Failed[Origin]) -> None:
        """See ``Ledger.start``."""
        self._committed = committed
        self._failed = failed

    # In

    def say(
        self,
        author: int,
        sender: str,
        recipient: int,
        room: int,
        to: str,
        text: str,
        request: str | None,
        origin: Origin,
        *,
        again: bool,
    ) -> None:
        """See ``Ledger.say``."""
        self._check_room()
        if request is not None:
            repeat = self._said_lately(author, request)
            if repeat is not None:
                self._append(repeat, origin)
                return
        time = int(self._wall() * 1000)
        self._newest = number = self._newest + 1
        if request is not None:
            self._recent[author, request] = (number, time)
            if again:
                self._questions.append((number, author, request))
        self._waiting_text += len(text)
        self._append(
            Message(number, time, author, sender, recipient, room, to, text, request), origin
        )

    def ask(self, author: int, request: str, origin: Origin) -> None:
        """See ``Ledger.ask``."""
        self._check_room()
        self._newest += 1
        repeat = self._said_lately(author, request)
        if repeat is not None:
            self._append(repeat, origin)
        else:
            question = Again(self._newest, author, request)
            self._questions.append(question)
            self._append(question, origin)

    def _said_lately(self, author: int, request: str) -> Repeat | None:
        key = (author, request)
        found = self._recent.get(key) or self._older.get(key)
        return None if found is None else Repeat(*found)

    def change(self, change: Change, origin: Origin) -> None:
        """See ``Ledger.change``."""
        self._check_room()
        self._append(change, origin)

    def _check_room(self) -> None:
        if len(self._waiting) >= MAX_WAITING or self._waiting_text >= MAX_WAITING_TEXT:
            raise Unavailable("too much waits for the disk", retry_after=RETRY_WHEN_BROKEN)

    def _append(self, entry: Entry, origin: Origin) -> None:
        self._waiting.append((entry, origin))
        if not self._busy:
            self._busy = True
            self._turn.commit(self._commit)

    def note_position(self, user: int, number: int) -> None:
        """See ``Ledger.note_position``."""
        self._positions[user] = number
        self._be_lazy()

    # The commit

    def _commit(self) -> None:
        batch, self._waiting = self._waiting, []
        questions, self._questions = self._questions, []
        self._awaiting += self._awaiting_next
        self._awaiting_next = []
        self._waiting_text = 0
        if len(self._recent) > MAX_REMEMBERED and self._index_broken:
            self._let_go_of_older()
        messages = [entry for entry, _ in batch if type(entry) is Message]
        changes: list[Change] = []
        if len(messages) < len(batch):
            changes = [e for e, _ in batch if not isinstance(e, (Message, Repeat, Again))]
        done = self._store.write(
            archive.write, messages, changes, questions=questions, forgotten=self._forgotten
        )
        done.addCallbacks(self._done, self._not_done, callbackArgs=(batch,), errbackArgs=(batch,))
        done.addErrback(self._fault)
        done.addCallback(lambda _: self._next())

    def _done(self, repeats: dict[int, tuple[int, int]], batch: list[tuple[Entry, Origin]]) -> None:
        self._works()
        if repeats:
            for entry, _ in batch:
                if type(entry) is Message and entry.number in repeats:
                    assert entry.request is not None
                    self._recent[entry.author, entry.request] = repeats[entry.number]
            batch = [(self._first(entry, repeats), origin) for entry, origin in batch]
            self._waiting = [
                (self._first(entry, repeats), origin) for entry, origin in self._waiting
            ]
        for entry, _ in reversed(batch):
            if type(entry) is Message:
                self._last = entry.number
                break
        self._be_lazy()
        assert self._committed is not None, "the ledger was not started"
        self._committed(batch)

    def _works(self) -> None:
        if self._broken:
            self._broken = False
            self._log.info("writing works again")

    def _first(self, entry: Entry, repeats: dict[int, tuple[int, int]]) -> Entry:
        """Return ``entry``, or what was sent under its Id before it."""
        if isinstance(entry, (Message, Repeat, Again)) and entry.number in repeats:
            return Repeat(*repeats[entry.number])
        return entry

    def _not_done(self, failure: Failure, batch: list[tuple[Entry, Origin]]) -> None:
        """Nothing of ``batch`` is written, and of what came after it nothing will be: it may be
        meant to come after.
        """
        if not self._broken:
            self._broken = True
            self._log.error("can't write: {reason}", reason=failure.getErrorMessage())
        batch += self._waiting
        self._waiting = []
        self._awaiting += self._awaiting_next
        self._awaiting_next = []
        self._questions = []
        self._waiting_text = 0
        for entry, _ in batch:
            if type(entry) is Message and entry.request is not None:
                self._recent.pop((entry.author, entry.request), None)
                self._older.pop((entry.author, entry.request), None)
        assert self._failed is not None, "the ledger was not started"
        refusal = Unavailable("can't write", retry_after=RETRY_WHEN_BROKEN)
        self._failed(batch, refusal)

    def _fault(self, failure: Failure) -> None:
        self._log.failure("a fault in what follows a commit", failure)

    def _next(self) -> None:
        awaiting, self._awaiting = self._awaiting, []
        for deferred in awaiting:
            deferred.callback(None)
        waiting = self._last - self._indexed
        if waiting >= INDEX_STEP:
            self._go_on_indexing()
        if waiting > INDEX_LAG and (self._indexing or self._tidying) and not self._index_broken:
            self._held = True
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            # Not at once: a store may write within the call, and what is committed may have brought
            # forth what waits.
            self._turn.commit(self._commit)
            return
        self._busy = False
        if self._stopped is not None:
            self._finish(self._stopped)

    # Behind the commits

    def _be_lazy(self) -> None:
        if self._lazy is None and not self._winding_down:
            self._lazy = self._clock.callLater(LAZY, self._catch_up)

    def _catch_up(self) -> None:
        """Do what could wait."""
        self._lazy = None
        if self._positions:
            positions, self._positions = self._positions, {}
            noted = self._store.write(archive.write, positions=list(positions.items()))
            noted.addErrback(lambda _: self._positions_not_noted(positions))
        if self._indexed < self._last:
            self._go_on_indexing()
        self._tidy()

    def _tidy(self) -> None:
        """Have the write-ahead log taken into the file, where no commit waits for that.

        With all of it in the file the log begins anew. While there is no end of commits there is
        always a little that is not; so now and then what writes takes that itself. Nor does the
        log begin anew while somebody reads in it, so no step of indexing begins before.
        """
        if self._tidying or self._winding_down:
            return
        self._tidying = True
        tidied = Deferred.fromCoroutine(self._tidy_log())
        tidied.addErrback(self._not_cleaned)
        tidied.addCallback(self._is_tidied)

    async def _tidy_log(self) -> None:
        store = self._store
        pages = await store.index(archive.checkpoint)
        if pages > MAX_LOG:
            # Each takes what was committed during the one before, so that commits wait for little.
            steps = [store.index] * TIDY_AGAIN + [store.alone]
            for step in steps:
                if self._winding_down:
                    return  # the store may be closed
                await step(archive.checkpoint)
        self._untidy = False

    def _is_tidied(self, _: object) -> None:
        self._tidying = False
        self._index_further(None)  # no step was begun meanwhile, and none is under way

    def _positions_not_noted(self, positions: dict[int, int]) -> None:
        self._positions = positions | self._positions
        self._be_lazy()

    def _go_on_indexing(self) -> None:
        if self._indexing or self._tidying or self._winding_down:
            return
        self._indexing = True
        step = min(max(INDEX_STEP, self._last - self._indexed), INDEX_LARGE_STEP)
        self._index(step).addCallback(self._index_further)

    def _index_further(self, _: None) -> None:
        """A step, or the tidying, is done: begin what could not be meanwhile."""
        self._indexing = False
        waiting = self._last - self._indexed
        if waiting:
            # A few while others are committed would be many small steps.
            if self._index_broken or (waiting < INDEX_STEP and self._busy):
                self._be_lazy()
            else:
                self._go_on_indexing()
        if self._held:
            self._held = False
            self._go_on()

    def _index(self, limit: int) -> Deferred[None]:
        indexing = self._store.index(index.extend, limit)
        return indexing.addCallbacks(self._is_indexed, self._not_indexed)

    def _is_indexed(self, upto: int) -> None:
        self._indexed = max(upto, self._indexed)
        if self._index_broken:
            self._index_broken = False
            self._log.info("indexing works again")
        # A whole dict is let go of when all in it can be looked up: to delete one by one what can
        # would take the reactor's time.
        if upto >= self._older_upto:
            self._let_go_of_older()

    def _let_go_of_older(self) -> None:
        self._older, self._recent = self._recent, {}
        self._older_upto = self._newest

    def _not_indexed(self, failure: Failure) -> None:
        if not self._index_broken and not self._winding_down:  # else it was interrupted
            self._index_broken = True
            self._log.error("can't index: {reason}", reason=failure.getErrorMessage())

    def _not_cleaned(self, failure: Failure) -> None:
        if not self._untidy and not self._winding_down:
            self._untidy = True
            self._log.error("can't tidy: {reason}", reason=failure.getErrorMessage())

    def _clean(self) -> None:
        """Note the time and delete what is too old, and then wait for the next time."""
        self._cleaning = None
        cleaned = Deferred.fromCoroutine(self._clean_all())
        cleaned.addErrback(self._not_cleaned).addCallback(self._clean_later)

    def _clean_later(self, _: None) -> None:
        if not self._winding_down:
            self._cleaning = self._clock.callLater(CLEAN_EVERY, self._clean)

    async def _clean_all(self) -> None:
        """Delete a little at a time, between other things."""
        store, now, earliest = self._store, self._clock.seconds(), self.time.earliest()
        number, noted_at = self._noted
        if number != self._newest or now - noted_at >= NOTE_EVERY:
            await self._note()
        self._given.append((now, self._last))
        while self._given[0][0] <= now - REMEMBER_REQUESTS:
            self._forgotten = self._given.popleft()[1]
        while not self._winding_down:
            if not await store.index(index.forget_requests, self._forgotten, CLEAN_STEP):
                break
        if self._retain is None or self._winding_down:
            return
        before = int((earliest - self._retain) * 1000)
        old = await store.index(archive.last_number_before, before)
        while not self._winding_down:
            span = await store.index(index.remove, old, CLEAN_STEP)
            if span is None or self._winding_down:
                break
            await store.write(archive.expire, *span)

    async def _note(self) -> None:
        """Note what time it is, and how far numbers are."""
        number, at = self._newest, self._clock.seconds()
        await self._store.write(archive.record_progress, number, int(self.time.now() * 1000))
        self._noted = number, at

    # Out

    def missed(
        self, user: int, after: int, upto: Callable[[], int], asker: Asker, *, own: bool
    ) -> Deferred[Page]:
        """See ``Ledger.missed``."""

        def read(cursor: Cursor) -> Page:
            return archive.missed(cursor, user, after, upto(), own=own)

        return self._store.read(read, asker=asker)

    def history(
        self, conversation: Conversation, span: Span, asker: Asker
    ) -> Deferred[tuple[list[Message], bool]]:
        """See ``Ledger.history``."""
        return self._when_committed(
            self._store.read, archive.history, conversation, span, asker=asker
        )

    def search(
        self,
        user: int,
        rooms: Sequence[int],
        conversation: Conversation | None,
        query: str,
        count: int,
        asker: Asker,
    ) -> Deferred[list[Message]]:
        """See ``Ledger.search``."""
        what = (user, rooms, conversation, query, count)

        def search(_: None, last: int) -> Deferred[list[Message]]:
            if self._indexed < last and not (self._index_broken or self._winding_down):
                return self._index(INDEX_LARGE_STEP).addCallback(search, last)
            return self._store.read(archive.search, *what, asker=asker, search=True)

        return self._when_committed(lambda: search(None, self._last))

    def wind_down(self) -> None:
        """See ``Ledger.wind_down``."""
        self._winding_down = True
        self._store.interrupt()

    def _when_committed(
        self, function: Callable[..., Deferred[Result]], *args: Any, **kw: Any
    ) -> Deferred[Result]:
        """Call ``function`` when all that was handed in until now is committed."""
        committed: Deferred[None] = Deferred()
        if self._waiting:
            self._awaiting_next.append(committed)
        elif self._busy:
            self._awaiting.append(committed)
        else:
            committed.callback(None)
        return committed.addCallback(lambda _: function(*args, **kw))

    def stop(self) -> Deferred[None]:
        """Close the archive; fire when all that was handed in is committed."""
        self.wind_down()
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        if self._cleaning is not None:
            self._cleaning.cancel()
            self._cleaning = None
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        if not self._busy:
            self._finish(stopped)
        return stopped.addCallback(lambda _: self._store.close())

    def _finish(self, stopped: Deferred[None]) -> None:
        finished = Deferred.fromCoroutine(self._write_rest())
        finished.addErrback(
            lambda why: self._log.error(
                "can't write who has what: {reason}", reason=why.getErrorMessage()
            )
        )
        finished.addCallback(lambda _: stopped.callback(None))

    async def _write_rest(self) -> None:
        await self._note()
        if self._positions:
            await self._store.write(archive.write, positions=list(self._positions.items()))
