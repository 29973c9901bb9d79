"""A client that behaves like the original one: two blocking sockets, one ``recv(2048)`` per frame.

It is written from the description of the protocol and shares no code with the server, so that a
mistake in the server's parser can't hide itself. A ``recv`` must return exactly one frame; anything
else is an error.
"""

from __future__ import annotations

import re
import socket

PATIENCE = 120  # seconds

FORWARD = re.compile(r"FORWARD ([A-Za-z0-9]{1,32})\nContent-length: ([0-9]+)\n\n(.+)\Z", re.DOTALL)


class Original:
    """A user of the original client."""

    def __init__(self, port: int, name: str, host: str = "127.0.0.1") -> None:
        self.name = name
        self.sending = socket.create_connection((host, port), PATIENCE)
        self.receiving = socket.create_connection((host, port), PATIENCE)

    def ask(self, connection: socket.socket, request: str) -> str:
        connection.sendall(request.encode())
        return connection.recv(2048).decode()

    def register(self) -> None:
        for connection, word in ((self.sending, "TOSEND"), (self.receiving, "TORECV")):
            answer = self.ask(connection, f"REGISTER {word} {self.name}\n\n")
            assert answer == f"REGISTERED {word} {self.name}\n\n", answer

    def send(self, to: str, text: str) -> str:
        """Send ``text``; return the answer."""
        return self.ask(self.sending, f"SEND {to}\nContent-length: {len(text)}\n\n{text}")

    def receive(self) -> tuple[str, str]:
        """Receive one FORWARD without answering it; return its sender and its text."""
        frame = self.receiving.recv(2048).decode()
        match = FORWARD.match(frame)
        assert match is not None, frame
        assert int(match[2]) == len(match[3]), frame
        return match[1], match[3]

    def confirm(self, sender: str) -> None:
        self.receiving.sendall(f"RECEIVED {sender}\n\n".encode())

    def hear(self) -> tuple[str, str]:
        """Receive one FORWARD and answer it; return its sender and its text."""
        sender, text = self.receive()
        self.confirm(sender)
        return sender, text

    def close(self) -> None:
        self.sending.close()
        self.receiving.close()
