"""Connects a session again after its connection was lost: to each other host at once, then with
growing delays.

This module must not know how a connection is made, or what is sent on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.client.hosts import Hosts

FIRST_RETRY = 0.5
LONGEST_RETRY = 30
"""Seconds before the first attempt to reconnect, doubled for each further one, and the maximum.
Half of the delay is random, so that the clients of a server don't all reconnect at once. If the
chat has several hosts, this is the delay between two rounds, and the first round has none."""

SETTLED = 2
"""Seconds that a connection must have lasted for the delay between attempts to start again at
``FIRST_RETRY``, and for every host to be tried at once."""


class Reconnection:
    """The attempts to connect a session again.

    :param connect: connects the session; its result fires or fails when that is done.
    :param give_up: called when there are no further attempts.
    :param limit: seconds without an answer from the server after which there are none.
    :param chance: returns a random number from 0 to 1.
    :param hosts: the hosts of the chat; ``connect`` takes the next one.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connect: Callable[[], Deferred[Any]],
        give_up: Callable[[], None],
        limit: float,
        chance: Callable[[], float],
        hosts: Hosts,
    ) -> None:
        self._clock = clock
        self._connect = connect
        self._give_up = give_up
        self._limit = limit
        self._chance = chance
        self._hosts = hosts
        self._attempt: IDelayedCall | None = None
        self._attempts = 0
        self._unanswered_since: float | None = None
        self._has_ended = False

    def answered(self) -> None:
        """Note that the server has answered a request, or that none waits for an answer."""
        self._unanswered_since = None

    def lost(self, lasted: float, *, progress: bool) -> None:
        """Called when the connection is lost, before ``try_later``.

        :param lasted: seconds for which the user was registered on the connection.
        :param progress: whether messages were received that the next connection continues.
        """
        if self._unanswered_since is None:
            self._unanswered_since = self._clock.seconds()
        if progress or lasted >= SETTLED:
            self._attempts = 0
            self._hosts.start_round()

    def try_later(self, *_: object) -> None:
        """Make an attempt: at once if a host was not tried in this round, else after a delay.

        There is none when the time for attempts is over, and no second round before ``lost`` was
        called: the user was never registered.
        """
        if self._has_ended:
            return
        since = self._unanswered_since
        if since is not None and self._clock.seconds() - since > self._limit:
            self._give_up()
            return
        if self._hosts.has_untried:
            self._attempt = self._clock.callLater(0, self._try_now)
            return
        if since is None:
            self._give_up()
            return
        wait = min(LONGEST_RETRY, FIRST_RETRY * 2**self._attempts) * (1 + self._chance()) / 2
        self._attempts = min(self._attempts + 1, 10)
        self._attempt = self._clock.callLater(wait, self._start_round)

    def _start_round(self) -> None:
        self._hosts.start_round(again=True)
        self._try_now()

    def _try_now(self) -> None:
        self._attempt = None
        self._connect().addErrback(self.try_later)

    def next_attempt(self) -> float | None:
        """Return the seconds until the next attempt; None if none is planned."""
        if self._attempt is None:
            return None
        return max(0.0, self._attempt.getTime() - self._clock.seconds())

    def end(self) -> None:
        """Make no further attempt."""
        self._has_ended = True
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
