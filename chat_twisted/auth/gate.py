"""The gate: verifies that a client owns an account, and slows down guessing.

``Gate.login`` returns the proof that was verified: a key, or the stored hash of a password. The
login is then a command (``core.names.login``), and the state checks again that the account still
has this proof, because it may have been removed meanwhile. Signatures, keys of certificates and
passwords are credentials of twisted.cred. This module must not know sessions, messages or the wire
protocol, and it changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import Interface, implementer

from chat_twisted.auth.keys import is_signed, parse_key, signed_data
from chat_twisted.auth.passwords import Passwords
from chat_twisted.core.errors import AuthenticationFailed, NotPermitted, TooFast
from chat_twisted.core.limits import Rate
from chat_twisted.core.message import fold
from chat_twisted.core.model import Account, Model
from chat_twisted.core.peerlog import PeerLog
from chat_twisted.core.turns import Asker
from chat_twisted.logs import Logger

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

MAX_KNOWN = 10_000
"""Maximum number of addresses and accounts that are known to belong together."""

FAILURES_LOGGED = {"each": Rate(1 / 6, 10), "all": Rate(1, 100)}
"""Rate limits of log lines about failed logins: for each address, and for all."""


class IProof(Interface):
    """A verified proof, as an avatar of twisted.cred: a key, or the stored hash of a password."""


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
class Certificate:
    """Credentials of twisted.cred: the key of the client's TLS certificate, which the handshake has
    proved that the client has.

    :param key: as ``keys.parse_key`` returns it; empty if there is none, which is never valid.
    """

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self.key = key


@implementer(ICredentials)
class Password:
    """Credentials of twisted.cred: a password, and the asker who is charged for its
    verification.
    """

    def __init__(self, name: str, password: str, asker: Asker) -> None:
        self.name = name
        self.password = password
        self.asker = asker


Credentials = Signature | Certificate | Password


@implementer(ICredentialsChecker, IRealm)
class _Checker:
    """Verifies credentials against the accounts of the state."""

    credentialInterfaces = (ICredentials,)

    def __init__(self, state: Callable[[], Model], passwords: Passwords) -> None:
        self._state = state
        self._passwords = passwords

    def _find(self, name: str) -> Account | None:
        user = self._state().names.get(fold(name))
        return None if user is None else user.account

    def requestAvatarId(  # type: ignore[override]  # Twisted's says bytes or ()
        self, credentials: Any
    ) -> Deferred[bytes]:
        """Verify credentials. Called by the portal (ICredentialsChecker).

        :return: fires with the proof; fails with ``UnauthorizedLogin``.
        """
        account = self._find(credentials.name)
        if isinstance(credentials, Password):
            stored = "" if account is None else account.password
            verifying = self._passwords.verify(stored, credentials.password, credentials.asker)
            return verifying.addCallback(self._proven, stored)
        key = credentials.key if isinstance(credentials, Certificate) else _signing_key(credentials)
        return succeed(self._proven(account is not None and key in account.keys, key))

    @staticmethod
    def _proven(good: bool, proof: str) -> bytes:
        if not good:
            raise UnauthorizedLogin
        return proof.encode()

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: Any
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """Return the proof as an avatar. Called by the portal (IRealm)."""
        if IProof not in interfaces:
            raise NotImplementedError("only proofs are to be had here")
        if not avatarId:
            raise UnauthorizedLogin
        return IProof, avatarId.decode(), lambda: None


def _signing_key(credentials: Signature) -> str:
    """Return the key whose signature was given; empty if the signature is not valid."""
    data = signed_data(credentials.challenge, credentials.name, credentials.binding)
    try:
        key, _ = parse_key(credentials.key)
        return key if is_signed(key, credentials.signature, data) else ""
    except NotPermitted:
        return ""


class Gate:
    """Verifies credentials, and slows down guessing.

    Every failure is answered after the same time, whatever its cause. After failures of an address,
    or at an account's password, each further attempt waits twice as long as the one before, one
    after another. Keys can't be guessed, so they are verified first, and only a wrong one waits:
    nobody can lock out a user who has a key. Nor can they lock out a user who has logged in by a
    password from the same address before: for these two, failures count apart.

    :ivar failed: the number of credentials that were not valid.
    :param state: returns the current state; called for each login.
    """

    _log = Logger()

    def __init__(
        self, state: Callable[[], Model], passwords: Passwords, clock: IReactorTime
    ) -> None:
        self.passwords = passwords
        self.failed = 0
        self._failures = PeerLog(self._log.warn, clock, **FAILURES_LOGGED)
        checker = _Checker(state, passwords)
        self._portal = Portal(checker, [checker])
        self._state = state
        self._clock = clock
        # The number of failures, and the time from which the next attempt is allowed, in monotonic
        # seconds. The entry whose last failure is oldest comes first.
        self._suspects: dict[tuple[str, str], tuple[int, float]] = {}
        self._trying: dict[tuple[str, str], int] = {}  # attempts in progress, but of addresses
        # The addresses and accounts of successful logins by passwords; the latest comes last.
        self._known: dict[tuple[str, str], None] = {}

    def name_owner(self, key: str, name: str) -> str:
        """Return the name to log in with a certificate's key (``Model.find_key_owner``).

        :param name: the name that the client wants; it is returned if nobody else is meant.
        """
        owner = self._state().find_key_owner(key, name)
        return name if owner is None else owner.name

    async def login(self, credentials: Credentials, host: str | None) -> str:
        """Verify credentials.

        :param host: the client's address; None for a local socket.
        :return: the proof, for ``commands.Login``: a key, or the stored hash of a password.
        :raises AuthenticationFailed: if the credentials are not valid.
        :raises TooFast: if too many attempts have failed.
        """
        suspects = self._suspects_of(credentials, host or "")
        wait = self._take_turn(suspects) if isinstance(credentials, Password) else 0.0
        tried = [suspect for suspect in suspects if suspect[0] != "address"]
        for suspect in tried:
            self._trying[suspect] = self._trying.get(suspect, 0) + 1
        try:
            proof = await self._log_in(credentials, suspects, host, wait)
            # An address may be shared by many users.
            for suspect in tried:
                self._suspects.pop(suspect, None)
            if isinstance(credentials, Password):
                self._remember(host or "", fold(credentials.name))
            return proof
        finally:
            for suspect in tried:
                self._trying[suspect] -= 1
                if not self._trying[suspect]:
                    del self._trying[suspect]

    def _suspects_of(self, credentials: Credentials, host: str) -> list[tuple[str, str]]:
        """Return the keys under which failures of these credentials count."""
        if not isinstance(credentials, Password):
            return [("address", host)]
        account = fold(credentials.name)
        if (host, account) in self._known:
            return [(host, account)]
        return [("address", host), ("account", account)]

    def _remember(self, host: str, account: str) -> None:
        self._known.pop((host, account), None)
        self._known[host, account] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    async def _log_in(
        self,
        credentials: Credentials,
        suspects: Sequence[tuple[str, str]],
        host: str | None,
        wait: float,
    ) -> str:
        if wait:
            await deferLater(self._clock, wait)
        begun = self._clock.seconds()
        try:
            _, proof, _ = await self._portal.login(credentials, None, IProof)
        except UnauthorizedLogin:
            if not isinstance(credentials, Password) and (wait := self._take_turn(suspects)):
                await deferLater(self._clock, wait)
                begun += wait
            self._failed(suspects)
            self._failures.emit(
                host,
                "failed login as {name} by {kind} from {host}",
                event="login-failed",
                name=credentials.name[:64],
                kind=type(credentials).__name__.lower(),
                host=host or "a local socket",
            )
            rest = ANSWER_AFTER - (self._clock.seconds() - begun)
            await deferLater(self._clock, max(0.0, rest))
            self.failed += 1
            raise AuthenticationFailed from None
        assert isinstance(proof, str)
        return proof

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
