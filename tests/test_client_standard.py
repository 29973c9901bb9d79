"""Standard input and output as a transport: real descriptors, shared with the test."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from chat_twisted.client import standard
from chat_twisted.client.standard import StandardFiles


@implementer(IHalfCloseableProtocol)
class Both(Protocol):
    """The calls of the transport, in order."""

    def __init__(self) -> None:
        self.got = b""
        self.events: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def readConnectionLost(self) -> None:
        self.events.append("read")

    def writeConnectionLost(self) -> None:
        self.events.append("write")

    def connectionLost(self, reason: Any = None) -> None:
        self.events.append("lost")


class Reactor:
    """Polls its readers and writers when a test asks for it."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard

    def turn(self, wait: int = 0) -> bool:
        """Serve the ready ones; return whether there were any."""
        poll = select.poll()
        both = self.readers | self.writers
        for half in both:
            events = select.POLLIN if half in self.readers else 0
            poll.register(half.fileno(), events | (select.POLLOUT if half in self.writers else 0))
        ready = dict(poll.poll(wait))
        for half in both:
            event = ready.get(half.fileno(), 0)
            problem = None
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR) and half in self.readers:
                problem = half.doRead()
            elif event and half in self.writers:
                problem = half.doWrite()
            if problem is not None:
                half.connectionLost(problem)
        return bool(ready)

    def run(self) -> None:
        while self.turn():
            pass


def flags(*descriptors: int) -> list[int]:
    return [fcntl.fcntl(descriptor, fcntl.F_GETFL) for descriptor in descriptors]


class StandardFilesTestCase(TestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.protocol = Both()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            self.addCleanup(os.close, descriptor)

    def attach(self, stdin: int, stdout: int) -> StandardFiles:
        """Attach both; the test checks at its end that their flags are unchanged."""
        self.close(stdin, stdout)
        before = flags(stdin, stdout)
        files = StandardFiles(self.protocol, self.reactor, stdin=stdin, stdout=stdout)
        self.assertEqual(flags(stdin, stdout), before)
        self.addCleanup(lambda: self.assertEqual(flags(stdin, stdout), before))
        return files

    def nothing(self) -> int:
        return os.open(os.devnull, os.O_RDWR)


class PipesTests(StandardFilesTestCase):
    def setUp(self) -> None:
        super().setUp()
        stdin, self.writes = os.pipe()
        self.reads, stdout = os.pipe()
        self.files = self.attach(stdin, stdout)

    def test_what_comes_is_read_and_its_end_is_told(self) -> None:
        os.write(self.writes, b"one")
        self.reactor.run()
        self.assertEqual(self.protocol.got, b"one")
        os.close(self.writes)
        self.close(self.reads)
        self.reactor.run()
        self.assertEqual((self.protocol.got, self.protocol.events), (b"one", ["read"]))

    def test_what_another_has_read_meanwhile_is_not_waited_for(self) -> None:
        self.close(self.reads, self.writes)
        [reader] = [half for half in self.reactor.readers if half is self.files._input]
        self.assertIsNone(reader.doRead())
        self.assertEqual((self.protocol.got, self.protocol.events), (b"", []))

    def test_what_is_written_arrives_as_fast_as_it_is_read(self) -> None:
        self.close(self.writes)
        data = bytes(range(256)) * 2000
        self.files.write(data)
        self.files.loseConnection()
        read = b""
        while len(read) < len(data):
            self.reactor.run()
            read += os.read(self.reads, 65536)
        self.reactor.run()
        self.assertEqual(read, data)
        self.assertEqual(self.protocol.events, ["lost"])
        self.close(self.reads)

    def test_that_nobody_reads_any_more_is_told_at_once(self) -> None:
        self.close(self.writes)
        self.reactor.run()
        os.close(self.reads)
        self.reactor.run()
        self.assertEqual(self.protocol.events, ["write"])

    def test_nothing_is_read_while_it_is_paused(self) -> None:
        self.close(self.reads, self.writes)
        self.files.pauseProducing()
        os.write(self.writes, b"one")
        self.reactor.run()
        self.assertEqual(self.protocol.got, b"")
        self.files.resumeProducing()
        self.reactor.run()
        self.assertEqual(self.protocol.got, b"one")


class OtherPipesTests(PipesTests):
    """The same where they can't be opened again."""

    def setUp(self) -> None:
        self.patch(standard, "_reopen", lambda *_: None)
        super().setUp()

    def test_what_another_has_read_meanwhile_is_not_waited_for(self) -> None:
        self.close(self.reads, self.writes)  # not possible on this system


class OtherFilesTests(StandardFilesTestCase):
    def test_a_file_is_read_from_where_it_is_and_written_to_where_it_is(self) -> None:
        (self.folder / "in").write_bytes(b"one\ntwo\n")
        stdin = os.open(self.folder / "in", os.O_RDONLY)
        stdout = os.open(self.folder / "out", os.O_WRONLY | os.O_CREAT, 0o600)
        os.read(stdin, 4)
        os.write(stdout, b"three\n")
        files = self.attach(stdin, stdout)
        files.write(b"four\n")
        while "read" not in self.protocol.events:
            self.reactor.turn()
        self.assertEqual(self.protocol.got, b"two\n")
        self.assertEqual((self.folder / "out").read_bytes(), b"three\nfour\n")

    def test_a_terminal_is_read_and_written(self) -> None:
        terminal, standard_file = pty.openpty()
        files = self.attach(standard_file, os.dup(standard_file))
        self.close(terminal)
        files.write(b"hello\n")
        self.reactor.run()
        self.assertEqual(os.read(terminal, 100), b"hello\r\n")
        os.write(terminal, b"typed\n")
        while not self.protocol.got:
            self.reactor.turn(1000)
        self.assertEqual(self.protocol.got, b"typed\n")

    def test_a_socket_is_read_and_written(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        files = self.attach(theirs.detach(), self.nothing())
        [reader] = [half for half in self.reactor.readers if half is files._input]
        self.assertIsNone(reader.doRead())
        ours.sendall(b"one")
        self.reactor.turn()
        self.assertEqual(self.protocol.got, b"one")
        ours.shutdown(socket.SHUT_WR)
        self.reactor.turn()
        self.assertEqual(self.protocol.events, ["read"])

    def test_a_socket_that_takes_no_more_is_waited_for(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        files = self.attach(self.nothing(), theirs.detach())
        files.pauseProducing()
        data = b"x" * 1_000_000
        files.write(data)
        read = 0
        while read < len(data):
            self.reactor.run()
            read += len(ours.recv(65536))
        self.assertEqual(read, len(data))
        ours.close()
        files.write(b"x")
        self.reactor.run()
        self.assertEqual(self.protocol.events, ["write"])
