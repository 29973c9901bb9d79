"""The IRC door's connections: registration, messages, channels, and how they end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from chat_twisted.core.commands import CONSOLE, Disconnect
from chat_twisted.doors.irc import commands, door
from chat_twisted.doors.irc.grammar import encode
from tests.irc import IRCTestCase


class RegistrationTests(IRCTestCase):
    def test_nick_and_user_in_any_case_a_byte_at_a_time_are_welcomed(self) -> None:
        client = self.client()
        lines: list[str] = []
        for byte in "nick a\nuser x 0 * :é🙂\n".encode():
            lines += client.feed(bytes([byte]))
        self.assertIn(":chat.server 001 a :Welcome to chat_twisted, a!a@chat", lines)
        self.assertIn(":a!a@chat JOIN &ALL", lines)
        self.assertIn(":chat.server 353 a = &ALL :a", lines)

    def test_a_taken_name_is_433_and_the_next_one_works(self) -> None:
        self.user("alice")
        client = self.client()
        lines = client.say("NICK alice", "USER a 0 * :a")
        self.assertEqual(lines, [":chat.server 433 * alice :Nickname is already in use"])
        self.assertIn(
            ":chat.server 001 alice_ :Welcome to chat_twisted, alice_!alice_@chat",
            client.say("NICK alice_"),
        )

    def test_a_name_that_is_not_possible_is_432_without_a_disconnect(self) -> None:
        client = self.client()
        (line,) = client.say("NICK [a]")
        self.assertIn(" 432 * [a] :", line)
        self.assertFalse(client.closed)

    def test_an_empty_real_name_is_461_and_the_next_one_works(self) -> None:
        client = self.client()
        self.assertEqual(
            client.say("NICK alice", "USER a 0 * :"),
            [":chat.server 461 * USER :Not enough parameters"],
        )
        self.assertIn(" 001 alice ", client.say("USER a 0 * :a")[0])


class MessageTests(IRCTestCase):
    def test_join_message_and_ping_in_one_packet_are_answered_in_order(self) -> None:
        client = self.join("alice")
        lines = client.say("JOIN #a", "PRIVMSG #a :x", "PING z")
        self.assertEqual(
            lines,
            [
                ":alice!alice@chat JOIN #a",
                ":chat.server 353 alice = #a :@alice",
                ":chat.server 366 alice #a :End of NAMES list",
                ":chat.server PONG chat.server :z",
            ],
        )

    def test_part_and_join_by_the_only_member(self) -> None:
        client = self.join("alice", "#a")
        lines = client.say("PART #a", "JOIN #a")
        self.assertEqual(
            [line.split()[1] for line in lines],
            ["PART", "JOIN", "353", "366"],
        )

    def test_a_client_that_goes_during_its_welcome_is_no_fault(self) -> None:
        turn: Deferred[None] = Deferred()

        class Lists:
            async def do(self, asker: object, work: object) -> None:
                await turn

        self.patch(self.irc.door.context, "lists", Lists())
        client = self.client()
        welcome = client.say("NICK a", "USER a 0 * :a")
        self.assertIn("001", welcome[0])
        self.assertNotIn(" 366 ", welcome[-1])
        client.gone()
        turn.callback(None)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_direct_message_is_delivered_when_the_client_has_answered_its_ping(self) -> None:
        alice = self.user("alice")
        bob = self.join("bob")
        self.assertIn(b"SENT bob", alice.ask("SEND bob\nContent-length: 2\n\nhi"))
        self.assertEqual(bob.lines(), [":alice!alice@chat PRIVMSG bob :hi"])
        self.assertEqual(bob.receipts, [])
        self.clock.advance(0.1)
        self.clock.advance(0.1)
        self.assertEqual(bob.lines(), [])
        (receipt,) = bob.receipts
        self.assertEqual(alice.ask(""), b"")
        bob.say("PONG :m9999")
        self.assertEqual(alice.ask(""), b"")
        bob.say("PONG " + receipt.removeprefix("PING "))
        self.assertIn(b"DELIVERED bob", alice.ask(""))

    def test_one_ping_asks_for_all_direct_messages_of_its_time(self) -> None:
        alice, bob, carol = (self.join(nick) for nick in ("alice", "bob", "carol"))
        receipts = []
        for _ in range(9):
            alice.say("PRIVMSG bob :hi", "PRIVMSG bob :hi again", "PRIVMSG #x :nobody")
            self.clock.advance(0.05)
            bob.lines()
            receipts += bob.receipts
        self.assertEqual(len(receipts), 2)
        alice.say("PRIVMSG carol :hi", "PRIVMSG bob :hi")
        carol.gone()
        self.clock.advance(0.1)
        self.clock.advance(0.1)
        bob.lines()
        self.assertEqual(len(bob.receipts), 1)
        self.clock.advance(0.2)
        bob.lines()
        self.assertEqual(bob.receipts, [])

    def test_a_client_that_gets_messages_of_rooms_is_asked_now_and_then(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        receipts = []
        for _ in range(20):
            alice.say("PRIVMSG #a :hi")
            self.clock.advance(1)
            bob.lines()
            receipts += bob.receipts
        self.assertEqual(len(receipts), 1)

    def test_a_client_that_goes_and_another_of_its_name_are_quit_and_join_in_this_order(
        self,
    ) -> None:
        bob = self.join("bob", "#a")
        alice = self.join("alice", "#a")
        bob.lines()
        alice.say("QUIT :bye")
        self.join("alice", "#a")
        self.assertEqual(
            bob.lines(),
            [
                ":alice!alice@chat QUIT :bye",
                ":alice!alice@chat JOIN &ALL",
                ":alice!alice@chat JOIN #a",
            ],
        )


class EndTests(IRCTestCase):
    def test_all_are_told_why_they_are_dropped_and_may_come_back(self) -> None:
        bob = self.user("bob")
        alice, new = self.join("alice"), self.client()
        self.irc.drop_all("This server can't reach the others")
        for client in (alice, new):
            self.assertEqual(client.lines(), ["ERROR :This server can't reach the others"])
            self.assertTrue(client.closed)
            client.gone()
        self.assertFalse(bob.closed)
        self.assertEqual(self.names(), ["bob"])
        self.join("alice")
        self.assertEqual(self.names(), ["alice", "bob"])

    def test_the_reason_of_a_disconnect_passes_no_control_sequence_to_a_terminal(self) -> None:
        alice = self.join("alice")
        self.hub.ask(Disconnect(CONSOLE, 0, "alice", "away with \x1b[2J"))
        self.assertEqual(alice.lines(), ["ERROR :Disconnected by admin: away with ␛[2J"])

    def test_a_command_that_waits_when_its_user_is_disconnected_is_not_said_to_be_done(
        self,
    ) -> None:
        alice = self.join("alice", caps="labeled-response batch")
        alice.protocol.dataReceived(b"@label=1 JOIN #a\r\n@label=2 WHO *\r\n")
        self.hub.ask(Disconnect(CONSOLE, 0, "alice", ""))
        self.assertEqual(alice.lines(), ["ERROR :Disconnected by admin"])


class EncodingTests(IRCTestCase):
    def test_an_event_among_members_is_encoded_once_for_all_who_see_the_same(self) -> None:
        alice = self.join("alice", "#a")
        others = [self.join(name, "#a") for name in ("bob", "carol", "dave")]
        for client in others:
            client.lines()
        encoded: list[str] = []

        def encode_and_count(verb: str, *args: Any, **more: Any) -> bytes:
            encoded.append(verb)
            return encode(verb, *args, **more)

        self.patch(door, "encode", encode_and_count)
        alice.say("TOPIC #a :plans", "MODE #a +m")
        for client in others:
            self.assertEqual(len(client.lines()), 2)
        self.assertEqual(encoded, ["TOPIC", "MODE"])

    def test_users_who_come_and_go_are_seen_by_those_who_share_a_channel_or_monitor_them(
        self,
    ) -> None:
        watcher, friend = self.join("watcher"), self.join("friend")
        watcher.say("MONITOR + eve")
        hidden = self.join("hidden")
        hidden.say("PART &ALL")
        others = [self.join(name) for name in ("bob", "carol")]
        eve = self.join("eve", "#a")
        friend.say("JOIN #a")
        eve.say("QUIT :bye")
        came, left = ":eve!eve@chat JOIN &ALL", ":eve!eve@chat QUIT :bye"
        for client in others:
            lines = [line for line in client.lines() if "eve" in line]
            self.assertEqual(lines, [came, left])
        self.assertEqual(hidden.lines(), [])
        self.assertEqual(friend.lines(), [left, ":chat.server MODE #a +o friend"])
        seen = [line for line in watcher.lines() if "eve" in line]
        online, offline = (f":chat.server 73{n} watcher eve" for n in (0, 1))
        self.assertEqual(seen, [came, f"{online}!eve@chat", left, offline])


class CapabilityTests(IRCTestCase):
    def test_without_implicit_names_a_join_tells_no_names(self) -> None:
        alice = self.join("alice", caps="draft/no-implicit-names")
        self.assertEqual(alice.say("JOIN #a"), [":alice!alice@chat JOIN #a"])
        names = alice.say("NAMES #a")
        self.assertEqual([line.split()[1] for line in names], ["353", "366"])

    def test_a_client_of_version_302_is_told_of_changes_of_capabilities(self) -> None:
        client = self.client()
        client.say("CAP LS 302", "CAP REQ batch")
        self.assertEqual(client.say("CAP LIST"), [":chat.server CAP * LIST :batch cap-notify"])
        old = self.client()
        old.say("CAP LS", "CAP REQ batch")
        self.assertEqual(old.say("CAP LIST"), [":chat.server CAP * LIST batch"])

    def test_a_capability_that_is_not_offered_refuses_the_whole_request(self) -> None:
        client = self.client()
        self.assertEqual(client.say("CAP REQ :batch sts"), [":chat.server CAP * NAK :batch sts"])
        self.assertEqual(client.say("CAP LIST"), [":chat.server CAP * LIST :"])


class FaultTests(IRCTestCase):
    async def break_down(self, *arguments: object) -> None:
        raise ValueError("a fault of ours")

    def test_a_fault_in_a_command_is_answered_and_the_next_line_is_processed(self) -> None:
        alice = self.join("alice")
        self.patch(commands, "COMMANDS", {**commands.COMMANDS, "TIME": self.break_down})
        fail, pong = alice.say("TIME", "PING z")
        self.assertTrue(fail.startswith(":chat.server FAIL TIME INTERNAL_ERROR :"), fail)
        self.assertEqual(pong, ":chat.server PONG chat.server :z")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
