"""What an account misses while its IRC client is away, and how it gets that when it is back."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tests.irc import IRCClient
from tests.test_irc_accounts import PASSWORD, AccountTestCase

RECEIPTS = 0.3
"""Seconds after which the server has asked whether a client has its messages."""


class PlaybackTests(AccountTestCase):
    def come(self, caps: str = "") -> tuple[IRCClient, list[str]]:
        """Log in as Alice; return the client, and the lines after the welcome."""
        client = self.client()
        login = f"PASS :Alice:{PASSWORD}", "NICK alice", "USER a 0 * :a"
        lines = client.say(f"CAP REQ :{caps}", *login, "CAP END")
        (begin,) = (i for i, line in enumerate(lines) if " 422 " in line)
        return client, lines[begin + 1 :]

    def messages(self, lines: list[str]) -> list[str]:
        return [line for line in lines if " PRIVMSG " in line]

    def confirm(self, client: IRCClient) -> None:
        """Answer the PINGs that come."""
        self.clock.pump([RECEIPTS / 2, RECEIPTS / 2])
        client.lines()
        client.say(*(receipt.replace("PING", "PONG") for receipt in client.receipts))

    def say_three(self) -> None:
        bob = self.join("bob", "#dev")
        bob.say("PRIVMSG #dev :room", "PRIVMSG &ALL :all", "PRIVMSG alice :direct")
        bob.say("QUIT")

    def leave_a_room(self) -> None:
        client, _ = self.come()
        client.say("JOIN #dev")
        client.say("QUIT")

    def test_messages_come_once_in_order_after_the_join_with_the_time_when_they_were_said(
        self,
    ) -> None:
        self.leave_a_room()
        self.say_three()
        said = self.hub.settled()
        self.clock.advance(3600)
        client, lines = self.come("server-time")
        self.assertEqual(
            [re.sub(r"@time=\S+ ", "", line) for line in self.messages(lines)],
            [
                ":bob!bob@chat PRIVMSG #dev :room",
                ":bob!bob@chat PRIVMSG &ALL :all",
                ":bob!bob@chat PRIVMSG Alice :direct",
            ],
        )
        self.assertLess(
            lines.index(":Alice!Alice@chat JOIN #dev"), lines.index(self.messages(lines)[0])
        )
        for line in self.messages(lines):
            time = re.match(r"@time=(\S+)Z ", line)
            assert time is not None
            self.assertLess(abs(self.seconds_of(time[1]) - said), 2)
        self.confirm(client)
        client.gone()
        _, lines = self.come("server-time")
        self.assertEqual(self.messages(lines), [])

    def seconds_of(self, time: str) -> float:
        return datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()

    def test_a_client_without_server_time_is_told_the_time_in_the_text(self) -> None:
        self.leave_a_room()
        self.say_three()
        self.clock.advance(3600)
        _, lines = self.come()
        first, *_ = self.messages(lines)
        self.assertRegex(first, r"PRIVMSG #dev :\[\d{4}-\d\d-\d\d \d\d:\d\d UTC\] room\Z")

    def test_messages_that_were_not_confirmed_come_again(self) -> None:
        self.leave_a_room()
        self.say_three()
        client, lines = self.come()
        self.assertEqual(len(self.messages(lines)), 3)
        client.gone()
        _, lines = self.come()
        self.assertEqual(len(self.messages(lines)), 3)

    def test_a_client_with_chathistory_asks_for_them(self) -> None:
        self.leave_a_room()
        self.say_three()
        client, lines = self.come("draft/chathistory batch server-time message-tags")
        self.assertEqual(self.messages(lines), [])
        self.assertIn(":Alice!Alice@chat JOIN #dev", lines)
        lines = client.say("CHATHISTORY LATEST #dev * 10", "CHATHISTORY LATEST bob * 10")
        self.assertEqual(
            [line.partition(" PRIVMSG ")[2] for line in self.messages(lines)],
            ["#dev :room", "Alice :direct"],
        )

    def test_a_guest_whose_connection_is_lost_has_left_and_misses_nothing(self) -> None:
        bob = self.join("bob", "#dev")
        eve = self.join("eve", "#dev")
        bob.lines()
        eve.gone()
        self.assertEqual(bob.lines(), [":eve!eve@chat QUIT :Connection lost"])
        self.assertEqual(bob.say("PRIVMSG eve :hi"), [":chat.server 401 bob eve :No such nick"])
        self.join("eve")
        self.assertEqual(bob.lines(), [":eve!eve@chat JOIN &ALL"])  # and is not in #dev
