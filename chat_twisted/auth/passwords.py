"""Passwords: hashing and verifying them in threads, in turns.

A hash takes a tenth of a second and 64 MiB, so few are made at once, addresses take turns, and the
asker is charged for the time. This module must not know accounts, sessions or the wire protocol.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import argon2
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chat_twisted.core.errors import NotPermitted
from chat_twisted.core.turns import Asker, Places

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


class Passwords:
    """Hashes and verifies passwords in threads.

    :param in_thread: runs a function in a thread; its result fires with the function's result.
    :param clock: the reactor.
    :param hasher: None for argon2-cffi's default costs, which follow RFC 9106.
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

    @property
    def waiting(self) -> int:
        """The number of passwords that wait to be hashed or verified."""
        return self._places.waiting

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
