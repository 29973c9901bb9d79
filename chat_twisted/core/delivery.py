"""Delivery: brings messages and events to the sessions of this node, in the order of commitment.

Who is reached, ``routes`` says. A session that comes back is brought what its user has missed, a
page at a time, and the events that are committed meanwhile between the messages where they belong;
then it is live. Senders of direct messages are told when the recipient has them. Nothing is decided
here, and nothing here knows a protocol or where messages are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chat_twisted.core.entries import Duplicate
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.events import Event, NameChanged
from chat_twisted.core.message import Message, seen_by
from chat_twisted.core.model import User
from chat_twisted.core.reads import Page, Reads
from chat_twisted.core.routes import Routes
from chat_twisted.core.sessions import Door, Request, Session
from chat_twisted.core.state import State
from chat_twisted.core.usage import Usage
from chat_twisted.logs import Logger

MAX_UNCONFIRMED = 1000
"""Of how many direct messages that a user has not confirmed the senders are remembered. Past that
the oldest is forgotten: it comes to the user all the same, but its sender won't be told."""

MAX_EVENTS = 10_000
"""Events that wait for one session to catch up. With more it is dropped, and its client comes back.
"""

READ_AGAIN = 1
MAX_READ_AGAIN = 10
"""Seconds after which what somebody has missed is read again, if too much else was to be read; each
further time after twice as long, up to the second."""

Said = tuple[Message, Request | None]
"""A committed message, and the request that asked for it, if it was one of this node."""


class CatchingUp:
    """Up to which number a session has everything, and the events that come behind: each with the
    number of the newest message before it. ``name`` is what the session has heard that its user is
    called. ``own``: what the user sent is brought, too.
    """

    __slots__ = ("events", "name", "own", "position")

    def __init__(self, position: int, name: str, *, own: bool) -> None:
        self.position = position
        self.name = name
        self.own = own
        self.events: deque[tuple[int, Event]] = deque()


class Delivery:
    """Brings what is committed to sessions.

    :param state: returns the state, which may be ahead of what is delivered.
    :param newest: the number of the newest message that there is, 0 if there is none.
    """

    _log = Logger()

    def __init__(
        self,
        reads: Reads,
        clock: IReactorTime,
        state: Callable[[], State],
        newest: int,
        usage: Usage,
    ) -> None:
        self._reads = reads
        self._clock = clock
        self._state = state
        self._usage = usage
        now = state()
        self.delivered_number = newest
        """The number of the newest message that was delivered."""
        self.routes: Routes[Session] = Routes(
            ((user.id, user.name) for user in now.users.values()),
            ((room.id, room.name) for room in now.rooms.values()),
            self._rooms_elsewhere,
        )
        # Who is live, in the shape that a message to everybody needs. A dict is an ordered set: all
        # get a message in the order in which they came.
        self._live: dict[Door, dict[Session, None]] = {}
        self._cursors: dict[int, int] = {}  # of users with sessions here: what they have confirmed
        self._receipts: dict[int, list[tuple[int, Request]]] = {}  # by recipient, not confirmed yet

    def _rooms_elsewhere(self, user: int) -> Iterable[int]:
        found = self._state().users.get(user)
        return () if found is None else found.rooms

    # Sessions come and go

    def attach(self, session: Session, rooms: Iterable[int]) -> None:
        """Enter a session whose login is committed. It gets no messages before it arrives."""
        self.routes.attach(session, session.user, rooms)

    def arrive(self, session: Session, resume: int | None = None) -> None:
        """Bring messages to a session from now on: first those that it missed.

        :param resume: the number of the last message that the session has. Without it, what the
            user has not confirmed counts as missed, without what the user sent.
        """
        user = self._state().users.get(session.user)
        if user is None or not session.policy.confirms:
            self._go_live(session)
            return
        cursor = self.confirmed(user)
        start = max(cursor if resume is None else resume, user.since)
        if start >= self.delivered_number:
            self._go_live(session)
        else:
            name = self.routes.name_of(session.user)
            session.catching_up = CatchingUp(start, name, own=resume is not None)
            self._catch_up(session)

    def confirmed(self, user: User) -> int:
        """Return the number up to which a user has confirmed all messages."""
        return max(user.cursor, self._cursors.get(user.id, 0))

    def _go_live(self, session: Session) -> None:
        session.catching_up = None
        session.live = True
        self._live.setdefault(session.door, {})[session] = None

    def detach(self, session: Session) -> int:
        """Let go of a session; if it was the user's last one here, return what they have confirmed,
        else 0.
        """
        user = session.user
        self.routes.detach(session, user)
        self._live.get(session.door, {}).pop(session, None)
        session.live = False
        session.catching_up = None
        session.ended = True
        return 0 if self.routes.of_user(user) else self._cursors.pop(user, 0)

    # Catching up

    def _catch_up(self, session: Session, again_after: float = READ_AGAIN) -> None:
        missing = session.catching_up
        if not isinstance(missing, CatchingUp):
            return  # it has ended
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
                return  # it does not read, and was cut off
            missing.position = page.upto
            if page.upto >= self.delivered_number:
                self._go_live(session)
            else:
                session.when_ready(lambda: self._catch_up(session))

        def fail(failure: Failure) -> None:
            if failure.check(Unavailable):  # for now
                later = min(2 * again_after, MAX_READ_AGAIN)
                self._clock.callLater(again_after, self._catch_up, session, later)
                return
            self._log.error("can't read: {reason}", reason=failure.getErrorMessage())
            if session.catching_up is missing:
                session.drop("what was missed can't be read")

        # Whatever is committed meanwhile, no more is read than was brought to those who are live:
        # so by its number alone a session has caught up or not, and gets nothing twice.
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
                session.door.deliver(messages[first:last], [session])
                first = last
            session.door.tell(event, [session])
            if isinstance(event, NameChanged) and event.before == missing.name:
                missing.name = event.after
                messages = seen_by(user, missing.name, messages)
        if first < len(messages):
            session.door.deliver(messages[first:], [session])

    # Messages

    def deliver(self, run: Sequence[Said]) -> None:
        """Bring what was said to the same users, one after the other, with nothing in between.

        It is handed on together, since many messages in one piece cost little more than one.
        """
        message, request = run[0]
        self.delivered_number = run[-1][0].number
        origin = None if request is None else request.session
        if len(run) > 1 and any((r and r.session) is not origin for _, r in run):
            self._deliver_from_several(run)
            return
        self._tell_sent(run, origin)
        messages = [said for said, _ in run]
        if not message.recipient and not message.room:
            for door, live in self._live.items():
                door.deliver(messages, [s for s in live if s is not origin])
            return
        reached = self._reached(message)
        if len(reached) == 1:
            [only] = reached
            if only.live and only is not origin:
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
        """The same for messages of several sessions: no session gets its own messages back."""
        origins = {request.session for _, request in run if request is not None}
        if run[0][0].recipient or run[0][0].room:
            reached = [s for s in self._reached(run[0][0]) if s.live]
        else:
            reached = [s for live in self._live.values() for s in live]
        hearing = [s for s in reached if s in origins]
        # What one session said without a pause stays together: thousands of short messages, each
        # brought by itself to hundreds who talk too, would keep all others waiting.
        for session, group in groupby(run, lambda said: said[1] and said[1].session):
            block = list(group)
            self._tell_sent(block, session)
            self._bring([said for said, _ in block], [s for s in hearing if s is not session])
        self._bring([said for said, _ in run], [s for s in reached if s not in origins])

    def _reached(self, message: Message) -> Collection[Session]:
        """All sessions here of those to whom something was said, and of who said it."""
        if message.room:
            return self.routes.in_room(message.room)
        recipient = self.routes.of_user(message.recipient)
        author = self.routes.of_user(message.author)
        if len(author) < 2 or message.author == message.recipient:
            return recipient
        return [*recipient, *author]

    def _bring(self, messages: Sequence[Message], sessions: Iterable[Session]) -> None:
        for door, of_door in by_door(sessions).items():
            door.deliver(messages, of_door)

    def flush(self, *, more: bool) -> None:
        """Tell the doors that all that was committed together is delivered."""
        for door in list(self._live):
            door.flush(more=more)

    # Events

    def tell(self, event: Event, sessions: Iterable[Session], besides: Session | None) -> None:
        """Bring an event to sessions, but for one that has it as the answer to its request."""
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
        """Remember whose request a message is, until the recipient confirms it."""
        unconfirmed = self._receipts.get(recipient)
        if unconfirmed is None:
            unconfirmed = self._receipts[recipient] = []
        elif len(unconfirmed) >= MAX_UNCONFIRMED:
            del unconfirmed[0]
        unconfirmed.append((number, request))

    def duplicate(self, request: Request, first: Duplicate, recipient: int) -> None:
        """Tell the sender of a duplicate what became of the first one."""
        session = request.session
        if session is None or session.ended:
            return
        session.sent(request, first)
        if not recipient:
            return
        user = self._state().users.get(recipient)
        cursor = max(self._cursors.get(recipient, 0), 0 if user is None else user.cursor)
        if cursor >= first.number:
            self._delivered(first.number, request)
        else:
            self._expect(recipient, first.number, request)

    def received(self, session: Session, number: int) -> int:
        """Take it that a session has everything up to ``number``; return up to where its user has
        everything, if that is new, else 0.
        """
        missing = session.catching_up
        if isinstance(missing, CatchingUp):
            number = min(number, missing.position)
        elif session.live:
            number = min(number, self.delivered_number)
        else:
            return 0
        unconfirmed = self._receipts.get(session.user)
        if unconfirmed is not None:
            own = []
            while unconfirmed and unconfirmed[0][0] <= number:
                entry = unconfirmed.pop(0)
                if entry[1].session is session:  # to oneself: another session is to have it
                    own.append(entry)
                else:
                    self._delivered(*entry)
            unconfirmed[:0] = own
            if not unconfirmed:
                self._receipts.pop(session.user, None)
        if number <= self._cursors.get(session.user, 0):
            return 0
        self._cursors[session.user] = number
        return number

    def rejected(self, session: Session, number: int) -> None:
        """Take it that a session could not read a message."""
        unconfirmed = self._receipts.get(session.user)
        if unconfirmed and unconfirmed[0][0] == number:
            self._undelivered(unconfirmed.pop(0)[1])

    def absent(self, user: int, *, for_good: bool) -> None:
        """Tell the senders who wait for a user that they have no session any more: those who don't
        wait for absent users, or, if the user is gone for good, all.
        """
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
    """Group sessions by the doors that they came through."""
    found: dict[Door, list[Session]] = {}
    for session in sessions:
        found.setdefault(session.door, []).append(session)
    return found
