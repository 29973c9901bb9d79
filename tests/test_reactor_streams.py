"""Asyncio's transports over the reactor's."""

from __future__ import annotations

import asyncio

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

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
