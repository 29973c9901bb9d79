"""Doors, sessions and requests, as the hub sees them.

``Door`` and ``Session`` are the interface by which the hub calls doors: each door implements them
for its protocol. This module must not know the rules of the chat, or protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

from chat_twisted.core.commands import Command
from chat_twisted.core.entries import Duplicate, LoggedIn, Result, Signalled
from chat_twisted.core.errors import ChatError
from chat_twisted.core.events import Event
from chat_twisted.core.limits import Allowance
from chat_twisted.core.message import Message
from chat_twisted.core.presence import Presence


class Door(Protocol):
    """The part of a door that the hub uses: it writes to the sessions of the door."""

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """Encode ``messages`` once, and write them to each of ``sessions``. It must not fail or
        wait.
        """

    def flush(self, *, more: bool) -> None:
        """Called when the messages and events of a batch are delivered.

        :param more: whether another batch follows soon.
        """

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """Write changes of presence to each of ``sessions``. It must not fail or wait."""

    def signal(self, signalled: Signalled, sessions: Sequence[Session]) -> None:
        """Write a signal to each of ``sessions``, if the door knows what it means. It must not fail
        or wait.
        """

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """Write an event to each of ``sessions``. It must not fail or wait."""


class Policy(NamedTuple):
    """The abilities of the sessions of a dialect.

    :ivar keeps_name: a guest's name is held after the last session.
    :ivar may_authenticate: clients can prove that they own an account.
    :ivar reaches_absent: clients can send to users who are not present.
    :ivar confirms: clients acknowledge messages, and get those that they have missed.
    :ivar follows_everybody: sessions get the events about all present users, not only about those
        with whom they share a room, and events about users who come and go.
    """

    keeps_name: bool = True
    may_authenticate: bool = True
    reaches_absent: bool = True
    confirms: bool = True
    follows_everybody: bool = False


class Dismissal(NamedTuple):
    """The reason why an operator has ended a session.

    :ivar cause: ``DISCONNECTED``, ``BANNED`` or ``REMOVED``.
    :ivar by: the operator's name; empty for the console.
    :ivar reason: the text that the operator gave, if any.
    """

    cause: str
    by: str
    reason: str


DISCONNECTED, BANNED, REMOVED = "disconnected", "banned", "removed"
"""Causes: an operator has ended the sessions; the user is banned; their account was removed."""


class Session:
    """A session of a user on this node. Each door has its own subclass.

    :ivar user: the number of the user; 0 before the login and after the end.
    :ivar epoch: the number of the login; 0 likewise.
    :ivar token: the token with which the user can log in again.
    :ivar host: the peer's address; None for a local socket.
    :ivar since: the time of day of the login, in milliseconds; 0 before it.
    :ivar spoke: the time of day when the client last sent a message, likewise; 0 if it has not.
    :ivar may_be_duplicate: whether the client may repeat messages of an earlier session.
    """

    __slots__ = (
        "allowance",
        "catching_up",
        "door",
        "ended",
        "epoch",
        "host",
        "live",
        "may_be_duplicate",
        "present",
        "since",
        "spoke",
        "token",
        "user",
    )

    policy: ClassVar[Policy] = Policy()

    def __init__(self, door: Door, host: str | None = None) -> None:
        self.door = door
        self.host = host
        self.allowance: Allowance | None = None
        self.user = 0
        self.epoch = 0
        self.token = ""
        self.present = False
        self.since = 0
        self.spoke = 0
        self.may_be_duplicate = False
        self.live = False  # gets messages as they are committed
        self.catching_up: object = None  # a ``delivery.CatchingUp`` until the session is live
        self.ended = False

    @property
    def way(self) -> str:
        """How the client is connected, for the operator, such as ``TLS version 2``."""
        return ""

    def registered(self, request: Request, login: LoggedIn) -> None:
        """Called when the session is logged in."""
        raise NotImplementedError

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        """Called when a message sent on this session has been committed, or is a duplicate."""
        raise NotImplementedError

    def delivered(self, request: Request, number: int) -> None:
        """Called when the recipient has got a direct message sent on this session."""
        raise NotImplementedError

    def undelivered(self, request: Request) -> None:
        """Called when the recipient of a direct message has left before getting it."""
        raise NotImplementedError

    def refused(self, request: Request, error: ChatError) -> None:
        """Called when a request is refused."""
        raise NotImplementedError

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        """Called when any other request has succeeded.

        :param event: the event that other sessions get, if any.
        """
        raise NotImplementedError

    def when_ready(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the client has read enough of its output; perhaps at once."""
        then()

    def dismissed(self, dismissal: Dismissal) -> None:
        """Called when an operator has ended the session."""

    def drop(self, why: str) -> None:
        """Called when the session can't continue; its user may log in again."""


class Request:
    """A request of a session that is not answered yet.

    :ivar session: the asking session; None if another part of the server asks.
    :ivar command: the command that was proposed.
    :ivar argument: the name that the request is about, as the client wrote it.
    :ivar label: the client's own mark of the request, if any.
    :ivar done: called with the result if ``session`` is None.
    :ivar refusal: the error to answer unless the message turns out to be a duplicate.
    :ivar delivered: whether the recipient of a direct message has got it.
    """

    __slots__ = ("argument", "command", "delivered", "done", "label", "refusal", "session")

    def __init__(
        self,
        session: Session | None,
        command: Command,
        argument: str = "",
        label: str | None = None,
        done: Callable[[Result], None] | None = None,
    ) -> None:
        self.session = session
        self.command = command
        self.argument = argument
        self.label = label
        self.done = done
        self.refusal: ChatError | None = None
        self.delivered = False
