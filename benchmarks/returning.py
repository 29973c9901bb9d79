"""Many clients of version 2 in one thread, which come back as the project's client does.

A lost client tries again after the delays of ``chat_twisted.client.reconnection``. It sends its
token and the number of its last message, and repeats what was not acknowledged. This module must
not know how a server is started.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import random
import select
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asker import any_certificate
from server import Address

from chat_twisted.client.connection import CONNECTED_WITHIN
from chat_twisted.client.reconnection import FIRST_RETRY, LONGEST_RETRY
from chat_twisted.frames import Frame, FrameReader, encode

READ, WRITE = select.EPOLLIN, select.EPOLLOUT

IP_BIND_ADDRESS_NO_PORT = 24  # Linux; the socket module does not name it

RECEIVE = 65_536
"""Bytes that are read at once."""

STARTED = time.time_ns()
"""Makes texts, and so the Ids of requests, unlike those of another process."""

MAX_BODY = 2**20
"""Maximum bytes of a body."""


class Client:
    """One client.

    :ivar is_in: whether it is logged in.
    :param crowd: the crowd to which it belongs.
    :param name, token: its user's, whom the server knows.
    :param source: the address from which it connects.
    :param resume: the number of the last message that it has.
    """

    __slots__ = (
        "_attempt",
        "_attempts",
        "_crowd",
        "_do",
        "_out",
        "_reader",
        "_socket",
        "_source",
        "is_in",
        "name",
        "resume",
        "token",
        "unacknowledged",
    )

    def __init__(self, crowd: Crowd, name: str, token: str, source: str, resume: int) -> None:
        self.name = name
        self.token = token
        self.resume = resume
        self.is_in = False
        self.unacknowledged: dict[str, bytes] = {}  # frames, by their Id
        self._crowd = crowd
        self._source = source
        self._attempt = 0  # the number of the connection, by which old timers are told apart
        self._attempts = 0  # since the last login
        self._socket: socket.socket | None = None
        self._do: Callable[[], None] = self._connected
        self._out = b""
        self._reader = FrameReader(MAX_BODY)

    def connect(self, after: int = 0) -> None:
        """Make an attempt to connect.

        :param after: the number of the attempt before; nothing is done if it was not the last one.
        """
        if after != self._attempt:
            return
        self._attempt += 1
        peer = socket.socket()
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.bind((self._source, 0))
        self._socket, self._do, self._out = peer, self._connected, b""
        result = peer.connect_ex(self._crowd.address)
        if result not in (0, errno.EINPROGRESS):
            self._lost("refused")
            return
        self._crowd.watch(peer, self, WRITE)
        self._crowd.later(CONNECTED_WITHIN, self._give_up, self._attempt)

    def _give_up(self, attempt: int) -> None:
        if attempt == self._attempt and not self.is_in:
            self._lost("no answer")

    def handle(self) -> None:
        """Go on. Called when the socket is ready."""
        try:
            self._do()
        except ssl.SSLWantReadError:
            self._crowd.change(self._peer, READ)
        except ssl.SSLWantWriteError:
            self._crowd.change(self._peer, READ | WRITE)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost("cut off" if self.is_in else f"refused: {type(error).__name__}")

    @property
    def _peer(self) -> socket.socket:
        assert self._socket is not None, "it is connected"
        return self._socket

    def _connected(self) -> None:
        peer = self._peer
        if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lost("refused: ConnectionRefusedError")
            return
        self._crowd.change(peer, READ)
        if not self._crowd.tls:
            self._register()
            return
        self._socket = any_certificate.wrap_socket(peer, do_handshake_on_connect=False)
        self._do = self._shake_hands
        self._do()

    def _shake_hands(self) -> None:
        peer = self._peer
        assert isinstance(peer, ssl.SSLSocket), "only TLS has a handshake"
        peer.do_handshake()
        self._crowd.change(peer, READ)
        self._register()

    def _register(self) -> None:
        self._reader = FrameReader(MAX_BODY)
        self._do = self._read
        headers = [("Version", 2), ("Session", self.token), ("Resume", self.resume)]
        self.write(encode("REGISTER", self.name, headers))

    def write(self, data: bytes) -> None:
        """Write to the server. Frames are short, and the socket takes them."""
        self._out += data
        with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = self._peer.send(self._out)
            self._out = self._out[sent:]

    def say(self, to: str, text: str) -> None:
        """Send a message; text is its Id too."""
        frame = encode("SEND", to, [("Id", text)], text)
        self.unacknowledged[text] = frame
        if self.is_in:
            self.write(frame)

    def _read(self) -> None:
        while True:
            data = self._peer.recv(RECEIVE)
            if not data:
                self._lost("closed" if self.is_in else "closed before it was in")
                return
            self._reader.receive_data(data)
            while (frame := self._reader.next_frame()) is not None:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        match frame.verb:
            case "REGISTERED":
                self.is_in = True
                self._attempts = 0
                self._crowd.came()
                if self._crowd.watches:
                    self.write(encode("WHO", "", [("Watch", "yes"), ("Identities", "yes")]))
                for waiting in self.unacknowledged.values():
                    self.write(waiting)
            case "SENT":
                text = frame.headers["id"]
                if self.unacknowledged.pop(text, None) is not None:
                    self._crowd.acknowledged.append(text)
            case "MESSAGE":
                self.resume = frame.number("message")
                self.write(encode("RECEIVED", frame.argument, [("Message", self.resume)]))
            case "WHO" if "more" in frame.headers:
                after = [("After", frame.headers["more"]), ("Identities", "yes")]
                self.write(encode("WHO", "", after))
            case "ERROR":
                self._crowd.troubles[f"ERROR {frame.argument}"] += 1
            case "PING":
                self.write(encode("PONG", frame.argument))

    def _lost(self, why: str) -> None:
        peer, self._socket = self._peer, None
        self._crowd.forget(peer)
        self._attempt += 1
        if self.is_in:
            self.is_in = False
            self._crowd.inside -= 1
        if why != "closed" or not self._crowd.is_away:
            self._crowd.troubles[why] += 1
        wait = min(LONGEST_RETRY, FIRST_RETRY * 2**self._attempts) * (1 + random.random()) / 2
        self._attempts += 1
        self._crowd.later(wait, self.connect, self._attempt)

    def close(self) -> None:
        """Close the connection, and don't come back."""
        self._attempt += 1
        if self._socket is not None:
            self._crowd.forget(self._socket)


class Crowd:
    """All clients, and what has happened to them.

    :ivar inside: the number of clients that are logged in.
    :ivar logins: when clients were logged in since ``restarts`` was called, by ``time.monotonic``.
    :ivar troubles: what happened to clients, besides being logged out by the server that ends.
    :ivar acknowledged: the texts of the acknowledged messages.
    :ivar is_away: whether clients may be logged out: the server restarts.
    :param address: the server's.
    :param tls: whether the connections are encrypted.
    :param watches: whether the clients watch presence, as the client on a terminal does.
    """

    def __init__(self, address: Address, *, tls: bool, watches: bool) -> None:
        self.address = address
        self.tls = tls
        self.watches = watches
        self.clients: list[Client] = []
        self.inside = 0
        self.logins: list[float] = []
        self.troubles: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.is_away = False
        self._epoll = select.epoll()
        self._polled: dict[int, Client] = {}
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[int], None], int]] = []

    def came(self) -> None:
        """Called when a client is logged in."""
        self.inside += 1
        self.logins.append(time.monotonic())

    def restarts(self) -> None:
        """Called when the server is told to stop."""
        self.logins.clear()
        self.is_away = True

    def watch(self, peer: socket.socket, client: Client, events: int) -> None:
        """Call ``handle`` of a client when its socket is ready."""
        self._epoll.register(peer.fileno(), events)
        self._polled[peer.fileno()] = client

    def change(self, peer: socket.socket, events: int) -> None:
        """Change what is waited for."""
        self._epoll.modify(peer.fileno(), events)

    def forget(self, peer: socket.socket) -> None:
        """Close a socket."""
        if self._polled.pop(peer.fileno(), None) is not None:
            self._epoll.unregister(peer.fileno())
        peer.close()

    def later(self, seconds: float, call: Callable[[int], None], attempt: int) -> None:
        """Call a function after some seconds."""
        entry = (time.monotonic() + seconds, next(self._order), call, attempt)
        heapq.heappush(self._timers, entry)

    def turn(self) -> None:
        """Wait a little for what happens, and handle it."""
        for descriptor, _ in self._epoll.poll(0.005):
            client = self._polled.get(descriptor)
            if client is not None:
                client.handle()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, call, attempt = heapq.heappop(self._timers)
            call(attempt)

    def wait_for_answers(self, seconds: float) -> int:
        """Wait until all messages are acknowledged, at most for some seconds; return how many are
        not.
        """
        end = time.monotonic() + seconds
        while (
            count := sum(len(c.unacknowledged) for c in self.clients)
        ) and time.monotonic() < end:
            self.turn()
        return count

    def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            client.close()


def talk(crowd: Crowd, chance: random.Random, number: int) -> None:
    """Let a client write to another one.

    :param number: makes the text unlike all others of this process.
    """
    sender, recipient = chance.sample(crowd.clients, 2)
    sender.say(recipient.name, f"said-{STARTED}-{number}")
