"""The gate: keys, passwords, and the delays after failures."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.auth import gate as gate_module
from chat_twisted.auth import passwords as passwords_module
from chat_twisted.auth.gate import Certificate, Gate, Password, Signature
from chat_twisted.auth.keys import is_signed, parse_key, signed_data
from chat_twisted.auth.passwords import Passwords
from chat_twisted.core import commands as c
from chat_twisted.core import snapshot
from chat_twisted.core.entries import Entry, LoggedIn, Outcome
from chat_twisted.core.errors import AuthenticationFailed, NotPermitted, TooFast, Unavailable
from chat_twisted.core.state import State
from chat_twisted.core.turns import Asker, unlimited
from tests.store import quick_passwords

ALICE, BOB = 1, 2
PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(b"1" * 32)
OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(b"2" * 32)


def public(private) -> str:
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


KEY, OTHER_KEY = public(PRIVATE), public(OTHER)

ANYBODY = unlimited("anybody")


def password(name: str, password: str) -> Password:
    return Password(name, password, ANYBODY)


class KeyTests(TestCase):
    def test_a_key_is_read_with_its_comment(self) -> None:
        self.assertEqual(parse_key(f"{KEY}  alice@\x1bhome \n"), (KEY, "alice@␛home"))
        self.assertEqual(parse_key(KEY), (KEY, ""))

    def test_what_is_no_key_or_of_a_kind_not_taken_is_refused(self) -> None:
        small = rsa.generate_private_key(65537, 1024)
        slow = rsa.RSAPublicNumbers(2**2000 + 1, 2**2048 - 1).public_key()
        slow_line = slow.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        for text in (
            "",
            "ssh-ed25519",
            KEY[:-8],
            KEY[:40],
            KEY.replace("ssh-ed25519", "ssh-rsa"),
            "ssh-newest AAAAC3Nz",
            "ssh-ed25519 " + "A" * 5000,
            "ssh-ed25519 \u00e9",
            public(small),
            slow_line,
            "ssh-dss AAAAB3NzaC1kc3M=",
        ):
            with self.assertRaises(NotPermitted):
                parse_key(text)

    def test_a_signature_by_each_kind_of_key_is_known(self) -> None:
        data = b"data"
        long = rsa.generate_private_key(65537, 2048)
        curve = ec.generate_private_key(ec.SECP256R1())
        for key, signature in (
            (KEY, PRIVATE.sign(data)),
            (public(long), long.sign(data, padding.PKCS1v15(), hashes.SHA512())),
            (public(curve), curve.sign(data, ec.ECDSA(hashes.SHA256()))),
        ):
            self.assertTrue(is_signed(key, signature, data))
            self.assertFalse(is_signed(key, signature, b"other"))
            self.assertFalse(is_signed(key, b"", data))
            self.assertFalse(is_signed(key, signature[:-1], data))


class PasswordTests(TestCase):
    def setUp(self) -> None:
        self.passwords = quick_passwords()

    def test_the_right_one_is_known_and_no_other(self) -> None:
        stored = self.successResultOf(self.passwords.hash("pässword", ANYBODY))
        self.assertTrue(stored.startswith("$argon2id$"))
        self.assertTrue(self.successResultOf(self.passwords.verify(stored, "pässword", ANYBODY)))
        for wrong in ("", "password", "pässword ", "x" * 10_000_000):
            self.assertFalse(self.successResultOf(self.passwords.verify(stored, wrong, ANYBODY)))
        for broken in ("", "nonsense"):
            self.assertFalse(self.successResultOf(self.passwords.verify(broken, "x", ANYBODY)))

    def test_empty_or_too_long_is_none(self) -> None:
        for password in ("", "x" * 1025, "é" * 513):
            with self.assertRaises(NotPermitted):
                self.passwords.hash(password, ANYBODY)
        self.successResultOf(self.passwords.hash("x" * 1024, ANYBODY))


class HashingTests(TestCase):
    """The order in which passwords are hashed, with a thread that ends only when told."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.working: list[tuple[Deferred[object], str]] = []
        self.passwords = Passwords(self.in_thread, self.clock)
        self.asked: list[Deferred[Any]] = []

    def tearDown(self) -> None:
        self.passwords.stop()
        while self.working:
            self.finish()
        for asked in self.asked:
            asked.addErrback(lambda _: None)

    def hash(self, password: str, asker: Asker) -> Deferred[str]:
        self.asked.append(self.passwords.hash(password, asker))
        return self.asked[-1]

    def verify(self, stored: str, password: str, asker: Asker) -> Deferred[bool]:
        self.asked.append(self.passwords.verify(stored, password, asker))
        return self.asked[-1]

    def in_thread(self, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.working.append((done, arguments[-1]))
        return done

    def looked_at(self) -> list[str]:
        return [password for _, password in self.working]

    def finish(self) -> None:
        self.working.pop(0)[0].callback(("hash", 0.5))

    def test_of_one_address_so_many_may_wait_at_most(self) -> None:
        for _ in range(passwords_module.MAX_HASHING + 1):  # and one is being hashed
            last = self.hash("x", ANYBODY)
        self.assertNoResult(last)
        self.failureResultOf(self.hash("x", ANYBODY), Unavailable)
        self.assertNoResult(self.hash("x", unlimited("somebody else")))

    def test_a_login_is_not_behind_what_is_to_be_stored_and_not_behind_another_address(
        self,
    ) -> None:
        for address in ("hostile", "other"):
            for i in range(9):
                self.hash(f"{address} {i}", unlimited(address))
        for i in range(9):
            self.verify("", f"guess {i}", unlimited("hostile"))
        self.verify("", "right", unlimited("honest"))
        self.assertEqual(self.looked_at(), ["hostile 0", "guess 0"])
        self.finish()
        self.assertIn("right", self.looked_at())

    def test_who_waits_too_long_is_refused_with_when_to_try_again(self) -> None:
        waiting = [self.verify("", "x", ANYBODY) for _ in range(2)][-1]
        self.clock.advance(passwords_module.PATIENCE)
        self.assertTrue(self.failureResultOf(waiting, Unavailable).value.retry_after)

    def test_the_time_that_it_took_is_charged_to_who_has_asked(self) -> None:
        charged: list[float] = []
        asked = self.hash("x", Asker("somebody", charged.append))
        self.finish()
        self.assertEqual((self.successResultOf(asked), charged), ("hash", [0.5]))

    def test_when_it_stops_nobody_waits_for_a_thread(self) -> None:
        asked = [self.hash("x", ANYBODY) for _ in range(9)]
        self.passwords.stop()
        for waiting in asked[1:]:
            self.failureResultOf(waiting, Unavailable)
        self.finish()
        self.successResultOf(asked[0])
        self.assertEqual(self.working, [])

    def test_a_thread_that_fails_is_free_for_the_next(self) -> None:
        first, second = (self.hash("x", ANYBODY) for _ in range(2))
        self.working.pop(0)[0].errback(OSError("no memory"))
        self.failureResultOf(first, OSError)
        self.finish()
        self.successResultOf(second)


class GateTestCase(TestCase):
    """An account of alice's, with a key and a password."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.state = State()
        self.passwords = quick_passwords()
        self.gate = self.make_gate()
        self.right = self.hash("right")
        self.do(c.MakeAccount(c.CONSOLE, 0, key=KEY, hash=self.right, name="Alice", id=ALICE))

    def make_gate(self) -> Gate:
        return Gate(lambda: self.state, self.passwords, self.clock)

    def hash(self, password: str) -> str:
        return self.successResultOf(self.passwords.hash(password, ANYBODY))

    def do(self, command: c.Command) -> Outcome:
        return self.state.apply(Entry(1, command))

    def login(self, credentials, host: str | None = "192.0.2.1") -> Deferred[str]:
        return Deferred.fromCoroutine(self.gate.login(credentials, host))

    def signature(self, key=PRIVATE, *, name="alice", challenge=b"c" * 32, over=None) -> Signature:
        data = signed_data(b"c" * 32, "alice", b"binding") if over is None else over
        return Signature(name, public(key), key.sign(data), challenge, b"binding")

    def assertFails(self, credentials, host: str | None = "192.0.2.1") -> None:
        """Check that it is refused exactly one second after it was verified."""
        login = self.login(credentials, host)
        self.clock.advance(0.99)
        self.assertNoResult(login)
        self.clock.advance(0.02)
        self.failureResultOf(login, AuthenticationFailed)


class GateTests(GateTestCase):
    def test_the_right_key_and_the_right_password_are_let_in_at_once(self) -> None:
        self.assertEqual(self.successResultOf(self.login(self.signature())), KEY)
        self.assertEqual(self.successResultOf(self.login(password("ALICE", "right"))), self.right)
        self.assertEqual(self.successResultOf(self.login(Certificate("ALICE", KEY))), KEY)

    def test_every_other_proof_fails_alike(self) -> None:
        challenge, binding = b"c" * 32, b"binding"
        for i, credentials in enumerate(
            (
                password("alice", "wrong"),
                password("alice", ""),
                password("nobody", "right"),
                password("alice", "x" * 10_000_000),
                self.signature(OTHER),
                self.signature(name="nobody"),
                self.signature(challenge=b"d" * 32),  # replayed
                self.signature(over=signed_data(challenge, "bob", binding)),
                self.signature(over=signed_data(challenge, "alice", b"the relay's")),
                self.signature(over=signed_data(challenge, "alice", b"")),
                Signature("alice", "", b"", challenge, binding),
                Signature("alice", KEY[:30], b"x" * 64, challenge, binding),
                Signature("alice", "ssh-newest AAAA", b"x" * 64, challenge, binding),
                Signature("alice", KEY, b"", challenge, binding),
                Certificate("alice", OTHER_KEY),
                Certificate("alice", ""),
                Certificate("nobody", KEY),
                Certificate("", KEY),
            )
        ):
            self.gate = self.make_gate()
            self.assertFails(credentials, f"192.0.2.{i}")

    def test_many_guesses_at_once_are_no_way_around_the_waiting(self) -> None:
        looked_at: list[Deferred[object]] = []  # without a reference they would be collected

        def never(*arguments: object) -> Deferred[object]:
            looked_at.append(Deferred())
            return looked_at[-1]

        self.patch(self.passwords, "verify", never)
        refused = []
        for i in range(40):
            login = self.login(password("alice", f"guess {i}"), f"192.0.2.{i}")
            login.addErrback(refused.append)
        self.assertEqual(len(looked_at), gate_module.FREE_FAILURES + 1)
        self.assertTrue(all(failure.check(TooFast) for failure in refused))
        self.assertGreater(len(refused), 30)

    def test_a_key_that_was_removed_is_let_in_no_more(self) -> None:
        self.do(c.RemoveKey(c.CONSOLE, 0, KEY, "alice"))
        self.assertFails(self.signature())

    def test_an_account_without_a_password_or_a_key_is_not_had_by_an_empty_one(self) -> None:
        self.do(c.MakeAccount(c.CONSOLE, 0, hash=self.hash("x"), name="bob", id=BOB))
        self.assertFails(Certificate("bob", ""))
        self.assertFails(Signature("bob", "", b"", b"c" * 32, b"binding"), "192.0.2.2")

    def test_the_owner_of_a_key_is_found_without_a_name_unless_it_could_be_another(self) -> None:
        self.assertEqual(self.gate.name_owner(KEY, ""), "Alice")
        self.assertEqual(self.gate.name_owner(KEY, "guest"), "Alice")
        self.assertEqual(self.gate.name_owner(OTHER_KEY, "guest"), "guest")
        self.assertEqual(self.gate.name_owner("", "guest"), "guest")
        self.do(c.MakeAccount(c.CONSOLE, 0, key=KEY, name="bob", id=BOB))
        self.assertEqual(self.gate.name_owner(KEY, ""), "")
        self.assertEqual(self.gate.name_owner(KEY, "guest"), "guest")
        self.assertEqual(self.gate.name_owner(KEY, "BOB"), "bob")
        self.assertEqual(self.gate.name_owner(KEY, "alice"), "Alice")
        self.do(c.DropAccount(c.CONSOLE, 0, name="bob"))
        self.assertEqual(self.gate.name_owner(KEY, "bob"), "Alice")
        self.do(c.AddKey(c.CONSOLE, 0, OTHER_KEY, "", "alice"))
        self.do(c.AddKey(c.CONSOLE, 0, KEY, "a new comment", "alice"))
        self.do(c.RemoveKey(c.CONSOLE, 0, KEY, "alice"))
        self.assertEqual(self.gate.name_owner(KEY, ""), "")
        self.assertEqual(snapshot.load(snapshot.dump(self.state)).key_users, {OTHER_KEY: (ALICE,)})
        self.assertEqual(self.state.key_users, {OTHER_KEY: (ALICE,)})

    def seconds(self, credentials, host: str) -> float:
        """Return the seconds until a login fails."""
        begun = self.clock.seconds()
        login = self.login(credentials, host)
        while not login.called:
            self.clock.advance(0.5)
        self.failureResultOf(login, AuthenticationFailed)
        return self.clock.seconds() - begun

    def test_an_address_that_fails_waits_longer_and_longer(self) -> None:
        waits = [self.seconds(self.signature(OTHER), "192.0.2.1") for _ in range(6)]
        self.assertEqual(waits, [1, 1, 1, 2, 4, 8])
        for host in ("192.0.2.1", "192.0.2.9"):  # a client with the right key waits nowhere
            self.assertEqual(self.successResultOf(self.login(self.signature(), host)), KEY)

    def test_failures_of_others_do_not_keep_out_who_has_logged_in_from_there_before(self) -> None:
        right, host = password("alice", "right"), "192.0.2.1"
        self.assertEqual(self.successResultOf(self.login(right, host)), self.right)
        for name in ("bob", "carol", "dora", "eve", "bob"):
            self.seconds(password(name, "x"), host)
        self.seconds(password("alice", "x"), "192.0.2.2")
        self.assertEqual(self.successResultOf(self.login(right, host)), self.right)
        waits = [self.seconds(password("alice", "x"), host) for _ in range(5)]
        self.assertEqual(waits, [1, 1, 1, 2, 4])  # nobody can guess from there either

    def test_so_many_addresses_and_accounts_are_known_to_belong_together(self) -> None:
        self.patch(gate_module, "MAX_KNOWN", 3)
        for i in range(10):
            self.successResultOf(self.login(password("alice", "right"), f"192.0.2.{i}"))
        self.assertEqual(len(self.gate._known), 3)

    def test_the_password_of_an_account_can_not_be_guessed_from_many_addresses(self) -> None:
        waits = [self.seconds(password("alice", "x"), f"192.0.2.{i}") for i in range(5)]
        self.assertEqual(waits, [1, 1, 1, 2, 4])
        right = self.login(password("alice", "right"), "198.51.100.1")
        self.assertNoResult(right)  # any client must wait with a password
        self.clock.advance(60)
        self.assertEqual(self.successResultOf(right), self.right)
        self.assertEqual(  # and is forgotten as a suspect
            self.successResultOf(self.login(password("alice", "right"), "198.51.100.1")),
            self.right,
        )

    def test_who_would_wait_too_long_is_told_when_to_come_again(self) -> None:
        refused = 0
        logins = [self.login(password("alice", "wrong")) for _ in range(3)]
        self.clock.advance(2)
        for _ in range(20):
            logins.append(self.login(password("alice", "wrong")))
        for login in logins:
            login.addErrback(lambda failure: failure.value)
        for login in logins[3:]:
            if login.called and isinstance(login.result, TooFast):
                refused += 1
                self.assertGreater(login.result.retry_after or 0, 10)
        self.assertGreater(refused, 10)
        self.clock.pump([1.0] * 300)

    def test_what_failed_long_ago_is_forgotten(self) -> None:
        for _ in range(5):
            self.login(password("alice", "wrong")).addErrback(lambda _: None)
            self.clock.pump([1.0] * 20)
        self.clock.advance(gate_module.FORGET_AFTER + 61)
        self.assertEqual(self.successResultOf(self.login(password("alice", "right"))), self.right)

    def test_of_so_many_failures_is_known_at_most(self) -> None:
        self.patch(gate_module, "MAX_SUSPECTS", 10)
        for i in range(50):
            self.login(self.signature(OTHER), f"192.0.2.{i}").addErrback(lambda _: None)
            self.clock.advance(2)
        self.assertLessEqual(len(self.gate._suspects), 10)


class OrderTests(GateTestCase):
    """What was verified is decided again when the login has its turn in the order."""

    def come(self, proof: str, token: bytes = b"fresh") -> object:
        return self.do(c.Login("alice", 9, token, proof=proof)).result

    def test_a_password_that_was_changed_meanwhile_lets_nobody_in(self) -> None:
        looked_at: Deferred[bool] = Deferred()
        self.patch(self.passwords, "verify", lambda *arguments: looked_at)
        login = self.login(password("alice", "right"))
        self.do(c.SetPassword(c.CONSOLE, 0, self.hash("new"), "alice"))
        looked_at.callback(True)
        self.assertIsInstance(self.come(self.successResultOf(login)), AuthenticationFailed)

    def test_a_key_that_was_removed_meanwhile_lets_nobody_in(self) -> None:
        proof = self.successResultOf(self.login(self.signature()))
        self.do(c.RemoveKey(c.CONSOLE, 0, KEY, "alice"))
        self.assertIsInstance(self.come(proof), AuthenticationFailed)

    def test_an_account_that_another_has_made_meanwhile_is_not_had_by_the_old_ones_proof(
        self,
    ) -> None:
        proof = self.successResultOf(self.login(password("alice", "right")))
        self.do(c.DropAccount(c.CONSOLE, 0, name="alice"))
        self.assertIsInstance(self.come(proof), AuthenticationFailed)
        self.do(c.MakeAccount(c.CONSOLE, 0, key=OTHER_KEY, name="alice", id=BOB))
        self.assertIsInstance(self.come(proof), AuthenticationFailed)

    def test_an_account_that_is_made_meanwhile_is_not_a_guests(self) -> None:
        guest = self.do(c.Login("bob", BOB, b"guest")).result
        assert isinstance(guest, LoggedIn)
        added = self.do(c.MakeAccount(c.CONSOLE, 0, key=OTHER_KEY, name="bob", id=3)).result
        self.assertIsInstance(added, NotPermitted)  # in this order the name is the guest's
        self.do(c.MakeAccount(BOB, guest.epoch, hash=self.hash("mine")))
        bobs = self.successResultOf(self.login(password("bob", "mine")))
        self.assertIsInstance(self.do(c.Login("bob", 4, b"x", proof=bobs)).result, LoggedIn)

    def test_no_token_of_a_thief_outlives_the_account(self) -> None:
        stolen = self.successResultOf(self.login(password("alice", "right")))
        self.assertIsInstance(self.come(stolen, b"thief"), LoggedIn)
        self.do(c.Detach(ALICE, 1))
        owner = self.come(self.successResultOf(self.login(self.signature())), b"owner")
        assert isinstance(owner, LoggedIn)
        self.do(c.DropAccount(ALICE, owner.epoch))
        again = c.Login("alice", 9, b"z", b"thief")
        self.assertNotIsInstance(self.do(again).result, LoggedIn)  # after unregister alone
        self.do(c.MakeAccount(ALICE, owner.epoch, key=OTHER_KEY))
        self.assertNotIsInstance(self.do(again).result, LoggedIn)
        back = c.Login("alice", 9, b"z", b"owner")
        self.assertIsInstance(self.do(back).result, LoggedIn)

    def test_a_session_goes_on_that_takes_away_the_proof_that_it_came_in_by(self) -> None:
        owner = self.come(self.successResultOf(self.login(self.signature())), b"owner")
        thief = self.come(self.successResultOf(self.login(password("alice", "right"))), b"thief")
        assert isinstance(owner, LoggedIn)
        assert isinstance(thief, LoggedIn)
        self.do(c.RemoveKey(ALICE, owner.epoch, KEY))
        self.do(c.AddKey(ALICE, owner.epoch, OTHER_KEY))
        removed = self.do(c.SetPassword(ALICE, owner.epoch, "")).result
        self.assertIsNone(removed)
        self.assertIsInstance(self.do(c.AddKey(ALICE, thief.epoch, KEY)).result, NotPermitted)
        self.do(c.DropAccount(ALICE, owner.epoch))
        self.assertIsNone(self.state.users[ALICE].account)
