"""Logins: login and logout of the sessions of this node.

The state decides whether a session gets its name; this module refuses a login only if the server is
full or there are too many logins. It must not know sockets, protocols, or how messages are
delivered.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.commands import Acknowledge, Arrive, Command, Detach, Login, new_id
from chat_twisted.core.delivery import Delivery
from chat_twisted.core.entries import LoggedIn, Result
from chat_twisted.core.errors import AuthenticationRequired, ChatError, NameInUse, Unavailable
from chat_twisted.core.limits import Limiter
from chat_twisted.core.presence import Watchers
from chat_twisted.core.sessions import Request, Session
from chat_twisted.core.state import State
from chat_twisted.metrics import Refusals

RETRY_WHEN_FULL = 30
"""Seconds after which clients may retry if the server is full."""

TOLD_AT_ONCE = 6000
"""Number of times in about one turn of the reactor that a session which follows everybody is told
of a user who comes or goes; each takes about 5 microseconds. The rest waits for the next turns."""

GUEST, ACCOUNT = "guest", "account"
"""The kinds of users that log in."""

TRY_AGAIN = 10
"""Seconds after which a command that must not be lost is proposed again."""


class Logins:
    """Logs sessions in and out.

    :ivar count: the number of sessions that are logged in or have asked for it.
    :ivar accepted: the number of logins of guests and of accounts.
    :ivar refused: the refused logins.
    :param state: returns the state, which may be ahead of the delivery.
    :param propose: proposes a command; raises ``Unavailable`` if too many commands wait.
    :param clock: a monotonic clock.
    :param settled: the time of day, protected from jumps of the wall clock.
    :param node: the number of this node.
    :param max_clients: the maximum number of sessions.
    """

    def __init__(
        self,
        state: Callable[[], State],
        propose: Callable[[Command, Request | None], None],
        delivery: Delivery,
        watchers: Watchers[Session],
        limiter: Limiter,
        clock: IReactorTime,
        settled: Callable[[], float],
        node: int,
        max_clients: int,
    ) -> None:
        self.count = 0
        self.accepted = {GUEST: 0, ACCOUNT: 0}
        self.refused = Refusals()
        self._state = state
        self._propose = propose
        self._delivery = delivery
        self._watchers = watchers
        self._limiter = limiter
        self._clock = clock
        self._settled = settled
        self._node = node
        self._max_clients = max_clients
        self._stopping = False
        self._taken = 0  # logins and logouts that were proposed in this turn of the reactor
        self._queue: deque[Request] = deque()  # those that wait for a later turn
        self._next_turn: IDelayedCall | None = None

    def login(
        self,
        session: Session,
        name: str,
        *,
        token: str | None = None,
        new_token: str | None = None,
        proof: str = "",
        present: bool = True,
        real_name: str | None = None,
        bot: bool | None = None,
        login_name: str | None = None,
        label: str | None = None,
    ) -> Request:
        """Log in a session. Later ``Session.registered`` or ``Session.refused`` is called.

        :param token: the token that the client has sent, or None.
        :param new_token: the token to use unless ``token`` is valid; None for a random one.
        :param proof: the verified proof (``commands.Login``); empty without one.
        :param present: whether messages reach the session from the login on; otherwise it must
            ``arrive``.
        :param real_name, bot, login_name: as in ``commands.Login``; None for what they were before.
        :param label: the client's own mark of the request, or None.
        :return: the request with which they are called.
        :raises TooFast: if there were too many logins from this address.
        :raises Unavailable: if the server is full, or too many commands wait.
        """
        now = self._clock.seconds()
        try:
            self._check(session, name, token, proof, now)
        except ChatError as error:
            self.refused.add(error)
            raise
        session.token = new_token or secrets.token_urlsafe(16)
        policy = session.policy
        command = Login(
            name,
            new_id(),
            digest_of(session.token),
            digest_of(token) if token else b"",
            proof,
            policy.keeps_name,
            present,
            policy.may_authenticate,
            session.host or "",
            self._node,
            int(self._settled() * 1000),
            real_name,
            bot,
            login_name,
        )
        request = Request(session, command, token or "", label)
        self._propose_in_turn(request)
        session.allowance = self._limiter.session(session.host, now)
        session.present = present
        self.count += 1
        return request

    def _check(
        self, session: Session, name: str, token: str | None, proof: str, now: float
    ) -> None:
        """Refuse a login that exceeds the limits."""
        self._limiter.login(session.host, now)
        if self.count >= self._max_clients:
            self._check_name(name, token, proof, session)
            raise Unavailable("the server is full", retry_after=RETRY_WHEN_FULL)

    def _check_name(self, name: str, token: str | None, proof: str, session: Session) -> None:
        """Refuse a login that would also be refused if the server were not full."""
        digest = digest_of(token) if token else b""
        user = self._state().find_user(name, digest)
        if user is None or proof or (digest and user.find_token(digest)):
            return
        if user.account is not None and session.policy.may_authenticate:
            raise AuthenticationRequired
        raise NameInUse

    def answer(self, request: Request, result: Result) -> None:
        """Called when a login has been decided, or has failed."""
        session = request.session
        assert session is not None
        if isinstance(result, LoggedIn):
            self._logged_in(session, request, result)
            return
        assert isinstance(result, ChatError), "a login has no other answer"
        self.refused.add(result)
        if not session.ended:
            self.count -= 1
            session.refused(request, result)

    def _logged_in(self, session: Session, request: Request, login: LoggedIn) -> None:
        session.user, session.epoch = login.user, login.epoch
        session.since = int(self._settled() * 1000)
        user = self._state().users.get(login.user)
        has_account = user is not None and user.account is not None
        self.accepted[ACCOUNT if has_account else GUEST] += 1
        session.may_be_duplicate = not login.new
        if login.token != digest_of(session.token):
            session.token = request.argument
        request.argument = ""
        if session.ended:  # the client has no token, so a new user can't return
            self.end(Detach(login.user, login.epoch, for_good=login.new))
            return
        self._delivery.attach(session)
        session.registered(request, login)

    def arrive(self, session: Session, resume: int | None = None) -> None:
        """Start to deliver messages to a session, first those that it has missed.

        :param resume: as in ``Delivery.arrive``.
        """
        if session.present:
            self._delivery.arrive(session, resume)
        else:
            command = Arrive(session.user, session.epoch)
            self._propose(command, Request(session, command))

    def arrived(self, session: Session) -> None:
        """Called when an ``Arrive`` of a session is committed."""
        session.present = True
        self._delivery.arrive(session)

    def leave(self, session: Session, *, for_good: bool, reason: str = "") -> None:
        """Log out a session whose connection has ended.

        :param for_good: whether the user has ended it; if it was the last session of a guest, the
            name is free then.
        :param reason: the reason that the user gave, for others; it is left out if it is not valid.
        """
        if session.ended:
            return
        user, epoch = session.user, session.epoch
        self.detach(session)
        if epoch and (for_good or not self._stopping):  # without an epoch ``_logged_in`` does it
            self.end(Detach(user, epoch, for_good, reason))

    def stop(self) -> None:
        """Called when the server stops. Sessions are not ended in the state any more; the next
        start does that, so that guests are held from then on.
        """
        self._stopping = True

    def detach(self, session: Session) -> None:
        """Stop to deliver to a session."""
        user = session.user
        confirmed = self._delivery.detach(session)
        self._watchers.watching.pop(session, None)
        self.count -= 1
        known = self._state().users.get(user)
        if session.policy.confirms and known is not None and confirmed > known.cursor:
            # At once, because the user's next session starts after the stored cursor, unless it is
            # on this node.
            with contextlib.suppress(Unavailable):
                self._propose(Acknowledge(((user, confirmed),)), None)

    def end(self, command: Detach) -> None:
        """Propose a ``Detach``, and again until it is committed."""
        request = Request(None, command)
        try:
            self._propose_in_turn(request)
        except Unavailable:
            self.end_later(command)

    @property
    def waiting(self) -> int:
        """The number of logins and logouts that wait for a later turn of the reactor."""
        return len(self._queue)

    def _propose_in_turn(self, request: Request) -> None:
        """Propose a login or a logout, now or in a later turn of the reactor; their order stays."""
        followers = self._delivery.routes.follower_count
        if not followers and not self._queue:
            self._propose(request.command, request)
            return
        if self._next_turn is None:
            self._next_turn = self._clock.callLater(0, self._begin_turn)
        if self._queue or self._taken * followers >= TOLD_AT_ONCE:
            self._queue.append(request)
        else:
            self._taken += 1
            self._propose(request.command, request)

    def _begin_turn(self) -> None:
        self._next_turn = None
        self._taken = 0
        followers = self._delivery.routes.follower_count
        while self._queue and self._taken * followers < TOLD_AT_ONCE:
            self._taken += 1
            self._propose_late(self._queue.popleft())
        if self._taken:
            self._next_turn = self._clock.callLater(0, self._begin_turn)

    def _propose_late(self, request: Request) -> None:
        command = request.command
        try:
            self._propose(command, request)
        except Unavailable as error:
            if isinstance(command, Detach):
                self.end_later(command)
            else:
                self.answer(request, error)

    def end_later(self, command: Detach) -> None:
        """Propose a ``Detach`` again after ``TRY_AGAIN`` seconds."""
        self._clock.callLater(TRY_AGAIN, self.end, command)


def digest_of(token: str) -> bytes:
    """Return the digest by which the state knows a token."""
    return hashlib.sha256(token.encode()).digest()
