"""How a message looks on IRC: one line, or several lines for a long text or one of several lines.

This module must not know connections or sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
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
from chat_twisted.doors.irc.multiline import CONCAT, TYPE, encode_batch
from chat_twisted.doors.irc.numerics import ALL, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.splitting import ACTION_OCTETS, action, pieces, split, text_limit
from chat_twisted.frames import format_time

SHAPE = ACCOUNT_TAG | BATCH | MESSAGE_TAGS | MULTILINE | SERVER_TIME
"""The capabilities on which the form of a message depends."""

_TAGGED = ACCOUNT_TAG | MESSAGE_TAGS | SERVER_TIME

OLD = 60_000
"""Milliseconds after which a client without ``server-time`` is told the time in the text."""


ABSENT = "is not here, and gets the message at the next login"


class Extra(NamedTuple):
    """What IRC clients say with a message that is not kept: sessions get it with the message.

    :ivar tags: client-only tags (IRCv3, message-tags): their names begin with ``+``.
    :ivar joins: the places where the sender split lines (``multiline.Collected``).
    """

    tags: Mapping[str, str] = MappingProxyType({})
    joins: tuple[int, ...] = ()


NO_EXTRA = Extra()


class About(NamedTuple):
    """What a message itself does not say.

    :ivar account: the account of the author; empty for a guest.
    :ivar is_bot: whether the author has said that they are a program.
    """

    account: str = ""
    is_bot: bool = False
    extra: Extra = NO_EXTRA


class Out(NamedTuple):
    """A line to be written."""

    verb: str
    params: tuple[str, ...]
    source: str
    tags: Mapping[str, str | None] = {}


def target_of(message: Message) -> str:
    """Return the target of a message as IRC clients see it."""
    return message.to if message.recipient or message.room else ALL


class _Form(NamedTuple):
    """How a message is written for a set of capabilities.

    :ivar tags: the tags of every line, except in a multiline batch.
    :ivar first: those of the first line, or of the batch.
    """

    verb: str
    target: str
    text: str
    source: str
    joins: tuple[int, ...]
    tags: dict[str, str | None]
    first: dict[str, str | None]
    is_batch: bool


def _form(message: Message, caps: int, now: float, about: About, batch: str | None = None) -> _Form:
    verb, target, text = "PRIVMSG", target_of(message), message.text
    source, joins = prefix(message.sender), about.extra.joins
    tags: dict[str, str | None] = {} if batch is None else {"batch": batch}
    tags |= common_tags(message.time, caps, about)
    if not caps & SERVER_TIME and now - message.time > OLD:
        text = f"[{format_time(message.time)[:16].replace('T', ' ')} UTC] {text}"
        joins = ()
    first = {**tags, "msgid": str(message.number)} if caps & MESSAGE_TAGS else tags
    if message.kind == NOTICE:
        verb = "NOTICE"
    is_batch = bool(caps & MULTILINE and caps & BATCH and message.kind != ACTION) and (
        bool(joins) or "\n" in text or len(text.encode()) > text_limit(verb, target, source)
    )
    return _Form(verb, target, text, source, joins, tags, first, is_batch)


def _texts(form: _Form, kind: int) -> list[str]:
    """Return the texts of the lines of a message that is not a batch."""
    limit = text_limit(form.verb, form.target, form.source)
    if kind != ACTION:
        return split(form.text, limit, form.joins)
    return [action(line) for line in split(form.text, limit - ACTION_OCTETS, form.joins)]


def _reference(message: Message) -> str:
    """Return the reference of the multiline batch of a message."""
    return f"m{message.number}"


def lines_of(
    message: Message, caps: int, now: float, about: About, batch: str | None = None
) -> Iterator[Out]:
    """Yield the lines of a message. If it has several, they are one batch for clients with
    draft/multiline.

    :param now: the time of day, in milliseconds.
    :param batch: the batch around the message, if any.
    """
    form = _form(message, caps, now, about, batch)
    verb, target, text, source, joins, tags, first, is_batch = form
    if is_batch:
        limit = text_limit(verb, target, source)
        reference = _reference(message)
        yield Out("BATCH", (f"+{reference}", TYPE, target), source, first)
        whole: dict[str, str | None] = {"batch": reference}
        further = {**whole, CONCAT: None}
        for piece, continues in pieces(text, limit, joins):
            yield Out(verb, (target, piece), source, further if continues else whole)
        yield Out("BATCH", (f"-{reference}",), source, {} if batch is None else {"batch": batch})
        return
    for number, line in enumerate(_texts(form, message.kind)):
        yield Out(verb, (target, line), source, tags if number else first)


def common_tags(time: int, caps: int, about: About) -> dict[str, str | None]:
    """Return the tags of every line of a message, or of a signal.

    :param time: when it was sent, in milliseconds.
    """
    tags: dict[str, str | None] = {}
    if caps & SERVER_TIME:
        tags["time"] = format_time(time)
    if caps & ACCOUNT_TAG and about.account:
        tags["account"] = about.account
    if caps & MESSAGE_TAGS:
        tags |= about.extra.tags
        if about.is_bot:
            tags["bot"] = None
    return tags


def add_message(reply: Reply, message: Message, caps: int, about: About) -> None:
    """Add a message to a reply, to the client that has sent it (IRCv3, echo-message)."""
    for line in lines_of(message, caps, message.time, about):
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


def encode_message(message: Message, caps: int, now: float, about: About) -> bytes:
    """Encode a message for clients with the capabilities ``caps``; see ``lines_of``."""
    # Most messages are one line that needs no change, and this takes a third of the time.
    text = message.text
    is_simple = message.kind == TEXT and text.isprintable() and text and not about.extra.joins
    if is_simple and now - message.time <= OLD:
        data = f":{prefix(message.sender)} PRIVMSG {target_of(message)} :{text}\r\n".encode()
        if len(data) <= MAX_LINE + len(b"\r\n"):
            if not caps & _TAGGED:
                return data
            own = common_tags(message.time, caps, about)
            if caps & MESSAGE_TAGS:
                own["msgid"] = str(message.number)
            return encode_tags(own).encode() + data
    # Others may have thousands of lines, so what these have in common is encoded once.
    form = _form(message, caps, now, about)
    verb, target, text, source, joins, tags, first, is_batch = form
    if is_batch:
        return encode_batch(
            *(_reference(message), verb, target, text), source=source, tags=first, joins=joins
        )
    begin, further = (
        encode(verb, (target, ""), source=source, tags=each).removesuffix(b"\r\n")
        for each in (first, tags)
    )
    lines = (b"\r\n" + further).join([line.encode() for line in _texts(form, message.kind)])
    return b"%b%b\r\n" % (begin, lines)
