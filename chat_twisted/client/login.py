"""Proves on one connection who the user is, if their name has an account.

The protocol is in docs/protocol.rst, Accounts. This module must not know where proofs come from, or
what follows a login.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from twisted.internet.defer import Deferred

from chat_twisted.client import incoming
from chat_twisted.client.listener import Listener, Proof
from chat_twisted.core.errors import AuthenticationFailed, AuthenticationRequired
from chat_twisted.frames import Frame, HeaderIncomplete, encode
from chat_twisted.refusals import Refusal, refusal_of

REQUIRED = refusal_of(AuthenticationRequired).code
CODES = (REQUIRED, refusal_of(AuthenticationFailed).code)
"""The codes of the refusals that this module handles."""


class Login:
    """The challenge of one connection, and the proofs that answer it.

    :ivar proven: whether a proof was requested on this connection.
    :param write: writes a frame to the server.
    :param no_proof: called with the last refusal if there is no further proof.
    """

    def __init__(
        self,
        listener: Listener,
        write: Callable[[bytes], object],
        no_proof: Callable[[Refusal], object],
    ) -> None:
        self.proven = False
        self._listener = listener
        self._write = write
        self._no_proof = no_proof
        self._methods: list[str] = []
        self._challenge = b""  # empty until the server has sent one
        self._proving = False  # whether a proof was sent and not yet answered
        self._tries = 0  # how many proofs were refused
        self._is_over = False

    @property
    def waits_for_server(self) -> bool:
        """Whether the server has to answer, rather than the user."""
        return self._proving or not self._challenge

    def cancel(self) -> None:
        """Send no further proof. Called when the connection is lost."""
        self._is_over = True

    def refused(self, frame: Frame, refusal: Refusal) -> None:
        """Answer a refusal, one of ``CODES``, with the listener's next proof.

        :raises HeaderIncomplete: if the server must not send it now.
        """
        if refusal.code == REQUIRED:
            if self._challenge:
                raise HeaderIncomplete("a second challenge")
            self._tries = 0
            self._methods = frame.headers.get("methods", "").split()
            self._challenge = incoming.challenge(frame)
        elif not self._proving:
            raise HeaderIncomplete("an answer to a proof that was not given")
        else:
            self._tries += 1
        self._proving = False
        self.proven = True
        asked = self._listener.authenticate(self._methods, self._challenge, self._tries)
        if isinstance(asked, Deferred):
            asked.addCallback(self._prove, refusal)
        else:
            self._prove(asked, refusal)

    def _prove(self, proof: Proof | None, refusal: Refusal) -> None:
        if self._is_over:
            return
        if proof is None:
            self._no_proof(refusal)
            return
        self._proving = True
        if proof.key:
            signature = base64.b64encode(proof.signature).decode()
            headers = [("Key", proof.key), ("Signature", signature)]
            self._write(encode("AUTH", "publickey", headers))
        else:
            self._write(encode("AUTH", "password", (), proof.password))
