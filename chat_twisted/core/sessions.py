"""Doors, sessions and requests, as the hub sees them.

What the hub remembers of the connections of this node, and what it asks of the doors: each fills
``Session`` with its dialect's words. No rule of the chat is here; those are the state's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

from chat_twisted.core.commands import Command
from chat_twisted.core.entries import Duplicate, LoggedIn, Result
from chat_twisted.core.errors import ChatError
from chat_twisted.core.events import Event
from chat_twisted.core.limits import Allowance
from chat_twisted.core.message import Message
from chat_twisted.core.presence import Presence


class Door(Protocol):
    """What the hub asks of a door: to bring messages to sessions that came through it."""

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """Write ``messages``, encoded once, to each of ``sessions``; must not fail or wait."""

    def flush(self, *, more: bool) -> None:
        """Called when all that was committed together is delivered; ``more``: something else is
        about to be.
        """

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """Write changes of presence to each of ``sessions``; must not fail or wait."""

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """Write an event to each of ``sessions``; must not fail or wait."""


class Policy(NamedTuple):
    """What the sessions of a dialect can do.

    ``keeps_name``: a guest's name is held when the last session is gone. ``may_authenticate``: its
    user can prove who they are. ``reaches_absent``: messages are accepted for users who are not
    present. ``confirms``: it says what it has, and reads what was missed.
    """

    keeps_name: bool = True
    may_authenticate: bool = True
    reaches_absent: bool = True
    confirms: bool = True


class Dismissal(NamedTuple):
    """Why a session was ended against its user's wish. ``cause`` is one of the three below;
    ``by`` is the operator's name, empty for the console.
    """

    cause: str
    by: str
    reason: str


DISCONNECTED, BANNED, REMOVED = "disconnected", "banned", "removed"
"""Causes: an operator closed the sessions; the user is kept out; their account was removed."""


class Session:
    """One connection of a user, as the hub sees it. Each door makes its own kind of it.

    The hub calls the methods; a door fills them with its dialect's words. ``user`` and ``epoch``
    are the user's number and the number of the login, 0 before the hub has called ``registered``
    and again when the session has ended. ``token`` lets the user in again. ``host`` is the peer's
    address, None on a local socket. ``may_be_duplicate``: what is sent may have been sent before.
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
        self.may_be_duplicate = False
        self.live = False  # gets messages as they are committed
        self.catching_up: object = None  # the ``delivery.CatchingUp`` of a session that is not yet
        self.ended = False

    def registered(self, request: Request, login: LoggedIn) -> None:
        """Called when the session has the name that was asked for."""
        raise NotImplementedError

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        """Called when a message of this session is committed, or was before."""
        raise NotImplementedError

    def delivered(self, request: Request, number: int) -> None:
        """Called when the recipient of a direct message of this session has it."""
        raise NotImplementedError

    def undelivered(self, request: Request) -> None:
        """Called when the recipient of a direct message went away before they had it."""
        raise NotImplementedError

    def refused(self, request: Request, error: ChatError) -> None:
        """Called when a request is refused."""
        raise NotImplementedError

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        """Called when what was asked by any other request is done.

        :param event: what others are told of it, if they are.
        """
        raise NotImplementedError

    def when_ready(self, then: Callable[[], None]) -> None:
        """Call ``then`` when what was delivered is on its way; perhaps at once."""
        then()

    def dismissed(self, dismissal: Dismissal) -> None:
        """Called when the session has been ended at somebody else's wish."""

    def drop(self, why: str) -> None:
        """Called when the session can't go on, though its user can come back."""


class Request:
    """What was asked on a session, until it is answered.

    ``command`` is what was proposed, ``argument`` whom or what it is about, as it was written,
    ``label`` the asker's own mark, if any. ``refusal`` is the answer unless it turns out that the
    message was sent before. ``session`` is None where something else than a session asks, which
    then has ``done``.
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
