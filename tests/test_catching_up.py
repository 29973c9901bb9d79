"""Coming back while others talk: everything comes once and in order, whatever happens in between.

The schedule is drawn at random: when a commit is made and when it is known, when a reading begins
and when it has ended, and what is said, joined and left meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core.entries import LoggedIn
from chat_twisted.core.message import Message
from chat_twisted.core.sessions import Request
from chat_twisted.core.turns import Asker
from chat_twisted.storage import lookup
from chat_twisted.testing import MemoryServer
from tests.store import InlineStore, settle
from tests.test_hub import ListDoor, ListSession


class ScheduledStore(InlineStore):
    """Does what it is asked for when it is told to, and says so when it is told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.scheduled = False
        self.to_write: list[Callable[[], Callable[[], None]]] = []
        self.to_read: list[Callable[[], Callable[[], None]]] = []
        self.written: list[Callable[[], None]] = []
        self.have_read: list[Callable[[], None]] = []

    def write(self, function, *args: Any, **kw: Any) -> Deferred[Any]:
        if not self.scheduled:
            return super().write(function, *args, **kw)
        return self._schedule(self.to_write, function, args, kw)

    def read(self, function, *args: Any, asker: Asker, search: bool = False, **kw: Any):
        if not self.scheduled:
            return super().read(function, *args, asker=asker, search=search, **kw)
        return self._schedule(self.to_read, function, args, kw)

    def _schedule(self, jobs, function, args, kw) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def run() -> Callable[[], None]:
            result = function(self.connection.cursor(), *args, **kw)
            self.connection.commit()
            return lambda: done.callback(result)

        jobs.append(run)
        return done

    @property
    def has_more(self) -> bool:
        return any((self.to_write, self.written, self.to_read, self.have_read))

    def commit(self) -> None:
        """Make the next commit; only then may another begin."""
        if self.to_write and not self.written:
            self.written.append(self.to_write.pop(0)())

    def begin_reading(self) -> None:
        """Read what waits for longest."""
        if self.to_read:
            self.have_read.append(self.to_read.pop(0)())

    @staticmethod
    def tell(results: list[Callable[[], None]]) -> None:
        """Tell of the first result that is not known yet."""
        if results:
            results.pop(0)()


SAID = [("alice", "ALL"), ("alice", "bob"), ("alice", "#dev"), ("bob", "alice"), ("bob", "ALL")]

WHAT = ("commit", "committed", "begin reading", "have read", "go", "come", "join", "part")

STEPS = st.lists(
    st.one_of(st.sampled_from(SAID), st.sampled_from(WHAT)),
    min_size=20,
    max_size=200,
)


class ReturningSession(ListSession):
    """A session that has messages brought to it as soon as it has its name."""

    def __init__(self, door: ListDoor, hub: Any, resume: int | None = None) -> None:
        super().__init__(door)
        self.hub = hub
        self.resume = resume

    def registered(self, request: Request, login: LoggedIn) -> None:
        self.hub.logins.arrive(self, self.resume)


class CatchingUpTests(TestCase):
    """Bob has two connections. One is there all the time; the other is lost again and again, and
    comes back with the number of the last message that it has.
    """

    @settings(max_examples=100)
    @given(STEPS, st.integers(1, 4))
    def test_everything_comes_once_and_in_order_whatever_happens_in_between(
        self, steps: list[Any], scan: int
    ) -> None:
        self.patch(lookup, "SCAN", scan)
        self.start()
        for step in steps:
            self.take(step)
        self.come_back()
        while self.store.has_more:
            for what in ("commit", "begin reading", "committed", "have read"):
                self.take(what)
        numbers = numbers_of(self.got + self.bob.got)
        due = numbers_of(self.steady.got)
        due += [
            what[2] for what in self.steady.heard if what[0] == "sent"
        ]  # as on the user's other session
        self.assertEqual(numbers, sorted(due))

    def start(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = ScheduledStore(self.clock)
        self.hub = MemoryServer(self.store).hub
        self.door = ListDoor()
        self.alice, self.steady, eve = (self.come(name) for name in ("alice", "bob", "eve"))
        for session in (eve, self.alice):  # eve, so that there always is such a room
            self.join(session)
        settle(self.clock)
        self.got: list[Any] = []  # by what was lost
        self.bob = self.come("bob", self.steady.token)
        self.store.scheduled = True

    def come(self, name: str, token: str | None = None, resume: int | None = None) -> ListSession:
        session = ReturningSession(self.door, self.hub, resume)
        self.hub.logins.login(session, name, token=token)
        if not self.store.scheduled:
            settle(self.clock)
        return session

    def join(self, session: ListSession) -> None:
        self.hub.propose(session, c.Join(session.user, session.epoch, "#dev", c.new_id()))

    def go(self) -> None:
        self.got += self.bob.got
        self.bob.got = []
        self.hub.logins.leave(self.bob, for_good=False)

    def come_back(self) -> None:
        self.go()
        numbers = numbers_of(self.got)
        self.bob = self.come("bob", self.steady.token, numbers[-1] if numbers else 0)

    def take(self, step: Any) -> None:
        match step:
            case "commit":
                self.store.commit()
            case "committed":
                self.store.tell(self.store.written)
            case "begin reading":
                self.store.begin_reading()
            case "have read":
                self.store.tell(self.store.have_read)
            case "go":
                self.go()
            case "come":
                self.come_back()
            case "join":
                self.join(self.steady)
            case "part":
                part = c.Part(self.steady.user, self.steady.epoch, "#dev")
                self.hub.propose(self.steady, part)
            case (who, to):
                session = self.alice if who == "alice" else self.steady
                self.hub.send(session, to, "text")
        self.clock.advance(0)


def numbers_of(seen: list[Any]) -> list[int]:
    """The numbers of the messages among what was seen, without the events."""
    return [message.number for message in seen if isinstance(message, Message)]
