"""Public keys of accounts, and the signature by which a client proves that it has the private key.

This module must not know accounts, sessions or the wire protocol.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from chat_twisted.core.errors import NotPermitted
from chat_twisted.text import printable

CHALLENGE = 32
"""Length of a challenge in bytes."""

KEY_KINDS = ("ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-nistp{size}" for size in (256, 384, 521)))
"""Types of keys that are accepted."""

MAX_KEY = 2000
"""Maximum bytes of a key, including its comment."""

MAX_EXPONENT = 2**32
"""Maximum exponent of an RSA key. Common ones are 65537; each verification takes time in proportion
to its length."""

_CONTEXT = b"chat_twisted auth v2\0"


def signed_data(challenge: bytes, name: str, binding: bytes) -> bytes:
    """Return the data that a client signs to log in (docs/protocol.rst, Accounts).

    :param challenge: the bytes that the server sent.
    :param name: the name of the account, as in the request.
    :param binding: the channel binding: the SHA-256 digest of the server's certificate; empty
        without TLS.
    """
    return _CONTEXT + challenge + name.encode() + binding


def parse_key(text: str) -> tuple[str, str]:
    """Parse a public key in the format of an authorized_keys file.

    :return: the key, without comment, and its comment.
    :raises NotPermitted: if it is not a key, or its type is not accepted.
    """
    words = text.split(None, 2)
    if len(words) < 2 or len(text.encode()) > MAX_KEY:
        raise NotPermitted("not a public key")
    if words[0] not in KEY_KINDS:
        raise NotPermitted("a kind of key that is not taken here")
    public = _load(" ".join(words[:2]))
    key = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return key, printable(words[2].strip()) if len(words) > 2 else ""


Public = ed25519.Ed25519PublicKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def _load(key: str) -> Public:
    try:
        public = load_ssh_public_key(key.encode())
    # the last is raised for a compressed point
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise NotPermitted("not a public key") from None
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < 2048:
            raise NotPermitted("an RSA key that is too short")
        if public.public_numbers().e > MAX_EXPONENT:
            raise NotPermitted("an RSA key with a large exponent")
    assert isinstance(public, Public), "its kind is one of KEY_KINDS"
    return public


def is_signed(key: str, signature: bytes, data: bytes) -> bool:
    """Return whether ``signature`` is a signature of ``data`` by ``key``.

    :raises NotPermitted: if ``key`` is not a public key.
    """
    public = _load(key)
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, data)
        elif isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, data, padding.PKCS1v15(), hashes.SHA512())
        else:
            public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
