"""The SSH door in memory: the hub of ``tests.door``, visits that are recorded, and SSH clients."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed25519,
    mlkem,
    padding,
    rsa,
    x25519,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.conch.ssh import transport as conch
from twisted.conch.ssh.common import MP, NS, getNS
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from chat_twisted.auth.keys import parse_key
from chat_twisted.doors import Channel
from chat_twisted.doors.ssh import channel as c
from chat_twisted.doors.ssh.authentication import (
    USERAUTH_INFO_RESPONSE,
    USERAUTH_PK_OK,
    USERAUTH_REQUEST,
    USERAUTH_SUCCESS,
)
from chat_twisted.doors.ssh.connection import SSHConnection, SSHFactory
from chat_twisted.doors.ssh.host_keys import HostKey, HostKeys
from chat_twisted.doors.ssh.visits import Peer, Size, Visitor, Wish
from tests.door import DoorTestCase, Transport
from tests.store import settle

OURS = struct.pack(">L", 0)
"""The server's number of the channel."""

DISCONNECT = conch.MSG_DISCONNECT
UNIMPLEMENTED = conch.MSG_UNIMPLEMENTED
EXT_INFO = conch.MSG_EXT_INFO

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def host_keys() -> HostKeys:
    """Return host keys for tests."""
    return HostKeys([HostKey(private("ssh-ed25519")), HostKey(private("ssh-rsa"))])


@cache
def private(kind: str, which: int = 0) -> Any:
    """Return a private key.

    :param which: tells apart keys of the same kind.
    """
    if kind == "ssh-rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ssh-ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"256": ec.SECP256R1(), "384": ec.SECP384R1(), "521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind[-3:]])


def public(key: Private) -> str:
    """Return the public key, as in an authorized_keys file."""
    octets = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return parse_key(octets.decode())[0]


def blob(key: Private) -> bytes:
    """Return the public key in SSH's format."""
    import base64

    return base64.b64decode(public(key).split()[1])


def sign(key: Private, algorithm: bytes, data: bytes) -> bytes:
    """Return a signature in SSH's format."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        value = key.sign(data)
    elif isinstance(key, rsa.RSAPrivateKey):
        kinds = {
            b"rsa-sha2-512": hashes.SHA512(),
            b"rsa-sha2-256": hashes.SHA256(),
            b"ssh-rsa": hashes.SHA1(),
        }
        value = key.sign(data, padding.PKCS1v15(), kinds[algorithm])
    else:
        sizes = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(sizes[key.curve.key_size])))
        value = MP(r) + MP(s)
    return NS(algorithm) + NS(value)


def algorithm(key: Private) -> bytes:
    """Return the best signature algorithm of a key."""
    kind = public(key).split()[0].encode()
    return b"rsa-sha2-512" if kind == b"ssh-rsa" else kind


class Ending(conch.SSHClientTransport):
    """A client's transport by conch, which records the packets of services.

    :ivar packets: the numbers and contents of the packets that came and were not looked at yet.
    """

    _log = Logger(observer=lambda event: None)  # type: ignore[arg-type]
    supportedCiphers = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
    supportedMACs = [b"hmac-sha2-256", b"hmac-sha2-512"]
    supportedCompressions = [b"none"]

    def __init__(self, key_exchange: bytes, host_key: bytes) -> None:
        self.supportedKeyExchanges = [key_exchange]
        self.supportedPublicKeys = [host_key]
        self.packets: list[tuple[int, bytes]] = []
        self.is_secure = 0

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Any:
        return succeed(True)

    def connectionSecure(self) -> None:
        self.is_secure += 1

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if messageNum in (DISCONNECT, UNIMPLEMENTED, 6, EXT_INFO) or messageNum >= 50:
            self.packets.append((messageNum, payload))
        else:
            super().dispatchMessage(messageNum, payload)


class HybridEnding(Ending):
    """A client's transport with the exchange mlkem768x25519-sha256, which conch has for servers
    only (draft-ietf-sshm-mlkem-hybrid-kex). It is one with elliptic curves whose keys are two.
    """

    @property
    def kexAlg(self) -> bytes:
        """The exchange by curves that has the same packets and hash."""
        return b"curve25519-sha256"

    @kexAlg.setter
    def kexAlg(self, agreed: bytes) -> None:
        assert agreed == HYBRID, agreed

    def _generateECPrivateKey(self) -> Any:
        self._post_quantum = mlkem.MLKEM768PrivateKey.generate()
        return super()._generateECPrivateKey()

    def _encodeECPublicKey(self, ecPub: Any) -> bytes:
        first = self._post_quantum.public_key().public_bytes_raw()
        return first + super()._encodeECPublicKey(ecPub)

    def _generateECSharedSecret(self, ecPriv: Any, theirECPubBytes: bytes) -> bytes:
        first = self._post_quantum.decapsulate(theirECPubBytes[:-32])
        second = ecPriv.exchange(x25519.X25519PublicKey.from_public_bytes(theirECPubBytes[-32:]))
        return NS(hashlib.sha256(first + second).digest())


HYBRID = b"mlkem768x25519-sha256"


class SSHClient:
    """A client's end of a connection to the SSH door.

    :param deaf: whether the client sends nothing by itself, not even its version.
    """

    def __init__(
        self,
        test: SSHTestCase,
        channel: Channel,
        *,
        key_exchange: bytes = b"curve25519-sha256",
        host_key: bytes = b"ssh-ed25519",
        deaf: bool = False,
    ) -> None:
        protocol = test.ssh.accept(channel)
        assert protocol is not None
        self.protocol: SSHConnection = protocol
        self._clock = test.clock
        self.transport = Transport(peerAddress=IPv4Address("TCP", channel.host or "", 50000))
        kind = HybridEnding if key_exchange == HYBRID else Ending
        self.ending = kind(key_exchange, host_key)
        self.wire = StringTransport()
        if not deaf:
            self.ending.makeConnection(self.wire)
        protocol.makeConnection(self.transport)
        self.exchange()

    # Bytes

    def feed(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)

    def exchange(self) -> None:
        """Move bytes in both directions until all is quiet."""
        for _ in range(1000):
            settle(self._clock)
            up = self.wire.value()
            self.wire.clear()
            if up and not self.gone_already:
                self.protocol.dataReceived(up)
            settle(self._clock)
            down = self.transport.take()
            if down and self.ending.connected:
                self.ending.dataReceived(down)
            if not up and not down:
                return
        raise AssertionError("an endless exchange")

    gone_already = False

    def gone(self) -> None:
        """Lose the connection."""
        self.gone_already = True
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        transport = self.transport
        return transport.half_closed or transport.disconnecting or transport.aborting

    # Packets

    def send(self, number: int, content: bytes = b"") -> list[tuple[int, bytes]]:
        """Send a packet; return the packets that come."""
        self.ending.sendPacket(number, content)
        return self.packets()

    def packets(self) -> list[tuple[int, bytes]]:
        """Return the packets that came since the last call."""
        self.exchange()
        packets = self.ending.packets[:]
        self.ending.packets.clear()
        return packets

    def numbers(self) -> list[int]:
        """Return the numbers of the packets that came since the last call."""
        return [number for number, _ in self.packets()]

    def reason(self) -> str:
        """Return the reason for which the server has disconnected."""
        for number, content in self.packets():
            if number == DISCONNECT:
                return getNS(content[4:])[0].decode()
        raise AssertionError("not disconnected")

    # Authentication

    def ask_for_login(self) -> None:
        """Request the service of authentication."""
        packets = self.send(conch.MSG_SERVICE_REQUEST, NS(b"ssh-userauth"))
        assert (6, NS(b"ssh-userauth")) in packets, packets

    def authenticate(
        self, name: str, method: bytes, content: bytes = b""
    ) -> list[tuple[int, bytes]]:
        """Send a request of authentication; return the packets that come."""
        head = NS(name.encode()) + NS(b"ssh-connection") + NS(method)
        return self.send(USERAUTH_REQUEST, head + content)

    def offer(self, name: str, key: Private) -> bool:
        """Return whether a key would be accepted."""
        content = b"\0" + NS(algorithm(key)) + NS(blob(key))
        [(number, _)] = self.authenticate(name, b"publickey", content)
        return number == USERAUTH_PK_OK

    def prove(
        self, name: str, key: Private, using: bytes | None = None, *, over: bytes = b""
    ) -> list[tuple[int, bytes]]:
        """Sign with a key; return the packets that come.

        :param using: the algorithm.
        :param over: if given, what is signed instead of what is to be signed.
        """
        using = using or algorithm(key)
        head = NS(name.encode()) + NS(b"ssh-connection") + NS(b"publickey")
        content = b"\1" + NS(using) + NS(blob(key))
        session = self.ending.sessionID
        assert session is not None
        data = NS(session) + bytes([USERAUTH_REQUEST]) + head + content
        return self.send(USERAUTH_REQUEST, head + content + NS(sign(key, using, over or data)))

    def give_password(self, name: str, password: str) -> list[tuple[int, bytes]]:
        """Send a password; return the packets that come."""
        return self.authenticate(name, b"password", b"\0" + NS(password.encode()))

    def answer(self, *answers: str) -> list[tuple[int, bytes]]:
        """Answer the questions of keyboard-interactive; return the packets that come."""
        content = struct.pack(">L", len(answers)) + b"".join(NS(a.encode()) for a in answers)
        return self.send(USERAUTH_INFO_RESPONSE, content)

    def log_in(self, name: str = "bob") -> None:
        """Log in as a guest without a key."""
        self.ask_for_login()
        packets = self.authenticate(name, b"keyboard-interactive", NS(b"") + NS(b""))
        assert packets == [(USERAUTH_SUCCESS, b"")], packets

    # The channel

    def open(
        self, kind: bytes = b"session", *, window: int = 100_000, piece: int = 32_768
    ) -> list[tuple[int, bytes]]:
        """Open a channel with the number 7; return the packets that come."""
        content = NS(kind) + struct.pack(">3L", 7, window, piece)
        return self.send(c.CHANNEL_OPEN, content)

    def request(self, kind: bytes, content: bytes = b"") -> bool:
        """Send a request to the channel; return whether it is accepted. Other packets that come
        stay.
        """
        self.ending.sendPacket(c.CHANNEL_REQUEST, struct.pack(">L", 0) + NS(kind) + b"\1" + content)
        self.exchange()
        for i, (number, _) in enumerate(self.ending.packets):
            if number in (c.CHANNEL_SUCCESS, c.CHANNEL_FAILURE):
                del self.ending.packets[i]
                return number == c.CHANNEL_SUCCESS
        raise AssertionError("not answered")

    def terminal(self, term: bytes = b"xterm", columns: int = 80, rows: int = 24) -> bool:
        """Request a terminal."""
        sizes = struct.pack(">4L", columns, rows, 0, 0)
        return self.request(b"pty-req", NS(term) + sizes + NS(b"\0"))

    def type(self, data: bytes) -> None:
        """Send input; packets that come stay."""
        self.ending.sendPacket(c.CHANNEL_DATA, struct.pack(">L", 0) + NS(data))
        self.exchange()

    def adjust(self, count: int) -> None:
        """Take more output; packets that come stay."""
        self.ending.sendPacket(c.CHANNEL_WINDOW_ADJUST, struct.pack(">2L", 0, count))
        self.exchange()

    def output(self) -> bytes:
        """Return the standard output that came since the last call; other packets are dropped."""
        data = (
            getNS(content[4:])[0] for number, content in self.packets() if number == c.CHANNEL_DATA
        )
        return b"".join(data)


class StubVisit:
    """A visit that records what it is told.

    :ivar told: the names of the methods that were called, with their arguments.
    :ivar takes: whether input is taken at once.
    """

    def __init__(self, host: StubHost, visitor: Visitor, wish: Wish, peer: Peer) -> None:
        self.visitor = visitor
        self.wish = wish
        self.peer = peer
        self.told: list[tuple[Any, ...]] = []
        self.input = b""
        self.takes = host.takes

    def received(self, data: bytes) -> None:
        self.input += data
        if self.takes:
            self.peer.taken(len(data))

    def input_ended(self) -> None:
        self.told.append(("input_ended",))

    def resized(self, size: Size) -> None:
        self.told.append(("resized", *size))

    def interrupted(self, signal: str) -> None:
        self.told.append(("interrupted", signal))

    def pause(self) -> None:
        self.told.append(("pause",))

    def resume(self) -> None:
        self.told.append(("resume",))

    def lost(self) -> None:
        self.told.append(("lost",))


class StubHost:
    """A host of ``StubVisit``.

    :ivar visits: the visits that were opened.
    :ivar at_opening: called with each visit.
    """

    def __init__(self) -> None:
        self.visits: list[StubVisit] = []
        self.takes = True
        self.at_opening: Callable[[StubVisit], None] = lambda visit: None

    def open(self, visitor: Visitor, wish: Wish, peer: Peer) -> StubVisit:
        visit = StubVisit(self, visitor, wish, peer)
        self.visits.append(visit)
        self.at_opening(visit)
        return visit


class SSHTestCase(DoorTestCase):
    """A hub with a framed door and the SSH door."""

    idle = 60

    def setUp(self) -> None:
        super().setUp()
        self.visits = StubHost()
        self.ssh = SSHFactory(
            self.hub, self.gate, self.visits, host_keys(), self.clock, idle=self.idle
        )
        self.ssh.doStart()
        self.addCleanup(self.ssh.doStop)

    def client(self, host: str = "127.0.0.1", **options: Any) -> SSHClient:
        """Return a client that has exchanged keys."""
        return SSHClient(self, Channel(host), **options)

    def visit(
        self, command: bytes | None = None, *, terminal: bool = False, **window: int
    ) -> tuple[SSHClient, StubVisit]:
        """Return a client and its visit.

        :param window: the parameters of ``SSHClient.open``.
        """
        client = self.client()
        client.log_in()
        client.open(**window)
        if terminal:
            self.assertTrue(client.terminal())
        request = (b"shell", b"") if command is None else (b"exec", NS(command))
        self.assertTrue(client.request(*request))
        return client, self.visits.visits[-1]
