"""The IRC door in memory: the hub and the framed door of ``tests.door``, and IRC clients."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from chat_twisted.doors import Channel
from chat_twisted.doors.irc.connection import IRCFactory
from tests.door import DoorTestCase, Transport
from tests.store import settle


class IRCClient:
    """A client's end of a connection to the IRC door."""

    def __init__(self, test: IRCTestCase, channel: Channel) -> None:
        protocol = test.irc.accept(channel)
        assert protocol is not None
        self.protocol = protocol
        self._clock = test.clock
        self.transport = Transport(peerAddress=IPv4Address("TCP", channel.host or "", 50000))
        protocol.makeConnection(self.transport)

    def say(self, *lines: str | bytes) -> list[str]:
        """Send lines in one piece; return the lines that come, after work that needs no time."""
        data = b"".join(
            (line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines
        )
        return self.feed(data)

    def feed(self, data: bytes) -> list[str]:
        """Send bytes; return the lines that come."""
        self.protocol.dataReceived(data)
        return self.lines()

    def lines(self) -> list[str]:
        """Return the lines that came since the last call. PING lines of receipts are left out; see
        ``receipts``.
        """
        settle(self._clock)
        lines = self.transport.take().decode().split("\r\n")
        assert lines.pop() == "", "an unfinished line"
        self.receipts = [line for line in lines if line.startswith("PING :m")]
        return [line for line in lines if not line.startswith("PING :m")]

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.transport.half_closed or self.transport.disconnecting

    def gone(self) -> None:
        """Lose the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class IRCTestCase(DoorTestCase):
    """A hub with a framed door and the IRC door."""

    joins_all = True
    motd = ""

    def setUp(self) -> None:
        super().setUp()
        self.irc = IRCFactory(
            self.hub,
            self.gate,
            self.clock,
            max_message=self.max_message,
            idle=60,
            motd=self.motd,
            joins_all=self.joins_all,
        )
        self.irc.doStart()
        self.addCleanup(self.irc.doStop)

    def client(self, host: str = "127.0.0.1", *, encrypted: bool = False) -> IRCClient:
        """Return a client that has said nothing."""
        return IRCClient(self, Channel(host, encrypted))

    def join(self, nick: str, *channels: str, caps: str = "") -> IRCClient:
        """Return a client that is registered, and has joined channels.

        :param caps: the capabilities that it turns on.
        """
        client = self.client()
        negotiation = [f"CAP REQ :{caps}", "CAP END"] if caps else []
        welcome = client.say(f"NICK {nick}", f"USER {nick} 0 * :{nick}", *negotiation)
        self.assertTrue(any(" 001 " in line for line in welcome), welcome)
        for channel in channels:
            client.say(f"JOIN {channel}")
        return client
