"""Commands by which a client that is registered already logs in to an account: AUTHENTICATE and
OPER.

The connection continues with a new session of the account's user. The client is told that its name
changes, and which channels it leaves and joins; for others, one user goes and another one comes.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chat_twisted.auth.gate import Credentials, Password
from chat_twisted.core.errors import AuthenticationFailed, ChatError, NoSession
from chat_twisted.core.limits import network
from chat_twisted.core.message import fold
from chat_twisted.doors import Nowhere
from chat_twisted.doors.irc.announcing import EVERYBODY
from chat_twisted.doors.irc.commands import rooms
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.sasl import Exchange, describe_failure
from chat_twisted.doors.irc.session import IRCSession

REASON = "Logged in to an account"
"""The reason of the QUIT that others see."""


class _Waiting(Nowhere):
    """Stands for the connection until a new session is logged in.

    :ivar answer: fires then; fails with a ``ChatError`` if the login is refused.
    """

    def __init__(self) -> None:
        self.answer: Deferred[None] = Deferred()

    def registered(self, session: object) -> None:
        """Called when the session is logged in."""
        self.answer.callback(None)

    def not_registered(self, error: ChatError) -> None:
        """Called when the login is refused."""
        self.answer.errback(error)


async def _log_in(session: IRCSession, credentials: Credentials) -> IRCSession:
    """Verify credentials, and log in to the account.

    :return: a new session; the same one if it is of that account already.
    :raises ChatError: if the login is refused, or the session ends meanwhile.
    """
    context, host = session.context, session.host
    proof = await context.gate.login(credentials, host and network(host))
    me = session.me
    if me.account is not None and me.key == fold(credentials.name):
        return session
    waiting = _Waiting()
    new = IRCSession(session.door, context, waiting, host, session.caps, session.negotiation)
    context.hub.logins.login(
        new,
        credentials.name,
        proof=proof,
        real_name=me.real_name or None,
        login_name=me.login_name or None,
    )
    await waiting.answer
    if session.ended:
        new.end("", for_good=False)
        raise NoSession
    return new


def _replace(session: IRCSession, new: IRCSession, reply: Reply) -> None:
    """Continue a connection with another session."""
    reply.end()
    if new is session:
        return
    connection, before, name = session.connection, session.nick, new.nick
    sees_all = EVERYBODY in session.channels
    if sees_all or any(room.key in session.channels for room in new.me.rooms.values()):
        # The client may know another user of that name, who is nobody else from now on.
        reply.add("QUIT", REASON, source=prefix(name))
    reply.add("NICK", name, source=prefix(before))
    for room in session.me.rooms.values():
        if room.key in session.channels:
            reply.add("PART", room.name, source=prefix(name))
    new.channels = {EVERYBODY} if sees_all else set()
    new.monitored = session.monitored
    session.end(REASON, for_good=True)
    new.connection = connection
    connection.replace(new)
    new.hold()
    new.start(_continue(new), holding=True)


async def _continue(session: IRCSession) -> None:
    """Join the rooms of an account's user."""
    await rooms.arrive(session, Reply(session), [room.name for room in session.me.rooms.values()])


async def _authenticate(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params or not line.params[0]:
        reply.numeric("461", "AUTHENTICATE", "Not enough parameters")
        return
    context = session.context
    if session.exchange is None:
        session.exchange = Exchange(
            session.connection.channel,
            context.gate,
            lambda: context.hub.usage.checked_asker(session),
        )
    try:
        credentials = session.exchange.take(reply, line.params[0], "")
        if credentials is None:
            return
        new = await _log_in(session, credentials)
    except NoSession:
        raise
    except ChatError as error:
        session.count_refusal(error)
        reply.numeric("904", describe_failure(error))
        return
    account = new.nick
    reply.numeric("900", prefix(session.nick), account, f"You are now logged in as {account}")
    reply.numeric("903", "SASL authentication successful")
    _replace(session, new, reply)


async def _oper(session: IRCSession, reply: Reply, line: Line) -> None:
    if session.me.operator:
        reply.numeric("381", "You are an operator by your account")
        return
    if len(line.params) < 2:
        reply.numeric("461", "OPER", "Not enough parameters")
        return
    context, (name, password) = session.context, line.params[:2]
    owner = context.hub.state.names.get(fold(name))
    if owner is None or not owner.operator:
        reply.numeric("491", "Not the account of an operator")
        return
    if not session.connection.channel.private:
        reply.numeric("491", "Passwords only on an encrypted connection")
        return
    asker = context.hub.usage.checked_asker(session)
    try:
        new = await _log_in(session, Password(name, password, asker))
    except AuthenticationFailed:
        reply.numeric("464", "Password incorrect")
        return
    reply.numeric("381", "You are an operator by your account")
    reply.add("MODE", session.nick, "+o")
    _replace(session, new, reply)


COMMANDS: dict[str, Handler] = {
    "AUTHENTICATE": _authenticate,
    "OPER": _oper,
}
