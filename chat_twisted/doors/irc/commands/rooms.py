"""Commands about channels: JOIN, PART, NAMES, TOPIC, KICK and INVITE.

A room is a channel; its members are those who are present. ``&ALL`` is the channel of all users:
PART hides it for one connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from chat_twisted.core import commands
from chat_twisted.core.commands import NONE, new_id
from chat_twisted.core.entries import InRoom
from chat_twisted.core.errors import (
    AlreadyThere,
    BannedFromRoom,
    ChatError,
    Muted,
    NoSession,
    NoSuchRoom,
    NotThere,
    RoomIsModerated,
    RoomOperatorRequired,
    UnableToSend,
    Unavailable,
)
from chat_twisted.core.events import Invitation, MemberLeft
from chat_twisted.core.message import check_room_name, fold
from chat_twisted.core.model import Room, User
from chat_twisted.core.sanctions import MAX_REASON
from chat_twisted.doors.irc.announcing import (
    EVERYBODY,
    RANK_SIGNS,
    join_line,
    with_account,
)
from chat_twisted.doors.irc.capabilities import (
    NO_IMPLICIT_NAMES,
    READ_MARKER,
    USERHOST_IN_NAMES,
)
from chat_twisted.doors.irc.commands.history import show_marker
from chat_twisted.doors.irc.grammar import Line, one_line
from chat_twisted.doors.irc.numerics import ALL, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

NAMES_BYTES = 350
"""Maximum bytes of the names in one RPL_NAMREPLY."""

ALL_TOPIC = "Everybody on this server"
"""The topic of ``&ALL``."""

NOT_A_CHANNEL = "Not a channel here: # with letters, digits, - and _, 32 at most"

UNHEARD = (BannedFromRoom, Muted, RoomIsModerated)
"""The refusals of a user who may not give a reason, because others would read it."""


def is_all(channel: str) -> bool:
    """Return whether a channel is ``&ALL``."""
    return fold(channel) == EVERYBODY


def is_room_name(channel: str) -> bool:
    """Return whether a room may have this name."""
    try:
        check_room_name(channel)
    except NoSuchRoom:
        return False
    return True


def need_more(reply: Reply, line: Line, count: int) -> bool:
    """Return whether a command has too few parameters; then add the numeric for that."""
    if len(line.params) >= count and (not count or line.params[0]):
        return False
    reply.numeric("461", line.verb, "Not enough parameters")
    return True


def parts(words: str) -> list[str]:
    """Return the parts of a parameter that lists several things, each once."""
    return [word for word in dict.fromkeys(words.split(",")) if word]


# What a client sees of a channel


def show_join(session: IRCSession, reply: Reply, channel: str) -> None:
    """Add that the session's user has joined a channel, with its topic."""
    state = session.context.hub.state
    joined = join_line(channel, session.nick, session.me, session.caps)
    line = with_account(state, joined, session.caps)
    reply.add(line.verb, *line.params, source=line.source, tags=line.tags)
    session.channels.add(fold(channel))
    room = state.room_names.get(fold(channel))
    if room is not None and room.topic:
        show_topic(reply, room)


def show_topic(reply: Reply, room: Room) -> None:
    """Add the topic of a room, and who has set it when."""
    reply.numeric("332", room.name, room.topic)
    by = prefix(room.topic_author) if room.topic_author else "*"
    reply.numeric("333", room.name, by, str(room.topic_time // 1000))


async def arrive(session: IRCSession, reply: Reply, channels: Sequence[str]) -> None:
    """Show the channels in which the user is at the login, and start to deliver messages: they come
    after the JOIN of their channels, and before anything newer.
    """
    for channel in channels:
        show_join(session, reply, channel)
    session.arrive()
    for channel in channels:
        await show_members(session, reply, channel)


async def show_members(session: IRCSession, reply: Reply, channel: str) -> None:
    """Add what follows the JOIN of a channel: its read marker and its members, as far as the client
    wants them.
    """
    wants_names = not session.caps & NO_IMPLICIT_NAMES
    if wants_names or session.caps & READ_MARKER:
        reply.begin_labeled()
    await show_marker(session, reply, channel)
    if wants_names:
        with suppress(Unavailable):  # the client has joined all the same
            await show_names(session, reply, channel)
        end_names(reply, channel)


async def show_names(session: IRCSession, reply: Reply, channel: str) -> None:
    """Add the present members of a channel; none if the user may not know of it."""
    queries = session.context.hub.queries
    full = bool(session.caps & USERHOST_IN_NAMES)

    def show(page: list[User]) -> None:
        room = None if is_all(channel) else queries.room(session, channel)
        before = ("@" if room is not None and room.hidden else "=", channel)
        words: list[str] = []
        size = 0
        for user in page:
            if not user.present:
                continue
            rank = NONE if room is None else room.members[user.id].rank
            word = RANK_SIGNS[rank] + (prefix(user.name) if full else user.name)
            if words and size + len(word) > NAMES_BYTES:
                reply.numeric("353", *before, " ".join(words))
                words, size = [], 0
            words.append(word)
            size += len(word) + 1
        if words:
            reply.numeric("353", *before, " ".join(words))

    if is_all(channel):
        await session.in_pages(session.context.hub.who, show)
        return
    with suppress(NoSuchRoom):  # it does not exist, or has ended meanwhile
        await session.in_pages(lambda after: queries.members(session, channel, after), show)


def end_names(reply: Reply, channels: str) -> None:
    """Add the end of the members."""
    reply.numeric("366", channels, "End of NAMES list")


async def enter(session: IRCSession, channel: str) -> None:
    """Show that the user is in a channel, which another session of the user has joined."""
    reply = Reply(session)
    show_join(session, reply, channel)
    await show_members(session, reply, channel)


async def _names(session: IRCSession, reply: Reply, line: Line) -> None:
    channels = line.params[0] if line.params and line.params[0] else "*"
    for channel in parts(channels):
        await show_names(session, reply, channel)
    end_names(reply, channels)


# Joining and leaving


async def _join(session: IRCSession, reply: Reply, line: Line) -> None:
    if need_more(reply, line, 1):
        return
    if line.params[0] == "0":
        rooms = [room.name for room in session.me.rooms.values()]
        every = [ALL] if EVERYBODY in session.channels else []
        await _each(session, reply, [*rooms, *every], lambda room: _part(session, reply, room, ""))
    else:
        channels = parts(line.params[0])
        await _each(session, reply, channels, lambda channel: _join_one(session, reply, channel))


async def _join_one(session: IRCSession, reply: Reply, channel: str) -> None:
    if is_all(channel):
        channel = ALL
    elif not is_room_name(channel):
        reply.numeric("403", channel, NOT_A_CHANNEL)
        return
    else:
        command = commands.Join(session.user, session.epoch, channel, new_id())
        answer = await session.ask(command, channel)
        assert isinstance(answer.result, InRoom)
        room = session.context.hub.state.rooms.get(answer.result.room)
        channel = channel if room is None else room.name  # None: it has ended meanwhile
    if fold(channel) in session.channels:
        return
    show_join(session, reply, channel)
    await show_members(session, reply, channel)


async def _leave(session: IRCSession, reply: Reply, line: Line) -> None:
    if need_more(reply, line, 1):
        return
    reason = one_line(line.params[1], MAX_REASON) if len(line.params) > 1 else ""
    channels = parts(line.params[0])
    await _each(session, reply, channels, lambda channel: _part(session, reply, channel, reason))


async def _part(session: IRCSession, reply: Reply, channel: str, reason: str) -> None:
    if is_all(channel):
        if EVERYBODY not in session.channels:
            reply.numeric("442", channel, "You're not on that channel")
            return
        session.channels.discard(EVERYBODY)
        reply.add("PART", ALL, source=prefix(session.nick))
        return
    command = commands.Part(session.user, session.epoch, channel, reason)
    try:
        answer = await session.ask(command, channel)
    except UNHEARD:  # clients give a reason that their users did not write
        answer = await session.ask(command._replace(reason=""), channel)
    session.channels.discard(fold(channel))
    assert answer.event is not None
    session.answer(reply, answer.event)


async def _each(
    session: IRCSession,
    reply: Reply,
    channels: list[str],
    do: Callable[[str], Awaitable[None]],
) -> None:
    """Call ``do`` for each of several channels; each counts as a command."""
    for number, channel in enumerate(channels):
        if number:
            await session.spend()
        try:
            await do(channel)
        except NoSession:
            raise
        except ChatError as error:
            reply.refuse(error, channel)


# Commands about other members


def refuse_member(
    session: IRCSession, reply: Reply, error: ChatError, channel: str, name: str
) -> None:
    """Add the numeric for an error of a command about a user in a channel."""
    exists = fold(name) in session.context.hub.state.names
    if isinstance(error, UnableToSend) or (isinstance(error, NotThere) and not exists):
        session.count_refusal(error)
        reply.numeric("401", name, "No such nick")
    elif isinstance(error, NotThere | AlreadyThere):
        reply.refuse(error, name, channel)
    else:
        reply.refuse(error, channel)


async def _kick(session: IRCSession, reply: Reply, line: Line) -> None:
    if need_more(reply, line, 2):
        return
    channels, names = line.params[0].split(","), line.params[1].split(",")
    if len(channels) == 1:
        names = parts(line.params[1])
        channels *= len(names)
    if len(channels) != len(names):
        reply.numeric("461", line.verb, "One channel, or as many channels as names")
        return
    reason = one_line(line.params[2], MAX_REASON) if len(line.params) > 2 else ""
    for number, (channel, name) in enumerate(dict.fromkeys(zip(channels, names, strict=True))):
        if number:
            await session.spend()
        try:
            await _kick_one(session, reply, channel, name, reason)
        except NoSession:
            raise
        except ChatError as error:
            refuse_member(session, reply, error, channel, name)


async def _kick_one(
    session: IRCSession, reply: Reply, channel: str, name: str, reason: str
) -> None:
    if is_all(channel):
        raise RoomOperatorRequired
    if fold(name) == fold(session.nick):
        await _part(session, reply, channel, reason)
        return
    command = commands.RemoveMember(session.user, session.epoch, channel, name, reason)
    event = (await session.ask(command, channel)).event
    assert isinstance(event, MemberLeft)
    # Even if the member was absent, so that others see nothing.
    shown = event.reason or event.by
    reply.add("KICK", event.room, event.user, shown, source=prefix(event.by))


async def _invite(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        for room in session.me.invitations.values():
            reply.numeric("336", room.name)
        reply.numeric("337", "End of INVITE list")
        return
    if need_more(reply, line, 2):
        return
    name, channel = line.params[:2]
    try:
        if is_all(channel):
            raise AlreadyThere if fold(name) in session.context.hub.state.names else UnableToSend
        command = commands.Invite(session.user, session.epoch, channel, name)
        event = (await session.ask(command, channel)).event
    except NoSession:
        raise
    except ChatError as error:
        refuse_member(session, reply, error, channel, name)
        return
    assert isinstance(event, Invitation)
    reply.numeric("341", event.user, event.room)
    user = session.context.hub.state.names.get(fold(event.user))
    if user is not None and not user.present:
        reply.numeric("301", event.user, "is not here, and sees the invitation at the next login")
    elif user is not None and user.away is not None:
        reply.numeric("301", event.user, user.away or "Away")


# The topic


async def _topic(session: IRCSession, reply: Reply, line: Line) -> None:
    if need_more(reply, line, 1):
        return
    channel = line.params[0]
    if len(line.params) > 1:
        await _set_topic(session, reply, channel, " ".join(line.params[1].splitlines()))
    elif is_all(channel):
        reply.numeric("332", ALL, ALL_TOPIC)
    else:
        room = session.context.hub.queries.room(session, channel)
        if room.topic:
            show_topic(reply, room)
        else:
            reply.numeric("331", room.name, "No topic is set")


async def _set_topic(session: IRCSession, reply: Reply, channel: str, topic: str) -> None:
    if is_all(channel):
        raise RoomOperatorRequired
    time = int(session.context.hub.settled() * 1000)
    command = commands.SetTopic(session.user, session.epoch, channel, topic, time)
    event = (await session.ask(command, channel)).event
    assert event is not None
    session.answer(reply, event)


COMMANDS: dict[str, Handler] = {
    "INVITE": _invite,
    "JOIN": _join,
    "KICK": _kick,
    "NAMES": _names,
    "PART": _leave,
    "TOPIC": _topic,
}
