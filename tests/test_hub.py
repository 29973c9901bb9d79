"""The rules: who may be called what, who gets what, who hears of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.auth.accounts import Account
from chat_twisted.core import hub as hub_module
from chat_twisted.core import sessions
from chat_twisted.core.changes import (
    KeyAdded,
    KeyRemoved,
    PasswordSet,
    RoleSet,
    RoomGone,
    UserCame,
    UserGone,
)
from chat_twisted.core.errors import (
    AuthenticationRequired,
    ChatError,
    MalformedName,
    NameInUse,
    NoSuchRoom,
    NotPermitted,
    TooFast,
    UnableToSend,
    Unavailable,
)
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import OFF, Limiter, Rate
from chat_twisted.core.message import Message, fold
from chat_twisted.core.presence import TELL_AFTER, Presence
from chat_twisted.core.saved import Span
from chat_twisted.core.sessions import Event, Request, Session, User
from chat_twisted.core.turns import Asker
from chat_twisted.storage import archive
from chat_twisted.storage import embedded as ledger_module
from tests.store import InlineStore, quick_accounts, settle


class ListDoor:
    """A door that keeps what it is to bring."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[Session]]] = []
        self.flushes: list[bool] = []
        self.tellings: list[tuple[str, list[Session]]] = []

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        self.calls.append(([message.text for message in messages], list(sessions)))
        for session in sessions:
            session.got += messages

    def flush(self, *, more: bool) -> None:
        self.flushes.append(more)

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        for session in sessions:
            session.heard.append(("saw", *seen))

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        self.tellings.append((event.what, list(sessions)))
        for session in sessions:
            session.hear(event)


class ListSession(Session):
    def __init__(self, door: ListDoor) -> None:
        super().__init__(door)
        self.got: list[Message] = []
        self.heard: list[tuple[object, ...]] = []

    def texts(self) -> list[str]:
        return [message.text for message in self.got]

    def registered(self) -> None:
        self.heard.append(("registered",))

    def refused(self, request: Request, error: ChatError) -> None:
        self.heard.append(("refused", request.id, error.code))

    def done(self, request: Request) -> None:
        self.heard.append(("done", request.verb, request.argument, request.id))

    def dismissed(self, why: str) -> None:
        self.heard.append(("dismissed", why))

    def told(self, event: Event, request: Request) -> None:
        self.hear(event, request.id)

    def hear(self, event: Event, *id: str | None) -> None:
        by = [event.by] if event.by else []
        self.heard.append((event.what, event.room.name, event.user, *by, *id))

    def drop(self, why: str) -> None:
        self.heard.append(("dropped",))

    def sent(self, request: Request, number: int, time: int) -> None:
        self.heard.append(("sent", request.id, number))

    def delivered(self, request: Request, number: int) -> None:
        self.heard.append(("delivered", request.id, number))

    def undelivered(self, request: Request) -> None:
        self.heard.append(("undelivered", request.id))


class ImmediateSession(ListSession):
    immediate = True


class HubTestCase(TestCase):
    grace = 600
    limits = OFF
    max_clients = 10

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = InlineStore(self.clock)
        self.door = ListDoor()
        self.start()

    def start(self) -> None:
        """Start a server on what is stored."""
        self.accounts = quick_accounts()
        self.hub = Hub(
            self.store.ledger(),
            self.clock,
            self.accounts,
            Limiter(self.limits),
            max_clients=self.max_clients,
            grace=self.grace,
        )

    def register(self, name: str, token: str | None = None, door: ListDoor | None = None):
        """A session that has its name, or is refused it."""
        session = ListSession(door or self.door)
        if not self.hub.register(name, session, token, "r"):
            self.commit()
            self.assertEqual(session.heard, [("registered",)])
            session.heard.clear()
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
        self.hub.arrive(session, resume)
        self.commit()
        return session

    def original(self, name: str):
        """A session of those that only get what is said while they are there."""
        session = ImmediateSession(self.door)
        self.assertTrue(self.hub.register(name, session))
        self.hub.arrive(session)
        return session

    def leave(self, session: ListSession) -> None:
        """The connection is lost."""
        self.hub.leave(session, for_good=False)

    def quit(self, session: ListSession) -> None:
        self.hub.leave(session, for_good=True)
        self.commit()

    def commit(self) -> None:
        settle(self.clock)

    def names(self) -> list[str]:
        """Those who are present."""
        return [user.name for user in self.hub.who().items]


class RegistryTests(HubTestCase):
    def test_a_name_is_had_by_one_user_at_a_time_whatever_its_case(self) -> None:
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
        self.assertEqual(second.user.name, "alice")
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

    def test_a_refused_registration_leaves_nothing_behind(self) -> None:
        self.join("alice")
        refused = ListSession(self.door)
        with self.assertRaises(NameInUse):
            self.hub.register("alice", refused)
        self.quit(refused)
        self.assertEqual(self.names(), ["alice"])

    def test_leaving_twice_is_leaving_once(self) -> None:
        alice = self.join("alice")
        self.quit(alice)
        self.quit(alice)
        for i in range(10):
            self.join(f"u{i}")

    def test_who_is_in_the_order_of_the_alphabet_and_only_of_those_present(self) -> None:
        for name in ("bob", "Alice", "carol"):
            self.join(name)
        self.register("dora")
        self.assertEqual(self.names(), ["Alice", "bob", "carol"])


class DeliveryTests(HubTestCase):
    def test_what_several_said_at_once_is_handed_on_in_as_few_pieces_as_they_said_it_in(
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

    def test_received_says_nothing_of_what_went_to_others(self) -> None:
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

    def test_what_is_said_to_the_same_with_nothing_between_is_handed_on_together(self) -> None:
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

    def test_those_who_talk_at_once_get_what_the_others_said_among_their_own(self) -> None:
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
    def test_what_is_committed_together_reaches_whom_it_would_one_by_one(
        self, said: list[tuple[str, str]]
    ) -> None:
        heard = []
        for together in (False, True):
            self.setUp()
            sessions = {name: self.join(name) for name in ("alice", "bob", "carol")}
            sessions["alice 2"] = self.join("alice", sessions["alice"].token)
            for name in ("alice", "bob"):
                self.hub.join(sessions[name], "#dev", None, private=False)
            self.hub.join(sessions["carol"], "#dev", None, private=False)
            self.commit()
            for i, (name, to) in enumerate(said):
                if sessions[name].user.name != to:
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
    def test_what_nobody_would_get_is_refused_and_not_committed(self) -> None:
        alice = self.join("alice")
        self.hub.register("ghost", ListSession(self.door))  # not committed
        for to in ("bob", "ghost", "b@d", ""):
            with self.assertRaises(UnableToSend, msg=to):
                self.hub.send(alice, to, "hello")
        with self.assertRaises(NoSuchRoom):
            self.hub.send(alice, "#dev", "hello")
        self.commit()
        self.assertEqual(self.hub.last, 0)

    def test_what_is_said_to_everybody_is_history_for_who_comes(self) -> None:
        alice = self.join("alice")
        self.hub.send(alice, "ALL", "x", "a")
        self.commit()
        self.assertEqual(alice.heard, [("sent", "a", 1)])

    def test_who_counts_those_alone_who_are_present_needs_somebody_else_for_everybody(self) -> None:
        dora = ImmediateSession(self.door)
        self.hub.register("dora", dora)
        self.hub.arrive(dora)
        self.quit(self.join("alice"))
        bob = self.join("bob")
        self.hub.leave(bob, for_good=False)  # its name is kept
        for to in ("ALL", "bob", "dora"):
            with self.assertRaises(UnableToSend, msg=to):
                self.hub.send(dora, to, "x")
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

    def test_what_a_session_does_not_confirm_is_not_remembered_without_bound(self) -> None:
        self.patch(sessions, "MAX_UNCONFIRMED", 3)
        alice, bob = self.join("alice"), self.join("bob")
        for id in range(5):
            self.hub.send(alice, "bob", "x", str(id))
        self.commit()
        self.assertEqual(len(bob.user.unconfirmed), 3)
        self.hub.received(bob, 5)
        self.assertEqual([heard[1] for heard in alice.heard[5:]], ["2", "3", "4"])
        self.assertEqual(len(bob.got), 5)


class KeptTests(HubTestCase):
    """Who drops off is not gone at once."""

    def test_a_name_is_kept_for_its_token_until_the_grace_is_over(self) -> None:
        alice = self.join("alice")
        self.leave(alice)
        with self.assertRaises(NameInUse):
            self.join("alice")
        self.clock.advance(599)
        again = self.join("ALICE", alice.token)
        self.assertEqual((again.user.name, again.token), ("alice", alice.token))
        self.clock.advance(601)  # nothing ends while it is here
        self.leave(again)
        self.clock.advance(601)
        stranger = self.join("alice", alice.token)
        self.assertNotEqual(stranger.token, alice.token)

    def test_who_is_away_is_not_here_but_can_be_sent_to(self) -> None:
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

    def test_what_was_confirmed_does_not_come_again_and_what_was_not_does(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for text in ("one", "two", "three"):
            self.hub.send(alice, "bob", text)
        self.hub.send(bob, "alice", "mine")
        self.commit()
        self.hub.received(bob, 2)
        self.leave(bob)
        self.assertEqual(self.join("bob", bob.token).texts(), ["three"])

    def test_a_confirmation_of_what_was_not_sent_yet_counts_for_what_was(self) -> None:
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

    def test_what_was_missed_comes_before_anything_newer_and_each_once(self) -> None:
        self.patch(archive, "SCAN", 3)
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        for i in range(10):
            self.hub.send(alice, "bob", str(i))
        self.commit()
        again = self.register("bob", bob.token)
        self.hub.arrive(again)
        for i in range(10, 20):  # while it catches up
            self.hub.send(alice, "bob", str(i))
            self.clock.advance(0)
        self.commit()
        self.assertEqual(again.texts(), [str(i) for i in range(20)])

    def test_a_slow_session_is_brought_the_next_page_when_it_is_ready(self) -> None:
        self.patch(archive, "SCAN", 3)
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        for i in range(9):
            self.hub.send(alice, "bob", str(i))
        self.commit()
        again = self.register("bob", bob.token)
        waiting: list[Callable[[], None]] = []
        again.when_ready = waiting.append
        self.hub.arrive(again)
        self.commit()
        self.assertEqual((len(again.got), len(waiting)), (3, 1))
        self.assertEqual(self.names(), ["alice", "bob"])
        waiting.pop()()
        self.leave(again)  # while the next is read
        self.commit()
        self.assertEqual((len(again.got), waiting), (3, []))

    def test_who_quits_is_gone_at_once_and_the_next_of_that_name_gets_nothing_of_his(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        self.hub.send(alice, "bob", "for the first bob", "a")
        self.commit()
        bob = self.join("bob", bob.token)
        self.quit(bob)
        self.assertEqual(alice.heard[1:], [("undelivered", "a")])
        with self.assertRaises(UnableToSend):
            self.hub.send(alice, "bob", "x")
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
                self.hub.send(alice, name, "x")
        self.hub.send(alice, "u2", "x")

    def test_who_goes_before_knowing_its_token_leaves_the_name_free(self) -> None:
        session = ListSession(self.door)
        self.assertFalse(self.hub.register("alice", session))
        self.leave(session)
        self.commit()
        self.join("alice")
        self.assertEqual(session.heard, [])
        self.assertEqual([user[1] for user in self.store.saved().users], ["alice"])

    def test_an_unreadable_archive_drops_who_has_missed_something(self) -> None:
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


class NoGraceTests(HubTestCase):
    grace = 0

    def test_without_grace_nobody_is_kept_and_nothing_of_users_is_written(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        with self.assertRaises(UnableToSend):
            self.hub.send(alice, "bob", "x")
        self.assertEqual(self.store.saved().users, [])
        self.join("bob")

    def test_a_room_of_one_who_is_not_kept_ends_with_its_connection(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.join(bob, "#dev", None, private=False)
        self.commit()
        self.leave(bob)
        self.commit()
        self.assertEqual(self.hub.rooms(alice).count, 0)
        self.assertEqual((self.store.saved().rooms, self.store.saved().members), ([], []))


class OriginalTests(HubTestCase):
    """Version 1 knows only who is there."""

    def test_an_original_user_is_gone_with_its_connection_and_sends_to_those_present(self) -> None:
        alice, bob = self.original("alice"), self.join("bob")
        self.leave(bob)
        for to in ("bob", "ALL", "#dev"):
            with self.assertRaises(ChatError):
                self.hub.send(alice, to, "x")
        self.leave(alice)
        carol = self.join("carol")
        with self.assertRaises(UnableToSend):
            self.hub.send(carol, "alice", "x")
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
        self.hub.send(alice, "bob", "x", "7")
        self.commit()
        self.leave(alice)
        again = self.join("alice", alice.token)
        self.hub.send(again, "bob", "x", "7")
        self.commit()
        self.assertEqual((again.heard, bob.texts()), ([("sent", "7", 1)], ["x"]))
        self.hub.received(bob, 1)
        self.assertEqual(again.heard[1:], [("delivered", "7", 1)])
        self.hub.send(again, "bob", "x", "7")
        self.commit()
        self.assertEqual(again.heard[2:], [("sent", "7", 1), ("delivered", "7", 1)])

    def test_what_was_sent_is_sent_though_its_recipient_has_gone_since(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "7")
        self.commit()
        self.quit(bob)
        self.leave(alice)
        again = self.join("alice", alice.token)
        self.hub.send(again, "bob", "x", "7")
        self.hub.send(again, "bob", "x", "8")
        self.commit()
        self.assertEqual(again.heard, [("sent", "7", 1), ("refused", "8", 102)])

    def two_clients(self, *instances: str) -> tuple[ListSession, ListSession]:
        """Two connections of alice, and what tells the clients apart."""
        one = self.join("alice")
        two = self.join("alice", one.token)
        one.instance, two.instance = instances
        return one, two

    def send_twice(self, *sends: tuple[ListSession, str, str]) -> list[object]:
        """Send under one Id, and again after a restart; return the numbers of the messages."""
        numbers: list[object] = []
        for _ in range(2):
            for session, to, text in sends:
                session.heard.clear()
                self.hub.send(session, to, text, "1")
                self.commit()
                numbers.append(session.heard[0][2])
            self.start()
            for session in {session for session, _, _ in sends}:
                self.hub.register("alice", session, session.token)
        return numbers

    def test_without_an_instance_recipient_and_text_belong_to_the_id(self) -> None:
        one, two = self.two_clients("", "")
        self.join("bob")
        sends = (one, "bob", "x"), (two, "bob", "y"), (two, "ALL", "x"), (two, "BOB", "x")
        self.assertEqual(self.send_twice(*sends), [1, 2, 3, 1] * 2)

    def test_of_an_instance_the_id_alone_counts(self) -> None:
        one, two = self.two_clients("a", "b")
        self.join("bob")
        sends = (one, "bob", "x"), (two, "bob", "x"), (one, "ALL", "other")
        self.assertEqual(self.send_twice(*sends), [1, 2, 1] * 2)

    def test_ids_are_each_users_own(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "7")
        self.hub.send(bob, "alice", "y", "7")
        self.commit()
        self.assertEqual((alice.texts(), bob.texts()), (["y"], ["x"]))


class RestartTests(HubTestCase):
    """The server is killed, and another starts on what it has written."""

    def test_users_inboxes_rooms_and_ids_are_there_again(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.join(alice, "#dev", "j", private=False)
        self.hub.join(bob, "#dev", "j", private=False)
        self.commit()
        self.leave(bob)
        self.hub.send(alice, "bob", "direct", "1")
        self.hub.send(alice, "#dev", "room", "2")
        self.commit()
        self.start()
        self.assertEqual(self.hub.last, 2)
        self.assertEqual(self.names(), [])
        with self.assertRaises(NameInUse):
            self.join("bob")
        alice = self.join("alice", alice.token, resume=2)
        self.hub.send(alice, "bob", "direct", "1")
        self.hub.send(alice, "#dev", "more", "3")
        self.commit()
        self.assertEqual([event[:2] for event in alice.heard], [("sent", "1"), ("sent", "3")])
        self.assertEqual(alice.heard[0][2], 1)
        bob = self.join("bob", bob.token)
        self.assertEqual(bob.texts(), ["direct", "room", "more"])

    def test_the_grace_counts_anew_from_the_start(self) -> None:
        bob = self.join("bob")
        self.clock.advance(10_000)
        self.start()
        self.clock.advance(599)
        self.join("bob", bob.token)

    def test_what_was_confirmed_before_does_not_come_again(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x")
        self.commit()
        self.hub.received(bob, 1)
        self.clock.advance(2)
        self.commit()
        self.start()
        self.assertEqual(self.join("bob", bob.token).texts(), [])

    def test_of_two_with_one_name_the_later_one_has_it(self) -> None:
        second = self.join("bob")
        id = second.user.id
        # The first one's going was not written in time.
        cursor = self.store.connection.cursor()
        archive.write(cursor, changes=[UserCame(1, "bob", b"", -1)])
        self.store.connection.commit()
        self.start()
        self.commit()
        self.assertEqual(len(self.store.saved().users), 1)
        self.assertEqual(self.join("bob", second.token).user.id, id)


class FailureTests(HubTestCase):
    """The disk is full."""

    def test_senders_are_told_when_to_try_again_and_nobody_hears_of_it(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.store.broken = OSError("full")
        self.hub.send(alice, "bob", "x", "1")
        self.commit()
        self.assertEqual((alice.heard, bob.got), ([("refused", "1", 112)], []))
        self.store.broken = None
        self.hub.send(alice, "bob", "x", "1")
        self.commit()
        self.assertEqual(bob.texts(), ["x"])
        self.assertEqual(alice.heard[1][:2], ("sent", "1"))

    def test_a_name_that_could_not_be_written_is_free_again(self) -> None:
        self.store.broken = OSError("full")
        session = ListSession(self.door)
        self.hub.register("alice", session, None, "r")
        self.commit()
        self.assertEqual(session.heard, [("refused", "r", 112)])
        self.assertIsNone(session.user)
        self.store.broken = None
        self.join("alice")
        for i in range(9):
            self.join(f"u{i}")

    def test_a_user_who_quits_while_nothing_can_be_written_is_forgotten_later(self) -> None:
        bob = self.join("bob")
        self.store.broken = OSError("full")
        self.quit(bob)
        self.assertEqual(len(self.store.saved().users), 1)
        self.store.broken = None
        self.clock.advance(60)
        self.commit()
        self.assertEqual(self.store.saved().users, [])

    def test_a_room_that_could_not_be_made_can_be_made_later(self) -> None:
        alice = self.join("alice")
        self.store.broken = OSError("full")
        self.hub.join(alice, "#dev", "1", private=False)
        self.commit()
        self.store.broken = None
        self.hub.join(alice, "#dev", "2", private=False)
        self.commit()
        self.assertEqual(alice.heard, [("refused", "1", 112), ("joined", "#dev", "alice", "2")])

    def test_an_empty_room_whose_end_could_not_be_handed_in_can_be_joined_and_ends_later(self):
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.join(alice, "#dev", "1", private=False)
        self.commit()
        room = self.hub.room(alice, "#dev")
        self.hub.leave_room(alice, "#dev", "2")
        self.patch(ledger_module, "MAX_WAITING", 0)
        self.commit()
        self.assertFalse(room.ending)
        self.patch(ledger_module, "MAX_WAITING", 100)
        self.hub.join(bob, "#dev", "3", private=False)
        self.commit()
        self.hub.leave_room(bob, "#dev", "4")
        self.patch(ledger_module, "MAX_WAITING", 0)
        self.commit()
        self.patch(ledger_module, "MAX_WAITING", 100)
        self.clock.advance(10)
        self.commit()
        self.assertEqual((self.hub.rooms(bob).count, self.store.saved().rooms), (0, []))


class RoomTests(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = (self.join(n) for n in ("alice", "bob", "carol"))

    def enter(self, session, name: str = "#dev", private: bool = False) -> None:
        self.hub.join(session, name, "j", private=private)
        self.commit()

    def test_a_room_message_goes_to_the_members_alone(self) -> None:
        self.enter(self.alice, "#Dev")
        self.enter(self.bob, "#dEV")
        self.hub.send(self.alice, "#dev", "x", "1")
        self.commit()
        self.assertEqual((self.bob.texts(), self.bob.got[0].to), (["x"], "#Dev"))
        self.assertEqual((self.alice.got, self.carol.got), ([], []))
        with self.assertRaises(NotPermitted):
            self.hub.send(self.carol, "#dev", "x")

    def test_members_who_are_away_get_it_when_they_come_back(self) -> None:
        self.enter(self.alice)
        self.hub.send(self.alice, "#dev", "before")
        self.enter(self.bob)
        self.leave(self.bob)
        self.hub.send(self.alice, "#dev", "while away")
        self.commit()
        self.assertEqual(self.join("bob", self.bob.token).texts(), ["while away"])

    def test_who_left_while_others_talked_gets_what_was_said_until_then(self) -> None:
        self.enter(self.alice)
        self.enter(self.bob)
        other = self.join("bob", self.bob.token)
        self.leave(self.bob)
        self.hub.send(self.alice, "#dev", "before")
        self.commit()
        self.hub.leave_room(other, "#dev", "l")
        self.commit()
        self.hub.send(self.alice, "#dev", "after")
        self.commit()
        self.leave(other)
        self.assertEqual(self.join("bob", self.bob.token).texts(), ["before"])

    def test_what_happens_in_a_room_is_handed_to_a_door_once_for_all_members(self) -> None:
        for session in (self.alice, self.bob, self.carol):
            self.enter(session)
        self.door.tellings.clear()
        self.hub.set_topic(self.carol, "#dev", "plans", "t")
        self.commit()
        self.hub.leave_room(self.carol, "#dev", "l")
        self.commit()
        others = [self.alice, self.bob]
        self.assertEqual(self.door.tellings, [("topic", others), ("left", others)])

    def test_members_hear_of_coming_going_and_topics(self) -> None:
        self.enter(self.alice)
        self.enter(self.bob)
        self.hub.set_topic(self.bob, "#dev", " plans ", "t")
        self.commit()
        self.hub.leave_room(self.bob, "#dev", "l")
        self.commit()
        self.assertEqual(
            self.alice.heard,
            [
                ("joined", "#dev", "alice", "j"),
                ("joined", "#dev", "bob"),
                ("topic", "#dev", "bob"),
                ("left", "#dev", "bob"),
            ],
        )
        self.assertEqual(
            self.bob.heard,
            [
                ("joined", "#dev", "bob", "j"),
                ("topic", "#dev", "bob", "t"),
                ("left", "#dev", "bob", "l"),
            ],
        )
        self.assertEqual(self.hub.room(self.carol, "#dev").topic, "plans")
        self.assertEqual(self.carol.heard, [])

    def test_joining_again_is_answered_and_told_to_nobody(self) -> None:
        self.enter(self.alice)
        self.enter(self.bob)
        self.alice.heard.clear()
        self.enter(self.bob)
        self.assertEqual(self.bob.heard[1:], [("joined", "#dev", "bob", "j")])
        self.assertEqual(self.alice.heard, [])

    def test_a_private_room_is_for_the_invited_and_nobody_else_can_tell_that_it_is(self) -> None:
        self.enter(self.alice, private=True)
        with self.assertRaises(NotPermitted):
            self.hub.join(self.bob, "#dev", None, private=False)
        with self.assertRaises(NoSuchRoom):
            self.hub.send(self.bob, "#dev", "x")
        with self.assertRaises(NoSuchRoom):
            self.hub.room(self.bob, "#dev")
        self.assertEqual(self.hub.rooms(self.bob).count, 0)
        self.hub.invite(self.alice, "#dev", "bob", "i")
        self.commit()
        self.assertEqual(self.alice.heard[1:], [("invited", "#dev", "bob", "alice", "i")])
        self.assertEqual(self.bob.heard, [("invited", "#dev", "bob", "alice")])
        self.enter(self.bob)
        with self.assertRaises(NotPermitted):
            self.hub.invite(self.bob, "#dev", "carol", None)

    def test_the_owner_may_kick_and_nobody_else(self) -> None:
        self.enter(self.alice)
        self.enter(self.bob)
        with self.assertRaises(NotPermitted):
            self.hub.kick(self.bob, "#dev", "alice", None)
        self.hub.kick(self.alice, "#dev", "bob", "k")
        self.commit()
        self.assertEqual(self.alice.heard[-1], ("left", "#dev", "bob", "alice", "k"))
        self.assertEqual(self.bob.heard[-1], ("left", "#dev", "bob", "alice"))
        with self.assertRaises(NotPermitted):
            self.hub.send(self.bob, "#dev", "x")

    def test_the_longest_member_inherits_the_room_and_an_empty_one_is_no_more(self) -> None:
        self.enter(self.alice)
        self.enter(self.bob)
        self.quit(self.alice)
        self.assertEqual(self.bob.heard[-2:], [("left", "#dev", "alice"), ("owner", "#dev", "bob")])
        self.assertEqual(self.hub.room(self.bob, "#dev").owner, self.bob.user.id)
        self.assertEqual([m.name for m in self.hub.members(self.carol, "#dev").items], ["bob"])
        self.hub.leave_room(self.bob, "#dev", "l")
        self.commit()
        with self.assertRaises(NoSuchRoom):
            self.hub.room(self.bob, "#dev")
        self.assertEqual((self.store.saved().rooms, self.store.saved().members), ([], []))

    def test_a_room_made_anew_after_its_last_member_went_for_good_is_there_after_a_restart(self):
        self.enter(self.alice)
        self.quit(self.alice)
        self.enter(self.bob)
        self.enter(self.carol)
        self.start()
        self.commit()
        bob = self.join("bob", self.bob.token)
        self.assertEqual([u.name for u in self.hub.members(bob, "#dev").items], ["bob", "carol"])

    def test_what_can_not_be_a_room_is_refused(self) -> None:
        for name in ("dev", "#", "#b@d", ""):
            with self.assertRaises(NoSuchRoom):
                self.hub.join(self.alice, name, None, private=False)
        self.enter(self.alice)
        for topic in ("x" * 401, "two\nlines"):
            with self.assertRaises(NotPermitted):
                self.hub.set_topic(self.alice, "#dev", topic, None)


class EndsTests(HubTestCase):
    """Many ends at once: of users, of their memberships, of rooms."""

    max_clients = 100

    def setUp(self) -> None:
        super().setUp()
        self.patch(hub_module, "SWEEP_STEP", 5)
        self.turns: list[int] = []  # how many ends each turn handed in
        ledger = self.hub._ledger
        change = ledger.change

        def count(entry, origin) -> None:
            if isinstance(entry, (UserGone, RoomGone)):
                self.turns[-1] += 1
            change(entry, origin)

        ledger.change = count

    def after(self, seconds: float) -> None:
        """Let time go by, a turn of the reactor at a time."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= end:
            self.turns.append(0)
            self.clock.advance(max(0, calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(end - self.clock.seconds())

    def guests(self, count: int, rooms: int = 1):
        """Guests with rooms of their own."""
        sessions = [self.join(f"g{i}") for i in range(count)]
        for i, session in enumerate(sessions):
            for j in range(rooms):
                self.hub.join(session, f"#r{i}-{j}", None, private=False)
        self.commit()
        return sessions

    def test_ends_that_come_together_take_several_turns_and_are_all_done_and_written(self) -> None:
        for session in self.guests(20, rooms=3):
            self.leave(session)
        self.turns.append(0)
        self.after(600)
        self.after(10)
        self.assertEqual((sum(self.turns), max(self.turns)), (80, 5))
        saved = self.store.saved()
        self.assertEqual((saved.users, saved.rooms, saved.members), ([], [], []))
        self.assertEqual(self.hub.rooms(self.join("alice")).count, 0)
        self.assertEqual((self.hub._going, len(self.hub._held)), (set(), 0))

    def test_who_quits_with_many_rooms_frees_the_name_at_once_and_the_rooms_in_steps(self) -> None:
        bob = self.join("bob")
        [guest] = self.guests(1, rooms=23)
        for i in range(23):
            self.hub.join(bob, f"#r0-{i}", None, private=False)
        self.commit()
        bob.heard.clear()
        self.turns.append(0)
        self.hub.leave(guest, for_good=True)
        self.hub.register("g0", ListSession(self.door))  # which is told after the other has left
        self.assertEqual(len([h for h in bob.heard if h[0] == "left"]), 23)
        self.hub.leave(bob, for_good=True)
        self.after(1)
        self.assertLessEqual(max(self.turns[1:]), 5)
        self.assertEqual(self.hub.rooms(self.join("alice")).count, 0)

    def test_a_step_ends_when_it_has_taken_long(self) -> None:
        self.patch(hub_module, "SWEEP_STEP", 1000)
        for session in self.guests(10):
            self.leave(session)
        end_one = self.hub._end_one

        def slowly(now: float) -> bool:
            self.clock.rightNow += hub_module.SWEEP_TIME  # the time that it takes
            return end_one(now)

        self.patch(self.hub, "_end_one", slowly)
        self.after(610)
        self.assertLessEqual(max(self.turns), 2)
        self.assertEqual(self.store.saved().users, [])

    def test_no_more_is_handed_in_than_the_disk_takes(self) -> None:
        for session in self.guests(20):
            self.leave(session)
        self.store.seconds = 5
        self.turns.append(0)
        self.after(604)
        self.assertEqual(sum(self.turns), 5)
        self.after(600)
        self.assertEqual(sum(self.turns), 40)

    def test_what_was_left_over_by_the_server_before_is_done_in_steps_after_the_start(self) -> None:
        sessions = self.guests(20)
        for session in sessions:  # whose ends are written, but not those of their rooms
            archive.write(self.store.connection.cursor(), changes=[UserGone(session.user.id)])
        saved = self.store.saved()
        self.assertEqual((len(saved.rooms), saved.users), (20, []))
        self.start()
        self.assertEqual(len(self.store.saved().rooms), 20)
        self.after(10)
        self.assertEqual(self.store.saved().rooms, [])

    def test_ends_that_can_not_be_written_are_tried_again_until_they_are(self) -> None:
        for session in self.guests(20):
            self.leave(session)
        self.store.broken = OSError("full")
        self.after(660)
        self.assertEqual(len(self.store.saved().users), 20)
        self.store.broken = None
        self.after(60)
        saved = self.store.saved()
        self.assertEqual((saved.users, saved.rooms, self.hub._going), ([], [], set()))

    def test_a_room_whose_maker_is_gone_before_it_is_made_ends(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.join(alice, "#dev", None, private=False)
        self.turns.append(0)
        self.hub.leave(alice, for_good=True)
        self.after(1)
        self.assertEqual(self.hub.rooms(bob).count, 0)
        self.assertEqual((self.store.saved().rooms, self.store.saved().members), ([], []))


class HeldTests(HubTestCase):
    """Who is held when there are too many."""

    limits = OFF._replace(held=3)

    def away(self, name: str, host: str | None) -> None:
        session = ListSession(self.door)
        session.host = host
        self.hub.register(name, session)
        self.commit()
        self.leave(session)
        self.commit()

    def held(self) -> list[str]:
        return [user.name for user in self.hub._held._holds]

    def test_an_address_with_more_than_its_share_lets_its_own_oldest_go(self) -> None:
        self.away("bob", "192.0.2.1")
        for i in range(20):
            self.away(f"flood{i}", "2001:db8::1" if i % 2 else "2001:db8::2")
        self.assertEqual(self.held(), ["bob", "flood17", "flood18", "flood19"])

    def test_when_all_places_are_taken_those_who_take_most_make_room(self) -> None:
        for i in range(10):
            self.away(f"u{i}", f"192.0.2.{i}")
        for i in range(5):
            self.away(f"flood{i}", "203.0.113.1")
        self.assertEqual(len(self.held()), 10)
        self.assertEqual(len([name for name in self.held() if name.startswith("u")]), 9)

    def test_who_was_held_before_the_start_is_pushed_out_by_one_address_in_no_great_number(self):
        self.limits = OFF
        self.start()
        for i in range(10):
            self.away(f"u{i}", None)
        self.limits = OFF._replace(held=3)
        self.start()
        for i in range(9):
            self.away(f"flood{i}", "203.0.113.1")
        self.assertEqual(len([name for name in self.held() if name.startswith("u")]), 7)


class RoomShareTests(HubTestCase):
    limits = OFF._replace(address_rooms=2)

    def test_an_address_makes_so_many_rooms_and_others_make_more(self) -> None:
        sessions = [self.join(name) for name in ("alice", "bob", "carol")]
        for session, host in zip(sessions, ("192.0.2.1", "192.0.2.1", "192.0.2.2"), strict=True):
            session.host = host
        alice, bob, carol = sessions
        self.hub.join(alice, "#a", None, private=False)
        self.hub.join(alice, "#b", None, private=False)
        with self.assertRaises(NotPermitted):
            self.hub.join(bob, "#c", None, private=False)
        self.hub.join(carol, "#c", None, private=False)
        self.commit()
        self.assertEqual(self.hub.rooms(bob).count, 3)


class ListTests(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = [self.join(name) for name in ("dora", "Bob", "alice", "Carol")]
        for session in self.users[:3]:
            self.hub.join(session, "#dev", None, private=False)
        self.commit()

    def members(self, after: str = "") -> tuple[int, list[str]]:
        listing = self.hub.members(self.users[0], "#dev", after)
        return listing.count, [user.name for user in listing.items]

    def test_members_stay_in_order_whoever_comes_and_goes(self) -> None:
        dora, bob, alice, carol = self.users
        self.assertEqual(self.members(), (3, ["alice", "Bob", "dora"]))
        self.assertEqual(self.members("alice"), (3, ["Bob", "dora"]))
        self.hub.join(carol, "#dev", None, private=False)
        self.hub.join(bob, "#dev", None, private=False)
        self.commit()
        self.assertEqual(self.members("bob"), (4, ["Carol", "dora"]))
        self.hub.leave_room(bob, "#dev", None)
        self.commit()
        self.quit(alice)
        self.assertEqual(self.members(), (2, ["Carol", "dora"]))
        self.hub.kick(dora, "#dev", "carol", None)
        self.commit()
        self.assertEqual(self.members(), (1, ["dora"]))

    def test_a_room_of_the_same_name_later_has_its_own_members(self) -> None:
        self.members()
        for session in self.users[:3]:
            self.hub.leave_room(session, "#dev", None)
        self.commit()
        self.hub.join(self.users[0], "#dev", None, private=False)
        self.commit()
        self.assertEqual(self.members(), (1, ["dora"]))
        self.assertEqual(len(self.hub._members), 1)

    def test_who_is_here_is_listed_from_where_one_wants(self) -> None:
        listing = self.hub.who("bob")
        self.assertEqual((listing.count, [u.name for u in listing.items]), (4, ["Carol", "dora"]))


class ReadingTests(HubTestCase):
    def read(self, reading) -> list[str]:
        self.commit()
        result = self.successResultOf(reading)
        messages = result[0] if isinstance(result, tuple) else result
        return [message.text for message in messages]

    def test_history_is_for_the_parties_alone(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        self.hub.join(alice, "#dev", "j", private=False)
        self.commit()
        for to in ("bob", "ALL", "#dev"):
            self.hub.send(alice, to, f"hello {to}")
        self.commit()
        span = Span(10)
        self.assertEqual(self.read(self.hub.history(bob, "Alice", span)), ["hello bob"])
        self.assertEqual(self.read(self.hub.history(alice, "BOB", span)), ["hello bob"])
        self.assertEqual(self.read(self.hub.history(carol, "bob", span)), [])
        self.assertEqual(self.read(self.hub.history(carol, "all", span)), ["hello ALL"])
        self.assertEqual(self.read(self.hub.history(alice, "#dev", span)), ["hello #dev"])
        with self.assertRaises(NotPermitted):
            self.hub.history(carol, "#dev", span)
        with self.assertRaises(NoSuchRoom):
            self.hub.history(carol, "#nowhere", span)
        self.assertEqual(len(self.read(self.hub.search(alice, "", "hello", 9))), 3)
        self.assertEqual(self.read(self.hub.search(carol, "", "hello", 9)), ["hello ALL"])
        self.assertEqual(self.read(self.hub.search(alice, "#dev", "hello", 9)), ["hello #dev"])

    def test_the_next_of_a_name_reads_nothing_of_the_one_before(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "secret")
        self.commit()
        self.quit(bob)
        bob = self.join("bob")
        self.assertEqual(self.read(self.hub.history(bob, "alice", Span(10))), [])
        self.assertEqual(self.read(self.hub.search(bob, "", "secret", 9)), [])


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7u3T+rJRRpOSuhLfdWWLOIlgvFYs5vyQCPsb0hw9Wr"


def hashing(hash: str) -> Callable[[Asker], Deferred[str]]:
    return lambda _: succeed(hash)


def no_hashing(_: Asker) -> Deferred[str]:
    raise AssertionError("it was hashed for who may not")


class AccountTestCase(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("Alice")
        self.hub.make_account(self.alice, KEY, None, "1")
        self.commit()
        self.assertEqual(self.alice.heard, [("done", "ACCOUNT", "register", "1")])
        self.account = self.alice.user.account
        self.alice.heard.clear()

    def log_in(self, name: str = "alice") -> ListSession:
        session = ListSession(self.door)
        self.assertTrue(self.hub.register(name, session, account=self.accounts.find(name)))
        self.hub.arrive(session)
        self.commit()
        return session


class AccountTests(AccountTestCase):
    def test_the_name_is_kept_for_ever_with_what_is_sent_to_it(self) -> None:
        bob = self.join("bob")
        self.quit(self.alice)
        self.clock.advance(10**7)
        for restart in (False, True):
            if restart:
                self.start()
                bob = self.join("bob", bob.token)
            self.hub.send(bob, "alice", "x")
            self.commit()
            with self.assertRaises(AuthenticationRequired):
                self.hub.register("ALICE", ListSession(self.door))
            with self.assertRaises(NameInUse):
                self.hub.register("alice", ImmediateSession(self.door))
        self.assertEqual(self.log_in().texts(), ["x", "x"])

    def test_its_user_is_the_same_as_before_with_rooms_and_history(self) -> None:
        self.hub.join(self.alice, "#dev", "2", private=False)
        self.commit()
        id = self.alice.user.id
        self.quit(self.alice)
        self.start()
        again = self.log_in()
        self.assertEqual((again.user.id, self.hub.rooms(again).count), (id, 1))

    def test_a_token_of_a_login_is_good_until_the_ways_in_change(self) -> None:
        second = self.log_in()
        self.leave(second)
        self.join("alice", second.token)
        self.hub.set_password(self.alice, hashing("hash"), "2")
        self.commit()
        with self.assertRaises(AuthenticationRequired):
            self.hub.register("alice", ListSession(self.door), second.token)
        self.join("alice", self.alice.token)

    def test_the_token_from_before_the_account_is_worth_nothing_after_a_restart(self) -> None:
        self.start()
        with self.assertRaises(AuthenticationRequired):
            self.hub.register("alice", ListSession(self.door), self.alice.token)

    def test_who_gives_it_up_is_a_guest_again(self) -> None:
        self.hub.unmake_account(self.alice, "2")
        self.commit()
        self.assertEqual(self.alice.heard, [("done", "ACCOUNT", "unregister", "2")])
        self.assertIsNone(self.alice.user.account)
        self.start()
        again = self.join("alice", self.alice.token)
        self.quit(again)
        self.join("alice")
        self.assertEqual(self.store.saved().keys, [])

    def test_what_can_not_be_written_changes_nothing(self) -> None:
        bob = self.join("bob")
        self.store.broken = OSError("full")
        self.hub.make_account(bob, KEY, None, "1")
        self.commit()
        self.assertEqual((bob.heard, bob.user.account), ([("refused", "1", 112)], None))
        self.store.broken = None
        self.hub.make_account(bob, KEY, None, "2")
        self.commit()
        self.assertIsNotNone(bob.user.account)

    def test_only_who_has_an_account_can_change_it(self) -> None:
        bob = self.join("bob")
        for ask in (
            lambda: self.hub.add_key(bob, KEY, "1"),
            lambda: self.hub.set_password(bob, no_hashing, "1"),
            lambda: self.hub.unmake_account(bob, "1"),
            lambda: self.hub.make_account(self.alice, KEY, no_hashing, "1"),
            lambda: self.hub.make_account(bob, "no key", no_hashing, "1"),
        ):
            with self.assertRaises(NotPermitted):
                ask()

    def test_what_is_not_permitted_any_more_when_the_hash_is_made_is_refused(self) -> None:
        slow: Deferred[str] = Deferred()
        self.hub.set_password(self.alice, lambda _: slow, "2")
        self.hub.unmake_account(self.alice, "3")
        self.commit()
        slow.callback("hash")
        self.commit()
        self.assertEqual(self.alice.heard[-1], ("refused", "2", 111))
        self.assertEqual(self.store.saved().passwords, [])

    def test_what_can_not_be_hashed_is_refused_after_it_was_asked_for(self) -> None:
        for error, code in ((Unavailable(), 112), (OSError("no memory"), 112)):
            self.hub.set_password(self.alice, lambda _, error=error: fail(error), "2")
            self.assertEqual(self.alice.heard, [])
            self.commit()
            self.assertEqual(self.alice.heard, [("refused", "2", code)])
            self.alice.heard.clear()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_who_is_gone_when_the_hash_is_made_changes_nothing(self) -> None:
        slow: Deferred[str] = Deferred()
        self.hub.set_password(self.alice, lambda _: slow, "2")
        self.leave(self.alice)
        slow.callback("hash")
        self.commit()
        self.assertEqual(self.store.saved().passwords, [])

    def test_kept_guests_make_no_room_for_accounts_and_the_other_way_round(self) -> None:
        self.quit(self.alice)
        for i in range(12):
            self.leave(self.join(f"g{i}"))
        self.commit()
        self.assertEqual(len(self.hub._held), 10)
        self.log_in()

    def test_with_no_grace_an_account_is_kept_all_the_same(self) -> None:
        self.grace = 0
        self.start()
        carol = self.join("carol")
        self.hub.make_account(carol, KEY, None, "1")
        self.commit()
        self.leave(carol)
        bob = self.join("bob")
        self.hub.send(bob, "carol", "x")
        self.commit()
        self.start()
        self.assertEqual(self.log_in("carol").texts(), ["x"])


class OperatorTests(AccountTestCase):
    """What the operator's command asks; it is an operator who is not in the chat."""

    def setUp(self) -> None:
        super().setUp()
        self.admin = ListSession(self.door)
        self.admin.user = User(0, "admin", b"", 0, 0)
        self.admin.user.account = Account(0, "admin")
        self.admin.user.account.operator = True

    def change(self, name: str, *changes: object) -> None:
        self.hub.change_account(self.admin, "change", name, lambda account: changes)
        self.commit()
        self.assertEqual(self.admin.heard.pop(), ("done", "change", name, None))

    def hash_of(self, name: str) -> str | None:
        """The password that an account has here, which must be the one that it has in the file."""
        account = self.accounts.find(name)
        saved = self.store.saved()
        passwords = dict(saved.passwords)
        in_file = [
            passwords.get(user.id, "")
            for user in saved.users
            if fold(user.name) == fold(name) and user.account
        ]
        self.assertEqual(in_file, [] if account is None else [account.password])
        return None if account is None else account.password

    def test_a_name_that_is_being_added_is_nobody_elses(self) -> None:
        self.hub.add_account(self.admin, "Carol", "", "operator's")
        for session in (ListSession(self.door), ImmediateSession(self.door)):
            with self.assertRaises(NameInUse):
                self.hub.register("carol", session)
        self.commit()
        self.assertEqual(self.admin.heard, [("done", "add account", "Carol", None)])
        self.assertEqual(self.hash_of("carol"), "operator's")
        self.start()
        self.assertEqual(self.hash_of("carol"), "operator's")
        self.log_in("carol")

    def test_a_name_that_a_guest_is_taking_or_registering_is_not_added(self) -> None:
        steps = (
            lambda bob: self.hub.register("bob", bob),
            lambda bob: self.commit(),
            lambda bob: self.hub.make_account(bob, "", lambda asker: succeed("bob's"), "1"),
            lambda bob: self.commit(),
        )
        bob = ListSession(self.door)
        for step in steps:
            step(bob)
            with self.assertRaisesRegex(NotPermitted, "an account, or a guest"):
                self.hub.add_account(self.admin, "BOB", "", "operator's")
        self.commit()
        self.assertEqual(self.hash_of("bob"), "bob's")
        self.start()
        self.assertEqual(self.hash_of("bob"), "bob's")

    def test_a_name_that_a_guest_has_left_can_be_added_at_once(self) -> None:
        bob = self.join("bob")
        self.hub.leave(bob, for_good=True)
        self.hub.add_account(self.admin, "bob", "", "operator's")
        self.commit()
        self.assertEqual(self.hash_of("bob"), "operator's")
        self.start()
        self.assertEqual(self.hash_of("bob"), "operator's")

    def test_what_can_not_be_written_is_refused_and_the_name_is_free(self) -> None:
        self.store.broken = OSError("full")
        self.hub.add_account(self.admin, "carol", "", "operator's")
        self.commit()
        self.assertEqual(self.admin.heard, [("refused", None, 112)])
        self.store.broken = None
        self.clock.advance(ledger_module.RETRY_WHEN_BROKEN)
        self.assertIsNone(self.hash_of("carol"))
        self.join("carol")

    def test_an_account_that_is_added_can_be_sent_to(self) -> None:
        self.hub.add_account(self.admin, "Carol", KEY, "")
        self.commit()
        self.hub.send(self.alice, "carol", "x")
        self.commit()
        self.assertEqual(self.log_in("carol").texts(), ["x"])

    def test_an_account_that_is_removed_is_gone_with_its_sessions_rooms_and_tokens(self) -> None:
        token = self.alice.token
        bob = self.join("bob")
        for session in (self.alice, bob):
            self.hub.join(session, "#dev", None, private=False)
            self.commit()
        self.alice.heard.clear()
        self.change("alice", UserGone(self.account.id))
        self.assertEqual(self.alice.heard, [("dismissed", "the account was removed")])
        self.assertIsNone(self.alice.user)
        self.clock.advance(1)
        self.commit()
        self.assertEqual([user.name for user in self.hub.members(bob, "#dev").items], ["bob"])
        for restart in (False, True):
            if restart:
                self.start()
            self.assertIsNone(self.hash_of("alice"))
            alice = self.join("alice")
            self.assertNotEqual(alice.token, token)
            with self.assertRaises(NameInUse):
                self.hub.register("alice", ListSession(self.door), token)
            self.quit(alice)

    def test_an_account_stays_as_long_as_its_removal_is_not_committed(self) -> None:
        self.store.broken = OSError("full")
        self.hub.change_account(self.admin, "x", "alice", lambda a: [UserGone(a.id)])
        self.commit()
        self.assertEqual(self.admin.heard, [("refused", None, 112)])
        self.assertEqual((self.alice.heard, self.alice.user.name), ([], "Alice"))

    def test_no_token_is_worth_anything_when_a_way_in_is_taken_away_or_changed(self) -> None:
        for change in (
            PasswordSet(self.account.id, "x"),
            KeyRemoved(self.account.id, KEY),
        ):
            session = self.log_in()
            self.change("ALICE", change)
            for token in (session.token, ""):
                with self.assertRaises(AuthenticationRequired):
                    self.hub.register("alice", ListSession(self.door), token)
        self.change("alice", KeyAdded(self.account.id, KEY, ""))  # one more changes nothing
        session = self.log_in()
        self.change("alice", KeyAdded(self.account.id, "other", ""))
        self.hub.register("alice", ListSession(self.door), session.token)

    def test_who_is_made_an_operator_is_one_from_then_on(self) -> None:
        for restart in (False, True):
            if restart:
                self.start()
                self.alice = self.log_in()
            self.change("alice", RoleSet(self.account.id, False))
            self.join(f"bob{restart}")
            with self.assertRaises(NotPermitted):
                self.hub.kick_out(self.alice, f"bob{restart}", "")
            self.change("alice", RoleSet(self.account.id, True))
            self.hub.kick_out(self.alice, f"bob{restart}", "")
            self.commit()

    def test_only_operators_may_and_only_with_accounts_that_are_there(self) -> None:
        with self.assertRaises(NotPermitted):
            self.hub.add_account(self.alice, "carol", KEY, "")
        with self.assertRaises(NotPermitted):
            self.hub.change_account(self.alice, "x", "alice", lambda account: [])
        with self.assertRaisesRegex(NotPermitted, "there is no account bob"):
            self.hub.change_account(self.admin, "x", "bob", lambda account: [])
        with self.assertRaises(MalformedName):
            self.hub.add_account(self.admin, "all", KEY, "")


class ModerationTests(AccountTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.account.operator = True
        self.bob = self.join("bob")

    def at(self, host: str, name: str = "x") -> ListSession:
        session = ListSession(self.door)
        session.host = host
        self.hub.register(name, session)
        self.commit()
        return session

    def test_who_is_kicked_is_gone_and_may_come_back(self) -> None:
        self.assertEqual(self.hub.kick_out(self.alice, "BOB", "too loud"), "bob")
        self.assertEqual(self.bob.heard, [("dismissed", "Kicked by Alice: too loud")])
        self.commit()
        self.join("bob")
        with self.assertRaises(UnableToSend):
            self.hub.kick_out(self.alice, "nobody", "")

    def test_a_banned_name_is_out_and_stays_out_across_a_restart(self) -> None:
        self.hub.ban(self.alice, "Bob", "1h", "spam", "1")
        self.commit()
        self.assertEqual(self.alice.heard, [("done", "BAN", "Bob", "1")])
        self.assertEqual(self.bob.heard, [("dismissed", "Banned by Alice: spam")])
        for restart in (False, True):
            if restart:
                self.start()
            with self.assertRaises(NotPermitted) as caught:
                self.hub.register("bob", ListSession(self.door))
            self.assertEqual(caught.exception.headers, (("Reason", "spam"),))
        self.clock.advance(3600)
        self.join("bob")

    def test_a_banned_network_is_out_but_for_operators(self) -> None:
        carol = self.at("192.0.2.5", "carol")
        self.alice.host = "192.0.2.6"
        self.hub.ban(self.alice, "192.0.2.0/24", "", "", "1")
        self.commit()
        self.assertEqual(carol.heard[-1], ("dismissed", "Banned by Alice"))
        self.assertIsNotNone(self.alice.user)
        with self.assertRaises(NotPermitted):
            self.at("192.0.2.99")
        self.at("192.0.3.1")
        session = ListSession(self.door)
        session.host = "192.0.2.7"
        self.hub.register("alice", session, account=self.account)
        self.hub.pardon(session, "UNBAN", "192.0.2.0/24", "2")
        self.commit()
        self.at("192.0.2.99", "dave")

    def test_who_is_muted_hears_and_says_nothing_until_it_is_over(self) -> None:
        self.hub.mute(self.alice, "bob", "10m", "", "1")
        self.commit()
        with self.assertRaises(NotPermitted):
            self.hub.send(self.bob, "alice", "x")
        self.hub.send(self.alice, "bob", "hush")
        self.commit()
        self.assertEqual(self.bob.texts(), ["hush"])
        self.start()
        bob = self.join("bob", self.bob.token)
        with self.assertRaises(NotPermitted):
            self.hub.send(bob, "alice", "x")
        self.clock.advance(600)
        self.hub.send(bob, "alice", "x")

    def test_who_is_muted_says_nothing_by_other_ways_either(self) -> None:
        self.hub.join(self.bob, "#dev", "1", private=False)
        self.hub.mute(self.alice, "bob", "", "", "1")
        self.commit()
        with self.assertRaises(NotPermitted):
            self.hub.set_topic(self.bob, "#dev", "x", "2")
        with self.assertRaises(NotPermitted):
            self.hub.set_away(self.bob, "x")
        self.hub.set_away(self.bob, "")

    def test_sanctions_are_listed_and_pardoned(self) -> None:
        self.hub.ban(self.alice, "bob", "", "why", "1")
        self.hub.mute(self.alice, "carol", "", "", "2")
        self.commit()
        self.assertEqual(
            [(s.kind, s.subject) for s in self.hub.sanctions(self.alice).items],
            [("ban", "bob"), ("mute", "carol")],
        )
        self.hub.pardon(self.alice, "UNBAN", "bob", "3")
        self.hub.pardon(self.alice, "UNMUTE", "carol", "4")
        self.commit()
        self.assertEqual(self.hub.sanctions(self.alice).count, 0)
        with self.assertRaises(NotPermitted):
            self.hub.pardon(self.alice, "UNBAN", "bob", "5")

    def test_only_operators_may(self) -> None:
        for ask in (
            lambda: self.hub.kick_out(self.bob, "alice", ""),
            lambda: self.hub.ban(self.bob, "alice", "", "", None),
            lambda: self.hub.mute(self.bob, "alice", "", "", None),
            lambda: self.hub.pardon(self.bob, "UNBAN", "alice", None),
            lambda: self.hub.sanctions(self.bob),
        ):
            with self.assertRaises(NotPermitted):
                ask()


class LimitTests(HubTestCase):
    limits = OFF._replace(
        messages=Rate(1, 2), logins=Rate(1, 5), registrations=Rate(0.01, 1), rooms=1
    )

    def test_who_says_too_much_is_told_to_wait_and_hears_on(self) -> None:
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
                self.hub.register(f"u{i}", session)
            else:
                with self.assertRaises(TooFast):
                    self.hub.register("late", session)
        self.join("alice")  # from elsewhere

    def test_an_address_makes_so_many_accounts_at_most(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        alice.host = bob.host = "192.0.2.1"
        self.hub.make_account(alice, KEY, None, "1")
        with self.assertRaises(TooFast):
            self.hub.make_account(bob, KEY, no_hashing, "1")


class WorkTests(HubTestCase):
    """What is done aside for somebody is charged by its time; here a reading takes a second."""

    limits = OFF._replace(work=Rate(0.5, 2), address_work=Rate(1, 4))

    def read(self, session: ListSession) -> None:
        reading = self.hub.history(session, "ALL", Span(9))
        self.clock.pump([0, 0, 1, 0])
        self.successResultOf(reading)

    def test_who_has_read_too_much_is_told_when_to_go_on_and_others_are_not_concerned(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.store.seconds = 1
        with self.assertRaises(TooFast) as caught:
            for _ in range(9):
                self.read(alice)
        self.assertEqual(caught.exception.retry_after, 1)
        with self.assertRaises(TooFast):
            self.hub.search(alice, "", "x", 9)
        self.read(bob)
        self.clock.advance(1)
        self.read(alice)

    def test_all_of_an_address_share_what_it_may(self) -> None:
        sessions = [self.join(name) for name in ("a", "b", "c", "d", "e", "f")]
        for session in sessions:
            session.host, session.allowance = "192.0.2.1", None
        readings = [self.hub.history(session, "ALL", Span(9)) for session in sessions]
        self.store.seconds = 1
        readings += [self.hub.history(session, "ALL", Span(9)) for session in sessions]
        self.clock.pump([0, 0, 1, 0])
        for reading in readings:
            self.successResultOf(reading)
        for session in sessions:
            with self.assertRaises(TooFast):
                self.hub.history(session, "ALL", Span(9))
        with self.assertRaises(TooFast):  # nor is a password looked at
            applicant = ListSession(self.door)
            applicant.host = "192.0.2.1"
            self.hub.asker(applicant)

    def test_who_comes_back_waits_for_the_next_page_and_gets_it_all(self) -> None:
        self.patch(archive, "SCAN", 1)
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        for i in range(8):
            self.hub.send(alice, "bob", str(i))
        self.commit()
        again = self.register("bob", bob.token)
        self.store.seconds = 1
        self.hub.arrive(again)
        self.clock.pump([0.5] * 8)
        self.assertLess(len(again.got), 5)
        self.clock.pump([0.5] * 30)
        self.assertEqual(again.texts(), [str(i) for i in range(8)])

    def test_who_comes_back_when_too_much_is_read_is_served_soon(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.leave(bob)
        self.hub.send(alice, "bob", "x")
        self.commit()
        self.store.unreadable = Unavailable("too much waits")
        again = self.join("bob", bob.token)
        self.assertEqual((again.got, again.heard), ([], []))
        self.store.unreadable = None
        self.clock.advance(hub_module.READ_AGAIN)
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
        return [tuple(presence) for presence in seen]

    def test_who_watches_sees_others_come_and_go(self) -> None:
        bob = self.join("bob")
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])
        self.leave(bob)
        self.assertEqual(self.saw(self.alice), [("bob", "gone", "")])
        bob = self.join("bob", bob.token)
        carol = self.join("carol")
        self.quit(carol)
        self.assertEqual(self.saw(self.alice), [("bob", "here", ""), ("carol", "gone", "")])
        self.assertEqual(bob.heard, [])

    def test_nobody_is_here_before_he_can_be_sent_to_and_nothing_is_told_of_it(self) -> None:
        self.register("bob")
        self.assertEqual((self.names(), self.saw(self.alice)), (["alice"], []))

    def test_who_comes_again_on_another_connection_is_no_news_and_the_last_to_go_is(self) -> None:
        first = self.join("bob")
        self.saw(self.alice)
        second = self.join("bob", first.token)
        self.leave(first)
        self.assertEqual(self.saw(self.alice), [])
        self.leave(second)
        self.assertEqual(self.saw(self.alice), [("bob", "gone", "")])

    def test_who_is_away_says_why_and_gets_messages_all_the_same(self) -> None:
        bob = self.join("bob")
        self.saw(self.alice)
        self.hub.set_away(bob, " at lunch ")
        self.assertEqual(self.saw(self.alice), [("bob", "away", "at lunch")])
        self.hub.send(self.alice, "bob", "x")
        self.commit()
        self.assertEqual(bob.texts(), ["x"])
        self.hub.set_away(bob, "")
        self.alice.heard.clear()
        self.assertEqual(self.saw(self.alice), [("bob", "away", "")])
        self.hub.set_away(bob, None)
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])

    def test_being_away_is_the_users_on_all_connections_and_outlasts_one(self) -> None:
        first = self.join("bob")
        second = self.join("bob", first.token)
        self.hub.set_away(first, "lunch")
        self.leave(first)
        self.leave(second)
        again = self.join("bob", first.token)
        self.assertEqual(self.saw(self.alice), [("bob", "away", "lunch")])
        self.hub.set_away(again, None)
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])

    def test_it_is_forgotten_with_the_guest(self) -> None:
        bob = self.join("bob")
        self.hub.set_away(bob, "lunch")
        self.quit(bob)
        self.join("bob")
        self.assertEqual(self.saw(self.alice), [("bob", "here", "")])

    def test_a_reason_that_is_no_line_changes_nothing(self) -> None:
        bob = self.join("bob")
        self.saw(self.alice)
        for why in ("a\nb", "x" * 201):
            with self.assertRaises(NotPermitted):
                self.hub.set_away(bob, why)
        self.assertEqual((bob.user.away, self.saw(self.alice)), (None, []))

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

    def test_each_door_shows_it_once_to_all_of_its_own(self) -> None:
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
