"""The command MODE: modes, ranks and bans of channels, and the modes of the user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import NamedTuple

from chat_twisted.core import commands
from chat_twisted.core.commands import NONE, OPERATOR, VOICE
from chat_twisted.core.errors import (
    ChatError,
    MalformedName,
    NoSession,
    NotAMember,
    NotThere,
    RoomOperatorRequired,
)
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.model import Room, RoomBan
from chat_twisted.core.ordered import Listing
from chat_twisted.doors.irc.announcing import MODE_LETTERS
from chat_twisted.doors.irc.commands.rooms import is_all, need_more, refuse_member
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import ALL, HOST, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

MODES = {letter: mode for mode, letter in MODE_LETTERS.items()}

BOT = "B"
"""The mode of users who are programs (IRCv3, Bot Mode)."""

_ALWAYS = "n"  # only members can send to a channel
_NOT_HERE = {
    "k": "Channels have no keys here: +i lets only invited users join",
    "l": "Channels have no limit of members here",
}
"""Modes of other servers that are refused with a reason."""

_WITH_PARAMETER = frozenset("ovbeIkqahlfj")
_ONLY_WITH_SIGN = frozenset("lfj")  # they have a parameter only when they are set
_OTHER_LISTS = frozenset("eIq")  # clients ask for these lists when they join
# User modes of other servers, which clients set when they connect.
_USUAL = frozenset("iwsxor")

_MASK = re.compile(r"(?P<name>[^!@]+)(?:!(?P<user>[^!@]+))?(?:@(?P<host>[^!@]+))?")


class Change(NamedTuple):
    """One change of a mode, or with an empty ``sign`` the question for a list.

    :ivar sign: ``+`` or ``-``.
    """

    sign: str
    letter: str
    parameter: str | None


def changes_of(words: list[str]) -> Iterator[Change]:
    """Yield the changes that the parameters of MODE mean."""
    waiting = words[::-1]
    while waiting:
        sign = ""
        for letter in waiting.pop():
            if letter in "+-":
                sign = letter
                continue
            takes = letter in _WITH_PARAMETER and (letter not in _ONLY_WITH_SIGN or sign != "-")
            yield Change(sign or "+", letter, waiting.pop() if takes and waiting else None)


def name_in(mask: str) -> str | None:
    """Return the name that the mask of a ban means: ``alice``, ``alice!*@*``, ``*!alice@*`` or
    ``$a:alice``. None if it means no single name: users have nothing else that could be banned.
    """
    if mask.startswith("$a:"):
        name = mask[3:]
    else:
        match = _MASK.fullmatch(mask)
        if match is None or not fnmatchcase(HOST, match["host"] or "*"):
            return None
        name, user = match["name"], match["user"] or "*"
        if name == "*":  # the user part is the name, too; clients write it so
            name = user.lstrip("*~")
        elif not fnmatchcase(fold(name), fold(user.lstrip("~"))):
            return None
    try:
        return check_user_name(name)
    except MalformedName:
        return None


async def _mode(session: IRCSession, reply: Reply, line: Line) -> None:
    if need_more(reply, line, 1):
        return
    target, *words = line.params
    if is_all(target):
        _mode_of_all(session, reply, words)
    elif target[:1] in ("#", "&"):
        await _mode_of_room(session, reply, target, words)
    elif fold(target) == fold(session.nick):
        await _mode_of_user(session, reply, words)
    elif fold(target) in session.context.hub.state.names:
        reply.numeric("502", "You can't see or change the modes of others")
    else:
        reply.numeric("401", target, "No such nick")


# Channels


def _mode_of_all(session: IRCSession, reply: Reply, words: list[str]) -> None:
    changes = [change for change in changes_of(words) if change.letter not in _OTHER_LISTS]
    if not words:
        reply.numeric("324", ALL, f"+{_ALWAYS}t")
        reply.numeric("329", ALL, str(session.context.started))
    elif any(change.parameter is not None or change.letter != "b" for change in changes):
        raise RoomOperatorRequired
    elif changes:
        reply.numeric("368", ALL, "End of channel ban list")


async def _mode_of_room(session: IRCSession, reply: Reply, channel: str, words: list[str]) -> None:
    room = session.context.hub.queries.room(session, channel)
    if not words:
        letters = sorted([_ALWAYS, *(MODE_LETTERS[mode] for mode in room.modes)])
        reply.numeric("324", room.name, "+" + "".join(letters))
        reply.numeric("329", room.name, str(room.time // 1000))
        return
    unknown: set[str] = set()
    for number, change in enumerate(changes_of(words)):
        if number:
            await session.spend()
            reply.begin_labeled()
        sign, letter, parameter = change
        try:
            if letter == "b" and parameter is None:
                await _list_bans(session, reply, room)
            elif letter == "b":
                await _ban(session, reply, room.name, change)
            elif letter in "ov" and parameter is not None:
                await _set_rank(session, reply, room.name, change)
            elif letter in "ov":
                reply.numeric("696", room.name, letter, "*", "A name is missing")
            elif letter in MODES:
                mode, on = MODES[letter], sign == "+"
                command = commands.SetMode(session.user, session.epoch, room.name, mode, on)
                await _change(session, reply, command, room.name)
            elif letter == _ALWAYS:
                if sign == "-":
                    text = "Only members can send to channels here"
                    reply.numeric("696", room.name, letter, "*", text)
            elif letter in _NOT_HERE:
                if sign == "+":
                    reply.numeric("696", room.name, letter, "*", _NOT_HERE[letter])
            elif letter in _OTHER_LISTS and parameter is None:
                pass
            elif letter not in unknown:
                unknown.add(letter)
                reply.numeric("472", letter, "is unknown mode char to me")
        except NoSession:
            raise
        except ChatError as error:
            refuse_member(session, reply, error, room.name, parameter or "")
            if isinstance(error, RoomOperatorRequired | NotAMember):
                return  # it would be so for all


async def _change(
    session: IRCSession,
    reply: Reply,
    command: commands.SetMode | commands.SetRank | commands.BanFromRoom,
    channel: str,
) -> None:
    event = (await session.ask(command, channel)).event
    if event is not None:  # else it was so already
        session.answer(reply, event)


async def _set_rank(session: IRCSession, reply: Reply, channel: str, change: Change) -> None:
    """Set or take a rank. A member has one: an operator needs no voice, and has none to lose."""
    rank = {"o": OPERATOR, "v": VOICE}[change.letter]
    name, before = change.parameter or "", None
    if change.sign == "-":
        rank, before = NONE, rank
    elif rank == VOICE:
        before = NONE
    command = commands.SetRank(session.user, session.epoch, channel, name, rank, before)
    await _change(session, reply, command, channel)


async def _ban(session: IRCSession, reply: Reply, channel: str, change: Change) -> None:
    mask = change.parameter or ""
    on, name = change.sign == "+", name_in(mask)
    text = ""
    if name is None:
        text = "Only names can be banned: alice, alice!*@*"
    elif on and mask.startswith("$a:"):
        user = session.context.hub.state.names.get(fold(name))
        if user is None or user.account is None:
            text = "There is no account of this name"
    if name is None or text:
        reply.numeric("696", channel, change.letter, mask or "*", text)
        return
    time = int(session.context.hub.settled() * 1000)
    command = commands.BanFromRoom(session.user, session.epoch, channel, name, on, "", time)
    with suppress(NotThere):  # it was not banned
        await _change(session, reply, command, channel)


class _Banned(NamedTuple):
    key: str
    ban: RoomBan


async def _list_bans(session: IRCSession, reply: Reply, room: Room) -> None:
    if session.user not in room.members:
        raise NotAMember
    reply.begin_labeled()

    def after(key: str) -> Listing[_Banned]:
        bans = sorted(item for item in room.bans.items() if item[0] > key)
        return Listing(len(room.bans), (_Banned(*item) for item in bans))

    def show(page: list[_Banned]) -> None:
        for name, (author, time, _) in page:
            by = prefix(author)
            reply.numeric("367", room.name, f"{name}!*@*", by, str(time // 1000))

    await session.in_pages(after, show)
    reply.numeric("368", room.name, "End of channel ban list")


# Users


async def _mode_of_user(session: IRCSession, reply: Reply, words: list[str]) -> None:
    user = session.me
    if not words:
        letters = ("o" if user.operator else "") + (BOT if user.bot else "")
        reply.numeric("221", f"+{letters}")
        return
    unknown = False
    for number, (sign, letter, _) in enumerate(changes_of(words[:1])):
        if number:
            await session.spend()
        if letter == BOT:
            on = sign == "+"
            if on != user.bot:
                await session.ask(commands.SetBot(session.user, session.epoch, on))
                reply.add("MODE", session.nick, sign + BOT, source=prefix(session.nick))
        elif letter not in _USUAL:
            unknown = True
    if unknown:
        reply.numeric("501", "Unknown mode")


COMMANDS: dict[str, Handler] = {"MODE": _mode}
