"""A client of version 2 with one request at a time, for benchmarks."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl

from server import Address

GIVES_UP = 60.0
"""Seconds after which a missing answer counts as if it came then."""

any_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
any_certificate.check_hostname = False
any_certificate.verify_mode = ssl.CERT_NONE

_ids = itertools.count(1)


class Asker:
    """A connection with one request at a time."""

    def __init__(self, address: Address, *, tls: bool = False) -> None:
        self.socket = socket.create_connection(address, GIVES_UP)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = any_certificate.wrap_socket(self.socket)
        self.data = b""

    def until(self, text: str) -> bool:
        """Read until ``text`` arrives; return whether it does."""
        with contextlib.suppress(OSError):
            while text.encode() not in self.data:
                more = self.socket.recv(2**20)
                if not more:
                    return False
                self.data += more
            return True
        return False

    def ask(self, request: str, answer: str = "") -> str:
        """Send a request; return the answer that begins with ``answer``, or empty text."""
        id = f"q{next(_ids)}"
        start, rest = request.split("\n", 1)
        self.data = b""
        with contextlib.suppress(OSError):
            self.socket.sendall(f"{start}\nId: {id}\n{rest}".encode())
            while True:
                for frame in self.data.decode(errors="replace").split("\n\n"):
                    if f"\nId: {id}\n" in f"{frame}\n" and not frame.startswith("MESSAGE"):
                        return frame if frame.startswith(answer) else ""
                more = self.socket.recv(2**20)
                if not more:
                    return ""
                self.data += more
        return ""

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self.socket.sendall(b"QUIT\n\n")
        self.socket.close()
