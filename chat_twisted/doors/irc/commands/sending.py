"""Commands that send: PRIVMSG, NOTICE and TAGMSG.

A CTCP ACTION is a message of the kind ``ACTION`` in all doors. Other CTCP, and TAGMSG, are signals:
they reach other IRC clients, and are not kept.
"""

from __future__ import annotations

from chat_twisted.core.commands import ACTION, NOTICE, TEXT
from chat_twisted.core.entries import Duplicate
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.numerics import ALL, MAX_TARGETS
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.session import Handler, IRCSession

_KINDS = {"PRIVMSG": TEXT, "NOTICE": NOTICE}


def say(session: IRCSession, line: Line) -> bool:
    """Send an ordinary message, without waiting until it is committed."""
    params = line.params
    if line.tags or len(params) != 2:
        return False
    target, text = params
    if not text or text[0] == "\x01" or "," in target:
        return False
    session.say(target, to_hub(target), text, _KINDS[line.verb])
    return True


def to_hub(target: str) -> str:
    """Return the target for the hub: ``&ALL`` is ALL there."""
    return "ALL" if target[:1] == "&" and target.upper() == ALL else target


async def _send(session: IRCSession, reply: Reply, line: Line) -> None:
    if not line.params:
        reply.numeric("411", f"No recipient given ({line.verb})")
        return
    if len(line.params) < 2 or not line.params[1]:
        reply.numeric("412", "No text to send")
        return
    targets = line.params[0].split(",")
    if len(targets) > MAX_TARGETS:
        reply.numeric("407", targets[MAX_TARGETS], "Too many targets")
        return
    for target in dict.fromkeys(targets):
        await _send_to(session, reply, target, line)


async def _send_to(session: IRCSession, reply: Reply, target: str, line: Line) -> None:
    text, kind = line.params[1], _KINDS[line.verb]
    if text.startswith("\x01ACTION "):
        text, kind = text[8:].removesuffix("\x01"), ACTION
    message = await session.send(to_hub(target), text, kind)
    if isinstance(message, Duplicate):
        return
    session.show_sent(reply, message)


COMMANDS: dict[str, Handler] = {
    "NOTICE": _send,
    "PRIVMSG": _send,
}
