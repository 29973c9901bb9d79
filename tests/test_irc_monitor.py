"""The IRC door: MONITOR, and what users who are monitored do (extended-monitor)."""

from __future__ import annotations

from tests.irc import IRCTestCase


class MonitorTests(IRCTestCase):
    joins_all = False

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("alice")

    def test_who_is_here_and_who_is_not_are_told_at_once(self) -> None:
        self.join("Bob")
        self.assertEqual(
            self.alice.say("MONITOR + bob,carol,DAN"),
            [":chat.server 730 alice Bob!Bob@chat", ":chat.server 731 alice carol,DAN"],
        )
        self.assertEqual(
            self.alice.say("MONITOR S"),
            [":chat.server 730 alice Bob!Bob@chat", ":chat.server 731 alice carol,DAN"],
        )

    def test_users_who_come_and_go_are_told(self) -> None:
        self.alice.say("MONITOR + bob")
        bob = self.join("Bob")
        self.assertEqual(self.alice.lines(), [":chat.server 730 alice Bob!Bob@chat"])
        bob.say("QUIT")
        self.assertEqual(self.alice.lines(), [":chat.server 731 alice Bob"])
        self.user("bob")
        self.assertEqual(self.alice.lines(), [":chat.server 730 alice bob!bob@chat"])

    def test_another_name_is_told_for_both_names_and_another_case_is_not(self) -> None:
        bob = self.join("bob")
        self.alice.say("MONITOR + qux")
        bob.say("NICK qux")
        self.assertEqual(self.alice.lines(), [":chat.server 730 alice qux!qux@chat"])
        bob.say("NICK QUX")
        self.assertEqual(self.alice.lines(), [])
        bob.say("NICK baz")
        self.assertEqual(self.alice.lines(), [":chat.server 731 alice QUX"])

    def test_the_list(self) -> None:
        self.alice.say("MONITOR + bob,Carol,BOB")
        self.assertEqual(
            self.alice.say("MONITOR L"),
            [":chat.server 732 alice bob,Carol", ":chat.server 733 alice :End of MONITOR list"],
        )
        self.assertEqual(self.alice.say("MONITOR - bOb,eve"), [])
        self.assertEqual(self.alice.say("MONITOR l")[0], ":chat.server 732 alice Carol")
        self.assertEqual(self.alice.say("MONITOR C", "MONITOR L")[0].split()[1], "733")
        self.join("bob")
        self.assertEqual(self.alice.lines(), [])

    def test_the_list_is_bounded(self) -> None:
        names = [f"user{number}" for number in range(101)]
        lines = []
        for begin in range(0, 101, 25):
            lines += self.alice.say("MONITOR + " + ",".join(names[begin : begin + 25]))
        full = ":chat.server 734 alice 100 user100 :The MONITOR list is full"
        self.assertEqual([line for line in lines if " 731 " not in line], [full])
        self.assertEqual(len(self.alice.say("MONITOR + user1,user2")), 1)
        listed = self.alice.say("MONITOR L")
        found = [name for line in listed[:-1] for name in line.split()[3].split(",")]
        self.assertEqual(found, names[:100])

    def test_a_mask_is_nobody_and_is_not_kept(self) -> None:
        self.assertEqual(self.alice.say("MONITOR + *!*@chat"), [":chat.server 731 alice *!*@chat"])
        self.assertEqual(len(self.alice.say("MONITOR L")), 1)
        self.join("bob")
        self.assertEqual(self.alice.lines(), [])

    def test_incomplete_commands(self) -> None:
        for line in ("MONITOR", "MONITOR +", "MONITOR + ,", "MONITOR X"):
            (answer,) = self.alice.say(line)
            self.assertEqual(answer, ":chat.server 461 alice MONITOR :Not enough parameters")


class ExtendedMonitorTests(IRCTestCase):
    joins_all = False

    def test_changes_are_told_only_with_their_own_capabilities(self) -> None:
        full = self.join("alice", caps="extended-monitor away-notify setname")
        some = self.join("carol", caps="extended-monitor")
        without = self.join("dan", caps="away-notify setname")
        bob = self.join("bob")
        for client in (full, some, without):
            client.say("MONITOR + bob")
        bob.say("AWAY :tea", "SETNAME :Bob B.", "AWAY")
        self.assertEqual(
            full.lines(),
            [":bob!bob@chat AWAY :tea", ":bob!bob@chat SETNAME :Bob B.", ":bob!bob@chat AWAY"],
        )
        self.assertEqual(some.lines() + without.lines(), [])

    def test_who_shares_a_channel_too_is_told_once(self) -> None:
        alice = self.join("alice", "#a", caps="extended-monitor away-notify")
        bob = self.join("bob", "#a")
        alice.say("MONITOR + bob")
        bob.say("AWAY :tea")
        self.assertEqual(alice.lines(), [":bob!bob@chat AWAY :tea"])
