"""Commands about channels: JOIN, PART, NAMES, TOPIC, KICK and INVITE.

A room is a channel; its members are those who are present. ``&ALL`` is the channel of all users:
PART hides it for one connection.
"""

from __future__ import annotations

from chat_twisted.core import commands
from chat_twisted.core.commands import NONE, new_id
from chat_twisted.core.entries import InRoom
from chat_twisted.core.errors import ChatError, NoSuchRoom
from chat_twisted.core.message import fold
from chat_twisted.core.model import Room, User
from chat_twisted.doors.irc.announcing import EVERYBODY, RANK_SIGNS, join_line
from chat_twisted.doors.irc.capabilities import NO_IMPLICIT_NAMES, USERHOST_IN_NAMES
from chat_twisted.doors.irc.commands.history import show_marker
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import ALL, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import Handler, IRCSession

NAMES_BYTES = 400
"""Maximum bytes of the names in one RPL_NAMREPLY."""


def is_all(channel: str) -> bool:
    """Return whether a channel is ``&ALL``."""
    return fold(channel) == EVERYBODY


def show_join(session: IRCSession, reply: Reply, channel: str) -> None:
    """Add that the session's user has joined a channel, with its topic."""
    line = join_line(channel, session.nick, session.me, session.caps)
    reply.add(line.verb, *line.params, source=line.source)
    session.channels.add(fold(channel))
    if not is_all(channel):
        room = session.context.hub.queries.room(session, channel)
        if room.topic:
            topic(reply, room)


def topic(reply: Reply, room: Room) -> None:
    """Add the topic of a room, and who has set it when."""
    reply.numeric("332", room.name, room.topic)
    by = prefix(room.topic_author) if room.topic_author else "*"
    reply.numeric("333", room.name, by, str(room.topic_time // 1000))


async def show_members(session: IRCSession, reply: Reply, channel: str) -> None:
    """Add what follows the JOIN of a channel: its read marker and its members, as far as the client
    wants them.
    """
    await show_marker(session, reply, channel)
    if not session.caps & NO_IMPLICIT_NAMES:
        await names(session, reply, channel)


async def names(session: IRCSession, reply: Reply, channel: str) -> None:
    """Add the present members of a channel."""
    hub = session.context.hub
    room = None if is_all(channel) else hub.queries.room(session, channel)
    full = bool(session.caps & USERHOST_IN_NAMES)
    sign = "=" if room is None or not room.private else "@"

    def show(page: list[User]) -> None:
        words: list[str] = []
        size = 0
        for user in page:
            if not user.present:
                continue
            rank = NONE if room is None else room.members[user.id].rank
            word = RANK_SIGNS[rank] + (prefix(user.name) if full else user.name)
            if words and size + len(word) > NAMES_BYTES:
                reply.numeric("353", sign, channel, " ".join(words))
                words, size = [], 0
            words.append(word)
            size += len(word) + 1
        if words:
            reply.numeric("353", sign, channel, " ".join(words))

    if room is None:
        await session.in_pages(hub.who, show)
    else:
        members = hub.queries.members
        await session.in_pages(lambda after: members(session, channel, after), show)
    reply.numeric("366", channel, "End of NAMES list")


async def enter(session: IRCSession, channel: str) -> None:
    """Show that the user is in a channel, which another session of the user has joined."""
    reply = Reply(session)
    show_join(session, reply, channel)
    await show_members(session, reply, channel)


async def _join(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("461", "JOIN", "Not enough parameters")
    elif line.params[0] == "0":
        for channel in [room.name for room in session.me.rooms.values()]:
            await _part_one(session, reply, channel, "")
    else:
        for channel in dict.fromkeys(line.params[0].split(",")):
            try:
                await _join_one(session, reply, channel)
            except ChatError as error:
                reply.refuse(error, channel)


async def _join_one(session: IRCSession, reply: Reply, channel: str) -> None:
    if is_all(channel):
        if EVERYBODY in session.channels:
            return
        channel = ALL
    else:
        command = commands.Join(session.user, session.epoch, channel, new_id())
        answer = await session.ask(command, channel)
        assert isinstance(answer.result, InRoom)
        room = session.context.hub.state.rooms.get(answer.result.room)
        if room is None:  # it has ended meanwhile
            raise NoSuchRoom
        channel = room.name
        if fold(channel) in session.channels:
            return
    show_join(session, reply, channel)
    await show_members(session, reply, channel)


async def _part(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("461", "PART", "Not enough parameters")
        return
    reason = line.params[1] if len(line.params) > 1 else ""
    for channel in dict.fromkeys(line.params[0].split(",")):
        try:
            await _part_one(session, reply, channel, reason)
        except ChatError as error:
            reply.refuse(error, channel)


async def _part_one(session: IRCSession, reply: Reply, channel: str, reason: str) -> None:
    if is_all(channel):
        if EVERYBODY not in session.channels:
            reply.numeric("442", channel, "You're not on that channel")
            return
        session.channels.discard(EVERYBODY)
        reply.add("PART", ALL, source=prefix(session.nick))
        return
    command = commands.Part(session.user, session.epoch, channel, reason)
    answer = await session.ask(command, channel)
    session.channels.discard(fold(channel))
    assert answer.event is not None
    session.answer(reply, answer.event)


async def _names(session: IRCSession, reply: Reply, line: Line) -> None:
    channel = line.params[0].partition(",")[0] if line.params else ALL
    try:
        await names(session, reply, channel)
    except NoSuchRoom:
        reply.numeric("366", channel, "End of NAMES list")


COMMANDS: dict[str, Handler] = {
    "JOIN": _join,
    "NAMES": _names,
    "PART": _part,
}
