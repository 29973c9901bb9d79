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
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPullProducer,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.auth.accounts import CHALLENGE, Account, Gate, Password, Signature
from chat_twisted.core.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    EncryptionRequired,
    HeaderIncomplete,
    MessageTooLong,
    NotPermitted,
    NotRegistered,
    UnableToSend,
    UnknownCommand,
)
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import Limits, Rate, network
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.core.sessions import Session
from chat_twisted.core.turns import EndOfTurn, Shares
from chat_twisted.doors import Channel, forget_frames
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.sockets import HELD_BY_SYSTEM
from chat_twisted.doors.version1 import Version1, Version1Door
from chat_twisted.doors.version2 import VERSION, Version2, Version2Door
from chat_twisted.frames import (
    MAX_BODY,
    MAX_SKIPPED,
    Frame,
    FrameReader,
    encode,
    reply_headers,
)
from chat_twisted.logs import Logger

FIRST_WORDS = (b"REGISTER",)
"""What a connection for this door begins with."""

LINGER = 2
"""Seconds for which a closed connection is read on and what comes is thrown away. Closing with
input unread would reset the connection, and the peer might never see why it was closed."""

MAX_FAILURES = 3
"""How many logins may fail on one connection."""

STOP_WITHIN = 0.5
"""Seconds that all peers together have to take their BYE when the server stops."""

TICKS = 4
"""How many times in an idle interval the connections are looked at."""

REFUSALS_LOGGED = {"each": Rate(1 / 6, 10), "all": Rate(1, 100)}
COMINGS_LOGGED = {"each": Rate(1, 1000), "all": Rate(5, 10_000)}
"""How many lines are logged about refusals, and about who comes and goes: for one address and for
all, so that nobody can fill the disk."""

GATHER = 65_536
"""Bytes that are gathered in one turn of the reactor before they are written."""

FLUSH_WITHIN = 0.002
"""Seconds for which what is committed may wait, to be written together with what is being."""

DEFAULT_UNREAD = Limits().unread

REQUESTS_SHARE = 0.005
"""Seconds that the requests of one address may take in one turn of the reactor."""

REQUESTS_PIECE = 0.001
LOOK_AFTER = 16
"""Seconds after which what one connection has asked for is interrupted, for others of its address;
and after how many requests it is looked at the clock."""


class State(enum.Enum):
    """What a connection may do; see ``FramedConnection._VERBS``."""

    NEW = "nothing said yet"
    UNREGISTERED = "version 2, no name yet"
    AUTHENTICATING = "version 2, its proof of who it is is looked at"
    REGISTERING = "version 2, its name is being committed"
    TALKING = "version 2"
    SENDING = "version 1, first connection"
    RECEIVING = "version 1, second connection"
    CLOSED = "closed"


@implementer(IPushProducer, IHalfCloseableProtocol)
class FramedConnection(LineReceiver):
    """One connection: bytes in, calls on the hub or on its session.

    It is a LineReceiver that stays in raw mode: lines and bodies are the ``FrameReader``'s, and how
    long they may be.

    What is written in one turn of the reactor goes out in one piece, and what is committed while
    more is being, together with that. While the peer does not read, the connection is paused: its
    requests are not read, and what others send to it waits here. Past
    ``FramedFactory.max_unread`` it is cut off.
    """

    factory: FramedFactory
    transport: Any  # ITCPTransport, or what tests and other kinds of endpoint have in its place
    _log: ClassVar[Logger] = Logger()

    # What few connections have for long stands here, so that an idle one is small: beyond 30
    # attributes of its own an object costs a kilobyte more.
    session: Version1 | Version2 | None = None
    _waiting: deque[bytes] | None = None  # what can't be written now
    _queued = 0  # bytes of it
    _gathered = 0  # bytes that are written in this turn
    _full = False  # the transport is: what is written waits
    _held = False  # no request is to be taken now
    _crowded = False  # none, before it is the turn of this connection
    _going_on: IDelayedCall | None = None
    _quiet = 0  # ticks without a frame
    _applicant: Version2 | None = None  # has asked for a name that must be proven
    _challenge = b""
    _failures = 0  # of logins
    _linger: IDelayedCall | None = None
    _ended = False  # the peer sends nothing more
    _quits = False  # it said so
    _when_written: Callable[[], None] | None = None
    _send: Callable[[bytes], int] | None = None  # straight to the socket
    _polled: int | None = None  # what the poller knows it as, if that reads it

    def __init__(self, factory: FramedFactory, channel: Channel) -> None:
        self.factory = factory
        self.channel = channel
        self._source: Hashable = object() if channel.host is None else network(channel.host)
        self.peer = ""
        self._reader = FrameReader(factory.max_message, max_skipped=MAX_SKIPPED)
        self._heard = False  # a frame, since the last tick
        self._paused = False  # nothing is read, and no request taken
        self._out: list[bytes] = []  # what is written in this turn of the reactor
        self._can_half_close = False
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
        is_tcp = ITCPTransport.providedBy(self.transport)  # or TLS over it
        self._can_half_close = is_tcp and not self.channel.encrypted
        if is_tcp:
            self.transport.setTcpNoDelay(True)  # frames are small, and answered one by one
        if is_tcp and not self.channel.encrypted:
            # Straight to the socket for as long as it takes what is written: the transport would
            # first ask the reactor whether it can be written to, and take that back afterwards,
            # which is two calls of the system and a turn of the reactor for each write.
            self._send = self.transport.getHandle().send
            self._read()
        else:
            self.transport.registerProducer(self, True)
        self.factory.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: the connection is gone."""
        self.channel.lost()
        self.factory.lost(self)
        self._discard()
        self._let_go("closed" if reason.check(ConnectionDone) else reason.getErrorMessage())
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        forget_frames(reason)

    def close(self, why: str) -> None:
        """Let go of the peer after what was written; ``why`` is for the log."""
        if not self._let_go(why):
            return
        self._linger = self.factory.clock.callLater(LINGER, self._linger_over)
        self.transport.resumeProducing()  # else the peer's leaving would not be seen
        if self._ended or not self._can_half_close:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _linger_over(self) -> None:
        self._linger = None
        self.transport.abortConnection()

    def abort(self, why: str) -> None:
        """Cut the connection off at once: the peer does not take what was written."""
        self._discard()
        self._let_go(why)
        self.transport.abortConnection()

    def bye(self, reason: str, *, final: bool = False) -> None:
        """Say that the server lets go, in the version that has a word for it, and do.

        :param final: the client should not come back by itself.
        """
        self._say_bye(reason, [("Final", "yes")] if final else [])
        self.close(reason)

    def stop(self, reason: str) -> None:
        """The server stops: say so, and close as soon as it is written. Nothing is logged."""
        self._say_bye(reason)
        self._let_go(None)
        self.transport.loseConnection()

    def _say_bye(self, reason: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        if self.state in (State.UNREGISTERED, State.AUTHENTICATING, State.TALKING):
            self.write(encode("BYE", reason, headers))

    def _discard(self) -> None:
        """Nobody will get what is still to be written."""
        self._waiting = None
        self._out.clear()

    def _let_go(self, why: str | None) -> bool:
        if self.closed:
            return False
        self._become(State.CLOSED)
        self._leave_poller()
        if self._send is None or self._full:
            self.transport.unregisterProducer()  # a paused producer would hold up the closing
        self.transport.writeSequence([*(self._waiting or ()), *self._out])
        self._waiting = None
        self._out.clear()
        if self._going_on is not None:
            self._going_on.cancel()
            self._going_on = None
        self._leave(why)
        return True

    def _leave(self, why: str | None) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        user = session.user
        session.end(why or "", for_good=self._quits)
        if user is not None and why is not None:
            self.factory.comings.emit(
                self.host,
                "{user} went from {peer}: {why}",
                user=user.name,
                peer=self.peer,
                why=why,
            )

    def _log_came(self, session: Session, version: int) -> None:
        assert session.user is not None
        self.factory.comings.emit(
            self.host,
            "{user} came from {peer}, version {version}",
            user=session.user.name,
            peer=self.peer,
            version=version,
        )

    def tick(self) -> None:
        """Look, ``TICKS`` times in an idle interval, whether the peer is still there."""
        registered = self.state is State.TALKING or (
            isinstance(self.session, Version1) and self.session.receiving is not None
        )
        if self._heard and registered:
            self._heard = False
            self._quiet = 0
            return
        self._quiet += 1
        if self.closed:
            return
        if not registered:
            if self._quiet >= TICKS:
                self.bye("No registration in time")
        elif self.state is State.TALKING and self._quiet == TICKS:
            self.write(encode("PING", "idle"))
        elif self._quiet >= 2 * TICKS and (
            self.state is State.TALKING
            or (isinstance(self.session, Version1) and self.session.unanswered_by(self))
        ):
            self.bye("Silent for too long")

    def expect(self) -> None:
        """Count silence from now on: the peer has something to answer."""
        self._heard = True

    # In

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes came."""
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._out:
            self.flush()

    def rawDataReceived(self, data: bytes) -> None:
        """Twisted: bytes came, which are no line to it."""
        if self.closed:
            return
        self._reader.receive_data(data)
        if self._crowded:  # no more is read before it is its turn
            self._read_or_not()
        else:
            self._take_frames()

    def _take_frames(self, *, in_turn: bool = False) -> None:
        """Take the requests that are there; the reader keeps what is not to be taken now.

        A flood of requests, refused or not, takes no more time than its address has a share of:
        where the poller reads, it sees to that. Of what the reactor has read, the rest waits for
        its turn (``in_turn``), and no more is read meanwhile.
        """
        count = 0
        next_frame, shares = self._reader.next_frame, self.factory.shares
        source, counts, seconds = self._source, self._polled is None, self.factory.clock.seconds
        is_late = False
        if counts:
            begun = seconds()
            is_late = not in_turn and source in shares.used_up
        while not self._paused and not self.closed:
            if counts:
                count += 1
                if count % LOOK_AFTER == 0 and seconds() - begun > REQUESTS_PIECE:
                    is_late = True
            if is_late:
                # Reading goes on, since most have nothing more to say until then: to stop it and to
                # begin it again takes two calls of the system.
                self._crowded = True
                shares.wait(source, self._take_turn)
                break
            try:
                frame = next_frame()
            except ChatError as fault:
                self._refuse_stream(fault)
                break
            if frame is None:
                break
            self._take(frame)
        if counts:
            shares.spend(source, seconds() - begun)

    def readConnectionLost(self) -> None:
        """Twisted: the peer sends nothing more, but it may still read."""
        self._ended = True
        if self.closed:
            self.transport.loseConnection()
        elif isinstance(self.session, Version1):
            self.close("closed")
        else:
            self._leave_if_ended()

    def _leave_if_ended(self) -> None:
        waits = self._paused or self._crowded or self._going_on
        if self._ended and not waits and not self.closed:
            self._leave_when_answered(b"", "closed")

    def writeConnectionLost(self) -> None:
        """Twisted: the last that was to be written is written."""

    def _take(self, frame: Frame) -> None:
        self._heard = True
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
            self.refuse(fault, fault.id)
            self.close(fault.reason)

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
        if self.state is State.REGISTERING:
            self.session = None
            self._become(State.UNREGISTERED)
            self.go_on()
        self.factory.refusals.emit(
            self.host,
            "refused {peer}: ERROR {code} {reason} ({detail})",
            peer=self.peer,
            code=error.code,
            reason=error.reason,
            detail=str(error),
        )
        headers = reply_headers(id)
        if error.retry_after is not None:
            headers.append(("Retry-after", error.retry_after))
        headers.extend(error.headers)
        if isinstance(self.session, Version1):
            headers = []  # its client compares whole frames
        self.write(encode("ERROR", f"{error.code} {error.reason}", headers))
        if error.closes:
            self.close(error.reason)

    # Out, and when not to take in

    def write(self, data: bytes) -> None:
        """Write to the peer, soon (``FramedFactory.flush``); cut it off if too much waits for it
        already.
        """
        out = self._out
        if self._full:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(data)
            self._queued += len(data)
            if self._queued > self.factory.max_unread:
                self.abort("does not read")
        elif not self.closed:
            if not out:
                self.factory.flush_later(self)
            out.append(data)
            self._gathered += len(data)
            if self._gathered > GATHER:  # so that a peer that does not read is found in time
                self.flush()

    def flush(self) -> None:
        """Hand on what was written in this turn, in one piece."""
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._gathered = 0
        if self._send is None:
            self.transport.write(data)
            return
        try:
            sent = self._send(data)
        except OSError:  # it is full; or broken, as the transport will find
            sent = 0
        if sent < len(data):
            # The transport writes the rest, and nothing may overtake that.
            self.transport.write(data[sent:])
            self.pauseProducing()
            self.transport.registerProducer(_Drained(self), False)

    def pauseProducing(self) -> None:
        """Twisted: the peer does not read as fast as it is written to."""
        self._full = True
        self._read_or_not()

    def resumeProducing(self) -> None:
        """Twisted: the peer has read what the transport had."""
        self._full = False
        while self._waiting and not self._full:  # writing may fill the transport again
            data = self._waiting.popleft()
            self._queued -= len(data)
            self._out.append(data)
            self.flush()
        self._read_or_not()
        if self._when_written is not None and not self._full:
            then, self._when_written = self._when_written, None
            then()

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the peer has read what the transport had; at once if it has."""
        if self._full:
            self._when_written = then
        else:
            then()

    def stopProducing(self) -> None:
        """Twisted: the transport is gone; ``connectionLost`` follows."""

    def hold(self) -> None:
        """Take no further request for now."""
        self._held = True
        self._read_or_not()

    def go_on(self) -> None:
        """Take requests again, but none before this turn of the reactor is over."""
        self._held = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self.closed or self._paused == (self._full or self._held or self._crowded):
            return
        self._paused = not self._paused
        if self._paused:
            self._leave_poller()
            self.transport.pauseProducing()
            return
        self._read()
        # What is there already is not taken now, since this may be inside the hub's loop, or inside
        # another connection's request.
        if (self._reader.has_more or self._ended) and self._going_on is None:
            self._going_on = self.factory.clock.callLater(0, self._take_kept)

    def _read(self) -> None:
        """Have what comes read: by the poller, if there is one and nothing but a socket between."""
        poller = self.factory.poller
        if poller is not None and self._send is not None and not self._ended:
            self._polled = poller.add(self.transport, self.dataReceived, self._source)
        else:
            self.transport.resumeProducing()

    def _leave_poller(self) -> None:
        if self._polled is not None and self.factory.poller is not None:
            self.factory.poller.remove(self._polled)
            self._polled = None

    def _take_turn(self) -> None:
        """Called when it is the turn of this connection: take requests again."""
        self._crowded = False
        if self.closed or self._full or self._held:
            return  # what was kept is taken when that is over
        was_paused, self._paused = self._paused, False
        try:
            self._take_frames(in_turn=True)
        except Exception:  # noqa: BLE001  a fault with one must not keep the others waiting
            self._log.failure("while taking what came")
            self.abort("a fault")
            return
        if was_paused and not self._paused and not self.closed:
            if self._crowded:
                self._paused = True
            else:
                self._read()
        self._leave_if_ended()

    def _take_kept(self) -> None:
        self._going_on = None
        if not self._paused:
            self._take_frames()
            self._leave_if_ended()

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
        session = self.factory.version_1.first(name, self)
        self._reader.counts_characters = True
        self._start(session, State.SENDING)
        self.write(encode("REGISTERED", f"TOSEND {name}"))

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
        try:
            self._ask_for_name(session)
        except AuthenticationRequired as error:
            self._challenge = os.urandom(CHALLENGE)
            methods = "publickey password" if self.channel.private else "publickey"
            challenge = base64.b64encode(self._challenge).decode()
            error.headers = (("Methods", methods), ("Challenge", challenge))
            raise

    def _ask_for_name(
        self, session: Version2, account: Account | None = None, id: str | None = None
    ) -> None:
        if not session.register(account, id):
            self._start(session, State.REGISTERING)

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
            return Password(applicant.name, frame.body or "", self.factory.hub.asker(applicant))
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
            account = await self.factory.gate.login(credentials, host)
            if self._is_authenticated():
                self._ask_for_name(session, account, id)
        except ChatError as error:
            if self.state is State.AUTHENTICATING:
                self._is_authenticated()
            if not self.closed:
                self._failures += isinstance(error, AuthenticationFailed)
                self.refuse(error, id)
                if self._failures >= MAX_FAILURES:
                    self.close("too many failed logins")
        except Exception:  # noqa: BLE001  nobody awaits this
            self._log.failure("while logging in")
            self.abort("a fault in logging in")

    def _is_authenticated(self) -> bool:
        """Go on with requests after AUTH; return whether there are any to come."""
        if self.closed:
            return False
        self._become(State.UNREGISTERED)
        self.go_on()
        return True

    def registered(self, session: Version2) -> None:
        """The session has its name."""
        self._start(session, State.TALKING)
        self._log_came(session, VERSION)
        self.go_on()

    def _start(self, session: Version1 | Version2, state: State) -> None:
        self.session = session
        self._become(state)
        self._applicant = None
        self._quiet = 0

    def _send_piece(self, frame: Frame) -> None:
        if not frame.argument or not frame.body:
            raise HeaderIncomplete("no recipient or no text")
        assert isinstance(self.session, Version1)
        self.session.send(frame.argument, frame.body)

    def _received_piece(self, frame: Frame) -> None:
        assert isinstance(self.session, Version1)
        self.session.answered(frame.argument)

    def _rejected_piece(self, frame: Frame) -> None:
        assert isinstance(self.session, Version1)
        self.session.answered(None)

    def _ask(self, frame: Frame) -> None:
        assert isinstance(self.session, Version2)
        self.session.take(frame)

    def _ping(self, frame: Frame) -> None:
        self.write(encode("PONG", frame.argument, reply_headers(frame.id)))

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
                **dict.fromkeys(Version2.VERBS, _ask),
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


@implementer(IPullProducer)
class _Drained:
    """Tells a connection when its transport has written all that it was given."""

    def __init__(self, connection: FramedConnection) -> None:
        self._connection = connection
        self._is_asked = False  # a transport asks once when it gets its producer

    def resumeProducing(self) -> None:
        """Twisted: there is nothing left to be written."""
        if self._is_asked:
            self._connection.transport.unregisterProducer()
            self._connection.resumeProducing()
        self._is_asked = True

    def stopProducing(self) -> None:
        """Twisted: the transport is gone; ``connectionLost`` follows."""


class FramedFactory(ServerFactory):
    """All connections of the framed protocol, and the hub they lead to.

    :param gate: whom credentials are brought to.
    :param max_message: the limit of a text, in bytes.
    :param idle: seconds of silence after which a client is asked whether it is there.
    :param max_unread: bytes that may wait for one peer. One that lets more gather does not read.
    :param motd: what is said to everybody who logs in.
    :param poller: what reads plain connections; without one it is the reactor.
    :param turn: at whose end is written what was gathered.
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
        poller: Poller | None = None,
        turn: EndOfTurn | None = None,
    ) -> None:
        self.hub = hub
        self.gate = gate
        self.clock = clock
        self.max_message = max_message
        self.max_unread = max(0, max_unread - HELD_BY_SYSTEM - GATHER)
        """Bytes that may wait here, beside what the system holds and the transport."""
        self.poller = poller
        self.shares = Shares(clock, REQUESTS_SHARE)
        self.connections: set[FramedConnection] = set()
        self.refusals = PeerLog(FramedConnection._log.info, clock, **REFUSALS_LOGGED)
        self.comings = PeerLog(FramedConnection._log.info, clock, **COMINGS_LOGGED)
        self.version_1 = Version1Door(hub, clock, max_unread)
        self.version_2 = Version2Door(hub, gate, clock, max_message, motd, self.flush)
        self._idle = idle
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        self._turn = EndOfTurn(clock) if turn is None else turn
        self._unflushed: list[FramedConnection] = []
        self._flushes = False  # at the end of the turn
        self._waiting_for_more: IDelayedCall | None = None
        self._stopping = False
        self._all_gone: Deferred[None] | None = None

    def startFactory(self) -> None:
        """Twisted: the first port listens."""
        self._ticking.start(self._idle / TICKS, now=False)

    def stopFactory(self) -> None:
        """Twisted: the last port is closed."""
        if self._ticking.running:
            self._ticking.stop()

    def buildProtocol(self, addr: IAddress | None) -> FramedConnection | None:  # type: ignore[override]
        """Twisted: somebody connects to a port that is this door's alone."""
        return self.accept(Channel(getattr(addr, "host", None)))

    def accept(self, channel: Channel) -> FramedConnection | None:
        """Make the protocol of a connection; None if the server stops."""
        return None if self._stopping else FramedConnection(self, channel)

    def flush_later(self, connection: FramedConnection) -> None:
        """Have ``connection`` flushed when this turn of the reactor is over, or ``flush`` says."""
        self._unflushed.append(connection)
        if not self._flushes:
            self._flushes = True
            self._turn.write(self._flush_at_end)

    def _flush_at_end(self) -> None:
        self._flushes = False
        if self._waiting_for_more is None:
            self._flush()

    def flush(self, *, more: bool) -> None:
        """Write what is gathered; if there is ``more`` to come, together with that. To write twice
        to the same peers costs twice as much, and takes longer than what comes takes to come.
        """
        if self._waiting_for_more is not None:
            self._waiting_for_more.cancel()
            self._waiting_for_more = None
            self._flush()
        elif more and self._unflushed:
            self._waiting_for_more = self.clock.callLater(FLUSH_WITHIN, self._waited)
        else:
            self._flush()

    def _waited(self) -> None:
        self._waiting_for_more = None
        self._flush()

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            try:
                connection.flush()
            except Exception:  # noqa: BLE001  a fault with one must not keep what others get
                self._log.failure("while writing to {peer}", peer=connection.peer)

    def _tick(self) -> None:
        for connection in list(self.connections):
            connection.tick()

    def lost(self, connection: FramedConnection) -> None:
        """A connection is gone for good."""
        self.connections.discard(connection)
        if self._all_gone is not None and not self.connections:
            self._all_gone.callback(None)
            self._all_gone = None

    def stop(self, reason: str) -> Deferred[None]:
        """Say BYE to everybody, take no more, and fire when all are gone, within a second."""
        self._stopping = True
        self.refusals.report()
        self.comings.report()
        if not self.connections:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._all_gone = gone
        overtime = self.clock.callLater(STOP_WITHIN, self._cut_off)
        gone.addCallback(lambda _: overtime.cancel() if overtime.active() else None)
        self._log.info("letting go of {count} connections", count=len(self.connections))
        for connection in list(self.connections):
            connection.stop(reason)
        return gone

    def _cut_off(self) -> None:
        for connection in list(self.connections):
            connection.abort("did not take BYE in time")


def describe(address: IAddress) -> str:
    """Name one end of a connection, for the log."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress) and address.name:
        return f"unix:{os.fsdecode(address.name)}"
    return "a local socket"
