"""The log on NATS leaves a server through which nothing gets into the stream, and can be closed."""

from __future__ import annotations

import asyncio
import contextlib
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.storage import nats, nats_connection
from chat_twisted.storage.log import NotTaken, Unknown
from chat_twisted.storage.nats_client import Message


class Connection:
    """Stands in for ``NatsConnection``: its requests are answered by the test."""

    def __init__(self, *args: object, **kw: object) -> None:
        self.asked: list[Deferred[Message]] = []
        self.left = 0

    def start(self) -> None:
        pass

    def request(self, subject: str, data: bytes, patience: float) -> Deferred[Message]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def leave_server(self, reason: str) -> None:
        self.left += 1


class LosingClient:
    """Stands in for ``NatsClient``: connecting loses the cancellation, as it rarely does.

    :ivar opened: fires when the first one is connecting.
    """

    opened: Deferred[None]
    fails = False

    def __init__(self, *args: object) -> None:
        self.max_payload = 0

    async def open(self) -> None:
        if not self.opened.called:
            self.opened.callback(None)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        if self.fails:
            raise OSError("can't connect")

    async def listen(self, *args: object) -> None:
        pass

    def new_inbox(self) -> str:
        return "inbox"

    async def rtt(self) -> float:
        return 0.0

    async def until_lost(self) -> None:
        await asyncio.Event().wait()

    async def leave(self) -> None:
        pass


class ClosingTests(TestCase):
    timeout = 60

    def tearDown(self) -> None:
        reactor_loop.leave()

    async def test_a_connection_is_closed_even_if_connecting_does_not_hear_of_it(self) -> None:
        self.patch(nats_connection, "NatsClient", LosingClient)
        for fails in (False, True):
            LosingClient.opened, LosingClient.fails = Deferred(), fails
            log = nats.NatsLog(["nats://127.0.0.1"], reactor)
            log.start()
            await LosingClient.opened
            await log.close()


class StuckTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        with patch.object(nats, "NatsConnection", Connection):
            self.log = nats.NatsLog(["nats://127.0.0.1"], self.clock)
        self.connection: Connection = self.log._connection  # type: ignore[assignment]

    def append(self, seconds: float, problem: Exception | None = None, answer: bytes = b"") -> None:
        """Append a record that is answered after some seconds."""
        appended = self.log.append(b"x")
        self.clock.advance(seconds)
        if problem is not None:
            self.connection.asked.pop().errback(problem)
            self.failureResultOf(appended, type(problem))
        else:
            self.connection.asked.pop().callback(Message("", answer, {}, "", ""))
            appended.addErrback(lambda _: None)

    def test_no_answer_for_two_seconds_is_enough(self) -> None:
        self.append(2, Unknown("no answer"))
        self.assertEqual(self.connection.left, 1)

    def test_refusals_by_the_server_are_enough_if_they_go_on_for_two_seconds(self) -> None:
        for _ in range(19):
            self.append(0.1, NotTaken("nobody takes it"))
        self.assertEqual(self.connection.left, 0)
        self.append(0.1, NotTaken("nobody takes it"))
        self.assertEqual(self.connection.left, 1)
        # The next server gets as much time.
        self.append(1.9, NotTaken("nobody takes it"))
        self.assertEqual(self.connection.left, 1)

    def test_an_answer_of_the_stream_is_enough_to_stay(self) -> None:
        for answer in (
            b'{"stream": "chat", "seq": 1}',
            b'{"error": {"err_code": 10077, "description": "maximum bytes exceeded"}}',
        ):
            self.append(0.9, NotTaken("nobody takes it"))
            self.append(0.9, answer=answer)
            self.append(0.9, NotTaken("nobody takes it"))
        self.assertEqual(self.connection.left, 0)

    def test_a_connection_that_was_lost_is_not_the_next_servers_fault(self) -> None:
        self.append(1, NotTaken("nobody takes it"))
        self.log._lost()
        self.clock.advance(5)
        self.append(1, NotTaken("nobody takes it"))
        self.assertEqual(self.connection.left, 0)
