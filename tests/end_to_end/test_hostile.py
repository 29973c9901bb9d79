"""What a peer that means harm gets from a real server, and that the others notice nothing.

Each test ends as it begins: two who are here talk, somebody new gets in, and no fault is logged.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import resource
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from chat_twisted.doors.tls import CERTIFICATE, KEY, ensure
from tests.end_to_end.support import (
    PATIENCE,
    TWISTD,
    Peer,
    Process,
    ServerTestCase,
    any_certificate,
)

HALF_OPEN = 10_000
BACKLOG = 40  # connections at once; fewer than the server's system keeps for it to accept


class Key:
    """A key, and what is signed with it (docs/protocol.rst, Accounts)."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.public = public.decode()

    def write(self, path: Path) -> Path:
        data = self._key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        path.write_bytes(data)
        path.with_suffix(".pub").write_text(f"{self.public}\n")
        return path

    def signature(self, challenge: str, name: str, binding: bytes) -> str:
        data = b"chat_twisted auth v2\0" + base64.b64decode(challenge) + name.encode() + binding
        return base64.b64encode(self._key.sign(data)).decode()

    def proof(self, challenge: str, name: str, binding: bytes) -> tuple[str, str]:
        """The headers of AUTH."""
        signature = self.signature(challenge, name, binding)
        return f"Key: {self.public}", f"Signature: {signature}"


class HostileTestCase(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.newcomers = 0
        self.tokens: dict[str, str] = {}
        self.others_come()

    def others_come(self) -> None:
        """They come, or come back."""
        self.alice, self.bob = self.connect(tls=True), self.connect()
        for name, peer in (("alice", self.alice), ("bob", self.bob)):
            again = [f"Session: {self.tokens[name]}"] if name in self.tokens else []
            self.tokens[name] = peer.register(name, *again)["session"]
        self.others_go_on()

    def tearDown(self) -> None:
        self.others_go_on()
        self.assertNoTraceback()

    def others_go_on(self) -> None:
        """Those who are here talk, and somebody new gets in and is heard."""
        self.newcomers += 1
        text = f"still here {self.newcomers}"
        self.tell(self.alice, "bob", text)
        self.hear(self.bob, text)
        self.tell(self.bob, "alice", text)
        self.hear(self.alice, text)
        new = self.connect(tls=True)
        new.register(f"new{self.newcomers}")
        self.tell(new, "alice", f"new {text}")
        self.hear(self.alice, f"new {text}")
        new.close()

    def tell(self, peer: Peer, to: str, text: str) -> None:
        start, headers, _ = peer.ask(f"SEND {to}", body=text)
        self.assertEqual(start, f"SENT {to}", headers)

    def hear(self, peer: Peer, text: str) -> None:
        """Wait for a message; what comes before it is passed over."""
        while peer.frame()[2] != text.encode():
            pass

    def crowd(self, count: int, says: Sequence[bytes]) -> list[Peer]:
        """So many connections, from many addresses, each with the next of ``says`` as all it says;
        no faster than they are accepted.
        """
        peers = []
        for number in range(count):
            peers.append(self.connect(f"127.0.2.{number % 200 + 1}"))
            if says[number % len(says)]:
                peers[-1].send(says[number % len(says)])
            if number % BACKLOG == 0:
                self.connect("127.0.3.1").end(b"x\n\n")  # answered when all before are accepted
        return peers

    def challenge(self, peer: Peer, name: str) -> str:
        start, headers, _ = peer.ask(f"REGISTER {name}")
        self.assertEqual(start, "ERROR 106 Authentication required")
        return headers["challenge"]

    def refusal(self, peer: Peer, start: str, *headers: str, body: str = "") -> str:
        """What a request is refused with."""
        start, _, _ = peer.ask(start, *headers, body=body)
        self.assertTrue(start.startswith("ERROR "), start)
        return start.removeprefix("ERROR ")


FAILED = "107 Authentication failed"
TOO_FAST = "109 Too fast"
NOT_PERMITTED = "111 Not permitted"


class ProofTests(HostileTestCase):
    """Wrong proofs are answered after a second, so all of a test's are brought at once, each from
    an address of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.key = Key()
        carol = self.connect(tls=True)
        carol.register("carol")
        start, _, _ = carol.ask("ACCOUNT register", f"Key: {self.key.public}")
        self.assertEqual(start, "ACCOUNT register")
        carol.close()

    def prove(self, peer: Peer, *headers: str) -> str:
        peer.send("\n".join(["AUTH publickey", *headers, "", ""]).encode())
        return peer.frame()[0]

    def log_in(self, peer: Peer) -> tuple[str, ...]:
        """Log in; return the proof."""
        proof = self.key.proof(self.challenge(peer, "carol"), "carol", peer.binding)
        self.assertEqual(self.prove(peer, *proof), "REGISTERED carol")
        return proof

    def test_a_proof_that_was_made_for_something_else_or_is_none_fails_alike(self) -> None:
        key = self.key
        used = self.log_in(self.connect(tls=True))
        kind, data = key.public.split()
        ensure(folder := Path(self.folder.name))
        other = ssl.PEM_cert_to_DER_cert((folder / CERTIFICATE).read_text())
        elsewhere = hashlib.sha256(other).digest()

        def keyed(public: str, *, cut: int | None = None):
            return lambda challenge, binding: (
                f"Key: {public}",
                f"Signature: {key.signature(challenge, 'carol', binding)[:cut]}",
            )

        wrong = {
            "used before, on another connection": lambda *_: used,
            "relayed, by who has another certificate": (
                lambda challenge, _: key.proof(challenge, "carol", elsewhere)
            ),
            "made without encryption": lambda challenge, _: key.proof(challenge, "carol", b""),
            "over another name": lambda challenge, binding: key.proof(challenge, "bob", binding),
            "by another key": lambda challenge, binding: Key().proof(challenge, "carol", binding),
            "a signature that is cut off": keyed(key.public, cut=40),
            "a key that is cut off": keyed(f"{kind} {data[:40]}"),
            "a key that is cut off in a character": keyed(key.public[:-1]),
            "a key without its kind": keyed(data),
            "a kind that is not known": keyed(f"ssh-nonsense {data}"),
            "a kind that is not taken": keyed(f"sk-ssh-ed25519@openssh.com {data}"),
            "a kind that is not the key's": keyed(f"ssh-rsa {data}"),
            "no key at all": lambda *_: (),
        }
        asked = []
        for number, (what, proof) in enumerate(wrong.items()):
            peer = self.connect(f"127.0.1.{number + 1}", tls=True)
            headers = proof(self.challenge(peer, "carol"), peer.binding)
            peer.send("\n".join(["AUTH publickey", *headers, "", ""]).encode())
            asked.append((what, peer))
        self.others_go_on()
        for what, peer in asked:
            self.assertEqual(peer.frame()[0], f"ERROR {FAILED}", what)
            self.log_in(peer)

    def test_a_key_whose_form_can_not_be_read_fails_like_any_other(self) -> None:
        point = b"\2" + b"x" * 32  # on a curve, compressed
        parts = (b"ecdsa-sha2-nistp256", b"nistp256", point)
        data = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        key = f"Key: ecdsa-sha2-nistp256 {base64.b64encode(data).decode()}"
        guest = self.connect()
        guest.register("guest")
        self.assertEqual(self.refusal(guest, "ACCOUNT register", key), NOT_PERMITTED)
        peer = self.connect("127.0.1.1", tls=True)
        self.challenge(peer, "carol")
        self.assertEqual(self.refusal(peer, "AUTH publickey", key, "Signature: AAAA"), FAILED)

    def test_who_stands_in_between_can_not_log_in_with_what_the_client_signs(self) -> None:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(*ensure(folder := Path(self.folder.name)))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            victim = self.process(
                sys.executable,
                "-m",
                "chat_twisted.client",
                "carol",
                "127.0.0.1",
                "--port",
                str(listening.getsockname()[1]),
                "--identity",
                str(self.key.write(folder / "key")),
            )
            listening.settimeout(PATIENCE)
            inside, _ = listening.accept()
        inside.settimeout(PATIENCE)
        with own.wrap_socket(inside, server_side=True) as inside:
            outside = self.connect("127.0.1.1", tls=True)
            for verb, answer in ((b"REGISTER", b"ERROR 106"), (b"AUTH publickey", b"ERROR 107")):
                request = inside.recv(65536)
                self.assertTrue(request.startswith(verb), request)
                outside.send(request)
                head = outside.head()
                self.assertTrue(head.startswith(answer), head)
                inside.sendall(head)
        self.assertEqual(victim.wait(), 2)
        self.assertEqual(victim.err[-1], f"ERROR 107 : {FAILED[4:]} : carol")

    def test_a_password_of_ten_megabytes_is_thrown_away_and_a_long_one_is_wrong(self) -> None:
        peer = self.connect("127.0.1.1", tls=True)
        too_long = b"Content-length: 10000000\n\n" + b"x" * 10_000_000
        self.challenge(peer, "carol")
        for request in (b"AUTH password\n", b"ACCOUNT password\n"):
            peer.send(request + too_long)
            self.assertEqual(peer.head(), b"ERROR 108 Message too long\n\n")
            if request.startswith(b"AUTH"):
                self.log_in(peer)
        peer = self.connect("127.0.1.3", tls=True)
        self.challenge(peer, "carol")
        self.assertEqual(self.refusal(peer, "AUTH password", body="x" * 65536), FAILED)
        self.log_in(peer)
        long = self.refusal(peer, "ACCOUNT password", body="x" * 65536)
        self.assertEqual(long, NOT_PERMITTED)

    def test_an_address_that_guesses_must_wait_and_nobody_else(self) -> None:
        guesses = [self.connect("127.0.1.1", tls=True) for _ in range(20)]
        for peer in guesses:
            self.challenge(peer, "carol")
            peer.send(b"AUTH publickey\n\n")
        start, headers, _ = peer.frame()  # the tries before it wait for their turn
        self.assertEqual(start, f"ERROR {TOO_FAST}")
        self.assertGreater(int(headers["retry-after"]), 10)
        self.log_in(self.connect("127.0.1.2", tls=True))


def client_hello() -> bytes:
    """How a client of TLS begins."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = any_certificate().wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


class HandshakeTests(HostileTestCase):
    options = ("--idle", "3")  # and so no more for the first words

    def test_handshakes_that_are_never_finished_are_ended(self) -> None:
        hello = client_hello()
        stuck = self.crowd(200, (hello, hello[:100], hello[:6], hello[:1]))
        silent = [self.connect(tls=True) for _ in range(20)]
        self.others_go_on()
        for peer in stuck:
            with contextlib.suppress(ConnectionResetError):
                peer.rest()
        for peer in silent:
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(peer.rest(), b"")


class RubbishTests(HostileTestCase):
    def test_rubbish_instead_of_a_handshake_ends_that_connection_alone(self) -> None:
        chance = random.Random(7)
        hello = client_hello()
        spoilt = []
        for _ in range(100):
            data = bytearray(hello)
            for _ in range(chance.randint(1, 5)):
                data[chance.randrange(1, len(data))] = chance.randrange(256)
            spoilt.append(bytes(data))
        for data in (
            b"\x16",
            b"\x16\n\n",
            b"\x16REGISTER mallory\n\n",
            b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
            b"\x16\x03\x01\x00\x00" * 10_000,
            b"\x16" + chance.randbytes(100_000),
            *(b"\x16\x03\x01" + chance.randbytes(chance.randint(1, 600)) for _ in range(50)),
            *spoilt,
            hello + chance.randbytes(1000),
            hello + hello,
            hello + b"\x15\x03\x03\x00\x02\x02\x28",
            hello[5:],
        ):
            answer = self.connect().end(data)
            self.assertNotIn(b"REGISTERED", answer)

    def test_rubbish_inside_a_session_ends_that_session_alone(self) -> None:
        for number, data in enumerate(
            (b"\x17\x03\x03\x00\x20" + b"x" * 32, b"REGISTER x\n\n", client_hello())
        ):
            peer = self.connect(tls=True)
            peer.register(f"mallory{number}")
            with socket.socket(fileno=os.dup(peer.socket.fileno())) as below:
                below.sendall(data)
            with contextlib.suppress(OSError):
                peer.rest()
            self.server.wait_for(rf"mallory{number} went from")


class HalfOpenTests(HostileTestCase):
    def setUp(self) -> None:
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        # The server has the same limit.
        self.count = HALF_OPEN if hard < 0 else min(HALF_OPEN, hard - 200)

    def test_ten_thousand_who_say_nothing_keep_nobody_out(self) -> None:
        for _ in range(4):
            self.crowd(self.count // 4, (b"", b"REG", b"\x16\x03\x01"))
            self.others_go_on()


class FewDescriptorsTests(HostileTestCase):
    """The system allows the server less than its options would need."""

    files = 256

    def process(self, *command: str) -> Process:
        limit = f'ulimit -n {self.files}; exec "$@"'
        return super().process("sh", "-c", limit, "sh", *command)

    def tearDown(self) -> None:
        super().tearDown()
        self.assertNotIn("EMFILE", "\n".join(self.server.out))

    def test_those_who_say_nothing_keep_nobody_out(self) -> None:
        self.crowd(400, (b"",))
        self.others_go_on()

    def test_who_takes_all_connections_gets_a_share_and_the_others_are_refused_in_words(
        self,
    ) -> None:
        answers: dict[str, int] = {}
        for number in range(300):
            peer = self.connect("127.0.0.9")
            peer.send(f"REGISTER mallory{number}\n\n".encode())
            answer = peer.frame()[0].split()[0]
            answers[answer] = answers.get(answer, 0) + 1
        self.assertEqual(set(answers), {"REGISTERED", "ERROR"})
        self.assertGreater(answers["REGISTERED"], 20)
        self.assertEqual(self.alice.ask("HISTORY ALL")[0], "HISTORY ALL")
        self.assertEqual(self.alice.ask("SEARCH", body="nothing")[0], "SEARCH")
        self.others_go_on()

    def test_a_server_that_may_have_next_to_nothing_says_so_and_ends(self) -> None:
        self.files = 100
        state = str(Path(self.folder.name) / "other")
        second = self.process(TWISTD, "-n", "--pidfile=", "chatserver", "--state", state)
        self.assertEqual(second.wait(), 1)
        self.assertEqual(
            second.err, ["chatserver: the system allows 100 open files: too few (see ulimit -n)"]
        )


class ManyBehindOneAddressTests(HostileTestCase):
    """Where programs may have 1024 files, and no more."""

    def process(self, *command: str) -> Process:
        return super().process("sh", "-c", 'ulimit -n 1024; exec "$@"', "sh", *command)

    def test_a_class_of_three_hundred_comes_in_at_once_and_all_can_talk(self) -> None:
        peers = [self.connect(tls=True) for _ in range(300)]
        for number, peer in enumerate(peers):
            peer.send(f"REGISTER pupil{number}\n\n".encode())
        for number, peer in enumerate(peers):
            self.assertEqual(peer.frame()[0], f"REGISTERED pupil{number}")
        for number, peer in enumerate(peers):
            self.tell(peer, "alice", f"good morning from {number}")


class LogTests(ServerTestCase):
    def test_a_flood_of_refusals_is_a_few_lines_and_their_number(self) -> None:
        for number in range(300):
            self.connect("127.0.0.9").end(b"x\n\n" if number % 2 else b"\x16\x03\x01\0\1x")
        for number in range(300):
            peer = self.connect("127.0.0.9")
            peer.send(f"REGISTER TOSEND m{number}\n\n".encode())
            peer.head()
            peer.close()
        self.server.popen.terminate()
        self.server.wait()
        about = [line for line in self.server.out if "127.0.0.9" in line]
        self.assertLess(len(about), 700)
        refused = [line for line in about if "ERROR 101" in line]
        self.assertEqual(len(refused), 11)
        self.assertIn(" more lines about 127.0.0.9, the last: refused ", refused[-1])
        self.assertNoTraceback()


class CertificateTests(HostileTestCase):
    def test_a_certificate_that_is_none_is_one_line_and_a_non_zero_exit(self) -> None:
        folder = Path(self.folder.name)
        (broken := folder / "broken.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n\xff\0\n")
        own = ("--certificate", str(broken), "--private-key", str(self.state / KEY))
        ensure(kept := folder)
        (kept / CERTIFICATE).write_text("broken")
        command = (TWISTD, "-n", "--pidfile", "second.pid", "chatserver", "--listen", "tcp:0")
        starts = {
            broken: self.process(*command, "--state", str(folder / "second"), *own),
            kept / CERTIFICATE: self.process(*command, "--state", str(kept)),
        }
        for file, process in starts.items():
            self.assertEqual(process.wait(), 1)
            self.assertEqual(process.err, [f"chatserver: {file}: not a certificate in PEM"])
            self.assertNotIn("Traceback", "\n".join(process.out))


class FloodTests(HostileTestCase):
    options = (
        *("--messages", "10:50"),
        *("--address-messages", "2:80"),
        *("--logins", "1:40"),
        *("--connections", "6"),
    )

    def flood(self, peer: Peer, requests: list[str]) -> list[tuple[str, dict[str, str]]]:
        """Ask all that at once, and return the answers when others have been found undisturbed."""
        for number, request in enumerate(requests):
            requests[number] = request.replace("\n", f"\nId: {number}\n", 1)
        peer.send("".join(requests).encode())
        self.others_go_on()
        answers = []
        while len(answers) < len(requests):
            start, headers, _ = peer.frame()
            if "id" in headers:
                answers.append((start, headers))
        return answers

    def assertTooFast(self, answers: list[tuple[str, dict[str, str]]]) -> None:
        refused = [headers for start, headers in answers if start == f"ERROR {TOO_FAST}"]
        self.assertTrue(refused)
        for headers in refused:
            self.assertGreaterEqual(int(headers["retry-after"]), 1)

    def test_who_floods_is_told_to_wait_and_what_was_taken_arrives(self) -> None:
        dave, flooder = self.connect("127.0.0.5"), self.connect("127.0.0.6")
        dave.register("dave")
        flooder.register("flooder")
        answers = self.flood(flooder, ["SEND dave\nContent-length: 1\n\nx"] * 1000)
        self.assertTooFast(answers)
        sent = [headers["message"] for start, headers in answers if start == "SENT dave"]
        self.assertGreaterEqual(len(sent), 50)
        self.assertEqual([dave.frame()[1]["message"] for _ in sent], sent)
        self.tell(self.alice, "dave", "and nothing else")
        self.assertEqual(dave.frame()[2], b"and nothing else")

    def test_a_flood_of_other_things_that_others_hear_is_one_too(self) -> None:
        dave, flooder = self.connect("127.0.0.5"), self.connect("127.0.0.6")
        dave.register("dave")
        flooder.register("flooder")
        for peer in (dave, flooder):
            self.assertEqual(peer.ask("JOIN #dev")[0], "JOINED #dev")
        for request in (
            "TOPIC #dev\nContent-length: 1\n\nx",
            "INVITE #dev\nUser: alice\n\n",
        ):
            self.assertTooFast(self.flood(flooder, [request] * 1000))

    def test_the_sessions_of_an_address_are_limited_together(self) -> None:
        peers = [self.connect("127.0.0.6") for _ in range(4)]
        taken = 0
        for number, peer in enumerate(peers):
            peer.register(f"flooder{number}")
            answers = self.flood(peer, ["SEND bob\nContent-length: 1\n\nx"] * 50)
            taken += sum(start == "SENT bob" for start, _ in answers)
        self.assertTooFast(answers)
        self.assertGreaterEqual(taken, 80)

    def test_who_has_too_many_connections_is_told_so_and_nobody_else(self) -> None:
        silent = [self.connect("127.0.0.6") for _ in range(20)]  # these keep nobody out
        peers = [self.connect("127.0.0.6", tls=bool(number % 2)) for number in range(6)]
        for number, peer in enumerate(peers):
            peer.register(f"one{number}")
        for tls in (False, True):
            late = self.connect("127.0.0.6", tls=tls)
            late.send(b"REGISTER late\n\n")
            self.assertEqual(late.rest(), b"ERROR 112 Unavailable\nRetry-after: 30\n\n")
        self.connect("127.0.0.7").register("late")
        peers[0].close()
        self.server.wait_for("one0 went from")
        self.connect("127.0.0.6", tls=True).register("later")
        for peer in silent:
            peer.close()

    def test_who_says_quit_counts_no_longer(self) -> None:
        for tls in (False, True):
            for number in range(20):
                peer = self.connect("127.0.0.7", tls=tls)
                peer.register(f"one{number}")
                peer.send(b"QUIT\n\n")
                self.assertEqual(peer.rest(), b"BYE\n\n")
                peer.close()

    def test_a_flood_of_logins_is_too_fast_for_its_address_alone(self) -> None:
        for _ in range(2):
            peer = self.connect("127.0.0.6", tls=True)
            answers = self.flood(peer, ["REGISTER alice\n\n"] * 60)
        self.assertTooFast(answers)
        self.connect("127.0.0.7", tls=True).register("early")


class ModerationTests(HostileTestCase):
    """With an operator who uses the bundled client."""

    def setUp(self) -> None:
        super().setUp()
        self.op = self.client("op", "--identity", str(self.key))

    def start(self) -> None:
        if not self.state.exists():
            self.state.mkdir(mode=0o700)
            self.key = Key().write(Path(self.folder.name) / "key")
            self.assertEqual(self.accounts("add", "op", "--key", f"{self.key}.pub").err, [])
            self.assertEqual(self.accounts("operator", "op").err, [])
        super().start()

    def do(self, line: str, done: str, audit: str) -> None:
        """Have the operator do something; wait until it is done and logged."""
        self.op.write(line + "\n")
        self.assertEqual(self.op.next_line(), f"Done: {done}")
        self.server.wait_for(f"audit: op {audit}")

    def again(self) -> None:
        """The server crashes and is started again."""
        self.kill()
        self.start()
        self.others_come()

    def come(self, name: str, source: str) -> Peer:
        peer = self.connect(source, tls=True)
        peer.register(name)
        return peer

    def assertOut(self, name: str, source: str, *headers: str, reason: str = "") -> None:
        start, answer, _ = self.connect(source, tls=True).ask(f"REGISTER {name}", *headers)
        self.assertEqual((start, answer.get("reason", "")), (f"ERROR {NOT_PERMITTED}", reason))

    def test_who_is_kicked_may_come_back_and_who_is_banned_may_not_even_after_a_crash(self) -> None:
        mallory = self.come("mallory", "127.0.0.9")
        self.do("/kick mallory rude", "/kick mallory", "kick mallory until ever: 'rude'")
        self.assertEqual(mallory.rest(), b"BYE Kicked by op: rude\nFinal: yes\n\n")
        mallory = self.connect("127.0.0.9", tls=True)
        session = f"Session: {mallory.register('mallory')['session']}"
        self.do("/ban Mallory 2h spam", "/ban Mallory", r"ban mallory until \d+: 'spam'")
        self.assertEqual(mallory.rest(), b"BYE Banned by op: spam\nFinal: yes\n\n")
        self.assertOut("mallory", "127.0.0.9", session, reason="spam")
        self.again()
        self.assertOut("MALLORY", "127.0.0.1", reason="spam")
        self.come("other", "127.0.0.9")
        self.do("/unban mallory", "/unban mallory", "unban mallory")
        self.come("mallory", "127.0.0.9")

    def test_an_address_and_a_network_are_banned_with_all_who_come_from_there(self) -> None:
        first, second = self.come("mallory", "127.0.0.9"), self.come("mal", "127.0.0.9")
        old = self.connect("127.0.0.9")
        old.send(b"REGISTER TOSEND malice\n\n")
        old.head()
        nearby, far = self.come("nearby", "127.0.9.200"), self.come("far", "127.0.8.1")
        self.do("/ban 127.0.0.9", "/ban 127.0.0.9", "ban 127.0.0.9 until ever: ''")
        for peer in (first, second):
            self.assertEqual(peer.rest(), b"BYE Banned by op\nFinal: yes\n\n")
        self.assertEqual(old.rest(), b"")
        self.do("/ban 127.0.9.0/24 10m", "/ban 127.0.9.0/24", r"ban 127.0.9.0/24 until \d+: ''")
        self.assertEqual(nearby.rest(), b"BYE Banned by op\nFinal: yes\n\n")
        self.assertEqual(far.ask("PING")[0], "PONG")
        self.again()
        for source in ("127.0.0.9", "127.0.9.1", "127.0.9.200"):
            self.assertOut("other", source)
        old = self.connect("127.0.0.9")
        old.send(b"REGISTER TOSEND malice\n\n")
        self.assertEqual(old.rest(), b"ERROR 101 No user registered\n\n")
        self.come("mallory", "127.0.0.8")
        self.op.write("/bans\n")
        self.assertEqual(self.op.next_line(), "127.0.0.9 ban ever op")
        self.assertRegex(self.op.next_line(), r"127\.0\.9\.0/24 ban \d{4}-.*Z op")
        for subject in ("127.0.0.9", "127.0.9.0/24"):
            self.do(f"/unban {subject}", f"/unban {subject}", f"unban {subject}")
        self.come("mal", "127.0.0.9")
        self.come("malice", "127.0.9.1")

    def test_who_is_muted_hears_and_is_not_heard_even_after_a_crash(self) -> None:
        mallory = self.connect("127.0.0.9", tls=True)
        session = f"Session: {mallory.register('mallory')['session']}"
        self.do("/mute mallory 10m noise", "/mute mallory", r"mute mallory until \d+: 'noise'")
        for to in ("bob", "ALL"):
            self.assertEqual(self.refusal(mallory, f"SEND {to}", body="noise"), NOT_PERMITTED)
        self.again()
        mallory = self.connect("127.0.0.9", tls=True)
        mallory.register("mallory", session)
        self.assertEqual(self.refusal(mallory, "SEND bob", body="noise"), NOT_PERMITTED)
        self.tell(self.alice, "mallory", "a word in your ear")
        self.hear(mallory, "a word in your ear")
        self.do("/unmute mallory", "/unmute mallory", "unmute mallory")
        self.tell(mallory, "bob", "sorry")
        self.hear(self.bob, "sorry")

    def test_who_is_muted_says_nothing_as_a_topic_either(self) -> None:
        mallory = self.come("mallory", "127.0.0.9")
        for peer in (self.bob, mallory):
            self.assertEqual(peer.ask("JOIN #dev")[0], "JOINED #dev")
        self.do("/mute mallory", "/mute mallory", "mute mallory")
        self.assertEqual(self.refusal(mallory, "TOPIC #dev", body="noise"), NOT_PERMITTED)


class GreetingTests(HostileTestCase):
    def start(self) -> None:
        (path := Path(self.folder.name) / "motd").write_text("Be kind.\n\x1b[2JNo flooding é\n")
        self.options = ("--motd", str(path))
        super().start()

    def test_the_message_of_the_day_is_shown_at_login(self) -> None:
        carol = self.client("carol")
        self.assertEqual(carol.next_line(), "Be kind.")
        self.assertEqual(carol.next_line(), "␛[2JNo flooding é")

    def test_who_is_ignored_is_not_heard_until_he_is_again(self) -> None:
        carol, mallory = self.client("carol"), self.connect()
        mallory.register("mallory")
        for _ in range(2):
            carol.next_line()

        def said(line: str, *shown: str) -> None:
            carol.write(line + "\n")
            for text in shown:
                self.assertEqual(carol.next_line(), text)

        said("/ignore Mallory", "Mallory is ignored")
        self.tell(mallory, "carol", "buy!")
        self.tell(mallory, "ALL", "buy!")
        self.tell(self.alice, "carol", "hello")
        self.assertEqual(carol.next_line(), "alice: hello")
        said("/ignore", "Ignored: Mallory")
        said("/unignore mallory", "mallory is not ignored any more")
        self.tell(mallory, "carol", "sorry")
        self.assertEqual(carol.next_line(), "mallory: sorry")
