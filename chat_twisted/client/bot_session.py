"""A session of a bot: its answers and messages are awaited by coroutines.

``BotSession`` connects a ``ClientSession`` and queues its messages. It must not know the requests
that a bot can make, or the purpose of a bot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorCore

from chat_twisted.client.connection import FAILURES, Connector, Server, explain
from chat_twisted.client.identity import Identity
from chat_twisted.client.login import Credentials
from chat_twisted.client.session import ClientSession
from chat_twisted.client.waiting import FutureLikeDeferred, Notifier, future_like
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.logs import Logger
from chat_twisted.text import printable_lines
from chat_twisted.ui.errors import ClientError, NotConnected, Refused, as_refused
from chat_twisted.ui.values import MAX_NAMES, Event, Received, Seen, State

T = TypeVar("T")

QUEUE = 256 * 1024
"""Characters of messages that may wait for a slow bot before the client stops receiving. A message
counts as at least ``LEAST``."""

MAX_QUEUE = 8 * 1024 * 1024
"""The same limit while the bot awaits an answer, which may come behind many messages. Beyond it,
messages are left to the server and fetched when there is room again."""

LEAST = 1024


class BotSession:
    """One session of a bot, and the listener of its ``ClientSession``.

    :ivar is_registered: whether the user was ever registered.
    :ivar session: the session with the server; None before ``connect``.
    :ivar over: whether the session has ended.
    :ivar problem: the error that ended the session, or None.
    :ivar notifier: notified when a message has come or one of these attributes has changed.
    :ivar watcher: called with each change of a user's presence.
    :param reconnect_for, listen, tell, on_event: as in ``ChatClient``.
    :raises FilesError: if the folder of the known certificates is not known.
    """

    _log = Logger()

    def __init__(
        self,
        user: str,
        identity: Identity,
        server: Server,
        reactor: Any,
        *,
        reconnect_for: float,
        listen: bool,
        tell: Callable[[str], object] | None,
        on_event: Callable[[Event], object] | None,
    ) -> None:
        self.is_registered = False
        self.session: ClientSession | None = None
        self.over = False
        self.problem: ClientError | None = None
        self.notifier = Notifier()
        self.watcher: Callable[[Seen], object] | None = None
        self._user = user
        self._identity = identity
        self._server = server
        self._reactor = reactor
        self._connector = Connector(reactor, server, self.tell)
        self._reconnect_for = reconnect_for
        self._connecting: Deferred[Any] | None = None
        self._closing = False  # whether this client is closing the session
        self._shutdown: Any = None  # the trigger that closes the session when the reactor stops
        self._listen = listen
        self._tell = tell or self._note
        self._on_event = on_event
        self._awaited = 0  # the number of answers that are awaited
        self._undelivered: dict[int, FutureLikeDeferred[bool]] = {}
        self._messages: deque[Received] = deque()
        self._weight = 0  # of the messages in the queue, see LEAST
        self._paused = False
        self._here: dict[str, Seen] = {}  # the presence of users, as the watcher knows it

    @property
    def name(self) -> str:
        """The user's own name, as the server spells it; empty before registration."""
        return self.session.user if self.session is not None and self.is_registered else ""

    def _note(self, notice: str) -> None:
        self._log.info("{notice}", notice=notice)

    def tell(self, notice: str) -> None:
        """Give a notice to the bot, for people to read."""
        self._call(self._tell, printable_lines(notice))

    def _call(self, function: Callable[[T], object], value: T) -> None:
        try:
            function(value)
        except Exception:  # noqa: BLE001  a mistake in a bot must not end the session
            self._log.failure("while a bot was told something")

    # Connecting and closing

    async def connect(self) -> None:
        """Connect and register.

        :raises Refused, NotConnected, RuntimeError: as ``ChatClient.connect``.
        """
        if self.session is not None:
            raise RuntimeError("a client connects once: make another")
        with as_refused():
            check_user_name(self._user)
        self.session = session = ClientSession(
            self._user,
            self,
            Credentials(self._identity, lambda what: succeed("")),
            self._reactor,
            self._connector.reconnect,
            hosts=self._connector.hosts,
            reconnect_for=self._reconnect_for,
            bot=True,
        )
        self._close_at_shutdown()
        try:
            self._connecting = self._connector.connect(session)
            await future_like(self._connecting)
            self._connecting = None
            while not self.name and not self.over:
                await self.notifier.wait()
        except FAILURES as problem:
            self.problem = NotConnected(explain(problem, self._server))
        except (CancelledError, ConnectingCancelledError):
            if not self._closing:  # not by ``close``
                raise CancelledError from None
        finally:
            if not self.name:
                self._give_up(session)
        if self.over or self._closing:
            raise self.problem or self.closed_error()

    def _give_up(self, session: ClientSession) -> None:
        """Close a session that could not be registered."""
        self._closing = True
        session.quit()
        if not session.connected and not self.over:
            self.lost("")

    def _close_at_shutdown(self) -> None:
        """Close the session before the reactor stops: a guest whose connection is just lost keeps
        the name reserved for a while, also from the bot's next run.
        """

        def close() -> Deferred[None]:
            self._shutdown = None
            return Deferred.fromCoroutine(self.close())

        if IReactorCore.providedBy(self._reactor):
            self._shutdown = self._reactor.addSystemEventTrigger("before", "shutdown", close)

    async def close(self) -> None:
        """Close the session, and return when the connection is closed."""
        session = self.session
        if session is None or self.over:
            return
        self._closing = True
        if self._connecting is not None:
            self._connecting.cancel()
        session.quit()
        self.throttle()
        while not self.over:
            await self.notifier.wait()

    def live(self) -> ClientSession:
        """Return the session, which is registered.

        :raises NotConnected: if there is none, or it has ended.
        """
        if self.session is None:
            raise NotConnected("not connected")
        if not self.name or self.over or self._closing:
            raise self.closed_error()
        return self.session

    # Waiting for answers

    async def answer(self, answered: Awaitable[T]) -> T:
        """Wait for the answer to a request; meanwhile more messages are received than otherwise.

        :raises Refused, NotConnected: if it was not carried out.
        """
        self._awaited += 1
        self.throttle()
        try:
            return await answered
        finally:
            self._awaited -= 1
            self.throttle()

    def expect_delivery(self, number: int) -> FutureLikeDeferred[bool]:
        """Start to wait for the delivery of a message; the result says whether it was confirmed."""
        wait: FutureLikeDeferred[bool] = FutureLikeDeferred()
        self._undelivered[number] = wait
        return wait

    def settle_delivery(self, number: int, arrived: bool) -> None:
        """End the wait for a delivery with its result."""
        wait = self._undelivered.pop(number, None)
        if wait is not None:
            wait.callback(arrived)
            self.throttle()

    # Messages

    def take(self) -> Received | None:
        """Remove and return the next message, or None."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._weight -= max(LEAST, len(message.text))
        self.throttle()
        return message

    def _forget(self, number: int) -> None:
        """Drop a deleted message that the bot has not taken yet."""
        kept = deque(message for message in self._messages if message.number != number)
        if len(kept) < len(self._messages):
            self._messages = kept
            self._weight = sum(max(LEAST, len(message.text)) for message in kept)
            self.throttle()

    def throttle(self) -> None:
        """Pause or resume the session, depending on the size of the queue."""
        session = self.session
        assert session is not None
        if not self._closing and (self._weight >= MAX_QUEUE or self._weight < QUEUE):
            session.skip_messages(self._weight >= MAX_QUEUE)
        awaits = self._awaited or self._undelivered or self._closing
        pause = self._weight >= QUEUE and not awaits
        if pause != self._paused and not self.over:
            self._paused = pause
            if pause:
                session.pauseProducing()
            else:
                session.resumeProducing()

    # The session

    def registered(self, name: str) -> None:
        """Called by the session when the user is registered."""
        self.is_registered = True
        self.notifier.notify_all()

    def not_registered(self, problem: ClientError) -> None:
        """Called by the session when the user can't be registered."""
        self.problem = self.problem or problem

    def received(self, message: Received) -> None:
        """Called by the session when a message has come."""
        # After QUIT the server accepts no confirmation: these messages come again at the next
        # login.
        if self._listen and not self._closing and not message.deleted:
            self._messages.append(message)
            self._weight += max(LEAST, len(message.text))
            self.throttle()
            self.notifier.notify_all()

    def delivered(self, number: int) -> None:
        """Called by the session when a direct message was delivered."""
        self.settle_delivery(number, True)

    def refused(self, problem: Refused) -> None:
        """Called by the session when something was refused that is no request of the bot."""
        self._log.warn("refused: {problem}", problem=str(problem))

    def told(self, event: Event) -> None:
        """Called by the session with each event that the bot did not ask for."""
        if event.verb == "DELETED":
            self._forget(event.number)
        if self._on_event is not None:
            self._call(self._on_event, event)

    def seen(self, users: list[Seen]) -> None:
        """Called by the session when the presence of users has changed."""
        for user in users:
            self._show(user)

    def _show(self, seen: Seen) -> None:
        if seen.state is State.GONE:
            self._here.pop(fold(seen.user), None)
        elif len(self._here) < MAX_NAMES or fold(seen.user) in self._here:
            self._here[fold(seen.user)] = seen
        if self.watcher is not None:
            self._call(self.watcher, seen)

    def noticed(self, text: str) -> None:
        """Called by the session with a notice from the server."""
        self.tell(text)

    def disconnected(self, reason: str) -> None:
        """Called by the session when the connection is lost; the session tries to connect again."""
        self._log.info("connection lost, trying again: {reason}", reason=reason)

    def reconnected(self) -> None:
        """Called by the session when it is connected again."""
        where = self.session.where if self.session is not None else ""
        self._log.info("connected again to {where}", where=where)

    def went_back(self) -> None:
        """Called by the session when the server has lost the newest messages."""
        self.tell("the server has lost the last messages: an older state of it was restored")

    async def watch(self) -> list[Seen]:
        """Subscribe to presence, for the watcher; return the users who are present."""
        users = await self.answer(self.live().watch())
        self._here = {fold(user.user): user for user in users}
        return users

    def present(self, users: list[Seen]) -> None:
        """Called by the session with all present users after a reconnect."""
        before, self._here = self._here, {fold(user.user): user for user in users}
        for key, user in before.items():
            if key not in self._here:
                self._show(Seen(user.user, State.GONE))
        for key, user in list(self._here.items()):
            if before.get(key) != user:
                self._show(user)

    def lost(self, reason: str) -> None:
        """Called by the session when it has ended."""
        self.over = True
        if self._shutdown is not None:
            self._reactor.removeSystemEventTrigger(self._shutdown)
            self._shutdown = None
        if not self._closing:
            reason = " ".join(reason.split("\n")) or "the server has closed the connection"
            self.problem = self.problem or NotConnected(reason)
        for id in list(self._undelivered):
            self.settle_delivery(id, False)
        self.notifier.notify_all()

    def closed_error(self) -> ClientError:
        """Return the error that explains why there is no session."""
        return NotConnected(str(self.problem or "closed"))
