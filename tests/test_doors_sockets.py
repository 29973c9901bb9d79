"""The options of sockets, as the system has them afterwards."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.doors.sockets import BUFFER, HELD_BY_SYSTEM, prepare


class Port:
    def __init__(self, socket: Any) -> None:
        self.socket = socket


class SocketTests(TestCase):
    def accepted(self, idle: float, address: str = "127.0.0.1") -> socket.socket:
        """A connection that a prepared port has accepted."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = socket.create_server((address, 0), family=family)
        self.addCleanup(listening.close)
        prepare(Port(listening), idle)
        client = socket.create_connection(listening.getsockname()[:2])
        self.addCleanup(client.close)
        accepted, _ = listening.accept()
        self.addCleanup(accepted.close)
        return accepted

    def test_buffers_are_small_and_their_real_sizes_are_known(self) -> None:
        for address in ("127.0.0.1", "::1"):
            accepted = self.accepted(60, address)
            for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                size = accepted.getsockopt(socket.SOL_SOCKET, name)
                self.assertTrue(BUFFER <= size <= HELD_BY_SYSTEM, size)

    def test_the_system_holds_a_bounded_amount_that_a_peer_does_not_read(self) -> None:
        accepted = self.accepted(60)
        accepted.setblocking(False)
        sent = 0
        with self.assertRaises(BlockingIOError):
            while True:
                sent += accepted.send(bytes(65536))
        # The peer's own system, which is this one here, takes some of it too.
        self.assertLess(sent, HELD_BY_SYSTEM + 8 * 2**20)

    def test_a_machine_that_vanished_is_found_within_two_idle_intervals(self) -> None:
        for idle in (1, 2, 3, 4, 5, 7, 10, 60, 3600):
            accepted = self.accepted(idle)
            quiet, interval, count, timeout = (
                accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            )
            self.assertTrue(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            self.assertEqual(quiet, idle)
            self.assertLessEqual(quiet + interval * count, 2 * idle)
            # Linux looks at the timeout when a probe is due.
            probes = [quiet + interval * n for n in range(1, 10)]
            self.assertLessEqual(min(p for p in probes if p * 1000 >= timeout), 2 * idle)
        self.accepted(999_999_999)  # what the system does not take is no error

    def test_a_port_that_is_not_tcp_is_left_alone(self) -> None:
        local = socket.socket(socket.AF_UNIX)
        self.addCleanup(local.close)
        size = local.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        for port in (Port(local), Port(None), object()):
            prepare(port, 60)
        self.assertEqual(local.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), size)
