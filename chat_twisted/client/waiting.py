"""Deferreds for the coroutines of bots.

A coroutine may be run by Twisted (``Deferred.fromCoroutine``), or as an asyncio task on the asyncio
reactor. This module must not know who waits, or for what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class FutureLikeDeferred(Deferred[T]):
    """A Deferred that an asyncio task can await too.

    Twisted accepts a Deferred that a coroutine yields. asyncio accepts an object that looks like a
    Future, which it checks by ``_asyncio_future_blocking`` (see ``asyncio.isfuture``). This class
    is both, so it works under both. Detecting the caller instead would fail for a task that starts
    a coroutine of Twisted within its own step.
    """

    _asyncio_future_blocking = False
    _future: asyncio.Future[T] | None = None

    def __await__(self) -> Generator[Any, None, T]:
        if not self.called:
            self._asyncio_future_blocking = True
            yield self
            if self._future is not None:
                return self._future.result()
        return (yield from self.__iter__())

    # The methods of a Future that asyncio calls

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the task that waits. Called by asyncio."""
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Call ``callback`` when this has fired. Called by asyncio."""
        self._future = self.asFuture(asyncio.get_running_loop())
        self._future.add_done_callback(callback, context=context)

    def cancel(self, msg: Any = None) -> bool:  # type: ignore[override]
        """Cancel the Deferred. Called by asyncio."""
        super().cancel()
        return False  # the task then raises its own CancelledError


def future_like(deferred: Deferred[T]) -> FutureLikeDeferred[T]:
    """Wrap ``deferred`` so that asyncio can await it too."""
    wait: FutureLikeDeferred[T] = FutureLikeDeferred(lambda _: deferred.cancel())
    deferred.addCallbacks(wait.callback, wait.errback)
    return wait


class Notifier:
    """Wakes all waiting coroutines at once; it can be waited for and notified repeatedly."""

    def __init__(self) -> None:
        self._waiting: dict[FutureLikeDeferred[None], None] = {}

    async def wait(self) -> None:
        """Wait until the next ``notify_all``."""
        wait: FutureLikeDeferred[None] = FutureLikeDeferred(
            lambda wait: self._waiting.pop(wait, None)  # type: ignore[call-overload]
        )
        self._waiting[wait] = None
        await wait

    def notify_all(self) -> None:
        """Wake all waiting coroutines."""
        waiting, self._waiting = self._waiting, {}
        for wait in waiting:
            if not wait.called:  # not cancelled by a coroutine that was woken earlier
                wait.callback(None)
