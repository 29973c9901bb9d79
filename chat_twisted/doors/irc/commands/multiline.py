"""Messages of several lines that a client sends as one batch (IRCv3's draft/multiline): BATCH, and
the lines of the batch. The message is sent, and the label of the batch answered, at its end.
"""

from __future__ import annotations

from chat_twisted.doors.irc.capabilities import MULTILINE
from chat_twisted.doors.irc.commands.sending import client_only, send_to
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.messages import Extra
from chat_twisted.doors.irc.multiline import MAX_LINES, BatchRefused, Collector
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

BATCH_TIME = 60
"""Seconds within which a client must complete a batch."""


async def collect(session: IRCSession, reply: Reply, line: Line) -> None:
    """Take a line of a batch."""
    collector = session.collector
    if collector is None:
        maximum = session.context.max_message
        collector = session.collector = Collector(maximum, MAX_LINES)
    reply.discard()
    was_open = collector.is_open
    try:
        collected = collector.take(line)
    except BatchRefused as refused:
        session.set_deadline(None)
        _refuse(session, refused)
        return
    if collected is not None:
        session.set_deadline(None)
        reply = session.reply_to(collected.tags)
        extra = Extra(client_only(session, collected.tags), collected.joins)
        await send_to(session, reply, collected.verb, collected.target, collected.text, extra)
        reply.end()
    elif collector.is_open and not was_open:
        _set_deadline(session, collector)


def _set_deadline(session: IRCSession, collector: Collector) -> None:
    session.set_deadline(lambda: _expire(session, collector), BATCH_TIME)


def _expire(session: IRCSession, collector: Collector) -> None:
    if session.is_held:  # the client could not complete it
        _set_deadline(session, collector)
    elif collector.is_open:
        _refuse(session, collector.expire())


def _refuse(session: IRCSession, refused: BatchRefused) -> None:
    reply = session.reply_to(refused.tags)
    reply.add("FAIL", *refused.params)
    reply.end()


async def _batch(session: IRCSession, reply: Reply, line: Line) -> None:
    if session.caps & MULTILINE:
        await collect(session, reply, line)
    else:
        reply.numeric("421", line.verb, "Only with the capability draft/multiline")


COMMANDS: dict[str, Handler] = {"BATCH": _batch}
