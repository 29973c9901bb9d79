"""Version 2: one connection, requests with Ids, answers with them."""

from __future__ import annotations

import re

from chat_twisted.doors import framed
from tests.door import DoorTestCase

TIME = b"1970-01-01T00:00:00.000Z"


class RegistrationTests(DoorTestCase):
    def test_registered_tells_what_the_client_must_know(self) -> None:
        answer = self.connect().say("REGISTER alice\nVersion: 2\nId: 1\n\n")
        self.assertRegex(
            answer,
            rb"\AREGISTERED alice\nId: 1\nVersion: 2\nSession: [\w-]{22}\n"
            rb"Max-message: 65536\nLast: 0\n\n\Z",
        )

    def test_the_server_answers_with_the_highest_version_that_both_know(self) -> None:
        self.assertIn(b"\nVersion: 2\n", self.connect().say("REGISTER a\nVersion: 9\n\n"))
        self.assertIn(b"\nVersion: 2\n", self.connect().say("REGISTER b\n\n"))
        for wrong in ("x", "0", "-1", ""):
            client = self.connect()
            answer = client.say(f"REGISTER c\nVersion: {wrong}\n\n")
            self.assertEqual(answer, b"ERROR 103 Header Incomplete\n\n")

    def test_a_malformed_name_is_error_100_and_closes(self) -> None:
        for name in ("b@d", "all", "", "x" * 33, "a b"):
            client = self.connect()
            answer = client.say(f"REGISTER {name}\nId: 1\n\n")
            self.assertEqual(answer, b"ERROR 100 Malformed username\nId: 1\n\n")
            self.assertTrue(client.closed)

    def test_a_name_in_use_is_error_105_and_another_may_follow(self) -> None:
        self.user("alice")
        client = self.connect()
        self.assertEqual(client.say("REGISTER ALICE\n\n"), b"ERROR 105 Name in use\n\n")
        self.assertFalse(client.closed)
        self.assertEqual(client.say("PING x\n\n"), b"PONG x\n\n")
        self.assertIn(b"REGISTERED bob\n", client.say("REGISTER bob\n\n"))

    def test_anything_else_without_a_name_is_error_101_and_closes(self) -> None:
        self.user("alice")
        client = self.connect()
        client.say("REGISTER alice\n\n")
        self.assertEqual(client.say("WHO\nId: 3\n\n"), b"ERROR 101 No user registered\nId: 3\n\n")
        self.assertTrue(client.closed)

    def test_a_second_registration_is_error_111(self) -> None:
        client = self.user("alice")
        self.assertEqual(client.say("REGISTER bob\n\n"), b"ERROR 111 Not permitted\n\n")
        self.assertEqual(self.hub.who(), ["alice"])

    def test_the_session_token_lets_the_user_in_on_a_second_connection(self) -> None:
        first = self.connect()
        answer = first.say("REGISTER alice\n\n")
        token = re.search(rb"Session: (\S+)", answer)[1].decode()
        second = self.connect()
        self.assertIn(b"REGISTERED alice\n", second.say(f"REGISTER Alice\nSession: {token}\n\n"))
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
        self.assertIn(b"REGISTERED bob\n", client.say("REGISTER bob\n\n"))


class SmallMessagesTests(DoorTestCase):
    max_message = 10

    def test_the_limit_is_the_servers_own_and_is_told(self) -> None:
        alice = self.connect()
        self.assertIn(b"\nMax-message: 10\n", alice.say("REGISTER alice\n\n"))
        bob = self.user("bob")
        alice.say("SEND bob\nContent-length: 10\n\n0123456789")
        self.commit()
        self.assertTrue(bob.transport.take().endswith(b"0123456789"))
        answer = alice.say("SEND bob\nContent-length: 11\n\n")
        self.assertIn(b"ERROR 108 Message too long\n", answer)


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

    def test_pipelined_requests_are_answered_each_with_its_id(self) -> None:
        sends = "".join(f"SEND bob\nId: {id}\nContent-length: 1\n\nx" for id in "abc")
        answer = self.alice.say(sends + "SEND nobody\nId: d\nContent-length: 1\n\nxPING\nId: e\n\n")
        self.assertEqual(answer, b"ERROR 102 Unable to send\nId: d\n\nPONG\nId: e\n\n")
        self.commit()
        self.assertEqual(re.findall(rb"Id: (.)", self.alice.transport.take()), [b"a", b"b", b"c"])
        self.bob.say("RECEIVED alice\nMessage: 3\n\n")
        self.assertEqual(
            re.findall(rb"DELIVERED bob\nId: (.)\nMessage: (.)", self.alice.transport.take()),
            [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")],
        )

    def test_what_can_not_be_sent_is_refused_and_the_connection_goes_on(self) -> None:
        for to, answer in (
            ("carol", b"ERROR 102 Unable to send\nId: 1\n\n"),
            ("alice", b"ERROR 102 Unable to send\nId: 1\n\n"),
            ("b@d", b"ERROR 102 Unable to send\nId: 1\n\n"),
            ("#dev", b"ERROR 110 No such room\nId: 1\n\n"),
        ):
            self.assertEqual(self.alice.say(f"SEND {to}\nId: 1\nContent-length: 1\n\nx"), answer)
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
        self.patch(framed, "MAX_BODY", 10)
        self.user("Carol")
        self.assertEqual(
            self.alice.say("WHO\n\n"),
            b"WHO\nCount: 3\nMore: bob\nContent-length: 10\n\nalice\nbob\n",
        )
        self.assertEqual(
            self.alice.say("WHO\nAfter: bob\n\n"), b"WHO\nCount: 3\nContent-length: 6\n\nCarol\n"
        )

    def test_ping_is_answered_with_its_token(self) -> None:
        self.assertEqual(self.alice.say("PING a b\nId: 1\n\n"), b"PONG a b\nId: 1\n\n")

    def test_quit_is_answered_bye_and_closed(self) -> None:
        self.assertEqual(self.alice.say("QUIT\nId: 1\n\n"), b"BYE\nId: 1\n\n")
        self.assertTrue(self.alice.closed)
        self.assertEqual(self.hub.who(), ["bob"])
        self.assertEqual(self.bob.say("SEND alice\nContent-length: 1\n\nx")[:9], b"ERROR 102")

    def test_unknown_verbs_are_error_104_and_unknown_headers_are_ignored(self) -> None:
        self.assertEqual(self.alice.say("JOIN #dev\n\n"), b"ERROR 104 Unknown command\n\n")
        self.assertEqual(self.alice.say("PING x\nFoo: bar\n\n"), b"PONG x\n\n")

    def test_a_recipient_who_left_after_the_commitment_leaves_sent_as_it_is(self) -> None:
        self.alice.say("SEND bob\nId: 1\nContent-length: 1\n\nx")
        self.commit()
        self.alice.transport.clear()
        self.bob.gone()
        self.assertEqual(self.alice.transport.take(), b"")
