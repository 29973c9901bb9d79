"""Version 2 of the framed protocol, on one connection (docs/protocol.rst, Version 2).

A session of one connection, and the door that brings messages to such sessions. It does not know
how the connection is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from chat_twisted.doors import Nowhere
from chat_twisted.frames import encode, format_time, reply_headers
from chat_twisted.hub import Hub, Request, Session
from chat_twisted.message import Message


class Connection(Protocol):
    """What a session asks of its connection."""

    def write(self, data: bytes) -> None:
        """Write to the client."""


NOWHERE = Nowhere()


class Version2(Session):
    """A session of version 2: one connection, frames both ways as they come.

    A request to leave waits until what was sent before it is answered.
    """

    __slots__ = ("_pending", "_then", "connection")

    door: Version2Door

    def __init__(self, door: Version2Door, connection: Connection) -> None:
        super().__init__(door)
        self.connection = connection
        self._pending = 0  # sends whose SENT is to come
        self._then: Callable[[], None] | None = None

    def arrive(self) -> None:
        """The client knows that it is registered: messages may follow."""
        self.door.hub.arrive(self)

    def end(self, why: str) -> None:
        """The connection is gone."""
        self.door.hub.leave(self)
        self.connection = NOWHERE
        self._then = None

    def send(self, argument: str, text: str, id: str | None) -> None:
        """Send a text; any number may be on their way."""
        self.door.hub.send(self, argument, text, id)
        self._pending += 1

    def when_answered(self, then: Callable[[], None]) -> None:
        """Call ``then`` when everything that was sent is answered; perhaps at once."""
        if self._pending:
            self._then = then
        else:
            then()

    def sent(self, request: Request, message: Message) -> None:
        """Hub: it is committed."""
        number_and_time = (("Message", message.number), ("Time", format_time(message.time)))
        headers = reply_headers(request.id, *number_and_time)
        self.connection.write(encode("SENT", request.argument, headers))
        self._pending -= 1
        if self._then is not None and not self._pending:
            self._then()

    def delivered(self, request: Request, number: int) -> None:
        """Hub: the recipient has it."""
        headers = reply_headers(request.id, ("Message", number))
        self.connection.write(encode("DELIVERED", request.argument, headers))

    def undelivered(self, request: Request) -> None:
        """Hub: the recipient went. The message is committed, and SENT has said no more."""


class Version2Door:
    """Brings messages to sessions of version 2."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def deliver(self, message: Message, sessions: Sequence[Session]) -> None:
        """See ``hub.Door.deliver``."""
        headers = (
            ("To", message.target.name),
            ("Message", message.number),
            ("Time", format_time(message.time)),
        )
        data = encode("FORWARD", message.sender, headers, message.text)
        for session in sessions:
            assert isinstance(session, Version2)
            session.connection.write(data)
