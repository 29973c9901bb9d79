"""The control socket: who is heard there, and what a bad peer can do there: nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from chat_twisted import control_socket, files
from chat_twisted.control import Control
from chat_twisted.control_socket import ControlFactory, ControlProtocol, ControlService
from chat_twisted.files import FilesError
from tests.door import DoorTestCase
from tests.store import settle


class LocalTransport(StringTransport):
    """A Unix socket whose other end is the process of some user."""

    user = os.geteuid()
    aborted = False

    def getHandle(self) -> LocalTransport:
        return self

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return control_socket.struct.pack("3i", 1, self.user, 1)

    def abortConnection(self) -> None:
        self.aborted = True

    def take(self) -> list[Any]:
        """The answers since the last call."""
        lines = self.value().splitlines()
        self.clear()
        return [json.loads(line) for line in lines]


class FakeServer:
    """A running server without connections and files.

    :ivar old: the number of messages that each request to delete old ones deletes.
    """

    def __init__(self) -> None:
        self.motd = ""
        self.retain: float | None = None
        self.old = [3, 2, 0]
        self.ages: list[float] = []

    def describe(self) -> dict[str, Any]:
        return {"uptime": 5}

    def set_motd(self, motd: str) -> None:
        self.motd = motd

    def delete_older(self, seconds: float) -> Deferred[int]:
        self.ages.append(seconds)
        return succeed(self.old.pop(0))


class ControlTestCase(DoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server_side = FakeServer()
        self.control = Control(self.hub, self.server_side)
        self.commands = ControlFactory(self.control, self.clock)

    def command(self, user: int | None = None) -> tuple[ControlProtocol, LocalTransport]:
        """A connection of the command."""
        protocol = self.commands.buildProtocol(None)
        assert protocol is not None
        transport = LocalTransport()
        if user is not None:
            transport.user = user
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, ask: str, **fields: object) -> Any:
        """Ask one thing, on a connection of its own; return the answer or why it was refused."""
        protocol, transport = self.command()
        protocol.dataReceived(json.dumps({"ask": ask, **fields}).encode() + b"\n")
        self.commit()
        [answer] = transport.take()
        return next(iter(answer.values()))


class WireTests(ControlTestCase):
    def test_a_request_is_answered_when_it_is_committed_and_before_the_next(self) -> None:
        protocol, transport = self.command()
        ban = b'{"ask": "ban", "subject": "bob", "duration": "", "reason": ""}\n'
        protocol.dataReceived(ban + b'{"ask": "pardon", "subject": "bob"}\n')
        self.assertEqual((transport.take(), transport.producerState), ([], "paused"))
        self.commit()
        self.assertEqual(transport.take(), [{"answer": {}}] * 2)
        self.assertEqual(transport.producerState, "producing")

    def test_another_users_process_is_not_heard(self) -> None:
        protocol, transport = self.command(user=12345)
        self.assertTrue(transport.aborted)
        protocol.connectionLost()
        for user in (0, os.geteuid()):
            self.assertFalse(self.command(user)[1].aborted)

    def test_who_says_nothing_is_cut_off(self) -> None:
        _, transport = self.command()
        self.clock.advance(control_socket.SILENCE - 1)
        self.assertFalse(transport.aborted)
        self.clock.advance(1)
        self.assertTrue(transport.aborted)

    def test_a_request_may_take_its_time(self) -> None:
        protocol, transport = self.command()
        self.store.seconds = 60
        protocol.dataReceived(b'{"ask": "ban", "subject": "bob", "duration": "", "reason": ""}\n')
        self.clock.pump([1] * 30)
        self.assertFalse(transport.aborted)
        self.clock.pump([1] * 32)
        self.assertEqual(transport.take(), [{"answer": {}}])

    def test_what_is_too_long_is_refused_and_the_connection_closed(self) -> None:
        protocol, transport = self.command()
        for _ in range(20):
            protocol.dataReceived(b"x" * 4096)
        self.assertEqual(transport.take(), [{"refused": "the request is too long"}])
        self.assertTrue(transport.disconnecting)

    def test_who_does_not_read_is_not_read_and_cut_off(self) -> None:
        protocol, transport = self.command()
        protocol.dataReceived(b'{"ask": "status"}\n')
        protocol.pauseProducing()  # as the transport does that has much to write
        self.assertEqual(transport.producerState, "paused")
        self.clock.advance(control_socket.SILENCE)
        self.assertTrue(transport.aborted)

    def test_of_too_many_the_one_that_was_silent_for_longest_goes(self) -> None:
        self.patch(control_socket, "MAX_CONNECTIONS", 2)
        first, second = self.command(), self.command()
        first[0].dataReceived(b'{"ask": "status"}\n')
        self.command()
        self.assertEqual((first[1].aborted, second[1].aborted), (False, True))

    def test_a_fault_of_ours_is_an_answer_and_in_the_log(self) -> None:
        self.patch(self.hub, "population", lambda: 1 / 0)
        self.assertIn("a fault of the server", self.ask("status"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_can_not_be_written_is_an_answer_of_its_own(self) -> None:
        self.store.broken = OSError("full")
        protocol, transport = self.command()
        protocol.dataReceived(b'{"ask": "ban", "subject": "bob", "duration": "", "reason": ""}\n')
        self.commit()
        self.assertEqual(transport.take(), [{"failed": "can't write"}])

    def test_at_the_end_what_was_asked_is_answered(self) -> None:
        (busy, transport), (idle, other) = self.command(), self.command()
        busy.dataReceived(b'{"ask": "ban", "subject": "bob", "duration": "", "reason": ""}\n')
        stopped = self.commands.stop()
        self.assertIsNone(self.commands.buildProtocol(None))
        self.assertTrue(other.disconnecting)
        idle.connectionLost()
        self.assertNoResult(stopped)
        settle(self.clock)
        self.assertEqual(transport.take(), [{"answer": {}}])
        self.assertTrue(transport.disconnecting)
        busy.connectionLost()
        self.successResultOf(stopped)

    def test_at_the_end_nobody_is_waited_for_for_long(self) -> None:
        _, transport = self.command()
        self.commands.stop()
        self.clock.advance(control_socket.STOP_WITHIN)
        self.assertTrue(transport.aborted)


class SocketTests(TestCase):
    """On the file system, with the reactor that runs the tests."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.asked: list[object] = []

    @property
    def path(self) -> Path:
        return self.folder / files.CONTROL

    async def ask(self, request: object) -> dict[str, Any]:
        self.asked.append(request)
        return {}

    def listen(self) -> ControlService:
        return ControlService(self.folder, ControlFactory(self, reactor), reactor)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        short = files.ShortPath(self.folder, files.CONTROL)
        connection.connect(short.path)
        short.close()
        connection.setblocking(False)
        return connection

    async def answer(self, connection: socket.socket) -> bytes:
        """What comes on a socket, until it is closed or a line is there."""
        data = b""
        while not data.endswith(b"\n"):
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.001, turn.callback, None)
            await turn
            try:
                new = connection.recv(65536)
            except BlockingIOError:
                continue
            if not new:
                break
            data += new
        return data

    async def test_it_is_for_its_user_alone_and_gone_at_the_end(self) -> None:
        before = os.umask(0)
        try:
            service = self.listen()
        finally:
            os.umask(before)
        found = self.path.lstat().st_mode
        self.assertTrue(stat.S_ISSOCK(found))
        self.assertEqual(found & 0o777, 0o600)
        connection = self.connect()
        connection.sendall(b"[1]\n")
        self.assertEqual(await self.answer(connection), b'{"answer": {}}\n')
        self.assertEqual(self.asked, [[1]])
        await service.stop()
        self.assertFalse(self.path.exists())

    async def test_one_that_a_killed_server_has_left_is_replaced(self) -> None:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(self.path))
        service = self.listen()
        self.connect()
        await service.stop()

    def test_what_is_no_socket_is_left_alone(self) -> None:
        self.path.write_text("mine")
        with self.assertRaisesRegex(FilesError, "control.socket: not a socket"):
            self.listen()
        self.assertEqual(self.path.read_text(), "mine")

    async def test_a_path_that_is_too_long_for_a_socket_will_do(self) -> None:
        self.folder = self.folder / ("x" * 120) / ("y" * 120)
        self.folder.mkdir(parents=True)
        service = self.listen()
        connection = self.connect()
        connection.sendall(b"[1]\n")
        self.assertEqual(await self.answer(connection), b'{"answer": {}}\n')
        await service.stop()
        self.assertFalse(self.path.exists())

    async def test_it_ends_though_somebody_has_removed_it(self) -> None:
        service = self.listen()
        self.path.unlink()
        await service.stop()


class ClockTests(TestCase):
    def test_a_connection_times_out_by_the_clock_that_it_is_given(self) -> None:
        clock = Clock()
        factory = ControlFactory(None, clock)  # type: ignore[arg-type]
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(LocalTransport())
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        protocol.connectionLost()
        self.assertEqual(clock.getDelayedCalls(), [])
