"""Commands about accounts: REGISTER, VERIFY; and those that belong to the registration of the
connection, which are too late.
"""

from __future__ import annotations

from functools import partial

from chat_twisted.core import commands
from chat_twisted.core.errors import HasAccount, NotPermitted, TooFast, Unavailable
from chat_twisted.core.message import fold
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession


async def _register(session: IRCSession, reply: Reply, line: Line) -> None:
    if len(line.params) < 3:
        reply.numeric("461", "REGISTER", "Not enough parameters")
        return
    name, _, password = line.params[:3]
    nick = session.nick
    if name not in ("*", "") and fold(name) != fold(nick):
        text = "An account has the name of its user: change your name first"
        reply.fail("REGISTER", "ACCOUNT_NAME_MUST_BE_NICK", name, text=text)
        return
    try:
        await _make(session, nick, password)
    except HasAccount:
        reply.fail("REGISTER", "ALREADY_AUTHENTICATED", nick, text="You have an account")
    except (TooFast, Unavailable):
        text = "Not now: try again later"
        reply.fail("REGISTER", "TEMPORARILY_UNAVAILABLE", nick, text=text)
    except NotPermitted as error:
        reply.fail("REGISTER", "UNACCEPTABLE_PASSWORD", nick, text=str(error))
    else:
        reply.add("REGISTER", "SUCCESS", nick, "Your name is an account now")
        reply.numeric("900", prefix(nick), nick, f"You are now logged in as {nick}")


async def _make(session: IRCSession, nick: str, password: str) -> None:
    """Make an account for the user.

    :raises ChatError: if it is refused.
    """
    context = session.context
    if not session.connection.channel.private:
        raise NotPermitted("Passwords only on an encrypted connection")
    time = int(context.hub.settled() * 1000)
    making = commands.MakeAccount(session.user, session.epoch, "", "", time=time)
    hashing = partial(context.gate.passwords.hash, password)
    await session.answer_to(context.hub.propose_hashed(session, making, hashing, nick, None))


async def _verify(session: IRCSession, reply: Reply, line: Line) -> None:
    account = line.params[0] if line.params else "*"
    reply.fail("VERIFY", "INVALID_CODE", account, text="Accounts need no verification here")


async def _too_late(session: IRCSession, reply: Reply, line: Line) -> None:
    reply.numeric("462", "You may not reregister: connect again to log in")


COMMANDS: dict[str, Handler] = {
    "PASS": _too_late,
    "REGISTER": _register,
    "USER": _too_late,
    "VERIFY": _verify,
}
