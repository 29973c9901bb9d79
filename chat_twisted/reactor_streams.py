"""Connections of an asyncio loop over Twisted's reactor (``reactor_loop``), also with TLS.

Each is a TCP connection of the reactor with the interface of an asyncio transport, as far as
asyncio's streams and TLS need it. This module must not know what is sent, or the loop's class.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

CONNECT_TIMEOUT = 30.0
"""Seconds after which an attempt to connect fails. Callers usually stop it sooner."""


async def connect(
    reactor: Any,
    loop: asyncio.AbstractEventLoop,
    factory: Callable[[], asyncio.BaseProtocol],
    host: str,
    port: int,
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Connect to one of the addresses of ``host``.

    :return: the transport, and the protocol that ``factory`` has made.
    :raises OSError: if that is not possible.
    """
    endpoint = HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)
    connecting: Deferred[Any] = endpoint.connect(_Factory.forProtocol(_Connection))
    made: list[Any] = []

    def keep(connection: _Connection) -> _Connection:
        made.append(connection)
        return connection

    try:
        connection = await connecting.addCallback(keep).asFuture(loop)
    except asyncio.CancelledError:
        connecting.cancel()
        for given_up in made:  # just before this was cancelled, or before it was told of that
            given_up.transport.abortConnection()
        raise
    except ConnectError as problem:
        raise OSError(f"can't connect to {host}: {problem}") from problem
    transport = StreamTransport(loop, connection)
    protocol = factory()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    connection.started(transport)
    return transport, protocol


async def start_tls(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    server_hostname: str | None,
) -> asyncio.Transport:
    """Begin TLS on a connection, as a client.

    :return: the transport for ``protocol``; the other one must not be used any more.
    :raises ssl.SSLError: if the server's certificate is not accepted, or it does not speak TLS.
    :raises OSError: if the connection is lost before.
    """
    done = loop.create_future()
    tls: Any = SSLProtocol(
        loop, protocol, context, done, False, server_hostname, call_connection_made=False
    )
    transport.pause_reading()
    transport.set_protocol(tls)
    tls.connection_made(transport)
    transport.resume_reading()
    try:
        await done
    except BaseException:
        transport.abort()
        raise
    encrypted: asyncio.Transport = tls._app_transport
    return encrypted


@implementer(IPushProducer)
class StreamTransport(asyncio.Transport):
    """The transport of one connection. Methods have the meaning that asyncio documents.

    :param connection: the connection; it has been made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: _Connection) -> None:
        wire: Any = connection.transport
        peer = wire.getPeer()
        super().__init__({"peername": (getattr(peer, "host", ""), getattr(peer, "port", 0))})
        self._loop = loop
        self._wire = wire
        self._protocol: Any = None
        self._is_closing = False
        self._is_paused = False
        wire.registerProducer(self, streaming=True)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give all that comes to another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if not self._is_closing:
            self._wire.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces of bytes."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """Return 0: the reactor's transport tells the protocol itself when to pause."""
        return 0

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._is_closing:
            self._wire.pauseProducing()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_closing:
            self._wire.resumeProducing()

    def is_closing(self) -> bool:
        """Return whether it is closed, or will be."""
        return self._is_closing

    def close(self) -> None:
        """Send what waits, then close."""
        self._close("loseConnection")

    def abort(self) -> None:
        """Close at once."""
        self._close("abortConnection")

    def _force_close(self, problem: BaseException | None) -> None:
        """Called by asyncio's TLS after an error."""
        self.abort()

    def _close(self, method: str) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._wire.unregisterProducer()
        getattr(self._wire, method)()

    # The reactor's side

    def received(self, data: bytes) -> None:
        """Called by the connection with bytes that have come."""
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(data)
            return
        while data:
            buffer = memoryview(protocol.get_buffer(len(data)))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]

    def lost(self, reason: Failure) -> None:
        """Called by the connection at its end."""
        self._is_closing = True
        problem: Exception | None = None
        if reason.check(ConnectionDone):
            self._protocol.eof_received()
        elif isinstance(reason.value, OSError):
            problem = reason.value
        elif reason.check(ConnectionLost):
            problem = ConnectionResetError(str(reason.value))
        self._loop.call_soon(self._protocol.connection_lost, problem)

    def pauseProducing(self) -> None:
        """Called by the reactor's transport when much waits to be sent: at each write, while
        asyncio's protocols expect it once.
        """
        if not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def resumeProducing(self) -> None:
        """Called by the reactor's transport when little waits to be sent."""
        if self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()

    def stopProducing(self) -> None:
        """Called by the reactor's transport when the connection is lost."""


class _Factory(Factory):
    noisy = False


class _Connection(Protocol):
    """Passes to a ``StreamTransport`` what the reactor reads."""

    _stream: StreamTransport | None = None
    _lost: Failure | None = None  # before there is a stream
    _early = b""

    def started(self, stream: StreamTransport) -> None:
        """Pass everything to ``stream`` from now on, also what has come before."""
        self._stream = stream
        if self._early:
            stream.received(self._early)
        if self._lost is not None:
            stream.lost(self._lost)

    def connectionMade(self) -> None:
        """Called by Twisted at the beginning."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted with bytes that have come."""
        if self._stream is None:
            self._early += data
        else:
            self._stream.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted at the end."""
        if self._stream is None:
            self._lost = reason
        else:
            self._stream.lost(reason)
