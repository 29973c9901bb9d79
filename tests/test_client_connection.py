"""Connecting a session, again after a loss, and the explanations of failures."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.internet import defer, error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols import tls
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from chat_twisted.client.address import Host
from chat_twisted.client.client_state import StateFile, config_folder
from chat_twisted.client.connection import (
    CONNECTED_WITHIN,
    FAILURES,
    NEXT_WITHIN,
    Connector,
    NotReached,
    Server,
    explain,
)
from chat_twisted.client.login import Credentials
from chat_twisted.client.session import ClientSession
from chat_twisted.client.tls import (
    NotEncrypted,
    Untrusted,
    parse_fingerprint,
)
from chat_twisted.doors.tls import ServerTLS, ensure
from tests.door import Transport
from tests.test_client_session import Key, Log

SERVER = Server("Chat.example")


@implementer(IHostnameResolver)
class Names:
    """A resolver with one address for each name in ``known``."""

    known = ("Chat.example",)

    def resolveHostName(self, receiver: Any, name: str, portNumber: int, **_: Any) -> Any:
        receiver.resolutionBegan(None)
        if name in self.known:
            receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", portNumber))
        receiver.resolutionComplete()
        return receiver


class Echo(Protocol):
    """The server's side: records the received data."""

    def __init__(self) -> None:
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        self.got += data


class ConnectionTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(os, "environ", {"XDG_CONFIG_HOME": str(self.folder)})
        self.reactor = MemoryReactorClock()
        self.reactor.installNameResolver(Names())
        self.told: list[str] = []
        self.log = Log()

    def connector(self, server: Server = SERVER) -> Connector:
        return Connector(self.reactor, server, self.told.append)

    def session(self, connector: Connector | None = None, wait: float = 600) -> ClientSession:
        return ClientSession(
            "alice",
            self.log,
            Credentials(Key(key=False), fail),
            self.reactor,
            None if connector is None else connector.reconnect,
            hosts=None if connector is None else connector.hosts,
            reconnect_for=wait,
            chance=lambda: 0,
            instance="i",
        )

    def accept(self) -> tuple[Any, Transport]:
        """Accept the pending connection; return the client's side of it."""
        _, _, factory, *_ = self.reactor.tcpClients[-1]
        protocol = factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        return protocol, transport

    def refuse(self, reason: Exception) -> None:
        _, _, factory, *_ = self.reactor.tcpClients[-1]
        factory.clientConnectionFailed(self.reactor.connectors[-1], Failure(reason))
        self.reactor.advance(1)  # no further address to try

    def events(self) -> list[object]:
        return [event[0] for event in self.log.events]


class PlainTests(ConnectionTestCase):
    def test_a_session_speaks_as_soon_as_the_connection_stands(self) -> None:
        session = self.session()
        done = self.connector(Server("Chat.example", 9000, plain=True)).connect(session)
        self.assertEqual(self.reactor.tcpClients[-1][:2], ("192.0.2.1", 9000))
        self.assertNoResult(done)
        _, transport = self.accept()
        self.successResultOf(done)
        self.assertEqual(transport.take(), b"REGISTER alice\nVersion: 2\nInstance: i\n\n")
        self.assertEqual((self.told, session.binding), ([], b""))

    def test_a_refused_connection_is_a_failure_that_can_be_explained(self) -> None:
        for server in (SERVER, Server("Chat.example", plain=True)):
            done = self.connector(server).connect(self.session())
            self.refuse(error.ConnectionRefusedError())
            problem = self.failureResultOf(done, *FAILURES).value
            self.assertEqual(
                explain(problem, server),
                "connection refused: no server at Chat.example:8828",
            )

    def test_a_port_that_never_answers_is_given_up_in_the_same_time_with_tls_and_without(
        self,
    ) -> None:
        for server in (SERVER, Server("Chat.example", plain=True)):
            done = self.connector(server).connect(self.session())
            self.reactor.advance(CONNECTED_WITHIN - 1)
            self.assertNoResult(done)
            self.reactor.advance(1)
            problem = self.failureResultOf(done, *FAILURES).value
            self.assertEqual(
                explain(problem, server), "no answer from Chat.example:8828 within 20 s"
            )

    def test_a_server_that_takes_a_plain_connection_and_says_nothing_is_given_up_too(self) -> None:
        session = self.session()
        done = self.connector(Server("Chat.example", plain=True)).connect(session)
        _, transport = self.accept()
        self.successResultOf(done)
        self.reactor.advance(CONNECTED_WITHIN)
        self.assertTrue(transport.aborting)
        session.connectionLost(Failure(error.ConnectionAborted()))
        self.assertEqual(
            self.log.events, [("lost", "no answer from Chat.example:8828 within 20 s")]
        )

    def test_an_address_with_a_zone_is_connected_to_in_that_zone(self) -> None:
        self.connector(Server("fe80::1%lo")).connect(self.session())
        self.assertEqual(self.reactor.tcpClients[-1][:2], ("fe80::1%lo", 8828))

    def test_a_host_that_nobody_knows_is_said(self) -> None:
        for host in ("nowhere.example", "a..b", "x" * 64 + ".example", ".", "a b"):
            for plain in (True, False):
                server = Server(host, plain=plain)
                done = self.connector(server).connect(self.session())
                problem = self.failureResultOf(done, *FAILURES).value
                self.assertEqual(explain(problem, server), f"host not found: {host}")
        self.assertEqual(self.reactor.tcpClients, [])

    def test_a_lost_connection_is_made_again(self) -> None:
        connector = self.connector(Server("Chat.example", plain=True))
        session = self.session(connector)
        connector.connect(session)
        protocol, _ = self.accept()
        protocol.dataReceived(b"REGISTERED alice\nSession: x\nMax-message: 9\nLast: 0\n\n")
        protocol.connectionLost(Failure(error.ConnectionDone()))
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.refuse(error.ConnectionRefusedError())
        self.reactor.advance(1)
        protocol, transport = self.accept()
        self.assertEqual(
            transport.take(), b"REGISTER alice\nVersion: 2\nInstance: i\nSession: x\n\n"
        )
        protocol.dataReceived(b"REGISTERED alice\nSession: x\nMax-message: 9\nLast: 0\n\n")
        self.assertEqual(self.events(), ["registered", "disconnected", "reconnected"])


class SeveralHostsTests(ConnectionTestCase):
    """A chat on the hosts a, b and c, without encryption."""

    server = Server("a.example", 1, None, True, (Host("b.example", 2), Host("c.example", 3)))

    def setUp(self) -> None:
        super().setUp()
        self.patch(Names, "known", ("a.example", "b.example", "c.example"))
        self.chat = self.connector(self.server)
        self.talk = self.session(self.chat)

    def tried(self) -> list[int]:
        """The ports of the attempts since the last call."""
        tried = [client[1] for client in self.reactor.tcpClients[self.seen :]]
        self.seen += len(tried)
        return tried

    seen = 0

    def register(self, last: int = 0) -> Any:
        """Accept the connection and the user; return the client's side."""
        protocol, transport = self.accept()
        self.assertTrue(transport.take().startswith(b"REGISTER alice\n"))
        protocol.dataReceived(b"REGISTERED alice\nSession: x\nMax-message: 9\nLast: %d\n\n" % last)
        return protocol

    def lose(self, protocol: Any) -> None:
        self.reactor.advance(2)  # the connection has settled
        protocol.connectionLost(Failure(error.ConnectionDone()))
        self.reactor.advance(0)

    def test_the_first_host_that_answers_is_taken(self) -> None:
        done = self.chat.connect(self.talk)
        self.refuse(error.ConnectionRefusedError())
        self.refuse(error.ConnectionRefusedError())
        self.assertEqual(self.tried(), [1, 2, 3])
        self.register()
        self.successResultOf(done)
        self.assertEqual((self.talk.where, self.events()), ("c.example:3", ["registered"]))

    def test_a_host_that_says_nothing_is_not_waited_for_for_long_unless_it_is_the_last(
        self,
    ) -> None:
        done = self.chat.connect(self.talk)
        for port in (1, 2):
            self.assertEqual(self.tried(), [port])
            self.reactor.advance(NEXT_WITHIN)
        self.assertEqual(self.tried(), [3])
        self.reactor.advance(CONNECTED_WITHIN - 1)
        self.assertNoResult(done)
        self.reactor.advance(1)
        problem = self.failureResultOf(done, *FAILURES).value
        self.assertEqual(
            explain(problem, self.server),
            "no answer from a.example:1 within 5 s; no answer from b.example:2 within 5 s; "
            "no answer from c.example:3 within 20 s",
        )

    def test_why_there_is_no_session_is_said_for_each_host(self) -> None:
        self.patch(Names, "known", ("a.example", "c.example"))
        done = self.chat.connect(self.talk)
        for _ in range(2):
            self.refuse(error.ConnectionRefusedError())
        problem = self.failureResultOf(done, NotReached).value
        self.assertEqual(
            explain(problem, self.server),
            "connection refused: no server at a.example:1; host not found: b.example; "
            "connection refused: no server at c.example:3",
        )

    def test_a_user_who_gives_up_is_not_connected_to_the_next_host(self) -> None:
        done = self.chat.connect(self.talk)
        done.cancel()
        self.failureResultOf(done, defer.CancelledError, error.ConnectingCancelledError)
        self.reactor.advance(CONNECTED_WITHIN)
        self.assertEqual(self.tried(), [1])

    def test_a_lost_connection_is_made_at_once_to_the_next_host(self) -> None:
        self.chat.connect(self.talk)
        self.lose(self.register())
        self.assertEqual(self.tried(), [1, 2])
        self.refuse(error.ConnectionRefusedError())
        self.register()
        self.assertEqual((self.tried(), self.talk.where), ([3], "c.example:3"))
        self.assertEqual(self.events(), ["registered", "disconnected", "reconnected"])
        self.assertEqual(self.talk.moved_to, "c.example:3")

    def test_what_was_received_at_one_host_is_not_sent_again_by_the_next(self) -> None:
        self.chat.connect(self.talk)
        protocol = self.register()
        protocol.dataReceived(
            b"FORWARD bob\nTo: alice\nMessage: 7\nTime: 2026-11-23T10:00:00.123Z\n"
            b"Content-length: 2\n\nhi"
        )
        protocol.dataReceived(b"BYE This server has lost the others\n\n")
        self.lose(protocol)
        self.assertEqual(self.log.events[-1], ("disconnected", "This server has lost the others"))
        self.assertEqual(self.tried(), [1, 2])
        _, transport = self.accept()
        self.assertEqual(
            transport.take(),
            b"REGISTER alice\nVersion: 2\nInstance: i\nSession: x\nResume: 7\n\n",
        )

    def test_a_host_is_named_only_when_it_is_another_one(self) -> None:
        self.chat.connect(self.talk)
        self.lose(self.register())
        self.lose(self.register())
        self.assertEqual(self.talk.moved_to, "b.example:2")
        for _ in range(2):
            self.refuse(error.ConnectionRefusedError())
        self.register()
        self.assertEqual((self.talk.where, self.talk.moved_to), ("b.example:2", ""))

    def test_at_the_start_a_host_that_closes_or_is_silent_is_followed_by_the_next(self) -> None:
        self.talk = self.session(self.chat, wait=0)
        self.chat.connect(self.talk)
        protocol, _ = self.accept()
        protocol.connectionLost(Failure(error.ConnectionDone()))
        self.reactor.advance(0)
        protocol, transport = self.accept()
        self.reactor.advance(NEXT_WITHIN)
        self.assertTrue(transport.aborting)
        protocol.connectionLost(Failure(error.ConnectionAborted()))
        self.reactor.advance(0)
        self.assertEqual(self.tried(), [1, 2, 3])
        self.register()
        self.assertEqual(self.events(), ["registered"])

    def test_at_the_start_a_host_that_accepts_nobody_now_is_followed_by_the_next(self) -> None:
        self.chat.connect(self.talk)
        for _ in range(2):
            protocol, transport = self.accept()
            protocol.dataReceived(b"ERROR 112 Unavailable\n\n")
            self.assertTrue(transport.aborting)
            protocol.connectionLost(Failure(error.ConnectionAborted()))
            self.reactor.advance(0)
        protocol, _ = self.accept()
        self.assertEqual(self.events(), [])
        protocol.dataReceived(b"ERROR 112 Unavailable\n\n")
        self.assertEqual((self.tried(), self.events()), ([1, 2, 3], ["not_registered"]))

    def test_at_the_start_every_host_is_tried_once(self) -> None:
        self.chat.connect(self.talk)
        for _ in range(3):
            protocol, _ = self.accept()
            protocol.connectionLost(Failure(error.ConnectionDone()))
            self.reactor.advance(0)
        self.reactor.advance(60)
        self.assertEqual((self.tried(), self.events()), ([1, 2, 3], ["lost"]))

    def test_a_refused_user_is_not_refused_by_the_other_hosts_too(self) -> None:
        challenge = b"Methods: publickey\nChallenge: " + b"A" * 43 + b"=\n\n"
        for refusal in (
            b"ERROR 105 Name in use\n\n",
            b"ERROR 106 Authentication required\n" + challenge,
        ):
            self.talk = self.session(self.chat)
            self.chat.connect(self.talk)
            self.tried()
            protocol, _ = self.accept()
            protocol.dataReceived(refusal)
            protocol.connectionLost(Failure(error.ConnectionDone()))
            self.reactor.advance(60)
            self.assertEqual(self.tried(), [])
            self.assertEqual(self.events(), ["not_registered", "lost"])
            self.log.events.clear()

    def test_a_session_can_be_ended_between_two_hosts(self) -> None:
        self.chat.connect(self.talk)
        protocol, _ = self.accept()
        protocol.connectionLost(Failure(error.ConnectionDone()))
        self.talk.quit()
        self.reactor.advance(60)
        self.assertEqual((self.tried(), self.events()), ([1], ["lost"]))


class DnsTests(ConnectionTestCase):
    """A chat whose hosts are in DNS."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(Names, "known", ("Chat.example", "n1.example", "n2.example", "n3.example"))
        self.hosts = [Host("n1.example", 1), Host("n2.example", 2)]
        self.asked: list[str] = []

    async def find(self, reactor: Any, name: str) -> list[Host]:
        self.asked.append(name)
        return self.hosts

    def connector(self, server: Server = SERVER) -> Connector:
        return Connector(self.reactor, server, self.told.append, self.find)

    def tried(self) -> list[int]:
        return [client[1] for client in self.reactor.tcpClients]

    def test_its_hosts_are_tried_in_their_order(self) -> None:
        chat = self.connector()
        session = self.session(chat)
        done = chat.connect(session)
        self.refuse(error.ConnectionRefusedError())
        self.assertEqual((self.asked, self.tried()), (["Chat.example"], [1, 2]))
        self.assertEqual(session.where, "n2.example:2")
        self.refuse(error.ConnectionRefusedError())
        problem = self.failureResultOf(done, NotReached).value
        self.assertEqual(
            explain(problem, SERVER),
            "connection refused: no server at n1.example:1; "
            "connection refused: no server at n2.example:2",
        )

    def test_a_single_one_is_named_in_the_explanation(self) -> None:
        del self.hosts[0]
        done = self.connector().connect(self.session())
        self.refuse(error.ConnectionRefusedError())
        problem = self.failureResultOf(done, NotReached).value
        self.assertEqual(explain(problem, SERVER), "connection refused: no server at n2.example:2")

    def test_a_name_without_hosts_in_dns_is_used_as_it_is(self) -> None:
        self.hosts = []
        self.connector().connect(self.session())
        self.assertEqual(self.tried(), [8828])

    def test_nothing_else_is_looked_up(self) -> None:
        self.patch(Names, "known", ("127.0.0.1", "localhost", "Chat.example"))
        several = Server("Chat.example", others=(Host("n1.example", 8828),))
        for server in (
            Server("127.0.0.1"),
            Server("localhost"),
            Server("Chat.example", 9),
            several,
        ):
            self.connector(server).connect(self.session())
        self.assertEqual((self.asked, self.tried()), ([], [8828, 8828, 9, 8828]))

    def test_hosts_that_were_added_are_found_when_no_other_is_left(self) -> None:
        chat = self.connector(Server("Chat.example", plain=True))
        session = self.session(chat)
        chat.connect(session)
        protocol, _ = self.accept()
        protocol.dataReceived(b"REGISTERED alice\nSession: x\nMax-message: 9\nLast: 0\n\n")
        self.hosts = [Host("n3.example", 3)]
        self.reactor.advance(2)
        protocol.connectionLost(Failure(error.ConnectionDone()))
        self.reactor.advance(0)
        for _ in range(2):
            self.refuse(error.ConnectionRefusedError())
        self.reactor.advance(1)
        self.assertEqual(self.tried(), [1, 2, 1, 3])


class EncryptedTests(ConnectionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(tls, "_get_default_clock", lambda: self.reactor)  # a hook for tests
        self.known = StateFile(config_folder() / "known_servers")

    def certify(self, name: str) -> str:
        """Give the server its own certificate; return the fingerprint."""
        folder = self.folder / name
        folder.mkdir()
        files = ensure(folder)
        self.certified = ServerTLS(*files)
        certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
        return parse_fingerprint(certificate.fingerprint(SHA256()).hex())

    def shake_hands(self) -> tuple[Any, Transport, Any]:
        """Accept the connection, and carry bytes both ways until both sides are silent."""
        client, to_server = self.accept()
        factory = TLSMemoryBIOFactory(
            self.certified, False, Factory.forProtocol(Echo), self.reactor
        )
        factory.noisy = False
        server, to_client = factory.buildProtocol(None), StringTransport()
        server.makeConnection(to_client)
        for _ in range(20):
            if data := to_server.take():
                server.dataReceived(data)
            if data := to_client.value():
                to_client.clear()
                client.dataReceived(data)
            self.reactor.advance(0)
        return client, to_server, server.wrappedProtocol

    def connect(self, server: Server = SERVER) -> tuple[Deferred[Any], ClientSession, Any]:
        session = self.session()
        done = self.connector(server).connect(session)
        *_, there = self.shake_hands()
        return done, session, there

    def test_a_new_server_is_shown_and_remembered_and_then_taken_silently(self) -> None:
        fingerprint = self.certify("one")
        for told in (1, 1):
            done, session, there = self.connect()
            self.successResultOf(done)
            self.assertEqual(there.got, b"REGISTER alice\nVersion: 2\nInstance: i\n\n")
            self.assertEqual(len(self.told), told)
            self.assertEqual(parse_fingerprint(session.binding.hex()), fingerprint)
        self.assertIn(fingerprint, self.told[0])
        self.assertEqual(self.known.get("chat.example:8828"), fingerprint)

    def test_nothing_is_said_to_one_that_is_not_the_one_that_was_met(self) -> None:
        self.certify("one")
        self.connect()
        self.certify("two")
        done, _, there = self.connect()
        problem = self.failureResultOf(done, Untrusted).value
        self.assertIn("has changed; nothing was sent", explain(problem, SERVER))
        self.assertEqual(there.got, b"")

    def test_the_fingerprint_that_is_asked_for_is_the_only_one(self) -> None:
        fingerprint = self.certify("one")
        done, _, there = self.connect(Server("Chat.example", fingerprint=fingerprint))
        self.successResultOf(done)
        self.certify("two")
        done, _, there = self.connect(Server("Chat.example", fingerprint=fingerprint))
        problem = self.failureResultOf(done, Untrusted).value
        self.assertIn("is not the one that was asked for", explain(problem, SERVER))
        self.assertEqual(there.got, b"")

    def test_a_server_that_becomes_another_ends_the_session(self) -> None:
        self.certify("one")
        connector = self.connector()
        session = self.session(connector)
        connector.connect(session)
        client, _, _ = self.shake_hands()
        session.dataReceived(b"REGISTERED alice\nSession: x\nMax-message: 9\nLast: 0\n\n")
        client.connectionLost(Failure(error.ConnectionDone()))
        self.certify("two")
        self.reactor.advance(1)
        _, transport, there = self.shake_hands()
        self.assertEqual(self.events(), ["registered", "disconnected", "lost"])
        self.assertIn("has changed", str(self.log.events[-1][1]))
        self.assertEqual((there.got, transport.aborting), (b"", True))
        self.reactor.advance(600)
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def several(self) -> tuple[Connector, ClientSession]:
        """A connector and a session of a chat with two hosts."""
        self.patch(Names, "known", ("a.example", "b.example"))
        connector = self.connector(Server("a.example", others=(Host("b.example", 8828),)))
        return connector, self.session(connector)

    def lose(self, client: Any) -> None:
        self.reactor.advance(2)  # the connection has settled
        client.connectionLost(Failure(error.ConnectionDone()))
        self.reactor.advance(0)

    def test_hosts_of_one_chat_are_known_by_one_certificate(self) -> None:
        fingerprint = self.certify("one")
        connector, session = self.several()
        connector.connect(session)
        client, _, _ = self.shake_hands()
        session.dataReceived(b"REGISTERED alice\nSession: x\nMax-message: 9\nLast: 0\n\n")
        self.lose(client)
        _, _, there = self.shake_hands()
        self.assertIn(b"Session: x", there.got)
        self.assertEqual((len(self.told), session.where), (1, "b.example:8828"))
        self.assertEqual(self.known.get("b.example:8828"), fingerprint)

    def test_a_host_with_another_certificate_is_reported_once_and_left_out(self) -> None:
        self.certify("one")
        connector, session = self.several()
        registered = b"REGISTERED alice\nSession: x\nMax-message: 9\nLast: 0\n\n"
        connector.connect(session)
        client, _, _ = self.shake_hands()
        session.dataReceived(registered)
        certified = self.certified
        self.lose(client)
        self.certify("two")
        _, transport, there = self.shake_hands()
        self.assertEqual((there.got, transport.aborting), (b"", True))
        self.assertIn("b.example:8828 is not that of the chat's other hosts", self.told[1])
        self.certified = certified
        for _ in range(2):
            client, _, there = self.shake_hands()
            self.assertIn(b"Session: x", there.got)
            self.assertEqual((len(self.told), session.where), (2, "a.example:8828"))
            session.dataReceived(registered)
            self.lose(client)
            self.reactor.advance(1)

    def test_a_chat_of_which_no_host_has_the_certificate_is_not_talked_to(self) -> None:
        self.certify("one")
        for key in ("a.example:8828", "b.example:8828"):
            self.known.set(key, "SHA256:other")
        connector, session = self.several()
        done = connector.connect(session)
        for _ in range(2):
            *_, there = self.shake_hands()
            self.assertEqual(there.got, b"")
        problem = self.failureResultOf(done, NotReached).value
        self.assertEqual(
            str(problem),
            "the certificate of a.example:8828 is not the expected one; "
            "the certificate of b.example:8828 is not the expected one",
        )

    def test_hosts_from_dns_have_the_certificate_of_the_name(self) -> None:
        fingerprint = self.certify("one")
        self.patch(Names, "known", ("n1.example", "n2.example"))

        async def find(reactor: Any, name: str) -> list[Host]:
            return [Host("n1.example", 1), Host("n2.example", 2)]

        connector = Connector(self.reactor, SERVER, self.told.append, find)
        connector.connect(self.session(connector))
        self.shake_hands()
        self.assertEqual(self.known.path.read_text(), f"chat.example:8828 {fingerprint}\n")

    def test_a_server_without_encryption_is_said_and_how_to_talk_to_it(self) -> None:
        for answer, said in (
            (
                b"ERROR 113 Encryption required\n\n",
                "does not speak TLS (--plain connects without encryption)",
            ),
            (b"", "has closed the connection: it accepts nobody now, or does not speak TLS"),
        ):
            done = self.connector().connect(self.session())
            protocol, _ = self.accept()
            if answer:
                protocol.dataReceived(answer)
            protocol.connectionLost(Failure(error.ConnectionDone()))
            problem = self.failureResultOf(done, NotEncrypted).value
            self.assertEqual(explain(problem, SERVER), f"Chat.example:8828 {said}")

    def test_a_server_that_says_nothing_is_not_waited_for_for_ever(self) -> None:
        done = self.connector().connect(self.session())
        _, transport = self.accept()
        self.reactor.advance(CONNECTED_WITHIN)
        problem = self.failureResultOf(done, defer.TimeoutError).value
        self.assertEqual(explain(problem, SERVER), "no answer from Chat.example:8828 within 20 s")
        self.assertTrue(transport.aborting)


class WordsTests(TestCase):
    def test_a_server_is_remembered_under_one_name_however_it_was_written(self) -> None:
        for server, key in (
            (Server("Chat.EXAMPLE"), "chat.example:8828"),
            (Server("192.0.2.1", 1), "192.0.2.1:1"),
            (Server("::1", 1), "[::1]:1"),
        ):
            self.assertEqual([host.key for host in server.hosts], [key])

    def test_other_reasons_are_those_of_the_system(self) -> None:
        server = Server("h", 1, hashlib.sha256().hexdigest())
        for problem, words in (
            (error.TimeoutError(), "no answer from h:1 within 20 s"),
            (error.DNSLookupError(), "host not found: h"),
            (error.NoRouteError(string="No route to host"), "can't connect to h:1: "),
            (error.ConnectError(string="Broken"), "can't connect to h:1: "),
        ):
            self.assertTrue(isinstance(problem, FAILURES))
            self.assertIn(words, explain(problem, server))
