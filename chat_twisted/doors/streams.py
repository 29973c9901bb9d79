"""The streams of a door: idle checks, the end of a turn, fair turns of input, and stopping.

``Streams`` has what the connections of a door share. Their output of one turn of the reactor is
sent at its end; input that was kept is processed in later turns, in which the sources have equal
shares. This module must not know protocols, or how bytes are read and written (``stream``).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from chat_twisted.core.limits import Limits
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.poller import SHARE, Poller
from chat_twisted.doors.sockets import HELD_BY_SYSTEM
from chat_twisted.doors.stream import GATHER, Stream
from chat_twisted.logs import Logger

STOP_WITHIN = 0.5
"""Seconds within which peers must read their last output when the server stops, or drops all."""

TICKS = 4
"""Number of times per idle interval at which the streams are checked."""

FLUSH_WITHIN = 0.002
"""Seconds for which output may wait for the next commit, to be sent in one piece with its
messages."""

DEFAULT_UNREAD = Limits().unread


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

    def add(self, stream: Stream) -> None:
        """Take a new stream."""
        self.open.add(stream)
        self.opened += 1

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
