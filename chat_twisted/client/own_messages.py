"""Tells messages that a session has sent itself from those of the user's other connections.

After a reconnect, the server sends both. A session knows its own messages by the numbers with which
they were answered. So a message under the user's own name is held back while the outcome of a
message that was sent on the lost connection is not known. This module must not know the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from chat_twisted.ui.values import Received

MAX_OWN_NUMBERS = 100_000
"""Maximum number of remembered message numbers that were sent by this user and are newer than the
last received one: after a reconnect the server sends those messages again."""

MAX_HELD_BACK = 10_000
"""Maximum number of messages under the user's own name that are held back until the client knows
whether it sent them itself."""


class OwnMessages:
    """The messages of a session, and the held messages under the user's name.

    :ivar numbers: the numbers of own messages that the server may send again.
    :param report: called with each message that the user has sent on another connection.
    """

    def __init__(self, report: Callable[[Received], None]) -> None:
        self.numbers: set[int] = set()
        self._report = report
        self._in_order: deque[int] = deque()  # nearly sorted: the server answers SENDs in order
        self._unsent: set[int] = set()  # the IDs of messages without an answer
        self._in_doubt: set[int] = set()  # those of them that were sent on a lost connection
        self._held: list[Received] = []

    @property
    def newest(self) -> int:
        """The greatest of the numbers, or 0."""
        return max(self.numbers, default=0)

    def sending(self, id: int) -> None:
        """Note that a message is being sent."""
        self._unsent.add(id)

    def settled(self, id: int) -> None:
        """Note that a request was answered, which may be a message."""
        self._unsent.discard(id)
        self._in_doubt.discard(id)

    def reconnected(self) -> None:
        """Note that the messages without an answer are sent again."""
        self._in_doubt = set(self._unsent)

    def sent(self, number: int, last_received: int) -> None:
        """Note the number of an own message."""
        if (number > last_received or self._held) and number not in self.numbers:
            self.numbers.add(number)
            self._in_order.append(number)
            if len(self.numbers) > MAX_OWN_NUMBERS:
                self.numbers.remove(self._in_order.popleft())

    def hold(self, message: Received) -> None:
        """Take a message under the user's own name, and report it as soon as possible."""
        self._held.append(message)
        # rather show a message twice than keep an unbounded number
        if len(self._held) > MAX_HELD_BACK:
            self._in_doubt.clear()
        self.report()

    def report(self) -> None:
        """Report the held messages of other connections, if no message is in doubt."""
        if self._held and not self._in_doubt:
            held, self._held = self._held, []
            for message in held:
                if message.number not in self.numbers:
                    self._report(message)

    def drop(self, number: int) -> None:
        """Drop a held message that was deleted."""
        self._held = [message for message in self._held if message.number != number]

    def received(self, last: int) -> None:
        """Forget the numbers up to ``last``, which the server will not send again."""
        while self._in_order and self._in_order[0] <= last and not self._held:
            self.numbers.remove(self._in_order.popleft())

    def went_back(self, last: int) -> None:
        """Forget the numbers after ``last``, which the server has lost."""
        held = {message.number for message in self._held}
        order = [number for number in self._in_order if number <= last or number in held]
        self.numbers, self._in_order = set(order), deque(order)

    def end(self) -> None:
        """Report all held messages. Called when the session has ended."""
        self._in_doubt.clear()
        self.report()
