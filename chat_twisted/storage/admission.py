"""How a node becomes a member: it follows the log to its end, and asks by a record of its own.

The node first finds out where the log ends. When all records up to there are applied, it appends a
record that says that it is up (``records.Up``). It is a member when that record has come back, and
the members took it; otherwise it asks again. The founder of a cluster brings an archive along that
is not in the log, so it also deletes the beginning of the log: new nodes must copy an archive. This
module must not know what a member does, or when a node is out of touch.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Generic

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chat_twisted.core.commands import Options
from chat_twisted.core.ledger import Request
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger
from chat_twisted.storage import replica
from chat_twisted.storage.applying import WRITE_AGAIN, Applier
from chat_twisted.storage.embedded import Writer
from chat_twisted.storage.log import Bounds, Log, LogBroken, Unknown
from chat_twisted.storage.membership import LEASE, NameTaken, OtherOptions
from chat_twisted.storage.outbox import Outbox
from chat_twisted.storage.records import FORMAT, Up
from chat_twisted.storage.replica import Replica

UP_AGAIN = 1.0
UP_WITHIN = 2.5 * LEASE / 1000
"""A node that may not become a member, because the one before it, or others, may still live, asks
again after so many seconds, and gives up after that time."""

ASK_AGAIN = 1.0
"""Seconds after which the log is asked again that did not answer."""


class Admission(Generic[Request]):
    """The admission of one node, until it stops.

    :ivar is_member: whether it is a member, as far as it knows.
    :ivar has_asked: whether it has asked, and the answer is not there yet.
    :ivar incarnation: under which it has asked last; 0 before.
    :param name: the name of the node.
    :param writer: writes the archive.
    :param clock: a monotonic clock.
    :param applier: applies the records, but none yet.
    :param outbox: sends the records.
    :param place: the place of the archive in the cluster; None if it has none yet.
    :param founded: called when a founder has deleted the beginning of the log.
    :param broken: called if the node can't become a member, with the reason.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        log: Log,
        writer: Writer,
        clock: IReactorTime,
        applier: Applier[Request],
        outbox: Outbox[Request],
        place: Replica | None,
        founded: Callable[[], None],
        broken: Callable[[str], None],
    ) -> None:
        self.is_member = False
        self.has_asked = False
        self.incarnation = 0
        self._name = name
        self._to = log
        self._writer = writer
        self._clock = clock
        self._applier = applier
        self._outbox = outbox
        self._place = place
        self._founded = founded
        self._broken = broken
        # What the founder brings along is not in the log, so other nodes must copy its archive.
        self._is_founding = bool(applier.state.version) and (place is None or not place.applied)
        # With which it asks to become a member; None for those of the cluster.
        self._options: Options | None = Options()
        self._after = 0  # if this node begins the log, messages are numbered after that
        self._target: int | None = None  # the position at which this node may come up
        # When it was refused first, by the clock; and the log's time when it had asked.
        self._refused: tuple[float, int] | None = None
        self._ask_at: float | None = None  # when it asks again
        self._stopped = False

    @property
    def has_caught_up(self) -> bool:
        """Whether all records are applied that were in the log when this node started."""
        return self._target is not None and self._applier.position >= self._target

    @property
    def may_serve(self) -> bool:
        """Whether the node is a member, and no new node can miss what it has brought along."""
        return self.is_member and not self._is_founding

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return self._ask_at is not None and self._clock.seconds() >= self._ask_at

    def set_start(self, options: Options | None, after: int) -> None:
        """Set what the node comes up with; see ``commands.Start``."""
        self._options, self._after = options, after

    # Following

    async def find_place(self) -> Replica | None:
        """Find out where the log ends, and write that the archive is that of a node.

        :return: the place from which on the node is to follow the log; None if it can't, or if it
            was stopped.
        """
        bounds = await self._ask_bounds()
        if bounds is None:
            return None
        place = self._place
        if place is None:
            place = Replica(bounds.identity, 0, self._applier.chain, self._name, 0)
        elif place.stream != bounds.identity:
            self._broken("the log is not the one that this archive has followed")
            return None
        names = {node.name for node in place.nodes}
        if bounds.first == 1 and bounds.last and names == {self._name}:
            self._is_founding = True  # it may have been killed when it founded
        await self._write_place(place)
        if self._stopped:
            return None
        self._target = bounds.last
        return place

    async def _ask_bounds(self) -> Bounds | None:
        said = False
        while not self._stopped:
            try:
                return await self._to.bounds()
            except LogBroken as error:
                self._broken(str(error))
                return None
            except Unknown as error:
                if not said:
                    self._log.warn(
                        "waiting for the cluster's log: {reason}",
                        event="cluster-waiting",
                        reason=str(error),
                    )
                    said = True
            await deferLater(self._clock, ASK_AGAIN)
        return None

    async def _write_place(self, place: Replica) -> None:
        """Write that the archive is that of a node; try again until it works."""
        said = False
        while not self._stopped:
            try:
                await self._writer.write(replica.join, place)
                return
            except Exception as error:  # noqa: BLE001  it is tried again
                if not said:
                    self._log.error(
                        "can't write: {reason}", event="write-failed", reason=explain(error)
                    )
                    said = True
            await deferLater(self._clock, WRITE_AGAIN)

    # Asking

    def ask(self) -> None:
        """Ask to become a member. All records up to the log's end must be applied."""
        self._ask_at = None
        self.has_asked = True
        self.incarnation = secrets.randbits(62) + 1
        self._outbox.begin()
        options = self._applier.state.options if self._options is None else self._options
        self._outbox.note(up=Up(self._applier.incarnation, options, FORMAT, self._after))

    def ask_later(self) -> None:
        """Called when the record was not taken, for a reason that will pass."""
        self._ask_at = self._clock.seconds() + UP_AGAIN

    def refused(self, refusal: NameTaken | OtherOptions, time: int) -> None:
        """Called when this node may not become a member now.

        :param time: the log's time when it has asked; the answer may have taken long.
        """
        now = self._clock.seconds()
        if self._refused is None:
            self._refused = now, time
        since, first = self._refused
        if now - since >= UP_WITHIN and time - first >= UP_WITHIN * 1000:
            self._broken(str(refusal))
            return
        self._log.warn(
            "this node may not join now: {reason}", event="cluster-refused", reason=str(refusal)
        )
        self.ask_later()

    def admitted(self) -> None:
        """Called when this node has become a member."""
        self.is_member = True
        self.has_asked = False
        self._options = None  # a member can change those of the cluster
        self._refused = None
        self._outbox.release()
        self._log.info("this node is a member of the cluster", event="cluster-joined")
        if self._is_founding:
            hiding = Deferred.fromCoroutine(self._hide_beginning())
            hiding.addErrback(lambda fault: self._log.failure("while founding", fault))

    async def _hide_beginning(self) -> None:
        """Delete the first record, so that new nodes copy an archive."""
        while not self._stopped:
            try:
                await self._to.purge(self._applier.position + 1)
            except Unknown:
                await deferLater(self._clock, ASK_AGAIN)
            else:
                self._is_founding = False
                self._founded()
                return

    def stop(self) -> None:
        """Don't ask any more."""
        self._stopped = True
