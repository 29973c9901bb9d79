"""Encodes messages, events and lists as frames of version 2.

This module must not know sessions or connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from chat_twisted.core.commands import CONSOLE_NAME, KINDS, NONE, OPERATOR, VOICE
from chat_twisted.core.events import (
    Announcement,
    BanChanged,
    Event,
    Invitation,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    ModeChanged,
    NameChanged,
    RankChanged,
    ReadMoved,
    TopicChanged,
)
from chat_twisted.core.message import Message
from chat_twisted.core.model import Room, RoomBan, Sanction, User
from chat_twisted.core.ordered import Listing
from chat_twisted.core.presence import AWAY, HERE, Presence, identity_of, presence_of
from chat_twisted.frames import MAX_BODY, Frame, encode, format_time, format_until, reply_headers

T = TypeVar("T")

Headers = Sequence[tuple[str, object]]

RANKS = {OPERATOR: "operator", VOICE: "voice", NONE: "none"}
"""The names of ranks."""

MAX_LINES = 1000
"""Maximum number of lines in a page of a list, so that others don't wait too long."""


def encode_message(verb: str, message: Message, id: str | None = None) -> bytes:
    """Encode a message.

    :param verb: ``FORWARD`` or ``MESSAGE``.
    :param id: the Id of the request for which the message was read, or None.
    """
    # Not by encode(), which takes five times as long.
    mark = "" if id is None else f"Id: {id}\n"
    body = message.text.encode()
    kind = f"Kind: {KINDS[message.kind]}\n" if message.kind else ""
    deleted = "" if body else "Deleted: yes\n"  # only deleted texts are empty
    head = (
        f"{verb} {message.sender}\n{mark}To: {message.to}\nMessage: {message.number}\n"
        f"Time: {format_time(message.time)}\n{kind}{deleted}Content-length: {len(body)}\n\n"
    )
    return head.encode() + body


def encode_messages(messages: Sequence[Message], frame: Frame, last: Headers = ()) -> bytes:
    """Encode the answer to a request for messages.

    :param frame: the request.
    :param last: the headers after ``Count``.
    """
    parts = [encode_message("MESSAGE", message, frame.id) for message in messages]
    headers = [*reply_headers(frame.id, ("Count", len(messages))), *last]
    return b"".join([*parts, encode(frame.verb, frame.argument, headers)])


def encode_event(
    event: Event, first: Headers = (), last: Headers = (), body: str | None = None
) -> bytes:
    """Encode an event.

    :param first: headers before those of the event, such as the ``Id`` of an answer.
    :param last: headers after them.
    :param body: the body, if the event has none of its own.
    :return: empty if version 2 has no frame for the event.
    """
    about = event[0]
    match event:
        case NameChanged(_, after):
            verb, headers = "RENAMED", [("To", after)]
        case MemberJoined(_, user, rank):
            verb, headers = "JOINED", [("User", user)]
            if rank:
                headers.append(("Rank", RANKS[rank]))
        case MemberLeft(_, user, by, reason):
            verb, headers = "LEFT", _whom(user, by)
            body = reason or body
        case RankChanged(_, user, rank, by):
            verb, headers = "RANK", [("User", user), ("Rank", RANKS[rank])]
            if by:
                headers.append(("By", by))
        case ModeChanged(_, mode, on, by):
            verb, headers = "MODE", [("Mode", mode), ("On", "yes" if on else "no"), ("By", by)]
        case TopicChanged(_, body, user):
            verb, headers = "TOPIC", [("User", user)]
        case Invitation(_, user, by):
            verb, headers = "INVITED", _whom(user, by)
        case BanChanged(_, user, on, by, reason):
            verb, headers = "BAN" if on else "UNBAN", _whom(user, by)
            body = reason or body
        case MessageDeleted(_, number, by, reason):
            verb, headers = "DELETED", [("Message", str(number)), ("By", by)]
            body = reason or body
        case ReadMoved(_, number, _) if number:
            verb, headers = "READ", [("Message", str(number))]
        case Announcement(text):
            return encode("NOTICE", "announcement", (), text)
        case _:
            return b""
    return encode(verb, str(about), [*first, *headers, *last], body)


def _whom(user: str, by: str) -> list[tuple[str, str]]:
    return [("User", user), ("By", by)] if by else [("User", user)]


def encode_page(
    frame: Frame,
    argument: str,
    listing: Listing[T],
    name: Callable[[T], str],
    line: Callable[[T], str],
) -> bytes:
    """Encode a page of a list, with as many lines as fit.

    :param frame: the request for the list.
    :param name: returns the key of an item, with which the client requests the next page.
    :param line: returns the line of an item.
    """
    lines: list[str] = []
    size = 0
    headers = reply_headers(frame.id, ("Count", listing.count))
    last: T | None = None
    for item in listing.items:  # a thousand clients that come back ask for a thousand lines each
        text = line(item)
        size += (len(text) if text.isascii() else len(text.encode())) + 1
        if last is not None and (size > MAX_BODY or len(lines) >= MAX_LINES):
            headers.append(("More", name(last)))
            break
        lines.append(text)
        last = item
    lines.append("")  # each line ends
    return encode(frame.verb, argument, headers, "\n".join(lines))


def encode_presence(seen: Sequence[Presence], *, identities: bool) -> bytes:
    """Encode changes of presence.

    :param identities: whether each name is followed by the identity. Without it, a user of whom
        only the identity has changed is left out.
    """
    lines = [
        f"{one.name}{f'!{one.identity}' if identities else ''} {one.state} {one.why}".rstrip()
        + "\n"
        for one in seen
        if identities or not one.identity_only
    ]
    return b"".join(encode("PRESENCE", "", (), body) for body in bodies(lines))


def bodies(lines: Sequence[str]) -> Iterator[str]:
    """Join ``lines`` to bodies that are short enough for every client."""
    first = size = 0
    for i, line in enumerate(lines):
        length = len(line.encode())
        if size + length > MAX_BODY:
            yield "".join(lines[first:i])
            first, size = i, 0
        size += length
    if first < len(lines):
        yield "".join(lines[first:])


def describe_user(user: User, room: Room | None = None, *, identities: bool = False) -> str:
    """Return the line of a user in a list.

    :param room: the room whose members are listed with their ranks; None to leave out ranks.
    :param identities: whether the name is followed by the identity.
    """
    if room is None and user.away is None and user.present:  # the usual case
        return f"{user.name}!{identity_of(user)}" if identities else user.name
    mark = "" if room is None else _MARKS[room.members[user.id].rank]
    seen = presence_of(user)
    name = f"{mark}{seen.name}!{identity_of(user)}" if identities else f"{mark}{seen.name}"
    # Absent members are listed as away.
    return name if seen.state == HERE else f"{name} {AWAY} {seen.why}".rstrip()


_MARKS = {OPERATOR: "@", VOICE: "+", NONE: ""}


def describe_room_ban(name: str, ban: RoomBan) -> str:
    """Return the line of a room's ban in a list."""
    return f"{name} {format_time(ban.time)} {ban.author} {ban.reason}".rstrip()


def describe_sanction(sanction: Sanction) -> str:
    """Return the line of a sanction in a list."""
    until, author = format_until(sanction.until), sanction.author or CONSOLE_NAME
    return f"{sanction.subject} {sanction.kind} {until} {author} {sanction.reason}".rstrip()
