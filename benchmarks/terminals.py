"""SSH clients for a benchmark, many in one process: with a terminal, or as pipes.

The client's side of twisted.conch does the work; it has no post-quantum key exchange.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections import deque
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import packRequest_pty_req
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.conch.ssh.userauth import SSHUserAuthClient
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.python.failure import Failure

PATIENCE = 120.0
"""Seconds after which it is a failure that a text has not been shown."""

KEPT = 4096
"""Bytes of the newest output that are kept."""

NUMBERED = re.compile(rb"message (\d+) is")
LONGEST_NUMBERED = 24  # bytes

KEY = Key(Ed25519PrivateKey.generate())
"""The key of all users."""


_numbers = itertools.count()


class Client:
    """An SSH client with one session, at an address of its own.

    :ivar heard: the numbers of all messages that it was shown.
    :ivar closed: fires when the connection is closed.
    :param name: the user's name.
    :param is_terminal: whether the session has a terminal, of 80 columns and 24 rows.
    """

    def __init__(self, name: str, *, is_terminal: bool = True) -> None:
        self.name = name
        self.is_terminal = is_terminal
        self.heard: set[int] = set()
        self.closed: Deferred[None] = Deferred()
        self._channel = _Channel(self)
        self._output = b""
        self._awaited: deque[tuple[bytes, Deferred[None]]] = deque()  # in this order

    async def open(self, reactor: Any, address: tuple[str, int]) -> None:
        """Connect and log in; return when the session is open, and a terminal has its prompt.

        :raises TimeoutError: if that takes too long.
        """
        self._reactor = reactor
        self._transport = _Transport(self, self._channel)
        number = next(_numbers)
        own = f"127.1.{number // 250 % 250}.{number % 250 + 1}"
        endpoint = TCP4ClientEndpoint(reactor, *address, bindAddress=(own, 0))
        await connectProtocol(endpoint, self._transport)
        await self._channel.opened.addTimeout(PATIENCE, reactor)
        if self.is_terminal:
            await self.see(f"You are {self.name}")
            await self.see(">")  # of the prompt

    def type(self, keys: str) -> None:
        """Send input."""
        self._channel.write(keys.encode())

    async def see(self, text: str, seconds: float = PATIENCE) -> None:
        """Wait until the output contains ``text``, and forget the output up to it.

        :raises TimeoutError: if it does not come.
        """
        shown: Deferred[None] = Deferred()
        self._awaited.append((text.encode(), shown))
        self.received(b"")
        await shown.addTimeout(seconds, self._reactor)

    async def leave(self) -> None:
        """End the session as a user does; return when the server has closed the connection."""
        if self.is_terminal:
            self.type("\x15\x04")  # an empty line, and the end of input
        else:
            self._channel.conn.sendEOF(self._channel)
        await self.closed

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.transport.abortConnection()

    def stop_reading(self) -> socket.socket:
        """Read nothing any more; return the socket, which shows when the server closes it."""
        self._transport.transport.stopReading()
        connection: socket.socket = self._transport.transport.getHandle()
        return connection

    def received(self, data: bytes) -> None:
        """Called with output of the session."""
        numbered = NUMBERED.findall(self._output[-LONGEST_NUMBERED:] + data)
        self.heard.update(int(number) for number in numbered)
        self._output = self._output[-KEPT:] + data
        while self._awaited and self._awaited[0][0] in self._output:
            text, shown = self._awaited.popleft()
            self._output = self._output.partition(text)[2]
            if not shown.called:
                shown.callback(None)


class _Transport(SSHClientTransport):
    """The connection, which trusts every server.

    :param channel: the channel to open.
    """

    supportedPublicKeys = [b"ssh-ed25519"]  # which OpenSSH prefers, too
    transport: Any

    def __init__(self, client: Client, channel: _Channel) -> None:
        self._client = client
        self._channel = channel

    def verifyHostKey(self, key: bytes, fingerprint: bytes) -> Deferred[bool]:
        """Accept the server's key. Called by conch."""
        return succeed(True)

    def connectionSecure(self) -> None:
        """Log in. Called by conch after the key exchange."""
        connection = _Connection(self._channel)
        self.requestService(_Login(self._client.name.encode(), connection))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Report the end. Called by Twisted."""
        super().connectionLost(reason)
        self._client.closed.callback(None)


class _Login(SSHUserAuthClient):
    """The login by key, as OpenSSH does it: ``none``, an offer of the key, and the signature."""

    def getPublicKey(self) -> Key | None:
        """Return the key, once. Called by conch."""
        return None if self.lastPublicKey else KEY.public()

    def getPrivateKey(self) -> Deferred[Key]:
        """Return the key. Called by conch."""
        return succeed(KEY)


class _Connection(SSHConnection):
    """The multiplexer of channels, which answers keepalives.

    :param channel: the channel to open.
    """

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel

    def serviceStarted(self) -> None:
        """Open the channel. Called by conch after the login."""
        super().serviceStarted()
        self._channel.conn = self
        self.openChannel(self._channel)


class _Channel(SSHChannel):
    """The session.

    :ivar opened: fires when the shell is granted.
    """

    name = b"session"
    conn: Any

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.opened: Deferred[object] = Deferred()
        self._client = client

    def channelOpen(self, specificData: bytes) -> None:
        """Request a shell. Called by conch."""
        if self._client.is_terminal:
            terminal = packRequest_pty_req(b"xterm-256color", (24, 80, 0, 0), b"")
            self.conn.sendRequest(self, b"pty-req", terminal)
            self.conn.sendRequest(self, b"env", NS(b"LANG") + NS(b"en_GB.UTF-8"))
        self.conn.sendRequest(self, b"shell", b"", wantReply=True).chainDeferred(self.opened)

    def openFailed(self, reason: Any) -> None:
        """Report a refusal. Called by conch."""
        self.opened.errback(reason)

    def dataReceived(self, data: bytes) -> None:
        """Report output. Called by conch."""
        self._client.received(data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        """Ignore standard error. Called by conch."""

    def eofReceived(self) -> None:
        """Wait for the server to close the channel. Called by conch."""

    def request_exit_status(self, data: bytes) -> bool:
        """Accept the exit status. Called by conch."""
        return True

    def closed(self) -> None:
        """Close the connection, if the server does not. Called by conch."""
        self.conn.transport.loseConnection()
