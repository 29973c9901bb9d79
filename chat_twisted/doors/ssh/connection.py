"""The connections of SSH clients.

A connection passes packets from its transport to its authentication, and afterwards to its session
channel; its ``Stream`` does output, backpressure and closing. This module must not know keys,
channels, or what a visit is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from twisted.conch.ssh.transport import (
    DISCONNECT_BY_APPLICATION,
    DISCONNECT_SERVICE_NOT_AVAILABLE,
    DISCONNECT_TOO_MANY_CONNECTIONS,
    MSG_SERVICE_ACCEPT,
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from chat_twisted.auth.gate import Gate
from chat_twisted.core.errors import ChatError, Unavailable
from chat_twisted.core.hub import Hub
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors import Channel
from chat_twisted.doors.connecting import DoorConnection, DoorFactory
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.ssh.authentication import USERAUTH_SUCCESS, Authentication
from chat_twisted.doors.ssh.channel import Session
from chat_twisted.doors.ssh.fields import Fields, Malformed, string
from chat_twisted.doors.ssh.host_keys import HostKeys
from chat_twisted.doors.ssh.transport import Refused, SSHTransport, wrong_packet
from chat_twisted.doors.ssh.visits import Host, Visitor
from chat_twisted.doors.streams import DEFAULT_UNREAD, TICKS
from chat_twisted.logs import Logger

LOGIN_WITHIN = 60
"""Seconds within which the visit must be open: for the key exchange, the login, which may include
typing a password, and the requests of the channel. Not longer than the idle interval."""

KEYS_WITHIN = 30
"""Seconds for a later key exchange."""

CLOSE_WITHIN = 5
"""Seconds within which the peer must close the channel after this side has."""

LOGIN, KEYS, CLOSE = "login", "new keys", "end of the channel"
"""What must come in time."""

AT_ONCE = 256
"""Maximum number of packets of a connection in one turn of the reactor; a few milliseconds."""


class SSHConnection(DoorConnection):
    """The protocol of one connection."""

    factory: SSHFactory
    encryption = "SSH"
    _reader: SSHTransport
    _log: ClassVar[Logger] = Logger()

    def __init__(self, factory: SSHFactory, channel: Channel) -> None:
        super().__init__(channel)
        self.factory = factory
        self._reader = SSHTransport(self, factory.host_keys, factory.clock)
        self._authentication: Authentication | None = None
        self._session: Session | None = None  # after the login
        self._deadlines: dict[str, IDelayedCall] = {}  # by what is not there in time
        self._is_visited = False

    # Life

    def connectionMade(self) -> None:
        """Begin the key exchange. Called by Twisted."""
        super().connectionMade()
        self._expect(LOGIN, self.factory.login_within)
        self._reader.makeConnection(self)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the visit. Called by Twisted."""
        super().connectionLost(reason)
        self._reader.transport = None  # break the reference cycle, so that both are freed at once
        del self._reader.connection

    def loseConnection(self) -> None:
        """Close the connection after all output. Called by the transport, as one of Twisted's."""
        self.close("closed")

    def disconnect(self, refused: Refused) -> None:
        """Tell the peer the reason, and close the connection."""
        if not self.closed:
            self._reader.say_goodbye(refused.code, refused.reason)
            self.refused(refused.reason)

    def refused(self, reason: str) -> None:
        """Called when the peer was told that it is refused; closes the connection."""
        self.factory.refused["Disconnected"] += 1
        what = "disconnected" if self._is_visited else "refused"
        self.factory.refusals.emit(
            self.host,
            f"{what} {{peer}}: {{detail}}",
            event="refused",
            peer=self.peer,
            detail=reason,
        )
        self.close(reason)

    def stop(self, reason: str) -> None:
        """Close the connection. Called when the server stops.

        A visit ends by itself: the hub has ended its session, and its last output is to be seen.
        """
        if self._session is None or not self._session.has_visit:
            self._reader.say_goodbye(DISCONNECT_BY_APPLICATION, reason)
            self.stream.stop()
            self._let_go(None)

    def _let_go(self, why: str | None) -> None:
        if self.closed:
            return
        self.closed = True
        for what in list(self._deadlines):
            self._has_come(what)
        if self._authentication is not None:
            self._authentication.stop()
            self._authentication = None
        if self._session is not None:
            self._session.lost()
            self._session = None

    def _expect(self, what: str, seconds: float) -> None:
        """Disconnect the peer if ``_has_come`` is not called in time."""
        if what not in self._deadlines:
            self._deadlines[what] = self.factory.clock.callLater(seconds, self._too_late, what)

    def _has_come(self, what: str) -> None:
        """End the deadline for something, if there is one."""
        deadline = self._deadlines.pop(what, None)
        if deadline is not None:
            deadline.cancel()

    def _too_late(self, what: str) -> None:
        del self._deadlines[what]
        self.disconnect(Refused(DISCONNECT_BY_APPLICATION, f"No {what} in time"))

    @property
    def is_registered(self) -> bool:
        """Whether a visit was opened. Called by the stream."""
        return self._is_visited

    @property
    def kind(self) -> str:
        """The kind of the client, for the status of the server."""
        if not self._is_visited or self._session is None:
            return "unregistered"
        return "pipe" if self._session.size is None else "terminal"

    def is_silent(self, ticks: int) -> None:
        """Called by the stream at each tick while the client is silent."""
        if self._session is None or not self._is_visited:
            return  # there is a deadline
        if ticks >= 2 * TICKS:
            self.disconnect(Refused(DISCONNECT_BY_APPLICATION, "Silent for too long"))
        elif ticks == TICKS:
            self._session.ask()

    # Input

    def dataReceived(self, data: bytes) -> None:
        """Process received bytes. Called by Twisted."""
        if self.closed:
            return
        self._reader.receive(data)
        self._take_input()
        if not self.closed:
            self._reader.change_keys_if_due()
        self.stream.flush()

    def _take_input(self) -> None:
        """Process packets until the stream is paused; the transport keeps the rest."""
        step, stream = self._reader.step, self.stream
        try:
            for _ in range(AT_ONCE):
                if stream.paused or self.closed or not step():
                    return
                stream.heard = True
        except Refused as refused:
            self.disconnect(refused)
        except Malformed:
            self.disconnect(wrong_packet("A malformed packet"))
        else:
            if self._reader.has_more:
                stream.rest()

    def _leave(self) -> None:
        self.close("closed")

    def refuse(self, error: ChatError) -> None:
        """Answer with an error. Called by the front, before anything was received."""
        if isinstance(error, Unavailable):
            refused = Refused(DISCONNECT_TOO_MANY_CONNECTIONS, "Too many connections: try later")
        else:
            refused = Refused(DISCONNECT_BY_APPLICATION, "Refused")
        self.disconnect(refused)

    # What the transport calls

    def begin(self, service: bytes) -> None:
        """Called when the peer requests a service.

        :raises Refused: if there is none.
        """
        if service != b"ssh-userauth" or self._session is not None:
            raise Refused(DISCONNECT_SERVICE_NOT_AVAILABLE, "There is no such service")
        if self._authentication is None:
            self._authentication = Authentication(self, self.factory.hub, self.factory.gate)
        self.send(MSG_SERVICE_ACCEPT, string(service))

    def take(self, number: int, fields: Fields) -> bool:
        """Process a packet for the authentication or the session.

        :return: whether the packet is known.
        :raises Refused: if the peer is to be disconnected.
        """
        if self._session is not None:
            return self._session.take(number, fields)
        if self._authentication is not None:
            return self._authentication.take(number, fields)
        raise wrong_packet()

    def keys_wanted(self) -> None:
        """Called when a key exchange begins."""
        if LOGIN not in self._deadlines:  # in the first one, people compare the fingerprint
            self._expect(KEYS, KEYS_WITHIN)

    def keys_changed(self) -> None:
        """Called when a key exchange has ended."""
        self._has_come(KEYS)
        if self._session is not None:
            self._session.send()

    # What the authentication calls

    @property
    def identifier(self) -> bytes:
        """The identifier of this connection, which is part of what a key signs."""
        assert self._reader.sessionID is not None, "keys were exchanged"
        return self._reader.sessionID

    def logged_in(self, name: str, proof: str, key: str) -> None:
        """Called when the peer has proved who it is; see ``visits.Visitor``."""
        channel = self.channel._replace(encrypted=True, lost=lambda: None)  # it is lost once
        visitor = Visitor(name, proof, key, channel, self.transport.getPeer())
        self._authentication = None
        self._session = Session(self, self.factory.visits, visitor)
        self.send(USERAUTH_SUCCESS, b"")

    # What the session calls

    @property
    def can_send(self) -> bool:
        """Whether data may be sent now; otherwise ``Session.send`` is called later."""
        if self._reader.changes_keys:
            return False
        if self.stream.is_full:
            self.stream.when_written(self._written)
            return False
        return not self.closed

    def _written(self) -> None:
        if self._session is not None:
            self._session.send()

    @property
    def max_unread(self) -> int:
        """Maximum bytes that wait for a peer that does not read."""
        return self.factory.streams.max_unread

    def send(self, number: int, content: bytes) -> None:
        """Send a packet at the end of this turn of the reactor."""
        if not self.closed:
            self._reader.sendPacket(number, content)

    def flush(self) -> None:
        """Send the packets now."""
        if not self.closed:
            self._reader.change_keys_if_due()
            self.stream.flush()

    def at_end_of_turn(self, call: Callable[[], None]) -> None:
        """Call ``call`` at the end of this turn of the reactor."""
        self.factory.turn.write(call)

    def visit_opens(self) -> None:
        """Called when the peer has asked for its shell or command."""
        self._is_visited = True
        self.stream.quiet = 0
        self._has_come(LOGIN)

    def channel_ends(self) -> None:
        """Called when this side has closed the channel."""
        self._has_come(LOGIN)  # the channel may end without a visit
        self._expect(CLOSE, CLOSE_WITHIN)


class SSHFactory(DoorFactory[SSHConnection]):
    """The connections of SSH clients.

    :param gate: verifies passwords.
    :param visits: makes the visits.
    :param host_keys: the keys of this server.
    :param clock: the reactor.
    :param idle: seconds of silence after which a client is asked for an answer.
    :param max_unread, poller, turn: as in ``Streams``.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        visits: Host,
        host_keys: HostKeys,
        clock: IReactorTime,
        *,
        idle: float = 60,
        max_unread: int = DEFAULT_UNREAD,
        poller: Poller | None = None,
        turn: EndOfTurn | None = None,
    ) -> None:
        self.turn = EndOfTurn(clock) if turn is None else turn
        super().__init__(
            clock,
            SSHConnection._log.info,
            idle=idle,
            max_unread=max_unread,
            poller=poller,
            turn=self.turn,
        )
        self.hub = hub
        self.gate = gate
        self.visits = visits
        self.host_keys = host_keys
        self.login_within = min(LOGIN_WITHIN, idle)

    def _make(self, channel: Channel) -> SSHConnection:
        return SSHConnection(self, channel)
