"""The control socket: what the operator's command (``admin``) asks of the running server.

``Control`` turns a request into a call on the hub, whose answer comes when it has been committed:
so what the operator asks takes its turn among everything that users ask. ``ControlFactory`` serves
it on a Unix socket. Nothing here knows SQL, the archive's files or what the command prints.

A request is a line of JSON, and so is its answer, before which no further request is read::

    {"ask": "ban", "subject": "bob", "duration": "2h", "reason": "spam"}
    {"answer": {}}
    {"ask": "kick", "name": "carol", "reason": ""}
    {"refused": "who is to be kicked is not here"}

An answer that says ``failed`` instead tells what the server could not do, for now or for a fault.
A list comes a page at a time: ``more`` says that there is more behind its last item, whose ``key``
the next request has as ``after``.

The socket's permissions say who may ask (0600, in the state folder), and where the system tells
who is at the other end, it must be the server's user or root.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import argon2
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted import __version__, files
from chat_twisted.auth.accounts import Account, Accounts
from chat_twisted.core.changes import Change, RoleSet, UserGone
from chat_twisted.core.errors import ChatError, MalformedName, NotPermitted, Unavailable
from chat_twisted.core.hub import Hub
from chat_twisted.core.message import Message
from chat_twisted.core.presence import Presence
from chat_twisted.core.sessions import Event, Request, Session, User
from chat_twisted.files import FilesError
from chat_twisted.logs import Logger

NAME = "admin"
"""Who has done something, where it was asked for here: in the log, and as users are told."""

MAX_LINE = 16 * 1024
"""Bytes of a request."""

PAGE = 100
"""Items of a list that one answer has at most."""

MAX_CONNECTIONS = 64
"""Commands that may be connected at once. For one more, the one that has been silent for longest is
disconnected."""

SILENCE = 10.0
"""Seconds without a request after which a connection is closed."""

STOP_WITHIN = 0.5
"""Seconds that answers may take when the server stops."""

BACKLOG = 128
"""Commands that may wait to be accepted."""

MAX_HASH = 500
"""Characters of what argon2 makes of a password."""

Answer = dict[str, Any]


class _NoDoor:
    """The door of the operator, to whom nothing is brought."""

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """See ``Door.deliver``."""

    def flush(self, *, more: bool) -> None:
        """See ``Door.flush``."""

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """See ``Door.show``."""

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """See ``Door.tell``."""


class _Operator(User):
    """Stands for the operator at the machine, who may do everything and is not in the chat."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0, NAME, b"", 0, 0.0)
        self.account = Account(0, NAME)
        self.account.operator = True


class _Asking(Session):
    """The session of one request: it fires ``answered`` with what became of it."""

    __slots__ = ("answered",)

    def __init__(self, operator: User) -> None:
        super().__init__(_NoDoor())
        self.user = operator
        self.answered: Deferred[None] = Deferred()

    def done(self, request: Request) -> None:
        """See ``Session.done``."""
        self.answered.callback(None)

    def refused(self, request: Request, error: ChatError) -> None:
        """See ``Session.refused``."""
        self.answered.errback(error)


class Control:
    """What the operator may ask, by the names that the wire has.

    :param status: returns what is to be said of the server beside what the hub knows.
    """

    def __init__(
        self, hub: Hub, accounts: Accounts, status: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._hub = hub
        self._accounts = accounts
        self._status = status
        self._operator = _Operator()

    async def ask(self, request: object) -> Answer:
        """Carry out a request; return its answer when the changes have been committed.

        :param request: as JSON has it; anything.
        :raises ChatError: it is refused; the error's text says why.
        """
        if not isinstance(request, dict):
            raise NotPermitted("a request is a JSON object")
        match request:
            case {"ask": "add account", "name": str(name), "key": str(key), "hash": str(hash)}:
                _check_hash(hash)
                return await self._do(lambda asking: self._add(asking, name, key, hash))
            case {"ask": "remove account", "name": str(name)}:
                return await self._change(request, lambda account: [UserGone(account.id)])
            case {"ask": "set password", "name": str(name), "hash": str(hash)}:
                _check_hash(hash)
                return await self._change(
                    request, lambda account: self._accounts.set_password(account, hash)
                )
            case {"ask": "add key", "name": str(name), "key": str(key)}:
                return await self._change(
                    request, lambda account: self._accounts.add_key(account, key)
                )
            case {"ask": "remove key", "name": str(name), "key": str(key)}:
                return await self._change(
                    request, lambda account: self._accounts.remove_key(account, key)
                )
            case {"ask": "make operator" | "make no operator" as verb, "name": str(name)}:
                is_one = verb == "make operator"
                return await self._change(request, lambda account: [RoleSet(account.id, is_one)])
            case {"ask": "list accounts", "after": str(after)}:
                return self._list_accounts(after)
            case {"ask": "kick", "name": str(name), "reason": str(reason)}:
                _check_text(name, reason)
                return {"name": self._hub.kick_out(_Asking(self._operator), name, reason)}
            case {
                "ask": "ban" | "mute" as verb,
                "subject": str(subject),
                "duration": str(duration),
                "reason": str(reason),
            }:
                _check_text(subject, duration, reason)
                sanction = self._hub.ban if verb == "ban" else self._hub.mute
                return await self._do(
                    lambda asking: sanction(asking, subject, duration, reason, None)
                )
            case {"ask": "pardon", "subject": str(subject)}:
                return await self._pardon(subject)
            case {"ask": "list sanctions", "after": str(after)}:
                return self._list_sanctions(after)
            case {"ask": "status"}:
                population = self._hub.population()
                return {"version": __version__, **population._asdict(), **self._status()}
        raise NotPermitted("the server does not know this request; it may be of another version")

    async def _do(self, call: Callable[[Session], object]) -> Answer:
        asking = _Asking(self._operator)
        call(asking)
        await asking.answered
        return {}

    def _add(self, asking: Session, name: str, key: str, hash: str) -> Request:
        try:
            return self._hub.add_account(asking, name, key, hash)
        except MalformedName:
            raise NotPermitted(f"{name!r} is no name: 1 to 32 letters, digits, _ and -") from None

    async def _change(
        self, request: dict[str, Any], decide: Callable[[Account], Sequence[Change]]
    ) -> Answer:
        verb, name = request["ask"], request["name"]
        _check_text(name)
        return await self._do(lambda asking: self._hub.change_account(asking, verb, name, decide))

    async def _pardon(self, subject: str) -> Answer:
        """End whatever sanctions there are of ``subject``."""
        _check_text(subject)
        askings = []
        for verb in ("UNBAN", "UNMUTE"):
            asking = _Asking(self._operator)
            with contextlib.suppress(NotPermitted):
                self._hub.pardon(asking, verb, subject, None)
                askings.append(asking.answered)
        if not askings:
            raise NotPermitted(f"there is no ban or mute of {subject}")
        results: Any = await DeferredList(askings, consumeErrors=True)
        for is_done, result in results:
            if not is_done:
                raise result.value
        return {}

    def _list_accounts(self, after: str) -> Answer:
        items = islice(self._accounts.listing(after).items, PAGE + 1)
        return _page(
            {
                "key": account.name,
                "name": account.name,
                "operator": account.operator,
                "keys": len(account.keys),
                "password": bool(account.password),
            }
            for account in items
        )

    def _list_sanctions(self, after: str) -> Answer:
        items = islice(self._hub.sanctions(_Asking(self._operator), after).items, PAGE + 1)
        return _page({"key": sanction.key, **sanction._asdict()} for sanction in items)


def _page(found: Any) -> Answer:
    items = list(found)
    return {"items": items[:PAGE], "more": len(items) > PAGE}


def _check_text(*texts: str) -> None:
    """See that texts can be stored: JSON may have halves of surrogate pairs.

    :raises NotPermitted: they can't.
    """
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        raise NotPermitted("not a text in UTF-8") from None


def _check_hash(hash: str) -> None:
    """See that a password could be verified by what is to be stored of it.

    :raises NotPermitted: it could not.
    """
    try:
        if hash:
            argon2.extract_parameters(hash)
    except argon2.exceptions.InvalidHashError:
        raise NotPermitted("not a hash of a password") from None
    if len(hash) > MAX_HASH or not hash.isascii():
        raise NotPermitted("not a hash of a password")


# The wire


@implementer(IPushProducer)
class ControlProtocol(LineReceiver, TimeoutMixin):
    """One connection of the command."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    factory: ControlFactory
    transport: Any

    def __init__(self) -> None:
        self.busy = False  # a request is being answered
        self._full = False  # the transport has more to write than it likes
        self._leaves = False  # when all is written

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """TimeoutMixin: the time is the factory's."""
        return self.factory.clock.callLater(period, func)

    def connectionMade(self) -> None:
        """Twisted: a command has connected."""
        if not _may_ask(self.transport):
            self.transport.abortConnection()
            return
        self.transport.registerProducer(self, True)
        self.factory.came(self)
        self.setTimeout(SILENCE)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: it is gone."""
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.factory.gone(self)

    def timeoutConnection(self) -> None:
        """TimeoutMixin: it was silent for too long, or does not read."""
        self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        """LineReceiver: a request. No other is read before it is answered."""
        self.busy = True
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._read_or_not()
        Deferred.fromCoroutine(self._answer(line)).addBoth(self._answered)

    async def _answer(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"refused": "a request is a line of JSON"}
        try:
            return {"answer": await self.factory.control.ask(request)}
        except Unavailable as error:
            return {"failed": str(error)}
        except ChatError as error:
            return {"refused": str(error)}

    def _answered(self, result: Answer | Failure) -> None:
        self.busy = False
        if isinstance(result, Failure):
            self.factory.failed(result)
            result = {"failed": "a fault of the server"}
        if not self.connected:
            return
        self._write(result)
        self.setTimeout(SILENCE)  # type: ignore[no-untyped-call]
        self.factory.answered(self)
        self._read_or_not()

    def lineLengthExceeded(self, line: bytes) -> None:
        """LineReceiver: a request is too long."""
        self._write({"refused": "the request is too long"})
        self.leave()

    def _write(self, answer: Answer) -> None:
        self.transport.write(json.dumps(answer).encode() + b"\n")

    def leave(self) -> None:
        """Close the connection when all is written, which may take ``SILENCE``."""
        if not self._leaves:
            self._leaves = True
            super().pauseProducing()  # type: ignore[no-untyped-call]
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def pauseProducing(self) -> None:
        """Twisted: called when the command reads too slowly."""
        self._full = True
        self._read_or_not()

    def resumeProducing(self) -> None:
        """Twisted: it has read it."""
        self._full = False
        self._read_or_not()

    def stopProducing(self) -> None:
        """Twisted: the transport is gone; ``connectionLost`` follows."""

    def _read_or_not(self) -> None:
        if self._leaves:
            return
        if self.busy or self._full:
            super().pauseProducing()  # type: ignore[no-untyped-call]
        else:
            super().resumeProducing()  # type: ignore[no-untyped-call]


def _may_ask(transport: Any) -> bool:
    """Tell whether the other end of a Unix socket is the server's user or root, where the system
    says so; elsewhere the socket's permissions have said it.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    peer = struct.Struct("3i")  # process, user, group
    found = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.size)
    _, user, _ = peer.unpack(found)
    return user in (0, os.geteuid())


class ControlFactory(ServerFactory):
    """All connections of commands.

    :param clock: by which they time out.
    """

    noisy = False
    _log = Logger()

    def __init__(self, control: Control, clock: IReactorTime) -> None:
        self.control = control
        self.clock = clock
        self.stopping = False
        # The one that came first, and the one whose request was answered last, in that order.
        self._connections: dict[ControlProtocol, None] = {}
        self._all_gone: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol | None:  # type: ignore[override]
        """Twisted: a command connects."""
        if self.stopping:
            return None
        connection = ControlProtocol()
        connection.factory = self
        return connection

    def came(self, connection: ControlProtocol) -> None:
        """Called when a connection is made."""
        if len(self._connections) >= MAX_CONNECTIONS:
            idle = (other for other in self._connections if not other.busy)
            next(idle, connection).timeoutConnection()
        self._connections[connection] = None

    def answered(self, connection: ControlProtocol) -> None:
        """Called when a request has been answered."""
        if self.stopping:
            connection.leave()
        elif connection in self._connections:
            self._connections[connection] = self._connections.pop(connection)

    def gone(self, connection: ControlProtocol) -> None:
        """Called when a connection is lost."""
        self._connections.pop(connection, None)
        if self._all_gone is not None and not self._connections:
            gone, self._all_gone = self._all_gone, None
            gone.callback(None)

    def failed(self, failure: Failure) -> None:
        """Called with a fault of ours that a request has met."""
        self._log.failure("while answering the operator", failure)

    def stop(self) -> Deferred[None]:
        """Close all connections, those with a request when that is answered; fire when all are
        gone, within ``STOP_WITHIN``.
        """
        self.stopping = True
        if not self._connections:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._all_gone = gone
        for connection in list(self._connections):
            if not connection.busy:
                connection.leave()
        overtime = self.clock.callLater(STOP_WITHIN, self._cut_off)
        gone.addCallback(lambda _: overtime.cancel() if overtime.active() else None)
        return gone

    def _cut_off(self) -> None:
        for connection in list(self._connections):
            connection.timeoutConnection()


class _Port(unix.Port):
    """A listening Unix socket that can be closed though somebody has removed its file."""

    def connectionLost(self, reason: Failure) -> None:
        try:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
        except OSError:
            tcp.Port.connectionLost(self, reason)


class ControlService:
    """The control socket of a state folder, from before the process becomes a daemon to its end.

    :param folder: whose lock this process holds; so a socket that is there is of nobody.
    :raises FilesError: the socket can't be made.
    """

    def __init__(self, folder: Path, factory: ControlFactory, reactor: Any) -> None:
        self._factory = factory
        _remove_stale(folder / files.CONTROL)
        self._short = files.ShortPath(folder, files.CONTROL)
        before = os.umask(0o177)
        try:
            self._port = _Port(os.fsencode(self._short.path), factory, BACKLOG, 0o600, reactor)
            self._port.startListening()  # type: ignore[no-untyped-call]
        except CannotListenError as error:
            self._short.close()
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise FilesError(f"{folder / files.CONTROL}: {reason}") from None
        finally:
            os.umask(before)

    def remove(self) -> None:
        """Remove the socket at once, since the server can't start."""
        with contextlib.suppress(OSError):
            os.unlink(self._short.path)

    def stop(self) -> Deferred[Any]:
        """Take no more requests, remove the socket and fire when all connections are gone."""
        closed = Deferred.fromCoroutine(self._close())
        return gatherResults([closed, self._factory.stop()])

    async def _close(self) -> None:
        await maybeDeferred(self._port.stopListening)
        self._short.close()


def _remove_stale(path: Path) -> None:
    """Remove the socket that a server has left which was killed."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FilesError(f"{path}: not a socket; the server makes one of this name")
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None
