"""Many sockets are read as one, and what is not data is the reactor's to find."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable

from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.poller import RECEIVE, SHARE, Poller


@implementer(IReactorFDSet)
class Readers(Clock):
    """A reactor that remembers what it is to read."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[object] = set()

    def addReader(self, reader: object) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: object) -> None:
        raise NotImplementedError

    def removeWriter(self, writer: object) -> None:
        raise NotImplementedError

    def removeAll(self) -> None:
        raise NotImplementedError

    def getReaders(self) -> list[object]:
        return list(self.readers)

    def getWriters(self) -> list[object]:
        return []


class End:
    """A transport of one end of a connection; ``peer`` is the socket at the other."""

    def __init__(self, reactor: Readers, family: int = socket.AF_UNIX) -> None:
        if family == socket.AF_UNIX:
            self.socket, self.peer = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                self.peer = socket.create_connection(listening.getsockname())
                self.socket, _ = listening.accept()
        self.socket.setblocking(False)
        self.reactor = reactor
        self.aborted = False
        self.got: list[bytes] = []
        reactor.addReader(self)

    def fileno(self) -> int:
        return self.socket.fileno()

    def getHandle(self) -> socket.socket:
        return self.socket

    def resumeProducing(self) -> None:
        self.reactor.addReader(self)

    def abortConnection(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.socket.close()
        self.peer.close()


class PollerTest(TestCase):
    def setUp(self) -> None:
        self.reactor = Readers()
        self.clock = Clock()
        self.turn = EndOfTurn(self.clock)
        self.stolen = 0.0  # by other processes
        self.poller = Poller(
            self.reactor, self.turn, self.clock.seconds, lambda: self.clock.seconds() - self.stolen
        )

    def end(self, family: int = socket.AF_UNIX) -> End:
        end = End(self.reactor, family)
        self.addCleanup(end.close)
        return end

    def add(
        self, end: End, received: Callable[[bytes], None] | None = None, source: str = ""
    ) -> int:
        return self.poller.add(end, received or end.got.append, source)

    def test_all_that_have_something_are_read_in_one_call(self) -> None:
        ends = [self.end() for _ in range(5)]
        for end in ends:
            self.add(end)
        for i in (0, 2, 3):
            ends[i].peer.send(b"%d" % i)
        self.poller.doRead()
        self.assertEqual([end.got for end in ends], [[b"0"], [], [b"2"], [b"3"], []])

    def test_work_that_follows_from_all_sources_is_done_once_they_are_read(self) -> None:
        ends = [self.end() for _ in range(2)]
        done: list[list[list[bytes]]] = []

        def received(data: bytes) -> None:
            self.turn.commit(lambda: done.append([end.got for end in ends]))
            ends[0].got.append(data)

        self.add(ends[0], received)
        self.add(ends[1])
        for end in ends:
            end.peer.send(b"x")
        self.poller.doRead()
        self.assertEqual(done, [[[b"x"], [b"x"]]])

    def take_long(self, end: End) -> Callable[[bytes], None]:
        def received(data: bytes) -> None:
            end.got.append(data)
            self.clock.rightNow += 2 * SHARE

        return received

    def test_a_source_that_sends_much_keeps_no_other_waiting(self) -> None:
        flood, other = [self.end() for _ in range(3)], self.end()
        for end in flood:
            self.add(end, self.take_long(end), "flood")
        self.add(other, source="other")
        for end in (*flood, other):
            end.peer.send(b"x")
        self.poller.doRead()
        self.assertEqual([end.got for end in (*flood, other)], [[b"x"], [], [], [b"x"]])

    def test_connections_of_one_source_take_turns_and_more_gathers_meanwhile(self) -> None:
        flood = [self.end() for _ in range(3)]
        for end in flood:
            self.add(end, self.take_long(end), "flood")
        for _ in range(3):
            for end in flood:
                end.peer.send(b"x")
            self.poller.doRead()
        self.assertEqual([end.got for end in flood], [[b"x"], [b"xx"], [b"xxx"]])

    def test_time_that_other_processes_had_is_not_counted(self) -> None:
        ends = [self.end() for _ in range(3)]

        def have_it_stolen(data: bytes) -> None:
            self.take_long(ends[0])(data)
            self.stolen += 2 * SHARE

        self.add(ends[0], have_it_stolen)
        for end in ends[1:]:
            self.add(end, self.take_long(end))
        for end in ends:
            end.peer.send(b"x")
        self.poller.doRead()
        self.assertEqual([end.got for end in ends], [[b"x"], [b"x"], []])

    def test_a_source_that_waits_for_its_turn_can_be_removed(self) -> None:
        first, second, third = (self.end() for _ in range(3))
        self.add(first, self.take_long(first))
        for end in (second, third):
            known_as = self.add(end)
        for end in (first, second, third):
            end.peer.send(b"x")
        self.poller.doRead()
        self.poller.remove(known_as)
        self.poller.doRead()
        self.assertEqual((second.got, third.got), ([b"x"], []))

    def test_the_reactor_reads_it_while_it_has_any_and_none_of_them(self) -> None:
        one, other = self.end(), self.end()
        self.assertEqual(self.reactor.readers, {one, other})
        first = self.add(one)
        second = self.add(other)
        self.assertEqual(self.reactor.readers, {self.poller})
        self.poller.remove(first)
        self.assertEqual(self.reactor.readers, {self.poller})
        self.poller.remove(second)
        self.assertEqual(self.reactor.readers, set())

    def test_it_is_readable_when_a_socket_is(self) -> None:
        end = self.end()
        self.add(end)
        waiting = select.poll()
        waiting.register(self.poller.fileno(), select.POLLIN)
        self.assertEqual(waiting.poll(0), [])
        end.peer.send(b"x")
        self.assertEqual(waiting.poll(0), [(self.poller.fileno(), select.POLLIN)])

    def test_a_removed_source_is_not_read(self) -> None:
        end = self.end()
        known_as = self.add(end)
        end.peer.send(b"x")
        self.poller.remove(known_as)
        self.poller.doRead()
        self.assertEqual(end.got, [])
        self.assertEqual(end.socket.recv(10), b"x")
        self.poller.remove(known_as)  # twice does nothing

    def test_a_removed_source_can_be_added_again(self) -> None:
        end = self.end()
        self.poller.remove(self.add(end))
        self.add(end)
        end.peer.send(b"x")
        self.poller.doRead()
        self.assertEqual(end.got, [b"x"])

    def test_a_source_removed_by_the_callback_of_another_is_not_read(self) -> None:
        one, other = self.end(), self.end()
        known_as = [self.add(one, lambda _: remove()), self.add(other, lambda _: remove())]
        calls: list[None] = []

        def remove() -> None:
            calls.append(None)
            for each in known_as:
                self.poller.remove(each)

        one.peer.send(b"x")
        other.peer.send(b"x")
        self.poller.doRead()
        self.assertEqual(len(calls), 1)

    def test_much_is_read_in_pieces(self) -> None:
        end = self.end(socket.AF_INET)
        self.add(end)
        end.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * RECEIVE)
        end.peer.setblocking(False)
        sent = end.peer.send(b"x" * (RECEIVE + 10))
        while sum(map(len, end.got)) < sent:
            self.poller.doRead()
        self.assertTrue(all(len(data) <= RECEIVE for data in end.got))

    def test_an_end_is_left_for_the_reactor_to_find(self) -> None:
        end = self.end(socket.AF_INET)
        self.add(end)
        end.peer.send(b"last")
        end.peer.shutdown(socket.SHUT_WR)
        while self.poller in self.reactor.readers:
            self.poller.doRead()
        self.assertEqual(end.got, [b"last"])
        self.assertEqual(self.reactor.readers, {end})
        self.assertEqual(end.socket.recv(10), b"")

    def test_a_failure_is_left_for_the_reactor_to_find(self) -> None:
        end = self.end(socket.AF_INET)
        self.add(end)
        end.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.peer.close()
        while self.poller in self.reactor.readers:
            self.poller.doRead()
        self.assertEqual(self.reactor.readers, {end})
        self.assertRaises(ConnectionResetError, end.socket.recv, 10)

    def test_a_fault_with_one_harms_no_other(self) -> None:
        ends = [self.end() for _ in range(3)]
        for end in ends:
            self.add(end, {}.__getitem__ if end is ends[0] else None)  # type: ignore[arg-type]
            end.peer.send(b"x")
        self.poller.doRead()
        self.assertEqual([end.got for end in ends], [[], [b"x"], [b"x"]])
        self.assertEqual([end.aborted for end in ends], [True, False, False])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        ends[0].peer.send(b"x")
        self.poller.doRead()  # it is not asked again
        self.assertEqual(self.flushLoggedErrors(KeyError), [])

    def test_a_socket_that_was_closed_can_be_removed(self) -> None:
        end, other = self.end(), self.end()
        known_as = self.add(end)
        self.add(other)
        end.close()
        self.poller.remove(known_as)
        other.peer.send(b"x")
        self.poller.doRead()
        self.assertEqual(other.got, [b"x"])

    def test_a_reactor_that_waits_for_no_descriptors_has_none(self) -> None:
        self.assertIsNone(Poller.over(Clock(), self.turn))
        self.assertIsInstance(Poller.over(self.reactor, self.turn), Poller)
