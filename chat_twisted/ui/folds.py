"""Long messages of which only the beginning is shown: ``/show N`` shows the rest.

This module must not know how a message is laid out.
"""

from __future__ import annotations

from chat_twisted.ui.values import Received

MAX_FOLDS = 100
"""Maximum number of messages that are kept."""

MAX_FOLD_TEXT = 4 * 1024 * 1024
"""Maximum characters of their texts. The oldest are dropped first."""


class Folds:
    """The messages by short numbers, which increase and are never used again."""

    def __init__(self) -> None:
        self._messages: dict[int, Received] = {}
        self._last = 0
        self._size = 0

    def add(self, message: Received) -> int:
        """Keep a message; return its short number."""
        for short, kept in self._messages.items():
            if message.number and kept.number == message.number:
                return short
        self._last += 1
        self._messages[self._last] = message
        self._size += len(message.text)
        while len(self._messages) > MAX_FOLDS or self._size > MAX_FOLD_TEXT:
            self._drop(next(iter(self._messages)))
        return self._last

    def get(self, short: int) -> Received | None:
        """Return the message with a short number, or None if it is not kept."""
        return self._messages.get(short)

    def remove(self, number: int) -> None:
        """Forget the message with the server's ``number``, which was deleted."""
        for short in [short for short, kept in self._messages.items() if kept.number == number]:
            self._drop(short)

    def _drop(self, short: int) -> None:
        self._size -= len(self._messages.pop(short).text)
