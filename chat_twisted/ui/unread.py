"""The unread messages of the terminal's other conversations: how many there are, and the newest.

This module must not know how they are shown, or when a conversation is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from chat_twisted.core.message import fold
from chat_twisted.ui.values import Received

MAX_UNREAD = 50
"""Maximum number of unread messages of a conversation that are shown again on switching to it."""

MAX_UNREAD_TEXT = 8 * 1024 * 1024
"""Maximum characters of all unread messages that are kept. Beyond it, the messages of the oldest
conversations are dropped first. A message counts as at least ``LEAST``."""

LEAST = 256

MAX_CONVERSATIONS = 1000
"""Maximum number of conversations whose unread messages are counted."""


@dataclass(slots=True)
class Unread:
    """The unread messages of a conversation."""

    name: str
    count: int = 0
    newest: deque[Received] = field(default_factory=lambda: deque(maxlen=MAX_UNREAD))


class UnreadMessages:
    """The unread messages of all conversations, in the order in which they became unread."""

    def __init__(self) -> None:
        self._conversations: dict[str, Unread] = {}
        self._size = 0  # characters of the kept messages, see LEAST

    def __iter__(self) -> Iterator[Unread]:
        return iter(self._conversations.values())

    def add(self, place: str, message: Received) -> None:
        """Add a message to the conversation ``place``."""
        unread = self._conversations.get(fold(place))
        if unread is None:
            if len(self._conversations) >= MAX_CONVERSATIONS:
                return
            unread = self._conversations[fold(place)] = Unread(place)
        unread.count += 1
        if len(unread.newest) == MAX_UNREAD:
            self._size -= _weight(unread.newest.popleft())
        unread.newest.append(message)
        self._size += _weight(message)
        for oldest in self:
            while oldest.newest and self._size > MAX_UNREAD_TEXT:
                self._size -= _weight(oldest.newest.popleft())

    def pop(self, place: str) -> Unread | None:
        """Remove and return the messages of a conversation, or None if all are read."""
        unread = self._conversations.pop(fold(place), None)
        if unread is not None:
            self._size -= sum(map(_weight, unread.newest))
        return unread

    def read(self, place: str, number: int) -> None:
        """Remove the messages up to ``number``, which the user has read on another connection."""
        unread = self.pop(place)
        if unread is not None:
            for message in unread.newest:
                if message.number > number:
                    self.add(unread.name, message)

    def rename(self, old: str, new: str) -> None:
        """Use the new name of a conversation, which is a user."""
        unread = self._conversations.pop(fold(old), None)
        if unread is not None:
            unread.name = new
            self._conversations[fold(new)] = unread

    def remove(self, place: str, number: int) -> None:
        """Remove a message that was deleted, if it is here."""
        unread = self._conversations.get(fold(place))
        message = next((m for m in unread.newest if m.number == number), None) if unread else None
        if unread is not None and message is not None:
            unread.newest.remove(message)
            unread.count -= 1
            self._size -= _weight(message)
            if not unread.count:
                del self._conversations[fold(place)]


def _weight(message: Received) -> int:
    return max(LEAST, len(message.text))
