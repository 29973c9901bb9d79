"""Reads many connections in one call of the reactor.

To call what reads a socket takes the reactor more than a microsecond, most of it to tell the log
whose it is. Where each reading brings one message, that is a tenth of all that a message costs. A
``Poller`` is one thing to the reactor: an epoll of its own, which is readable when any socket in it
is.

It knows sockets and transports, and nothing of what is read. What is not simply data, it leaves for
the reactor to find: an end, a failure.
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
"""Bytes that are read from a socket at once. However short the requests among them are, they take
a few milliseconds."""

AT_ONCE = 256
"""Sockets that are read in one turn of the reactor, so that many that are readable at once don't
keep the rest of it waiting. The system hands out first those that are left."""

SHARE = 0.01
"""Seconds that what one source has sent may take in one turn of the reactor. The rest stays in its
sockets, where more gathers, which is taken with it in a later turn. To commit and to deliver it
takes about as long again, so nobody else waits for more than some forty milliseconds."""

_READABLE = getattr(select, "EPOLLIN", 0)  # not every system has it; see Poller.over


# The function that receives from a socket, the callback for its data, the transport, the source.
_Polled = tuple[Callable[[int], bytes], Callable[[bytes], None], Any, Hashable]


@implementer(IReadDescriptor)
class Poller:
    """Reads the sockets that it is given, in place of the reactor.

    :param reactor: where it is read itself, while it has any.
    :param turn: is told when all of them were read that were readable at once.
    :param seconds: a monotonic clock.
    :param worked: how many seconds of the processor's time this thread has had.
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
        # What was readable, and not read since others of its source had taken long: it is first in
        # the next turn. The number is what the system said of it.
        self._left: dict[int, int] = {}

    @classmethod
    def over(cls, reactor: Any, turn: EndOfTurn) -> Poller | None:
        """Make one if this can be: the system has epoll, and ``reactor`` waits for descriptors."""
        possible = hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)
        return cls(reactor, turn, reactor.seconds) if possible else None

    def add(
        self, transport: Any, received: Callable[[bytes], None], source: Hashable = None
    ) -> int:
        """Read from ``transport``'s socket, and call ``received`` with what comes; return what it
        is known as to ``remove``. At the end of what comes, or if reading fails, it is forgotten,
        and ``transport.resumeProducing`` called: the reactor meets the same.

        :param source: whose time it takes: of each as much as ``SHARE`` in one turn.
        """
        self._reactor.removeReader(transport)
        descriptor: int = transport.fileno()
        self._epoll.register(descriptor, _READABLE)
        if not self._polled:
            self._reactor.addReader(self)
        self._polled[descriptor] = (transport.getHandle().recv, received, transport, source)
        return descriptor

    def remove(self, descriptor: int) -> None:
        """Read from a socket no more, if it is not forgotten already. To be called before it is
        closed, or in the same turn of the reactor: its number may be another's after that.
        """
        if self._polled.pop(descriptor, None) is None:
            return
        self._left.pop(descriptor, None)
        if not self._polled:
            self._reactor.removeReader(self)
        with contextlib.suppress(OSError):  # it is closed, and so is not in there any more
            self._epoll.unregister(descriptor)

    # What the reactor asks

    def fileno(self) -> int:
        """Twisted: what is to be waited for."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """Twisted: whose log lines they are."""
        return "poller"

    def doRead(self) -> None:
        """Twisted: some socket can be read from."""
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
                continue  # what came from another was the end of it
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
                    pass  # the reactor will meet it, too
            if not data:
                self.remove(descriptor)
                transport.resumeProducing()
                continue
            try:
                received(data)
            except Exception:  # noqa: BLE001  a fault with one must not keep the others waiting
                self._log.failure("while taking what came")
                self.remove(descriptor)
                transport.abortConnection()
            now = seconds()
            spent[source] = taken = spent.get(source, 0.0) + now - before
            before = now
            # Time in which the system let other processes have the processor is nobody's.
            if taken >= SHARE and taken - (now - begun - self._worked() + worked) >= SHARE:
                used_up.add(source)

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: it can't be waited for any more."""
