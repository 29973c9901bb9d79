"""Doors: each speaks one client protocol, bytes into calls on the hub and messages into bytes.

A door holds no rule of the chat, and none imports another.
"""

from __future__ import annotations

from collections.abc import Callable

from chat_twisted.errors import ChatError

MAX_QUEUED = 8 * 1024 * 1024
"""Bytes that may wait for one peer. One that lets more gather does not read, and is cut off."""


class Nowhere:
    """Stands for the connection of a session that has ended.

    Who remembers the session, since a message of it is still on its way, must not keep the
    connection with its buffers alive.
    """

    host: str | None = None

    def write(self, data: bytes) -> None:
        """Write to nobody."""

    def hold(self) -> None:
        """Nothing is read."""

    def go_on(self) -> None:
        """Nothing is read."""

    def when_written(self, then: Callable[[], None]) -> None:
        """Nothing more is to be written."""

    def registered(self, session: object) -> None:
        """Nobody comes."""

    def refuse(self, error: ChatError, id: str | None = None) -> None:
        """Nobody is there to be told."""

    def expect(self) -> None:
        """Nobody is there to be silent."""

    def close(self, why: str) -> None:
        """It is closed."""

    def abort(self, why: str) -> None:
        """It is closed."""
