"""Version 1 of the framed protocol, the original client's (docs/protocol.rst, Version 1).

A session of two connections, and the door that brings messages to such sessions. It knows what the
original client assumes; it does not know how connections are read or who comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.doors import MAX_QUEUED
from chat_twisted.errors import (
    ChatError,
    HeaderIncomplete,
    NameInUse,
    NotRegistered,
    UnableToSend,
    Unavailable,
)
from chat_twisted.frames import encode
from chat_twisted.hub import Hub, Request, Session
from chat_twisted.message import Audience, Message, check_user_name, fold, printable

ANSWER_WITHIN = 10
"""Seconds in which a sender is told what became of a direct message."""

ORIGINAL_RECV = 2048
"""Bytes: the original client takes one ``recv`` of this size for one frame."""


class Connection(Protocol):
    """What a session asks of each of its two connections."""

    host: str | None

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def hold(self) -> None:
        """Take no further request for now."""

    def go_on(self) -> None:
        """Take requests again."""

    def expect(self) -> None:
        """Count the client's silence from now on."""

    def close(self, why: str) -> None:
        """Close after what was written."""

    def abort(self, why: str) -> None:
        """Close at once."""


class Version1(Session):
    """A session of version 1: two connections, and one thing at a time on each.

    The original client reads one answer for each SEND, so its next SEND waits for that; and one
    ``recv`` for each FORWARD, so the next FORWARD waits for the RECEIVED. What waits to be
    forwarded is bounded by ``MAX_QUEUED``.
    """

    __slots__ = (
        "_clock",
        "_deadline",
        "_hub",
        "_next",
        "_queue",
        "_queued",
        "_request",
        "receiving",
        "sending",
    )

    door: Version1Door

    def __init__(self, door: Version1Door, sending: Connection) -> None:
        super().__init__(door)
        self._hub = door.hub
        self._clock = door.clock
        self.sending = sending
        self.receiving: Connection | None = None
        self._request: Request | None = None  # what the sender waits to be told of
        self._deadline: IDelayedCall | None = None  # until when
        self._queue: deque[Forwards] = deque()  # the first of it is being forwarded
        self._queued = 0  # bytes in the queue
        self._next = 0  # which of the first's pieces is to be answered next

    def arrive(self, receiving: Connection) -> None:
        """The second connection stands: the user is present."""
        self.receiving = receiving
        self._hub.arrive(self)

    def end(self, why: str) -> None:
        """One of the two connections is gone: close the other and leave."""
        if self.user is None:
            return
        self.door.one_legged.pop(self.user.key, None)
        self._hub.leave(self)
        self._settled()
        self._queue.clear()
        self.sending.close(why)
        if self.receiving is not None:
            self.receiving.close(why)

    def send(self, argument: str, text: str, id: str | None) -> None:
        """Send a text; the sender's next one is read when this one is answered."""
        try:
            self._request = self._hub.send(self, argument, text)
        except ChatError as error:
            raise UnableToSend(str(error)) from None  # the one refusal that the original knows
        self._deadline = self._clock.callLater(ANSWER_WITHIN, self._too_late)
        self.sending.hold()

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

    def sent(self, request: Request, message: Message) -> None:
        """Hub: it is committed. To one user, that is half the way."""
        if message.target.audience is Audience.ALL:
            self._answer(request, "SEND", request.argument)

    def delivered(self, request: Request, number: int) -> None:
        """Hub: the recipient has it."""
        self._answer(request, "SEND", request.argument)

    def undelivered(self, request: Request) -> None:
        """Hub: the recipient went, or could not read it."""
        self._answer(request, "ERROR", f"{UnableToSend.code} {UnableToSend.reason}")

    def forward(self, forwards: Forwards) -> None:
        """Put a message at the end of what this client has to answer."""
        assert self.receiving is not None
        self._queue.append(forwards)
        self._queued += forwards.size
        if self._queued > MAX_QUEUED:
            self.receiving.abort("does not read")
        elif len(self._queue) == 1:
            self.receiving.expect()
            self.receiving.write(forwards.pieces[0])

    def answered(self, name: str | None) -> None:
        """Take the client's RECEIVED with the sender's ``name``, or None for its ERROR.

        :raises HeaderIncomplete: it is not the answer to what was forwarded.
        """
        if not self._queue or self.receiving is None:
            return
        forwards = self._queue[0]
        if name is not None:
            if name != forwards.sender:
                raise HeaderIncomplete("RECEIVED with another name than FORWARD had")
            self._next += 1
        if name is None or self._next == len(forwards.pieces):
            self._queue.popleft()
            self._queued -= forwards.size
            self._next = 0
            if name is None:
                self._hub.rejected(self, forwards.number)
            else:
                self._hub.received(self, forwards.number)
        if self._queue:
            self.receiving.write(self._queue[0].pieces[self._next])

    def unanswered_by(self, connection: Connection) -> bool:
        """Whether ``connection`` has a FORWARD that it did not answer."""
        return connection is self.receiving and bool(self._queue)


@dataclass(frozen=True, slots=True)
class Forwards:
    """A message as version 1 has it: the FORWARD frames, which its receiver answers one by one."""

    number: int
    sender: str
    pieces: Sequence[bytes]
    size: int


def split_for_version_1(message: Message) -> Forwards:
    """Write ``message`` for the original client, shared by all its receivers.

    That client takes the fourth line of one ``recv`` for the text and prints it as it is, and an
    empty one is an error to it. So a line of text is a FORWARD; an empty line becomes a blank; a
    long one is cut into frames of at most 2048 bytes; and what acts on a terminal is replaced.
    """
    room = ORIGINAL_RECV - len(encode("FORWARD", message.sender, [("Content-length", 9999)]))
    lines = message.text.removesuffix("\n").split("\n")
    pieces = []
    for line in lines:
        data = printable(line.removesuffix("\r")).encode() or b" "
        start = 0
        while start < len(data):
            end = start + room
            while end < len(data) and data[end] & 0xC0 == 0x80:  # not inside a character
                end -= 1
            text = data[start:end].decode()
            pieces.append(encode("FORWARD", message.sender, body=text, count_characters=True))
            start = end
    return Forwards(message.number, message.sender, pieces, sum(map(len, pieces)))


class Version1Door:
    """Lets version 1 sessions in, two connections each, and brings messages to them."""

    def __init__(self, hub: Hub, clock: IReactorTime) -> None:
        self.hub = hub
        self.clock = clock
        self.one_legged: dict[str, Version1] = {}
        """Sessions that wait for their second connection, by folded name."""

    def first(self, name: str, connection: Connection) -> Version1:
        """Register the connection that ``name`` sends on.

        :raises MalformedName: nobody may be called so.
        :raises NotRegistered: somebody is called so, or the server is full.
        """
        session = Version1(self, connection)
        try:
            self.hub.register(name, session)
        except (NameInUse, Unavailable) as error:
            raise NotRegistered(str(error)) from None
        self.one_legged[fold(name)] = session
        return session

    def second(self, name: str, connection: Connection) -> Version1:
        """Find the session that ``connection`` is to receive for; it must still ``arrive``.

        There is no proof of who one is in version 1, so the second connection is taken from the
        address of the first alone, and once.

        :raises MalformedName: nobody may be called so.
        :raises NotRegistered: no first connection from there waits for a second.
        """
        check_user_name(name)
        session = self.one_legged.get(fold(name))
        if session is None or session.sending.host != connection.host:
            raise NotRegistered("no first connection from there waits for a second")
        del self.one_legged[fold(name)]
        return session

    def deliver(self, message: Message, sessions: Sequence[Session]) -> None:
        """See ``hub.Door.deliver``."""
        forwards = split_for_version_1(message)
        for session in sessions:
            assert isinstance(session, Version1)
            session.forward(forwards)
