"""relay.py ENDPOINT: relay messages and do nothing else, as the reference of benchmarks/guard.

The cost of a message in microseconds depends on the machine as much as on the server. So the guard
runs this program beside the server: it shows the cost of relaying a message with the simplest
possible Twisted program, on the same machine, with the same Python and Twisted, at the same time.

It is not a chat server. It supports the part of version 2 that the dialect ``chat`` of load.c
needs, and stores, checks and promises nothing. The figures in guard.json depend on it: take them
again after a change.
"""

from __future__ import annotations

import itertools
import sys

from twisted.internet import endpoints, epollreactor
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import LineReceiver

numbers = itertools.count(1)
present: dict[bytes, Relay] = {}
"""The registered connections, by name."""


class Relay(LineReceiver):
    """A connection of one user."""

    delimiter = b"\n"
    transport: ITCPTransport

    def __init__(self) -> None:
        self.name = b""
        self.lines: list[bytes] = []  # of the frame that comes
        self.body: list[bytes] = []
        self.missing = 0  # octets of the body

    def connectionMade(self) -> None:
        """Send every frame at once. Called by Twisted."""
        self.transport.setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        """Process a line of a frame's head. Called by Twisted."""
        if line:
            self.lines.append(line)
            return
        for header in self.lines[1:]:
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                self.missing = int(value)
        if self.missing:
            self.setRawMode()  # type: ignore[no-untyped-call]
        else:
            self.frame_received()

    def rawDataReceived(self, data: bytes) -> None:
        """Process a part of a frame's body. Called by Twisted."""
        self.body.append(data[: self.missing])
        rest = data[self.missing :]
        self.missing -= len(self.body[-1])
        if not self.missing:
            self.frame_received()
            self.setLineMode(rest)  # type: ignore[no-untyped-call]

    def frame_received(self) -> None:
        """Process a frame."""
        lines, body = self.lines, b"".join(self.body)
        self.lines, self.body = [], []
        verb, _, argument = lines[0].partition(b" ")
        if verb == b"SEND":
            self.relay(argument, lines[1], body)
        elif verb == b"REGISTER":
            self.name = argument
            present[argument] = self
            self.transport.write(b"REGISTERED %b\nVersion: 2\n\n" % argument)
        elif verb == b"QUIT":
            self.transport.loseConnection()

    def relay(self, to: bytes, tag: bytes, body: bytes) -> None:
        """Answer SENT, and write a message to the user ``to``, or for ALL to everybody else."""
        number = next(numbers)
        self.transport.write(b"SENT %b\n%b\nMessage: %d\n\n" % (to, tag, number))
        head = b"FORWARD %b\nTo: %b\nMessage: %d\nContent-length: %d\n\n"
        frame = head % (self.name, to, number, len(body)) + body
        for user in present.values() if to == b"ALL" else [present[to]]:
            if user is not self:
                user.transport.write(frame)

    def connectionLost(self, reason: object = None) -> None:
        """Forget the user."""
        present.pop(self.name, None)


def main() -> None:
    """Relay messages until a signal ends the process."""
    epollreactor.install()
    from twisted.internet import reactor

    factory = ServerFactory()
    factory.protocol = Relay
    endpoints.serverFromString(reactor, sys.argv[1]).listen(factory)
    reactor.run()


if __name__ == "__main__":
    main()
