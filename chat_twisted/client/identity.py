"""The user's private key, which is created at first use, and password.

The server's side is ``auth.gate``. This module must not know the connection.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from chat_twisted.client.client_state import locked, replace
from chat_twisted.text import printable
from chat_twisted.ui.errors import IdentityError

KEY_FILE = "id_ed25519"

MAX_KEY = 16 * 1024
"""Maximum number of characters read from a public key file."""

MAX_TRIES = 3
"""Number of refused proofs after which a server closes the connection."""

VALID_FOR = datetime.timedelta(days=3650)
"""How long a certificate is valid. The chat's own server doesn't check that."""

_CONTEXT = b"chat_twisted auth v2\0"

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Identity:
    """The user's key, and optionally a password.

    :param path: the file of the private key, in OpenSSH or PEM format.
    :param own: whether it is the client's own key, which is created if it does not exist.
    :param password: the password, or empty.
    :param ask: asks the user for a secret; None if nobody can be asked.
    """

    def __init__(
        self,
        path: Path,
        *,
        own: bool,
        password: str = "",
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self.password = password
        self._path = path
        self._own = own
        self._ask = ask
        self._key: Private | None = None

    def has_key(self) -> bool:
        """Return whether the user named a key file, or the client's own key exists."""
        return not self._own or self._is_there()

    def ways(self, methods: Sequence[str]) -> list[str]:
        """Return the login methods to try, in order: ``publickey`` or ``password``.

        The key comes first unless a password is given. A password can be tried again, until there
        are ``MAX_TRIES`` proofs.

        :param methods: the methods that the server accepts.
        """
        ways = ["publickey"] if "publickey" in methods and self.has_key() else []
        if "password" in methods:
            ways.insert(0 if self.password else len(ways), "password")
            ways += ["password"] * (MAX_TRIES - len(ways))
        return ways

    def unlock(self) -> None:
        """Load the key now, if there is one, so that its passphrase is asked for early.

        :raises IdentityError: if it can't be read.
        """
        if self.has_key():
            self._load()

    def public(self) -> str:
        """Return the public key as one line. The client's own key is created if it does not exist.

        :raises IdentityError: if it can't be read or created.
        """
        key = self._load()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return public.decode()

    def sign(self, challenge: bytes, name: str, binding: bytes) -> tuple[str, bytes]:
        """Return the public key and the signature for a login (docs/protocol.rst, Accounts).

        :param challenge: 32 bytes from the server.
        :param name: the account's name.
        :param binding: the channel binding: the SHA-256 digest of the server's certificate.
        :raises IdentityError: if the key can't be read.
        """
        key = self._load()
        data = _CONTEXT + challenge + name.encode() + binding
        if isinstance(key, ed25519.Ed25519PrivateKey):
            signature = key.sign(data)
        elif isinstance(key, rsa.RSAPrivateKey):
            signature = key.sign(data, padding.PKCS1v15(), hashes.SHA512())
        else:
            signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
        return self.public(), signature

    def write_certificate(self, file: Path, name: str) -> None:
        """Write the private key, with a self-signed certificate of it, into a new file, which only
        its owner may read. IRC clients need it to log in with the key (SASL EXTERNAL).

        :param name: the name in the certificate.
        :raises IdentityError: if the key can't be read, or the file exists or can't be written.
        """
        data = self._certify(name)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.unlink()
                raise
        except (OSError, ValueError) as error:  # the latter: not a valid file name
            reason = getattr(error, "strerror", None) or "not a file name"
            raise IdentityError(f"{file}: {reason}") from None

    def _certify(self, name: str) -> bytes:
        """Return the key and a new certificate of it, as PEM, the key without a passphrase."""
        key = self._load()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))  # for servers whose clock is behind
            .not_valid_after(now + VALID_FOR)
            .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return private + certificate.public_bytes(Encoding.PEM)

    def ask_password(self, what: str) -> str:
        """Ask the user for a secret; return an empty text if nobody can be asked."""
        return self._ask(what) if self._ask is not None else ""

    def _load(self) -> Private:
        if self._key is None:
            self._key = self._read()
        return self._key

    def _read(self) -> Private:
        try:
            if self._own and not self._is_there():
                return self._make()
            data = self._path.read_bytes()
            try:
                return self._parse(data, None)
            except TypeError:  # raised by cryptography if a passphrase is needed
                passphrase = self.ask_password(f"Passphrase of {self._path}: ")
                return self._parse(data, passphrase.encode())
        except OSError as error:
            raise IdentityError(f"{self._path}: {error.strerror}") from None
        except UnsupportedAlgorithm as error:
            if "bcrypt" in str(error):
                reason = "to read it with its passphrase, install the Python package bcrypt"
            else:
                reason = "a kind of key that is not taken here"
            raise IdentityError(f"{self._path}: {reason}") from None
        except (ValueError, TypeError):
            hint = "; move it away, and a new one is made" if self._own else ""
            reason = f"not a private key, or not its passphrase{hint}"
            raise IdentityError(f"{self._path}: {reason}") from None

    def _parse(self, data: bytes, passphrase: bytes | None) -> Private:
        load = load_ssh_private_key if b"OPENSSH" in data[:100] else load_pem_private_key
        key = load(data, passphrase)
        if not isinstance(key, Private):
            raise IdentityError(f"{self._path}: a kind of key that is not taken here")
        return key

    def _is_there(self) -> bool:
        """Return whether the file exists and is not empty; an empty file may be replaced."""
        try:
            return self._path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # reading it will report the problem

    def _make(self) -> Private:
        key = ed25519.Ed25519PrivateKey.generate()
        data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        with locked(self._path.parent):
            if self._is_there():  # another client created it first
                return self._parse(self._path.read_bytes(), None)
            replace(self._path, data)
        return key


def read_key(file: str) -> str:
    """Return the first line of a public key file, as ssh-keygen writes it.

    :raises IdentityError: if it can't be read, or is the file of a private key.
    """
    try:
        with open(os.path.expanduser(file), encoding="utf-8-sig") as stream:
            line = stream.readline(MAX_KEY).strip()
    except (OSError, ValueError) as error:  # not UTF-8, or not a valid file name
        reason = getattr(error, "strerror", None) or "not a public key"
        raise IdentityError(f"{file}: {reason}") from None
    if "PRIVATE KEY" in line or line.startswith("PuTTY-User-Key-File"):
        raise IdentityError(f"{file} is a private key; the server gets the public one: {file}.pub")
    return line


def ask_at_the_terminal(what: str) -> str:
    """Ask for a secret without echo. Blocks until the user has answered."""
    try:
        return getpass.getpass(printable(what))
    except (EOFError, KeyboardInterrupt, UnicodeDecodeError):
        return ""
