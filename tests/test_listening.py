"""Listening on endpoints: wrong ones, ones that are in use."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from chat_twisted.listening import listen, make_endpoints
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


class Factory:
    def __init__(self) -> None:
        self.ports: list[object] = []

    def listens(self, port: object) -> None:
        self.ports.append(port)


class ListeningTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.factory: Any = Factory()

    def listen(self, *results: object) -> list[Port]:
        self.endpoints = [(f"endpoint {i}", Endpoint(r)) for i, r in enumerate(results)]
        self.reactor = Turns()
        return listen(self.endpoints, self.factory, self.reactor)

    def test_it_listens_on_each_endpoint(self) -> None:
        ports = self.listen(Port(), Port())
        self.assertEqual(self.factory.ports, ports)
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
