"""Who gets in over SSH: keys, passwords, guests; and what is refused."""

from __future__ import annotations

from twisted.conch.ssh.common import NS

from chat_twisted.core.limits import OFF, Rate
from chat_twisted.doors.ssh import channel as c
from chat_twisted.doors.ssh.authentication import (
    ACCOUNTS_ONLY,
    MAX_FAILURES,
    MAX_OFFERS,
    METHODS,
    NAME_HAS_ACCOUNT,
    USERAUTH_FAILURE,
    USERAUTH_INFO_REQUEST,
    USERAUTH_SUCCESS,
    parse_blob,
)
from chat_twisted.doors.ssh.visits import Visitor
from tests.ssh import (
    DISCONNECT,
    EXT_INFO,
    SSHClient,
    SSHTestCase,
    algorithm,
    blob,
    private,
    public,
)

PASSWORD = "correct horse"
KEY = private("ecdsa-sha2-nistp256")
FAILED = [(USERAUTH_FAILURE, NS(METHODS) + b"\0")]
PASSED = [(USERAUTH_SUCCESS, b"")]


class AuthenticationTestCase(SSHTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.add_account("Alice", key=public(KEY), password=PASSWORD)

    def ready(self) -> SSHClient:
        """Return a client that may authenticate."""
        client = self.client()
        client.ask_for_login()
        return client

    def visitor(self, client: SSHClient) -> Visitor:
        """Return who the client is to the host."""
        client.open()
        self.assertTrue(client.request(b"shell"))
        return self.visits.visits[-1].visitor

    def wait(self, client: SSHClient, seconds: float = 1.1) -> list[tuple[int, bytes]]:
        """Return the packets that come within some seconds."""
        self.clock.advance(seconds)
        return client.packets()


class KeyTests(AuthenticationTestCase):
    def test_an_account_is_had_by_its_key(self) -> None:
        client = self.ready()
        self.assertTrue(client.offer("alice", KEY))
        self.assertEqual(client.prove("alice", KEY), PASSED)
        visitor = self.visitor(client)
        self.assertEqual(visitor.name, "alice")
        self.assertEqual((visitor.proof, visitor.key), (public(KEY), public(KEY)))
        self.assertEqual(visitor.address, client.transport.getPeer())
        self.assertTrue(visitor.channel.encrypted)

    def test_a_guest_may_have_any_key_which_the_host_is_told(self) -> None:
        client = self.ready()
        self.assertTrue(client.offer("bob", KEY))
        self.assertEqual(client.prove("bob", KEY), PASSED)
        visitor = self.visitor(client)
        self.assertEqual((visitor.name, visitor.proof, visitor.key), ("bob", "", public(KEY)))

    def test_every_kind_of_key_may_sign(self) -> None:
        for kind in ("ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-nistp{n}" for n in (256, 384, 521))):
            with self.subTest(kind):
                key = private(kind)
                client = self.ready()
                self.assertTrue(client.offer("bob", key))
                self.assertEqual(client.prove("bob", key), PASSED)
        self.assertEqual(self.ready().prove("bob", private("ssh-rsa"), b"rsa-sha2-256"), PASSED)

    def test_clients_are_told_these_kinds_whatever_the_kind_of_the_host_key_is(self) -> None:
        for host_key in (b"ssh-ed25519", b"rsa-sha2-512"):
            [(number, content)] = self.client(host_key=host_key).packets()
            self.assertEqual(number, EXT_INFO)
            names = (
                b"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
                b"rsa-sha2-512,rsa-sha2-256"
            )
            self.assertEqual(content[4:], NS(b"server-sig-algs") + NS(names))

    def test_rsa_with_sha_1_is_refused(self) -> None:
        self.assertEqual(self.ready().prove("bob", private("ssh-rsa"), b"ssh-rsa"), FAILED)

    def test_the_agents_many_keys_do_not_count_as_failures(self) -> None:
        client = self.ready()
        for which in range(1, 13):
            self.assertFalse(client.offer("alice", private("ssh-ed25519", which)))
        self.assertTrue(client.offer("alice", KEY))
        self.assertEqual(client.prove("alice", KEY), PASSED)

    def test_offers_are_bounded(self) -> None:
        client = self.ready()
        for _ in range(MAX_OFFERS):
            self.assertFalse(client.offer("alice", private("ssh-ed25519")))
        client.authenticate("alice", b"none")
        self.assertTrue(client.closed)
        self.assertIn("Too many keys", self.logged[-1])

    def test_keys_that_are_accepted_are_counted_as_well(self) -> None:
        client = self.ready()
        for _ in range(MAX_OFFERS):
            self.assertTrue(client.offer("bob", KEY))
        content = b"\0" + NS(algorithm(KEY)) + NS(blob(KEY))
        client.authenticate("bob", b"publickey", content)
        self.assertTrue(client.closed)

    def test_another_key_is_refused_at_once_with_or_without_a_signature(self) -> None:
        client = self.ready()
        before = self.clock.seconds()
        other = private("ssh-ed25519")
        self.assertFalse(client.offer("alice", other))
        for _ in range(MAX_FAILURES + 1):
            self.assertEqual(client.prove("alice", other), FAILED)
        self.assertEqual(self.clock.seconds(), before)
        self.assertEqual(client.prove("alice", KEY), PASSED)

    def test_a_wrong_signature_is_refused_and_six_of_them_are_too_many(self) -> None:
        for name in ("alice", "bob"):
            client = self.ready()
            for _ in range(MAX_FAILURES - 1):
                self.assertEqual(client.prove(name, KEY, over=b"another session's"), FAILED)
            client.ending.packets.clear()
            client.prove(name, KEY, over=b"x")
            self.assertTrue(client.closed)

    def test_the_reason_is_told(self) -> None:
        client = self.ready()
        for _ in range(MAX_FAILURES - 1):
            client.prove("bob", KEY, over=b"x")
        [(number, content)] = client.prove("bob", KEY, over=b"x")
        self.assertEqual(number, DISCONNECT)
        self.assertIn(b"Too many failed logins", content)

    def test_keys_that_are_none_are_refused(self) -> None:
        client = self.ready()
        for name, content in (
            (b"ssh-ed25519", b"rubbish"),
            (b"ssh-ed25519", blob(KEY)),
            (b"rsa-sha2-512", blob(KEY)),
            (b"ssh-rsa", blob(private("ssh-rsa"))),
            (b"ssh-dss", NS(b"ssh-dss")),
            (b"ssh-ed25519-cert-v01@openssh.com", NS(b"x")),
            (b"", b""),
            (b"\xff", b"\xff" * 3000),
        ):
            with self.subTest(name):
                self.assertIsNone(parse_blob(name, content))
                offer = b"\0" + NS(name) + NS(content)
                self.assertEqual(client.authenticate("bob", b"publickey", offer), FAILED)

    def test_a_signature_that_is_none_fails(self) -> None:
        for signature in (NS(b"ssh-ed25519") + NS(b"short"), NS(algorithm(KEY)) + NS(NS(b""))):
            client = self.ready()
            offer = b"\1" + NS(algorithm(KEY)) + NS(blob(KEY)) + NS(signature)
            packets = client.authenticate("bob", b"publickey", offer)
            self.assertNotIn(PASSED[0], packets)
        self.assertEqual(self.flushLoggedErrors(), [])


class GuestTests(AuthenticationTestCase):
    def test_a_guest_without_a_key_is_asked_nothing(self) -> None:
        client = self.ready()
        client_packets = client.authenticate("bob", b"keyboard-interactive", NS(b"") + NS(b""))
        self.assertEqual(client_packets, PASSED)
        visitor = self.visitor(client)
        self.assertEqual((visitor.name, visitor.proof, visitor.key), ("bob", "", ""))

    def test_none_is_refused_so_that_clients_offer_their_keys(self) -> None:
        for name in ("alice", "bob", "no name!"):
            self.assertEqual(self.ready().authenticate(name, b"none"), FAILED)

    def test_malformed_names_are_the_hosts_matter(self) -> None:
        for name in ("", "no name!", "x" * 300):
            client = self.ready()
            packets = client.authenticate(name, b"keyboard-interactive", NS(b"") + NS(b""))
            self.assertEqual(packets, PASSED)
            self.assertEqual(self.visitor(client).name, name[:256])


def question_after(instruction: bytes) -> list[tuple[int, bytes]]:
    texts = NS(b"") + NS(instruction) + NS(b"")
    return [(USERAUTH_INFO_REQUEST, texts + b"\0\0\0\1" + NS(b"Password: ") + b"\0")]


class NoGuestTests(AuthenticationTestCase):
    guests = False

    def test_names_with_and_without_an_account_are_alike(self) -> None:
        for name in ("alice", "bob"):
            with self.subTest(name):
                client = self.ready()
                self.assertEqual(client.authenticate(name, b"none"), FAILED)
                self.assertFalse(client.offer(name, private("ssh-ed25519")))
                questions = client.authenticate(name, b"keyboard-interactive", NS(b"") + NS(b""))
                self.assertEqual(questions, question_after(ACCOUNTS_ONLY))
                self.assertEqual(client.answer("wrong"), [])
                self.assertEqual(self.wait(client), FAILED)
        self.assertTrue(self.ready().offer("alice", KEY))


class PasswordTests(AuthenticationTestCase):
    def test_an_account_is_had_by_its_password(self) -> None:
        client = self.ready()
        self.assertEqual(client.give_password("alice", PASSWORD), PASSED)
        visitor = self.visitor(client)
        account = self.hub.state.names["alice"].account
        assert account is not None
        self.assertEqual((visitor.proof, visitor.key), (account.password, ""))

    def test_it_may_be_asked_for(self) -> None:
        client = self.ready()
        questions = client.authenticate("alice", b"keyboard-interactive", NS(b"") + NS(b""))
        self.assertEqual(questions, question_after(NAME_HAS_ACCOUNT))
        self.assertEqual(client.answer(PASSWORD), PASSED)

    def test_a_wrong_one_is_refused_after_a_second_whatever_the_name(self) -> None:
        for name in ("alice", "bob"):
            client = self.ready()
            self.assertEqual(client.give_password(name, "wrong"), [])
            self.assertEqual(self.wait(client, 0.9), [])
            self.assertEqual(self.wait(client, 0.2), FAILED)

    def test_packets_wait_while_it_is_verified(self) -> None:
        client = self.ready()
        client.give_password("alice", "wrong")
        self.assertEqual(client.give_password("alice", PASSWORD), [])
        self.assertEqual(self.wait(client), FAILED + PASSED)

    def test_six_failures_are_too_many(self) -> None:
        client = self.ready()
        for _ in range(MAX_FAILURES):
            client.authenticate("alice", b"keyboard-interactive", NS(b"") + NS(b""))
            client.answer()
        self.assertTrue(client.closed)

    def test_guessing_is_slowed_down_with_a_reason(self) -> None:
        for _ in range(2):
            client = self.ready()
            for _ in range(MAX_FAILURES - 2):
                packets = client.give_password("alice", "wrong") or self.wait(client, 9)
        self.assertEqual(packets[-1][0], DISCONNECT)
        self.assertRegex(packets[-1][1], rb"Not now: try again in \d+ seconds")

    def test_a_new_password_is_not_taken(self) -> None:
        client = self.ready()
        change = b"\1" + NS(PASSWORD.encode()) + NS(b"new")
        self.assertEqual(client.authenticate("alice", b"password", change), FAILED)

    def test_answers_that_were_not_asked_for_are_against_the_protocol(self) -> None:
        client = self.ready()
        client.answer(PASSWORD)
        self.assertTrue(client.closed)

    def test_another_number_of_answers_fails(self) -> None:
        client = self.ready()
        client.authenticate("alice", b"keyboard-interactive", NS(b"") + NS(b""))
        self.assertEqual(client.answer(), FAILED)

    def test_a_connection_that_is_lost_meanwhile_is_no_fault(self) -> None:
        client = self.ready()
        client.give_password("alice", "wrong")
        client.gone()
        self.clock.advance(2)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_no_password_is_in_the_log(self) -> None:
        client = self.ready()
        client.give_password("alice", "my wrong password")
        self.wait(client)
        client.give_password("alice", PASSWORD)
        self.assertNotIn("password", " ".join(self.logged).replace("by password", ""))
        self.assertNotIn(PASSWORD, " ".join(self.logged))


class WorkTests(AuthenticationTestCase):
    limits = OFF._replace(work=Rate(0.001, 0.0001), address_work=Rate(0.001, 0.0001))

    def test_who_has_had_much_verified_must_wait(self) -> None:
        for _ in range(20):
            client = self.ready()
            packets = client.give_password("alice", PASSWORD)
            if packets != PASSED:
                break
        self.assertEqual([number for number, _ in packets], [DISCONNECT])
        self.assertIn(b"Not now", packets[0][1])


class OrderTests(AuthenticationTestCase):
    def test_another_service_is_refused(self) -> None:
        client = self.ready()
        client.send(50, NS(b"bob") + NS(b"ssh-agent") + NS(b"none"))
        self.assertTrue(client.closed)

    def test_channels_come_after_the_login(self) -> None:
        client = self.ready()
        client.open()
        self.assertEqual(self.visits.visits, [])
        packets = client.packets()
        self.assertNotIn(c.CHANNEL_OPEN_CONFIRMATION, [number for number, _ in packets])

    def test_later_requests_are_ignored(self) -> None:
        client = self.ready()
        client.prove("bob", KEY)
        self.assertEqual(client.authenticate("alice", b"none"), [])
        self.assertFalse(client.closed)

    def test_malformed_requests_are_refused(self) -> None:
        for content in (b"", NS(b"bob"), NS(b"bob") + NS(b"ssh-connection") + NS(b"publickey")):
            client = self.ready()
            client.send(50, content)
            self.assertTrue(client.closed)
        self.assertEqual(self.flushLoggedErrors(), [])
