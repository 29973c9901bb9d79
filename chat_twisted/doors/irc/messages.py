"""How a message looks on IRC: one line, or several lines for a long text or one of several lines.

This module must not know connections or sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from chat_twisted.core.commands import ACTION, NOTICE, TEXT
from chat_twisted.core.message import Message
from chat_twisted.core.state import State
from chat_twisted.doors.irc.capabilities import (
    ACCOUNT_TAG,
    BATCH,
    MESSAGE_TAGS,
    MULTILINE,
    SERVER_TIME,
)
from chat_twisted.doors.irc.grammar import MAX_LINE, encode, encode_tags
from chat_twisted.doors.irc.numerics import ALL, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.splitting import ACTION_OCTETS, action, split, text_limit
from chat_twisted.frames import format_time

SHAPE = ACCOUNT_TAG | BATCH | MESSAGE_TAGS | MULTILINE | SERVER_TIME
"""The capabilities on which the form of a message depends."""

_TAGGED = ACCOUNT_TAG | MESSAGE_TAGS | SERVER_TIME

OLD = 60_000
"""Milliseconds after which a client without ``server-time`` is told the time in the text."""


ABSENT = "is not here, and gets the message at the next login"


class Out(NamedTuple):
    """A line to be written."""

    verb: str
    params: tuple[str, ...]
    source: str
    tags: Mapping[str, str | None] = {}


def target_of(message: Message) -> str:
    """Return the target of a message as IRC clients see it."""
    return message.to if message.recipient or message.room else ALL


def lines_of(
    message: Message, caps: int, now: float, account: str, batch: str | None = None
) -> Iterator[Out]:
    """Yield the lines of a message.

    :param now: the time of day, in milliseconds.
    :param account: the account of the author; empty for a guest.
    :param batch: the batch around the message, if any.
    """
    verb, target, text = "PRIVMSG", target_of(message), message.text
    source = prefix(message.sender)
    tags: dict[str, str | None] = {} if batch is None else {"batch": batch}
    tags |= _tags(message, caps, account)
    if not caps & SERVER_TIME and now - message.time > OLD:
        text = f"[{format_time(message.time)[:16].replace('T', ' ')} UTC] {text}"
    first = {**tags, "msgid": str(message.number)} if caps & MESSAGE_TAGS else tags
    if message.kind == NOTICE:
        verb = "NOTICE"
    limit = text_limit(verb, target, source)
    if message.kind == ACTION:
        lines = [action(line) for line in split(text, limit - ACTION_OCTETS)]
    else:
        lines = split(text, limit)
    for number, line in enumerate(lines):
        yield Out(verb, (target, line), source, tags if number else first)


def _tags(message: Message, caps: int, account: str) -> dict[str, str | None]:
    """Return the tags of every line of a message."""
    tags: dict[str, str | None] = {}
    if caps & SERVER_TIME:
        tags["time"] = format_time(message.time)
    if caps & ACCOUNT_TAG and account:
        tags["account"] = account
    return tags


def add_message(reply: Reply, message: Message, caps: int, account: str) -> None:
    """Add a message to a reply, to the client that has sent it (IRCv3, echo-message)."""
    for line in lines_of(message, caps, message.time, account):
        reply.add(line.verb, *line.params, source=line.source, tags=line.tags)


def add_absence(reply: Reply, message: Message, state: State) -> None:
    """Add RPL_AWAY to a reply if the recipient of a message is away or absent."""
    user = state.users.get(message.recipient) if message.recipient else None
    if user is None:
        return
    if not user.present:
        reply.numeric("301", message.to, ABSENT)
    elif user.away is not None:
        reply.numeric("301", message.to, user.away or "Away")


def encode_message(message: Message, caps: int, now: float, account: str) -> bytes:
    """Encode a message for clients with the capabilities ``caps``; see ``lines_of``."""
    # Most messages are one line that needs no change, and this takes a third of the time.
    text = message.text
    if message.kind == TEXT and text.isprintable() and now - message.time <= OLD and text:
        data = f":{prefix(message.sender)} PRIVMSG {target_of(message)} :{text}\r\n".encode()
        if len(data) <= MAX_LINE + len(b"\r\n"):
            if not caps & _TAGGED:
                return data
            tags = _tags(message, caps, account)
            if caps & MESSAGE_TAGS:
                tags["msgid"] = str(message.number)
            return encode_tags(tags).encode() + data
    return b"".join(
        encode(verb, params, source=source, tags=tags)
        for verb, params, source, tags in lines_of(message, caps, now, account)
    )
