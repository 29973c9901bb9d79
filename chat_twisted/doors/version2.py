"""Version 2 of the framed protocol, with one connection per session (docs/protocol.rst, Version 2).

This module has the session, and the door that delivers to such sessions. It must not know the
requests (``requests``), how connections are read, or the steps before registration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chat_twisted.auth.gate import Gate
from chat_twisted.core.commands import CONSOLE_NAME, Command, MakeAccount, SetPassword
from chat_twisted.core.entries import Duplicate, LoggedIn, Result, Signalled
from chat_twisted.core.errors import ChatError, Unavailable
from chat_twisted.core.events import Event
from chat_twisted.core.hub import Hashing, Hub
from chat_twisted.core.message import Message
from chat_twisted.core.presence import Presence
from chat_twisted.core.sessions import BANNED, REMOVED, Dismissal, Request, Session
from chat_twisted.core.turns import Paced
from chat_twisted.doors import Channel, Nowhere
from chat_twisted.doors.encoding import encode_event, encode_message, encode_presence
from chat_twisted.frames import Frame, HeaderIncomplete, encode, format_time, reply_headers
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger

VERSION = 2
"""The highest supported version of the protocol."""

LIST_TIME = 0.002
"""Seconds for lists in one turn of the reactor; see ``Paced``."""

MAX_JOINED = 65_536
"""Bytes after which messages are written in another piece. Waiting output is limited by whole
pieces, so a piece must not be long."""

RETRY_READING = 5
"""Seconds after which clients may retry if the archive can't be read."""


class Connection(Protocol):
    """The part of a connection that a session uses."""

    channel: Channel

    @property
    def host(self) -> str | None:
        """The peer's address; None on a local socket."""

    @property
    def way(self) -> str:
        """How the client is connected, for the operator."""

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no output waits for the client; perhaps at once."""

    def hold(self) -> None:
        """Process no further requests until ``go_on``."""

    def go_on(self) -> None:
        """Process requests again."""

    def registered(self, session: Version2) -> None:
        """Called when the session of this connection is logged in."""

    def refuse(self, error: ChatError, id: str | None = None) -> None:
        """Answer a request with an error."""

    def bye(self, reason: str, *, final: bool = False) -> None:
        """Write BYE, and close the connection after all output."""

    def abort(self, why: str) -> None:
        """Close the connection at once."""


NOWHERE = Nowhere()

Answer = Callable[["Version2", Request, Result, Event | None], bytes]
"""Type of a function that encodes the answer to a successful request; the event is the one that
others get, or None."""


class _Awaited(NamedTuple):
    request: Request
    verb: str
    answer: Answer | None


class Version2(Session):
    """A session of version 2, with one connection.

    :ivar identities: whether changes of presence are notified with identities.
    :ivar instance: the client's ``Instance``; empty without one.
    :ivar pending: the number of unanswered requests.
    :param greeting: the REGISTER frame.
    """

    __slots__ = (
        "_awaited",
        "_greeting",
        "_then",
        "connection",
        "identities",
        "instance",
        "pending",
    )

    door: Version2Door
    _log: ClassVar[Logger] = Logger()

    def __init__(self, door: Version2Door, connection: Connection, greeting: Frame) -> None:
        super().__init__(door, connection.host)
        self.connection = connection
        self.identities = False
        self.instance = ""
        self._greeting: Frame | None = greeting  # until the answer
        self._awaited: _Awaited | None = None
        self.pending = 0
        self._then: Callable[[], None] | None = None

    # Login and logout

    @property
    def name(self) -> str:
        """The name in the greeting."""
        return "" if self._greeting is None else self._greeting.argument

    def register(self, proof: str = "", label: str | None = None) -> None:
        """Log in with the name in the greeting. Later ``Connection.registered`` or ``refuse`` is
        called.

        :param proof: the proof that AUTH or the SSH door has verified; empty without one.
        :param label: the Id of AUTH.
        :raises ChatError: if it is refused at once.
        """
        greeting = self._greeting
        assert greeting is not None, "a session registers once"
        for header in ("version", "resume"):
            if header in greeting.headers:
                greeting.number(header)
        if "version" in greeting.headers and greeting.number("version") < VERSION:
            raise HeaderIncomplete("an older version has another REGISTER")
        self.instance = greeting.token("instance") or ""
        if not proof:  # otherwise REGISTERED is the answer to AUTH
            label = greeting.id
        token = greeting.headers.get("session")
        self.door.hub.logins.login(
            self,
            self.name,
            token=token,
            new_token=token if self.connection.channel.inside else None,
            proof=proof,
            real_name=greeting.headers.get("real-name"),
            bot=greeting.flag("bot"),
            label=label,
        )

    @property
    def way(self) -> str:
        """See ``sessions.Session``."""
        return self.connection.way

    def registered(self, request: Request, login: LoggedIn) -> None:
        """Called by the hub when the session is logged in."""
        greeting, hub = self._greeting, self.door.hub
        assert greeting is not None
        self._greeting = None
        headers = reply_headers(
            request.label,
            ("Version", VERSION),
            ("Session", self.token),
            ("Max-message", self.door.max_message),
            ("Last", hub.newest),
            ("Kept", self.door.kept),
        )
        self.connection.write(encode("REGISTERED", hub.name_of(self), headers))
        if self.door.motd and "session" not in greeting.headers:
            self.connection.write(encode("NOTICE", "motd", (), self.door.motd))
        self.connection.registered(self)
        hub.logins.arrive(self, greeting.number("resume") if "resume" in greeting.headers else None)

    def end(self, why: str, *, for_good: bool, reason: str = "") -> None:
        """End the session when its connection is lost or closed.

        :param for_good: whether the user has sent QUIT.
        :param reason: the reason in QUIT.
        """
        self.door.hub.logins.leave(self, for_good=for_good, reason=reason)
        self.connection = NOWHERE
        self._then = None

    def when_answered(self, then: Callable[[], None]) -> None:
        """Call ``then`` when all requests are answered; perhaps at once."""
        if self.pending:
            self._then = then
        else:
            then()

    # Requests

    def ask(self, frame: Frame, command: Command, answer: Answer | None = None) -> None:
        """Propose a command. Further requests wait for the answer, because they may depend on it.

        :param answer: encodes the answer; None for the event that others get, or else the verb and
            the argument of the request.
        """
        request = self.door.hub.propose(self, command, frame.argument, frame.id)
        self._await(_Awaited(request, frame.verb, answer))

    def ask_hashed(
        self, frame: Frame, command: MakeAccount | SetPassword, hashing: Hashing | None
    ) -> None:
        """Do the same for a command with the hash of a password; see ``Hub.propose_hashed``."""
        hub = self.door.hub
        request = hub.propose_hashed(self, command, hashing, frame.argument, frame.id)
        self._await(_Awaited(request, frame.verb, None))

    def ask_to_delete(self, frame: Frame) -> None:
        """Do the same for deleting a message; see ``Hub.propose_delete``."""
        number, reason = frame.number("message"), frame.body or ""
        request = self.door.hub.propose_delete(self, number, frame.id, reason)
        self._await(_Awaited(request, frame.verb, None))

    def _await(self, awaited: _Awaited) -> None:
        self.pending += 1
        self._awaited = awaited
        self.connection.hold()

    def _answered(self, request: Request | None = None) -> None:
        self.pending -= 1
        if self._awaited is not None and request is self._awaited.request:
            self._awaited = None
            self.connection.go_on()
        if self._then is not None and not self.pending:
            then, self._then = self._then, None
            then()

    # Reading

    def handle_in_turn(self, frame: Frame, handle: Callable[[], None]) -> None:
        """Call ``handle``, which may take long, now or in a later turn of the reactor (``Paced``).
        Further requests wait.

        :raises TooFast: if the session has used too much time.
        """

        def handle_unless_ended() -> None:
            if not self.ended:
                handle()

        asker = self.door.hub.usage.checked_asker(self)
        handling = Deferred.fromCoroutine(self.door.lists.do(asker, handle_unless_ended))
        handling.addErrback(self._not_read, frame)
        if not handling.called:
            self.pending += 1
            self.connection.hold()
            handling.addCallback(self._have_read)

    def answer_with(self, frame: Frame, reading: Deferred[bytes]) -> None:
        """Answer when something is read. Further requests wait.

        :param reading: fires with the encoded answer.
        """
        self.pending += 1
        self.connection.hold()
        answered = reading.addCallbacks(self.connection.write, self._not_read, errbackArgs=(frame,))
        answered.addErrback(lambda fault: self._log.failure("while messages were read", fault))
        answered.addCallback(self._have_read)

    def _have_read(self, _: None) -> None:
        self.connection.go_on()
        self._answered()

    def _not_read(self, failure: Failure, frame: Frame) -> None:
        error = failure.value
        if not isinstance(error, ChatError):
            self._log.error(
                "can't read: {reason}", event="read-failed", reason=explain(failure.value)
            )
            error = Unavailable("can't read", retry_after=RETRY_READING)
        self.connection.refuse(error, frame.id)

    # Calls of the hub

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        """Called by the hub when a message is committed."""
        # Not by encode(), which takes five times as long.
        id = "" if request.label is None else f"Id: {request.label}\n"
        self.connection.write(
            f"SENT {request.argument}\n{id}Message: {message.number}\n"
            f"Time: {format_time(message.time)}\n\n".encode()
        )
        self._answered()

    def delivered(self, request: Request, number: int) -> None:
        """Called by the hub when the recipient has got a message."""
        id = "" if request.label is None else f"Id: {request.label}\n"
        self.connection.write(f"DELIVERED {request.argument}\n{id}Message: {number}\n\n".encode())

    def undelivered(self, request: Request) -> None:
        """Do nothing: the message is committed, and SENT has promised no more than that."""

    def refused(self, request: Request, error: ChatError) -> None:
        """Called by the hub when a request is refused."""
        self.connection.refuse(error, request.label)
        if self.user:
            self._answered(request)

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        """Called by the hub when a request has succeeded."""
        awaited = self._awaited
        assert awaited is not None, "only requests of ask() are answered here"
        if awaited.answer is not None:
            data = awaited.answer(self, request, result, event)
        else:
            headers = reply_headers(request.label)
            if event is not None:
                data = encode_event(event, headers)
            else:
                data = encode(awaited.verb, request.argument, headers)
        self.connection.write(data)
        self._answered(request)

    def dismissed(self, dismissal: Dismissal) -> None:
        """Called by the hub when an operator has ended the session."""
        cause, by, reason = dismissal
        if cause == REMOVED:
            why = "the account was removed"
        else:
            what = "Banned" if cause == BANNED else "Kicked"
            why = f"{what} by {by or CONSOLE_NAME}" + (f": {reason}" if reason else "")
        self.connection.bye(why, final=True)

    def when_ready(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no output waits for the client. Called by the hub."""
        self.connection.when_written(then)

    def drop(self, why: str) -> None:
        """Called by the hub when the session can't continue."""
        self.connection.abort(why)


class Version2Door:
    """The door of version 2.

    :param gate: verifies credentials.
    :param max_message: the maximum length of a text, in bytes.
    :param motd: the message of the day; empty without one.
    :param retain: seconds for which messages are kept; None means for ever.
    :param flush: see ``sessions.Door.flush``.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        clock: IReactorTime,
        max_message: int,
        motd: str,
        retain: float | None,
        flush: Callable[..., None],
    ) -> None:
        self.lists = Paced(clock, LIST_TIME)
        self.motd = motd
        self.kept = "ever" if retain is None else str(int(retain))
        self.flush = flush
        self.hub = hub
        self.gate = gate
        self.max_message = max_message

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.deliver``."""
        parts: list[bytes] = []
        size = 0
        for message in messages:
            part = encode_message("FORWARD", message)
            parts.append(part)
            size += len(part)
            if size > MAX_JOINED:
                _write(b"".join(parts), sessions)
                parts.clear()
                size = 0
        if parts:
            _write(parts[0] if len(parts) == 1 else b"".join(parts), sessions)

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.show``."""
        for identities in (False, True):
            asked = [s for s in sessions if cast("Version2", s).identities is identities]
            if asked and (data := encode_presence(seen, identities=identities)):
                _write(data, asked)

    def signal(self, signalled: Signalled, sessions: Sequence[Session]) -> None:
        """Do nothing: the framed protocol has no signals. See ``sessions.Door.signal``."""

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.tell``."""
        if data := encode_event(event):
            _write(data, sessions)


def _write(data: bytes, sessions: Sequence[Session]) -> None:
    for session in sessions:
        session.connection.write(data)  # type: ignore[attr-defined]
