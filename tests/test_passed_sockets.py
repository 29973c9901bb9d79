"""Sockets that are passed on: which can be used, and for what."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

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
        self.places: list[int] = []
        self.first = 200  # the descriptors from 3 are those of the tests
        self.patch(passed_sockets, "FIRST", self.first)

    def pass_on(self, names: str | None, count: str | None = None) -> dict[str, str]:
        """Put the sockets that were given in their places; return the environment that says so."""
        for number, descriptor in enumerate(self.passed, self.first):
            self.assertEqual(os.dup2(descriptor, number), number)
        self.places = list(range(self.first, self.first + len(self.passed)))
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(self.passed))}
        if names is not None:
            environment["LISTEN_FDNAMES"] = names
        if count is not None:
            environment["LISTEN_FDS"] = count
        return environment

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
        for descriptor in (*self.passed, *self.places):
            os.close(descriptor)

    def addresses(self, names: str, *arguments: str) -> tuple[list[str], list[str]]:
        """Return the descriptions of the endpoints for clients and for metrics."""
        options = Options()
        options.parseOptions(arguments)
        made = make_addresses(options, self.pass_on(names), self.reactor)
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

    def names(self, environment: dict[str, str]) -> list[str]:
        return [each.name for each in take_over(environment, BACKLOG, self.reactor)]

    def test_sockets_need_no_names(self) -> None:
        self.give()
        self.give()
        self.assertEqual(self.names(self.pass_on(None)), ["unknown", "unknown"])

    def test_what_was_passed_on_to_another_process_is_not_taken(self) -> None:
        self.give()
        environment = self.pass_on("chat")
        self.assertEqual(self.names(environment | {"LISTEN_PID": "1"}), [])
        self.assertEqual(self.names({}), [])

    def test_variables_that_contradict_each_other_are_refused(self) -> None:
        self.give()
        for names, count, reason in (
            ("chat", "2", "another number"),
            ("chat:metrics", "1", "another number"),
            ("chat", "many", "no number of sockets"),
            (None, "-1", "no number of sockets"),
            (None, "9" * 5000, "no number of sockets"),
            (None, "9999", "the socket unknown: Bad file descriptor"),
        ):
            environment = self.pass_on(names, count)
            with self.assertRaisesRegex(PassedSocketError, reason):
                take_over(environment, BACKLOG, self.reactor)

    def test_the_environment_is_that_with_which_the_process_was_started(self) -> None:
        started = "import os; os.environ.clear(); from chat_twisted import passed_sockets as p;"
        done = subprocess.run(
            [sys.executable, "-c", f"{started} print(p.environment_at_start()['LISTEN_FDS'])"],
            env={**os.environ, "LISTEN_FDS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(done.stdout, "1\n")
        self.patch(passed_sockets, "AT_START", Path(self.folder()) / "nowhere")
        self.assertEqual(passed_sockets.environment_at_start(), {})

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
