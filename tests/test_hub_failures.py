"""What users notice when the disk can't be written, and after the server was started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from chat_twisted.core import commands as c
from chat_twisted.core.errors import NameInUse, NoSuchRoom, Unavailable
from chat_twisted.core.events import MemberJoined, MemberLeft
from chat_twisted.core.hub import TRY_AGAIN
from chat_twisted.core.sessions import Dismissal
from chat_twisted.doors.requests import deduplication_key
from chat_twisted.storage import tables
from chat_twisted.testing import MemoryStore
from tests.test_hub import HubTestCase, ImmediateSession, ListSession


class UncertainStore(MemoryStore):
    """A store whose commits may report a failure though they were taken."""

    reports_failure = False

    def write(self, function: Callable[..., Any], *args: Any, **kw: Any) -> Deferred[Any]:
        written = super().write(function, *args, **kw)
        return written.addCallback(self._report) if function is tables.write else written

    def _report(self, result: Any) -> Any:
        if self.reports_failure:
            raise OSError("the disk was away for a moment")
        return result


class BrokenTestCase(HubTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.join("alice"), self.join("bob")
        for session in (self.alice, self.bob):
            self.enter(session, "#dev")
        self.forget()

    def forget(self) -> None:
        for session in (self.alice, self.bob):
            session.got.clear()
            session.heard.clear()

    def fail_writes(self) -> None:
        self.store.broken = OSError("full")

    def mend(self) -> None:
        """Let writes succeed again, and wait until everything pending was tried again."""
        self.store.broken = None
        self.wait(2 * TRY_AGAIN)

    def wait(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)
        self.commit()


class RefusedTests(BrokenTestCase):
    def test_login_that_can_not_be_written_leaves_the_name_and_the_place_free(self) -> None:
        self.fail_writes()
        for _ in range(self.max_clients):
            refused = self.ask_for("carol")
            self.assertEqual(refused.heard, [("refused", "r", Unavailable)])
            self.assertEqual((refused.user, refused.token and refused.live), (0, False))
        gone = ListSession(self.door)
        self.hub.logins.login(gone, "carol")
        self.leave(gone)  # before it is answered
        self.assertEqual(gone.heard, [])
        self.mend()
        self.assertEqual(self.hub.population().sessions, 2)
        self.join("carol")
        for number in range(7):
            self.join(f"user{number}")

    def test_original_client_that_can_not_arrive_is_dropped_and_its_name_is_free(self) -> None:
        session = ImmediateSession(self.door)
        self.hub.logins.login(session, "dora", present=False)
        self.commit()
        self.fail_writes()
        self.hub.logins.arrive(session)
        self.commit()
        self.assertEqual(session.heard[-1], ("dropped",))
        self.leave(session)
        self.mend()
        self.join("dora")

    def test_room_that_could_not_be_made_is_told_to_nobody_and_can_be_made_later(self) -> None:
        self.fail_writes()
        self.enter(self.alice, "#new", "1")
        with self.assertRaises(NoSuchRoom):
            self.hub.queries.room(self.alice, "#new")
        self.mend()
        self.enter(self.bob, "#new", "2")
        joined = MemberJoined("#new", "bob", c.OPERATOR)
        self.assertEqual(self.alice.heard, [("refused", "1", Unavailable)])
        self.assertEqual(self.bob.heard, [("answered", "2", joined)])

    def test_changes_in_a_room_that_can_not_be_written_are_told_to_nobody(self) -> None:
        self.fail_writes()
        for number, (command, *fields) in enumerate(
            (
                (c.SetTopic, "#dev", "plans"),
                (c.RemoveMember, "#dev", "bob"),
                (c.SetRank, "#dev", "bob", c.VOICE),
                (c.SetMode, "#dev", c.MODERATED, True),
                (c.BanFromRoom, "#dev", "bob", True),
                (c.Part, "#dev"),
            )
        ):
            self.ask(self.alice, command, *fields, label=str(number))
            self.assertEqual(self.alice.heard.pop(), ("refused", str(number), Unavailable))
        self.mend()
        self.assertEqual((self.alice.got, self.bob.got, self.bob.heard), ([], [], []))
        self.say(self.bob, "#dev", "still here")
        self.assertEqual(self.alice.texts(), ["still here"])

    def test_account_that_could_not_be_written_can_be_made_later(self) -> None:
        self.fail_writes()
        self.ask(self.bob, c.MakeAccount, "ssh-ed25519 AAAA", label="1")
        self.assertIsNone(self.hub.queries.user(self.bob).account)
        self.mend()
        self.ask(self.bob, c.MakeAccount, "ssh-ed25519 AAAA", label="2")
        answers = [self.bob.heard[0], self.bob.heard[-1]]
        self.assertEqual(answers, [("refused", "1", Unavailable), ("answered", "2", None)])
        self.assertIsNotNone(self.hub.queries.account(self.bob))

    def test_operator_is_told_and_the_sessions_stay(self) -> None:
        for command in (
            c.Disconnect(c.CONSOLE, 0, "bob", "why"),
            c.Impose(c.CONSOLE, 0, c.BAN, "bob"),
            c.MakeAccount(c.CONSOLE, 0, "", "", "hash", "carol", 77),
        ):
            self.fail_writes()
            asked = self.hub.ask(command)
            self.commit()
            self.failureResultOf(asked, Unavailable)
            self.mend()
            self.assertEqual(self.bob.heard, [])
            self.say(self.bob, "alice", "still here")
            self.forget()
        self.join("carol")


class LaterTests(BrokenTestCase):
    """Nobody is told of an end before it is committed; and it comes when that is possible."""

    def setUp(self) -> None:
        super().setUp()
        self.hub.watch(self.alice, watches=True)

    def check_told(self, *left: str) -> None:
        """Check that nothing was told so far, and everything, once, when writes succeed again."""
        self.wait(5)
        self.assertEqual((self.alice.got, self.alice.heard), ([], []))
        members = [user.name for user in self.hub.queries.members(self.alice, "#dev").items]
        self.assertEqual(members, ["alice", *left])
        self.mend()
        self.assertEqual(self.alice.got, [MemberLeft("#dev", name, "", "", False) for name in left])
        for name in left:
            self.join(name)

    def test_guest_who_quits(self) -> None:
        self.fail_writes()
        self.quit(self.bob)
        self.check_told("bob")
        self.wait(5)
        seen = [
            presence[:2] for what, *shown in self.alice.heard if what == "saw" for presence in shown
        ]
        self.assertEqual(seen, [("bob", "gone"), ("bob", "here")])

    def test_guest_whose_grace_is_over(self) -> None:
        self.leave(self.bob)
        self.wait(self.grace - 10)
        self.forget()
        self.fail_writes()
        self.wait(20)
        self.check_told("bob")

    def test_guest_who_makes_room_for_another(self) -> None:
        self.leave(self.bob)
        others = [self.join(f"user{number}") for number in range(9)]
        for session in others[1:]:
            self.leave(session)
        self.wait(2)
        self.leave(self.join("more"))  # now as many are held as may be
        self.wait(2)
        self.forget()
        self.fail_writes()
        self.leave(others[0])
        self.check_told("bob")

    def test_several_ends_of_one_batch(self) -> None:
        carol = self.join("carol")
        self.enter(carol, "#dev")
        self.wait(2)
        self.forget()
        self.fail_writes()
        self.hub.logins.leave(self.bob, for_good=True)
        self.hub.logins.leave(carol, for_good=True)
        self.check_told("bob", "carol")

    def test_confirmations_of_a_client_are_written_later(self) -> None:
        self.say(self.alice, "bob", "x")
        self.fail_writes()
        self.hub.received(self.bob, 1)
        self.wait(5)
        self.mend()
        self.start()
        self.assertEqual(self.join("bob", self.bob.token).texts(), [])


class TakenTests(BrokenTestCase):
    """A commit reports a failure, but the file has it."""

    store: UncertainStore

    def make_store(self) -> MemoryStore:
        return UncertainStore(self.clock)

    def setUp(self) -> None:
        super().setUp()
        self.store.reports_failure = True

    def test_message_is_sent_once(self) -> None:
        request = self.hub.send(self.alice, "#dev", "x", "1", "key")
        self.commit()
        self.assertEqual((request.label, self.bob.texts()), ("1", ["x"]))
        self.assertEqual(self.alice.heard, [("sent", "1", 1)])
        self.hub.send(self.alice, "#dev", "x", "1", "key")
        self.commit()
        self.assertEqual((self.alice.heard[1:], self.bob.texts()), ([("sent", "1", 1)], ["x"]))

    def test_login_is_answered_and_an_end_is_told(self) -> None:
        carol = self.join("carol")
        self.enter(carol, "#dev")
        self.quit(carol)
        told = [MemberJoined("#dev", "carol", c.NONE), MemberLeft("#dev", "carol", "", "", False)]
        self.assertEqual(self.bob.got, told)
        self.join("carol")

    def test_disconnected_user_is_told_once(self) -> None:
        asked = self.hub.ask(c.Disconnect(c.CONSOLE, 0, "bob", "why"))
        self.commit()
        self.successResultOf(asked)
        self.assertEqual(self.bob.heard, [Dismissal("disconnected", "", "why")])
        self.assertEqual(self.names(), ["alice"])


class RestartTests(HubTestCase):
    """The server is killed, and another starts on what it has written."""

    def test_users_rooms_and_missed_messages_are_there_again(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for session in (alice, bob):
            self.enter(session, "#dev")
        self.leave(bob)
        self.hub.send(alice, "bob", "direct")
        self.hub.send(alice, "#dev", "room")
        self.commit()
        self.start()
        self.assertEqual((self.hub.newest, self.names()), (2, []))
        with self.assertRaises(NameInUse):
            self.join("bob")
        alice = self.join("alice", alice.token, resume=2)
        self.hub.send(alice, "#dev", "more")
        self.commit()
        self.assertEqual(self.join("bob", bob.token).texts(), ["direct", "room", "more"])

    def test_room_of_which_the_last_member_had_left_is_another_one(self) -> None:
        alice, bob, carol = (self.join(name) for name in ("alice", "bob", "carol"))
        self.enter(alice, "#dev")
        self.quit(alice)
        self.enter(bob, "#dev")
        self.enter(carol, "#dev")
        self.start()
        bob = self.join("bob", bob.token)
        members = [user.name for user in self.hub.queries.members(bob, "#dev").items]
        self.assertEqual(members, ["bob", "carol"])

    def send_twice(
        self, instances: tuple[str, str], *sends: tuple[int, str, str]
    ) -> list[list[int]]:
        """Send with one Id by two clients of alice, and again after a restart; return the numbers
        that the messages had each time.
        """
        one = self.join("alice")
        sessions = [one, self.join("alice", one.token)]
        if "bob" not in self.names():
            self.join("bob")
        found = []
        for _ in range(2):
            numbers = []
            for client, to, text in sends:
                session = sessions[client]
                session.heard.clear()
                key = deduplication_key(instances[client], to, text, "1")
                self.hub.send(session, to, text, "1", key)
                self.commit()
                numbers.append(session.heard[0][2])
            found.append(numbers)
            self.start()
            sessions = [self.join("alice", one.token) for _ in sessions]
        return found

    def test_without_an_instance_recipient_and_text_belong_to_the_id(self) -> None:
        sends = (0, "bob", "x"), (1, "bob", "y"), (1, "ALL", "x"), (1, "BOB", "x")
        self.assertEqual(self.send_twice(("", ""), *sends), [[1, 2, 3, 1]] * 2)

    def test_with_an_instance_the_id_alone_counts(self) -> None:
        sends = (0, "bob", "x"), (1, "bob", "x"), (0, "ALL", "other")
        self.assertEqual(self.send_twice(("a", "b"), *sends), [[1, 2, 1]] * 2)


class NoGraceTests(BrokenTestCase):
    grace = 0

    def test_guest_and_their_room_end_with_the_connection(self) -> None:
        self.enter(self.bob, "#mine")
        self.leave(self.bob)
        self.wait(2)
        with self.assertRaises(NoSuchRoom):
            self.hub.queries.room(self.alice, "#mine")
        self.assertEqual([user.name for user in self.hub.state.users.values()], ["alice"])
        self.join("bob")
