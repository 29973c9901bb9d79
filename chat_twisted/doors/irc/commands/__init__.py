"""The commands of registered clients.

Each module has a table of commands; here they are joined. A command is a coroutine that gets the
session, the reply and the line (``session.Handler``). This package must not know connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chat_twisted.doors.irc.capabilities import MULTILINE
from chat_twisted.doors.irc.commands import (
    accounts,
    help,
    history,
    lists,
    login,
    modes,
    monitor,
    multiline,
    rooms,
    sending,
    server,
    users,
    who,
)
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

COMMANDS: Mapping[str, Handler] = {
    **accounts.COMMANDS,
    **history.COMMANDS,
    **help.COMMANDS,
    **lists.COMMANDS,
    **login.COMMANDS,
    **modes.COMMANDS,
    **monitor.COMMANDS,
    **multiline.COMMANDS,
    **rooms.COMMANDS,
    **sending.COMMANDS,
    **server.COMMANDS,
    **users.COMMANDS,
    **who.COMMANDS,
}
"""All commands."""

QUICK: Mapping[str, Callable[[IRCSession, Line], bool]] = {
    "PONG": server.pong,
    "PRIVMSG": sending.say,
    "NOTICE": sending.say,
}
"""Shorter ways for the most frequent lines. They return False for lines that need the command."""


def handler_of(session: IRCSession, line: Line) -> Handler:
    """Return the command that processes a line."""
    if "batch" in line.tags and session.caps & MULTILINE:
        return multiline.collect
    return COMMANDS.get(line.verb, unknown)


async def unknown(session: IRCSession, reply: Reply, line: Line) -> None:
    """Answer a command that does not exist."""
    reply.numeric("421", line.verb, "Unknown command")
