"""The options of sockets, as the system has them afterwards."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.doors.sockets import BUFFER, HELD_BY_SYSTEM, options, prepare


class Transport:
    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def getHandle(self) -> Any:
        return self.handle


class SocketTests(TestCase):
    def socket(self, family: socket.AddressFamily) -> socket.socket:
        made = socket.socket(family)
        self.addCleanup(made.close)
        return made

    def tcp(self, idle: float, *names: str) -> list[int]:
        """What a prepared connection has."""
        prepared = self.socket(socket.AF_INET)
        prepare(Transport(prepared), options(idle))
        return [prepared.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]

    def test_buffers_are_small_and_what_the_system_makes_of_them_is_known(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            prepared = self.socket(family)
            prepare(Transport(prepared), options(60))
            for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                size = prepared.getsockopt(socket.SOL_SOCKET, name)
                self.assertTrue(BUFFER <= size <= HELD_BY_SYSTEM, size)

    def test_a_machine_that_vanished_is_found_within_two_idle_intervals(self) -> None:
        for idle in (1, 2, 3, 4, 5, 7, 10, 60, 3600):
            quiet, interval, count, timeout = self.tcp(
                idle, "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"
            )
            self.assertEqual(quiet, idle)
            self.assertLessEqual(quiet + interval * count, 2 * idle)
            # Linux looks at the timeout when a probe is due.
            probes = [quiet + interval * n for n in range(1, 10)]
            self.assertLessEqual(min(p for p in probes if p * 1000 >= timeout), 2 * idle)
        self.tcp(999_999_999)  # and with what the system does not take, it goes on

    def test_keepalive_is_on(self) -> None:
        prepared = self.socket(socket.AF_INET)
        prepare(Transport(prepared), options(60))
        self.assertTrue(prepared.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def test_what_is_no_connection_over_tcp_is_left_alone(self) -> None:
        local, other = socket.socketpair()
        self.addCleanup(local.close)
        self.addCleanup(other.close)
        size = local.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        for transport in (Transport(local), Transport(None), object()):
            prepare(transport, options(60))
        self.assertEqual(local.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), size)
