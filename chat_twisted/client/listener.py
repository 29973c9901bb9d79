"""The interface between a session and the one that listens to it: a pipe, a terminal or a bot.

This module must not know the wire protocol, or what a listener does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from chat_twisted.refusals import Refusal
from chat_twisted.ui.values import Event, Listed, Received, Seen


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof of identity for a login: a signature by ``key``, or a password."""

    key: str = ""
    signature: bytes = b""
    password: str = ""


class Listener(Protocol):
    """The interface to which a session reports events.

    ``id`` is the result of the session's method that sent the request.
    """

    def registered(self, name: str) -> None:
        """Called when the user is registered as ``name``; requests can be sent now."""

    def authenticate(
        self, methods: list[str], challenge: bytes, tries: int
    ) -> Proof | Deferred[Proof | None] | None:
        """Called when the name has an account, and again after each refused proof.

        :param methods: the login methods that the server accepts.
        :param challenge: the 32 bytes to sign.
        :param tries: how many proofs were refused so far.
        :return: a proof of identity, or None if there is no further one.
        """

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """Called when a change of an account, a status or a sanction is done.

        :param what: the argument of the request.
        :param lines: the keys, if they were requested.
        """

    def noticed(self, text: str) -> None:
        """Called with a notice from the server to its users."""

    def not_registered(self, refusal: Refusal) -> None:
        """Called when the server refuses the registration; the connection is being closed."""

    def received(self, message: Received) -> None:
        """Called with each message to the user, and those that the user sent on other
        connections.
        """

    def sent(self, id: int, number: int, time: str) -> None:
        """Called when a message sent on this session is committed.

        :param number: as ``Received.number``.
        :param time: as ``Received.time``.
        """

    def delivered(self, id: int) -> None:
        """Called when a direct message sent on this session was delivered to its recipient."""

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Called when a request was refused; ``id`` is None if the server names no request."""

    def listed(self, id: int, found: Listed) -> None:
        """Called with the answer to WHO, ROOMS, BAN or READ."""

    def found(self, id: int, messages: list[Received]) -> None:
        """Called with the answer to HISTORY, SEARCH or ACCOUNT messages."""

    def told(self, id: int | None, event: Event) -> None:
        """Called with each event; ``id`` is None unless this session requested the change.

        When the user was renamed, the session's ``user`` is the new name already.
        """

    def seen(self, users: list[Seen]) -> None:
        """Called when the presence of users has changed, after a WHO that subscribed to it."""

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
        """Called when the session has ended.

        :param reason: the server's reason, its protocol error, or empty.
        """
