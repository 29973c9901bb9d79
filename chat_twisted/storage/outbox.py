"""The outbox of a node: the commands that wait for the log, and the batch that is on its way.

One batch is in flight at a time; all commands that are proposed meanwhile form the next one. A
batch that is certain not to be in the log is tried again for a short time, and then refused. If it
may be in the log, it is appended again, byte by byte the same, until it is seen there. This module
must not know what the commands mean, or who is a member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from chat_twisted.core.commands import Command, DuplicateQuery, Turn
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.ledger import Request
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.logs import Logger
from chat_twisted.storage.log import LARGEST, Log, NotTaken
from chat_twisted.storage.proposed import RETRY_AFTER, Item, Waiting
from chat_twisted.storage.records import NotInFormat, Up

MAX_BATCH = LARGEST - 64 * 1024
"""Maximum size of the commands of one batch, in bytes; a larger command is a batch of its own. The
rest of the record needs some space.
"""

MAX_COMMANDS = 2_000
"""Maximum number of commands of one batch, so that applying it takes a few milliseconds."""

PATIENCE = 3.0
"""Seconds for which a batch is tried again that was not taken, for example while the log has no
leader."""

AGAIN_AFTER = 0.25
"""Seconds between two such attempts."""

UNKNOWN_AGAIN_AFTER = 1.0
"""Seconds after which a batch is appended again of which it is not known whether it was taken."""

LOCAL = (Turn, DuplicateQuery)
"""Commands that change nothing: they take their place among those of this node, but are not put in
the log."""


class Notes(NamedTuple):
    """What a record says beside its commands; see ``records.Record``."""

    up: Up | None = None
    gone: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    down: bool = False


NO_NOTES = Notes()


class Batch(Generic[Request]):
    """A batch that is in flight.

    :ivar number: its number.
    :ivar items: its commands, each with its request; also those that are not in the log.
    :ivar notes: what it says beside them.
    :ivar begun: the clock's time of the first attempt.
    """

    def __init__(
        self,
        number: int,
        items: Sequence[Item[Request]],
        notes: Notes,
        data: bytes,
        begun: float,
    ) -> None:
        self.number = number
        self.items = items
        self.notes = notes
        self.data = data
        self.begun = begun
        self.uncertain = False  # whether an attempt may have succeeded, or may yet
        self.again: IDelayedCall | None = None


class Outbox(Generic[Request]):
    """Sends batches to a log, one at a time.

    :ivar flight: the batch that is in flight, if any.
    :ivar full_at: the clock's time when the log has last said that it is full.
    :param clock: a monotonic clock.
    :param turn: the commands of one turn are a batch, at its end.
    :param encode_command: encodes a command; raises ``NotInFormat``.
    :param encode: makes the data of a batch from its number, its notes and encoded commands.
    :param answer: called with the commands that need not go to the log, if nothing is before them.
    :param refuse: called with commands that are certainly not in the log.
    :param refused: called with the notes of a batch that is certainly not in the log.
    """

    _log = Logger()

    def __init__(
        self,
        log: Log,
        clock: IReactorTime,
        turn: EndOfTurn,
        encode_command: Callable[[Command], bytes],
        encode: Callable[[int, Notes, Sequence[bytes]], bytes],
        answer: Callable[[Sequence[Item[Request]]], None],
        refuse: Callable[[Sequence[Item[Request]], Unavailable], None],
        refused: Callable[[Notes], None],
    ) -> None:
        self.flight: Batch[Request] | None = None
        self.full_at = float("-inf")
        self._to = log
        self._clock = clock
        self._turn = turn
        self._encode_command = encode_command
        self._encode = encode
        self._answer = answer
        self._refuse = refuse
        self._refused = refused
        self._number = 0
        self._waiting: Waiting[Request] = Waiting("cluster")
        self._local: list[Item[Request]] = []  # those that nothing is before
        self._notes = NO_NOTES
        self._beats = False  # whether a batch is due even without commands
        self._holds = True  # whether commands wait until the node is a member
        self._planned = False
        self._refusing = False  # as it was logged

    @property
    def has_backlog(self) -> bool:
        """Whether commands wait, or are on their way to the log."""
        return bool(self._waiting) or self._is_ordering

    @property
    def waiting(self) -> int:
        """The number of commands that wait."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is in flight."""
        return self.flight is None and not self._waiting and self._notes == NO_NOTES

    def put(self, command: Command, request: Request | None) -> None:
        """Add a command.

        :raises Unavailable: if too many wait.
        """
        if type(command) in LOCAL and not self._waiting and not self._is_ordering:
            if not self._local:
                self._turn.commit(self._answer_local)
            self._local.append((command, request))
            return
        self._waiting.add(command, request)
        self._plan()

    @property
    def _is_ordering(self) -> bool:
        """Whether commands of this node are on their way to the log."""
        return self.flight is not None and bool(self.flight.items)

    def _answer_local(self) -> None:
        local, self._local = self._local, []
        self._answer(local)

    def note(
        self,
        *,
        up: Up | None = None,
        gone: Sequence[str] = (),
        forget: Sequence[str] = (),
        down: bool = False,
    ) -> None:
        """Say something in the next record."""
        notes = self._notes
        self._notes = Notes(
            up or notes.up,
            tuple(dict.fromkeys((*notes.gone, *gone))),
            tuple(dict.fromkeys((*notes.forget, *forget))),
            down or notes.down,
        )
        self._plan()

    def beat(self) -> None:
        """Send a batch soon, even an empty one; nothing if one is in flight."""
        if self.flight is None:
            self._beats = True
            self._plan()

    def begin(self) -> None:
        """Number the batches from 1 on, for another incarnation. Commands wait for ``release``."""
        self._drop_flight()
        self._number = 0
        self._notes = NO_NOTES
        self._holds = True

    def release(self) -> None:
        """Send commands from now on: the node is a member."""
        self._holds = False
        if self._waiting:
            self._plan()

    def seen(self, number: int) -> Batch[Request] | None:
        """Take the batch that is in flight, because it was found in the log, and is decided.

        :param number: the number of the batch that was found.
        :return: the batch; None if another one is in flight, or none.
        """
        batch = self.flight
        if batch is None or batch.number != number:
            return None
        self._drop_flight()
        if self._waiting or self._beats or self._notes != NO_NOTES:
            self._plan()
        return batch

    def refuse_waiting(self, reason: str) -> None:
        """Refuse all commands that wait and were never appended."""
        self.refuse(self._waiting.take(), reason)

    def refuse(self, items: Sequence[Item[Request]], reason: str) -> None:
        """Refuse commands that are certainly not in the log; answer those that need not be."""
        asked = [item for item in items if type(item[0]) in LOCAL]
        others = [item for item in items if type(item[0]) not in LOCAL]
        if others:
            self._refuse(others, Unavailable(reason, retry_after=RETRY_AFTER))
        if asked:
            self._answer(asked)

    def stop(self) -> None:
        """Send nothing any more."""
        self._drop_flight()
        self._holds = True
        self._beats = False
        self._notes = NO_NOTES

    def _drop_flight(self) -> None:
        batch, self.flight = self.flight, None
        if batch is not None and batch.again is not None:
            batch.again.cancel()
            batch.again = None

    # Sending

    def _plan(self) -> None:
        if not self._planned and self.flight is None:
            self._planned = True
            self._turn.commit(self._send)

    def _send(self) -> None:
        self._planned = False
        if self.flight is not None:
            return
        notes = self._notes
        items: Sequence[Item[Request]] = ()
        encoded: Sequence[bytes] = ()
        if not self._holds:
            items, encoded = self._form()
        if not encoded and notes == NO_NOTES and not self._beats:
            if items:
                self._answer(items)
            return
        self._notes = NO_NOTES
        if notes.down and self._waiting:
            notes, self._notes = notes._replace(down=False), Notes(down=True)
        self._beats = False
        self._number += 1
        data = self._encode(self._number, notes, encoded)
        batch = Batch(self._number, items, notes, data, self._clock.seconds())
        self.flight = batch
        self._append(batch)

    def _form(self) -> tuple[Sequence[Item[Request]], Sequence[bytes]]:
        """Take the commands of the next batch from those that wait."""
        items: list[Item[Request]] = []
        encoded: list[bytes] = []
        size = count = 0
        for command, request in self._waiting:
            data: bytes | None = None
            if type(command) not in LOCAL:
                if len(encoded) >= MAX_COMMANDS:
                    break
                data = self._encoded(command, request)
                if data is not None and encoded and size + len(data) > MAX_BATCH:
                    break
            count += 1
            if data is not None:
                size += len(data)
                encoded.append(data)
            elif type(command) not in LOCAL:
                continue
            items.append((command, request))
        self._waiting.drop(count)
        return items, encoded

    def _encoded(self, command: Command, request: Request | None) -> bytes | None:
        """Return a command as it is in a record; None if it can't be, and is refused."""
        try:
            return self._encode_command(command)
        except NotInFormat as error:
            refusal = Unavailable(str(error))
        except Exception:  # noqa: BLE001  a defect must not stop the others
            self._log.failure("a command can't be encoded")
            refusal = Unavailable("the server has failed at this")
        self._refuse([(command, request)], refusal)
        return None

    def _append(self, batch: Batch[Request]) -> None:
        batch.again = None
        appended = maybeDeferred(self._to.append, batch.data)
        appended.addCallbacks(self._taken, self._not_taken, errbackArgs=(batch,))
        appended.addErrback(lambda fault: self._log.failure("while a batch was appended", fault))

    def _taken(self, position: int) -> None:
        """Called when the log has a batch, which is done when it is found there."""
        if self._refusing:
            self._refusing = False
            self._log.info("the log takes records again", event="cluster-log-resumed")

    def _not_taken(self, failure: Failure, batch: Batch[Request]) -> None:
        if self.flight is not batch:
            return
        error = failure.value
        if not isinstance(error, NotTaken):
            batch.uncertain = True
            self._try_again(batch, UNKNOWN_AGAIN_AFTER)
            return
        if error.full:
            self.full_at = self._clock.seconds()
        if batch.uncertain:
            self._try_again(batch, UNKNOWN_AGAIN_AFTER)
        elif not error.full and self._clock.seconds() - batch.begun < PATIENCE:
            self._try_again(batch, AGAIN_AFTER)
        else:
            self._give_up(batch, error)

    def _try_again(self, batch: Batch[Request], after: float) -> None:
        batch.again = self._clock.callLater(after, self._append, batch)

    def _give_up(self, batch: Batch[Request], error: NotTaken) -> None:
        if not self._refusing:  # a node that is cut off asks again every few seconds, for hours
            self._refusing = True
            self._log.error(
                "the log does not take records: {reason}",
                event="cluster-log-failed",
                reason=str(error),
            )
        self.flight = None
        # What waits may depend on the batch, and a message must not overtake one that was refused,
        # since its sender may not have seen that yet.
        items = [*batch.items, *self._waiting.take()]
        self.refuse(items, f"the log of the cluster does not take it: {error}")
        self._refused(batch.notes)
        if self._waiting or self._notes != NO_NOTES:
            self._plan()
