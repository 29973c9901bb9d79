"""The interface between a session and the one that listens to it: a pipe, a terminal or a bot.

Answers to requests come as results of coroutines (``requests.ChatRequests``); everything else that
happens, as calls of a ``Listener``. This module must not know where a session gets its events
from, or what a listener does.
"""

from __future__ import annotations

from typing import Protocol

from chat_twisted.ui.errors import ClientError, Refused, Sent
from chat_twisted.ui.requests import ChatRequests
from chat_twisted.ui.values import Event, Received, Seen


class ChatSession(ChatRequests):
    """A user's session with a chat server.

    :ivar user: the user's name.
    :ivar max_message: maximum length of a text in bytes, when the session is connected.
    :ivar last: the number of the newest message when the session was connected.
    :ivar kept: for how many seconds messages are kept: ``math.inf`` for ever, 0 if they are not
        kept, None if the server does not say.
    :ivar token: the token that resumes the session.
    :ivar proven: whether the user has logged in with a key or a password.
    :ivar where: the host that the session is connected to, for people; or empty.
    :ivar moved_to: the same, after a reconnect to another host than before; else empty.
    """

    user: str
    max_message: int
    last: int
    kept: float | None
    token: str
    proven: bool
    where: str
    moved_to: str

    async def send(self, to: str, text: str, kind: str = "text") -> Sent:
        """Send a message; return when it is committed.

        :param to: a user, a ``#room`` or ``ALL``.
        :param kind: ``text``, ``action`` or ``notice``.
        :raises Refused: if it was not taken.
        :raises NotConnected: if the session has ended before it was answered.
        """
        raise NotImplementedError

    async def watch(self) -> list[Seen]:
        """Subscribe to presence; return the users who are present.

        From then on the listener is told about changes, and gets the whole list again after a
        reconnect.
        """
        raise NotImplementedError

    def next_attempt(self) -> float | None:
        """Return the seconds until the next attempt to connect; None if none is planned."""
        raise NotImplementedError

    def quit(self) -> None:
        """End the session; then the listener gets ``lost``."""
        raise NotImplementedError

    def pauseProducing(self) -> None:
        """Receive nothing for now."""
        raise NotImplementedError

    def resumeProducing(self) -> None:
        """Receive again."""
        raise NotImplementedError


class Listener(Protocol):
    """The interface to which a session reports what happens."""

    def registered(self, name: str) -> None:
        """Called when the user is registered as ``name``; requests can be sent now."""

    def not_registered(self, problem: ClientError) -> None:
        """Called when the server refuses the registration, or there is no proof for a login; the
        connection is being closed.
        """

    def received(self, message: Received) -> None:
        """Called with each message to the user, and those that the user sent on other
        connections.
        """

    def delivered(self, number: int) -> None:
        """Called when a direct message that this session sent was delivered to its recipient."""

    def told(self, event: Event) -> None:
        """Called with each event that this session did not ask for.

        When the user was renamed, the session's ``user`` is the new name already.
        """

    def seen(self, users: list[Seen]) -> None:
        """Called when the presence of users has changed, after ``watch``."""

    def present(self, users: list[Seen]) -> None:
        """Called with all present users after a reconnect, after ``watch``."""

    def noticed(self, text: str) -> None:
        """Called with a notice for the user, which may have several lines."""

    def refused(self, problem: Refused) -> None:
        """Called when the server refuses something without naming a request."""

    def disconnected(self, reason: str) -> None:
        """Called when the connection is lost. The session tries to reconnect; nothing is lost."""

    def reconnected(self) -> None:
        """Called when the session is connected again."""

    def went_back(self) -> None:
        """Called after ``reconnected`` if the server has lost messages that this client received.

        This happens when an older state of the server was restored; other messages may be lost too.
        Messages received from now on are new.
        """

    def lost(self, reason: str) -> None:
        """Called when the session has ended. Requests without an answer have failed before.

        :param reason: the server's reason, its protocol error, or empty.
        """
