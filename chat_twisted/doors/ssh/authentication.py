"""Authentication (RFC 4252, 4256): who has connected, by a key or a password.

An account is proved by one of its keys or its password. For a name without an account, any key is
accepted, or none, if guests are allowed. This module must not know channels, or what a login means.
"""

from __future__ import annotations

import base64
from typing import ClassVar, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from twisted.conch.ssh.transport import (
    DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE,
    DISCONNECT_SERVICE_NOT_AVAILABLE,
)
from twisted.internet.defer import Deferred

from chat_twisted.auth.gate import Gate, Password
from chat_twisted.auth.keys import parse_key
from chat_twisted.core.errors import AuthenticationFailed, ChatError, NotPermitted
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import Allowance, network
from chat_twisted.core.message import fold
from chat_twisted.core.model import Account
from chat_twisted.doors.ssh.fields import Fields, number, string
from chat_twisted.doors.ssh.transport import Refused, wrong_packet
from chat_twisted.logs import Logger

USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS = 50, 51, 52
USERAUTH_PK_OK = USERAUTH_INFO_REQUEST = 60
USERAUTH_INFO_RESPONSE = 61

METHODS = b"publickey,password,keyboard-interactive"

NEXT_SERVICE = b"ssh-connection"

NAME_HAS_ACCOUNT = b"This name has an account, which has a password or keys."
ACCOUNTS_ONLY = b"Only users with an account can log in here."
"""Why ssh asks for a password. Without guests it is the same for names that have no account."""

MAX_FAILURES = 6
"""Number of wrong passwords and signatures after which a peer is disconnected."""

MAX_OFFERS = 30
"""Maximum number of other requests of a peer, such as the keys that its agent has."""

MAX_NAME = 256
"""Maximum characters of a name, far more than a user name may have; the rest of it is cut."""

_HASHES: dict[bytes, hashes.HashAlgorithm | None] = {
    b"ssh-ed25519": None,
    b"ecdsa-sha2-nistp256": hashes.SHA256(),
    b"ecdsa-sha2-nistp384": hashes.SHA384(),
    b"ecdsa-sha2-nistp521": hashes.SHA512(),
    b"rsa-sha2-512": hashes.SHA512(),
    b"rsa-sha2-256": hashes.SHA256(),
}
"""The hash of each signature algorithm in ``transport.SIGNATURES``."""


def parse_blob(algorithm: bytes, blob: bytes) -> str | None:
    """Parse a public key in SSH's format.

    :return: the key as ``keys.parse_key`` returns it; None if it is not a key for the signature
        algorithm, or its type is not accepted.
    """
    if algorithm not in _HASHES:
        return None
    kind = "ssh-rsa" if algorithm.startswith(b"rsa-") else algorithm.decode()
    try:
        return parse_key(f"{kind} {base64.b64encode(blob).decode()}")[0]
    except NotPermitted:
        return None


def is_signed(key: str, algorithm: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether ``signature`` is a signature of ``data`` (RFC 4253, 6.6; 5656; 8332; 8709).

    :param key: as ``parse_blob`` returns it for ``algorithm``.
    :raises Malformed: if the signature ends within a field.
    """
    public = load_ssh_public_key(key.encode())
    fields = Fields(signature)
    if fields.string() != algorithm:
        return False
    value, kind = fields.string(), _HASHES[algorithm]
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(value, data)
        elif isinstance(public, rsa.RSAPublicKey) and kind is not None:
            public.verify(value, data, padding.PKCS1v15(), kind)
        elif isinstance(public, ec.EllipticCurvePublicKey) and kind is not None:
            parts = Fields(value)
            r, s = (int.from_bytes(parts.string()) for _ in "rs")
            public.verify(encode_dss_signature(r, s), data, ec.ECDSA(kind))
        else:
            return False
    except InvalidSignature:
        return False
    return True


class Applying(Protocol):
    """The part of a connection that authentication uses."""

    @property
    def host(self) -> str | None:
        """The peer's address; None on a local socket."""

    @property
    def identifier(self) -> bytes:
        """The identifier of this connection, which is part of what a key signs."""

    def send(self, number: int, content: bytes) -> None:
        """Send a packet."""

    def hold(self) -> None:
        """Process no further packets until ``go_on``."""

    def go_on(self) -> None:
        """Process packets again, from the next turn of the reactor on."""

    def disconnect(self, refused: Refused) -> None:
        """Tell the peer the reason, and close the connection."""

    def abort(self, why: str) -> None:
        """Close the connection at once."""

    def logged_in(self, name: str, proof: str, key: str) -> None:
        """Called when the peer has proved who it is; see ``visits.Visitor``."""


class Authentication:
    """The authentication of one connection.

    :ivar host: the peer's address. It is charged for verifying passwords (``Usage``).
    :ivar allowance: what the peer may use, if it is limited.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(self, connection: Applying, hub: Hub, gate: Gate) -> None:
        self.host = connection.host
        self.allowance: Allowance | None = None
        self._connection = connection
        self._hub = hub
        self._gate = gate
        self._failures = 0
        self._offers = 0
        self._asked: str | None = None  # the name of which the password was asked for
        self._is_over = False

    def stop(self) -> None:
        """Called when the authentication, or the connection, has ended."""
        self._is_over = True

    def take(self, number: int, fields: Fields) -> bool:
        """Process a packet.

        :return: whether the packet is known.
        :raises Refused: if the peer is to be disconnected.
        :raises Malformed: if a field is not complete.
        """
        if number == USERAUTH_REQUEST:
            self._take_request(fields)
        elif number == USERAUTH_INFO_RESPONSE:
            self._take_response(fields)
        else:
            return False
        return True

    def _take_request(self, fields: Fields) -> None:
        user, service, method = fields.string(), fields.string(), fields.string()
        if service != NEXT_SERVICE:
            raise Refused(DISCONNECT_SERVICE_NOT_AVAILABLE, "There is no such service")
        name = user.decode(errors="replace")[:MAX_NAME]
        self._asked = None
        if method == b"publickey":
            self._take_key(name, user, fields)
        elif method == b"password":
            changes = fields.flag()
            password = fields.text()
            if changes:  # the old password and a new one
                self._refuse_offer()
            else:
                self._verify(name, password)
        elif method != b"keyboard-interactive":
            self._refuse_offer()
        elif self._takes_guest(name):
            self._log_in(name, "", "")
        else:
            self._ask(name)

    def _account(self, name: str) -> Account | None:
        user = self._hub.state.names.get(fold(name))
        return None if user is None else user.account

    def _takes_guest(self, name: str) -> bool:
        """Return whether a user without proof may have the name, as far as the door knows. Whether
        another guest has it is decided by the login.
        """
        return self._hub.state.options.guests and self._account(name) is None

    def _log_in(self, name: str, proof: str, key: str) -> None:
        self._is_over = True
        self._connection.logged_in(name, proof, key)

    # Failures

    def _fail(self) -> None:
        """Refuse a wrong password or signature.

        :raises Refused: if there were too many.
        """
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise _no_more("Too many failed logins")
        self._send_failure()

    def _refuse_offer(self) -> None:
        """Refuse a request that guesses nothing.

        :raises Refused: if there were too many.
        """
        self._count_offer()
        self._send_failure()

    def _count_offer(self) -> None:
        self._offers += 1
        if self._offers > MAX_OFFERS:
            raise _no_more("Too many keys: name the right one (ssh -o IdentitiesOnly=yes -i ...)")

    def _send_failure(self) -> None:
        self._connection.send(USERAUTH_FAILURE, string(METHODS) + b"\0")

    # Keys

    def _take_key(self, name: str, user: bytes, fields: Fields) -> None:
        has_signature = fields.flag()
        algorithm, blob = fields.string(), fields.string()
        key = parse_blob(algorithm, blob)
        account = self._account(name)
        proof = "" if account is None else key
        accepted = key in account.keys if account is not None else self._takes_guest(name)
        if key is None or proof is None or not accepted:
            self._refuse_offer()
        elif not has_signature:
            self._count_offer()
            self._connection.send(USERAUTH_PK_OK, string(algorithm) + string(blob))
        else:
            signed = [user, NEXT_SERVICE, b"publickey"]
            data = string(self._connection.identifier) + bytes([USERAUTH_REQUEST])
            data += b"".join(map(string, signed)) + b"\1" + string(algorithm) + string(blob)
            if is_signed(key, algorithm, fields.string(), data):
                self._log_in(name, proof, key)
            else:
                self._fail()

    # Passwords

    def _ask(self, name: str) -> None:
        """Ask for the password, in keyboard-interactive authentication."""
        self._count_offer()
        self._asked = name
        why = NAME_HAS_ACCOUNT if self._hub.state.options.guests else ACCOUNTS_ONLY
        texts = string(b"") + string(why) + string(b"")  # a title, an instruction, a language
        question = string(b"Password: ") + b"\0"  # the answer is not to be shown
        self._connection.send(USERAUTH_INFO_REQUEST, texts + number(1) + question)

    def _take_response(self, fields: Fields) -> None:
        name, self._asked = self._asked, None
        if name is None:
            raise wrong_packet()
        if fields.number() == 1:
            self._verify(name, fields.text())
        else:
            self._fail()

    def _verify(self, name: str, password: str) -> None:
        """Verify a password; no packet is processed meanwhile."""
        self._connection.hold()
        Deferred.fromCoroutine(self._ask_gate(name, password))

    async def _ask_gate(self, name: str, password: str) -> None:
        host = self.host
        proof, refused = "", None
        try:
            asker = self._hub.usage.checked_asker(self)
            proof = await self._gate.login(Password(name, password, asker), host and network(host))
        except AuthenticationFailed:
            pass
        except ChatError as error:
            again = f": try again in {error.retry_after} seconds" if error.retry_after else ""
            refused = _no_more(f"Not now{again}")
        except Exception:  # noqa: BLE001  nobody awaits this coroutine
            self._log.failure("while logging in")
            self._connection.abort("the login has failed")
        if self._is_over:
            return
        try:
            if refused is not None:
                raise refused
            if proof:
                self._log_in(name, proof, "")
            else:
                self._fail()
        except Refused as final:
            self._connection.disconnect(final)
        else:
            self._connection.go_on()


def _no_more(reason: str) -> Refused:
    return Refused(DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, reason)
