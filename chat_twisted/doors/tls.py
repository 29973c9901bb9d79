"""TLS for the server: the certificate, and encrypting and decrypting the data of connections.

The certificate is made at the first start, and can be reloaded while the server runs. ``ServerTLS``
makes the TLS objects of connections; ``encrypt`` and ``decrypt`` use them between the handshake and
the close. A client may show a certificate too: only its key counts, which the handshake proves that
the client has. This module must not know sockets or protocols.
"""

from __future__ import annotations

import base64
import datetime
import socket
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from chat_twisted.auth.keys import parse_key
from chat_twisted.core.errors import NotPermitted
from chat_twisted.files import FilesError, Say, make_private, require_trusted, write_private

CERTIFICATE = "certificate.pem"
KEY = "private-key.pem"
"""The files in the state folder."""

RECORD = 16_384
"""Maximum bytes of data in one TLS record (RFC 8446, 5.1)."""

_OVERHEAD = 1024
"""Bytes by which encrypted data is usually longer at most; only the size of a read."""

_SESSIONS = b"chat_twisted"
"""The context of resumed sessions (SSL_CTX_set_session_id_context)."""

VALID_FOR = datetime.timedelta(days=3650)


class TLSError(Exception):
    """The certificate or its key can't be used. The message is one line for the user."""


def ensure(folder: Path, say: Say = lambda line: None) -> tuple[Path, Path]:
    """Make the certificate and its key in a folder, unless they exist.

    :param say: as in ``files.make_private``.
    :return: the paths of the certificate and the key.
    :raises TLSError: if they can't be written, or only one of them exists.
    :raises FilesError: if one of them belongs to another user.
    """
    certificate, key = folder / CERTIFICATE, folder / KEY
    for path in certificate, key:
        if not path.is_symlink():  # the target of a link is checked when it is loaded
            make_private(path, say)
    if certificate.exists():
        if not key.exists():
            raise TLSError(f"{certificate} is there, and its key {KEY} is not")
        return certificate, key
    try:
        made, private = _make()
        # The key first: an interrupted start leaves the key without a certificate.
        write_private(key, private)
        write_private(certificate, made)
    except OSError as error:
        raise TLSError(f"{error.filename or folder}: {error.strerror}") from None
    return certificate, key


def _make() -> tuple[bytes, bytes]:
    """Return a new certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, socket.gethostname()[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # for clients whose clock is behind
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def describe_fingerprint(digest: bytes) -> str:
    """Format a SHA-256 digest as OpenSSH does: ``SHA256:`` and base64 without padding."""
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes the TLS objects of connections, for the server's side (TLS 1.2 and later).

    :param certificate: a PEM file with the certificate, followed by intermediate certificates.
    :param key: a PEM file with its private key, not encrypted.
    :ivar is_vouched_for: whether the authorities that this system trusts vouch for the certificate,
        as far as the system's files tell.
    :ivar valid_until: the end of the certificate, in seconds since the epoch.
    :ivar names: the names of hosts that it is for; a certificate that the server makes has none.
    :raises TLSError: if a file can't be read or used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self.reload()

    def reload(self) -> None:
        """Read the files again, for new connections.

        :raises TLSError: if a file can't be read or used; the earlier contents stay in use.
        """
        loaded = _load(*self._files)
        self._context, self._digest, self.is_vouched_for, self.valid_until, self.names = loaded

    def set_files(self, certificate: Path, key: Path) -> None:
        """Set the files for the next ``reload``."""
        self._files = certificate, key

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the certificate, for people to compare."""
        return describe_fingerprint(self._digest)

    @property
    def digits(self) -> str:
        """The fingerprint as 64 hexadecimal digits, as weechat wants it (``tls_fingerprint``)."""
        return self._digest.hex()

    @property
    def pairs(self) -> str:
        """The fingerprint as pairs of digits, as irssi wants it (``tls_pinned_cert``)."""
        return self._digest.hex(":").upper()

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the TLS object of a connection. Called by Twisted."""
        return _Connection(self._context, None)


class _Connection(SSL.Connection):
    """A TLS object that treats the end of the TCP connection as the end of TLS, even without a
    closing alert. Truncation is not a danger, because frames have a known length.
    """

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """Read up to ``bufsiz`` bytes.

        :raises ZeroReturnError: at the end. From pyOpenSSL's own error Twisted makes two Failures,
            one of them in a reference cycle with this object, the buffers and the transport: 100
            KiB for each connection would stay until the garbage collector runs.
        """
        try:
            return super().recv(bufsiz, flags)
        except SSL.SysCallError:
            raise SSL.ZeroReturnError from None


def encrypt(connection: SSL.Connection, data: bytes = b"") -> bytes:
    """Encrypt data.

    :return: the bytes to send: pending bytes of TLS itself (session tickets, key updates, alerts),
        then ``data``. They must be sent in the order of the calls.
    :raises SSL.Error: if TLS has failed.
    """
    said = 0
    while said < len(data):
        said += connection.send(data[said : said + RECORD])
    size = len(data) + _OVERHEAD
    sent = b""
    try:
        while len(sent) % size == 0:
            sent += connection.bio_read(size)
    except SSL.WantReadError:
        pass  # all pending bytes are read
    return sent


def decrypt(connection: SSL.Connection, data: bytes) -> tuple[bytes, str | None]:
    """Decrypt bytes from the peer. ``encrypt`` returns the answers of TLS itself, if any.

    :return: the data, and the reason why no more data will follow; None if it may.
    """
    pieces: list[bytes] = []
    end = None
    connection.bio_write(data)
    try:
        while True:
            pieces.append(connection.recv(RECORD))
    except SSL.WantReadError:
        pass  # the rest of the record has not arrived yet
    except SSL.ZeroReturnError:
        end = "closed"
    except SSL.Error:
        end = "a fault in TLS"
    return b"".join(pieces), end


def binding(connection: SSL.Connection) -> bytes:
    """Return the SHA-256 digest of the server's certificate that a connection uses."""
    certificate = connection.get_certificate(as_cryptography=True)
    assert certificate is not None, "a server has one"
    return certificate.fingerprint(hashes.SHA256())


def certificate_key(connection: SSL.Connection) -> str:
    """Return the public key of the certificate that the client has shown, as ``keys.parse_key``
    returns it; empty if there is no certificate, or the type of its key is not accepted.

    The key is all that is read of a certificate, whose other parts nobody has checked.
    """
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return ""
    try:
        public: Any = certificate.get_pubkey().to_cryptography_key()
        key = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return parse_key(key.decode())[0]
    except (ValueError, TypeError, UnsupportedAlgorithm, crypto.Error, NotPermitted):
        return ""  # such as a key of a type that OpenSSH does not know


def _take_any(*_: object) -> bool:
    """Accept a client's certificate, whoever has signed it. Called by OpenSSL in the handshake."""
    return True


def _are_vouching(certificate: x509.Certificate, chain: list[x509.Certificate]) -> bool:
    """Return whether the system's authorities vouch for a certificate now. Only files are read.

    :param chain: the intermediate certificates.
    """
    trusted = SSL.Context(SSL.TLS_SERVER_METHOD)  # of which only the trusted certificates are used
    trusted.set_default_verify_paths()
    store = trusted.get_cert_store()
    assert store is not None, "a context has one"
    first, *others = map(crypto.X509.from_cryptography, (certificate, *chain))
    try:
        crypto.X509StoreContext(store, first, others).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def _load(certificate: Path, key: Path) -> tuple[SSL.Context, bytes, bool, float, tuple[str, ...]]:
    path = certificate
    try:
        require_trusted(certificate)
        require_trusted(key, secret=True)
        first, *chain = x509.load_pem_x509_certificates(path.read_bytes())
        path = key
        private = serialization.load_pem_private_key(path.read_bytes(), None)
        if private.public_key() != first.public_key():
            raise TLSError(f"{key} is not the key of {certificate}")
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(first)
        for other in chain:
            context.add_extra_chain_cert(other)
        context.use_privatekey(private)  # type: ignore[arg-type]
    except FilesError as error:
        raise TLSError(str(error)) from None
    except OSError as error:
        raise TLSError(f"{error.filename or path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, SSL.Error):
        what = "a certificate" if path is certificate else "an unencrypted private key"
        raise TLSError(f"{path}: not {what} in PEM") from None
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # idle connections need no buffers
    # A cache for resuming sessions needs memory, and chat clients reconnect too rarely to gain.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Clients may resume sessions with tickets, which also have the client's certificate. OpenSSL
    # requires a context of these if certificates are asked for.
    context.set_session_id(_SESSIONS)
    context.set_verify(SSL.VERIFY_PEER, _take_any)
    context.set_verify_depth(0)  # nobody vouches for a client, so no chain is to be checked
    until = first.not_valid_after_utc.timestamp()
    digest = first.fingerprint(hashes.SHA256())
    return context, digest, _are_vouching(first, chain), until, _names_of(first)


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names of hosts that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.value.get_values_for_type(x509.DNSName))
