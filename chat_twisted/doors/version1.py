"""Version 1 of the framed protocol, for the original client (docs/protocol.rst, Version 1).

A session has two connections: one on which the client sends, and one on which it receives. This
module respects the assumptions of the original client. It must not know how connections are read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.commands import ACTION
from chat_twisted.core.entries import Duplicate, LoggedIn, Result, Signalled
from chat_twisted.core.errors import (
    ChatError,
    MalformedName,
    TooFast,
    UnableToSend,
)
from chat_twisted.core.events import Announcement, Event, MessageDeleted
from chat_twisted.core.hub import Hub
from chat_twisted.core.message import Audience, Message, check_user_name, fold, parse_target
from chat_twisted.core.presence import Presence
from chat_twisted.core.sessions import Dismissal, Policy, Request, Session
from chat_twisted.doors import Nowhere
from chat_twisted.frames import HeaderIncomplete, encode
from chat_twisted.refusals import NotRegistered, refusal_of
from chat_twisted.text import printable, unformatted

ANSWER_WITHIN = 10
"""Seconds within which the sender of a direct message gets an answer."""

ORIGINAL_RECV = 2048
"""Bytes of a ``recv`` of the original client, which expects exactly one frame from each."""


SERVER = "-server-"
"""The sender of announcements; no user can have this name."""


class Connection(Protocol):
    """The part of a connection that a session uses."""

    @property
    def host(self) -> str | None:
        """The peer's address; None on a local socket."""

    @property
    def way(self) -> str:
        """How the client is connected, for the operator."""

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def hold(self) -> None:
        """Process no further requests until ``go_on``."""

    def go_on(self) -> None:
        """Process requests again."""

    def expect(self) -> None:
        """Start to measure the client's silence."""

    def refuse(self, error: ChatError) -> None:
        """Answer with an error."""

    def registered(self, session: Version1) -> None:
        """Called when the session of this connection is logged in."""

    def close(self, why: str) -> None:
        """Close the connection after all output."""

    def abort(self, why: str) -> None:
        """Close the connection at once."""

    def cut_off(self) -> None:
        """Close the connection at once, because the client does not read."""


NOWHERE = Nowhere()


class Version1(Session):
    """A session of version 1, with two connections.

    The original client reads one answer for each SEND, so its next SEND is processed only after the
    answer. It reads one ``recv`` for each FORWARD, so the next FORWARD is written only after the
    RECEIVED. The queue of messages to forward is bounded.
    """

    __slots__ = (
        "_clock",
        "_deadline",
        "_further",
        "_hub",
        "_queue",
        "_queued",
        "_request",
        "key",
        "receiving",
        "sending",
    )

    door: Version1Door
    policy = Policy(keeps_name=False, may_authenticate=False, reaches_absent=False, confirms=False)

    def __init__(self, door: Version1Door, sending: Connection) -> None:
        super().__init__(door, sending.host)
        self._hub = door.hub
        self._clock = door.clock
        self.sending = sending
        self.receiving: Connection | None = None
        self._request: Request | None = None  # the SEND that is not answered yet
        self._deadline: IDelayedCall | None = None  # of its answer; or when it is sent again
        self.key = ""  # the folded name
        self._queue: deque[Forward] = deque()  # messages to forward; the first is in progress
        self._queued = 0  # bytes in the queue
        self._further: Iterator[bytes] | None = None  # further pieces of the first message

    @property
    def way(self) -> str:
        """See ``sessions.Session``."""
        return self.sending.way

    def registered(self, request: Request, login: LoggedIn) -> None:
        """Called by the hub when the session is logged in."""
        name = self._hub.name_of(self)
        self.door.half_open[self.key] = self
        self.sending.write(encode("REGISTERED", f"TOSEND {name}"))
        self.sending.registered(self)

    def arrive(self, receiving: Connection) -> None:
        """Set the second connection; the user is present from now on."""
        self.receiving = receiving
        self._hub.logins.arrive(self)

    def end(self, why: str, *, for_good: bool, reason: str = "") -> None:
        """End the session: one of its connections was lost, so close the other one."""
        if self.ended:
            return
        self.door.forget(self)
        self._hub.logins.leave(self, for_good=for_good, reason=reason)
        self._let_go(why)

    def _let_go(self, why: str) -> None:
        self._settled()
        self._queue.clear()
        sending, self.sending = self.sending, NOWHERE
        receiving, self.receiving = self.receiving, NOWHERE
        sending.close(why)
        if receiving is not None:
            receiving.close(why)

    def send(self, argument: str, text: str) -> None:
        """Send a message. Further requests wait for the answer. A message that exceeds a rate limit
        is sent later, because the original client would not send it again.

        :raises UnableToSend: if it is refused; the original client knows no other error.
        """
        wait, then = float(ANSWER_WITHIN), self._too_late
        try:
            self._request = self._hub.send(self, argument, text)
        except TooFast as error:
            wait, then = error.retry_after or 1.0, partial(self._send_again, argument, text)
        except ChatError as error:
            raise UnableToSend(str(error)) from None
        self._deadline = self._clock.callLater(wait, then)
        self.sending.hold()

    def _send_again(self, argument: str, text: str) -> None:
        try:
            self.send(argument, text)
        except UnableToSend as error:
            self.sending.refuse(error)
            self.sending.go_on()

    def _too_late(self) -> None:
        if self._request is not None:
            self.undelivered(self._request)

    def _settled(self) -> None:
        self._request = None
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _answer(self, request: Request, verb: str, argument: str) -> None:
        if request is self._request:  # otherwise the answer has timed out
            self._settled()
            self.sending.write(encode(verb, argument))
            self.sending.go_on()

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        """Called by the hub when the message is committed. A direct one is answered later, when it
        is delivered.
        """
        if parse_target(request.argument).audience is not Audience.USER:
            self._answer(request, "SEND", request.argument)

    def delivered(self, request: Request, number: int) -> None:
        """Called by the hub when the recipient has got the message."""
        self._answer(request, "SEND", request.argument)

    def undelivered(self, request: Request) -> None:
        """Called by the hub when the recipient has left before getting the message."""
        self._answer(request, "ERROR", str(refusal_of(UnableToSend)))

    def refused(self, request: Request, error: ChatError) -> None:
        """Called by the hub when the message, or the login, is refused."""
        if self.user:
            self.undelivered(request)
        else:
            self.sending.refuse(NotRegistered(str(error)))

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        """Do nothing: version 1 has no other requests."""

    def drop(self, why: str) -> None:
        """Called by the hub when the session can't continue."""
        self.sending.abort(why)

    def dismissed(self, dismissal: Dismissal) -> None:
        """Called by the hub when an operator has ended the session. Version 1 can't say why."""
        self.door.forget(self)
        self._let_go(dismissal.cause)

    def forward(self, forward: Forward) -> None:
        """Append a message to the queue."""
        assert self.receiving is not None
        self._queue.append(forward)
        self._queued += forward.size
        if self._queued > self.door.max_unread:
            self.receiving.cut_off()
        elif len(self._queue) == 1:
            self.receiving.expect()
            self._start(forward)

    def _start(self, forward: Forward) -> None:
        assert self.receiving is not None
        self._further = None if forward.is_whole else islice(pieces(forward.message), 1, None)
        self.receiving.write(forward.first)

    def withdraw(self, number: int) -> None:
        """Stop forwarding a message that was deleted."""
        for position, forward in enumerate(self._queue):
            if forward.message.number != number:
                continue
            if position:
                del self._queue[position]
                self._queued -= forward.size
            else:  # the client has its first piece, and will answer that
                self._further = None
            return

    def take_answer(self, name: str | None) -> None:
        """Process the client's answer to a FORWARD.

        :param name: the argument of RECEIVED, which is the sender's name; None for an ERROR.
        :raises HeaderIncomplete: if it is not the answer to the last FORWARD.
        """
        if not self._queue or self.receiving is None:
            return
        message = self._queue[0].message
        if name is not None:
            if name != message.sender:
                raise HeaderIncomplete("RECEIVED with another name than FORWARD had")
            further = next(self._further, None) if self._further is not None else None
            if further is not None:
                self.receiving.write(further)
                return
        self._queued -= self._queue.popleft().size
        if name is None:
            self._hub.rejected(self, message.number)
        else:
            self._hub.received(self, message.number)
        if self._queue:
            self._start(self._queue[0])

    def unanswered_by(self, connection: Connection) -> bool:
        """Return whether the client owes the answer to a FORWARD on ``connection``."""
        return connection is self.receiving and bool(self._queue)


def _check_name(name: str) -> None:
    """Check that a name is valid in version 1: letters and digits only.

    :raises MalformedName: if it is not.
    """
    if not check_user_name(name).isalnum():
        raise MalformedName


@dataclass(frozen=True, slots=True)
class Forward:
    """A message for version 1 sessions: its first FORWARD frame, encoded once for all recipients.

    Further frames are encoded for each recipient when they are written, so that a text of many
    short lines needs no more memory than itself.

    :ivar is_whole: whether there is no further frame.
    :ivar size: the size of the message in a queue, in bytes.
    """

    message: Message
    first: bytes
    is_whole: bool
    size: int


def make_forward(message: Message) -> Forward:
    """Encode the first frame of a message, for all its recipients."""
    frames = pieces(message)
    first = next(frames)
    return Forward(message, first, next(frames, None) is None, len(first) + len(message.text))


def pieces(message: Message) -> Iterator[bytes]:
    """Encode a message for the original client, as FORWARD frames that it answers one by one.

    The original client prints the fourth line of one ``recv`` as the text, and treats an empty one
    as an error. So each line of the text becomes a FORWARD; an empty line becomes a space; a long
    line is split into frames of at most 2048 bytes; the formatting of IRC is left out, and other
    control characters are replaced. An action begins with ``*``.
    """
    room = ORIGINAL_RECV - len(encode("FORWARD", message.sender, [("Content-length", 9999)]))
    text = unformatted(message.text).removesuffix("\n")
    if message.kind == ACTION:
        text = f"* {text}"
    begin = 0
    while begin <= len(text):
        end = text.find("\n", begin)
        if end < 0:
            end = len(text)
        data = printable(text[begin:end].removesuffix("\r")).encode() or b" "
        begin = end + 1
        start = 0
        while start < len(data):
            stop = start + room
            while stop < len(data) and data[stop] & 0xC0 == 0x80:  # don't split a character
                stop -= 1
            piece = data[start:stop].decode()
            yield encode("FORWARD", message.sender, body=piece, count_characters=True)
            start = stop


class Version1Door:
    """The door of version 1: logs in sessions, each with two connections, and delivers to them.

    :param max_unread: the maximum bytes in a client's queue.
    """

    def __init__(self, hub: Hub, clock: IReactorTime, max_unread: int) -> None:
        self.hub = hub
        self.max_unread = max_unread
        self.clock = clock
        self.half_open: dict[str, Version1] = {}
        """Sessions that wait for their second connection, by folded name."""

    def first(self, name: str, connection: Connection) -> Version1:
        """Log in a user by their first connection, on which they send. Later ``registered`` or
        ``refuse`` of the connection is called.

        :raises MalformedName: if the name is not valid.
        :raises NotRegistered: if the server is full, or there are too many logins.
        """
        _check_name(name)
        session = Version1(self, connection)
        session.key = fold(name)
        try:
            self.hub.logins.login(session, name, present=False)
        except ChatError as error:
            raise NotRegistered(str(error)) from None
        return session

    def forget(self, session: Version1) -> None:
        """Stop to wait for the second connection of a session."""
        if self.half_open.get(session.key) is session:
            del self.half_open[session.key]

    def second(self, name: str, connection: Connection) -> Version1:
        """Find the session of a second connection, on which the user receives. The caller must
        call ``arrive``.

        Version 1 has no authentication, so the second connection must come from the address of the
        first, and only one is accepted.

        :raises MalformedName: if the name is not valid.
        :raises NotRegistered: if no session from that address waits for a second connection.
        """
        _check_name(name)
        session = self.half_open.get(fold(name))
        if session is None or session.sending.host != connection.host:
            raise NotRegistered("no first connection from there waits for a second")
        del self.half_open[fold(name)]
        return session

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """Do nothing: version 1 has no presence. See ``sessions.Door.show``."""

    def signal(self, signalled: Signalled, sessions: Sequence[Session]) -> None:
        """Do nothing: the framed protocol has no signals. See ``sessions.Door.signal``."""

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """Drop a deleted message that waits to be forwarded, or forward an announcement; version 1
        has no other events. See ``sessions.Door.tell``.
        """
        if isinstance(event, Announcement):
            self.deliver([Message(0, 0, 0, SERVER, 0, 0, "ALL", event.text)], sessions)
        elif isinstance(event, MessageDeleted):
            for session in sessions:
                assert isinstance(session, Version1)
                session.withdraw(event.number)

    def flush(self, *, more: bool) -> None:
        """Do nothing: frames are written at once. See ``sessions.Door.flush``."""

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.deliver``."""
        for message in messages:
            forward = make_forward(message)
            for session in sessions:
                assert isinstance(session, Version1)
                session.forward(forward)
