"""The connections of IRC clients.

A connection passes lines to its registration, and afterwards to its session; its ``Stream`` does
output, backpressure and closing. This module must not know the commands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from twisted.internet.interfaces import IReactorTime

from chat_twisted.auth.gate import Gate
from chat_twisted.core.errors import ChatError, EncryptionRequired
from chat_twisted.core.hub import Hub
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors import Channel
from chat_twisted.doors.connecting import DoorConnection, DoorFactory
from chat_twisted.doors.irc.commands import QUICK, handler_of
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.door import IRCDoor
from chat_twisted.doors.irc.grammar import BadEncoding, Line, LineReader, TooLong, encode
from chat_twisted.doors.irc.numerics import SERVER, numeric_of
from chat_twisted.doors.irc.registration import Registration
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import IRCSession
from chat_twisted.doors.irc.splitting import harmless
from chat_twisted.doors.irc.welcome import enter, show_marker, welcome
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.streams import DEFAULT_UNREAD, TICKS
from chat_twisted.logs import Logger

FIRST_COMMANDS = frozenset([b"NICK", b"USER", b"PASS", b"CAP", b"AUTHENTICATE"])
"""The first commands of connections for this door."""

AT_ONCE = 256
"""Maximum number of lines of a connection in one turn of the reactor; a few milliseconds."""


class IRCConnection(DoorConnection):
    """The protocol of one connection."""

    factory: IRCFactory
    _reader: LineReader
    _log: ClassVar[Logger] = Logger()

    def __init__(self, factory: IRCFactory, channel: Channel) -> None:
        super().__init__(channel)
        self.factory = factory
        self.session: IRCSession | None = None
        self._reader = LineReader()
        self._registration: Registration | None = Registration(factory.door, factory.context, self)
        self._quits: str | None = None  # the reason, if the client has sent QUIT

    # Life

    def connectionMade(self) -> None:
        """Make the stream. Called by Twisted."""
        super().connectionMade()
        self.factory.context.unregistered += 1

    def bye(self, reason: str) -> None:
        """Write ERROR, and close the connection after all output."""
        self.write(encode("ERROR", (harmless(reason),)))
        self.close(reason)

    def quit(self, reason: str) -> None:
        """Close the connection because the client has sent QUIT."""
        self._quits = reason
        self.bye("Closing link: quit")

    def stop(self, reason: str) -> None:
        """Write ERROR, and close without a log line. Called when the server stops."""
        self.write(encode("ERROR", (reason,)))
        self.stream.stop()
        self._let_go(None)

    def _let_go(self, why: str | None) -> None:
        if self.closed:
            return
        self.closed = True
        if self._registration is not None:
            self._registration.stop()
            self._registration = None
            self.factory.context.unregistered -= 1
        session, self.session = self.session, None
        if session is None:
            return
        name = self.factory.hub.name_of(session)
        session.end(self._quits or "", for_good=self._quits is not None)
        self._log_went(name, why)

    @property
    def is_registered(self) -> bool:
        """Whether the client is logged in. Called by the stream."""
        return self._registration is None

    def is_silent(self, ticks: int) -> None:
        """Called by the stream at each tick while the client is silent."""
        if self._registration is not None:
            if ticks >= TICKS:
                self.bye("No registration in time")
        elif self.session is None:
            return
        elif ticks >= 2 * TICKS:
            self.bye("Silent for too long")
        elif ticks == TICKS:
            self.session.ping()
        else:
            self.session.ask_whether_read()

    # Input

    def dataReceived(self, data: bytes) -> None:
        """Process received bytes. Called by Twisted."""
        if self.closed:
            return
        self._reader.receive(data)
        self._take_input()
        self.stream.flush()

    def _take_input(self) -> None:
        """Process lines until the stream is paused; the reader keeps the rest."""
        next_line, stream = self._reader.next, self.stream
        for _ in range(AT_ONCE):
            if stream.paused or self.closed:
                return
            line = next_line()
            if line is None:
                return
            stream.heard = True
            if isinstance(line, Line):
                self._take(line)
            else:
                self._refuse_line(line)
        if self._reader.has_more:
            stream.rest()

    def _take(self, line: Line) -> None:
        if self._registration is not None:
            self._registration.take(line)
        elif self.session is not None:
            quick = QUICK.get(line.verb)
            if quick is None or not quick(self.session, line):
                self.session.take(line, handler_of(self.session, line))

    def _refuse_line(self, line: TooLong | BadEncoding) -> None:
        if self._registration is not None:
            reply = Reply(self._registration)
        elif self.session is not None:
            reply = self.session.reply_to(line.tags)
            if self.session.collector is not None:
                self.session.collector.spoil(line.tags)
        else:
            return
        if isinstance(line, TooLong):
            reply.numeric("417", "Input line was too long")
        else:
            reply.fail(line.verb, "INVALID_UTF8", text="The line is not UTF-8")
        reply.end()

    def _leave(self) -> None:
        if self.session is not None:
            self.session.when_answered(lambda: self.close("closed"))
        else:
            self.close("closed")

    @property
    def kind(self) -> str:
        """The kind of the client, for the status of the server."""
        return "unregistered" if self._registration is not None else "IRC"

    # Registration

    def refuse(self, error: ChatError) -> None:
        """Answer with an error. Called by the front, before anything was received."""
        self.factory.refused.add(error)
        if isinstance(error, EncryptionRequired):
            sts = None if self._registration is None else self._registration.negotiation.sts
            if sts is not None:  # the answer to CAP LS: the client connects again, with TLS
                self.write(encode("CAP", ("*", "LS", f"sts={sts}"), source=SERVER))
            self.bye("Encryption required")
        else:
            self.bye(numeric_of(error)[1])

    def log_in(self, session: IRCSession) -> None:
        """Wait until a session is logged in; later ``registered`` or ``not_registered`` is
        called.
        """
        self.session = session
        session.hold()

    def registered(self, session: IRCSession) -> None:
        """Called when the session is logged in."""
        self._registration = None
        self.factory.context.unregistered -= 1
        self.stream.quiet = 0
        self._log_came(self.factory.hub.name_of(session), "IRC")
        session.start(welcome(session), holding=True)

    def replace(self, session: IRCSession) -> None:
        """Continue with another session, which is logged in."""
        self.session = session
        self._log_came(self.factory.hub.name_of(session), "IRC")

    def not_registered(self, error: ChatError) -> None:
        """Called when the login is refused."""
        self.session = None
        self.go_on()
        if self._registration is not None:
            self._registration.refused(error)

    def log_refusal(self, error: ChatError) -> None:
        """Log that the client was refused."""
        number, _ = numeric_of(error)
        self.factory.refusals.emit(
            self.host,
            "refused {peer}: {refusal} ({detail})",
            event="refused",
            peer=self.peer,
            refusal=number,
            detail=str(error),
        )


class IRCFactory(DoorFactory[IRCConnection]):
    """The connections of IRC clients, and their door.

    :param gate: verifies credentials.
    :param clock: the reactor.
    :param idle: seconds of silence after which a client gets a PING.
    :param motd: the message of the day; empty without one.
    :param joins_all: whether the server joins ``&ALL`` for every client.
    :param is_vouched_for: returns whether authorities vouch for the server's certificate.
    :param max_unread, poller, turn: as in ``Streams``.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        clock: IReactorTime,
        *,
        max_message: int,
        idle: float = 60,
        max_unread: int = DEFAULT_UNREAD,
        motd: str = "",
        joins_all: bool = True,
        is_vouched_for: Callable[[], bool] = lambda: False,
        poller: Poller | None = None,
        turn: EndOfTurn | None = None,
    ) -> None:
        super().__init__(
            clock,
            IRCConnection._log.info,
            idle=idle,
            max_unread=max_unread,
            poller=poller,
            turn=turn,
        )
        self.hub = hub
        vouched = is_vouched_for
        self.context = Context(
            hub, gate, clock, max_message, motd, joins_all, vouched, self.refused
        )
        self.door = IRCDoor(self.context, self.streams.flush, enter, show_marker)

    @property
    def motd(self) -> str:
        """See ``DoorFactory.motd``."""
        return self.context.motd

    def set_motd(self, motd: str) -> None:
        """See ``DoorFactory.set_motd``."""
        self.context.motd = motd

    def _make(self, channel: Channel) -> IRCConnection:
        return IRCConnection(self, channel)
