"""Commands about the connection and the server: PING, QUIT, CAP, MOTD, LUSERS and others."""

from __future__ import annotations

from time import gmtime, strftime

from chat_twisted.core.commands import Disconnect
from chat_twisted.core.errors import OperatorRequired
from chat_twisted.core.sanctions import MAX_REASON
from chat_twisted.doors.irc.grammar import Line, one_line
from chat_twisted.doors.irc.numerics import ISUPPORT, NETWORK, SERVER, VERSION
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

ISUPPORT_TOKENS = 12
"""Number of tokens in one RPL_ISUPPORT."""


def pong(session: IRCSession, line: Line) -> bool:
    """Note which messages the client has: ``PONG :m42`` answers the PING behind message 42."""
    token = line.params[-1] if line.params else ""
    if token.startswith("m") and token[1:].isascii() and token[1:].isdigit() and len(token) < 21:
        session.confirm(int(token[1:]))
    return not line.tags


def isupport(reply: Reply) -> None:
    """Add the RPL_ISUPPORT lines."""
    tokens = [f"{name}={value}" if value else name for name, value in ISUPPORT.items()]
    for begin in range(0, len(tokens), ISUPPORT_TOKENS):
        page = tokens[begin : begin + ISUPPORT_TOKENS]
        reply.numeric("005", *page, "are supported by this server")


def lusers(session: IRCSession, reply: Reply) -> None:
    """Add the replies to LUSERS."""
    context = session.context
    count = context.hub.population()
    users = str(count.users)
    context.peak = max(context.peak, count.users)
    reply.numeric("251", f"There are {users} users and 0 invisible on 1 servers")
    if context.unregistered:
        reply.numeric("253", str(context.unregistered), "unknown connections")
    reply.numeric("254", str(count.rooms + 1), "channels formed")
    reply.numeric("255", f"I have {users} clients and 0 servers")
    for number, where in (("265", "local"), ("266", "global")):
        text = f"Current {where} users {users}, max {context.peak}"
        reply.numeric(number, users, str(context.peak), text)


def motd(session: IRCSession, reply: Reply) -> None:
    """Add the message of the day."""
    if not session.context.motd:
        reply.numeric("422", "There is no message of the day")
        return
    reply.numeric("375", f"- {SERVER} Message of the day -")
    for text in session.context.motd.splitlines():
        reply.numeric("372", f"- {text}")
    reply.numeric("376", "End of the message of the day")


async def _ping(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("409", "No origin given")
        return
    reply.add("PONG", SERVER, line.params[0])


async def _pong(session: IRCSession, reply: Reply, line: Line) -> None:
    """Give no answer, or ACK for the label."""


async def _quit(session: IRCSession, reply: Reply, line: Line) -> None:
    session.connection.quit(line.params[0] if line.params else "")


async def _cap(session: IRCSession, reply: Reply, line: Line) -> None:
    session.negotiation.take(session, reply, line.params, late=True)


async def _motd(session: IRCSession, reply: Reply, line: Line) -> None:
    motd(session, reply)


async def _lusers(session: IRCSession, reply: Reply, line: Line) -> None:
    lusers(session, reply)


async def _version(session: IRCSession, reply: Reply, line: Line) -> None:
    reply.numeric("351", VERSION, SERVER, f"of {NETWORK}")
    isupport(reply)


async def _time(session: IRCSession, reply: Reply, line: Line) -> None:
    now = session.context.hub.settled()
    text = strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(now))
    reply.numeric("391", SERVER, str(int(now)), "0", text)


async def _info(session: IRCSession, reply: Reply, line: Line) -> None:
    started = strftime("%Y-%m-%d %H:%M UTC", gmtime(session.context.started))
    reply.numeric("371", f"{VERSION}: a chat for people and bots")
    reply.numeric("371", "Users of IRC clients and of other clients are here in the same rooms.")
    reply.numeric("371", f"This server was started {started}.")
    reply.numeric("374", "End of INFO")


async def _admin(session: IRCSession, reply: Reply, line: Line) -> None:
    reply.numeric("423", SERVER, "No administrative info available")


async def _links(session: IRCSession, reply: Reply, line: Line) -> None:
    reply.numeric("365", "*", "End of LINKS list")


async def _stats(session: IRCSession, reply: Reply, line: Line) -> None:
    query = line.params[0][:1] if line.params else ""
    if query == "u":
        minutes, seconds = divmod(int(session.context.hub.settled()) - session.context.started, 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        reply.numeric("242", f"Server Up {days} days {hours}:{minutes:02}:{seconds:02}")
    reply.numeric("219", query or "*", "End of STATS report")


async def _kill(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("461", "KILL", "Not enough parameters")
        return
    whom = line.params[0]
    reason = one_line(line.params[1], MAX_REASON) if len(line.params) > 1 else ""
    try:
        await session.ask(Disconnect(session.user, session.epoch, whom, reason), whom)
    except OperatorRequired as error:
        reply.refuse(error)


COMMANDS: dict[str, Handler] = {
    "ADMIN": _admin,
    "CAP": _cap,
    "INFO": _info,
    "KILL": _kill,
    "LINKS": _links,
    "LUSERS": _lusers,
    "MOTD": _motd,
    "PING": _ping,
    "PONG": _pong,
    "QUIT": _quit,
    "STATS": _stats,
    "TIME": _time,
    "VERSION": _version,
}
