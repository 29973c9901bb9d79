"""Visits with a terminal: the client's screen inside the server, in memory."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref

from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.client.chat import ChatClient
from chat_twisted.doors.ssh.visits import Size, Visit, VisitRefused, Wish
from chat_twisted.inside.connecting import DISSOLVED_AFTER, Connector
from chat_twisted.inside.host import InsideHost
from chat_twisted.testing import Chat
from chat_twisted.ui.errors import NotDelivered
from tests.visits import KEY, OTHER_KEY, SECRET, Peer, visitor

ENVIRONMENT = {"TERM": "xterm-256color", "TZ": "Asia/Tokyo"}

ENTER, CTRL_C, CTRL_D, CTRL_Z, TAB = b"\r", b"\x03", b"\x04", b"\x1a", b"\t"


def plain(output: bytes) -> str:
    """Return the text in the output of a terminal, without its sequences."""
    return re.sub(r"\x1b(\[[0-9;?>]*[A-Za-z]|\][^\x07\x1b]*(\x07|\x1b\\))", "", output.decode())


class TerminalTestCase(TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        reactor_loop.use(self.chat.reactor)
        self.addCleanup(reactor_loop.leave)
        self.addCleanup(self.chat.close)

        def soon(call: object) -> None:
            asyncio.get_running_loop().call_soon(call)  # type: ignore[arg-type]

        connector = Connector(self.chat.framed, self.chat.reactor, soon, SECRET)
        self.host = InsideHost(connector, 3, "tower")

    def visit(
        self,
        name: str,
        *,
        key: str = KEY,
        command: str | None = None,
        environment: dict[str, str] = ENVIRONMENT,
    ) -> tuple[Visit, Peer]:
        peer = Peer()
        made = self.host.open(visitor(name, key), Wish(environment, Size(80, 24), command), peer)
        self.chat.settle()
        return made, peer

    def type(self, visit: Visit, *texts: str | bytes) -> None:
        for text in texts:
            visit.received(text.encode() if isinstance(text, str) else text)
            self.chat.advance(0.2)

    def bob(self) -> ChatClient:
        return self.chat.join("bob")

    def see(self, peer: Peer, text: str) -> None:
        self.assertIn(text, plain(peer.output))


class TerminalTests(TerminalTestCase):
    def test_lines_are_sent_and_messages_shown(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("alice")
        self.see(peer, "You are alice on tower. Here: ~bob.")
        self.type(visit, "hello ä 日本", ENTER)
        self.assertEqual(self.chat.run(anext(bob)).text, "hello ä 日本")
        self.chat.run(bob.send("alice", "and you"))
        self.chat.settle()
        self.see(peer, "[@bob] ~bob: and you")
        self.assertEqual(peer.count, len("hello ä 日本".encode()) + 1)

    def test_a_character_may_be_split(self) -> None:
        bob = self.bob()
        visit, _ = self.visit("alice")
        first, second = "日".encode()[:1], "日".encode()[1:]
        self.type(visit, first, second, ENTER)
        self.assertEqual(self.chat.run(anext(bob)).text, "日")

    def test_times_are_those_of_the_user(self) -> None:
        bob = self.bob()
        _, peer = self.visit("alice")
        self.chat.run(bob.send("ALL", "hello"))
        self.chat.settle()
        self.see(peer, "09:00 [ALL] ~bob: hello")

    def test_ways_to_leave(self) -> None:
        for name, keys, code in [
            ("a", [b"/quit\r"], 0),
            ("b", [CTRL_D], 0),
            ("c", [CTRL_C, CTRL_C], 130),
        ]:
            visit, peer = self.visit(name)
            self.type(visit, *keys)
            self.chat.advance(1)
            self.assertEqual(peer.codes, [code], name)
            visit.lost()
            self.assertEqual(self.host.terminals, 0)

    def test_a_signal_and_the_end_of_input_end_it(self) -> None:
        for name, end in [
            ("a", lambda visit: visit.interrupted("INT")),
            ("b", lambda visit: visit.input_ended()),
        ]:
            visit, peer = self.visit(name)
            visit.interrupted("USR1")
            end(visit)
            self.chat.advance(1)
            self.assertEqual(peer.codes, [130])

    def test_ctrl_z_does_nothing(self) -> None:
        visit, peer = self.visit("alice")
        self.type(visit, CTRL_Z, "hello", ENTER)
        self.see(peer, "[ALL] alice: hello")

    def test_a_taken_name_asks_for_another(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("bob")
        self.see(peer, "bob is taken; bob_ may be free")
        self.see(peer, "Another name (such as bob_; none leaves):")
        self.type(visit, "bob_", ENTER)
        self.see(peer, "You are bob_ on tower")
        visit.lost()
        self.chat.settle()
        self.chat.run(bob.send("bob_", "you were away"))
        _, back = self.visit("bob_")
        self.see(back, "you were away")

    def test_a_guest_who_was_renamed_returns_by_the_new_name_and_the_old_one(self) -> None:
        visit, _ = self.visit("alice")
        self.type(visit, "/nick carol", ENTER)
        for name in ("carol", "alice"):
            visit.lost()
            self.chat.settle()
            visit, peer = self.visit(name)
            self.see(peer, "You are carol on tower")
        visit.lost()
        self.chat.settle()
        _, peer = self.visit("carol", key=OTHER_KEY)
        self.see(peer, "carol is kept")

    def test_a_malformed_name_asks_for_another(self) -> None:
        visit, peer = self.visit("b@d")
        self.see(peer, "Another name (such as bd_; none leaves)")
        self.type(visit, "good", ENTER)
        self.see(peer, "You are good on tower")

    def test_without_another_name_it_is_over(self) -> None:
        visit, peer = self.visit("b@d")
        self.type(visit, CTRL_C)
        self.chat.advance(1)
        self.assertEqual(peer.codes, [2])

    def test_a_name_that_is_refused_later_is_said_after_the_screen(self) -> None:
        self.chat.run(self.register())
        visit, peer = self.visit("carol", key=OTHER_KEY)
        self.chat.advance(1)
        self.assertEqual(peer.codes, [2])
        self.see(peer, "carol belongs to an account; its key or password is needed\r\n")
        visit.lost()

    async def register(self) -> None:
        client = self.chat.client("carol")
        await client.connect()
        await client.ask("ACCOUNT", "register", (), "secret")
        await client.close()

    def test_a_guest_with_a_key_registers_it(self) -> None:
        visit, _ = self.visit("alice")
        self.type(visit, "/register", ENTER)
        account = self.chat.hub.state.names["alice"].account
        assert account is not None
        self.assertEqual(list(account.keys), [KEY])

    def test_a_guest_without_a_key_registers_with_a_password(self) -> None:
        visit, peer = self.visit("alice", key="")
        self.type(visit, "/register", ENTER)
        self.see(peer, "New password:")
        self.type(visit, "secret", ENTER, "secret", ENTER)
        account = self.chat.hub.state.names["alice"].account
        assert account is not None
        self.assertTrue(account.password)
        self.assertNotIn("secret", plain(peer.output))

    def test_one_does_not_draw_at_the_others_terminal(self) -> None:
        self.bob()
        (one, first), (_, second) = self.visit("alice"), self.visit("carol", key=OTHER_KEY)
        self.chat.settle()
        first.output = second.output = b""
        self.type(one, "@b", TAB)
        self.see(first, "@bob")
        self.assertEqual(second.output, b"")

    def test_the_size_changes(self) -> None:
        visit, peer = self.visit("alice")
        visit.resized(Size(40, 10))
        peer.output = b""
        self.type(visit, "x" * 60)
        self.assertIn("x" * 10, plain(peer.output))
        self.see(peer, "\n")

    def test_what_the_server_says_when_it_stops(self) -> None:
        _, peer = self.visit("alice")
        self.chat.framed.stop("The server is stopping")
        self.chat.advance(1)
        self.assertEqual(peer.codes, [1])
        self.see(peer, "The server is stopping")

    def test_what_the_server_says_when_it_drops_everybody(self) -> None:
        _, peer = self.visit("alice")
        self.chat.framed.drop_all("This server can't reach the others")
        self.chat.advance(1)
        self.assertEqual(peer.codes, [1])
        self.see(peer, "This server can't reach the others")

    def test_messages_are_delivered_when_they_are_shown_and_the_peer_has_answered(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("alice")
        visit.pause()
        peer.answers = False
        sending = self.chat.start(bob.send("alice", "hello", delivered=True, timeout=60))
        self.chat.advance(5)
        self.assertNotIn("hello", plain(peer.output))
        self.assertEqual(peer.questions, [])
        visit.resume()
        self.chat.advance(5)
        self.see(peer, "hello")
        self.assertNoResult(sending)
        peer.answer()
        self.chat.settle()
        self.successResultOf(sending)

    def test_what_was_not_confirmed_comes_again_at_the_next_login(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("alice")
        peer.answers = False
        sending = self.chat.start(bob.send("alice", "hello", delivered=True, timeout=1))
        self.chat.advance(2)
        self.failureResultOf(sending, NotDelivered)
        visit.lost()
        self.chat.settle()
        _, back = self.visit("alice")
        self.see(back, "[@bob] ~bob: hello")

    def test_while_output_waits_nothing_more_is_written(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("alice")
        visit.pause()
        written = len(peer.output)
        for number in range(3000):
            self.chat.run(bob.send("ALL", f"message {number}"))
        self.type(visit, "typed meanwhile")
        self.assertEqual(len(peer.output), written)
        visit.resume()
        self.chat.advance(5)
        self.see(peer, "message 2999")


class HostTests(TerminalTestCase):
    def refusal(
        self, command: str | None = None, environment: dict[str, str] = ENVIRONMENT
    ) -> VisitRefused:
        """Ask for a visit; return why there is none."""
        wish = Wish(environment, Size(80, 24), command)
        with self.assertRaises(VisitRefused) as caught:
            self.host.open(visitor("dave"), wish, Peer())
        self.assertEqual(caught.exception.code, 2)
        return caught.exception

    def test_terminals_are_limited_and_pipes_are_not(self) -> None:
        visits = [self.visit(name)[0] for name in ("a", "b", "c")]
        self.assertIn("too many terminals", str(self.refusal()))
        _, pipe = self.visit("d", command="/who")
        self.assertEqual(pipe.codes, [0])
        visits[0].lost()
        self.chat.settle()
        _, next_one = self.visit("e")
        self.see(next_one, "You are e on tower")

    def test_a_terminal_that_can_do_nothing_is_refused_with_a_reason(self) -> None:
        for environment in ({}, {"TERM": ""}, {"TERM": "dumb"}):
            self.assertIn("ssh -T", str(self.refusal(environment=environment)))

    def test_a_wrong_command_is_refused_with_a_reason(self) -> None:
        reason = str(self.refusal("scp -t \x1b[2J"))
        self.assertNotIn("\x1b", reason)
        self.assertIn("\nusage: ssh", reason)

    def check_nothing_is_left(self, parts: list[str], end: list[str | bytes]) -> None:
        """Check that a visit is freed at once.

        :param parts: attributes of it that are freed, too.
        :param end: what is typed to end it; nothing if the user's connection is lost.
        """
        visit, peer = self.visit("alice", command=None if "_screen" in parts else "json")
        self.type(visit, "hello", ENTER, "\x12h\x1b[5~half a line")
        gc.disable()  # the server's collector hardly ever frees what has lasted
        self.addCleanup(gc.enable)
        session = visit._connection.session  # type: ignore[attr-defined]
        left = [weakref.ref(part) for part in (visit, session, *map(vars(visit).get, parts))]
        if end:
            self.type(visit, *end)
            self.chat.advance(1)
            self.assertTrue(peer.codes)
        visit.lost()
        del visit, session
        self.chat.advance(DISSOLVED_AFTER)
        self.assertEqual([ref() for ref in left], [None] * len(left))

    def test_nothing_is_left_of_a_terminal_after_its_end(self) -> None:
        for end in ([CTRL_C, "/quit", ENTER], []):
            self.check_nothing_is_left(["_screen", "_view", "_input"], end)

    def test_nothing_is_left_of_a_pipe_after_its_end(self) -> None:
        for end in ([CTRL_D], []):
            self.check_nothing_is_left(["_pipe", "_standard"], end)
