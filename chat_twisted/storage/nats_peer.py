"""The part of the log on NATS that a node needs before its reactor runs: on asyncio's own loop.

A new node asks the log what it stores, and other nodes for a copy of the archive (``joining``).
This module must not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from chat_twisted.storage.log import Bounds
from chat_twisted.storage.nats import NatsLog


class NatsPeer:
    """A node that asks, and neither follows nor answers. Made and used in a coroutine.

    :param urls: see ``NatsLog``, as the others.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        credentials: str | None = None,
        ca: str | None = None,
        name: str = "chat",
        may_make: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        clock = _LoopClock(self._loop)
        self._log = NatsLog(
            urls, clock, credentials=credentials, ca=ca, name=name, may_make=may_make
        )
        self._log.start()

    def bounds(self) -> Awaitable[Bounds]:
        """See ``Log.bounds``."""
        return self._log.bounds().asFuture(self._loop)

    def look(self) -> Awaitable[Bounds | None]:
        """See ``NatsLog.look``."""
        return self._log.look().asFuture(self._loop)

    def ask(self, topic: str, data: bytes, patience: float) -> Awaitable[bytes]:
        """See ``Log.ask``."""
        return self._log.ask(topic, data, patience).asFuture(self._loop)

    async def close(self) -> None:
        """Close the connection."""
        await self._log.close().asFuture(self._loop)


@implementer(IReactorTime)
class _LoopClock:
    """The clock of an asyncio loop, as far as ``NatsLog`` needs one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def seconds(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call ``callable`` after ``delay`` seconds."""
        return _Later(self._loop, delay, lambda: callable(*args, **kw))

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Not known."""
        return []


@implementer(IDelayedCall)
class _Later:
    """A call of the loop, with Twisted's methods."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delay: float, call: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._call = call
        self._timer: asyncio.TimerHandle | None = loop.call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self._call()

    def active(self) -> bool:
        """Return whether it is still to be made."""
        return self._timer is not None

    def cancel(self) -> None:
        """Don't make it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reset(self, secondsFromNow: float) -> None:
        """Make it later, or sooner."""
        self.cancel()
        self._timer = self._loop.call_later(secondsFromNow, self._due)

    def delay(self, secondsLater: float) -> None:
        """Make it later."""
        self.reset(self.getTime() - self._loop.time() + secondsLater)

    def getTime(self) -> float:
        """Return when it will be made."""
        return 0.0 if self._timer is None else self._timer.when()
