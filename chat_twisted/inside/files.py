"""The key of a user who has come by SSH, and the files that they don't have here.

This module must not know which commands use them.
"""

from __future__ import annotations

from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.requests import ChatRequests

PRIVATE = "That is a private key; the server gets the public one: the line in the file FILE.pub"


class NoFiles:
    """The ``UserFiles`` of a user whose files are on another machine.

    :param key: the public key that they came with; empty without one.
    """

    password = ""

    def __init__(self, key: str) -> None:
        self._key = key

    def public(self) -> str:
        """Return the key; see ``UserFiles``."""
        return self._key

    def read_key(self, given: str) -> str:
        """Return the text of a key itself; see ``UserFiles``."""
        if "PRIVATE KEY" in given or given.startswith("PuTTY-User-Key-File"):
            raise IdentityError(PRIVATE)
        if len(given.split()) < 2:
            raise IdentityError("Give the key itself: /keys add ssh-ed25519 AAAA...")
        return given

    async def export(self, session: ChatRequests, name: str) -> str:
        """Refuse; see ``UserFiles``."""
        raise IdentityError("There are no files here: /account export needs chat-twisted")
