"""Registration: everything before a client has a session (modern.ircdocs.horse, Connection
Registration).

A client gives its name with NICK and USER, may negotiate capabilities with CAP and authenticate;
then it logs in. If the name is refused, it may give another one. This module must not know how
connections are read, or what a session can do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Protocol

from twisted.internet.defer import Deferred

from chat_twisted.auth.gate import Credentials, Password
from chat_twisted.core.errors import (
    AuthenticationRequired,
    Banned,
    ChatError,
    EncryptionRequired,
    MalformedName,
    NameInUse,
    TooFast,
    Unavailable,
)
from chat_twisted.core.limits import network
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.sessions import Door
from chat_twisted.core.turns import Asker
from chat_twisted.doors import Channel
from chat_twisted.doors.irc import negotiation
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Connection
from chat_twisted.doors.irc.sasl import Exchange, describe_failure
from chat_twisted.doors.irc.session import IRCSession
from chat_twisted.logs import Logger

MAX_LOGIN_NAME = 32
"""Maximum characters of the name on the user's own machine; the rest of it is cut."""

_OTHER = re.compile("[^A-Za-z0-9._-]+")

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

    _log = Logger()

    def __init__(self, door: Door, context: Context, connection: Applying) -> None:
        self.door = door
        self.context = context
        self.connection = connection
        self.caps = 0
        self.nick = "*"
        self.negotiation = negotiation.Negotiation(context, connection.channel)
        self._exchange = Exchange(connection.channel, context.gate, self._asker)
        self._applicant: IRCSession | None = None  # who is charged for verifying passwords
        self._name = ""
        self._has_named = False  # whether NICK was received; the name may not be possible
        self._account = ""  # the account that the client has proved to own, and the proof
        self._proof = ""
        self._password = ""  # of PASS
        self._is_waiting = False  # for the gate, or the login
        self._is_over = False
        self._login_name = ""
        self._real_name: str | None = None
        self._batches = 0

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self.connection.write(data)

    def next_batch(self) -> str:
        """Return a reference for a batch."""
        self._batches += 1
        return str(self._batches)

    def count_refusal(self, error: ChatError) -> None:
        """Count a refusal, for the operator."""
        self.context.refused.add(error)

    def stop(self) -> None:
        """Called when the registration, or the connection, has ended."""
        self._is_over = True

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
        self._has_named = True
        try:
            self._name = check_user_name(name)
        except MalformedName as error:
            reply.refuse(error, name)

    def _user(self, reply: Reply, params: list[str]) -> None:
        if len(params) < 4 or not params[3]:
            reply.numeric("461", "USER", "Not enough parameters")
            return
        self._login_name = _OTHER.sub("", params[0])[:MAX_LOGIN_NAME]
        self._real_name = params[3][:MAX_REAL_NAME].strip()

    def _ping(self, reply: Reply, params: list[str]) -> None:
        reply.add("PONG", *([*params[:1], ""][:1]))

    def _pong(self, reply: Reply, params: list[str]) -> None:
        pass

    def _quit(self, reply: Reply, params: list[str]) -> None:
        self.connection.quit(params[0] if params else "")

    # Accounts

    def _pass(self, reply: Reply, params: list[str]) -> None:
        if not params or not params[0]:
            reply.numeric("461", "PASS", "Not enough parameters")
        else:
            self._password = params[0]

    def _authenticate(self, reply: Reply, params: list[str]) -> None:
        if not params or not params[0]:
            reply.numeric("461", "AUTHENTICATE", "Not enough parameters")
        elif self._proof:
            reply.numeric("907", "You have already authenticated")
        else:
            try:
                credentials = self._exchange.take(reply, params[0], self._name)
            except ChatError as error:
                self._not_authenticated(error)
            else:
                if credentials is not None:
                    self._verify(credentials, self._authenticated, self._not_authenticated)

    def _authenticated(self) -> None:
        reply = Reply(self)
        logged_in = f"You are now logged in as {self._account}"
        reply.numeric("900", prefix(self._account), self._account, logged_in)
        reply.numeric("903", "SASL authentication successful")

    def _not_authenticated(self, error: ChatError) -> None:
        self.count_refusal(error)
        Reply(self).numeric("904", describe_failure(error))

    def _wrong_password(self, error: ChatError) -> None:
        Reply(self).refuse(error)
        self.connection.log_refusal(error)
        self.connection.bye("The password of PASS was refused")

    def _register(self, reply: Reply, params: list[str]) -> None:
        account = params[0] if params else "*"
        text = "Log in as a guest first"
        reply.fail("REGISTER", "COMPLETE_CONNECTION_REQUIRED", account, text=text)

    def _asker(self) -> Asker:
        if self._applicant is None:
            self._applicant = self._new_session()
        return self.context.hub.usage.checked_asker(self._applicant)

    def _verify(
        self,
        credentials: Credentials,
        verified: Callable[[], None],
        refused: Callable[[ChatError], None],
    ) -> None:
        """Verify credentials, and call one of the two; no line is processed meanwhile."""
        self._is_waiting = True
        self.connection.hold()
        Deferred.fromCoroutine(self._ask_gate(credentials, verified, refused))

    async def _ask_gate(
        self,
        credentials: Credentials,
        verified: Callable[[], None],
        refused: Callable[[ChatError], None],
    ) -> None:
        host = self.connection.host
        error: ChatError | None = None
        try:
            proof = await self.context.gate.login(credentials, host and network(host))
        except ChatError as problem:
            error = problem
        except Exception:  # noqa: BLE001  nobody awaits this coroutine
            self._log.failure("while logging in")
            self.connection.abort("the login has failed")
        self._is_waiting = False
        if self._is_over:
            return
        if error is None:
            user = self.context.hub.state.names.get(fold(credentials.name))
            self._account = credentials.name if user is None else user.name
            self._proof = proof
            verified()
        else:
            refused(error)
        if not self._is_over:  # the connection may be closed now
            self.connection.go_on()
            self._log_in_if_ready()

    def _credentials_of_pass(self) -> Password:
        """Return the credentials in PASS: ``account:password``, or the password of the name.

        :raises ChatError: if others may read the connection, or it has verified too much.
        """
        password, self._password = self._password, ""
        if not self.connection.channel.private:
            raise EncryptionRequired("a password")
        account, _, rest = password.partition(":")
        owner = self.context.hub.state.names.get(fold(account))
        if rest and owner is not None and owner.account is not None:
            return Password(account, rest, self._asker())
        return Password(self._name, password, self._asker())  # which may contain a colon

    # Login

    def _new_session(self) -> IRCSession:
        return IRCSession(
            self.door,
            self.context,
            self.connection,
            self.connection.host,
            self.caps,
            self.negotiation,
        )

    def _log_in_if_ready(self) -> None:
        if not (self._name or (self._account and self._has_named)) or self._real_name is None:
            return
        if self.negotiation.open or self._is_waiting or self._is_over:
            return
        if self._exchange.is_open:
            self._exchange.abort(Reply(self))
        if self._password and not self._proof:
            try:
                credentials = self._credentials_of_pass()
            except ChatError as error:
                self._wrong_password(error)
            else:
                self._verify(credentials, lambda: None, self._wrong_password)
            return
        session = self._new_session()
        name, proof = self._account or self._name, self._proof
        try:
            self.context.hub.logins.login(
                session,
                name,
                proof=proof,
                real_name=self._real_name,
                login_name=self._login_name or self._name,
            )
        except ChatError as error:
            self.refused(error)
        else:
            self._is_waiting = True
            self.connection.log_in(session)

    def refused(self, error: ChatError) -> None:
        """Called when the login is refused."""
        self._is_waiting = False
        self.connection.log_refusal(error)
        name, self._name = self._name, ""
        self._account = self._proof = ""
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
        "AUTHENTICATE": _authenticate,
        "CAP": _cap,
        "NICK": _nick,
        "PASS": _pass,
        "USER": _user,
        "PING": _ping,
        "PONG": _pong,
        "QUIT": _quit,
        "REGISTER": _register,
    }
