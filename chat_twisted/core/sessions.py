"""Doors, sessions, users and requests, as the hub sees them.

What the hub remembers of who is here, and what it asks of the doors: each fills ``Session`` with
its dialect's words. No rule of the chat is here; those are the hub's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

from chat_twisted.auth.accounts import Account
from chat_twisted.core.errors import ChatError
from chat_twisted.core.limits import Allowance
from chat_twisted.core.message import Message, fold
from chat_twisted.core.presence import Presence
from chat_twisted.core.rooms import Room

MAX_UNCONFIRMED = 1000
"""Of how many direct messages that a user has not confirmed the senders are remembered. Past that
the oldest is forgotten: it comes to the user all the same, but its sender won't be told."""


class Door(Protocol):
    """What the hub asks of a door: to bring messages to sessions that came through it."""

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """Write ``messages``, encoded once, to each of ``sessions``; must not fail or wait."""

    def flush(self, *, more: bool) -> None:
        """Hear that all that was committed together is delivered; ``more``: and that something else
        is about to be.
        """

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """The same, of who came, went, is away or back."""

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """The same, of what happened in a room."""


class User:
    """Somebody who holds a name, on one connection, several, or for a while on none.

    ``id`` is drawn anew for everybody who takes a name. ``secrets`` are the SHA-256 of the tokens
    that prove on another connection that one is this user. ``grace`` says for how many seconds the
    name and what is sent to it are kept when the last connection is lost: for ever with an
    account; 0 for a user who is not kept, and of whom nothing is written. ``position`` is up to
    which message the user has confirmed.
    """

    __slots__ = (
        "account",
        "away",
        "grace",
        "id",
        "key",
        "live",
        "name",
        "position",
        "registered",
        "returned",
        "secrets",
        "sessions",
        "since",
        "unconfirmed",
    )

    def __init__(self, id: int, name: str, secret: bytes, since: int, grace: float) -> None:
        self.id = id
        self.name = name
        self.key = fold(name)
        self.account: Account | None = None
        self.away: str | None = None  # why it does not read, if it says so
        self.secrets: tuple[bytes, ...] = (secret,) if secret else ()  # the newest is the last
        self.since = since
        self.position = since
        self.grace = grace
        self.registered = False  # it is committed that the name is the user's
        self.returned = False  # on another connection: what it sends may be a repetition
        self.sessions: list[Session] = []
        self.live: list[Session] = []  # those of them that messages go to as they are committed
        # Direct messages to the user until they are confirmed.
        self.unconfirmed: list[tuple[int, Request]] = []

    def expect(self, number: int, request: Request) -> None:
        """Remember whose request the message ``number`` is, until the user confirms it."""
        unconfirmed = self.unconfirmed
        if len(unconfirmed) >= MAX_UNCONFIRMED:
            del unconfirmed[0]
        unconfirmed.append((number, request))

    @property
    def present(self) -> bool:
        """Whether messages reach the user now, or as soon as it has what it missed."""
        return any(session.present for session in self.sessions)

    @property
    def kept(self) -> bool:
        """Whether a message to the user is kept until it comes back."""
        return self.registered and bool(self.grace)


class Session:
    """One connection of a user, as the hub sees it. Each door makes its own kind of it.

    The hub calls the methods; a door fills them with its dialect's words. ``user`` is None until
    the hub has registered the session, and again once it has left. ``token`` is the user's.
    ``host`` is the peer's address, None on a local socket. ``instance`` tells the client from
    others of the same user; it is empty if the client does not say which it is.
    """

    __slots__ = ("allowance", "door", "host", "instance", "position", "present", "token", "user")

    immediate: ClassVar[bool] = False
    """Whether only what is delivered at once counts: no user of such a session is kept, and it
    sends to those alone who are present."""

    def __init__(self, door: Door, host: str | None = None) -> None:
        self.door = door
        self.host = host
        self.allowance: Allowance | None = None
        self.user: User | None = None
        self.token = ""
        self.instance = ""
        self.present = False
        self.position: int | None = None  # up to where it has caught up; None: it is live

    def registered(self) -> None:
        """Hear that the name is one's own, if ``Hub.register`` had to wait for it."""
        raise NotImplementedError

    def sent(self, request: Request, number: int, time: int) -> None:
        """Hear that one's own message is committed."""
        raise NotImplementedError

    def delivered(self, request: Request, number: int) -> None:
        """Hear that the recipient of one's own direct message has it."""
        raise NotImplementedError

    def undelivered(self, request: Request) -> None:
        """Hear that the recipient of one's own direct message went away before having it."""
        raise NotImplementedError

    def refused(self, request: Request, error: ChatError) -> None:
        """Hear that a request was refused after all."""
        raise NotImplementedError

    def told(self, event: Event, request: Request) -> None:
        """Hear what happened in a room because of one's own ``request``."""

    def when_ready(self, then: Callable[[], None]) -> None:
        """Call ``then`` when what was delivered is on its way; perhaps at once."""
        then()

    def done(self, request: Request) -> None:
        """Hear that what was asked about an account is done."""

    def dismissed(self, why: str) -> None:
        """Hear that one has left, at somebody else's wish; ``why`` is for the user."""

    def drop(self, why: str) -> None:
        """Hear that the session can't go on, though its user can come back."""


class Request:
    """What was asked on a session, until it is answered.

    ``argument`` is whom or what it is about, as it was written, ``id`` the asker's own mark, if
    any, ``verb`` what is asked where ``Session.done`` is the answer. ``recipient`` is the user that
    had the name when a message was sent; ``refusal`` what the answer is unless it turns out to have
    been sent before.
    """

    __slots__ = ("argument", "delivered", "id", "recipient", "refusal", "session", "user", "verb")

    def __init__(
        self, session: Session, user: User, argument: str, id: str | None, verb: str = ""
    ) -> None:
        self.verb = verb
        self.session = session
        self.user = user
        self.argument = argument
        self.id = id
        self.recipient: User | None = None
        self.refusal: ChatError | None = None
        self.delivered = False


class Event(NamedTuple):
    """Something happened in a room: ``what`` is ``joined``, ``left``, ``topic``, ``invited`` or
    ``owner``; ``user`` is whom it befell, ``by`` who else did it.
    """

    what: str
    room: Room
    user: str
    by: str | None = None
