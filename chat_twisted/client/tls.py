"""TLS from the client's side, and whether the server is the one that is meant.

A certificate that the system's authorities vouch for is taken; any other is pinned: remembered when
it is met first, and required from then on, as ssh does. Nothing is sent before that is decided. The
session that follows does not know of it.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Any, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.client.address import address_key
from chat_twisted.client.client_state import StateFile

AUTHORITIES = "authorities"
"""What is remembered of a server that the system's authorities vouch for."""


class Untrusted(Exception):
    """The server is not the one that was met before, or that was asked for."""


class NotEncrypted(Exception):
    """The other end did not finish the TLS handshake."""


def parse_fingerprint(text: str) -> str:
    """Read a SHA-256 as ``SHA256:`` and base64, or as hexadecimal digits with or without colons;
    return it in the first form.

    :raises ValueError: it is neither.
    """
    digits = text.replace(":", "")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        return _describe(bytes.fromhex(digits))
    kind, _, value = text.partition(":")
    try:
        digest = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        digest = b""
    if kind.upper() != "SHA256" or len(digest) != 32:
        raise ValueError(f"{text!r} is not the fingerprint of a certificate")
    return _describe(digest)


def _describe(digest: bytes) -> str:
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


class Trust:
    """Decides about one server.

    :param fingerprint: the one it must have, if that is known beforehand; then it is remembered.
    """

    def __init__(
        self, host: str, port: int, known: StateFile, fingerprint: str | None = None
    ) -> None:
        self.host = host
        self.is_name = not _is_address(host)
        self._name = address_key(host, port)
        self._known = known
        self._wanted = fingerprint

    def check(self, digest: bytes, *, vouched: bool) -> str:
        """Decide about a certificate.

        :param digest: its SHA-256.
        :param vouched: whether the system's authorities vouch for it and the host's name.
        :return: what to tell the user; mostly nothing.
        :raises Untrusted: it is another than the one that is known.
        """
        found = _describe(digest)
        try:
            before = self._known.get(self._name)
        except OSError as error:
            raise Untrusted(f"{self._known.path}: {error.strerror}") from None
        if self._wanted is not None:
            if found != self._wanted:
                raise Untrusted(
                    f"The certificate of {self._name} is not the one that was asked for:\n"
                    f"its fingerprint is {found}"
                )
            return "" if before == found else self._remember(found)
        if vouched:
            return "" if before == AUTHORITIES else self._remember(AUTHORITIES)
        if before == found:
            return ""
        if before is not None:
            raise Untrusted(self._changed(before, found))
        return f"{self._name} is new here. Its fingerprint is {found}\n" + self._remember(found)

    def _remember(self, value: str) -> str:
        try:
            self._known.set(self._name, value)
        except OSError as error:
            return f"{self._known.path}: {error.strerror}: it can't be remembered"
        return ""

    def _changed(self, before: str, found: str) -> str:
        if before == AUTHORITIES:
            before = "one that your system's authorities vouch for"
        return (
            f"The certificate of {self._name} has changed; nothing was sent.\n"
            f"It was {before}\n"
            f"It is  {found}\n"
            "Either the server was set up anew, or somebody stands between it and you.\n"
            "Ask who runs it for the fingerprint; it is logged when the server starts.\n"
            "If it is the new one, connect once with this, and it will be remembered:\n"
            f"  --fingerprint {found}"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes the client's side of one TLS connection, and lets every certificate pass for now.

    :ivar vouched: whether the system's authorities vouch for it.
    """

    def __init__(self, host: str | None) -> None:
        self.vouched = True
        self._host = host
        self._context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_default_verify_paths()
        context.set_verify(SSL.VERIFY_PEER, self._note)

    def _note(self, _: object, certificate: object, error: int, depth: int, ok: int) -> bool:
        if not ok:
            self.vouched = False
        return True

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """Twisted: a connection to a server is made."""
        connection = SSL.Connection(self._context, None)
        if self._host is not None:
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection


class Session(Protocol):
    """What is asked of the protocol that is to speak on the encrypted connection."""

    binding: bytes

    def makeConnection(self, transport: Any) -> None:
        """Take the transport."""


@implementer(IHandshakeListener)
class _Guard(TwistedProtocol):
    """Stands in for the session until it is known who the server is."""

    transport: Any

    def __init__(
        self, session: Session, trust: Trust, creator: _Creator, tell: Any, ready: Deferred[None]
    ) -> None:
        self._session = session
        self._creator = creator
        self._trust = trust
        self._tell = tell
        self._ready = ready

    def handshakeCompleted(self) -> None:
        """Twisted: the connection is encrypted."""
        connection = self.transport.getHandle()
        certificate = connection.get_peer_certificate(as_cryptography=True)
        digest = certificate.fingerprint(SHA256())
        try:
            notice = self._trust.check(digest, vouched=self._is_vouched_for(connection))
        except Untrusted as problem:
            self._fail(Failure(problem))
            self.transport.abortConnection()
            return
        if notice:
            self._tell(notice.rstrip())
        ready, self._ready = self._ready, Deferred()
        self._session.binding = digest
        self.transport.wrappedProtocol = self._session
        self._session.makeConnection(self.transport)
        ready.callback(None)

    def _is_vouched_for(self, connection: SSL.Connection) -> bool:
        if not self._trust.is_name or not self._creator.vouched:
            return False
        try:
            verify_hostname(connection, self._trust.host)
        except (VerificationError, CertificateError, ValueError):
            return False
        return True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: the connection went before it was encrypted."""
        self._fail(Failure(NotEncrypted()))

    def _fail(self, failure: Failure) -> None:
        if not self._ready.called:
            self._ready.errback(failure)


def connect(
    endpoint: IStreamClientEndpoint,
    session: Session,
    trust: Trust,
    tell: Any,
) -> Deferred[None]:
    """Connect ``session`` by TLS. It may be cancelled at any time.

    :param tell: called with what the user is to be told.
    :return: fires when the session has its connection; fails with ``Untrusted``, ``NotEncrypted``,
        or what connecting fails with.
    """
    made: list[_Guard] = []

    def cancel(_: object) -> None:
        connecting.cancel()
        for guard in made:
            if guard.transport is not None:
                guard.transport.abortConnection()

    ready: Deferred[None] = Deferred(cancel)

    def make() -> _Guard:
        made.append(_Guard(session, trust, creator, tell, ready))
        return made[0]

    creator = _Creator(trust.host if trust.is_name else None)
    factory = Factory.forProtocol(make)
    factory.noisy = False
    connecting = wrapClientTLS(creator, endpoint).connect(factory)

    def failed(failure: Failure) -> None:
        if not ready.called:
            ready.errback(failure)

    connecting.addErrback(failed)
    return ready
