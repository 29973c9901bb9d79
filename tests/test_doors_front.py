"""The one port: who gets a connection, by its first bytes, and who may speak plain text."""

from __future__ import annotations

import contextlib
import gc
import shutil
import socket
import tempfile
import weakref
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import ChatError, EncryptionRequired, Unavailable
from chat_twisted.core.limits import OFF, Limiter, Rate
from chat_twisted.doors import Channel
from chat_twisted.doors.front import (
    ACCEPT_AT_ONCE,
    DECIDE_WITHIN,
    FIRST_READ,
    MAX_CHAIN,
    MAX_HANDSHAKE,
    Choice,
    FrontConnection,
    FrontFactory,
    Plaintext,
)
from chat_twisted.doors.tls import ServerTLS, ensure
from chat_twisted.doors.turns import SHARE, STEPS_AT_ONCE
from tests.test_doors_tls import certify, openssh

HERE = IPv4Address("TCP", "127.0.0.1", 5)
THERE = IPv4Address("TCP", "192.0.2.7", 5)


class Transport(StringTransport):
    """As a TCP connection, it has its protocol."""

    protocol: Protocol
    aborted = False
    bufferSize = 65_536

    def abortConnection(self) -> None:
        self.aborted = True


class Guest(Protocol):
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.got = b""
        self.refused: list[type[ChatError]] = []
        self.lost = False
        self.closed = False

    def close(self, why: str) -> None:
        self.closed = True

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True

    def refuse(self, error: ChatError) -> None:
        self.refused.append(type(error))


class Door:
    def __init__(self) -> None:
        self.guests: list[Guest] = []
        self.started = 0
        self.full = False

    def accept(self, channel: Channel) -> Guest | None:
        if self.full:
            return None
        self.guests.append(Guest(channel))
        return self.guests[-1]

    def doStart(self) -> None:
        self.started += 1

    def doStop(self) -> None:
        self.started -= 1


class FrontTestCase(TestCase):
    plaintext = Plaintext.LOOPBACK
    connections = 9
    arrivals = 100
    places = 20
    handshakes = 10

    def setUp(self) -> None:
        self.clock = Clock()
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.tls = ServerTLS(*ensure(folder))
        self.ssh, self.irc, self.framed = Door(), Door(), Door()
        self.factory = FrontFactory(
            [
                Choice(self.ssh, (b"SSH-",), encrypted=True),
                Choice(self.irc, commands=frozenset({b"NICK", b"CAP"})),
                Choice(self.framed, (b"REGISTER",)),
            ],
            self.tls,
            self.clock,
            Limiter(OFF._replace(connections=self.connections, arrivals=Rate(0.1, self.arrivals))),
            plaintext=self.plaintext,
            max_connections=self.places,
            max_handshakes=self.handshakes,
        )

    def connect(self, address=HERE) -> Transport:
        connection = self.factory.buildProtocol(address)
        assert isinstance(connection, FrontConnection)
        transport = Transport(peerAddress=address)
        transport.protocol = connection
        connection.makeConnection(transport)
        return transport

    def log(self) -> list[str]:
        """Return a list that gets the lines of the log."""
        logged: list[str] = []

        def observe(event) -> None:
            if str(event.get("log_namespace", "")).startswith("chat_twisted"):
                logged.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return logged

    def say(self, transport: Transport, data: bytes) -> None:
        transport.protocol.dataReceived(data)
        self.clock.advance(0)  # it waits for its turn


class CountingTests(FrontTestCase):
    connections = 1

    def test_an_address_has_so_many_connections_at_most_for_as_long_as_they_last(self) -> None:
        silent, first, second = (self.connect() for _ in range(3))  # nobody counts who is silent
        for transport in (first, second):
            self.say(transport, b"REGISTER x\n\n")
        one, other = self.framed.guests
        self.assertEqual((one.refused, one.got), ([], b"REGISTER x\n\n"))
        self.assertEqual((other.refused, other.closed, other.got), ([Unavailable], True, b""))
        other.channel.lost()  # which was not counted
        for refused in ([Unavailable], []):
            self.say(self.connect(), b"REGISTER x\n\n")
            self.assertEqual(self.framed.guests[-1].refused, refused)
            one.channel.lost()
        self.assertFalse(silent.disconnecting)

    def test_an_address_owes_nothing_for_a_connection_that_no_door_takes(self) -> None:
        self.framed.full = True
        self.say(self.connect(), b"REGISTER x\n\n")
        self.framed.full = False
        self.say(self.connect(), b"REGISTER x\n\n")
        self.assertEqual(self.framed.guests[-1].refused, [])


class ShareTests(FrontTestCase):
    connections = 1
    places = 6

    def test_past_its_share_an_address_loses_the_one_that_said_nothing_for_longest(self) -> None:
        transports = [self.connect(HERE) for _ in range(5)]
        other = self.connect(THERE)
        self.assertEqual([t.disconnecting for t in transports], [True, True, False, False, False])
        self.assertFalse(other.disconnecting)

    def test_a_refused_peer_keeps_a_place_until_it_is_gone(self) -> None:
        self.say(self.connect(), b"REGISTER x\n\n")
        refused = []
        for _ in range(5):
            refused.append(self.connect())
            self.say(refused[-1], b"REGISTER x\n\n")
        self.assertEqual([guest.refused for guest in self.framed.guests[1:]], [[Unavailable]] * 5)
        self.assertEqual([t.aborted for t in refused], [True, True, False, False, False])
        for guest in self.framed.guests[1:]:
            guest.channel.lost()
        silent = [self.connect() for _ in range(3)]
        self.assertFalse(any(transport.disconnecting for transport in silent))

    def test_a_peer_that_connects_too_often_is_turned_away_at_once_and_logged_once(self) -> None:
        logged = self.log()
        made = [self.factory.buildProtocol(HERE) is not None for _ in range(120)]
        self.assertEqual(made, [True] * 100 + [False] * 20)
        self.assertEqual(logged, ["turned away 127.0.0.1: connects too often"])
        self.assertIsNotNone(self.factory.buildProtocol(THERE))

    def test_no_more_are_accepted_in_one_turn_however_many_come(self) -> None:
        class Port:
            numberAccepts = 10_000
            socket = None

        self.factory.listens(port := Port())
        self.factory.listens(object())  # of another kind
        self.connect()
        self.assertEqual(port.numberAccepts, ACCEPT_AT_ONCE)
        port.numberAccepts = 1
        self.connect()
        self.assertEqual(port.numberAccepts, 1)

    def test_ports_are_prepared_so_that_vanished_peers_are_noticed(self) -> None:
        class Port:
            socket = socket.socket()

        with Port.socket:
            self.factory.listens(Port())
            keeps = Port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            self.assertEqual(keeps, 60)


def client_hello() -> bytes:
    """How a client of TLS begins."""
    peer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    peer.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        peer.do_handshake()
    return peer.bio_read(65536)


class ReturningTests(FrontTestCase):
    arrivals = 500
    places = 20_000

    def test_if_thousands_come_at_once_from_few_addresses_nobody_loses_a_place(self) -> None:
        addresses = [IPv4Address("TCP", f"192.0.2.{i}", 5) for i in range(10)]
        transports = [self.connect(address) for _ in range(200) for address in addresses]
        self.assertEqual(self.factory.undecided, 2000)
        self.assertFalse(any(transport.disconnecting for transport in transports))


class HandshakeTests(FrontTestCase):
    places = 200

    def hello(self, address=HERE, data: bytes = b"") -> Transport:
        transport = self.connect(address)
        transport.protocol.dataReceived(data or client_hello())
        return transport

    def answered(self, *transports: Transport) -> int:
        return sum(transport.value() != b"" for transport in transports)

    def test_there_is_no_tls_before_a_whole_hello(self) -> None:
        whole = client_hello()
        transport = self.connect()
        for start in range(0, len(whole), 100):
            self.clock.advance(0)
            self.assertIsInstance(transport.protocol, FrontConnection)
            self.say(transport, whole[start : start + 100])
        self.clock.advance(0)
        self.assertNotIsInstance(transport.protocol, FrontConnection)
        self.assertEqual(self.answered(transport), 1)

    def test_handshakes_are_begun_few_in_a_turn_and_those_of_each_address_in_turn(self) -> None:
        many = [self.hello(HERE) for _ in range(3 * STEPS_AT_ONCE)]
        one = self.hello(THERE)
        self.assertEqual([t.producerState for t in (many[0], one)], ["paused", "paused"])
        next_turns: list[object] = []  # this clock's own advance() would take them all
        self.patch(self.clock, "callLater", lambda _, call: next_turns.append(call))
        self.clock.advance(0)
        self.assertEqual(len(next_turns), 1)
        self.assertEqual(self.answered(*many, one), STEPS_AT_ONCE)
        self.assertEqual((self.answered(one), one.producerState), (1, "producing"))

    def test_who_can_get_a_door_comes_before_those_who_begin_a_handshake(self) -> None:
        many = [self.hello() for _ in range(3 * STEPS_AT_ONCE)]
        one = self.connect()
        one.protocol.dataReceived(b"REGISTER x\n\n")
        self.patch(self.clock, "callLater", lambda _, call: None)
        self.clock.advance(0)
        self.assertEqual([guest.got for guest in self.framed.guests], [b"REGISTER x\n\n"])
        self.assertEqual(self.answered(*many), STEPS_AT_ONCE - 1)

    def test_the_time_for_which_it_waits_for_the_server_is_not_counted(self) -> None:
        turns: list[object] = []
        self.patch(
            self.factory.turns, "add", lambda connection, begins_tls: turns.append(connection)
        )
        transport = self.hello()
        self.clock.advance(DECIDE_WITHIN + 1)  # the server had no time for it until now
        self.assertFalse(transport.disconnecting)
        connection = transport.protocol
        connection.go_on()
        self.assertEqual(self.answered(transport), 1)
        self.clock.advance(DECIDE_WITHIN - 1)
        self.assertFalse(transport.aborted)
        self.clock.advance(2 * DECIDE_WITHIN)
        self.assertTrue(transport.aborted)

    def test_a_record_that_is_longer_than_a_handshake_is_not_kept(self) -> None:
        head = b"\x16\x03\x01\xff\xff"
        transport = self.hello(data=head + bytes(MAX_HANDSHAKE - 1))
        self.clock.advance(0)
        self.assertIsInstance(transport.protocol, FrontConnection)
        self.say(transport, b"\0")
        self.assertNotIsInstance(transport.protocol, FrontConnection)
        self.assertTrue(transport.disconnecting)

    def test_little_is_read_at_once_of_who_has_no_door(self) -> None:
        silent = self.connect()
        shaking = self.hello()
        self.clock.advance(0)
        self.assertEqual(self.answered(shaking), 1)
        self.assertEqual((silent.bufferSize, shaking.bufferSize), (FIRST_READ, FIRST_READ))
        self.say(silent, b"REGISTER x\n\n")
        self.assertEqual(len(self.framed.guests), 1)
        self.assertEqual(silent.bufferSize, Transport.bufferSize)

    def test_past_its_share_an_address_loses_the_handshake_that_takes_longest(self) -> None:
        many = [self.hello(HERE) for _ in range(8)]
        for _ in range(4):
            self.clock.advance(0)
        self.assertEqual([t.aborted for t in many], [True] * 3 + [False] * 5)
        one = self.hello(THERE)
        self.clock.advance(0)
        self.assertEqual((self.answered(one), one.aborted), (1, False))

    def test_a_peer_that_goes_before_its_turn_is_forgotten(self) -> None:
        for transport in [self.hello() for _ in range(3)]:
            transport.protocol.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.factory.turns._ready, {})


class PlainTests(FrontTestCase):
    def test_of_many_connections_at_once_few_are_handed_over_in_a_turn(self) -> None:
        addresses = [HERE] * 3 * STEPS_AT_ONCE + [THERE]
        self.factory.plaintext = Plaintext.ANYWHERE
        self.factory._max_connections = 99
        for address in addresses:
            transport = self.connect(address)
            transport.protocol.dataReceived(b"REGISTER x\n\n")
            self.assertEqual(transport.producerState, "paused")
        next_turns: list[object] = []  # this clock's own advance() would take them all
        self.patch(self.clock, "callLater", lambda _, call: next_turns.append(call))
        self.clock.advance(0)
        hosts = [guest.channel.host for guest in self.framed.guests]
        self.assertEqual((len(hosts), len(next_turns)), (STEPS_AT_ONCE, 1))
        self.assertIn(THERE.host, hosts)
        self.assertEqual(
            (transport.producerState, transport.protocol.got), ("producing", b"REGISTER x\n\n")
        )

    def test_no_further_connection_is_handed_over_in_a_turn_that_has_taken_long(self) -> None:
        self.factory.plaintext = Plaintext.ANYWHERE
        self.patch(Guest, "dataReceived", lambda guest, _: self.clock.advance(SHARE / 2))
        for address in [HERE, THERE, HERE, HERE]:
            self.connect(address).protocol.dataReceived(b"REGISTER x\n\n")
        next_turns: list[object] = []
        self.patch(self.clock, "callLater", lambda _, call: next_turns.append(call))
        self.clock.advance(0)
        hosts = [guest.channel.host for guest in self.framed.guests]
        self.assertEqual((hosts, len(next_turns)), ([HERE.host, THERE.host], 1))

    def test_the_first_bytes_decide_which_door_gets_the_whole_stream(self) -> None:
        for first, door in (
            (b"SSH-2.0-x\r\n", self.ssh),
            (b"REGISTER bob\n\n", self.framed),
            (b"GET / HTTP/1.1\r\n", self.framed),  # which refuses it in its own words
            (b"\nREGISTER bob\n\n", self.framed),
            (b"x" * 512, self.framed),
            (b"\n" * 512, self.framed),
            (b"NICK bob\r\n", self.irc),
            (b"nick bob\n", self.irc),
            (b"\r\n\n\r\nCap LS 302\r\n", self.irc),
            (b"NICK\r\n", self.irc),
            (b"cap\n", self.irc),
            (b"NICKNAME bob\n", self.framed),
            (b"register bob\n", self.framed),
            (b" NICK bob\n", self.framed),
            (b"x\nNICK bob\n", self.framed),
            (b"\n" * 511 + b"NICK bob\n", self.framed),
            (b"\n" * 507 + b"NICK bob\n", self.irc),
        ):
            transport = self.connect()
            self.say(transport, first)
            guest = door.guests[-1]
            self.assertIs(transport.protocol, guest)
            self.say(transport, b"more")
            self.assertEqual((guest.got, guest.channel.host), (first + b"more", "127.0.0.1"))
            guest.channel.lost()

    def test_the_door_is_the_same_if_the_first_bytes_come_one_by_one(self) -> None:
        for first, undecided, door in (
            (b"REGISTER x", 7, self.framed),
            (b"\r\n\nnick a\n", 7, self.irc),
            (b"NICK\n", 4, self.irc),
            (b"\nregister x\n\n", 11, self.framed),
            (b"\r" * 600, 511, self.framed),
        ):
            transport = self.connect()
            for byte in first[:undecided]:
                self.say(transport, bytes([byte]))
            self.assertIsInstance(transport.protocol, FrontConnection, first)
            for byte in first[undecided:]:
                self.say(transport, bytes([byte]))
            self.assertEqual(door.guests[-1].got, first)
            door.guests[-1].channel.lost()

    def test_a_peer_that_sends_nothing_or_not_enough_is_closed_after_ten_seconds(self) -> None:
        silent, slow = self.connect(), self.connect()
        self.clock.advance(9)
        self.say(slow, b"REGIS")
        self.assertFalse(silent.disconnecting)
        self.clock.advance(1)
        self.assertTrue(silent.disconnecting and slow.disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_peer_that_goes_or_is_handed_over_leaves_nothing_behind(self) -> None:
        for data in (b"", b"REG", b"REGISTER "):
            transport = self.connect()
            self.say(transport, data)
            transport.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.framed.guests[0].lost)

    def test_a_door_that_takes_nobody_is_a_closed_connection(self) -> None:
        self.framed.full = True
        transport = self.connect()
        self.say(transport, b"REGISTER x\n\n")
        self.assertTrue(transport.aborted)

    def test_stopping_closes_silent_connections_and_accepts_none(self) -> None:
        transport = self.connect()
        self.factory.stop()
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(self.factory.buildProtocol(HERE))

    def test_a_paused_front_closes_connections_without_a_door_and_every_new_one(self) -> None:
        logged = self.log()
        silent, waiting, encrypted = (self.connect() for _ in range(3))
        waiting.protocol.dataReceived(b"REGISTER x\n\n")
        encrypted.protocol.dataReceived(b"\x16\x03\x01\x00\x04abc")
        self.factory.pause("it can't reach the others")
        self.assertEqual([t.disconnecting for t in (silent, waiting, encrypted)], [True] * 3)
        self.assertIsNone(self.factory.buildProtocol(HERE))
        self.clock.advance(0)
        self.assertEqual(self.framed.guests, [])
        self.assertEqual(logged, ["turned away 127.0.0.1: it can't reach the others"])

    def test_a_front_that_resumes_accepts_connections_again(self) -> None:
        door = self.connect()
        self.say(door, b"REGISTER x\n\n")
        self.factory.pause("it can't reach the others")
        self.factory.resume()
        self.say(self.connect(), b"REGISTER y\n\n")
        self.assertFalse(door.disconnecting)
        self.assertEqual(
            [g.got for g in self.framed.guests], [b"REGISTER x\n\n", b"REGISTER y\n\n"]
        )

    def test_doors_are_started_and_stopped_with_the_ports(self) -> None:
        self.factory.doStart()
        self.factory.doStart()
        self.assertEqual((self.ssh.started, self.framed.started), (1, 1))
        self.factory.doStop()
        self.factory.doStop()
        self.assertEqual((self.ssh.started, self.framed.started), (0, 0))


class PolicyTests(FrontTestCase):
    addresses = {
        HERE: True,
        IPv6Address("TCP", "::1", 5): True,
        IPv6Address("TCP", "::ffff:127.0.0.1", 5): True,
        UNIXAddress(b"/run/chat"): True,
        THERE: False,
        IPv6Address("TCP", "::ffff:192.0.2.7", 5): False,
        IPv6Address("TCP", "fe80::1%eth0", 5): False,
    }

    def refused(self, address) -> bool:
        self.say(self.connect(address), b"REGISTER x\n\n")
        guest = self.framed.guests[-1]
        self.assertEqual(guest.got == b"", bool(guest.refused))
        self.assertIn(guest.refused, ([], [EncryptionRequired]))
        return bool(guest.refused)

    def test_plain_text_is_accepted_only_from_where_it_is_allowed(self) -> None:
        for address, local in self.addresses.items():
            for policy, taken in (
                (Plaintext.LOOPBACK, local),
                (Plaintext.ANYWHERE, True),
                (Plaintext.NOWHERE, False),
            ):
                self.factory.plaintext = policy
                self.assertEqual(self.refused(address), not taken, (address, policy))

    def test_a_door_with_its_own_encryption_is_open_to_all(self) -> None:
        self.factory.plaintext = Plaintext.NOWHERE
        self.say(self.connect(THERE), b"SSH-2.0-x\r\n")
        self.assertEqual(self.ssh.guests[0].got, b"SSH-2.0-x\r\n")


class TLSTests(FrontTestCase):
    plaintext = Plaintext.NOWHERE

    def setUp(self) -> None:
        super().setUp()
        self.transport = self.connect(THERE)
        self.peer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        self.peer.set_connect_state()

    def exchange(self) -> None:
        """Carry bytes to and fro until nothing moves."""
        while True:
            try:
                data = self.peer.bio_read(65536)
            except SSL.WantReadError:
                data = b""
            if data:
                self.say(self.transport, data)
            self.clock.advance(0)  # small writes are gathered until the turn is over
            answer = self.transport.value()
            self.transport.clear()
            if answer:
                self.peer.bio_write(answer)
            if not data and not answer:
                return
            with contextlib.suppress(SSL.WantReadError):
                self.peer.do_handshake()

    def shake_hands(self) -> None:
        self.assertRaises(SSL.WantReadError, self.peer.do_handshake)
        self.exchange()

    def test_the_decrypted_stream_is_given_to_the_right_door(self) -> None:
        self.shake_hands()
        self.peer.send(b"REGI")
        self.exchange()
        self.peer.send(b"STER x\n\n")
        self.exchange()
        [guest] = self.framed.guests
        self.assertEqual((guest.got, guest.refused), (b"REGISTER x\n\n", []))
        self.assertEqual((guest.channel.host, guest.channel.encrypted), ("192.0.2.7", True))
        certificate = self.peer.get_peer_certificate(as_cryptography=True)
        self.assertEqual(guest.channel.binding, certificate.fingerprint(SHA256()))
        guest.transport.write(b"REGISTERED x\n\n")
        self.exchange()
        self.assertEqual(self.peer.recv(100), b"REGISTERED x\n\n")
        self.transport.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(guest.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def use_certificate(self, version: int, others: int = 0, longer: int = 0) -> str:
        """Give the client a certificate; return its key.

        :param others: the number of certificates behind it.
        :param longer: as in ``certify``.
        """
        private = Ed25519PrivateKey.generate()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.use_certificate(certify(private, longer=longer))
        for _ in range(others):
            context.add_extra_chain_cert(certify(private))
        context.use_privatekey(private)
        self.peer = SSL.Connection(context, None)
        self.peer.set_connect_state()
        return openssh(private)

    def test_a_client_that_shows_many_or_long_certificates_is_closed(self) -> None:
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            for others, longer, taken in (
                (MAX_CHAIN, 0, True),
                (MAX_CHAIN + 1, 0, False),
                (200, 0, False),
                (0, MAX_HANDSHAKE // 2, True),
                (0, MAX_HANDSHAKE, False),
            ):
                self.transport = self.connect(THERE)
                self.use_certificate(version, others, longer)
                self.framed.guests.clear()
                with contextlib.suppress(SSL.Error):
                    self.shake_hands()
                    self.peer.send(b"REGISTER x\n\n")
                    self.exchange()
                self.assertEqual(bool(self.framed.guests), taken, (others, longer))
                self.assertEqual(self.transport.aborted, not taken)

    def test_many_bytes_right_behind_the_handshake_are_taken(self) -> None:
        self.use_certificate(SSL.TLS1_3_VERSION)
        self.assertRaises(SSL.WantReadError, self.peer.do_handshake)
        self.say(self.transport, self.peer.bio_read(65536))
        self.clock.advance(0)
        self.peer.bio_write(self.transport.value())
        self.transport.clear()
        self.peer.do_handshake()
        text = b"REGISTER x\n\n" + b"x" * 3 * MAX_HANDSHAKE
        for at in range(0, len(text), 10_000):
            self.peer.send(text[at : at + 10_000])
        self.say(self.transport, self.peer.bio_read(200_000))
        self.exchange()
        self.assertEqual(self.framed.guests[0].got, text)

    def test_the_door_is_told_the_key_of_the_clients_certificate(self) -> None:
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            self.transport = self.connect(THERE)
            key = self.use_certificate(version)
            self.shake_hands()
            self.peer.send(b"REGISTER x\n\n")
            self.exchange()
            self.assertEqual(self.framed.guests[-1].channel.certificate_key, key)

    def test_an_invalid_client_certificate_ends_the_connection_without_an_answer(self) -> None:
        self.use_certificate(SSL.TLS1_2_VERSION)  # in which it is readable on its way
        self.assertRaises(SSL.WantReadError, self.peer.do_handshake)
        self.say(self.transport, self.peer.bio_read(65536))
        self.clock.advance(0)
        self.peer.bio_write(self.transport.value())
        self.assertRaises(SSL.WantReadError, self.peer.do_handshake)
        flight = self.peer.bio_read(65536)
        at = flight.index(b"alice")
        self.say(self.transport, flight[: at - 30] + b"\xff" * 60 + flight[at + 30 :])
        self.clock.advance(0)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.framed.guests, [])

    def test_a_connection_that_is_cut_off_leaves_nothing_to_be_collected(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        for said in (b"", b"REG"):
            with self.subTest(said):
                self.transport = self.connect(THERE)
                self.peer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
                self.peer.set_connect_state()
                self.shake_hands()
                if said:
                    self.peer.send(said)
                    self.exchange()
                tls = self.transport.protocol
                del self.transport.protocol  # as a transport does
                left = [weakref.ref(tls.getHandle()), weakref.ref(self.transport)]
                tls.connectionLost(Failure(ConnectionDone()))
                del tls
                self.transport = None
                self.assertEqual([kept() for kept in left], [None, None])

    def test_tls_inside_tls_is_nothing_special(self) -> None:
        self.shake_hands()
        self.peer.send(b"\x16\x03\x01\n")
        self.exchange()
        self.assertEqual(self.framed.guests[0].got, b"\x16\x03\x01\n")

    def test_a_handshake_that_is_not_finished_is_closed_after_ten_seconds(self) -> None:
        self.assertRaises(SSL.WantReadError, self.peer.do_handshake)
        hello = self.peer.bio_read(65536)
        self.say(self.transport, hello[:20])
        self.clock.advance(5)
        self.say(self.transport, hello[20:])
        self.clock.advance(5)
        self.assertTrue(self.transport.aborted)

    def test_silence_inside_tls_is_closed_after_the_same_ten_seconds(self) -> None:
        self.clock.advance(9)
        self.shake_hands()
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_a_stream_that_is_no_tls_after_the_first_byte_is_closed(self) -> None:
        self.say(self.transport, b"\x16" + b"rubbish" * 100)
        self.clock.advance(0)
        self.assertTrue(self.transport.disconnecting)

    def test_older_versions_than_1_2_are_refused(self) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(SSL.TLS1_1_VERSION)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        self.peer = SSL.Connection(context, None)
        self.peer.set_connect_state()
        self.assertRaises(SSL.WantReadError, self.peer.do_handshake)
        with self.assertRaises(SSL.Error):
            self.exchange()
        self.assertEqual(self.framed.guests, [])
