"""The hub: the rules of the chat, and the registry of who is here.

Who may have which name, who may say what to whom, who gets it, and who hears that it was had. It
knows no socket, no storage and no protocol: doors come to it with calls, and it hands each door
the messages for that door's sessions. One thread, no waiting: every method returns at once, and
what takes time comes back through the ledger.

The way of a message: ``send`` checks it and hands it to the ledger; ``_committed`` gets it back
with its number and only then tells the sender and hands it to the doors; ``received`` tells the
sender that the recipient has it. Changes (somebody comes, a room is made) go the same way among
the messages, so that who gets a message is the same for those who are here and for those who come
back and read it from the archive.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from binascii import b2a_base64
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from chat_twisted.auth.accounts import Account, Accounts
from chat_twisted.core.changes import (
    AccountGone,
    AccountMade,
    Change,
    Invited,
    Joined,
    KeyAdded,
    KeyRemoved,
    Left,
    OwnerSet,
    Pardoned,
    PasswordSet,
    RoleSet,
    RoomGone,
    Sanctioned,
    TopicSet,
    UserCame,
    UserGone,
)
from chat_twisted.core.errors import (
    AuthenticationRequired,
    ChatError,
    NameInUse,
    NoSuchRoom,
    NotPermitted,
    TooFast,
    UnableToSend,
    Unavailable,
)
from chat_twisted.core.held import UNKNOWN, Held
from chat_twisted.core.ledger import Again, Entry, Ledger, Repeat
from chat_twisted.core.limits import Limiter, network
from chat_twisted.core.message import (
    PUBLIC,
    Audience,
    Conversation,
    Message,
    Target,
    check_user_name,
    fold,
    parse_target,
)
from chat_twisted.core.moderation import (
    BAN,
    MUTE,
    Sanction,
    Sanctions,
    check_reason,
    is_within,
    network_of,
)
from chat_twisted.core.ordered import Listing, Ordered
from chat_twisted.core.presence import Presence, Roster, check_why
from chat_twisted.core.rooms import Room, Rooms, new_id
from chat_twisted.core.saved import ACCOUNT, Page, SavedUser, Span
from chat_twisted.core.sessions import Door, Event, Request, Session, User
from chat_twisted.core.turns import Asker, unlimited
from chat_twisted.logs import Logger

_ACCOUNT = "ACCOUNT"

MAX_TOKENS = 16
"""How many of a user's tokens are good at once. With an account, every login gives another one."""

MAX_TOPIC = 400
"""Characters of a room's topic."""

RETRY_WHEN_FULL = 30
"""Seconds after which it may be worth trying again when the server is full."""

TRY_AGAIN = 10
"""Seconds after which it is tried again to forget a user or to settle a room, if that could not be
written."""

READ_AGAIN = 1
"""Seconds after which what somebody has missed is read again, if too much else was to be read; each
further time after twice as long, up to ``TRY_AGAIN``."""

SWEEP_STEP = 200
"""How many ends of users, and of their memberships, are worked at in one turn of the reactor; and
how many may be on their way to the disk, where what others say waits behind them."""

SWEEP_TIME = 0.005
"""Seconds after which a turn takes no further one."""

SWEEP_PAUSE = 0.02
"""Seconds between two such turns."""


Origin = Request | None


class Population(NamedTuple):
    """How many there are: users who are present, their sessions, guests who are held, accounts and
    rooms; and the number of the newest message.
    """

    users: int
    sessions: int
    held: int
    accounts: int
    rooms: int
    newest: int


Hashing = Callable[[Asker], Deferred[str]]
"""Makes the hash of a password that the hub does not see; it may raise a ``ChatError`` at once."""


class Hub:
    """The chat itself.

    :param accounts: a registry that the hub fills from what the ledger has saved, and keeps.
    :param limiter: says what is too much.
    :param max_clients: how many sessions there may be at once, and how many users may be kept that
        have none.
    :param grace: seconds for which a guest is kept whose last connection is lost.
    :param guests: whether anybody comes in without an account.
    """

    _log = Logger()

    def __init__(
        self,
        ledger: Ledger[Origin],
        clock: IReactorTime,
        accounts: Accounts,
        limiter: Limiter,
        *,
        max_clients: int,
        grace: float = 600,
        guests: bool = True,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._max_clients = max_clients
        self._grace = grace
        self._users: dict[str, User] = {}
        self._by_id: dict[int, User] = {}
        self._going: set[int] = set()  # of whom the end is not committed yet
        self._held: Held[User] = Held(max_clients, limiter.limits.held)
        # What the sweep works at, beside those whose hold is over: users who are gone, with the
        # rooms whose members have not heard of it; and what could not be written.
        self._leaving: OrderedDict[str, tuple[User, list[Room]]] = OrderedDict()
        self._unwritten: deque[int] = deque()
        self._unsettled: deque[int] = deque()
        self._retry_at = 0.0
        self._rest_until = 0.0
        self._sweeping: IDelayedCall | None = None
        self._session_count = 0
        self._roster: Roster[User, Session] = Roster(clock, self._tell_presence)
        # Whoever is live, in the shape that a message to everybody needs. A dict is an
        # ordered set: all get a message in the order in which they came.
        self._live: dict[Door, dict[Session, None]] = {}
        saved = ledger.saved
        self._seen = saved.last  # the newest message that was delivered
        self._limiter = limiter
        limits = limiter.limits
        self._rooms = Rooms(
            saved.rooms, saved.members, saved.invitations, limits.rooms, limits.address_rooms
        )
        self._members: dict[int, Ordered[User]] = {}  # of the rooms of which they were listed
        self._sanctions = Sanctions(clock.seconds, ledger.time, saved.sanctions)
        self._accounts = accounts
        self._guests = guests
        ledger.start(self._committed, self._failed)
        accounts.load(saved.users, saved.keys, saved.passwords)
        for row in saved.users:
            self._welcome_back(row)
        self._unsettled.extend(self._rooms.unsettled())
        self._plan_sweep()

    def _welcome_back(self, row: SavedUser) -> None:
        """Keep a user of the server that ended as if its connection were lost just now."""
        user = User(row.id, row.name, row.token, row.since, self._grace)
        user.position = row.position
        user.registered = True
        self._is_account(user)
        if user.key in self._users:  # who had the name before, and could not be forgotten in time
            self._turn_out(self._users[user.key], "the name has an account now")
        self._add(user)
        self._keep(user, None)

    # Coming and going

    @property
    def last(self) -> int:
        """The number of the newest message, 0 if there is none."""
        return self._seen

    def register(
        self,
        name: str,
        session: Session,
        token: str | None = None,
        id: str | None = None,
        account: Account | None = None,
    ) -> bool:
        """Give ``session`` the name ``name``. It gets no messages before it arrives.

        :param token: the user's token, on a further connection of the same user.
        :param id: the asker's own mark, which ``Session.refused`` gets.
        :param account: whose owner it is proven that the asker is.
        :return: whether that is done; else ``Session.registered`` or ``Session.refused`` follows.
        :raises MalformedName: nobody may be called so.
        :raises NameInUse: somebody else is called so.
        :raises AuthenticationRequired: the name has an account, or must have one.
        :raises NotPermitted: the name or the address is banned.
        :raises TooFast: too many from this address have asked for a name.
        :raises Unavailable: the server is full, or can't write.
        """
        check_user_name(name)
        self._limiter.login(session.host, self._clock.seconds())
        self._check_ban(name, session, account)
        user = self._users.get(fold(name))
        proven = user is not None and user.account is not None and user.account is account
        if not proven:
            self._check_claim(name, user, token, session)
        if self._session_count >= self._max_clients:
            raise Unavailable("the server is full", retry_after=RETRY_WHEN_FULL)
        if proven or user is None:
            token = secrets.token_urlsafe(16)
        assert token is not None
        if user is None:
            user = self._come(name, _digest(token), session, id)
        else:
            if proven:
                user.secrets = (*user.secrets, _digest(token))[-MAX_TOKENS:]
            user.returned = True
            self._held.remove(user)
        session.user = user
        session.token = token
        session.allowance = self._limiter.session(session.host, self._clock.seconds())
        user.sessions.append(session)
        self._session_count += 1
        return user.registered

    def _check_ban(self, name: str, session: Session, account: Account | None) -> None:
        ban = self._sanctions.banned(name, session.host)
        owner = account or self._accounts.find(name)
        if ban is not None and not (owner is not None and owner.operator):
            # An operator who has banned too much must be able to undo it.
            refusal = NotPermitted("banned")
            refusal.headers = (("Reason", ban.reason),) if ban.reason else ()
            raise refusal

    def _check_claim(
        self, name: str, user: User | None, token: str | None, session: Session
    ) -> None:
        """Raise unless ``token`` is one of the user's, or there is no user and may be one."""
        if user is None:
            if self._guests and self._accounts.find(name) is None:
                return
        elif token is not None:
            digest = _digest(token)
            if any(hmac.compare_digest(digest, secret) for secret in user.secrets):
                return
        if session.immediate or (user is not None and user.account is None):
            raise NameInUse
        raise AuthenticationRequired

    def _come(self, name: str, secret: bytes, session: Session, id: str | None) -> User:
        grace = 0.0 if session.immediate else self._grace
        user = User(new_id(), name, secret, self._ledger.newest, grace)
        if grace:
            request = Request(session, user, name, id)
            self._ledger.change(UserCame(user.id, name, secret, user.since), request)
        else:
            user.registered = True
        self._add(user)
        return user

    def _add(self, user: User) -> None:
        """Enter a user under its name. That whoever had it before has left is told first."""
        if user.key in self._leaving:
            gone, rooms = self._leaving.pop(user.key)
            for room in rooms:
                self._depart(gone, room)
        self._users[user.key] = self._by_id[user.id] = user

    def arrive(self, session: Session, resume: int | None = None) -> None:
        """From now on ``session``, which has a name, gets messages: first what it missed.

        :param resume: the number of the last message that the session has. Without it, what the
            user has not confirmed counts as missed, without what the user sent.
        """
        user = session.user
        assert user is not None, "a session that is not registered can't arrive"
        was_present = user.present
        session.present = True
        if not was_present:
            self._roster.changed(user)
        start = max(user.position if resume is None else resume, user.since)
        if start >= self._seen or not user.grace:
            self._go_live(session)
        else:
            session.position = start
            self._catch_up(session, own=resume is not None)

    def _go_live(self, session: Session) -> None:
        assert session.user is not None
        session.position = None
        session.user.live.append(session)
        self._live.setdefault(session.door, {})[session] = None

    def _catch_up(self, session: Session, *, own: bool, again_after: float = READ_AGAIN) -> None:
        user = session.user
        if user is None:
            return
        if session.position is None or session.position >= self._seen:
            self._go_live(session)
            return

        allowance, now = session.allowance, self._clock.seconds()
        if allowance is not None and (wait := allowance.work_wait(now)):
            self._clock.callLater(wait, self._catch_up, session, own=own, again_after=again_after)
            return

        def bring(page: Page) -> None:
            if session.user is not user:
                return
            if page.messages:
                session.door.deliver(page.messages, [session])
            if session.user is not user:
                return  # it does not read, and was cut off
            session.position = page.upto
            if page.upto >= self._seen:
                self._go_live(session)
            else:
                session.when_ready(lambda: self._catch_up(session, own=own))

        def fail(failure: Failure) -> None:
            if failure.check(Unavailable):  # for now
                later = min(2 * again_after, TRY_AGAIN)
                self._clock.callLater(
                    again_after, self._catch_up, session, own=own, again_after=later
                )
                return
            self._log.error("can't read: {reason}", reason=failure.getErrorMessage())
            if session.user is user:
                session.drop("what was missed can't be read")

        # Whatever is committed meanwhile, no more is read than was brought to those who are live:
        # so by its number alone a session has caught up or not, and gets nothing twice.
        reading = self._ledger.missed(
            user.id, session.position, lambda: self._seen, self._asker(session), own=own
        )
        reading.addCallbacks(bring, fail)
        reading.addErrback(lambda fault: self._log.failure("while catching up", fault))

    def leave(self, session: Session, *, for_good: bool) -> None:
        """The connection of ``session`` is gone, or must be treated as if it were.

        :param for_good: the user said so; a guest's name is free if this was the last connection.
        """
        user = session.user
        if user is None:
            return
        was_present = user.present
        session.user = None
        session.present = False
        self._live.get(session.door, {}).pop(session, None)
        self._session_count -= 1
        user.sessions.remove(session)
        if session in user.live:
            user.live.remove(session)
        self._roster.watchers.pop(session, None)
        if was_present and not user.present:
            self._roster.changed(user)
        if user.sessions or (user.grace and not user.registered):
            return  # the second: what becomes of it is said when it is committed
        if (for_good and user.account is None) or not user.grace:
            self._forget(user)
        else:
            self._keep(user, session.host)

    def _keep(self, user: User, host: str | None) -> None:
        """Hold the name of a user that has no session for its grace.

        :param host: where the last one came from, if that is known.
        """
        for entry in list(user.unconfirmed):
            if entry[1].session.immediate:  # it waits for nobody who is away
                user.unconfirmed.remove(entry)
                self._undelivered(entry[1])
        if user.account is not None:
            return
        address = UNKNOWN if host is None else network(host)
        self._held.add(user, address, self._clock.seconds() + user.grace)
        self._plan_sweep()

    def _forget(self, user: User) -> None:
        """Release the name and fail outstanding delivery receipts. The sweep does the rest."""
        self._held.remove(user)
        self._remove(user)
        for _, request in user.unconfirmed:
            self._undelivered(request)
        user.unconfirmed.clear()
        rooms = self._rooms.of(user.id)
        if not user.grace and not rooms:
            return  # nothing of it is written
        for room in rooms:
            self._unlist(room, user)
        self._rooms.apply(UserGone(user.id))
        self._write_gone(user.id)  # first: a room that has a member in the file does not end
        if rooms:
            self._leaving[user.key] = (user, rooms)
            self._plan_sweep()

    def _remove(self, user: User) -> None:
        del self._by_id[user.id]
        if self._users.get(user.key) is user:
            del self._users[user.key]

    def _write_gone(self, id: int) -> None:
        self._going.add(id)
        self._change([UserGone(id)])

    def _settle(self, room: int) -> None:
        self._change(self._rooms.settle(room))

    def _depart(self, user: User, room: Room) -> None:
        """Tell the members of a room that a user who is gone was one of them."""
        self._tell("left", room, user, None)
        self._unsettled.append(room.id)

    # What is due: the ends of users and rooms, a bounded step at a time

    def _plan_sweep(self) -> None:
        """Have the sweep called when something is due, which may be at once."""
        now = self._clock.seconds()
        due: list[float] = []
        if self._leaving:
            due.append(now)
        if self._unwritten or self._unsettled:
            due.append(self._retry_at)
        if self._held.next_due is not None:
            due.append(self._held.next_due)
        if not due:
            return
        when = max(min(due), self._rest_until, now)
        if self._sweeping is None:
            self._sweeping = self._clock.callLater(when - now, self._sweep)
        elif self._sweeping.getTime() != when:
            self._sweeping.reset(when - now)

    def _sweep(self) -> None:
        """Called when something is due: do a step of it, and plan the next."""
        self._sweeping = None
        begun = self._clock.seconds()
        self._rest_until = begun + SWEEP_PAUSE
        under_way = len(self._going) - len(self._unwritten) + self._rooms.settling
        for _ in range(SWEEP_STEP - under_way):
            if not self._end_one(begun):
                self._rest_until = 0.0
                break
            if self._clock.seconds() - begun > SWEEP_TIME:
                break
        self._plan_sweep()

    def _end_one(self, now: float) -> bool:
        """Work at one thing that is due; return whether there was one."""
        if self._retry_at <= now and self._unwritten:
            self._write_gone(self._unwritten.popleft())
        elif self._leaving:
            key, (user, rooms) = next(iter(self._leaving.items()))
            self._depart(user, rooms.pop())
            if not rooms:
                self._leaving.pop(key, None)
        elif (held := self._held.due(now)) is not None:
            self._forget(held)
        elif self._retry_at <= now and self._unsettled:  # last: the heir may be about to leave too
            self._settle(self._unsettled.popleft())
        else:
            return False
        return True

    # Being there

    def who(self, after: str = "") -> Listing[User]:
        """All who are present, in the order of their folded names, those behind ``after``."""
        return self._roster.listing(after)

    def watch(self, session: Session, *, watches: bool) -> None:
        """Bring, or not, to ``session`` from now on who comes and goes, is away or back."""
        if watches:
            self._roster.watchers[session] = None
        else:
            self._roster.watchers.pop(session, None)

    def set_away(self, session: Session, why: str | None) -> None:
        """Say that the session's user does not read for now; with None, that it does again.

        :raises NotPermitted: ``why`` is not a line, or the user is muted.
        """
        user = self._asking(session)
        if why:
            self._check_voice(user)
        before, user.away = user.away, None if why is None else check_why(why)
        if user.away != before:
            self._roster.changed(user)

    def _tell_presence(self, seen: Sequence[Presence]) -> None:
        for door, sessions in _by_door(self._roster.watchers).items():
            door.show(seen, sessions)

    # Talking

    def send(self, session: Session, argument: str, text: str, id: str | None = None) -> Request:
        """Say ``text`` to ``argument``: a user, a room or ALL.

        :return: what the session's ``sent`` is called with when the message is committed, and its
            ``delivered`` or ``undelivered`` when it is known what became of a direct one; or its
            ``refused``. None of them is called before ``send`` has returned.

        :raises UnableToSend: there is no such user, or none who could get it.
        :raises NoSuchRoom: there is no such room.
        :raises NotPermitted: the sender is not a member of the room, or muted.
        :raises TooFast: too much was said.
        :raises Unavailable: it can't be written.
        """
        user = session.user
        assert user is not None, "a session that is not registered can't send"
        request = Request(session, user, argument, id)
        recipient = room = 0
        try:
            if session.allowance is not None:
                octets = len(text) if text.isascii() else len(text.encode())
                session.allowance.spend(octets, self._clock.seconds())
            self._check_voice(user)
            target = parse_target(argument)
            name = target.name
            if target.audience is Audience.USER:
                to = request.recipient = self._recipient(session, target)
                recipient, name = to.id, to.name
            elif target.audience is Audience.ROOM:
                place = self._rooms.joined(name, user.id)
                room, name = place.id, place.name
            elif session.immediate and len(self._roster) <= user.present:
                raise UnableToSend("nobody else is here")
        except ChatError as refusal:
            # It may have been said already, and only the answer was lost.
            key = _deduplication_key(session, fold(argument), text, id)
            if key is None or not user.returned:
                raise
            request.refusal = refusal
            self._ledger.ask(user.id, key, request)
            return request
        key = _deduplication_key(session, target.key, text, id)
        again = user.returned
        self._ledger.say(user.id, user.name, recipient, room, name, text, key, request, again=again)
        return request

    def allow(self, session: Session) -> None:
        """Count a request of ``session`` that is no message as one.

        :raises TooFast: there were too many.
        """
        if session.allowance is not None:
            session.allowance.spend(0, self._clock.seconds())

    def charge(self, session: Session, octets: int) -> None:
        """Count what was answered to ``session`` as if it had said so much."""
        if session.allowance is not None:
            session.allowance.charge(octets)

    def asker(self, session: Session) -> Asker:
        """Return for whom work is done that ``session`` asks for, registered or not, and that
        takes time aside.

        :raises TooFast: there was too much of it.
        """
        now = self._clock.seconds()
        if session.allowance is None:
            session.allowance = self._limiter.session(session.host, now)
        if session.allowance is not None and (wait := session.allowance.work_wait(now)):
            raise TooFast("too much work", retry_after=math.ceil(wait))
        return self._asker(session)

    def _asker(self, session: Session) -> Asker:
        source = session if session.host is None else network(session.host)
        allowance = session.allowance
        if allowance is None:
            return unlimited(source)
        return Asker(source, lambda took: allowance.charge_work(took, self._clock.seconds()))

    def _check_voice(self, user: User) -> None:
        if self._sanctions.any and self._sanctions.muted(user.name):
            raise NotPermitted("is muted")

    def _recipient(self, session: Session, target: Target) -> User:
        user = self._users.get(target.key)
        if user is not None:
            if user.kept and not session.immediate:  # to oneself, it is for one's other devices
                return user
            for other in user.sessions:
                if other.present and other is not session:
                    return user
        raise UnableToSend("the recipient is not here")

    def received(self, session: Session, number: int) -> None:
        """``session`` says that it has everything up to ``number`` that was sent to it."""
        user = session.user
        if user is None:
            return
        number = min(number, self._seen if session.position is None else session.position)
        if number > user.position:
            user.position = number
            if user.grace:
                self._ledger.note_position(user.id, number)
        unconfirmed, own = user.unconfirmed, []
        while unconfirmed and unconfirmed[0][0] <= number:
            entry = unconfirmed.pop(0)
            if entry[1].session is session:  # to oneself: another connection is to have it
                own.append(entry)
            else:
                self._delivered(*entry)
        unconfirmed[:0] = own

    def rejected(self, session: Session, number: int) -> None:
        """``session`` says that it could not read the message ``number``; it has all before."""
        self.received(session, number - 1)
        user = session.user
        if user is not None and user.unconfirmed and user.unconfirmed[0][0] == number:
            self._undelivered(user.unconfirmed.pop(0)[1])

    def _delivered(self, number: int, request: Request) -> None:
        if not request.delivered:
            request.delivered = True
            if request.session.user is not None:
                request.session.delivered(request, number)

    def _undelivered(self, request: Request) -> None:
        if not request.delivered and request.session.user is not None:
            request.session.undelivered(request)

    # Reading back

    def history(
        self, session: Session, argument: str, span: Span
    ) -> Deferred[tuple[list[Message], bool]]:
        """Read a part of a conversation that the session's user is a party to.

        :param argument: the other user, a room or ALL.
        :return: what ``archive.history`` returns.
        :raises NoSuchRoom: there is no such room.
        :raises NotPermitted: the user is not a member of the room.
        :raises UnableToSend: nobody and nothing can be called so.
        :raises TooFast: too much was read.
        """
        conversation = self._conversation(session, argument)
        return self._ledger.history(conversation, span, self.asker(session))

    def search(
        self, session: Session, argument: str, query: str, count: int
    ) -> Deferred[list[Message]]:
        """Find messages by their words among all that the session's user may read.

        :param argument: the conversation to look in, as for ``history``; all if it is empty.
        :raises: as ``history`` does.
        """
        user = session.user
        assert user is not None
        conversation = self._conversation(session, argument) if argument else None
        rooms = [room.id for room in self._rooms.of(user.id)]
        return self._ledger.search(user.id, rooms, conversation, query, count, self.asker(session))

    def _conversation(self, session: Session, argument: str) -> Conversation:
        user = session.user
        assert user is not None
        target = parse_target(argument)
        if target.audience is Audience.ALL:
            return PUBLIC
        if target.audience is Audience.ROOM:
            return Conversation(self._rooms.joined(argument, user.id).id, "")
        return Conversation(user.id, target.key)

    # Rooms

    def join(self, session: Session, name: str, id: str | None, *, private: bool) -> Request:
        """Become a member of a room, which is made if there is none. As for all that changes a
        room, ``Session.told`` or ``Session.refused`` follows.

        :param private: whether it must be a private one.
        :raises NoSuchRoom: nothing can be called so.
        :raises NotPermitted: the room is private and the user not invited, or public and should be
            private; or the user is in too many rooms, or users of the session's address have made
            too many.
        :raises Unavailable: it can't be written.
        """
        user = self._asking(session)
        changes = self._rooms.join(
            name,
            user.id,
            private=private,
            since=self._ledger.newest,
            address=UNKNOWN if session.host is None else network(session.host),
        )
        return self._ask(changes, Request(session, user, name, id))

    def leave_room(self, session: Session, name: str, id: str | None) -> Request:
        """Be a member of a room no longer.

        :raises NoSuchRoom, NotPermitted, Unavailable: as ``send`` does.
        """
        user = self._asking(session)
        room = self._rooms.joined(name, user.id)
        changes = self._rooms.leave(room, user.id, until=self._ledger.newest)
        return self._ask(changes, Request(session, user, name, id))

    def kick(self, session: Session, name: str, whom: str, id: str | None) -> Request:
        """Make a member leave one's room.

        :raises NoSuchRoom, Unavailable: as ``send`` does.
        :raises NotPermitted: the room is not one's own, or ``whom`` not another member.
        """
        user = self._asking(session)
        room = self._rooms.joined(name, user.id)
        other = self._users.get(fold(whom))
        changes = self._rooms.kick(
            room, user.id, 0 if other is None else other.id, until=self._ledger.newest
        )
        return self._ask(changes, Request(session, user, name, id))

    def invite(self, session: Session, name: str, whom: str, id: str | None) -> Request:
        """Let somebody into a room.

        :raises NoSuchRoom, Unavailable: as ``send`` does.
        :raises UnableToSend: there is no user ``whom`` who could come.
        :raises NotPermitted: the room is private and not one's own, or ``whom`` is a member.
        """
        user = self._asking(session)
        room = self._rooms.joined(name, user.id)
        other = self._users.get(fold(whom))
        if other is None or not other.kept:
            raise UnableToSend("who is invited is not here")
        changes = self._rooms.invite(room, user.id, other.id)
        return self._ask(changes, Request(session, user, name, id))

    def set_topic(self, session: Session, name: str, topic: str, id: str | None) -> Request:
        """Say what a room is about.

        :raises NoSuchRoom, NotPermitted, Unavailable: as ``send`` does.
        :raises NotPermitted: also if ``topic`` is longer than ``MAX_TOPIC`` or not one line, or the
            user is muted.
        """
        user = self._asking(session)
        room = self._rooms.joined(name, user.id)
        self._check_voice(user)
        if len(topic) > MAX_TOPIC or len(topic.splitlines()) > 1:
            raise NotPermitted("a topic that is too long")
        return self._ask([TopicSet(room.id, topic.strip())], Request(session, user, name, id))

    def room(self, session: Session, name: str) -> Room:
        """Return a room that the session's user may know of.

        :raises NoSuchRoom: there is none.
        """
        return self._rooms.find(name, self._asking(session).id)

    def rooms(self, session: Session, after: str = "") -> Listing[Room]:
        """All rooms that the session's user may know of, in the order of their folded names, those
        behind ``after``.
        """
        return self._rooms.seen_by(self._asking(session).id, after)

    def members(self, session: Session, name: str, after: str = "") -> Listing[User]:
        """The members of a room, in the order of their folded names, those behind ``after``.

        :raises NoSuchRoom: there is none, or it is private and not for the session's user.
        """
        room = self.room(session, name)
        members = self._members.get(room.id)
        if members is None:  # sorted once, and kept in order from then on
            users = (self._by_id[id] for id in room.members if id in self._by_id)
            members = self._members[room.id] = Ordered(lambda user: user.key, users)
        return Listing(len(members), members.after(after))

    def _unlist(self, room: Room, user: User) -> None:
        if (members := self._members.get(room.id)) is not None:
            members.discard(user)

    def name_of(self, id: int) -> str:
        """The name of the user with the number ``id``; empty if it is gone."""
        user = self._by_id.get(id)
        return "" if user is None else user.name

    @staticmethod
    def _asking(session: Session) -> User:
        assert session.user is not None, "a session that is not registered can't ask"
        return session.user

    def _ask(self, changes: Sequence[Change], request: Request) -> Request:
        """Hand in what was asked for; the last of ``changes`` is what answers it."""
        for change in changes[:-1]:
            self._ledger.change(change, None)
        self._ledger.change(changes[-1], request)
        return request

    def _change(self, changes: Iterable[Change]) -> None:
        """Hand in what follows from something else, and what nobody waits for."""
        for change in changes:
            try:
                self._ledger.change(change, None)
            except Unavailable:
                self._not_changed(change)

    # Accounts

    def account(self, session: Session) -> Account:
        """Return the account of the session's user.

        :raises NotPermitted: it has none.
        """
        account = self._asking(session).account
        if account is None:
            raise NotPermitted("has no account")
        return account

    def make_account(
        self, session: Session, key: str, hashing: Hashing | None, id: str | None
    ) -> Request:
        """Give the session's user an account, and so its name for ever. As for all that changes an
        account, ``Session.done`` or ``Session.refused`` follows.

        :param key: as in an authorized_keys file; empty for none.
        :param hashing: makes the hash of a password; None for none.
        :raises NotPermitted: it has one, or neither is given, or the key is none.
        :raises TooFast: too many accounts were made from this address, or passwords hashed.
        :raises Unavailable: it can't be written.
        """
        user = self._asking(session)

        def changes(hash: str) -> Sequence[Change]:
            return self._accounts.make(user.id, user.name, user.since, key, hash)

        changes(_hash_of(hashing))  # who may have none has used up nothing
        self._limiter.registration(session.host, self._clock.seconds())
        return self._ask_hashed(changes, hashing, Request(session, user, "register", id, _ACCOUNT))

    def add_key(self, session: Session, key: str, id: str | None) -> Request:
        """Let a key into the account.

        :raises NotPermitted: there is no account, the key is none, or there are too many.
        :raises Unavailable: it can't be written.
        """
        changes = self._accounts.add_key(self.account(session), key)
        return self._ask(changes, Request(session, self._asking(session), "add", id, _ACCOUNT))

    def remove_key(self, session: Session, key: str, id: str | None) -> Request:
        """Let a key in no more. Other sessions stay; their tokens are good no more.

        :raises NotPermitted: there is no account, it has no such key, or that is its last way in.
        :raises Unavailable: it can't be written.
        """
        changes = self._accounts.remove_key(self.account(session), key)
        return self._ask(changes, Request(session, self._asking(session), "remove", id, _ACCOUNT))

    def set_password(self, session: Session, hashing: Hashing | None, id: str | None) -> Request:
        """Set the account's password, or have none. Other sessions stay; their tokens are good no
        more.

        :param hashing: makes the hash of the password; None for none.
        :raises NotPermitted: there is no account, or it is its last way in.
        :raises TooFast: too many passwords were hashed.
        :raises Unavailable: it can't be written.
        """
        request = Request(session, self._asking(session), "password", id, _ACCOUNT)

        def changes(hash: str) -> Sequence[Change]:
            return self._accounts.set_password(self.account(session), hash)

        return self._ask_hashed(changes, hashing, request)

    def _ask_hashed(
        self,
        changes: Callable[[str], Sequence[Change]],
        hashing: Hashing | None,
        request: Request,
    ) -> Request:
        """Hand in what ``changes`` returns of a password's hash, which is made before: but first it
        is looked whether that is permitted, since it costs a lot.
        """
        permitted = changes(_hash_of(hashing))
        if hashing is None:
            return self._ask(permitted, request)

        def go_on(hash: str) -> None:
            if request.session.user is request.user:
                self._ask(changes(hash), request)

        def fail(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, ChatError):
                self._log.failure("while hashing a password", failure)
                error = Unavailable("can't hash", retry_after=TRY_AGAIN)
            # Not before the asker has the request.
            self._clock.callLater(0, self._refuse, request, error)

        hashing(self.asker(request.session)).addCallback(go_on).addErrback(fail)
        return request

    def unmake_account(self, session: Session, id: str | None) -> Request:
        """Be a guest again.

        :raises NotPermitted: there is no account.
        :raises Unavailable: it can't be written.
        """
        account = self.account(session)
        changes = [AccountGone(account.id, _digest(session.token))]
        return self._ask(
            changes, Request(session, self._asking(session), "unregister", id, _ACCOUNT)
        )

    def _is_account(self, user: User) -> None:
        """Note that ``user`` has an account, or none."""
        user.account = self._accounts.get(user.id)
        user.grace = self._grace if user.account is None else math.inf

    def _account_changed(self, user: User | None, change: Change, request: Origin) -> None:
        if isinstance(change, AccountMade) and user is None:
            if change.id in self._going:
                return  # it was made in vain
            row = SavedUser(change.id, change.name, b"", change.since, change.since, ACCOUNT)
            self._accounts.apply(change)
            self._welcome_back(row)  # its connection was lost before this
            return
        self._accounts.apply(change)
        if user is not None:
            match change:
                case AccountMade() | AccountGone():
                    user.registered = True
                    self._is_account(user)
                case KeyRemoved() | PasswordSet() if request is not None:
                    # The operator's command (``change_account``) has no connection that could stay.
                    own = request.user is user
                    user.secrets = (_digest(request.session.token),) if own else ()
            if not user.sessions and user.account is None:
                self._keep(user, None) if user.grace else self._forget(user)
        if request is not None and request.session.user is not None:
            self._audit_account(request)
            request.session.done(request)

    def _turn_out(self, user: User, why: str) -> None:
        """Let go of a user's sessions, and of the user."""
        user.account = None
        for session in list(user.sessions):
            self.leave(session, for_good=True)
            session.dismissed(why)
        if self._by_id.get(user.id) is user:
            self._forget(user)

    # What operators do

    def _operator(self, session: Session) -> User:
        user = self._asking(session)
        if user.account is None or not user.account.operator:
            raise NotPermitted("not an operator")
        return user

    def kick_out(self, session: Session, name: str, reason: str) -> str:
        """Close all connections of a user, who may come back; return the user's name.

        :raises NotPermitted: one is no operator, or the reason is not a line.
        :raises UnableToSend: nobody of that name is here.
        """
        operator = self._operator(session)
        reason = check_reason(reason)
        user = self._users.get(fold(name))
        if user is None or not user.sessions:
            raise UnableToSend("who is to be kicked is not here")
        self._audit(operator.name, "kick", user.name, reason)
        self._dismiss(user.sessions, "Kicked", operator.name, reason)
        return user.name

    def ban(
        self, session: Session, subject: str, duration: str, reason: str, id: str | None
    ) -> Request:
        """Keep a name, an address or a network out. As for all sanctions, ``Session.done`` or
        ``Session.refused`` follows.

        :raises NotPermitted: one is no operator, or what is given is none of what it should be.
        :raises Unavailable: it can't be written.
        """
        user = self._operator(session)
        changes = self._sanctions.ban(subject, duration, reason, user.name)
        return self._ask(changes, Request(session, user, subject, id, "BAN"))

    def mute(
        self, session: Session, name: str, duration: str, reason: str, id: str | None
    ) -> Request:
        """Let a user not talk.

        :raises NotPermitted, Unavailable: as ``ban`` does.
        """
        user = self._operator(session)
        changes = self._sanctions.mute(name, duration, reason, user.name)
        return self._ask(changes, Request(session, user, name, id, "MUTE"))

    def pardon(self, session: Session, verb: str, subject: str, id: str | None) -> Request:
        """End a sanction; ``verb`` is ``UNBAN`` or ``UNMUTE``.

        :raises NotPermitted: one is no operator, or there is no such sanction.
        :raises Unavailable: it can't be written.
        """
        user = self._operator(session)
        changes = self._sanctions.pardon(BAN if verb == "UNBAN" else MUTE, subject)
        return self._ask(changes, Request(session, user, subject, id, verb))

    def sanctions(self, session: Session, after: str = "") -> Listing[Sanction]:
        """All sanctions, in the order of their keys, those behind ``after``.

        :raises NotPermitted: one is no operator.
        """
        self._operator(session)
        return self._sanctions.listing(after)

    def add_account(self, session: Session, name: str, key: str, hash: str) -> Request:
        """Make an account for a name that nobody has. From now on nobody else can take the name. As
        for ``change_account``, ``Session.done`` or ``Session.refused`` follows.

        :param key: as in an authorized_keys file; empty for none.
        :param hash: of the password; empty for none.
        :raises MalformedName: nobody may be called so.
        :raises NotPermitted: the asker is no operator; somebody has the name, a guest perhaps;
            there is neither key nor password, or the key is none.
        :raises Unavailable: it can't be written.
        """
        operator = self._operator(session)
        check_user_name(name)
        if fold(name) in self._users:
            raise NotPermitted(f"{name} is the name of somebody: an account, or a guest")
        user = User(new_id(), name, b"", self._ledger.newest, math.inf)
        changes = self._accounts.make(user.id, name, user.since, key, hash)
        request = self._ask(changes, Request(session, operator, name, None, "add account"))
        self._add(user)
        return request

    def change_account(
        self,
        session: Session,
        verb: str,
        name: str,
        decide: Callable[[Account], Sequence[Change]],
    ) -> Request:
        """Change somebody's account, or remove it (``UserGone``), which ends its sessions.

        :param verb: what is done, for the log.
        :param decide: returns the changes; it may raise ``NotPermitted``.
        :raises NotPermitted: the asker is no operator, or there is no such account.
        :raises Unavailable: it can't be written.
        """
        operator = self._operator(session)
        account = self._accounts.find(name)
        if account is None:
            raise NotPermitted(f"there is no account {name}")
        return self._ask(decide(account), Request(session, operator, name, None, verb))

    def _removed(self, change: UserGone, request: Request) -> None:
        """Called when the operator's removal of an account has been committed."""
        self._accounts.apply(change)
        if (user := self._by_id.get(change.id)) is not None:
            self._turn_out(user, "the account was removed")
        self._audit_account(request)
        request.session.done(request)

    def _audit_account(self, request: Request) -> None:
        if request.verb != _ACCOUNT:  # it was not its own user
            self._audit(request.user.name, request.verb, request.argument, "")

    def population(self) -> Population:
        """Count the users, sessions, held guests and rooms."""
        return Population(
            len(self._roster),
            self._session_count,
            len(self._held),
            self._accounts.listing().count,
            len(self._rooms),
            self._seen,
        )

    def _sanctioned(self, change: Sanctioned | Pardoned, request: Origin) -> None:
        self._sanctions.apply(change)
        by = "" if request is None else request.user.name
        if isinstance(change, Pardoned):
            self._audit(by, f"un{change.kind}", change.subject, "")
        else:
            self._audit(by, change.kind, change.subject, change.reason, change.until)
            if change.kind == BAN:
                self._dismiss(self._whom(change.subject), "Banned", by, change.reason)
        if request is not None and request.session.user is not None:
            request.session.done(request)

    def _whom(self, subject: str) -> list[Session]:
        """All sessions that a ban is for; operators are not among them."""
        banned = network_of(subject)
        named = self._users.get(subject)
        users = [named] if named is not None else () if banned is None else self._users.values()
        return [
            session
            for user in users
            if user.account is None or not user.account.operator
            for session in user.sessions
            if banned is None or is_within(session.host, banned)
        ]

    def _dismiss(self, sessions: Iterable[Session], what: str, by: str, reason: str) -> None:
        why = f"{what} by {by}: {reason}" if reason else f"{what} by {by}"
        for session in list(sessions):
            self.leave(session, for_good=True)
            session.dismissed(why)

    def _audit(self, by: str, what: str, subject: str, reason: str, until: int = 0) -> None:
        self._log.info(
            "audit: {by} {what} {subject} until {until}: {reason!r}",
            by=by,
            what=what,
            subject=subject,
            until=until or "ever",
            reason=reason,
        )

    # What is committed

    def _committed(self, batch: Sequence[tuple[Entry, Origin]]) -> None:
        run: list[tuple[Message, Request]] = []
        key = None
        for entry, origin in batch:
            if type(entry) is Message and origin is not None:
                author = entry.author if entry.recipient else 0
                if run and key != (entry.recipient, entry.room, author):
                    self._guarded(self._deliver, run)
                    run = []
                if not run:
                    key = (entry.recipient, entry.room, author)
                run.append((entry, origin))
                continue
            if run:
                self._guarded(self._deliver, run)
                run = []
            if type(entry) is Message:
                self._seen = entry.number
            elif type(entry) is Repeat:
                self._guarded(self._repeated, entry, origin)
            elif type(entry) is Again:
                if origin is not None and origin.refusal is not None:
                    self._guarded(self._refuse, origin, origin.refusal)
            else:
                self._guarded(self._changed, entry, origin)
        if run:
            self._guarded(self._deliver, run)
        more = self._ledger.pressed
        for door in list(self._live):
            door.flush(more=more)

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function``: a fault of ours must not cost the rest of a batch."""
        try:
            function(*args)
        except Exception:  # noqa: BLE001
            self._log.failure("while delivering, {function}", function=function.__name__)

    def _failed(self, batch: Sequence[tuple[Entry, Origin]], error: Unavailable) -> None:
        self._rooms.failed()
        for entry, origin in batch:
            if isinstance(entry, (UserCame, AccountMade)):
                self._not_come(entry.id)
            if origin is not None:
                self._refuse(origin, error)
            elif not isinstance(entry, (Message, Repeat, Again)):
                self._not_changed(entry)

    def _refuse(self, request: Request, error: ChatError) -> None:
        # A registration that failed has left nobody behind whom the session could belong to.
        if request.session.user is not None or not request.user.registered:
            request.session.refused(request, error)

    def _not_come(self, id: int) -> None:
        user = self._by_id.get(id)
        if user is None or user.registered:
            return
        for session in list(user.sessions):
            session.user = None
            self._session_count -= 1
        user.sessions.clear()
        self._remove(user)

    def _not_changed(self, change: Change) -> None:
        """What follows from something else must be: it is tried again."""
        match change:
            case UserGone(id):
                self._unwritten.append(id)
            case RoomGone(id) | OwnerSet(id):
                self._rooms.not_settled(id)
                self._unsettled.append(id)
            case _:
                return
        self._retry_at = self._clock.seconds() + TRY_AGAIN
        self._plan_sweep()

    def _deliver(self, run: Sequence[tuple[Message, Request]]) -> None:
        """Bring what was said to the same users, one after the other, with nothing in between.

        It is handed on together, since many messages in one piece cost little more than one.
        """
        message, request = run[0]
        self._seen = run[-1][0].number
        origin = request.session
        if len(run) > 1 and any(request.session is not origin for _, request in run):
            self._deliver_from_several(run)
            return
        if origin.user is not None:
            for said, request in run:
                origin.sent(request, said.number, said.time)
        messages = [said for said, _ in run]
        if not message.recipient and not message.room:
            for door, live in self._live.items():
                door.deliver(messages, [s for s in live if s is not origin])
            return
        if message.recipient:
            self._expect(run)
        reached = self._reached(message, request)
        if len(reached) == 1 and reached[0] is not origin:
            reached[0].door.deliver(messages, reached)
        elif reached:
            self._bring(messages, [s for s in reached if s is not origin])

    def _deliver_from_several(self, run: Sequence[tuple[Message, Request]]) -> None:
        """The same for messages of several sessions: no session gets its own messages back."""
        message, request = run[0]
        if message.recipient:
            self._expect(run)
        origins = {request.session for _, request in run}
        reached = self._reached(message, request)
        hearing = [s for s in reached if s in origins]
        # What one session said without a pause stays together: thousands of short messages, each
        # brought by itself to hundreds who talk too, would keep all others waiting.
        for session, block in groupby(run, lambda said: said[1].session):
            messages = []
            for said, request in block:
                messages.append(said)
                if session.user is not None:
                    session.sent(request, said.number, said.time)
            self._bring(messages, [s for s in hearing if s is not session])
        self._bring([said for said, _ in run], [s for s in reached if s not in origins])

    def _expect(self, run: Sequence[tuple[Message, Request]]) -> None:
        """Remember who is to be told when the recipient of direct messages has them."""
        recipient = run[0][1].recipient
        assert recipient is not None
        for said, request in run:
            if recipient.id in self._by_id:
                recipient.expect(said.number, request)
            else:
                self._undelivered(request)  # it went for good before the message was committed

    def _reached(self, message: Message, request: Request) -> Sequence[Session]:
        """All live sessions of those to whom ``message`` was said, and of who said it."""
        if message.room:
            room = self._rooms.get(message.room)
            return [] if room is None else list(self._sessions_in(room))
        if not message.recipient:
            return [session for live in self._live.values() for session in live]
        recipient, sender = request.recipient, request.user
        assert recipient is not None
        if recipient is not sender and len(sender.live) > 1:
            return recipient.live + sender.live
        return recipient.live

    def _bring(self, messages: Sequence[Message], sessions: Iterable[Session]) -> None:
        for door, of_door in _by_door(sessions).items():
            door.deliver(messages, of_door)

    def _sessions_in(self, room: Room) -> Iterable[Session]:
        by_id = self._by_id
        for id in room.members:
            if (user := by_id.get(id)) is not None:
                yield from user.live

    def _repeated(self, repeat: Repeat, request: Origin) -> None:
        if request is None or request.session.user is None:
            return
        request.session.sent(request, repeat.number, repeat.time)
        recipient = request.recipient
        if recipient is None:
            return
        if recipient.position >= repeat.number:
            self._delivered(repeat.number, request)
        else:
            recipient.expect(repeat.number, request)

    def _changed(self, change: Change, request: Origin) -> None:
        match change:
            case UserCame(id):
                if (user := self._by_id.get(id)) is not None:  # else it is gone already
                    self._came(user)
            case Joined(room_id, user_id):
                self._joined(change, self._rooms.get(room_id), self._by_id.get(user_id), request)
            case Left(room_id, user_id):
                self._left(change, self._rooms.get(room_id), self._by_id.get(user_id), request)
            case TopicSet(room_id):
                self._rooms.apply(change)
                user = None if request is None else request.user
                self._tell("topic", self._rooms.get(room_id), user, request)
            case Invited(room_id, user_id):
                user = self._by_id.get(user_id)
                if user is not None:
                    self._rooms.apply(change)
                live = [] if user is None else user.live
                self._tell("invited", self._rooms.get(room_id), user, request, live)
            case AccountMade(user_id) | AccountGone(user_id) | RoleSet(user_id):
                self._account_changed(self._by_id.get(user_id), change, request)
            case KeyAdded(user_id) | KeyRemoved(user_id) | PasswordSet(user_id):
                self._account_changed(self._by_id.get(user_id), change, request)
            case UserGone() if request is not None:
                self._removed(change, request)
            case Sanctioned() | Pardoned():
                self._sanctioned(change, request)
            case UserGone(id):
                self._going.discard(id)
                self._accounts.apply(change)
                self._rooms.apply(change)
            case RoomGone(id):
                self._rooms.apply(change)
                if self._rooms.get(id) is None:
                    self._members.pop(id, None)
                self._settle(id)  # somebody may have joined in time
            case OwnerSet(room_id, user_id):
                self._rooms.apply(change)
                self._tell("owner", self._rooms.get(room_id), self._by_id.get(user_id), request)
            case _:
                self._rooms.apply(change)

    def _came(self, user: User) -> None:
        user.registered = True
        if not user.sessions:  # it went before it knew its token: nobody can come back
            self._forget(user)
        for session in list(user.sessions):
            session.registered()

    def _joined(
        self, change: Joined, room: Room | None, user: User | None, request: Origin
    ) -> None:
        if user is None:  # it is gone for good, and its membership goes with it
            self._write_gone(change.user)
            self._settle(change.room)
            return
        new = room is not None and user.id not in room.members
        self._rooms.apply(change)
        if new and change.room in self._members:
            self._members[change.room].put(user)
        self._tell("joined", room, user, request, None if new else ())

    def _left(self, change: Left, room: Room | None, user: User | None, request: Origin) -> None:
        hearers: list[Session] = []
        if room is not None and change.user in room.members:
            hearers = list(self._sessions_in(room))  # who leaves hears it too
        self._rooms.apply(change)
        if room is not None and user is not None:
            self._unlist(room, user)
        self._tell("left", room, user, request, hearers)
        self._settle(change.room)

    def _tell(
        self,
        what: str,
        room: Room | None,
        user: User | None,
        request: Origin,
        hearers: Iterable[Session] | None = None,
    ) -> None:
        """Tell the asker of what befell ``user`` in ``room``, and ``hearers``, else its members."""
        if user is None or room is None:
            if request is not None:
                self._refuse(request, NoSuchRoom("it went meanwhile"))
            return
        by = None if request is None or request.user is user else request.user.name
        event = Event(what, room, user.name, by)
        asker = None if request is None else request.session
        if asker is not None and asker.user is not None:
            assert request is not None
            asker.told(event, request)
        others = self._sessions_in(room) if hearers is None else hearers
        for door, sessions in _by_door(s for s in others if s is not asker).items():
            door.tell(event, sessions)


def _by_door(sessions: Iterable[Session]) -> dict[Door, list[Session]]:
    by_door: dict[Door, list[Session]] = {}
    for session in sessions:
        by_door.setdefault(session.door, []).append(session)
    return by_door


def _deduplication_key(session: Session, to: str, text: str, id: str | None) -> str | None:
    """Return what a message and its repetition have in common and no other of the user has: the
    client's instance and its Id. Of a client that does not say which it is, another one of the same
    user may use the same Id, so that recipient and text belong to it.
    """
    if id is None:
        return None
    if session.instance:
        return f"{id}\n{session.instance}"  # neither has a line end
    digest = hashlib.blake2b(f"{to}\n{text}".encode(), digest_size=9).digest()
    return f"{id}\n\n{b2a_base64(digest, newline=False).decode()}"


def _hash_of(hashing: Hashing | None) -> str:
    """Return what stands for the hash of a password before that is made."""
    return "" if hashing is None else "to be made"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
