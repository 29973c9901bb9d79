"""The hub: what one node knows of its own connections.

Doors come to it with calls. It proposes commands to the ledger, which decides them in order by the
state; what comes back it hands on: the result to who asked, messages and events to whom they reach
(``delivery``). It reads the state for lists and for what may be read back. It knows no socket, no
storage, no protocol and no rule of the chat. One thread, no waiting: every method returns at once.

Before the order only that is refused which depends on the connection or on how the server is set:
what is too much, and a full server.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chat_twisted.core import facts, messages, room_rules, sanctions
from chat_twisted.core.audit import audit
from chat_twisted.core.commands import (
    TEXT,
    Acknowledge,
    Arrive,
    BanFromRoom,
    Command,
    Delete,
    Detach,
    DuplicateQuery,
    Invite,
    Join,
    Login,
    MakeAccount,
    MarkRead,
    Part,
    RemoveMember,
    Rename,
    Send,
    SetMode,
    SetPassword,
    SetRank,
    SetTopic,
    Start,
    Turn,
    new_id,
)
from chat_twisted.core.delivery import Delivery, Said, by_door
from chat_twisted.core.entries import Duplicate, LoggedIn, Outcome, Result
from chat_twisted.core.errors import (
    AuthenticationRequired,
    ChatError,
    NameInUse,
    NoAccount,
    NoSession,
    NoSuchRoom,
    NotYours,
    SearchTooBroad,
    TooFast,
    TookTooLong,
    Unavailable,
)
from chat_twisted.core.events import Event
from chat_twisted.core.ledger import Ledger
from chat_twisted.core.limits import Limiter, network
from chat_twisted.core.message import (
    EVERYBODY,
    PUBLIC,
    Audience,
    Conversation,
    Message,
    fold,
    parse_target,
    seen_by,
)
from chat_twisted.core.model import Account, Room, RoomBan, Sanction, User
from chat_twisted.core.ordered import Listing
from chat_twisted.core.presence import GONE, Presence, Watchers, presence_of
from chat_twisted.core.reads import Reads, Span
from chat_twisted.core.sessions import (
    BANNED,
    DISCONNECTED,
    REMOVED,
    Dismissal,
    Request,
    Session,
)
from chat_twisted.core.state import State
from chat_twisted.core.turns import Asker, unlimited
from chat_twisted.logs import Logger

T = TypeVar("T")

RETRY_WHEN_FULL = 30
"""Seconds after which it may be worth trying again when the server is full."""

TRY_AGAIN = 10
"""Seconds after which what must be written is proposed again, if it could not be."""

Hashing = Callable[[Asker], Deferred[str]]
"""Makes the hash of a password that the hub does not see; it may raise a ``ChatError`` at once."""


class Population(NamedTuple):
    """How many there are: users who are present, sessions of this node, guests who are held,
    accounts and rooms; and the number of the newest message.
    """

    users: int
    sessions: int
    held: int
    accounts: int
    rooms: int
    newest: int


class Hub:
    """The connections of one node.

    :param wall: returns the time of day, in seconds since the epoch.
    :param settled: the same, protected from jumps of the wall clock (``clocks.SettledTime``).
    :param limiter: says what is too much.
    :param start: is proposed before anything else.
    :param newest: the number of the newest message that there is, 0 if there is none.
    :param max_clients: how many sessions there may be at once.
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
    ) -> None:
        self._ledger = ledger
        self._reads = reads
        self._clock = clock
        self._wall = wall
        self.settled = settled
        self._limiter = limiter
        self._node = start.node
        self._max_clients = max_clients
        self._session_count = 0
        self._started = True
        self._stopping = False
        state = ledger.state
        self._delivery = Delivery(
            reads, clock, lambda: ledger.state, newest, self._work_wait, self._asker
        )
        self._routes = self._delivery.routes
        present = (
            (user.id, epoch)
            for user in state.users.values()
            for epoch, session in user.sessions.items()
            if session.present
        )
        self._watchers: Watchers[Session] = Watchers(
            clock, present, self._routes.name_of, self._presence, self._tell_presence
        )
        ledger.start(self._committed, self._failed)
        ledger.propose(start, None)

    @property
    def state(self) -> State:
        """The state by which is decided; another one after a failure, so it must not be kept."""
        return self._ledger.state

    @property
    def newest(self) -> int:
        """The number of the newest message that is committed, 0 if there is none."""
        return self._delivery.delivered_number

    # Asking

    def ask(self, command: Command) -> Deferred[Result]:
        """Propose a command for somebody without a session: the console, for one.

        :return: fires with the result; fails with the ``ChatError`` by which it is refused.
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

    def propose(
        self, session: Session, command: Command, argument: str = "", label: str | None = None
    ) -> Request:
        """Propose a command that a session asks for. ``Session.answered`` or ``Session.refused``
        follows, with the request that is returned.

        :raises Unavailable: too much waits to be written.
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

    def propose_hashed(
        self,
        session: Session,
        command: MakeAccount | SetPassword,
        hashing: Hashing | None,
        argument: str,
        label: str | None,
    ) -> Request:
        """Propose a command with the hash of a password, which is made before; but first it is
        looked whether that would be permitted, since it costs a lot.

        :param hashing: makes the hash; None if there is no password.
        :raises ChatError: it is refused already.
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

        prepared = hashing(self.asker(session)).addCallback(go_on)
        prepared.addErrback(self._not_prepared, request)
        return request

    def propose_delete(self, session: Session, number: int, label: str | None) -> Request:
        """Propose that a message is deleted, which is read before: who may do that is decided by
        what it is. ``Session.answered`` or ``Session.refused`` follows.

        :raises TooFast: too much was read.
        """
        asker = self.asker(session)
        request = Request(session, Turn(), "", label)

        async def read_and_propose() -> None:
            user = await self._take_turn(session)
            message = await self._reads.message(number, asker)
            if message is None:
                raise NotYours
            _, _, author, sender, recipient, room, to, *_, logged = message
            request.command = Delete(
                user.id, session.epoch, number, author, recipient, room, logged, sender, to
            )
            self._propose(request.command, request)

        Deferred.fromCoroutine(read_and_propose()).addErrback(self._not_prepared, request)
        return request

    def _not_prepared(self, failure: Failure, request: Request) -> None:
        """Refuse what could not be proposed."""
        error = failure.value
        if not isinstance(error, ChatError):
            self._log.failure("while preparing what is to be proposed", failure)
            error = Unavailable("can't prepare", retry_after=TRY_AGAIN)
        # Not before the asker has the request.
        self._clock.callLater(0, self._answer, request, error, None)

    async def _take_turn(self, session: Session) -> User:
        """Wait until all that was asked before is decided and committed; return who asks.

        :raises NoSession: the session has ended.
        """
        await self.ask(Turn())
        user = self.state.users.get(session.user)
        if session.ended or user is None:
            raise NoSession
        return user

    # Coming and going

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
        if self._session_count >= self._max_clients:
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
        request = self.propose(session, command, token or "", label)
        session.allowance = self._limiter.session(session.host, now)
        session.present = present
        self._session_count += 1
        return request

    def _check_name(self, name: str, token: str | None, proof: str, session: Session) -> None:
        """Refuse what would be refused on a server that is not full, too."""
        user = self.state.names.get(fold(name))
        if user is None or proof or (token and user.find_token(_digest(token))):
            return
        if user.account is not None and session.policy.may_authenticate:
            raise AuthenticationRequired
        raise NameInUse

    def _logged_in(self, request: Request, login: LoggedIn) -> None:
        session = request.session
        assert session is not None
        session.user, session.epoch = login.user, login.epoch
        session.may_be_duplicate = not login.new
        if login.token != _digest(session.token):
            session.token = request.argument
        request.argument = ""
        if session.ended:  # it went before it was answered; a new user could not come back
            self._end(Detach(login.user, login.epoch, for_good=login.new))
            return
        self._delivery.attach(session, login.rooms)
        session.registered(request, login)

    def arrive(self, session: Session, resume: int | None = None) -> None:
        """Have messages brought to a session from now on: first what it missed.

        :param resume: the number of the last message that the session has. Without it, what the
            user has not confirmed counts as missed, without what the user sent.
        """
        if session.present:
            self._delivery.arrive(session, resume)
        else:
            self._propose(
                Arrive(session.user, session.epoch),
                Request(session, Arrive(session.user, session.epoch)),
            )

    def leave(self, session: Session, *, for_good: bool) -> None:
        """Take it that the connection of a session is gone.

        :param for_good: the user said so; a guest's name is free if this was the last session.
        """
        if session.ended:
            return
        user, epoch = session.user, session.epoch
        self._detach(session)
        if epoch and (for_good or not self._stopping):  # without one, ``_logged_in`` does it
            self._end(Detach(user, epoch, for_good))

    def stop(self) -> None:
        """Take it that connections end since the server does. Nothing is said of their sessions:
        the next start ends them, so that guests are held from then on.
        """
        self._stopping = True

    def _detach(self, session: Session) -> None:
        user = session.user
        confirmed = self._delivery.detach(session)
        self._watchers.watching.pop(session, None)
        self._session_count -= 1
        known = self.state.users.get(user)
        if session.policy.confirms and known is not None and confirmed > known.cursor:
            # Now, since whoever comes back is brought what comes after it.
            with contextlib.suppress(Unavailable):
                self._propose(Acknowledge(((user, confirmed),)), None)

    def _end(self, command: Detach) -> None:
        """Propose that a session is gone, until that is taken."""
        try:
            self._propose(command, Request(None, command))
        except Unavailable:
            self._clock.callLater(TRY_AGAIN, self._end, command)

    # Talking

    def send(
        self,
        session: Session,
        to: str,
        text: str,
        label: str | None = None,
        key: str | None = None,
        kind: int = TEXT,
    ) -> Request:
        """Say something to a user, a room or ALL.

        :param key: what this message and the same one sent again have in common, and no other.
        :return: what ``Session.sent`` is called with when the message is committed, and
            ``Session.delivered`` or ``Session.undelivered`` when it is known what became of a
            direct one; or ``Session.refused``. None of them is called before ``send`` has returned.
        :raises TooFast: too much was said.
        :raises Unavailable: too much waits to be written.
        """
        allowance = session.allowance
        if allowance is not None:
            octets = len(text) if text.isascii() else len(text.encode())
            try:
                allowance.spend(octets, self._clock.seconds())
            except TooFast as refusal:
                # It may have been said already, and only the answer was lost.
                if key is None or not session.may_be_duplicate:
                    raise
                request = self.propose(session, DuplicateQuery(session.user, key), to, label)
                request.refusal = refusal
                return request
        command = Send(
            session.user,
            session.epoch,
            to,
            text,
            int(self._wall() * 1000),
            key,
            kind,
            session.policy.reaches_absent,
        )
        request = Request(session, command, to, label)
        self._propose(command, request)
        return request

    def received(self, session: Session, number: int) -> None:
        """Take it that a session has everything up to ``number`` that was sent to it."""
        cursor = self._delivery.received(session, number)
        if cursor and session.policy.confirms:
            self._ledger.acknowledge(session.user, cursor)

    def rejected(self, session: Session, number: int) -> None:
        """Take it that a session could not read the message ``number``; it has all before."""
        self.received(session, number - 1)
        self._delivery.rejected(session, number)

    # What is too much

    def allow(self, session: Session) -> None:
        """Count a request of a session that is no message as one.

        :raises TooFast: there were too many.
        """
        if session.allowance is not None:
            session.allowance.spend(0, self._clock.seconds())

    def charge(self, session: Session, octets: int) -> None:
        """Count what was answered to a session as if it had said so much."""
        if session.allowance is not None:
            session.allowance.charge(octets)

    def asker(self, session: Session) -> Asker:
        """Return for whom work is done that a session asks for, registered or not, and that takes
        time aside.

        :raises TooFast: there was too much of it.
        """
        if session.allowance is None:
            session.allowance = self._limiter.session(session.host, self._clock.seconds())
        if wait := self._work_wait(session):
            raise TooFast("too much work", retry_after=math.ceil(wait))
        return self._asker(session)

    def _work_wait(self, session: Session) -> float:
        allowance = session.allowance
        return 0.0 if allowance is None else allowance.work_wait(self._clock.seconds())

    def _asker(self, session: Session) -> Asker:
        source = session if session.host is None else network(session.host)
        allowance = session.allowance
        if allowance is None:
            return unlimited(source)
        return Asker(source, lambda took: allowance.charge_work(took, self._clock.seconds()))

    # Reading

    def history(
        self, session: Session, argument: str, span: Span
    ) -> Deferred[tuple[list[Message], bool]]:
        """Read a part of a conversation that the session's user is a party to.

        :param argument: the other user, a room or ALL.
        :return: fires with what ``archive.history`` returns; fails with a ``ChatError`` if nothing
            can be called so or the user is not a member.
        :raises TooFast: too much was read.
        """
        asker = self.asker(session)

        async def read() -> tuple[list[Message], bool]:
            user = await self._take_turn(session)
            within = self._conversation(user, argument)
            found, more = await self._reads.history(within, span, asker)
            return seen_by(user.id, user.name, found), more

        return Deferred.fromCoroutine(read())

    def said(
        self, session: Session, after: int, count: int
    ) -> Deferred[tuple[list[Message], int | None]]:
        """Read what the session's user has said, oldest first.

        :return: fires with what ``archive.said_by`` returns.
        :raises TooFast: too much was read.
        """
        asker = self.asker(session)

        async def read() -> tuple[list[Message], int | None]:
            user = await self._take_turn(session)
            found, more = await self._reads.said_by(user.id, after, count, asker)
            return seen_by(user.id, user.name, found), more

        return Deferred.fromCoroutine(read())

    def search(
        self, session: Session, argument: str, query: str, count: int
    ) -> Deferred[list[Message]]:
        """Find messages by their words among all that the session's user may read.

        :param argument: the conversation to look in, as for ``history``; all if it is empty.
        :return: as ``history`` does; fails with ``SearchTooBroad`` if it takes too long.
        :raises TooFast: too much was read.
        """
        asker = self.asker(session)

        async def read() -> list[Message]:
            user = await self._take_turn(session)
            within = self._conversation(user, argument) if argument else None
            rooms = list(user.rooms)
            try:
                found = await self._reads.search(user.id, rooms, within, query, count, asker)
            except TookTooLong:
                raise SearchTooBroad from None
            return seen_by(user.id, user.name, found)

        return Deferred.fromCoroutine(read())

    def _conversation(self, user: User, argument: str) -> Conversation:
        target = parse_target(argument)
        if target.audience is Audience.ALL:
            return PUBLIC
        if target.audience is Audience.ROOM:
            return Conversation(messages.joined(self.state, target.key, user).id, "")
        return Conversation(user.id, target.key)

    def user(self, session: Session) -> User:
        """Return the user of a session.

        :raises NoSession: the session has ended.
        """
        user = self.state.users.get(session.user)
        if user is None:
            raise NoSession
        return user

    def account(self, session: Session) -> Account:
        """Return the account of the session's user.

        :raises NoAccount: they have none.
        """
        account = self.user(session).account
        if account is None:
            raise NoAccount
        return account

    def room(self, session: Session, name: str) -> Room:
        """Return a room that the session's user may know of.

        :raises NoSuchRoom: there is none.
        """
        room = self.state.room_names.get(fold(name))
        if room is None or not room.visible(session.user):
            raise NoSuchRoom
        return room

    def rooms(self, session: Session, after: str = "") -> Listing[Room]:
        """All rooms that the session's user may know of, in the order of their folded names, those
        behind ``after``.
        """
        return self.state.rooms_seen_by(session.user, after)

    def members(self, session: Session, name: str, after: str = "") -> Listing[User]:
        """The members of a room, in the order of their folded names, those behind ``after``.

        :raises NoSuchRoom: there is none, or it is private and not for the session's user.
        """
        members = self.room(session, name).list_members(self.state.users)
        return Listing(len(members), members.after(after))

    def who(self, after: str = "") -> Listing[User]:
        """All who are present, in the order of their folded names, those behind ``after``."""
        present = self.state.present
        return Listing(len(present), present.after(after))

    def sanctions(self, session: Session, after: str = "") -> Listing[Sanction]:
        """All sanctions, in the order of their keys, those behind ``after``.

        :raises OperatorRequired: one is no operator.
        """
        state = self.state
        sanctions.operating(state, session.user, session.epoch)
        return Listing(len(state.sanctions_in_order), state.sanctions_in_order.after(after))

    def room_bans(
        self, session: Session, name: str, after: str = ""
    ) -> Listing[tuple[str, RoomBan]]:
        """All names that are kept out of a room, in order, those behind ``after``.

        :raises RoomOperatorRequired: one is no operator of the room.
        """
        _, room = room_rules.in_charge(self.state, session.user, session.epoch, name)
        bans = sorted(room.bans.items())
        return Listing(len(bans), (item for item in bans if item[0] > after))

    def markers(self, session: Session, after: str = "") -> Listing[tuple[str, int]]:
        """Up to which numbers the session's user has read conversations, by their names, in the
        order of those, those behind ``after``.
        """
        state, found = self.state, []
        for (room, key), number in self.user(session).markers.items():
            if not room:
                other = state.names.get(key)
                found.append((EVERYBODY.name if not key else other.name if other else key, number))
            elif room in state.rooms and session.user in state.rooms[room].members:
                found.append((state.rooms[room].name, number))
        found.sort(key=lambda marker: fold(marker[0]))
        return Listing(len(found), (marker for marker in found if fold(marker[0]) > after))

    def name_of(self, session: Session) -> str:
        """Return what the user of a session is called; empty before the login and after the end."""
        return "" if session.ended else self._routes.name_of(session.user)

    def confirmed(self, user: User) -> int:
        """Return the number up to which a user has confirmed all messages."""
        return self._delivery.confirmed(user)

    def population(self) -> Population:
        """Count the users, sessions, held guests, accounts and rooms."""
        state = self.state
        return Population(
            len(state.present),
            self._session_count,
            len(state.holds),
            len(state.accounts),
            len(state.rooms),
            self.newest,
        )

    # Presence

    def watch(self, session: Session, *, watches: bool) -> None:
        """Bring, or not, to a session from now on who comes and goes, is away or back."""
        if watches:
            self._watchers.watching[session] = None
        else:
            self._watchers.watching.pop(session, None)

    def _presence(self, name: str) -> Presence:
        user = self.state.names.get(fold(name))
        return Presence(name, GONE) if user is None else presence_of(user)

    def _tell_presence(self, seen: Sequence[Presence]) -> None:
        for door, sessions in by_door(self._watchers.watching).items():
            door.show(seen, sessions)

    # What is committed

    def _committed(self, batch: Sequence[tuple[Outcome, Request | None]]) -> None:
        run: list[Said] = []
        key = None
        for outcome, request in batch:
            result = outcome.result
            if type(result) is Message:
                author = result.author if result.recipient else 0
                reaches = (result.recipient, result.room, author)
                if run and key != reaches:
                    self._guarded(self._delivery.deliver, run)
                    run = []
                key = reaches
                run.append((result, request))
                continue
            if run:
                self._guarded(self._delivery.deliver, run)
                run = []
            self._guarded(self._take, outcome, request)
        if run:
            self._guarded(self._delivery.deliver, run)
        self._delivery.flush(more=self._ledger.has_backlog)

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function``: a fault of ours must not cost the rest of a batch."""
        try:
            function(*args)
        except Exception:  # noqa: BLE001
            self._log.failure("while delivering, {function}", function=function.__name__)

    def _take(self, outcome: Outcome, request: Request | None) -> None:
        """Follow the facts of an outcome that is no message, and answer who asked."""
        asker = None if request is None else request.session
        answered_by = () if request is None else _ANSWERS.get(type(request.command), ())
        answer: Event | None = None
        cause = DISCONNECTED
        for fact in outcome.facts:
            match fact:
                case facts.Imposed():
                    cause = BANNED
                case facts.AccountGone():
                    cause = REMOVED
                case facts.SessionGone():
                    self._gone(fact, cause)
                case facts.UserGone(id):
                    self._delivery.absent(id, for_good=True)
            self._watchers.follow(fact)
            told = self._routes.follow(fact)
            besides = None
            if told and asker is not None and answer is None and isinstance(fact, answered_by):
                mine = (event for event, sessions in told if asker in sessions)
                answer, besides = next(mine, told[0].event), asker
            for event, sessions in told:
                self._delivery.tell(event, sessions, besides)
        if request is not None:
            audit(request.command, outcome, self._routes.name_of)
            self._answer(request, outcome.result, answer)

    def _gone(self, fact: facts.SessionGone, cause: str) -> None:
        """Called when a session of a user is gone, here or elsewhere."""
        for session in list(self._routes.of_user(fact.user)):
            if session.epoch == fact.epoch:
                dismissal = Dismissal(cause, self._routes.name_of(fact.by), fact.reason)
                self._detach(session)
                session.dismissed(dismissal)
        if not self._routes.of_user(fact.user):
            self._delivery.absent(fact.user, for_good=False)

    def _answer(self, request: Request, result: Result, event: Event | None) -> None:
        session, command = request.session, request.command
        if session is None:
            if request.done is not None:
                request.done(result)
        elif type(command) is Login:
            self._answer_login(request, result)
        elif session.ended:
            pass
        elif isinstance(result, ChatError):
            session.refused(request, result)
        elif isinstance(result, Duplicate):
            target = parse_target(request.argument)
            named = self.state.names.get(target.key) if target.audience is Audience.USER else None
            self._delivery.duplicate(request, result, 0 if named is None else named.id)
        elif type(command) is DuplicateQuery:
            assert request.refusal is not None
            session.refused(request, request.refusal)
        elif type(command) is Arrive:
            session.present = True
            self._delivery.arrive(session)
        else:
            session.answered(request, result, event)

    def _answer_login(self, request: Request, result: Result) -> None:
        session = request.session
        assert session is not None
        if isinstance(result, LoggedIn):
            self._logged_in(request, result)
            return
        assert isinstance(result, ChatError), "a login has no other answer"
        if not session.ended:
            self._session_count -= 1
            session.refused(request, result)

    def _failed(self, batch: Sequence[tuple[Command, Request | None]], error: Unavailable) -> None:
        for command, request in batch:
            if isinstance(command, Start):
                # Before it is taken nothing else is: it ends the sessions of before.
                self._started = False
                self._clock.callLater(TRY_AGAIN, self._start, command)
            elif isinstance(command, Detach):
                self._clock.callLater(TRY_AGAIN, self._end, command)
            elif isinstance(command, Acknowledge):
                for user, number in command.cursors:
                    self._ledger.acknowledge(user, number)
            elif request is not None and type(command) is Arrive and request.session is not None:
                request.session.drop("can't write that it has arrived")
            elif request is not None:
                self._guarded(self._answer, request, error, None)

    def _start(self, command: Start) -> None:
        self._started = True
        try:
            self._propose(command, None)
        except Unavailable:
            self._started = False
            self._clock.callLater(TRY_AGAIN, self._start, command)


_ANSWERS: dict[type, tuple[type, ...]] = {
    Rename: (facts.UserRenamed,),
    Delete: (facts.Deleted,),
    Join: (facts.Joined,),
    Part: (facts.Left,),
    RemoveMember: (facts.Left,),
    Invite: (facts.Invited, facts.Asked),
    SetTopic: (facts.TopicSet,),
    SetRank: (facts.RankSet,),
    SetMode: (facts.ModeSet,),
    BanFromRoom: (facts.RoomBanned, facts.RoomUnbanned),
    MarkRead: (facts.MarkerSet,),
}
"""Of which facts the event is the answer to a command, and told to all others."""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
