"""Commands about users: NICK, AWAY, SETNAME, WHOIS and so on."""

from __future__ import annotations

from chat_twisted.core import commands
from chat_twisted.core.events import NameChanged
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import Handler, IRCSession


async def _nick(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params or not line.params[0]:
        reply.numeric("431", "No nickname given")
        return
    name, before = line.params[0], session.nick
    time = int(session.context.hub.settled() * 1000)
    answer = await session.ask(commands.Rename(session.user, session.epoch, name, time), name)
    if answer.event is not None:
        session.answer(reply, NameChanged(before, name))


async def _away(session: IRCSession, reply: Reply, line: Line) -> None:
    why = line.params[0] if line.params and line.params[0] else None
    await session.ask(commands.SetAway(session.user, session.epoch, why))
    if why is None:
        reply.numeric("305", "You are no longer marked as being away")
    else:
        reply.numeric("306", "You have been marked as being away")


COMMANDS: dict[str, Handler] = {
    "AWAY": _away,
    "NICK": _nick,
}
