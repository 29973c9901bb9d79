"""Sends the user's messages, and shows what became of them.

This module must not know how the user types a request.
"""

from __future__ import annotations

from collections.abc import Callable

from chat_twisted.core.message import fold
from chat_twisted.ui.asking import agrees
from chat_twisted.ui.commands import Say
from chat_twisted.ui.console import Console
from chat_twisted.ui.errors import NotConnected, Refused
from chat_twisted.ui.outgoing import Outbox, OutgoingMessage
from chat_twisted.ui.turning import Turning
from chat_twisted.ui.values import Received

MAX_CONVERSATIONS = 1000
"""Maximum number of conversations in which the user's last message is remembered."""

MAX_PASTE = 20
"""Maximum number of lines that are sent as one message without a confirmation."""

MAX_TEXT = 2000
"""Maximum number of characters that are sent without a confirmation."""


class Sending:
    """Sends messages.

    :ivar outbox: the messages whose outcome is not known or that were refused.
    :param come_back: called when somebody who is away writes; see ``Settings.back``.
    """

    def __init__(self, console: Console, turning: Turning, come_back: Callable[[], object]) -> None:
        self.outbox = Outbox(console.clock, self._show_own, console.terminal.refresh)
        self._console = console
        self._turning = turning
        self._come_back = come_back
        self._next_id = 1  # of an outgoing message
        # the number of the user's last message in each conversation, by its folded name
        self._last_own: dict[str, int] = {}

    def say(self, message: Say) -> bool:
        """Send a message, a long one if the user agrees; return whether that is possible now."""
        if self.outbox.is_full:
            self._console.complain("Too many messages wait already (/drop)")
            return False
        lines, characters = message.text.count("\n") + 1, len(message.text)
        if lines > MAX_PASTE:
            self._console.start(self._confirm(message, f"{lines} lines"))
        elif characters > MAX_TEXT:
            self._console.start(self._confirm(message, f"{characters} characters"))
        else:
            self._send(message)
        return True

    async def _confirm(self, message: Say, amount: str) -> None:
        if await agrees(self._console.terminal, f"Send {amount} to {message.to}?"):
            self._send(message)
        else:
            self._console.tell("Not sent")

    def _send(self, message: Say) -> None:
        id, self._next_id = self._next_id, self._next_id + 1
        self.outbox.add(id, message.to, message.text, message.kind)
        self._console.roster.talked(message.to)
        self._console.start(self._deliver(id, message))

    async def _deliver(self, id: int, message: Say) -> None:
        if self._console.away is not None and self._console.settings.back:
            self._come_back()
        try:
            sent = await self._console.session.send(message.to, message.text, message.kind)
        except Refused as problem:
            if sentence := self.outbox.refused(id, self._console.explain(message, problem.refusal)):
                self._console.complain(sentence)
        except NotConnected:
            return  # ``lost`` says which messages were not sent
        else:
            self.note_own(message.to, sent.number)
            self._console.conversations.answered(message.to, sent.number, here=True)
            self.outbox.sent(id, sent.number, sent.time)
            self._turning.mark_soon()
        self._console.terminal.refresh()

    def send_again(self) -> None:
        """Send all refused messages again, in order."""
        for own in self.outbox.take_refused():
            self._send(Say(own.to, own.text, own.kind))
        self._console.terminal.refresh()

    def drop(self) -> None:
        """Forget all refused messages."""
        self.outbox.take_refused()
        self._console.terminal.refresh()

    def note_own(self, place: str, number: int) -> None:
        """Note the number of the user's last message in a conversation."""
        self._last_own.pop(fold(place), None)
        self._last_own[fold(place)] = number
        if len(self._last_own) > MAX_CONVERSATIONS:
            del self._last_own[next(iter(self._last_own))]

    def _show_own(self, own: OutgoingMessage, remark: str) -> None:
        """Show an outgoing message among the others. Called when its state is final."""
        message = Received(
            own.number, own.time, self._console.user, own.to, own.text, kind=own.kind
        )
        self._console.show_message(message, remark)
        self._console.terminal.refresh()

    def last_own(self, place: str) -> int | None:
        """Return the number of the user's last message in a conversation, or None."""
        return self._last_own.get(fold(place))

    def forget_own(self, place: str, number: int) -> None:
        """Forget a message that was deleted."""
        if self._last_own.get(fold(place)) == number:
            del self._last_own[fold(place)]

    def went_back(self, last: int) -> None:
        """Forget the messages after ``last``, whose numbers the server uses again for others."""
        self._last_own = {place: n for place, n in self._last_own.items() if n <= last}

    def rename(self, old: str, new: str) -> None:
        """Use the new name of a user."""
        if fold(old) in self._last_own:
            self._last_own[fold(new)] = self._last_own.pop(fold(old))
