"""A connection to one of several NATS servers, which is made again whenever it is lost.

The next connection is to the next server of the list. Nothing is kept and sent later: a message
that was not sent because there was no connection is never sent, and callers are told. This module
must not know streams, or what is sent.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from chat_twisted import reactor_loop
from chat_twisted.logs import Logger
from chat_twisted.storage.log import NotTaken, Unknown
from chat_twisted.storage.nats_client import (
    Credentials,
    Heard,
    Message,
    NatsClient,
    Server,
    parse_url,
    read_credentials,
)

CONNECT_PATIENCE = 2.0
"""Seconds within which a connection must be made and accepted by the server."""

PAUSE = 0.25
"""Seconds before the servers are tried again, after none of them could be reached."""

NO_RESPONDERS = "503"
"""Status of the answer if nobody has subscribed to the subject of a request."""


class NatsConnection:
    """Keeps a connection to one of the servers, from ``start`` to ``close``.

    :param urls: see ``nats_client.parse_url``.
    :param reactor: the reactor; this process must not fork any more.
    :param credentials: the path of a credentials file, or None.
    :param ca: the path of the certificates that are accepted, or None for those of the system. With
        it, all servers must encrypt.
    :param name: shown by the servers.
    :param connected: called when a connection has been made and everything is subscribed.
    :param lost: called when that connection is lost.
    :raises ValueError: if a URL or a file has mistakes.
    :raises OSError: if a file can't be read.
    """

    _log = Logger()

    def __init__(
        self,
        urls: Sequence[str],
        reactor: Any,
        *,
        credentials: str | None,
        ca: str | None,
        name: str,
        connected: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._servers = [parse_url(url, must_encrypt=ca is not None) for url in urls]
        random.shuffle(self._servers)  # the nodes spread over the servers
        self._credentials: Credentials | None = None
        if credentials is not None:
            self._credentials = read_credentials(credentials)
        self._tls = ssl.create_default_context(cafile=ca) if ca is not None else None
        self._name = name
        self._reactor = reactor
        self._connected = connected
        self._lost = lost
        self._client: NatsClient | None = None  # the one that is connected
        self._running: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()  # lost connections that are being closed
        self._subscriptions: list[tuple[str, str, Heard]] = []
        self._inbox = ""
        self._numbers = itertools.count(1)
        self._questions: dict[str, _Question] = {}
        self._waiting: list[Deferred[None]] = []  # for a connection
        self._problems: dict[Server, str] = {}  # that were logged
        self._seeking = False  # whether the log has not answered since a server was left
        self._closing = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._client is not None and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Maximum size of a message that the server takes, in bytes; 0 without a connection."""
        return 0 if self._client is None else self._client.max_payload

    @property
    def server_count(self) -> int:
        """How many servers there are, as far as is known."""
        announced = len(self._client.servers) if self._client is not None else 0
        return max(len(self._servers), announced)

    def start(self) -> None:
        """Begin to connect."""
        self._running = reactor_loop.use(self._reactor).create_task(self._run())

    def leave_server(self, reason: str) -> None:
        """Connect to the next server, if there is another one.

        :param reason: is logged.
        """
        if self._client is not None and len(self._servers) > 1:
            if not self._seeking:  # else it leaves one after the other, until the log is back
                self._seeking = True
                self._log.warn(
                    "leaving the NATS server: {reason}", event="nats-left", reason=reason
                )
            self._client.give_up()

    def settle(self) -> None:
        """Stay with this server. Called when the log has answered through it."""
        if self._seeking and self._client is not None:
            self._seeking = False
            address = self._client.server.address
            self._log.info(
                "the log answers through the NATS server {server}",
                event="nats-answers",
                server=address,
            )

    def ready(self, patience: float) -> Deferred[None]:
        """Wait for a connection.

        :return: fails with ``Unknown`` if there is none after ``patience`` seconds.
        """
        if self.is_connected:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda each: each.errback(self._no_connection()))
        self._waiting.append(waiting)
        timer = self._reactor.callLater(patience, waiting.cancel)

        def done(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            return result

        return waiting.addBoth(done)

    def _no_connection(self) -> Unknown:
        problems = [f"{server.address}: {text}" for server, text in self._problems.items()]
        return Unknown("; ".join(problems) or "not connected to a NATS server")

    def subscribe(self, subject: str, heard: Heard, queue: str = "") -> None:
        """Call ``heard`` with the messages for a subject, on this connection and all later ones.

        :param queue: each message goes to one of the subscribers with the same ``queue``.
        """
        self._subscriptions.append((subject, queue, heard))
        if self._client is not None:
            self._client.listen_soon(subject, queue, heard)

    def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message. It may be lost.

        :raises NotTaken: if there is no connection, or the message is too long.
        """
        client = self._client
        if client is None or not client.is_connected:
            raise NotTaken("not connected to a NATS server")
        if len(data) > client.max_payload:
            raise NotTaken(f"{len(data)} bytes; the NATS server takes {client.max_payload}")
        client.send(subject, data, reply)

    def request(self, subject: str, data: bytes, patience: float) -> Deferred[Message]:
        """Send a request, and wait for an answer.

        :return: fails with ``NotTaken`` if the request was not sent, or nobody has got it; with
            ``Unknown`` if no answer has come after ``patience`` seconds.
        """
        return self.collect(subject, data, patience, lambda _: True).addCallback(
            lambda answers: answers[0]
        )

    def collect(
        self, subject: str, data: bytes, patience: float, is_last: Callable[[Message], bool]
    ) -> Deferred[list[Message]]:
        """As ``request``, for several answers. ``is_last`` returns whether an answer is the last.

        :param patience: maximum time between two of them, in seconds.
        """
        question = _Question(self._reactor, patience, is_last)
        reply = f"{self._inbox}.{next(self._numbers)}"
        try:
            self.publish(subject, data, reply)
        except NotTaken as problem:
            question.fail(problem)
            return question.answers
        self._questions[reply] = question
        return question.answers.addBoth(self._forget, reply)

    def _forget(self, result: Any, reply: str) -> Any:
        del self._questions[reply]
        return result

    def _answered(self, message: Message, more: bool) -> None:
        if (question := self._questions.get(message.subject)) is not None:
            question.answered(message)

    def close(self) -> Deferred[None]:
        """Close the connection, and make no other. Requests that wait fail with ``Unknown``.

        :return: fires when that is done.
        """
        for waiting in self._waiting[:]:
            waiting.cancel()
        if self._running is None:
            return succeed(None)
        self._closing = True
        self._running.cancel()
        ended = Deferred.fromFuture(self._running)
        self._running = None
        return ended.addErrback(lambda failure: failure.trap(asyncio.CancelledError) and None)

    async def _run(self) -> None:
        try:
            await self._keep_connected()
        finally:
            await asyncio.gather(*self._leaving)

    async def _keep_connected(self) -> None:
        failures = 0
        for server in itertools.cycle(self._servers):
            client = NatsClient(server, self._credentials, self._tls, self._name)
            problem: Exception | None = None
            try:
                async with asyncio.timeout(CONNECT_PATIENCE):
                    await self._open(client)
            except asyncio.CancelledError:
                self._leave(client)
                raise
            except Exception as error:  # noqa: BLE001  nats-py raises many if it is lost again
                problem = error
            if self._closing:  # asyncio.wait_for, which nats-py calls, may lose the cancellation
                self._leave(client)
                return
            if problem is None:
                failures = 0
                await self._use(client, server)
                continue
            self._report(server, problem)
            self._leave(client)
            failures += 1
            if failures % len(self._servers) == 0:
                await asyncio.sleep(PAUSE)

    async def _open(self, client: NatsClient) -> None:
        """Connect, and subscribe everything."""
        await client.open()
        self._inbox = client.new_inbox()
        await client.listen(f"{self._inbox}.*", "", self._answered)
        subscribed = 0
        while subscribed < len(self._subscriptions):  # others may be added meanwhile
            for subject, queue, heard in self._subscriptions[subscribed:]:
                await client.listen(subject, queue, heard)
                subscribed += 1
            await client.rtt()  # the server knows them

    def _report(self, server: Server, problem: Exception) -> None:
        """Log why a server can't be reached, once."""
        is_late = isinstance(problem, TimeoutError)
        text = "no answer" if is_late else str(problem) or type(problem).__name__
        if self._problems.get(server) != text:
            self._problems[server] = text
            self._log.warn(
                "can't reach the NATS server {server}: {problem}",
                event="nats-unreachable",
                server=server.address,
                problem=text,
            )

    async def _use(self, client: NatsClient, server: Server) -> None:
        """Return when the connection is lost."""
        if not self._seeking:
            self._problems.clear()
            self._log.info(
                "connected to the NATS server {server}",
                event="nats-connected",
                server=server.address,
            )
        self._client = client
        try:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
            self._connected()
            await client.until_lost()
            if not self._seeking:
                self._log.warn(
                    "lost the NATS server {server}", event="nats-lost", server=server.address
                )
        except Exception:  # noqa: BLE001  whatever it is, there must be a connection again
            self._log.failure("using the NATS server {server}", server=server.address)
        finally:
            self._client = None
            for question in list(self._questions.values()):
                question.fail(Unknown("the connection to the NATS server was lost"))
            self._lost()
            self._leave(client)

    def _leave(self, client: NatsClient) -> None:
        """Close a connection, without waiting: its server may stand still."""
        leaving = asyncio.create_task(client.leave())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


class _Question:
    """A request whose answers have not all come.

    :ivar answers: fires with all of them.
    """

    def __init__(
        self, clock: IReactorTime, patience: float, is_last: Callable[[Message], bool]
    ) -> None:
        self._patience = patience
        self._is_last = is_last
        self._messages: list[Message] = []
        self._timer = clock.callLater(patience, self._too_late)
        self.answers: Deferred[list[Message]] = Deferred(lambda _: self.fail(Unknown("cancelled")))

    def answered(self, message: Message) -> None:
        """Called with each answer."""
        if message.status == NO_RESPONDERS:
            self.fail(NotTaken("nobody takes it at the moment"))
            return
        self._messages.append(message)
        if self._is_last(message):
            self._timer.cancel()
            self.answers.callback(self._messages)
        elif len(self._messages) % 100 == 1:
            self._timer.reset(self._patience)

    def fail(self, problem: Exception) -> None:
        """Give up, if it was not answered: whoever hears of one failure may cancel others."""
        if self._timer.active():
            self._timer.cancel()
        if not self.answers.called:
            self.answers.errback(problem)

    def _too_late(self) -> None:
        self.fail(Unknown(f"no answer in {self._patience:g} s"))
