"""The server's certificate: made at the first start, loaded, and loaded again on the way.

``ServerTLS`` is what TLS connections are made with; ``encrypt`` and ``decrypt`` use them between
handshake and closing. Nothing here knows a socket, what is said, or by whom.
"""

from __future__ import annotations

import base64
import datetime
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from chat_twisted.files import FilesError, Say, make_private, require_trusted

CERTIFICATE = "certificate.pem"
KEY = "private-key.pem"
"""The files in the state folder."""

RECORD = 16_384
"""Bytes that one record of TLS has at most (RFC 8446, 5.1)."""

_OVERHEAD = 1024
"""Bytes by which what is sent is mostly longer than what was to be said."""

VALID_FOR = datetime.timedelta(days=3650)


class TLSError(Exception):
    """The certificate or its key can't be used; what is wrong is said in one line."""


def ensure(folder: Path, say: Say = lambda line: None) -> tuple[Path, Path]:
    """Make the certificate and its key in ``folder``, unless they are there; return their files.

    :param say: takes a line of what was found and mended.
    :raises TLSError: they can't be written, or one of them is missing.
    :raises FilesError: one of them is another user's.
    """
    certificate, key = folder / CERTIFICATE, folder / KEY
    for path in certificate, key:
        if not path.is_symlink():  # where that leads to is looked at when it is loaded
            make_private(path, say)
    if certificate.exists():
        if not key.exists():
            raise TLSError(f"{certificate} is there, and its key {KEY} is not")
        return certificate, key
    try:
        made, private = _make()
        _write(key, private)  # first: a key alone is one of a start that was broken off
        _write(certificate, made)
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
        .not_valid_before(now - datetime.timedelta(days=1))  # for clocks that are behind
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


def _write(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, wholly or not at all."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)


def describe_fingerprint(digest: bytes) -> str:
    """Write a SHA-256 as OpenSSH does: ``SHA256:`` and unpadded base64."""
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes the server's side of TLS connections (TLS 1.2 and up).

    :param certificate: a PEM file: the certificate, and behind it those that lead to its authority.
    :param key: the PEM file of its private key, not encrypted.
    :raises TLSError: a file can't be read or used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self.reload()

    def reload(self) -> None:
        """Read the files again. Connections that stand go on as they are.

        :raises TLSError: a file can't be read or used; what was read before stays in use.
        """
        self._context, self._digest = _load(*self._files)

    @property
    def fingerprint(self) -> str:
        """The certificate's, to be compared by people."""
        return describe_fingerprint(self._digest)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Twisted: a peer wants TLS."""
        return _Connection(self._context, None)


class _Connection(SSL.Connection):
    """A connection for which the end of what comes is the end, also if TLS has not said so first:
    what is cut off is a frame that is not whole.
    """

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """Read up to ``bufsiz`` bytes.

        :raises ZeroReturnError: there is nothing more. Twisted makes two Failures of pyOpenSSL's
            own error, one of which is in a cycle with this object, the buffers and the transport:
            100 KiB a connection would stay until all objects are looked through for cycles.
        """
        try:
            return super().recv(bufsiz, flags)
        except SSL.SysCallError:
            raise SSL.ZeroReturnError from None


def encrypt(connection: SSL.Connection, data: bytes = b"") -> bytes:
    """Return what is to be sent: first what TLS has to say itself (session tickets, answers to
    changes of keys, alerts), then ``data``. Bytes that were returned must be sent in that order.

    :raises SSL.Error: nothing can be said any more.
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
        pass  # there is nothing more
    return sent


def decrypt(connection: SSL.Connection, data: bytes) -> tuple[bytes, str | None]:
    """Take ``data`` as it came from the peer; return what that says, and why there will be nothing
    more, None if there may be. ``encrypt`` has what is to be answered.
    """
    pieces: list[bytes] = []
    end = None
    connection.bio_write(data)
    try:
        while True:
            pieces.append(connection.recv(RECORD))
    except SSL.WantReadError:
        pass  # the rest is to come
    except SSL.ZeroReturnError:
        end = "closed"
    except SSL.Error:
        end = "a fault in TLS"
    return b"".join(pieces), end


def binding(connection: SSL.Connection) -> bytes:
    """Return the SHA-256 of the certificate that the peer was shown on ``connection``."""
    certificate = connection.get_certificate(as_cryptography=True)
    assert certificate is not None, "a server has one"
    return certificate.fingerprint(hashes.SHA256())


def _load(certificate: Path, key: Path) -> tuple[SSL.Context, bytes]:
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
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection has none
    # A session that is taken up again costs memory on this side and saves nothing to who stays.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context, first.fingerprint(hashes.SHA256())
