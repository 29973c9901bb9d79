"""The welcome: everything that a client gets when it has logged in."""

from __future__ import annotations

from time import gmtime, strftime

from chat_twisted.doors.irc.commands import history, rooms, server
from chat_twisted.doors.irc.numerics import ALL, NETWORK, SERVER, VERSION, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import IRCSession


async def welcome(session: IRCSession) -> None:
    """Write the welcome, and join the channels that the user is in already."""
    reply, nick = Reply(session), session.nick
    reply.numeric("001", f"Welcome to {NETWORK}, {prefix(nick)}")
    reply.numeric("002", f"Your host is {SERVER}, running {VERSION}")
    started = strftime("%Y-%m-%d %H:%M UTC", gmtime(session.context.started))
    reply.numeric("003", f"This server was started {started}")
    reply.numeric("004", SERVER, VERSION, "Bo", "bimnopstv", "bov")
    server.isupport(reply)
    server.lusers(session, reply)
    server.motd(session, reply)
    channels = [ALL] if session.context.joins_all else []
    channels += [room.name for room in session.me.rooms.values()]
    await rooms.arrive(session, reply, channels)


def enter(session: IRCSession, channel: str) -> None:
    """Show that the user is in a channel, which another session of the user has joined."""
    session.start(rooms.enter(session, channel))


def show_marker(session: IRCSession, conversation: str) -> None:
    """Show a read marker that another session of the user has moved."""
    session.start(history.marker_moved(session, conversation))
