"""MONITOR: a client is told when users of certain names come and go (ircv3.net, monitor).

``announcing`` has the notifications.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from chat_twisted.core.message import USER_NAME, fold
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import MAX_MONITORED, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

_NAME = re.compile(rf"{USER_NAME}\Z")


async def _monitor(session: IRCSession, reply: Reply, line: Line) -> None:
    subcommand = line.params[0].upper() if line.params else ""
    names = [name for name in line.params[1].split(",") if name] if len(line.params) > 1 else []
    if subcommand == "+" and names:
        _add(session, reply, names)
    elif subcommand == "-" and names:
        for name in names:
            session.monitored.pop(fold(name), None)
    elif subcommand == "C":
        session.monitored.clear()
    elif subcommand == "L":
        reply.words("732", words=session.monitored.values(), between=",")
        reply.numeric("733", "End of MONITOR list")
    elif subcommand == "S":
        _show(session, reply, session.monitored.values())
    else:
        reply.numeric("461", "MONITOR", "Not enough parameters")


def _add(session: IRCSession, reply: Reply, names: list[str]) -> None:
    """Monitor names, as many as there is room for. A mask is offline for ever."""
    added: list[str] = []
    for position, name in enumerate(names):
        key = fold(name)
        if key not in session.monitored and _NAME.match(name):
            if len(session.monitored) >= MAX_MONITORED:
                rest = ",".join(names[position:])
                reply.numeric("734", str(MAX_MONITORED), rest, "The MONITOR list is full")
                break
            session.monitored[key] = name
        added.append(name)
    _show(session, reply, added)


def _show(session: IRCSession, reply: Reply, names: Iterable[str]) -> None:
    """Add which names are those of present users."""
    online: list[str] = []
    offline: list[str] = []
    for name in names:
        user = session.context.hub.state.names.get(fold(name))
        if user is not None and user.present:
            online.append(prefix(user.name))
        else:
            offline.append(name)
    reply.words("730", words=online, between=",")
    reply.words("731", words=offline, between=",")


COMMANDS: dict[str, Handler] = {"MONITOR": _monitor}
