"""Signals between IRC clients: TAGMSG (IRCv3, message-tags), CTCP except ACTION, and WALLOPS.

They reach the IRC sessions that are there, and are not kept. The hub passes their content on
without knowing it: it is a line of IRC, with the number of the signal instead of its target. This
module must not know connections or sessions.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from chat_twisted.core.entries import Signalled
from chat_twisted.doors.irc.capabilities import MESSAGE_TAGS
from chat_twisted.doors.irc.grammar import Line, LineReader, encode
from chat_twisted.doors.irc.messages import About, Out, common_tags
from chat_twisted.doors.irc.numerics import ALL, prefix


def make_content(verb: str, text: str, tags: Mapping[str, str]) -> str:
    """Return the content of a signal.

    :param verb: PRIVMSG, NOTICE, TAGMSG or WALLOPS.
    :param text: the CTCP message, or the text of WALLOPS; empty for TAGMSG.
    :param tags: the client-only tags.
    """
    msgid = f"t{secrets.token_urlsafe(6)}"  # shorter than the source and target that it stands for
    params = [msgid] if verb == "TAGMSG" else [msgid, text]
    return encode(verb, params, tags={**tags}).decode()


def is_for_everybody(signalled: Signalled) -> bool:
    """Return whether a signal to all users is also for clients that have left ``&ALL``."""
    return signalled.content.startswith("WALLOPS ")


def lines_of(signalled: Signalled, caps: int, time: int, about: About) -> list[Out]:
    """Return the line of a signal, for clients with the capabilities ``caps``; none if they can't
    understand it.

    :param time: when it was sent, in milliseconds.
    """
    reader = LineReader()
    reader.receive(signalled.content.encode())
    line = reader.next()
    if not isinstance(line, Line) or (line.verb == "TAGMSG" and not caps & MESSAGE_TAGS):
        return []
    msgid, *text = line.params
    tags = common_tags(time, caps, about)
    if caps & MESSAGE_TAGS:
        tags |= {**line.tags, "msgid": msgid}
    if line.verb == "WALLOPS":
        return [Out("WALLOPS", tuple(text), prefix(signalled.sender), tags)]
    target = signalled.to if signalled.recipient or signalled.room else ALL
    return [Out(line.verb, (target, *text), prefix(signalled.sender), tags)]


def encode_signal(signalled: Signalled, caps: int, time: int, about: About) -> bytes:
    """Encode a signal; see ``lines_of``."""
    return b"".join(
        encode(verb, params, source=source, tags=tags)
        for verb, params, source, tags in lines_of(signalled, caps, time, about)
    )
