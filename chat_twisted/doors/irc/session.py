"""A session of an IRC client: it runs the client's commands one after another.

A command is a coroutine with a ``Reply``; the next line is processed when it has ended. Only
messages are sent without waiting for the answer to the one before. What other users do is written
by the ``door``. This module must not know the commands, or how connections are read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from chat_twisted.core.commands import CONSOLE_NAME, NOTICE, Command, Send
from chat_twisted.core.entries import Duplicate, LoggedIn, Result, Signalled
from chat_twisted.core.errors import (
    ChatError,
    NoSession,
    NoSuchRoom,
    TextTooLong,
    TooFast,
    UnableToSend,
)
from chat_twisted.core.events import Event
from chat_twisted.core.message import Message, fold
from chat_twisted.core.model import User
from chat_twisted.core.ordered import Listing
from chat_twisted.core.sanctions import MAX_REASON
from chat_twisted.core.sessions import BANNED, REMOVED, Dismissal, Door, Policy, Request, Session
from chat_twisted.doors import Channel, Nowhere
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
from chat_twisted.doors.irc.capabilities import CHATHISTORY, ECHO_MESSAGE, LABELED_RESPONSE
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.grammar import Line, one_line
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
from chat_twisted.doors.irc.replies import MAX_LABEL, Reply
from chat_twisted.doors.irc.sasl import Exchange
from chat_twisted.logs import Logger

PAGE = 200
"""Number of items of a list that are encoded in one piece of work (``turns.Paced``)."""


class _Named(Protocol):
    """An item of a list: a user, a room or a ban."""

    @property
    def key(self) -> str:
        """The folded name."""


Named = TypeVar("Named", bound=_Named)


_NOT_COUNTED = frozenset(["NOTICE", "PONG", "PRIVMSG", "QUIT", "TAGMSG"])
"""Commands that are not counted as a message: messages are counted when they are sent."""


class Connection(Protocol):
    """The part of a connection that a session uses."""

    channel: Channel

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no output waits for the client; perhaps at once."""

    def hold(self) -> None:
        """Process no further lines until ``go_on``."""

    def go_on(self) -> None:
        """Process lines again."""

    def registered(self, session: IRCSession) -> None:
        """Called when the session of this connection is logged in."""

    def not_registered(self, error: ChatError) -> None:
        """Called when the login is refused."""

    def replace(self, session: IRCSession) -> None:
        """Continue with another session, which is logged in."""

    def quit(self, reason: str) -> None:
        """Close the connection because the client has sent QUIT."""

    def bye(self, reason: str) -> None:
        """Write ERROR, and close the connection after all output."""

    def abort(self, why: str) -> None:
        """Close the connection at once."""


class Answer(NamedTuple):
    """The answer of the hub to a request.

    :ivar event: the event that other sessions get, if any.
    """

    result: Result
    event: Event | None


NOWHERE = Nowhere()

Handler = Callable[["IRCSession", Reply, Line], Coroutine[Any, Any, None]]
"""Type of a command: it writes its answer to the reply. A ``ChatError`` that it raises is answered
with the numeric reply for that error and the first parameter of the line."""


class IRCSession(Session):
    """A session of an IRC client.

    :ivar caps: the capabilities that the client has turned on.
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
        "_awaited",
        "_batches",
        "_deadline",
        "_holds",
        "_pending",
        "_then",
        "_waiting_to_write",
        "asked",
        "caps",
        "channels",
        "collector",
        "connection",
        "context",
        "exchange",
        "is_owed_ping",
        "monitored",
        "negotiation",
        "pinged",
        "written",
    )

    policy = Policy(keeps_name=False, follows_everybody=True)
    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        door: Door,
        context: Context,
        connection: Connection,
        host: str | None,
        caps: int,
        negotiation: Negotiation,
    ) -> None:
        super().__init__(door, host)
        self.context = context
        self.connection = connection
        self.caps = caps
        self.negotiation = negotiation
        self.channels: set[str] = set()
        self.exchange: Exchange | None = None
        self.monitored: dict[str, str] = {}
        self.written = 0
        self.asked = 0
        self.pinged = context.clock.seconds()
        self.is_owed_ping = False
        self.collector: Collector | None = None
        self._batches = 0
        self._deadline: IDelayedCall | None = None
        self._holds = 0
        self._pending = 0  # messages that are not answered
        self._awaited: dict[Request, Deferred[Answer]] = {}
        self._then: Callable[[], None] | None = None  # called when no message is pending
        self._waiting_to_write: Deferred[None] | None = None

    # What commands use

    @property
    def nick(self) -> str:
        """The name of the user; ``*`` if the session has ended."""
        return self.context.hub.name_of(self) or "*"

    @property
    def me(self) -> User:
        """The user.

        :raises NoSession: if the session has ended.
        """
        return self.context.hub.queries.user(self)

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self.connection.write(data)

    def next_batch(self) -> str:
        """Return a reference for a batch."""
        self._batches += 1
        return str(self._batches)

    async def ask(self, command: Command, argument: str = "") -> Answer:
        """Propose a command, and wait for the answer.

        :raises ChatError: if it is refused, or the session ends meanwhile.
        """
        return await self.answer_to(self.context.hub.propose(self, command, argument))

    async def answer_to(self, request: Request) -> Answer:
        """Wait for the answer to a request.

        :raises ChatError: if it is refused, or the session ends meanwhile.
        """
        answer: Deferred[Answer] = Deferred()
        self._awaited[request] = answer
        return await answer

    async def send(self, to: str, text: str, kind: int, extra: Extra) -> Message:
        """Send a message, and wait until it is committed. If it exceeds a rate limit, wait.

        :param to: a user, a room or ALL.
        :param extra: what is delivered with it.
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

    async def pause(self, seconds: float) -> None:
        """Wait.

        :raises NoSession: if the session ends meanwhile.
        """
        over: Deferred[None] = Deferred()
        self.context.clock.callLater(seconds, over.callback, None)
        await over
        if self.ended:
            raise NoSession

    async def spend(self) -> None:
        """Count a command as one message; wait if there were too many."""
        while True:
            try:
                self.context.hub.usage.spend(self)
            except TooFast as error:
                await self.pause(error.retry_after or 1)
            else:
                return

    async def in_pages(
        self, list_after: Callable[[str], Listing[Named]], show: Callable[[list[Named]], None]
    ) -> None:
        """Call ``show`` with pages of a list, in turns with other sessions (``turns.Paced``).

        :param list_after: returns the list after the item with a folded name.
        :raises ChatError: if too much work waits, or the session ends meanwhile.
        """
        after: str | None = ""

        def show_page() -> None:
            nonlocal after
            page = list(islice(list_after(after or "").items, PAGE))
            if page:
                show(page)
            after = page[-1].key if len(page) == PAGE else None

        while after is not None:
            await self._written()
            if wait := self.context.hub.usage.work_wait(self):
                await self.pause(wait)
            await self.context.lists.do(self.context.hub.usage.asker(self), show_page)
            if self.ended:
                raise NoSession

    async def _written(self) -> None:
        """Wait until no output waits for the client.

        :raises NoSession: if the session ends meanwhile.
        """
        written: Deferred[None] = Deferred()
        self._waiting_to_write = written
        self.connection.when_written(lambda: None if written.called else written.callback(None))
        await written

    # Lines

    def reply_to(self, tags: Mapping[str, str]) -> Reply:
        """Return the reply for a line with these tags."""
        label = None
        if tags and self.caps & LABELED_RESPONSE:
            label = tags.get("label")
        if label and len(label.encode()) > MAX_LABEL:
            label = None
        return Reply(self, label or None)

    def take(self, line: Line, handler: Handler) -> None:
        """Run a command when all messages before it are answered."""
        reply = self.reply_to(line.tags)
        if self._pending:
            self.hold()
            self._then = lambda: self.start(self._handle(line, handler, reply), holding=True)
        else:
            self.start(self._handle(line, handler, reply))

    def start(self, coroutine: Coroutine[Any, Any, None], *, holding: bool = False) -> None:
        """Run a coroutine. No line is processed until it has ended. If it raises a ``ChatError``,
        the client is not told: it has asked for nothing, or is gone.

        :param holding: whether ``hold`` was called for this coroutine already.
        """
        running = Deferred.fromCoroutine(coroutine)
        running.addErrback(lambda failure: failure.trap(ChatError))
        running.addErrback(lambda fault: self._log.failure("in a session", fault))
        if not running.called and not holding:
            self.hold()
            holding = True
        if holding:
            running.addCallback(lambda _: self.go_on())

    def when_answered(self, then: Callable[[], None]) -> None:
        """Call ``then`` when all messages are answered; perhaps at once."""
        if self._pending:
            self._then = then
        else:
            then()

    def set_deadline(self, then: Callable[[], None] | None, seconds: float = 0) -> None:
        """Call ``then`` after a time, and forget the deadline before; None sets no other."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if then is None else self.context.clock.callLater(seconds, then)

    def hold(self) -> None:
        """Process no further lines until ``go_on`` is called as often."""
        self._holds += 1
        self.connection.hold()

    @property
    def is_held(self) -> bool:
        """Whether no lines are processed for the time being."""
        return self._holds > 0

    def go_on(self) -> None:
        """Process lines again."""
        self._holds -= 1
        if not self._holds:
            self.connection.go_on()

    async def _handle(self, line: Line, handler: Handler, reply: Reply) -> None:
        try:
            if line.verb not in _NOT_COUNTED:
                await self.spend()
            await handler(self, reply, line)
        except NoSession:
            reply.discard()
        except ChatError as error:
            reply.refuse(error, *(line.params[:1] or [line.verb]))
        except Exception:  # noqa: BLE001  nobody awaits this coroutine
            self._log.failure("while {verb} was processed", verb=line.verb)
            reply.fail(line.verb, "INTERNAL_ERROR", text="An error in the server: it is logged")
        reply.end()

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

    def _answered(self) -> None:
        self._pending -= 1
        if self._then is not None and not self._pending:
            then, self._then = self._then, None
            then()

    # Life

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
        self.connection = NOWHERE
        self._then = None
        self.set_deadline(None)
        awaited, self._awaited = self._awaited, {}
        for answer in awaited.values():
            answer.errback(NoSession())
        if self._waiting_to_write is not None and not self._waiting_to_write.called:
            self._waiting_to_write.errback(NoSession())

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
