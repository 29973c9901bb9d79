"""The threads that hash passwords, beside the thread of the reactor.

This module must not know passwords: it only runs functions.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from chat_twisted.auth.passwords import HASHING_AT_ONCE
from chat_twisted.storage.reading import lower_priority

Result = TypeVar("Result")

HASHING_NICE = 10
"""Niceness that is added to the threads that hash passwords."""


class _YieldingThread(Thread):
    """A thread with a lower priority. The four threads that argon2 starts for a password inherit
    it.
    """

    def run(self) -> None:
        """Lower the priority, and run the thread's function."""
        lower_priority(HASHING_NICE)
        super().run()


class PasswordThreads:
    """Runs functions in threads. No thread starts before the first function: twistd may still fork.

    :param reactor: gets the results.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, HASHING_AT_ONCE, "passwords")
        self._pool.threadFactory = _YieldingThread
        self._pool.start()

    def run(self, function: Callable[..., Result], *arguments: Any) -> Deferred[Result]:
        """Run a function in a thread.

        :return: fires with its result, or fails as it does.
        """
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)

    def stop(self) -> None:
        """End the threads. It waits for at most ``HASHING_AT_ONCE`` passwords."""
        self._pool.stop()
