"""The client's side of version 2: one user's session with a server (docs/protocol.rst, Version 2).

``ClientSession`` is the protocol on the connection. It sends, numbers its requests and matches the
answers; what happens is told to a ``Listener``. It does not know who the listener is: standard
input and output (``pipe``), or a program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet import protocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.errors import ChatError, HeaderIncomplete
from chat_twisted.frames import MAX_BODY, Frame, FrameReader, encode

IDLE = 60
"""Seconds of a silent server after which it is asked whether it is there; past twice as many the
connection counts as lost."""


GOODBYE_WITHIN = 2
"""Seconds that a server has to close the connection after QUIT."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it was received. ``to`` is one's own name, a ``#room`` or ``ALL``.

    ``number`` is the server's for the message, ``time`` in the form ``2026-11-23T10:00:00.123Z``.
    """

    number: int
    time: str
    sender: str
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's ERROR: ``code`` and ``reason`` as in the protocol's table."""

    code: int
    reason: str


class Listener(Protocol):
    """What a session tells of. ``id`` is what ``ClientSession.send`` or ``who`` returned."""

    def registered(self, name: str) -> None:
        """The server knows the user now, as ``name``: there may be sending and receiving."""

    def not_registered(self, refusal: Refusal) -> None:
        """The server does not take the user; the connection is being closed."""

    def received(self, message: Received) -> None:
        """Somebody said something."""

    def sent(self, id: int) -> None:
        """A message of one's own is committed."""

    def delivered(self, id: int) -> None:
        """A direct message of one's own has reached its recipient."""

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """A request of one's own was refused; None if the server does not say which."""

    def listed(self, id: int, names: list[str]) -> None:
        """Everybody who is present."""

    def lost(self, reason: str) -> None:
        """The connection is gone: ``reason`` is the server's, or empty if it gave none."""


@implementer(IPushProducer)
class ClientSession(protocol.Protocol):
    """A connection to a server. As a producer it can be paused: then nothing more is received.

    :param user: the name to register.
    :param clock: the reactor.
    """

    transport: Any  # ITCPTransport, or what tests have in its place

    def __init__(self, user: str, listener: Listener, clock: IReactorTime) -> None:
        self.user = user
        self.max_message = MAX_BODY  # bytes; the server says what it is
        self._listener = listener
        self._reader = FrameReader()
        self._names: dict[int, list[str]] = {}  # of a WHO that goes on, by the id of the first
        self._last_id = 0
        self._registered = False
        self._goodbye: IDelayedCall | None = None
        self._reason = ""
        self._heard = False
        self._quiet = 0
        self._paused = False
        self._clock = clock
        self._watch = LoopingCall(self._look)
        self._watch.clock = clock

    # What the user does

    def send(self, to: str, text: str) -> int:
        """Send ``text``; return the id that the listener will hear of. The answer is ``sent`` or
        ``refused``, and ``delivered`` after ``sent`` where ``to`` is a user.
        """
        return self._request("SEND", to, body=text)

    def who(self) -> int:
        """Ask who is present; the answer is ``listed``."""
        return self._request("WHO")

    def quit(self) -> None:
        """Say goodbye. The server closes the connection, and ``lost`` follows."""
        if self._goodbye is None and self.connected:
            self.transport.write(encode("QUIT"))
            self._goodbye = self._clock.callLater(GOODBYE_WITHIN, self.transport.abortConnection)

    def pauseProducing(self) -> None:
        """Receive nothing for now, because it can't be shown as fast as it comes."""
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Receive again."""
        self._paused = False
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """What is received can't be shown any more. To ``quit`` is for the listener to say."""
        self.resumeProducing()  # else the end of the connection would not be seen

    def _request(self, verb: str, argument: str = "", body: str | None = None) -> int:
        self._last_id += 1
        self.transport.write(encode(verb, argument, [("Id", self._last_id)], body))
        return self._last_id

    # What comes

    def connectionMade(self) -> None:
        """Twisted: the connection stands."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # frames are small, and answered one by one
        self._watch.start(IDLE, now=False)
        self.transport.write(encode("REGISTER", self.user, [("Version", 2)]))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Twisted: the connection is gone."""
        if self._watch.running:
            self._watch.stop()
        if self._goodbye is not None and self._goodbye.active():
            self._goodbye.cancel()
        if not self._reason and not reason.check(ConnectionDone):
            self._reason = reason.getErrorMessage()
        self._listener.lost(self._reason)

    def _look(self) -> None:
        if self._heard or self._paused:
            self._heard = False
            self._quiet = 0
            return
        self._quiet += 1
        if self._quiet == 1:
            self.transport.write(encode("PING", "idle"))
        else:
            self._give_up("the server does not answer")

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes came."""
        self._heard = True
        newest: Received | None = None
        try:
            for frame in self._reader.feed(data):
                newest = self._take(frame) or newest
        except ChatError:
            self._give_up("what the server says can't be understood")
            return
        if newest is not None:  # one answer says that all before it are here too
            self.transport.write(encode("RECEIVED", newest.sender, [("Message", newest.number)]))

    def _take(self, frame: Frame) -> Received | None:
        """Handle one frame; return it as a message if it is one."""
        listener = self._listener
        match frame.verb:
            case "FORWARD":
                headers = frame.headers
                message = Received(
                    frame.number("message"),
                    headers.get("time", ""),
                    frame.argument,
                    headers.get("to", ""),
                    frame.body or "",
                )
                listener.received(message)
                return message
            case "SENT":
                listener.sent(frame.number("id"))
            case "DELIVERED":
                listener.delivered(frame.number("id"))
            case "ERROR":
                self._refused(frame)
            case "WHO":
                self._listed(frame)
            case "REGISTERED":
                if self._registered:
                    raise HeaderIncomplete("a second REGISTERED")
                self._registered = True
                self.max_message = frame.number("max-message")
                self._reader.max_body = max(self.max_message, MAX_BODY)
                listener.registered(frame.argument)
            case "PING":
                self.transport.write(encode("PONG", frame.argument))
            case "BYE":
                self._reason = self._reason or frame.argument
            case _:
                pass  # what a newer server tells of, and what PONG needn't say
        return None

    def _refused(self, frame: Frame) -> None:
        match = re.match(r"([0-9]{3}) (.*)", frame.argument)
        refusal = Refusal(int(match[1]), match[2]) if match else Refusal(0, frame.argument)
        if not self._registered:
            self._listener.not_registered(refusal)
            self.quit()
        else:
            self._listener.refused(frame.number("id") if frame.id else None, refusal)

    def _listed(self, frame: Frame) -> None:
        id = frame.number("id")
        names = self._names.setdefault(id, [])
        names.extend(line.partition(" ")[0] for line in (frame.body or "").splitlines())
        if "more" in frame.headers:
            headers = [("Id", id), ("After", frame.headers["more"])]
            self.transport.write(encode("WHO", "", headers))
        else:
            self._listener.listed(id, self._names.pop(id))
