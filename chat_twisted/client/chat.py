"""A client to write bots on: what a ``ClientSession`` tells of, as what can be awaited.

``ChatClient`` joins a session and the ``Connector`` that connects it, remembers who waits for which
answer, and keeps what is said until it is asked for. The protocol is the session's; nothing here
knows a byte of it, nor what a bot does, nor a terminal.

A coroutine that awaits what is here may be run by Twisted (``Deferred.fromCoroutine``) or be a task
of asyncio's, if the reactor is asyncio's: what is waited for in the end is a ``_Wait``, which both
take.
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
    Refusal,
    Room,
    Seen,
    State,
)
from chat_twisted.client.session import RECONNECT_FOR, ClientSession, Listed, Proof
from chat_twisted.client.tls import parse_fingerprint
from chat_twisted.core.errors import ChatError, HeaderIncomplete, NotPermitted, TooFast
from chat_twisted.core.message import (
    Audience,
    check_room_name,
    check_user_name,
    fold,
    parse_target,
)
from chat_twisted.files import FilesError
from chat_twisted.frames import format_time
from chat_twisted.logs import Logger
from chat_twisted.text import printable_lines

DELIVERED_WITHIN = 10
"""Seconds for which a delivery is waited for if it is not said otherwise."""

QUEUE = 256 * 1024
"""How much may wait for a bot that is slow, in characters, before no more is received. A message
counts as ``LEAST`` at least."""

MAX_QUEUE = 8 * 1024 * 1024
"""How much at most, while an answer is waited for: it comes behind what is said. Past it messages
are left to the server, and fetched when there is room again."""

LEAST = 1024

ANSWERS = 20
ANSWER_EVERY = 10
"""How many answers one user gets at once, and seconds after which it is one more: two bots that
answer each other fall silent."""

MAX_ANSWERED = 10_000
"""Of how many users it is remembered how many answers they had."""

T = TypeVar("T")


class ClientError(Exception):
    """What a ``ChatClient`` could not do; its text is for people, and may go to a terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(printable_lines(text))


class NotConnected(ClientError):
    """There is no connection, and none will come; the text says why.

    What was asked and not answered before may or may not have been done.
    """


class Refused(ClientError):
    """The server has refused what was asked, or would have.

    :ivar code: of the protocol's table (docs/protocol.rst, Errors), as ``reason`` is.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"ERROR {code} {reason}")
        self.code = code
        self.reason = reason


class NotDelivered(ClientError):
    """A message was sent, but nobody has confirmed it in time. It may still come.

    :ivar sent: what ``send`` would have returned.
    """

    def __init__(self, sent: Sent) -> None:
        super().__init__(f"message {sent.number} is sent, but not known to be delivered")
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of one's own that is committed: it will not be lost. The fields are those that
    ``Received`` has for others.
    """

    number: int
    time: str


class _Wait(Deferred[T]):
    """A Deferred that a task of asyncio's can await, too.

    Twisted takes what a coroutine yields if it is a Deferred, asyncio if it is like a Future, which
    ``_asyncio_future_blocking`` says of it (see ``asyncio.isfuture``). This is both, so nobody has
    to guess who runs the coroutine: a task that starts a coroutine of Twisted's within its own step
    would be guessed wrong.
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

    # What asyncio asks of a Future that a task waits for

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        self._future = self.asFuture(asyncio.get_running_loop())
        self._future.add_done_callback(callback, context=context)

    def cancel(self, msg: Any = None) -> bool:  # type: ignore[override]
        super().cancel()
        return False  # a task that hears this makes its own CancelledError of what follows


def _either(deferred: Deferred[T]) -> _Wait[T]:
    """Make ``deferred`` one that asyncio can await as well."""
    wait: _Wait[T] = _Wait(lambda _: deferred.cancel())
    deferred.addCallbacks(wait.callback, wait.errback)
    return wait


class Notifier:
    """Wakes all waiting coroutines at once; it can be waited for and notified repeatedly."""

    def __init__(self) -> None:
        self._waiting: dict[_Wait[None], None] = {}

    async def wait(self) -> None:
        """Wait until the next ``notify_all``."""
        wait: _Wait[None] = _Wait(lambda wait: self._waiting.pop(wait, None))  # type: ignore[call-overload]
        self._waiting[wait] = None
        await wait

    def notify_all(self) -> None:
        """Wake everyone who is waiting."""
        waiting, self._waiting = self._waiting, {}
        for wait in waiting:
            if not wait.called:  # not cancelled by one that was woken before
                wait.callback(None)


@contextmanager
def _refusing() -> Iterator[None]:
    """Refuse what the server would refuse, or close the connection for."""
    try:
        yield
    except ChatError as error:
        raise Refused(error.code, error.reason) from None


class _Answers:
    """Bounds how many answers each user gets, whoever wrote what is answered.

    Nobody can tell whether a message was written by a person or by a program, and so whether
    answering it has an end.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._given: dict[str, tuple[float, float]] = {}  # how many, and when that was so

    def spend(self, user: str) -> bool:
        """Return whether one more may be given to ``user``."""
        key, now = fold(user), self._clock.seconds()
        given, then = self._given.pop(key, (0.0, now))
        given = max(0.0, given - max(0.0, now - then) / ANSWER_EVERY)
        may = given + 1 <= ANSWERS
        self._given[key] = given + may, now
        if len(self._given) > MAX_ANSWERED:
            del self._given[next(iter(self._given))]
        return may


class SessionListener:
    """Listens to a session: brings answers to those who wait for them, and keeps messages.

    :ivar name: one's own, as the server has it; empty before it has.
    :ivar over: whether there is no session any more.
    :ivar problem: why, if that was not one's own wish.
    :ivar closing: it is one's own wish.
    :ivar notifier: notified when a message has come or one of these attributes has changed.
    :ivar watcher: is told who comes and goes.
    :ivar away: why one does not read, None if one does.
    :ivar rooms: which one has joined by their folded names, and whether as private ones.
    :param when_over: called when there is no session any more.
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
        self._asked: dict[int, _Wait[Any]] = {}
        self._undelivered: dict[int, _Wait[bool]] = {}
        self._messages: deque[Received] = deque()
        self._weight = 0  # of the messages
        self._paused = False
        self._here: dict[str, Seen] = {}  # what the watcher was told

    def _note(self, notice: str) -> None:
        self._log.info("{notice}", notice=notice)

    def tell(self, notice: str) -> None:
        """Say what people may want to know."""
        self._call(self._tell, printable_lines(notice))

    def _call(self, function: Callable[[T], object], value: T) -> None:
        try:
            function(value)
        except Exception:  # noqa: BLE001  a bot's mistake is none of the session's
            self._log.failure("while a bot was told something")

    # Waiting for answers

    async def answer(self, id: int) -> Any:
        """Wait for what becomes of a request.

        :raises Refused, NotConnected: that it was not done.
        """

        def forget(_: object) -> None:
            self._asked.pop(id, None)
            self.throttle()

        wait: _Wait[Any] = _Wait(forget)
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
        """Ask the server, and wait for the answer."""
        with _refusing():
            id = self.session.ask(verb, argument, headers, body)
        return await self.answer(id)

    def expect_delivery(self, id: int) -> _Wait[bool]:
        """Begin to wait for a delivery; whether it came is the result."""

        def forget(_: object) -> None:
            self._undelivered.pop(id, None)
            self.throttle()

        wait: _Wait[bool] = _Wait(forget)
        self._undelivered[id] = wait
        return wait

    def settle_delivery(self, id: int, arrived: bool) -> None:
        """Wait no longer."""
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
        """Return the next message, if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._weight -= max(LEAST, len(message.text))
        self.throttle()
        return message

    def throttle(self) -> None:
        """Receive, or not, by how much waits already."""
        session = self.session
        if not self.closing and (self._weight >= MAX_QUEUE or self._weight < QUEUE):
            session.leave_messages(self._weight >= MAX_QUEUE)
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
        """Session: there may be sending and receiving."""
        self.name = name
        self.notifier.notify_all()

    def authenticate(self, methods: list[str], challenge: bytes, tries: int) -> Proof | None:
        """Session: the name has an account."""
        identity = self._identity
        match identity.way(methods, tries):
            case "publickey":
                try:
                    return Proof(*identity.sign(challenge, self._user, self.session.binding))
                except IdentityError as error:
                    self.problem = NotConnected(str(error))
            case "password":
                return Proof(password=identity.password) if identity.password else None
        return None

    def not_registered(self, refusal: Refusal) -> None:
        """Session: the server does not take the user."""
        self.problem = self.problem or Refused(refusal.code, refusal.reason)

    def received(self, message: Received) -> None:
        """Session: somebody said something."""
        # Behind QUIT the server takes no confirmation: what comes then is for the next login.
        if self._listen and not self.closing:
            self._messages.append(message)
            self._weight += max(LEAST, len(message.text))
            self.throttle()
            self.notifier.notify_all()

    def sent(self, id: int, number: int, time: str) -> None:
        """Session: a message is committed."""
        self._answered(id, Sent(number, time))

    def delivered(self, id: int) -> None:
        """Session: a direct message has reached its recipient."""
        self.settle_delivery(id, True)

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Session: the server did not do what was asked."""
        wait = self._asked.pop(id, None) if id is not None else None
        if wait is not None:
            wait.errback(Refused(refusal.code, refusal.reason))
            self.throttle()
        elif id is None:
            self._log.warn(
                "refused: ERROR {code} {reason}", code=refusal.code, reason=refusal.reason
            )

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """Session: what was asked about oneself is done."""
        self._answered(id, None)

    def listed(self, id: int, found: Listed) -> None:
        """Session: who is here, or which rooms there are."""
        self._answered(id, found)

    def found(self, id: int, messages: list[Received]) -> None:
        """Session: what was said."""
        self._answered(id, messages)

    def told(self, id: int | None, event: Event) -> None:
        """Session: something happened in a room."""
        if event.verb == "LEFT" and fold(event.user) == fold(self.name):
            self.rooms.pop(fold(event.room), None)
        if id is not None:
            self._answered(id, event)
        elif self._on_event is not None:
            self._call(self._on_event, event)

    def seen(self, users: list[Seen]) -> None:
        """Session: somebody came, went, or is away."""
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
        """Session: the server has something to say."""
        self.tell(text)

    def disconnected(self, reason: str) -> None:
        """Session: the connection is gone, and is being tried again."""
        self._log.info("connection lost, trying again: {reason}", reason=reason)

    def reconnected(self) -> None:
        """Session: the connection stands again."""
        self._log.info("connected again")
        Deferred.fromCoroutine(self._come_back())

    def went_back(self) -> None:
        """Session: the server has lost what was said last."""
        self.tell("the server has lost the last messages: an older state of it was restored")

    async def _come_back(self) -> None:
        """Tell the server again what it forgets with a connection, or with the user."""
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
        """Let the watcher hear of who comes and goes; return who is here.

        :param again: it also hears of what it has missed.
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
        """Session: it is over."""
        self.over = True
        self._when_over()
        if not self.closing:
            reason = " ".join(reason.split("\n")) or "the server has closed the connection"
            self.problem = self.problem or NotConnected(reason)
        asked, self._asked = self._asked, {}
        for wait in asked.values():
            wait.errback(self.why())
        for id in list(self._undelivered):
            self.settle_delivery(id, False)
        self.notifier.notify_all()

    def why(self) -> ClientError:
        """Say why there is no session."""
        return NotConnected(str(self.problem or "closed"))


class ChatClient:
    """One user's session with a server, which is come back to when the connection is lost.

    What is said to the user comes from ``async for message in client``. Everything else is asked
    for by a method, and awaited until the server has answered, however often the connection is lost
    meanwhile. A client connects once; when it is closed or lost, make another.

    :param user: the name to have: 1 to 32 letters, digits, ``_`` and ``-``.
    :param host: the server's name or address, as ``chat-twisted`` takes it: ``chat.example.org``,
        ``chat.example.org:9000``, ``[::1]:9000``.
    :param port: the TCP port, if ``host`` has none.
    :param reactor: Twisted's, as ``twisted.internet.task.react`` hands it to one's ``main``.
    :param identity: the file of the private key that proves who one is, as ssh-keygen makes it;
        None for the one that the bundled client makes. It matters only if the name has an account.
    :param password: the account's; empty if it has none.
    :param fingerprint: the SHA-256 of the certificate that the server must have, as the server logs
        it. Without it, the one that authorities vouch for or that was met first must be there.
    :param plain: whether to speak without encryption.
    :param reconnect_for: seconds for which a lost connection is tried again; 0: not at all.
    :param listen: whether messages are kept until they are asked for. For a bot that only speaks
        they need not be.
    :param tell: called with what people may want to know, in lines: that the server is a new one,
        and what it says to everybody. Otherwise this is logged.
    :param on_event: called with what happens in rooms, and with invitations to them.
    :raises ValueError: ``fingerprint`` is none; ``host`` has another port or user than is given.
    :raises NotConnected: ``host`` is no address, or it is not known where the user's folder is,
        with keys and certificates.
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
        self._answers = _Answers(reactor)
        self._session: ClientSession | None = None
        self._connecting: Deferred[Any] | None = None
        self._shutdown: Any = None  # what has the client closed when the reactor stops

    @property
    def name(self) -> str:
        """One's own name as others see it; empty before the client is connected."""
        return self._listener.name

    # Coming and going

    async def connect(self) -> None:
        """Connect and register.

        :raises Refused: the server does not take the user: the name is malformed (100), somebody
            else's (105), or an account's that one can't prove to be (106, 107); it is full (112).
        :raises NotConnected: there is no such server, it is not the one that was met before, or the
            key can't be read.
        :raises RuntimeError: it was connected before.
        """
        if self._session is not None:
            raise RuntimeError("a client connects once: make another")
        with _refusing():
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
            await _either(self._connecting)
            self._connecting = None
            while not listener.name and not listener.over:
                await listener.notifier.wait()
        except FAILURES as problem:
            listener.problem = NotConnected(explain(problem, self._server))
        except (CancelledError, ConnectingCancelledError):
            if not listener.closing:  # by ``close``
                raise CancelledError from None
        finally:
            if not listener.name:
                self._give_up()
        if listener.over or listener.closing:
            raise listener.problem or listener.why()

    def _give_up(self) -> None:
        """Leave nothing behind of a session that did not begin."""
        assert self._session is not None
        listener = self._listener
        listener.closing = True
        self._session.quit()
        if not self._session.connected and not listener.over:
            listener.lost("")

    def _close_at_shutdown(self) -> None:
        """A guest that does not say goodbye keeps its name from its own successor for a while."""

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
        """Say goodbye, and return when the connection is closed, within two seconds.

        What waits to be read can be read still; what is not answered yet raises ``NotConnected``.
        A client that is stopped with its reactor is closed without being told.
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

    # Listening

    def __aiter__(self) -> AsyncIterator[Received]:
        if not self._listen:
            raise RuntimeError("this client was told not to listen")
        return self

    async def __anext__(self) -> Received:
        """Return the next message, the oldest first.

        It ends when the client is closed. Two that ask at the same time get different messages.

        :raises NotConnected: the session is lost for good.
        """
        listener = self._listener
        while (message := listener.take()) is None:
            if self._session is None:
                raise NotConnected("not connected")
            if listener.over:
                if listener.problem is None:
                    raise StopAsyncIteration
                raise listener.why()
            await listener.notifier.wait()
        return message

    # Speaking

    async def send(
        self, to: str, text: str, *, delivered: bool = False, timeout: float = DELIVERED_WITHIN
    ) -> Sent:
        """Say ``text`` to a user, a ``#room`` that one is in, or ``ALL``; return when it is
        committed: it is said once then, and will not be lost.

        If this is cancelled, the text may or may not have been said.

        :param delivered: wait further, until a user's client has it.
        :param timeout: seconds for which that is waited for.
        :raises Refused: nobody is there to hear it (102), the text is empty or holds NUL (103), it
            is too long (108), there is no such room (110), one is not in it or muted (111).
        :raises NotDelivered: it is sent, but in that time nobody has confirmed it.
        :raises NotConnected: the session is over.
        :raises ValueError: ``delivered`` of what is not to one user.
        """
        session, listener = self._live(), self._listener
        with _refusing():
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
        """Say ``text`` where ``message`` was said: to its sender, or in the room, or to ``ALL``.

        One user gets 20 answers at once, and one more every 10 seconds, so that two bots that
        answer each other fall silent. ``send`` has no such bound.

        :raises Refused: as ``send`` does; the sender had too many answers (109), or the message is
            one's own (111).
        :raises NotConnected: as ``send`` does.
        """
        self._live()
        if fold(message.sender) == fold(self.name):
            raise Refused(NotPermitted.code, f"{NotPermitted.reason}: the message is one's own")
        if not self._answers.spend(message.sender):
            raise Refused(
                TooFast.code, f"{TooFast.reason}: {message.sender} had {ANSWERS} answers already"
            )
        direct = fold(message.to) == fold(self.name)
        return await self.send(message.sender if direct else message.to, text)

    async def _sent(self, id: int) -> Sent:
        sent: Sent = await self._listener.answer(id)
        return sent

    @staticmethod
    async def _until(wait: _Wait[T], timer: IDelayedCall) -> T:
        try:
            return await wait
        finally:
            if timer.active():
                timer.cancel()

    def _live(self) -> ClientSession:
        if self._session is None:
            raise NotConnected("not connected")
        if not self._listener.name or self._listener.over or self._listener.closing:
            raise self._listener.why()
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
        """Become a member of a room, which is made if there is none; return its topic.

        :param private: if it is made, only those can join it who are invited.
        :raises Refused: it is private and one is not invited, it is public and should be private,
            or one is in too many (111).
        """
        event = await self._ask("JOIN", _room(room), (("Private", "yes"),) if private else ())
        self._listener.rooms[fold(room)] = (room, private)
        return event.topic or ""

    async def leave(self, room: str) -> None:
        """Be a member of a room no longer."""
        await self._ask("LEAVE", _room(room))

    async def topic(self, room: str, text: str | None = None) -> str:
        """Say what a room is about, in a line of at most 400 characters, or ask; return it."""
        event = await self._ask("TOPIC", _room(room), (), text)
        return event.topic or ""

    async def invite(self, room: str, user: str) -> None:
        """Let somebody into a private room of one's own."""
        with _refusing():
            check_user_name(user)
        await self._ask("INVITE", _room(room), (("User", user),))

    async def rooms(self) -> list[Room]:
        """List the rooms that one may know of."""
        found: list[Room] = await self._ask("ROOMS")
        return found

    async def members(self, room: str) -> list[Seen]:
        """List the members of a room. Those who are not here are ``AWAY``."""
        found: list[Seen] = await self._ask("WHO", _room(room))
        return found

    # Reading back

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
        """Return what was said in a room, to ``ALL``, or between a user and oneself, oldest first:
        the last messages before the end, or with ``after`` or ``since`` the first from there.

        :param count: how many at most; the server brings no more than 1000.
        :param after: a message's number; it and those before it are left out. So for ``before``.
        :param since: the time from which, and ``until`` up to which it is looked.
        :raises Refused, NotConnected: as ``send`` does.
        :raises ValueError: a number can't be one.
        """
        with _refusing():
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
        """Return the messages that have all of ``words``, the best first.

        :param place: as for ``history``; empty for all that one may read.
        :param count: how many at most; the server brings no more than 100.
        :raises Refused, NotConnected: as ``send`` does. There must be words (103), and not too many
            (111).
        :raises ValueError: ``count`` can't be one.
        """
        with _refusing():
            if place:
                parse_target(place)
            if not words.strip():
                raise HeaderIncomplete
        found: list[Received] = await self._ask(
            "SEARCH", place, (("Count", _natural(count)),), words
        )
        return found

    # Who is here

    async def who(self) -> list[Seen]:
        """List who is here, in the order of the alphabet.

        :raises NotConnected: the session is over.
        """
        found: list[Seen] = await self._ask("WHO")
        return found

    async def watch(self, seen: Callable[[Seen], object] | None) -> list[Seen]:
        """Have ``seen`` called with everybody who comes, goes (``GONE``), is away or back; return
        who is here now. It is called in place of the one before it; None: nobody is.

        After a lost connection it is called with what has changed meanwhile.

        :raises NotConnected: the session is over.
        """
        self._live()
        self._listener.watcher = seen
        if seen is not None:
            return await self._listener.watch()
        found: list[Seen] = await self._ask("WHO", "", (("Watch", "no"),))
        return found

    async def set_away(self, why: str = "") -> None:
        """Say that one does not read for now, and why, in a line of at most 200 characters.

        :raises Refused, NotConnected: as ``send`` does.
        """
        await self._ask("STATUS", "away", (), why or None)
        self._listener.away = why

    async def set_back(self) -> None:
        """Say that one reads again.

        :raises NotConnected: the session is over.
        """
        await self._ask("STATUS", "here")
        self._listener.away = None


def _room(name: str) -> str:
    with _refusing():
        return check_room_name(name)


def _natural(number: int) -> int:
    if not 0 <= number < 10**18:  # which the protocol has no word for
        raise ValueError(f"{number} is not a number of messages or of one")
    return number
