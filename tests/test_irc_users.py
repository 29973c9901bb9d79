"""The IRC door: users change their names and texts, come and go; and commands about the server."""

from __future__ import annotations

from chat_twisted.core import commands
from chat_twisted.core.commands import CONSOLE
from chat_twisted.doors.irc.commands import COMMANDS
from chat_twisted.doors.irc.commands.help import SUBJECTS
from tests.irc import IRCClient, IRCTestCase


class UserTestCase(IRCTestCase):
    def make_operator(self, name: str) -> None:
        """Give a user an account, and make them an operator of the server."""
        user = self.hub.state.names[name]
        epoch = next(iter(user.sessions))
        for command in (
            commands.MakeAccount(user.id, epoch, hash="hash"),
            commands.SetOperator(CONSOLE, 0, name, True),
        ):
            self.hub.ask(command)
            self.commit()
        self.assertTrue(user.operator)

    def mute(self, name: str) -> None:
        self.hub.ask(commands.Impose(CONSOLE, 0, commands.MUTE, name))
        self.commit()


class NickTests(UserTestCase):
    joins_all = False

    def test_a_new_name_is_told_once_to_those_who_share_a_channel(self) -> None:
        alice = self.join("alice", "#a")
        bob, carol = self.join("bob", "#a"), self.join("carol")
        alice.lines()
        self.assertEqual(alice.say("NICK Alicia"), [":alice!alice@chat NICK Alicia"])
        self.assertEqual(bob.lines(), [":alice!alice@chat NICK Alicia"])
        self.assertEqual(carol.lines(), [])

    def test_another_case_is_a_new_name_and_the_same_name_is_nothing(self) -> None:
        alice = self.join("alice")
        self.assertEqual(alice.say("NICK ALICE"), [":alice!alice@chat NICK ALICE"])
        self.assertEqual(alice.say("NICK ALICE"), [])

    def test_a_label_is_on_the_new_name(self) -> None:
        alice = self.join("alice", caps="labeled-response batch")
        self.assertEqual(alice.say("@label=x NICK ann"), ["@label=x :alice!alice@chat NICK ann"])

    def test_refusals(self) -> None:
        alice = self.join("alice")
        self.join("bob")
        self.user("held").gone()
        self.commit()
        for line, number, about in (
            ("NICK", "431", "alice"),
            ("NICK :", "431", "alice"),
            ("NICK [a]", "432", "alice [a]"),
            ("NICK :a\tb", "432", "alice a\tb"),
            ("NICK BOB", "433", "alice BOB"),
            ("NICK held", "433", "alice held"),
        ):
            (answer,) = alice.say(line)
            self.assertTrue(answer.startswith(f":chat.server {number} {about} :"), answer)

    def test_an_account_keeps_its_name(self) -> None:
        alice = self.join("alice")
        self.make_operator("alice")
        (answer,) = alice.say("NICK ann")
        self.assertIn(" 447 alice :", answer)

    def test_a_muted_user_keeps_their_name(self) -> None:
        alice = self.join("alice")
        self.mute("alice")
        (answer,) = alice.say("NICK ann")
        self.assertIn(" 447 alice :", answer)

    def test_a_name_that_is_changed_and_left_in_one_packet_is_followed(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        alice.lines()
        bob.lines()
        alice.say("NICK ann", "QUIT :bye")
        self.assertEqual(bob.lines()[:2], [":alice!alice@chat NICK ann", ":ann!ann@chat QUIT :bye"])


class AwayTests(UserTestCase):
    def test_away_and_back(self) -> None:
        alice, bob = self.join("alice"), self.join("bob", caps="away-notify")
        carol = self.join("carol")
        for client in (alice, bob, carol):
            client.lines()
        (answer,) = alice.say("AWAY :tea time")
        self.assertIn(" 306 alice :", answer)
        self.assertEqual(bob.lines(), [":alice!alice@chat AWAY :tea time"])
        for back in ("AWAY", "AWAY :"):
            (answer,) = alice.say(back)
            self.assertIn(" 305 alice :", answer)
        self.assertEqual(bob.lines(), [":alice!alice@chat AWAY"])
        self.assertEqual(carol.lines(), [])

    def test_the_own_away_text_is_not_told_to_oneself(self) -> None:
        alice = self.join("alice", "#a", caps="away-notify")
        (answer,) = alice.say("AWAY :tea")
        self.assertIn(" 306 ", answer)

    def test_a_long_text_is_cut_and_line_ends_are_blanks(self) -> None:
        alice, bob = self.join("alice"), self.join("bob", caps="away-notify")
        alice.say("AWAY :" + "é" * 210)
        self.assertEqual(bob.lines(), [":alice!alice@chat AWAY :" + "é" * 200])
        alice.say("AWAY :a\u2028b\x0bc")
        self.assertEqual(bob.lines(), [":alice!alice@chat AWAY :a b c"])

    def test_a_muted_user_is_away_without_a_text(self) -> None:
        alice, bob = self.join("alice"), self.join("bob", caps="away-notify")
        self.mute("alice")
        alice.lines()
        (answer,) = alice.say("AWAY :insult")
        self.assertIn(" 306 alice :", answer)
        self.assertEqual(bob.lines(), [":alice!alice@chat AWAY :Away"])


class SetnameTests(UserTestCase):
    joins_all = False

    def test_a_real_name_is_told_to_those_with_the_capability(self) -> None:
        alice = self.join("alice", "#a", caps="setname")
        bob, carol = self.join("bob", "#a", caps="setname"), self.join("carol", "#a")
        alice.lines()
        bob.lines()
        told = [":alice!alice@chat SETNAME :Alice A."]
        self.assertEqual(alice.say("SETNAME :Alice A."), told)
        self.assertEqual(alice.say("SETNAME :Alice A."), told)  # it is confirmed again
        self.assertEqual(bob.lines(), told)
        self.assertEqual(carol.lines(), [])
        self.assertIn(
            ":chat.server 311 carol alice alice chat * :Alice A.", carol.say("WHOIS alice")
        )

    def test_a_new_member_is_shown_with_the_real_name(self) -> None:
        self.join("alice", "#a", caps="extended-join")
        alice = self.join("bob", "#a", caps="extended-join")
        carol = self.client()
        carol.say("NICK carol", "USER c 0 * :Carol C.", "JOIN #a")
        self.assertEqual(alice.lines(), [":carol!carol@chat JOIN #a * :Carol C."])

    def test_refusals(self) -> None:
        alice = self.join("alice")
        (answer,) = alice.say("SETNAME")
        self.assertIn(" 461 alice SETNAME :", answer)
        (answer,) = alice.say("SETNAME :" + "x" * 201)
        self.assertIn("FAIL SETNAME INVALID_REALNAME :", answer)
        self.mute("alice")
        (answer,) = alice.say("SETNAME :insult")
        self.assertIn("FAIL SETNAME CANNOT_CHANGE_REALNAME :", answer)


class ForgingTests(UserTestCase):
    def test_a_carriage_return_in_a_text_forges_nothing(self) -> None:
        bob = self.join("bob", caps="away-notify setname extended-join")
        forged = "\r:chat.server NOTICE bob :forged"
        for name, line in (
            ("a1", "QUIT :x"),
            ("a2", "AWAY :x"),
            ("a3", "SETNAME :x"),
            ("a4", "USER a4 0 * :x"),
        ):
            client = self.client()
            if line.startswith("USER"):
                client.say(f"NICK {name}", line + forged)
            else:
                client.say(f"NICK {name}", f"USER {name} 0 * :r", line + forged)
            for got in bob.lines():
                self.assertTrue(got.startswith(f":{name}!{name}@chat "), got)


class ComingAndGoingTests(UserTestCase):
    joins_all = False

    def test_a_client_that_shares_no_channel_gets_nothing(self) -> None:
        bob = self.join("bob")
        alice = self.join("alice", "#a")
        alice.say("NICK ann", "AWAY :tea", "PART #a", "QUIT")
        self.assertEqual(bob.lines(), [])

    def test_the_reason_of_an_operator_is_seen(self) -> None:
        bob, alice = self.join("bob", "#a"), self.join("alice", "#a")
        root = self.join("root")
        self.make_operator("root")
        bob.lines()
        self.assertEqual(root.say("KILL alice :spam"), [])
        self.assertEqual(
            alice.lines()[-1:],
            ["ERROR :Disconnected by root: spam"],
        )
        self.assertTrue(alice.closed)
        self.assertEqual(bob.lines(), [":alice!alice@chat QUIT :Disconnected by root: spam"])

    def test_kill_is_for_operators(self) -> None:
        alice = self.join("alice")
        for whom in ("alice", "bob"):
            (answer,) = alice.say(f"KILL {whom} :x")
            self.assertIn(" 481 alice :", answer)
        self.make_operator("alice")
        (answer,) = alice.say("KILL nobody :x")
        self.assertIn(" 401 alice nobody :", answer)
        (answer,) = alice.say("KILL")
        self.assertIn(" 461 alice KILL :", answer)

    def test_an_operator_is_seen_as_one(self) -> None:
        bob = self.join("bob")
        self.join("root")
        self.make_operator("root")
        lines = bob.say("WHOIS root")
        self.assertIn(":chat.server 313 bob root :is an operator of the server", lines)
        self.assertIn(":chat.server 330 bob root root :is logged in as", lines)
        self.assertIn(" H* ", bob.say("WHO root")[0])
        self.assertIn("root*=+", bob.say("USERHOST root")[0])

    def test_a_silent_client_gets_a_ping_and_is_closed_later(self) -> None:
        bob, alice = self.join("bob", "#a"), self.join("alice", "#a")
        alice.lines()
        for _ in range(80):
            self.clock.advance(1)
            bob.say("PING x")
        self.assertEqual(alice.lines(), [])
        self.assertEqual(len(alice.receipts), 1)
        for _ in range(70):
            self.clock.advance(1)
            bob.say("PING x")
        self.assertEqual(alice.lines(), ["ERROR :Silent for too long"])
        self.assertTrue(alice.closed)


class ServerTests(UserTestCase):
    joins_all = False
    motd = "Hello\nall"

    def numbers(self, client: IRCClient, line: str) -> list[str]:
        return [got.split()[1] for got in client.say(line)]

    def test_lusers_counts_users_and_connections_that_are_not_logged_in(self) -> None:
        alice = self.join("alice")
        self.assertEqual(self.numbers(alice, "LUSERS"), ["251", "254", "255", "265", "266"])
        other = self.client()
        other.say("NICK bob")
        self.assertIn(":chat.server 253 alice 1 :unknown connections", alice.say("LUSERS"))
        other.say("USER b 0 * :b")
        self.assertEqual(self.numbers(alice, "LUSERS"), ["251", "254", "255", "265", "266"])
        other.say("QUIT")
        third = self.client()
        third.say("QUIT")
        lines = alice.say("LUSERS")
        self.assertEqual(lines[3], ":chat.server 265 alice 1 2 :Current local users 1, max 2")

    def test_answers_about_the_server(self) -> None:
        alice = self.join("alice")
        for line, numbers in (
            ("MOTD", ["375", "372", "372", "376"]),
            ("TIME", ["391"]),
            ("INFO", ["371", "371", "371", "374"]),
            ("ADMIN", ["423"]),
            ("LINKS", ["365"]),
            ("STATS u", ["242", "219"]),
            ("STATS", ["219"]),
            ("VERSION", ["351", "005", "005", "005"]),
            ("OPER x", ["461"]),
            ("OPER x y", ["491"]),
            ("USER a 0 * :b", ["462"]),
            ("PING", ["409"]),
            ("CONNECT x", ["421"]),
        ):
            self.assertEqual(self.numbers(alice, line), numbers, line)
        self.assertEqual(
            alice.say("STATS u")[0], ":chat.server 242 alice :Server Up 0 days 0:00:00"
        )

    def test_oper_of_an_operator_says_that_they_are_one(self) -> None:
        alice = self.join("alice")
        self.make_operator("alice")
        self.assertEqual(self.numbers(alice, "OPER x y"), ["381"])

    def test_help(self) -> None:
        alice = self.join("alice")
        for line in ("HELP", "HELPOP", "HELP privmsg"):
            numbers = self.numbers(alice, line)
            self.assertEqual((numbers[0], numbers[-1]), ("704", "706"))
            self.assertEqual(set(numbers[1:-1]), {"705"})
        self.assertEqual(self.numbers(alice, "HELP THISISNOTACOMMAND"), ["524"])

    def test_help_is_about_commands_that_exist(self) -> None:
        self.assertEqual(set(SUBJECTS) - set(COMMANDS), set())
        without = {"BATCH", "HELPOP", "LINKS", "PASS", "PONG", "STATS", "USER", "VERIFY"}
        self.assertLessEqual(set(COMMANDS) - set(SUBJECTS), without)


class WallopsTests(UserTestCase):
    def test_it_reaches_all_clients_and_is_for_operators(self) -> None:
        root, bob = self.join("root", caps="echo-message"), self.join("bob")
        carol = self.join("carol", caps="message-tags")
        self.make_operator("root")
        bob.say("PART &ALL")
        for client in (root, bob, carol):
            client.lines()
        told = ":root!root@chat WALLOPS :restart at noon"
        self.assertEqual(root.say("WALLOPS :restart at noon"), [told])
        self.assertEqual(bob.lines(), [told])
        (line,) = carol.lines()
        self.assertTrue(line.endswith(told), line)
        (answer,) = bob.say("WALLOPS :hi")
        self.assertIn(" 481 bob :", answer)
        for line in ("WALLOPS", "WALLOPS :"):
            (answer,) = root.say(line)
            self.assertIn(" 461 root WALLOPS :", answer)
