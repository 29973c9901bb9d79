"""The rules: who may be called what, who gets what, who hears of it."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted import hub as hub_module
from chat_twisted.errors import (
    MalformedName,
    NameInUse,
    NoSuchRoom,
    UnableToSend,
    Unavailable,
)
from chat_twisted.hub import Hub, Request, Session
from chat_twisted.ledger import MemoryLedger
from chat_twisted.message import Message


class ListDoor:
    """A door that keeps what it is to bring."""

    def __init__(self) -> None:
        self.calls: list[tuple[Message, list[Session]]] = []

    def deliver(self, message: Message, sessions: Sequence[Session]) -> None:
        self.calls.append((message, list(sessions)))
        for session in sessions:
            session.got.append(message)


class ListSession(Session):
    def __init__(self, door: ListDoor) -> None:
        super().__init__(door)
        self.got: list[Message] = []
        self.heard: list[tuple[object, ...]] = []

    def texts(self) -> list[str]:
        return [message.text for message in self.got]

    def sent(self, request: Request, message: Message) -> None:
        self.heard.append(("sent", request.id, message.number))

    def delivered(self, request: Request, number: int) -> None:
        self.heard.append(("delivered", request.id, number))

    def undelivered(self, request: Request) -> None:
        self.heard.append(("undelivered", request.id))


class HubTestCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.hub = Hub(MemoryLedger(self.clock), max_clients=10)
        self.door = ListDoor()

    def join(self, name: str, token: str | None = None, door: ListDoor | None = None):
        session = ListSession(door or self.door)
        self.hub.register(name, session, token)
        self.hub.arrive(session)
        return session

    def commit(self) -> None:
        self.clock.advance(0)


class RegistryTests(HubTestCase):
    def test_a_name_is_had_by_one_user_at_a_time_whatever_its_case(self) -> None:
        alice = self.join("Alice")
        with self.assertRaises(NameInUse):
            self.join("aLICE")
        self.hub.leave(alice)
        self.join("aLICE")
        self.assertEqual(self.hub.who(), ["aLICE"])

    def test_a_malformed_name_is_refused(self) -> None:
        for name in ("", "b@d", "All"):
            with self.assertRaises(MalformedName):
                self.join(name)

    def test_the_token_lets_the_same_user_in_on_another_connection(self) -> None:
        token = self.join("alice").user.token
        second = self.join("ALICE", token)
        self.assertEqual(second.user.name, "alice")
        self.assertEqual(self.hub.who(), ["alice"])
        for wrong in ("", "x", "é", token + "x"):
            with self.assertRaises(NameInUse):
                self.join("alice", wrong)

    def test_the_name_is_free_when_the_last_connection_is_gone(self) -> None:
        first = self.join("alice")
        second = self.join("alice", first.user.token)
        self.hub.leave(first)
        with self.assertRaises(NameInUse):
            self.join("alice")
        self.hub.leave(second)
        self.join("alice")

    def test_a_full_server_says_when_to_try_again(self) -> None:
        sessions = [self.join(f"u{i}") for i in range(10)]
        with self.assertRaises(Unavailable) as caught:
            self.join("late")
        self.assertGreater(caught.exception.retry_after, 0)
        self.hub.leave(sessions[0])
        self.join("late")

    def test_a_refused_registration_leaves_nothing_behind(self) -> None:
        self.join("alice")
        refused = ListSession(self.door)
        with self.assertRaises(NameInUse):
            self.hub.register("alice", refused)
        self.hub.leave(refused)
        self.assertEqual(self.hub.who(), ["alice"])

    def test_leaving_twice_is_leaving_once(self) -> None:
        alice = self.join("alice")
        self.hub.leave(alice)
        self.hub.leave(alice)
        for i in range(10):
            self.join(f"u{i}")

    def test_who_is_in_the_order_of_the_alphabet_and_only_of_those_present(self) -> None:
        for name in ("bob", "Alice", "carol"):
            self.join(name)
        self.hub.register("dora", ListSession(self.door))
        self.assertEqual(self.hub.who(), ["Alice", "bob", "carol"])


class DeliveryTests(HubTestCase):
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
        self.assertEqual((message.sender, message.target.name), ("Alice", "Bob"))
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
        absent = ListSession(self.door)
        self.hub.register("dora", absent)
        self.hub.send(alice, "all", "hello")
        self.commit()
        self.assertEqual(
            [s.texts() for s in (alice, bob, carol, absent)], [[], ["hello"], ["hello"], []]
        )
        self.assertEqual(bob.got[0].target.name, "ALL")

    def test_each_door_gets_a_message_once_with_all_its_sessions(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        other = ListDoor()
        dora = self.join("dora", door=other)
        self.hub.send(alice, "ALL", "x")
        self.commit()
        self.assertEqual([sessions for _, sessions in self.door.calls], [[bob, carol]])
        self.assertEqual([sessions for _, sessions in other.calls], [[dora]])

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
        alice2 = self.join("alice", alice.user.token)
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
            def deliver(self, message: Message, sessions: Sequence[Session]) -> None:
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
        self.hub.register("ghost", ListSession(self.door))
        for to in ("bob", "ghost", "alice", "ALL", "b@d", ""):
            with self.assertRaises(UnableToSend, msg=to):
                self.hub.send(alice, to, "hello")
        with self.assertRaises(NoSuchRoom):
            self.hub.send(alice, "#dev", "hello")
        self.commit()
        self.assertEqual(self.hub.last, 0)

    def test_everybody_is_counted_right_whoever_comes_and_goes(self) -> None:
        alice = self.join("alice")
        alice2 = self.join("alice", alice.user.token)
        bob = self.join("bob")
        self.hub.leave(alice2)
        self.hub.send(alice, "ALL", "x")
        self.hub.leave(bob)
        with self.assertRaises(UnableToSend):
            self.hub.send(alice, "ALL", "x")
        unseen = ListSession(self.door)
        self.hub.register("dora", unseen)
        self.hub.leave(unseen)
        self.join("bob")
        self.hub.send(alice, "ALL", "x")

    def test_ones_own_other_connection_is_somebody_to_send_to_but_not_everybody(self) -> None:
        alice = self.join("alice")
        alice2 = self.join("alice", alice.user.token)
        self.hub.send(alice, "alice", "note")
        self.commit()
        self.assertEqual((alice.texts(), alice2.texts()), ([], ["note"]))
        with self.assertRaises(UnableToSend):
            self.hub.send(alice, "ALL", "hello")

    def test_a_recipient_who_leaves_before_the_commitment_is_told_to_the_sender(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "secret", "a")
        self.hub.leave(bob)
        other = self.join("bob")  # somebody else, under the same name
        self.commit()
        self.assertEqual(alice.heard, [("sent", "a", 1), ("undelivered", "a")])
        self.assertEqual(other.got, [])

    def test_a_recipient_who_leaves_before_the_answer_is_told_to_the_sender(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "a")
        self.commit()
        self.hub.leave(bob)
        self.assertEqual(alice.heard, [("sent", "a", 1), ("undelivered", "a")])

    def test_a_recipient_with_another_connection_has_not_left(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        bob2 = self.join("bob", bob.user.token)
        self.hub.send(alice, "bob", "x", "a")
        self.commit()
        self.hub.leave(bob)
        self.assertEqual(alice.heard, [("sent", "a", 1)])
        self.hub.received(bob2, 1)
        self.assertEqual(alice.heard[1:], [("delivered", "a", 1)])

    def test_a_sender_who_has_left_is_told_nothing_and_the_message_arrives(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.hub.send(alice, "bob", "x", "a")
        self.hub.leave(alice)
        self.commit()
        self.hub.received(bob, 1)
        self.assertEqual((alice.heard, bob.texts()), ([], ["x"]))

    def test_what_a_session_does_not_confirm_is_not_remembered_without_bound(self) -> None:
        self.patch(hub_module, "MAX_UNANSWERED", 3)
        alice, bob = self.join("alice"), self.join("bob")
        for id in range(5):
            self.hub.send(alice, "bob", "x", str(id))
        self.commit()
        self.assertEqual(len(bob.unanswered), 3)
        self.hub.received(bob, 5)
        self.assertEqual([heard[1] for heard in alice.heard[5:]], ["2", "3", "4"])
        self.assertEqual(len(bob.got), 5)
