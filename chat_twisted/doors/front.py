"""The one port: looks at the first bytes of a connection and hands it to the door they are for.

TLS is taken off, and what is inside is looked at again. Who may speak plain text is decided here,
and how many connections there may be; what is said then is not looked at. When a connection is
handed over, the door's protocol takes the place of this one: nothing stands in the way of what
follows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from chat_twisted.core.errors import ChatError, EncryptionRequired, Unavailable
from chat_twisted.core.limits import FairPool, Limiter, Rate, network
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.doors import Channel, forget_frames
from chat_twisted.doors.sockets import prepare
from chat_twisted.doors.tls import ServerTLS, binding
from chat_twisted.logs import Logger

DECIDE_WITHIN = 10
"""Seconds that a connection has for its first words, a TLS handshake included."""

RETRY_CONNECTING = 30
"""Seconds after which an address that has too many connections may try again."""

MAX_FIRST = 512
"""Bytes after which no more is waited for to know whom a connection is for."""

TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446, 5.1)."""

MAX_UNDECIDED = 2048
"""Connections of which it is not known yet what they are, if the system allows that many files."""

MAX_HANDSHAKES = 1024
"""Of those, the ones that may be in a TLS handshake: each takes some 60 KiB of memory."""

STEPS_AT_ONCE = 8
"""TLS handshakes that are begun, and connections that are handed to a door with their first words,
in one turn of the reactor: each takes about a millisecond."""

TURNED_AWAY_LOGGED = {"each": Rate(1 / 60, 1), "all": Rate(1, 100)}
"""How many lines are logged about connections that are turned away: for one address and for all."""

ACCEPT_AT_ONCE = 50
"""Connections that are accepted in one turn of the reactor. A port of Twisted's takes more
after each turn in which it found as many as it takes, and everybody else would wait ever longer."""


class Plaintext(enum.Enum):
    """From where plain text is taken."""

    LOOPBACK = "loopback"
    ANYWHERE = "anywhere"
    NOWHERE = "nowhere"

    def allows(self, channel: Channel) -> bool:
        """Whether ``channel`` is encrypted, or may be plain."""
        return (
            channel.encrypted
            or self is Plaintext.ANYWHERE
            or (self is Plaintext.LOOPBACK and channel.local)
        )


class Guest(Protocol):
    """What is asked of a door's connection beside being a Twisted protocol."""

    def makeConnection(self, transport: Any) -> None:
        """Take the transport."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""

    def refuse(self, error: ChatError) -> None:
        """Answer with an error."""

    def close(self, why: str) -> None:
        """Close after what was written."""


class Door(Protocol):
    """What is asked of a door."""

    def accept(self, channel: Channel) -> Guest | None:
        """Make the protocol of one connection; None if no more are taken."""

    def doStart(self) -> None:
        """A port listens."""

    def doStop(self) -> None:
        """A port is closed."""


class Choice(NamedTuple):
    """A door, with what a connection for it may begin with, and whether that is encrypted."""

    door: Door
    words: tuple[bytes, ...]
    encrypted: bool = False


def _can_shake_hands(first: bytes) -> bool:
    """Whether ``first`` has the whole first record of a TLS connection (RFC 8446, 5.1), or is none
    already. Before that there is nothing for TLS to do, and no need for what it takes.
    """
    return first[1:2] not in (b"", b"\x03") or (
        len(first) >= 5 and len(first) - 5 >= int.from_bytes(first[3:5])
    )


class FrontConnection(TwistedProtocol):
    """A connection of which it is not known yet what it is."""

    factory: FrontFactory
    transport: Any

    def __init__(self, factory: FrontFactory) -> None:
        self.factory = factory
        self._first = b""
        self._channel = Channel()
        self._deadline: IDelayedCall | None = None
        self._is_refused = False
        self._step: Callable[[], None] | None = None  # what waits for its turn

    @property
    def host(self) -> str | None:
        """The peer's address; None for a local socket."""
        return self._channel.host

    def connectionMade(self) -> None:
        """Twisted: the connection stands, or the TLS inside it."""
        if self._deadline is None:
            host = getattr(self.transport.getPeer(), "host", None)
            self._channel = Channel(host)
            self._deadline = self.factory.clock.callLater(self.factory.decide_within, self.too_late)
            self.factory.came(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: it went before it said what it is."""
        self._decided()
        self.factory.gone(self)
        forget_frames(reason)

    def too_late(self) -> None:
        """Called when nothing came in time, or when another connection gets the place of this."""
        self._decided()
        self.factory.gone(self)
        if self._channel.encrypted or self._is_refused:
            self.transport.abortConnection()  # whose peer need not answer to a closing alert
        else:
            self.transport.loseConnection()

    def _decided(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Twisted: the first bytes, or more of them."""
        self._first += data
        if self._step is not None:
            return
        if self._first.startswith(TLS_HANDSHAKE) and not self._channel.encrypted:
            if _can_shake_hands(self._first):
                self._step = self._shake_hands
        elif self.factory.choose(self._first) is not None:
            self._step = self._hand_over
        if self._step is not None:
            self.transport.pauseProducing()
            self.factory.in_turn(self)

    def go_on(self) -> None:
        """Called when it is the turn of this connection."""
        step, self._step = self._step, None
        assert step is not None, "nothing waits"
        self.transport.resumeProducing()
        step()

    def _hand_over(self) -> None:
        """Let the door that it is for have the connection, from its first byte on."""
        first = self._first
        choice = self.factory.choose(first)
        assert choice is not None, "it was known before"
        if self._channel.encrypted:
            shown = binding(self.transport.getHandle())
            self._channel = self._channel._replace(binding=shown)
        allowed = choice.encrypted or self.factory.plaintext.allows(self._channel)
        self._decided()
        # Only now it counts: silent ones can't keep out who has something to say.
        lost = self.factory.count(self)
        self._is_refused = lost is None
        if lost is None:  # it keeps its place here while it is told so and goes
            lost = partial(self.factory.gone, self)
        self._channel = self._channel._replace(lost=lost)
        guest = choice.door.accept(self._channel)
        if guest is None:
            self._channel.lost()
            self.transport.abortConnection()  # and connectionLost follows, here
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
        """Take TLS off, and what is inside for the first bytes."""
        self.factory.shakes_hands(self)
        first, self._first = self._first, b""
        factory = self.factory.tls
        self._channel = self._channel._replace(encrypted=True)
        tls = factory.protocol(factory, self)
        self.transport.protocol = tls
        tls.makeConnection(self.transport)  # which makes it the transport here
        tls.dataReceived(first)


class FrontFactory(ServerFactory):
    """All connections of which it is not known yet what they are.

    :param choices: the doors, by what connections for them begin with; a connection that begins
        otherwise is the last one's, which refuses it in its own words.
    :param tls: the server's side of TLS.
    :param limiter: counts the connections that are handed to doors; one too many is told so, and
        closed.
    :param max_connections: how many there may be in all. Of those that are not handed to a door
        yet, an address past its share (``limits.FairPool``) loses the oldest for the newest.
    :param max_handshakes: how many of those may be in a TLS handshake, in the same way.
    :param decide_within: seconds.
    :param idle: seconds of silence after which a machine is asked whether it is still there.
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
        self.decide_within = decide_within
        self._limiter = limiter
        self.plaintext = plaintext
        self.tls = TLSMemoryBIOFactory(tls, False, ServerFactory(), clock)
        self.tls.protocol = TLSMemoryBIOProtocol  # without a gathering of its own; a stream has one
        self._choices = choices
        self._idle = idle
        self._turned_away = PeerLog(self._log.info, clock, **TURNED_AWAY_LOGGED)
        self._ports: list[Any] = []
        self._max_connections = max_connections
        self._undecided = FairPool(0, FrontConnection.too_late)
        self._handshakes = FairPool(max_handshakes, FrontConnection.too_late)
        # Those that can go on, by address: one of each in turn.
        self._ready: dict[str, dict[FrontConnection, None]] = {}
        self._going_on: IDelayedCall | None = None
        self._stopping = False

    def listens(self, port: IListeningPort) -> None:
        """``port`` is one of those that connections come from."""
        prepare(port, self._idle)
        if hasattr(port, "numberAccepts"):
            self._ports.append(port)

    def count(self, connection: FrontConnection) -> Callable[[], None] | None:
        """Count a connection that is handed to a door; return what is to be called when it is gone,
        None if it is one too many.
        """
        host = connection.host
        if not self._limiter.connect(host, self.clock.seconds()):
            return None
        self.gone(connection)
        return partial(self._uncount, host)

    def _uncount(self, host: str | None) -> None:
        self._limiter.disconnect(host, self.clock.seconds())

    def startFactory(self) -> None:
        """Twisted: the first port listens."""
        for choice in self._choices:
            choice.door.doStart()

    def stopFactory(self) -> None:
        """Twisted: the last port is closed."""
        for choice in self._choices:
            choice.door.doStop()

    def buildProtocol(self, addr: IAddress | None) -> FrontConnection | None:  # type: ignore[override]
        """Twisted: somebody connects. Without a protocol the connection is closed at once, which
        takes little, so that those who wait behind a flood to be accepted don't wait for long.
        """
        host = getattr(addr, "host", None)
        if self._stopping:
            return None
        if not self._limiter.arrive(host, self.clock.seconds()):
            self._turned_away.emit(host, "turned away {host}: connects too often", host=host)
            return None
        return FrontConnection(self)

    def choose(self, first: bytes) -> Choice | None:
        """Say whom a connection is for that begins so; None if that can't be known yet."""
        for choice in self._choices:
            for word in choice.words:
                if first.startswith(word):
                    return choice
        if b"\n" in first or len(first) >= MAX_FIRST:
            return self._choices[-1]
        return None

    def came(self, connection: FrontConnection) -> None:
        """A connection is there."""
        for port in self._ports:  # which grows by what it has found, so less is not asked for
            port.numberAccepts = min(port.numberAccepts, ACCEPT_AT_ONCE)
        free = self._max_connections - self._limiter.connections
        self._undecided.places = min(MAX_UNDECIDED, free)
        self._undecided.add(connection, connection.host)

    def shakes_hands(self, connection: FrontConnection) -> None:
        """A connection begins a TLS handshake."""
        self._handshakes.add(connection, connection.host)

    def in_turn(self, connection: FrontConnection) -> None:
        """Have ``connection`` go on when it is the turn of its address. Hundreds may come at once,
        and nobody else must wait until all of them have begun.
        """
        self._ready.setdefault(network(connection.host or ""), {})[connection] = None
        if self._going_on is None:
            self._going_on = self.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._going_on = None
        for _ in range(STEPS_AT_ONCE):
            if not self._ready:
                return
            name, waiting = next(iter(self._ready.items()))
            connection = next(iter(waiting))
            del self._ready[name], waiting[connection]
            if waiting:
                self._ready[name] = waiting  # behind those of the other addresses
            connection.go_on()
        if self._ready:
            self._going_on = self.clock.callLater(0, self._go_on)

    def gone(self, connection: FrontConnection) -> None:
        """A connection is a door's, or it is gone."""
        self._undecided.remove(connection)
        self._handshakes.remove(connection)
        name = network(connection.host or "")
        waiting = self._ready.get(name, {})
        waiting.pop(connection, None)
        if not waiting:
            self._ready.pop(name, None)

    def stop(self) -> None:
        """The server stops: let go of all who have said nothing yet."""
        self._stopping = True
        self._turned_away.report()
        for connection in self._undecided:
            connection.too_late()
