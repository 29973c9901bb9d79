"""Accounts: who may be whom, and how that is proven.

``Accounts`` is the registry that the hub keeps: a request is checked by a method that returns the
changes it would take, ``apply`` takes a change that is committed. As a checker and a realm of
twisted.cred it says whose credentials these are. ``Gate`` is what doors ask: it makes guessing
slow. Nothing here knows sessions, messages or the wire. ``python -m chat_twisted.accounts`` is for
the operator at the server.
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
    UserGone,
)
from chat_twisted.core.errors import (
    AuthenticationFailed,
    NotPermitted,
    TooFast,
)
from chat_twisted.core.limits import Rate
from chat_twisted.core.message import fold
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.core.saved import OPERATOR, SavedUser
from chat_twisted.core.turns import Asker, Places
from chat_twisted.logs import Logger
from chat_twisted.text import printable

CHALLENGE = 32
"""Bytes."""

KINDS = ("ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-nistp{size}" for size in (256, 384, 521)))
"""Of keys that are taken."""

MAX_KEYS = 32
"""How many keys an account may have."""

MAX_KEY = 2000
"""Bytes of a key, with its comment."""

MAX_PASSWORD = 1024
"""Bytes. What is longer is no password of anybody."""

HASHING_AT_ONCE = 2
"""How many passwords are looked at at once, each with 64 MiB of memory. One of them is that of a
login."""

MAX_HASHING = 64
"""How many passwords may wait to be looked at, of one address: of logins, and others."""

PATIENCE = 10.0
"""Seconds that one waits for that at most."""

ANSWER_AFTER = 1.0
"""Seconds after which a login that failed is answered, whatever was wrong with it."""

FREE_FAILURES = 2
"""How many failures, of an address or of an account's password, cost nothing more than that."""

MAX_DELAY = 60
"""Seconds between tries at most."""

MAX_WAIT = 10
"""Seconds that a try waits for its turn. Past that it is refused with when to come again."""

FORGET_AFTER = 900
"""Seconds without a failure after which the ones before are forgotten."""

MAX_SUSPECTS = 10_000
"""Of how many addresses and accounts failures are remembered."""

FAILURES_LOGGED = {"each": Rate(1 / 6, 10), "all": Rate(1, 100)}
"""How many failed logins are logged: of one address and of all."""

_CONTEXT = b"chat_twisted auth v2\0"


def signed(challenge: bytes, name: str, binding: bytes) -> bytes:
    """Return what is signed to log in (docs/protocol.rst, Accounts).

    :param binding: the SHA-256 of the server's certificate; empty without TLS.
    """
    return _CONTEXT + challenge + name.encode() + binding


def parse_key(text: str) -> tuple[str, str]:
    """Read a public key as an authorized_keys file has it; return it and its comment.

    :raises NotPermitted: it is none, or of a kind that is not taken here.
    """
    words = text.split(None, 2)
    if len(words) < 2 or len(text.encode()) > MAX_KEY:
        raise NotPermitted("not a public key")
    if words[0] not in KINDS:
        raise NotPermitted("a kind of key that is not taken here")
    public = _load(" ".join(words[:2]))
    key = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return key, printable(words[2].strip()) if len(words) > 2 else ""


Public = ed25519.Ed25519PublicKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def _load(key: str) -> Public:
    try:
        public = load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):  # the last: a point compressed
        raise NotPermitted("not a public key") from None
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < 2048:
        raise NotPermitted("an RSA key that is too short")
    assert isinstance(public, Public), "its kind is one of KINDS"
    return public


def is_signed(key: str, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` of ``data`` is by ``key``."""
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
    """Somebody's name for ever. ``keys`` have their comments; ``password`` is what argon2 wrote."""

    __slots__ = ("id", "keys", "name", "operator", "password")

    def __init__(self, id: int, name: str, *, operator: bool = False) -> None:
        self.id = id
        self.name = name
        self.operator = operator
        self.keys: dict[str, str] = {}
        self.password = ""

    @property
    def proofs(self) -> set[str]:
        """All that it may be proven by, keys and what argon2 wrote of the password."""
        return {*self.keys, self.password} - {""}

    @property
    def ways_in(self) -> int:
        """How many proofs of who one is there are."""
        return len(self.keys) + bool(self.password)


@implementer(ICredentials)
class Signature:
    """Credentials: a signature, over a challenge that nobody else was given."""

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
    """Credentials: a password, and for whom it is looked at."""

    def __init__(self, name: str, password: str, asker: Asker) -> None:
        self.name = name
        self.password = password
        self.asker = asker


class Passwords:
    """Turns passwords into what may be stored, and back into yes or no, without stopping the chat.

    :param in_thread: runs a function aside.
    :param hasher: with other costs than its authors' defaults, which follow RFC 9106.
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
        self._nobodys = ""  # looked at in the place of one that is not there

    def hash(self, password: str, asker: Asker) -> Deferred[str]:
        """Return what to store of a password; fails with ``Unavailable`` if too many wait.

        :raises NotPermitted: it is empty or too long.
        """
        if not password or len(password.encode()) > MAX_PASSWORD:
            raise NotPermitted("a password that is empty or too long")
        return self._aside(asker, self._hasher.hash, password, patient=True)

    def verify(self, stored: str, password: str, asker: Asker) -> Deferred[bool]:
        """Tell whether ``password`` is the one that ``stored`` is of; takes as long if there is
        none stored. Fails with ``Unavailable`` if too many wait.
        """
        return self._aside(asker, self._verify, stored, password, patient=False)

    def _verify(self, stored: str, password: str) -> bool:
        if not stored:
            self._nobodys = self._nobodys or self._hasher.hash(secrets.token_hex())
        try:
            self._hasher.verify(stored or self._nobodys, password[: MAX_PASSWORD + 1])
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return bool(stored) and len(password.encode()) <= MAX_PASSWORD

    def _aside(
        self, asker: Asker, function: Callable[..., Any], *arguments: Any, patient: bool
    ) -> Deferred[Any]:
        async def work() -> Any:
            result, seconds = await self._in_thread(_timed, function, *arguments)
            asker.charge(seconds)
            return result

        return Deferred.fromCoroutine(self._places.do(asker.source, work, patient=patient))

    def stop(self) -> None:
        """Look at none any more but those that are being looked at."""
        self._places.stop()


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Call a function; return how many seconds it took, too."""
    begun = time.monotonic()
    return function(*arguments), time.monotonic() - begun


@implementer(ICredentialsChecker, IRealm)
class Accounts:
    """All accounts, by name and by their users' numbers.

    :param passwords: what looks at passwords; None where nobody logs in.
    """

    credentialInterfaces = (ICredentials,)

    def __init__(self, passwords: Passwords | None = None) -> None:
        self._passwords = passwords
        self._by_id: dict[int, Account] = {}
        self._by_name: dict[str, Account] = {}

    @property
    def passwords(self) -> Passwords:
        """What turns passwords into what may be stored."""
        assert self._passwords is not None, "nobody logs in here"
        return self._passwords

    def load(
        self,
        users: Iterable[SavedUser],
        keys: Iterable[tuple[int, str, str]],
        passwords: Iterable[tuple[int, str]],
    ) -> None:
        """Take what is stored; who is no guest there is here, and nobody else."""
        before = self._by_id
        self._by_id = {}
        self._by_name = {}
        for user in users:
            if user.account:
                account = before.get(user.id) or Account(user.id, user.name)
                account.operator = user.account == OPERATOR
                account.keys = {}
                account.password = ""
                self._by_id[user.id] = self._by_name[fold(user.name)] = account
        for id, key, comment in keys:
            if id in self._by_id:
                self._by_id[id].keys[key] = comment
        for id, hash in passwords:
            if id in self._by_id:
                self._by_id[id].password = hash

    def get(self, id: int) -> Account | None:
        """Return the account of the user with the number ``id``, if it has one."""
        return self._by_id.get(id)

    def of(self, name: str) -> Account | None:
        """Return the account that owns ``name``, if there is one."""
        return self._by_name.get(fold(name))

    def all(self) -> list[Account]:
        """All accounts, ordered by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    # What is asked

    def make(self, id: int, name: str, since: int, key: str, hash: str) -> list[Change]:
        """Give a user an account.

        :param key: as in an authorized_keys file; empty for none.
        :param hash: of a password; empty for none.
        :raises NotPermitted: there is one of that name, or neither key nor password.
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
        """Let a key in.

        :raises NotPermitted: it is none, or there are too many.
        """
        key, comment = parse_key(text)
        if key not in account.keys and len(account.keys) >= MAX_KEYS:
            raise NotPermitted("too many keys")
        return [KeyAdded(account.id, key, comment)]

    def remove_key(self, account: Account, text: str) -> list[Change]:
        """Let a key in no more.

        :raises NotPermitted: it is not one of the account's, or its last way in.
        """
        key, _ = parse_key(text)
        if key not in account.keys or account.ways_in < 2:
            raise NotPermitted("not a key of the account, or its last way in")
        return [KeyRemoved(account.id, key)]

    def set_password(self, account: Account, hash: str) -> list[Change]:
        """Set the password, or with an empty ``hash`` have none.

        :raises NotPermitted: it is the last way in.
        """
        if not hash and not account.keys:
            raise NotPermitted("the last way in")
        return [PasswordSet(account.id, hash)]

    # What has happened

    def apply(self, change: Change) -> None:
        """Take a committed change. One that came too late to make sense changes nothing."""
        match change:
            case AccountMade(id, name):
                # It may be there: two may have been asked for at once.
                self._by_name[fold(name)] = self._by_id.setdefault(id, Account(id, name))
            case AccountGone(id) | UserGone(id):
                if account := self._by_id.pop(id, None):
                    del self._by_name[fold(account.name)]
            case KeyAdded(id, key, comment):
                if account := self._by_id.get(id):
                    account.keys[key] = comment
            case KeyRemoved(id, key):
                if account := self._by_id.get(id):
                    account.keys.pop(key, None)
            case PasswordSet(id, hash):
                if account := self._by_id.get(id):
                    account.password = hash

    # twisted.cred

    def requestAvatarId(  # type: ignore[override]  # Twisted's says bytes or ()
        self, credentials: Any
    ) -> Deferred[bytes]:
        """ICredentialsChecker: tell whose these are; the account's folded name."""
        account = self.of(credentials.name)
        if isinstance(credentials, Password):
            stored = "" if account is None else account.password
            verifying = self.passwords.verify(stored, credentials.password, credentials.asker)
            return verifying.addCallback(self._proven, account)
        data = signed(credentials.challenge, credentials.name, credentials.binding)
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
        """IRealm: return the account."""
        if IAccount not in interfaces:
            raise NotImplementedError("only accounts are to be had here")
        account = self._by_name.get(avatarId.decode()) if avatarId else None
        if account is None:
            raise UnauthorizedLogin
        return IAccount, account, lambda: None


class Gate:
    """Logs in, and makes it slow to guess.

    What fails is answered after the same time, whatever was wrong. Who has failed before, an
    address or at an account's password, waits twice as long for the next try as for the one before;
    one try after the other. Keys can't be guessed, so tries at an account's password from elsewhere
    hold up nobody who has one.
    """

    _log = Logger()

    def __init__(self, accounts: Accounts, clock: IReactorTime) -> None:
        self.accounts = accounts
        self._failures = PeerLog(self._log.warn, clock, **FAILURES_LOGGED)
        self._portal = Portal(accounts, [accounts])
        self._clock = clock
        # Failures, and when the next try may be: the one that failed longest ago is first.
        self._suspects: dict[tuple[str, str], tuple[int, float]] = {}
        self._trying: dict[tuple[str, str], int] = {}  # tries at an account that are under way

    async def login(self, credentials: Signature | Password, host: str | None) -> Account:
        """Return the account that the credentials are for.

        :raises AuthenticationFailed: they are for none.
        :raises TooFast: it can't be tried now, since too much has failed.
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
        for suspect in suspects[1:]:  # an address may be many people's
            self._suspects.pop(suspect, None)
        assert isinstance(account, Account)
        return account

    def _take_turn(self, suspects: Sequence[tuple[str, str]]) -> float:
        """Return how many seconds to wait; the next one waits longer. A try at an account's
        password that is under way counts as one that failed: many at once are no way around.
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
