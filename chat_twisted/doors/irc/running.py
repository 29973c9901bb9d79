"""How the commands of an IRC client run: one after another.

A command is a coroutine with a ``Reply``; the next line is processed when it has ended. Only
messages are sent without waiting for the answer to the one before. Commands wait for the hub, for
rate limits, and for a client that does not read. This module must not know the commands, or what a
client is told.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from itertools import islice
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from chat_twisted.core.commands import Command
from chat_twisted.core.entries import Result
from chat_twisted.core.errors import ChatError, NoSession, TooFast
from chat_twisted.core.events import Event
from chat_twisted.core.ordered import Listing
from chat_twisted.core.sessions import Door, Request, Session
from chat_twisted.doors import Channel, Nowhere
from chat_twisted.doors.irc.capabilities import LABELED_RESPONSE
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.replies import MAX_LABEL, Reply
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

    @property
    def way(self) -> str:
        """How the client is connected, for the operator."""

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no output waits for the client; perhaps at once."""

    def hold(self) -> None:
        """Process no further lines until ``go_on``."""

    def go_on(self) -> None:
        """Process lines again."""

    def registered(self, session: Any) -> None:
        """Called when the session of this connection is logged in."""

    def not_registered(self, error: ChatError) -> None:
        """Called when the login is refused."""

    def replace(self, session: Any) -> None:
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

Handler = Callable[[Any, Reply, Line], Coroutine[Any, Any, None]]
"""Type of a command: it gets the session, and writes its answer to the reply. A ``ChatError`` that
it raises is answered with the numeric reply for that error and the first parameter of the line."""


class RunningSession(Session):
    """The part of a session that runs the client's commands.

    :ivar caps: the capabilities that the client has turned on.
    """

    __slots__ = (
        "_awaited",
        "_batches",
        "_deadline",
        "_holds",
        "_pending",
        "_then",
        "_waiting_to_write",
        "caps",
        "connection",
        "context",
    )

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, door: Door, context: Context, connection: Connection, host: str | None, caps: int
    ) -> None:
        super().__init__(door, host)
        self.context = context
        self.connection = connection
        self.caps = caps
        self._batches = 0
        self._deadline: IDelayedCall | None = None
        self._holds = 0
        self._pending = 0  # messages that are not answered
        self._awaited: dict[Request, Deferred[Answer]] = {}
        self._then: Callable[[], None] | None = None  # called when no message is pending
        self._waiting_to_write: Deferred[None] | None = None

    @property
    def nick(self) -> str:
        """The name of the user; ``*`` if the session has ended."""
        return self.context.hub.name_of(self) or "*"

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self.connection.write(data)

    def next_batch(self) -> str:
        """Return a reference for a batch."""
        self._batches += 1
        return str(self._batches)

    def count_refusal(self, error: ChatError) -> None:
        """Count a refusal, for the operator."""
        self.context.refused.add(error)

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

    def _answered(self) -> None:
        self._pending -= 1
        if self._then is not None and not self._pending:
            then, self._then = self._then, None
            then()

    def stop_running(self) -> None:
        """End all commands, because the session has ended."""
        self.connection = NOWHERE
        self._then = None
        self.set_deadline(None)
        awaited, self._awaited = self._awaited, {}
        for answer in awaited.values():
            answer.errback(NoSession())
        if self._waiting_to_write is not None and not self._waiting_to_write.called:
            self._waiting_to_write.errback(NoSession())
