"""Proves on one connection who the user is, if their name has an account.

The protocol is in docs/protocol.rst, Accounts. This module must not know how a password is asked
for, or what follows a login.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from chat_twisted.client import incoming
from chat_twisted.core.errors import AuthenticationFailed, AuthenticationRequired
from chat_twisted.frames import Frame, HeaderIncomplete, encode
from chat_twisted.refusals import refusal_of
from chat_twisted.ui.errors import ClientError, IdentityError, NotConnected, Refused
from chat_twisted.ui.values import Refusal

REQUIRED = refusal_of(AuthenticationRequired).code
CODES = (REQUIRED, refusal_of(AuthenticationFailed).code)
"""The codes of the refusals that this module handles."""


class Proofs(Protocol):
    """The part of ``identity.Identity`` that a login uses."""

    password: str

    def ways(self, methods: Sequence[str]) -> list[str]:
        """See ``Identity.ways``."""

    def sign(self, challenge: bytes, name: str, binding: bytes) -> tuple[str, bytes]:
        """See ``Identity.sign``."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the proofs of a login come from.

    :ivar ask_password: asks the user for a password; the result is empty if nobody can be asked, or
        fails with ``IdentityError``.
    """

    identity: Proofs
    ask_password: Callable[[str], Deferred[str]]


class Login:
    """The challenge of one connection, and the proofs that answer it.

    :ivar proven: whether a proof was requested on this connection.
    :param user: the user's name.
    :param binding: the channel binding, which is empty without TLS.
    :param write: writes a frame to the server.
    :param no_proof: called with the reason if there is no further proof.
    """

    def __init__(
        self,
        credentials: Credentials,
        user: str,
        binding: bytes,
        write: Callable[[bytes], object],
        no_proof: Callable[[ClientError], object],
    ) -> None:
        self.proven = False
        self._identity = credentials.identity
        self._ask_password = credentials.ask_password
        self._user = user
        self._binding = binding
        self._write = write
        self._no_proof = no_proof
        self._ways: list[str] = []  # the login methods that are still to be tried
        self._password_tried = ""
        self._challenge = b""  # empty until the server has sent one
        self._proving = False  # whether a proof was sent and not yet answered
        self._is_over = False

    @property
    def waits_for_server(self) -> bool:
        """Whether the server has to answer, rather than the user."""
        return self._proving or not self._challenge

    def cancel(self) -> None:
        """Send no further proof. Called when the connection is lost."""
        self._is_over = True

    def refused(self, frame: Frame, refusal: Refusal) -> None:
        """Answer a refusal, one of ``CODES``, with the next proof.

        :raises HeaderIncomplete: if the server must not send it now.
        """
        if refusal.code == REQUIRED:
            if self._challenge:
                raise HeaderIncomplete("a second challenge")
            self._ways = self._identity.ways(frame.headers.get("methods", "").split())
            self._challenge = incoming.challenge(frame)
        elif not self._proving:  # a proof from before this session is not valid any more
            self._no_proof(Refused(refusal.code, refusal.text, refusal))
            return
        self._proving = False
        self.proven = True
        Deferred.fromCoroutine(self._prove(refusal))

    async def _prove(self, refusal: Refusal) -> None:
        try:
            proof = await self._next_proof()
        except IdentityError as problem:
            if not self._is_over:
                self._no_proof(NotConnected(str(problem)))
            return
        if self._is_over:
            return
        if not proof:
            self._no_proof(Refused(refusal.code, refusal.text, refusal))
            return
        self._proving = True
        self._write(proof)

    async def _next_proof(self) -> bytes:
        """Return the frame of the next proof; empty if there is none.

        :raises IdentityError: if there is none, with the reason.
        """
        if not self._ways:
            return b""
        if self._ways.pop(0) == "password":
            return await self._password()
        key, signature = self._identity.sign(self._challenge, self._user, self._binding)
        encoded = base64.b64encode(signature).decode()
        return encode("AUTH", "publickey", [("Key", key), ("Signature", encoded)])

    async def _password(self) -> bytes:
        identity = self._identity
        if not identity.password or identity.password == self._password_tried:
            wrong = "Wrong password. " if self._password_tried else ""
            identity.password = await self._ask_password(f"{wrong}Password of {self._user}: ")
        self._password_tried = identity.password  # kept by the identity for a reconnect
        return encode("AUTH", "password", (), identity.password) if identity.password else b""
