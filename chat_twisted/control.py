"""The control socket: what the operator's command (``admin``) asks of the running server.

``Control`` turns a request into a command of the console, whose answer comes when it is committed:
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
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import argon2
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted import __version__, files
from chat_twisted.auth.keys import parse_key
from chat_twisted.core import commands
from chat_twisted.core.audit import CONSOLE_NAME
from chat_twisted.core.commands import BAN, CONSOLE, MUTE, Command, new_id
from chat_twisted.core.entries import Disconnected, Result
from chat_twisted.core.errors import (
    ChatError,
    HasAccount,
    LastWayIn,
    MalformedName,
    NoAccount,
    NoSuchKey,
    NoSuchSanction,
    NotPermitted,
    TextTooLong,
    TooManyKeys,
    TooManyThere,
    UnableToSend,
    Unavailable,
)
from chat_twisted.core.hub import Population
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.sanctions import parse_duration, parse_subject
from chat_twisted.core.state import State
from chat_twisted.files import FilesError
from chat_twisted.logs import Logger

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


class Chat(Protocol):
    """What is asked of the chat, whether a server runs (``core.hub.Hub``) or not (``offline``)."""

    @property
    def state(self) -> State:
        """The state by which is decided."""

    def ask(self, command: Command) -> Deferred[Result]:
        """Propose a command; fire with its result, or fail with the ``ChatError`` by which it is
        refused.
        """

    def settled(self) -> float:
        """Return the time of day by which durations count, in seconds."""

    def population(self) -> Population:
        """Count who is there."""


_WHY: dict[type[ChatError], str] = {
    NoAccount: "there is no account {name}",
    HasAccount: "{name} is the name of somebody: an account, or a guest",
    NoSuchKey: "the account has no such key",
    LastWayIn: "it is its last way in",
    TooManyKeys: "the account has as many keys as it may have",
    NoSuchSanction: "there is no such ban or mute",
    UnableToSend: "who is to be kicked is not here",
    TextTooLong: "a reason is one line of at most 200 bytes",
    TooManyThere: "there are too many bans and mutes",
}
"""What the operator is told where a refusal says no more than its kind."""


class Control:
    """What the operator may ask, by the names that the wire has.

    :param status: returns what is to be said of the server beside what the chat knows.
    """

    def __init__(self, chat: Chat, status: Callable[[], Mapping[str, Any]]) -> None:
        self._chat = chat
        self._status = status

    async def ask(self, request: object) -> Answer:
        """Carry out a request; return its answer when the changes have been committed.

        :param request: as JSON has it; anything.
        :raises ChatError: it is refused; the error's text says why.
        """
        if not isinstance(request, dict):
            raise NotPermitted("a request is a JSON object")
        match request:
            case {"ask": "list accounts", "after": str(after)}:
                return self._list_accounts(after)
            case {"ask": "list sanctions", "after": str(after)}:
                return self._list_sanctions(after)
            case {"ask": "status"}:
                population = self._chat.population()
                return {"version": __version__, **population._asdict(), **self._status()}
            case {"ask": "pardon", "subject": str(subject)}:
                return await self._pardon(subject)
        try:
            result = await self._chat.ask(_command(request, self._chat.settled()))
        except ChatError as error:
            if (why := _WHY.get(type(error))) is not None:
                raise NotPermitted(why.format(name=request.get("name"))) from None
            raise
        return {"name": result.name} if isinstance(result, Disconnected) else {}

    async def _pardon(self, subject: str) -> Answer:
        """End whatever sanctions there are of a subject."""
        _check_text(subject)
        subject = parse_subject(subject)
        found = False
        for kind in (BAN, MUTE):
            with contextlib.suppress(NoSuchSanction):
                await self._chat.ask(commands.Lift(CONSOLE, 0, kind, subject))
                found = True
        if not found:
            raise NotPermitted(f"there is no ban or mute of {subject}")
        return {}

    def _list_accounts(self, after: str) -> Answer:
        items = []
        for user in islice(self._chat.state.accounts.after(fold(after)), PAGE + 1):
            account = user.account
            assert account is not None, "it is a list of accounts"
            item = {"key": user.name, "name": user.name, "operator": account.operator}
            items.append({**item, "keys": len(account.keys), "password": bool(account.password)})
        return _page(items)

    def _list_sanctions(self, after: str) -> Answer:
        sanctions = islice(self._chat.state.sanctions_in_order.after(after), PAGE + 1)
        return _page(
            {
                "key": sanction.key,
                "kind": sanction.kind,
                "subject": sanction.subject,
                "until": sanction.until,
                "reason": sanction.reason,
                "by": sanction.author or CONSOLE_NAME,
            }
            for sanction in sanctions
        )


def _command(request: dict[str, Any], now: float) -> Command:
    """Return the command that a request asks for.

    :param now: the time of day, in seconds, from which durations count.

    :raises NotPermitted: it asks for none, or not for one that there could be.
    """
    _check_text(*(text for text in request.values() if isinstance(text, str)))
    by = (CONSOLE, 0)
    match request:
        case {"ask": "add account", "name": str(name), "key": str(key), "hash": str(hash)}:
            _check_name(name)
            _check_hash(hash)
            public, comment = parse_key(key) if key else ("", "")
            return commands.MakeAccount(*by, public, comment, hash, name, new_id())
        case {"ask": "remove account", "name": str(name)}:
            return commands.DropAccount(*by, name=name)
        case {"ask": "set password", "name": str(name), "hash": str(hash)}:
            _check_hash(hash)
            return commands.SetPassword(*by, hash, name)
        case {"ask": "add key", "name": str(name), "key": str(key)}:
            return commands.AddKey(*by, *parse_key(key), name)
        case {"ask": "remove key", "name": str(name), "key": str(key)}:
            return commands.RemoveKey(*by, parse_key(key)[0], name)
        case {"ask": "make operator" | "make no operator" as verb, "name": str(name)}:
            return commands.SetOperator(*by, name, verb == "make operator")
        case {"ask": "kick", "name": str(name), "reason": str(reason)}:
            return commands.Disconnect(*by, name, reason)
        case {
            "ask": "ban" | "mute" as kind,
            "subject": str(subject),
            "duration": str(duration),
            "reason": str(reason),
        }:
            if kind == MUTE:
                _check_name(subject)
            until = parse_duration(duration, now)
            return commands.Impose(*by, kind, parse_subject(subject), until, reason)
    raise NotPermitted("the server does not know this request; it may be of another version")


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


def _check_name(name: str) -> None:
    """See that a user may be called so.

    :raises NotPermitted: nobody may.
    """
    try:
        check_user_name(name)
    except MalformedName:
        raise NotPermitted(f"{name!r} is no name: 1 to 32 letters, digits, _ and -") from None


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
