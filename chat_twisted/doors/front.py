"""The front: accepts all connections, and selects a door for each by its first bytes.

It starts TLS, and looks at the first bytes inside again. It checks whether plain text is allowed,
and limits the number of connections. Then the door's protocol replaces the front's, so the front
costs nothing afterwards. This module must not know the protocols of the doors.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IListeningPort,
    IReactorTime,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.core.errors import ChatError, EncryptionRequired, Unavailable
from chat_twisted.core.limits import FairPool, Limiter, Rate
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.doors import Channel, forget_frames
from chat_twisted.doors.sockets import prepare
from chat_twisted.doors.tls import ServerTLS, binding, certificate_key
from chat_twisted.doors.turns import Turns
from chat_twisted.logs import Logger

DECIDE_WITHIN = 10
"""Seconds within which a client must send its first bytes, including a TLS handshake."""

RETRY_CONNECTING = 30
"""Seconds after which a client may retry if its address has too many connections."""

MAX_FIRST = 512
"""Maximum number of first bytes that are examined to select a door."""

FIRST_READ = 4096
"""Maximum bytes that are read at once of a connection without a door. With Twisted's own number,
thousands of connections that wait for their turn could have 64 KiB each."""

TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446, 5.1)."""

MAX_UNDECIDED = 8192
"""Maximum number of connections without a door yet, if the system allows that many files. When the
server has restarted, thousands of clients connect at once, perhaps from few addresses."""

MAX_HANDSHAKES = 1024
"""Maximum number of those in a TLS handshake, which takes about 60 KiB of memory each."""

MAX_HANDSHAKE = 16_384
"""Maximum bytes of a client's part of a TLS handshake. The certificates in it take 15 times as much
memory when they are read."""

MAX_CHAIN = 4
"""Maximum number of certificates that a client may show beside its own. They are kept as long as
the connection, and never used."""

TURNED_AWAY_LOGGED = {"each": Rate(1 / 60, 1), "all": Rate(1, 100)}
"""Rate limits of log lines about refused connections: for each address, and for all."""

ACCEPT_AT_ONCE = 50
"""Maximum number of connections that are accepted in one turn of the reactor. Twisted increases its
own number whenever it is reached, so everybody else would wait longer and longer."""


PAUSED, TOO_OFTEN, TOO_MANY = "paused", "too often", "too many"
"""Reasons to turn a connection away: the server does not serve now; the address connects too often;
it has too many connections."""


class Plaintext(enum.Enum):
    """Where plain text is allowed from."""

    LOOPBACK = "loopback"
    ANYWHERE = "anywhere"
    NOWHERE = "nowhere"

    def allows(self, channel: Channel) -> bool:
        """Return whether ``channel`` is encrypted, or may use plain text."""
        return (
            channel.encrypted
            or self is Plaintext.ANYWHERE
            or (self is Plaintext.LOOPBACK and channel.local)
        )


class Guest(Protocol):
    """The protocol of a door's connection, which Twisted calls later."""

    def makeConnection(self, transport: Any) -> None:
        """Set the transport."""

    def dataReceived(self, data: bytes) -> None:
        """Process received bytes."""

    def refuse(self, error: ChatError) -> None:
        """Answer with an error."""

    def close(self, why: str) -> None:
        """Close the connection after all output."""


class Door(Protocol):
    """The part of a door that the front uses."""

    def accept(self, channel: Channel) -> Guest | None:
        """Make the protocol of a connection; None if the door accepts no more."""

    def doStart(self) -> None:
        """Called when the first port listens."""

    def doStop(self) -> None:
        """Called when the last port is closed."""


class NoDoor:
    """Stands for a door that is not there: its connections are closed at once."""

    def accept(self, channel: Channel) -> None:
        """Return None."""

    def doStart(self) -> None:
        """Do nothing."""

    def doStop(self) -> None:
        """Do nothing."""


class Choice(NamedTuple):
    """A door, and the first bytes of connections for it."""

    door: Door
    words: tuple[bytes, ...] = ()
    """The first bytes themselves."""
    encrypted: bool = False
    commands: frozenset[bytes] = frozenset()
    """The first words of lines, in upper case. The client may write them in any case, and empty
    lines before them; a space or the end of the line follows."""


def _first_command(line: bytes) -> bytes:
    """Return the first word of ``line`` in upper case; empty if more of it may follow."""
    match = re.match(rb"[^ \r\n]+(?=[ \r\n])", line)
    return match[0].upper() if match else b""


def _can_shake_hands(first: bytes) -> bool:
    """Return whether ``first`` has the whole first record of a TLS connection (RFC 8446, 5.1), or
    can't be such a record, or is too long. Before that TLS can do nothing, so it need not use
    memory.
    """
    return first[1:2] not in (b"", b"\x03") or (
        len(first) >= 5 and len(first) - 5 >= min(int.from_bytes(first[3:5]), MAX_HANDSHAKE)
    )


class _TLSProtocol(TLSMemoryBIOProtocol):
    """TLS of a connection, with a bound of what the client can send in the handshake.

    :ivar is_complete: whether the handshake is complete.
    """

    is_complete = False
    _octets = 0  # received in the handshake

    def dataReceived(self, data: bytes) -> None:
        """Process received bytes. Called by Twisted."""
        while not self.is_complete and self._octets + len(data) > MAX_HANDSHAKE:
            piece = data[: MAX_HANDSHAKE - self._octets]
            if not piece:
                self.abortConnection()  # type: ignore[no-untyped-call]
                return
            self._octets += len(piece)
            data = data[len(piece) :]  # its first bytes may belong to the time after the handshake
            super().dataReceived(piece)  # type: ignore[no-untyped-call]
        self._octets += len(data)
        super().dataReceived(data)  # type: ignore[no-untyped-call]


@implementer(IHandshakeListener)
class FrontConnection(TwistedProtocol):
    """A connection without a door yet."""

    factory: FrontFactory
    transport: Any
    _below: Any  # the transport of the bytes themselves, also with TLS

    def __init__(self, factory: FrontFactory) -> None:
        self.factory = factory
        self._first = b""
        self._channel = Channel()
        self._deadline: IDelayedCall | None = None
        self._is_refused = False
        self._is_over = False
        self._step: Callable[[], None] | None = None  # called in this connection's turn
        self._waits_since = 0.0  # for that turn

    @property
    def host(self) -> str | None:
        """The peer's address; None for a local socket."""
        return self._channel.host

    def connectionMade(self) -> None:
        """Start to wait for the first bytes. Called by Twisted: for TLS again after its start."""
        if self._deadline is None:
            host = getattr(self.transport.getPeer(), "host", None)
            port = getattr(self.transport.getHost(), "port", 0)
            self._channel = Channel(host, port=port)
            self._below = self.transport
            self._below.bufferSize = FIRST_READ
            self._start_deadline()
            self.factory.came(self)

    def _start_deadline(self) -> None:
        self._deadline = self.factory.clock.callLater(self.factory.decide_within, self._time_is_up)

    def _time_is_up(self) -> None:
        if self._step is None:
            self.too_late()
        else:
            self._start_deadline()  # it is the server that is late

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection. Called by Twisted if it is lost before it has a door."""
        self._decided()
        self.factory.gone(self)
        forget_frames(reason)

    def too_late(self) -> None:
        """Called when the first bytes are too late, or another connection replaces this one."""
        self._decided()
        self.factory.gone(self)
        if self._channel.encrypted or self._is_refused:
            self.transport.abortConnection()  # a TLS peer might never answer the closing alert
        else:
            self.transport.loseConnection()

    def _decided(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Examine the first bytes. Called by Twisted."""
        self._first += data
        if self._step is not None or self._is_over:
            return
        begins_tls = self._first.startswith(TLS_HANDSHAKE) and not self._channel.encrypted
        if begins_tls:
            if _can_shake_hands(self._first):
                self._step = self._shake_hands
        elif self.factory.choose(self._first) is not None:
            self._step = self._hand_over
        if self._step is not None:
            self.transport.pauseProducing()
            self._waits_since = self.factory.clock.seconds()
            self.factory.turns.add(self, begins_tls=begins_tls)

    def handshakeCompleted(self) -> None:
        """Close the connection if the client has shown many certificates. Called by Twisted when
        the TLS handshake is complete.
        """
        self.transport.is_complete = True
        if len(self.transport.getHandle().get_peer_cert_chain() or ()) > MAX_CHAIN:
            self._is_over = True
            self.too_late()

    def go_on(self) -> None:
        """Called when this connection has its turn."""
        step, self._step = self._step, None
        assert step is not None, "nothing waits"
        if self._deadline is not None and self._deadline.active():
            self._deadline.delay(self.factory.clock.seconds() - self._waits_since)
        self.transport.resumeProducing()
        step()

    def _hand_over(self) -> None:
        """Hand the connection, with all received bytes, to its door."""
        first = self._first
        choice = self.factory.choose(first)
        assert choice is not None, "it was known before"
        if self._channel.encrypted:
            tls = self.transport.getHandle()
            self._channel = self._channel._replace(
                binding=binding(tls), certificate_key=certificate_key(tls)
            )
        allowed = choice.encrypted or self.factory.plaintext.allows(self._channel)
        self._decided()
        del self._below.bufferSize  # Twisted's own again
        # Counted only now, so that silent connections can't block others.
        lost = self.factory.count(self)
        self._is_refused = lost is None
        if lost is None:  # it stays a connection of the front until it has got the refusal
            lost = partial(self.factory.gone, self)
        self._channel = self._channel._replace(lost=lost)
        guest = choice.door.accept(self._channel)
        if guest is None:
            self._channel.lost()
            self.transport.abortConnection()  # Twisted then calls connectionLost
            return
        if self._channel.encrypted:
            self.transport.wrappedProtocol = guest
        else:
            self.transport.protocol = guest
        guest.makeConnection(self.transport)
        if not allowed:
            guest.refuse(EncryptionRequired())
        elif self._is_refused:
            guest.refuse(Unavailable("too many connections", retry_after=RETRY_CONNECTING))
            guest.close("too many connections from its address")
        else:
            guest.dataReceived(first)

    def _shake_hands(self) -> None:
        """Start TLS; ``dataReceived`` gets the decrypted bytes from now on."""
        self.factory.shakes_hands(self)
        first, self._first = self._first, b""
        factory = self.factory.tls
        self._channel = self._channel._replace(encrypted=True)
        tls = factory.protocol(factory, self)
        self.transport.protocol = tls
        tls.makeConnection(self.transport)  # calls our makeConnection with TLS as the transport
        tls.dataReceived(first)


class FrontFactory(ServerFactory):
    """The factory of all ports; it has the connections without a door.

    :ivar turns: the connections whose next step is due.
    :ivar turned_away: counts the connections that were closed at once, by the reason.
    :param choices: the doors. A connection that matches none is for the last one, which refuses it
        in its own protocol.
    :param tls: makes the TLS objects.
    :param clock: the reactor.
    :param limiter: counts the connections of doors; a connection too many is refused.
    :param plaintext: where plain text is allowed from.
    :param max_connections: the maximum number of all connections. If an address has its share of
        those without a door (``limits.FairPool``), a new one replaces its oldest.
    :param max_handshakes: the maximum number of those in a TLS handshake, shared likewise.
    :param decide_within: seconds within which the first bytes must arrive.
    :param idle: seconds of silence after which a peer is probed (``sockets.prepare``).
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        choices: Sequence[Choice],
        tls: ServerTLS,
        clock: IReactorTime,
        limiter: Limiter,
        *,
        plaintext: Plaintext = Plaintext.LOOPBACK,
        max_connections: int = 2 * MAX_UNDECIDED,
        max_handshakes: int = MAX_HANDSHAKES,
        decide_within: float = DECIDE_WITHIN,
        idle: float = 60,
    ) -> None:
        self.clock = clock
        self.turns = Turns(clock)
        self.decide_within = decide_within
        self._limiter = limiter
        self.plaintext = plaintext
        self.tls = TLSMemoryBIOFactory(tls, False, ServerFactory(), clock)
        self.tls.protocol = _TLSProtocol  # does not gather output; streams do
        self._choices = choices
        self._idle = idle
        self.turned_away: Counter[str] = Counter({PAUSED: 0, TOO_OFTEN: 0, TOO_MANY: 0})
        self._turned_away = PeerLog(self._log.info, clock, **TURNED_AWAY_LOGGED)
        self._ports: list[Any] = []
        self._max_connections = max_connections
        self._undecided = FairPool(0, FrontConnection.too_late)
        self._handshakes = FairPool(max_handshakes, FrontConnection.too_late)
        self._stopping = False
        self._paused = ""  # the reason why no connections are accepted now

    def listens(self, port: IListeningPort) -> None:
        """Called when a port listens; sets its options."""
        prepare(port, self._idle)
        if hasattr(port, "numberAccepts"):
            self._ports.append(port)

    def count(self, connection: FrontConnection) -> Callable[[], None] | None:
        """Count a connection that will be handed to a door.

        :return: must be called when the connection is lost; None if there are too many.
        """
        host = connection.host
        if not self._limiter.connect(host, self.clock.seconds()):
            self.turned_away[TOO_MANY] += 1
            return None
        self.gone(connection)
        return partial(self._uncount, host)

    def _uncount(self, host: str | None) -> None:
        self._limiter.disconnect(host, self.clock.seconds())

    def startFactory(self) -> None:
        """Start the doors. Called by Twisted when the first port listens."""
        for choice in self._choices:
            choice.door.doStart()

    def stopFactory(self) -> None:
        """Stop the doors. Called by Twisted when the last port is closed."""
        for choice in self._choices:
            choice.door.doStop()

    def buildProtocol(self, addr: IAddress | None) -> FrontConnection | None:  # type: ignore[override]
        """Make the protocol of a new connection. Called by Twisted.

        :return: None if it is refused; Twisted closes it at once, which is cheap, so that a flood
            of connections does not delay others for long.
        """
        host = getattr(addr, "host", None)
        if self._stopping:
            return None
        if self._paused:
            self._turn_away(host, PAUSED, self._paused)
            return None
        if not self._limiter.arrive(host, self.clock.seconds()):
            self._turn_away(host, TOO_OFTEN, "connects too often")
            return None
        return FrontConnection(self)

    def _turn_away(self, host: str | None, counted_as: str, reason: str) -> None:
        """Count and log a connection that is closed at once."""
        self.turned_away[counted_as] += 1
        self._turned_away.emit(
            host,
            "turned away {host}: {reason}",
            event="turned-away",
            host=host,
            reason=reason,
        )

    def choose(self, first: bytes) -> Choice | None:
        """Select a door by the first bytes; None if more bytes are needed. The door is the same
        however the bytes were split.
        """
        first = first[:MAX_FIRST]
        line = first.lstrip(b"\r\n")
        command = _first_command(line)
        for choice in self._choices:
            if first.startswith(choice.words) or command in choice.commands:
                return choice
        if b"\n" in line or len(first) == MAX_FIRST:
            return self._choices[-1]
        return None

    def came(self, connection: FrontConnection) -> None:
        """Called when a connection was accepted."""
        for port in self._ports:  # Twisted may have increased this
            port.numberAccepts = min(port.numberAccepts, ACCEPT_AT_ONCE)
        free = self._max_connections - self._limiter.connections
        self._undecided.places = min(MAX_UNDECIDED, free)
        self._undecided.add(connection, connection.host)

    def shakes_hands(self, connection: FrontConnection) -> None:
        """Called when a connection starts a TLS handshake."""
        self._handshakes.add(connection, connection.host)

    def gone(self, connection: FrontConnection) -> None:
        """Called when a connection has a door, or is lost."""
        self._undecided.remove(connection)
        self._handshakes.remove(connection)
        self.turns.discard(connection)

    @property
    def undecided(self) -> int:
        """The number of connections without a door."""
        return len(self._undecided)

    @property
    def not_accepting(self) -> str:
        """The reason why no connections are accepted now; empty if they are."""
        return "the server is stopping" if self._stopping else self._paused

    def pause(self, reason: str) -> None:
        """Close all connections without a door, and every new one at once, until ``resume``.

        :param reason: the reason, for the log.
        """
        self._paused = reason
        self._close_undecided()

    def resume(self) -> None:
        """Accept connections again."""
        self._paused = ""

    def stop(self) -> None:
        """Close all connections without a door. Called when the server stops."""
        self._stopping = True
        self._turned_away.report()
        self._close_undecided()

    def _close_undecided(self) -> None:
        for connection in self._undecided:
            connection.too_late()
