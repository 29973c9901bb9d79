"""Commands that look users up: WHO with WHOX, WHOIS, WHOWAS, USERHOST and ISON.

Private and secret rooms are unknown to users outside of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chat_twisted.core.commands import NONE
from chat_twisted.core.errors import NoSuchRoom, UnableToSend
from chat_twisted.core.message import fold
from chat_twisted.core.model import Room, User, room_key
from chat_twisted.doors.irc.announcing import EVERYBODY, RANK_SIGNS, login_name_of, real_name_of
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.masks import is_mask, matcher
from chat_twisted.doors.irc.numerics import ALL, HOST, NETWORK, SERVER
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession
from chat_twisted.frames import format_time

MAX_USERHOSTS = 5
"""Maximum number of names in one USERHOST."""

MAX_TOKEN = 3
"""Maximum digits of the token of a WHOX query; it is echoed in the replies."""

ABSENT = "is not here, and gets messages at the next login"

FIELDS = "tcuihsnfdlaor"
"""The fields of WHOX, in the order in which they are in a reply (ircv3.net, WHOX)."""


class _Query(NamedTuple):
    """The second parameter of WHO.

    :ivar fields: those of WHOX; None for RPL_WHOREPLY.
    :ivar operators: whether only operators of the server are wanted.
    """

    fields: str | None
    token: str
    operators: bool


def _parse_query(word: str) -> _Query:
    flags, percent, rest = word.partition("%")
    if not percent:
        return _Query(None, "0", "o" in flags)
    fields, _, token = rest.partition(",")
    if not (token.isascii() and token.isdigit() and len(token) <= MAX_TOKEN):
        token = "0"
    return _Query("".join(f for f in FIELDS if f in fields), token, "o" in flags)


def _flags(user: User, rank: int) -> str:
    """Return the flags of a user in the answers to WHO."""
    return (
        ("H" if user.away is None else "G")
        + ("*" if user.operator else "")
        + ("B" if user.bot else "")
        + RANK_SIGNS[rank]
    )


async def _who(session: IRCSession, reply: Reply, line: Line) -> None:
    mask = (line.params[0] if line.params else "") or "*"
    query = _parse_query(line.params[1] if len(line.params) > 1 else "")
    hub = session.context.hub

    def show(user: User, channel: str, rank: int = NONE) -> None:
        if not user.present or (query.operators and not user.operator):
            return
        flags, real_name = _flags(user, rank), real_name_of(user)
        if query.fields is None:
            words = channel, login_name_of(user), HOST, SERVER, user.name, flags
            reply.numeric("352", *words, f"0 {real_name}")
            return
        values = {
            "t": query.token,
            "c": channel,
            "u": login_name_of(user),
            "i": "255.255.255.255",
            "h": HOST,
            "s": SERVER,
            "n": user.name,
            "f": flags,
            "d": "0",
            "l": "0",
            "a": "0" if user.account is None else user.name,
            "o": "n/a",
            "r": real_name,
        }
        reply.numeric("354", *(values[field] for field in query.fields))

    def show_if(matches: Callable[[str], bool], channel: str) -> Callable[[list[User]], None]:
        def show_page(page: list[User]) -> None:
            for user in page:
                if matches(user.key):
                    show(user, channel)

        return show_page

    if fold(mask) == EVERYBODY:
        await session.in_pages(hub.who, show_if(lambda name: True, ALL))
    elif mask.startswith("#"):
        await _who_room(session, mask, show)
    elif is_mask(mask) or mask == "0":
        name = "*" if mask == "0" else mask.partition("!")[0]
        await session.in_pages(hub.who, show_if(matcher(name), "*"))
    elif (user := hub.state.names.get(fold(mask))) is not None:
        show(user, "*")
    reply.numeric("315", mask, "End of WHO list")


async def _who_room(session: IRCSession, name: str, show: Callable[[User, str, int], None]) -> None:
    queries = session.context.hub.queries

    def show_page(page: list[User]) -> None:
        room = queries.room(session, name)
        for user in page:
            show(user, room.name, room.members[user.id].rank)

    try:
        await session.in_pages(lambda after: queries.members(session, name, after), show_page)
    except NoSuchRoom:  # perhaps it has ended meanwhile
        return


async def _whois(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params or not line.params[-1]:
        reply.numeric("431", "No nickname given")
        return
    name = line.params[1 if len(line.params) > 1 else 0].partition(",")[0]
    try:
        user, _ = session.context.hub.queries.named(session, name)
    except UnableToSend:
        reply.numeric("401", name, "No such nick")
    else:
        _show_whois(session, reply, user)
    reply.numeric("318", name, "End of WHOIS list")


def _show_whois(session: IRCSession, reply: Reply, user: User) -> None:
    name = user.name
    reply.numeric("311", name, login_name_of(user), HOST, "*", real_name_of(user))
    if user.present:
        rooms = sorted(_rooms_shown(session, user), key=room_key)
        words = (RANK_SIGNS[room.members[user.id].rank] + room.name for room in rooms)
        reply.words("319", name, words=words)
        reply.numeric("312", name, SERVER, NETWORK)
    if user.operator:
        reply.numeric("313", name, "is an operator of the server")
    if user.bot:
        reply.numeric("335", name, "is a bot")
    if user.account is not None:
        reply.numeric("330", name, name, "is logged in as")
    if not user.present:
        reply.numeric("301", name, ABSENT)
    elif user.away is not None:
        reply.numeric("301", name, user.away or "Away")


def _rooms_shown(session: IRCSession, user: User) -> list[Room]:
    """Return the rooms of a user that others may see: those that all may know of, and those that
    they share.
    """
    return [room for room in user.rooms.values() if not room.hidden or session.user in room.members]


async def _whowas(session: IRCSession, reply: Reply, line: Line) -> None:
    name = line.params[0].partition(",")[0] if line.params else ""
    if not name:
        reply.numeric("431", "No nickname given")
        return
    count = line.params[1] if len(line.params) > 1 else ""
    # Not positive, or not a number: all.
    most = int(count) if count.isascii() and count.isdigit() and len(count) < 5 else 0
    found = session.context.hub.departures.find(name)
    if not found:
        reply.numeric("406", name, "There was no such nickname")
    for gone in found[: most or None]:
        login_name, real_name = gone.login_name or gone.name, gone.real_name or gone.name
        reply.numeric("314", gone.name, login_name, HOST, "*", real_name)
        reply.numeric("312", gone.name, SERVER, f"Gone since {format_time(gone.time)}")
        if gone.has_account:
            reply.numeric("330", gone.name, gone.name, "was logged in as")
    reply.numeric("369", name, "End of WHOWAS")


async def _userhost(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("461", "USERHOST", "Not enough parameters")
        return
    words = []
    for user in _present(session, line)[:MAX_USERHOSTS]:
        star, sign = "*" if user.operator else "", "+" if user.away is None else "-"
        words.append(f"{user.name}{star}={sign}{login_name_of(user)}@{HOST}")
    reply.numeric("302", " ".join(words))


async def _ison(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("461", "ISON", "Not enough parameters")
        return
    reply.numeric("303", " ".join(user.name for user in _present(session, line)))


def _present(session: IRCSession, line: Line) -> list[User]:
    """Return the present users with the names in a line; they may also be in one parameter."""
    names = session.context.hub.state.names
    users = (names.get(fold(name)) for param in line.params for name in param.split())
    return [user for user in users if user is not None and user.present]


COMMANDS: dict[str, Handler] = {
    "ISON": _ison,
    "USERHOST": _userhost,
    "WHO": _who,
    "WHOIS": _whois,
    "WHOWAS": _whowas,
}
