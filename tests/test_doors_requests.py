"""What may be asked in version 2 beside talking, and what others are told of it."""

from __future__ import annotations

from chat_twisted.core.commands import CONSOLE, SetOperator
from tests.door import Client, DoorTestCase


class RequestTestCase(DoorTestCase):
    """Alice and bob in alice's room #dev, and carol, who is in none."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = (self.user(name) for name in ("alice", "bob", "carol"))
        for client in (self.alice, self.bob):
            self.ask(client, "JOIN #dev\n\n")
        self.clear()

    def ask(self, client: Client, request: str) -> bytes:
        """Ask, and return all that comes."""
        client.transport.clear()
        return client.ask(request)

    def told(self, client: Client) -> bytes:
        """Return what has come."""
        return client.transport.take()

    def clear(self) -> None:
        for client in (self.alice, self.bob, self.carol):
            client.transport.clear()

    def make_operator(self, client: Client, name: str) -> None:
        """Make a user an operator of the server."""
        self.assertIn(b"ACCOUNT", self.ask(client, "ACCOUNT register\nContent-length: 1\n\nx"))
        self.hub.ask(SetOperator(CONSOLE, 0, name, True))
        self.commit()


class AnswerTests(RequestTestCase):
    def test_what_follows_from_a_request_is_told_and_is_not_its_answer(self) -> None:
        self.make_operator(self.alice, "alice")
        self.assertEqual(
            self.ask(self.alice, "BAN bob\nId: 1\n\n"),
            b"LEFT #dev\nUser: bob\n\nBAN bob\nId: 1\n\n",
        )
