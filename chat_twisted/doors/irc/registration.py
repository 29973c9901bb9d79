"""Registration: everything before a client has a session (modern.ircdocs.horse, Connection
Registration).

A client gives its name with NICK and USER, may negotiate capabilities with CAP and authenticate;
then it logs in. If the name is refused, it may give another one. This module must not know how
connections are read, or what a session can do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from chat_twisted.core.errors import (
    AuthenticationRequired,
    Banned,
    ChatError,
    MalformedName,
    NameInUse,
    TooFast,
    Unavailable,
)
from chat_twisted.core.message import check_user_name
from chat_twisted.core.sessions import Door
from chat_twisted.doors import Channel
from chat_twisted.doors.irc import negotiation
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import Connection, IRCSession

MAX_REAL_NAME = 200
"""Maximum characters of a real name; the rest of it is cut."""


class Applying(Connection, Protocol):
    """The part of a connection that a registration uses."""

    @property
    def host(self) -> str | None:
        """The peer's address; None on a local socket."""

    channel: Channel

    def log_in(self, session: IRCSession) -> None:
        """Wait until a session is logged in."""

    def log_refusal(self, error: ChatError) -> None:
        """Log that the client was refused."""


class Registration:
    """The registration of one connection.

    :ivar caps: the capabilities that the client has turned on.
    :ivar nick: the name in replies; ``*`` before there is one.
    """

    def __init__(self, door: Door, context: Context, connection: Applying) -> None:
        self.door = door
        self.context = context
        self.connection = connection
        self.caps = 0
        self.nick = "*"
        self.negotiation = negotiation.Negotiation(context, connection.channel)
        self._name = ""
        self._real_name: str | None = None
        self._batches = 0

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self.connection.write(data)

    def next_batch(self) -> str:
        """Return a reference for a batch."""
        self._batches += 1
        return str(self._batches)

    def stop(self) -> None:
        """Called when the registration, or the connection, has ended."""

    def take(self, line: Line) -> None:
        """Process a line."""
        reply = Reply(self)
        handler = self._COMMANDS.get(line.verb)
        if handler is None:
            reply.numeric("451", line.verb, "You have not registered")
        else:
            handler(self, reply, line.params)
            self._log_in_if_ready()

    def _cap(self, reply: Reply, params: list[str]) -> None:
        self.negotiation.take(self, reply, params)

    def _nick(self, reply: Reply, params: list[str]) -> None:
        name = params[0] if params else ""
        if not name:
            reply.numeric("431", "No nickname given")
            return
        try:
            self._name = check_user_name(name)
        except MalformedName as error:
            reply.refuse(error, name)

    def _user(self, reply: Reply, params: list[str]) -> None:
        if len(params) < 4:
            reply.numeric("461", "USER", "Not enough parameters")
            return
        self._real_name = params[3][:MAX_REAL_NAME].strip()

    def _ping(self, reply: Reply, params: list[str]) -> None:
        reply.add("PONG", *([*params[:1], ""][:1]))

    def _pong(self, reply: Reply, params: list[str]) -> None:
        pass

    def _quit(self, reply: Reply, params: list[str]) -> None:
        self.connection.quit(params[0] if params else "")

    # Login

    def _log_in_if_ready(self) -> None:
        if not self._name or self._real_name is None or self.negotiation.open:
            return
        session = IRCSession(
            self.door,
            self.context,
            self.connection,
            self.connection.host,
            self.caps,
            self.negotiation,
        )
        try:
            self.context.hub.logins.login(session, self._name, real_name=self._real_name)
        except ChatError as error:
            self.refused(error)
        else:
            self.connection.log_in(session)

    def refused(self, error: ChatError) -> None:
        """Called when the login is refused."""
        self.connection.log_refusal(error)
        name, self._name = self._name, ""
        reply = Reply(self)
        reply.refuse(error, name)
        if isinstance(error, Banned):
            why = f": {error.why}" if error.why else ""
            self.connection.bye(f"Banned by {error.by or 'the server'}{why}")
        elif isinstance(error, TooFast | Unavailable):
            self.connection.bye("Not now: try again later")
        elif isinstance(error, AuthenticationRequired) and not self.context.takes_guests:
            self.connection.bye("Only users with an account may log in")
        elif not isinstance(error, NameInUse | MalformedName | AuthenticationRequired):
            self.connection.bye("The login was refused")

    _COMMANDS: ClassVar[dict[str, Callable[[Registration, Reply, list[str]], None]]] = {
        "CAP": _cap,
        "NICK": _nick,
        "USER": _user,
        "PING": _ping,
        "PONG": _pong,
        "QUIT": _quit,
    }
