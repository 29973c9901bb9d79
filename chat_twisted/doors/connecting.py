"""The life of a door's connections, whatever they speak: the stream, the log lines, the end.

This module must not know protocols or sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.core.limits import Rate, network
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors import Channel, describe, forget_frames
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.stream import Stream, StreamProtocol
from chat_twisted.doors.streams import DEFAULT_UNREAD, Streams
from chat_twisted.metrics import Refusals

REFUSALS_LOGGED = {"each": Rate(1 / 6, 10), "all": Rate(1, 100)}
COMINGS_LOGGED = {"each": Rate(1, 1000), "all": Rate(5, 10_000)}
"""Rate limits of log lines about refusals, and about logins and ends of sessions: for each address
and for all."""


class Reader(TypingProtocol):
    """The part of a parser of input that all doors have."""

    @property
    def has_more(self) -> bool:
        """Whether there is input that is not parsed yet."""


@implementer(IHalfCloseableProtocol)
class DoorConnection(Protocol):
    """A connection of a door. Its ``Stream`` does output, backpressure and closing.

    :ivar closed: whether further input is ignored.
    :ivar encryption: the encryption that is a part of the protocol; empty if there is none.
    :ivar peer: the peer's address, for the log.
    """

    factory: Any
    transport: Any  # ITCPTransport, or the transport of a test or another kind of endpoint
    stream: Stream
    closed = False
    encryption = ""
    _reader: Reader
    peer = ""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    @property
    def host(self) -> str | None:
        """The peer's address; None for a local socket."""
        return self.channel.host

    @property
    def kind(self) -> str:
        """The kind of the client, for the status of the server."""
        raise NotImplementedError

    @property
    def way(self) -> str:
        """How the client is connected, for the operator, such as ``TLS version 2``."""
        return "SSH" if self.channel.inside else f"{encryption_of(self)} {self.kind}"

    # Life

    def connectionMade(self) -> None:
        """Make the stream. Called by Twisted."""
        self.peer = describe(self.transport.getPeer())
        source = object() if self.host is None else network(self.host)
        self.stream = Stream(self.factory.streams, self, self.transport, source)  # type: ignore[arg-type]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the session. Called by Twisted."""
        self.channel.lost()
        self.stream.lost()
        self._let_go("closed" if reason.check(ConnectionDone) else reason.getErrorMessage())
        forget_frames(reason)

    def close(self, why: str) -> None:
        """Close the connection after all output.

        :param why: the reason, for the log.
        """
        if not self.closed:
            self.stream.close()
            self._let_go(why)

    def abort(self, why: str) -> None:
        """Close the connection at once, and discard output."""
        self.stream.abort()
        self._let_go(why)

    def cut_off(self) -> None:
        """Close the connection at once, because the client does not read."""
        self.factory.streams.cut += 1
        self.abort("does not read")

    def _let_go(self, why: str | None) -> None:
        """Ignore further input, and end the session.

        :param why: the reason, for the log; None if there is no line to be logged.
        """
        raise NotImplementedError

    # Input

    @property
    def has_unread(self) -> bool:
        """Whether there is unprocessed input, including its end."""
        return self._reader.has_more or self.stream.ended

    def resume(self) -> None:
        """Process input that was kept while the stream was paused. Called by the stream."""
        self._take_input()
        self._leave_if_ended()

    def _take_input(self) -> None:
        """Process requests until the stream is paused; the reader keeps the rest."""
        raise NotImplementedError

    def _leave_if_ended(self) -> None:
        """Close the connection if the peer has ended its side, and all its input is processed."""
        if self.stream.ended and not self.stream.is_behind and not self.closed:
            self._leave()

    def _leave(self) -> None:
        """Close the connection when everything is answered."""
        raise NotImplementedError

    def readConnectionLost(self) -> None:
        """Called by Twisted when the client has ended its side; it may still read."""
        self.stream.end()
        self._leave_if_ended()

    def writeConnectionLost(self) -> None:
        """Do nothing. Called by Twisted when this side has ended."""

    # Methods of the stream, for sessions

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self.stream.write(data)

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no output waits for the client; perhaps at once."""
        self.stream.when_written(then)

    def hold(self) -> None:
        """Process no further requests until ``go_on``."""
        self.stream.hold()

    def go_on(self) -> None:
        """Process requests again, from the next turn of the reactor on."""
        self.stream.go_on()

    # The log

    def _log_came(self, user: str, protocol: str) -> None:
        self.factory.comings.emit(
            self.host,
            "{user} came from {peer}, {protocol}",
            event="login",
            user=user,
            peer=self.peer,
            protocol=protocol,
        )

    def _log_went(self, user: str, why: str | None) -> None:
        if user and why is not None:
            self.factory.comings.emit(
                self.host,
                "{user} went from {peer}: {reason}",
                event="logout",
                user=user,
                peer=self.peer,
                reason=why,
            )


C = TypeVar("C", bound=DoorConnection)


def encryption_of(protocol: StreamProtocol | DoorConnection) -> str:
    """Return how a connection is encrypted: ``TLS``, the protocol's own encryption such as ``SSH``;
    or ``plain``, or ``local`` for a local socket.
    """
    channel = protocol.channel
    plain = "local" if channel.host is None else "plain"
    return "TLS" if channel.encrypted else protocol.encryption or plain


class DoorFactory(ServerFactory, Generic[C]):
    """The connections of a door.

    :ivar refused: counts the refused requests and connections.
    :param clock: the reactor.
    :param log: logs logins and refusals.
    :param idle, max_unread, poller, turn: as in ``Streams``.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        log: Callable[..., None],
        *,
        idle: float = 60,
        max_unread: int = DEFAULT_UNREAD,
        poller: Poller | None = None,
        turn: EndOfTurn | None = None,
    ) -> None:
        self.clock = clock
        self.streams = Streams(clock, max_unread=max_unread, idle=idle, poller=poller, turn=turn)
        self.refused = Refusals()
        self.refusals = PeerLog(log, clock, **REFUSALS_LOGGED)
        self.comings = PeerLog(log, clock, **COMINGS_LOGGED)
        self._stopping = False

    def set_max_unread(self, max_unread: int) -> None:
        """Set the maximum bytes of output that wait for a client."""
        self.streams.set_max_unread(max_unread)

    @property
    def motd(self) -> str:
        """The message of the day; empty for none, or for a door that shows none itself."""
        return ""

    def set_motd(self, motd: str) -> None:
        """Set the message of the day, for the next logins; empty for none."""

    def _make(self, channel: Channel) -> C:
        """Make the protocol of a connection."""
        raise NotImplementedError

    def startFactory(self) -> None:
        """Start the idle checks. Called when the first port listens."""
        self.streams.start()

    def stopFactory(self) -> None:
        """Stop the idle checks. Called when the last port is closed."""
        self.streams.stop_ticking()

    def buildProtocol(self, addr: IAddress | None) -> C | None:
        """Make the protocol of a connection to a port of this door alone. Called by Twisted."""
        return self.accept(Channel(getattr(addr, "host", None)))

    def accept(self, channel: Channel) -> C | None:
        """Make the protocol of a connection. Called by the front.

        :return: None if the server stops.
        """
        return None if self._stopping else self._make(channel)

    def drop_all(self, reason: str) -> None:
        """Close all connections, and accept further ones. Their users may log in again.

        Call this for the framed door before the doors whose clients are sessions of that one.

        :param reason: what the clients are told.
        """
        if self.streams.open:
            self.streams.drop_all(reason)

    def stop(self, reason: str) -> Deferred[None]:
        """Close all connections, and accept no more.

        :return: fires when all are closed, within a second.
        """
        self._stopping = True
        self.refusals.report()
        self.comings.report()
        return self.streams.stop(reason)
