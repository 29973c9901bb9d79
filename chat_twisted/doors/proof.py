"""How a client of version 2 proves who its user is (docs/protocol.rst, Accounts): the challenge
that it gets, and the credentials that it answers with.

This module must not know whose credentials are good (``auth.gate``), or when they are asked for.
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
    """Random octets that a client is to sign, or for which it is to send a password.

    :ivar headers: the headers of the ERROR that asks for a proof.
    :param channel: what the connection comes over; passwords are for private ones.
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
        """Read the credentials of an AUTH.

        :param name: the user whom the client claims to be.
        :param asker: returns the asker for verifying a password; it may raise ``TooFast``.
        :raises EncryptionRequired: a password on a channel where others may read it.
        :raises NotPermitted: another kind of proof.
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
