"""Standard input and output as a transport, without a lasting change to either.

Their open file descriptions are shared with other programs, before, beside and after this one.
O_NONBLOCK is a property of an open file description, so it is never set on them. A pipe or terminal
is opened again for this process; a socket is used with MSG_DONTWAIT; other files, and those that
can't be opened again, are read and written in small pieces when they are ready. So nothing must be
restored, however the process ends. This module must not know the data.
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
"""Maximum bytes of one read."""

_NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def _reopen(descriptor: int, access: int) -> int | None:
    """Open a pipe or terminal again, for this process only; return None if that is not possible."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", access | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None  # it belongs to another user, or /proc is missing


class _File:
    """Standard input or output. Reading and writing raise ``BlockingIOError`` instead
    of waiting.
    """

    def __init__(self, descriptor: int, access: int) -> None:
        kind = os.fstat(descriptor).st_mode
        self.is_pipe = stat.S_ISFIFO(kind)
        self._socket = socket.socket(fileno=descriptor) if stat.S_ISSOCK(kind) else None
        can_wait = self.is_pipe or stat.S_ISCHR(kind)
        own = _reopen(descriptor, access) if can_wait else None
        self._own = own is not None
        self.descriptor = descriptor if own is None else own

    def read(self) -> bytes:
        if self._socket is not None:
            return self._socket.recv(AT_ONCE, socket.MSG_DONTWAIT)
        return os.read(self.descriptor, AT_ONCE)

    def write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        # A pipe that is ready takes this many bytes without blocking.
        return os.write(self.descriptor, data if self._own else data[: select.PIPE_BUF])

    def close(self) -> None:
        """Close the descriptor, unless it is shared."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None
        elif self._own:
            os.close(self.descriptor)
            self._own = False


class _StandardFile(abstract.FileDescriptor):
    """Standard input or output, as the reactor's selectable."""

    def __init__(self, reactor: Any, files: StandardFiles, file: _File) -> None:
        super().__init__(reactor)
        self.connected = 1
        self._files = files
        self._file = file

    def fileno(self) -> int:
        """Return the number of the descriptor. Called by the reactor."""
        return self._file.descriptor

    def connectionLost(self, reason: Failure) -> None:
        """Called by Twisted when no more can be read or written."""
        if self.connected:
            super().connectionLost(reason)  # type: ignore[no-untyped-call]
            self._file.close()
            self._files.file_lost(self)


class _Input(_StandardFile):
    def doRead(self) -> Exception | None:
        """Read and pass on input. Called by the reactor when there is some."""
        try:
            data = self._file.read()
        except OSError as error:
            return None if error.errno in _NOT_NOW else main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self._files.protocol.dataReceived(data)
        return None

    def writeSomeData(self, data: bytes) -> int:
        """Never called: nothing is written to standard input."""
        raise NotImplementedError


class _Output(_StandardFile):
    def __init__(self, reactor: Any, files: StandardFiles, file: _File) -> None:
        super().__init__(reactor, files, file)
        access = fcntl.fcntl(file.descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        # The reactor reports as readable a pipe whose reader has closed it.
        self._watches = file.is_pipe and access == os.O_WRONLY
        if self._watches:
            self.reactor.addReader(self)

    def doRead(self) -> Exception | None:
        """Called by the reactor when the reader has closed its end."""
        return main.CONNECTION_LOST

    def write(self, data: bytes) -> None:
        """Write ``data`` as soon as possible."""
        self.reactor.removeReader(self)  # some systems report a non-empty pipe as readable
        super().write(data)

    def writeSomeData(self, data: bytes) -> int | Exception:
        """Write part of the data; return the number of bytes. Called by Twisted."""
        try:
            written = self._file.write(data)
        except OSError as error:
            return 0 if error.errno in _NOT_NOW else main.CONNECTION_LOST
        if self._watches and written == len(data):
            self.reactor.addReader(self)
        return written


class StandardFiles:
    """The transport for a protocol that provides ``IHalfCloseableProtocol``.

    :ivar disconnecting: whether reading has stopped; LineReceiver examines it.
    :param stdin: the descriptor to read from.
    :param stdout: the descriptor to write to.
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
        """Write ``data`` as soon as possible."""
        if self._output is not None:
            self._output.write(data)

    def loseConnection(self) -> None:
        """Stop reading, write the remaining output, then call ``connectionLost``."""
        self.disconnecting = True
        if self._input is not None:
            self._reactor.removeReader(self._input)
        if self._output is not None:
            self._output.loseConnection()  # type: ignore[no-untyped-call]

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` while standard output blocks."""
        if self._output is None:
            producer.stopProducing()
        else:
            self._output.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Stop pausing the producer."""
        if self._output is not None:
            self._output.unregisterProducer()

    def pauseProducing(self) -> None:
        """Stop reading for now."""
        if self._input is not None:
            self._reactor.removeReader(self._input)

    def resumeProducing(self) -> None:
        """Read again."""
        if self._input is not None and not self.disconnecting:
            self._reactor.addReader(self._input)

    def file_lost(self, file: _StandardFile) -> None:
        """Called when standard input or output has ended."""
        protocol = IHalfCloseableProtocol(self.protocol)
        if file is self._input:
            self._input = None
            if not self.disconnecting:
                protocol.readConnectionLost()
            return
        self._output = None
        if not self.disconnecting:
            protocol.writeConnectionLost()
        else:
            self.protocol.connectionLost(Failure(main.CONNECTION_DONE))
