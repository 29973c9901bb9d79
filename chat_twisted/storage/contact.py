"""Whether a node is in touch with its cluster, and who is told when that changes.

A node is in touch as long as its own records come back from the log soon after they were appended.
Before its lease is over, and others may take its place, it is out of touch by itself. This module
must not know what records are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

LOST_AFTER = 4.0
"""Seconds without an own record that came back, after which the node is out of touch. Its lease
ends one second later."""

FULL_FOR = 2.5
"""Seconds for which the log counts as full after it has said so; the node asks every second."""


class Watcher(Protocol):
    """Who is told what happens to a node."""

    def reachable(self) -> None:
        """Called when the node can serve from now on."""

    def unreachable(self, reason: str) -> None:
        """Called when it is out of touch; its sessions must end."""

    def broken(self, reason: str) -> None:
        """Called if it can't go on."""


class Contact:
    """Whether a node is in touch.

    :ivar is_made: whether it is in touch.
    :ivar steady_since: the clock's time since which it is, and the log takes records.
    :ivar watcher: who is told; None as long as the node has not begun.
    :param clock: a monotonic clock.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.is_made = False
        self.steady_since = clock.seconds()
        self.watcher: Watcher | None = None
        self._clock = clock
        self._appended = clock.seconds()  # when its last record that came back was appended

    def came_back(self, appended: float | None, *, is_ready: bool) -> None:
        """Called when a record of this node has come back.

        :param appended: when it was appended; None for the last one once more.
        :param is_ready: whether the node may serve.
        """
        now = self._clock.seconds()
        if appended is not None:
            self._appended = appended
        if not self.is_made and is_ready and now - self._appended < LOST_AFTER:
            self.is_made = True
            self.steady_since = now
            if self.watcher is not None:
                self.watcher.reachable()

    def refused(self) -> None:
        """Called when the log has not taken a record."""
        self.steady_since = self._clock.seconds()

    def is_full(self, full_at: float) -> bool:
        """Return whether the log is full now. Then no node can write, so no lease ends.

        :param full_at: when it has last said so.
        """
        full = self._clock.seconds() - full_at < FULL_FOR
        if full:
            self.refused()
        return full

    @property
    def is_overdue(self) -> bool:
        """Whether the node is still in touch, and must not be any more."""
        return self.is_made and self._clock.seconds() - self._appended >= LOST_AFTER

    def lose(self, reason: str, refuse: Callable[[], None]) -> None:
        """Be out of touch.

        :param reason: part of a sentence.
        :param refuse: called before sessions are told, to refuse what they have asked.
        """
        if self.is_made:
            self.is_made = False
            refuse()
            if self.watcher is not None:
                self.watcher.unreachable(reason)
