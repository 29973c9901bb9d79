"""What a member does for its cluster: it notices members that are silent, has what is due ended,
writes acknowledgement cursors into the log, and deletes records that no node needs any more.

All members do the first two of these for others or themselves; the first member does the rest for
all. This module must not know how records get into the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from chat_twisted.core.commands import Command, Sweep
from chat_twisted.core.state import State
from chat_twisted.storage.cursors import Cursors
from chat_twisted.storage.embedded import SWEEP_STEP
from chat_twisted.storage.log import Log, Unknown
from chat_twisted.storage.membership import LEASE, Membership, Node

RECORD_CURSORS = 60.0
"""Seconds between two records of the cursors of users who stay logged in."""

PURGE_EVERY = 60.0
"""Seconds between two purges of the log."""

KEPT = 10_000
KEPT_FOR = 600.0
"""How many records are kept that all nodes have applied, and for how many seconds at least: a new
node is not known yet while it copies an archive, and then needs all that came after it.
"""

MAKE_SPACE_EVERY = 5.0
KEPT_IF_FULL = 1_000
"""The seconds between two purges of a log that is full, and how many records are kept then. Others
are not, since nobody can write until there is space.
"""


class Duties:
    """The duties of one node.

    :param name: the name of the node.
    :param clock: a monotonic clock.
    :param propose: proposes a command that is only delayed if it gets lost.
    """

    def __init__(
        self, name: str, log: Log, clock: IReactorTime, propose: Callable[[Command], None]
    ) -> None:
        self._name = name
        self._to = log
        self._clock = clock
        self._propose = propose
        now = clock.seconds()
        self._heard: dict[str, float] = {}  # when the last record of each node was applied
        self._record_at = now + RECORD_CURSORS
        self._purge_at = now + PURGE_EVERY
        self._make_space_at = now
        # The position that all nodes had applied, at the last times of a purge.
        self._applied_by_all: deque[int] = deque(maxlen=1 + int(KEPT_FOR / PURGE_EVERY))

    def heard(self, names: Collection[str]) -> None:
        """Note that records of these nodes were applied now."""
        self._heard.update(dict.fromkeys(names, self._clock.seconds()))

    def silent(self, membership: Membership, time: int, steady_since: float) -> Iterator[str]:
        """Yield the other members that may be declared gone.

        :param time: the log's time, in milliseconds.
        :param steady_since: the clock's time from which on this node has followed the log without a
            break.
        """
        now = self._clock.seconds()
        if now - steady_since < LEASE / 1000:
            return
        for name in membership.overdue(time):
            # The log's time may have jumped, for example when all nodes were suspended.
            heard = self._heard.get(name, steady_since)
            if name != self._name and now - heard >= LEASE / 1000:
                yield name

    def record_cursors(self, cursors: Cursors, state: State, *, at_once: bool = False) -> None:
        """Propose to store the cursors that the log does not have yet, if it is time.

        :param at_once: whether it is.
        """
        now = self._clock.seconds()
        if now >= self._record_at or at_once:
            self._record_at = now + RECORD_CURSORS
            for command in cursors.commands(state.users):
                self._propose(command)

    def lead(self, membership: Membership, state: State, time: int, *, is_idle: bool) -> None:
        """Do what the first member does; nothing on other nodes.

        :param time: the log's time, in milliseconds.
        :param is_idle: whether nothing of this node is on its way to the log.
        """
        if membership.members[0].name != self._name:
            return
        due = state.next_due
        if due is not None and due <= time and is_idle:
            self._propose(Sweep(SWEEP_STEP))
        now = self._clock.seconds()
        if now >= self._purge_at:
            self._purge_at = now + PURGE_EVERY
            self._purge(membership.lowest)

    def make_space(self, membership: Membership) -> None:
        """Purge a log that is full, if it is time; nothing on other nodes than the first member."""
        now = self._clock.seconds()
        if membership.members[0].name == self._name and now >= self._make_space_at:
            self._make_space_at = now + MAKE_SPACE_EVERY
            self.purge_for(membership.nodes.values()).addErrback(lambda fault: fault.trap(Unknown))

    def purge_for(self, nodes: Iterable[Node]) -> Deferred[None]:
        """Delete the records that none of these nodes needs, from a log that is full.

        :return: fails with ``Unknown``.
        """
        below = min((node.position for node in nodes), default=0) + 1 - KEPT_IF_FULL
        return self._to.purge(below) if below > 1 else succeed(None)

    def _purge(self, applied_by_all: int) -> None:
        """Delete the records from the log that no node needs any more."""
        self._applied_by_all.append(applied_by_all)
        below = min(self._applied_by_all) + 1 - KEPT
        if len(self._applied_by_all) == self._applied_by_all.maxlen and below > 1:
            self._to.purge(below).addErrback(lambda fault: fault.trap(Unknown))
