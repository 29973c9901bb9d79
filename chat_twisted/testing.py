"""A complete chat in memory, for tests of bots and of this project.

The hub, the storage, the door and the clients are the real ones. Sockets, threads and time are
simulated: ``Network`` replaces the reactor, and a ``Chat`` moves bytes and runs timers only when a
test tells it to. So a test controls the order of all events, and never waits::

    chat = Chat()
    bot, alice = chat.join("echo"), chat.join("alice")
    chat.start(echo(bot))
    chat.run(alice.send("echo", "hello"))
    assert chat.run(anext(alice)).text == "hello"
    chat.close()

This module must not know bots, test frameworks (unittest, pytest, trial), or a reactor.
"""

from __future__ import annotations

import math
import sqlite3
import sys
import weakref
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import argon2
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refusal
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from chat_twisted.auth.gate import Gate
from chat_twisted.auth.passwords import Passwords
from chat_twisted.client.chat import ChatClient
from chat_twisted.client.connection import Connector, Server
from chat_twisted.client.identity import Identity
from chat_twisted.client.login import Credentials
from chat_twisted.client.session import ClientSession
from chat_twisted.clocks import LogTime, SettledTime
from chat_twisted.core.commands import Options, Start
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import OFF, Limiter, Limits
from chat_twisted.core.sessions import Request
from chat_twisted.core.snapshot import load
from chat_twisted.core.turns import Asker
from chat_twisted.doors.framed import FramedFactory
from chat_twisted.frames import MAX_BODY
from chat_twisted.memory_connection import End
from chat_twisted.storage import archive, index, lookup, tables, upgrade
from chat_twisted.storage.embedded import EmbeddedLedger
from chat_twisted.storage.housekeeping import Housekeeping
from chat_twisted.storage.reads import ArchiveReads
from chat_twisted.storage.sql import Cursor
from chat_twisted.ui.session import Listener

MAX_STEPS = 100_000
"""Number of transfers after which the exchange is taken to be endless, for example between two bots
that answer each other."""

T = TypeVar("T")


class Wall:
    """A time of day that tests can set: the time of ``clock`` plus ``ahead`` seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the time of day, in seconds since the epoch."""
        return self._clock.seconds() + self.ahead


def _connect_empty() -> sqlite3.Connection:
    """Return a connection to an empty archive and index in memory."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)  # any may collect garbage
    index.attach(connection, None)
    for name, data in _empty_databases().items():
        connection.deserialize(data, name=name)
    return connection


@cache
def _empty_databases() -> dict[str, bytes]:
    """Return both as they are after all steps of the schema, which take far longer than a copy."""
    connection = sqlite3.connect(":memory:")
    upgrade.migrate(connection)
    index.attach(connection, None)
    index.make(connection)
    connection.commit()
    databases = {name: connection.serialize(name=name) for name in ("main", "looked_up")}
    connection.close()
    return databases


class MemoryStore:
    """A ``store.Store`` in memory, which runs each function in a later turn of the clock.

    :ivar wall: the time of day for servers on this store.
    :ivar broken: the exception with which writing fails; None if it works.
    :ivar unreadable: the exception with which reading fails; None if it works.
    :ivar seconds: the time that each function takes.
    :ivar closed: whether ``close`` was called.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.wall = Wall(clock)
        self.connection = _connect_empty()
        # A store is also read when it is closed. Since Python 3.13 sqlite3 warns of connections
        # that nobody closes.
        weakref.finalize(self, self.connection.close)
        self.broken: Exception | None = None
        self.unreadable: Exception | None = None
        self.closed = False
        self.seconds = 0.0

    def write(self, function: Callable[..., T], *args: Any, **kw: Any) -> Deferred[T]:
        """See ``store.Store.write``. Loading the state works even if writing is ``broken``."""
        reads = function is tables.load
        return self._later(lambda: self.unreadable if reads else self.broken, function, args, kw)

    def index(self, function: Callable[..., T], *args: Any, **kw: Any) -> Deferred[T]:
        """See ``store.Store.index``."""
        return self._later(lambda: self.broken, function, args, kw)

    def run_exclusively(self, function: Callable[[Cursor], T]) -> Deferred[T]:
        """See ``store.Store.run_exclusively``."""
        return self._later(lambda: self.broken, function, (), {})

    def read(
        self,
        function: Callable[..., T],
        *args: Any,
        asker: Asker,
        search: bool = False,
        **kw: Any,
    ) -> Deferred[T]:
        """See ``store.Store.read``."""
        done = self._later(lambda: self.unreadable, function, args, kw)

        def charge(result: Any) -> Any:
            asker.charge(self.seconds)
            return result

        return done.addBoth(charge)

    def _later(
        self,
        fault: Callable[[], Exception | None],
        function: Callable[..., T],
        args: tuple[Any, ...],
        kw: dict[str, Any],
    ) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def run() -> None:
            try:
                if (problem := fault()) is not None:
                    raise problem
                result = function(self.connection.cursor(), *args, **kw)
                self.connection.commit()
            except Exception:  # noqa: BLE001  passed to the caller
                self.connection.rollback()
                done.errback()
            else:
                done.callback(result)

        self.clock.callLater(self.seconds, run)
        return done

    def interrupt(self) -> None:
        """See ``store.Store.interrupt``."""
        self.unreadable = Unavailable("the server is stopping")

    def close(self) -> None:
        """See ``store.Store.close``."""
        self.closed = True


class MemoryServer:
    """The parts of a server that starts on a store, without doors.

    :ivar hub, ledger, housekeeping: the parts, as ``service`` makes them.
    :param limits: the limits, as in the server's options.
    :param grace: seconds for which a guest's name is held after their last connection.
    :param guests: whether users without an account may log in.
    """

    def __init__(
        self,
        store: MemoryStore,
        *,
        limits: Limits = OFF,
        grace: float = 600,
        guests: bool = True,
        max_clients: int = 1000,
    ) -> None:
        clock = store.clock
        cursor = store.connection.cursor()
        index.extend(cursor, sys.maxsize)  # as ``archive.prepare`` does
        state = load(tables.load(cursor))
        newest, recent = archive.newest_number(cursor), lookup.recent(cursor)
        store.connection.commit()
        settled = SettledTime(clock.seconds, store.wall, state.time / 1000 if state.time else None)
        log_time = LogTime(clock.seconds, settled, state.time)
        self.housekeeping = Housekeeping(store, clock, log_time, state.number)
        self.ledger: EmbeddedLedger[Request] = EmbeddedLedger(
            store, state, clock, log_time, written=self.housekeeping.written
        )
        self.limiter = Limiter(limits)
        options = Options(
            int(grace * 1000), guests, limits.rooms, limits.address_rooms, max_clients, limits.held
        )
        self.hub = Hub(
            self.ledger,
            ArchiveReads(store, self.housekeeping.when_indexed),
            clock,
            store.wall,
            settled.now,
            self.limiter,
            Start(0, options, 0),
            newest,
            max_clients=max_clients,
            recent=recent,
        )
        self.housekeeping.start()

    def stop(self) -> Deferred[None]:
        """Commit everything that was proposed.

        :return: fires when that is done.
        """
        stopped = self.ledger.stop()
        return stopped.addCallback(lambda _: self.housekeeping.stop())


def quick_passwords() -> Passwords:
    """Make a ``Passwords`` that is fast and uses no threads."""

    def at_once(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return maybeDeferred(function, *arguments)

    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return Passwords(at_once, Clock(), hasher)


class Network(MemoryReactorClock):
    """A simulated reactor for clients. Every host and port leads to the same server.

    :ivar reachable: whether new connections succeed.
    """

    def __init__(self, server: Callable[[IPv4Address], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reachable = True
        self.ends: set[End] = set()
        self._server = server
        self._ports = 50_000
        self._steps = 0

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Connect a client. Called by Twisted's endpoints."""
        connector = super().connectTCP(  # type: ignore[no-untyped-call]
            host, port, factory, timeout, bindAddress
        )
        self.callLater(0, self._connect, connector, host, port, factory)
        return connector

    def _connect(self, connector: Any, host: str, port: int, factory: Any) -> None:
        if connector.stoppedConnecting:
            return
        self._ports += 1
        here = IPv4Address("TCP", "127.0.0.1", self._ports)
        there = IPv4Address("TCP", host, port)
        accepted = self._server(here) if self.reachable else None
        if accepted is None:
            factory.clientConnectionFailed(connector, Failure(Refusal()))
            return
        client, server = self._end(here), self._end(there)
        self.ends |= {client, server}
        client.connect(server, factory.buildProtocol(there), accepted)

    def _end(self, address: IPv4Address) -> End:
        return End(lambda call: self.callLater(0, call), address, self.step, self.ends.discard)

    def cut(self) -> None:
        """Break all connections."""
        for end in list(self.ends):
            end.end(ConnectionLost(), ConnectionLost())

    def step(self) -> None:
        """Count a transfer of bytes, of which there may be ``MAX_STEPS`` while no time passes."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise AssertionError("it goes on for ever")

    def advance(self, amount: float) -> None:
        """Let ``amount`` seconds pass, and run each timer at its time."""
        end = self.seconds() + amount
        while (due := self._next_due()) <= end:
            self._steps = 0
            super().advance(max(0, due - self.seconds()))
        super().advance(max(0, end - self.seconds()))

    def _next_due(self) -> float:
        return min((call.getTime() for call in self.getDelayedCalls()), default=math.inf)


class Chat:
    """A server in memory, and its clients.

    :ivar reactor: the reactor for bots; also a ``Clock``.
    :ivar wall: the server's time of day, which a test may set (``wall.ahead``).
    :ivar store: the storage, which a test can make fail.
    :ivar hub: the server's hub, for facts that no client is told.
    :ivar framed: the framed door.
    :param limits: the limits, as in the server's options.
    :param grace: seconds for which a guest's name is held after their last connection.
    :param guests: whether users without an account may log in.
    """

    def __init__(
        self,
        *,
        limits: Limits = OFF,
        grace: float = 600,
        guests: bool = True,
        max_clients: int = 1000,
        max_message: int = MAX_BODY,
    ) -> None:
        self.reactor = Network(self._accept)
        self.store = MemoryStore(self.reactor)
        self.wall = self.store.wall
        self._server = MemoryServer(
            self.store, limits=limits, grace=grace, guests=guests, max_clients=max_clients
        )
        self.hub = self._server.hub
        gate = Gate(lambda: self.hub.state, quick_passwords(), self.reactor)
        self.framed = FramedFactory(self.hub, gate, self.reactor, max_message=max_message)
        self.framed.doStart()  # type: ignore[no-untyped-call]

    def _accept(self, address: IPv4Address) -> Any:
        return self.framed.buildProtocol(address)

    def client(self, user: str, **options: Any) -> ChatClient:
        """Make a client that is not connected yet; ``options`` are those of ``ChatClient``."""
        return ChatClient(user, "chat.example", reactor=self.reactor, plain=True, **options)

    def join(self, user: str, **options: Any) -> ChatClient:
        """Make a client, and connect it; ``options`` are those of ``ChatClient``."""
        client = self.client(user, **options)
        self.run(client.connect())
        return client

    def session(self, user: str, listener: Listener, **options: Any) -> ClientSession:
        """Make a session in memory, and connect it: for tests of user interfaces.

        :param options: those of ``ClientSession``, and ``credentials``.
        """
        server = Server("chat.example", plain=True)
        connector = Connector(self.reactor, server, listener.noticed)
        credentials = options.pop("credentials", None) or Credentials(
            Identity(Path("no key"), own=True), lambda what: succeed("")
        )
        session = ClientSession(
            user,
            listener,
            credentials,
            self.reactor,
            connector.reconnect,
            hosts=connector.hosts,
            **options,
        )
        connector.connect(session)
        return session

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Start a bot, and run it until it waits.

        :return: fires with the coroutine's result, or fails with its exception.
        """
        running = Deferred.fromCoroutine(coroutine)
        self.settle()
        return running

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that needs no time to pass; return its result, or raise its exception.

        :raises AssertionError: if it waits for something that does not happen by itself.
        """
        results: list[Any] = []
        running = Deferred.fromCoroutine(coroutine).addBoth(results.append)
        self.settle()
        if not results:
            running.cancel()
            raise AssertionError("it waits for something that does not happen")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: T = results[0]
        return result

    def settle(self) -> None:
        """Run everything that needs no time to pass."""
        self.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, and run each timer at its time."""
        self.reactor.advance(seconds)

    def cut(self) -> None:
        """Break all connections. Clients reconnect within a second if ``reactor.reachable``."""
        self.reactor.cut()
        self.settle()

    def close(self) -> None:
        """Stop the server."""
        self.framed.stop("The server is stopping")
        self.framed.doStop()  # type: ignore[no-untyped-call]
        self.settle()
        self._server.stop()
        self.settle()
        self.store.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
