"""TLS on the client's side, and the decision whether to trust the server.

A certificate that the system's authorities vouch for is accepted. Any other is pinned, as in ssh:
stored at the first connection, and required from then on. The hosts of one chat have one
certificate. Nothing is sent before the decision. This module must not know the session that
follows.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.client.address import Host, is_ip_address
from chat_twisted.client.client_state import StateFile

AUTHORITIES = "authorities"
"""Stored for a server that the system's authorities vouch for."""


class Untrusted(Exception):
    """The certificate is not the stored or requested one. The message explains it to the user."""


class NotEncrypted(Exception):
    """The other side did not complete the TLS handshake."""


class ClosedEarly(NotEncrypted):
    """The other side closed the connection during the TLS handshake, without an error in it."""


def parse_fingerprint(text: str) -> str:
    """Parse a SHA-256 digest: ``SHA256:`` and base64, or hexadecimal digits with or without colons.

    :return: the digest in the first form.
    :raises ValueError: if the text is neither.
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
    """Decides whether to trust the certificate of one host of a chat.

    All hosts of a chat show one certificate, so a fingerprint that is stored for one of them is
    valid for the others. A new host is accepted without a question only if none of the hosts has a
    stored fingerprint.

    :ivar names: the names for which an authority may vouch: those of all hosts of the chat.
    :ivar server_name: the host's name, for the TLS handshake; None if it is an IP address.
    :param host: the host, as the user has named it.
    :param known: the file of known servers.
    :param fingerprint: the fingerprint that the certificate must have, or None. It is then stored.
    :param others: the other hosts of the chat, as the user has named them.
    """

    def __init__(
        self,
        host: Host,
        known: StateFile,
        fingerprint: str | None = None,
        others: Sequence[Host] = (),
    ) -> None:
        self.names = [each.name for each in (host, *others) if not is_ip_address(each.name)]
        self.server_name = None if is_ip_address(host.name) else host.name
        self._key = host.key
        self._others = [other.key for other in others]
        self._known = known
        self._wanted = fingerprint

    def check(self, digest: bytes, *, vouched: bool) -> str:
        """Check a certificate, and store it if it is new.

        :param digest: its SHA-256 digest, 32 bytes.
        :param vouched: whether the system's authorities vouch for it and one of ``names``.
        :return: a notice for the user; usually empty.
        :raises Untrusted: if it is not the expected one.
        """
        found = _describe(digest)
        try:
            before = self._known.get(self._key)
            of_others = [value for key in self._others if (value := self._known.get(key))]
        except OSError as error:
            raise Untrusted(f"{self._known.path}: {error.strerror}") from None
        if self._wanted is not None:
            if found != self._wanted:
                raise Untrusted(
                    f"The certificate of {self._key} is not the one that was asked for:\n"
                    f"its fingerprint is {found}"
                )
            return "" if before == found else self._remember(found)
        if vouched:
            return "" if before == AUTHORITIES else self._remember(AUTHORITIES)
        if before == found:
            return ""
        if found in of_others:
            return self._remember(found)
        if before is not None:
            raise Untrusted(self._changed(before, found))
        if of_others:
            raise Untrusted(self._differs(of_others[0], found))
        return f"{self._key} is new here. Its fingerprint is {found}\n" + self._remember(found)

    def _remember(self, value: str) -> str:
        try:
            self._known.set(self._key, value)
        except OSError as error:
            return f"{self._known.path}: {error.strerror}: it can't be remembered"
        return ""

    def _changed(self, before: str, found: str) -> str:
        return (
            f"The certificate of {self._key} has changed; nothing was sent.\n"
            f"It was {_describe_stored(before)}\n"
            f"It is  {found}\n"
            "Either the server was set up anew, or somebody stands between it and you.\n"
            "Ask who runs it for the fingerprint; it is logged when the server starts.\n"
            "If it is the new one, connect once with this, and it will be remembered:\n"
            f"  --fingerprint {found}"
        )

    def _differs(self, of_another: str, found: str) -> str:
        return (
            f"The certificate of {self._key} is not that of the chat's other hosts; "
            "nothing was sent.\n"
            f"Theirs is {_describe_stored(of_another)}\n"
            f"This is   {found}\n"
            "Either it is a host of another chat, or somebody stands between it and you.\n"
            "Ask who runs it for the fingerprint; all hosts of a chat have the same one."
        )


def _describe_stored(value: str) -> str:
    return "one that your system's authorities vouch for" if value == AUTHORITIES else value


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Creates the client's side of one TLS connection; certificates are checked afterwards.

    :ivar vouched: whether the system's authorities vouch for the certificate.
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
        """Create the TLS connection. Called by Twisted when connected."""
        connection = SSL.Connection(self._context, None)
        if self._host is not None:
            connection.set_tlsext_host_name(self._host.encode("idna"))
        return connection


class Session(Protocol):
    """The part of a session that this module uses.

    :ivar binding: the SHA-256 digest of the server's certificate.
    """

    binding: bytes

    def makeConnection(self, transport: Any) -> None:
        """Called with the encrypted transport when the server is trusted."""


@implementer(IHandshakeListener)
class _TrustCheck(TwistedProtocol):
    """Takes the session's place until the server is trusted."""

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
        """Check the certificate and start the session. Called by Twisted after the handshake."""
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
        return self._creator.vouched and any(
            _is_certificate_of(connection, name) for name in self._trust.names
        )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted when the connection is lost before the server was trusted."""
        has_closed = reason.check(ConnectionDone, ConnectionLost)
        self._fail(Failure(ClosedEarly() if has_closed else NotEncrypted()))

    def _fail(self, failure: Failure) -> None:
        if not self._ready.called:
            self._ready.errback(failure)


def _is_certificate_of(connection: SSL.Connection, name: str) -> bool:
    try:
        verify_hostname(connection, name)
    except (VerificationError, CertificateError, ValueError):
        return False
    return True


def connect(
    endpoint: IStreamClientEndpoint,
    session: Session,
    trust: Trust,
    tell: Any,
) -> Deferred[None]:
    """Connect ``session`` over TLS. The attempt can be cancelled at any time.

    :param tell: called with a notice for the user.
    :return: fires when the session is connected; fails with ``Untrusted``, ``NotEncrypted``, or an
        error of the endpoint.
    """
    made: list[_TrustCheck] = []

    def cancel(_: object) -> None:
        connecting.cancel()
        for guard in made:
            if guard.transport is not None:
                guard.transport.abortConnection()

    ready: Deferred[None] = Deferred(cancel)

    def make() -> _TrustCheck:
        made.append(_TrustCheck(session, trust, creator, tell, ready))
        return made[0]

    creator = _Creator(trust.server_name)
    factory = Factory.forProtocol(make)
    factory.noisy = False
    connecting = wrapClientTLS(creator, endpoint).connect(factory)

    def failed(failure: Failure) -> None:
        if not ready.called:
            ready.errback(failure)

    connecting.addErrback(failed)
    return ready
