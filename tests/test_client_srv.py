"""The hosts of a chat in DNS."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorUDP
from twisted.internet.testing import MemoryReactorClock
from twisted.names import dns
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from chat_twisted.client import srv
from chat_twisted.client.address import Host
from chat_twisted.client.srv import FOUND_WITHIN, MAX_HOSTS, Record, find, may_have_records, order

SERVER = ("192.0.2.53", 53)


class Port:
    """A UDP port that keeps what is sent.

    :ivar sent: the datagrams, each with the address of its recipient.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.is_open = True

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append((data, address))

    def stopListening(self) -> None:
        self.is_open = False


@implementer(IReactorUDP)
class Network(MemoryReactorClock):
    """A reactor whose UDP ports are in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.protocols: list[Any] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 0):
        protocol.transport = Port()
        self.protocols.append(protocol)
        protocol.startProtocol()
        return protocol.transport


class FindTests(TestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.file = folder / "resolv.conf"
        self.patch(srv, "RESOLV_CONF", self.file)
        self.file.write_text("# nameserver 192.0.2.1\nsearch example\nnameserver 192.0.2.53\n")
        self.reactor = Network()

    def ask(self, name: str = "chat.example") -> Deferred[list[Host]]:
        return Deferred.fromCoroutine(find(self.reactor, name))

    def answer(self, *targets: tuple[str, int], code: int = dns.OK) -> None:
        """Answer the last query with these hosts, each with its place as its priority."""
        protocol = self.reactor.protocols[-1]
        [(data, address)] = protocol.transport.sent
        self.assertEqual(address, SERVER)
        message = dns.Message()
        message.fromStr(data)
        [query] = message.queries
        self.assertEqual((str(query.name), query.type), (f"{srv.SERVICE}.chat.example", dns.SRV))
        message.answer, message.rCode = 1, code
        message.answers = [
            dns.RRHeader(str(query.name), dns.SRV, payload=dns.Record_SRV(number, 0, port, target))
            for number, (target, port) in enumerate(targets)
        ]
        protocol.datagramReceived(message.toStr(), SERVER)

    def test_the_hosts_of_a_domain_are_found(self) -> None:
        found = self.ask()
        self.assertNoResult(found)
        self.answer(("a.example", 1), ("b.example.", 2))
        self.assertEqual(self.successResultOf(found), [Host("a.example", 1), Host("b.example", 2)])
        self.assertFalse(self.reactor.protocols[-1].transport.is_open)

    def test_a_target_that_can_be_no_host_is_left_out(self) -> None:
        found = self.ask()
        self.answer(("", 1), ("a\x1b[2J", 1), ("a b", 1), ("a.example", 0), ("b.example", 2))
        self.assertEqual(self.successResultOf(found), [Host("b.example", 2)])

    def test_a_domain_without_records_has_no_hosts(self) -> None:
        for code in (dns.OK, dns.ENAME, dns.ESERVER, dns.EREFUSED):
            found = self.ask()
            self.answer(code=code)
            self.assertEqual(self.successResultOf(found), [])

    def test_an_answer_that_does_not_come_is_not_waited_for(self) -> None:
        self.file.write_text("nameserver 192.0.2.53\nnameserver 192.0.2.54\nnameserver ::1")
        found = self.ask()
        self.reactor.pump([0.4 * FOUND_WITHIN] * 2)
        self.assertNoResult(found)
        self.assertEqual(len(self.reactor.protocols), 3)
        self.reactor.advance(0.2 * FOUND_WITHIN)
        self.assertEqual(self.successResultOf(found), [])
        self.reactor.advance(FOUND_WITHIN)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual([p for p in self.reactor.protocols if p.transport.is_open], [])

    def test_a_search_can_be_cancelled(self) -> None:
        found = self.ask()
        found.cancel()
        self.failureResultOf(found, CancelledError)
        self.assertFalse(self.reactor.protocols[-1].transport.is_open)

    def test_without_a_name_server_or_udp_or_for_no_domain_nothing_is_asked(self) -> None:
        for text in ("", "nameserver x\nnameserver fe80::1%eth0"):
            self.file.write_text(text)
            self.assertEqual(self.successResultOf(self.ask()), [])
        self.file.unlink()
        self.assertEqual(self.successResultOf(self.ask()), [])
        self.file.write_text("nameserver 192.0.2.53")
        for name in ("a..example", "x" * 64 + ".example"):
            self.assertEqual(self.successResultOf(self.ask(name)), [])
        self.assertEqual(self.reactor.protocols, [])
        self.reactor = MemoryReactorClock()
        self.assertEqual(self.successResultOf(self.ask()), [])


class NamesTests(TestCase):
    def test_only_a_domain_without_a_port_of_its_own_is_looked_up(self) -> None:
        for name in ("chat.example", "chat.example.", "a.b.c"):
            self.assertTrue(may_have_records(Host(name, 8828)), name)
            self.assertFalse(may_have_records(Host(name, 9000)), name)
        for name in (
            "tower",
            "tower.",
            "localhost",
            "x.localhost",
            "tower.local",
            "127.0.0.1",
            "::1",
            "fe80::1%a.b",
        ):
            self.assertFalse(may_have_records(Host(name, 8828)), name)


class OrderTests(TestCase):
    def names(self, records: list[Record], *chances: float) -> str:
        drawn: Iterator[float] = iter(chances)
        return "".join(host.name for host in order(records, lambda: next(drawn)))

    def test_the_lowest_priority_is_first_and_the_weight_is_the_chance_within_one(self) -> None:
        records = [
            Record(2, 0, Host("d", 1)),
            Record(1, 10, Host("a", 1)),
            Record(1, 60, Host("b", 1)),
            Record(1, 30, Host("c", 1)),
        ]
        self.assertEqual(self.names(records, 0.05, 0, 0, 0), "acbd")
        self.assertEqual(self.names(records, 0.3, 0.5, 0, 0), "cbad")
        self.assertEqual(self.names(records, 0.99, 0.99, 0, 0), "bcad")

    def test_without_weights_all_are_there(self) -> None:
        self.assertEqual(self.names([Record(1, 0, Host(name, 1)) for name in "ab"], 0, 1), "ab")

    def test_so_many_are_used(self) -> None:
        records = [Record(1, 0, Host("a", port)) for port in range(1, 100)]
        self.assertEqual(len(order(records, lambda: 0)), MAX_HOSTS)
