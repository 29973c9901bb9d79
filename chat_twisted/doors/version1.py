"""Version 1 of the framed protocol, the original client's (docs/protocol.rst, Version 1).

A session of two connections, and the door that brings messages to such sessions. It knows what the
original client assumes; it does not know how connections are read or who comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.entries import Duplicate, LoggedIn, Result
from chat_twisted.core.errors import (
    ChatError,
    HeaderIncomplete,
    MalformedName,
    NotRegistered,
    TooFast,
    UnableToSend,
)
from chat_twisted.core.events import Event
from chat_twisted.core.hub import Hub
from chat_twisted.core.message import Audience, Message, check_user_name, fold, parse_target
from chat_twisted.core.presence import Presence
from chat_twisted.core.sessions import Dismissal, Policy, Request, Session
from chat_twisted.doors import Nowhere
from chat_twisted.frames import encode
from chat_twisted.text import printable

ANSWER_WITHIN = 10
"""Seconds in which a sender is told what became of a direct message."""

ORIGINAL_RECV = 2048
"""Bytes: the original client takes one ``recv`` of this size for one frame."""


class Connection(Protocol):
    """What a session asks of each of its two connections."""

    @property
    def host(self) -> str | None:
        """The peer's address; None on a local socket."""

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def hold(self) -> None:
        """Take no further request for now."""

    def go_on(self) -> None:
        """Take requests again."""

    def expect(self) -> None:
        """Count the client's silence from now on."""

    def refuse(self, error: ChatError) -> None:
        """Answer with an error."""

    def registered(self, session: Version1) -> None:
        """``session`` is this connection's."""

    def close(self, why: str) -> None:
        """Close after what was written."""

    def abort(self, why: str) -> None:
        """Close at once."""


NOWHERE = Nowhere()


class Version1(Session):
    """A session of version 1: two connections, and one thing at a time on each.

    The original client reads one answer for each SEND, so its next SEND waits for that; and one
    ``recv`` for each FORWARD, so the next FORWARD waits for the RECEIVED. What waits to be
    forwarded is bounded.
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
        self._request: Request | None = None  # what the sender waits to be told of
        self._deadline: IDelayedCall | None = None  # until when; or when it is sent
        self.key = ""  # the folded name
        self._queue: deque[Forward] = deque()  # the first of it is being forwarded
        self._queued = 0  # bytes in the queue
        self._further: Iterator[bytes] | None = None  # pieces of the first, if it has several

    def registered(self, request: Request, login: LoggedIn) -> None:
        """Hub: the session has the name."""
        name = self._hub.name_of(self)
        self.door.one_legged[self.key] = self
        self.sending.write(encode("REGISTERED", f"TOSEND {name}"))
        self.sending.registered(self)

    def arrive(self, receiving: Connection) -> None:
        """The second connection stands: the user is present."""
        self.receiving = receiving
        self._hub.arrive(self)

    def end(self, why: str, *, for_good: bool) -> None:
        """One of the two connections is gone: close the other and leave."""
        if self.ended:
            return
        self.door.forget(self)
        self._hub.leave(self, for_good=for_good)
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
        """Send a text; the sender's next one is read when this one is answered. What is too fast is
        sent later: the original client does not wait by itself, and would lose it.

        :raises UnableToSend: the one refusal that the original client knows.
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
        if request is self._request:  # else it was answered when its time was over
            self._settled()
            self.sending.write(encode(verb, argument))
            self.sending.go_on()

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        """Hub: it is committed. To one user, that is half the way."""
        if parse_target(request.argument).audience is not Audience.USER:
            self._answer(request, "SEND", request.argument)

    def delivered(self, request: Request, number: int) -> None:
        """Hub: the recipient has it."""
        self._answer(request, "SEND", request.argument)

    def undelivered(self, request: Request) -> None:
        """Hub: the recipient went, or could not read it."""
        self._answer(request, "ERROR", f"{UnableToSend.code} {UnableToSend.reason}")

    def refused(self, request: Request, error: ChatError) -> None:
        """Hub: it is not taken; neither is the name."""
        if self.user:
            self.undelivered(request)
        else:
            self.sending.refuse(NotRegistered(str(error)))

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        """Hub: nothing else can be asked."""

    def drop(self, why: str) -> None:
        """Hub: the session can't go on."""
        self.sending.abort(why)

    def dismissed(self, dismissal: Dismissal) -> None:
        """Hub: somebody else wants it so. Version 1 has no words for it."""
        self.door.forget(self)
        self._let_go(dismissal.cause)

    def forward(self, forward: Forward) -> None:
        """Put a message at the end of what this client has to answer."""
        assert self.receiving is not None
        self._queue.append(forward)
        self._queued += forward.size
        if self._queued > self.door.max_unread:
            self.receiving.abort("does not read")
        elif len(self._queue) == 1:
            self.receiving.expect()
            self._start(forward)

    def _start(self, forward: Forward) -> None:
        assert self.receiving is not None
        self._further = None if forward.is_whole else islice(pieces(forward.message), 1, None)
        self.receiving.write(forward.first)

    def take_answer(self, name: str | None) -> None:
        """Take the client's RECEIVED with the sender's ``name``, or None for its ERROR.

        :raises HeaderIncomplete: it is not the answer to what was forwarded.
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
        """Whether ``connection`` has a FORWARD that it did not answer."""
        return connection is self.receiving and bool(self._queue)


def _check_name(name: str) -> None:
    """Raise unless a user of version 1 may be called ``name``: letters and digits alone.

    :raises MalformedName: it may not.
    """
    if not check_user_name(name).isalnum():
        raise MalformedName


@dataclass(frozen=True, slots=True)
class Forward:
    """A message as all its version 1 receivers share it: the first FORWARD frame, written once.

    ``is_whole``: there is no further one. Most messages are; what goes on is written for each
    receiver when it comes to it, so that many short lines take no more memory than their text.
    ``size`` is what waiting costs, in bytes.
    """

    message: Message
    first: bytes
    is_whole: bool
    size: int


def make_forward(message: Message) -> Forward:
    """Write the first piece of ``message``, to be shared by all its receivers."""
    frames = pieces(message)
    first = next(frames)
    return Forward(message, first, next(frames, None) is None, len(first) + len(message.text))


def pieces(message: Message) -> Iterator[bytes]:
    """Write ``message`` for the original client, as FORWARD frames that it answers one by one.

    That client takes the fourth line of one ``recv`` for the text and prints it as it is, and an
    empty one is an error to it. So a line of text is a FORWARD; an empty line becomes a blank; a
    long one is cut into frames of at most 2048 bytes; and what acts on a terminal is replaced.
    """
    room = ORIGINAL_RECV - len(encode("FORWARD", message.sender, [("Content-length", 9999)]))
    text = message.text.removesuffix("\n")
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
            while stop < len(data) and data[stop] & 0xC0 == 0x80:  # not inside a character
                stop -= 1
            piece = data[start:stop].decode()
            yield encode("FORWARD", message.sender, body=piece, count_characters=True)
            start = stop


class Version1Door:
    """Lets version 1 sessions in, two connections each, and brings messages to them.

    :param max_unread: bytes that may wait for one client.
    """

    def __init__(self, hub: Hub, clock: IReactorTime, max_unread: int) -> None:
        self.hub = hub
        self.max_unread = max_unread
        self.clock = clock
        self.one_legged: dict[str, Version1] = {}
        """Sessions that wait for their second connection, by folded name."""

    def first(self, name: str, connection: Connection) -> Version1:
        """Ask for the name of the connection that ``name`` sends on; its ``registered`` or
        ``refuse`` follows.

        :raises MalformedName: nobody may be called so.
        :raises NotRegistered: the server is full, or too many ask for names.
        """
        _check_name(name)
        session = Version1(self, connection)
        session.key = fold(name)
        try:
            self.hub.login(session, name, present=False)
        except ChatError as error:
            raise NotRegistered(str(error)) from None
        return session

    def forget(self, session: Version1) -> None:
        """``session`` does not wait for its second connection any more."""
        if self.one_legged.get(session.key) is session:
            del self.one_legged[session.key]

    def second(self, name: str, connection: Connection) -> Version1:
        """Find the session that ``connection`` is to receive for; it must still ``arrive``.

        There is no proof of who one is in version 1, so the second connection is taken from the
        address of the first alone, and once.

        :raises MalformedName: nobody may be called so.
        :raises NotRegistered: no first connection from there waits for a second.
        """
        _check_name(name)
        session = self.one_legged.get(fold(name))
        if session is None or session.sending.host != connection.host:
            raise NotRegistered("no first connection from there waits for a second")
        del self.one_legged[fold(name)]
        return session

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.show``: the original client has no word for it, and nobody asks."""

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.tell``: nobody of version 1 is in a room."""

    def flush(self, *, more: bool) -> None:
        """See ``sessions.Door.flush``: what is written goes out by itself."""

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.deliver``."""
        for message in messages:
            forward = make_forward(message)
            for session in sessions:
                assert isinstance(session, Version1)
                session.forward(forward)
