"""One connection's output, backpressure, silence and end, over TCP, TLS or a local socket.

``Stream`` is between a door's protocol and the transport; ``Streams`` is what all streams of a door
have in common. What is written in one turn of the reactor goes out in one piece at its end,
straight to the socket, and what comes is read by the ``Poller``. With TLS it is encrypted and
decrypted here; the handshake and the closing are Twisted's.

Nothing here knows what is said on a connection, nor by whom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime, ITCPTransport
from twisted.internet.task import LoopingCall
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from chat_twisted.core.limits import Limits
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.sockets import HELD_BY_SYSTEM
from chat_twisted.doors.tls import decrypt, encrypt
from chat_twisted.logs import Logger

LINGER = 2
"""Seconds for which a closed connection is read on and what comes is thrown away. Closing with
input unread would reset the connection, and the peer might never see why it was closed."""

STOP_WITHIN = 0.5
"""Seconds that all peers together have to take their last words when the server stops."""

TICKS = 4
"""How many times in an idle interval the streams are looked at."""

GATHER = 65_536
"""Bytes that are gathered in one turn of the reactor before they are written."""

FLUSH_WITHIN = 0.002
"""Seconds for which committed messages may wait for the next commit, to be sent in one piece."""

DEFAULT_UNREAD = Limits().unread


class StreamProtocol(Protocol):
    """What a stream asks of the protocol whose connection it is."""

    @property
    def is_registered(self) -> bool:
        """Whether the peer is there as long as it says something; else it has to register soon,
        whatever it says.
        """

    @property
    def has_unread(self) -> bool:
        """Whether there is something to be taken by ``resume``."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""

    def resume(self) -> None:
        """Called in a turn of its own, to take what was kept while the stream was paused."""

    def is_silent(self, ticks: int) -> None:
        """Called when nothing was heard for so many ``TICKS``, and again at the next."""

    def close(self, why: str) -> None:
        """Called when the peer's TLS has ended."""

    def abort(self, why: str) -> None:
        """Called when too much waits for the peer, or when it can't be written to."""

    def stop(self, reason: str) -> None:
        """Called when the server stops."""


class Stream:
    """One connection.

    While its peer does not read, nothing is read from it either, and what is written waits here;
    past ``Streams.max_unread`` bytes the protocol is asked to cut it off.

    :param source: whose share of the reactor's time it takes to read this.
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
        "_queued",
        "_rests",
        "_resuming",
        "_send",
        "_source",
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
        "transport",
    )

    def __init__(
        self, streams: Streams, protocol: StreamProtocol, transport: Any, source: Hashable
    ) -> None:
        self._streams = streams
        self.protocol = protocol
        self.transport = transport
        self._source = source
        self.closed = False
        """Whether nothing more is written, nor handed on of what comes."""
        self.ended = False
        """Whether the peer sends nothing more."""
        self.paused = False
        """Whether nothing is to be taken from the peer now."""
        self.heard = False
        """Whether the protocol has heard from the peer since the last tick."""
        self.quiet = 0
        """Ticks since then."""
        self._out: list[bytes] = []  # what is written in this turn of the reactor
        self._gathered = 0  # bytes of it
        self._waiting: deque[bytes] | None = None  # what can't be written now
        self._queued = 0  # bytes of it
        self._full = False  # the transport has something to write, which nothing may overtake
        self._held = False  # the protocol can take nothing now
        self._rests = False  # it takes nothing before the next turn
        self._resuming: IDelayedCall | None = None
        self._linger: IDelayedCall | None = None
        self._when_written: Callable[[], None] | None = None
        self._polled: int | None = None  # what the poller knows it as, if that reads it
        self._tls: SSL.Connection | None = None
        self._below = transport  # what has the socket
        if isinstance(transport, TLSMemoryBIOProtocol):
            self._tls = transport.getHandle()
            self._below = transport.transport
        # Straight to the socket for as long as it takes what is written: the transport would first
        # ask the reactor whether it can be written to, and take that back afterwards, which is two
        # calls of the system and a turn of the reactor for each write.
        self._send: Callable[[bytes], int] | None = None
        is_socket = ITCPTransport.providedBy(self._below)
        if is_socket and not isinstance(self._below, TLSMemoryBIOProtocol):
            self._below.setTcpNoDelay(True)  # what is written is small, and gathered here
            if self._tls is None or streams.poller is not None:
                self._send = self._below.getHandle().send
        # Of TLS the end of the handshake may still be the transport's to write; and where Twisted
        # reads it, answers to what comes are always.
        self._is_direct = self._tls is None and self._send is not None
        self._can_half_close = is_socket and self._tls is None
        streams.open.add(self)
        self._read()

    # Out

    def write(self, data: bytes) -> None:
        """Write to the peer, soon (``Streams.flush``)."""
        if self.closed:
            return
        if self._full:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(data)
            self._queued += len(data)
            if self._queued > self._streams.max_unread:
                self.protocol.abort("does not read")
            return
        out = self._out
        if not out:
            self._streams.flush_later(self)
        out.append(data)
        self._gathered += len(data)
        if self._gathered > GATHER:  # so that a peer that does not read is found in time
            self.flush()

    def flush(self) -> None:
        """Send what was written in this turn, in one piece."""
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
        """Send bytes that are as they are on the wire."""
        sent = 0
        if self._is_direct and not self._full:
            assert self._send is not None
            try:  # a context manager would cost every message a microsecond
                sent = self._send(data)
            except OSError:  # it is full; or broken, as the transport will find
                sent = 0
        if sent < len(data):
            # The transport writes the rest, and nothing may overtake that.
            self._below.write(data[sent:])
            if not self._full:
                self._full = True
                self._read_or_not()
                self._below.registerProducer(_Drained(self), False)

    def drained(self) -> None:
        """Called when the transport has written all that it was given."""
        self._below.unregisterProducer()
        self._full = False
        self._is_direct = self._send is not None
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

    # In

    @property
    def is_behind(self) -> bool:
        """Whether something that came may still have to be taken."""
        return self.paused or self._resuming is not None

    def hold(self) -> None:
        """Take nothing more from the peer for now."""
        self._held = True
        self._read_or_not()

    def go_on(self) -> None:
        """Take something again, but nothing before this turn of the reactor is over."""
        self._held = False
        self._read_or_not()

    def rest(self) -> None:
        """Take nothing more in this turn of the reactor."""
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
        # What is there already is not taken now, since this may be inside the hub's loop, or inside
        # another connection's request.
        if self.protocol.has_unread:
            self._resume_later()

    def _resume_later(self) -> None:
        if self._resuming is None:
            self._resuming = self._streams.clock.callLater(0, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        if self._rests:
            self._rests = False
            if self._full or self._held:
                return
            self.paused = False
            self._read()
        if not self.paused:
            self.protocol.resume()

    def _read(self) -> None:
        """Have what comes read: by the poller, if that can be, else by the reactor."""
        poller = self._streams.poller
        if poller is not None and self._send is not None and not self.ended:
            received = self.protocol.dataReceived if self._tls is None else self._decrypt
            self._polled = poller.add(self._below, received, self._source)
        else:
            self.transport.resumeProducing()

    def _leave_poller(self) -> None:
        if self._polled is not None and self._streams.poller is not None:
            self._streams.poller.remove(self._polled)
            self._polled = None

    def _decrypt(self, data: bytes) -> None:
        """Called by the poller with what the socket of a TLS connection has."""
        assert self._tls is not None
        text, end = decrypt(self._tls, data)
        answer = encrypt(self._tls)  # to a change of keys, or an alert
        if answer:
            self._put(answer)
        if text:
            self.protocol.dataReceived(text)
        if end is not None and not self.closed:
            self.protocol.close(end)

    # Silence

    def tick(self) -> None:
        """Look, ``TICKS`` times in an idle interval, whether the peer is still there."""
        is_there = self.heard and self.protocol.is_registered
        self.quiet = 0 if is_there else self.quiet + 1
        self.heard = False
        if self.quiet and not self.closed:
            self.protocol.is_silent(self.quiet)

    # The end

    def close(self) -> None:
        """Let go of the peer after what was written, within ``LINGER`` seconds."""
        self._finish()
        self._linger = self._streams.clock.callLater(LINGER, self._linger_over)
        self.transport.resumeProducing()  # else the peer's leaving would not be seen
        if self.ended or not self._can_half_close:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _linger_over(self) -> None:
        self._linger = None
        self.transport.abortConnection()

    def stop(self) -> None:
        """Close as soon as what was written is on its way."""
        self._finish()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection off at once: the peer does not take what was written."""
        self._discard()
        self._finish()
        self.transport.abortConnection()

    def end(self) -> None:
        """The peer sends nothing more, but it may still read."""
        self.ended = True
        if self.closed:
            self.transport.loseConnection()

    def lost(self) -> None:
        """The connection is gone."""
        self._discard()
        self._finish()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._streams.lost(self)
        del self.protocol  # which has this stream: else both would stay for the garbage collector
        self._tls = self._send = self._when_written = None

    def _discard(self) -> None:
        self._waiting = None
        self._out.clear()

    def _finish(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._leave_poller()
        if self._full:
            self._below.unregisterProducer()  # it would hold up the closing
        self.transport.writeSequence([*self._out, *(self._waiting or ())])
        self._discard()
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None


@implementer(IPullProducer)
class _Drained:
    """Tells a stream when its transport has written all that it was given."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._is_asked = False  # a transport asks once when it gets its producer

    def resumeProducing(self) -> None:
        """Twisted: there is nothing left to be written."""
        if self._is_asked:
            self._stream.drained()
        self._is_asked = True

    def stopProducing(self) -> None:
        """Twisted: the transport is gone; ``connectionLost`` follows."""


class Streams:
    """All streams of a door.

    :param max_unread: bytes that may wait for one peer. One that lets more gather does not read.
    :param idle: seconds of silence; see ``StreamProtocol.is_silent``.
    :param poller: what reads sockets; without one it is the reactor.
    :param turn: at whose end is written what was gathered.
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
        self.max_unread = max(0, max_unread - HELD_BY_SYSTEM - GATHER)
        """Bytes that may wait here, beside what the system holds and the transport."""
        self.poller = poller
        self.open: set[Stream] = set()
        self._idle = idle
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        self._turn = EndOfTurn(clock) if turn is None else turn
        self._unflushed: list[Stream] = []
        self._flushes = False  # at the end of the turn
        self._waiting_for_more: IDelayedCall | None = None
        self._all_gone: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to look who is silent."""
        self._ticking.start(self._idle / TICKS, now=False)

    def stop_ticking(self) -> None:
        """Look no more."""
        if self._ticking.running:
            self._ticking.stop()

    def _tick(self) -> None:
        for stream in list(self.open):
            stream.tick()

    def flush_later(self, stream: Stream) -> None:
        """Have ``stream`` flushed when this turn of the reactor is over, or ``flush`` says."""
        self._unflushed.append(stream)
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
        for stream in unflushed:
            try:
                stream.flush()
            except Exception:  # noqa: BLE001  a fault with one must not keep what others get
                self._log.failure("while writing to a peer")

    def lost(self, stream: Stream) -> None:
        """A connection is gone for good."""
        self.open.discard(stream)
        if self._all_gone is not None and not self.open:
            self._all_gone.callback(None)
            self._all_gone = None

    def stop(self, reason: str) -> Deferred[None]:
        """Let go of everybody; fire when all are gone, within a second."""
        if not self.open:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._all_gone = gone
        overtime = self.clock.callLater(STOP_WITHIN, self._cut_off)
        gone.addCallback(lambda _: overtime.cancel() if overtime.active() else None)
        self._log.info("letting go of {count} connections", count=len(self.open))
        for stream in list(self.open):
            stream.protocol.stop(reason)
        return gone

    def _cut_off(self) -> None:
        for stream in list(self.open):
            stream.protocol.abort("did not take the last words in time")
