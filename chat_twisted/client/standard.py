"""Standard input and output as a transport, which leaves both as it found them.

The open files behind them are shared with other programs: those before, beside and after this one.
O_NONBLOCK is a property of the open file, so it is never set on them. A pipe or a terminal is
opened a second time, for this process alone; a socket is asked each time not to wait; anything else
(a file, or what can't be opened again) is read and written when it is ready, in small pieces. So
there is nothing to undo, however the process ends. This knows nothing of what is read or written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
from typing import Any

from twisted.internet import abstract, main
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure

AT_ONCE = 64 * 1024
"""Bytes that are read at once."""

_NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def _open_again(descriptor: int, access: int) -> int | None:
    """Open a pipe or a terminal for this process alone; None if that can't be done."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", access | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None  # it is another user's, or there is no /proc


class _File:
    """One of the two. Its reading and writing raise ``BlockingIOError`` instead of waiting."""

    def __init__(self, descriptor: int, access: int) -> None:
        kind = os.fstat(descriptor).st_mode
        self.is_pipe = stat.S_ISFIFO(kind)
        self._socket = socket.socket(fileno=descriptor) if stat.S_ISSOCK(kind) else None
        can_wait = self.is_pipe or stat.S_ISCHR(kind)
        own = _open_again(descriptor, access) if can_wait else None
        self._own = own is not None
        self.descriptor = descriptor if own is None else own

    def read(self) -> bytes:
        if self._socket is not None:
            return self._socket.recv(AT_ONCE, socket.MSG_DONTWAIT)
        return os.read(self.descriptor, AT_ONCE)

    def write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        # As much as a pipe takes without waiting when it is ready to be written to.
        return os.write(self.descriptor, data if self._own else data[: select.PIPE_BUF])

    def close(self) -> None:
        """Close what is not shared."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None
        elif self._own:
            os.close(self.descriptor)
            self._own = False


class _Half(abstract.FileDescriptor):
    """What the reactor waits for: standard input, or standard output."""

    def __init__(self, reactor: Any, files: StandardFiles, file: _File) -> None:
        super().__init__(reactor)
        self.connected = 1
        self._files = files
        self._file = file

    def fileno(self) -> int:
        """Twisted: return the number of the descriptor."""
        return self._file.descriptor

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: nothing more can be read or written."""
        if self.connected:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
            self._file.close()
            self._files.half_lost(self)


class _Input(_Half):
    def doRead(self) -> Exception | None:
        """Twisted: there is something to read."""
        try:
            data = self._file.read()
        except OSError as error:
            return None if error.errno in _NOT_NOW else main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self._files.protocol.dataReceived(data)
        return None

    def writeSomeData(self, data: bytes) -> int:
        """Twisted: never called, since nothing is written to it."""
        raise NotImplementedError


class _Output(_Half):
    def __init__(self, reactor: Any, files: StandardFiles, file: _File) -> None:
        super().__init__(reactor, files, file)
        access = fcntl.fcntl(file.descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        # That nobody reads a pipe any more is an event for who waits to read from its other end.
        self._watches = file.is_pipe and access == os.O_WRONLY
        if self._watches:
            self.reactor.addReader(self)

    def doRead(self) -> Exception | None:
        """Twisted: nobody reads any more."""
        return main.CONNECTION_LOST

    def write(self, data: bytes) -> None:
        """Write as soon as possible."""
        self.reactor.removeReader(
            self
        )  # some systems say that a pipe can be read which is only not empty
        super().write(data)

    def writeSomeData(self, data: bytes) -> int | Exception:
        """Twisted: write a part of it; return how much."""
        try:
            written = self._file.write(data)
        except OSError as error:
            return 0 if error.errno in _NOT_NOW else main.CONNECTION_LOST
        if self._watches and written == len(data):
            self.reactor.addReader(self)
        return written


class StandardFiles:
    """The transport of a protocol that has two ends (``IHalfCloseableProtocol``).

    :ivar disconnecting: whether nothing more is read; LineReceiver asks for it.
    :param stdin: the descriptor to read from, and ``stdout`` to write to.
    """

    def __init__(self, protocol: Any, reactor: Any, *, stdin: int = 0, stdout: int = 1) -> None:
        self.protocol = protocol
        self._reactor = reactor
        self.disconnecting = False
        self._output: _Output | None = _Output(reactor, self, _File(stdout, os.O_WRONLY))
        self._input: _Input | None = _Input(reactor, self, _File(stdin, os.O_RDONLY))
        reactor.addReader(self._input)
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        """Write as soon as possible."""
        if self._output is not None:
            self._output.write(data)

    def loseConnection(self) -> None:
        """Write what is left, then have ``connectionLost`` called. Nothing more is read."""
        self.disconnecting = True
        if self._input is not None:
            self._reactor.removeReader(self._input)
        if self._output is not None:
            self._output.loseConnection()  # type: ignore[no-untyped-call]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have ``producer`` paused while standard output can't take more."""
        if self._output is None:
            producer.stopProducing()
        else:
            self._output.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Pause nobody any more."""
        if self._output is not None:
            self._output.unregisterProducer()

    def pauseProducing(self) -> None:
        """Read nothing for now."""
        if self._input is not None:
            self._reactor.removeReader(self._input)

    def resumeProducing(self) -> None:
        """Read again."""
        if self._input is not None and not self.disconnecting:
            self._reactor.addReader(self._input)

    def half_lost(self, half: _Half) -> None:
        """Called when one of the two is over."""
        protocol = IHalfCloseableProtocol(self.protocol)
        if half is self._input:
            self._input = None
            if not self.disconnecting:
                protocol.readConnectionLost()
            return
        self._output = None
        if not self.disconnecting:
            protocol.writeConnectionLost()
        else:
            self.protocol.connectionLost(Failure(main.CONNECTION_DONE))
