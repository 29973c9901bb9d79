"""Commands that send: PRIVMSG, NOTICE, TAGMSG and WALLOPS.

A CTCP ACTION is a message of the kind ``ACTION`` in all doors. Other CTCP, TAGMSG and WALLOPS are
signals: they reach other IRC clients, and are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from chat_twisted.core.commands import ACTION, NOTICE, TEXT
from chat_twisted.core.errors import ChatError, NoSession, OperatorRequired, TextTooLong
from chat_twisted.core.message import fold
from chat_twisted.doors.irc.capabilities import ECHO_MESSAGE, MESSAGE_TAGS
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.messages import NO_EXTRA, Extra
from chat_twisted.doors.irc.numerics import ALL, MAX_TARGETS, prefix
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession
from chat_twisted.doors.irc.signals import encode_signal, lines_of, make_content
from chat_twisted.doors.irc.splitting import LONGEST_CHARACTER, ctcp, harmless_ctcp, text_limit

_KINDS = {"PRIVMSG": TEXT, "NOTICE": NOTICE, "TAGMSG": TEXT}


def say(session: IRCSession, line: Line) -> bool:
    """Send an ordinary message, without waiting until it is committed."""
    params = line.params
    if line.tags or len(params) != 2:
        return False
    target, text = params
    if not text or text[0] == "\x01" or "," in target:
        return False
    if len(text) * LONGEST_CHARACTER > session.context.max_message:
        return False
    session.say(target, to_hub(target), text, _KINDS[line.verb])
    return True


def to_hub(target: str) -> str:
    """Return the target for the hub: ``&ALL`` is ALL there."""
    return "ALL" if target[:1] == "&" and target.upper() == ALL else target


async def _send(session: IRCSession, reply: Reply, line: Line) -> None:
    verb = line.verb
    targets: dict[str, str] = {}
    for target in line.params[0].split(",") if line.params else ():
        if target:
            targets.setdefault(fold(target), target)
    problem: tuple[str, ...] = ()
    if not targets:
        problem = "411", f"No recipient given ({verb})"
    elif len(targets) > MAX_TARGETS:
        problem = "407", [*targets.values()][MAX_TARGETS], "Too many targets"
    elif verb != "TAGMSG" and (len(line.params) < 2 or not line.params[1]):
        problem = "412", "No text to send"
    if problem:
        if verb != "NOTICE":  # it is never answered automatically (RFC 2812, 3.3.2)
            reply.numeric(*problem)
        return
    text = "" if verb == "TAGMSG" else line.params[1]
    extra = Extra(client_only(session, line.tags))
    if len(targets) > 1 and session.caps & ECHO_MESSAGE:
        reply.begin_labeled()
    for target in targets.values():
        await send_to(session, reply, verb, target, text, extra)


async def _send_tags(session: IRCSession, reply: Reply, line: Line) -> None:
    if session.caps & MESSAGE_TAGS:
        await _send(session, reply, line)
    else:
        reply.numeric("421", line.verb, "Only with the capability message-tags")


def client_only(session: IRCSession, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are passed on: those whose names begin with ``+``."""
    if not session.caps & MESSAGE_TAGS:
        return {}
    return {name: value for name, value in tags.items() if name[0] == "+"}


async def send_to(
    session: IRCSession, reply: Reply, verb: str, target: str, text: str, extra: Extra
) -> None:
    """Send a message or a signal to one target, and add the answer to a reply.

    :param verb: PRIVMSG, NOTICE or TAGMSG.
    :param target: the target as the client wrote it.
    :raises NoSession: if the session ends meanwhile.
    """
    kind, request = _KINDS[verb], ctcp(text)
    try:
        if len(text.encode()) > session.context.max_message:
            raise TextTooLong
        if verb != "TAGMSG" and request is None:
            await _send_message(session, reply, target, text, kind, extra)
        elif verb == "PRIVMSG" and request is not None and request[0] == "ACTION":
            if request[1]:
                await _send_message(session, reply, target, request[1], ACTION, extra)
            else:
                reply.numeric("412", "No text to send")
        else:
            await _send_signal(session, reply, verb, target, text, extra)
    except NoSession:
        raise
    except ChatError as error:
        session.refuse_message(reply, target, kind, error)


async def _send_message(
    session: IRCSession, reply: Reply, target: str, text: str, kind: int, extra: Extra
) -> None:
    session.show_sent(reply, await session.send(to_hub(target), text, kind, extra))


async def _send_signal(
    session: IRCSession, reply: Reply, verb: str, target: str, text: str, extra: Extra
) -> None:
    text = harmless_ctcp(text)
    to = to_hub(target)
    shown = ALL if fold(to) == "all" else target
    if len(text.encode()) > text_limit(verb, shown, prefix(session.nick)):
        raise TextTooLong
    signalled = await session.signal(to, make_content(verb, text, extra.tags))
    context = session.context
    now, about = int(context.hub.settled() * 1000), context.about(signalled.author)
    if session.caps & ECHO_MESSAGE:
        for line in lines_of(signalled, session.caps, now, about):
            reply.add(line.verb, *line.params, source=line.source, tags=line.tags)
    if signalled.recipient == signalled.author:  # the hub does not deliver it to this session
        session.write(encode_signal(signalled, session.caps, now, about))


async def _wallops(session: IRCSession, reply: Reply, line: Line) -> None:
    """Send a text to all IRC clients, also to those that have left ``&ALL``. It is not kept."""
    if not line.params or not line.params[0]:
        reply.numeric("461", "WALLOPS", "Not enough parameters")
    elif not session.me.operator:
        reply.refuse(OperatorRequired())
    else:
        try:
            await _send_signal(session, reply, "WALLOPS", "ALL", line.params[0], NO_EXTRA)
        except NoSession:
            raise
        except ChatError as error:
            session.refuse_message(reply, ALL, TEXT, error)


COMMANDS: dict[str, Handler] = {
    "NOTICE": _send,
    "PRIVMSG": _send,
    "TAGMSG": _send_tags,
    "WALLOPS": _wallops,
}
