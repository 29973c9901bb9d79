"""Accounts: keys, passwords, and the delays after failures."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.auth import accounts as accounts_module
from chat_twisted.auth.accounts import (
    Account,
    Gate,
    Password,
    Passwords,
    Signature,
    parse_key,
    signed_data,
)
from chat_twisted.core.changes import (
    AccountGone,
    AccountMade,
    Change,
    KeyAdded,
    KeyRemoved,
    PasswordSet,
    UserCame,
    UserGone,
)
from chat_twisted.core.errors import AuthenticationFailed, NotPermitted, TooFast, Unavailable
from chat_twisted.core.saved import GUEST, OPERATOR, SavedUser
from chat_twisted.core.turns import Asker, unlimited
from tests.store import quick_accounts

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
            self.assertTrue(accounts_module.is_signed(key, signature, data))
            self.assertFalse(accounts_module.is_signed(key, signature, b"other"))
            self.assertFalse(accounts_module.is_signed(key, b"", data))
            self.assertFalse(accounts_module.is_signed(key, signature[:-1], data))


class RegistryTestCase(TestCase):
    def setUp(self) -> None:
        self.accounts = quick_accounts()

    def apply(self, *changes: Change) -> None:
        for change in changes:
            self.accounts.apply(change)

    def alice(self) -> Account:
        self.apply(*self.accounts.make(ALICE, "Alice", 0, KEY, ""))
        account = self.accounts.find("ALICE")
        assert account is not None
        return account


class RegistryTests(RegistryTestCase):
    def test_an_account_has_a_key_or_a_password_and_its_name_in_any_case(self) -> None:
        with self.assertRaises(NotPermitted):
            self.accounts.make(ALICE, "Alice", 0, "", "")
        self.assertEqual(
            self.accounts.make(ALICE, "Alice", 5, f"{KEY} c", "h"),
            [AccountMade(ALICE, "Alice", 5), KeyAdded(ALICE, KEY, "c"), PasswordSet(ALICE, "h")],
        )
        account = self.alice()
        self.assertIs(self.accounts.get(ALICE), account)
        with self.assertRaises(NotPermitted):
            self.accounts.make(BOB, "aLICE", 0, KEY, "")

    def test_an_account_can_not_lose_its_last_way_in(self) -> None:
        account = self.alice()
        for key in (KEY, OTHER_KEY):  # not a key of this account
            with self.assertRaises(NotPermitted):
                self.accounts.remove_key(account, key)
        self.apply(*self.accounts.set_password(account, "hash"))
        self.apply(*self.accounts.remove_key(account, KEY))
        with self.assertRaises(NotPermitted):
            self.accounts.set_password(account, "")
        self.apply(*self.accounts.add_key(account, OTHER_KEY))
        self.apply(*self.accounts.set_password(account, ""))
        self.assertEqual((list(account.keys), account.password), ([OTHER_KEY], ""))

    def test_keys_are_so_many_at_most(self) -> None:
        account = self.alice()
        self.patch(accounts_module, "MAX_KEYS", 1)
        with self.assertRaises(NotPermitted):
            self.accounts.add_key(account, OTHER_KEY)
        self.assertEqual(self.accounts.add_key(account, KEY), [KeyAdded(ALICE, KEY, "")])

    def test_what_comes_too_late_changes_nothing(self) -> None:
        self.alice()
        self.apply(AccountGone(ALICE, b""), UserGone(ALICE), KeyAdded(ALICE, KEY, ""))
        self.apply(KeyRemoved(ALICE, KEY), PasswordSet(ALICE, "h"), UserCame(BOB, "b", b"", 0))
        self.assertEqual(list(self.accounts.listing().items), [])
        self.assertIsNone(self.accounts.find("alice"))

    def test_what_is_stored_is_there_and_guests_have_no_accounts(self) -> None:
        rows = [
            SavedUser(ALICE, "Alice", b"", 0, 0, OPERATOR),
            SavedUser(BOB, "Bob", b"t", 0, 0, GUEST),
        ]
        self.accounts.load(rows, [(ALICE, OTHER_KEY, "c"), (BOB, KEY, "")], [(ALICE, "h"), (9, "")])
        [account] = self.accounts.listing().items
        self.assertEqual(
            (account.operator, account.keys, account.password), (True, {OTHER_KEY: "c"}, "h")
        )

    def test_they_are_listed_by_their_folded_names_from_any_on(self) -> None:
        for id, name in enumerate(("carol", "Bob", "alice", "Dave"), 5):
            self.apply(AccountMade(id, name, 0))
        self.apply(UserGone(7))
        listing = self.accounts.listing("BOB")
        self.assertEqual(listing.count, 3)
        self.assertEqual([account.name for account in listing.items], ["carol", "Dave"])


class PasswordTests(TestCase):
    def setUp(self) -> None:
        self.passwords = quick_accounts().passwords

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
        for _ in range(accounts_module.MAX_HASHING + 1):  # and one is being hashed
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
        self.clock.advance(accounts_module.PATIENCE)
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


class GateTestCase(RegistryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.gate = Gate(self.accounts, self.clock)
        self.account = self.alice()
        hash = self.successResultOf(self.accounts.passwords.hash("right", ANYBODY))
        self.apply(PasswordSet(ALICE, hash))

    def login(self, credentials, host: str | None = "192.0.2.1") -> Deferred[Account]:
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
        self.assertIs(self.successResultOf(self.login(self.signature())), self.account)
        self.assertIs(self.successResultOf(self.login(password("ALICE", "right"))), self.account)

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
            )
        ):
            self.gate = Gate(self.accounts, self.clock)
            self.assertFails(credentials, f"192.0.2.{i}")

    def test_many_guesses_at_once_are_no_way_around_the_waiting(self) -> None:
        looked_at: list[Deferred[object]] = []  # without a reference they would be collected

        def never(*arguments: object) -> Deferred[object]:
            looked_at.append(Deferred())
            return looked_at[-1]

        self.patch(self.accounts.passwords, "verify", never)
        refused = []
        for i in range(40):
            login = self.login(password("alice", f"guess {i}"), f"192.0.2.{i}")
            login.addErrback(refused.append)
        self.assertEqual(len(looked_at), accounts_module.FREE_FAILURES + 1)
        self.assertTrue(all(failure.check(TooFast) for failure in refused))
        self.assertGreater(len(refused), 30)

    def test_a_key_that_was_removed_is_let_in_no_more(self) -> None:
        self.apply(KeyRemoved(ALICE, KEY))
        self.assertFails(self.signature())

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
        # A client with the key does not wait longer, and from another address not at all.
        self.assertIs(self.successResultOf(self.login(self.signature(), "192.0.2.9")), self.account)

    def test_the_password_of_an_account_can_not_be_guessed_from_many_addresses(self) -> None:
        waits = [self.seconds(password("alice", "x"), f"192.0.2.{i}") for i in range(5)]
        self.assertEqual(waits, [1, 1, 1, 2, 4])
        right = self.login(password("alice", "right"), "198.51.100.1")
        self.assertNoResult(right)  # any client must wait with a password
        self.clock.advance(60)
        self.assertIs(self.successResultOf(right), self.account)
        self.assertIs(  # and is forgotten as a suspect
            self.successResultOf(self.login(password("alice", "right"), "198.51.100.1")),
            self.account,
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
        self.clock.advance(accounts_module.FORGET_AFTER + 61)
        self.assertIs(self.successResultOf(self.login(password("alice", "right"))), self.account)

    def test_of_so_many_failures_is_known_at_most(self) -> None:
        self.patch(accounts_module, "MAX_SUSPECTS", 10)
        for i in range(50):
            self.login(self.signature(OTHER), f"192.0.2.{i}").addErrback(lambda _: None)
            self.clock.advance(2)
        self.assertLessEqual(len(self.gate._suspects), 10)
