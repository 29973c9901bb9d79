"""The user's own messages on the terminal, until their outcome is known.

They are shown beside the prompt, because they may still change: a message is on its way, or sent
and not yet delivered. Refused ones are counted in a single line; the user can send them again or
drop them. This module must not know the terminal, or how a message is laid out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.message import Audience, parse_target
from chat_twisted.ui.layout import Line, speaker, tag

DELIVERED_WITHIN = 3
"""Seconds for which a sent direct message stays beside the prompt to wait for its delivery."""

MAX_LATE = 1000
"""Maximum number of messages whose later delivery is still reported."""

MAX_SHOWN = 5
"""Maximum number of messages shown beside the prompt."""

MAX_UNSENT = 1000
"""Maximum number of messages that are on their way or refused."""

UNANSWERED_AFTER = 10
"""Seconds after which it is shown for how long a message has been waiting for its answer."""


class DeliveryState(enum.Enum):
    """The state of a message that the user has sent."""

    SENDING = "on its way"
    SENT = "sent"
    REFUSED = "refused"


_STYLES = {
    DeliveryState.SENDING: "class:dim",
    DeliveryState.SENT: "",
}


@dataclass(slots=True)
class OutgoingMessage:
    """A message that the user has sent, until its outcome is known.

    :ivar since: when it was sent, by the outbox's clock.
    :ivar number: its number, when it is committed; 0 before.
    :ivar reason: if it was refused, the sentence that says why.
    """

    to: str
    text: str
    kind: str
    since: float
    state: DeliveryState = DeliveryState.SENDING
    number: int = 0
    time: str = ""
    reason: str = ""
    overdue: IDelayedCall | None = None


class Outbox:
    """The outgoing messages by the IDs that the view gives them, in the order of sending.

    :param settled: called with a message whose state is final, and a remark about it.
    :param redraw: called when ``waits`` has changed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        settled: Callable[[OutgoingMessage, str], None],
        redraw: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._settled = settled
        self._redraw = redraw
        self._timer: IDelayedCall | None = None  # while messages are on their way
        self._messages: dict[int, OutgoingMessage] = {}
        self._late: dict[int, OutgoingMessage] = {}

    def __contains__(self, id: int | None) -> bool:
        return id in self._messages

    @property
    def is_full(self) -> bool:
        """Whether no message can be added before others are answered, sent again or dropped."""
        return len(self._messages) >= MAX_UNSENT

    def add(self, id: int, to: str, text: str, kind: str = "text") -> None:
        """Add a message that is being sent; ``kind`` is as in ``Received``."""
        self._messages[id] = OutgoingMessage(to, text, kind, self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(UNANSWERED_AFTER, self._tick)

    def _tick(self) -> None:
        self._timer = self._clock.callLater(1, self._tick)
        self._redraw()

    def _is_answered(self) -> None:
        if self._timer is not None and not self.count_sending():
            self._timer.cancel()
            self._timer = None

    def waits(self) -> int:
        """Return for how many seconds the oldest message has been waiting for its answer; 0 if they
        are less than ``UNANSWERED_AFTER``.
        """
        oldest = next(
            (m for m in self._messages.values() if m.state is DeliveryState.SENDING), None
        )
        waits = int(self._clock.seconds() - oldest.since) if oldest else 0
        return waits if waits >= UNANSWERED_AFTER else 0

    def lines(self, user: str) -> list[Line]:
        """Return a line about the refused messages, and the newest of the others as lines.

        :param user: the user's own name.
        """
        messages = [m for m in self._messages.values() if m.state is not DeliveryState.REFUSED]
        lines: list[Line] = []
        if refused := len(self._messages) - len(messages):
            lines.append([("class:error", f"{refused} not sent: /again, /drop, or edit with Up")])
        if len(messages) > MAX_SHOWN:
            lines.append([("class:dim", f"… {len(messages) - MAX_SHOWN} more")])
        for message in messages[-MAX_SHOWN:]:
            style, state = _STYLES[message.state], message.state.value
            first, *more = message.text.split("\n")
            text = f"{tag(message.to)} {speaker(user, message.kind)} {first}{' …' if more else ''}"
            lines.append([(style, text), (style, f" ({state})")])
        return lines

    def take_refused(self) -> list[OutgoingMessage]:
        """Remove and return all refused messages, in order."""
        refused = [id for id, own in self._messages.items() if own.state is DeliveryState.REFUSED]
        return [self._messages.pop(id) for id in refused]

    def count_sending(self) -> int:
        """Return the number of messages that are on their way."""
        return sum(own.state is DeliveryState.SENDING for own in self._messages.values())

    def sent(self, id: int, number: int, time: str) -> OutgoingMessage | None:
        """Note that a message is committed; return it, or None if it is not here.

        A direct message waits for its delivery; any other is settled.
        """
        own = self._messages.get(id)
        if own is None:
            return None
        own.number, own.time, own.state = number, time, DeliveryState.SENT
        self._is_answered()
        if parse_target(own.to).audience is Audience.USER:
            own.overdue = self._clock.callLater(DELIVERED_WITHIN, self._overdue, id)
        else:
            self._settle(id, "")
        return own

    def delivered(self, number: int) -> OutgoingMessage | None:
        """Note that a direct message was delivered; return it if it was settled before."""
        waiting = (id for id, own in self._messages.items() if own.number == number)
        id = next(waiting, None)
        if id is None:
            return self._late.pop(number, None)
        self._settle(id, "✓ delivered")
        return None

    def _overdue(self, id: int) -> None:
        own = self._messages[id]
        own.overdue = None
        self._late[own.number] = own
        if len(self._late) > MAX_LATE:
            del self._late[next(iter(self._late))]
        self._settle(id, "sent, not delivered yet")

    def _settle(self, id: int, remark: str) -> None:
        own = self._messages.pop(id)
        if own.overdue is not None:
            own.overdue.cancel()
        self._settled(own, remark)

    def refused(self, id: int, sentence: str) -> str:
        """Note that a message was refused.

        :param sentence: why.
        :return: the sentence for the user; empty if another refused message has the same one.
        """
        own = self._messages[id]
        sentence = f"Not sent to {own.to}: {sentence}"
        told = any(other.reason == sentence for other in self._messages.values())
        own.state, own.reason = DeliveryState.REFUSED, sentence
        self._is_answered()
        return "" if told else sentence

    def end(self) -> list[OutgoingMessage]:
        """Settle the messages that are sent, and return those that are not. Called when the session
        has ended.
        """
        sent = [id for id, own in self._messages.items() if own.state is DeliveryState.SENT]
        for id in sent:
            self._settle(id, "sent, not delivered yet")
        unsent = list(self._messages.values())
        self._messages.clear()
        self._is_answered()
        return unsent
