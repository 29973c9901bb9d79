"""Input, output, backpressure, idle time-outs and closing of connections: TCP, TLS, local sockets,
and connections in memory.

A ``Stream`` is between a door's protocol and the transport of one connection; ``Streams`` has all
streams of a door. Output of one turn of the reactor is sent in one piece at its end, directly to
the socket; input is read by the ``Poller``. TLS data is encrypted and decrypted here; Twisted does
the handshake and the close. This module must not know protocols or users.

It is one long module because plain and TLS connections differ in a few lines of each step only, and
a second path beside the first would have to repeat all the steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime, ITCPTransport
from twisted.internet.task import LoopingCall
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from chat_twisted.core.limits import Limits
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors import Channel
from chat_twisted.doors.poller import SHARE, Poller
from chat_twisted.doors.sockets import HELD_BY_SYSTEM
from chat_twisted.doors.tls import decrypt, encrypt
from chat_twisted.logs import Logger
from chat_twisted.memory_connection import End

LINGER = 2
"""Seconds for which input of a closed connection is read and discarded. Closing a socket with
unread input would reset the connection, and the peer might not get the last output."""

STOP_WITHIN = 0.5
"""Seconds within which peers must read their last output when the server stops, or drops all."""

TICKS = 4
"""Number of times per idle interval at which the streams are checked."""

GATHER = 65_536
"""Bytes of output that are gathered in one turn of the reactor before they are sent."""

FLUSH_WITHIN = 0.002
"""Seconds for which output may wait for the next commit, to be sent in one piece with its
messages."""

DEFAULT_UNREAD = Limits().unread


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


class Stream:
    """The stream of one connection.

    While the peer does not read, the stream does not read either, and output waits here. If more
    than ``Streams.max_unread`` bytes wait, ``abort`` of the protocol is called.

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
        self, streams: Streams, protocol: StreamProtocol, transport: Any, source: Hashable
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
        streams.open.add(self)
        streams.opened += 1
        self._read()

    # Output

    def write(self, data: bytes) -> None:
        """Write to the peer. The bytes are sent at the end of this turn (``Streams.flush``)."""
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
        """Check whether the client is silent. Called ``TICKS`` times per idle interval."""
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
        self._finish()
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


class Streams:
    """The streams of a door.

    :ivar open: the streams that are open.
    :ivar opened: the number of streams since the start.
    :ivar cut: how many of them were cut off because the peer did not read.
    :param clock: the reactor.
    :param max_unread: the maximum bytes of output that wait for a peer.
    :param idle: the idle interval in seconds; see ``StreamProtocol.is_silent``.
    :param poller: reads the sockets; if None, the reactor does.
    :param turn: output is sent at its end.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        max_unread: int = DEFAULT_UNREAD,
        idle: float = 60,
        poller: Poller | None = None,
        turn: EndOfTurn | None = None,
    ) -> None:
        self.clock = clock
        self.set_max_unread(max_unread)
        self.poller = poller
        self.open: set[Stream] = set()
        self.opened = 0
        self.cut = 0
        self._idle = idle
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        self._turn = EndOfTurn(clock) if turn is None else turn
        # The streams that have kept input; sources take turns (``poller.SHARE``).
        self._kept: dict[Stream, None] = {}
        self._resuming: IDelayedCall | None = None
        self._unflushed: list[Stream] = []
        self._flushes = False  # whether a flush at the end of this turn is scheduled
        self._waiting_for_more: IDelayedCall | None = None
        self._all_gone: Deferred[None] | None = None

    def set_max_unread(self, max_unread: int) -> None:
        """Set the maximum bytes of output that wait for a peer."""
        self.max_unread = max(0, max_unread - HELD_BY_SYSTEM - GATHER)
        """Maximum bytes that wait here, in addition to the buffers of the system and the
        transport."""

    def start(self) -> None:
        """Start the idle checks."""
        self._ticking.start(self._idle / TICKS, now=False)

    def stop_ticking(self) -> None:
        """Stop the idle checks."""
        if self._ticking.running:
            self._ticking.stop()

    def _tick(self) -> None:
        for stream in list(self.open):
            stream.tick()

    def resume_later(self, stream: Stream) -> None:
        """Call ``resume`` of a stream in a later turn of the reactor."""
        self._kept[stream] = None
        if self._resuming is None:
            self._resuming = self.clock.callLater(0, self._resume)

    def resume_no_more(self, stream: Stream) -> None:
        """Undo ``resume_later``."""
        self._kept.pop(stream, None)

    def _resume(self) -> None:
        """Resume streams; a source that has used its share of this turn waits for the next one."""
        self._resuming = None
        spent: dict[Hashable, float] = {}
        before = self.clock.seconds()
        for stream in list(self._kept):
            taken = spent.get(stream.source, 0.0)
            if taken >= SHARE or stream not in self._kept:
                continue
            del self._kept[stream]  # if it has more, it comes after those that have waited
            try:
                stream.resume()
            except Exception:  # noqa: BLE001  the other streams must be resumed all the same
                self._log.failure("while input was processed")
                stream.protocol.abort("a fault of the server")
            now = self.clock.seconds()
            spent[stream.source] = taken + now - before
            before = now
        if self._kept and self._resuming is None:
            self._resuming = self.clock.callLater(0, self._resume)

    def flush_later(self, stream: Stream) -> None:
        """Flush ``stream`` at the end of this turn of the reactor, or when ``flush`` is called."""
        self._unflushed.append(stream)
        if not self._flushes:
            self._flushes = True
            self._turn.write(self._flush_at_end)

    def _flush_at_end(self) -> None:
        self._flushes = False
        if self._waiting_for_more is None:
            self._flush()

    def flush(self, *, more: bool) -> None:
        """Send the gathered output of all streams.

        :param more: whether another commit follows soon: then wait for its messages, at most
            ``FLUSH_WITHIN``, because sending twice to the same peers costs twice as much.
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
        for stream in unflushed:
            try:
                stream.flush()
            except Exception:  # noqa: BLE001  the other peers must get their output all the same
                self._log.failure("while output was sent")

    def lost(self, stream: Stream) -> None:
        """Called when the connection of a stream is lost."""
        self.open.discard(stream)
        if self._all_gone is not None and not self.open:
            self._all_gone.callback(None)
            self._all_gone = None

    def stop(self, reason: str) -> Deferred[None]:
        """Close all streams.

        :param reason: passed to ``StreamProtocol.stop``.
        :return: fires when all connections are lost, within a second.
        """
        if not self.open:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._all_gone = gone
        overtime = self.drop_all(reason)
        gone.addCallback(lambda _: overtime.cancel() if overtime.active() else None)
        return gone

    def drop_all(self, reason: str) -> IDelayedCall:
        """Close the streams that are open now, within a second. Others may be opened meanwhile.

        :param reason: passed to ``StreamProtocol.stop``.
        :return: the call that cuts off the peers that don't take the last words in time.
        """
        dropped = list(self.open)
        overtime = self.clock.callLater(STOP_WITHIN, self._cut_off, dropped)
        self._log.info("closing {count} connections", event="closing", count=len(dropped))
        for stream in dropped:
            if stream in self.open:  # the end of another one may have ended it
                stream.protocol.stop(reason)
        return overtime

    def _cut_off(self, dropped: Sequence[Stream]) -> None:
        for stream in dropped:
            if stream in self.open:
                stream.protocol.abort("did not take the last words in time")
