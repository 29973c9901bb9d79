"""The output of a session channel: what waits for the peer's window, and in which order.

This module must not know packets or connections.
"""

from __future__ import annotations

MAX_PIECE = 32_768
"""Maximum bytes of one packet of data, even if the peer takes larger ones."""

MAX_WINDOW = 2**32 - 1
"""Maximum size of a window (RFC 4254, 5.2)."""


class Output:
    """Data of standard output and standard error, in the order in which it was written.

    :ivar window: bytes that the peer takes now.
    :ivar added: all bytes that were written so far.
    :ivar sent: all bytes that the peer's window has taken so far.
    :param piece: maximum bytes of a packet that the peer takes.
    """

    __slots__ = ("_piece", "_runs", "added", "sent", "window")

    def __init__(self, window: int, piece: int) -> None:
        self.window = window
        self.added = 0
        self.sent = 0
        self._piece = min(piece, MAX_PIECE)
        # Data of the same kind, which is sent together; for each whether it is standard error.
        self._runs: list[tuple[bool, bytearray]] = []

    @property
    def waiting(self) -> int:
        """Bytes that are not sent yet."""
        return self.added - self.sent

    def add(self, data: bytes, *, is_error: bool) -> None:
        """Write data."""
        self.added += len(data)
        if self._runs and self._runs[-1][0] == is_error:
            self._runs[-1][1].extend(data)
        else:
            self._runs.append((is_error, bytearray(data)))

    def next(self) -> tuple[bool, bytes] | None:
        """Remove and return the data of the next packet, and whether it is standard error; None if
        there is none, or the peer takes no more now.
        """
        if not self._runs or not self.window:
            return None
        is_error, run = self._runs[0]
        size = min(len(run), self.window, self._piece)
        data = bytes(run[:size])
        if size == len(run):
            del self._runs[0]
        else:
            del run[:size]
        self.window -= size
        self.sent += size
        return is_error, data
