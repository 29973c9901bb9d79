"""The hub: what the sessions of this node ask.

Doors call it with requests. It proposes commands to the ledger, which has them decided in order;
what becomes of them is in ``outcomes``. Doors use its parts ``logins`` (login and logout),
``queries`` (reading) and ``usage`` (rate limits) directly. Every method returns at once.

Before the order, the hub refuses a request only because of the connection or the server's limits.
This module must not know sockets, storage, protocols, or the rules of the chat.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chat_twisted.core.commands import (
    TEXT,
    Command,
    Delete,
    DuplicateQuery,
    MakeAccount,
    Options,
    Send,
    SetOptions,
    SetPassword,
    Signal,
    Start,
    Turn,
)
from chat_twisted.core.delivery import Delivery, Traffic, by_door
from chat_twisted.core.departures import Departures
from chat_twisted.core.entries import Result
from chat_twisted.core.errors import ChatError, TooFast, Unavailable
from chat_twisted.core.ledger import Ledger
from chat_twisted.core.limits import LINE_OCTETS, Limiter, Limits
from chat_twisted.core.logins import TRY_AGAIN, Logins
from chat_twisted.core.message import Message, fold
from chat_twisted.core.model import User
from chat_twisted.core.ordered import Listing
from chat_twisted.core.outcomes import Outcomes
from chat_twisted.core.presence import (
    GONE,
    Presence,
    Watchers,
    identity,
    identity_of,
    presence_of,
)
from chat_twisted.core.queries import Queries
from chat_twisted.core.reads import Reads
from chat_twisted.core.recent import Recent
from chat_twisted.core.sessions import Request, Session
from chat_twisted.core.state import State
from chat_twisted.core.turns import Asker
from chat_twisted.core.usage import Usage
from chat_twisted.logs import Logger

Hashing = Callable[[Asker], Deferred[str]]
"""Type of a function that hashes a password, which the hub never sees; it may raise a
``ChatError``."""


class Population(NamedTuple):
    """The number of present users, sessions of this node, held guests, accounts and rooms; and the
    number of the newest message.
    """

    users: int
    sessions: int
    held: int
    accounts: int
    rooms: int
    newest: int


class Hub:
    """The hub of one node.

    :ivar logins, queries, usage, departures: its parts for doors.
    :param ledger: decides and stores commands.
    :param reads: reads stored messages.
    :param clock: a monotonic clock.
    :param wall: returns the time of day, in seconds since the epoch.
    :param settled: the same, protected from jumps of the wall clock (``clocks.SettledTime``).
    :param limiter: the limits of addresses.
    :param start: the first command to propose.
    :param newest: the number of the newest stored message, or 0.
    :param max_clients: the maximum number of sessions.
    :param recent: the newest stored messages; None for none.
    """

    _log = Logger()

    def __init__(
        self,
        ledger: Ledger[Request | None],
        reads: Reads,
        clock: IReactorTime,
        wall: Callable[[], float],
        settled: Callable[[], float],
        limiter: Limiter,
        start: Start,
        newest: int,
        *,
        max_clients: int,
        recent: Recent | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self.wall = wall
        self.settled = settled
        self._limiter = limiter
        self._started = True

        def state() -> State:
            return ledger.state

        self.usage = Usage(limiter, clock)
        self.queries = Queries(state, reads, self.usage, self.ask)
        self._delivery = Delivery(reads, clock, state, newest, self.usage, recent)
        self._routes = self._delivery.routes
        self._watchers: Watchers[Session] = Watchers(
            clock, self._routes, self._presence, self._tell_presence
        )
        self.departures = Departures()
        self.logins = Logins(
            state,
            self._propose,
            self._delivery,
            self._watchers,
            limiter,
            clock,
            settled,
            start.node,
            max_clients,
        )
        self._outcomes = Outcomes(
            ledger,
            self._delivery,
            self._watchers,
            self.logins,
            self.departures,
            settled,
            self._start_failed,
        )
        ledger.start(self._outcomes.committed, self._outcomes.failed, self._outcomes.acknowledged)
        ledger.propose(start, None)

    @property
    def state(self) -> State:
        """The state that decides. Don't keep it: the ledger may replace it after a failure."""
        return self._ledger.state

    @property
    def newest(self) -> int:
        """The number of the newest delivered message, or 0."""
        return self._delivery.delivered_number

    # Proposing

    def ask(self, command: Command) -> Deferred[Result]:
        """Propose a command that no session asks for, for example one of the console.

        :return: fires with the result, or fails with a ``ChatError`` if it is refused.
        """
        done: Deferred[Result] = Deferred()

        def answer(result: Result) -> None:
            if isinstance(result, ChatError):
                done.errback(result)
            else:
                done.callback(result)

        try:
            self._propose(command, Request(None, command, done=answer))
        except Unavailable as error:
            done.errback(error)
        return done

    def change_options(self, options: Options) -> Deferred[Result]:
        """Propose other options of the state. See ``ask``."""
        return self.ask(SetOptions(options))

    def change_limits(self, limits: Limits) -> None:
        """Change the limits of addresses, and of all sessions."""
        now = self._clock.seconds()
        self._limiter.change(limits, now)
        for session in self._routes.everybody:
            session.allowance = self._limiter.session(session.host, now)

    def propose(
        self, session: Session, command: Command, argument: str = "", label: str | None = None
    ) -> Request:
        """Propose a command of a session. Later ``Session.answered`` or ``Session.refused`` is
        called.

        :param argument: the name that the request is about, as the client wrote it.
        :param label: the client's own mark of the request, or None.
        :return: the request with which they are called.
        :raises Unavailable: if too many commands wait.
        """
        request = Request(session, command, argument, label)
        self._propose(command, request)
        return request

    def _propose(self, command: Command, request: Request | None) -> None:
        if not self._started:
            raise Unavailable(
                "the server could not write that it has started", retry_after=TRY_AGAIN
            )
        self._ledger.propose(command, request)

    def _start_failed(self, command: Start) -> None:
        """Propose the start again later. Until it is committed, the state still has the sessions of
        the last run.
        """
        self._started = False
        self._clock.callLater(TRY_AGAIN, self._start, command)

    def _start(self, command: Start) -> None:
        self._started = True
        try:
            self._propose(command, None)
        except Unavailable:
            self._start_failed(command)

    def propose_hashed(
        self,
        session: Session,
        command: MakeAccount | SetPassword,
        hashing: Hashing | None,
        argument: str,
        label: str | None,
    ) -> Request:
        """Hash a password, and propose a command with the hash. Hashing is expensive, so first the
        command is checked.

        :param hashing: hashes the password; None if there is none.
        :raises ChatError: if it is refused at once.
        """
        presumed = command if hashing is None else command._replace(hash="to be made")
        self.state.check(presumed, 0)
        if isinstance(command, MakeAccount):
            self._limiter.registration(session.host, self._clock.seconds())
        request = Request(session, command, argument, label)
        if hashing is None:
            self._propose(command, request)
            return request

        def go_on(hash: str) -> None:
            if not session.ended:
                request.command = command._replace(hash=hash)
                self._propose(request.command, request)

        prepared = hashing(self.usage.checked_asker(session)).addCallback(go_on)
        prepared.addErrback(self._not_prepared, request)
        return request

    def propose_delete(
        self, session: Session, number: int, label: str | None, reason: str = ""
    ) -> Request:
        """Read a message, and propose to delete it; the decision depends on its author and target.
        Later ``Session.answered`` or ``Session.refused`` is called.

        :raises TooFast: if the session has read too much.
        """
        reading = self.queries.message(session, number)
        request = Request(session, Turn(), "", label)

        def go_on(message: Message) -> None:
            _, _, author, sender, recipient, room, to, *_, logged = message
            request.command = Delete(
                *(session.user, session.epoch, number, author, recipient, room, logged),
                *(sender, to, reason),
            )
            self._propose(request.command, request)

        reading.addCallback(go_on).addErrback(self._not_prepared, request)
        return request

    def _not_prepared(self, failure: Failure, request: Request) -> None:
        """Refuse a request whose command could not be made."""
        error = failure.value
        if not isinstance(error, ChatError):
            self._log.failure("while a command was prepared", failure)
            error = Unavailable("can't prepare", retry_after=TRY_AGAIN)
        # Only after the caller has got the request.
        self._clock.callLater(0, self._outcomes.answer, request, error, None)

    # Messages

    def send(
        self,
        session: Session,
        to: str,
        text: str,
        label: str | None = None,
        key: str | None = None,
        kind: int = TEXT,
    ) -> Request:
        """Send a message to a user, a room or ALL.

        Later ``Session.sent`` or ``Session.refused`` is called, and for a direct message
        ``Session.delivered`` or ``Session.undelivered``; but never before this method returns.

        :param label: the client's own mark of the request, or None.
        :param key: the deduplication key (``commands.Send``).
        :return: the request with which they are called.
        :raises TooFast: if the message exceeds a rate limit.
        :raises Unavailable: if too many commands wait.
        """
        allowance = session.allowance
        if allowance is not None:
            octets = len(text) if text.isascii() else len(text.encode())
            octets += text.count("\n") * LINE_OCTETS
            try:
                allowance.spend(octets, self._clock.seconds())
            except TooFast as refusal:
                # If it was sent before and only the answer was lost, answer again.
                if key is None or not session.may_be_duplicate:
                    raise
                request = self.propose(session, DuplicateQuery(session.user, key), to, label)
                request.refusal = refusal
                return request
        session.spoke = now = int(self.wall() * 1000)
        command = Send(
            session.user,
            session.epoch,
            to,
            text,
            now,
            key,
            kind,
            session.policy.reaches_absent,
        )
        request = Request(session, command, to, label)
        self._propose(command, request)
        return request

    def signal(self, session: Session, to: str, content: str, label: str | None = None) -> Request:
        """Pass something on to other sessions that is not kept; it counts as a message.

        Later ``Session.answered`` or ``Session.refused`` is called.

        :param to: a user, a room or ALL.
        :param label: the client's own mark of the request, or None.
        :return: the request with which they are called.
        :raises TooFast: if it exceeds a rate limit.
        :raises Unavailable: if too many commands wait.
        """
        if session.allowance is not None:
            session.allowance.spend(len(content.encode()), self._clock.seconds())
        return self.propose(session, Signal(session.user, session.epoch, to, content), to, label)

    def received(self, session: Session, number: int) -> None:
        """Note that a client has confirmed all messages up to ``number``."""
        cursor = self._delivery.received(session, number)
        if cursor:
            self._ledger.acknowledge(session.user, cursor, lasting=session.policy.confirms)

    def rejected(self, session: Session, number: int) -> None:
        """Note that a client could not read the message ``number``, and has all before it."""
        self.received(session, number - 1)
        self._delivery.rejected(session, number)

    def name_of(self, session: Session) -> str:
        """Return the name of a session's user; empty before the login and after the end."""
        return "" if session.ended else self._routes.name_of(session.user)

    def who(self, after: str = "") -> Listing[User]:
        """Return the present users in the order of their names.

        :param after: the folded name after which the items begin.
        """
        present = self.state.present
        return Listing(len(present), present.after(after))

    def confirmed(self, user: User) -> int:
        """Return the number up to which a user has confirmed all messages."""
        return self._delivery.confirmed(user)

    def sessions_of(self, user: User) -> Collection[Session]:
        """Return the sessions of a user on this node."""
        return self._routes.of_user(user.id)

    def population(self) -> Population:
        """Count the users, sessions, held guests, accounts and rooms."""
        state = self.state
        return Population(
            len(state.present),
            self.logins.count,
            len(state.holds),
            len(state.accounts),
            len(state.rooms),
            self.newest,
        )

    def traffic(self) -> Traffic:
        """Count messages, deliveries and live sessions."""
        return self._delivery.traffic()

    # Presence

    def watch(self, session: Session, *, watches: bool) -> None:
        """Start or stop to notify a session of changes of presence."""
        if watches:
            self._watchers.watching[session] = None
        else:
            self._watchers.watching.pop(session, None)

    def _presence(self, name: str, number: int) -> Presence:
        user = self.state.names.get(fold(name))
        if user is None:
            return Presence(name, GONE, identity=identity(number))
        return presence_of(user)._replace(identity=identity_of(user))

    def _tell_presence(self, seen: Sequence[Presence]) -> None:
        for door, sessions in by_door(self._watchers.watching).items():
            door.show(seen, sessions)
