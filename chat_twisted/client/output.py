"""Notes whether the server reads, and what is to be written when it reads again.

Frames that nobody has requested, such as confirmations, must not pile up while the server does not
read. This module must not know what the frames mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Output:
    """A push producer, which Twisted pauses while output waits for the server.

    :ivar is_full: whether output waits.
    :param write: writes to the connection.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.is_full = False
        self._write = write
        self._postponed: dict[str, bytes] = {}  # frames to write when the server reads again

    def start(self, transport: Any) -> None:
        """Watch the output of a new connection."""
        transport.registerProducer(self, True)
        self.is_full = False
        self._postponed.clear()

    def write_newest(self, kind: str, frame: bytes) -> None:
        """Write a frame. While output waits, only the newest frame of each ``kind`` is kept, and
        written after it.
        """
        if self.is_full:
            self._postponed[kind] = frame
        else:
            self._write(frame)

    def pauseProducing(self) -> None:
        """Called by Twisted when output waits."""
        self.is_full = True

    def resumeProducing(self) -> None:
        """Called by Twisted when no output waits any more."""
        self.is_full = False
        postponed, self._postponed = self._postponed, {}
        for kind, frame in postponed.items():
            self.write_newest(kind, frame)

    def stopProducing(self) -> None:
        """Called by Twisted when the connection is lost."""
