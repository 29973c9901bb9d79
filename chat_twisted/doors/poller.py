"""Reads many sockets in one call of the reactor.

The reactor takes more than a microsecond to call the reader of a socket, mostly to set the context
of the log. If each read brings one message, that is a tenth of the cost of a message. A ``Poller``
is a single reader for the reactor: an epoll object, which is readable if any socket in it is.

This module must not know the data that it reads. It handles nothing but data: it leaves the end of
a connection, and errors, to the reactor.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.core.turns import EndOfTurn
from chat_twisted.logs import Logger

RECEIVE = 8192
"""Bytes that are read from a socket at once. Even the shortest requests in them take only a few
milliseconds."""

AT_ONCE = 256
"""Maximum number of sockets that are read in one turn of the reactor, so that other work is not
delayed. The system returns the remaining ones first in the next turn."""

SHARE = 0.01
"""Seconds for which data of one source is processed in one turn of the reactor. The rest stays in
its sockets until a later turn. Committing and delivering take about as long again, so nobody else
waits for more than about forty milliseconds."""

_READABLE = getattr(select, "EPOLLIN", 0)  # not every system has it; see Poller.over


# The function that receives from a socket, the callback for its data, the transport, the source.
_Polled = tuple[Callable[[int], bytes], Callable[[bytes], None], Any, Hashable]


@implementer(IReadDescriptor)
class Poller:
    """Reads sockets in place of the reactor.

    :param reactor: reads the poller's own descriptor, while there are sockets.
    :param turn: its ``begin`` and ``end`` are called around the reading of all readable sockets.
    :param seconds: returns monotonic seconds.
    :param worked: returns the seconds of processor time that this thread has used.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorFDSet,
        turn: EndOfTurn,
        seconds: Callable[[], float],
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._reactor = reactor
        self._turn = turn
        self._seconds = seconds
        self._worked = worked
        self._epoll = select.epoll()
        self._polled: dict[int, _Polled] = {}
        # Readable sockets whose source has used its share of this turn, with the events of epoll.
        # They come first in the next turn.
        self._left: dict[int, int] = {}

    @classmethod
    def over(cls, reactor: Any, turn: EndOfTurn) -> Poller | None:
        """Make a poller, or return None if the system has no epoll or ``reactor`` can't wait for
        descriptors.
        """
        possible = hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)
        return cls(reactor, turn, reactor.seconds) if possible else None

    def add(
        self, transport: Any, received: Callable[[bytes], None], source: Hashable = None
    ) -> int:
        """Start to read the socket of ``transport``.

        When the peer has ended the connection, or if reading fails, the socket is removed, and
        ``transport.resumeProducing`` is called, so that the reactor finds the end or the error.

        :param received: called with the data.
        :param source: each source may use ``SHARE`` seconds of a turn.
        :return: the descriptor, for ``remove``.
        """
        self._reactor.removeReader(transport)
        descriptor: int = transport.fileno()
        self._epoll.register(descriptor, _READABLE)
        if not self._polled:
            self._reactor.addReader(self)
        self._polled[descriptor] = (transport.getHandle().recv, received, transport, source)
        return descriptor

    def remove(self, descriptor: int) -> None:
        """Stop reading a socket, if it was not removed already. Call this before the socket is
        closed, or in the same turn of the reactor, because its number may be used again later.
        """
        if self._polled.pop(descriptor, None) is None:
            return
        self._left.pop(descriptor, None)
        if not self._polled:
            self._reactor.removeReader(self)
        with contextlib.suppress(OSError):  # the system removes a closed socket itself
            self._epoll.unregister(descriptor)

    # Methods that the reactor calls

    def fileno(self) -> int:
        """Return the descriptor of the epoll object. Called by Twisted."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """Return the prefix for log lines. Called by Twisted."""
        return "poller"

    def doRead(self) -> None:
        """Read the readable sockets. Called by Twisted."""
        self._turn.begin()
        try:
            self._read()
        finally:
            self._turn.end()

    def _read(self) -> None:
        polled, seconds = self._polled, self._seconds
        ready, self._left = self._left, {}
        for descriptor, event in self._epoll.poll(0, AT_ONCE):
            ready[descriptor] = event
        spent: dict[Hashable, float] = {}
        used_up: set[Hashable] = set()
        begun = before = seconds()
        worked = self._worked()
        for descriptor, event in ready.items():
            try:
                recv, received, transport, source = polled[descriptor]
            except KeyError:
                continue  # data of another socket has led to its removal
            if source in used_up:
                self._left[descriptor] = event
                continue
            data = b""
            if event == _READABLE:
                try:
                    data = recv(RECEIVE)
                except BlockingIOError:
                    continue
                except OSError:
                    pass  # the reactor will find the error too
            if not data:
                self.remove(descriptor)
                transport.resumeProducing()
                continue
            try:
                received(data)
            except Exception:  # noqa: BLE001  the other sockets must be read all the same
                self._log.failure("while data was received")
                self.remove(descriptor)
                transport.abortConnection()
            now = seconds()
            spent[source] = taken = spent.get(source, 0.0) + now - before
            before = now
            # Time in which the system ran other processes is not counted.
            if taken >= SHARE and taken - (now - begun - self._worked() + worked) >= SHARE:
                used_up.add(source)

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing. Called by Twisted when it can't wait for the descriptor any more."""
