"""Sockets that are passed on: which can be used, and for what."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.protocol import Factory

from chat_twisted import passed_sockets
from chat_twisted.listening import BACKLOG, make_addresses
from chat_twisted.options import Options
from chat_twisted.passed_sockets import PassedSocket, PassedSocketError, take_over
from tests.start import CommandTestCase


class AdoptingReactor:
    """Takes over a descriptor as Twisted's reactor does, up to the port."""

    def adoptStreamPort(self, descriptor: int, family: int, factory: Factory) -> AdoptingReactor:
        self.socket = self
        self.family = family
        self.number = socket.socket(fileno=os.dup(descriptor)).detach()
        self.backlogs: list[int] = []
        return self

    def listen(self, backlog: int) -> None:
        self.backlogs.append(backlog)


class PassedSocketTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = AdoptingReactor()
        self.passed: list[int] = []

        def find(reactor: Any, description: str) -> AdoptedStreamServerEndpoint:
            index = int(description.rpartition("=")[2])
            return AdoptedStreamServerEndpoint(reactor, self.passed[index], socket.AF_INET)

        self.patch(passed_sockets, "serverFromString", find)

    def give(self, family: int = socket.AF_INET, *, listens: bool = True) -> int:
        """Make a socket as the service manager does; return its descriptor."""
        made = socket.socket(family)
        made.bind("" if family == socket.AF_UNIX else ("", 0))
        if listens:
            made.listen()
        descriptor = made.detach()
        self.passed.append(descriptor)
        return descriptor

    def tearDown(self) -> None:
        for descriptor in self.passed:
            os.close(descriptor)

    def addresses(self, names: str, *arguments: str) -> tuple[list[str], list[str]]:
        """Return the descriptions of the endpoints for clients and for metrics."""
        options = Options()
        options.parseOptions(arguments)
        made = make_addresses(options, {"LISTEN_FDNAMES": names}, self.reactor)
        return [about for about, _ in made.clients], [about for about, _ in made.metrics]

    def test_the_server_listens_on_the_socket_with_its_own_backlog(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            descriptor = self.give(family)
            endpoint = PassedSocket("chat", descriptor, 99, self.reactor)
            port = self.successResultOf(endpoint.listen(Factory()))
            self.passed.remove(descriptor)  # it is closed
            self.addCleanup(os.close, self.reactor.number)
            self.assertEqual((port.family, port.backlogs), (family, [99]))
            self.assertRaises(OSError, os.fstat, descriptor)

    def test_what_can_not_be_used_is_refused(self) -> None:
        for descriptor, reason in (
            (self.give(socket.AF_UNIX), "the socket chat is not for TCP"),
            (self.give(listens=False), "the socket chat does not listen"),
            (os.open("/dev/null", os.O_RDONLY), "the socket chat: Socket operation on non-socket"),
        ):
            with self.assertRaisesRegex(PassedSocketError, reason):
                PassedSocket("chat", descriptor, BACKLOG, self.reactor)
            if descriptor not in self.passed:
                self.passed.append(descriptor)

    def test_the_names_are_not_inherited(self) -> None:
        self.give()
        environment = {"LISTEN_FDNAMES": "chat", "HOME": "/"}
        [endpoint] = take_over(environment, BACKLOG, self.reactor)
        self.assertEqual((endpoint.name, environment), ("chat", {"HOME": "/"}))

    def test_without_sockets_the_options_say_where_to_listen(self) -> None:
        self.assertEqual(self.addresses(""), (["tcp:8828"], []))

    def test_sockets_stand_in_for_the_default(self) -> None:
        self.give()
        self.give(socket.AF_INET6)
        both = ["the socket chat.socket", "the socket chat.socket"]
        self.assertEqual(self.addresses("chat.socket:chat.socket"), (both, []))

    def test_addresses_of_the_options_are_added_to_sockets(self) -> None:
        self.give()
        self.assertEqual(
            self.addresses("chat", "--listen", "tcp:8828"), (["the socket chat", "tcp:8828"], [])
        )

    def test_a_socket_named_metrics_is_for_metrics(self) -> None:
        self.give()
        self.assertEqual(self.addresses("metrics"), (["tcp:8828"], ["the socket metrics"]))

    def test_a_socket_that_can_not_be_used_ends_the_start(self) -> None:
        self.give(socket.AF_UNIX)
        self.assertFails("the socket chat is not for TCP", self.addresses, "chat")

    def test_the_endpoint_of_twisted_is_not_needed(self) -> None:
        for description in ("systemd:domain=INET:index=0", "haproxy:systemd:domain=INET:index=0"):
            self.assertFails(
                "sockets that are passed on need no option",
                self.addresses,
                "",
                "--listen",
                description,
            )

    def test_whether_root_listens_on_a_port_is_in_the_tables_of_the_system(self) -> None:
        empty, table = Path(self.folder()) / "tcp", Path(self.folder()) / "tcp6"
        empty.write_text("the titles\n")
        nowhere = empty.with_name("nowhere")
        for port, state, user, expected in (
            (8828, "0A", 0, True),
            (8828, "0A", 61907, False),
            (8828, "01", 0, False),
            (8829, "0A", 0, False),
        ):
            queues = "00000000:00000000 00:00000000 00000000"
            address = f"00000000:{port:04X} 00000000:0000"
            table.write_text(f"the titles\n   0: {address} {state} {queues} {user:5} 0 7241 1\n")
            for tables in ((empty, table), (table, nowhere)):
                with mock.patch.object(passed_sockets, "TABLES", tables):
                    self.assertEqual(passed_sockets.listens_for_root(8828), expected)
        with mock.patch.object(passed_sockets, "TABLES", (nowhere,)):
            self.assertFalse(passed_sockets.listens_for_root(8828))
