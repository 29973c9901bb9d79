"""Commands about earlier messages: CHATHISTORY, REDACT and MARKREAD (IRCv3, drafts).

A message is referred to by its number, which is its ``msgid``, or by a time. Deleted messages are
not in the history. Clients may turn on ``draft/event-playback``, which changes nothing: joins,
topics and other events are not kept.

Markers and reasons are the state's own, for all doors. This module must not know how messages are
stored, or who may read them: the hub's queries decide that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from chat_twisted.core.commands import MarkRead
from chat_twisted.core.errors import (
    ChatError,
    NoSession,
    NotYours,
    RoomIsModerated,
    Sanctioned,
    TooFast,
    Unavailable,
)
from chat_twisted.core.message import Audience, Message, fold, parse_target
from chat_twisted.core.messages import DELETE_WITHIN
from chat_twisted.core.model import NO_MARKER, Marker
from chat_twisted.core.reads import Span, Times
from chat_twisted.core.sanctions import MAX_REASON
from chat_twisted.doors.irc.announcing import EVERYBODY
from chat_twisted.doors.irc.capabilities import BATCH, READ_MARKER
from chat_twisted.doors.irc.commands.sending import to_hub
from chat_twisted.doors.irc.grammar import Line, cut
from chat_twisted.doors.irc.messages import lines_of
from chat_twisted.doors.irc.numerics import ALL, HISTORY
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession
from chat_twisted.frames import HeaderIncomplete, format_time, parse_time

T = TypeVar("T")

MAX_LINES = 1000
"""Maximum number of lines that are read at once, unless a single message has more."""

PIECE = 100
"""Number of lines that are encoded in one piece of work (``turns.Paced``)."""

MAX_NUMBER = 2**62
"""Numbers of messages are lower."""


async def _patiently(session: IRCSession, begin: Callable[[], T]) -> T:
    """Begin to read stored messages; first wait while the client has read too much.

    :raises NoSession: if the session ends meanwhile.
    """
    while True:
        try:
            return begin()
        except TooFast as error:
            await session.pause(error.retry_after or 1)


async def _history_of(session: IRCSession, target: str, span: Span) -> list[Message]:
    queries, to = session.context.hub.queries, to_hub(target)
    reading = await _patiently(session, lambda: queries.history(session, to, span))
    messages = (await reading).messages
    lines, kept = 0, 0
    for message in messages if span.oldest_first else reversed(messages):
        lines += 1 + message.text.count("\n")
        if kept and lines > MAX_LINES:
            break
        kept += 1
    return messages[:kept] if span.oldest_first else messages[len(messages) - kept :]


# References to messages


class _Reference(NamedTuple):
    """A message (``msgid=``) or a time (``timestamp=``, in milliseconds since the epoch)."""

    number: int | None
    time: int | None


class _Invalid(Exception):
    """A command is answered with FAIL.

    :ivar code: its code.
    :ivar context: the parameters between the code and the text.
    """

    def __init__(self, code: str, *context: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.context = context
        self.text = text


def _time(text: str) -> int | None:
    """Return the time in ``timestamp=...``, in milliseconds since the epoch; None if it is none."""
    name, _, value = text.partition("=")
    if name != "timestamp":
        return None
    try:
        return parse_time(value)
    except HeaderIncomplete:
        return None


def _number(text: str) -> int | None:
    """Return the number of a message from its ``msgid``; None if no message has such a one."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 19
    return int(text) if is_number and int(text) < MAX_NUMBER else None


def _reference(command: str, target: str, text: str) -> _Reference:
    kind, equals, value = text.partition("=")
    if kind == "timestamp" and equals:
        if (time := _time(text)) is None:
            raise _Invalid("INVALID_PARAMS", command, text, text="Invalid timestamp")
        return _Reference(None, time)
    if kind == "msgid" and equals:
        if (number := _number(value)) is None:
            raise _Invalid("INVALID_PARAMS", command, text, text="There is no such message")
        return _Reference(number, None)
    if equals:
        text = "References are msgid= or timestamp="
        raise _Invalid("INVALID_MSGREFTYPE", command, target, text=text)
    raise _Invalid("INVALID_PARAMS", command, text, text="Invalid reference to a message")


def _limit(command: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not (limit := int(text[:9])):
        raise _Invalid("INVALID_PARAMS", command, text, text="Invalid limit")
    return min(limit, HISTORY)


# CHATHISTORY


def _after(reference: _Reference, span: Span) -> Span:
    """Restrict a span to what comes after a reference."""
    number, time = reference
    if time is not None:
        return span._replace(since=time + 1)
    return span._replace(after=number)


def _before(reference: _Reference, span: Span) -> Span:
    """Restrict a span to what comes before a reference."""
    number, time = reference
    if time is not None:
        return span._replace(until=time - 1)
    return span._replace(before=number)


async def _between(
    session: IRCSession, target: str, first: _Reference, last: _Reference, span: Span
) -> Span:
    """Return the span between two references. It is read from the first one on."""
    if (first.time is None) == (last.time is None):
        backwards = first > last if first.time is None else (first.time, 0) > (last.time, 0)
    else:
        times = [await _time_of(session, target, reference) for reference in (first, last)]
        backwards = times[0] > times[1]
    if backwards:
        return _after(last, _before(first, span))
    return _after(first, _before(last, span))._replace(oldest_first=True)


async def _time_of(session: IRCSession, target: str, reference: _Reference) -> int:
    """Return the time of a reference; of a message that is no more, that of the one before."""
    if reference.time is not None:
        return reference.time
    assert reference.number is not None
    found = await _history_of(session, target, Span(1, before=reference.number + 1))
    return found[0].time if found else 0


async def _around(
    session: IRCSession, target: str, reference: _Reference, span: Span
) -> list[Message]:
    """Return the messages around a reference, with its own."""
    number, time = reference
    before: list[Message] = []
    if half := span.limit // 2:
        before = await _history_of(session, target, _before(reference, span._replace(limit=half)))
    after = span._replace(limit=span.limit - len(before), oldest_first=True)
    after = after._replace(since=time, after=None if number is None else number - 1)
    return before + await _history_of(session, target, after)


_PARAMS = {"AFTER": 4, "AROUND": 4, "BEFORE": 4, "BETWEEN": 5, "LATEST": 4, "TARGETS": 4}
"""The number of parameters of each subcommand, itself included."""


async def _chathistory(session: IRCSession, reply: Reply, line: Line) -> None:
    command = line.params[0].upper() if line.params else "*"
    try:
        if not line.params:
            raise _Invalid("INVALID_PARAMS", command, text="Insufficient parameters")
        if command not in _PARAMS:
            raise _Invalid("INVALID_PARAMS", line.params[0], text="Unknown command")
        if len(line.params) < _PARAMS[command]:
            raise _Invalid("INVALID_PARAMS", command, text="Insufficient parameters")
        if len(line.params) > _PARAMS[command]:
            raise _Invalid("INVALID_PARAMS", command, text="Too many parameters")
        show = _targets if command == "TARGETS" else _messages
        await show(session, reply, command, line.params[1:])
    except _Invalid as fault:
        reply.fail("CHATHISTORY", fault.code, *fault.context, text=fault.text)


async def _messages(session: IRCSession, reply: Reply, command: str, params: list[str]) -> None:
    target, *references, limit = params
    span = Span(_limit(command, limit), deleted=False)
    given = [
        _reference(command, target, reference)
        for reference in references
        if command != "LATEST" or reference != "*"
    ]
    try:
        if command == "AROUND":
            messages = await _around(session, target, given[0], span)
        else:
            if command == "BETWEEN":
                span = await _between(session, target, given[0], given[1], span)
            elif command == "BEFORE":
                span = _before(given[0], span)
            elif given:
                span = _after(given[0], span)._replace(oldest_first=command == "AFTER")
            messages = await _history_of(session, target, span)
    except NoSession:
        raise
    except Unavailable:
        text = "Messages could not be retrieved; please try again later"
        raise _Invalid("MESSAGE_ERROR", command, target, text=text) from None
    except ChatError:
        text = "Messages could not be retrieved"
        raise _Invalid("INVALID_TARGET", command, target, text=text) from None
    await _show(session, reply, ALL if to_hub(target).upper() == "ALL" else target, messages)


async def _show(session: IRCSession, reply: Reply, target: str, messages: list[Message]) -> None:
    context, caps = session.context, session.caps
    batch = reply.begin("chathistory", target) if caps & BATCH else None
    now = context.hub.settled() * 1000
    lines = chain.from_iterable(
        lines_of(message, caps, now, context.about(message.author, message.number), batch)
        for message in messages
    )
    more = bool(messages)

    def show_piece() -> None:
        nonlocal more
        piece = list(islice(lines, PIECE))
        for line in piece:
            reply.add(line.verb, *line.params, source=line.source, tags=line.tags)
        more = len(piece) == PIECE

    try:
        while more and not session.ended:
            await context.lists.do(context.hub.usage.asker(session), show_piece)
    finally:
        if batch is not None:
            reply.finish(batch)


async def _targets(session: IRCSession, reply: Reply, command: str, params: list[str]) -> None:
    *references, limit = params
    number = _limit(command, limit)
    times = [_time(reference) for reference in references]
    first, last = times
    if first is None or last is None:
        faulty = references[times.index(None)]
        raise _Invalid("INVALID_PARAMS", command, faulty, text="Invalid timestamp")
    span = Times(number, min(first, last) + 1, max(first, last) - 1, oldest_first=first <= last)
    queries = session.context.hub.queries
    try:
        found = await (await _patiently(session, lambda: queries.newest(session, span)))
    except Unavailable:
        text = "The conversations could not be retrieved; please try again later"
        raise _Invalid("MESSAGE_ERROR", command, text=text) from None
    batch, tags = None, {}
    if session.caps & BATCH:
        batch = reply.begin("draft/chathistory-targets")
        tags = {"batch": batch}
    for name, _, time in found:
        if name != "ALL":
            reply.add("CHATHISTORY", "TARGETS", name, format_time(time), tags=tags)
        elif EVERYBODY in session.channels:
            reply.add("CHATHISTORY", "TARGETS", ALL, format_time(time), tags=tags)
    if batch is not None:
        reply.finish(batch)


# REDACT


async def _redact(session: IRCSession, reply: Reply, line: Line) -> None:
    if len(line.params) < 2:
        reply.numeric("461", "REDACT", "Not enough parameters")
        return
    target, msgid = line.params[:2]
    reason = cut(line.params[2], MAX_REASON) if len(line.params) > 2 else ""
    try:
        await _redact_one(session, reply, target, msgid, reason)
    except _Invalid as fault:
        reply.fail("REDACT", fault.code, *fault.context, text=fault.text)


async def _redact_one(
    session: IRCSession, reply: Reply, target: str, msgid: str, reason: str
) -> None:
    number = _number(msgid)
    # Nobody learns by a number whether there is a message in a conversation of others.
    span = Span(1, after=(number or 0) - 1, before=(number or 0) + 1, deleted=False)
    try:
        found = await _history_of(session, target, span)
    except (NoSession, Unavailable):
        raise
    except ChatError:
        text = f"You cannot delete messages from {target}"
        raise _Invalid("INVALID_TARGET", target, text=text) from None
    if not found:
        text = "This message does not exist or is too old"
        raise _Invalid("UNKNOWN_MSGID", target, msgid, text=text)
    hub = session.context.hub
    try:
        request = await _patiently(
            session, lambda: hub.propose_delete(session, found[0].number, None, reason)
        )
        answer = await session.answer_to(request)
    except NotYours:
        if found[0].author == session.user:
            window = str(DELETE_WITHIN // 1000)
            text = "You can no longer delete this message"
            raise _Invalid("REDACT_WINDOW_EXPIRED", target, msgid, window, text=text) from None
        text = "You are not authorised to delete this message"
        raise _Invalid("REDACT_FORBIDDEN", target, msgid, text=text) from None
    except (Sanctioned, RoomIsModerated):
        text = "You can delete this message only without a reason"
        raise _Invalid("REDACT_FORBIDDEN", target, msgid, text=text) from None
    assert answer.event is not None
    session.answer(reply, answer.event)


# MARKREAD


async def _markread(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.fail("MARKREAD", "NEED_MORE_PARAMS", text="Missing parameters")
        return
    target, *more = line.params
    try:
        if more:
            await _set_marker(session, target, more[0])
        await _show_marker(session, reply, target)
    except _Invalid as fault:
        reply.fail("MARKREAD", fault.code, *fault.context, text=fault.text)
    except NoSession:
        raise
    except Unavailable:
        text = "The read timestamp is not available; please try again later"
        reply.fail("MARKREAD", "INTERNAL_ERROR", target, text=text)
    except ChatError:
        reply.fail("MARKREAD", "INVALID_PARAMS", target, text="You have no such conversation")


async def _set_marker(session: IRCSession, target: str, timestamp: str) -> None:
    time = _time(timestamp)
    if time is None:
        raise _Invalid("INVALID_PARAMS", timestamp, text="Invalid timestamp")
    time = min(time, int(session.context.hub.wall() * 1000))
    read = await _history_of(session, target, Span(1, until=time))
    number = read[0].number if read else 0
    to = to_hub(target)
    await session.ask(MarkRead(session.user, session.epoch, to, number, time), to)


async def _show_marker(session: IRCSession, reply: Reply, target: str) -> None:
    time, marker, now = 0, None, _marker(session, to_hub(target))
    while now != marker:  # it may be moved while its time is read, and must not be shown late
        marker = now
        time = marker.time
        if marker.number and not time:  # set by a client of another door
            read = await _history_of(session, target, Span(1, before=marker.number + 1))
            time = read[0].time if read else 0
        now = _marker(session, to_hub(target))
    reply.add("MARKREAD", target, f"timestamp={format_time(time)}" if time else "*")


def _marker(session: IRCSession, to: str) -> Marker:
    target = parse_target(to)
    place = (0, target.key if target.audience is Audience.USER else "")
    if target.audience is Audience.ROOM:
        room = session.context.hub.state.room_names.get(target.key)
        if room is None:
            return NO_MARKER
        place = (room.id, "")
    return session.me.markers.get(place, NO_MARKER)


async def show_marker(session: IRCSession, reply: Reply, channel: str) -> None:
    """Add the read marker of a channel that the client joins, if it wants to know it."""
    if session.caps & READ_MARKER:
        # Without the marker the client still has joined.
        with contextlib.suppress(Unavailable):
            await _show_marker(session, reply, channel)


async def marker_moved(session: IRCSession, conversation: str) -> None:
    """Show a read marker that another session of the user has moved.

    :param conversation: as in ``events.ReadMoved``.
    """
    state, target = session.context.hub.state, parse_target(conversation)
    if target.audience is Audience.USER:
        other = state.names.get(target.key)
        await show_marker(session, Reply(session), other.name if other else conversation)
        return
    channel = ALL if target.audience is Audience.ALL else conversation
    if fold(channel) in session.channels:
        await show_marker(session, Reply(session), channel)


COMMANDS: dict[str, Handler] = {
    "CHATHISTORY": _chathistory,
    "MARKREAD": _markread,
    "REDACT": _redact,
}
