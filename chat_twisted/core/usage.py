"""What sessions use of what is limited: their requests, their answers, and work that takes time.

``limits`` does the counting; here it is found for a session. This module must not know what is
asked. Messages are not counted here but where they are sent, since every call counts there.
"""

from __future__ import annotations

import math

from twisted.internet.interfaces import IReactorTime

from chat_twisted.core.errors import TooFast
from chat_twisted.core.limits import Limiter, network
from chat_twisted.core.sessions import Session
from chat_twisted.core.turns import Asker, unlimited


class Usage:
    """Charges sessions for what they cost.

    :param clock: a monotonic clock.
    """

    def __init__(self, limiter: Limiter, clock: IReactorTime) -> None:
        self._limiter = limiter
        self._clock = clock

    def spend(self, session: Session) -> None:
        """Count a request that is no message as one.

        :raises TooFast: there were too many.
        """
        if session.allowance is not None:
            session.allowance.spend(0, self._clock.seconds())

    def charge(self, session: Session, octets: int) -> None:
        """Count the length of an answer as if the session had sent that much."""
        if session.allowance is not None:
            session.allowance.charge(octets)

    def work_wait(self, session: Session) -> float:
        """Return after how many seconds more work may be done for a session; 0 if it may now."""
        allowance = session.allowance
        return 0.0 if allowance is None else allowance.work_wait(self._clock.seconds())

    def asker(self, session: Session) -> Asker:
        """Return the asker that is charged for work that a session causes, whether it may cause
        more now or not.
        """
        source = session if session.host is None else network(session.host)
        allowance = session.allowance
        if allowance is None:
            return unlimited(source)
        return Asker(source, lambda took: allowance.charge_work(took, self._clock.seconds()))

    def checked_asker(self, session: Session) -> Asker:
        """Return the asker for work that a session asks for, logged in or not.

        :raises TooFast: the session has caused too much work.
        """
        if session.allowance is None:
            session.allowance = self._limiter.session(session.host, self._clock.seconds())
        if wait := self.work_wait(session):
            raise TooFast("too much work", retry_after=math.ceil(wait))
        return self.asker(session)
