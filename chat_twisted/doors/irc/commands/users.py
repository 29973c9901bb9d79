"""Commands about the client's own user: NICK, AWAY and SETNAME."""

from __future__ import annotations

from chat_twisted.core import commands
from chat_twisted.core.errors import Banned, BannedFromRoom, HasAccount, Muted, TextTooLong
from chat_twisted.core.events import RealNameChanged
from chat_twisted.core.names import MAX_WHY
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession


async def _nick(session: IRCSession, reply: Reply, line: Line) -> None:
    name = line.params[0] if line.params else ""
    if not name:
        reply.numeric("431", "No nickname given")
        return
    time = int(session.context.hub.settled() * 1000)
    try:
        answer = await session.ask(commands.Rename(session.user, session.epoch, name, time), name)
    except HasAccount:
        reply.numeric("447", "Cannot change nickname: an account keeps its name")
    except Muted:
        reply.numeric("447", "Cannot change nickname: you are muted")
    except BannedFromRoom:
        reply.numeric(
            "447", "Cannot change nickname: you are banned from a channel that you are in"
        )
    except Banned:
        reply.numeric("432", name, "That name is banned")
    else:
        if answer.event is not None:
            session.answer(reply, answer.event)


async def _away(session: IRCSession, reply: Reply, line: Line) -> None:
    why = " ".join(line.params[0].splitlines()).strip()[:MAX_WHY] if line.params else ""
    if not why:
        await session.ask(commands.SetAway(session.user, session.epoch, None))
        reply.numeric("305", "You are no longer marked as being away")
        return
    try:
        await session.ask(commands.SetAway(session.user, session.epoch, why))
    except Muted:
        await session.ask(commands.SetAway(session.user, session.epoch, ""))
        reply.numeric("306", "You have been marked as being away, without the text: you are muted")
    else:
        reply.numeric("306", "You have been marked as being away")


async def _setname(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("461", "SETNAME", "Not enough parameters")
        return
    try:
        answer = await session.ask(
            commands.SetRealName(session.user, session.epoch, line.params[0])
        )
    except TextTooLong:
        reply.fail("SETNAME", "INVALID_REALNAME", text="It is too long, or has control characters")
    except Muted:
        reply.fail("SETNAME", "CANNOT_CHANGE_REALNAME", text="You are muted")
    else:
        unchanged = RealNameChanged(session.nick, session.me.real_name)
        session.answer(reply, answer.event or unchanged)


COMMANDS: dict[str, Handler] = {
    "AWAY": _away,
    "NICK": _nick,
    "SETNAME": _setname,
}
