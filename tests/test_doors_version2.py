"""Version 2: one connection, requests with Ids, answers with them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from twisted.trial.unittest import TestCase

from chat_twisted.core.commands import BAN, CONSOLE, MUTE, Impose, SetOperator
from chat_twisted.core.errors import TookTooLong
from chat_twisted.core.limits import OFF, Rate
from chat_twisted.core.model import Room, User
from chat_twisted.core.presence import TELL_AFTER, Presence
from chat_twisted.doors import encoding, requests, version2
from chat_twisted.doors.encoding import bodies
from chat_twisted.doors.framed import FramedFactory
from chat_twisted.storage import lookup
from tests.door import Client, DoorTestCase

TIME = b"1970-01-01T00:00:00.000Z"


class RegistrationTests(DoorTestCase):
    def test_registered_tells_the_client_the_limits(self) -> None:
        _, answer = self.register("alice", "Version: 2", "Id: 1")
        self.assertRegex(
            answer,
            rb"\AREGISTERED alice\nId: 1\nVersion: 2\nSession: [\w-]{22}\n"
            rb"Max-message: 65536\nLast: 0\nKept: ever\n\n\Z",
        )

    def test_the_server_answers_with_the_highest_version_that_both_know(self) -> None:
        self.assertIn(b"\nVersion: 2\n", self.register("a", "Version: 9")[1])
        self.assertIn(b"\nVersion: 2\n", self.register("b")[1])
        for wrong in ("x", "0", "-1", ""):
            client = self.connect()
            answer = client.say(f"REGISTER c\nVersion: {wrong}\n\n")
            self.assertEqual(answer, b"ERROR 103 Header Incomplete\n\n")

    def test_a_malformed_name_is_error_100_and_closes(self) -> None:
        for name in ("b@d", "all", "", "x" * 33, "a b"):
            client = self.connect()
            answer = client.ask(f"REGISTER {name}\nId: 1\n\n")
            self.assertEqual(answer, b"ERROR 100 Malformed username\nId: 1\n\n")
            self.assertTrue(client.closed)

    def test_a_name_in_use_is_error_105_and_another_may_follow(self) -> None:
        self.user("alice")
        client = self.connect()
        self.assertEqual(client.ask("REGISTER ALICE\n\n"), b"ERROR 105 Name in use\n\n")
        self.assertFalse(client.closed)
        self.assertEqual(client.ask("PING x\n\n"), b"PONG x\n\n")
        client.say("REGISTER bob\n\n")
        self.commit()
        self.assertIn(b"REGISTERED bob\n", client.transport.take())

    def test_anything_else_without_a_name_is_error_101_and_closes(self) -> None:
        self.user("alice")
        client = self.connect()
        client.ask("REGISTER alice\n\n")
        self.assertEqual(client.ask("WHO\nId: 3\n\n"), b"ERROR 101 No user registered\nId: 3\n\n")
        self.assertTrue(client.closed)

    def test_a_second_registration_is_error_111(self) -> None:
        client = self.user("alice")
        self.assertEqual(client.say("REGISTER bob\n\n"), b"ERROR 111 Not permitted\n\n")
        self.assertEqual(self.names(), ["alice"])

    def test_the_session_token_lets_the_user_in_on_a_second_connection(self) -> None:
        first, answer = self.register("alice")
        token = re.search(rb"Session: (\S+)", answer)[1].decode()
        second, answer = self.register("Alice", f"Session: {token}")
        self.assertIn(b"REGISTERED alice\n", answer)
        self.assertIn(f"Session: {token}\n".encode(), answer)
        bob = self.user("bob")
        bob.say("SEND alice\nContent-length: 1\n\nx")
        self.commit()
        for client in (first, second):
            self.assertIn(b"FORWARD bob\n", client.transport.take())


class FullTests(DoorTestCase):
    max_clients = 1

    def test_a_full_server_is_error_112_with_when_to_come_back(self) -> None:
        alice = self.user("alice")
        client = self.connect()
        self.assertEqual(
            client.say("REGISTER bob\nId: 1\n\n"),
            b"ERROR 112 Unavailable\nId: 1\nRetry-after: 30\n\n",
        )
        alice.gone()
        client.say("REGISTER bob\n\n")
        self.commit()
        self.assertIn(b"REGISTERED bob\n", client.transport.take())

    def test_an_account_on_a_full_server_is_asked_for_its_proof_all_the_same(self) -> None:
        alice = self.user("alice")
        alice.say("ACCOUNT register\nContent-length: 6\n\nsecret")
        self.commit()
        answer = self.connect().ask("REGISTER alice\nId: 1\n\n")
        self.assertRegex(
            answer,
            rb"^ERROR 106 Authentication required\nId: 1\n"
            rb"Methods: publickey password\nChallenge: \S{44}\n\n$",
        )


class SanctionTests(DoorTestCase):
    def test_the_muted_and_the_banned_read_until_when_why_and_by_whom(self) -> None:
        bob = self.user("bob")
        self.hub.ask(Impose(CONSOLE, 0, MUTE, "bob", 90_000, "too loud"))
        self.assertEqual(
            bob.ask("SEND ALL\nId: 1\nContent-length: 2\n\nhi"),
            b"ERROR 111 Not permitted\nId: 1\n"
            b"Until: 1970-01-01T00:01:30.000Z\nBy: admin\nReason: too loud\n\n",
        )
        op = self.user("op")
        op.ask("ACCOUNT register\nContent-length: 1\n\nx")
        self.clock.advance(1)
        self.hub.ask(SetOperator(CONSOLE, 0, "op", True))
        self.assertIn(b"BAN bob", op.ask("BAN bob\n\n"))
        self.assertEqual(
            self.connect().ask("REGISTER bob\n\n"),
            b"ERROR 111 Not permitted\nUntil: ever\nBy: op\n\n",
        )


class KeptTests(DoorTestCase):
    def test_registered_says_for_how_long_messages_are_kept(self) -> None:
        self.factory = FramedFactory(self.hub, self.gate, self.clock, retain=86400)
        self.assertIn(b"\nKept: 86400\n", self.register("alice")[1])


class SmallMessagesTests(DoorTestCase):
    max_message = 10

    def test_the_limit_is_the_servers_own_and_is_told(self) -> None:
        alice, answer = self.register("alice")
        self.assertIn(b"\nMax-message: 10\n", answer)
        bob = self.user("bob")
        alice.say("SEND bob\nContent-length: 10\n\n0123456789")
        self.commit()
        self.assertTrue(bob.transport.take().endswith(b"0123456789"))
        alice.transport.clear()
        answer = alice.say("SEND bob\nContent-length: 11\n\n01234567890")
        self.assertEqual(answer, b"ERROR 108 Message too long\n\n")


class TalkTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.user("alice")
        self.bob = self.user("bob")

    def test_a_direct_message_from_send_to_delivered(self) -> None:
        self.assertEqual(self.alice.say("SEND BOB\nId: 7\nContent-length: 6\n\nhéllo"), b"")
        self.commit()
        self.assertEqual(
            self.alice.transport.take(),
            b"SENT BOB\nId: 7\nMessage: 1\nTime: " + TIME + b"\n\n",
        )
        self.assertEqual(
            self.bob.transport.take(),
            b"FORWARD alice\nTo: bob\nMessage: 1\nTime: "
            + TIME
            + "\nContent-length: 6\n\nhéllo".encode(),
        )
        self.assertEqual(self.bob.say("RECEIVED alice\nMessage: 1\n\n"), b"")
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"DELIVERED BOB\nId: 7\nMessage: 1\n\n")

    def test_a_broadcast_is_sent_and_never_delivered(self) -> None:
        self.alice.say("SEND ALL\nContent-length: 2\n\nhi")
        self.commit()
        self.assertEqual(
            self.alice.transport.take(), b"SENT ALL\nMessage: 1\nTime: " + TIME + b"\n\n"
        )
        self.assertIn(b"FORWARD alice\nTo: ALL\nMessage: 1\n", self.bob.transport.take())
        self.bob.say("RECEIVED alice\nMessage: 1\n\n")
        self.assertEqual(self.alice.transport.take(), b"")

    def test_a_message_has_its_kind_when_it_comes_and_when_it_is_read(self) -> None:
        for kind, header in (("action", b"Kind: action\n"), ("notice", b"Kind: notice\n")):
            self.alice.ask(f"SEND bob\nKind: {kind}\nContent-length: 5\n\nwaves")
            self.assertIn(header + b"Content-length: 5\n\nwaves", self.bob.transport.take())
            read = self.bob.ask("HISTORY alice\nCount: 1\n\n")
            self.assertIn(header + b"Content-length: 5\n\nwaves", read)
        self.alice.ask("SEND bob\nKind: text\nContent-length: 5\n\nhello")
        self.assertNotIn(b"Kind", self.bob.transport.take())

    def test_without_an_instance_another_kind_is_another_message(self) -> None:
        sends = ("", "Kind: text\n", "Kind: action\n", "Kind: notice\n", "Kind: action\n")
        answers = [
            self.alice.ask(f"SEND bob\nId: 1\n{kind}Content-length: 1\n\nx") for kind in sends
        ]
        numbers = [re.search(rb"Message: (.)", answer)[1] for answer in answers]
        self.assertEqual(numbers, [b"1", b"1", b"2", b"3", b"2"])

    def test_an_action_reaches_the_original_client_as_text(self) -> None:
        _, receiving = self.original("carol")
        self.alice.ask("SEND carol\nKind: action\nContent-length: 5\n\nwaves")
        self.assertEqual(receiving.transport.take(), b"FORWARD alice\nContent-length: 7\n\n* waves")

    def test_pipelined_requests_are_answered_each_with_its_id(self) -> None:
        sends = "".join(f"SEND bob\nId: {id}\nContent-length: 1\n\nx" for id in "abc")
        self.alice.say(sends + "SEND nobody\nId: d\nContent-length: 1\n\nxJOIN x\nId: e\n\n")
        self.commit()
        self.assertEqual(
            re.findall(rb"(\S+) .*\nId: (.)", self.alice.transport.take()),
            [
                *((b"SENT", id) for id in (b"a", b"b", b"c")),
                (b"ERROR", b"d"),
                (b"ERROR", b"e"),
            ],
        )
        self.bob.say("RECEIVED alice\nMessage: 3\n\n")
        self.commit()
        self.assertEqual(
            re.findall(rb"DELIVERED bob\nId: (.)\nMessage: (.)", self.alice.transport.take()),
            [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")],
        )

    def test_a_message_that_can_not_be_sent_is_refused_and_the_connection_goes_on(self) -> None:
        for to, answer in (
            ("carol", b"ERROR 102 Unable to send\nId: 1\n\n"),
            ("b@d", b"ERROR 102 Unable to send\nId: 1\n\n"),
            ("#dev", b"ERROR 110 No such room\nId: 1\n\n"),
        ):
            self.assertEqual(self.alice.ask(f"SEND {to}\nId: 1\nContent-length: 1\n\nx"), answer)
        self.assertFalse(self.alice.closed)

    def test_a_send_without_recipient_text_or_length_is_error_103_and_closes(self) -> None:
        for number, wrong in enumerate(
            ("SEND bob\n\n", "SEND\nContent-length: 1\n\nx", "SEND bob\nContent-length: 0\n\n")
        ):
            client = self.user(f"u{number}")
            self.assertEqual(client.say(wrong), b"ERROR 103 Header Incomplete\n\n")
            self.assertTrue(client.closed)

    def test_a_received_without_a_number_is_error_103(self) -> None:
        self.assertEqual(self.bob.say("RECEIVED alice\n\n"), b"ERROR 103 Header Incomplete\n\n")

    def test_who_lists_everybody_a_line_each(self) -> None:
        self.user("Carol")
        self.assertEqual(
            self.alice.say("WHO\nId: 5\n\n"),
            b"WHO\nId: 5\nCount: 3\nContent-length: 16\n\nalice\nbob\nCarol\n",
        )

    def test_who_goes_on_where_one_answer_ended(self) -> None:
        self.patch(encoding, "MAX_BODY", 10)
        self.user("Carol")
        self.assertEqual(
            self.alice.say("WHO\n\n"),
            b"WHO\nCount: 3\nMore: bob\nContent-length: 10\n\nalice\nbob\n",
        )
        self.assertEqual(
            self.alice.say("WHO\nAfter: bob\n\n"), b"WHO\nCount: 3\nContent-length: 6\n\nCarol\n"
        )

    def test_bans_and_mutes_are_listed_page_by_page(self) -> None:
        self.patch(encoding, "MAX_LINES", 1)
        self.alice.ask("ACCOUNT register\nContent-length: 1\n\nx")
        self.clock.advance(1)
        self.commit()
        self.hub.ask(SetOperator(CONSOLE, 0, "alice", True))
        self.commit()
        for request in ("BAN n364", "MUTE n364", "MUTE n3"):
            self.alice.ask(f"{request}\n\n")
            self.commit()
        self.alice.transport.take()
        lines, after = [], ""
        for _ in range(3):
            answer = self.alice.ask(f"BAN\n{after}\n").decode()
            head, _, line = answer.partition("\n\n")
            lines.append(line)
            after = "".join(f"After: {more}\n" for more in re.findall("More: (.*)", head))
        self.assertEqual(after, "")
        self.assertEqual(
            lines, ["n3 mute ever alice\n", "n364 ban ever alice\n", "n364 mute ever alice\n"]
        )

    def test_a_ban_by_the_console_has_a_name_in_the_list_too(self) -> None:
        self.alice.ask("ACCOUNT register\nContent-length: 1\n\nx")
        self.clock.advance(1)
        self.commit()
        self.hub.ask(SetOperator(CONSOLE, 0, "alice", True))
        self.hub.ask(Impose(CONSOLE, 0, BAN, "bob", 0, "spam again"))
        self.commit()
        self.alice.transport.take()
        answer = self.alice.ask("BAN\n\n")
        self.assertIn(b"\n\nbob ban ever admin spam again\n", answer)

    def test_a_page_of_a_list_has_so_many_lines_at_most(self) -> None:
        self.patch(encoding, "MAX_LINES", 2)
        for name in ("#c", "#a", "#b"):
            self.alice.say(f"JOIN {name}\n\n")
            self.commit()
        self.alice.transport.take()
        self.assertEqual(
            self.alice.say("ROOMS\n\n"),
            b"ROOMS\nCount: 3\nMore: #b\nContent-length: 24\n\n#a 1 member\n#b 1 member\n",
        )
        self.assertEqual(
            self.alice.say("ROOMS\nAfter: #B\n\n"),
            b"ROOMS\nCount: 3\nContent-length: 12\n\n#c 1 member\n",
        )

    def test_long_lists_are_answered_a_page_a_turn_and_later_requests_wait(self) -> None:
        describe = requests.describe_user

        def slowly(user: User, room: Room | None, *, identities: bool) -> str:
            self.clock.rightNow += version2.LIST_TIME
            return describe(user, room, identities=identities)

        self.patch(requests, "describe_user", slowly)
        page = b"WHO\nCount: 2\nContent-length: 10\n\nalice\nbob\n"
        self.assertEqual(self.alice.say("WHO\n\nWHO\n\nPING\n\n"), page)
        self.assertEqual(self.bob.say("PING\n\n"), b"PONG\n\n")
        self.commit()
        self.assertEqual(self.alice.transport.take(), page + b"PONG\n\n")

    def test_a_client_that_leaves_while_it_waits_for_a_list_is_sent_nothing(self) -> None:
        self.factory.version_2.lists._spent = 1.0
        self.alice.say("WHO\n\nQUIT\n\n")
        self.alice.gone()
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"")

    def test_a_ping_is_answered_after_all_that_was_asked_before(self) -> None:
        body = "\nContent-length: 2\n\nhi"
        asked = self.alice.ask(f"SEND ALL{body}PING x\n\nSEND bob{body}")
        self.commit()
        answers = re.findall(rb"(?m)^([A-Z]+ \S+)$", asked + self.alice.transport.take())
        self.assertEqual(answers, [b"SENT ALL", b"PONG x", b"SENT bob"])

    def test_ping_is_answered_with_its_token(self) -> None:
        self.assertEqual(self.alice.say("PING a b\nId: 1\n\n"), b"PONG a b\nId: 1\n\n")

    def test_quit_is_answered_bye_and_closed(self) -> None:
        self.assertEqual(self.alice.ask("QUIT\nId: 1\n\n"), b"BYE\nId: 1\n\n")
        self.assertTrue(self.alice.closed)
        self.assertEqual(self.names(), ["bob"])
        self.assertEqual(self.bob.ask("SEND alice\nContent-length: 1\n\nx")[:9], b"ERROR 102")

    def test_the_reason_of_a_quit_is_told_where_the_user_was(self) -> None:
        for client in (self.bob, self.alice):
            client.ask("JOIN #dev\n\n")
        self.bob.transport.clear()
        self.alice.ask("QUIT\nContent-length: 4\n\n bye")
        self.assertEqual(
            self.bob.transport.take(), b"LEFT #dev\nUser: alice\nContent-length: 3\n\nbye"
        )

    def test_unknown_verbs_are_error_104_and_unknown_headers_are_ignored(self) -> None:
        self.assertEqual(self.alice.say("DANCE x\n\n"), b"ERROR 104 Unknown command\n\n")
        self.assertEqual(self.alice.say("PING x\nFoo: bar\n\n"), b"PONG x\n\n")

    def test_a_recipient_who_left_after_the_commitment_leaves_sent_as_it_is(self) -> None:
        self.alice.say("SEND bob\nId: 1\nContent-length: 1\n\nx")
        self.commit()
        self.alice.transport.clear()
        self.bob.gone()
        self.assertEqual(self.alice.transport.take(), b"")


class ComingBackTests(DoorTestCase):
    def token(self, answer: bytes) -> str:
        return "Session: " + re.search(rb"Session: (\S+)", answer)[1].decode()

    def test_a_lost_connection_is_resumed_where_it_was(self) -> None:
        alice = self.user("alice")
        bob, answer = self.register("bob")
        for text in "xyz":
            alice.say(f"SEND bob\nContent-length: 1\n\n{text}")
        self.commit()
        bob.gone()
        _, answer = self.register("bob", self.token(answer), "Resume: 1", "Id: r")
        self.assertTrue(answer.startswith(b"REGISTERED bob\nId: r\nVersion: 2\n"))
        self.assertIn(b"\nLast: 3\n", answer)
        self.assertEqual(re.findall(rb"\n\n([xyz])", answer), [b"y", b"z"])

    def test_a_wrong_token_does_not_open_a_kept_name(self) -> None:
        self.user("bob").gone()
        for headers in ((), ("Session: x",), ("Session: ",)):
            _, answer = self.register("bob", *headers)
            self.assertIn(b"ERROR 105 Name in use\n", answer)

    def test_a_client_reads_until_when_a_name_is_held(self) -> None:
        bob, alice = self.user("bob"), self.user("alice")
        self.assertEqual(alice.ask("RENAME bob\n\n"), b"ERROR 105 Name in use\n\n")
        self.clock.advance(60)
        bob.gone()
        self.commit()
        self.clock.advance(60)
        held = b"ERROR 105 Name in use\nUntil: 1970-01-01T00:11:00.000Z\n\n"
        self.assertEqual(alice.ask("RENAME bob\n\n"), held)
        self.assertEqual(self.register("BOB")[1], held)
        self.clock.advance(540)
        self.commit()
        self.assertIn(b"RENAMED alice\n", alice.ask("RENAME bob\n\n"))

    def test_a_resume_that_is_no_number_is_error_103(self) -> None:
        _, answer = self.register("bob", "Resume: x")
        self.assertEqual(answer, b"ERROR 103 Header Incomplete\n\n")

    def test_requests_behind_a_registration_wait_for_it(self) -> None:
        client = self.connect()
        client.say("REGISTER bob\n\nPING 1\n\nWHO\n\n")
        client.protocol.readConnectionLost()
        self.assertEqual(client.transport.take(), b"")
        self.commit()
        self.assertRegex(
            client.transport.take(), rb"\AREGISTERED bob\n[^\0]*\n\nPONG 1\n\nWHO\nCount: 1\n"
        )
        self.assertTrue(client.closed)

    def test_a_registration_that_can_not_be_written_is_error_112_and_another_may_follow(
        self,
    ) -> None:
        self.store.broken = OSError("full")
        client, answer = self.register("bob", "Id: 1")
        self.assertEqual(answer, b"ERROR 112 Unavailable\nId: 1\nRetry-after: 5\n\n")
        self.store.broken = None
        client.say("REGISTER bob\n\n")
        self.commit()
        self.assertIn(b"REGISTERED bob\n", client.transport.take())

    def test_a_connection_lost_while_it_registers_leaves_the_name_free(self) -> None:
        client = self.connect()
        client.say("REGISTER bob\n\n")
        client.gone()
        self.commit()
        self.user("bob")

    def test_a_message_that_can_not_be_written_is_error_112(self) -> None:
        alice, _ = self.user("alice"), self.user("bob")
        self.store.broken = OSError("full")
        alice.say("SEND bob\nId: 1\nContent-length: 1\n\nx")
        alice.say("QUIT\n\n")
        self.commit()
        self.assertEqual(
            alice.transport.take(),
            b"ERROR 112 Unavailable\nId: 1\nRetry-after: 5\n\nBYE\n\n",
        )

    def test_missed_messages_come_no_faster_than_they_are_read(self) -> None:
        self.patch(lookup, "SCAN", 2)
        alice = self.user("alice")
        bob, answer = self.register("bob")
        bob.gone()
        for text in "abcdef":
            alice.say(f"SEND bob\nContent-length: 1\n\n{text}")
        self.commit()
        again = self.connect()
        again.say(f"REGISTER bob\n{self.token(answer)}\n\n")
        again.transport.room = 0
        self.commit()
        got = b""
        for _ in range(3):
            self.assertLessEqual(again.transport.pending.count(b"FORWARD"), 2)
            waiting = b"".join(again.protocol.stream._waiting or ())
            self.assertLessEqual(waiting.count(b"FORWARD"), 2)
            got += again.transport.drain(0)
            self.commit()
        got += again.transport.drain()
        self.commit()
        got += again.transport.take()
        self.assertEqual(re.findall(rb"\n\n([a-f])", got), [b"%c" % c for c in b"abcdef"])


class RoomTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.user("alice"), self.user("bob")

    def ask(self, client: Client, request: str) -> bytes:
        client.transport.clear()
        client.protocol.dataReceived(request.encode())
        self.commit()
        return client.transport.take()

    def test_a_room_from_join_to_leave(self) -> None:
        self.assertEqual(
            self.ask(self.alice, "JOIN #dev\nId: 1\n\n"),
            b"JOINED #dev\nId: 1\nUser: alice\nRank: operator\nOperators: alice\n"
            b"Content-length: 0\n\n",
        )
        self.assertEqual(
            self.ask(self.alice, "TOPIC #dev\nId: 2\nContent-length: 5\n\nplans"),
            b"TOPIC #dev\nId: 2\nUser: alice\nContent-length: 5\n\nplans",
        )
        self.assertEqual(
            self.ask(self.bob, "JOIN #DEV\nId: 3\n\n"),
            b"JOINED #dev\nId: 3\nUser: bob\nOperators: alice\nContent-length: 5\n\nplans",
        )
        self.assertEqual(self.alice.transport.take(), b"JOINED #dev\nUser: bob\n\n")
        self.assertEqual(
            self.ask(self.bob, "TOPIC #dev\n\n"), b"TOPIC #dev\nContent-length: 5\n\nplans"
        )
        self.ask(self.bob, "SEND #dev\nContent-length: 2\n\nhi")
        self.assertIn(b"FORWARD bob\nTo: #dev\nMessage: 1\n", self.alice.transport.take())
        self.assertEqual(
            self.ask(self.alice, "KICK #dev\nId: 4\nUser: Bob\n\n"),
            b"LEFT #dev\nId: 4\nUser: bob\nBy: alice\n\n",
        )
        self.assertEqual(
            self.bob.transport.take()[-34:], b"LEFT #dev\nUser: bob\nBy: alice\n\n"[-34:]
        )
        self.assertEqual(self.ask(self.alice, "LEAVE #dev\n\n"), b"LEFT #dev\nUser: alice\n\n")

    def test_a_request_after_a_change_builds_on_it(self) -> None:
        answer = self.ask(
            self.alice,
            "JOIN #dev\nId: 1\n\nSEND #dev\nId: 2\nContent-length: 1\n\nxLEAVE #dev\nId: 3\n\n",
        )
        self.assertEqual(
            re.findall(rb"(\w+) #dev\nId: (.)", answer),
            [(b"JOINED", b"1"), (b"SENT", b"2"), (b"LEFT", b"3")],
        )

    def test_a_private_room_and_its_invitations(self) -> None:
        self.assertIn(b"\nModes: private\n", self.ask(self.alice, "JOIN #us\nPrivate: yes\n\n"))
        self.assertEqual(
            self.ask(self.bob, "JOIN #us\nId: 1\n\n"), b"ERROR 111 Not permitted\nId: 1\n\n"
        )
        self.assertEqual(
            self.ask(self.alice, "INVITE #us\nId: 2\nUser: bob\n\n"),
            b"INVITED #us\nId: 2\nUser: bob\nBy: alice\n\n",
        )
        self.assertEqual(self.bob.transport.take(), b"INVITED #us\nUser: bob\nBy: alice\n\n")
        self.assertIn(b"JOINED #us\n", self.ask(self.bob, "JOIN #us\n\n"))

    def test_rooms_and_their_members_are_listed(self) -> None:
        self.ask(self.alice, "JOIN #b\n\nJOIN #a\nPrivate: yes\n\n")
        self.ask(self.bob, "JOIN #b\n\n")
        self.assertEqual(
            self.ask(self.alice, "ROOMS\nId: 1\n\n"),
            b"ROOMS\nId: 1\nCount: 2\nContent-length: 32\n\n#a 1 member private\n#b 2 member\n",
        )
        self.bob.gone()
        self.commit()
        self.assertEqual(
            self.ask(self.alice, "WHO #B\n\n"),
            b"WHO #b\nCount: 2\nContent-length: 15\n\nalice\nbob away\n",
        )

    def test_an_impossible_change_in_rooms_is_refused_and_the_connection_goes_on(self) -> None:
        self.ask(self.alice, "JOIN #dev\n\n")
        for request, code in (
            ("JOIN dev\n\n", b"110"),
            ("LEAVE #x\n\n", b"110"),
            ("LEAVE #dev\n\n", b"111"),
            ("KICK #dev\nUser: alice\n\n", b"111"),
            ("INVITE #dev\nUser: alice\n\n", b"111"),
            ("TOPIC #dev\nContent-length: 1\n\nx", b"111"),
            ("WHO #x\n\n", b"110"),
            ("HISTORY #dev\n\n", b"111"),
            ("HISTORY b@d\n\n", b"102"),
        ):
            self.assertEqual(self.ask(self.bob, request)[:9], b"ERROR " + code, request)
        self.assertEqual(self.ask(self.bob, "PING\n\n"), b"PONG\n\n")


class ReadingTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.user("alice"), self.user("bob")
        for second in range(5):
            self.alice.say(f"SEND ALL\nContent-length: 9\n\nnumber {second + 1}\n")
            self.commit()
            self.clock.advance(1)
        self.alice.transport.clear()

    def read(self, request: str) -> tuple[list[bytes], bytes]:
        """The texts of the messages that answer, and the frame that ends the answer."""
        self.alice.protocol.dataReceived(request.encode())
        self.commit()
        answer = self.alice.transport.take()
        texts = re.findall(rb"number (\d)\n", answer)
        verb = request.split()[0].encode()
        return texts, answer[answer.rindex(verb) :]

    def test_history_brings_the_newest_oldest_first(self) -> None:
        texts, end = self.read("HISTORY ALL\nId: 9\nCount: 2\n\n")
        self.assertEqual(texts, [b"4", b"5"])
        self.assertEqual(end, b"HISTORY ALL\nId: 9\nCount: 2\nMore: yes\n\n")

    def test_history_goes_both_ways_by_number_and_by_time(self) -> None:
        for headers, texts in (
            ("", [b"1", b"2", b"3", b"4", b"5"]),
            ("After: 3\n", [b"4", b"5"]),
            ("After: 1\nCount: 2\n", [b"2", b"3"]),
            ("Before: 3\n", [b"1", b"2"]),
            ("Before: 5\nCount: 1\n", [b"4"]),
            ("After: 1\nBefore: 4\n", [b"2", b"3"]),
            ("Since: 1970-01-01T00:00:03Z\n", [b"4", b"5"]),
            ("Until: 1970-01-01T00:00:01.000Z\nCount: 1\n", [b"2"]),
            ("After: 99\n", []),
        ):
            self.assertEqual(self.read(f"HISTORY ALL\n{headers}\n")[0], texts, headers)

    def test_each_message_of_an_answer_says_all_about_itself(self) -> None:
        self.alice.say("HISTORY ALL\nId: 9\nCount: 1\n\n")
        self.commit()
        self.assertEqual(
            self.alice.transport.take(),
            b"MESSAGE alice\nId: 9\nTo: ALL\nMessage: 5\nTime: 1970-01-01T00:00:04.000Z\n"
            b"Content-length: 9\n\nnumber 5\nHISTORY ALL\nId: 9\nCount: 1\nMore: yes\n\n",
        )

    def test_search_finds_words(self) -> None:
        texts, end = self.read("SEARCH\nId: 9\nContent-length: 8\n\nnumber 3")
        self.assertEqual((texts, end), ([b"3"], b"SEARCH\nId: 9\nCount: 1\n\n"))
        self.assertEqual(self.read("SEARCH ALL\nContent-length: 4\n\n(AND")[0], [])

    def test_all_that_there_is_is_counted_if_requested(self) -> None:
        for request, end in (
            ("HISTORY ALL\nTotal: yes\nCount: 1\nBefore: 3\n\n", "Count: 1\nTotal: 5\nMore: yes\n"),
            ("HISTORY bob\nTotal: yes\n\n", "Count: 0\nTotal: 0\n"),
            (
                "HISTORY ALL\nTotal: yes\nSince: 1970-01-01T00:00:03Z\n\n",
                "Count: 2\nTotal: 2\n",
            ),
            ("HISTORY ALL\nTotal: no\nCount: 5\n\n", "Count: 5\n"),
            (
                "SEARCH\nTotal: yes\nCount: 2\nSkip: 1\nContent-length: 6\n\nnumber",
                "Count: 2\nTotal: 5\nMore: yes\n",
            ),
        ):
            found = self.read(request)[1].decode().partition("\n")[2]
            self.assertEqual(found, f"{end}\n", request)

    def test_a_search_goes_on_selects_an_author_and_times(self) -> None:
        self.bob.say("SEND ALL\nContent-length: 9\n\nnumber 6\n")
        self.commit()
        self.alice.transport.clear()
        body = "Content-length: 6\n\nnumber"
        for headers, texts, end in (
            ("Count: 2\n", [b"6", b"5"], "Count: 2\nMore: yes\n"),
            ("Count: 2\nSkip: 4\n", [b"2", b"1"], "Count: 2\n"),
            ("Skip: 1000\n", [], "Count: 0\n"),
            ("From: BOB\n", [b"6"], "Count: 1\n"),
            ("From: alice\nCount: 1\n", [b"5"], "Count: 1\nMore: yes\n"),
            ("From: carol\n", [], "Count: 0\n"),
            (
                "Since: 1970-01-01T00:00:01Z\nUntil: 1970-01-01T00:00:02Z\n",
                [b"3", b"2"],
                "Count: 2\n",
            ),
        ):
            self.assertEqual(
                self.read(f"SEARCH ALL\n{headers}{body}"),
                (texts, f"SEARCH ALL\n{end}\n".encode()),
                headers,
            )

    def test_wrong_bounds_are_refused(self) -> None:
        for number, request in enumerate(
            ("HISTORY ALL\nAfter: x\n\n", "HISTORY ALL\nSince: now\n\n", "SEARCH\n\n")
        ):
            client = self.user(f"u{number}")
            self.assertEqual(client.say(request), b"ERROR 103 Header Incomplete\n\n")
        self.bob.transport.clear()
        answer = self.bob.say("SEARCH\nContent-length: 501\n\n" + "x" * 501)
        self.assertEqual(answer[:9], b"ERROR 111")

    def test_requests_behind_a_history_wait_for_it(self) -> None:
        self.alice.say("HISTORY ALL\nCount: 1\n\nPING 1\n\nQUIT\n\n")
        self.commit()
        self.assertTrue(self.alice.transport.take().endswith(b"PONG 1\n\nBYE\n\n"))

    def test_an_unreadable_archive_is_error_112(self) -> None:
        self.store.unreadable = OSError("gone")
        self.alice.say("HISTORY ALL\nId: 1\n\nPING\n\n")
        self.commit()
        self.assertEqual(
            self.alice.transport.take(),
            b"ERROR 112 Unavailable\nId: 1\nRetry-after: 5\n\nPONG\n\n",
        )

    def test_a_search_that_took_too_long_is_refused_in_words_and_a_history_for_now(self) -> None:
        self.store.unreadable = TookTooLong(retry_after=5)
        self.alice.say("SEARCH\nId: 1\nContent-length: 2\n\na*HISTORY ALL\nId: 2\n\n")
        self.commit()
        answers = self.alice.transport.take().decode().split("\n\n")
        self.assertEqual(
            answers,
            [
                "ERROR 112 Unavailable\nId: 1\nReason: the search is too broad, take longer or "
                "rarer words",
                "ERROR 112 Unavailable\nId: 2\nRetry-after: 5",
                "",
            ],
        )


class TooFastTests(DoorTestCase):
    limits = OFF._replace(messages=Rate(1, 3))

    def test_each_request_but_a_confirmation_counts_as_a_message(self) -> None:
        alice = self.user("alice")
        for _ in range(9):
            alice.ask("RECEIVED x\nMessage: 0\n\n")
        for _ in range(3):
            self.assertTrue(alice.ask("STATUS here\n\n").startswith(b"STATUS"))
        refusal = b"ERROR 109 Too fast\nId: 4\nRetry-after: 1\n\n"
        self.assertEqual(alice.ask("WHO\nId: 4\n\n"), refusal)
        self.assertEqual(alice.ask("PING\n\n"), b"PONG\n\n")


class PresenceTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.user("alice"), self.user("bob")
        self.alice.say("WHO\nWatch: yes\n\n")

    def presence(self, client: Client | None = None) -> bytes:
        """What a session that watches is told, when it is time."""
        self.commit()
        self.clock.advance(TELL_AFTER)
        return (client or self.alice).transport.take()

    def test_a_client_that_asks_to_watch_is_answered_as_without(self) -> None:
        self.assertEqual(
            self.bob.say("WHO\nId: 1\nWatch: YES\n\n"),
            b"WHO\nId: 1\nCount: 2\nContent-length: 10\n\nalice\nbob\n",
        )
        self.user("carol")
        self.assertEqual(self.presence(self.bob), b"PRESENCE\nContent-length: 11\n\ncarol here\n")

    def test_changes_within_half_a_second_are_told_together(self) -> None:
        self.user("Carol").gone()
        self.bob.say("STATUS away\nContent-length: 5\n\nlunch")
        self.user("dave")
        self.clock.advance(TELL_AFTER - 0.1)
        self.assertEqual(self.alice.transport.take(), b"")
        self.assertEqual(
            self.presence(),
            b"PRESENCE\nContent-length: 36\n\nCarol gone\nbob away lunch\ndave here\n",
        )
        self.assertEqual(self.presence(), b"")

    def test_a_status_is_answered_and_told_and_listed(self) -> None:
        for request, answer, told, listed in (
            ("away\nId: 1\n\n", b"away\nId: 1\n\n", b"bob away\n", b"bob away\n"),
            (
                "away\nContent-length: 10\n\n at lunch\n",
                b"away\n\n",
                b"bob away at lunch\n",
                b"bob away at lunch\n",
            ),
            ("away\nContent-length: 0\n\n", b"away\n\n", b"bob away\n", b"bob away\n"),
            ("here\nId: 2\n\n", b"here\nId: 2\n\n", b"bob here\n", b"bob\n"),
        ):
            self.assertEqual(self.bob.ask(f"STATUS {request}"), b"STATUS " + answer)
            body = b"PRESENCE\nContent-length: %d\n\n%s" % (len(told), told)
            self.assertEqual(self.presence(), body)
            self.assertTrue(self.alice.ask("WHO\n\n").endswith(b"\n\nalice\n" + listed))

    def test_why_is_text_of_any_script(self) -> None:
        why = "é" * 200
        answer = self.bob.ask(f"STATUS away\nContent-length: 400\n\n{why}")
        self.assertEqual(answer, b"STATUS away\n\n")
        self.assertIn(f"bob away {why}\n".encode(), self.presence())

    def test_a_reason_that_is_no_line_is_error_111_and_changes_nothing(self) -> None:
        for why in ("x" * 201, "a\nb", "a\r\nbob here", "a\x85b"):
            length = len(why.encode())
            answer = self.bob.ask(f"STATUS away\nId: 1\nContent-length: {length}\n\n{why}")
            self.assertEqual(answer, b"ERROR 111 Not permitted\nId: 1\n\n")
        self.assertEqual(self.presence(), b"")
        self.assertTrue(self.alice.ask("WHO\n\n").endswith(b"\n\nalice\nbob\n"))
        self.assertFalse(self.bob.closed)

    def test_an_unknown_status_is_error_104(self) -> None:
        for status in ("gone", "AWAY", ""):
            answer = self.bob.say(f"STATUS {status}\nId: 1\n\n")
            self.assertEqual(answer, b"ERROR 104 Unknown command\nId: 1\n\n")
        self.assertFalse(self.bob.closed)

    def test_members_of_a_room_are_listed_with_why_they_are_away(self) -> None:
        for client in (self.alice, self.bob):
            client.ask("JOIN #dev\n\n")
            self.commit()
        self.bob.ask("STATUS away\nContent-length: 5\n\nlunch")
        self.alice.transport.clear()
        body = b"\n\nalice\nbob away lunch\n"
        self.assertTrue(self.alice.ask("WHO #dev\n\n").endswith(body))
        self.bob.gone()
        self.commit()  # a guest who may come back; the away text is not sent with GONE
        self.assertTrue(self.alice.ask("WHO #dev\n\n").endswith(b"\n\nalice\nbob away\n"))

    def test_watching_stops_when_it_is_said(self) -> None:
        self.alice.say("WHO\nWatch: no\n\n")
        self.bob.gone()
        self.assertEqual(self.presence(), b"")

    def test_a_plain_list_request_does_not_stop_it(self) -> None:
        self.alice.ask("WHO\n\n")
        self.bob.gone()
        self.assertEqual(self.presence(), b"PRESENCE\nContent-length: 9\n\nbob gone\n")

    def test_watching_stops_with_the_session(self) -> None:
        carol, answer = self.register("carol")
        token = re.search(rb"Session: (\S+)", answer)[1].decode()
        carol.say("WHO\nWatch: yes\n\n")
        carol.gone()
        self.presence()
        again, _ = self.register("carol", f"Session: {token}")
        self.bob.gone()
        self.assertEqual((self.presence(carol), self.presence(again)), (b"", b""))
        self.assertIn(b"bob gone\n", self.alice.transport.take())

    def test_a_notice_is_written_in_bodies_that_every_client_takes(self) -> None:
        self.patch(encoding, "MAX_BODY", 30)
        for name in ("carol", "dave", "erin"):
            self.user(name)
        self.assertEqual(
            self.presence(),
            b"PRESENCE\nContent-length: 21\n\ncarol here\ndave here\n"
            b"PRESENCE\nContent-length: 10\n\nerin here\n",
        )


class IdentityTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.user("alice")

    def identity(self, name: str) -> str:
        """Return the identity in the line of a user's name."""
        answer = self.alice.ask("WHO\nIdentities: yes\n\n").decode()
        found = re.search(rf"^{name}!(\S*)$", answer, re.MULTILINE)
        assert found is not None, answer
        return found[1]

    def presence(self, client: Client | None = None) -> str:
        self.commit()
        self.clock.advance(TELL_AFTER)
        return (client or self.alice).transport.take().decode().partition("\n\n")[2]

    def test_a_guest_has_one_and_an_account_has_none(self) -> None:
        self.user("bob").ask("ACCOUNT register\nContent-length: 1\n\nx")
        self.assertRegex(self.identity("alice"), r"^[A-Za-z0-9_-]{6}$")
        self.assertEqual(self.identity("bob"), "")

    def test_it_is_that_of_the_guest_for_as_long_as_they_are_kept(self) -> None:
        bob, answer = self.register("bob")
        token = re.search(rb"Session: (\S+)", answer)[1].decode()
        first = self.identity("bob")
        bob.gone()
        self.commit()
        again, _ = self.register("bob", f"Session: {token}")
        self.assertEqual(self.identity("bob"), first)
        again.ask("RENAME bobby\n\n")
        self.assertEqual(self.identity("bobby"), first)
        again.ask("RENAME bob\n\n")
        again.ask("QUIT\n\n")
        self.user("bob")
        self.assertNotEqual(self.identity("bob"), first)

    def test_it_is_not_the_number_of_the_user(self) -> None:
        number = self.hub.state.names["alice"].id
        self.assertNotIn(self.identity("alice"), (str(number), f"{number:x}"))

    def test_it_is_between_the_name_and_where_the_user_is(self) -> None:
        self.alice.ask("JOIN #dev\n\n")
        self.alice.ask("STATUS away\nContent-length: 5\n\nlunch")
        who = self.alice.ask("WHO #dev\nRanks: yes\nIdentities: yes\n\n").decode()
        self.assertRegex(who, r"\n\n@alice!\S{6} away lunch\n$")
        self.assertIn(
            "\n\n@alice away lunch\n", self.alice.ask("WHO #dev\nRanks: yes\n\n").decode()
        )

    def test_who_watches_with_identities_is_notified_with_them_and_others_without(self) -> None:
        carol, erin = self.user("carol"), self.user("erin")
        self.alice.ask("WHO\nWatch: yes\nIdentities: yes\n\n")
        for plain in (carol, erin):
            plain.ask("WHO\nWatch: yes\n\n")
        encoded: list[bool] = []
        encode_presence = version2.encode_presence

        def counted(seen: Sequence[Presence], *, identities: bool) -> bytes:
            encoded.append(identities)
            return encode_presence(seen, identities=identities)

        self.patch(version2, "encode_presence", counted)
        bob = self.user("bob")
        told = self.presence()
        self.assertEqual(told, f"bob!{self.identity('bob')} here\n")
        self.assertEqual(self.presence(carol), "bob here\n")
        self.assertEqual(self.presence(erin), "bob here\n")
        self.assertEqual(encoded, [False, True])  # once for all who watch in the same way
        bob.ask("QUIT\n\n")
        self.assertEqual(self.presence(), told.replace("here", "gone"))
        self.alice.ask("WHO\nWatch: yes\n\n")
        self.user("bob")
        self.assertEqual(self.presence(), "bob here\n")

    def test_a_guest_who_makes_an_account_is_news_to_those_who_see_identities(self) -> None:
        bob, carol = self.user("bob"), self.user("carol")
        self.alice.ask("WHO\nWatch: yes\nIdentities: yes\n\n")
        carol.ask("WHO\nWatch: yes\n\n")
        guest = self.identity("bob")
        bob.ask("ACCOUNT register\nContent-length: 1\n\nx")
        self.assertEqual((self.presence(), self.presence(carol)), ("bob! here\n", ""))
        bob.ask("ACCOUNT unregister\n\n")
        self.assertEqual((self.presence(), self.presence(carol)), (f"bob!{guest} here\n", ""))
        bob.ask("STATUS away\n\n")
        bob.ask("ACCOUNT register\nContent-length: 1\n\nx")
        self.assertEqual((self.presence(), self.presence(carol)), ("bob! away\n", "bob away\n"))


class RefusedWatchTests(DoorTestCase):
    def test_a_client_whose_request_is_refused_does_not_watch(self) -> None:
        alice = self.user("alice")
        self.assertIn(b"ERROR 110", alice.say("WHO #nosuch\nWatch: yes\n\n"))
        self.user("bob")
        self.clock.advance(1)
        self.assertEqual(alice.transport.take(), b"")


class BodiesTests(TestCase):
    def test_lines_are_split_where_a_body_would_be_over_the_limit_in_bytes(self) -> None:
        line = "é" * 16383 + "x\n"  # 32768 bytes: two of them are the limit
        for count, lines in ((0, []), (1, [1]), (2, [2]), (3, [2, 1]), (5, [2, 2, 1])):
            self.assertEqual(list(bodies([line] * count)), [line * n for n in lines])
        self.assertEqual(list(bodies([line, line, "\n"])), [line * 2, "\n"])

    def test_nothing_is_lost_and_the_order_stays(self) -> None:
        lines = [f"user{i} here\n" for i in range(20_000)]
        found = list(bodies(lines))
        self.assertEqual("".join(found), "".join(lines))
        self.assertTrue(all(len(body) <= 65536 for body in found))
        self.assertEqual(len(found), -(-sum(map(len, lines)) // 65536))
