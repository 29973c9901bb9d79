"""A session of an IRC client: what its commands use, and what the hub tells it.

What other users do is written by the ``door``; how commands run is in ``running``. This module must
not know the commands, or how connections are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chat_twisted.core.commands import CONSOLE_NAME, NOTICE, Send
from chat_twisted.core.entries import Duplicate, LoggedIn, Result, Signalled
from chat_twisted.core.errors import (
    ChatError,
    NoSuchRoom,
    TextTooLong,
    TooFast,
    UnableToSend,
)
from chat_twisted.core.events import Event
from chat_twisted.core.message import Message, fold
from chat_twisted.core.model import User
from chat_twisted.core.sanctions import MAX_REASON
from chat_twisted.core.sessions import BANNED, REMOVED, Dismissal, Door, Policy, Request
from chat_twisted.doors.irc.announcing import (
    EVERYBODY,
    View,
    distant_view,
    is_named,
    is_of_others,
    lines_of,
    rooms_of,
    subjects_of,
)
from chat_twisted.doors.irc.capabilities import CHATHISTORY, ECHO_MESSAGE
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.grammar import one_line
from chat_twisted.doors.irc.messages import (
    NO_EXTRA,
    Extra,
    add_absence,
    add_message,
    encode_message,
)
from chat_twisted.doors.irc.multiline import Collector
from chat_twisted.doors.irc.negotiation import Negotiation
from chat_twisted.doors.irc.numerics import ALL
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Answer, Connection, RunningSession
from chat_twisted.doors.irc.sasl import Exchange


class IRCSession(RunningSession):
    """A session of an IRC client.

    :ivar channels: the folded names of the channels that the client has joined, as far as it knows;
        with ``&all`` if it has joined that.
    :ivar collector: collects the client's batches; None before its first one.
    :ivar exchange: gathers what the client says to log in to an account; None before that.
    :ivar monitored: the names that the client monitors, by their folded forms.
    :ivar written: the number of the last message that was written to the client.
    :ivar asked: the number in the last PING: the client has all messages up to it when it answers.
    :ivar pinged: when that was written, in monotonic seconds.
    :ivar is_owed_ping: whether the door will soon write a PING for direct messages.
    """

    __slots__ = (
        "asked",
        "channels",
        "collector",
        "exchange",
        "is_owed_ping",
        "monitored",
        "negotiation",
        "pinged",
        "written",
    )

    policy = Policy(keeps_name=False, follows_everybody=True)

    def __init__(
        self,
        door: Door,
        context: Context,
        connection: Connection,
        host: str | None,
        caps: int,
        negotiation: Negotiation,
    ) -> None:
        super().__init__(door, context, connection, host, caps)
        self.negotiation = negotiation
        self.channels: set[str] = set()
        self.exchange: Exchange | None = None
        self.monitored: dict[str, str] = {}
        self.written = 0
        self.asked = 0
        self.pinged = context.clock.seconds()
        self.is_owed_ping = False
        self.collector: Collector | None = None

    # What commands use

    @property
    def me(self) -> User:
        """The user.

        :raises NoSession: if the session has ended.
        """
        return self.context.hub.queries.user(self)

    async def send(self, to: str, text: str, kind: int, extra: Extra) -> Message:
        """Send a message, and wait until it is committed. If it exceeds a rate limit, wait.

        :param to: a user, a room or ALL.
        :param extra: the client tags, and how the client has split the lines.
        :raises ChatError: if it is refused, or the session ends meanwhile.
        """
        result = await self._in_time(lambda: self.context.hub.send(self, to, text, kind=kind))
        assert isinstance(result, Message), "without a key it is no duplicate"
        if extra != NO_EXTRA:
            # This runs within ``sent``, before the message is delivered.
            self.context.remember(result.number, extra)
        return result

    async def signal(self, to: str, content: str) -> Signalled:
        """Pass a signal on, and wait until that is committed. If it exceeds a rate limit, wait.

        :param to: a user, a room or ALL.
        :raises ChatError: if it is refused, or the session ends meanwhile.
        """
        result = await self._in_time(lambda: self.context.hub.signal(self, to, content))
        assert isinstance(result, Signalled)
        return result

    async def _in_time(self, ask: Callable[[], Request]) -> Result:
        while True:
            try:
                request = ask()
            except TooFast as error:
                await self.pause(error.retry_after or 1)
            else:
                return (await self.answer_to(request)).result

    def show_sent(self, reply: Reply, message: Message) -> None:
        """Add to a reply what its sender gets for a message."""
        if message.recipient and message.kind != NOTICE:
            add_absence(reply, message, self.context.hub.state)
        about = self.context.about(message.author, message.number)
        if self.caps & ECHO_MESSAGE:
            add_message(reply, message, self.caps, about)
        if message.recipient == message.author:  # the hub does not deliver it to this session
            self.write(encode_message(message, self.caps, message.time, about))
            self.written = message.number

    def refuse_message(self, reply: Reply, target: str, kind: int, error: ChatError) -> None:
        """Add to a reply that a message was refused."""
        if kind == NOTICE:  # it is never answered automatically (RFC 2812, 3.3.2)
            self.count_refusal(error)
            return
        if isinstance(error, TextTooLong):
            reply.refuse(error)
            return
        if isinstance(error, UnableToSend) and target[:1] in ("#", "&"):
            error = NoSuchRoom()
        reply.refuse(error, target or "*", sending=True)

    def view(
        self,
        rooms: Sequence[tuple[str, str]],
        subjects: Sequence[str],
        named: bool,
        of_others: bool,
    ) -> View:
        """Return how the client sees an event.

        :param rooms: the rooms of the user whom the event is about, with their folded names.
        :param subjects: the folded names of that user after and before the event.
        :param named, of_others: see ``announcing.is_named`` and ``is_of_others``.
        """
        if of_others and not rooms and not self.monitored:
            return distant_view(self.caps, EVERYBODY in self.channels)
        shared = [room for folded, room in rooms if folded in self.channels]
        if EVERYBODY in self.channels:
            shared.append(ALL)
        nick = self.nick
        monitored: tuple[str, ...] = ()
        if self.monitored:
            monitored = tuple(name for name in subjects if name in self.monitored)
        shown = nick if monitored or named else ""
        return View(self.caps, shown, fold(nick) in subjects[:1], tuple(shared), monitored)

    def answer(self, reply: Reply, event: Event) -> None:
        """Add to a reply an event that the client has caused."""
        state = self.context.hub.state
        view = self.view(rooms_of(event), subjects_of(event), is_named(event), is_of_others(event))
        for line in lines_of(state, event, view):
            reply.add(line.verb, *line.params, source=line.source, tags=line.tags)

    def say(self, target: str, to: str, text: str, kind: int) -> None:
        """Send a message without waiting for the answer. If it exceeds a rate limit, further lines
        wait.

        :param target: the target as the client wrote it.
        :param to: the same for the hub.
        """
        try:
            self.context.hub.send(self, to, text, target, kind=kind)
        except TooFast as error:
            self.hold()
            later = error.retry_after or 1
            self.context.clock.callLater(later, self._say_again, target, to, text, kind)
        except ChatError as error:
            self.refuse_message(Reply(self), target, kind, error)
        else:
            self._pending += 1

    def _say_again(self, target: str, to: str, text: str, kind: int) -> None:
        self.go_on()
        if not self.ended:
            self.say(target, to, text, kind)

    # Life

    @property
    def way(self) -> str:
        """See ``sessions.Session``."""
        return self.connection.way

    def registered(self, request: Request, login: LoggedIn) -> None:
        """Called by the hub when the session is logged in."""
        self.connection.registered(self)

    def arrive(self) -> None:
        """Start to deliver messages: first those that were missed, unless the client asks for them
        itself (draft/chathistory).
        """
        hub = self.context.hub
        hub.logins.arrive(self, hub.newest if self.caps & CHATHISTORY else None)

    def end(self, reason: str, *, for_good: bool) -> None:
        """End the session when its connection is lost or closed.

        :param reason: what the others see.
        :param for_good: whether the user has sent QUIT.
        """
        reason = one_line(reason, MAX_REASON)
        self.context.hub.logins.leave(self, for_good=for_good, reason=reason)
        self.stop_running()

    def confirm(self, number: int) -> None:
        """Called when the client has answered the PING with a number."""
        if number <= self.asked:
            self.context.hub.received(self, number)

    def ask_whether_read(self) -> None:
        """Write a PING, if messages were written since the last one."""
        if self.written > self.asked:
            self.ping()

    def ping(self) -> None:
        """Write a PING. The client has all messages when it answers."""
        self.asked = self.written
        self.pinged = self.context.clock.seconds()
        self.write(b"PING :m%d\r\n" % self.asked)

    # Calls of the hub

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        """Called by the hub when a message is committed."""
        if self._awaited and request in self._awaited:
            self._awaited.pop(request).callback(Answer(message, None))
            return
        if isinstance(message, Message) and (message.recipient or self.caps & ECHO_MESSAGE):
            reply = Reply(self)
            self.show_sent(reply, message)
        self._answered()

    def delivered(self, request: Request, number: int) -> None:
        """Do nothing: IRC has no receipts for the sender."""

    def undelivered(self, request: Request) -> None:
        """Do nothing: the message is committed."""

    def refused(self, request: Request, error: ChatError) -> None:
        """Called by the hub when a request, or the login, is refused."""
        if not self.user:
            self.connection.not_registered(error)
        elif request in self._awaited:
            self._awaited.pop(request).errback(error)
        else:
            assert isinstance(request.command, Send)
            target = request.label or request.argument
            self.refuse_message(Reply(self), target, request.command.kind, error)
            self._answered()

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        """Called by the hub when a request has succeeded."""
        self._awaited.pop(request).callback(Answer(result, event))

    def dismissed(self, dismissal: Dismissal) -> None:
        """Called by the hub when an operator has ended the session."""
        cause, by, reason = dismissal
        by = by or CONSOLE_NAME
        if cause == REMOVED:
            self.connection.bye("the account was removed")
            return
        what = "Banned" if cause == BANNED else "Disconnected"
        self.connection.bye(f"{what} by {by}" + (f": {reason}" if reason else ""))

    def when_ready(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no output waits for the client. Called by the hub."""
        self.connection.when_written(then)

    def drop(self, why: str) -> None:
        """Called by the hub when the session can't continue."""
        self.connection.abort(why)
