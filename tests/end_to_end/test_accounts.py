"""Accounts as people use them: nothing to set up, nothing asked afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.end_to_end.support import Peer, Process, ServerTestCase


class AccountTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.keys = Path(self.folder.name) / "config" / "chat_twisted"

    def said(self, client: Process, line: str) -> str:
        client.write(line + "\n")
        return client.next_line()

    def leave(self, client: Process) -> None:
        client.end_input()
        client.wait()

    def refusal(self, user: str, *options: str) -> list[str]:
        client = self.client(user, *options)
        self.leave(client)
        self.assertEqual(client.popen.returncode, 2)
        return client.err

    def test_a_name_that_is_registered_is_its_owners_and_logging_in_asks_nothing(self) -> None:
        alice = self.client("alice")
        self.assertEqual(self.said(alice, "/register"), "alice is yours from now on")
        self.assertEqual((self.keys / "id_ed25519").stat().st_mode & 0o777, 0o600)
        self.leave(alice)
        bob = self.client("bob")
        bob.write("@alice: while you were out\n/who\n")
        self.assertEqual(bob.next_line(), "1 here: bob")
        self.kill()
        self.start()
        self.server.wait_for("bob came from")
        alice = self.client("Alice")
        self.assertEqual(alice.next_line(), "bob: while you were out")
        (self.keys / "id_ed25519").rename(self.keys / "other")
        self.assertEqual(self.refusal("alice"), ["ERROR 106 : Authentication required : alice"])
        other = ("--identity", str(self.keys / "other"))
        self.assertEqual(self.said(self.client("alice", *other), "/who"), "2 here: alice bob")
        self.assertNoTraceback()

    def test_a_password_is_for_scripts_and_keys_can_be_changed(self) -> None:
        secret = Path(self.folder.name) / "secret"
        secret.write_text("right\n")
        command = self.accounts("add", "ci", "--password-file", str(secret))
        self.assertEqual((command.popen.returncode, command.err), (0, []))
        password = ("--password-file", str(secret))
        ci = self.client("ci", *password)
        self.assertEqual(self.said(ci, "/keys"), "No keys")
        subprocess.run(
            [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "mine",
                "-f",
                secret.parent / "k",
            ],
            check=True,
        )
        self.assertEqual(self.said(ci, f"/keys add {secret.parent / 'k.pub'}"), "The key is added")
        key = self.said(ci, "/keys")
        self.assertRegex(key, "^ssh-ed25519 AAAA.* mine$")
        by_key = self.client("ci", "--identity", str(secret.parent / "k"))
        self.assertEqual(self.said(by_key, "/who"), "1 here: ci")
        secret.write_text("wrong\n")
        self.assertEqual(self.refusal("ci", *password), ["ERROR 107 : Authentication failed : ci"])
        self.server.wait_for("failed login as ci by password from 127.0.0.1")
        self.assertEqual(self.said(by_key, f"/keys remove {key}"), "The key is removed")
        self.assertEqual(self.said(by_key, "/unregister"), "ci has no account any more")
        self.assertEqual(self.accounts("list").out, [])
        self.assertNoTraceback()

    def test_what_the_operator_does_takes_effect_at_once(self) -> None:
        alice = self.client("alice")
        self.assertEqual(self.said(alice, "/register"), "alice is yours from now on")
        self.assertEqual(self.accounts("list").out, ["alice keys=1"])
        self.assertEqual(self.accounts("remove", "alice").popen.returncode, 0)
        self.assertIn("the account was removed", alice.next_line())
        self.leave(alice)
        key = f"{self.make_key('k')}.pub"
        guest = self.client("alice")
        self.assertEqual(self.said(guest, "/who"), "1 here: alice")
        self.assertIn("a guest", self.accounts("add", "alice", "--key", key).err[0])

    def make_key(self, name: str, *, passphrase: str = "", comment: str = "x") -> Path:
        path = Path(self.folder.name) / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", comment, "-f"]
        subprocess.run([*command, path], check=True)
        return path

    def test_a_key_with_a_passphrase_that_nobody_can_be_asked_for_is_one_line(self) -> None:
        alice = self.client("alice")
        self.assertEqual(self.said(alice, "/register"), "alice is yours from now on")
        path = Path(self.folder.name) / "locked"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path], check=True
        )
        self.assertEqual(
            self.refusal("alice", "--identity", str(path)),
            [f"{path}: not a private key, or not its passphrase"],
        )

    def test_the_environment_may_have_the_password(self) -> None:
        secret = Path(self.folder.name) / "secret"
        secret.write_text("right")
        self.accounts("add", "ci", "--password-file", str(secret))
        os.environ["CHAT_PASSWORD"] = "right"
        self.addCleanup(os.environ.pop, "CHAT_PASSWORD")
        self.assertEqual(self.said(self.client("ci"), "/who"), "1 here: ci")

    def test_a_password_that_is_not_utf_8_is_one_line_wherever_it_is(self) -> None:
        secret = Path(self.folder.name) / "secret"
        secret.write_bytes(b"\xef\xbb\xbfright\xff\n")
        self.assertEqual(
            self.refusal("ci", "--password-file", str(secret)), [f"{secret}: not UTF-8"]
        )
        nowhere = f"{self.folder.name}/\udcff"
        refusal = self.refusal("ci", "--password-file", nowhere)
        self.assertEqual(refusal, [f"{self.folder.name}/\ufffd: No such file or directory"])
        os.environb[b"CHAT_PASSWORD"] = b"right\xff"
        self.addCleanup(os.environb.pop, b"CHAT_PASSWORD")
        self.assertEqual(self.refusal("ci"), ["CHAT_PASSWORD: not UTF-8"])

    def test_a_mark_at_the_start_of_a_password_file_is_no_part_of_the_password(self) -> None:
        secret = Path(self.folder.name) / "secret"
        secret.write_bytes(b"right\n")
        self.accounts("add", "ci", "--password-file", str(secret))
        secret.write_bytes(b"\xef\xbb\xbfright\r\n")
        ci = self.client("ci", "--password-file", str(secret))
        self.assertEqual(self.said(ci, "/who"), "1 here: ci")


class NoGuestsTests(ServerTestCase):
    options = ("--guests", "no")

    def test_nobody_comes_in_without_an_account(self) -> None:
        peer = Peer(self.port)
        self.addCleanup(peer.close)
        peer.send(b"REGISTER alice\n\n")
        self.assertTrue(peer.head().startswith(b"ERROR 106 "))
        peer = Peer(self.port)
        self.addCleanup(peer.close)
        peer.send(b"REGISTER TOSEND alice\n\n")
        self.assertEqual(peer.rest(), b"ERROR 101 No user registered\n\n")
