"""The control socket: a Unix socket in the state folder for the operator's command.

Requests and answers are lines of JSON. A request is read after the answer to the one before::

    {"ask": "ban", "subject": "bob", "duration": "2h", "reason": "spam"}
    {"answer": {}}
    {"ask": "kick", "name": "carol", "reason": ""}
    {"refused": "the user is not here"}

An answer with ``failed`` says that the server could not do the request, because of a temporary
condition or a defect. The socket is private to the server's user (mode 0600); if the system tells
the user at the other end, it must be the server's user or root. This module must not know the
requests, which are in ``control``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted import files
from chat_twisted.control import Answer, Control
from chat_twisted.core.errors import ChatError, Unavailable
from chat_twisted.files import FilesError
from chat_twisted.logs import Logger

MAX_LINE = 64 * 1024
"""Maximum bytes of a request."""

MAX_CONNECTIONS = 64
"""Maximum number of connections. A further one replaces the one that has been silent for the
longest time."""

SILENCE = 10.0
"""Seconds without a request after which a connection is closed."""

STOP_WITHIN = 0.5
"""Seconds within which answers must be sent when the server stops."""

BACKLOG = 128
"""Maximum number of connections that wait to be accepted."""


@implementer(IPushProducer)
class ControlProtocol(LineReceiver, TimeoutMixin):
    """One connection of the command."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    factory: ControlFactory
    transport: Any

    def __init__(self) -> None:
        self.busy = False  # a request is not answered yet
        self._full = False  # the command reads too slowly
        self._leaves = False  # the connection is closed after all output

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """Start a timer on the factory's clock. Called by TimeoutMixin."""
        return self.factory.clock.callLater(period, func)

    def connectionMade(self) -> None:
        """Check the peer, and wait for a request. Called by Twisted."""
        if not _may_ask(self.transport):
            self.transport.abortConnection()
            return
        self.transport.registerProducer(self, True)
        self.factory.came(self)
        self.setTimeout(SILENCE)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection. Called by Twisted."""
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.factory.gone(self)

    def timeoutConnection(self) -> None:
        """Close the connection: it was silent for too long, or does not read. Called by
        TimeoutMixin.
        """
        self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        """Do a request, and read no other before its answer. Called by LineReceiver."""
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
        """Refuse a request that is too long. Called by LineReceiver."""
        self._write({"refused": "the request is too long"})
        self.leave()

    def _write(self, answer: Answer) -> None:
        self.transport.write(json.dumps(answer).encode() + b"\n")

    def leave(self) -> None:
        """Close the connection after all output, within ``SILENCE`` seconds."""
        if not self._leaves:
            self._leaves = True
            super().pauseProducing()  # type: ignore[no-untyped-call]
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def pauseProducing(self) -> None:
        """Stop to read requests. Called by Twisted when the command reads too slowly."""
        self._full = True
        self._read_or_not()

    def resumeProducing(self) -> None:
        """Read requests again. Called by Twisted when the command has read the output."""
        self._full = False
        self._read_or_not()

    def stopProducing(self) -> None:
        """Do nothing. Called by Twisted when the connection is lost."""

    def _read_or_not(self) -> None:
        if self._leaves:
            return
        if self.busy or self._full:
            super().pauseProducing()  # type: ignore[no-untyped-call]
        else:
            super().resumeProducing()  # type: ignore[no-untyped-call]


def _may_ask(transport: Any) -> bool:
    """Return whether the process at the other end of a Unix socket belongs to the server's user or
    to root. Systems that can't tell rely on the socket's permissions.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    peer = struct.Struct("3i")  # process, user, group
    found = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.size)
    _, user, _ = peer.unpack(found)
    return user in (0, os.geteuid())


class ControlFactory(ServerFactory):
    """The connections of operator's commands.

    :param control: does the requests.
    :param clock: the reactor.
    """

    noisy = False
    _log = Logger()

    def __init__(self, control: Control, clock: IReactorTime) -> None:
        self.control = control
        self.clock = clock
        self.stopping = False
        # Ordered by the time of the last answer, or of the connection; the oldest comes first.
        self._connections: dict[ControlProtocol, None] = {}
        self._all_gone: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol | None:  # type: ignore[override]
        """Make the protocol of a connection. Called by Twisted."""
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
        """Called when a request has met a defect."""
        self._log.failure("while answering the operator", failure)

    def stop(self) -> Deferred[None]:
        """Close all connections, after the answers to pending requests.

        :return: fires when all are closed, within ``STOP_WITHIN``.
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
    """A listening Unix socket that can be closed even if its file was removed."""

    def connectionLost(self, reason: Failure) -> None:
        try:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
        except OSError:
            tcp.Port.connectionLost(self, reason)


class ControlService:
    """The control socket of a state folder. It is made before the process becomes a daemon.

    :param folder: the folder, which this process has locked, so an existing socket is stale.
    :raises FilesError: if the socket can't be made.
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
        """Remove the socket at once. Called when the server can't start."""
        with contextlib.suppress(OSError):
            os.unlink(self._short.path)

    def stop(self) -> Deferred[Any]:
        """Accept no more requests, and remove the socket.

        :return: fires when all connections are closed.
        """
        closed = Deferred.fromCoroutine(self._close())
        return gatherResults([closed, self._factory.stop()])

    async def _close(self) -> None:
        await maybeDeferred(self._port.stopListening)
        self._short.close()


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that was killed."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FilesError(f"{path}: not a socket; the server makes one of this name")
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None
