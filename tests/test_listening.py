"""Listening on endpoints: wrong ones, ones that are in use."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.client.address import PORT, Address, parse_address
from chat_twisted.listening import for_this_machine, listen, make_endpoints, ways_in
from chat_twisted.options import PORT as SERVERS_PORT
from tests.start import CommandTestCase


class Port:
    listening = True

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8828)

    def stopListening(self) -> Deferred[None]:
        self.listening = False
        return succeed(None)


class Turns:
    taken = 0

    def iterate(self) -> None:
        self.taken += 1


class Endpoint:
    def __init__(self, result: object) -> None:
        self.result = result
        self.factories: list[object] = []

    def listen(self, factory: object) -> Deferred[object]:
        self.factories.append(factory)
        return fail(self.result) if isinstance(self.result, Exception) else succeed(self.result)


class ListeningTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.factory: Any = object()

    def listen(self, *results: object) -> list[Port]:
        self.endpoints = [(f"endpoint {i}", Endpoint(r)) for i, r in enumerate(results)]
        self.reactor = Turns()
        return listen(self.endpoints, self.factory, self.reactor)

    def test_it_listens_on_each_endpoint(self) -> None:
        ports = self.listen(Port(), Port())
        self.assertEqual([port.listening for port in ports], [True, True])
        self.assertEqual([e.factories for _, e in self.endpoints], [[self.factory]] * 2)

    def test_a_port_in_use_is_one_line_and_exit_code_1_and_leaves_no_other_open(self) -> None:
        problem = CannotListenError(None, 8828, OSError(98, "Address already in use"))
        port = Port()
        self.assertFails(
            "chatserver: can't listen on endpoint 1: Address already in use",
            self.listen,
            port,
            problem,
        )
        self.assertEqual((port.listening, self.reactor.taken), (False, 1))

    def test_what_is_no_endpoint_is_one_line_and_exit_code_1(self) -> None:
        for description in ("foo", "tcp:port", ""):
            text = f"--listen {description}: not an endpoint"
            self.assertFails(text, make_endpoints, ["tcp:0", description], Clock())


class WaysInTests(TestCase):
    """How other machines reach the server, as it logs it."""

    def ways(self, *places: tuple[str, int]) -> list[str]:
        addresses = [
            (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)
            for host, port in places
        ]
        return list(ways_in(addresses, "tower", "SHA256:abc"))

    def addresses(self, *places: tuple[str, int]) -> list[Address]:
        """Return the addresses in the client's commands."""
        lines = [line.partition(": ")[2].split() for line in self.ways(*places)]
        commands = [words for words in lines if words[0] == "chat-twisted"]
        for command, name, _, *fingerprint in commands:
            self.assertEqual((command, name), ("chat-twisted", "NAME"))
            self.assertEqual(fingerprint, ["--fingerprint", "SHA256:abc"])
        return [parse_address(words[2]) for words in commands]

    def test_a_finished_line_and_the_port_for_the_firewall(self) -> None:
        self.assertEqual(
            self.ways(("0.0.0.0", 8828)),
            [
                "clients on other machines need TCP port 8828: a firewall must let it through",
                "on another machine: chat-twisted NAME tower --fingerprint SHA256:abc",
            ],
        )

    def test_the_client_can_read_each_address(self) -> None:
        for place, address in (
            (("0.0.0.0", 8828), Address("tower")),
            (("0.0.0.0", 9000), Address("tower", 9000)),
            (("::", 9000), Address("tower", 9000)),
            (("192.0.2.1", 8828), Address("192.0.2.1")),
            (("2001:db8::1", 8828), Address("2001:db8::1")),
            (("2001:db8::1", 9000), Address("2001:db8::1", 9000)),
        ):
            self.assertEqual(self.addresses(place), [address])
        self.assertEqual(PORT, SERVERS_PORT)

    def test_a_server_for_this_machine_alone_says_nothing(self) -> None:
        self.assertEqual(self.ways(("127.0.0.1", 8828), ("::1", 8828)), [])
        self.assertEqual(list(ways_in([UNIXAddress("/run/chat")], "tower", "SHA256:abc")), [])

    def test_a_machine_without_a_name_of_its_own_is_to_be_named(self) -> None:
        for machine in ("", "localhost", "localhost.localdomain"):
            [_, line] = ways_in([IPv4Address("TCP", "0.0.0.0", 8828)], machine, "SHA256:abc")
            self.assertEqual(line.split()[5], "HOST")

    def test_an_endpoint_for_this_machine_names_no_other_unless_it_was_named(self) -> None:
        for described, meant in (
            ("tcp:9464", "tcp:9464:interface=127.0.0.1"),
            ("tcp6:9464", r"tcp6:9464:interface=\:\:1"),
            ("unix:/run/m", "unix:/run/m:mode=600"),
            ("unix:/run/m:mode=660", "unix:/run/m:mode=660"),
            ("tcp:9464:interface=0.0.0.0", "tcp:9464:interface=0.0.0.0"),
        ):
            self.assertEqual(for_this_machine(described), meant)
            [_, _] = make_endpoints([meant], object())[0]

    def test_a_machine_that_listens_on_both_families_is_named_once(self) -> None:
        self.assertEqual(len(self.ways(("0.0.0.0", 8828), ("::", 8828), ("127.0.0.1", 1))), 2)
