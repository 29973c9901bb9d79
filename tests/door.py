"""A framed door in memory: a hub, connections on StringTransports, and a Clock."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from chat_twisted.auth.gate import Gate
from chat_twisted.core.commands import CONSOLE, MakeAccount, new_id
from chat_twisted.core.limits import OFF
from chat_twisted.core.turns import unlimited
from chat_twisted.doors import Channel, tls
from chat_twisted.doors.framed import FramedConnection, FramedFactory
from chat_twisted.doors.tls import RECORD, ServerTLS
from chat_twisted.testing import MemoryServer, MemoryStore, quick_passwords
from tests.openssl import OpenSSLClient
from tests.store import settle


@implementer(ITCPTransport)
class Transport(StringTransport):
    """A StringTransport that also simulates a TCP socket: a full buffer, half-closing, options."""

    half_closed = False
    aborting = False
    room = 10**9
    """Bytes that the socket accepts before it would block."""
    pending = b""
    """Bytes that the socket did not accept."""

    def getHandle(self) -> Transport:
        return self

    def send(self, data: bytes) -> int:
        """Accept as many bytes as there is room for. Called as a method of the socket."""
        taken = data[: self.room]
        if not taken:
            raise BlockingIOError
        self.room -= len(taken)
        self.io.write(taken)
        return len(taken)

    def write(self, data: bytes) -> None:
        if not self.disconnecting:
            taken, self.pending = data[: self.room], self.pending + data[self.room :]
            self.room -= len(taken)
            self.io.write(taken)

    def registerProducer(self, producer, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        if not streaming:
            producer.resumeProducing()
            if not self.pending:  # all output is sent already
                producer.resumeProducing()

    def drain(self, room: int = 10**9) -> bytes:
        """Have the peer read all output; return it. Then the socket accepts ``room`` bytes."""
        self.room = room
        pending, self.pending = self.pending, b""
        self.io.write(pending)
        if self.producer is not None:
            self.producer.resumeProducing()
        return self.take()

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborting = True

    def take(self) -> bytes:
        """Return the output since the last call."""
        value = self.value()
        self.clear()
        return value


@cache
def server_tls() -> ServerTLS:
    """Return the server's side of TLS, with a certificate for tests."""
    with tempfile.TemporaryDirectory() as folder:
        return ServerTLS(*tls.ensure(Path(folder)))


class EncryptedTransport(Transport):
    """A transport below TLS, with the peer's side of TLS."""

    def __init__(self, peerAddress: IPv4Address, version: int | None = None) -> None:
        super().__init__(peerAddress=peerAddress)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if version is not None:
            context.set_max_proto_version(version)
        self.client = SSL.Connection(context)
        self.client.set_connect_state()
        self._begin()
        for _ in range(3):
            with contextlib.suppress(SSL.WantReadError):
                self.client.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                self.server.dataReceived(self.client.bio_read(RECORD))
            if data := super().take():
                self.client.bio_write(data)

    def _begin(self) -> None:
        factory = TLSMemoryBIOFactory(server_tls(), False, ServerFactory())
        self.server = TLSMemoryBIOProtocol(factory, Protocol())
        self.server.makeConnection(self)

    def shake_hands(self, client: OpenSSLClient) -> None:
        """Start again with another peer."""
        self._begin()
        for _ in range(2):
            client.connect()
            self.server.dataReceived(client.take())
            client.give(super().take())
        client.read()

    def hand_over(self, protocol: Any) -> None:
        """Connect ``protocol`` after the handshake, as the front does."""
        self.server.wrappedProtocol = protocol
        protocol.makeConnection(self.server)

    def encrypt(self, data: bytes) -> bytes:
        """Return the encrypted bytes by which the peer sends ``data``."""
        return tls.encrypt(self.client, data)

    def take(self) -> bytes:
        data = super().take()
        if data:
            data, end = tls.decrypt(self.client, data)
            self.half_closed = end is not None
        return data


class RecordingPoller:
    """A poller that reads nothing.

    :ivar reading: the transports and callbacks of the sockets that it would read now.
    """

    def __init__(self) -> None:
        self.reading: dict[int, tuple[Any, Callable[[bytes], None]]] = {}

    def add(self, transport: Any, received: Callable[[bytes], None], source: Hashable) -> int:
        transport.pauseProducing()
        self.reading[id(transport)] = (transport, received)
        return id(transport)

    def remove(self, known_as: int) -> None:
        self.reading.pop(known_as, None)


class Client:
    """The client's end of a connection."""

    def __init__(
        self, factory: FramedFactory, host: str = "127.0.0.1", *, encrypted: bool = False
    ) -> None:
        address = IPv4Address("TCP", host, 50000)
        protocol = factory.accept(Channel(host, encrypted))
        assert protocol is not None
        self.protocol: FramedConnection = protocol
        if encrypted:
            self.transport: Transport = EncryptedTransport(address)
            self.transport.hand_over(protocol)
        else:
            self.transport = Transport(peerAddress=address)
            self.protocol.makeConnection(self.transport)

    def say(self, data: str | bytes) -> bytes:
        """Send ``data`` to the server; return the immediate answer."""
        self.protocol.dataReceived(data.encode() if isinstance(data, str) else data)
        return self.transport.take()

    def ask(self, data: str | bytes) -> bytes:
        """Send ``data`` to the server; return the answer after all work that needs no time."""
        self.protocol.dataReceived(data.encode() if isinstance(data, str) else data)
        clock = self.protocol.factory.clock
        assert isinstance(clock, Clock)
        settle(clock)
        return self.transport.take()

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.transport.half_closed or self.transport.disconnecting

    @property
    def aborted(self) -> bool:
        return self.transport.aborting

    def gone(self) -> None:
        """Lose the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class DoorTestCase(TestCase):
    """A hub with a framed door; ``self.logged`` has all log entries."""

    max_clients = 100
    max_message = 65536
    grace = 600
    guests = True
    limits = OFF
    encrypted = False

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.server = MemoryServer(
            self.store,
            limits=self.limits,
            grace=self.grace,
            guests=self.guests,
            max_clients=self.max_clients,
        )
        self.hub, self.limiter = self.server.hub, self.server.limiter
        self.commit()
        self.gate = Gate(lambda: self.hub.state, quick_passwords(), self.clock)
        self.factory = FramedFactory(
            self.hub, self.gate, self.clock, max_message=self.max_message, idle=60
        )
        self.factory.doStart()
        self.addCleanup(self.factory.doStop)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event) -> None:
        if str(event.get("log_namespace", "")).startswith("chat_twisted"):
            self.logged.append(event["log_format"].format(**event))

    def connect(self, host: str = "127.0.0.1") -> Client:
        return Client(self.factory, host, encrypted=self.encrypted)

    def commit(self) -> None:
        settle(self.clock)

    def add_account(self, name: str, *, key: str = "", password: str = "") -> None:
        hash = ""
        if password:
            hash = self.successResultOf(self.gate.passwords.hash(password, unlimited("test")))
        id = new_id()
        command = MakeAccount(CONSOLE, 0, key, hash=hash, name=name, id=id)
        self.hub.ask(command)
        self.clock.advance(0)

    def register(self, name: str, *headers: str) -> tuple[Client, bytes]:
        """Register in version 2; return the connection and the answer."""
        client = self.connect()
        lines = [f"REGISTER {name}", *headers]
        client.protocol.dataReceived(("\n".join(lines) + "\n\n").encode())
        self.commit()
        return client, client.transport.take()

    def user(self, name: str, *headers: str) -> Client:
        """Return a registered client of version 2."""
        client, answer = self.register(name, *headers)
        self.assertTrue(answer.startswith(f"REGISTERED {name}\n".encode()), answer)
        return client

    def original(self, name: str, host: str = "127.0.0.1") -> tuple[Client, Client]:
        """Return a client of version 1: the connections for sending and for receiving."""
        sending, receiving = self.connect(host), self.connect(host)
        sending.say(f"REGISTER TOSEND {name}\n\n")
        self.commit()
        self.assertEqual(sending.transport.take(), f"REGISTERED TOSEND {name}\n\n".encode())
        self.assertEqual(
            receiving.say(f"REGISTER TORECV {name}\n\n"), f"REGISTERED TORECV {name}\n\n".encode()
        )
        self.commit()
        return sending, receiving

    def names(self) -> list[str]:
        """Return the names of the present users."""
        self.commit()
        return [user.name for user in self.hub.who().items]
