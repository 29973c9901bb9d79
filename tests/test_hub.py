"""What one node does with what is decided: who gets what, in which order, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import delivery, departures, logins
from chat_twisted.core.entries import Duplicate, LoggedIn, Result, Signalled
from chat_twisted.core.errors import (
    Banned,
    ChatError,
    MalformedName,
    Muted,
    NameInUse,
    NoSuchRoom,
    NotAMember,
    OperatorRequired,
    TextTooLong,
    TooFast,
    UnableToSend,
    Unavailable,
)
from chat_twisted.core.events import (
    Event,
    Invitation,
    MemberInvited,
    MemberJoined,
    MemberLeft,
    RankChanged,
    TopicChanged,
    UserArrived,
    UserLeft,
)
from chat_twisted.core.limits import LINE_OCTETS, OFF, Rate
from chat_twisted.core.message import Message
from chat_twisted.core.presence import TELL_AFTER, Presence
from chat_twisted.core.reads import Search, Span, Times
from chat_twisted.core.sanctions import parse_duration
from chat_twisted.core.sessions import Dismissal, Policy, Request, Session
from chat_twisted.storage import lookup
from chat_twisted.testing import MemoryServer, MemoryStore
from tests.store import settle, turn


class ListDoor:
    """A door that keeps what it is to bring."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[Session]]] = []
        self.flushes: list[bool] = []
        self.tellings: list[tuple[Event, list[Session]]] = []

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        self.calls.append(([message.text for message in messages], list(sessions)))
        for session in sessions:
            session.got += messages

    def flush(self, *, more: bool) -> None:
        self.flushes.append(more)

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        for session in sessions:
            session.heard.append(("saw", *seen))

    def signal(self, signalled: Signalled, sessions: Sequence[Session]) -> None:
        for session in sessions:
            session.got.append(signalled)

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        self.tellings.append((event, list(sessions)))
        for session in sessions:
            session.got.append(event)
            session.heard.append(event)


class ListSession(Session):
    def __init__(self, door: ListDoor) -> None:
        super().__init__(door)
        self.got: list[Any] = []
        self.heard: list[Any] = []
        self.error: ChatError | None = None

    def texts(self) -> list[str]:
        return [message.text for message in self.got if isinstance(message, Message)]

    def registered(self, request: Request, login: LoggedIn) -> None:
        self.heard.append(("registered",))

    def refused(self, request: Request, error: ChatError) -> None:
        self.heard.append(("refused", request.label, type(error)))
        self.error = error

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        self.heard.append(("answered", request.label, event))

    def dismissed(self, dismissal: Dismissal) -> None:
        self.heard.append(dismissal)

    def drop(self, why: str) -> None:
        self.heard.append(("dropped",))

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        self.heard.append(("sent", request.label, message.number))

    def delivered(self, request: Request, number: int) -> None:
        self.heard.append(("delivered", request.label, number))

    def undelivered(self, request: Request) -> None:
        self.heard.append(("undelivered", request.label))


class ImmediateSession(ListSession):
    policy = Policy(False, False, False, False)


class FollowingSession(ListSession):
    """A session that follows everybody; the name of its user ends with it."""

    policy = Policy(keeps_name=False, follows_everybody=True)


class HubTestCase(TestCase):
    grace = 600
    limits = OFF
    max_clients = 10

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = self.make_store()
        self.door = ListDoor()
        self.start()

    def make_store(self) -> MemoryStore:
        return MemoryStore(self.clock)

    def start(self) -> None:
        """Start a server on what is stored."""
        self.server = MemoryServer(
            self.store, limits=self.limits, grace=self.grace, max_clients=self.max_clients
        )
        self.hub = self.server.hub
        self.commit()

    def register(self, name: str, token: str | None = None, door: ListDoor | None = None):
        """A session that has its name."""
        session = self.ask_for(name, token, door)
        if session.error is not None:
            raise session.error
        self.assertEqual(session.heard, [("registered",)])
        session.heard.clear()
        return session

    def ask_for(self, name: str, token: str | None = None, door: ListDoor | None = None):
        """A session that has its name, or is refused it."""
        session = ListSession(door or self.door)
        self.hub.logins.login(session, name, token=token, label="r")
        self.commit()
        return session

    def follow(self, name: str) -> FollowingSession:
        """A session that follows everybody."""
        session = FollowingSession(self.door)
        self.hub.logins.login(session, name)
        self.commit()
        self.hub.logins.arrive(session)
        self.commit()
        self.assertEqual(session.heard.pop(0), ("registered",))
        return session

    def join(
        self,
        name: str,
        token: str | None = None,
        door: ListDoor | None = None,
        resume: int | None = None,
    ):
        """A session that gets messages."""
        session = self.register(name, token, door)
        self.hub.logins.arrive(session, resume)
        self.commit()
        return session

    def original(self, name: str):
        """A session of those that only get what is said while they are there."""
        session = ImmediateSession(self.door)
        self.hub.logins.login(session, name, present=False)
        self.commit()
        if session.error is not None:
            raise session.error
        self.assertEqual(session.heard, [("registered",)])
        session.heard.clear()
        self.hub.logins.arrive(session)
        self.commit()
        return session

    def enter(self, session: ListSession, room: str, label: str | None = None, **more) -> None:
        """Join a room."""
        command = c.Join(session.user, session.epoch, room, c.new_id(), **more)
        self.hub.propose(session, command, room, label)
        self.commit()

    def ask(self, session: ListSession, command: type, *fields: Any, label: str = "q") -> None:
        """Propose a command of a session."""
        self.hub.propose(session, command(session.user, session.epoch, *fields), "", label)
        self.commit()

    def say(self, session: ListSession, to: str, text: str) -> None:
        """Send; raise what it is refused with."""
        session.error = None
        self.hub.send(session, to, text)
        self.commit()
        if session.error is not None:
            raise session.error

    def leave(self, session: ListSession) -> None:
        """The connection is lost."""
        self.hub.logins.leave(session, for_good=False)
        self.commit()

    def quit(self, session: ListSession) -> None:
        self.hub.logins.leave(session, for_good=True)
        self.commit()

    def commit(self) -> None:
        settle(self.clock)

    def names(self) -> list[str]:
        """Those who are present."""
        return [user.name for user in self.hub.who().items]


class RegistryTests(HubTestCase):
    def test_a_name_belongs_to_one_user_at_a_time_without_regard_to_case(self) -> None:
        alice = self.join("Alice")
        with self.assertRaises(NameInUse):
            self.join("aLICE")
        self.quit(alice)
        self.join("aLICE")
        self.assertEqual(self.names(), ["aLICE"])

    def test_a_malformed_name_is_refused(self) -> None:
        for name in ("", "b@d", "All"):
            with self.assertRaises(MalformedName):
                self.join(name)

    def test_the_token_lets_the_same_user_in_on_another_connection(self) -> None:
        token = self.join("alice").token
        second = self.join("ALICE", token)
        self.assertEqual(self.hub.name_of(second), "alice")
        self.assertEqual(self.names(), ["alice"])
        for wrong in ("", "x", "é", token + "x"):
            with self.assertRaises(NameInUse):
                self.join("alice", wrong)

    def test_the_name_is_free_when_the_last_connection_is_gone(self) -> None:
        first = self.join("alice")
        second = self.join("alice", first.token)
        self.quit(first)
        with self.assertRaises(NameInUse):
            self.join("alice")
        self.quit(second)
        self.join("alice")

    def test_a_full_server_says_when_to_try_again(self) -> None:
        sessions = [self.join(f"u{i}") for i in range(10)]
        with self.assertRaises(Unavailable) as caught:
            self.join("late")
        self.assertGreater(caught.exception.retry_after, 0)
        self.quit(sessions[0])
        self.join("late")

    def test_a_session_that_leaves_twice_has_left_once(self) -> None:
        alice = self.join("alice")
        self.quit(alice)
        self.quit(alice)
        for i in range(10):
            self.join(f"u{i}")

    def test_who_lists_only_users_who_are_present_in_alphabetical_order(self) -> None:
        for name in ("bob", "Alice", "carol"):
            self.join(name)
        self.hub.logins.login(ImmediateSession(self.door), "dora", present=False)
        self.assertEqual(self.names(), ["Alice", "bob", "carol"])


class DeliveryTests(HubTestCase):
    def test_messages_of_several_users_are_handed_on_in_as_few_pieces_as_they_came(
        self,
    ) -> None:
        alice, bob, carol = (self.join(name) for name in ("alice", "bob", "carol"))
        for session, texts in ((alice, "ab"), (bob, "cd"), (alice, "e")):
            for text in texts:
                self.hub.send(session, "ALL", text)
        self.commit()
        self.assertEqual(
            self.door.calls,
            [
                (["a", "b"], [bob]),
                (["c", "d"], [alice]),
                (["e"], [bob]),
                (["a", "b", "c", "d", "e"], [carol]),
            ],
        )

    def test_nobody_hears_of_a_message_before_it_is_committed(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "hello", "7")
        self.assertEqual((alice.heard, bob.got), ([], []))
        self.commit()
        self.assertEqual(alice.heard, [("sent", "7", 1)])
        self.assertEqual(bob.texts(), ["hello"])

    def test_a_direct_message_carries_the_names_as_their_owners_wrote_them(self) -> None:
        alice, bob = self.join("Alice"), self.join("Bob")
        request = self.hub.send(alice, "bOB", "hello")
        self.commit()
        [message] = bob.got
        self.assertEqual((message.sender, message.to), ("Alice", "Bob"))
        self.assertEqual(request.argument, "bOB")

    def test_the_sender_hears_when_the_recipient_has_it(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for id in "ab":
            self.hub.send(alice, "bob", "x", id)
        self.commit()
        self.hub.received(bob, 1)
        self.assertEqual(alice.heard[2:], [("delivered", "a", 1)])
        self.hub.received(bob, 2)
        self.hub.received(bob, 2)
        self.assertEqual(alice.heard[3:], [("delivered", "b", 2)])

    def test_received_is_cumulative(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for id in "abc":
            self.hub.send(alice, "bob", "x", id)
        self.commit()
        self.hub.received(bob, 2)
        self.assertEqual(alice.heard[3:], [("delivered", "a", 1), ("delivered", "b", 2)])

    def test_received_confirms_no_messages_that_went_to_others(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        self.hub.send(alice, "bob", "x", "a")
        self.commit()
        self.hub.received(carol, 99)
        self.hub.received(alice, 99)
        self.assertEqual(alice.heard, [("sent", "a", 1)])
        self.hub.received(bob, 99)
        self.assertEqual(alice.heard[1:], [("delivered", "a", 1)])

    def test_a_rejected_message_is_undelivered_and_those_before_it_delivered(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for id in "abc":
            self.hub.send(alice, "bob", "x", id)
        self.commit()
        self.hub.rejected(bob, 2)
        self.assertEqual(alice.heard[3:], [("delivered", "a", 1), ("undelivered", "b")])

    def test_a_broadcast_goes_to_all_present_but_its_sender(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        absent = self.register("dora")
        self.hub.send(alice, "all", "hello")
        self.commit()
        self.assertEqual(
            [s.texts() for s in (alice, bob, carol, absent)], [[], ["hello"], ["hello"], []]
        )
        self.assertEqual(bob.got[0].to, "ALL")

    def test_each_door_gets_a_message_once_with_all_its_sessions(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        other = ListDoor()
        dora = self.join("dora", door=other)
        self.hub.send(alice, "ALL", "x")
        self.commit()
        self.assertEqual([sessions for _, sessions in self.door.calls], [[bob, carol]])
        self.assertEqual([sessions for _, sessions in other.calls], [[dora]])

    def test_consecutive_messages_to_the_same_recipient_are_handed_on_together(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        for to in ("ALL", "ALL", "bob", "bob", "carol", "ALL"):
            self.hub.send(alice, to, to)
        self.commit()
        self.assertEqual(
            self.door.calls,
            [
                (["ALL", "ALL"], [bob, carol]),
                (["bob", "bob"], [bob]),
                (["carol"], [carol]),
                (["ALL"], [bob, carol]),
            ],
        )

    def test_users_who_talk_at_once_get_messages_of_others_among_their_own(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        for i, session in enumerate((alice, bob, alice, bob)):
            self.hub.send(session, "ALL", str(i), str(i))
        self.commit()
        self.assertEqual(carol.texts(), ["0", "1", "2", "3"])
        self.assertEqual((alice.texts(), bob.texts()), (["1", "3"], ["0", "2"]))
        self.assertEqual(alice.heard, [("sent", "0", 1), ("sent", "2", 3)])
        self.assertEqual(bob.heard, [("sent", "1", 2), ("sent", "3", 4)])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["alice", "alice 2", "bob", "carol"]),
                st.sampled_from(["ALL", "#dev", "alice", "bob"]),
            ),
            max_size=12,
        )
    )
    def test_messages_committed_together_reach_the_same_users_as_one_by_one(
        self, said: list[tuple[str, str]]
    ) -> None:
        heard = []
        for together in (False, True):
            self.setUp()
            sessions = {name: self.join(name) for name in ("alice", "bob", "carol")}
            sessions["alice 2"] = self.join("alice", sessions["alice"].token)
            for name in ("alice", "bob"):
                self.enter(sessions[name], "#dev")
            self.enter(sessions["carol"], "#dev")
            self.commit()
            for i, (name, to) in enumerate(said):
                if self.hub.name_of(sessions[name]) != to:
                    self.hub.send(sessions[name], to, f"{i}", f"{i}")
                if not together:
                    self.commit()
            self.commit()
            heard.append([(s.texts(), s.heard) for s in sessions.values()])
        self.assertEqual(heard[0], heard[1])

    def test_doors_hear_when_all_that_was_committed_together_is_delivered(self) -> None:
        alice = self.join("alice")
        self.join("bob")
        self.door.flushes.clear()
        self.store.seconds = 1
        self.hub.send(alice, "bob", "one")
        self.clock.advance(0)  # it is being committed
        self.hub.send(alice, "bob", "two")
        self.hub.send(alice, "bob", "three")
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(self.door.flushes, [True, False])

    def test_all_see_the_same_order(self) -> None:
        people = [self.join(f"u{i}") for i in range(3)]
        for i in range(9):
            self.hub.send(people[i % 3], "ALL", str(i))
        self.commit()
        numbers = [[m.number for m in p.got] for p in people]
        for person, seen in zip(people, numbers, strict=True):
            self.assertEqual(seen, sorted(seen))
            self.assertEqual(len(person.got), 6)

    def test_a_user_on_two_connections_sees_both_sides_on_each(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        alice2 = self.join("alice", alice.token)
        self.hub.send(alice, "bob", "out")
        self.hub.send(bob, "alice", "in", "b")
        self.hub.send(alice2, "ALL", "all")
        self.commit()
        self.assertEqual(alice.texts(), ["in", "all"])
        self.assertEqual(alice2.texts(), ["out", "in"])
        self.assertEqual(bob.texts(), ["out", "all"])
        self.hub.received(alice2, 2)
        self.hub.received(alice, 2)
        self.assertEqual(bob.heard, [("sent", "b", 2), ("delivered", "b", 2)])


class SignalTests(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = (self.join(name) for name in ("Alice", "Bob", "carol"))
        self.also_alice = self.join("alice", self.alice.token)

    def signal(self, to: str, content: str = "x") -> None:
        self.hub.signal(self.alice, to, content, "s")
        self.commit()

    def check(self, *expected: tuple[ListSession, list[Any]]) -> None:
        found = [(session, session.got) for session in (self.also_alice, self.bob, self.carol)]
        self.assertEqual([(s, got) for s, got in found if got], [*expected])
        self.assertEqual(self.alice.got, [])

    def test_a_signal_reaches_the_sessions_that_a_message_reaches_except_the_sender(self) -> None:
        self.signal("bOB", "typing")
        direct = Signalled("Alice", self.alice.user, self.bob.user, 0, "Bob", "typing")
        self.check((self.also_alice, [direct]), (self.bob, [direct]))
        self.assertEqual(self.alice.heard, [("answered", "s", None)])
        self.signal("all", "to all")
        to_all = Signalled("Alice", self.alice.user, 0, 0, "ALL", "to all")
        both = [direct, to_all]
        self.check((self.also_alice, both), (self.bob, both), (self.carol, [to_all]))

    def test_a_signal_to_a_room_reaches_its_members(self) -> None:
        for session in (self.alice, self.carol):
            self.enter(session, "#Dev")
        for session in (self.alice, self.also_alice, self.carol):
            del session.got[:]
        self.signal("#dev")
        [signalled] = self.carol.got
        self.assertEqual((signalled.to, signalled.recipient), ("#Dev", 0))
        self.check((self.also_alice, [signalled]), (self.carol, [signalled]))

    def test_a_signal_comes_in_order_with_messages_and_is_not_kept(self) -> None:
        self.hub.send(self.alice, "bob", "1")
        self.hub.signal(self.alice, "bob", "2")
        self.hub.send(self.alice, "bob", "3")
        self.commit()
        kinds = [type(said) for said in self.bob.got]
        self.assertEqual(kinds, [Message, Signalled, Message])
        again = self.join("bob", self.bob.token)
        self.assertEqual(again.texts(), ["1", "3"])

    def test_a_signal_is_refused_like_a_message_and_for_absent_users(self) -> None:
        self.leave(self.carol)  # her name is kept
        self.hub.ask(c.MakeAccount(c.CONSOLE, 0, "", "", "hash", "dora", 77))
        for to, error in (
            ("carol", UnableToSend),
            ("dora", UnableToSend),
            ("nobody", UnableToSend),
            ("#dev", NoSuchRoom),
            ("b@d", UnableToSend),
        ):
            self.signal(to)
            self.assertEqual(self.alice.heard.pop(), ("refused", "s", error))
        self.hub.ask(c.Impose(c.CONSOLE, 0, c.MUTE, "alice"))
        self.signal("bob")
        self.assertEqual(self.alice.heard.pop(), ("refused", "s", Muted))
        self.check()

    def test_a_signal_has_a_limited_length(self) -> None:
        self.signal("bob", "é" * 4096)
        self.signal("bob", "é" * 4096 + "x")
        self.assertEqual(len(self.bob.got), 1)
        self.assertEqual(self.alice.heard[1:], [("refused", "s", TextTooLong)])

    def test_a_session_that_catches_up_gets_no_signals(self) -> None:
        self.leave(self.bob)
        self.say(self.alice, "bob", "missed")
        self.store.unreadable = Unavailable()
        bob = self.join("bob", self.bob.token)
        self.signal("bob")
        self.store.unreadable = None
        self.clock.pump([1] * 3)
        self.assertEqual([type(said) for said in bob.got], [Message])


class SignalLimitTests(HubTestCase):
    limits = OFF._replace(messages=Rate(1, 2))

    def test_signals_count_as_messages(self) -> None:
        alice = self.join("alice")
        self.hub.signal(alice, "ALL", "x")
        self.hub.signal(alice, "ALL", "x")
        with self.assertRaises(TooFast):
            self.hub.signal(alice, "ALL", "x")


class FaultTests(HubTestCase):
    def test_a_fault_with_one_message_does_not_cost_the_others(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")

        class Broken(ListDoor):
            def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
                raise ZeroDivisionError

        self.join("carol", door=Broken())
        for to in ("bob", "carol", "bob"):
            self.hub.send(alice, to, f"to {to}")
        self.commit()
        self.assertEqual(bob.texts(), ["to bob", "to bob"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class NobodyThereTests(HubTestCase):
    def test_a_message_to_everybody_is_not_delivered_again_to_users_who_come_later(self) -> None:
        alice = self.join("alice")
        self.hub.send(alice, "ALL", "x", "a")
        self.commit()
        self.assertEqual(alice.heard, [("sent", "a", 1)])

    def test_a_user_who_reaches_only_those_present_needs_somebody_else_for_everybody(self) -> None:
        dora = self.original("dora")
        self.quit(self.join("alice"))
        bob = self.join("bob")
        self.leave(bob)  # their name is kept
        for to in ("ALL", "bob", "dora"):
            with self.assertRaises(UnableToSend, msg=to):
                self.say(dora, to, "x")
        self.join("carol")
        self.hub.send(dora, "ALL", "x")

    def test_a_message_to_oneself_is_for_ones_other_connections_now_or_later(self) -> None:
        alice = self.join("alice")
        self.hub.send(alice, "alice", "first", "a")
        self.commit()
        self.assertEqual((alice.heard, alice.got), ([("sent", "a", 1)], []))
        alice2 = self.join("alice", alice.token)
        self.hub.send(alice, "Alice", "second", "b")
        self.commit()
        self.assertEqual((alice.texts(), alice2.texts()), ([], ["first", "second"]))
        self.hub.received(alice, 2)  # which says nothing of what it sent itself
        self.assertEqual(alice.heard, [("sent", "a", 1), ("sent", "b", 2)])
        self.hub.received(alice2, 2)
        self.assertEqual(alice.heard[2:], [("delivered", "a", 1), ("delivered", "b", 2)])

    def test_a_recipient_who_leaves_before_the_commitment_is_told_to_the_sender(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "secret", "a")
        self.quit(bob)
        other = self.join("bob")  # somebody else, under the same name
        self.commit()
        self.assertEqual(alice.heard, [("sent", "a", 1), ("undelivered", "a")])
        self.assertEqual(other.got, [])

    def test_a_recipient_who_leaves_before_the_answer_is_told_to_the_sender(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "a")
        self.commit()
        self.quit(bob)
        self.assertEqual(alice.heard, [("sent", "a", 1), ("undelivered", "a")])

    def test_a_recipient_with_another_connection_has_not_left(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        bob2 = self.join("bob", bob.token)
        self.hub.send(alice, "bob", "x", "a")
        self.commit()
        self.quit(bob)
        self.assertEqual(alice.heard, [("sent", "a", 1)])
        self.hub.received(bob2, 1)
        self.assertEqual(alice.heard[1:], [("delivered", "a", 1)])

    def test_a_sender_who_has_left_is_told_nothing_and_the_message_arrives(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "a")
        self.quit(alice)
        self.commit()
        self.hub.received(bob, 1)
        self.assertEqual((alice.heard, bob.texts()), ([], ["x"]))


class KeptTests(HubTestCase):
    """Who drops off is not gone at once."""

    def test_a_name_is_kept_for_its_token_until_the_grace_is_over(self) -> None:
        alice = self.join("alice")
        self.leave(alice)
        with self.assertRaises(NameInUse):
            self.join("alice")
        self.clock.advance(599)
        again = self.join("ALICE", alice.token)
        self.assertEqual((self.hub.name_of(again), again.token), ("alice", alice.token))
        self.clock.advance(601)  # nothing ends while it is here
        self.leave(again)
        self.clock.advance(601)
        stranger = self.join("alice", alice.token)
        self.assertNotEqual(stranger.token, alice.token)

    def test_a_user_who_is_away_is_not_here_but_can_be_sent_to(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        self.assertEqual(self.names(), ["alice"])
        self.hub.send(alice, "bob", "direct", "a")
        self.hub.send(alice, "ALL", "all", "b")
        self.commit()
        self.assertEqual(alice.heard, [("sent", "a", 1), ("sent", "b", 2)])
        again = self.join("bob", bob.token)
        self.assertEqual(again.texts(), ["direct", "all"])
        self.hub.received(again, 2)
        self.assertEqual(alice.heard[2:], [("delivered", "a", 1)])

    def test_confirmed_messages_do_not_come_again_and_unconfirmed_ones_do(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for text in ("one", "two", "three"):
            self.hub.send(alice, "bob", text)
        self.hub.send(bob, "alice", "mine")
        self.commit()
        self.hub.received(bob, 2)
        self.leave(bob)
        self.assertEqual(self.join("bob", bob.token).texts(), ["three"])

    def test_a_confirmation_beyond_the_last_message_counts_for_the_messages_sent(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.received(bob, 10**17)
        self.hub.send(alice, "bob", "x", "a")
        self.commit()
        self.assertEqual(alice.heard, [("sent", "a", 1)])
        self.leave(bob)
        self.assertEqual(self.join("bob", bob.token).texts(), ["x"])

    def test_resume_brings_everything_after_the_number_also_ones_own(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "one")
        self.hub.send(bob, "alice", "two")
        self.hub.send(alice, "bob", "three")
        self.commit()
        self.hub.received(bob, 3)
        self.leave(bob)
        self.assertEqual(self.join("bob", bob.token, resume=1).texts(), ["two", "three"])
        self.assertEqual(self.join("bob", bob.token, resume=3).texts(), [])
        self.assertEqual(self.join("bob", bob.token, resume=99).texts(), [])

    def test_nobody_resumes_to_before_he_came(self) -> None:
        alice = self.join("alice")
        self.join("bob")
        self.hub.send(alice, "ALL", "before")
        self.commit()
        carol = self.join("carol")
        self.hub.send(alice, "ALL", "after")
        self.commit()
        self.leave(carol)
        self.assertEqual(self.join("carol", carol.token, resume=0).texts(), ["after"])

    def test_missed_messages_come_before_newer_ones_and_each_comes_once(self) -> None:
        self.patch(lookup, "SCAN", 3)
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        for i in range(10):
            self.hub.send(alice, "bob", str(i))
        self.commit()
        again = self.register("bob", bob.token)
        self.hub.logins.arrive(again)
        for i in range(10, 20):  # while it catches up
            self.hub.send(alice, "bob", str(i))
            self.clock.advance(0)
        self.commit()
        self.assertEqual(again.texts(), [str(i) for i in range(20)])

    def test_for_a_user_who_has_missed_nothing_nothing_is_read(self) -> None:
        alice, _, carol = (self.join(name) for name in ("alice", "bob", "carol"))
        self.leave(carol)
        last = self.hub.newest
        self.hub.send(alice, "bob", "hello")
        self.commit()
        self.assertGreater(self.hub.newest, last)
        self.patch(lookup, "missed", None)
        again = self.join("carol", carol.token, resume=last)
        self.hub.send(alice, "carol", "hello")
        self.commit()
        self.assertEqual(again.texts(), ["hello"])

    def test_a_slow_session_is_brought_the_next_page_when_it_is_ready(self) -> None:
        self.patch(lookup, "SCAN", 3)
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        for i in range(9):
            self.hub.send(alice, "bob", str(i))
        self.commit()
        again = self.register("bob", bob.token)
        waiting: list[Callable[[], None]] = []
        again.when_ready = waiting.append
        self.hub.logins.arrive(again)
        self.commit()
        self.assertEqual((len(again.got), len(waiting)), (3, 1))
        self.assertEqual(self.names(), ["alice", "bob"])
        waiting.pop()()
        self.leave(again)  # while the next is read
        self.commit()
        self.assertEqual((len(again.got), waiting), (3, []))

    def test_a_user_who_quits_is_gone_at_once_and_the_next_of_that_name_gets_nothing(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        self.hub.send(alice, "bob", "for the first bob", "a")
        self.commit()
        bob = self.join("bob", bob.token)
        self.quit(bob)
        self.assertEqual(alice.heard[1:], [("undelivered", "a")])
        with self.assertRaises(UnableToSend):
            self.say(alice, "bob", "x")
        self.assertEqual(self.join("bob", bob.token, resume=0).got, [])

    def test_not_more_are_kept_than_may_be_connected_and_the_longest_away_goes_first(self) -> None:
        alice = self.join("alice")
        tokens = {}
        for i in range(12):
            session = self.join(f"u{i}")
            tokens[f"u{i}"] = session.token
            self.leave(session)
        self.commit()
        for name in ("u0", "u1"):
            with self.assertRaises(UnableToSend):
                self.say(alice, name, "x")
        self.hub.send(alice, "u2", "x")

    def test_a_user_who_goes_before_getting_a_token_leaves_the_name_free(self) -> None:
        session = ListSession(self.door)
        self.hub.logins.login(session, "alice")
        self.leave(session)
        self.join("alice")
        self.assertEqual(session.heard, [])

    def test_an_unreadable_archive_disconnects_users_who_missed_something(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        self.hub.send(alice, "bob", "x")
        self.commit()
        self.store.unreadable = OSError("gone")
        again = self.join("bob", bob.token)
        self.assertEqual((again.heard, again.got), ([("dropped",)], []))
        self.leave(again)
        self.store.unreadable = None
        self.assertEqual(self.join("bob", bob.token).texts(), ["x"])


class OriginalTests(HubTestCase):
    """Version 1 knows only who is there."""

    def test_an_original_user_is_gone_with_its_connection_and_sends_to_those_present(self) -> None:
        alice, bob = self.original("alice"), self.join("bob")
        self.leave(bob)
        for to in ("bob", "ALL", "#dev"):
            with self.assertRaises(ChatError):
                self.say(alice, to, "x")
        self.leave(alice)
        carol = self.join("carol")
        with self.assertRaises(UnableToSend):
            self.say(carol, "alice", "x")
        self.join("alice")

    def test_an_original_sender_is_told_when_its_recipient_drops_off(self) -> None:
        alice, bob = self.original("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x")
        self.commit()
        self.leave(bob)
        self.assertEqual(alice.heard, [("sent", None, 1), ("undelivered", None)])
        self.assertEqual(self.join("bob", bob.token).texts(), ["x"])

    def test_an_original_user_takes_no_kept_name(self) -> None:
        self.leave(self.join("bob"))
        with self.assertRaises(NameInUse):
            self.original("bob")


class RepeatedTests(HubTestCase):
    def test_a_message_sent_again_under_its_id_is_not_a_second_one(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "7", "7")
        self.commit()
        self.leave(alice)
        again = self.join("alice", alice.token)
        self.hub.send(again, "bob", "x", "7", "7")
        self.commit()
        self.assertEqual((again.heard, bob.texts()), ([("sent", "7", 1)], ["x"]))
        self.hub.received(bob, 1)
        self.assertEqual(again.heard[1:], [("delivered", "7", 1)])
        self.hub.send(again, "bob", "x", "7", "7")
        self.commit()
        self.assertEqual(again.heard[2:], [("sent", "7", 1), ("delivered", "7", 1)])

    def test_a_repeated_message_is_confirmed_even_if_its_recipient_has_gone(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "7", "7")
        self.commit()
        self.quit(bob)
        self.leave(alice)
        again = self.join("alice", alice.token)
        self.hub.send(again, "bob", "x", "7", "7")
        self.hub.send(again, "bob", "x", "8", "8")
        self.commit()
        self.assertEqual(again.heard, [("sent", "7", 1), ("refused", "8", UnableToSend)])

    def test_ids_are_each_users_own(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "7", "7")
        self.hub.send(bob, "alice", "y", "7", "7")
        self.commit()
        self.assertEqual((alice.texts(), bob.texts()), (["y"], ["x"]))


class RestartTests(HubTestCase):
    """The server is killed, and another starts on what it has written."""

    def test_the_grace_counts_anew_from_the_start(self) -> None:
        bob = self.join("bob")
        self.clock.advance(10_000)
        self.start()
        self.clock.advance(599)
        self.join("bob", bob.token)

    def test_a_confirmed_message_does_not_come_again_after_a_restart(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x")
        self.commit()
        self.hub.received(bob, 1)
        self.clock.advance(2)
        self.commit()
        self.start()
        self.assertEqual(self.join("bob", bob.token).texts(), [])


class FailureTests(HubTestCase):
    """The disk is full."""

    def test_senders_are_told_when_to_try_again_and_nobody_hears_of_it(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.store.broken = OSError("full")
        self.hub.send(alice, "bob", "x", "1")
        self.commit()
        self.assertEqual((alice.heard, bob.got), ([("refused", "1", Unavailable)], []))
        self.store.broken = None
        self.hub.send(alice, "bob", "x", "1")
        self.commit()
        self.assertEqual(bob.texts(), ["x"])
        self.assertEqual(alice.heard[1][:2], ("sent", "1"))


class ReadingTests(HubTestCase):
    def read(self, reading) -> list[str]:
        self.commit()
        return [message.text for message in self.successResultOf(reading).messages]

    def test_the_next_of_a_name_reads_nothing_of_the_one_before(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "secret")
        self.commit()
        self.quit(bob)
        bob = self.join("bob")
        self.assertEqual(self.read(self.hub.queries.history(bob, "alice", Span(10))), [])
        self.assertEqual(self.read(self.hub.queries.search(bob, "", None, Search("secret", 9))), [])


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7u3T+rJRRpOSuhLfdWWLOIlgvFYs5vyQCPsb0hw9Wr"


class LimitTests(HubTestCase):
    limits = OFF._replace(
        messages=Rate(1, 2), logins=Rate(1, 5), registrations=Rate(0.01, 1), rooms=1
    )

    def test_a_user_who_sends_too_much_is_told_to_wait_and_still_receives(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for _ in range(2):
            self.hub.send(alice, "bob", "x")
        with self.assertRaises(TooFast) as caught:
            self.hub.send(alice, "bob", "x")
        self.assertEqual(caught.exception.retry_after, 1)
        self.hub.send(bob, "alice", "y")
        self.commit()
        self.assertEqual((len(bob.got), len(alice.got)), (2, 1))
        self.clock.advance(1)
        self.hub.send(alice, "bob", "x")

    def test_an_address_asks_for_so_many_names_at_most(self) -> None:
        for i in range(6):
            session = ListSession(self.door)
            session.host = "192.0.2.1"
            if i < 5:
                self.hub.logins.login(session, f"u{i}", label="r")
            else:
                with self.assertRaises(TooFast):
                    self.hub.logins.login(session, "late", label="r")
        self.join("alice")  # from elsewhere


class LineLimitTests(HubTestCase):
    limits = OFF._replace(octets=Rate(1, 4 + 3 * LINE_OCTETS))

    def test_every_further_line_of_a_text_counts_besides_its_own_bytes(self) -> None:
        alice = self.join("alice")
        self.hub.send(alice, "ALL", "\n\n")
        self.hub.send(alice, "ALL", "\n")
        self.hub.send(alice, "ALL", "x")
        with self.assertRaises(TooFast):
            self.hub.send(alice, "ALL", "x")


class WorkTests(HubTestCase):
    """What is done aside for somebody is charged by its time; here a reading takes a second."""

    limits = OFF._replace(work=Rate(0.5, 2), address_work=Rate(1, 4))

    def read(self, session: ListSession) -> None:
        reading = self.hub.queries.history(session, "ALL", Span(9))
        self.clock.pump([0, 0, 1, 0])
        self.successResultOf(reading)

    def test_a_user_who_has_read_too_much_is_told_when_to_go_on_and_others_are_not(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.store.seconds = 1
        with self.assertRaises(TooFast) as caught:
            for _ in range(9):
                self.read(alice)
        self.assertEqual(caught.exception.retry_after, 1)
        with self.assertRaises(TooFast):
            self.hub.queries.search(alice, "", None, Search("x", 9))
        self.read(bob)
        self.clock.advance(1)
        self.read(alice)

    def test_all_users_of_an_address_share_its_allowance(self) -> None:
        sessions = [self.join(name) for name in ("a", "b", "c", "d", "e", "f")]
        for session in sessions:
            session.host, session.allowance = "192.0.2.1", None
        readings = [self.hub.queries.history(session, "ALL", Span(9)) for session in sessions]
        self.store.seconds = 1
        readings += [self.hub.queries.history(session, "ALL", Span(9)) for session in sessions]
        self.clock.pump([0, 0, 1, 0])
        for reading in readings:
            self.successResultOf(reading)
        for session in sessions:
            with self.assertRaises(TooFast):
                self.hub.queries.history(session, "ALL", Span(9))
        with self.assertRaises(TooFast):  # nor is a password looked at
            applicant = ListSession(self.door)
            applicant.host = "192.0.2.1"
            self.hub.usage.checked_asker(applicant)

    def test_a_user_who_comes_back_waits_for_the_next_page_and_gets_all_messages(self) -> None:
        self.patch(lookup, "SCAN", 1)
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        for i in range(8):
            self.hub.send(alice, "bob", str(i))
        self.commit()
        again = self.register("bob", bob.token)
        self.store.seconds = 1
        self.hub.logins.arrive(again)
        self.clock.pump([0.5] * 8)
        self.assertLess(len(again.got), 5)
        self.clock.pump([0.5] * 30)
        self.assertEqual(again.texts(), [str(i) for i in range(8)])

    def test_a_user_who_comes_back_when_too_much_is_read_is_served_soon(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        self.hub.send(alice, "bob", "x")
        self.commit()
        self.store.unreadable = Unavailable("too much waits")
        again = self.join("bob", bob.token)
        self.assertEqual((again.got, again.heard), ([], []))
        self.store.unreadable = None
        self.clock.advance(delivery.READ_AGAIN)
        self.commit()
        self.assertEqual(again.texts(), ["x"])

    def test_the_longer_too_much_is_read_the_less_often_it_is_tried_again(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        self.hub.send(alice, "bob", "x")
        self.commit()
        self.store.unreadable = Unavailable("too much waits")
        tried: list[float] = []
        read = self.store.read

        def try_to_read(*args, **kw):
            tried.append(self.clock.seconds())
            return read(*args, **kw)

        self.store.read = try_to_read
        self.join("bob", bob.token)
        self.clock.pump([1] * 40)
        waits = [later - earlier for earlier, later in pairwise(tried)]
        self.assertEqual(waits, [1, 2, 4, 8, 10, 10])


class PresenceTests(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("alice")
        self.hub.watch(self.alice, watches=True)

    def saw(self, session: ListSession) -> list[tuple[str, ...]]:
        """What a session was shown, in one go."""
        self.clock.advance(TELL_AFTER)
        heard, session.heard = session.heard, []
        if not heard:
            return []
        [(what, *seen)] = heard
        self.assertEqual(what, "saw")
        return [presence[:3] for presence in seen]

    def test_a_watcher_sees_others_come_and_go(self) -> None:
        bob = self.join("bob")
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])
        self.leave(bob)
        self.assertEqual(self.saw(self.alice), [("bob", "gone", "")])
        bob = self.join("bob", bob.token)
        carol = self.join("carol")
        self.quit(carol)
        self.assertEqual(self.saw(self.alice), [("bob", "here", ""), ("carol", "gone", "")])
        self.assertEqual(bob.heard, [])

    def test_only_the_first_connection_of_a_user_to_come_and_the_last_to_go_are_news(self) -> None:
        first = self.join("bob")
        self.saw(self.alice)
        second = self.join("bob", first.token)
        self.leave(first)
        self.assertEqual(self.saw(self.alice), [])
        self.leave(second)
        self.assertEqual(self.saw(self.alice), [("bob", "gone", "")])

    def test_a_user_who_is_away_gives_a_reason_and_still_gets_messages(self) -> None:
        bob = self.join("bob")
        self.saw(self.alice)
        self.ask(bob, c.SetAway, " at lunch ")
        self.assertEqual(self.saw(self.alice), [("bob", "away", "at lunch")])
        self.hub.send(self.alice, "bob", "x")
        self.commit()
        self.assertEqual(bob.texts(), ["x"])
        self.ask(bob, c.SetAway, "")
        self.alice.heard.clear()
        self.assertEqual(self.saw(self.alice), [("bob", "away", "")])
        self.ask(bob, c.SetAway, None)
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])

    def test_being_away_is_the_users_on_all_connections_and_outlasts_one(self) -> None:
        first = self.join("bob")
        second = self.join("bob", first.token)
        self.ask(first, c.SetAway, "lunch")
        self.leave(first)
        self.leave(second)
        again = self.join("bob", first.token)
        self.assertEqual(self.saw(self.alice), [("bob", "away", "lunch")])
        self.ask(again, c.SetAway, None)
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])

    def test_an_away_text_ends_with_its_guest(self) -> None:
        bob = self.join("bob")
        self.ask(bob, c.SetAway, "lunch")
        self.quit(bob)
        self.join("bob")
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])

    def test_watching_ends_when_it_is_said_and_with_the_session(self) -> None:
        bob, carol = self.join("bob"), self.join("carol")
        for session in (bob, carol):
            self.hub.watch(session, watches=True)
        self.saw(self.alice)
        carol.heard.clear()
        self.leave(bob)
        self.hub.watch(carol, watches=False)
        self.hub.watch(carol, watches=False)
        self.assertEqual(self.saw(self.alice), [("bob", "gone", "")])
        self.assertEqual((bob.heard[1:], carol.heard), ([], []))
        again = self.join("bob", bob.token)
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])
        self.assertEqual(again.heard, [])

    def test_each_door_shows_a_presence_once_to_all_its_sessions(self) -> None:
        doors = [self.door, ListDoor()]
        calls: list[tuple[int, int]] = []
        for i, door in enumerate(doors):
            self.patch(door, "show", lambda seen, to, i=i: calls.append((i, len(to))))
        for name, door in (("bob", doors[0]), ("carol", doors[1])):
            self.hub.watch(self.join(name, door=door), watches=True)
        self.join("dave")
        self.clock.advance(TELL_AFTER)
        self.assertEqual(sorted(calls), [(0, 2), (1, 1)])

    def test_a_user_of_the_original_client_is_seen_too(self) -> None:
        self.original("bob")
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])


class OrderTests(HubTestCase):
    """What is decided when its turn comes, and told in that order."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.join("alice"), self.join("bob")
        for session in (self.alice, self.bob):
            self.enter(session, "#dev")
        for session in (self.alice, self.bob):
            session.got.clear()
            session.heard.clear()

    def test_a_removed_member_can_not_send(self) -> None:
        carol = self.join("carol")
        self.enter(carol, "#dev")
        self.alice.got.clear()
        remove = c.RemoveMember(self.alice.user, self.alice.epoch, "#dev", "bob")
        self.hub.propose(self.alice, remove, "#dev", "k")
        self.hub.send(self.bob, "#dev", "still here?", "s")
        self.commit()
        self.assertEqual(carol.got[-1], MemberLeft("#dev", "bob", "alice", "", True))
        self.assertEqual(carol.texts(), [])
        self.assertEqual(self.bob.heard[-1], ("refused", "s", NotAMember))

    def test_a_muted_user_is_refused_and_nobody_gets_the_message(self) -> None:
        self.hub.ask(c.Impose(c.CONSOLE, 0, c.MUTE, "bob"))
        self.hub.send(self.bob, "alice", "x", "s")
        self.commit()
        self.assertEqual(self.alice.texts(), [])
        self.assertEqual(self.bob.heard, [("refused", "s", Muted)])

    def test_the_asker_is_answered_and_the_others_are_told(self) -> None:
        self.ask(self.alice, c.SetTopic, "#dev", "plans")
        [answer] = self.alice.heard
        event = answer[2]
        self.assertIsInstance(event, TopicChanged)
        self.assertEqual((event.topic, event.by), ("plans", "alice"))
        self.assertEqual(self.bob.got, [event])

    def test_a_new_owner_is_told_to_all(self) -> None:
        self.ask(self.alice, c.Part, "#dev")
        left = MemberLeft("#dev", "alice", "", "", True)
        self.assertEqual(self.alice.heard, [("answered", "q", left)])
        self.assertEqual(self.bob.got, [left, RankChanged("#dev", "bob", c.OPERATOR, "", c.NONE)])

    def test_the_last_member_leaves_and_joins_again_at_once(self) -> None:
        self.quit(self.alice)
        self.bob.heard.clear()
        bob = self.bob
        self.hub.propose(bob, c.Part(bob.user, bob.epoch, "#dev"), "#dev", "1")
        self.hub.propose(bob, c.Join(bob.user, bob.epoch, "#dev", c.new_id()), "#dev", "2")
        self.commit()
        self.assertEqual([heard[:2] for heard in bob.heard], [("answered", "1"), ("answered", "2")])

    def test_a_user_who_has_gone_is_told_when_it_is_committed(self) -> None:
        self.hub.logins.leave(self.bob, for_good=True)
        self.assertEqual(self.alice.got, [])
        self.commit()
        self.assertEqual(self.alice.got, [MemberLeft("#dev", "bob", "", "", False)])


class FollowingTests(HubTestCase):
    """What is told to sessions that follow everybody."""

    def setUp(self) -> None:
        super().setUp()
        self.irc = self.follow("irc")
        self.enter(self.irc, "#dev")
        self.irc.heard.clear()

    def test_a_guest_who_ends_with_the_session_has_left_before_their_rooms_are(self) -> None:
        bob = self.follow("bob")
        self.enter(bob, "#dev")
        self.hub.logins.leave(bob, for_good=True, reason="bye")
        self.commit()
        self.assertEqual(
            self.irc.got,
            [
                UserArrived("bob", ()),
                MemberJoined("#dev", "bob", c.NONE),
                UserLeft("bob", ("#dev",), "bye", False, ""),
                MemberLeft("#dev", "bob", "", "bye", False),
            ],
        )

    def test_a_user_who_is_held_leaves_and_arrives_where_they_were(self) -> None:
        bob = self.join("bob")
        self.enter(bob, "#dev")
        del self.irc.got[:]
        self.leave(bob)
        bob = self.join("bob", bob.token)
        self.enter(bob, "#dev2")
        other = self.join("bob", bob.token)
        self.leave(bob)
        self.assertEqual(
            self.irc.got,
            [UserLeft("bob", ("#dev",), "", True, ""), UserArrived("bob", ("#dev",))],
        )
        self.quit(other)

    def test_a_departure_is_told_before_the_next_user_of_the_name_comes(self) -> None:
        bob = self.follow("bob")
        self.hub.logins.leave(bob, for_good=False)
        self.hub.logins.login(FollowingSession(self.door), "bob")
        self.commit()
        self.assertEqual(
            self.irc.got,
            [UserArrived("bob", ()), UserLeft("bob", (), "", True, ""), UserArrived("bob", ())],
        )

    def test_one_of_version_1_is_told_when_both_connections_are_there(self) -> None:
        dora = ImmediateSession(self.door)
        self.hub.logins.login(dora, "dora", present=False)
        self.commit()
        self.assertEqual(self.irc.got, [])
        self.hub.logins.arrive(dora)
        self.commit()
        self.assertEqual(self.irc.got, [UserArrived("dora", ())])

    def test_all_are_known_as_absent_after_a_start(self) -> None:
        bob = self.join("bob")
        self.enter(bob, "#a")
        self.start()
        irc = self.follow("irc")
        bob = self.join("bob", bob.token)
        self.leave(bob)
        self.assertEqual(
            irc.got, [UserArrived("bob", ("#a",)), UserLeft("bob", ("#a",), "", True, "")]
        )

    def test_who_invites_is_answered_with_the_invitation(self) -> None:
        bob = self.follow("bob")
        self.enter(bob, "#dev")
        self.join("carol")
        del self.irc.got[:]
        self.ask(bob, c.Invite, "#dev", "carol")
        self.assertEqual(bob.heard[-1], ("answered", "q", Invitation("#dev", "carol", "bob")))
        self.assertEqual(self.irc.got, [MemberInvited("#dev", "carol", "bob")])
        self.assertEqual(bob.got[-1], UserArrived("carol", ()))

    def test_others_are_not_told_of_those_with_whom_they_share_no_room(self) -> None:
        bob = self.join("bob")
        self.quit(self.follow("carol"))
        self.assertEqual(bob.got, [])


class ManyAtOnceTests(HubTestCase):
    """Each user who comes or goes costs time for each session that follows everybody."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(logins, "TOLD_AT_ONCE", 2)
        self.start()
        self.turns: list[list[object]] = []

    def told(self, irc: FollowingSession) -> list[list[tuple[str, str]]]:
        """Return who has come and gone, by turns of the reactor."""
        turns = []
        for _ in range(20):
            turn(self.clock)
            events, irc.got = irc.got, []
            told = [(type(event).__name__, event.user) for event in events]
            if told:
                turns.append(told)
        return turns

    def test_users_who_go_at_once_are_told_in_several_turns_and_in_order(self) -> None:
        irc = self.follow("irc")
        users = [self.join(name) for name in ("a", "b", "c", "d", "e")]
        irc.got.clear()
        for user in users:
            self.hub.logins.leave(user, for_good=True)
        again = ListSession(self.door)
        self.hub.logins.login(again, "a")
        left = [("UserLeft", name) for name in "abcde"]
        # The first two wait for their commit until the next two are proposed.
        self.assertEqual(self.told(irc), [left[:4], [left[4], ("UserArrived", "a")]])
        self.assertEqual(again.heard, [("registered",)])

    def test_a_client_that_goes_while_its_login_waits_comes_and_goes(self) -> None:
        irc = self.follow("irc")
        sessions = [ListSession(self.door) for _ in range(3)]
        for number, session in enumerate(sessions):
            self.hub.logins.login(session, f"u{number}")
        self.hub.logins.leave(sessions[2], for_good=True)
        irc.got.clear()
        told = [event for turn in self.told(irc) for event in turn]
        self.assertEqual(told[-2:], [("UserArrived", "u2"), ("UserLeft", "u2")])
        self.assertNotIn("u2", self.hub.state.names)

    def test_without_a_session_that_follows_everybody_all_go_at_once(self) -> None:
        users = [self.join(name) for name in ("a", "b", "c", "d", "e")]
        for user in users:
            self.hub.logins.leave(user, for_good=True)
        self.clock.advance(0)
        self.assertEqual(self.hub.population().users, 0)


class DepartureTests(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(departures, "MAX_DEPARTURES", 3)
        self.start()

    def gone(self, name: str) -> list[tuple[str, str, bool]]:
        found = self.hub.departures.find(name)
        return [(gone.name, gone.real_name, gone.has_account) for gone in found]

    def test_those_who_had_a_name_are_found_the_newest_first(self) -> None:
        bob = self.join("Bob")
        self.ask(bob, c.SetRealName, "Bob B.")
        other = self.join("bob", bob.token)
        self.quit(bob)
        self.assertEqual(self.gone("bob"), [])
        self.quit(other)
        time = self.hub.departures.find("bob")[0].time
        self.assertEqual(time, int(self.hub.settled() * 1000))
        bob = self.join("bOB")
        self.ask(bob, c.MakeAccount, "ssh-ed25519 AAAA")
        self.leave(bob)
        self.assertEqual(self.gone("bob"), [("bOB", "", True), ("Bob", "Bob B.", False)])
        self.assertEqual(self.gone("alice"), [])

    def test_the_number_of_remembered_departures_is_bounded(self) -> None:
        for name in ("alice", "bob", "carol", "dora"):
            self.quit(self.join(name))
        found = [name for name in ("alice", "bob", "carol", "dora") if self.gone(name)]
        self.assertEqual(found, ["bob", "carol", "dora"])

    def test_one_who_was_never_present_has_not_gone(self) -> None:
        dora = ImmediateSession(self.door)
        self.hub.logins.login(dora, "dora", present=False)
        self.commit()
        self.leave(dora)
        self.assertEqual(self.gone("dora"), [])


class CatchingUpTests(HubTestCase):
    """Events that are committed while a session catches up."""

    def test_they_come_among_the_messages_where_they_belong(self) -> None:
        self.patch(lookup, "SCAN", 2)
        alice, bob = self.join("alice"), self.join("bob")
        for session in (alice, bob):
            self.enter(session, "#dev")
        self.leave(bob)
        for text in "abcdef":
            self.hub.send(alice, "#dev", text)
        self.commit()
        again = self.register("bob", bob.token)
        waiting: list = []
        again.when_ready = waiting.append  # the first page is on its way
        self.hub.logins.arrive(again)
        self.commit()
        self.ask(alice, c.SetTopic, "#dev", "plans")
        self.ask(alice, c.Join, "#new", 77)
        self.ask(alice, c.Invite, "#new", "bob")
        self.hub.send(alice, "#dev", "g")
        self.ask(alice, c.Part, "#dev")
        while waiting:
            waiting.pop()()
            self.commit()
        told = [m.text if isinstance(m, Message) else type(m) for m in again.got]
        behind = [RankChanged] if MemberLeft in told else []
        self.assertEqual(told, [*"abcdef", TopicChanged, Invitation, "g", MemberLeft, *behind])
        self.assertTrue(again.live)

    def test_with_too_many_of_them_the_session_is_dropped(self) -> None:
        self.patch(delivery, "MAX_EVENTS", 2)
        alice, bob = self.join("alice"), self.join("bob")
        for session in (alice, bob):
            self.enter(session, "#dev")
        self.leave(bob)
        self.hub.send(alice, "#dev", "a")
        self.commit()
        again = self.register("bob", bob.token)
        self.store.seconds = 5  # reading takes long
        self.hub.logins.arrive(again)
        again.catching_up.events.extend([(0, Invitation("#x", "bob", "alice"))] * 2)
        self.store.seconds = 0
        self.ask(alice, c.SetTopic, "#dev", "plans")
        self.assertIn(("dropped",), again.heard)


class EndTests(HubTestCase):
    """Sessions that end against the wish of their users."""

    def test_a_disconnected_user_is_told_by_whom_and_why(self) -> None:
        alice = self.join("alice")
        done: list = []
        self.hub.ask(c.Disconnect(c.CONSOLE, 0, "alice", "too loud")).addCallback(done.append)
        self.commit()
        self.assertEqual(alice.heard, [Dismissal("disconnected", "", "too loud")])
        self.assertEqual([result.name for result in done], ["alice"])
        self.assertEqual(self.names(), [])
        self.hub.logins.leave(alice, for_good=False)  # the connection is closed behind that
        self.commit()
        self.assertEqual(self.hub.population().sessions, 0)

    def test_a_banned_user_is_told_so(self) -> None:
        alice = self.join("alice")
        self.hub.ask(c.Impose(c.CONSOLE, 0, c.BAN, "alice", 0, "spam"))
        self.commit()
        self.assertEqual(alice.heard, [Dismissal("banned", "", "spam")])
        with self.assertRaises(Banned):
            self.join("alice")

    def test_a_command_that_could_not_be_written_is_proposed_again(self) -> None:
        alice = self.join("alice")
        self.store.broken = OSError("full")
        self.leave(alice)
        self.assertEqual(self.names(), ["alice"])
        self.store.broken = None
        self.clock.pump([1] * 12)
        self.commit()
        self.assertEqual(self.names(), [])

    def test_a_start_that_could_not_be_written_comes_before_anything_else(self) -> None:
        alice = self.join("alice")
        self.store.broken = OSError("full")
        self.start()  # the server before was killed
        with self.assertRaises(Unavailable):
            self.join("bob")
        self.store.broken = None
        self.clock.pump([1] * 12)
        self.commit()
        self.assertEqual(self.names(), [])
        self.join("alice", alice.token)
        self.assertEqual(self.names(), ["alice"])


class PermittedTests(HubTestCase):
    limits = OFF._replace(registrations=Rate(1 / 600, 1))

    def test_history_is_for_the_parties_alone(self) -> None:
        alice, bob, carol = (self.join(name) for name in ("alice", "bob", "carol"))
        for session in (alice, bob):
            self.enter(session, "#dev")
        self.hub.send(alice, "bob", "secret")
        self.hub.send(alice, "#dev", "plans")
        self.commit()
        for session, about, texts in (
            (bob, "alice", ["secret"]),
            (bob, "#dev", ["plans"]),
            (carol, "alice", []),
            (carol, "bob", []),
        ):
            reading = self.hub.queries.history(session, about, Span(10))
            self.commit()
            messages = self.successResultOf(reading).messages
            self.assertEqual([message.text for message in messages], texts)
        reading = self.hub.queries.history(carol, "#dev", Span(10))
        self.commit()
        self.failureResultOf(reading, NotAMember)
        self.hub.propose(bob, c.Part(bob.user, bob.epoch, "#dev"))
        # In its turn, which is behind that.
        reading = self.hub.queries.history(bob, "#dev", Span(10))
        self.commit()
        self.failureResultOf(reading, NotAMember)

    def test_the_newest_messages_are_of_conversations_that_one_may_read(self) -> None:
        alice, bob, carol = (self.join(name) for name in ("alice", "bob", "carol"))
        for session in (alice, bob):
            self.enter(session, "#dev")
        for to in ("#dev", "bob", "ALL"):
            self.hub.send(alice, to, "x")
            self.commit()
            self.clock.advance(1)
        self.hub.propose(alice, c.Part(alice.user, alice.epoch, "#dev"))
        for session, names in (
            (alice, ["bob", "ALL"]),
            (bob, ["#dev", "alice", "ALL"]),
            (carol, ["ALL"]),
        ):
            reading = self.hub.queries.newest(session, Times(9, 0, 2**62))
            self.commit()
            self.assertEqual([each.name for each in self.successResultOf(reading)], names)

    def test_an_address_makes_so_many_accounts_at_most(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for session in (alice, bob):
            session.host = "192.0.2.1"
        making = c.MakeAccount(alice.user, alice.epoch, "ssh-ed25519 AAAA")
        self.hub.propose_hashed(alice, making, None, "register", "1")
        self.commit()
        self.assertEqual(alice.heard[-1], ("answered", "1", None))
        with self.assertRaises(TooFast):
            self.hub.propose_hashed(bob, making._replace(user=bob.user), None, "register", "1")

    def test_a_sanction_after_an_outage_lasts_as_long_as_was_said(self) -> None:
        self.join("bob")
        self.store.wall.ahead += 2 * 3600  # for which no server runs
        self.start()
        until = parse_duration("90m", self.hub.settled())
        self.hub.ask(c.Impose(c.CONSOLE, 0, c.MUTE, "bob", until))
        self.clock.pump([60] * 89)  # after an hour the outage is believed
        self.commit()
        self.assertEqual(list(self.hub.state.sanctions), [("mute", "bob")])
        self.clock.pump([60] * 2)
        self.commit()
        self.assertEqual(list(self.hub.state.sanctions), [])

    def test_only_operators_may_impose_sanctions(self) -> None:
        alice = self.join("alice")
        for command, *fields in (
            (c.Impose, c.BAN, "bob"),
            (c.Impose, c.MUTE, "bob"),
            (c.Lift, c.BAN, "bob"),
            (c.Disconnect, "alice"),
        ):
            alice.heard.clear()
            self.ask(alice, command, *fields)
            self.assertEqual(alice.heard, [("refused", "q", OperatorRequired)])
        with self.assertRaises(OperatorRequired):
            self.hub.queries.sanctions(alice)
