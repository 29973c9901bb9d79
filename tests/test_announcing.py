"""An announcement of the operator reaches everybody who is connected, by whatever door, and is not
kept.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from chat_twisted.core.commands import CONSOLE, Announce
from chat_twisted.core.entries import Announced
from chat_twisted.core.errors import ChatError, NotPermitted, OperatorRequired
from chat_twisted.core.sanctions import MAX_ANNOUNCEMENT
from tests.irc import IRCTestCase
from tests.memory_log import ClusterTestCase


class AnnouncingTests(IRCTestCase):
    def announce(self, text: str) -> ChatError | None:
        """Announce a text; return why it is refused, if it is."""
        refused: list[ChatError] = []

        def failed(failure: Failure) -> None:
            assert isinstance(failure.value, ChatError)
            refused.append(failure.value)

        self.hub.ask(Announce(CONSOLE, 0, text)).addErrback(failed)
        self.commit()
        return refused[0] if refused else None

    def test_everybody_gets_it_in_the_form_of_their_protocol(self) -> None:
        alice = self.user("alice")
        _, receiving = self.original("bob")
        carol = self.join("carol")
        carol.say("PART &ALL")
        self.commit()
        for client in alice, receiving:
            client.transport.take()
        self.assertIsNone(self.announce(" back at 18:00 "))
        text = "Content-length: 13\n\nback at 18:00"
        self.assertEqual(alice.transport.take().decode(), f"NOTICE announcement\n{text}")
        self.assertEqual(receiving.transport.take().decode(), f"FORWARD -server-\n{text}")
        [line] = carol.lines()
        self.assertEqual(line, ":chat.server NOTICE carol :back at 18:00")

    def test_the_original_client_confirms_it_and_gets_what_follows(self) -> None:
        alice = self.user("alice")
        _, receiving = self.original("bob")
        self.announce("first")
        alice.ask("SEND ALL\nContent-length: 6\n\nsecond")
        self.assertNotIn(b"second", receiving.transport.take())
        self.assertIn(b"second", receiving.say("RECEIVED -server-\n\n"))
        self.assertFalse(receiving.closed)

    def test_it_is_not_kept(self) -> None:
        alice = self.user("alice")
        before = self.hub.newest
        self.announce("now")
        self.assertEqual(self.hub.newest, before)
        self.assertIn(b"now", alice.transport.take())
        self.assertNotIn(b"now", alice.ask("HISTORY ALL\nId: 1\n\n"))

    def test_it_is_a_line_that_every_protocol_can_carry(self) -> None:
        self.assertIsNone(self.announce("x" * MAX_ANNOUNCEMENT))
        for text in ("", "  ", "two\nlines", "x" * (MAX_ANNOUNCEMENT + 1), "é" * MAX_ANNOUNCEMENT):
            self.assertIsInstance(self.announce(text), NotPermitted, text[:10])

    def test_only_operators_may(self) -> None:
        self.user("alice")
        user = self.hub.state.names["alice"]
        [epoch] = user.sessions
        asked = self.hub.ask(Announce(user.id, epoch, "mine"))
        self.commit()
        self.failureResultOf(asked, OperatorRequired)

    def test_it_is_in_the_audit_log(self) -> None:
        self.announce("soon")
        self.assertIn("audit: admin say everybody until ever: 'soon'", self.logged)


class ClusterTests(ClusterTestCase):
    def test_it_goes_through_the_log_to_all_nodes(self) -> None:
        a, b = self.up("a", "b")
        a.ledger.propose(Announce(CONSOLE, 0, "back soon"), "asked")
        self.run_for(0.5)
        for node in a, b:
            results = [outcome.result for outcome, _ in node.committed]
            self.assertEqual(results.count(Announced("back soon")), 1, node.name)
        self.assert_equal_archives(a, b)
