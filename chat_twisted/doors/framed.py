"""The door of the framed protocol, versions 1 and 2 (docs/protocol.rst).

``FramedConnection`` is one connection, and ``FramedFactory`` has all of them. The first frame
decides the version: in version 2 (``version2``) a connection is a session of the hub; in version 1
(``version1``) two connections are one session.

This module knows the states of a connection, the verbs of each state, and the time-outs. It must
not know the grammar of frames (``frames``), or the rules of the chat.

It is one long module because a connection has one state, and everything that a peer does, from its
first frame over the login to the end, is a step from one state to another.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IReactorTime,
)
from twisted.protocols.basic import LineReceiver

from chat_twisted.auth.gate import Gate, Password, Signature
from chat_twisted.core.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    MalformedName,
    NotPermitted,
    UnableToSend,
)
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import network
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors import (
    Channel,
    requests,
)
from chat_twisted.doors.connecting import DoorConnection, DoorFactory
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.proof import Challenge
from chat_twisted.doors.streams import DEFAULT_UNREAD, TICKS
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
"""The first bytes of connections for this door."""

MAX_FAILURES = 3
"""Number of failed logins after which a connection is closed."""

AT_ONCE = 256
"""Maximum number of requests of a connection in one turn of the reactor; a few milliseconds."""


class State(enum.Enum):
    """The states of a connection; ``FramedConnection._VERBS`` has the verbs of each."""

    NEW = "nothing said yet"
    UNREGISTERED = "version 2, no name yet"
    AUTHENTICATING = "version 2, its proof of who it is is looked at"
    REGISTERING = "its name is asked for"
    TALKING = "version 2"
    SENDING = "version 1, first connection"
    RECEIVING = "version 1, second connection"
    CLOSED = "closed"


class FramedConnection(DoorConnection, LineReceiver):
    """The protocol of one connection: it passes requests to its session, or to the hub.

    It is a LineReceiver in raw mode: its ``FrameReader`` parses lines and bodies, and limits their
    length. Its ``Stream`` does output, backpressure and closing.
    """

    factory: FramedFactory
    _reader: FrameReader
    _log: ClassVar[Logger] = Logger()

    session: Version1 | Version2 | None = None
    _applicant: Version2 | None = None  # the session that must authenticate
    _challenge: Challenge | None = None
    _failures = 0  # failed logins
    _quits = False  # whether the client has sent QUIT
    _reason = ""  # the body of QUIT

    def __init__(self, factory: FramedFactory, channel: Channel) -> None:
        super().__init__(channel)
        self.factory = factory
        self._reader = FrameReader(factory.max_message, max_skipped=MAX_SKIPPED)
        self._become(State.NEW)

    def _become(self, state: State) -> None:
        self.state = state
        self.closed = state is State.CLOSED  # whether further input is ignored
        self._taken = self._VERBS[state]

    # Life

    def connectionMade(self) -> None:
        """Make the stream. Called by Twisted."""
        self.setRawMode()  # type: ignore[no-untyped-call]
        super().connectionMade()

    def bye(self, reason: str, *, final: bool = False) -> None:
        """Close the connection, in version 2 with a BYE.

        :param final: whether the client should not reconnect by itself.
        """
        self._say_bye(reason, [("Final", "yes")] if final else [])
        self.close(reason)

    def stop(self, reason: str) -> None:
        """Write BYE, and close the connection without a log line. Called when the server stops."""
        self._say_bye(reason)
        self.stream.stop()
        self._let_go(None)

    def _say_bye(self, reason: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        if self.state in (State.UNREGISTERED, State.AUTHENTICATING, State.TALKING):
            self.write(encode("BYE", reason, headers))

    def _let_go(self, why: str | None) -> None:
        if not self.closed:
            self._become(State.CLOSED)
            self._end_session(why)

    def _end_session(self, why: str | None) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        name = self.factory.hub.name_of(session)
        session.end(why or "", for_good=self._quits, reason=self._reason)
        self._log_went(name, why)

    @property
    def kind(self) -> str:
        """The kind of the client, for the status of the server."""
        if self.session is None:
            return "unregistered"
        return "version 1" if isinstance(self.session, Version1) else "version 2"

    @property
    def is_registered(self) -> bool:
        """Whether the client is logged in, with all its connections. Called by the stream."""
        if isinstance(self.session, Version1):
            return self.session.receiving is not None
        return self.state is State.TALKING

    def is_silent(self, ticks: int) -> None:
        """Called by the stream at each tick while the client is silent."""
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
        """Start to measure the client's silence, because it must answer."""
        self.stream.heard = True

    # Input

    def dataReceived(self, data: bytes) -> None:
        """Process received bytes. Called by Twisted; LineReceiver's own buffer is not needed."""
        self.rawDataReceived(data)
        self.stream.flush()

    def rawDataReceived(self, data: bytes) -> None:
        """Process received bytes."""
        if self.closed:
            return
        self._reader.receive_data(data)
        self._take_input()

    def _take_input(self) -> None:
        """Process requests until the stream is paused; the reader keeps the rest."""
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
        """Called by Twisted when the client has ended its side; it may still read."""
        self.stream.end()
        if isinstance(self.session, Version1):
            self.close("closed")
        else:
            self._leave_if_ended()

    def _leave(self) -> None:
        self._leave_when_answered(b"", "closed")

    def _take(self, frame: Frame) -> None:
        self.stream.heard = True
        id = None
        try:
            id = frame.id
            verbs, otherwise = self._taken
            handle = verbs.get(frame.verb)
            if handle is None:
                raise otherwise
            if frame.too_long:  # the original client knows one error only
                raise UnableToSend if isinstance(self.session, Version1) else MessageTooLong
            handle(self, frame)
        except ChatError as error:
            self._in_turn(lambda error=error: self.refuse(error, id))  # type: ignore[misc]

    def _refuse_stream(self, fault: ChatError) -> None:
        """Refuse an invalid stream, and close the connection."""

        def refuse() -> None:
            self.refuse(fault, self._reader.id)
            self.close(refusal_of(type(fault)).reason)

        self._in_turn(refuse)

    def _in_turn(self, answer: Callable[[], None]) -> None:
        """Call ``answer`` when all earlier requests are answered. Further requests wait."""
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
        """Answer with an error, and close the connection if the error demands it."""
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
            self._challenge = Challenge(self.channel)
            headers += self._challenge.headers
        self._failures += isinstance(error, AuthenticationFailed)
        self.factory.refused.add(error)
        self.factory.refusals.emit(
            self.host,
            "refused {peer}: ERROR {refusal} ({detail})",
            event="refused",
            peer=self.peer,
            refusal=refusal,
            detail=str(error),
        )
        self.write(encode("ERROR", str(refusal), headers))
        if refusal.closes and not (has_name and isinstance(error, MalformedName)):
            self.close(refusal.reason)
        elif self._failures >= MAX_FAILURES:
            self.close("too many failed logins")

    # Requests

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
        self._log_came(self.factory.hub.name_of(session), "version 1")

    def _version_1_only(self) -> None:
        if self.state is not State.NEW:
            raise NotRegistered("a version 1 registration after a version 2 one")

    def _register_version_2(self, frame: Frame) -> None:
        self._become(State.UNREGISTERED)
        self._applicant = session = Version2(self.factory.version_2, self, frame)
        self._challenge = None
        session.register(self.channel.proof)
        self._ask_for_name(session)

    def _ask_for_name(self, session: Version1 | Version2) -> None:
        """Wait for the answer to a login. Further requests wait too."""
        self.session = session
        self._become(State.REGISTERING)
        self.hold()

    def _authenticate(self, frame: Frame) -> None:
        applicant = self._applicant
        if self._challenge is None or applicant is None:
            raise NotRegistered("AUTH before REGISTER has asked for it")
        asker = partial(self.factory.hub.usage.checked_asker, applicant)
        credentials = self._challenge.credentials(frame, applicant.name, asker)
        self._become(State.AUTHENTICATING)
        self.hold()
        Deferred.fromCoroutine(self._log_in(applicant, credentials, frame.id))

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
        except Exception:  # noqa: BLE001  nobody awaits this coroutine
            self._log.failure("while logging in")
            self.abort("the login has failed")

    def registered(self, session: Version1 | Version2) -> None:
        """Called when the session is logged in."""
        if isinstance(session, Version2):
            self._start(session, State.TALKING)
            protocol = self.channel.inside or f"version {VERSION}"
            self._log_came(self.factory.hub.name_of(session), protocol)
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

    def _send(self, frame: Frame) -> None:
        assert isinstance(self.session, Version2)
        requests.send(self.session, frame)

    def _received(self, frame: Frame) -> None:
        assert isinstance(self.session, Version2)
        requests.received(self.session, frame)

    def _ask(self, frame: Frame) -> None:
        assert isinstance(self.session, Version2)
        requests.take(self.session, frame)

    def _ping(self, frame: Frame) -> None:
        pong = encode("PONG", frame.argument, reply_headers(frame.id))
        self._in_turn(lambda: self.write(pong))

    def _pong(self, frame: Frame) -> None:
        pass  # a sign of life

    def _quit(self, frame: Frame) -> None:
        self._quits, self._reason = True, frame.body or ""
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
        # The handlers of the verbs of each state, and the error for all other verbs.
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
                "SEND": _send,
                "RECEIVED": _received,
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


class FramedFactory(DoorFactory[FramedConnection]):
    """The connections of the framed protocol, and the doors of its two versions.

    :param gate: verifies credentials.
    :param clock: the reactor.
    :param max_message: the maximum length of a text, in bytes.
    :param idle: seconds of silence after which a client gets a PING.
    :param motd: the message of the day; empty without one.
    :param retain: seconds for which messages are kept; None means for ever.
    :param max_unread, poller, turn: as in ``Streams``.
    """

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
        super().__init__(
            clock,
            FramedConnection._log.info,
            idle=idle,
            max_unread=max_unread,
            poller=poller,
            turn=turn,
        )
        self.hub = hub
        self.gate = gate
        self.max_message = max_message
        self.version_1 = Version1Door(hub, clock, max_unread)
        self.version_2 = Version2Door(
            hub, gate, clock, max_message, motd, retain, self.streams.flush
        )

    def set_max_unread(self, max_unread: int) -> None:
        """See ``DoorFactory.set_max_unread``."""
        super().set_max_unread(max_unread)
        self.version_1.max_unread = max_unread

    @property
    def motd(self) -> str:
        """See ``DoorFactory.motd``."""
        return self.version_2.motd

    def set_motd(self, motd: str) -> None:
        """See ``DoorFactory.set_motd``."""
        self.version_2.motd = motd

    def _make(self, channel: Channel) -> FramedConnection:
        return FramedConnection(self, channel)
