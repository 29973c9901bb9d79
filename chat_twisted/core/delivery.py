"""Delivery: passes messages and events to the sessions of this node, in the order of commits.

``routes`` selects the sessions. A new session first gets the messages that its user has missed,
page by page, with the events that happen meanwhile in their places; then it is *live*. Senders of
direct messages get a receipt when the recipient has confirmed them. This module must not decide
anything, or know protocols, or where messages are stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chat_twisted.core.entries import Duplicate, Signalled
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.events import Event, NameChanged
from chat_twisted.core.message import Message, seen_by
from chat_twisted.core.model import User
from chat_twisted.core.reads import Page, Reads
from chat_twisted.core.recent import Recent
from chat_twisted.core.routes import Routes
from chat_twisted.core.sessions import Door, Request, Session
from chat_twisted.core.state import State
from chat_twisted.core.usage import Usage
from chat_twisted.log_lines import explain
from chat_twisted.logs import Logger

MAX_UNCONFIRMED = 1000
"""Maximum number of a user's unconfirmed direct messages whose senders wait for a receipt. Beyond
this the oldest is delivered all the same, but without a receipt."""

MAX_EVENTS = 10_000
"""Maximum number of events that wait for a session that is catching up. With more, the session is
dropped, and its client reconnects."""

READ_AGAIN = 1
MAX_READ_AGAIN = 10
"""Seconds after which a failed reading of missed messages is tried again: the first time, and the
maximum, since each further time takes twice as long."""

Said = tuple[Message, Request | None]
"""A committed message, and its request, if that was made on this node."""


class CatchingUp:
    """The progress of a session that is catching up.

    :ivar position: the session has all messages up to this number.
    :ivar name: the name of the user as far as the session knows.
    :ivar own: whether the session also gets messages that the user has sent.
    :ivar events: the waiting events, each with the number of the last message before it.
    """

    __slots__ = ("events", "name", "own", "position")

    def __init__(self, position: int, name: str, *, own: bool) -> None:
        self.position = position
        self.name = name
        self.own = own
        self.events: deque[tuple[int, Event]] = deque()


class Traffic(NamedTuple):
    """The numbers of messages since the start: those that were committed, by their targets, and
    how often one was passed to a session here; and the number of the sessions that are live.
    """

    to_all: int
    to_rooms: int
    to_users: int
    deliveries: int
    live: int


class Delivery:
    """Delivers committed messages and events to sessions.

    :param reads: reads the missed messages.
    :param clock: a monotonic clock.
    :param state: returns the state, which may be ahead of the delivery.
    :param newest: the number of the newest stored message, or 0.
    :param usage: the rate limits of sessions.
    :param recent: the newest stored messages; None for none.
    """

    _log = Logger()

    def __init__(
        self,
        reads: Reads,
        clock: IReactorTime,
        state: Callable[[], State],
        newest: int,
        usage: Usage,
        recent: Recent | None = None,
    ) -> None:
        self._recent = recent or Recent(newest)
        self._reads = reads
        self._clock = clock
        self._state = state
        self._usage = usage
        now = state()
        self.delivered_number = newest
        """The number of the newest delivered message."""
        self.routes: Routes[Session] = Routes(
            ((user.id, user.name, user.real_name, user.login_name) for user in now.users.values()),
            ((room.id, room.name) for room in now.rooms.values()),
            (
                (user.id, user.rooms, {epoch: s.present for epoch, s in user.sessions.items()})
                for user in now.users.values()
                if user.sessions
            ),
        )
        # The live sessions by door, as messages to ALL need them, in the order of their logins.
        self._live: dict[Door, dict[Session, None]] = {}
        self._cursors: dict[int, int] = {}  # confirmed numbers of users with sessions here
        # Numbers that were confirmed on other nodes, or by sessions that have ended, until the
        # stored cursors have them.
        self._unstored: dict[int, int] = {}
        self._receipts: dict[int, list[tuple[int, Request]]] = {}  # unconfirmed, by recipient
        self._to_all = self._to_rooms = self._to_users = self._deliveries = 0

    def traffic(self) -> Traffic:
        """Count messages, deliveries and live sessions."""
        live = sum(map(len, self._live.values()))
        return Traffic(self._to_all, self._to_rooms, self._to_users, self._deliveries, live)

    # Sessions

    def attach(self, session: Session) -> None:
        """Add a session whose login is committed. It gets messages after ``arrive``."""
        follows_everybody = session.policy.follows_everybody
        self.routes.attach(session, session.user, follows_everybody=follows_everybody)

    def arrive(self, session: Session, resume: int | None = None) -> None:
        """Start to deliver messages to a session, first those that it has missed.

        :param resume: the number of the last message that the client has: later messages to and
            from the user are missed. None: the messages to the user that were not confirmed are
            missed.
        """
        user = self._state().users.get(session.user)
        if user is None or not session.policy.confirms:
            self._go_live(session)
            return
        cursor = self.confirmed(user)
        start = max(cursor if resume is None else resume, user.since)
        rooms = self.routes.rooms_of(session.user)
        if start >= self.delivered_number or self._recent.has_missed_nothing(user.id, rooms, start):
            self._go_live(session)
        else:
            name = self.routes.name_of(session.user)
            session.catching_up = CatchingUp(start, name, own=resume is not None)
            self._catch_up(session)

    def confirmed(self, user: User) -> int:
        """Return the number up to which a user has confirmed all messages, on any node."""
        return max(user.cursor, self._cursors.get(user.id, 0), self._unstored.get(user.id, 0))

    def _go_live(self, session: Session) -> None:
        session.catching_up = None
        session.live = True
        self._live.setdefault(session.door, {})[session] = None

    def detach(self, session: Session) -> int:
        """Remove a session.

        :return: the number that the user has confirmed, if it was their last session here; else 0.
        """
        user = session.user
        self.routes.detach(session, user)
        self._live.get(session.door, {}).pop(session, None)
        session.live = False
        session.catching_up = None
        session.ended = True
        if self.routes.of_user(user):
            return 0
        confirmed = self._cursors.pop(user, 0)
        if confirmed and session.policy.confirms:
            self._remember(user, confirmed)
        return confirmed

    # Catching up

    def _catch_up(self, session: Session, again_after: float = READ_AGAIN) -> None:
        missing = session.catching_up
        if not isinstance(missing, CatchingUp):
            return  # the session has ended
        if missing.position >= self.delivered_number:
            self._go_live(session)
            return
        if wait := self._usage.work_wait(session):
            self._clock.callLater(wait, self._catch_up, session, again_after)
            return

        def bring(page: Page) -> None:
            if session.catching_up is not missing:
                return
            self._bring_page(session, missing, page)
            if session.catching_up is not missing:
                return  # the session has ended during that
            missing.position = page.upto
            if page.upto >= self.delivered_number:
                self._go_live(session)
            else:
                session.when_ready(lambda: self._catch_up(session))

        def fail(failure: Failure) -> None:
            if failure.check(Unavailable):  # temporary
                later = min(2 * again_after, MAX_READ_AGAIN)
                self._clock.callLater(again_after, self._catch_up, session, later)
                return
            self._log.error(
                "can't read: {reason}", event="read-failed", reason=explain(failure.value)
            )
            if session.catching_up is missing:
                session.drop("missed messages can't be read")

        # Never read more than was delivered to live sessions. So the position alone says whether a
        # session has caught up, and the session gets no message twice.
        reading = self._reads.missed(
            session.user,
            missing.position,
            lambda: self.delivered_number,
            self._usage.asker(session),
            own=missing.own,
        )
        reading.addCallbacks(bring, fail)
        reading.addErrback(lambda fault: self._log.failure("while catching up", fault))

    def _bring_page(self, session: Session, missing: CatchingUp, page: Page) -> None:
        user, events = session.user, missing.events
        messages, first = seen_by(user, missing.name, page.messages), 0
        while events and events[0][0] <= page.upto:
            number, event = events.popleft()
            last = first
            while last < len(messages) and messages[last].number <= number:
                last += 1
            if last > first:
                self._give(session.door, messages[first:last], [session])
                first = last
            session.door.tell(event, [session])
            if isinstance(event, NameChanged) and event.before == missing.name:
                missing.name = event.after
                messages = seen_by(user, missing.name, messages)
        if first < len(messages):
            self._give(session.door, messages[first:], [session])

    # Messages

    def deliver(self, run: Sequence[Said]) -> None:
        """Deliver consecutive messages with the same recipients.

        Doors get them together, because many messages in one piece cost little more than one.
        """
        message, request = run[0]
        messages = [said for said, _ in run]
        self.delivered_number = run[-1][0].number
        self._recent.note(messages)
        if message.recipient:
            self._to_users += len(run)
        elif message.room:
            self._to_rooms += len(run)
        else:
            self._to_all += len(run)
        origin = None if request is None else request.session
        if len(run) > 1 and any((r and r.session) is not origin for _, r in run):
            self._deliver_from_several(run)
            return
        self._tell_sent(run, origin)
        if not message.recipient and not message.room:
            for door, live in self._live.items():
                self._give(door, messages, [s for s in live if s is not origin])
            return
        reached = self._reached(message)
        if len(reached) == 1:
            [only] = reached
            if only.live and only is not origin:
                self._deliveries += len(run)  # as ``_give`` does, without its call: the usual case
                only.door.deliver(messages, [only])
        elif reached:
            self._bring(messages, [s for s in reached if s.live and s is not origin])

    def _tell_sent(self, run: Iterable[Said], origin: Session | None) -> None:
        if origin is None:
            return
        for said, request in run:
            assert request is not None
            if not origin.ended:
                origin.sent(request, said)
            if said.recipient:
                self._expect(said.recipient, said.number, request)

    def _deliver_from_several(self, run: Sequence[Said]) -> None:
        """Deliver messages that several sessions have sent: no session gets its own back."""
        origins = {request.session for _, request in run if request is not None}
        if run[0][0].recipient or run[0][0].room:
            reached = [s for s in self._reached(run[0][0]) if s.live]
        else:
            reached = [s for live in self._live.values() for s in live]
        hearing = [s for s in reached if s in origins]
        # Consecutive messages of one session stay together. Thousands of short messages, each
        # delivered separately to hundreds of sending sessions, would delay all others.
        for session, group in groupby(run, lambda said: said[1] and said[1].session):
            block = list(group)
            self._tell_sent(block, session)
            self._bring([said for said, _ in block], [s for s in hearing if s is not session])
        self._bring([said for said, _ in run], [s for s in reached if s not in origins])

    def signal(self, signalled: Signalled, besides: Session | None) -> None:
        """Pass a signal on to the live sessions that a message would reach.

        :param besides: the session that has asked for it, or None.
        """
        if signalled.recipient or signalled.room:
            reached = self._reached(signalled)
        else:
            reached = self.routes.everybody
        hearing = (s for s in reached if s.live and s is not besides)
        for door, of_door in by_door(hearing).items():
            door.signal(signalled, of_door)

    def left(self, user: int, until: int) -> None:
        """Note that a user has left a room (``Recent.left``)."""
        self._recent.left(user, until)

    def _reached(self, message: Message | Signalled) -> Collection[Session]:
        """Return the sessions here of a message's recipients and of its author."""
        if message.room:
            return self.routes.in_room(message.room)
        recipient = self.routes.of_user(message.recipient)
        author = self.routes.of_user(message.author)
        if len(author) < 2 or message.author == message.recipient:
            return recipient
        return [*recipient, *author]

    def _bring(self, messages: Sequence[Message], sessions: Iterable[Session]) -> None:
        for door, of_door in by_door(sessions).items():
            self._give(door, messages, of_door)

    def _give(self, door: Door, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        self._deliveries += len(messages) * len(sessions)
        door.deliver(messages, sessions)

    def flush(self, *, more: bool) -> None:
        """Tell the doors that a batch is delivered (``Door.flush``)."""
        for door in list(self._live):
            door.flush(more=more)

    # Events

    def tell(self, event: Event, sessions: Iterable[Session], besides: Session | None) -> None:
        """Deliver an event to sessions.

        :param besides: a session that gets it as the answer to its request instead, or None.
        """
        live = []
        for session in sessions:
            if session is besides:
                continue
            missing = session.catching_up
            if session.live:
                live.append(session)
            elif isinstance(missing, CatchingUp):
                if len(missing.events) >= MAX_EVENTS:
                    session.drop("too much happened while it caught up")
                else:
                    missing.events.append((self.delivered_number, event))
        for door, of_door in by_door(live).items():
            door.tell(event, of_door)

    # Receipts

    def _expect(self, recipient: int, number: int, request: Request) -> None:
        """Remember the request of a direct message until its recipient confirms it."""
        if self._unstored and number <= self._unstored.get(recipient, 0):
            self._delivered(number, request)  # another node has delivered it before this one
            return
        unconfirmed = self._receipts.get(recipient)
        if unconfirmed is None:
            unconfirmed = self._receipts[recipient] = []
        elif len(unconfirmed) >= MAX_UNCONFIRMED:
            del unconfirmed[0]
        unconfirmed.append((number, request))

    def duplicate(self, request: Request, first: Duplicate, recipient: int) -> None:
        """Answer a duplicate, with the number of the first message and, if it is due, a receipt."""
        session = request.session
        if session is None or session.ended:
            return
        session.sent(request, first)
        user = self._state().users.get(recipient)
        if user is None or user.since >= first.number:
            return  # somebody else had the name when the message was sent
        if self.confirmed(user) >= first.number:
            self._delivered(first.number, request)
        else:
            self._expect(recipient, first.number, request)

    def received(self, session: Session, number: int) -> int:
        """Note that a client here has confirmed all messages up to ``number``; send receipts.

        :return: the number that the user has confirmed now, if it has advanced; else 0.
        """
        missing = session.catching_up
        if isinstance(missing, CatchingUp):
            number = min(number, missing.position)
        elif session.live:
            number = min(number, self.delivered_number)
        else:
            return 0
        self._send_receipts(session.user, number, session)
        if number <= self._cursors.get(session.user, 0):
            return 0
        self._cursors[session.user] = number
        return number

    def acknowledged(self, user: int, number: int) -> None:
        """Note that a user has confirmed all messages up to ``number`` on another node; send
        receipts. The number may be higher than ``delivered_number``.
        """
        self._send_receipts(user, number)
        self._remember(user, number)

    def _remember(self, user: int, number: int) -> None:
        known = self._state().users.get(user)
        if number <= (self.delivered_number if known is None else known.cursor):
            return  # the user has ended, or the stored cursor has it
        if number > self._unstored.get(user, 0):
            self._unstored[user] = number

    def cursor_moved(self, user: int, number: int) -> None:
        """Note that the stored cursor of a user has advanced to ``number``.

        If nobody here has confirmed that much, another node has, and its ``acknowledged`` may have
        been lost.
        """
        if self._unstored and self._unstored.get(user, number + 1) <= number:
            del self._unstored[user]
        if number > self._cursors.get(user, 0):
            self._send_receipts(user, number)

    def _send_receipts(self, user: int, number: int, by: Session | None = None) -> None:
        """Send the receipts of all messages to a user up to ``number``.

        :param by: the session that has confirmed them; None if it is on another node.
        """
        unconfirmed = self._receipts.get(user)
        if unconfirmed is None:
            return
        own = []
        while unconfirmed and unconfirmed[0][0] <= number:
            entry = unconfirmed.pop(0)
            if entry[1].session is by:  # to oneself: another session must confirm it
                own.append(entry)
            else:
                self._delivered(*entry)
        unconfirmed[:0] = own
        if not unconfirmed:
            self._receipts.pop(user, None)

    def rejected(self, session: Session, number: int) -> None:
        """Note that a client could not read a message."""
        unconfirmed = self._receipts.get(session.user)
        if unconfirmed and unconfirmed[0][0] == number:
            self._undelivered(unconfirmed.pop(0)[1])

    def absent(self, user: int, *, for_good: bool) -> None:
        """Fail outstanding receipts when the last session of a user on any node has ended.

        :param for_good: whether the user has ended, so that all receipts fail; otherwise only those
            fail whose senders can't wait for absent users.
        """
        if for_good:
            self._unstored.pop(user, None)
        unconfirmed = self._receipts.pop(user, [])
        waiting = []
        for entry in unconfirmed:
            session = entry[1].session
            if for_good or (session is not None and not session.policy.reaches_absent):
                self._undelivered(entry[1])
            else:
                waiting.append(entry)
        if waiting:
            self._receipts[user] = waiting

    def _delivered(self, number: int, request: Request) -> None:
        session = request.session
        if not request.delivered and session is not None and not session.ended:
            request.delivered = True
            session.delivered(request, number)

    def _undelivered(self, request: Request) -> None:
        session = request.session
        if not request.delivered and session is not None and not session.ended:
            session.undelivered(request)


def by_door(sessions: Iterable[Session]) -> dict[Door, list[Session]]:
    """Group sessions by their doors."""
    found: dict[Door, list[Session]] = {}
    for session in sessions:
        found.setdefault(session.door, []).append(session)
    return found
