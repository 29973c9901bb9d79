"""The files of the user on this machine, as the user interface needs them (``ui.asking``).

This module must not know which commands use them.
"""

from __future__ import annotations

from chat_twisted.client.export import export
from chat_twisted.client.identity import Identity, read_key
from chat_twisted.ui.requests import ChatRequests

_KEY_TEXTS = ("ssh-", "ecdsa-sha2-")
"""What the text of a public key begins with."""


class LocalFiles:
    """The user's key, and files that they name.

    :param identity: the user's key and password.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    @property
    def password(self) -> str:
        """The user's password, or empty."""
        return self._identity.password

    @password.setter
    def password(self, password: str) -> None:
        self._identity.password = password

    def public(self) -> str:
        """Return the user's public key; see ``UserFiles``."""
        return self._identity.public()

    def read_key(self, given: str) -> str:
        """Return the text of a key, or the first line of a public key file; see ``UserFiles``."""
        return given if given.startswith(_KEY_TEXTS) and " " in given else read_key(given)

    async def export(self, session: ChatRequests, name: str) -> str:
        """Save all messages of the user in a new file; see ``UserFiles``."""
        return await export(session, name)
