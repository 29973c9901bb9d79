"""AUTHENTICATE: what a client says to log in to an account (ircv3.net, sasl-3.2).

The response of the client comes in base64, in pieces; ``Exchange`` gathers it and makes credentials
of it. This module must not know which credentials are valid (``auth.gate``), or what follows.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from chat_twisted.auth.gate import Certificate, Credentials, Gate, Password
from chat_twisted.core.errors import AuthenticationFailed, ChatError
from chat_twisted.core.message import fold
from chat_twisted.core.turns import Asker
from chat_twisted.doors import Channel
from chat_twisted.doors.irc.replies import Reply

PLAIN, EXTERNAL = "PLAIN", "EXTERNAL"

PIECE = 400
"""Length of a piece of the response; a shorter one is the last."""

MAX_RESPONSE = 4 * PIECE
"""Maximum length of a response in base64: two names and a password (``passwords.MAX_PASSWORD``)."""


def mechanisms(channel: Channel) -> tuple[str, ...]:
    """Return the mechanisms that a client can use: passwords only if nobody can read them, and
    certificates only with TLS.
    """
    offered = [PLAIN] if channel.private else []
    if channel.encrypted:
        offered.append(EXTERNAL)
    return tuple(offered)


class Exchange:
    """The exchange of one connection; another may follow if it fails.

    :param asker: returns the asker for verifying a password; it may raise ``TooFast``.
    """

    def __init__(self, channel: Channel, gate: Gate, asker: Callable[[], Asker]) -> None:
        self._channel = channel
        self._gate = gate
        self._asker = asker
        self._mechanism = ""  # empty outside of an exchange
        self._response = ""

    def take(self, reply: Reply, word: str, name: str) -> Credentials | None:
        """Process the parameter of AUTHENTICATE.

        :param name: the name that the client wants; may be empty.
        :return: credentials to verify; None if the response is not complete.
        :raises ChatError: if the response is refused at once.
        """
        if word == "*":
            self.abort(reply)
        elif not self._mechanism:
            self._begin(reply, word.upper())
        elif len(word) > PIECE:
            self._mechanism = ""
            reply.numeric("905", "SASL message too long")
        else:
            self._response += word if word != "+" else ""
            if len(word) < PIECE:
                mechanism, self._mechanism = self._mechanism, ""
                return self._credentials(mechanism, self._response, name)
            if len(self._response) > MAX_RESPONSE:
                self._mechanism = ""
                raise AuthenticationFailed("too long")
        return None

    def _begin(self, reply: Reply, mechanism: str) -> None:
        offered = mechanisms(self._channel)
        if mechanism not in offered:
            reply.numeric("908", ",".join(offered) or "*", "are available SASL mechanisms")
            raise AuthenticationFailed("no such mechanism")
        self._mechanism, self._response = mechanism, ""
        reply.add("AUTHENTICATE", "+")

    def abort(self, reply: Reply) -> None:
        """End the exchange because the client does not continue it."""
        self._mechanism = ""
        reply.numeric("906", "SASL authentication aborted")

    @property
    def is_open(self) -> bool:
        """Whether the response is not complete."""
        return bool(self._mechanism)

    def _credentials(self, mechanism: str, response: str, name: str) -> Credentials:
        try:
            octets = base64.b64decode(response, validate=True)
            text = octets.decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise AuthenticationFailed("not base64 of UTF-8") from None
        if mechanism == EXTERNAL:
            key = self._channel.certificate_key
            return Certificate(text or self._gate.name_owner(key, name), key)
        return self._password(text)

    def _password(self, text: str) -> Password:
        """Parse the response of PLAIN (RFC 4616)."""
        wanted, _, rest = text.partition("\0")
        name, _, password = rest.partition("\0")
        if not name or not password or "\0" in password:
            raise AuthenticationFailed("not a name and a password")
        if wanted and fold(wanted) != fold(name):
            raise AuthenticationFailed("nobody can act for another account")
        return Password(name, password, self._asker())


def describe_failure(error: ChatError) -> str:
    """Return the text of the reply to a failed authentication."""
    if error.retry_after:
        return f"SASL authentication failed: try again in {error.retry_after} seconds"
    return "SASL authentication failed"
