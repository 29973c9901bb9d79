"""What tests of visits need: the session channel of an SSH connection, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address

from chat_twisted.doors import Channel
from chat_twisted.doors.ssh.visits import Visit, Visitor, Wish
from chat_twisted.inside.connecting import Connector
from chat_twisted.testing import Chat

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+qzGYn0zcSSlRE7uqjD3BjhIC0YMYoPbaa7lUf1eHS"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJ2gYVIkJrTeYoqCQzcdBO9hTVOJvhAvHvwzsGwm3dm"
SECRET = b"a secret of the server"


class Peer:
    """The session channel: what a visit writes is recorded.

    :ivar questions: the calls of ``when_answered`` that wait, while ``answers`` is false.
    """

    def __init__(self) -> None:
        self.output = b""
        self.errors = b""
        self.count = 0
        self.codes: list[int] = []
        self.answers = True
        self.questions: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        self.output += data

    def write_error(self, data: bytes) -> None:
        self.errors += data

    def taken(self, count: int) -> None:
        self.count += count

    def when_answered(self, then: Callable[[], None]) -> None:
        if self.answers:
            then()
        else:
            self.questions.append(then)

    def answer(self) -> None:
        """Answer everything that was asked so far."""
        questions, self.questions = self.questions, []
        for then in questions:
            then()

    def end(self, code: int) -> None:
        self.codes.append(code)

    def lines(self) -> list[str]:
        """The lines of output since the last call."""
        output, self.output = self.output, b""
        return output.decode().splitlines()


def visitor(name: str, key: str = KEY, proof: str = "", port: int = 50_000) -> Visitor:
    address = IPv4Address("TCP", "192.0.2.1", port)
    return Visitor(name, proof, key, Channel("192.0.2.1", True, 8828), address)


def connector(chat: Chat) -> Connector:
    def soon(call: Callable[[], None]) -> Any:
        return chat.reactor.callLater(0, call)

    return Connector(chat.framed, chat.reactor, soon, SECRET)


__all__ = ["KEY", "OTHER_KEY", "Peer", "Visit", "Wish", "connector", "visitor"]
