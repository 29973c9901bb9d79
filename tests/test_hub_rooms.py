"""Rooms, accounts and lists as the sessions of one node have them."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed

from chat_twisted.core import commands as c
from chat_twisted.core import delivery
from chat_twisted.core.errors import (
    AuthenticationRequired,
    NameInUse,
    NoAccount,
    NoSuchRoom,
    NotAMember,
    NotProven,
    RoomIsPrivate,
    TextTooLong,
    Unavailable,
)
from chat_twisted.core.events import Invitation, MemberJoined, MemberLeft, TopicChanged
from chat_twisted.core.reads import Span
from tests.test_hub import HubTestCase, ImmediateSession, ListSession

KEY = "ssh-ed25519 AAAA"


class RoomTests(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = (self.join(n) for n in ("alice", "bob", "carol"))

    def members(self, after: str = "") -> tuple[int, list[str]]:
        listing = self.hub.queries.members(self.alice, "#dev", after)
        return listing.count, [user.name for user in listing.items]

    def test_message_to_a_room_reaches_the_members_alone(self) -> None:
        self.enter(self.alice, "#Dev")
        self.enter(self.bob, "#dEV")
        self.alice.got.clear()
        self.bob.got.clear()
        self.say(self.alice, "#dev", "x")
        self.assertEqual((self.bob.texts(), self.bob.got[0].to), (["x"], "#Dev"))
        self.assertEqual((self.alice.got, self.carol.got), ([], []))
        with self.assertRaises(NotAMember):
            self.say(self.carol, "#dev", "x")

    def test_member_who_was_absent_gets_messages_since_they_joined(self) -> None:
        self.enter(self.alice, "#dev")
        self.say(self.alice, "#dev", "before")
        self.enter(self.bob, "#dev")
        self.leave(self.bob)
        self.say(self.alice, "#dev", "while absent")
        self.assertEqual(self.join("bob", self.bob.token).texts(), ["while absent"])

    def test_member_who_has_left_gets_messages_until_then(self) -> None:
        self.enter(self.alice, "#dev")
        self.enter(self.bob, "#dev")
        other = self.join("bob", self.bob.token)
        self.leave(self.bob)
        self.say(self.alice, "#dev", "before")
        self.ask(other, c.Part, "#dev")
        self.say(self.alice, "#dev", "after")
        self.leave(other)
        self.assertEqual(self.join("bob", self.bob.token).texts(), ["before"])

    def test_event_is_passed_to_a_door_once_for_all_members(self) -> None:
        for session in (self.alice, self.bob, self.carol):
            self.enter(session, "#dev")
        self.door.tellings.clear()
        self.ask(self.carol, c.SetTopic, "#dev", " plans ")
        self.ask(self.carol, c.Part, "#dev")
        others = [self.alice, self.bob]
        [(topic, first), (left, second)] = self.door.tellings
        self.assertEqual((first, second), (others, others))
        assert isinstance(topic, TopicChanged)
        self.assertEqual((topic.topic, topic.by), ("plans", "carol"))
        self.assertEqual(left, MemberLeft("#dev", "carol", "", "", True))
        self.assertEqual(self.hub.queries.room(self.carol, "#dev").topic, "plans")

    def test_joining_again_is_answered_and_told_to_nobody(self) -> None:
        self.enter(self.alice, "#dev")
        self.enter(self.bob, "#dev", "1")
        self.alice.got.clear()
        self.enter(self.bob, "#dev", "2")
        joined = MemberJoined("#dev", "bob", c.NONE)
        self.assertEqual(self.bob.heard, [("answered", "1", joined), ("answered", "2", None)])
        self.assertEqual(self.alice.got, [])

    def test_private_room_is_for_invited_users_and_unknown_to_others(self) -> None:
        self.enter(self.alice, "#dev", private=True)
        self.enter(self.bob, "#dev", "1")
        self.assertEqual(self.bob.heard, [("refused", "1", RoomIsPrivate)])
        with self.assertRaises(NoSuchRoom):
            self.say(self.bob, "#dev", "x")
        with self.assertRaises(NoSuchRoom):
            self.hub.queries.room(self.bob, "#dev")
        self.assertEqual(self.hub.queries.rooms(self.bob).count, 0)
        self.ask(self.alice, c.Invite, "#dev", "bob")
        invitation = Invitation("#dev", "bob", "alice")
        self.assertEqual(self.alice.heard[-1], ("answered", "q", invitation))
        self.assertEqual((self.bob.got, self.carol.got), ([invitation], []))
        self.enter(self.bob, "#dev")
        self.assertEqual(self.members(), (2, ["alice", "bob"]))

    def test_pages_of_members_and_of_present_users_begin_where_asked(self) -> None:
        dora = self.join("Dora")
        for session in (dora, self.bob, self.alice):
            self.enter(session, "#dev")
        self.assertEqual(self.members("alice"), (3, ["bob", "Dora"]))
        self.leave(self.bob)  # stays a member
        self.assertEqual(self.members(), (3, ["alice", "bob", "Dora"]))
        listing = self.hub.who("alice")
        self.assertEqual((listing.count, [u.name for u in listing.items]), (3, ["carol", "Dora"]))


class AccountTests(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("Alice")
        self.ask(self.alice, c.MakeAccount, KEY)
        self.alice.heard.clear()

    def log_in(self, name: str, proof: str = KEY) -> ListSession:
        session = ListSession(self.door)
        self.hub.logins.login(session, name, proof=proof)
        self.commit()
        self.hub.logins.arrive(session)
        self.commit()
        return session

    def set_password(self, hashing: object, label: str = "2") -> None:
        command = c.SetPassword(self.alice.user, self.alice.epoch, "")
        self.hub.propose_hashed(self.alice, command, hashing, "password", label)  # type: ignore[arg-type]

    def password(self) -> str:
        return self.hub.queries.account(self.alice).password

    def test_name_of_an_account_and_messages_to_it_are_kept_for_ever(self) -> None:
        self.enter(self.alice, "#dev")
        user = self.alice.user
        self.quit(self.alice)
        bob = self.join("bob")
        self.clock.advance(10**7)
        self.commit()
        for restart in (False, True):
            if restart:
                self.start()
                bob = self.join("bob", bob.token)
            self.say(bob, "alice", "x")
            with self.assertRaises(AuthenticationRequired):
                self.register("ALICE")
            with self.assertRaises(NameInUse):
                self.original("alice")
        again = self.log_in("alice")
        self.assertEqual((again.user, again.texts()), (user, ["x", "x"]))
        self.assertEqual([room.name for room in self.hub.queries.rooms(again).items], ["#dev"])

    def test_without_grace_an_account_is_kept_all_the_same(self) -> None:
        self.grace = 0
        self.start()
        bob = self.join("bob")
        self.say(bob, "alice", "x")
        self.assertEqual(self.log_in("alice").texts(), ["x"])

    def test_guest_without_an_account_changes_none_and_nothing_is_hashed_for_them(self) -> None:
        bob = self.join("bob")

        def hashing(asker: object) -> Deferred[str]:
            raise AssertionError("a hash was made for somebody who is refused")

        setting = c.SetPassword(bob.user, bob.epoch, "")
        with self.assertRaises(NoAccount):
            self.hub.propose_hashed(bob, setting, hashing, "password", "1")
        with self.assertRaises(NoAccount):
            self.hub.queries.account(bob)

    def test_session_whose_proof_is_gone_has_nothing_hashed(self) -> None:
        other = self.log_in("alice")
        self.ask(self.alice, c.AddKey, "ssh-ed25519 BBBB")
        self.ask(other, c.RemoveKey, KEY)
        with self.assertRaises(NotProven):
            self.set_password(lambda asker: succeed("hash"))

    def test_password_of_an_account_dropped_while_it_is_hashed_is_refused(self) -> None:
        slow: Deferred[str] = Deferred()
        self.set_password(lambda asker: slow)
        self.ask(self.alice, c.DropAccount, label="3")
        slow.callback("hash")
        self.commit()
        self.assertEqual(self.alice.heard[-1], ("refused", "2", NoAccount))

    def test_password_that_can_not_be_hashed_is_refused_after_the_request(self) -> None:
        for error in (Unavailable(), OSError("no memory")):
            self.set_password(lambda asker, error=error: fail(error))
            self.assertEqual(self.alice.heard, [])
            self.commit()
            self.assertEqual(self.alice.heard, [("refused", "2", Unavailable)])
            self.alice.heard.clear()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(self.password(), "")

    def test_user_gone_when_the_hash_is_made_changes_nothing(self) -> None:
        slow: Deferred[str] = Deferred()
        self.set_password(lambda asker: slow)
        self.leave(self.alice)
        slow.callback("hash")
        self.commit()
        self.assertEqual(self.hub.queries.account(self.log_in("alice")).password, "")

    def test_messages_of_a_user_are_deleted_with_the_account_if_requested(self) -> None:
        bob = self.join("bob")
        self.say(self.alice, "ALL", "secret")
        self.say(bob, "ALL", "other")
        self.ask(self.alice, c.DropAccount, True)
        self.clock.pump([1] * 30)
        for restart in (False, True):
            if restart:
                self.start()
                bob = self.join("bob", bob.token)
            reading = self.hub.queries.history(bob, "ALL", Span(10))
            self.commit()
            messages = self.successResultOf(reading).messages
            self.assertEqual([message.text for message in messages], ["", "other"])

    def test_name_that_a_guest_has_left_can_be_made_an_account_at_once(self) -> None:
        bob = self.join("bob")
        self.hub.logins.leave(bob, for_good=True)
        made = self.hub.ask(c.MakeAccount(c.CONSOLE, 0, "", "", "hash", "bob", 77))
        self.commit()
        self.successResultOf(made)
        self.say(self.alice, "bob", "x")  # who is absent, and reached
        self.start()
        self.assertEqual(self.log_in("bob", "hash").texts(), ["x"])


class SessionTests(HubTestCase):
    def test_messages_whose_senders_wait_are_bounded(self) -> None:
        self.patch(delivery, "MAX_UNCONFIRMED", 3)
        alice, bob = self.join("alice"), self.join("bob")
        for label in "01234":
            self.hub.send(alice, "bob", "x", label)
        self.commit()
        self.hub.received(bob, 5)
        delivered = [heard[1] for heard in alice.heard if heard[0] == "delivered"]
        self.assertEqual((delivered, len(bob.got)), (["2", "3", "4"], 5))

    def test_user_who_has_not_arrived_is_not_shown(self) -> None:
        alice = self.join("alice")
        self.hub.watch(alice, watches=True)
        session = ImmediateSession(self.door)
        self.hub.logins.login(session, "dora", present=False)
        self.clock.pump([1] * 5)
        self.assertEqual((self.names(), alice.heard), (["alice"], []))
        self.hub.logins.arrive(session)
        self.clock.pump([1] * 5)
        self.assertEqual(self.names(), ["alice", "dora"])
        [(what, presence)] = alice.heard
        self.assertEqual((what, *presence[:2]), ("saw", "dora", "here"))

    def test_reason_for_being_away_that_is_no_line_changes_nothing(self) -> None:
        alice = self.join("alice")
        for why in ("a\nb", "x" * 201):
            self.ask(alice, c.SetAway, why)
            self.assertEqual(alice.heard.pop(), ("refused", "q", TextTooLong))
        self.assertIsNone(self.hub.queries.user(alice).away)
