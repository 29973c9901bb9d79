"""The command LIST: the channels that a user may know of, with the number of their members."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from fnmatch import translate

from chat_twisted.core.errors import NoSuchRoom
from chat_twisted.core.message import fold
from chat_twisted.core.model import Room
from chat_twisted.doors.irc.commands.rooms import ALL_TOPIC, is_all, parts
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import ALL
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import Handler, IRCSession

Condition = Callable[[str, int], bool]
"""Type of a condition for a channel: its folded name, and how many members are present."""

_COUNT = re.compile(r"([<>])([0-9]{1,9})")


def condition_of(word: str) -> Condition | None:
    """Return the condition that a word of LIST means (ELIST in modern.ircdocs.horse); None if it is
    the name of a channel.
    """
    if match := _COUNT.fullmatch(word):
        limit = int(match[2])
        if match[1] == "<":
            return lambda _, present: present < limit
        return lambda _, present: present > limit
    excludes = word.startswith("!")
    mask = fold(word.removeprefix("!"))
    if not excludes and "*" not in mask and "?" not in mask:
        return None
    matches = re.compile(translate(mask.replace("[", "[[]"))).match
    return lambda key, _: (matches(key) is None) == excludes


async def _list(session: IRCSession, reply: Reply, line: Line) -> None:
    words = parts(line.params[0]) if line.params else []
    conditions = [found for word in words if (found := condition_of(word)) is not None]
    names = [word for word in words if condition_of(word) is None]
    hub = session.context.hub

    def show(rooms: list[Room]) -> None:
        for room in rooms:
            if all(condition(room.key, room.present) for condition in conditions):
                reply.numeric("322", room.name, str(room.present), room.topic)

    reply.numeric("321", "Channel", "Users  Name")
    reply.begin_labeled()
    for name in names:
        with suppress(NoSuchRoom):
            show([hub.queries.room(session, name)])
    if not names:
        await session.in_pages(lambda after: hub.queries.rooms(session, after), show)
    shows_all, users = not names or any(map(is_all, names)), hub.population().users
    if shows_all and all(condition(fold(ALL), users) for condition in conditions):
        reply.numeric("322", ALL, str(users), ALL_TOPIC)
    reply.numeric("323", "End of LIST")


COMMANDS: dict[str, Handler] = {"LIST": _list}
