"""Commands about the connection and the server: PING, QUIT, CAP, MOTD, LUSERS and others."""

from __future__ import annotations

from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import ISUPPORT, SERVER
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import Handler, IRCSession

ISUPPORT_TOKENS = 12
"""Number of tokens in one RPL_ISUPPORT."""


def pong(session: IRCSession, line: Line) -> bool:
    """Note which messages the client has: ``PONG :m42`` answers the PING behind message 42."""
    token = line.params[-1] if line.params else ""
    if token.startswith("m") and token[1:].isascii() and token[1:].isdigit() and len(token) < 21:
        session.confirm(int(token[1:]))
    return True


def isupport(reply: Reply) -> None:
    """Add the RPL_ISUPPORT lines."""
    tokens = [f"{name}={value}" if value else name for name, value in ISUPPORT.items()]
    for begin in range(0, len(tokens), ISUPPORT_TOKENS):
        page = tokens[begin : begin + ISUPPORT_TOKENS]
        reply.numeric("005", *page, "are supported by this server")


def lusers(session: IRCSession, reply: Reply) -> None:
    """Add the replies to LUSERS."""
    count = session.context.hub.population()
    reply.numeric("251", f"There are {count.users} users and 0 invisible on 1 servers")
    reply.numeric("254", str(count.rooms + 1), "channels formed")
    reply.numeric("255", f"I have {count.users} clients and 0 servers")
    reply.numeric("265", str(count.users), str(count.users), f"Current local users {count.users}")
    reply.numeric("266", str(count.users), str(count.users), f"Current global users {count.users}")


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
        reply.numeric("461", "PING", "Not enough parameters")
        return
    reply.add("PONG", SERVER, line.params[0])


async def _quit(session: IRCSession, reply: Reply, line: Line) -> None:
    session.connection.quit(line.params[0] if line.params else "")


async def _cap(session: IRCSession, reply: Reply, line: Line) -> None:
    session.negotiation.take(session, reply, line.params, late=True)


async def _motd(session: IRCSession, reply: Reply, line: Line) -> None:
    motd(session, reply)


async def _lusers(session: IRCSession, reply: Reply, line: Line) -> None:
    lusers(session, reply)


COMMANDS: dict[str, Handler] = {
    "CAP": _cap,
    "LUSERS": _lusers,
    "MOTD": _motd,
    "PING": _ping,
    "QUIT": _quit,
}
