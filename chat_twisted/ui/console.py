"""What the parts of a terminal's view share: the session, the terminal, and what is known.

``Console`` shows notices and messages. This module must not know typed lines, or which events
there are.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chat_twisted.core.message import fold
from chat_twisted.logs import Logger
from chat_twisted.ui.commands import Command, Say
from chat_twisted.ui.conversations import Conversations, is_direct
from chat_twisted.ui.folds import Folds
from chat_twisted.ui.layout import Line, MessageLayout
from chat_twisted.ui.layout import mark as divider
from chat_twisted.ui.roster import Roster
from chat_twisted.ui.sentences import explain, room_of
from chat_twisted.ui.session import ChatSession
from chat_twisted.ui.settings import Memory, Settings
from chat_twisted.ui.values import Received, Refusal, conversation_of
from chat_twisted.ui.wording import Wording, text_of

MAX_NOTICE = 200
"""Maximum characters of a message in a desktop notification."""


class Terminal(Protocol):
    """The interface of the terminal that a view draws on."""

    def show(self, lines: Sequence[Line]) -> None:
        """Show lines permanently above the prompt."""

    def clear(self) -> None:
        """Clear the screen above the prompt."""

    def columns(self) -> int:
        """Return the width of the terminal, in columns."""

    def refresh(self) -> None:
        """Draw the prompt, and the lines beside it, again."""

    def ring(self) -> None:
        """Ring the bell."""

    def notify(self, title: str, text: str) -> None:
        """Show a desktop notification, if the terminal supports it."""

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a line; see ``asking.Questions``."""

    def stop(self, code: int, reason: str) -> None:
        """End with an exit code; ``reason`` is for standard error."""


class Console:
    """The shared parts of a view.

    :ivar session: the session; to be set before it is connected.
    :ivar user: the user's name.
    :ivar connected: whether the session is connected.
    :ivar away: the user's away text, or None.
    :ivar ignored: the names of the users whose messages are not shown, by their folded form.
    :ivar folds: long messages that were not shown wholly.
    :param timezone: the zone of displayed times; None for the local one.
    :param now: returns the time of day, to which typed times are relative.
    """

    session: ChatSession

    _log = Logger()

    def __init__(
        self,
        user: str,
        clock: IReactorTime,
        terminal: Terminal,
        settings: Settings,
        memory: Memory,
        timezone: datetime.tzinfo | None,
        now: Callable[[], datetime.datetime],
    ) -> None:
        self.clock = clock
        self.terminal = terminal
        self.settings = settings
        self.memory = memory
        self.timezone = timezone
        self.now = now
        self.connected = False
        self.away: str | None = None
        self.ignored = {fold(name): name for name in memory.ignored if name}
        self.conversations = Conversations(settings.view)
        self.roster = Roster()
        self.folds = Folds()
        self.layout = MessageLayout(timezone, self.folds, self.roster.is_guest)
        self.words = Wording(user)
        self.name_is(user)

    def name_is(self, user: str) -> None:
        """Use the user's name, or their new one."""
        self.user = self.words.user = user
        self.find_mentions()

    @property
    def current(self) -> str:
        """The name of the current conversation."""
        return self.conversations.current

    def names(self) -> list[str]:
        """Return the names of the other users who are present."""
        return self.roster.users(self.user)

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""
        return self.roster.rooms()

    def start(self, task: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Start a task; a fault in it is logged. The result fires when it has ended."""
        return Deferred.fromCoroutine(task).addErrback(
            lambda fault: self._log.failure("in a task of the terminal", fault)
        )

    # Output

    def find_mentions(self) -> None:
        """Find the user's name, and the words of the settings, in messages from now on."""
        # Whole names only: not in "alice_" or "al-alice", but in "- alice" and "alice-".
        self._name, self._mention = (
            re.compile(
                rf"(?<!\w)(?<!\w-)(?:{'|'.join(map(re.escape, words))})(?!\w|-\w)", re.IGNORECASE
            )
            for words in ((self.user,), (self.user, *self.settings.highlight))
        )

    def call_attention(self, message: Received) -> None:
        """Ring and notify for a message, as the settings say."""
        if self.settings.bell:
            self.terminal.ring()
        if self.settings.notify != "off":
            text = text_of(message)[:MAX_NOTICE].split("\n")[0]
            self.terminal.notify(message.sender, text)

    def show_whole(self, number: int) -> None:
        """Show all of a long message, by its short number."""
        message = self.folds.get(number)
        if message is None:
            self.complain(f"There is no long message {number}")
        else:
            self.terminal.show(self.layout.lines(message, self.user, whole=True))

    def tell(self, text: str) -> None:
        """Show a notice of the program, which may have several lines."""
        self.terminal.show([[("class:dim", f"· {line}")] for line in text.split("\n")])

    def complain(self, text: str) -> None:
        """Show what went wrong."""
        lines = text.rstrip("\n").split("\n")
        self.terminal.show([[("class:error", f"! {line}")] for line in lines])

    def mark(self, text: str) -> None:
        """Show a dividing line."""
        self.terminal.show([divider(text)])

    def show_message(
        self,
        message: Received,
        state: str = "",
        *,
        dim: bool = False,
        mentioned: bool | None = None,
    ) -> None:
        """Show a message.

        :param state: a remark behind it.
        :param dim: whether it is shown for its context.
        :param mentioned: the result of ``mentions``, if it is known.
        """
        if mentioned is None:
            mentioned = self.mentions(message)
        self.terminal.show(
            self.layout.lines(message, self.user, mentioned=mentioned, state=state, dim=dim)
        )

    def mentions(self, message: Received) -> bool:
        """Return whether a message of another user mentions this one."""
        own = fold(message.sender) == fold(self.user)
        return not own and self._mention.search(text_of(message)) is not None

    def is_spoken_to(self, message: Received) -> bool:
        """Return whether a message of another user is for this one, or has their name."""
        direct = is_direct(conversation_of(message, self.user))
        return direct or self._name.search(text_of(message)) is not None

    def refused(self, asked: Command | Say, refusal: Refusal) -> None:
        """Say why a command was refused."""
        self.complain(self.explain(asked, refusal))

    def explain(self, asked: Command | Say, refusal: Refusal) -> str:
        """Return a sentence that says why a message or a command was refused."""
        room = room_of(asked)
        return explain(
            refusal,
            asked,
            known=self,
            member=self.roster.is_member(room) if room else None,
            max_message=self.session.max_message,
            now=self.now,
        )
