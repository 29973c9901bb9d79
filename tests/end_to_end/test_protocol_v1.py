"""Version 1 against a real server, by a client that is as simple as the original."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.end_to_end.original import Original
from tests.end_to_end.support import ServerTestCase


class OriginalTestCase(ServerTestCase):
    def original(self, name: str) -> Original:
        client = Original(self.port, name)
        self.addCleanup(client.close)
        return client

    def here(self, *names: str) -> list[Original]:
        clients = [self.original(name) for name in names]
        for client in clients:
            client.register()
        return clients


class PipedTests(OriginalTestCase):
    options = ("--messages", "400:100")

    def test_a_thousand_piped_lines_all_arrive(self) -> None:
        alice, bob = self.here("alice", "bob")
        lines = [f"line {number}" for number in range(1000)]
        with ThreadPoolExecutor(1) as pool:
            heard = pool.submit(lambda: [bob.hear()[1] for _ in lines])
            answers = {alice.send("bob", line) for line in lines}
            self.assertEqual(heard.result(), lines)
        self.assertEqual(answers, {"SEND bob\n\n"})


class OriginalClientTests(OriginalTestCase):
    options = ("--max-message", "20000")

    def exchange(self, alice: Original, bob: Original, text: str) -> tuple[str, list[str]]:
        """Send ``text`` from alice to bob; return the answer, and the pieces that bob got."""
        pieces: list[str] = []
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(alice.send, "bob", text)
            while sum(map(len, pieces)) < len(text.replace("\n", "")):
                sender, piece = bob.hear()
                self.assertEqual(sender, "alice")
                pieces.append(piece)
            return answer.result(), pieces

    def test_a_message_is_answered_once_its_recipient_has_confirmed_it(self) -> None:
        alice, bob = self.here("alice", "bob")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(alice.send, "bob", "hello")
            self.assertEqual(bob.receive(), ("alice", "hello"))
            self.assertFalse(answer.done())
            bob.confirm("alice")
            self.assertEqual(answer.result(), "SEND bob\n\n")
        self.assertNoTraceback()

    def test_characters_are_counted_not_bytes(self) -> None:
        alice, bob = self.here("alice", "bob")
        for text in ("é", "漢字", "👋🏽 hé", "\u0301"):
            self.assertEqual(self.exchange(alice, bob, text), ("SEND bob\n\n", [text]))

    def test_a_long_text_comes_in_pieces_that_fit_one_recv(self) -> None:
        alice, bob = self.here("alice", "bob")
        for letter in ("x", "é", "漢", "👋"):
            text = letter * 5000
            answer, pieces = self.exchange(alice, bob, text)
            self.assertEqual((answer, "".join(pieces)), ("SEND bob\n\n", text))
            self.assertGreater(len(pieces), 2)

    def test_lines_come_one_by_one(self) -> None:
        alice, bob = self.here("alice", "bob")
        self.assertEqual(
            self.exchange(alice, bob, "one\ntwo\nthree"), ("SEND bob\n\n", ["one", "two", "three"])
        )

    def test_a_nul_ends_nobody(self) -> None:
        alice, bob = self.here("alice", "bob")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(alice.send, "bob", "a\0b")
            self.assertEqual(bob.hear(), ("alice", "a␀b"))
            self.assertEqual(answer.result(), "SEND bob\n\n")
        self.assertEqual(self.exchange(alice, bob, "again"), ("SEND bob\n\n", ["again"]))

    def test_all_reaches_everybody_else(self) -> None:
        alice, bob, carol = self.here("alice", "bob", "carol")
        self.assertEqual(alice.send("ALL", "hello"), "SEND ALL\n\n")
        self.assertEqual(bob.hear(), ("alice", "hello"))
        self.assertEqual(carol.hear(), ("alice", "hello"))

    def test_the_next_forward_waits_for_the_confirmation_of_the_one_before(self) -> None:
        alice, bob = self.here("alice", "bob")
        for number in range(50):
            self.assertEqual(alice.send("ALL", f"message {number}"), "SEND ALL\n\n")
        # Had the server written two at once, one recv would have taken both.
        for number in range(50):
            self.assertEqual(bob.hear(), ("alice", f"message {number}"))

    def test_who_is_not_there_can_not_be_sent_to(self) -> None:
        alice, bob = self.here("alice", "bob")
        self.assertEqual(alice.send("carol", "hello"), "ERROR 102 Unable to send\n\n")
        half = self.original("dave")
        half.ask(half.sending, "REGISTER TOSEND dave\n\n")
        self.assertEqual(alice.send("dave", "hello"), "ERROR 102 Unable to send\n\n")
        bob.close()
        self.server.wait_for("bob went")
        self.assertEqual(alice.send("ALL", "anybody?"), "ERROR 102 Unable to send\n\n")

    def test_a_recipient_that_goes_before_it_confirms_has_not_got_it(self) -> None:
        alice, bob = self.here("alice", "bob")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(alice.send, "bob", "hello")
            bob.receive()
            bob.close()
            self.assertEqual(answer.result(), "ERROR 102 Unable to send\n\n")

    def test_a_recipient_that_can_not_read_it_has_not_got_it(self) -> None:
        alice, bob = self.here("alice", "bob")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(alice.send, "bob", "hello")
            bob.receive()
            bob.receiving.sendall(b"ERROR 103 Header Incomplete\n\n")
            self.assertEqual(answer.result(), "ERROR 102 Unable to send\n\n")
        self.assertEqual(self.exchange(alice, bob, "again"), ("SEND bob\n\n", ["again"]))

    def test_a_wrong_registration_is_refused_and_closed(self) -> None:
        self.here("alice")
        malformed = "ERROR 100 Malformed username\n\n"
        refused = "ERROR 101 No user registered\n\n"
        for request, answer in {
            "REGISTER TOSEND b@d\n\n": malformed,
            "REGISTER TORECV b@d\n\n": malformed,
            "REGISTER TOSEND ALL\n\n": malformed,
            "REGISTER TOSEND \n\n": malformed,
            f"REGISTER TOSEND {'a' * 33}\n\n": malformed,
            "REGISTER TOSEND alice\n\n": refused,
            "REGISTER TOSEND ALICE\n\n": refused,
            "REGISTER TORECV alice\n\n": refused,
            "REGISTER TORECV nobody\n\n": refused,
            "SEND alice\nContent-length: 2\n\nhi": refused,
        }.items():
            client = self.original("mallory")
            self.assertEqual(client.ask(client.sending, request), answer, request)
            self.assertEqual(client.sending.recv(2048), b"", request)

    def test_the_second_connection_comes_from_the_address_of_the_first(self) -> None:
        bob = self.original("bob")
        bob.ask(bob.sending, "REGISTER TOSEND bob\n\n")
        thief = self.connect(source="127.0.0.2")
        thief.send(b"REGISTER TORECV bob\n\n")
        self.assertEqual(thief.rest(), b"ERROR 101 No user registered\n\n")
        self.assertEqual(
            bob.ask(bob.receiving, "REGISTER TORECV bob\n\n"), "REGISTERED TORECV bob\n\n"
        )

    def test_a_wrong_header_closes_both_connections_and_frees_the_name(self) -> None:
        for request in (
            "SEND bob\n\n",
            "SEND bob\nContent-length: five\n\n",
            "SEND bob\nContent-length: -5\n\n",
            "SEND bob\nContent-length: 0\n\n",
            "SEND bob\nContent-length\n\n",
            "SHOUT bob\nContent-length: 2\n\nhi",
        ):
            [alice] = self.here("alice")
            self.assertEqual(
                alice.ask(alice.sending, request), "ERROR 103 Header Incomplete\n\n", request
            )
            self.assertEqual(alice.sending.recv(2048), b"")
            self.assertEqual(alice.receiving.recv(2048), b"")
        self.assertNoTraceback()

    def test_a_text_over_the_limit_is_refused_and_the_client_goes_on(self) -> None:
        alice, bob = self.here("alice", "bob")
        self.assertEqual(alice.send("bob", "x" * 20001), "ERROR 102 Unable to send\n\n")
        self.assertEqual(alice.send("ALL", "x"), "SEND ALL\n\n")
        self.assertEqual(bob.hear(), ("alice", "x"))
