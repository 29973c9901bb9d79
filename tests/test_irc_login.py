"""The IRC door: logging in to an account while the client is registered already."""

from __future__ import annotations

from chat_twisted.core import commands
from chat_twisted.core.commands import CONSOLE
from tests.irc import IRCClient
from tests.test_irc_accounts import PASSWORD, THERE, AccountTestCase, numerics, plain


class LateLoginTests(AccountTestCase):
    def authenticate(self, client: IRCClient, password: str = PASSWORD) -> list[str]:
        client.say("AUTHENTICATE PLAIN")
        return client.say(f"AUTHENTICATE {plain('alice', password)}")

    def test_the_client_gets_the_name_and_the_rooms_of_the_account(self) -> None:
        alice = self.encrypted()
        alice.say("CAP REQ sasl", "NICK x", "USER x 0 * :x")
        self.assertIn("903", numerics(self.authenticate(alice)))
        alice.say("CAP END", "JOIN #mine")
        alice.say("QUIT")
        guest = self.join("guest", "#other")
        self.assertEqual(
            self.authenticate(guest),
            [
                ":Alice!Alice@chat JOIN &ALL",
                ":chat.server 900 guest guest!guest@chat Alice :You are now logged in as Alice",
                ":chat.server 903 guest :SASL authentication successful",
                ":Alice!Alice@chat QUIT :Logged in to an account",
                ":guest!guest@chat NICK Alice",
                ":Alice!Alice@chat PART #other",
                ":Alice!Alice@chat JOIN #mine",
                ":chat.server 353 Alice = #mine :@Alice",
                ":chat.server 366 Alice #mine :End of NAMES list",
                ":guest!guest@chat QUIT :Logged in to an account",
            ],
        )
        self.assertEqual(guest.say("PING z"), [":chat.server PONG chat.server :z"])
        self.assertIsNone(self.hub.state.names.get("guest"))
        self.assertEqual(self.hub.logins.count, 1)
        guest.say("QUIT")
        self.assertEqual(self.hub.logins.count, 0)

    def test_others_see_one_go_and_another_come(self) -> None:
        bob, guest = self.join("bob"), self.join("guest")
        bob.lines()
        self.authenticate(guest)
        self.assertEqual(
            bob.lines(),
            [":Alice!Alice@chat JOIN &ALL", ":guest!guest@chat QUIT :Logged in to an account"],
        )

    def test_messages_that_were_missed_are_delivered(self) -> None:
        bob = self.join("bob")
        bob.say("PRIVMSG alice :hello")
        guest = self.join("guest")
        self.assertTrue(any("PRIVMSG Alice :hello" in line for line in self.authenticate(guest)))

    def test_lines_behind_the_login_are_processed_in_order(self) -> None:
        guest = self.join("guest")
        guest.say("AUTHENTICATE PLAIN")
        lines = guest.say(f"AUTHENTICATE {plain('alice', PASSWORD)}", "JOIN #a", "PING z")
        self.assertEqual(
            lines[-2:],
            [":chat.server 366 Alice #a :End of NAMES list", ":chat.server PONG chat.server :z"],
        )

    def test_monitoring_continues(self) -> None:
        guest = self.join("guest")
        guest.say("PART &ALL", "MONITOR + bob")
        self.authenticate(guest)
        self.join("bob")
        self.assertEqual(guest.lines(), [":chat.server 730 Alice bob!bob@chat"])

    def test_the_own_account_again_changes_nothing(self) -> None:
        guest = self.join("guest")
        self.authenticate(guest)
        guest.lines()
        self.assertEqual(numerics(self.authenticate(guest)), ["900", "903"])
        self.assertEqual(self.hub.logins.count, 1)

    def test_a_wrong_password_is_refused_after_a_second_and_the_guest_stays(self) -> None:
        guest = self.join("guest")
        self.assertEqual(self.authenticate(guest, "wrong"), [])
        self.assertEqual(numerics(self.wait(guest)), ["904"])
        self.assertEqual(numerics(guest.say("NICK other")), ["NICK"])

    def test_a_connection_that_is_lost_meanwhile_leaves_nobody(self) -> None:
        guest = self.join("guest")
        guest.say("AUTHENTICATE PLAIN")
        guest.protocol.dataReceived(f"AUTHENTICATE {plain('alice', PASSWORD)}\r\n".encode())
        guest.gone()
        self.commit()
        self.assertEqual(self.names(), [])
        self.assertEqual(self.hub.logins.count, 0)

    def test_passwords_are_refused_where_others_can_read_them(self) -> None:
        client = self.client(THERE)
        client.say("NICK guest", "USER x 0 * :x")
        self.assertEqual(numerics(client.say("AUTHENTICATE PLAIN")), ["908", "904"])
        self.assertEqual(numerics(client.say("AUTHENTICATE")), ["461"])


class OperTests(AccountTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.add_account("root", password=PASSWORD)
        self.hub.ask(commands.SetOperator(CONSOLE, 0, "root", True))
        self.commit()

    def test_oper_logs_in_to_the_account_of_an_operator(self) -> None:
        guest = self.join("guest")
        self.assertEqual(
            guest.say(f"OPER root :{PASSWORD}")[1:3],
            [
                ":chat.server 381 guest :You are an operator by your account",
                ":chat.server MODE guest +o",
            ],
        )
        self.assertEqual(numerics(guest.say("OPER x y")), ["381"])

    def test_refusals(self) -> None:
        guest = self.join("guest")
        self.assertEqual(numerics(guest.say("OPER x")), ["461"])
        self.assertEqual(numerics(guest.say(f"OPER alice :{PASSWORD}")), ["491"])
        self.assertEqual(numerics(guest.say("OPER nobody x")), ["491"])
        self.assertEqual(guest.say("OPER root wrong"), [])
        self.assertEqual(numerics(self.wait(guest)), ["464"])
        client = self.client(THERE)
        client.say("NICK other", "USER x 0 * :x")
        self.assertEqual(numerics(client.say(f"OPER root :{PASSWORD}")), ["491"])
