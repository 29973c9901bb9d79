"""The questions to a user, or their key, that prove who they are and that change an account.

This module must not know how a question is shown, or what became of the answer.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from chat_twisted.client.identity import Identity, IdentityError, read_key
from chat_twisted.client.listener import Proof
from chat_twisted.client.session import ClientSession
from chat_twisted.ui.commands import Command


class Questions(Protocol):
    """The part of a terminal that this module uses."""

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a line; see ``conversation_view.Terminal``."""


async def agrees(questions: Questions, question: str) -> bool:
    """Ask a question, and return whether the user has answered yes."""
    answer = await questions.ask(f"{question} [y/N] ", secret=False)
    return answer.strip().lower() in ("y", "yes")


async def prove(
    questions: Questions,
    identity: Identity,
    session: ClientSession,
    methods: list[str],
    challenge: bytes,
    tries: int,
) -> Proof | None:
    """Return a proof for a login, or None if there is no further one; see
    ``Listener.authenticate``.

    :raises IdentityError: if there is none, with the reason.
    """
    match identity.next_method(methods, tries):
        case "publickey":
            return Proof(*identity.sign(challenge, session.user, session.binding))
        case "password":
            what = f"Password of {session.user}: "
            password = identity.password or await questions.ask(what, secret=True)
            identity.password = password  # for a reconnect
            if not password:
                raise IdentityError(f"No password of {session.user} was given")
            return Proof(password=password)
    return None


async def change_account(
    questions: Questions, identity: Identity, session: ClientSession, command: Command
) -> int:
    """Send the request of /register, /password or /keys; return its ID.

    :raises IdentityError: if there is no key or password.
    :raises ChatError: as ``ClientSession.ask``.
    """
    match command:
        case Command("/register"):
            return session.ask("ACCOUNT", "register", (("Key", identity.public()),))
        case Command("/keys", "add", file):
            return session.ask("ACCOUNT", "add", (("Key", read_key(file or "")),))
        case Command("/keys", _, key):
            return session.ask("ACCOUNT", "remove", (("Key", key),))
    password = await questions.ask("New password: ", secret=True)
    if not password:
        raise IdentityError("No password was given")
    if await questions.ask("Again: ", secret=True) != password:
        raise IdentityError("The two are not the same")
    identity.password = password
    return session.ask("ACCOUNT", "password", (), password)
