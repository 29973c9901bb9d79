"""SSH's transport: encrypted packets, and the exchange of keys (RFC 4253), by twisted.conch.

Conch exchanges keys and encrypts; this module reads packets, and decides which of them are allowed
when. It must not know users or channels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from twisted.conch.ssh import transport as conch
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from chat_twisted.core.limits import Bucket, Rate
from chat_twisted.doors.ssh.fields import Fields, string
from chat_twisted.doors.ssh.host_keys import HostKey, HostKeys
from chat_twisted.logs import Logger

VERSION = b"SSH-2.0-chat_twisted"

MAX_VERSION = 255
"""Maximum bytes of the peer's version, with its end of line (RFC 4253, 4.2)."""

MIN_PACKET, MAX_PACKET = 16, 35_000
"""Bounds of the length of a packet, in bytes without its MAC (RFC 4253, 6)."""

FIRST_OF_SERVICES = 50
"""The first number of the messages of services; smaller ones belong to the transport."""

REKEY_OCTETS, REKEY_SECONDS = 2**30, 3600
"""The server asks for new keys after so many bytes in both directions, or after so long (RFC 4253,
9)."""

KEY_EXCHANGES = Rate(0.2, 100)
"""The rate limit of key exchanges; each takes a millisecond or more."""

MAX_BLOCKED = 1000
"""Maximum number of packets that wait for the end of a key exchange."""

SIGNATURES = (
    b"ssh-ed25519",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    b"rsa-sha2-512",
    b"rsa-sha2-256",
)
"""The signature algorithms of users' keys."""

_KEY_EXCHANGES = (
    b"mlkem768x25519-sha256",
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
    b"ecdh-sha2-nistp256",
    b"ecdh-sha2-nistp384",
    b"ecdh-sha2-nistp521",
)


class Refused(Exception):
    """The peer is refused, and will be disconnected.

    :ivar code: the reason, as a number of SSH_MSG_DISCONNECT (RFC 4253, 11.1).
    :ivar reason: the reason, for people.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def wrong_packet(reason: str = "A packet that is not allowed here") -> Refused:
    """Return the error for a packet that is against the protocol."""
    return Refused(conch.DISCONNECT_PROTOCOL_ERROR, reason)


class Connection(Protocol):
    """The connection below, and what is above the transport."""

    def write(self, data: bytes) -> None:
        """Write to the peer."""

    def loseConnection(self) -> None:
        """Close the connection after all output. Called by conch."""

    def refused(self, reason: str) -> None:
        """Called when SSH_MSG_DISCONNECT was sent; closes the connection."""

    def begin(self, service: bytes) -> None:
        """Called when the peer requests a service.

        :raises Refused: if there is none.
        """

    def take(self, number: int, fields: Fields) -> bool:
        """Process a packet for a service.

        :return: whether the packet is known.
        :raises Refused: if the peer is to be disconnected.
        """

    def keys_wanted(self) -> None:
        """Called when a key exchange begins."""

    def keys_changed(self) -> None:
        """Called when a key exchange has ended."""


@implementer(ILogObserver)
class _Nobody:
    """Reads conch's log, which would have what users say."""

    def __call__(self, event: LogEvent) -> None:
        """Do nothing."""


class SSHTransport(conch.SSHServerTransport):
    """The transport of one connection.

    :param connection: the connection.
    :param clock: the reactor.
    """

    _log = Logger(observer=_Nobody())
    ourVersionString = VERSION
    supportedKeyExchanges = [
        name for name in _KEY_EXCHANGES if name in conch.SSHTransportBase.supportedKeyExchanges
    ]
    supportedCiphers = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
    supportedMACs = [b"hmac-sha2-256", b"hmac-sha2-512"]
    supportedCompressions = [b"none"]
    transport: Any  # the connection, which has what conch uses of a transport
    nextEncryptions: Any
    currentEncryptions: Any

    def __init__(self, connection: Connection, host_keys: HostKeys, clock: IReactorTime) -> None:
        self.connection = connection
        self.supportedPublicKeys = list(host_keys.algorithms)
        self._host_keys = host_keys
        self._clock = clock
        self._input = b""
        self._position = 0  # of the first byte of _input that is not processed
        self._first = b""  # the decrypted first block of a packet that has not arrived wholly
        self._awaited = conch.MSG_KEXINIT  # the peer's next packet of a key exchange
        self._octets = 0  # sent and received since the last key exchange
        self._keys_since = clock.seconds()
        self._exchanges: Bucket | None = None

    # Input

    @property
    def has_more(self) -> bool:
        """Whether there is input that is not processed yet."""
        return self._position < len(self._input)

    def receive(self, data: bytes) -> None:
        """Take the next bytes from the peer."""
        self._input = self._input[self._position :] + data if self.has_more else data
        self._position = 0
        self._octets += len(data)

    def step(self) -> bool:
        """Process the next packet, or the peer's version.

        :return: False if more input is needed.
        :raises Refused: if the peer is to be disconnected.
        """
        if not self.gotVersion:
            return self._take_version()
        payload = self._next_packet()
        if payload is None:
            return False
        number = payload[0]
        if number >= FIRST_OF_SERVICES:
            if self._peer_changes_keys:
                raise wrong_packet()
            if not self.connection.take(number, Fields(payload[1:])):
                self.sendUnimplemented()
        elif (handler := self._HANDLERS.get(number)) is not None:
            handler(self, payload[1:])
        else:
            self.sendUnimplemented()
        return True

    def _take_version(self) -> bool:
        line, end, _ = self._input[self._position : MAX_VERSION].partition(b"\n")
        if not line.startswith(b"SSH-"[: len(line)]) or (not end and len(line) == MAX_VERSION):
            raise wrong_packet("Not an SSH client")
        if not end:
            return False
        if not line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
            code = conch.DISCONNECT_PROTOCOL_VERSION_NOT_SUPPORTED
            raise Refused(code, "Only version 2 of SSH is spoken here")
        self.otherVersionString = line.rstrip(b"\r")
        self.gotVersion = True
        self._position += len(line) + 1
        return True

    def _next_packet(self) -> bytes | None:
        """Return the payload of the next packet; None if it has not arrived wholly.

        :raises Refused: if it is malformed.
        """
        ciphers, start = self.currentEncryptions, self._position
        block, digest = ciphers.decBlockSize, ciphers.verifyDigestSize
        available = len(self._input) - start
        if available < block:
            return None
        if not self._first:
            self._first = ciphers.decrypt(self._input[start : start + block])
        size = int.from_bytes(self._first[:4]) + 4
        if not MIN_PACKET <= size <= MAX_PACKET or size % block:
            raise wrong_packet("A packet of a wrong length")
        if available < size + digest:
            return None
        end = start + size
        packet: bytes = self._first + ciphers.decrypt(self._input[start + block : end])
        mac = self._input[end : end + digest]
        if not ciphers.verify(self.incomingPacketSequence, packet, mac):
            raise Refused(conch.DISCONNECT_MAC_ERROR, "A damaged packet")
        self._first = b""
        self._position = end + digest
        self.incomingPacketSequence = (self.incomingPacketSequence + 1) & 0xFFFFFFFF
        padding = size - packet[4]  # where it begins
        if padding <= 5:
            raise wrong_packet("A packet without content")
        return packet[5:padding]

    # Output

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """Send a packet; during a key exchange, most kinds of packets wait for its end."""
        super().sendPacket(messageType, payload)  # type: ignore[no-untyped-call]
        self._octets += len(payload)
        self.outgoingPacketSequence &= 0xFFFFFFFF
        if self._blockedByKeyExchange and len(self._blockedByKeyExchange) > MAX_BLOCKED:
            self.connection.refused("Too much waits for new keys")

    def sendUnimplemented(self) -> None:
        """Tell the peer that its last packet is not known."""
        number = (self.incomingPacketSequence - 1) & 0xFFFFFFFF
        self.sendPacket(conch.MSG_UNIMPLEMENTED, struct.pack(">L", number))

    def sendDisconnect(self, reason: int, desc: bytes | str) -> None:
        """Tell the peer why it is disconnected, and close the connection."""
        text = desc.decode(errors="replace") if isinstance(desc, bytes) else desc
        self.say_goodbye(reason, text)
        self.connection.refused(text)

    def say_goodbye(self, code: int, reason: str) -> None:
        """Tell the peer why it is disconnected."""
        content = struct.pack(">L", code) + string(reason.encode()) + string(b"")
        self.sendPacket(conch.MSG_DISCONNECT, content)

    # The exchange of keys

    @property
    def changes_keys(self) -> bool:
        """Whether a key exchange is in progress; data would wait for its end."""
        return self._keyExchangeState != self._KEY_EXCHANGE_NONE

    @property
    def _peer_changes_keys(self) -> bool:
        """Whether the peer may send nothing but the packets of a key exchange (RFC 4253, 7.1)."""
        return self._awaited != conch.MSG_KEXINIT or self.sessionID is None

    def change_keys_if_due(self) -> None:
        """Begin a key exchange if the keys have been used for long."""
        if self.changes_keys:
            return
        age = self._clock.seconds() - self._keys_since
        if self._octets > REKEY_OCTETS or age > REKEY_SECONDS:
            self.sendKexInit()

    def sendKexInit(self) -> None:
        """Begin a key exchange, or answer the peer's beginning. Called by conch, too."""
        super().sendKexInit()  # type: ignore[no-untyped-call]
        self.connection.keys_wanted()

    def _getHostKeys(self, keyAlg: bytes) -> tuple[HostKey, HostKey]:  # type: ignore[override]
        """Return a host key, which stands for its public key, too. Called by conch."""
        key = self._host_keys.find(keyAlg)
        return key, key

    def _keySetup(self, sharedSecret: bytes, exchangeHash: bytes) -> None:
        """Derive the new keys. Called by conch.

        Conch would announce the algorithms of its own host keys as those of users' keys.
        """
        is_first = self.sessionID is None
        conch.SSHTransportBase._keySetup(self, sharedSecret, exchangeHash)
        if is_first:
            extensions = [(b"server-sig-algs", b",".join(SIGNATURES))]
            self.sendExtInfo(extensions)  # type: ignore[no-untyped-call]

    def _newKeys(self) -> None:
        """Use the new keys. Called by conch."""
        super()._newKeys()  # type: ignore[no-untyped-call]
        self._octets = 0
        self._keys_since = self._clock.seconds()
        # They take more memory than all the rest of the transport.
        del self.nextEncryptions, self.ourKexInitPayload, self.otherKexInitPayload
        self.__dict__.pop("ecPub", None)
        self.connection.keys_changed()

    def _take_keys_wanted(self, content: bytes) -> None:
        self._check(conch.MSG_KEXINIT)
        now = self._clock.seconds()
        if self._exchanges is None:
            self._exchanges = Bucket(KEY_EXCHANGES, now)
        if self._exchanges.wait(1, now):
            raise wrong_packet("Too many key exchanges")
        self._exchanges.take(1)
        self._exchange(self.ssh_KEXINIT, content)
        self._awaited = conch.MSG_KEXDH_INIT

    def _take_half_of_secret(self, content: bytes) -> None:
        self._check(conch.MSG_KEXDH_INIT)
        self._exchange(self.ssh_KEX_DH_GEX_REQUEST_OLD, content)
        if self.nextEncryptions.encBlockSize:  # it was not a wrong guess, which is ignored
            self._awaited = conch.MSG_NEWKEYS

    def _take_new_keys(self, content: bytes) -> None:
        self._check(conch.MSG_NEWKEYS)
        self._awaited = conch.MSG_KEXINIT
        self._newKeys()

    def _check(self, number: int) -> None:
        if number != self._awaited:
            raise wrong_packet()

    @staticmethod
    def _exchange(step: Callable[[bytes], object], content: bytes) -> None:
        try:
            step(content)
        except Exception:  # noqa: BLE001  conch raises whatever follows from a malformed packet
            code = conch.DISCONNECT_KEY_EXCHANGE_FAILED
            raise Refused(code, "The key exchange has failed") from None

    # Other packets

    def _take_request(self, content: bytes) -> None:
        if self._peer_changes_keys:
            raise wrong_packet()
        self.connection.begin(Fields(content).string())

    def _take_disconnect(self, content: bytes) -> None:
        self.connection.loseConnection()

    def _pass_over(self, content: bytes) -> None:
        """Ignore a packet: IGNORE, UNIMPLEMENTED, DEBUG, or EXT_INFO."""

    _HANDLERS: ClassVar[dict[int, Callable[[SSHTransport, bytes], None]]] = {
        conch.MSG_DISCONNECT: _take_disconnect,
        conch.MSG_IGNORE: _pass_over,
        conch.MSG_UNIMPLEMENTED: _pass_over,
        conch.MSG_DEBUG: _pass_over,
        conch.MSG_EXT_INFO: _pass_over,
        conch.MSG_SERVICE_REQUEST: _take_request,
        conch.MSG_KEXINIT: _take_keys_wanted,
        conch.MSG_NEWKEYS: _take_new_keys,
        conch.MSG_KEXDH_INIT: _take_half_of_secret,
    }
