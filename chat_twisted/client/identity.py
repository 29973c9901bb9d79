"""Who one is: the key that proves it, made at first use, and the password.

The server's side is ``accounts``. Nothing here knows the connection.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from pathlib import Path

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

KEY_FILE = "id_ed25519"

MAX_KEY = 16 * 1024
"""Characters of a public key that are read."""

_CONTEXT = b"chat_twisted auth v2\0"

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class IdentityError(Exception):
    """A key or a password can't be had; what is wrong is said in one line."""


class Identity:
    """A key, and a password if there is one.

    :param path: the file of the private key, as OpenSSH or PEM has it.
    :param own: whether it is this client's own, which is made when there is none.
    :param password: empty if there is none.
    :param ask: asks for something in secret; None if nobody can be asked.
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
        """Whether there is a key, or was one named."""
        return not self._own or self._is_there()

    def way(self, methods: Sequence[str], tries: int) -> str | None:
        """Return how to prove who one is: ``publickey`` or ``password``; the key first, unless
        there is a password.

        :param methods: those that the server takes.
        :param tries: how many of the ways did not succeed; None comes when that was all.
        """
        ways = ["publickey"] if "publickey" in methods and self.has_key() else []
        if "password" in methods:
            ways.insert(0 if self.password else len(ways), "password")
        return ways[tries] if tries < len(ways) else None

    def unlock(self) -> None:
        """Read the key now, if there is one, so that its passphrase is asked for at once.

        :raises IdentityError: it can't be read.
        """
        if self.has_key():
            self._load()

    def public(self) -> str:
        """Return the public key in one line; the client's own is made if it is not there.

        :raises IdentityError: it can't be read or made.
        """
        key = self._load()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return public.decode()

    def sign(self, challenge: bytes, name: str, binding: bytes) -> tuple[str, bytes]:
        """Return the public key and the signature that logs in (docs/protocol.rst, Accounts).

        :raises IdentityError: the key can't be read.
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

    def ask_password(self, what: str) -> str:
        """Ask the user; empty if nobody can be asked."""
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
            except TypeError:  # what cryptography raises when there is a passphrase
                passphrase = self.ask_password(f"Passphrase of {self._path}: ")
                return self._parse(data, passphrase.encode())
        except OSError as error:
            raise IdentityError(f"{self._path}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
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
        """Whether the file is there. An empty one holds nothing that anybody could miss."""
        try:
            return self._path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # reading it says what is wrong

    def _make(self) -> Private:
        key = ed25519.Ed25519PrivateKey.generate()
        data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        with locked(self._path.parent):
            if self._is_there():  # another client was quicker
                return self._parse(self._path.read_bytes(), None)
            replace(self._path, data)
        return key


def read_key(file: str) -> str:
    """Return the public key in ``file``, one line as ssh-keygen makes it.

    :raises IdentityError: it can't be read.
    """
    try:
        with open(os.path.expanduser(file), encoding="utf-8-sig") as stream:
            return stream.readline(MAX_KEY).strip()
    except (OSError, ValueError) as error:  # not UTF-8, or no name of a file
        reason = getattr(error, "strerror", None) or "not a public key"
        raise IdentityError(f"{file}: {reason}") from None


def ask_at_the_terminal(what: str) -> str:
    """Ask for something without showing it; the terminal does nothing else meanwhile."""
    try:
        return getpass.getpass(printable(what))
    except (EOFError, KeyboardInterrupt, UnicodeDecodeError):
        return ""
