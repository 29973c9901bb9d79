"""Accounts on IRC: SASL, PASS, REGISTER, and the policy of encryption."""

from __future__ import annotations

import base64

from twisted.internet.defer import Deferred

from chat_twisted.core import commands
from chat_twisted.core.commands import CONSOLE
from chat_twisted.core.errors import EncryptionRequired
from chat_twisted.doors import Channel
from tests.irc import IRCClient, IRCTestCase

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"
OTHER_KEY = KEY.replace("AQIDBA", "AgIDBA").replace("IAEC", "IAIC")
PASSWORD = "sesame: open"
THERE = "192.0.2.1"


def plain(name: str, password: str, wanted: str = "") -> str:
    return base64.b64encode(f"{wanted}\0{name}\0{password}".encode()).decode()


def pieces(response: str) -> list[str]:
    """Split a response for AUTHENTICATE."""
    found = [response[at : at + 400] for at in range(0, len(response), 400)]
    return [*found, "+"] if len(response) % 400 == 0 else found


def numerics(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines]


class AccountTestCase(IRCTestCase):
    """``Alice`` has an account with a password and a key."""

    vouched = False

    def setUp(self) -> None:
        super().setUp()
        self.irc.context.is_vouched_for = lambda: self.vouched
        self.add_account("Alice", key=KEY, password=PASSWORD)

    def encrypted(self, key: str = "") -> IRCClient:
        """Return a client on another machine with TLS, and perhaps a certificate of a key."""
        return IRCClient(self, Channel(THERE, True, certificate_key=key))

    def wait(self, client: IRCClient, seconds: float = 1.1) -> list[str]:
        """Return the lines that come within some seconds."""
        self.clock.advance(seconds)
        return client.lines()

    def assertWelcomed(self, lines: list[str], nick: str) -> None:
        welcome = f":chat.server 001 {nick} :Welcome to chat_twisted, {nick}!{nick}@chat"
        self.assertIn(welcome, lines)

    def assertRefused(self, client: IRCClient) -> None:
        """Check that the gate refuses after a second, and the client may try again."""
        self.assertEqual(client.lines(), [])
        self.assertEqual(self.wait(client), [":chat.server 904 * :SASL authentication failed"])


class OfferTests(AccountTestCase):
    def offered(self, client: IRCClient, version: str = "302") -> dict[str, str]:
        words: list[str] = []
        for line in client.say(f"CAP LS {version}".rstrip()):
            words += line.split(" :", 1)[1].split()
        return {word.partition("=")[0]: word.partition("=")[2] for word in words}

    def test_mechanisms_are_offered_where_they_are_safe(self) -> None:
        for client, sasl in (
            (self.encrypted(), "PLAIN,EXTERNAL"),
            (self.client(), "PLAIN"),
            (self.client(THERE), None),
        ):
            offered = self.offered(client)
            self.assertEqual(offered.get("sasl"), sasl)
            self.assertEqual("draft/account-registration" in offered, sasl is not None)
            self.assertNotIn("sts", offered)
        self.assertEqual(self.offered(self.encrypted(), "")["sasl"], "")
        client = self.client(THERE)
        self.assertEqual(client.say("CAP REQ sasl"), [":chat.server CAP * NAK sasl"])
        self.assertEqual(numerics(client.say("AUTHENTICATE PLAIN")), ["908", "904"])

    def test_clients_are_told_to_stay_encrypted_if_authorities_vouch(self) -> None:
        self.vouched = True
        self.assertEqual(self.offered(self.encrypted())["sts"], "duration=2592000")
        for client, version in ((self.encrypted(), "301"), (self.client(), "302")):
            self.assertNotIn("sts", self.offered(client, version))
        plain = IRCClient(self, Channel(THERE, port=6697))
        self.assertEqual(self.offered(plain)["sts"], "port=6697")
        self.assertEqual(plain.say("CAP REQ sts"), [":chat.server CAP * NAK sts"])

    def test_a_refused_client_is_told_to_connect_with_encryption(self) -> None:
        for vouched in (False, True):
            self.vouched = vouched
            client = IRCClient(self, Channel(THERE, port=6697))
            client.protocol.refuse(EncryptionRequired())
            *told, error = client.lines()
            self.assertEqual(error, "ERROR :Encryption required")
            self.assertEqual(told, [":chat.server CAP * LS sts=port=6697"] if vouched else [])
            self.assertTrue(client.closed)


class PlainTests(AccountTestCase):
    def authenticate(self, *words: str, client: IRCClient | None = None) -> IRCClient:
        client = client or self.client()
        client.say("CAP REQ sasl", "AUTHENTICATE PLAIN")
        self.answer = client.say(*(f"AUTHENTICATE {word}" for word in words))
        return client

    def test_the_right_password_logs_in_under_the_name_of_the_account(self) -> None:
        client = self.client()
        self.assertEqual(client.say("CAP REQ sasl"), [":chat.server CAP * ACK sasl"])
        client.say("NICK other", "USER x 0 * :Real")
        self.assertEqual(client.say("AUTHENTICATE plain"), [":chat.server AUTHENTICATE +"])
        self.assertEqual(
            client.say(f"AUTHENTICATE {plain('alice', PASSWORD)}"),
            [
                ":chat.server 900 * Alice!Alice@chat Alice :You are now logged in as Alice",
                ":chat.server 903 * :SASL authentication successful",
            ],
        )
        self.assertEqual(numerics(client.say("AUTHENTICATE PLAIN")), ["907"])
        self.assertWelcomed(client.say("CAP END"), "Alice")

    def test_each_wrong_response_is_refused_and_the_next_may_be_right(self) -> None:
        client = self.client()
        client.say("CAP REQ sasl", "NICK x", "USER x 0 * :x")
        for response in (
            plain("", PASSWORD),
            plain("alice", ""),
            plain("alice", "sesame\0open"),
            plain("alice", PASSWORD, "bob"),
            base64.b64encode(b"alice").decode(),
            base64.b64encode(b"\0\xff\0x").decode(),
            "!!!",
            "+",
        ):
            lines = client.say("AUTHENTICATE PLAIN", f"AUTHENTICATE {response}")
            self.assertEqual(numerics(lines), ["AUTHENTICATE", "904"], response)
        for name in ("alice", "nobody"):
            client.say("AUTHENTICATE PLAIN", f"AUTHENTICATE {plain(name, 'wrong')}")
            self.assertRefused(client)
        lines = client.say(
            "AUTHENTICATE PLAIN", f"AUTHENTICATE {plain('alice', PASSWORD, 'ALICE')}"
        )
        self.assertEqual(numerics([*lines, *self.wait(client, 10)]), ["AUTHENTICATE", "900", "903"])

    def test_lines_wait_while_a_password_is_verified(self) -> None:
        client = self.authenticate(plain("alice", "wrong"))
        self.assertEqual(client.say("NICK bob", "USER x 0 * :x", "PING x"), [])
        self.assertEqual(numerics(self.wait(client)), ["904", "PONG"])
        self.assertWelcomed(client.say("CAP END"), "bob")

    def test_a_long_response_comes_in_pieces(self) -> None:
        for length in (5, 300, 597 - 8, 1024):  # 597: a multiple of 400 in base64
            name = f"long{length}"
            self.add_account(name, password="x" * length)
            response = plain(name, "x" * length)
            self.authenticate(*pieces(response))
            self.assertEqual(numerics(self.answer), ["900", "903"], length)

    def test_a_response_that_ends_with_a_full_piece_is_ended_by_a_plus(self) -> None:
        password = "x" * (300 - len("\0Alice2\0"))
        self.add_account("Alice2", password=password)
        response = plain("Alice2", password)
        self.assertEqual(len(response), 400)
        client = self.authenticate(response)
        self.assertEqual(self.answer, [])
        self.assertEqual(numerics(client.say("AUTHENTICATE +")), ["900", "903"])

    def test_a_response_without_an_end_is_refused(self) -> None:
        client = self.authenticate()
        lines = client.say(*[f"AUTHENTICATE {'A' * 400}"] * 4)
        self.assertEqual(lines, [])
        self.assertEqual(numerics(client.say(f"AUTHENTICATE {'A' * 400}")), ["904"])
        client = self.authenticate()
        self.assertEqual(numerics(client.say(f"AUTHENTICATE {'A' * 401}")), ["905"])

    def test_an_asterisk_or_the_end_of_the_negotiation_aborts_it(self) -> None:
        client = self.authenticate()
        self.assertEqual(
            client.say("AUTHENTICATE *"), [":chat.server 906 * :SASL authentication aborted"]
        )
        self.assertEqual(numerics(client.say("AUTHENTICATE PLAIN")), ["AUTHENTICATE"])
        lines = client.say("NICK bob", "USER x 0 * :x", "CAP END")
        self.assertEqual(numerics(lines)[:2], ["906", "001"])

    def test_another_mechanism_is_refused_with_ours(self) -> None:
        client = self.encrypted()
        self.assertEqual(
            client.say("CAP REQ sasl", "AUTHENTICATE SCRAM-SHA-256"),
            [
                ":chat.server CAP * ACK sasl",
                ":chat.server 908 * PLAIN,EXTERNAL :are available SASL mechanisms",
                ":chat.server 904 * :SASL authentication failed",
            ],
        )

    def test_who_has_failed_too_often_is_told_when_to_try_again(self) -> None:
        for _ in range(8):
            self.authenticate(plain("alice", "wrong"))
        self.assertRegex(self.answer[0], "904 .*: try again in [0-9]+ seconds")
        self.clock.pump([1.0] * 60)

    def test_a_connection_that_is_lost_meanwhile_leaves_nothing(self) -> None:
        client = self.authenticate(plain("alice", "wrong"))
        client.gone()
        self.clock.advance(2)
        client = self.authenticate(plain("alice", PASSWORD))
        client.gone()
        self.clock.advance(20)
        self.assertEqual(self.hub.population().users, 0)

    def test_a_password_that_is_changed_meanwhile_lets_nobody_in(self) -> None:
        client = self.authenticate(plain("alice", PASSWORD))
        client.say("NICK alice", "USER x 0 * :x")
        self.hub.ask(commands.SetPassword(CONSOLE, 0, "", "Alice"))
        self.clock.advance(0)
        self.assertEqual(numerics(client.say("CAP END"))[:1], ["464"])
        self.assertTrue(client.closed)


class ExternalTests(AccountTestCase):
    def test_the_certificate_of_a_key_of_the_account_logs_in(self) -> None:
        for nick, wanted in (
            ("alice", "+"),
            ("guest", "+"),
            ("x", base64.b64encode(b"alice").decode()),
        ):
            client = self.encrypted(KEY)
            client.say("CAP REQ sasl", f"NICK {nick}", "USER x 0 * :x")
            lines = client.say("AUTHENTICATE EXTERNAL", f"AUTHENTICATE {wanted}")
            self.assertEqual(numerics(lines), ["AUTHENTICATE", "900", "903"])
            self.assertWelcomed(client.say("CAP END"), "Alice")
            client.say("QUIT")

    def test_the_name_of_the_account_replaces_one_that_is_not_possible(self) -> None:
        client = self.encrypted(KEY)
        lines = client.say("CAP REQ sasl", "NICK [alice]", "USER x 0 * :x")
        self.assertEqual(numerics(lines), ["CAP", "432"])
        client.say("AUTHENTICATE EXTERNAL", "AUTHENTICATE +")
        self.assertWelcomed(client.say("CAP END"), "Alice")

    def test_the_login_waits_for_the_name_whatever_the_order(self) -> None:
        client = self.encrypted(KEY)
        client.say("AUTHENTICATE EXTERNAL", "AUTHENTICATE +")
        self.assertEqual(client.say("USER x 0 * :x"), [])
        self.assertWelcomed(client.say("NICK x"), "Alice")

    def test_it_is_enough_without_negotiation(self) -> None:
        client = self.encrypted(KEY)
        client.say("AUTHENTICATE EXTERNAL", "AUTHENTICATE +")
        self.assertWelcomed(client.say("NICK x", "USER x 0 * :x"), "Alice")

    def test_another_key_none_and_another_account_are_refused_after_a_second(self) -> None:
        self.add_account("bob", key=OTHER_KEY)
        for key, wanted in (
            (OTHER_KEY, base64.b64encode(b"alice").decode()),
            ("", "+"),
            ("ssh-ed25519 unknown", "+"),
        ):
            client = self.encrypted(key)
            client.say("CAP REQ sasl", "NICK alice", "USER x 0 * :x", "AUTHENTICATE EXTERNAL")
            client.say(f"AUTHENTICATE {wanted}")
            self.assertRefused(client)
            self.assertEqual(numerics(client.say("CAP END")), ["433"])
            self.clock.advance(1000)


class PassTests(AccountTestCase):
    def test_the_password_of_the_name_or_of_another_account(self) -> None:
        for nick, word in (("alice", PASSWORD), ("x", f"ALICE:{PASSWORD}")):
            client = self.client()
            lines = client.say(f"PASS :{word}", f"NICK {nick}", "USER x 0 * :x")
            self.assertWelcomed(lines, "Alice")
            client.say("QUIT")

    def test_a_wrong_one_is_464_after_a_second_and_the_end(self) -> None:
        client = self.client()
        self.assertEqual(client.say("PASS wrong", "NICK alice", "USER x 0 * :x"), [])
        self.assertFalse(client.closed)
        number, error = self.wait(client)
        self.assertEqual(number, ":chat.server 464 * :Password incorrect")
        self.assertTrue(error.startswith("ERROR :"))
        self.assertTrue(client.closed)

    def test_it_is_not_needed_beside_sasl(self) -> None:
        client = self.encrypted(KEY)
        client.say("CAP REQ sasl", "PASS wrong", "NICK x", "USER x 0 * :x")
        client.say("AUTHENTICATE EXTERNAL", "AUTHENTICATE +")
        self.assertWelcomed(client.say("CAP END"), "Alice")

    def test_it_is_refused_where_others_can_read_it(self) -> None:
        client = self.client(THERE)
        lines = client.say(f"PASS :{PASSWORD}", "NICK alice", "USER x 0 * :x")
        self.assertEqual(numerics(lines)[0], "484")
        self.assertTrue(client.closed)

    def test_none_and_a_late_one_are_refused(self) -> None:
        self.assertEqual(numerics(self.client().say("PASS")), ["461"])
        guest = self.join("bob")
        for line in ("PASS x", "USER x 0 * :x"):
            self.assertEqual(numerics(guest.say(line)), ["462"])


class RegisterTests(AccountTestCase):
    def test_a_guest_makes_an_account_and_others_are_told(self) -> None:
        bob = self.join("bob", "#a")
        watcher = self.join("carol", "#a", caps="account-notify extended-join")
        other = self.join("dave", "#a")
        for client in (bob, watcher, other):
            client.lines()
        self.assertEqual(
            bob.say("REGISTER * * :good password"),
            [
                ":chat.server REGISTER SUCCESS bob :Your name is an account now",
                ":chat.server 900 bob bob!bob@chat bob :You are now logged in as bob",
            ],
        )
        self.assertEqual(watcher.lines(), [":bob!bob@chat ACCOUNT bob"])
        self.assertEqual(other.lines(), [])
        bob.say("QUIT")
        again = self.client()
        lines = again.say("PASS :good password", "NICK bob", "USER x 0 * :x")
        self.assertWelcomed(lines, "bob")

    def test_others_are_told_when_an_account_is_given_up(self) -> None:
        self.add_account("bob", password="x")
        bob = self.client()
        bob.say("PASS x", "NICK bob", "USER x 0 * :x", "JOIN #a")
        watcher = self.join("carol", "#a", caps="account-notify")
        watcher.lines()
        session = bob.protocol.session
        assert session is not None
        dropping = session.ask(commands.DropAccount(session.user, session.epoch))
        dropped = Deferred.fromCoroutine(dropping)
        self.clock.advance(0)
        self.successResultOf(dropped)
        self.assertEqual(watcher.lines(), [":bob!bob@chat ACCOUNT *"])

    def fails(self, client: IRCClient, line: str) -> str:
        """Return the code of the FAIL that is the answer to a line."""
        (answer,) = client.say(line)
        self.assertIn(" FAIL ", answer)
        return answer.split()[3]

    def test_each_refusal_has_its_code(self) -> None:
        bob = self.join("bob")
        self.assertEqual(numerics(bob.say("REGISTER * *")), ["461"])
        for line, code in (
            ("REGISTER alice * x", "ACCOUNT_NAME_MUST_BE_NICK"),
            ("REGISTER bob * :", "UNACCEPTABLE_PASSWORD"),
            (f"REGISTER bob * {'x' * 400}", ""),
            ("REGISTER BOB * x", "ALREADY_AUTHENTICATED"),
            ("VERIFY bob 123", "INVALID_CODE"),
            ("VERIFY", "INVALID_CODE"),
        ):
            if code:
                self.assertEqual(self.fails(bob, line), code, line)
            else:
                bob.say(line)  # which makes it
        new = self.client()
        for line in ("REGISTER * * x", "NICK new", "REGISTER * * x"):
            if not line.startswith("NICK"):
                self.assertEqual(self.fails(new, line), "COMPLETE_CONNECTION_REQUIRED")
            else:
                new.say(line)

    def test_a_password_that_others_can_read_is_refused(self) -> None:
        client = self.client(THERE)
        client.say("NICK bob", "USER x 0 * :x")
        self.assertEqual(self.fails(client, "REGISTER * * x"), "UNACCEPTABLE_PASSWORD")
