"""One connection's output and end with TLS, whatever its peer's TLS does meanwhile."""

from __future__ import annotations

import contextlib

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.doors import tls
from chat_twisted.doors.poller import SHARE
from chat_twisted.doors.stream import Stream
from chat_twisted.doors.streams import Streams
from tests.door import EncryptedTransport, RecordingPoller, Transport, server_tls
from tests.openssl import OpenSSLClient
from tests.store import turn

ADDRESS = IPv4Address("TCP", "192.0.2.1", 5)


class Talker:
    """A protocol that remembers what it was called with."""

    is_registered = True
    has_unread = False

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        self.got = b""
        self.ends: list[str] = []

    def makeConnection(self, transport: object) -> None:
        self.stream = Stream(self.streams, self, transport, "source")

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure) -> None:
        self.ends.append("lost")
        self.stream.lost()

    def resume(self) -> None:
        pass

    def is_silent(self, ticks: int) -> None:
        pass

    def close(self, why: str) -> None:
        self.ends.append(why)
        self.stream.close()

    def abort(self, why: str) -> None:
        self.ends.append(why)
        self.stream.abort()

    def stop(self, reason: str) -> None:
        self.stream.stop()


class TLSTestCase(TestCase):
    version: int | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.poller = RecordingPoller()
        self.streams = Streams(self.clock, poller=self.poller)  # type: ignore[arg-type]
        self.transport = EncryptedTransport(ADDRESS, self.version)
        self.talker = Talker(self.streams)

    def hand_over(self) -> None:
        self.transport.hand_over(self.talker)

    def give(self, data: bytes) -> None:
        """The poller finds ``data`` in the socket."""
        self.poller.reading[id(self.transport)][1](data)

    def is_polled(self) -> bool:
        return id(self.transport) in self.poller.reading

    def say(self, data: bytes) -> None:
        self.talker.stream.write(data)
        self.clock.advance(0)


class HandOverTests(TLSTestCase):
    def test_the_rest_of_the_handshake_of_twisted_is_written_first(self) -> None:
        sent: list[bytes] = []
        self.transport.room = 0
        self.transport.write(b"the end of the handshake")
        self.transport.room = 10**9
        self.hand_over()
        self.say(b"hello")
        self.patch(self.transport.io, "write", sent.append)
        self.transport.drain()
        self.assertTrue(b"".join(sent).startswith(b"the end of the handshake"))

    def test_pending_session_tickets_are_sent_before_output(self) -> None:
        server = server_tls().serverConnectionForTLS(None)
        server.set_accept_state()
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        client.set_connect_state()
        for one, other in ((client, server), (server, client), (client, server)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            other.bio_write(one.bio_read(2**16))
        server.do_handshake()
        sent = tls.encrypt(server, b"hello")
        self.assertGreater(len(sent), 200, "there are tickets in it")
        self.assertEqual(tls.decrypt(client, sent), (b"hello", None))
        self.assertEqual(tls.encrypt(server), b"")

    def test_output_after_the_first_goes_directly_to_the_socket(self) -> None:
        self.hand_over()
        self.say(b"one")
        self.patch(self.transport, "write", None)
        self.say(b"two")
        self.assertEqual(self.transport.take(), b"onetwo")

    def test_without_a_poller_the_transport_reads_and_writes(self) -> None:
        """Twisted writes to it as well, when what it reads takes an answer."""
        self.streams.poller = None
        self.hand_over()
        self.patch(self.transport, "send", None)
        for text in (b"one", b"two"):
            self.say(text)
        self.assertEqual(self.transport.take(), b"onetwo")


class ReadingTests(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hand_over()

    def test_a_record_that_is_split_is_taken_when_it_is_whole(self) -> None:
        data = self.transport.encrypt(b"hello")
        for i in range(len(data)):
            self.assertEqual(self.talker.got, b"")
            self.give(data[i : i + 1])
        self.assertEqual(self.talker.got, b"hello")

    def test_long_records_come_in_pieces_and_many_short_ones_at_once(self) -> None:
        text = b"".join(b"%06d" % i for i in range(20_000))
        data = self.transport.encrypt(text)
        for i in range(0, len(data), 8192):
            self.give(data[i : i + 8192])
        self.assertEqual(self.talker.got, text)
        self.give(b"".join(self.transport.encrypt(b"%03d" % i) for i in range(300)))
        self.assertEqual(self.talker.got, text + b"".join(b"%03d" % i for i in range(300)))

    def test_it_is_closed_when_the_peer_ends_tls_and_earlier_input_is_taken(self) -> None:
        data = self.transport.encrypt(b"last")
        self.transport.client.shutdown()
        self.give(data + self.transport.client.bio_read(1000))
        self.assertEqual(self.talker.got, b"last")
        self.assertEqual(self.talker.ends, ["closed"])
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.is_polled())
        self.transport.take()
        self.assertTrue(self.transport.half_closed, "the peer is told so, too")
        self.transport.server.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.talker.ends, ["closed", "lost"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stream_that_is_no_tls_is_answered_with_an_alert_and_closed(self) -> None:
        data = bytearray(self.transport.encrypt(b"hello"))
        data[-1] ^= 1
        self.give(bytes(data))
        self.assertEqual((self.talker.got, self.talker.ends), (b"", ["a fault in TLS"]))
        self.assertFalse(self.is_polled())
        self.transport.take()
        self.assertTrue(self.transport.half_closed)
        self.clock.advance(2)
        self.assertTrue(self.transport.aborting)

    def test_after_close_only_twisted_reads(self) -> None:
        self.talker.close("test")
        self.assertFalse(self.is_polled())
        self.assertEqual(self.transport.producerState, "producing")
        self.transport.take()
        self.transport.client.shutdown()
        self.transport.server.dataReceived(self.transport.client.bio_read(1000))
        self.assertTrue(self.transport.disconnecting)

    def test_when_the_server_stops_a_peer_that_ends_tls_is_not_waited_for(self) -> None:
        stopped = self.streams.stop("test")
        self.assertFalse(self.is_polled())
        self.assertEqual(self.transport.producerState, "producing")
        self.transport.take()
        self.assertFalse(self.transport.disconnecting)
        self.transport.client.shutdown()
        self.transport.server.dataReceived(self.transport.client.bio_read(1000))
        self.assertTrue(self.transport.disconnecting)
        self.transport.server.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_lost_connection_without_a_tls_close_ends_the_stream(self) -> None:
        self.poller.reading.clear()  # the poller has found it, and Twisted finds it, too
        self.transport.server.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.talker.ends, ["lost"])
        self.assertEqual(self.streams.open, set())


class WritingTests(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hand_over()
        self.say(b"0")
        self.transport.take()

    def test_output_that_the_socket_takes_in_part_comes_whole_and_in_order(self) -> None:
        texts = [b"%d" % i * 30_000 for i in range(5)]
        got = b""
        for room in (1, 100, 16_384, 0, 50_000):
            self.transport.room = room
            for text in texts:
                self.say(text)
            while self.transport.pending or len(got) % 150_000:
                got += self.transport.drain(5_000)
            self.assertEqual(got[-150_000:], b"".join(texts))
        self.assertEqual(len(got), 750_000)
        self.assertEqual(self.talker.ends, [])

    def test_output_waiting_for_a_slow_peer_is_written_before_it_is_closed(self) -> None:
        self.transport.room = 10
        for text in (b"one", b"two", b"three"):
            self.say(text)
        self.talker.close("test")
        self.assertEqual(self.transport.drain(), b"onetwothree")
        self.assertTrue(self.transport.half_closed)

    def test_a_connection_whose_tls_can_send_nothing_more_is_cut_off(self) -> None:
        self.transport.server.getHandle().shutdown()
        self.say(b"hello")
        self.assertEqual(self.talker.ends, ["a fault in TLS"])
        self.assertTrue(self.transport.aborting)


class TLS12Tests(ReadingTests):
    version = SSL.TLS1_2_VERSION

    def test_a_renegotiation_is_refused_and_the_connection_goes_on(self) -> None:
        client = self.transport.client
        client.renegotiate()
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        self.give(client.bio_read(2**16))
        self.assertEqual(self.talker.ends, [])
        refusal = self.transport.io.getvalue()
        self.assertEqual(refusal[0], 21, "an alert")

    def test_a_peer_that_does_not_read_refusals_of_renegotiation_is_not_read(self) -> None:
        self.say(b"0")
        self.transport.take()
        self.transport.room = 0
        client = self.transport.client
        client.renegotiate()
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        self.give(client.bio_read(2**16))
        self.assertFalse(self.is_polled())
        self.transport.drain()
        self.assertTrue(self.is_polled())


class KeyUpdateTests(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = OpenSSLClient()
        self.addCleanup(self.client.close)
        self.transport.shake_hands(self.client)
        self.hand_over()

    def take(self) -> bytes:
        self.client.give(self.transport.io.getvalue())
        self.transport.clear()
        return self.client.read()

    def test_key_updates_are_answered_and_no_data_is_lost(self) -> None:
        self.say(b"0")
        got = self.take()
        for i in range(1, 6):
            self.client.change_keys()
            self.client.write(b"%d" % i)
            self.give(self.client.take())
            self.say(b"%d" % i)
            got += self.take()
        self.assertEqual((self.talker.got, got), (b"12345", b"012345"))

    def test_many_key_updates_without_data_gather_no_output(self) -> None:
        self.say(b"0")
        self.take()
        for _ in range(100):
            self.client.change_keys()
            self.give(self.client.take())
        self.assertLess(len(tls.encrypt(self.transport.server.getHandle())), 100)
        self.say(b"1")
        self.assertEqual(self.take(), b"1")


class Busy(Talker):
    """A protocol that always has more input, and takes a whole share of a turn for a part of it."""

    has_unread = True
    turns = 0

    def __init__(self, streams: Streams, source: str) -> None:
        super().__init__(streams)
        self.stream = Stream(streams, self, Transport(peerAddress=ADDRESS), source)
        self.stream.rest()

    def resume(self) -> None:
        self.turns += 1
        self.streams.clock.rightNow += 2 * SHARE
        self.stream.rest()


class KeptInputTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.streams = Streams(self.clock)

    def test_sources_have_their_share_of_a_turn_and_their_streams_take_turns(self) -> None:
        many = [Busy(self.streams, "flood") for _ in range(3)]
        other = Busy(self.streams, "other")
        for number in range(1, 7):
            turn(self.clock)
            self.assertEqual(sum(busy.turns for busy in many), number)
            self.assertEqual(other.turns, number)
        self.assertEqual([busy.turns for busy in many], [2, 2, 2])

    def test_a_stream_that_is_closed_is_not_resumed_and_the_others_are(self) -> None:
        first, second = (Busy(self.streams, "source") for _ in range(2))
        first.stream.abort()
        turn(self.clock)
        self.assertEqual((first.turns, second.turns), (0, 1))

    def test_a_fault_ends_one_connection_only(self) -> None:
        first, second = (Busy(self.streams, "source") for _ in range(2))
        first.resume = lambda: 1 / 0  # type: ignore[method-assign,return-value]
        turn(self.clock)
        self.assertEqual(first.ends, ["a fault of the server"])
        self.assertEqual(second.turns, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
