"""The conversations of a terminal: the current one, what is unread in each, and what was shown.

``Conversations`` decides which messages a terminal shows in its stream, what is shown on turning to
a conversation, and up to which message a conversation is read. This module must not know how
something is shown, or how the server is asked.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chat_twisted.core.message import fold
from chat_twisted.ui.values import ALL, Received

MAX_UNREAD = 50
"""Maximum number of unread messages of a conversation whose texts are kept."""

MAX_HELD = 1000
"""Maximum number of messages that wait for the history of their conversation. Beyond it, and beyond
``MAX_UNREAD_TEXT``, messages are shown before those that came earlier, so that none is lost."""

MAX_UNREAD_TEXT = 8 * 1024 * 1024
"""Maximum characters of all texts that are kept. Beyond it, the texts of the conversation that has
been unread for longest are dropped first. A text counts as at least ``LEAST``."""

LEAST = 256

MAX_RUNS = 20
"""Maximum number of runs of shown messages that are remembered for a conversation."""

MAX_CONVERSATIONS = 1000
"""Maximum number of conversations that are remembered. The messages of further ones are shown, and
not counted."""


@dataclass(slots=True)
class Conversation:
    """What is known of a conversation.

    :ivar number: its number for ``nth``, the smallest that was free; 0 if it is not open: it is
        known from the server's list alone, and nothing in it is unread.
    :ivar unread: the number of unread messages.
    :ivar newest: the newest of them.
    :ivar marker: the number of the message up to which it is read, as the server knows it.
    :ivar muted: whether its messages are kept out of the stream.
    """

    name: str
    number: int = 0
    unread: int = 0
    newest: deque[Received] = field(default_factory=deque)
    marker: int = 0
    muted: bool = False
    _read: int = 0  # the number up to which it is read here
    _highlight: int = 0  # the number of the newest message that was highlighted
    # the numbers of the messages that were shown, in runs: between two, something was hidden
    _shown: deque[range] = field(default_factory=lambda: deque(maxlen=MAX_RUNS))
    _hiding: bool = False  # whether a message was hidden since the newest run
    _whole: bool = False  # whether its history was shown, and all that has come since
    _unread_since: int = 0  # when it became unread, see Conversations._now
    _left: bool = False  # whether it ends when the user turns to another one
    _turned: int = 0  # when it became the current one

    @property
    def highlighted(self) -> bool:
        """Whether an unread message is highlighted. Direct messages always are."""
        return self.unread > 0 and (is_direct(self.name) or self._highlight > self._read)


class Active(NamedTuple):
    """A conversation with unread messages, for the prompt."""

    number: int
    name: str
    unread: int
    highlighted: bool


class Shown(NamedTuple):
    """The messages that are to be shown after turning to a conversation.

    :ivar old: those that were read before.
    :ivar new: those that were not.
    :ivar more: the number of unread messages before ``new`` that are not here.
    """

    old: list[Received]
    new: list[Received]
    more: int = 0


class Conversations:
    """All conversations of a user. ``ALL`` is always there, as number 1, and is the current one at
    the start.

    :ivar view: ``all`` shows the messages of all conversations in the stream; ``current`` shows
        those of the current one.
    """

    def __init__(self, view: str = "all") -> None:
        self.view = view
        self._conversations: dict[str, Conversation] = {}
        self._size = 0  # characters of the kept messages, see LEAST
        self._now = 0  # increases; orders the conversations
        self._counted = 0  # the server's counts include the messages up to this number
        self._current = self.open(ALL)
        # While the current one waits for its history: how many messages wait with it, and the
        # numbers of those that were shown nevertheless.
        self._filling = False
        self._held = 0
        self._overtaking: set[int] = set()

    def __iter__(self) -> Iterator[Conversation]:
        """Iterate over the conversations with unread messages, in the order in which they are to
        be visited: highlighted ones first, muted ones last, then by the time they became unread.
        """
        unread = (c for c in self._conversations.values() if c.unread)
        return iter(sorted(unread, key=lambda c: (not c.highlighted, c.muted, c._unread_since)))

    @property
    def current(self) -> str:
        """The name of the current conversation."""
        return self._current.name

    def get(self, place: str) -> Conversation | None:
        """Return a conversation, or None if it is not known."""
        return self._conversations.get(fold(place))

    def open(self, place: str) -> Conversation:
        """Return a conversation, which has a number from now on. Called for rooms that the user is
        in.
        """
        conversation = self._find(place)
        conversation._left = False
        if not conversation.number:
            taken = {c.number for c in self._conversations.values()}
            conversation.number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        return conversation

    def _find(self, place: str) -> Conversation:
        found = self.get(place)
        if found is None:
            found = Conversation(ALL if fold(place) == fold(ALL) else place)
            if len(self._conversations) >= MAX_CONVERSATIONS:
                idle = [
                    c
                    for c in self._conversations.values()
                    if not (c.unread or c.muted or c is self._current or c.name == ALL)
                ]
                if not idle:
                    return found  # not remembered
                forgotten = min(idle, key=lambda c: (c.number > 0, c._turned))
                del self._conversations[fold(forgotten.name)]
            self._conversations[fold(place)] = found
        return found

    def counted(self, listed: Iterable[tuple[str, int, int]], newest: int) -> None:
        """Take the server's list after a login.

        :param listed: the name of each conversation, the read marker or 0, and the number of unread
            messages.
        :param newest: the number of the newest message at the login. Messages up to it, which may
            come after the list, are in the server's counts.
        """
        self._counted = max(self._counted, newest)
        unread_first = sorted(listed, key=lambda each: not each[2])
        for place, marker, unread in unread_first[:MAX_CONVERSATIONS]:
            self.read(place, marker)
            conversation = self._find(place)
            if conversation is self._current and not self._filling:
                continue  # read here, though the server may not know it yet
            if conversation._read <= marker:
                self._set_unread(conversation, max(unread, conversation.unread))
            if conversation.unread:
                self.open(place)

    def _set_unread(self, conversation: Conversation, count: int) -> None:
        if count and not conversation.unread:
            self._now += 1
            conversation._unread_since = self._now
        conversation.unread = count

    # Messages

    def came(self, place: str, message: Received, highlighted: bool = False) -> bool:
        """Take a message of another user; return whether it is to be shown now.

        If not, it is shown on turning to the conversation, or by ``filled``.
        """
        conversation = self.open(place)
        shown = self._is_streamed(conversation)
        if self._waits(conversation):
            shown = (
                message.number <= conversation._read
                or self._held >= MAX_HELD
                or self._size >= MAX_UNREAD_TEXT
            )
            self._held += not shown
        self._show(conversation, message.number, shown)
        if shown and conversation is self._current:
            self._read_shown(conversation)
        elif message.number > conversation._read:
            self._add(conversation, message)
            if highlighted:
                conversation._highlight = message.number
        return shown

    def shows(self, place: str) -> bool:
        """Return whether news of a conversation are shown now."""
        conversation = self.get(place)
        return self.view == "all" if conversation is None else self._is_streamed(conversation)

    def _is_streamed(self, conversation: Conversation) -> bool:
        if conversation is self._current or self._is_forgotten(conversation):
            return True
        return self.view == "all" and not conversation.muted

    def _is_forgotten(self, conversation: Conversation) -> bool:
        return self.get(conversation.name) is not conversation

    def _waits(self, conversation: Conversation) -> bool:
        return self._filling and conversation is self._current

    def _show(self, conversation: Conversation, number: int, shown: bool = True) -> None:
        """Note whether a message is shown."""
        runs = conversation._shown
        if not shown:
            conversation._whole, conversation._hiding = False, True
        elif self._waits(conversation):
            self._overtaking.add(number)
        elif runs and not conversation._hiding:
            runs.append(_joined(runs.pop(), range(number, number + 1)))
        else:
            conversation._hiding = False
            runs.append(range(number, number + 1))

    def _add(self, conversation: Conversation, message: Received) -> None:
        if self._is_forgotten(conversation):
            return
        newest = conversation.newest
        if len(newest) >= MAX_UNREAD and not self._waits(conversation):
            self._size -= _weight(newest.popleft())
        newest.append(message)
        self._size += _weight(message)
        count = conversation.unread + (message.number > self._counted)
        self._set_unread(conversation, max(count, len(newest)))
        if self._size > MAX_UNREAD_TEXT:
            for oldest in sorted(self._conversations.values(), key=lambda c: c._unread_since):
                while oldest.newest and self._size > MAX_UNREAD_TEXT and not self._waits(oldest):
                    self._size -= _weight(oldest.newest.popleft())

    def answered(self, place: str, number: int, *, here: bool = False) -> bool:
        """Take a message that the user has sent; return whether to show it. Its conversation is
        read up to it.

        :param here: whether it was sent on this connection: then it is always shown.
        """
        conversation = self.open(place)
        shown = here or self._is_streamed(conversation)
        self._show(conversation, number, shown)
        if not self._waits(conversation):
            self._read_here(conversation, number)
        return shown

    def remove(self, place: str, number: int) -> None:
        """Remove a message that was deleted, if it is unread."""
        conversation = self.get(place)
        kept = conversation.newest if conversation else ()
        message = next((m for m in kept if m.number == number), None)
        if conversation is not None and message is not None:
            conversation.newest.remove(message)
            conversation.unread = max(conversation.unread - 1, len(conversation.newest))
            self._size -= _weight(message)

    # Turning to a conversation

    def turned(self, place: str) -> int:
        """Make a conversation the current one; return 0 if all of it was shown.

        Otherwise its history is wanted, and its messages wait until ``filled`` is called with the
        returned number, so that they are shown in order.
        """
        before, self._current = self._current, self.open(place)
        for number in sorted(self._overtaking):  # of a history that is not awaited any more
            before._shown.append(range(number, number + 1))
            before._hiding = True
        if before._left and before is not self._current:
            self.pop(before.name)
        self._conversations[fold(place)] = self._current
        self._overtaking.clear()
        self._held = 0
        self._now += 1
        self._current._turned = self._now
        self._filling = not self._current._whole
        if not self._filling:
            self._read_shown(self._current)
        return self._now if self._filling else 0

    def filled(self, turn: int, history: Sequence[Received]) -> Shown:
        """Return what is to be shown after turning to a conversation.

        It is empty if the user has turned again meanwhile. Messages that were shown before are not
        among it.

        :param turn: the number that ``turned`` has returned.
        :param history: the newest messages of the conversation, by the server; empty if they are
            not known.
        """
        conversation = self._current
        if not self._filling or turn != conversation._turned:
            return Shown([], [])
        self._filling = False
        overtaking, runs = self._overtaking, conversation._shown
        found = {m.number: m for m in (*conversation.newest, *history)}
        numbers = sorted(found.keys() - overtaking)
        start = conversation._read
        if not start:  # the server counts since the user is a member
            start = [0, *numbers][-conversation.unread - 1 :][0]
        unread = sum(n > start for n in numbers) if conversation.unread else 0
        more = max(conversation.unread - unread, 0)
        hidden = [n for n in numbers if not any(n in run for run in runs)]
        old = [found[n] for n in hidden if n <= start or not unread]
        new = [found[n] for n in hidden if n > start and unread]
        if found or overtaking:
            runs.append(range(min((*found, *overtaking)), max((*found, *overtaking)) + 1))
        if runs:
            conversation._shown = deque([functools.reduce(_joined, runs)], MAX_RUNS)
        conversation._whole, conversation._hiding = True, False
        overtaking.clear()
        self._read_shown(conversation)
        return Shown(old, new, more)

    def previous(self) -> str:
        """Return the conversation that was the current one before, or ``ALL``."""
        others = [c for c in self._conversations.values() if c is not self._current and c._turned]
        return max(others, key=lambda c: c._turned).name if others else ALL

    def next_unread(self) -> str | None:
        """Return the conversation to visit next, or None if nothing is unread."""
        return next((c.name for c in self if c is not self._current), None)

    def nth(self, number: int) -> str | None:
        """Return the conversation with a number, or None."""
        found = (c.name for c in self._conversations.values() if c.number == number)
        return next(found, None) if number > 0 else None

    def activity(self, limit: int = MAX_CONVERSATIONS) -> list[Active]:
        """Return the conversations with unread messages, at most ``limit``, by their numbers."""
        unread = [c for c in self if c is not self._current][:limit]
        return sorted(Active(c.number, c.name, c.unread, c.highlighted) for c in unread)

    # Read markers

    def read(self, place: str, number: int) -> None:
        """Note the read marker that the server has: it was set here, or on another connection."""
        conversation = self._find(place)
        conversation.marker = max(conversation.marker, number)
        self._read_here(conversation, number)

    def _read_shown(self, conversation: Conversation) -> None:
        """Note that the user has read the current conversation, all of which was shown."""
        if not self._waits(conversation):
            newest = max((run[-1] for run in conversation._shown), default=0)
            conversation._read = max(conversation._read, newest)
            conversation.unread = 0
            self._forget(conversation)

    def _read_here(self, conversation: Conversation, number: int) -> None:
        if number <= conversation._read:
            return
        conversation._read = number
        conversation.unread = sum(m.number > number for m in conversation.newest)
        if not self._waits(conversation):  # else they are not shown yet
            self._forget(conversation, number)

    def _forget(self, conversation: Conversation, number: float = math.inf) -> None:
        """Forget the kept messages up to a number."""
        while conversation.newest and conversation.newest[0].number <= number:
            self._size -= _weight(conversation.newest.popleft())

    def marker_to_send(self, place: str) -> int:
        """Return the number up to which a conversation is read here, or 0 if the server knows."""
        conversation = self.get(place)
        if conversation is None or conversation._read <= conversation.marker:
            return 0
        return conversation._read

    def markers_to_send(self) -> list[tuple[str, int]]:
        """Return the conversations, and the markers, that the server does not know yet."""
        return [(c.name, c._read) for c in self._conversations.values() if c._read > c.marker]

    def went_back(self, last: int) -> None:
        """Forget the messages after ``last``, which the server has lost: their numbers are used
        again.
        """
        self._counted = min(self._counted, last)
        self._overtaking = {number for number in self._overtaking if number <= last}
        for conversation in self._conversations.values():
            conversation.marker = min(conversation.marker, last)
            conversation._read = min(conversation._read, last)
            conversation._highlight = min(conversation._highlight, last)
            while conversation.newest and conversation.newest[-1].number > last:
                self._size -= _weight(conversation.newest.pop())
            conversation.unread = len(conversation.newest)  # until the server has counted again
            runs = (range(run.start, min(run.stop, last + 1)) for run in conversation._shown)
            conversation._shown = deque(filter(None, runs), MAX_RUNS)

    # Changes of conversations

    def mute(self, place: str, on: bool = True) -> None:
        """Keep the messages of a conversation out of the stream, or show them again."""
        self.open(place).muted = on

    def muted(self) -> list[str]:
        """Return the names of the muted conversations."""
        return [c.name for c in self._conversations.values() if c.muted]

    def rename(self, old: str, new: str) -> None:
        """Use the new name of a conversation, which is a user."""
        conversation = self._conversations.pop(fold(old), None)
        if conversation is not None:
            if fold(old) != fold(new):
                self.pop(new)
            conversation.name, conversation.marker = new, 0  # the marker belongs to the name
            self._conversations[fold(new)] = conversation

    def pop(self, place: str) -> None:
        """Forget a conversation: the user has left the room. If it is the current one, it stays
        that, empty, until the user turns to another.
        """
        conversation = self.get(place)
        if conversation is None or conversation.name == ALL:
            return
        self._forget(conversation)
        del self._conversations[fold(place)]
        if conversation is self._current:
            left = Conversation(conversation.name, conversation.number, _left=True)
            self._current = self._conversations[fold(place)] = left
            self._filling = False


def is_direct(place: str) -> bool:
    """Return whether a conversation is one with another user."""
    return place != ALL and not place.startswith("#")


def _joined(one: range, other: range) -> range:
    return range(min(one.start, other.start), max(one.stop, other.stop))


def _weight(message: Received) -> int:
    return max(LEAST, len(message.text))
