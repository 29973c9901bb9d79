"""The command LIST: the channels that a user may know of, with the number of their members."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from fnmatch import translate
from typing import NamedTuple

from chat_twisted.core.errors import NoSuchRoom
from chat_twisted.core.message import fold
from chat_twisted.core.model import Room
from chat_twisted.doors.irc.commands.rooms import ALL_TOPIC, is_all, parts
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import ALL
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

MINUTE = 60_000  # milliseconds


class Channel(NamedTuple):
    """A channel, as the conditions of LIST see it.

    :ivar key: the folded name.
    :ivar present: how many members are present.
    :ivar age: how long ago it was made, in milliseconds.
    :ivar topic_age: how long ago the topic was set; None without a topic.
    """

    key: str
    present: int
    age: int
    topic_age: int | None


Condition = Callable[[Channel], bool]
"""Type of a condition for a channel."""

_NUMBER = re.compile(r"([CT]?)([<>])([0-9]{1,9})", re.IGNORECASE)


def condition_of(word: str) -> Condition | None:
    """Return the condition that a word of LIST means (ELIST in modern.ircdocs.horse); None if it is
    the name of a channel.
    """
    if match := _NUMBER.fullmatch(word):
        kind, less, number = match[1].upper(), match[2] == "<", int(match[3])
        limit = number * MINUTE if kind else number

        def compare(channel: Channel) -> bool:
            ages = {"": channel.present, "C": channel.age, "T": channel.topic_age}
            value = ages[kind]
            return value is not None and (value < limit if less else value > limit)

        return compare
    excludes = word.startswith("!")
    mask = fold(word.removeprefix("!"))
    if not excludes and "*" not in mask and "?" not in mask:
        return None
    matches = re.compile(translate(mask.replace("[", "[[]"))).match
    return lambda channel: (matches(channel.key) is None) == excludes


async def _list(session: IRCSession, reply: Reply, line: Line) -> None:
    words = parts(line.params[0]) if line.params else []
    conditions = [found for word in words if (found := condition_of(word)) is not None]
    names = [word for word in words if condition_of(word) is None]
    hub = session.context.hub
    now = int(hub.settled() * 1000)

    def show(rooms: list[Room]) -> None:
        for room in rooms:
            topic_age = now - room.topic_time if room.topic else None
            channel = Channel(room.key, room.present, now - room.time, topic_age)
            if all(condition(channel) for condition in conditions):
                reply.numeric("322", room.name, str(room.present), room.topic)

    reply.numeric("321", "Channel", "Users  Name")
    reply.begin_labeled()
    for name in names:
        with suppress(NoSuchRoom):
            show([hub.queries.room(session, name)])
    if not names:
        await session.in_pages(lambda after: hub.queries.rooms(session, after), show)
    shows_all, users = not names or any(map(is_all, names)), hub.population().users
    everybody = Channel(fold(ALL), users, now - session.context.started * 1000, None)
    if shows_all and all(condition(everybody) for condition in conditions):
        reply.numeric("322", ALL, str(users), ALL_TOPIC)
    reply.numeric("323", "End of LIST")


COMMANDS: dict[str, Handler] = {"LIST": _list}
