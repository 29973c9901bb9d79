"""The one port: looks at the first bytes of a connection and hands it to the door they are for.

TLS is taken off, and what is inside is looked at again. Who may speak plain text is decided here;
what is said then is not looked at. When a connection is handed over, the door's protocol takes the
place of this one: nothing stands in the way of what follows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from chat_twisted.doors import Channel
from chat_twisted.doors.tls import ServerTLS, binding
from chat_twisted.errors import ChatError, EncryptionRequired, Unavailable
from chat_twisted.limits import Limiter
from chat_twisted.logs import Logger

DECIDE_WITHIN = 10
"""Seconds that a connection has for its first words, a TLS handshake included."""

RETRY_CONNECTING = 30
"""Seconds after which an address that has too many connections may try again."""

MAX_FIRST = 512
"""Bytes after which no more is waited for to know whom a connection is for."""

TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446, 5.1)."""


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


class FrontConnection(TwistedProtocol):
    """A connection of which it is not known yet what it is."""

    factory: FrontFactory
    transport: Any

    def __init__(self, factory: FrontFactory) -> None:
        self.factory = factory
        self._first = b""
        self._channel = Channel()
        self._deadline: IDelayedCall | None = None

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

    def too_late(self) -> None:
        """Nothing came in time, or too many others did."""
        self._decided()
        if self._channel.encrypted:
            self.transport.abortConnection()  # whose peer need not answer to a closing alert
        else:
            self.transport.loseConnection()

    def _decided(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self.factory.gone(self)

    def dataReceived(self, data: bytes) -> None:
        """Twisted: the first bytes, or more of them."""
        self._first += data
        first = self._first
        if first.startswith(TLS_HANDSHAKE) and not self._channel.encrypted:
            self._first = b""
            self._take_off_tls(first)
            return
        choice = self.factory.choose(first)
        if choice is None:
            return
        if self._channel.encrypted:
            shown = binding(self.transport.getHandle())
            self._channel = self._channel._replace(binding=shown)
        allowed = choice.encrypted or self.factory.plaintext.allows(self._channel)
        self._decided()
        # Only now it counts: silent ones can't keep out who has something to say.
        lost = self.factory.count(self._channel.host)
        if lost is not None:
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
        elif lost is None:
            guest.refuse(Unavailable("too many connections", retry_after=RETRY_CONNECTING))
            guest.close("too many connections from its address")
        else:
            guest.dataReceived(first)

    def _take_off_tls(self, first: bytes) -> None:
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
    :param limiter: counts the connections of an address that are handed to doors; one too many is
        told so, and closed.
    :param max_undecided: how many connections there may be that are not; the one that is here
        longest is closed for another.
    :param decide_within: seconds.
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
        max_undecided: int = 10_000,
        decide_within: float = DECIDE_WITHIN,
    ) -> None:
        self.clock = clock
        self.decide_within = decide_within
        self._limiter = limiter
        self.plaintext = plaintext
        self.tls = TLSMemoryBIOFactory(tls, False, ServerFactory(), clock)
        self._choices = choices
        self._max_undecided = max_undecided
        self._undecided: dict[FrontConnection, None] = {}  # longest here first
        self._stopping = False

    def count(self, host: str | None) -> Callable[[], None] | None:
        """Count a connection from ``host``; return what is to be called when it is gone, None if
        it is one too many.
        """
        if not self._limiter.connect(host, self.clock.seconds()):
            return None
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
        """Twisted: somebody connects."""
        return None if self._stopping else FrontConnection(self)

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
        self._undecided[connection] = None
        if len(self._undecided) > self._max_undecided:
            next(iter(self._undecided)).too_late()

    def gone(self, connection: FrontConnection) -> None:
        """It is known what a connection is, or it is gone."""
        self._undecided.pop(connection, None)

    def stop(self) -> None:
        """The server stops: let go of all who have said nothing yet."""
        self._stopping = True
        for connection in list(self._undecided):
            connection.too_late()
