"""Authentication in version 2 (docs/protocol.rst, Accounts): the challenge of the server, and the
credentials in the client's answer.

This module must not know which credentials are valid (``auth.gate``), or when they are needed.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable

from chat_twisted.auth.gate import Password, Signature
from chat_twisted.auth.keys import CHALLENGE
from chat_twisted.core.errors import EncryptionRequired, NotPermitted
from chat_twisted.core.turns import Asker
from chat_twisted.doors import Channel
from chat_twisted.frames import Frame


class Challenge:
    """A challenge: random bytes for the client to sign, or a request for a password.

    :ivar headers: the headers of the ERROR that demands a proof.
    :param channel: the properties of the connection; only private ones may send passwords.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._octets = os.urandom(CHALLENGE)
        methods = "publickey password" if channel.private else "publickey"
        self.headers = (
            ("Methods", methods),
            ("Challenge", base64.b64encode(self._octets).decode()),
        )

    def credentials(
        self, frame: Frame, name: str, asker: Callable[[], Asker]
    ) -> Signature | Password:
        """Parse the credentials in an AUTH.

        :param name: the name that the client wants.
        :param asker: returns the asker for verifying a password; it may raise ``TooFast``.
        :raises EncryptionRequired: if it is a password, and others may read the connection.
        :raises NotPermitted: if it is another kind of proof.
        """
        if frame.argument == "password":
            if not self._channel.private:
                raise EncryptionRequired("a password")
            return Password(name, frame.body or "", asker())
        if frame.argument != "publickey":
            raise NotPermitted("no such way to prove who one is")
        try:
            signature = base64.b64decode(frame.headers.get("signature", ""), validate=True)
        except ValueError:
            signature = b""  # never valid
        key = frame.headers.get("key", "")
        return Signature(name, key, signature, self._octets, self._channel.binding)
