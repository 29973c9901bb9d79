"""Logins: the sessions of this node, from the request for a name to the end of the connection.

The state decides in its turn who may have a name; before that only a full server and too many
logins are refused. This module must not know sockets, protocols, or how messages are delivered.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from chat_twisted.core.commands import Acknowledge, Arrive, Command, Detach, Login, new_id
from chat_twisted.core.delivery import Delivery
from chat_twisted.core.entries import LoggedIn, Result
from chat_twisted.core.errors import AuthenticationRequired, ChatError, NameInUse, Unavailable
from chat_twisted.core.limits import Limiter
from chat_twisted.core.message import fold
from chat_twisted.core.presence import Watchers
from chat_twisted.core.sessions import Request, Session
from chat_twisted.core.state import State

RETRY_WHEN_FULL = 30
"""Seconds after which it may be worth trying again when the server is full."""

TRY_AGAIN = 10
"""Seconds after which a command that must be written is proposed again, if it could not be."""


class Logins:
    """Logs sessions in and out.

    :ivar count: the number of sessions that are logged in, or have asked to be.
    :param state: returns the state, which may be ahead of what is delivered.
    :param propose: proposes a command; it raises ``Unavailable`` if too much waits to be written.
    :param clock: a monotonic clock.
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
        node: int,
        max_clients: int,
    ) -> None:
        self.count = 0
        self._state = state
        self._propose = propose
        self._delivery = delivery
        self._watchers = watchers
        self._limiter = limiter
        self._clock = clock
        self._node = node
        self._max_clients = max_clients
        self._stopping = False

    def login(
        self,
        session: Session,
        name: str,
        *,
        token: str | None = None,
        proof: str = "",
        present: bool = True,
        label: str | None = None,
    ) -> Request:
        """Ask for a name. ``Session.registered`` or ``Session.refused`` follows.

        :param token: one that lets the user in, if the client has any.
        :param proof: the key, or the stored hash of the password, by which it was verified that the
            asker owns the account.
        :param present: whether the session is there to get messages; else it must ``arrive``.
        :raises TooFast: too many from this address have asked for a name.
        :raises Unavailable: the server is full, or can't write.
        """
        now = self._clock.seconds()
        self._limiter.login(session.host, now)
        if self.count >= self._max_clients:
            self._check_name(name, token, proof, session)
            raise Unavailable("the server is full", retry_after=RETRY_WHEN_FULL)
        session.token = secrets.token_urlsafe(16)
        policy = session.policy
        command = Login(
            name,
            new_id(),
            _digest(session.token),
            _digest(token) if token else b"",
            proof,
            policy.keeps_name,
            present,
            policy.may_authenticate,
            session.host or "",
            self._node,
        )
        request = Request(session, command, token or "", label)
        self._propose(command, request)
        session.allowance = self._limiter.session(session.host, now)
        session.present = present
        self.count += 1
        return request

    def _check_name(self, name: str, token: str | None, proof: str, session: Session) -> None:
        """Refuse what would be refused on a server that is not full, too."""
        user = self._state().names.get(fold(name))
        if user is None or proof or (token and user.find_token(_digest(token))):
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
        if not session.ended:
            self.count -= 1
            session.refused(request, result)

    def _logged_in(self, session: Session, request: Request, login: LoggedIn) -> None:
        session.user, session.epoch = login.user, login.epoch
        session.may_be_duplicate = not login.new
        if login.token != _digest(session.token):
            session.token = request.argument
        request.argument = ""
        if session.ended:  # it went before it was answered; a new user could not come back
            self.end(Detach(login.user, login.epoch, for_good=login.new))
            return
        self._delivery.attach(session, login.rooms)
        session.registered(request, login)

    def arrive(self, session: Session, resume: int | None = None) -> None:
        """Bring messages to a session from now on: first those that it missed.

        :param resume: the number of the last message that the session has. Without it, what the
            user has not confirmed counts as missed, without what the user sent.
        """
        if session.present:
            self._delivery.arrive(session, resume)
        else:
            command = Arrive(session.user, session.epoch)
            self._propose(command, Request(session, command))

    def arrived(self, session: Session) -> None:
        """Called when it has been committed that a session is present."""
        session.present = True
        self._delivery.arrive(session)

    def leave(self, session: Session, *, for_good: bool) -> None:
        """Log out a session whose connection is gone.

        :param for_good: the user said so; a guest's name is free if this was the last session.
        """
        if session.ended:
            return
        user, epoch = session.user, session.epoch
        self.detach(session)
        if epoch and (for_good or not self._stopping):  # without one, ``_logged_in`` does it
            self.end(Detach(user, epoch, for_good))

    def stop(self) -> None:
        """Called when connections end since the server does. Nothing is said of their sessions: the
        next start ends them, so that guests are held from then on.
        """
        self._stopping = True

    def detach(self, session: Session) -> None:
        """Deliver nothing more to a session."""
        user = session.user
        confirmed = self._delivery.detach(session)
        self._watchers.watching.pop(session, None)
        self.count -= 1
        known = self._state().users.get(user)
        if session.policy.confirms and known is not None and confirmed > known.cursor:
            # Now, since whoever comes back is brought what comes after it.
            with contextlib.suppress(Unavailable):
                self._propose(Acknowledge(((user, confirmed),)), None)

    def end(self, command: Detach) -> None:
        """Propose that a session is gone, again and again until that is taken."""
        try:
            self._propose(command, Request(None, command))
        except Unavailable:
            self.end_later(command)

    def end_later(self, command: Detach) -> None:
        """Propose it after a while: now it could not be written."""
        self._clock.callLater(TRY_AGAIN, self.end, command)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
