"""The usage of sessions: requests, answers, and work that takes time are counted for rate limits.

``limits`` has the buckets; this module finds those of a session. It must not know the requests.
Messages are counted by ``Hub.send`` directly, because each call would cost time.
"""

from __future__ import annotations

import math
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from chat_twisted.core.errors import TooFast
from chat_twisted.core.limits import Allowance, Limiter, network
from chat_twisted.core.sessions import Session
from chat_twisted.core.turns import Asker, unlimited


class Asking(Protocol):
    """A session, or a peer that has none yet.

    :ivar host: the peer's address; None for a local socket.
    :ivar allowance: what it may use; None if it is not limited, or not known yet.
    """

    host: str | None
    allowance: Allowance | None


class Usage:
    """Counts the usage of sessions.

    :param limiter: the limits of addresses.
    :param clock: a monotonic clock.
    """

    def __init__(self, limiter: Limiter, clock: IReactorTime) -> None:
        self._limiter = limiter
        self._clock = clock

    def spend(self, session: Session) -> None:
        """Count a request that is not a message as one message without text.

        :raises TooFast: if there were too many.
        """
        if session.allowance is not None:
            session.allowance.spend(0, self._clock.seconds())

    def charge(self, session: Session, octets: int) -> None:
        """Count the length of an answer as if the session had sent that much."""
        if session.allowance is not None:
            session.allowance.charge(octets)

    def work_wait(self, session: Asking) -> float:
        """Return the seconds until more work may be done for a session; 0 if it may be done now."""
        allowance = session.allowance
        return 0.0 if allowance is None else allowance.work_wait(self._clock.seconds())

    def asker(self, session: Asking) -> Asker:
        """Return the asker for work of a session, even if it has used too much."""
        source = id(session) if session.host is None else network(session.host)
        allowance = session.allowance
        if allowance is None:
            return unlimited(source)
        return Asker(source, lambda took: allowance.charge_work(took, self._clock.seconds()))

    def checked_asker(self, session: Asking) -> Asker:
        """Return the asker for work of a session, which need not be logged in.

        :raises TooFast: if the session has used too much time.
        """
        if session.allowance is None:
            session.allowance = self._limiter.session(session.host, self._clock.seconds())
        if wait := self.work_wait(session):
            raise TooFast("too much work", retry_after=math.ceil(wait))
        return self.asker(session)
