"""The connection: who may say what when, bounds, silence, closing, stopping."""

from __future__ import annotations

import base64
import re
from itertools import count, cycle

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from chat_twisted.core.commands import Start
from chat_twisted.core.limits import OFF, Limiter, Limits, Rate
from chat_twisted.doors import describe, framed, stream, streams
from chat_twisted.doors.framed import FramedFactory
from chat_twisted.doors.sockets import HELD_BY_SYSTEM
from tests.door import Client, DoorTestCase, RecordingPoller
from tests.store import turn

ids = count(100)


def send(to: str, text: str, id: object = None) -> bytes:
    body = text.encode()
    id = next(ids) if id is None else id
    return f"SEND {to}\nId: {id}\nContent-length: {len(body)}\n\n".encode() + body


class GrammarTests(DoorTestCase):
    def test_a_frame_against_the_grammar_is_error_103_and_closes_whenever_it_comes(self) -> None:
        for start in ("", "REGISTER u1\n\n"):
            for wrong in (
                b"\n",
                b"X\nno colon\n\n",
                b"SEND bob\nContent-length: -1\n\n",
                b"SEND bob\nContent-length: x\n\n",
                b"SEND bob\nContent-length: 1\nContent-length: 1\n\nx",
                b"SEND bob\nContent-length: 2\n\n\xff\xfe",
                b"SEND bob\nContent-length: 1\n\n\0",
                b"\xff\n\n",
                b"PING\nId: " + b"x" * 65 + b"\n\n",
                b"x" * 514,
                b"x" * 100_000,
                b"X\n" + b"a: b\n" * 5000,
            ):
                client = self.connect()
                client.say(start)
                self.commit()
                client.transport.clear()
                answer = client.say(wrong)
                self.assertEqual(answer, b"ERROR 103 Header Incomplete\n\n", wrong[:50])
                self.assertTrue(client.closed)
                client.gone()

    def test_a_body_over_the_limit_is_thrown_away_and_its_request_refused_in_its_turn(self) -> None:
        self.user("bob")
        alice = self.user("alice")
        alice.say(send("bob", "first", 1) + b"SEND bob\nContent-length: 16777216\nId: 2\n\n")
        self.commit()
        self.assertIn(b"SENT bob\nId: 1\n", alice.transport.take())
        for _ in range(255):
            self.assertEqual(alice.say(b"\xff" * 65536), b"")
        reader = alice.protocol._reader
        self.assertLess(len(reader._body) + len(reader._data), 70_000)
        self.assertEqual(
            alice.say(b"\0" * 65536 + send("bob", "last", 4) + b"PING x\n\n"),
            b"ERROR 108 Message too long\nId: 2\n\n",
        )
        self.commit()
        answers = alice.transport.take()
        self.assertRegex(answers, rb"\ASENT bob\nId: 4\n")
        self.assertTrue(answers.endswith(b"PONG x\n\n"))

    def test_a_body_that_is_not_worth_reading_is_error_108_and_closes(self) -> None:
        alice = self.user("alice")
        answer = alice.say(b"SEND bob\nContent-length: 16777217\nId: 2\n\n")
        self.assertEqual(answer, b"ERROR 108 Message too long\nId: 2\n\n")
        self.assertTrue(alice.closed)

    def test_a_body_over_the_limit_does_not_make_a_registration(self) -> None:
        client = self.connect()
        long = b"Content-length: 65537\n\n" + b"x" * 65537
        self.assertIn(b"ERROR 108", client.say(b"REGISTER alice\n" + long))
        self.assertFalse(client.closed)
        self.assertEqual(client.say(b"PING\n" + long), b"ERROR 101 No user registered\n\n")
        self.assertTrue(client.closed)

    def test_a_refused_frame_is_answered_with_its_id_wherever_that_stands(self) -> None:
        for wrong in (
            b"SEND bob\nId: 7\nno colon\n\n",
            b"SEND bob\nno colon\nId: 7\n\n",
            b"SEND bob\nx: \0\nId: 7\n\n",
            b"SEND bob\nContent-length: x\nId: 7\n\n",
            b"SEND bob\nContent-length: 1\nContent-length: 1\nId: 7\n\n",
            b"SEND bob\nContent-length: 1\nId: 7\n\n\xff",
            b"SEND bob\nContent-length: 1\nId: 7\n\n\0",
            b"SEND bob\nId: 7\n\n",
            b"SEND bob\nId: 7\na: " + b"x" * 4096,
        ):
            client = self.user(f"alice{len(self.hub.state.users)}")
            answer = client.ask(wrong)
            self.assertEqual(answer, b"ERROR 103 Header Incomplete\nId: 7\n\n", wrong[:50])
            self.assertTrue(client.closed)
            client.say(b"QUIT\n\n")

    def test_input_after_an_error_that_closes_is_ignored(self) -> None:
        bob = self.user("bob")
        alice = self.user("alice")
        wrong = b"SEND bob\nContent-length: x\n\n" + send("bob", "hello") * 300
        self.assertEqual(alice.say(wrong), b"ERROR 103 Header Incomplete\n\n")
        self.assertEqual(alice.say(send("bob", "hello")), b"")
        self.commit()
        self.assertEqual(bob.transport.take(), b"")

    def test_frames_split_at_every_byte_are_the_same_frames(self) -> None:
        bob = self.user("bob")
        alice = self.connect()
        data = b"REGISTER alice\n\n" + send("bob", "é漢字😀", 7) + b"PING x\n\n"
        for i in range(len(data)):
            alice.protocol.dataReceived(data[i : i + 1])
        self.commit()
        answer = alice.transport.take()
        self.assertIn(b"\n\nPONG x\n\n", answer)
        self.assertIn(b"SENT bob\nId: 7\n", answer)
        self.assertTrue(bob.transport.take().endswith("\n\né漢字😀".encode()))

    @given(
        st.lists(st.sampled_from([1, 100, 5000, 9000, 60000]), max_size=6),
        st.lists(st.sampled_from([100, 1000, 8192, 20000, 65536]), min_size=1, max_size=9),
    )
    def test_frames_split_anywhere_are_the_same_frames(
        self, lengths: list[int], sizes: list[int]
    ) -> None:
        bodies = [chr(ord("a") + i) * length for i, length in enumerate(lengths)]
        client = self.connect()
        taken: list[str | None] = []
        self.patch(client.protocol, "_take", lambda frame: taken.append(frame.body))
        data = b"".join(send("bob", body) for body in bodies)
        for size in cycle(sizes):
            if not data:
                break
            client.protocol.dataReceived(data[:size])
            data = data[size:]
        self.assertTrue(taken == bodies)
        client.gone()

    def test_ten_thousand_frames_in_one_write_are_all_processed_in_order(self) -> None:
        bob = self.user("bob")
        alice = self.user("alice")
        alice.protocol.dataReceived(b"".join(send("bob", f"n{i}.", i) for i in range(10_000)))
        self.commit()
        self.assertEqual(alice.transport.take().count(b"SENT bob\n"), 10_000)
        got = bob.transport.take()
        self.assertEqual(got.count(b"FORWARD alice\n"), 10_000)
        self.assertLess(got.index(b"n4999."), got.index(b"n5000."))

    def test_the_log_contains_no_texts_of_messages(self) -> None:
        self.user("bob")
        alice = self.user("alice")
        alice.say(send("bob", "secret") + send("secret", "x") + b"SECRET\n\n")
        alice.say(b"secret: secret\nsecret\n\n")
        self.commit()
        self.assertEqual(len(self.logged), 6)
        self.assertNotIn("secret", " ".join(self.logged).lower())


class RefusalTests(DoorTestCase):
    def test_refusals_are_logged_with_the_peer_and_the_reason_but_not_without_end(self) -> None:
        client = self.user("alice")
        for _ in range(50):
            client.say("FOO\n\n")
        refusals = [line for line in self.logged if "refused" in line]
        line = "refused 127.0.0.1:50000: ERROR 104 Unknown command (UnknownCommand)"
        self.assertEqual(refusals, [line] * 10)
        self.factory.stop("The server is stopping")
        self.assertIn(f"40 more lines about 127.0.0.1, the last: {line}", self.logged)

    def test_a_user_who_comes_and_goes_all_the_time_does_not_fill_the_log(self) -> None:
        for _ in range(2000):
            client = self.connect()
            client.say("REGISTER TOSEND alice\n\n")
            client.gone()
        self.assertLess(len(self.logged), 1010)

    def test_an_error_carries_the_id_of_the_request(self) -> None:
        client = self.user("alice")
        self.assertEqual(client.say("FOO\nId: 9\n\n"), b"ERROR 104 Unknown command\nId: 9\n\n")

    def test_earlier_requests_are_answered_before_an_error(self) -> None:
        self.user("bob")
        for number, (wrong, code, closes) in enumerate(
            (
                ("FOO\nId: 9\n\n", 104, False),
                ("JOIN dev\nId: 9\n\n", 110, False),
                ("SEND nobody\nId: 9\nContent-length: 1\n\nx", 102, False),
                ("SEND bob\nId: 9\n\n", 103, True),
                ("SEND bob\nId: 9\nContent-length: x\n\n", 103, True),
                ("SEND bob\nId: 9\nContent-length: 99999999\n\n", 108, True),
            )
        ):
            client = self.user(f"alice{number}")
            sends = b"".join(send("bob", "x", id) for id in "12")
            answer = client.ask(sends + wrong.encode() + b"PING\nId: 10\n\n")
            ids = re.findall(r"Id: (\d+)", answer.decode())
            self.assertEqual([id for id in ids if id != "10"], ["1", "2", "9"])
            self.assertEqual("10" in ids, not closes)  # the server is there, whatever waits
            self.assertIn(f"ERROR {code}", answer.decode())
            self.assertEqual(client.closed, closes)


class BackpressureTests(DoorTestCase):
    """Of a connection that writes straight to its socket."""

    def fill(self, client: Client) -> None:
        """Let the connection find that the peer does not read."""
        if client.transport.room:
            client.transport.room = 0
            client.protocol.write(b"PONG full\n\n")
            client.protocol.stream.flush()

    def read(self, client: Client) -> bytes:
        """Let the peer read all there is, and nothing of what comes then; return what it was."""
        return client.transport.drain(room=1)

    def test_a_peer_that_does_not_read_is_not_read(self) -> None:
        alice = self.user("alice")
        self.fill(alice)
        self.assertEqual(alice.transport.producerState, "paused")
        self.assertEqual(alice.say("PING x\n\n"), b"")
        got = alice.transport.drain()
        self.assertEqual(alice.transport.producerState, "producing")
        self.commit()
        self.assertEqual(got + alice.transport.take(), b"PONG full\n\nPONG x\n\n")

    def test_a_peer_that_does_not_read_is_cut_off_past_the_bound_and_nobody_else(self) -> None:
        self.factory.streams.max_unread = 10_000
        alice, bob, carol = self.user("alice"), self.user("bob"), self.user("carol")
        self.fill(bob)
        for _ in range(9):
            alice.say(send("ALL", "x" * 1000))
        self.commit()
        self.assertFalse(bob.aborted)
        alice.say(send("ALL", "x" * 1000))
        self.commit()
        self.assertTrue(bob.aborted)
        self.assertIn("bob went from 127.0.0.1:50000: does not read", self.logged)
        self.assertEqual(self.names(), ["alice", "carol"])
        self.assertEqual(carol.transport.take().count(b"FORWARD alice"), 10)
        bob.gone()

    def test_bytes_held_by_the_system_and_the_transport_count_as_unread(self) -> None:
        held = HELD_BY_SYSTEM + stream.GATHER
        for unread, waits in ((8 * 2**20, 8 * 2**20 - held), (held, 0), (1000, 0)):
            factory = FramedFactory(self.hub, self.gate, self.clock, max_unread=unread)
            self.assertEqual(factory.streams.max_unread, waits)

    def test_output_waiting_for_a_connection_that_is_lost_or_cut_off_is_not_written(self) -> None:
        for end in (Client.gone, lambda client: client.protocol.abort("why")):
            bob = self.user("bob")
            self.fill(bob)
            bob.protocol.write(b"PONG x\n\n")
            end(bob)
            self.assertNotIn(b"PONG x", bob.transport.drain())
            self.commit()
            self.clock.advance(601)
            self.commit()

    def test_only_output_that_still_waits_counts_however_slowly_it_is_read(self) -> None:
        self.factory.streams.max_unread = 5_000
        alice, bob = self.user("alice"), self.user("bob")
        got = b""
        for i in range(50):
            self.fill(bob)
            alice.say(send("bob", f"n{i}." + "x" * 1000))
            self.commit()
            if i % 3 == 2:
                got += bob.transport.drain()
        self.assertFalse(bob.aborted)
        got += bob.transport.drain()
        self.assertEqual(re.findall(rb"n(\d+)\.", got), [b"%d" % i for i in range(50)])

    def test_waiting_output_is_written_no_faster_than_the_peer_reads(self) -> None:
        alice, bob = self.user("alice"), self.user("bob")
        self.fill(bob)
        for i in range(3):
            alice.say(send("bob", f"n{i}."))
            self.commit()
        self.assertEqual(bob.transport.take(), b"")
        got = b""
        for i in range(5):
            got += self.read(bob)
            self.assertLessEqual(len(re.findall(rb"n\d", got)), i + 1)
        self.assertEqual(re.findall(rb"n\d", got), [b"n0", b"n1", b"n2"])

    def test_output_of_a_commit_waits_for_the_commit_under_way_and_no_longer(self) -> None:
        bob = self.user("bob")
        for more in (True, True):  # the second time it was waited once already
            bob.protocol.write(b"x")
            self.factory.streams.flush(more=more)
            self.clock.advance(0)
        self.assertEqual(bob.transport.take(), b"xx")
        bob.protocol.write(b"y")
        self.factory.streams.flush(more=True)
        bob.protocol.write(b"z")
        self.factory.streams.flush(more=False)
        self.assertEqual(bob.transport.take(), b"yz")

    def test_output_of_a_commit_does_not_wait_for_a_slow_disk(self) -> None:
        alice, bob = self.user("alice"), self.user("bob")
        self.store.seconds = 0.5
        alice.say(send("bob", "one"))
        self.clock.advance(0)
        alice.say(send("bob", "two"))
        self.clock.advance(0.5)
        self.assertEqual(bob.transport.take(), b"")
        self.clock.advance(streams.FLUSH_WITHIN)
        self.assertIn(b"one", bob.transport.take())

    def test_messages_sent_at_once_are_not_all_written_at_once(self) -> None:
        """For what waits for a peer, and is too much, is counted by what was written."""
        alice, bob = self.user("alice"), self.user("bob")
        written: list[int] = []
        self.patch(bob.protocol, "write", lambda data: written.append(len(data)))
        for _ in range(5):
            alice.say(send("bob", "x" * 40_000))
        self.commit()
        self.assertEqual([size // 40_000 for size in written], [2, 2, 1])

    def test_the_last_words_come_after_the_waiting_output(self) -> None:
        alice, bob = self.user("alice"), self.user("bob")
        self.fill(bob)
        alice.say(send("bob", "first"))
        self.commit()
        bob.protocol.bye("last")
        self.assertRegex(bob.transport.drain(), rb"(?s)first.*BYE last")

    def test_an_unregistered_client_that_does_not_read_is_not_read(self) -> None:
        self.user("alice")
        unregistered = self.connect()
        unregistered.say("REGISTER alice\n\n")
        self.check_not_read(unregistered, "PING x\n\n")

    def check_not_read(self, client: Client, request: str) -> None:
        self.fill(client)
        self.assertEqual(client.say(request), b"")
        self.assertEqual(client.transport.producerState, "paused")

    def test_a_client_of_version_1_that_does_not_read_is_not_read(self) -> None:
        self.check_not_read(self.original("bob")[0], "SEND x\nContent-length: 1\n\nx")


class EncryptedBackpressureTests(BackpressureTests):
    """The same with TLS, which Twisted reads."""

    encrypted = True


class BoundTests(DoorTestCase):
    def test_the_bound_is_megabytes(self) -> None:
        self.assertEqual(Limits().unread, 8 * 1024 * 1024)


class CrowdTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.user("alice")

    def flood(self, requests: str) -> tuple[bytes, int]:
        """Ask for many things at once; return the answers, and how many turns those took."""
        answers, turns = self.client.say(requests), 1
        while self.client.protocol.has_unread and not self.client.closed:
            turn(self.clock)
            answers += self.client.transport.take()
            turns += 1
        turn(self.clock)
        return answers + self.client.transport.take(), turns

    def test_a_flood_of_requests_is_taken_in_turns_and_not_read_further_meanwhile(self) -> None:
        for verb, answer in (("PING", b"PONG"), ("NOTHING", b"ERROR 104")):
            requests = "".join(f"{verb} {i}\nId: {i}\n\n" for i in range(5 * framed.AT_ONCE))
            first = self.client.say(requests)
            self.assertEqual(first.count(answer), framed.AT_ONCE)
            self.assertEqual(self.client.transport.producerState, "paused")
            answers, turns = self.flood("")
            self.assertGreaterEqual(turns, 5)
            self.assertEqual(self.client.transport.producerState, "producing")
            ids = [f"Id: {i}\n".encode() for i in range(5 * framed.AT_ONCE)]
            answers = first + answers
            self.assertEqual(sorted(ids, key=answers.index), ids)

    def test_a_waiting_connection_goes_on_when_its_request_is_answered(self) -> None:
        self.client.say("JOIN #dev\n\n" + "PING\n\n" * 500 + "JOIN #dev\n\nPING last\n\n")
        for _ in range(20):
            turn(self.clock)
        self.assertTrue(self.client.transport.take().endswith(b"PONG last\n\n"))

    def test_kept_input_of_a_connection_that_is_gone_is_dropped(self) -> None:
        for leave in (Client.gone, lambda client: client.protocol.close("test")):
            client = self.connect()
            client.say("REGISTER bob\n\n")
            self.commit()
            client.say("PING\n\n" * 500)
            leave(client)
            turn(self.clock)
            self.assertTrue(client.protocol.closed)

    def test_requests_before_the_end_are_answered(self) -> None:
        answers = self.client.say("PING\n\n" * 500)
        self.client.protocol.readConnectionLost()
        self.assertFalse(self.client.closed)
        answers += self.flood("")[0]
        self.assertEqual(answers.count(b"PONG"), 500)
        turn(self.clock)
        self.assertTrue(self.client.closed)


class SilenceTests(DoorTestCase):
    def test_a_connection_that_does_not_register_within_an_interval_is_closed(self) -> None:
        silent, drip = self.connect(), self.connect()
        for _ in range(4):
            self.assertFalse(silent.closed or drip.closed)
            drip.say("X")
            self.clock.advance(15)
        self.assertTrue(silent.closed)
        self.assertTrue(drip.closed)

    def test_a_silent_client_is_asked_after_one_interval_and_closed_after_two(self) -> None:
        client = self.user("alice")
        self.clock.pump([15] * 4)
        self.assertEqual(client.transport.take(), b"")
        self.clock.advance(15)
        self.assertEqual(client.transport.take(), b"PING idle\n\n")
        self.clock.pump([15] * 4)
        self.assertTrue(client.closed)
        self.assertEqual(client.transport.take(), b"BYE Silent for too long\n\n")
        self.assertEqual(self.names(), [])

    def test_a_frame_that_comes_byte_by_byte_is_no_sign_of_life(self) -> None:
        client = self.user("alice")
        client.say("SEND bob\nContent-length: 1000\n\n")
        for _ in range(9):
            self.assertFalse(client.closed)
            client.say("x")
            self.clock.advance(15)
        self.assertTrue(client.closed)
        self.assertIn("Silent for too long", self.logged[-1])

    def test_a_first_connection_of_version_1_without_a_second_is_closed(self) -> None:
        first = self.connect()
        first.say("REGISTER TOSEND alice\n\n")
        self.clock.pump([15] * 5)
        self.assertTrue(first.closed)
        self.connect().say("REGISTER TOSEND alice\n\n")

    def test_any_byte_is_a_sign_of_life(self) -> None:
        client = self.user("alice")
        for _ in range(10):
            self.clock.pump([15] * 5)
            client.say("PONG idle\n\n")
        self.assertFalse(client.closed)


class ClosingTests(DoorTestCase):
    def test_a_refused_peer_is_read_on_for_a_while_so_that_it_sees_why(self) -> None:
        client = self.connect()
        client.say("FOO\n\n")
        self.assertTrue(client.transport.half_closed)
        self.assertFalse(client.transport.disconnecting)
        self.assertEqual(client.say(b"x" * 1_000_000), b"")
        self.clock.advance(stream.LINGER)
        self.assertTrue(client.aborted)

    def test_a_peer_that_goes_by_itself_is_not_cut_off(self) -> None:
        client = self.connect()
        client.say("FOO\n\n")
        client.gone()
        self.clock.advance(stream.LINGER)
        self.assertFalse(client.aborted)

    def test_nothing_is_left_when_all_have_gone(self) -> None:
        clients = [self.user("alice"), *self.original("bob"), self.connect()]
        clients[0].ask(send("bob", "x"))
        clients[1].say("SEND alice\nContent-length: 1\n\nx")
        self.commit()
        for client in clients:
            client.gone()
        self.assertEqual(self.factory.streams.open, set())
        self.assertEqual(self.names(), [])
        self.assertEqual(self.factory.version_1.half_open, {})
        self.clock.advance(self.grace)
        self.clock.pump([1] * 5)
        self.assertEqual(len(self.clock.getDelayedCalls()), 3, "idle, due and old things")


class LeavingTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.user("alice"), self.user("bob")

    def test_quit_waits_for_the_answers_to_earlier_requests(self) -> None:
        self.assertEqual(self.alice.say(send("bob", "x", 7) + b"QUIT\nId: 8\n\n"), b"")
        self.assertFalse(self.alice.closed)
        self.commit()
        self.assertRegex(
            self.alice.transport.take(), rb"\ASENT bob\nId: 7\n[^Q]*\n\nBYE\nId: 8\n\n\Z"
        )
        self.assertTrue(self.alice.closed)
        self.assertIn(b"FORWARD alice", self.bob.transport.take())

    def test_input_after_quit_is_ignored(self) -> None:
        self.alice.say(send("bob", "x", 7) + b"QUIT\n\n" + send("bob", "y"))
        self.commit()
        self.commit()
        self.assertEqual(self.bob.transport.take().count(b"FORWARD"), 1)

    def test_a_peer_that_only_stops_writing_still_gets_the_answers(self) -> None:
        self.alice.say(send("bob", "x"))
        self.alice.protocol.readConnectionLost()
        self.assertFalse(self.alice.closed)
        self.commit()
        self.assertIn(b"SENT bob", self.alice.transport.take())
        self.assertTrue(self.alice.closed)

    def test_a_peer_that_closes_is_gone_at_once_and_in_any_state(self) -> None:
        for client in (self.alice, self.connect(), *self.original("carol")):
            client.protocol.readConnectionLost()
            self.assertTrue(client.transport.disconnecting)
        self.assertEqual(self.names(), ["bob"])

    def test_a_refused_peer_that_closes_is_let_go(self) -> None:
        self.alice.say("\n")
        self.assertFalse(self.alice.transport.disconnecting)
        self.alice.protocol.readConnectionLost()
        self.assertTrue(self.alice.transport.disconnecting)


class ReentrancyTests(DoorTestCase):
    max_clients = 300

    def test_a_long_chain_of_sessions_that_end_one_another_ends(self) -> None:
        """Each waits for the next, and has a bad frame behind its SEND."""
        people = [self.original(f"u{i}") for i in range(300)]
        for i in range(299):
            text = f"SEND u{i + 1}\nContent-length: 2\n\nhiBAD\n\n"
            people[i][0].say(text)
        self.commit()
        people[299][1].gone()
        self.clock.pump([0] * 310)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class StoppingTests(DoorTestCase):
    def test_everybody_hears_bye_and_the_server_waits_for_them_to_go(self) -> None:
        alice = self.user("alice")
        bob = self.original("bob")
        new = self.connect()
        gone = self.factory.stop("The server is stopping")
        self.assertEqual(alice.transport.take(), b"BYE The server is stopping\n\n")
        self.assertEqual([c.transport.take() for c in (*bob, new)], [b"", b"", b""])
        for client in (alice, *bob, new):
            self.assertTrue(client.transport.disconnecting)
            self.assertNoResult(gone)
            client.gone()
        self.successResultOf(gone)
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))

    def test_a_peer_that_does_not_take_the_bye_is_cut_off_within_a_second(self) -> None:
        alice = self.user("alice")
        gone = self.factory.stop("The server is stopping")
        self.clock.advance(0.6)
        self.assertTrue(alice.aborted)
        alice.gone()
        self.successResultOf(gone)

    def test_a_server_without_clients_stops_at_once(self) -> None:
        self.successResultOf(self.factory.stop("The server is stopping"))


class DroppingTests(DoorTestCase):
    REASON = "This server can't reach the others"

    def test_everybody_hears_the_reason_and_may_come_back(self) -> None:
        alice = self.user("alice")
        bob = self.original("bob")
        self.factory.drop_all(self.REASON)
        self.assertEqual(alice.transport.take(), f"BYE {self.REASON}\n\n".encode())
        self.assertEqual([c.transport.take() for c in bob], [b"", b""])
        for client in (alice, *bob):
            self.assertTrue(client.transport.disconnecting)
            client.gone()
        self.assertEqual(self.names(), [])
        self.original("bob")
        self.user("carol")
        self.assertEqual(self.names(), ["bob", "carol"])

    def test_the_names_of_guests_are_held(self) -> None:
        _, answer = self.register("alice")
        [token] = [line[9:] for line in answer.decode().split("\n") if line.startswith("Session: ")]
        self.factory.drop_all(self.REASON)
        self.commit()
        self.assertIn("alice", self.hub.state.names)
        _, refused = self.register("alice")
        self.assertTrue(refused.startswith(b"ERROR 105"), refused)
        self.user("alice", f"Session: {token}")

    def test_connections_that_come_after_a_drop_are_not_cut_off(self) -> None:
        alice = self.user("alice")
        self.factory.drop_all(self.REASON)
        self.clock.advance(0.4)
        bob = self.user("bob")
        self.clock.advance(0.2)
        self.assertEqual((alice.aborted, bob.aborted, bob.closed), (True, False, False))

    def test_sessions_that_other_nodes_have_ended_are_closed_on_all_connections(self) -> None:
        alice, bob = self.user("alice"), self.original("bob")
        self.hub.ask(Start(0, self.hub.state.options, 0))
        self.commit()
        self.assertEqual([c.aborted or c.closed for c in (alice, *bob)], [True] * 3)
        self.assertEqual(self.hub.logins.count, 0)
        for client in (alice, *bob):
            client.gone()
        self.original("bob")
        self.assertEqual(self.names(), ["bob"])

    def test_a_door_without_clients_does_nothing(self) -> None:
        before = list(self.clock.getDelayedCalls())
        self.factory.drop_all(self.REASON)
        self.assertEqual((self.clock.getDelayedCalls(), self.logged), (before, []))

    def test_a_server_that_stops_afterwards_waits_for_all(self) -> None:
        alice = self.user("alice")
        self.factory.drop_all(self.REASON)
        bob = self.user("bob")
        gone = self.factory.stop("The server is stopping")
        alice.gone()
        self.assertNoResult(gone)
        bob.gone()
        self.successResultOf(gone)
        self.clock.advance(1)


class TransportTests(DoorTestCase):
    def test_small_frames_are_not_held_back(self) -> None:
        self.assertTrue(self.connect().transport.no_delay)

    def test_a_peer_is_named_for_the_log(self) -> None:
        for address, name in (
            (IPv4Address("TCP", "10.0.0.1", 5), "10.0.0.1:5"),
            (IPv6Address("TCP", "::1", 5), "[::1]:5"),
            (UNIXAddress(b"/run/x"), "unix:/run/x"),
            (UNIXAddress(None), "a local socket"),
        ):
            self.assertEqual(describe(address), name)


class PolledTests(BackpressureTests):
    """Of connections that a poller reads, the same and when it does not."""

    def setUp(self) -> None:
        super().setUp()
        self.poller = RecordingPoller()
        self.factory.streams.poller = self.poller  # type: ignore[assignment]

    def is_polled(self, client: Client) -> bool:
        found = self.poller.reading.get(id(client.transport))
        if found is not None:
            self.assertIs(found[0], client.transport)
            self.assertEqual(client.transport.producerState, "paused", "the reactor reads it too")
        return found is not None

    def test_a_peer_that_does_not_read_is_not_read(self) -> None:
        alice = self.user("alice")
        self.assertTrue(self.is_polled(alice))
        self.fill(alice)
        self.assertFalse(self.is_polled(alice))
        self.assertEqual(alice.transport.producerState, "paused")
        self.assertEqual(alice.say("PING x\n\n"), b"")
        got = alice.transport.drain()
        self.assertTrue(self.is_polled(alice))
        self.commit()
        self.assertEqual(got + alice.transport.take(), b"PONG full\n\nPONG x\n\n")

    def test_a_connection_that_awaits_an_answer_is_not_read(self) -> None:
        alice = self.user("alice")
        alice.say("JOIN #lab\n\n")
        self.assertFalse(self.is_polled(alice))
        self.assertEqual(alice.transport.producerState, "paused")
        self.commit()
        self.assertTrue(self.is_polled(alice))

    def test_a_connection_that_is_being_closed_is_read_by_the_reactor(self) -> None:
        client = self.connect()
        self.assertTrue(self.is_polled(client))
        client.say("FOO\n\n")
        self.assertTrue(client.closed)
        self.assertFalse(self.is_polled(client))
        self.assertEqual(client.transport.producerState, "producing")

    def test_a_connection_that_is_cut_off_is_not_read(self) -> None:
        alice = self.user("alice")
        alice.protocol.abort("for a test")
        self.assertFalse(self.is_polled(alice))

    def test_a_connection_that_is_gone_is_not_read(self) -> None:
        alice = self.user("alice")
        alice.gone()
        self.assertFalse(self.is_polled(alice))

    def test_of_the_original_client_both_connections_are_read(self) -> None:
        first, second = self.original("bob")
        self.assertTrue(self.is_polled(first))
        self.assertTrue(self.is_polled(second))

    def test_a_connection_whose_peer_sends_nothing_more_belongs_to_the_reactor(self) -> None:
        alice, _ = self.user("alice"), self.user("bob")
        alice.say(send("bob", "x"))
        alice.protocol.hold()
        self.poller.reading.clear()  # the poller has found the end
        alice.protocol.readConnectionLost()
        alice.protocol.go_on()
        self.assertFalse(self.is_polled(alice))
        self.commit()
        self.assertIn(b"SENT", alice.transport.take())
        self.assertTrue(alice.closed)


class EncryptedPolledTests(PolledTests):
    """The same with TLS, which the poller reads."""

    encrypted = True


PRIVATE = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
KEY = PRIVATE.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


class AuthenticationTests(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.user("Alice")
        body = "right"
        self.alice.say(f"ACCOUNT register\nKey: {KEY}\nContent-length: 5\n\n{body}")
        self.commit()
        self.assertEqual(self.alice.transport.take(), b"ACCOUNT register\n\n")
        self.client = self.connect()

    def ask(self, name: str = "alice", client: Client | None = None) -> bytes:
        """Ask for the name; return the challenge."""
        client = client or self.client
        answer = client.ask(f"REGISTER {name}\nId: 1\n\n").decode()
        start, id, methods, challenge, *_ = answer.split("\n")
        self.assertEqual((start, id), ("ERROR 106 Authentication required", "Id: 1"))
        self.assertEqual(methods, "Methods: publickey password")
        return base64.b64decode(challenge.removeprefix("Challenge: "), validate=True)

    def proof(self, challenge: bytes, name: str = "alice", binding: bytes = b"") -> str:
        data = b"chat_twisted auth v2\0" + challenge + name.encode() + binding
        signature = base64.b64encode(PRIVATE.sign(data)).decode()
        return f"AUTH publickey\nId: 2\nKey: {KEY}\nSignature: {signature}\n\n"

    def password(self, password: str, client: Client | None = None) -> bytes:
        client = client or self.client
        size = len(password.encode())
        request = f"AUTH password\nContent-length: {size}\n\n{password}"
        client.protocol.dataReceived(request.encode())
        self.clock.advance(1)
        self.clock.advance(0)
        return client.transport.take()

    def test_a_key_and_a_password_let_in(self) -> None:
        challenge = self.ask()
        self.assertEqual(len(challenge), 32)
        answer = self.client.ask(self.proof(challenge))  # which has the Id of the proof
        self.assertTrue(answer.startswith(b"REGISTERED Alice\nId: 2\n"))
        other = self.connect()
        self.ask("ALICE", other)
        self.assertTrue(self.password("right", other).startswith(b"REGISTERED Alice\n"))
        self.assertEqual(self.names(), ["Alice"])
        other.ask("SEND ALICE\nContent-length: 1\n\nx")
        self.commit()
        self.assertIn(b"FORWARD Alice\nTo: Alice\n", self.client.transport.take())

    def test_a_challenge_is_good_on_its_connection_alone_and_until_the_next(self) -> None:
        first = self.proof(self.ask())
        other = self.connect()
        self.ask(client=other)
        self.assertEqual(other.ask(first), b"")
        self.clock.advance(1)
        self.assertEqual(other.transport.take(), b"ERROR 107 Authentication failed\nId: 2\n\n")
        self.ask()
        self.client.ask(first)
        self.clock.advance(1)
        self.assertIn(b"ERROR 107", self.client.transport.take())

    def test_a_signature_for_another_server_or_name_is_worthless(self) -> None:
        for number, proof in enumerate(
            (
                lambda challenge: self.proof(challenge, binding=b"r" * 32),
                lambda challenge: self.proof(challenge, "bob"),
                lambda challenge: "AUTH publickey\n\n",
                lambda challenge: f"AUTH publickey\nKey: {KEY[:40]}\nSignature: AAAA\n\n",
                lambda challenge: f"AUTH publickey\nKey: {KEY}\nSignature: !!!\n\n",
            )
        ):
            client = self.connect(f"127.0.0.{number + 2}")
            client.ask(proof(self.ask(client=client)))
            self.clock.advance(1)
            self.assertIn(b"ERROR 107 Authentication failed\n", client.transport.take())

    def test_the_third_failure_closes(self) -> None:
        self.ask()
        for closed in (False, False, True):
            self.assertEqual(self.password("wrong"), b"ERROR 107 Authentication failed\n\n")
            self.assertEqual(self.client.closed, closed)

    def test_a_proof_that_nobody_asked_for_is_refused(self) -> None:
        self.assertIn(b"ERROR 101", self.client.say(self.proof(b"c" * 32)))
        self.assertTrue(self.client.closed)
        client = self.user("bob")
        self.assertEqual(client.say(self.proof(b"c" * 32)), b"ERROR 111 Not permitted\nId: 2\n\n")
        self.assertFalse(client.closed)

    def test_another_name_may_be_asked_for_instead(self) -> None:
        self.ask()
        self.client.say("REGISTER bob\n\n")
        self.commit()
        self.assertIn(b"REGISTERED bob\n", self.client.transport.take())

    def test_after_a_fault_in_between_the_proof_is_for_nothing(self) -> None:
        challenge = self.ask()
        self.client.ask("REGISTER b@d\n\n")
        self.assertTrue(self.client.closed)
        self.assertEqual(self.client.ask(self.proof(challenge)), b"")

    def test_a_peer_that_goes_while_the_password_is_verified_leaves_nothing(self) -> None:
        self.ask()
        self.client.ask("AUTH password\nContent-length: 1\n\nx")
        self.client.gone()
        self.clock.advance(2)
        self.assertEqual(len(self.factory.streams.open), 1)

    def test_input_behind_a_proof_waits_for_its_answer(self) -> None:
        self.alice.gone()
        challenge = self.ask()
        self.client.protocol.dataReceived((self.proof(challenge) + "WHO\nId: 3\n\n").encode())
        self.commit()
        answer = self.client.transport.take()
        self.assertLess(answer.index(b"REGISTERED"), answer.index(b"WHO\nId: 3"))

    def test_a_password_is_taken_from_where_nobody_can_listen(self) -> None:
        far = Client(self.factory, "192.0.2.1")
        self.assertIn(b"Methods: publickey\n", far.ask("REGISTER alice\n\n"))
        self.assertEqual(self.password("right", far), b"ERROR 113 Encryption required\n\n")
        self.assertTrue(far.closed)
        far = Client(self.factory, "192.0.2.1")
        far.ask("REGISTER bob\n\n")
        self.commit()
        far.transport.take()
        self.assertIn(b"ERROR 113", far.ask("ACCOUNT register\nContent-length: 1\n\nx"))

    def test_a_version_1_client_can_not_have_the_name(self) -> None:
        self.alice.gone()
        for word in ("TOSEND", "TORECV"):
            client = self.connect()
            self.assertEqual(
                client.ask(f"REGISTER {word} alice\n\n"), b"ERROR 101 No user registered\n\n"
            )

    def test_a_session_token_lets_in_without_a_proof(self) -> None:
        self.alice.gone()
        challenge = self.ask()
        answer = self.client.ask(self.proof(challenge)).decode()
        token = re.search("Session: (.*)", answer)[1]
        _, again = self.register("alice", f"Session: {token}")
        self.assertIn(b"REGISTERED Alice\n", again)
        self.client.ask("ACCOUNT password\nContent-length: 1\n\nx")
        self.commit()
        _, answer = self.register("alice", f"Session: {token}")
        self.assertIn(b"REGISTERED", answer)  # it is that of who asked for it


class NoGuestsTests(DoorTestCase):
    guests = False

    def test_without_guests_nobody_sees_which_names_have_an_account(self) -> None:
        client = self.connect()
        self.assertIn(b"ERROR 106 ", client.ask("REGISTER bob\n\n"))
        client.ask("AUTH password\nContent-length: 1\n\nx")
        self.clock.advance(1)
        self.clock.advance(0)
        self.assertEqual(client.transport.take(), b"ERROR 107 Authentication failed\n\n")
        client = self.connect()
        self.assertIn(b"ERROR 101 ", client.ask("REGISTER TOSEND bob\n\n"))


class MuchAtOnceTests(DoorTestCase):
    def test_requests_of_one_turn_stop_when_their_answers_are_not_read(self) -> None:
        for i in range(99):
            self.user(f"{i:032}")
        alice = self.user("alice")
        alice.transport.room = 100_000
        got = alice.say("WHO\n\n" * 1000)
        self.assertLess(len(alice.transport.pending), 100_000)
        self.assertEqual(alice.transport.producerState, "paused")
        while alice.transport.pending:
            got += alice.transport.drain(100_000)
            self.commit()
        self.assertEqual((got + alice.transport.take()).count(b"WHO\nCount: 100\n"), 1000)

    def test_a_large_list_counts_by_its_number_of_entries(self) -> None:
        limiter = Limiter(OFF._replace(octets=Rate(1, 100)))
        alice = self.user("alice")
        alice.protocol.session.allowance = limiter.session("192.0.2.1", self.clock.seconds())
        for i in range(9):
            self.user(f"{i:032}")
        alice.transport.clear()
        self.assertTrue(alice.say("WHO\n\n").startswith(b"WHO\n"))
        self.assertTrue(alice.say("WHO\n\n").startswith(b"ERROR 109 "))


class LostRegisteringTests(DoorTestCase):
    """A user leaves while the account that they asked for is being committed."""

    def ask(self, client: Client) -> None:
        client.protocol.dataReceived(f"ACCOUNT register\nId: 1\nKey: {KEY}\n\n".encode())

    def test_a_lost_connection_leaves_an_account_that_must_be_proven(self) -> None:
        for self.grace in (0, 600):
            self.setUp()
            alice = self.user("alice")
            self.ask(alice)
            alice.gone()
            self.commit()
            self.assertIsNotNone(self.hub.state.names["alice"].account)
            self.assertTrue(self.register("alice")[1].startswith(b"ERROR 106"))
