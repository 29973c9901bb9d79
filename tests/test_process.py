"""The process of the server: its signals."""

from __future__ import annotations

import signal

from twisted.trial.unittest import TestCase

from chat_twisted.process import stop_when_told


class SignalTests(TestCase):
    def test_the_first_signal_stops_the_reactor_and_the_next_do_nothing(self) -> None:
        told: list[int] = []

        class Reactor:
            sigInt = sigTerm = told.append

            @staticmethod
            def callFromThread(function, number: int) -> None:
                function(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        stop_when_told(Reactor)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        self.assertEqual(told, [signal.SIGTERM])
