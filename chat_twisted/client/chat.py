"""The library for bots: a ``ClientSession`` whose answers and messages can be awaited.

``ChatClient`` joins a session and the ``Connector`` that connects it, matches answers to the
callers that wait for them, and queues messages. It must not know the protocol's bytes, a terminal,
or the purpose of a bot.

A coroutine that awaits these methods may be run by Twisted (``Deferred.fromCoroutine``), or as an
asyncio task on the asyncio reactor: both can await a ``_FutureLikeDeferred``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime

from chat_twisted.client.address import PORT, parse_address
from chat_twisted.client.client_state import config_folder
from chat_twisted.client.connection import FAILURES, Connector, Server, explain
from chat_twisted.client.identity import KEY_FILE, Identity, IdentityError
from chat_twisted.client.incoming import (
    MAX_NAMES,
    Event,
    Received,
    Room,
    Seen,
    State,
)
from chat_twisted.client.session import RECONNECT_FOR, ClientSession, Listed, Proof
from chat_twisted.client.tls import parse_fingerprint
from chat_twisted.core.errors import ChatError, NotPermitted, TooFast
from chat_twisted.core.message import (
    Audience,
    check_room_name,
    check_user_name,
    fold,
    parse_target,
)
from chat_twisted.files import FilesError
from chat_twisted.frames import HeaderIncomplete, format_time
from chat_twisted.logs import Logger
from chat_twisted.refusals import Refusal, refusal_of
from chat_twisted.text import printable_lines

DELIVERED_WITHIN = 10
"""Default number of seconds to wait for a delivery."""

QUEUE = 256 * 1024
"""Characters of messages that may wait for a slow bot before the client stops receiving. A message
counts as at least ``LEAST``."""

MAX_QUEUE = 8 * 1024 * 1024
"""The same limit while the bot awaits an answer, which may come behind many messages. Beyond it,
messages are left to the server and fetched when there is room again."""

LEAST = 1024

ANSWERS = 20
ANSWER_EVERY = 10
"""Number of answers that one user gets at once, and seconds until one more is allowed. Because of
this limit, two bots that answer each other fall silent."""

MAX_ANSWERED = 10_000
"""Maximum number of users whose answers are counted."""

T = TypeVar("T")


class ClientError(Exception):
    """An error of ``ChatClient``. Its text is for people, and safe to print on a terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(printable_lines(text))


class NotConnected(ClientError):
    """There is no connection, and the client will not connect again; the text explains why.

    A request that was not answered before may or may not have been carried out.
    """


class Refused(ClientError):
    """The server has refused a request, or would refuse it.

    :ivar code: the code in the protocol's table (docs/protocol.rst, Errors).
    :ivar reason: the reason, from the same table.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"ERROR {code} {reason}")
        self.code = code
        self.reason = reason


class NotDelivered(ClientError):
    """A message was sent, but its delivery was not confirmed in time. It may still be delivered.

    :ivar sent: the result that ``send`` would have returned.
    """

    def __init__(self, sent: Sent) -> None:
        super().__init__(f"message {sent.number} is sent, but not known to be delivered")
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of this client that is committed: it will not be lost.

    :ivar number: its number, as in ``Received``.
    :ivar time: the time of its commit, as in ``Received``.
    """

    number: int
    time: str


class _FutureLikeDeferred(Deferred[T]):
    """A Deferred that an asyncio task can await too.

    Twisted accepts a Deferred that a coroutine yields. asyncio accepts an object that looks like a
    Future, which it checks by ``_asyncio_future_blocking`` (see ``asyncio.isfuture``). This class
    is both, so it works under both. Detecting the caller instead would fail for a task that starts
    a coroutine of Twisted within its own step.
    """

    _asyncio_future_blocking = False
    _future: asyncio.Future[T] | None = None

    def __await__(self) -> Generator[Any, None, T]:
        if not self.called:
            self._asyncio_future_blocking = True
            yield self
            if self._future is not None:
                return self._future.result()
        return (yield from self.__iter__())

    # The methods of a Future that asyncio calls

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        self._future = self.asFuture(asyncio.get_running_loop())
        self._future.add_done_callback(callback, context=context)

    def cancel(self, msg: Any = None) -> bool:  # type: ignore[override]
        super().cancel()
        return False  # the task then raises its own CancelledError


def _future_like(deferred: Deferred[T]) -> _FutureLikeDeferred[T]:
    """Wrap ``deferred`` so that asyncio can await it too."""
    wait: _FutureLikeDeferred[T] = _FutureLikeDeferred(lambda _: deferred.cancel())
    deferred.addCallbacks(wait.callback, wait.errback)
    return wait


class Notifier:
    """Wakes all waiting coroutines at once; it can be waited for and notified repeatedly."""

    def __init__(self) -> None:
        self._waiting: dict[_FutureLikeDeferred[None], None] = {}

    async def wait(self) -> None:
        """Wait until the next ``notify_all``."""
        wait: _FutureLikeDeferred[None] = _FutureLikeDeferred(
            lambda wait: self._waiting.pop(wait, None)  # type: ignore[call-overload]
        )
        self._waiting[wait] = None
        await wait

    def notify_all(self) -> None:
        """Wake all waiting coroutines."""
        waiting, self._waiting = self._waiting, {}
        for wait in waiting:
            if not wait.called:  # not cancelled by a coroutine that was woken earlier
                wait.callback(None)


def _refused(error: type[ChatError], why: str = "") -> Refused:
    code, reason, _ = refusal_of(error)
    return Refused(code, f"{reason}: {why}" if why else reason)


@contextmanager
def _as_refused() -> Iterator[None]:
    """Raise ``Refused`` for a request that the server would refuse or close the connection for."""
    try:
        yield
    except ChatError as error:
        raise _refused(type(error)) from None


class _AnswerLimit:
    """Limits the number of answers to each user.

    It is not known whether a person or a program wrote a message, so an exchange with a program
    might never end.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # the number of answers, and the time of that number
        self._given: dict[str, tuple[float, float]] = {}

    def spend(self, user: str) -> bool:
        """Count one answer to ``user``; return whether it is allowed."""
        key, now = fold(user), self._clock.seconds()
        given, then = self._given.pop(key, (0.0, now))
        given = max(0.0, given - max(0.0, now - then) / ANSWER_EVERY)
        may = given + 1 <= ANSWERS
        self._given[key] = given + may, now
        if len(self._given) > MAX_ANSWERED:
            del self._given[next(iter(self._given))]
        return may


class SessionListener:
    """The listener of a session: gives answers to the callers that wait, and queues messages.

    :ivar name: the user's own name, as the server spells it; empty before registration.
    :ivar over: whether the session has ended.
    :ivar problem: the error that ended the session, or None.
    :ivar closing: whether the session is being closed by this client.
    :ivar notifier: notified when a message has come or one of these attributes has changed.
    :ivar watcher: called with each change of a user's presence.
    :ivar away: the user's away text, or None if the user is here.
    :ivar rooms: the joined rooms by their folded names: each name, and whether it was joined as a
        private room.
    :param when_over: called when the session has ended.
    """

    _log = Logger()

    session: ClientSession

    def __init__(
        self,
        user: str,
        identity: Identity,
        *,
        listen: bool,
        tell: Callable[[str], object] | None,
        on_event: Callable[[Event], object] | None,
        when_over: Callable[[], None],
    ) -> None:
        self.name = ""
        self.over = False
        self.problem: ClientError | None = None
        self.closing = False
        self.notifier = Notifier()
        self.watcher: Callable[[Seen], object] | None = None
        self.away: str | None = None
        self.rooms: dict[str, tuple[str, bool]] = {}
        self._user = user
        self._identity = identity
        self._listen = listen
        self._tell = tell or self._note
        self._on_event = on_event
        self._when_over = when_over
        self._asked: dict[int, _FutureLikeDeferred[Any]] = {}
        self._undelivered: dict[int, _FutureLikeDeferred[bool]] = {}
        self._messages: deque[Received] = deque()
        self._weight = 0  # of the messages in the queue, see LEAST
        self._paused = False
        self._here: dict[str, Seen] = {}  # the presence of users, as the watcher knows it

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

    # Waiting for answers

    async def answer(self, id: int) -> Any:
        """Wait for the answer to a request.

        :raises Refused, NotConnected: if it was not carried out.
        """

        def forget(_: object) -> None:
            self._asked.pop(id, None)
            self.throttle()

        wait: _FutureLikeDeferred[Any] = _FutureLikeDeferred(forget)
        self._asked[id] = wait
        self.throttle()
        return await wait

    async def ask(
        self,
        verb: str,
        argument: str = "",
        headers: tuple[tuple[str, object], ...] = (),
        body: str | None = None,
    ) -> Any:
        """Send a request, and wait for its answer."""
        with _as_refused():
            id = self.session.ask(verb, argument, headers, body)
        return await self.answer(id)

    def expect_delivery(self, id: int) -> _FutureLikeDeferred[bool]:
        """Start to wait for a delivery; the result says whether it was confirmed."""

        def forget(_: object) -> None:
            self._undelivered.pop(id, None)
            self.throttle()

        wait: _FutureLikeDeferred[bool] = _FutureLikeDeferred(forget)
        self._undelivered[id] = wait
        return wait

    def settle_delivery(self, id: int, arrived: bool) -> None:
        """End the wait for a delivery with its result."""
        wait = self._undelivered.pop(id, None)
        if wait is not None:
            wait.callback(arrived)
            self.throttle()

    def _answered(self, id: int, result: Any) -> None:
        wait = self._asked.pop(id, None)
        if wait is not None:
            wait.callback(result)
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

    def throttle(self) -> None:
        """Pause or resume the session, depending on the size of the queue."""
        session = self.session
        if not self.closing and (self._weight >= MAX_QUEUE or self._weight < QUEUE):
            session.skip_messages(self._weight >= MAX_QUEUE)
        awaits = self._asked or self._undelivered or self.closing
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
        self.name = name
        self.notifier.notify_all()

    def authenticate(self, methods: list[str], challenge: bytes, tries: int) -> Proof | None:
        """Called by the session when the name has an account; see ``Listener.authenticate``."""
        identity = self._identity
        match identity.next_method(methods, tries):
            case "publickey":
                try:
                    return Proof(*identity.sign(challenge, self._user, self.session.binding))
                except IdentityError as error:
                    self.problem = NotConnected(str(error))
            case "password":
                return Proof(password=identity.password) if identity.password else None
        return None

    def not_registered(self, refusal: Refusal) -> None:
        """Called by the session when the server refuses the registration."""
        self.problem = self.problem or Refused(refusal.code, refusal.reason)

    def received(self, message: Received) -> None:
        """Called by the session when a message has come."""
        # After QUIT the server accepts no confirmation: these messages come again at the next
        # login.
        if self._listen and not self.closing:
            self._messages.append(message)
            self._weight += max(LEAST, len(message.text))
            self.throttle()
            self.notifier.notify_all()

    def sent(self, id: int, number: int, time: str) -> None:
        """Called by the session when a message of this client is committed."""
        self._answered(id, Sent(number, time))

    def delivered(self, id: int) -> None:
        """Called by the session when a direct message was delivered."""
        self.settle_delivery(id, True)

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Called by the session when a request was refused."""
        wait = self._asked.pop(id, None) if id is not None else None
        if wait is not None:
            wait.errback(Refused(refusal.code, refusal.reason))
            self.throttle()
        elif id is None:
            self._log.warn(
                "refused: ERROR {code} {reason}", code=refusal.code, reason=refusal.reason
            )

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """Called by the session when a change of the account, the status or a sanction is done."""
        self._answered(id, None)

    def listed(self, id: int, found: Listed) -> None:
        """Called by the session with the answer to WHO, ROOMS or BAN."""
        self._answered(id, found)

    def found(self, id: int, messages: list[Received]) -> None:
        """Called by the session with the answer to HISTORY or SEARCH."""
        self._answered(id, messages)

    def told(self, id: int | None, event: Event) -> None:
        """Called by the session when something has changed in a room."""
        if event.verb == "LEFT" and fold(event.user) == fold(self.name):
            self.rooms.pop(fold(event.room), None)
        if id is not None:
            self._answered(id, event)
        elif self._on_event is not None:
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
        self._log.info("connected again")
        Deferred.fromCoroutine(self._restore())

    def went_back(self) -> None:
        """Called by the session when the server has lost the newest messages."""
        self.tell("the server has lost the last messages: an older state of it was restored")

    async def _restore(self) -> None:
        """Restore the state that the server has forgotten with the connection or the user."""
        if self.session.forgotten:
            for room, private in list(self.rooms.values()):
                await self._rejoin(room, private)
        try:
            if self.away is not None:
                await self.ask("STATUS", "away", (), self.away or None)
            if self.watcher is not None:
                await self.watch(again=True)
        except ClientError as problem:
            self._log.info("after coming back: {problem}", problem=str(problem))

    async def _rejoin(self, room: str, private: bool) -> None:
        try:
            await self.ask("JOIN", room, (("Private", "yes"),) if private else ())
        except ClientError as problem:
            self._log.warn("can't join {room} again: {problem}", room=room, problem=str(problem))
            self.rooms.pop(fold(room), None)

    async def watch(self, *, again: bool = False) -> list[Seen]:
        """Subscribe to presence, for the watcher; return the users who are present.

        :param again: also call the watcher for the changes since the last known state.
        """
        users: list[Seen] = await self.ask("WHO", "", (("Watch", "yes"),))
        before, self._here = self._here, {fold(user.user): user for user in users}
        if again:
            for key, user in before.items():
                if key not in self._here:
                    self._show(Seen(user.user, State.GONE))
            for key, user in list(self._here.items()):
                if before.get(key) != user:
                    self._show(user)
        return users

    def lost(self, reason: str) -> None:
        """Called by the session when it has ended."""
        self.over = True
        self._when_over()
        if not self.closing:
            reason = " ".join(reason.split("\n")) or "the server has closed the connection"
            self.problem = self.problem or NotConnected(reason)
        asked, self._asked = self._asked, {}
        for wait in asked.values():
            wait.errback(self.closed_error())
        for id in list(self._undelivered):
            self.settle_delivery(id, False)
        self.notifier.notify_all()

    def closed_error(self) -> ClientError:
        """Return the error that explains why there is no session."""
        return NotConnected(str(self.problem or "closed"))


class ChatClient:
    """One user's session with a server; it reconnects when the connection is lost.

    ``async for message in client`` yields the messages to the user. Each method sends a request and
    waits until the server has answered, across any number of reconnections. A client connects only
    once; after it was closed or lost, create another one.

    :param user: the user's name: 1 to 32 letters, digits, ``_`` and ``-``.
    :param host: the server's name or address, as ``chat-twisted`` accepts it: ``chat.example.org``,
        ``chat.example.org:9000``, ``[::1]:9000``.
    :param port: the TCP port, if ``host`` has none.
    :param reactor: Twisted's reactor, as ``twisted.internet.task.react`` passes it to ``main``.
    :param identity: the user's private key file, as ssh-keygen writes it; None for the key that the
        bundled client creates. It is used only if the name has an account.
    :param password: the account's password; empty if it has none.
    :param fingerprint: the SHA-256 fingerprint that the server's certificate must have, as the
        server logs it. Without it, the certificate must be vouched for by an authority, or be the
        one seen at the first connection.
    :param plain: whether to connect without encryption.
    :param reconnect_for: seconds for which a lost connection is tried again; 0 disables this.
    :param listen: whether messages are queued. A bot that only sends can disable this.
    :param tell: called with lines of text for people: that the server is new, and the server's
        notices. By default they are logged.
    :param on_event: called with changes in rooms, and with invitations.
    :raises ValueError: if ``fingerprint`` is invalid, or ``host`` contradicts ``port`` or ``user``.
    :raises NotConnected: if ``host`` is not an address, or the folder of the user's keys and
        certificates is not known.
    """

    def __init__(
        self,
        user: str,
        host: str,
        port: int | None = None,
        *,
        reactor: Any,
        identity: Path | str | None = None,
        password: str = "",
        fingerprint: str | None = None,
        plain: bool = False,
        reconnect_for: float = RECONNECT_FOR,
        listen: bool = True,
        tell: Callable[[str], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if fingerprint is not None:
            fingerprint = parse_fingerprint(fingerprint)
        self._user = user
        try:
            address = parse_address(host)
        except ValueError as problem:
            raise NotConnected(str(problem)) from None
        if port is not None and address.port not in (None, port):
            raise ValueError(f"the port is given twice: {port}, and {address.port} in {host}")
        if address.user and fold(address.user) != fold(user):
            raise ValueError(f"the user is given twice: {user}, and {address.user} in {host}")
        self._server = Server(address.host, address.port or port or PORT, fingerprint, plain)
        self._reactor = reactor
        self._reconnect_for = reconnect_for
        self._listen = listen
        try:
            key = config_folder() / KEY_FILE if identity is None else Path(identity)
            self._connector = Connector(
                reactor, self._server, lambda text: self._listener.tell(text)
            )
        except FilesError as problem:
            raise NotConnected(str(problem)) from None
        self._listener = SessionListener(
            user,
            Identity(key, own=identity is None, password=password),
            listen=listen,
            tell=tell,
            on_event=on_event,
            when_over=self._forget_shutdown,
        )
        self._answer_limit = _AnswerLimit(reactor)
        self._session: ClientSession | None = None
        self._connecting: Deferred[Any] | None = None
        self._shutdown: Any = None  # the trigger that closes the client when the reactor stops

    @property
    def name(self) -> str:
        """The user's own name as others see it; empty before the client is connected."""
        return self._listener.name

    # Connecting and closing

    async def connect(self) -> None:
        """Connect and register.

        :raises Refused: if the server does not accept the user: the name is malformed (100), in use
            (105), or belongs to an account that the client can't log in to (106, 107); or the
            server is full (112).
        :raises NotConnected: if there is no such server, its certificate is not the expected one,
            or the key can't be read.
        :raises RuntimeError: if the client was connected before.
        """
        if self._session is not None:
            raise RuntimeError("a client connects once: make another")
        with _as_refused():
            check_user_name(self._user)
        listener, connector = self._listener, self._connector
        self._session = listener.session = session = ClientSession(
            self._user,
            listener,
            self._reactor,
            connector.reconnect,
            reconnect_for=self._reconnect_for,
        )
        self._close_at_shutdown()
        try:
            self._connecting = connector.connect(session)
            await _future_like(self._connecting)
            self._connecting = None
            while not listener.name and not listener.over:
                await listener.notifier.wait()
        except FAILURES as problem:
            listener.problem = NotConnected(explain(problem, self._server))
        except (CancelledError, ConnectingCancelledError):
            if not listener.closing:  # not by ``close``
                raise CancelledError from None
        finally:
            if not listener.name:
                self._give_up()
        if listener.over or listener.closing:
            raise listener.problem or listener.closed_error()

    def _give_up(self) -> None:
        """Close a session that could not be registered."""
        assert self._session is not None
        listener = self._listener
        listener.closing = True
        self._session.quit()
        if not self._session.connected and not listener.over:
            listener.lost("")

    def _close_at_shutdown(self) -> None:
        """Close the client before the reactor stops: a guest whose connection is just lost keeps
        the name reserved for a while, also from the bot's next run.
        """

        def close() -> Deferred[None]:
            self._shutdown = None
            return Deferred.fromCoroutine(self.close())

        if IReactorCore.providedBy(self._reactor):
            self._shutdown = self._reactor.addSystemEventTrigger("before", "shutdown", close)

    def _forget_shutdown(self) -> None:
        if self._shutdown is not None:
            self._reactor.removeSystemEventTrigger(self._shutdown)
            self._shutdown = None

    async def close(self) -> None:
        """Close the session, and return when the connection is closed: after two seconds at most.

        Queued messages can still be read. Requests without an answer raise ``NotConnected``. A
        client is closed automatically when the reactor stops.
        """
        session, listener = self._session, self._listener
        if session is None or listener.over:
            return
        listener.closing = True
        if self._connecting is not None:
            self._connecting.cancel()
        session.quit()
        listener.throttle()
        while not listener.over:
            await listener.notifier.wait()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Receiving

    def __aiter__(self) -> AsyncIterator[Received]:
        if not self._listen:
            raise RuntimeError("this client was told not to listen")
        return self

    async def __anext__(self) -> Received:
        """Return the next message, oldest first.

        The iteration ends when the client is closed. Two tasks that iterate get different messages.

        :raises NotConnected: if the session was lost.
        """
        listener = self._listener
        while (message := listener.take()) is None:
            if self._session is None:
                raise NotConnected("not connected")
            if listener.over:
                if listener.problem is None:
                    raise StopAsyncIteration
                raise listener.closed_error()
            await listener.notifier.wait()
        return message

    # Sending

    async def send(
        self, to: str, text: str, *, delivered: bool = False, timeout: float = DELIVERED_WITHIN
    ) -> Sent:
        """Send ``text`` to a user, a ``#room`` that this user has joined, or ``ALL``.

        Returns when the message is committed: it was sent exactly once, and will not be lost. If
        the call is cancelled, the message may or may not have been sent.

        :param delivered: also wait until the recipient's client has the message.
        :param timeout: seconds to wait for that.
        :raises Refused: if nobody can receive it (102), the text is empty or contains NUL (103), it
            is too long (108), there is no such room (110), or the user is not a member or is muted
            (111).
        :raises NotDelivered: if it was sent, but not confirmed within ``timeout``.
        :raises NotConnected: if the session has ended.
        :raises ValueError: if ``delivered`` is set for a room or ``ALL``.
        """
        session, listener = self._live(), self._listener
        with _as_refused():
            session.check(to, text)
            if not text:
                raise HeaderIncomplete
            if delivered and parse_target(to).audience is not Audience.USER:
                raise ValueError("only what is to one user is confirmed")
        id = session.send(to, text)
        if not delivered:
            return await self._sent(id)
        arrival = listener.expect_delivery(id)
        try:
            sent = await self._sent(id)
            timer = self._reactor.callLater(timeout, listener.settle_delivery, id, False)
            arrived = await self._until(arrival, timer)
        finally:
            listener.settle_delivery(id, False)
        if not arrived:
            raise NotDelivered(sent)
        return sent

    async def answer(self, message: Received, text: str) -> Sent:
        """Send ``text`` to the conversation of ``message``: its sender, its room, or ``ALL``.

        One user gets 20 answers at once, and one more every 10 seconds, so that two bots that
        answer each other fall silent. ``send`` has no such limit.

        :raises Refused: as ``send``; also if the sender got too many answers (109), or ``message``
            is from this user (111).
        :raises NotConnected: as ``send``.
        """
        self._live()
        if fold(message.sender) == fold(self.name):
            raise _refused(NotPermitted, "the message is one's own")
        if not self._answer_limit.spend(message.sender):
            raise _refused(TooFast, f"{message.sender} had {ANSWERS} answers already")
        direct = fold(message.to) == fold(self.name)
        return await self.send(message.sender if direct else message.to, text)

    async def _sent(self, id: int) -> Sent:
        sent: Sent = await self._listener.answer(id)
        return sent

    @staticmethod
    async def _until(wait: _FutureLikeDeferred[T], timer: IDelayedCall) -> T:
        try:
            return await wait
        finally:
            if timer.active():
                timer.cancel()

    def _live(self) -> ClientSession:
        if self._session is None:
            raise NotConnected("not connected")
        if not self._listener.name or self._listener.over or self._listener.closing:
            raise self._listener.closed_error()
        return self._session

    async def _ask(
        self,
        verb: str,
        argument: str = "",
        headers: tuple[tuple[str, object], ...] = (),
        body: str | None = None,
    ) -> Any:
        self._live()
        return await self._listener.ask(verb, argument, headers, body)

    # Rooms. All of these raise ``Refused`` and ``NotConnected``, as ``send`` does.

    async def join(self, room: str, *, private: bool = False) -> str:
        """Join a room, creating it if it does not exist; return its topic.

        :param private: if the room is created, only invited users can join it.
        :raises Refused: if the room is private and the user is not invited, the room is public
            although ``private`` is set, or the user is in too many rooms (111).
        """
        event = await self._ask("JOIN", _room(room), (("Private", "yes"),) if private else ())
        self._listener.rooms[fold(room)] = (room, private)
        return event.topic or ""

    async def leave(self, room: str) -> None:
        """Leave a room."""
        await self._ask("LEAVE", _room(room))

    async def topic(self, room: str, text: str | None = None) -> str:
        """Return a room's topic, or set it first if ``text`` is given.

        :param text: one line of at most 400 characters.
        """
        event = await self._ask("TOPIC", _room(room), (), text)
        return event.topic or ""

    async def invite(self, room: str, user: str) -> None:
        """Invite a user to a private room that this user owns."""
        with _as_refused():
            check_user_name(user)
        await self._ask("INVITE", _room(room), (("User", user),))

    async def rooms(self) -> list[Room]:
        """Return the rooms that are visible to the user."""
        found: list[Room] = await self._ask("ROOMS")
        return found

    async def members(self, room: str) -> list[Seen]:
        """Return the members of a room. Members without a connection are ``AWAY``."""
        found: list[Seen] = await self._ask("WHO", _room(room))
        return found

    # History

    async def history(
        self,
        place: str,
        count: int = 50,
        *,
        after: int | None = None,
        before: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Received]:
        """Return messages of a conversation, oldest first.

        By default these are the last messages; with ``after`` or ``since``, the first ones from
        there.

        :param place: a room, ``ALL``, or a user for the direct messages with them.
        :param count: the maximum number; the server returns at most 1000.
        :param after: only messages with a greater number than this.
        :param before: only messages with a smaller number than this.
        :param since: only messages from this time on.
        :param until: only messages up to this time.
        :raises Refused, NotConnected: as ``send``.
        :raises ValueError: if a number is negative or too large.
        """
        with _as_refused():
            parse_target(place)
        headers: list[tuple[str, object]] = [("Count", _natural(count))]
        for name, number in (("After", after), ("Before", before)):
            if number is not None:
                headers.append((name, _natural(number)))
        for name, moment in (("Since", since), ("Until", until)):
            if moment is not None:
                headers.append((name, format_time(max(0, int(moment.timestamp() * 1000)))))
        found: list[Received] = await self._ask("HISTORY", place, tuple(headers))
        return found

    async def search(self, words: str, place: str = "", count: int = 20) -> list[Received]:
        """Return the messages that contain all of ``words``, best match first.

        :param place: as in ``history``; empty for all conversations of the user.
        :param count: the maximum number; the server returns at most 100.
        :raises Refused, NotConnected: as ``send``; also if there are no words (103) or too many
            (111).
        :raises ValueError: if ``count`` is negative or too large.
        """
        with _as_refused():
            if place:
                parse_target(place)
            if not words.strip():
                raise HeaderIncomplete
        found: list[Received] = await self._ask(
            "SEARCH", place, (("Count", _natural(count)),), words
        )
        return found

    # Presence

    async def who(self) -> list[Seen]:
        """Return the users who are present, in alphabetical order.

        :raises NotConnected: if the session has ended.
        """
        found: list[Seen] = await self._ask("WHO")
        return found

    async def watch(self, seen: Callable[[Seen], object] | None) -> list[Seen]:
        """Call ``seen`` with each user who comes, leaves (``GONE``), goes away or comes back.

        It replaces an earlier callback. After a lost connection it is called with the changes
        since.

        :param seen: the callback; None to stop.
        :return: the users who are present now.
        :raises NotConnected: if the session has ended.
        """
        self._live()
        self._listener.watcher = seen
        if seen is not None:
            return await self._listener.watch()
        found: list[Seen] = await self._ask("WHO", "", (("Watch", "no"),))
        return found

    async def set_away(self, why: str = "") -> None:
        """Set the user's status to away.

        :param why: a reason in one line of at most 200 characters.
        :raises Refused, NotConnected: as ``send``.
        """
        await self._ask("STATUS", "away", (), why or None)
        self._listener.away = why

    async def set_back(self) -> None:
        """Set the user's status back to present.

        :raises NotConnected: if the session has ended.
        """
        await self._ask("STATUS", "here")
        self._listener.away = None


def _room(name: str) -> str:
    with _as_refused():
        return check_room_name(name)


def _natural(number: int) -> int:
    if not 0 <= number < 10**18:  # the protocol can't express others
        raise ValueError(f"{number} is not a number of messages or of one")
    return number
