"""Connects the sessions of visitors to the framed door, within the process.

This module must not know terminals or pipes.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Sequence

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from chat_twisted.client.login import Credentials
from chat_twisted.client.session import ClientSession
from chat_twisted.core.message import fold
from chat_twisted.doors import Channel
from chat_twisted.doors.framed import FramedFactory
from chat_twisted.doors.ssh.visits import Visitor
from chat_twisted.inside.confirming import Confirmer
from chat_twisted.memory_connection import End
from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.session import Listener
from chat_twisted.ui.values import Refusal

INSIDE = "SSH"
"""The kind of these clients, for the log."""

SERVER = IPv4Address("TCP", "127.0.0.1", 0)
"""The address of the server's end of a connection."""


SIGNALS = {"HUP": 129, "INT": 130, "TERM": 143}
"""The signals that end a visit, with their exit codes."""


DISSOLVED_AFTER = 5
"""Seconds after the end of a visit after which nothing uses its parts any more."""


class _NoProofs:
    """The proofs of users who are verified already: none."""

    password = ""

    def ways(self, methods: Sequence[str]) -> list[str]:
        return []

    def sign(self, challenge: bytes, name: str, binding: bytes) -> tuple[str, bytes]:
        raise IdentityError("there is no key")


class Connector:
    """Connects visitors.

    :param framed: the framed door.
    :param clock: the reactor.
    :param soon: calls its argument in a later turn of the reactor, and shares the turns fairly.
    :param secret: a secret of this server. The token of a guest is made from it and from their key,
        so that they can return with the same key.
    """

    def __init__(
        self,
        framed: FramedFactory,
        clock: IReactorTime,
        soon: Callable[[Callable[[], None]], object],
        secret: bytes,
    ) -> None:
        self.clock = clock
        self.soon = soon
        self._framed = framed
        self._secret = secret

    def token(self, visitor: Visitor, name: str) -> str:
        """Return the session token of a guest with a key; empty for other visitors, who get one
        from the server.
        """
        if visitor.proof or not visitor.key:
            return ""
        held = f"{fold(name)} {visitor.key}".encode()
        return base64.urlsafe_b64encode(hmac.digest(self._secret, held, "sha256")).decode()

    def connect(self, session: ClientSession, visitor: Visitor) -> End | None:
        """Connect a session.

        :return: its end of the connection; None if the server stops.
        """
        peer = visitor.channel
        channel = Channel(peer.host, True, peer.port, inside=INSIDE, proof=visitor.proof)
        accepted = self._framed.accept(channel)
        if accepted is None:
            return None
        end = End(self.soon, visitor.address)
        end.connect(End(self.soon, SERVER), session, accepted)
        return end


class Connection:
    """The session of a visitor, and its connection.

    :ivar session: the session.
    :ivar is_lost: whether the user's own connection is lost.
    :param name: the name to register.
    :param when_taken: as in ``Confirmer``.
    :param other_name, bot: as in ``ClientSession``.
    """

    def __init__(
        self,
        connector: Connector,
        visitor: Visitor,
        name: str,
        listener: Listener,
        when_taken: Callable[[Callable[[], None]], None],
        other_name: Callable[[Refusal], Deferred[str]] | None = None,
        *,
        bot: bool | None = None,
    ) -> None:
        self.session = ClientSession(
            name,
            listener,
            Credentials(_NoProofs(), lambda what: succeed("")),
            connector.clock,
            token=connector.token(visitor, name),
            other_name=other_name,
            token_of=lambda other: connector.token(visitor, other),
            bot=bot,
            confirm=self._received,
            before_quit=self._before_quit,
        )
        self.is_lost = False
        self._connector = connector
        self._visitor = visitor
        self._confirmer = Confirmer(connector.clock, when_taken, self.session.confirm)
        self._end: End | None = None

    def connect(self) -> None:
        """Connect the session; the listener hears what becomes of it."""
        self._end = self._connector.connect(self.session, self._visitor)
        if self._end is None:
            self.session.fail("The server is stopping")

    def _received(self, number: int, direct: bool) -> None:
        self._confirmer.received(number, direct)

    def dissolve(self) -> None:
        """Remove the references between the parts; see ``Screen.dissolve``."""
        for part in (self.session, self):
            vars(part).clear()

    def _before_quit(self, quit_now: Callable[[], None]) -> None:
        self._confirmer.before_quit(quit_now)

    def over(self) -> None:
        """Confirm nothing more, because the session has ended."""
        self._confirmer.stop()

    def lost(self, dissolve: Callable[[], None]) -> None:
        """End the session because the user's own connection is lost.

        A user who can return finds their name, their rooms and what they have missed.

        :param dissolve: called when nothing uses the parts of the visit any more; it removes the
            references between them.
        """
        self.is_lost = True
        self._connector.clock.callLater(DISSOLVED_AFTER, dissolve)
        self._confirmer.stop()
        self.session.resumeProducing()  # a paused session would not notice the end
        if self._end is None:
            return
        if self._visitor.key or self._visitor.proof:
            self._end.abortConnection()
        else:
            self.session.quit()
