"""Input, output, backpressure, idle time-outs and closing of connections: TCP, TLS, local sockets,
and connections in memory.

A ``Stream`` is between a door's protocol and the transport of one connection. Output of one turn of
the reactor is sent in one piece at its end, directly to the socket; input is read by the
``Poller``. TLS data is encrypted and decrypted here; Twisted does the handshake and the close. This
module must not know protocols or users.

Plain and TLS connections are in one class, because they differ in a few lines of each step only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime, ITCPTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from chat_twisted.doors import Channel
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.tls import decrypt, encrypt
from chat_twisted.memory_connection import End

LINGER = 2
"""Seconds for which input of a closed connection is read and discarded. Closing a socket with
unread input would reset the connection, and the peer might not get the last output."""

GATHER = 65_536
"""Bytes of output that are gathered in one turn of the reactor before they are sent."""


class StreamProtocol(Protocol):
    """The part of a door's protocol that a stream uses."""

    @property
    def channel(self) -> Channel:
        """The properties of the connection."""

    @property
    def kind(self) -> str:
        """The kind of the client, for the status of the server."""

    @property
    def encryption(self) -> str:
        """The encryption that is a part of the protocol, for the status; empty if there is none."""

    @property
    def is_registered(self) -> bool:
        """Whether the client is registered. Only then does any input count as a sign of life;
        otherwise the client must register in time.
        """

    @property
    def has_unread(self) -> bool:
        """Whether there is input for ``resume``."""

    def dataReceived(self, data: bytes) -> None:
        """Process received bytes."""

    def resume(self) -> None:
        """Process input that was kept while the stream was paused. Called in a turn of its own."""

    def is_silent(self, ticks: int) -> None:
        """Called at each tick while the client is silent, with the number of ticks since."""

    def close(self, why: str) -> None:
        """Called when the peer has ended TLS."""

    def abort(self, why: str) -> None:
        """Called when too much output waits for the peer, or when writing has failed."""

    def stop(self, reason: str) -> None:
        """Called when the server stops."""


class StreamGroup(Protocol):
    """The part of ``streams.Streams`` that a stream uses.

    :ivar clock: the reactor.
    :ivar poller: reads the sockets; if None, the reactor does.
    :ivar max_unread: the maximum bytes of output that wait in a stream.
    :ivar cut: the number of streams that were cut off because the peer did not read.
    """

    clock: IReactorTime
    poller: Poller | None
    max_unread: int
    cut: int

    def add(self, stream: Stream) -> None:
        """Take a new stream."""

    def lost(self, stream: Stream) -> None:
        """Called when the connection of a stream is lost."""

    def flush_later(self, stream: Stream) -> None:
        """Flush a stream at the end of this turn of the reactor."""

    def resume_later(self, stream: Stream) -> None:
        """Call ``resume`` of a stream in a later turn of the reactor."""

    def resume_no_more(self, stream: Stream) -> None:
        """Undo ``resume_later``."""


class Stream:
    """The stream of one connection.

    While the peer does not read, the stream does not read either, and output waits here. If more
    than ``StreamGroup.max_unread`` bytes wait, ``abort`` of the protocol is called.

    :param streams: the streams of the door.
    :param protocol: the door's protocol.
    :param transport: Twisted's transport.
    :param source: the source in ``Poller.add``.
    """

    __slots__ = (
        "_below",
        "_can_half_close",
        "_full",
        "_gathered",
        "_held",
        "_is_direct",
        "_linger",
        "_out",
        "_polled",
        "_poller",
        "_queued",
        "_rests",
        "_resumes",
        "_send",
        "_streams",
        "_tls",
        "_waiting",
        "_when_written",
        "closed",
        "ended",
        "heard",
        "paused",
        "protocol",
        "quiet",
        "source",
        "transport",
    )

    def __init__(
        self, streams: StreamGroup, protocol: StreamProtocol, transport: Any, source: Hashable
    ) -> None:
        self._streams = streams
        self.protocol = protocol
        self.transport = transport
        self.source = source
        self.closed = False
        """Whether the stream is closed: it sends nothing, and discards input."""
        self.ended = False
        """Whether the peer has ended its side of the connection."""
        self.paused = False
        """Whether the protocol must process no input now."""
        self.heard = False
        """Whether the client has sent anything since the last tick; set by the protocol."""
        self.quiet = 0
        """Number of ticks since the client has sent anything."""
        self._out: list[bytes] = []  # output of this turn of the reactor
        self._gathered = 0  # bytes of _out
        self._waiting: deque[bytes] | None = None  # output that waits for the peer
        self._queued = 0  # bytes of _waiting
        self._full = False  # the transport still has output, which must be sent first
        self._held = False  # ``hold`` was called
        self._rests = False  # ``rest`` was called in this turn
        self._resumes = False  # kept input will be processed in a later turn
        self._linger: IDelayedCall | None = None
        self._when_written: list[Callable[[], None]] = []
        self._polled: int | None = None  # the descriptor, while the poller reads it
        self._tls: SSL.Connection | None = None
        self._below = transport  # the transport that has the socket
        if isinstance(transport, TLSMemoryBIOProtocol):
            self._tls = transport.getHandle()
            self._below = transport.transport
        # Output goes directly to the socket while that is possible. For each write, Twisted's
        # transport would first register with the reactor and unregister afterwards, which costs two
        # system calls and a turn of the reactor.
        self._send: Callable[[bytes], int] | None = None
        self._poller: Poller | None = None  # reads the socket
        is_socket = ITCPTransport.providedBy(self._below)
        if is_socket and not isinstance(self._below, TLSMemoryBIOProtocol):
            self._below.setTcpNoDelay(True)  # small writes are gathered here already
            if self._tls is None or streams.poller is not None:
                self._send = self._below.getHandle().send
                self._poller = streams.poller
        elif isinstance(transport, End):
            self._send = transport.send
        # With TLS, Twisted's transport may still have to send the end of the handshake; and if
        # Twisted reads the socket, it sends the answers of TLS itself.
        self._is_direct = self._tls is None and self._send is not None
        self._can_half_close = is_socket and self._tls is None
        streams.add(self)
        self._read()

    # Output

    def write(self, data: bytes) -> None:
        """Write to the peer. The bytes are sent at the end of this turn of the reactor."""
        if self.closed:
            return
        if self._full:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(data)
            self._queued += len(data)
            if self._queued > self._streams.max_unread:
                self._streams.cut += 1
                self.protocol.abort("does not read")
            return
        out = self._out
        if not out:
            self._streams.flush_later(self)
        out.append(data)
        self._gathered += len(data)
        if self._gathered > GATHER:  # detect early that the peer does not read
            self.flush()

    def flush(self) -> None:
        """Send the gathered output in one piece."""
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._gathered = 0
        if self._tls is not None:
            try:
                data = encrypt(self._tls, data)
            except SSL.Error:
                self.protocol.abort("a fault in TLS")
                return
        self._put(data)

    def _put(self, data: bytes) -> None:
        """Send bytes on the wire: for TLS they are encrypted already."""
        sent = 0
        if self._is_direct and not self._full:
            assert self._send is not None
            try:  # a context manager would cost every message a microsecond
                sent = self._send(data)
            except OSError:  # the socket is full; or broken, which the transport will find
                sent = 0
        if sent < len(data):
            # The transport sends the rest; further output must wait for it.
            self._below.write(data[sent:])
            if not self._full:
                self._full = True
                self._read_or_not()
                self._below.registerProducer(_Drained(self), False)

    def drained(self) -> None:
        """Called when the transport has sent all its output."""
        self._below.unregisterProducer()
        self._full = False
        self._is_direct = self._send is not None
        while self._waiting and not self._full:  # _put may fill the transport again
            data = self._waiting.popleft()
            self._queued -= len(data)
            self._out.append(data)
            self.flush()
        self._read_or_not()
        if not self._full:
            waiting, self._when_written = self._when_written, []
            for then in waiting:
                then()

    @property
    def unsent(self) -> int:
        """The bytes of output that wait here."""
        return self._queued + self._gathered

    @property
    def is_full(self) -> bool:
        """Whether output waits for the peer."""
        return self._full

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no output waits for the peer; at once if none waits now."""
        if self._full:
            self._when_written.append(then)
        else:
            then()

    # Input

    @property
    def is_behind(self) -> bool:
        """Whether received input may not be processed yet."""
        return self.paused or self._resumes

    def hold(self) -> None:
        """Process no further input until ``go_on``."""
        self._held = True
        self._read_or_not()

    def go_on(self) -> None:
        """Process input again, from the next turn of the reactor on."""
        self._held = False
        self._read_or_not()

    def rest(self) -> None:
        """Process no further input in this turn of the reactor."""
        self._rests = True
        self._read_or_not()
        self._resume_later()

    def _read_or_not(self) -> None:
        if self.closed or self.paused == (self._full or self._held or self._rests):
            return
        self.paused = not self.paused
        if self.paused:
            self._leave_poller()
            self.transport.pauseProducing()
            return
        self._read()
        # Kept input is not processed within this call, because the caller may be in the middle of
        # the hub's loop or of another connection's request.
        if self.protocol.has_unread:
            self._resume_later()

    def _resume_later(self) -> None:
        if not self._resumes:
            self._resumes = True
            self._streams.resume_later(self)

    def resume(self) -> None:
        """Process input that was kept. Called in a later turn of the reactor."""
        self._resumes = False
        if self._rests:
            self._rests = False
            if self._full or self._held:
                return
            self.paused = False
            self._read()
        if not self.paused:
            self.protocol.resume()

    def _read(self) -> None:
        """Start to read: by the poller if possible, otherwise by the reactor."""
        poller = self._poller
        if poller is not None and not self.ended:
            received = self.protocol.dataReceived if self._tls is None else self._decrypt
            self._polled = poller.add(self._below, received, self.source)
        else:
            self.transport.resumeProducing()

    def _leave_poller(self) -> None:
        if self._polled is not None and self._poller is not None:
            self._poller.remove(self._polled)
            self._polled = None

    def _decrypt(self, data: bytes) -> None:
        """Called by the poller with encrypted bytes of a TLS connection."""
        assert self._tls is not None
        text, end = decrypt(self._tls, data)
        answer = encrypt(self._tls)  # of TLS itself, for example to a key update
        if answer:
            self._put(answer)
        if text:
            self.protocol.dataReceived(text)
        if end is not None and not self.closed:
            self.protocol.close(end)

    # Idle time-out

    def tick(self) -> None:
        """Check whether the client is silent. Called ``streams.TICKS`` times per idle interval."""
        is_there = self.heard and self.protocol.is_registered
        self.quiet = 0 if is_there else self.quiet + 1
        self.heard = False
        if self.quiet and not self.closed:
            self.protocol.is_silent(self.quiet)

    # Closing

    def close(self) -> None:
        """Close the connection after all output, within ``LINGER`` seconds."""
        self._finish()
        self._linger = self._streams.clock.callLater(LINGER, self._linger_over)
        self.transport.resumeProducing()  # to notice when the peer closes the connection
        if self.ended or not self._can_half_close:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _linger_over(self) -> None:
        self._linger = None
        self.transport.abortConnection()

    def stop(self) -> None:
        """Close the connection as soon as all output is sent."""
        if not self.closed:
            self._finish()
            self.transport.resumeProducing()  # TLS waits for the peer's closing alert
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection at once, and discard output."""
        self._discard()
        self._finish()
        self.transport.abortConnection()

    def end(self) -> None:
        """Called when the peer has ended its side; it may still read."""
        self.ended = True
        if self.closed:
            self.transport.loseConnection()

    def lost(self) -> None:
        """Called when the connection is lost."""
        self._discard()
        self._finish()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._streams.lost(self)
        del self.protocol  # break the reference cycle, so that both are freed at once
        self._tls = self._send = None
        self._when_written = []

    def _discard(self) -> None:
        self._waiting = None
        self._out.clear()
        self._queued = self._gathered = 0

    def _finish(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._leave_poller()
        if self._full:
            self._below.unregisterProducer()  # it would delay the close
        self.transport.writeSequence([*self._out, *(self._waiting or ())])
        self._discard()
        if self._resumes:
            self._resumes = False
            self._streams.resume_no_more(self)


@implementer(IPullProducer)
class _Drained:
    """A Twisted producer that calls ``Stream.drained`` when the transport has sent its output."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._is_asked = False  # the first call comes from registering the producer

    def resumeProducing(self) -> None:
        """Called by Twisted when the transport has sent all its output."""
        if self._is_asked:
            self._stream.drained()
        self._is_asked = True

    def stopProducing(self) -> None:
        """Do nothing. Called by Twisted when the connection is lost."""
