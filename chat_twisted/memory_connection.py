"""A connection within this process: bytes written at one end are read at the other.

It behaves as a TCP connection does: bytes arrive in a later turn of the reactor, a reader can
pause, and a producer is asked to pause while much is unread. This module must not know protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

BUFFER = 65536
"""Unread bytes with which a connection asks its writer to pause."""


@implementer(ITransport, IConsumer, IPushProducer)
class End:
    """One end of a connection, as the transport of a protocol.

    :ivar protocol: the protocol of this end.
    :param soon: calls its argument in a later turn of the reactor.
    :param address: the address of this end.
    :param carries: called each time before bytes are passed on.
    :param gone: called when the connection is lost.
    """

    other: End
    protocol: Any
    _peer: IAddress

    def __init__(
        self,
        soon: Callable[[Callable[[], None]], object],
        address: IAddress,
        carries: Callable[[], None] = lambda: None,
        gone: Callable[[End], None] = lambda end: None,
    ) -> None:
        self._call_soon = soon
        self._address = address
        self._carries = carries
        self._gone = gone
        self._unread = bytearray()  # written here, and not yet read at the other end
        self._reads = True
        self.disconnecting = False
        self._aborted = False
        self._closed = False
        self._due = False
        self._producer: Any = None
        self._streaming = True
        self._holds_up = False

    def connect(self, other: End, protocol: Any, other_protocol: Any) -> None:
        """Connect this end, with its protocol, to the other end with its own."""
        self.other, other.other = other, self
        self._peer, other._peer = other._address, self._address
        self.protocol, other.protocol = protocol, other_protocol
        other_protocol.makeConnection(other)
        protocol.makeConnection(self)

    # ITransport, IConsumer

    def write(self, data: bytes) -> None:
        """Write ``data``; the other end reads it in a later turn of the reactor."""
        if self.disconnecting:
            return
        self._unread += data
        self._soon()
        if self._producer is not None and self._streaming and len(self._unread) > BUFFER:
            self._holds_up = True
            self._producer.pauseProducing()

    def send(self, data: bytes) -> int:
        """Write as much of ``data`` as may wait for the reader; return the number of bytes."""
        if self.disconnecting or len(self._unread) > BUFFER:
            return 0
        self._unread += data
        self._soon()
        return len(data)

    def writeSequence(self, data: Any) -> None:
        """Write all pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close the connection when everything is read."""
        self.disconnecting = True
        self._soon()

    def abortConnection(self) -> None:
        """Close the connection, and discard what is not read."""
        self._unread.clear()
        self.disconnecting = self._aborted = True
        self._call_soon(lambda: self.end(ConnectionAborted(), ConnectionLost()))

    def getPeer(self) -> IAddress:
        """Return the address of the other end."""
        return self._peer

    def getHost(self) -> IAddress:
        """Return the address of this end."""
        return self._address

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause and resume ``producer``; one that does not stream is asked for more when
        everything is read.
        """
        self._producer = producer
        self._streaming = streaming
        self._holds_up = not streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    # IPushProducer

    def pauseProducing(self) -> None:
        """Read nothing for now."""
        self._reads = False

    def resumeProducing(self) -> None:
        """Read again."""
        self._reads = True
        if not self._closed:
            self.other._soon()

    def stopProducing(self) -> None:
        """Close the connection."""
        self.loseConnection()

    # Passing on

    def _soon(self) -> None:
        if not self._due and not self._closed:
            self._due = True
            self._call_soon(self._carry)

    def _carry(self) -> None:
        self._due = False
        self._carries()
        if self._closed or not self.other._reads:
            return
        if self._unread:
            data = bytes(self._unread)
            self._unread.clear()
            self.other.protocol.dataReceived(data)
            if self._holds_up and not self._unread and self._producer is not None:
                self._holds_up = not self._streaming
                self._producer.resumeProducing()
        if self.disconnecting and not self._unread and not self._aborted:
            self.end(ConnectionDone(), ConnectionDone())

    def end(self, here: Exception, there: Exception) -> None:
        """Tell both ends that the connection is lost, and why.

        Afterwards they have neither protocols nor each other, so that all are freed at once.
        """
        if self._closed:
            return
        for end, reason in ((self, here), (self.other, there)):
            end.disconnecting = end._closed = True
            end._producer = None
            end._gone(end)
            end.protocol.connectionLost(Failure(reason))
        for end in (self.other, self):
            del end.protocol, end.other
