"""The turns in which connections without a door take their next step.

A step is a TLS handshake or the selection of a door. Each takes about a millisecond, so only some
are taken in one turn of the reactor, and addresses take turns. This module must not know what a
step does.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.limits import network

STEPS_AT_ONCE = 8
"""Maximum number of TLS handshakes and of door selections in one turn of the reactor; each takes
about a millisecond."""

SHARE = 0.005
"""Seconds after which no further step begins in a turn. An SSH client may send its half of the key
exchange with its first bytes, which takes five milliseconds with an RSA key."""


class Waiter(Protocol):
    """A connection that waits for its turn."""

    @property
    def host(self) -> str | None:
        """The peer's address; None for a local socket."""

    def go_on(self) -> None:
        """Take the next step."""


class _Waiting:
    """The connections of one address that wait for their turn.

    Those that can get their door come before those that begin a TLS handshake. Otherwise each of
    many connections would have to wait twice for all others, and too many would be in a handshake.
    """

    __slots__ = ("_for_door", "_for_tls")

    def __init__(self) -> None:
        self._for_door: dict[Waiter, None] = {}
        self._for_tls: dict[Waiter, None] = {}

    def __bool__(self) -> bool:
        return bool(self._for_door or self._for_tls)

    def add(self, connection: Waiter, *, begins_tls: bool) -> None:
        """Add a connection."""
        (self._for_tls if begins_tls else self._for_door)[connection] = None

    def discard(self, connection: Waiter) -> None:
        """Remove a connection, if it waits."""
        self._for_door.pop(connection, None)
        self._for_tls.pop(connection, None)

    def take(self) -> Waiter:
        """Remove the connection whose turn it is, and return it."""
        waiting = self._for_door or self._for_tls
        connection = next(iter(waiting))
        del waiting[connection]
        return connection


class Turns:
    """The connections whose next step is due, by address.

    :param clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._ready: dict[str, _Waiting] = {}
        self._going_on: IDelayedCall | None = None

    def add(self, connection: Waiter, *, begins_tls: bool) -> None:
        """Call ``go_on`` of a connection in the turn of its address. Hundreds of connections may
        arrive at once, and must not delay everybody else.

        :param begins_tls: whether a TLS handshake begins; otherwise the connection gets its door.
        """
        waiting = self._ready.setdefault(network(connection.host or ""), _Waiting())
        waiting.add(connection, begins_tls=begins_tls)
        if self._going_on is None:
            self._going_on = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._going_on = None
        end = self._clock.seconds() + SHARE
        for _ in range(STEPS_AT_ONCE):
            if not self._ready:
                return
            name, waiting = next(iter(self._ready.items()))
            del self._ready[name]
            connection = waiting.take()
            if waiting:
                self._ready[name] = waiting  # after the other addresses
            connection.go_on()
            if self._clock.seconds() >= end:
                break
        if self._ready:
            self._going_on = self._clock.callLater(0, self._go_on)

    def discard(self, connection: Waiter) -> None:
        """Remove a connection, if it waits."""
        name = network(connection.host or "")
        waiting = self._ready.get(name)
        if waiting is not None:
            waiting.discard(connection)
            if not waiting:
                del self._ready[name]
