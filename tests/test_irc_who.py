"""The IRC door: looking users up with WHO, WHOIS, USERHOST and ISON."""

from __future__ import annotations

from chat_twisted.doors.irc import running, session
from tests.irc import IRCClient, IRCTestCase


class LookingTestCase(IRCTestCase):
    max_clients = 500

    def setUp(self) -> None:
        super().setUp()
        self.bob = self.client()
        self.bob.say("NICK Bob", "USER ident 0 * :Bob B.")
        self.alice = self.join("alice")

    def replies(self, client: IRCClient, line: str, number: str) -> list[str]:
        """Send a line; return the replies of a number, without their beginnings."""
        start = f":chat.server {number} "
        return [got.removeprefix(start) for got in client.say(line) if got.startswith(start)]


class WhoTests(LookingTestCase):
    def test_who_of_a_name_is_one_reply_and_the_name_as_it_was_sent(self) -> None:
        self.assertEqual(
            self.alice.say("WHO bOB"),
            [
                ":chat.server 352 alice * ident chat chat.server Bob H :0 Bob B.",
                ":chat.server 315 alice bOB :End of WHO list",
            ],
        )

    def test_who_of_nobody_is_the_end_alone(self) -> None:
        for mask in ("nobody", "#nothing", "no*", "[", "é"):
            end = f":chat.server 315 alice {mask} :End of WHO list"
            self.assertEqual(self.alice.say(f"WHO {mask}"), [end])

    def test_who_of_a_channel_has_ranks_and_flags(self) -> None:
        self.bob.say("JOIN #Dev", "AWAY :tea")
        self.alice.say("JOIN #dev")
        self.assertEqual(
            self.alice.say("WHO #DEV"),
            [
                ":chat.server 352 alice #Dev alice chat chat.server alice H :0 alice",
                ":chat.server 352 alice #Dev ident chat chat.server Bob G@ :0 Bob B.",
                ":chat.server 315 alice #DEV :End of WHO list",
            ],
        )

    def test_who_of_a_mask_matches_names_in_any_case(self) -> None:
        for mask, names in (
            ("*", ["alice", "Bob"]),
            ("0", ["alice", "Bob"]),
            ("&all", ["alice", "Bob"]),
            ("B?b", ["Bob"]),
            ("*O*", ["Bob"]),
            ("al*!*@*", ["alice"]),
            ("[a]*", []),
            ("*" * 400 + "x", []),
        ):
            found = self.replies(self.alice, f"WHO {mask}", "352")
            self.assertEqual([line.split()[5] for line in found], names, mask)

    def test_who_with_o_lists_operators_of_the_server_alone(self) -> None:
        self.assertEqual(self.replies(self.alice, "WHO * o", "352"), [])

    def test_the_fields_of_whox_come_in_their_own_order(self) -> None:
        self.bob.say("JOIN #a")
        for fields in ("tcuihsnfdlaor", "roaldfnshiuct"):
            (line,) = self.replies(self.alice, f"WHO Bob %{fields},123", "354")
            self.assertEqual(
                line,
                "alice 123 * ident 255.255.255.255 chat chat.server Bob H 0 0 0 n/a :Bob B.",
            )
        self.assertEqual(self.replies(self.alice, "WHO Bob %na", "354"), ["alice Bob 0"])
        self.assertEqual(self.replies(self.alice, "WHO #a %cf", "354"), ["alice #a H@"])

    def test_a_token_of_whox_that_is_no_number_is_0(self) -> None:
        for token in ("x", "1234", "²", "", "1:"):
            (line,) = self.replies(self.alice, f"WHO Bob %tn,{token}", "354")
            self.assertEqual(line, "alice 0 Bob")

    def test_a_room_that_is_secret_is_unknown_to_outsiders(self) -> None:
        self.bob.say("JOIN #dev")
        user = self.hub.state.names["bob"]
        room = self.hub.state.room_names["#dev"]
        room.modes.add("secret")
        self.assertEqual(self.replies(self.alice, "WHO #dev", "352"), [])
        self.assertEqual(self.replies(self.alice, "WHOIS bob", "319"), [])
        self.alice.say("JOIN #dev")
        self.assertEqual(len(self.replies(self.alice, "WHO #dev", "352")), 2)
        self.assertEqual(self.replies(self.alice, "WHOIS bob", "319"), ["alice Bob @#dev"])
        self.assertIn(room.id, user.rooms)

    def test_a_label_makes_one_batch_of_a_list(self) -> None:
        alice = self.join("carol", caps="labeled-response batch")
        lines = alice.say("@label=7 WHO *")
        self.assertTrue(lines[0].startswith("@label=7 "), lines)
        self.assertEqual(len(lines), 6)

    def test_a_huge_room_is_listed_whole(self) -> None:
        for number in range(450):
            self.user(f"user{number}")
        found = self.replies(self.alice, "WHO user*", "352")
        self.assertEqual(len(found), 450)


class WhoisTests(LookingTestCase):
    def test_whois_of_a_user(self) -> None:
        self.bob.say("JOIN #b", "JOIN #A", "AWAY :tea")
        self.assertEqual(
            self.alice.say("WHOIS bob"),
            [
                ":chat.server 311 alice Bob ident chat * :Bob B.",
                ":chat.server 319 alice Bob :@#A @#b",
                ":chat.server 312 alice Bob chat.server chat_twisted",
                ":chat.server 301 alice Bob :tea",
                ":chat.server 318 alice bob :End of WHOIS list",
            ],
        )

    def test_whois_with_a_server_or_the_name_twice_is_the_same(self) -> None:
        for first in ("chat.server", "Bob"):
            (line,) = self.replies(self.alice, f"WHOIS {first} Bob", "311")
            self.assertEqual(line, "alice Bob ident chat * :Bob B.")

    def test_whois_of_nobody(self) -> None:
        self.assertEqual(
            self.alice.say("WHOIS nobody"),
            [
                ":chat.server 401 alice nobody :No such nick",
                ":chat.server 318 alice nobody :End of WHOIS list",
            ],
        )
        for line in ("WHOIS", "WHOIS :"):
            self.assertEqual(self.alice.say(line), [":chat.server 431 alice :No nickname given"])

    def test_a_user_of_another_client_is_shown_under_their_name(self) -> None:
        self.user("dan")
        self.assertEqual(self.replies(self.alice, "WHOIS dan", "311"), ["alice dan dan chat * dan"])

    def test_a_user_who_is_held_is_not_here(self) -> None:
        self.user("dan").gone()
        self.commit()
        self.alice.lines()
        lines = self.alice.say("WHOIS dan")
        self.assertIn(" 301 alice dan :is not here", lines[1])
        self.assertEqual(self.replies(self.alice, "WHO dan", "352"), [])
        self.assertEqual(self.alice.say("ISON dan"), [":chat.server 303 alice :"])

    def test_many_rooms_take_several_lines(self) -> None:
        names = [f"#{number:032}" for number in range(30)]
        for name in names:
            self.bob.say(f"JOIN {name}")
        lines = self.replies(self.alice, "WHOIS bob", "319")
        self.assertGreater(len(lines), 1)
        found = [word for line in lines for word in line.split(":", 1)[1].split()]
        self.assertEqual(found, [f"@{name}" for name in names])

    def test_no_username_forges_a_line(self) -> None:
        for number, name in enumerate(("a\tb", "😊" * 10, "x" * 100, "a@b", "*", "~ok")):
            client = self.client()
            client.say(f"NICK eve{number}", f"USER {name} 0 * :e")
            (line,) = self.replies(self.alice, f"WHOIS eve{number}", "311")
            self.assertRegex(line, rf"^alice eve{number} [A-Za-z0-9_.-]{{1,32}} chat \* e$")


class WhowasTests(LookingTestCase):
    def gone(self, login_name: str) -> None:
        """A user comes and goes."""
        client = self.client()
        client.say("NICK Dan", f"USER {login_name} 0 * :Dan D.")
        client.say("QUIT")
        self.alice.lines()

    def test_who_has_gone_is_listed_the_newest_first(self) -> None:
        self.gone("d1")
        self.gone("d2")
        lines = self.alice.say("WHOWAS dan")
        self.assertEqual(lines[0], ":chat.server 314 alice Dan d2 chat * :Dan D.")
        self.assertIn(" 312 alice Dan chat.server :Gone since 1970-01-01", lines[1])
        self.assertEqual(lines[2], ":chat.server 314 alice Dan d1 chat * :Dan D.")
        self.assertEqual(lines[-1], ":chat.server 369 alice dan :End of WHOWAS")

    def test_only_a_positive_count_limits_the_list(self) -> None:
        self.gone("d1")
        self.gone("d2")
        for count, found in (("1", 1), ("2", 2), ("9", 2), ("0", 2), ("-1", 2), ("x", 2), ("²", 2)):
            self.assertEqual(len(self.replies(self.alice, f"WHOWAS dan {count}", "314")), found)

    def test_whowas_of_nobody(self) -> None:
        self.assertEqual(
            self.alice.say("WHOWAS nobody"),
            [
                ":chat.server 406 alice nobody :There was no such nickname",
                ":chat.server 369 alice nobody :End of WHOWAS",
            ],
        )
        self.assertEqual(self.alice.say("WHOWAS"), [":chat.server 431 alice :No nickname given"])


class UserhostTests(LookingTestCase):
    def test_userhost_says_who_is_away(self) -> None:
        self.bob.say("AWAY :tea")
        self.assertEqual(
            self.alice.say("USERHOST bob nobody alice"),
            [":chat.server 302 alice :Bob=-ident@chat alice=+alice@chat"],
        )

    def test_ison_has_the_names_of_those_who_are_here(self) -> None:
        self.assertEqual(
            self.alice.say("ISON :nobody bob alice"), [":chat.server 303 alice :Bob alice"]
        )


class SlowReaderTests(IRCTestCase):
    """A list waits for a client that does not read."""

    joins_all = False

    def setUp(self) -> None:
        super().setUp()
        self.patch(running, "PAGE", 10)
        for number in range(50):
            self.join(f"user{number}")
        self.alice = self.join("alice")
        self.alice.transport.room = 0
        self.alice.say("PING before")  # fills the socket

    def test_a_list_goes_on_when_the_client_has_read_the_page_before(self) -> None:
        self.assertEqual(self.alice.say("WHO *"), [])
        lines = self.alice.transport.drain().decode().split("\r\n")
        lines += self.alice.lines()
        self.assertEqual(sum(" 352 " in line for line in lines), 51)

    def test_at_most_a_page_waits_for_the_client(self) -> None:
        self.alice.transport.room = 10**9
        self.alice.transport.drain()
        self.alice.lines()
        self.patch(session.IRCSession, "write", lambda me, data: self.fill(me, data))
        self.alice.say("WHO *")
        self.assertLessEqual(self.written, 11)

    written = 0

    def fill(self, session: session.IRCSession, data: bytes) -> None:
        """Write as the session does, and have the socket full afterwards."""
        self.written += 1
        self.alice.transport.room = 0
        session.connection.write(data)
        self.alice.protocol.stream.flush()

    def test_a_client_that_goes_meanwhile_leaves_no_fault(self) -> None:
        self.alice.say("WHO *")
        self.alice.gone()
        self.clock.advance(1)
        self.assertEqual([line for line in self.logged if "while" in line or "in a s" in line], [])
