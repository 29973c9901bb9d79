"""The archive in memory, without threads: what is asked of it is done in later turns of a Clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import argon2
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from chat_twisted import archive
from chat_twisted.accounts import Accounts, Passwords
from chat_twisted.ledger import EmbeddedLedger


class InlineStore:
    """A ``ledger.Store``.

    ``broken`` is what writing fails with, ``unreadable`` what reading does; None if they work.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.connection = sqlite3.connect(":memory:")
        archive.migrate(self.connection)
        self.broken: Exception | None = None
        self.unreadable: Exception | None = None
        self.closed = False
        self.seconds = 0.0  # that each thing takes

    def write(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        return self._later(lambda: self.broken, function, args, kw)

    def read(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        return self._later(lambda: self.unreadable, function, args, kw)

    def _later(self, fault, function, args, kw) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def run() -> None:
            try:
                if fault() is not None:
                    raise fault()
                result = function(self.connection.cursor(), *args, **kw)
                self.connection.commit()
            except Exception:  # noqa: BLE001  handed on
                self.connection.rollback()
                done.errback()
            else:
                done.callback(result)

        self.clock.callLater(self.seconds, run)
        return done

    def close(self) -> None:
        self.closed = True

    def saved(self) -> archive.Saved:
        """What a server that starts now finds."""
        cursor = self.connection.cursor()
        while archive.index(cursor, 10_000):  # as ``archive.prepare`` does
            pass
        self.connection.commit()
        return archive.load(cursor)

    def ledger(self, **options: Any) -> EmbeddedLedger[Any]:
        """A ledger as a server that starts now makes it."""
        return EmbeddedLedger(self, self.saved(), self.clock, **options)


def settle(clock: Clock) -> None:
    """Let everything happen that is to happen now, though each step may ask for another turn."""
    for _ in range(12):
        clock.advance(0)


def quick_accounts() -> Accounts:
    """A registry of accounts whose passwords cost little, and no thread."""

    def at_once(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return maybeDeferred(function, *arguments)

    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return Accounts(Passwords(at_once, hasher))
