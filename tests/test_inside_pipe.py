"""Visits without a terminal: what a script gets over ssh."""

from __future__ import annotations

import json

from twisted.trial.unittest import TestCase

from chat_twisted.client.chat import ChatClient
from chat_twisted.doors.ssh.visits import Size, Wish
from chat_twisted.inside.files import NoFiles
from chat_twisted.inside.pipe import AT_ONCE, Order, PipeVisit, parse
from chat_twisted.testing import Chat
from chat_twisted.ui.errors import IdentityError
from tests.visits import KEY, OTHER_KEY, Peer, connector, visitor


class ParseTests(TestCase):
    def test_command_lines(self) -> None:
        for command, order in [
            (None, Order()),
            ("", Order()),
            ("json", Order(json=True)),
            ("@bob: hi", Order(once="@bob: hi")),
            ("/who", Order(once="/who")),
            ("json @bob: hi", Order(json=True, once="@bob: hi")),
            ('json {"to": "bob", "text": "hi"}', Order(True, '{"to": "bob", "text": "hi"}')),
            ("tail #dev", Order(tail="#dev")),
            ("tail @bob", Order(tail="bob")),
            ("tail @all", Order(tail="ALL")),
            ("json tail #dev", Order(json=True, tail="#dev")),
            ("@ALL: tail #dev", Order(once="@ALL: tail #dev")),
        ]:
            self.assertEqual(parse(command), order, command)

    def test_wrong_ones_are_refused_with_a_reason(self) -> None:
        for command in (
            "tail",
            "tail dev",
            "tail #dev #ops",
            "tail @b@d",
            "/nonsense",
            "/ignore bob",
            "json {",
        ):
            self.assertRaises(ValueError, parse, command)


class PipeTests(TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        self.addCleanup(self.chat.close)
        self.connector = connector(self.chat)

    def visit(
        self,
        name: str,
        command: str | None = None,
        *,
        key: str = KEY,
        size: Size | None = None,
        proof: str = "",
    ) -> tuple[PipeVisit, Peer]:
        peer = Peer()
        wish = Wish({}, size, command)
        who = visitor(name, key, proof)
        made = PipeVisit(self.connector, who, wish, peer)
        self.chat.settle()
        return made, peer

    def give(self, visit: PipeVisit, data: bytes, *, end: bool = True) -> None:
        visit.received(data)
        if end:
            visit.input_ended()
        self.chat.settle()

    def bob(self) -> ChatClient:
        return self.chat.join("bob")

    def test_lines_are_sent_and_it_ends_when_they_are_delivered(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("ci")
        self.give(visit, b"@bob: done\n@ALL: all")
        self.assertEqual([self.chat.run(anext(bob)).text for _ in range(2)], ["done", "all"])
        self.chat.settle()
        self.assertIn("Message delivered to bob", peer.lines())
        self.assertEqual((peer.codes, peer.errors), ([0], b""))
        self.assertEqual(peer.count, len(b"@bob: done\n@ALL: all"))

    def test_a_refused_line_is_exit_code_1(self) -> None:
        visit, peer = self.visit("ci")
        self.give(visit, b"@nobody: done\n")
        self.assertEqual(peer.codes, [1])
        self.assertIn("nobody", peer.output.decode())

    def test_one_message_as_the_command(self) -> None:
        bob = self.bob()
        _, peer = self.visit("ci", "@bob: done")
        self.assertEqual(self.chat.run(anext(bob)).text, "done")
        self.chat.settle()
        self.assertEqual((peer.lines(), peer.codes), (["Message delivered to bob"], [0]))

    def test_json(self) -> None:
        visit, peer = self.visit("ci", "json")
        self.give(visit, b'{"to": "ALL", "text": "hi"}\n')
        events = [json.loads(line)["event"] for line in peer.lines()]
        self.assertEqual(events, ["registered", "sent"])
        self.assertEqual(peer.codes, [0])

    def test_tail_shows_one_conversation_until_it_is_interrupted(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("ci", "tail @ALL")
        self.give(visit, b"not read\n")
        self.chat.run(bob.send("ALL", "hello"))
        self.chat.run(bob.send("ci", "to you"))
        self.assertEqual(peer.lines(), ["bob to ALL: hello"])
        self.assertEqual(peer.codes, [])
        visit.interrupted("INT")
        self.chat.advance(1)
        self.assertEqual(peer.codes, [130])

    def test_a_command_on_a_terminal_has_line_ends_for_it_and_ctrl_c(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("ci", "tail @ALL", size=Size(80, 24))
        self.chat.run(bob.send("ALL", "hello"))
        self.assertTrue(peer.output.endswith(b"bob to ALL: hello\r\n"), peer.output)
        self.give(visit, b"x\x03", end=False)
        self.chat.advance(1)
        self.assertEqual((peer.codes, peer.count), ([130], 2))

    def test_lines_typed_on_a_terminal(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("ci", "json", size=Size(80, 24))
        self.give(visit, b'{"to": "bob", "text": "hi"}\r\x04', end=False)
        self.assertEqual(self.chat.run(anext(bob)).text, "hi")
        self.chat.settle()
        self.assertEqual(peer.codes, [0])

    def test_a_taken_name_is_exit_code_2_with_the_reason_on_standard_error(self) -> None:
        self.bob()
        visit, peer = self.visit("bob")
        self.assertEqual((peer.output, peer.codes), (b"", [2]))
        self.assertEqual(peer.errors, b"ERROR 105 : Name in use : bob\n")
        self.give(visit, b"late\n")
        visit.lost()
        self.chat.settle()
        self.assertEqual(peer.codes, [2])

    def test_a_malformed_name(self) -> None:
        _, peer = self.visit("b@d")
        self.assertEqual(peer.codes, [2])
        self.assertTrue(peer.errors.startswith(b"ERROR 100"), peer.errors)

    def test_a_proof_that_is_not_valid_any_more(self) -> None:
        _, peer = self.visit("alice", proof="what was removed meanwhile")
        self.assertEqual(peer.codes, [2])
        self.assertTrue(peer.errors.startswith(b"ERROR 107"), peer.errors)

    def test_the_key_of_a_guest_returns_to_the_name_and_to_what_was_missed(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("ci")
        visit.lost()
        self.chat.settle()
        self.assertEqual(peer.codes, [])
        self.chat.run(bob.send("ci", "missed"))
        _, other = self.visit("ci", key=OTHER_KEY)
        self.assertEqual(other.codes, [2])
        self.assertTrue(other.errors.startswith(b"ERROR 105"), other.errors)
        _, none = self.visit("ci", key="")
        self.assertEqual(none.codes, [2])
        _, back = self.visit("ci")
        self.assertEqual([line for line in back.lines() if "missed" in line], ["bob: missed"])

    def test_a_guest_without_a_key_leaves_for_good(self) -> None:
        visit, _ = self.visit("ci", key="")
        visit.lost()
        self.chat.settle()
        _, peer = self.visit("ci", key=OTHER_KEY)
        self.assertEqual(peer.codes, [])

    def test_a_guest_who_ends_it_frees_the_name(self) -> None:
        visit, peer = self.visit("ci")
        self.give(visit, b"")
        self.assertEqual(peer.codes, [0])
        _, other = self.visit("ci", key=OTHER_KEY)
        self.assertEqual(other.codes, [])

    def test_messages_are_delivered_when_the_peer_has_answered(self) -> None:
        bob = self.bob()
        _, peer = self.visit("ci")
        peer.answers = False
        sending = self.chat.start(bob.send("ci", "hello", delivered=True, timeout=60))
        self.chat.advance(5)
        self.assertNoResult(sending)
        self.assertIn("bob: hello", peer.lines())
        peer.answer()
        self.chat.settle()
        self.successResultOf(sending)

    def test_messages_that_the_peer_did_not_answer_come_again(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("ci")
        peer.answers = False
        self.chat.run(bob.send("ci", "hello"))
        self.chat.advance(1)
        visit.lost()
        self.chat.settle()
        peer.answer()
        self.chat.settle()
        _, back = self.visit("ci")
        self.assertEqual(back.lines(), ["bob: hello"])

    def test_what_was_shown_just_before_the_end_does_not_come_again(self) -> None:
        bob = self.bob()
        visit, _ = self.visit("ci")
        self.give(visit, b"/register\n")
        self.chat.run(bob.send("ALL", "hello"))
        visit, peer = self.visit("ci", proof=KEY)
        self.assertEqual(peer.lines(), ["bob to ALL: hello"])
        self.give(visit, b"")
        self.assertEqual(peer.codes, [0])
        _, later = self.visit("ci", proof=KEY)
        self.assertEqual(later.lines(), [])

    def test_much_input_is_processed_in_pieces_and_then_more_may_come(self) -> None:
        visit, peer = self.visit("ci")
        peer.count = 0
        data = b"\n" * 3 * AT_ONCE
        visit.received(data)
        self.assertEqual(peer.count, 0)
        self.chat.reactor.callLater(0, lambda: self.assertEqual(peer.count, AT_ONCE))
        self.chat.settle()
        self.assertEqual(peer.count, len(data))

    def test_output_that_waits_pauses_reading_and_receiving(self) -> None:
        bob = self.bob()
        visit, peer = self.visit("ci")
        visit.pause()
        self.give(visit, b"@ALL: hi\n", end=False)
        self.chat.run(bob.send("ci", "hello"))
        self.assertEqual((peer.output, peer.count), (b"", 0))
        visit.resume()
        self.chat.settle()
        self.assertIn("bob: hello", peer.lines())
        self.assertEqual(peer.count, len(b"@ALL: hi\n"))

    def test_a_guest_registers_with_the_key_that_they_came_with(self) -> None:
        visit, peer = self.visit("ci")
        self.give(visit, b"/register\n")
        self.assertEqual(peer.codes, [0])
        account = self.chat.hub.state.names["ci"].account
        assert account is not None
        self.assertEqual(list(account.keys), [KEY])
        _, guest = self.visit("ci", key=OTHER_KEY)
        self.assertTrue(guest.errors.startswith(b"ERROR 106"), guest.errors)
        _, user = self.visit("ci", proof=KEY)
        self.assertEqual(user.codes, [])

    def test_no_file_of_the_server_is_touched(self) -> None:
        visit, peer = self.visit("ci")
        self.give(visit, b"/register\n/keys add /etc/passwd\n/account export /tmp/x\n")
        said = peer.output.decode()
        self.assertIn("Give the key itself", said)
        self.assertIn("There are no files here", said)
        self.assertEqual(peer.codes, [1])

    def test_a_private_key_is_not_sent(self) -> None:
        for text in ("-----BEGIN OPENSSH PRIVATE KEY----- x", "PuTTY-User-Key-File-3: ssh-ed25519"):
            with self.assertRaisesRegex(IdentityError, "private key"):
                NoFiles("").read_key(text)

    def test_a_password_needs_a_terminal(self) -> None:
        visit, peer = self.visit("ci", key="")
        self.give(visit, b"/register\n/password\n")
        self.assertEqual(peer.output.count(b"only on a terminal"), 2)
        self.assertEqual(peer.codes, [1])

    def test_a_server_that_stops(self) -> None:
        _, peer = self.visit("ci")
        self.chat.framed.stop("The server is stopping")
        self.chat.settle()
        self.assertEqual(peer.codes, [1])
        self.assertIn("The server is stopping", peer.output.decode())
        _, late = self.visit("ci2")
        self.assertEqual((late.codes, late.errors), ([2], b"The server is stopping\n"))

    def test_a_server_that_drops_everybody(self) -> None:
        _, peer = self.visit("ci")
        self.chat.framed.drop_all("This server can't reach the others")
        self.chat.settle()
        self.assertEqual(peer.codes, [1])
        self.assertIn("This server can't reach the others", peer.output.decode())
        _, late = self.visit("ci2")
        self.assertEqual((late.codes, late.errors), ([], b""))
