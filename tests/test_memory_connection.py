"""Connections within the process: bytes, backpressure and the end."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.memory_connection import BUFFER, End


class Recorder(Protocol):
    """Records what it is told."""

    def __init__(self) -> None:
        self.data = b""
        self.ends: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ends.append(reason)


class Producer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")


class EndTests(TestCase):
    def setUp(self) -> None:
        self.clock = clock = Clock()

        def soon(call: object) -> object:
            return clock.callLater(0, call)  # type: ignore[arg-type]

        self.here = End(soon, IPv4Address("TCP", "127.0.0.1", 1))
        self.there = End(soon, IPv4Address("TCP", "127.0.0.1", 2))
        self.a, self.b = Recorder(), Recorder()
        self.here.connect(self.there, self.a, self.b)

    def settle(self) -> None:
        while self.clock.getDelayedCalls():
            self.clock.advance(0)

    def test_bytes_arrive_in_a_later_turn_of_the_reactor(self) -> None:
        self.here.write(b"one")
        self.here.writeSequence([b" ", b"two"])
        self.assertEqual(self.b.data, b"")
        self.settle()
        self.assertEqual((self.a.data, self.b.data), (b"", b"one two"))

    def test_addresses(self) -> None:
        self.assertEqual(self.here.getPeer(), self.there.getHost())

    def test_a_paused_reader_gets_nothing_and_then_all(self) -> None:
        self.there.pauseProducing()
        self.here.write(b"one")
        self.here.loseConnection()
        self.settle()
        self.assertEqual((self.b.data, self.b.ends), (b"", []))
        self.there.resumeProducing()
        self.settle()
        self.assertEqual(self.b.data, b"one")
        self.assertTrue(self.b.ends[0].check(ConnectionDone))

    def test_a_producer_is_paused_while_much_is_unread(self) -> None:
        producer = Producer()
        self.here.registerProducer(producer, True)
        self.here.write(b"x" * BUFFER)
        self.assertEqual(producer.calls, [])
        self.here.write(b"x")
        self.assertEqual(producer.calls, ["pause"])
        self.settle()
        self.assertEqual(producer.calls, ["pause", "resume"])

    def test_a_producer_that_does_not_stream_is_asked_when_all_is_read(self) -> None:
        producer = Producer()
        self.there.pauseProducing()
        self.here.write(b"x")
        self.here.registerProducer(producer, False)
        self.settle()
        self.assertEqual(producer.calls, ["resume"])
        self.there.resumeProducing()
        self.settle()
        self.assertEqual(producer.calls, ["resume", "resume"])

    def test_no_more_is_sent_than_may_wait(self) -> None:
        self.there.pauseProducing()
        piece = b"x" * 1000
        while self.here.send(piece):
            pass
        self.there.resumeProducing()
        self.settle()
        self.assertTrue(BUFFER < len(self.b.data) <= BUFFER + 1000)
        self.assertEqual(self.here.send(piece), 1000)

    def test_an_abort_discards_what_is_unread_and_tells_both_ends_once(self) -> None:
        self.here.write(b"x")
        self.here.abortConnection()
        self.there.abortConnection()
        self.settle()
        self.assertEqual(self.b.data, b"")
        self.assertEqual((len(self.a.ends), len(self.b.ends)), (1, 1))
        self.assertTrue(self.b.ends[0].check(ConnectionLost))
        self.assertEqual(self.here.send(b"late"), 0)
        self.here.write(b"late")
        self.settle()
        self.assertEqual(self.b.data, b"")

    def test_after_the_end_nothing_is_kept_of_the_protocols(self) -> None:
        gone = [weakref.ref(recorder) for recorder in (self.a, self.b)]
        self.here.loseConnection()
        self.settle()
        for end in (self.here, self.there):
            end.resumeProducing()
            end.abortConnection()
        self.settle()
        self.assertEqual([len(self.a.ends), len(self.b.ends)], [1, 1])
        self.assertEqual(self.here.getPeer(), IPv4Address("TCP", "127.0.0.1", 2))
        gc.disable()
        self.addCleanup(gc.enable)
        del self.a, self.b
        self.assertEqual([ref() for ref in gone], [None, None])
