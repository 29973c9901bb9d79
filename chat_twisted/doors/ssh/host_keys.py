"""The host keys: by them clients recognise this server. They are made at the first start.

There is an Ed25519 key, and an RSA key for old clients, in files as sshd has them. This module must
not know connections.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from chat_twisted.doors.ssh.fields import string
from chat_twisted.files import FilesError, Say, make_private, require_trusted, write_private

ED25519, RSA = "ssh_host_ed25519_key", "ssh_host_rsa_key"
"""The files in the state folder."""

RSA_SIZE = 3072
"""Bits of the RSA key."""

_RSA_HASHES = {b"rsa-sha2-512": hashes.SHA512(), b"rsa-sha2-256": hashes.SHA256()}

_SECRET = b"chat_twisted guests' keys"

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class HostKey:
    """A host key. It has the part of conch's ``Key`` that conch's transport uses.

    :ivar algorithms: the names of its signature algorithms, the best one first.
    :ivar line: the public key, as in an authorized_keys file.
    :ivar fingerprint: the fingerprint for people, as ``ssh-keygen -lf`` prints it; a comment
        would be between the two spaces.
    """

    def __init__(self, private: Private) -> None:
        self._private = private
        public = private.public_key()
        self.line = public.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        ).decode()
        self._blob = base64.b64decode(self.line.split()[1])
        digest = base64.b64encode(hashlib.sha256(self._blob).digest()).decode().rstrip("=")
        if isinstance(private, rsa.RSAPrivateKey):
            self.algorithms = tuple(_RSA_HASHES)
            size, kind = private.key_size, "RSA"
        else:
            self.algorithms = (b"ssh-ed25519",)
            size, kind = 256, "ED25519"
        self.fingerprint = f"{size} SHA256:{digest}  ({kind})"

    def blob(self) -> bytes:
        """Return the public key in SSH's format. Called by conch."""
        return self._blob

    def sign(self, data: bytes, signatureType: bytes) -> bytes:
        """Return a signature in SSH's format. Called by conch."""
        if isinstance(self._private, rsa.RSAPrivateKey):
            algorithm = _RSA_HASHES[signatureType]
            signature = self._private.sign(data, padding.PKCS1v15(), algorithm)
        else:
            signature = self._private.sign(data)
        return string(signatureType) + string(signature)

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 secret bytes that only the owner of the key can derive."""
        raw = self._private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return hmac.digest(raw, purpose, "sha256")


class HostKeys:
    """The host keys of a server, the best one first.

    :ivar algorithms: the names of their signature algorithms.
    :ivar secret: 32 secret bytes, which stay the same as long as the keys do; for the tokens of
        guests who log in by a key.
    """

    def __init__(self, keys: Sequence[HostKey]) -> None:
        self._keys = tuple(keys)
        self._by_algorithm = {name: key for key in keys for name in key.algorithms}
        self.algorithms = tuple(self._by_algorithm)
        self.secret = keys[0].derive(_SECRET)

    def find(self, algorithm: bytes) -> HostKey:
        """Return the key for one of ``algorithms``."""
        return self._by_algorithm[algorithm]

    @property
    def fingerprints(self) -> list[str]:
        """The fingerprints of the keys, as ``ssh-keygen -lf`` prints them."""
        return [key.fingerprint for key in self._keys]

    def known_hosts(self, host: str, port: int) -> list[str]:
        """Return the lines for a known_hosts file.

        :param host: the name or address by which clients reach the server.
        """
        name = host if port == 22 else f"[{host}]:{port}"
        return [f"{name} {key.line}" for key in self._keys]


def load(folder: Path, say: Say = lambda line: None) -> HostKeys:
    """Load the host keys in a folder; make those that do not exist.

    :param folder: a folder that ``files.make_private_folder`` has returned.
    :param say: as in ``files.make_private``.
    :raises FilesError: if a key can't be read, written or used.
    """
    return HostKeys([_load(folder / name, say) for name in (ED25519, RSA)])


def _load(path: Path, say: Say) -> HostKey:
    try:
        if path.is_symlink():
            require_trusted(path, secret=True)
        else:
            make_private(path, say)
            if not path.exists():
                write_private(path, _make(path.name))
    except OSError as error:
        raise FilesError(f"{error.filename or path}: {error.strerror}") from None
    return read(path)


def read(path: Path) -> HostKey:
    """Read a host key.

    :param path: one of the files in the state folder.
    :raises FilesError: if it can't be read or used.
    """
    try:
        # The usual check of an RSA key takes a tenth of a second, in which no client can log in.
        private = serialization.load_ssh_private_key(
            path.read_bytes(), None, unsafe_skip_rsa_key_validation=True
        )
    except OSError as error:
        raise FilesError(f"{error.filename or path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FilesError(f"{path}: not an unencrypted private key of OpenSSH") from None
    wanted = rsa.RSAPrivateKey if path.name == RSA else ed25519.Ed25519PrivateKey
    if not isinstance(private, wanted):
        raise FilesError(f"{path}: a private key of another kind")
    if isinstance(private, rsa.RSAPrivateKey) and not _can_sign(private):
        raise FilesError(f"{path}: the private key is damaged")
    return HostKey(private)


def _can_sign(private: rsa.RSAPrivateKey) -> bool:
    """Return whether the parts of a key fit together."""
    how = padding.PKCS1v15(), hashes.SHA256()
    try:
        private.public_key().verify(private.sign(b"", *how), b"", *how)
    except (InvalidSignature, ValueError):
        return False
    return True


def _make(name: str) -> bytes:
    """Return a new private key for the file ``name``."""
    private: Private = (
        rsa.generate_private_key(65537, RSA_SIZE)
        if name == RSA
        else ed25519.Ed25519PrivateKey.generate()
    )
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
