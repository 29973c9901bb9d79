"""The interface of a log that several nodes share, and its errors.

Records are appended to the log, and each gets a position. Every node follows the log and takes all
its records in the order of the positions. Beside it the nodes send each other short messages, which
are not stored and may be lost. This module must not know which program stores the log, what the
records mean, or an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

LARGEST = 576 * 1024
"""Size in bytes of the largest record, question or answer that every log must take. It may refuse
larger ones.
"""


class NotTaken(Exception):
    """The record is not in the log, and it is certain that it never will be.

    :ivar full: whether the reason is that the log has no space left. It can still be read.
    """

    def __init__(self, reason: str, *, full: bool = False) -> None:
        super().__init__(reason)
        self.full = full


class Unknown(Exception):
    """No answer. A record may be in the log, or may get into it later."""


class LogBroken(Exception):
    """The log can't be followed any more: records that were not taken are no longer stored, records
    that were taken are missing, it is another log, or there is none. ``str`` says to the operator
    what happened.
    """


class Bounds(NamedTuple):
    """Which log it is, and which positions are stored.

    :ivar identity: of the log; a log that is made anew has another one.
    :ivar first: the lowest position that is still stored; ``last + 1`` if none is.
    :ivar last: the highest position that was ever given; 0 if none was. The first one is 1.
    """

    identity: str
    first: int
    last: int


Taken = Callable[[Sequence[tuple[int, bytes]]], Deferred[None] | None]
"""Type of the callback for records, each with its position. If it returns a Deferred, the next call
waits for that.
"""


class Log(Protocol):
    """A log that several nodes share."""

    def append(self, data: bytes) -> Deferred[int]:
        """Append a record.

        :return: fires with its position, or fails with ``NotTaken`` or ``Unknown``.
        """

    def follow(self, after: int, take: Taken, broken: Callable[[LogBroken], None]) -> None:
        """Call ``take`` with all records after a position, in order and without gaps, until
        ``close``.

        Records that have come together are taken together. Lost connections are made again. Call
        this once.

        :param after: the position of the last record that was taken before; 0 if none was.
        :param broken: called once if it can't go on; ``take`` is not called after that.
        """

    def bounds(self) -> Deferred[Bounds]:
        """Return which log it is and what it stores.

        :return: fails with ``Unknown``, or with ``LogBroken`` if the log can't be used.
        """

    def purge(self, below: int) -> Deferred[None]:
        """Delete the records with positions lower than ``below``. Fails with ``Unknown``."""

    def tell(self, topic: str, data: bytes) -> None:
        """Send a message to all other nodes that hear the topic now. It may be lost."""

    def hear(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Call ``heard`` with each message about the topic that another node tells."""

    def ask(self, topic: str, data: bytes, patience: float) -> Deferred[bytes]:
        """Ask one of the nodes that answer questions about the topic.

        :param patience: maximum time for the answer, in seconds.
        :return: fires with the answer, or fails with ``Unknown``.
        """

    def answer(self, topic: str, answer: Callable[[bytes], Deferred[bytes]]) -> None:
        """Call ``answer`` with questions about the topic, and send its result back. If it fails,
        nothing is sent.
        """

    def close(self) -> Deferred[None]:
        """Stop everything, and close the connection. Appends that wait fail with ``Unknown``."""
