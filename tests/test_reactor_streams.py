"""Asyncio's transports over the reactor's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.reactor_streams import StreamTransport, _Connection


class Writer(asyncio.BaseProtocol):
    """Checks what asyncio's own protocols check, which may be paused only once."""

    paused = False
    times = 0

    def pause_writing(self) -> None:
        assert not self.paused
        self.paused = True
        self.times += 1

    def resume_writing(self) -> None:
        assert self.paused
        self.paused = False


class BackpressureTests(TestCase):
    def test_each_write_may_pause_the_protocol_that_is_paused_already(self) -> None:
        """The reactor's transport says so at each write while much waits to be sent."""
        wire = StringTransport()
        connection = _Connection()
        connection.transport = wire
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        stream = StreamTransport(loop, connection)
        writer = Writer()
        stream.set_protocol(writer)
        for _ in range(2):
            wire.producer.pauseProducing()
            wire.producer.pauseProducing()
            self.assertTrue(writer.paused)
            wire.producer.resumeProducing()
            self.assertFalse(writer.paused)
            wire.producer.resumeProducing()
        self.assertEqual(writer.times, 2)


class Peer(Protocol):
    """The other end of a connection.

    :ivar echoes: whether it sends everything back.
    """

    echoes = True

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"hello\n")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.echoes:
            self.transport.write(data)

    def connectionLost(self, reason: object) -> None:
        self.ended.callback(None)


class ConnectionTests(TestCase):
    """Asyncio's own streams use the transport."""

    def setUp(self) -> None:
        self.loop = reactor_loop.use(reactor)
        self.peer = Peer()
        factory = Factory.forProtocol(lambda: self.peer)
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    async def tearDown(self) -> None:
        await maybeDeferred(self.port.stopListening)
        if self.peer.transport is not None:
            await self.peer.ended
        reactor_loop.leave()

    def run_in_loop(self, coroutine) -> Deferred[object]:
        return Deferred.fromFuture(self.loop.create_task(coroutine))

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port.getHost().port)
        self.assertEqual(await reader.readline(), b"hello\n")
        return reader, writer

    def test_bytes_go_both_ways_however_many(self) -> Deferred[object]:
        async def main() -> None:
            reader, writer = await self.open()
            data = bytes(range(256)) * 4096
            writer.writelines([data[:10], data[10:]])
            await writer.drain()
            self.assertEqual(await reader.readexactly(len(data)), data)
            writer.close()
            await writer.wait_closed()

        return self.run_in_loop(main())

    def test_what_was_written_is_sent_before_it_closes(self) -> Deferred[object]:
        async def main() -> None:
            self.peer.echoes = False
            _, writer = await self.open()
            writer.write(bytes(1 << 20))
            writer.close()
            self.assertTrue(writer.is_closing())
            writer.write(b"too late")

        async def check() -> None:
            await self.run_in_loop(main())
            await self.peer.ended
            self.assertEqual(len(self.peer.received), 1 << 20)

        return Deferred.fromCoroutine(check())

    def test_the_end_of_the_other_side_is_the_end(self) -> Deferred[object]:
        async def main() -> None:
            reader, writer = await self.open()
            self.peer.transport.loseConnection()
            self.assertEqual(await reader.read(), b"")
            await writer.wait_closed()

        return self.run_in_loop(main())

    def test_a_connection_that_is_reset_is_an_error(self) -> Deferred[object]:
        async def main() -> None:
            reader, writer = await self.open()
            self.peer.transport.abortConnection()
            with self.assertRaises(OSError):
                await reader.read()
            with self.assertRaises(OSError):
                await writer.drain()

        return self.run_in_loop(main())

    def test_where_nobody_listens_is_an_error(self) -> Deferred[object]:
        async def main() -> None:
            port = self.port.getHost().port
            await self.port.stopListening().asFuture(self.loop)
            with self.assertRaises(OSError) as raised:
                await asyncio.open_connection("127.0.0.1", port)
            self.assertIn("can't connect to 127.0.0.1", str(raised.exception))

        return self.run_in_loop(main())

    def check_given_up(self, when: Callable[[Callable[[], object]], object]) -> Deferred[object]:
        """Give an attempt up when it is about to succeed; check that no connection is left."""

        async def main() -> None:
            with self.assertRaises(asyncio.CancelledError):
                await self.open()
            await self.peer.ended.asFuture(self.loop)

        self.patch(_Connection, "connectionMade", lambda _: when(task.cancel))
        task = self.loop.create_task(main())
        return Deferred.fromFuture(task)

    def test_an_attempt_that_is_given_up_just_before_it_succeeds_leaves_nothing(
        self,
    ) -> Deferred[object]:
        return self.check_given_up(lambda cancel: cancel())

    def test_an_attempt_that_is_given_up_just_after_it_has_succeeded_leaves_nothing(
        self,
    ) -> Deferred[object]:
        # The turn in which the task is told of the connection is the next one, after this call.
        return self.check_given_up(lambda cancel: reactor.callLater(0, cancel))

    def test_an_attempt_may_be_given_up(self) -> Deferred[object]:
        async def main() -> None:
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0):
                    await self.open()

        return self.run_in_loop(main())
