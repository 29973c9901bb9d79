"""Version 1: what the original client sends, sees and assumes, byte for byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chat_twisted.core.commands import ACTION, NOTICE, TEXT
from chat_twisted.core.limits import OFF, Rate
from chat_twisted.core.message import Message
from chat_twisted.core.sessions import DISCONNECTED, Dismissal
from chat_twisted.doors.version1 import make_forward, pieces
from chat_twisted.text import printable
from tests.door import Client, DoorTestCase

MALFORMED = b"ERROR 100 Malformed username\n\n"
NOT_REGISTERED = b"ERROR 101 No user registered\n\n"
UNABLE = b"ERROR 102 Unable to send\n\n"
INCOMPLETE = b"ERROR 103 Header Incomplete\n\n"


def send(to: str, text: str) -> str:
    return f"SEND {to}\nContent-length: {len(text)}\n\n{text}"


def forward(sender: str, text: str) -> bytes:
    return f"FORWARD {sender}\nContent-length: {len(text)}\n\n{text}".encode()


class RegistrationTests(DoorTestCase):
    def refused(self, first: str, answer: bytes, host: str = "127.0.0.1") -> None:
        client = self.connect(host)
        self.assertEqual(client.ask(first), answer)
        self.assertTrue(client.closed)

    def test_two_connections_are_answered_as_the_original_expects(self) -> None:
        self.original("alice")
        self.assertEqual(self.names(), ["alice"])
        self.assertEqual(self.logged, ["alice came from 127.0.0.1:50000, version 1"])

    def test_a_malformed_or_reserved_name_is_error_100_on_either_connection(self) -> None:
        for role in ("TOSEND", "TORECV"):
            for name in ("b@d", "", "ALL", "all", "a b", "x" * 33, "é"):
                self.refused(f"REGISTER {role} {name}\n\n", MALFORMED)
            self.refused(f"REGISTER {role}\n\n", MALFORMED)

    def test_anything_but_register_first_is_error_101(self) -> None:
        for first in (
            send("bob", "hello"),
            "RECEIVED bob\n\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "PING x\n\n",
            "QUIT\n\n",
            "register alice\n\n",
        ):
            self.refused(first, NOT_REGISTERED)

    def test_a_name_that_is_taken_is_error_101(self) -> None:
        self.original("alice")
        self.user("bob")
        for name in ("alice", "ALICE", "bob"):
            self.refused(f"REGISTER TOSEND {name}\n\n", NOT_REGISTERED)
            self.refused(f"REGISTER TORECV {name}\n\n", NOT_REGISTERED)

    def test_the_second_connection_is_taken_from_the_address_of_the_first_and_once(self) -> None:
        first = self.connect("10.0.0.1")
        first.ask("REGISTER TOSEND alice\n\n")
        self.refused("REGISTER TORECV alice\n\n", NOT_REGISTERED, "10.0.0.2")
        second = self.connect("10.0.0.1")
        self.assertEqual(second.ask("REGISTER TORECV alice\n\n"), b"REGISTERED TORECV alice\n\n")
        self.refused("REGISTER TORECV alice\n\n", NOT_REGISTERED, "10.0.0.1")
        self.assertEqual(self.names(), ["alice"])

    def test_a_second_connection_without_a_first_is_error_101(self) -> None:
        self.refused("REGISTER TORECV alice\n\n", NOT_REGISTERED)
        first = self.connect()
        first.say("REGISTER TOSEND alice\n\n")
        first.gone()
        self.refused("REGISTER TORECV alice\n\n", NOT_REGISTERED)

    def test_the_user_is_present_once_the_second_connection_is_registered(self) -> None:
        first = self.connect()
        first.ask("REGISTER TOSEND alice\n\n")
        self.assertEqual(self.names(), [])
        bob, _ = self.original("bob")
        self.assertEqual(bob.ask(send("alice", "x")), UNABLE)
        self.assertEqual(bob.ask(send("ALL", "x")), UNABLE)

    def test_losing_either_connection_closes_the_other_and_frees_the_name(self) -> None:
        for lost in (0, 1):
            pair = self.original("alice")
            pair[lost].gone()
            self.assertTrue(pair[1 - lost].closed)
            self.assertEqual(self.names(), [])
            pair[1 - lost].gone()

    def test_a_version_1_registration_after_a_version_2_one_is_refused(self) -> None:
        self.user("alice")
        client = self.connect()
        self.assertTrue(client.ask("REGISTER alice\n\n").startswith(b"ERROR 105"))
        self.assertEqual(client.ask("REGISTER TOSEND carol\n\n"), NOT_REGISTERED)


class FullTests(DoorTestCase):
    max_clients = 1

    def test_a_full_server_is_error_101_which_is_all_that_the_original_knows(self) -> None:
        self.original("alice")
        client = self.connect()
        self.assertEqual(client.say("REGISTER TOSEND bob\n\n"), NOT_REGISTERED)

    def test_a_client_dismissed_before_its_second_connection_leaves_nothing(self) -> None:
        first = self.connect()
        first.say("REGISTER TOSEND carol\n\n")
        session = first.protocol.session
        self.hub.logins.leave(session, for_good=True)
        session.dismissed(Dismissal(DISCONNECTED, "", ""))
        self.assertTrue(first.closed)
        second = self.connect()
        self.assertEqual(
            second.say("REGISTER TORECV carol\n\n"), b"ERROR 101 No user registered\n\n"
        )


class NameTests(DoorTestCase):
    def test_a_name_of_version_1_is_of_letters_and_digits(self) -> None:
        for name in ("a_b", "a-b", "_a", "ALL", "x" * 33):
            for word in ("TOSEND", "TORECV"):
                self.assertEqual(
                    self.connect().say(f"REGISTER {word} {name}\n\n"),
                    b"ERROR 100 Malformed username\n\n",
                )

    def test_it_talks_with_names_of_version_2(self) -> None:
        sending, receiving = self.original("alice")
        bob = self.user("Bob_the-2nd")
        sending.say("SEND bob_the-2nd\nContent-length: 1\n\nx")
        self.commit()
        bob.say("RECEIVED alice\nMessage: 1\n\n")
        self.commit()
        self.assertEqual(sending.transport.take(), b"SEND bob_the-2nd\n\n")
        bob.say("SEND alice\nContent-length: 1\n\ny")
        self.commit()
        self.assertEqual(receiving.transport.take(), b"FORWARD Bob_the-2nd\nContent-length: 1\n\ny")


class SendingTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.alice_in = self.original("alice")
        self.bob, self.bob_in = self.original("bob")

    def send(self, client: Client, to: str, text: str) -> bytes:
        answer = client.say(send(to, text))
        self.commit()
        return answer + client.transport.take()

    def test_the_sender_is_answered_when_the_recipient_has_answered(self) -> None:
        self.assertEqual(self.send(self.alice, "bob", "héllo"), b"")
        self.assertEqual(self.bob_in.transport.take(), forward("alice", "héllo"))
        self.bob_in.say("RECEIVED alice\n\n")
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"SEND bob\n\n")

    def test_the_answer_has_the_name_as_the_sender_wrote_it(self) -> None:
        self.send(self.alice, "BOB", "x")
        self.bob_in.say("RECEIVED alice\n\n")
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"SEND BOB\n\n")

    def test_a_user_who_is_not_there_is_error_102(self) -> None:
        for to in ("carol", "b@d", "bob ", "#dev", "alice"):
            self.assertEqual(self.alice.ask(send(to, "x")), UNABLE, to)
        self.assertFalse(self.alice.closed)

    def test_a_recipient_who_does_not_answer_in_10_seconds_is_error_102(self) -> None:
        self.send(self.alice, "bob", "x")
        self.clock.advance(9.9)
        self.assertEqual(self.alice.transport.take(), b"")
        self.clock.advance(0.2)
        self.assertEqual(self.alice.transport.take(), UNABLE)

    def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next(self) -> None:
        self.send(self.alice, "bob", "one")
        self.clock.advance(10)
        self.assertEqual(self.alice.transport.take(), UNABLE)
        self.send(self.alice, "bob", "two")
        self.bob_in.transport.clear()
        self.bob_in.say("RECEIVED alice\n\n")  # of the first
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"")
        self.bob_in.say("RECEIVED alice\n\n")
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"SEND bob\n\n")

    def test_a_recipient_who_goes_away_is_error_102(self) -> None:
        self.send(self.alice, "bob", "x")
        self.bob_in.gone()
        self.commit()
        self.assertEqual(self.alice.transport.take(), UNABLE)

    def test_a_recipient_who_can_not_read_it_is_error_102_and_can_read_the_next(self) -> None:
        self.send(self.alice, "bob", "x")
        self.bob_in.transport.clear()
        self.bob_in.say("ERROR 103 Header Incomplete\n\n")
        self.commit()
        self.assertEqual(self.alice.transport.take(), UNABLE)
        self.send(self.alice, "bob", "y")
        self.assertEqual(self.bob_in.transport.take(), forward("alice", "y"))

    def test_a_broadcast_is_answered_when_it_is_committed(self) -> None:
        self.assertEqual(self.alice.say(send("ALL", "x")), b"")
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"SEND ALL\n\n")
        self.assertEqual(self.bob_in.transport.take(), forward("alice", "x"))
        self.assertEqual(self.alice_in.transport.take(), b"")

    def test_a_broadcast_to_nobody_else_is_error_102(self) -> None:
        self.bob_in.gone()
        self.assertEqual(self.alice.ask(send("ALL", "x")), UNABLE)

    def test_pipelined_sends_are_answered_one_by_one_in_their_order(self) -> None:
        sends = [send("bob", "1"), send("nobody", "2"), send("ALL", "3"), send("bob", "4")]
        self.assertEqual(self.send(self.alice, "bob", "0"), b"")
        self.assertEqual(self.alice.say("".join(sends)), b"")
        answers = b""
        for _ in range(8):
            forwarded = self.bob_in.transport.take()
            while forwarded:
                forwarded = self.bob_in.say("RECEIVED alice\n\n")
            self.commit()
            answers += self.alice.transport.take()
        self.assertEqual(
            answers,
            b"SEND bob\n\nSEND bob\n\n" + UNABLE + b"SEND ALL\n\nSEND bob\n\n",
        )

    def test_the_next_forward_leaves_after_the_answer_to_the_one_before(self) -> None:
        carol = self.user("carol")
        for text in ("one", "two", "three"):
            carol.say(send("bob", text))
        self.commit()
        self.assertEqual(self.bob_in.transport.take(), forward("carol", "one"))
        self.assertEqual(self.bob_in.say("RECEIVED carol\n\n"), forward("carol", "two"))
        self.assertEqual(self.bob_in.say("RECEIVED carol\n\n"), forward("carol", "three"))
        self.assertEqual(self.bob_in.say("RECEIVED carol\n\n"), b"")

    def test_a_version_2_sender_hears_of_the_delivery_after_the_last_piece(self) -> None:
        carol = self.user("carol")
        carol.say("SEND bob\nId: 7\nContent-length: 3\n\na\nb")
        self.commit()
        self.commit()
        self.assertTrue(carol.transport.take().startswith(b"SENT bob\nId: 7\n"))
        self.bob_in.say("RECEIVED carol\n\n")
        self.commit()
        self.assertEqual(carol.transport.take(), b"")
        self.bob_in.say("RECEIVED carol\n\n")
        self.commit()
        self.assertEqual(carol.transport.take(), b"DELIVERED bob\nId: 7\nMessage: 1\n\n")

    def test_a_header_that_is_incomplete_or_wrong_is_error_103_and_closes_both(self) -> None:
        for number, wrong in enumerate(
            (
                "SEND carol\n\n",
                "SEND\nContent-length: 1\n\nx",
                "SEND carol\nContent-length: x\n\n",
                "SEND carol\nContent-length: 0\n\n",
                "SEND carol\nContent-length: -1\n\n",
                "SEND carol\nno colon\n\n",
                "RECEIVED carol\n\n",
                "WHO\n\n",
                "PING x\n\n",
                "\n",
            )
        ):
            sending, receiving = self.original(f"u{number}")
            self.assertEqual(sending.ask(wrong), INCOMPLETE, wrong)
            self.assertTrue(sending.closed)
            self.assertTrue(receiving.closed)
            self.assertNotIn(f"u{number}", self.names())

    def test_a_wrong_answer_to_a_forward_is_error_103_and_closes_both(self) -> None:
        for wrong in ("RECEIVED bob\n\n", "RECEIVED\n\n", "SEND alice\nContent-length: 1\n\nx"):
            sending, receiving = self.original("carol")
            self.send(self.alice, "carol", "x")
            receiving.transport.clear()
            self.assertEqual(receiving.say(wrong), INCOMPLETE)
            self.assertTrue(sending.closed)
            self.commit()
            self.assertEqual(self.alice.transport.take(), UNABLE)

    def test_an_answer_to_nothing_is_ignored(self) -> None:
        self.assertEqual(self.bob_in.say("RECEIVED alice\n\nERROR 103 Header Incomplete\n\n"), b"")
        self.assertFalse(self.bob_in.closed)

    def test_a_text_over_the_limit_is_error_102_and_the_client_goes_on(self) -> None:
        for text in ("x" * 65537, "é" * 65536):
            self.assertEqual(self.alice.say(f"SEND bob\nContent-length: {len(text)}\n\n"), b"")
            self.assertEqual(self.alice.say(text), UNABLE)
        self.send(self.alice, "bob", "hello")
        self.assertIn(b"FORWARD alice", self.bob_in.transport.take())

    def test_a_client_that_never_answers_is_cut_off_when_too_much_waits_for_it(self) -> None:
        self.factory.version_1.max_unread = 10 * (2 * 900 + 40)
        carol = self.user("carol")
        for _ in range(10):
            carol.say(send("bob", "x" * 900))
        self.commit()
        self.assertFalse(self.bob_in.aborted)
        carol.say(send("bob", "x" * 900))
        self.commit()
        self.assertTrue(self.bob_in.aborted)
        self.assertTrue(self.bob.closed)
        self.assertEqual(self.names(), ["alice", "carol"])

    def test_many_short_lines_do_not_count_for_more_than_their_text(self) -> None:
        carol = self.user("carol")
        for _ in range(20):
            carol.say(send("bob", "\n" * 65536))
        self.commit()
        self.assertFalse(self.bob_in.aborted)

    def test_a_client_with_an_unanswered_forward_is_silent_after_two_intervals(self) -> None:
        self.clock.pump([15] * 40)
        self.assertFalse(self.bob_in.closed, "a client that nobody talks to may be silent")
        self.send(self.alice, "bob", "x")
        self.clock.pump([15] * 8)
        self.assertFalse(self.bob_in.closed)
        self.clock.pump([15] * 2)
        self.assertTrue(self.bob_in.closed)

    def test_a_nul_is_sent_as_a_character_that_looks_like_it(self) -> None:
        for text in ("a\0b", "é\0", "\0"):
            self.assertEqual(self.send(self.alice, "bob", text), b"")
            self.assertEqual(
                self.bob_in.transport.take(), forward("alice", text.replace("\0", "␀"))
            )
            self.bob_in.say("RECEIVED alice\n\n")
            self.commit()
            self.assertEqual(self.alice.transport.take(), b"SEND bob\n\n")

    def test_a_text_over_the_limit_once_nul_is_replaced_is_error_102(self) -> None:
        self.assertEqual(self.send(self.alice, "bob", "\0" * 30_000), UNABLE)
        self.assertFalse(self.alice.closed)


class RateTests(DoorTestCase):
    limits = OFF._replace(messages=Rate(50, 500))

    def setUp(self) -> None:
        super().setUp()
        self.alice, _ = self.original("alice")
        _, self.bob_in = self.original("bob")

    def test_a_thousand_lines_at_once_all_arrive_within_the_rate(self) -> None:
        lines = [f"line {number}" for number in range(1000)]
        self.alice.protocol.dataReceived("".join(send("bob", line) for line in lines).encode())
        heard, answers = [], b""
        begun = self.clock.seconds()
        while len(heard) < len(lines):
            self.commit()
            while forwarded := self.bob_in.transport.take():
                heard.append(forwarded.decode().rpartition("\n")[2])
                self.bob_in.say("RECEIVED alice\n\n")
                self.commit()
            answers += self.alice.transport.take()
            self.clock.advance(0.25)
        self.assertEqual(heard, lines)
        self.assertEqual(answers, b"SEND bob\n\n" * len(lines))
        self.assertTrue(9 <= self.clock.seconds() - begun <= 21)

    def test_a_text_that_can_not_be_sent_when_its_time_has_come_is_error_102(self) -> None:
        self.alice.say(send("nobody", "x") * 501)
        self.alice.transport.take()
        for _ in range(500):
            self.commit()
        self.alice.transport.take()
        self.clock.advance(1)
        self.assertEqual(self.alice.transport.take(), UNABLE)

    def test_a_client_that_goes_while_a_text_waits_leaves_nothing_behind(self) -> None:
        self.alice.say(send("nobody", "x") * 501)
        self.commit()
        self.alice.gone()
        self.bob_in.gone()
        self.commit()
        self.clock.advance(30)
        self.assertEqual(self.names(), [])


class PiecesTests(DoorTestCase):
    def pieces(self, text: str, kind: int = TEXT) -> list[str]:
        """What the original client would print, having taken one recv(2048) a frame."""
        message = Message(1, 0, 7, "a" * 32, 0, 0, "ALL", text, kind=kind)
        shown = []
        for piece in pieces(message):
            self.assertLessEqual(len(piece), 2048)
            lines = piece.decode().split("\n")
            self.assertEqual(lines[0], "FORWARD " + "a" * 32)
            self.assertEqual(len(lines), 4)
            self.assertNotEqual(lines[3], "")
            self.assertEqual(int(lines[1].split(" ")[1]), len(lines[3]))
            shown.append(lines[3])
        forward = make_forward(message)
        self.assertEqual(forward.first, next(pieces(message)))
        self.assertEqual(forward.is_whole, len(shown) == 1)
        return shown

    def test_each_line_is_a_piece(self) -> None:
        self.assertEqual(self.pieces("a\nb\r\nc"), ["a", "b", "c"])

    def test_an_empty_line_becomes_a_blank_and_a_last_line_end_nothing(self) -> None:
        self.assertEqual(self.pieces("a\n\nb\n"), ["a", " ", "b"])
        self.assertEqual(self.pieces("\n"), [" "])

    def test_an_action_begins_with_a_star_and_a_notice_is_its_text(self) -> None:
        self.assertEqual(self.pieces("waves\nand smiles", ACTION), ["* waves", "and smiles"])
        self.assertEqual(self.pieces("built", NOTICE), ["built"])

    def test_control_characters_are_replaced(self) -> None:
        self.assertEqual(self.pieces("a\x1b[2Jb\tc"), ["a␛[2Jb\tc"])

    def test_the_formatting_of_irc_is_left_out(self) -> None:
        self.assertEqual(self.pieces("\x02bold\x02 \x0304red\x03\n\x0f\nx"), ["bold red", " ", "x"])

    @given(st.text(st.characters(exclude_categories=["Cs"])).filter(bool), st.integers(1, 700))
    def test_pieces_joined_are_the_text(self, text: str, times: int) -> None:
        line = printable(text * times)
        self.assertEqual("".join(self.pieces(line)), line)
