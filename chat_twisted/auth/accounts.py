"""Accounts: their keys and passwords, and logins.

``Accounts`` is the registry of accounts. For each request, a method checks it and returns the
changes to commit; ``apply`` applies committed changes. It is also the credentials checker and realm
of twisted.cred. Doors log in through ``Gate``, which slows down guessing. This module must not know
sessions, messages or the wire protocol.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import argon2
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import Interface, implementer

from chat_twisted.core.changes import (
    AccountGone,
    AccountMade,
    Change,
    KeyAdded,
    KeyRemoved,
    PasswordSet,
    RoleSet,
    UserGone,
)
from chat_twisted.core.errors import (
    AuthenticationFailed,
    NotPermitted,
    TooFast,
)
from chat_twisted.core.limits import Rate
from chat_twisted.core.message import fold
from chat_twisted.core.ordered import Listing, Ordered
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.core.saved import OPERATOR, SavedUser
from chat_twisted.core.turns import Asker, Places
from chat_twisted.logs import Logger
from chat_twisted.text import printable

CHALLENGE = 32
"""Length of a challenge in bytes."""

KEY_KINDS = ("ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-nistp{size}" for size in (256, 384, 521)))
"""Types of keys that are accepted."""

MAX_KEYS = 32
"""Maximum number of keys of an account."""

MAX_KEY = 2000
"""Maximum bytes of a key, including its comment."""

MAX_PASSWORD = 1024
"""Maximum bytes of a password."""

HASHING_AT_ONCE = 2
"""Maximum number of passwords that are hashed at the same time, with 64 MiB of memory each. One of
these places is reserved for logins."""

MAX_HASHING = 64
"""Maximum number of passwords of one address that wait to be hashed: for logins, and as many for
other requests."""

PATIENCE = 10.0
"""Seconds after which a waiting password is refused."""

ANSWER_AFTER = 1.0
"""Seconds after which a failed login is answered, whatever the cause."""

FREE_FAILURES = 2
"""Number of failures of an address, or of an account's password, without a further delay."""

MAX_DELAY = 60
"""Maximum seconds between two attempts."""

MAX_WAIT = 10
"""Seconds that an attempt may wait for its turn. Beyond this it is refused with ``Retry-after``."""

FORGET_AFTER = 900
"""Seconds without a failure after which earlier ones are forgotten."""

MAX_SUSPECTS = 10_000
"""Maximum number of addresses and accounts whose failures are remembered."""

FAILURES_LOGGED = {"each": Rate(1 / 6, 10), "all": Rate(1, 100)}
"""Rate limits of log lines about failed logins: for each address, and for all."""

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
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < 2048:
        raise NotPermitted("an RSA key that is too short")
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


class IAccount(Interface):
    """An account, as an avatar of twisted.cred."""


@implementer(IAccount)
class Account:
    """A user name with credentials.

    :ivar id: the user's number.
    :ivar name: the name, as its owner spells it.
    :ivar operator: whether the user is an operator.
    :ivar keys: the comments of the public keys, by key.
    :ivar password: the argon2 hash of the password, or empty.
    """

    __slots__ = ("id", "keys", "name", "operator", "password")

    def __init__(self, id: int, name: str, *, operator: bool = False) -> None:
        self.id = id
        self.name = name
        self.operator = operator
        self.keys: dict[str, str] = {}
        self.password = ""

    @property
    def credential_count(self) -> int:
        """The number of credentials."""
        return len(self.keys) + bool(self.password)


@implementer(ICredentials)
class Signature:
    """Credentials of twisted.cred: a signature of a challenge that was given to this
    client only.
    """

    def __init__(
        self, name: str, key: str, signature: bytes, challenge: bytes, binding: bytes
    ) -> None:
        self.name = name
        self.key = key
        self.signature = signature
        self.challenge = challenge
        self.binding = binding


@implementer(ICredentials)
class Password:
    """Credentials of twisted.cred: a password, and the asker who is charged for its
    verification.
    """

    def __init__(self, name: str, password: str, asker: Asker) -> None:
        self.name = name
        self.password = password
        self.asker = asker


class Passwords:
    """Hashes and verifies passwords in threads.

    :param in_thread: runs a function in a thread; its result fires with the function's result.
    :param clock: the reactor.
    :param hasher: for other costs than argon2-cffi's defaults, which follow RFC 9106.
    """

    def __init__(
        self,
        in_thread: Callable[..., Deferred[Any]],
        clock: IReactorTime,
        hasher: argon2.PasswordHasher | None = None,
    ) -> None:
        self._in_thread = in_thread
        self._hasher = hasher or argon2.PasswordHasher()
        self._places = Places(clock, HASHING_AT_ONCE, most=MAX_HASHING, patience=PATIENCE)
        self._dummy_hash = ""  # verified for an account without a password

    def hash(self, password: str, asker: Asker) -> Deferred[str]:
        """Hash a password, for storing it.

        :return: fires with the hash; fails with ``Unavailable`` if too many requests wait.
        :raises NotPermitted: if the password is empty or too long.
        """
        if not password or len(password.encode()) > MAX_PASSWORD:
            raise NotPermitted("a password that is empty or too long")
        return self._run(asker, self._hasher.hash, password, patient=True)

    def verify(self, stored: str, password: str, asker: Asker) -> Deferred[bool]:
        """Check a password against a stored hash. An empty hash takes as long, and matches nothing.

        :return: fires with whether it matches; fails with ``Unavailable`` if too many requests
            wait.
        """
        return self._run(asker, self._verify, stored, password, patient=False)

    def _verify(self, stored: str, password: str) -> bool:
        if not stored:
            self._dummy_hash = self._dummy_hash or self._hasher.hash(secrets.token_hex())
        try:
            self._hasher.verify(stored or self._dummy_hash, password[: MAX_PASSWORD + 1])
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return bool(stored) and len(password.encode()) <= MAX_PASSWORD

    def _run(
        self, asker: Asker, function: Callable[..., Any], *arguments: Any, patient: bool
    ) -> Deferred[Any]:
        async def work() -> Any:
            result, seconds = await self._in_thread(_timed, function, *arguments)
            asker.charge(seconds)
            return result

        return Deferred.fromCoroutine(self._places.do(asker.source, work, patient=patient))

    def stop(self) -> None:
        """Refuse all waiting and new requests."""
        self._places.stop()


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Call a function; return its result and its duration in seconds."""
    begun = time.monotonic()
    return function(*arguments), time.monotonic() - begun


@implementer(ICredentialsChecker, IRealm)
class Accounts:
    """All accounts, by name and by user number.

    :param passwords: hashes and verifies passwords; None if no logins are needed.
    """

    credentialInterfaces = (ICredentials,)

    def __init__(self, passwords: Passwords | None = None) -> None:
        self._passwords = passwords
        self._by_id: dict[int, Account] = {}
        self._by_name: dict[str, Account] = {}
        self._in_order: Ordered[Account] = Ordered(_key)

    @property
    def passwords(self) -> Passwords:
        """The service that hashes and verifies passwords."""
        assert self._passwords is not None, "nobody logs in here"
        return self._passwords

    def load(
        self,
        users: Iterable[SavedUser],
        keys: Iterable[tuple[int, str, str]],
        passwords: Iterable[tuple[int, str]],
    ) -> None:
        """Load the stored accounts, before anything else; ``users`` who are guests are ignored."""
        for user in users:
            if user.account:
                account = Account(user.id, user.name)
                account.operator = user.account == OPERATOR
                self._by_id[user.id] = self._by_name[fold(user.name)] = account
        self._in_order = Ordered(_key, self._by_id.values())
        for id, key, comment in keys:
            if id in self._by_id:
                self._by_id[id].keys[key] = comment
        for id, hash in passwords:
            if id in self._by_id:
                self._by_id[id].password = hash

    def _put(self, account: Account) -> None:
        self._by_id[account.id] = self._by_name[fold(account.name)] = account
        self._in_order.put(account)

    def get(self, id: int) -> Account | None:
        """Return the account of the user with the number ``id``, or None."""
        return self._by_id.get(id)

    def find(self, name: str) -> Account | None:
        """Return the account that owns ``name``, or None."""
        return self._by_name.get(fold(name))

    def listing(self, after: str = "") -> Listing[Account]:
        """List the accounts in the order of their folded names, those behind ``after``."""
        return Listing(len(self._in_order), self._in_order.after(fold(after)))

    # Requests

    def make(self, id: int, name: str, since: int, key: str, hash: str) -> list[Change]:
        """Return the changes that give a user an account.

        :param id: the user's number.
        :param since: the message number at which the user came.
        :param key: a public key in the format of authorized_keys; empty for none.
        :param hash: the hash of a password; empty for none.
        :raises NotPermitted: if the name has an account already, or there is neither key nor
            password.
        """
        if fold(name) in self._by_name:
            raise NotPermitted("has an account")
        if not key and not hash:
            raise NotPermitted("neither a key nor a password")
        changes: list[Change] = [AccountMade(id, name, since)]
        if key:
            changes.append(KeyAdded(id, *parse_key(key)))
        if hash:
            changes.append(PasswordSet(id, hash))
        return changes

    def add_key(self, account: Account, text: str) -> list[Change]:
        """Return the changes that add a public key.

        :raises NotPermitted: if it is not a valid key, or there are too many.
        """
        key, comment = parse_key(text)
        if key not in account.keys and len(account.keys) >= MAX_KEYS:
            raise NotPermitted("too many keys")
        return [KeyAdded(account.id, key, comment)]

    def remove_key(self, account: Account, text: str) -> list[Change]:
        """Return the changes that remove a public key.

        :raises NotPermitted: if the account does not have it, or it is the only credential.
        """
        key, _ = parse_key(text)
        if key not in account.keys or account.credential_count < 2:
            raise NotPermitted("not a key of the account, or its last way in")
        return [KeyRemoved(account.id, key)]

    def set_password(self, account: Account, hash: str) -> list[Change]:
        """Return the changes that set the password, or remove it if ``hash`` is empty.

        :raises NotPermitted: if the only credential would be removed.
        """
        if not hash and not account.keys:
            raise NotPermitted("the last way in")
        return [PasswordSet(account.id, hash)]

    # Committed changes

    def apply(self, change: Change) -> None:
        """Apply a committed change. It has no effect if its account does not exist any more."""
        match change:
            case AccountMade(id, name):
                # It may exist already: two requests may have been made at the same time.
                self._put(self._by_id.get(id) or Account(id, name))
            case AccountGone(id) | UserGone(id):
                if account := self._by_id.pop(id, None):
                    del self._by_name[fold(account.name)]
                    self._in_order.discard(account)
            case KeyAdded(id, key, comment):
                if account := self._by_id.get(id):
                    account.keys[key] = comment
            case KeyRemoved(id, key):
                if account := self._by_id.get(id):
                    account.keys.pop(key, None)
            case PasswordSet(id, hash):
                if account := self._by_id.get(id):
                    account.password = hash
            case RoleSet(id, operator):
                if account := self._by_id.get(id):
                    account.operator = operator

    # twisted.cred

    def requestAvatarId(  # type: ignore[override]  # Twisted's says bytes or ()
        self, credentials: Any
    ) -> Deferred[bytes]:
        """Verify credentials. Called by the portal (ICredentialsChecker).

        :return: fires with the account's folded name; fails with ``UnauthorizedLogin``.
        """
        account = self.find(credentials.name)
        if isinstance(credentials, Password):
            stored = "" if account is None else account.password
            verifying = self.passwords.verify(stored, credentials.password, credentials.asker)
            return verifying.addCallback(self._proven, account)
        data = signed_data(credentials.challenge, credentials.name, credentials.binding)
        try:
            key, _ = parse_key(credentials.key)
            good = is_signed(key, credentials.signature, data)
        except NotPermitted:
            key, good = "", False
        return succeed(self._proven(good and account is not None and key in account.keys, account))

    @staticmethod
    def _proven(good: bool, account: Account | None) -> bytes:
        if not good or account is None:
            raise UnauthorizedLogin
        return fold(account.name).encode()

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: Any
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """Return the account as an avatar. Called by the portal (IRealm)."""
        if IAccount not in interfaces:
            raise NotImplementedError("only accounts are to be had here")
        account = self._by_name.get(avatarId.decode()) if avatarId else None
        if account is None:
            raise UnauthorizedLogin
        return IAccount, account, lambda: None


def _key(account: Account) -> str:
    return fold(account.name)


class Gate:
    """Logs in, and slows down guessing.

    Every failure is answered after the same time, whatever its cause. After failures of an address,
    or at an account's password, each further attempt waits twice as long as the one before, one
    after another. Attempts with keys are not delayed by failures at the account, since keys can't
    be guessed; so nobody can lock out a user who has a key.
    """

    _log = Logger()

    def __init__(self, accounts: Accounts, clock: IReactorTime) -> None:
        self.accounts = accounts
        self._failures = PeerLog(self._log.warn, clock, **FAILURES_LOGGED)
        self._portal = Portal(accounts, [accounts])
        self._clock = clock
        # The number of failures, and the time from which the next attempt is allowed, in monotonic
        # seconds. The entry whose last failure is oldest comes first.
        self._suspects: dict[tuple[str, str], tuple[int, float]] = {}
        self._trying: dict[tuple[str, str], int] = {}  # attempts in progress, by account

    async def login(self, credentials: Signature | Password, host: str | None) -> Account:
        """Log in.

        :param host: the client's address; None for a local socket.
        :return: the account.
        :raises AuthenticationFailed: if the credentials are not valid.
        :raises TooFast: if too many attempts have failed.
        """
        suspects = [("address", host or "")]
        if isinstance(credentials, Password):
            suspects.append(("account", fold(credentials.name)))
        wait = self._take_turn(suspects)
        tried = suspects[1:]
        for suspect in tried:
            self._trying[suspect] = self._trying.get(suspect, 0) + 1
        try:
            return await self._log_in(credentials, suspects, host, wait)
        finally:
            for suspect in tried:
                self._trying[suspect] -= 1
                if not self._trying[suspect]:
                    del self._trying[suspect]

    async def _log_in(
        self,
        credentials: Signature | Password,
        suspects: Sequence[tuple[str, str]],
        host: str | None,
        wait: float,
    ) -> Account:
        if wait:
            await deferLater(self._clock, wait)
        begun = self._clock.seconds()
        try:
            _, account, _ = await self._portal.login(credentials, None, IAccount)
        except UnauthorizedLogin:
            self._failed(suspects)
            self._failures.emit(
                host,
                "failed login as {name} by {kind} from {host}",
                name=credentials.name[:64],
                kind=type(credentials).__name__.lower(),
                host=host or "a local socket",
            )
            rest = ANSWER_AFTER - (self._clock.seconds() - begun)
            await deferLater(self._clock, max(0.0, rest))
            raise AuthenticationFailed from None
        for suspect in suspects[1:]:  # an address may be shared by many users
            self._suspects.pop(suspect, None)
        assert isinstance(account, Account)
        return account

    def _take_turn(self, suspects: Sequence[tuple[str, str]]) -> float:
        """Return the seconds that an attempt must wait, and let the next one wait longer.

        An attempt in progress at an account's password counts as a failure, so that simultaneous
        attempts gain nothing.
        """
        now = self._clock.seconds()
        turn = now
        slow: list[tuple[tuple[str, str], int, int]] = []
        for suspect in suspects:
            failures, free = self._suspects.get(suspect, (0, now))
            if now - free > FORGET_AFTER:
                del self._suspects[suspect]
                failures, free = 0, now
            tries = failures + self._trying.get(suspect, 0)
            if tries > FREE_FAILURES:
                turn = max(turn, free, now + _delay(tries) if tries > failures else now)
                slow.append((suspect, failures, tries))
        if turn - now > MAX_WAIT:
            raise TooFast("too many failed logins", retry_after=math.ceil(turn - now))
        for suspect, failures, tries in slow:
            self._suspects[suspect] = failures, turn + _delay(tries)
        return turn - now

    def _failed(self, suspects: Sequence[tuple[str, str]]) -> None:
        now = self._clock.seconds()
        for suspect in suspects:
            failures, free = self._suspects.pop(suspect, (0, now))
            self._suspects[suspect] = failures + 1, max(free, now + _delay(failures + 1))
            if len(self._suspects) > MAX_SUSPECTS:
                del self._suspects[next(iter(self._suspects))]


def _delay(failures: int) -> float:
    return float(min(MAX_DELAY, 2 ** min(failures - FREE_FAILURES, 10)))
