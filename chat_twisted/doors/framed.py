"""The door of the framed protocol, versions 1 and 2 (docs/protocol.rst).

``FramedConnection`` is one TCP connection, ``FramedFactory`` all of them with the hub they lead to.
The first frame tells the versions apart: in version 2 (``version2``) a connection is a session of
the hub; in version 1 (``version1``) two connections are one.

It knows the verbs, who may use which when, and how fast a peer must be. Which frame is well-formed
is for ``frames`` to say; who may say what to whom, for the hub.
"""

from __future__ import annotations

import base64
import enum
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IReactorTime,
)
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.auth.gate import Gate, Password, Signature
from chat_twisted.auth.keys import CHALLENGE
from chat_twisted.core.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    EncryptionRequired,
    MalformedName,
    NotPermitted,
    UnableToSend,
)
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import Rate, network
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.core.sessions import Session
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors import Channel, forget_frames, requests
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.stream import DEFAULT_UNREAD, TICKS, Stream, Streams
from chat_twisted.doors.version1 import Version1, Version1Door
from chat_twisted.doors.version2 import VERSION, Version2, Version2Door
from chat_twisted.frames import (
    MAX_BODY,
    MAX_SKIPPED,
    Frame,
    FrameReader,
    HeaderIncomplete,
    MessageTooLong,
    encode,
    reply_headers,
)
from chat_twisted.logs import Logger
from chat_twisted.refusals import NotRegistered, UnknownCommand, refusal_headers, refusal_of

FIRST_WORDS = (b"REGISTER",)
"""What a connection for this door begins with."""

MAX_FAILURES = 3
"""How many logins may fail on one connection."""

REFUSALS_LOGGED = {"each": Rate(1 / 6, 10), "all": Rate(1, 100)}
COMINGS_LOGGED = {"each": Rate(1, 1000), "all": Rate(5, 10_000)}
"""How many lines are logged about refusals, and about who comes and goes: for one address and for
all, so that nobody can fill the disk."""

AT_ONCE = 256
"""Requests that are taken from one connection in one turn of the reactor: a few milliseconds."""


class State(enum.Enum):
    """What a connection may do; see ``FramedConnection._VERBS``."""

    NEW = "nothing said yet"
    UNREGISTERED = "version 2, no name yet"
    AUTHENTICATING = "version 2, its proof of who it is is looked at"
    REGISTERING = "its name is asked for"
    TALKING = "version 2"
    SENDING = "version 1, first connection"
    RECEIVING = "version 1, second connection"
    CLOSED = "closed"


@implementer(IHalfCloseableProtocol)
class FramedConnection(LineReceiver):
    """One connection: bytes in, calls on the hub or on its session.

    It is a LineReceiver that stays in raw mode: lines and bodies are the ``FrameReader``'s, and how
    long they may be. What it writes, when it may read, and how it ends is its ``Stream``'s.
    """

    factory: FramedFactory
    transport: Any  # ITCPTransport, or what tests and other kinds of endpoint have in its place
    _log: ClassVar[Logger] = Logger()

    stream: Stream
    session: Version1 | Version2 | None = None
    _applicant: Version2 | None = None  # has asked for a name that must be proven
    _challenge = b""
    _failures = 0  # of logins
    _quits = False  # the peer said so

    def __init__(self, factory: FramedFactory, channel: Channel) -> None:
        self.factory = factory
        self.channel = channel
        self.peer = ""
        self._reader = FrameReader(factory.max_message, max_skipped=MAX_SKIPPED)
        self._become(State.NEW)

    @property
    def host(self) -> str | None:
        """The peer's address; None for a local socket."""
        return self.channel.host

    def _become(self, state: State) -> None:
        self.state = state
        self.closed = state is State.CLOSED  # nothing more is taken from the peer
        self._taken = self._VERBS[state]

    # Life

    def connectionMade(self) -> None:
        """Twisted: the connection stands."""
        self.setRawMode()  # type: ignore[no-untyped-call]
        self.peer = describe(self.transport.getPeer())
        source = object() if self.host is None else network(self.host)
        self.stream = Stream(self.factory.streams, self, self.transport, source)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: the connection is gone."""
        self.channel.lost()
        self.stream.lost()
        self._let_go("closed" if reason.check(ConnectionDone) else reason.getErrorMessage())
        forget_frames(reason)

    def close(self, why: str) -> None:
        """Let go of the peer after what was written; ``why`` is for the log."""
        if not self.closed:
            self.stream.close()
            self._let_go(why)

    def abort(self, why: str) -> None:
        """Cut the connection off at once: the peer does not take what was written."""
        self.stream.abort()
        self._let_go(why)

    def bye(self, reason: str, *, final: bool = False) -> None:
        """Say that the server lets go, in the version that has a word for it, and do.

        :param final: the client should not come back by itself.
        """
        self._say_bye(reason, [("Final", "yes")] if final else [])
        self.close(reason)

    def stop(self, reason: str) -> None:
        """The server stops: say so, and close as soon as it is written. Nothing is logged."""
        self._say_bye(reason)
        self.stream.stop()
        self._let_go(None)

    def _say_bye(self, reason: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        if self.state in (State.UNREGISTERED, State.AUTHENTICATING, State.TALKING):
            self.write(encode("BYE", reason, headers))

    def _let_go(self, why: str | None) -> None:
        if not self.closed:
            self._become(State.CLOSED)
            self._leave(why)

    def _leave(self, why: str | None) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        name = self.factory.hub.name_of(session)
        session.end(why or "", for_good=self._quits)
        if name and why is not None:
            self.factory.comings.emit(
                self.host,
                "{user} went from {peer}: {why}",
                user=name,
                peer=self.peer,
                why=why,
            )

    def _log_came(self, session: Session, version: int) -> None:
        self.factory.comings.emit(
            self.host,
            "{user} came from {peer}, version {version}",
            user=self.factory.hub.name_of(session),
            peer=self.peer,
            version=version,
        )

    @property
    def is_registered(self) -> bool:
        """Whether the peer is somebody, and has all the connections that it needs."""
        if isinstance(self.session, Version1):
            return self.session.receiving is not None
        return self.state is State.TALKING

    def is_silent(self, ticks: int) -> None:
        """Called when nothing was heard for so many ``TICKS`` of an idle interval."""
        if not self.is_registered:
            if ticks >= TICKS:
                self.bye("No registration in time")
        elif self.state is State.TALKING and ticks == TICKS:
            self.write(encode("PING", "idle"))
        elif ticks >= 2 * TICKS and (
            self.state is State.TALKING
            or (isinstance(self.session, Version1) and self.session.unanswered_by(self))
        ):
            self.bye("Silent for too long")

    def expect(self) -> None:
        """Count silence from now on: the peer has something to answer."""
        self.stream.heard = True

    # In

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes came. All are raw, so that LineReceiver's own buffer is not needed."""
        self.rawDataReceived(data)
        self.stream.flush()

    def rawDataReceived(self, data: bytes) -> None:
        """Twisted: bytes came, which are no line to it."""
        if self.closed:
            return
        self._reader.receive_data(data)
        self._take_frames()

    @property
    def has_unread(self) -> bool:
        """Whether requests are there that are not taken yet, or the end is."""
        return self._reader.has_more or self.stream.ended

    def resume(self) -> None:
        """Take what came while nothing was to be taken."""
        self._take_frames()
        self._leave_if_ended()

    def _take_frames(self) -> None:
        """Take the requests that are there; the reader keeps what is not to be taken now."""
        next_frame, stream = self._reader.next_frame, self.stream
        for _ in range(AT_ONCE):
            if stream.paused or self.closed:
                return
            try:
                frame = next_frame()
            except ChatError as fault:
                self._refuse_stream(fault)
                return
            if frame is None:
                return
            self._take(frame)
        if self._reader.has_more:
            stream.rest()

    def readConnectionLost(self) -> None:
        """Twisted: the peer sends nothing more, but it may still read."""
        self.stream.end()
        if isinstance(self.session, Version1):
            self.close("closed")
        else:
            self._leave_if_ended()

    def _leave_if_ended(self) -> None:
        if self.stream.ended and not self.stream.is_behind and not self.closed:
            self._leave_when_answered(b"", "closed")

    def writeConnectionLost(self) -> None:
        """Twisted: the last that was to be written is written."""

    def _take(self, frame: Frame) -> None:
        self.stream.heard = True
        id = None
        try:
            id = frame.id
            verbs, otherwise = self._taken
            handle = verbs.get(frame.verb)
            if handle is None:
                raise otherwise
            if frame.too_long:  # one refusal alone is known to the original client
                raise UnableToSend if isinstance(self.session, Version1) else MessageTooLong
            handle(self, frame)
        except ChatError as error:
            self._in_turn(lambda error=error: self.refuse(error, id))  # type: ignore[misc]

    def _refuse_stream(self, fault: ChatError) -> None:
        """Close for a fault of the stream, which can't be read on."""

        def refuse() -> None:
            self.refuse(fault, self._reader.id)
            self.close(refusal_of(type(fault)).reason)

        self._in_turn(refuse)

    def _in_turn(self, answer: Callable[[], None]) -> None:
        """Call ``answer`` when everything that was asked before is answered, and take no further
        request until then.
        """
        session = self.session
        if not isinstance(session, Version2) or not session.pending:
            answer()
            return

        def answer_and_go_on() -> None:
            answer()
            self.go_on()

        self.hold()
        session.when_answered(answer_and_go_on)

    def refuse(self, error: ChatError, id: str | None = None) -> None:
        """Answer with an error, and close if it is one after which nothing can go on."""
        has_name = self.state is State.TALKING
        refusal = refusal_of(type(error))
        headers = reply_headers(id, *refusal_headers(error))
        if isinstance(self.session, Version1):
            headers = []  # its client compares whole frames
        if self.state is State.REGISTERING:
            self.session = None
            self._become(State.UNREGISTERED)
            self.go_on()
        if isinstance(error, AuthenticationRequired):
            headers += self._begin_challenge()
        self._failures += isinstance(error, AuthenticationFailed)
        self.factory.refusals.emit(
            self.host,
            "refused {peer}: ERROR {refusal} ({detail})",
            peer=self.peer,
            refusal=refusal,
            detail=str(error),
        )
        self.write(encode("ERROR", str(refusal), headers))
        if refusal.closes and not (has_name and isinstance(error, MalformedName)):
            self.close(refusal.reason)
        elif self._failures >= MAX_FAILURES:
            self.close("too many failed logins")

    # What is the stream's, for sessions

    def write(self, data: bytes) -> None:
        """Write to the peer, soon."""
        self.stream.write(data)

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the peer has read what was sent to it."""
        self.stream.when_written(then)

    def hold(self) -> None:
        """Take no further request for now."""
        self.stream.hold()

    def go_on(self) -> None:
        """Take requests again, but none before this turn of the reactor is over."""
        self.stream.go_on()

    # What is asked

    def _register(self, frame: Frame) -> None:
        role, _, name = frame.argument.partition(" ")
        if role == "TOSEND":
            self._register_to_send(name)
        elif role == "TORECV":
            self._register_to_receive(name)
        else:
            self._register_version_2(frame)

    def _register_to_send(self, name: str) -> None:
        self._version_1_only()
        self._reader.counts_characters = True
        self._ask_for_name(self.factory.version_1.first(name, self))

    def _register_to_receive(self, name: str) -> None:
        self._version_1_only()
        session = self.factory.version_1.second(name, self)
        self._start(session, State.RECEIVING)
        self.write(encode("REGISTERED", f"TORECV {name}"))
        session.arrive(self)
        self._log_came(session, 1)

    def _version_1_only(self) -> None:
        if self.state is not State.NEW:
            raise NotRegistered("a version 1 registration after a version 2 one")

    def _register_version_2(self, frame: Frame) -> None:
        self._become(State.UNREGISTERED)
        self._applicant = session = Version2(self.factory.version_2, self, frame)
        self._challenge = b""
        session.register()
        self._ask_for_name(session)

    def _ask_for_name(self, session: Version1 | Version2) -> None:
        """Take nothing until it is known whether the session has its name."""
        self.session = session
        self._become(State.REGISTERING)
        self.hold()

    def _begin_challenge(self) -> tuple[tuple[str, str], ...]:
        self._challenge = os.urandom(CHALLENGE)
        methods = "publickey password" if self.channel.private else "publickey"
        return ("Methods", methods), ("Challenge", base64.b64encode(self._challenge).decode())

    def _authenticate(self, frame: Frame) -> None:
        if not self._challenge or self._applicant is None:
            raise NotRegistered("AUTH before REGISTER has asked for it")
        credentials = self._credentials(frame, self._applicant)
        self._become(State.AUTHENTICATING)
        self.hold()
        Deferred.fromCoroutine(self._log_in(self._applicant, credentials, frame.id))

    def _credentials(self, frame: Frame, applicant: Version2) -> Signature | Password:
        if frame.argument == "password":
            if not self.channel.private:
                raise EncryptionRequired("a password")
            return Password(
                applicant.name, frame.body or "", self.factory.hub.usage.checked_asker(applicant)
            )
        if frame.argument != "publickey":
            raise NotPermitted("no such way to prove who one is")
        try:
            signature = base64.b64decode(frame.headers.get("signature", ""), validate=True)
        except ValueError:
            signature = b""  # which is nobody's
        key = frame.headers.get("key", "")
        return Signature(applicant.name, key, signature, self._challenge, self.channel.binding)

    async def _log_in(
        self, session: Version2, credentials: Signature | Password, id: str | None
    ) -> None:
        try:
            host = None if self.host is None else network(self.host)
            proof = await self.factory.gate.login(credentials, host)
            if not self.closed:
                self._become(State.UNREGISTERED)
                session.register(proof, id)
                self._ask_for_name(session)
        except ChatError as error:
            if not self.closed:
                self._become(State.UNREGISTERED)
                self.go_on()
                self.refuse(error, id)
        except Exception:  # noqa: BLE001  nobody awaits this
            self._log.failure("while logging in")
            self.abort("a fault in logging in")

    def registered(self, session: Version1 | Version2) -> None:
        """The session has its name."""
        if isinstance(session, Version2):
            self._start(session, State.TALKING)
            self._log_came(session, VERSION)
        else:
            self._start(session, State.SENDING)
        self.go_on()

    def _start(self, session: Version1 | Version2, state: State) -> None:
        self.session = session
        self._become(state)
        self._applicant = None
        self.stream.quiet = 0

    def _send_piece(self, frame: Frame) -> None:
        if not frame.argument or not frame.body:
            raise HeaderIncomplete("no recipient or no text")
        assert isinstance(self.session, Version1)
        self.session.send(frame.argument, frame.body)

    def _received_piece(self, frame: Frame) -> None:
        assert isinstance(self.session, Version1)
        self.session.take_answer(frame.argument)

    def _rejected_piece(self, frame: Frame) -> None:
        assert isinstance(self.session, Version1)
        self.session.take_answer(None)

    def _ask(self, frame: Frame) -> None:
        assert isinstance(self.session, Version2)
        requests.take(self.session, frame)

    def _ping(self, frame: Frame) -> None:
        pong = encode("PONG", frame.argument, reply_headers(frame.id))
        self._in_turn(lambda: self.write(pong))

    def _pong(self, frame: Frame) -> None:
        pass  # that it came is all it says

    def _quit(self, frame: Frame) -> None:
        self._quits = True
        self._leave_when_answered(encode("BYE", "", reply_headers(frame.id)), "quit")

    def _leave_when_answered(self, last_words: bytes, why: str) -> None:
        def leave() -> None:
            self.write(last_words)
            self.close(why)

        self._in_turn(leave)

    def _already(self, frame: Frame) -> None:
        raise NotPermitted("is registered already")

    _VERBS: ClassVar[
        dict[State, tuple[dict[str, Callable[[FramedConnection, Frame], None]], type[ChatError]]]
    ] = {
        # What may be said in each state, and what everything else is refused with.
        State.NEW: ({"REGISTER": _register}, NotRegistered),
        State.UNREGISTERED: (
            {
                "REGISTER": _register,
                "AUTH": _authenticate,
                "PING": _ping,
                "PONG": _pong,
                "QUIT": _quit,
            },
            NotRegistered,
        ),
        State.AUTHENTICATING: ({}, NotRegistered),
        State.CLOSED: ({}, NotRegistered),
        State.TALKING: (
            {
                **dict.fromkeys(requests.VERBS, _ask),
                "PING": _ping,
                "PONG": _pong,
                "QUIT": _quit,
                "REGISTER": _already,
                "AUTH": _already,
            },
            UnknownCommand,
        ),
        State.REGISTERING: ({}, NotRegistered),
        State.SENDING: ({"SEND": _send_piece}, HeaderIncomplete),
        State.RECEIVING: (
            {"RECEIVED": _received_piece, "ERROR": _rejected_piece},
            HeaderIncomplete,
        ),
    }


class FramedFactory(ServerFactory):
    """All connections of the framed protocol, and the hub they lead to.

    :param gate: whom credentials are brought to.
    :param max_message: the limit of a text, in bytes.
    :param idle: seconds of silence after which a client is asked whether it is there.
    :param motd: what is said to everybody who logs in.
    :param retain: for how many seconds messages are kept; None for ever.
    :param max_unread, poller, turn: see ``Streams``.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        clock: IReactorTime,
        *,
        max_message: int = MAX_BODY,
        idle: float = 60,
        max_unread: int = DEFAULT_UNREAD,
        motd: str = "",
        retain: float | None = None,
        poller: Poller | None = None,
        turn: EndOfTurn | None = None,
    ) -> None:
        self.hub = hub
        self.gate = gate
        self.clock = clock
        self.max_message = max_message
        self.streams = Streams(clock, max_unread=max_unread, idle=idle, poller=poller, turn=turn)
        self.refusals = PeerLog(FramedConnection._log.info, clock, **REFUSALS_LOGGED)
        self.comings = PeerLog(FramedConnection._log.info, clock, **COMINGS_LOGGED)
        self.version_1 = Version1Door(hub, clock, max_unread)
        self.version_2 = Version2Door(
            hub, gate, clock, max_message, motd, retain, self.streams.flush
        )
        self._stopping = False

    def startFactory(self) -> None:
        """Twisted: the first port listens."""
        self.streams.start()

    def stopFactory(self) -> None:
        """Twisted: the last port is closed."""
        self.streams.stop_ticking()

    def buildProtocol(self, addr: IAddress | None) -> FramedConnection | None:  # type: ignore[override]
        """Twisted: somebody connects to a port that is this door's alone."""
        return self.accept(Channel(getattr(addr, "host", None)))

    def accept(self, channel: Channel) -> FramedConnection | None:
        """Make the protocol of a connection; None if the server stops."""
        return None if self._stopping else FramedConnection(self, channel)

    def stop(self, reason: str) -> Deferred[None]:
        """Say BYE to everybody, take no more, and fire when all are gone, within a second."""
        self._stopping = True
        self.refusals.report()
        self.comings.report()
        return self.streams.stop(reason)


def describe(address: IAddress) -> str:
    """Name one end of a connection, for the log."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress) and address.name:
        return f"unix:{os.fsdecode(address.name)}"
    return "a local socket"
