"""The IRC door: writes messages and events to its sessions, encoded once for each set of
capabilities.

This module must not know connections, or the commands of clients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.interfaces import IDelayedCall

from chat_twisted.core.entries import Signalled
from chat_twisted.core.events import Event, MemberJoined, MemberLeft, ReadMoved
from chat_twisted.core.message import Message, fold
from chat_twisted.core.presence import Presence
from chat_twisted.core.sessions import Session
from chat_twisted.doors.irc.announcing import (
    EVERYBODY,
    View,
    channel_of,
    is_named,
    is_of_others,
    lines_of,
    rooms_of,
    subjects_of,
)
from chat_twisted.doors.irc.capabilities import ECHO_MESSAGE, SELF_MESSAGE
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.grammar import encode
from chat_twisted.doors.irc.messages import SHAPE, encode_message
from chat_twisted.doors.irc.session import IRCSession
from chat_twisted.doors.irc.signals import encode_signal, is_for_everybody

PING_AFTER = 15
"""Seconds after which a session that gets messages to rooms is asked again whether it has them."""

RECEIPT_AFTER = 0.1
"""Seconds after which a session that gets a direct message is asked, or twice as many: once for all
messages of that time, because a PING and its answer cost as much as a message."""


class IRCDoor:
    """The door of IRC.

    :param flush: see ``sessions.Door.flush``.
    :param enter: shows a session that it is in a channel, which another session of the same user
        has joined.
    :param show_marker: shows a session the read marker of a conversation, which another session of
        the same user has moved.
    """

    def __init__(
        self,
        context: Context,
        flush: Callable[..., None],
        enter: Callable[[IRCSession, str], None],
        show_marker: Callable[[IRCSession, str], None],
    ) -> None:
        self.context = context
        self.flush = flush
        self._enter = enter
        self._show_marker = show_marker
        self._asked_now: list[IRCSession] = []  # those that are asked in the next step
        self._asked_next: list[IRCSession] = []
        self._asking: IDelayedCall | None = None

    # Messages

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.deliver``."""
        context = self.context
        encoded: dict[tuple[int, bool], bytes] = {}
        first, last = messages[0], messages[-1].number
        is_direct = bool(first.recipient) or any(message.recipient for message in messages)
        now, seconds = context.hub.settled() * 1000, context.clock.seconds()
        for session in cast(Sequence[IRCSession], sessions):
            user, caps = session.user, session.caps
            is_own = first.author == user and first.recipient not in (0, user)
            if is_own and not caps & (ECHO_MESSAGE | SELF_MESSAGE):
                continue  # sent by another session of the user: few clients can show that
            view = caps & SHAPE, EVERYBODY in session.channels
            data = encoded.get(view)
            if data is None:
                data = encoded[view] = b"".join(
                    [
                        encode_message(
                            message, view[0], now, context.about(message.author, message.number)
                        )
                        for message in messages
                        if view[1] or message.recipient or message.room
                    ]
                )
            session.written = last
            if data:
                session.connection.write(data)
            if not session.is_owed_ping and (is_direct or seconds - session.pinged > PING_AFTER):
                self._ask_later(session)

    def _ask_later(self, session: IRCSession) -> None:
        """Write a PING to a session soon."""
        session.is_owed_ping = True
        self._asked_next.append(session)
        if self._asking is None:
            self._asking = self.context.clock.callLater(RECEIPT_AFTER, self._ask)

    def _ask(self) -> None:
        sessions, self._asked_now, self._asked_next = self._asked_now, self._asked_next, []
        self._asking = None
        if self._asked_now:
            self._asking = self.context.clock.callLater(RECEIPT_AFTER, self._ask)
        for session in sessions:
            session.is_owed_ping = False
            session.ask_whether_read()

    def signal(self, signalled: Signalled, sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.signal``."""
        context = self.context
        author, recipient = signalled.author, signalled.recipient
        about, now = context.about(author), int(context.hub.settled() * 1000)
        in_all = not (recipient or signalled.room or is_for_everybody(signalled))
        encoded: dict[int, bytes] = {}
        for session in cast(Sequence[IRCSession], sessions):
            shape = session.caps & SHAPE
            is_own = author == session.user and recipient not in (0, author)
            if is_own and not session.caps & (ECHO_MESSAGE | SELF_MESSAGE):
                continue
            if in_all and EVERYBODY not in session.channels:
                continue
            data = encoded.get(shape)
            if data is None:
                data = encoded[shape] = encode_signal(signalled, shape, now, about)
            if data:
                session.connection.write(data)

    # Events

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """Do nothing: sessions get the events instead. See ``sessions.Door.show``."""

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.tell``."""
        if isinstance(event, ReadMoved):
            for session in cast(Sequence[IRCSession], sessions):
                self._show_marker(session, event.conversation)
            return
        encoded: dict[View, bytes] = {}
        state = self.context.hub.state
        rooms, subjects, channel = rooms_of(event), subjects_of(event), channel_of(event)
        named, of_others = is_named(event), is_of_others(event)
        for session in cast(Sequence[IRCSession], sessions):
            if channel and channel not in session.channels:
                if isinstance(event, MemberJoined) and fold(session.nick) in subjects:
                    self._enter(session, event.room)  # another session of the user has joined
                continue
            view = session.view(rooms, subjects, named, of_others)
            data = encoded.get(view)
            if data is None:
                data = encoded[view] = b"".join(
                    encode(line.verb, line.params, source=line.source, tags=line.tags)
                    for line in lines_of(state, event, view)
                )
            if data:
                session.connection.write(data)
            if view.own and isinstance(event, MemberLeft):
                session.channels.discard(channel)
