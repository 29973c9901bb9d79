"""The operator's command beside a running server, over its control socket."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from unittest import mock

from chat_twisted import files, reaching
from tests.end_to_end.support import PATIENCE, TWISTD, Peer, ServerTestCase


class AdminTestCase(ServerTestCase):
    @contextlib.contextmanager
    def asking(self) -> Iterator[reaching.Ask]:
        """What the command asks the server by, without a process of its own."""
        with reaching.reach(self.state, self.fail) as (ask, runs):
            self.assertTrue(runs)
            yield ask

    def user(self, name: str, *headers: str) -> tuple[Peer, str]:
        """Somebody of version 2, and their token."""
        peer = self.connect()
        return peer, peer.register(name, *headers)["session"]


class AccountTests(AdminTestCase):
    def hash(self, who: str) -> str:
        """What stands for the hash of somebody's password."""
        import argon2

        return argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(who)

    def log_in(self, name: str, password: str) -> str:
        """Log in by a password; return how the answer begins."""
        peer = self.connect(tls=True)
        peer.send(f"REGISTER {name}\nVersion: 2\n\n".encode())
        self.assertTrue(peer.head().startswith(b"ERROR 106 "))
        body = password.encode()
        peer.send(f"AUTH password\nContent-length: {len(body)}\n\n".encode() + body)
        return peer.head().decode().partition("\n")[0]

    def test_an_account_that_is_added_while_a_guest_registers_it_is_one_of_theirs(self) -> None:
        """Whoever is told that it is theirs has it, and still has it after a restart."""
        owners = {}
        with self.asking() as ask:
            for number in range(8):
                name = f"bob{number}"
                guest = self.connect(tls=True)
                register = f"REGISTER {name}\nVersion: 2\n\n"
                account = "ACCOUNT register\nId: 1\nContent-length: 5\n\nguest"
                outcome: list[str] = []

                def add(name: str = name, outcome: list[str] = outcome) -> None:
                    try:
                        ask("add account", name=name, key="", hash=self.hash("admin"))
                        outcome.append("added")
                    except reaching.Refused as refusal:
                        outcome.append(str(refusal))

                adding = threading.Thread(target=add)
                steps = [adding.start, lambda g=guest, r=register: g.send(r.encode())]
                for step in steps if number % 2 else reversed(steps):
                    step()
                first = guest.head().decode()
                if first.startswith("REGISTERED"):
                    guest.send(account.encode())
                    self.assertTrue(guest.head().startswith(b"ACCOUNT register"))
                adding.join(PATIENCE)
                if first.startswith("REGISTERED"):
                    self.assertIn("is the name of somebody", outcome[0])
                    owners[name] = "guest"
                else:
                    self.assertTrue(first.startswith(("ERROR 105", "ERROR 106")), first)
                    self.assertEqual(outcome, ["added"])
                    owners[name] = "admin"
        for restart in (False, True):
            if restart:
                self.kill()
                self.start()
            for name, owner in owners.items():
                self.assertEqual(self.log_in(name, owner), f"REGISTERED {name}")
        self.assertNoTraceback()

    def test_a_removed_account_ends_its_sessions_and_its_tokens_are_worth_nothing(self) -> None:
        alice, token = self.user("alice")
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
        start, _, _ = alice.ask("ACCOUNT register", f"Key: {key}")
        self.assertEqual(start, "ACCOUNT register")
        self.assertEqual(self.accounts("remove", "ALICE").wait(), 0)
        start, headers, _ = alice.frame()
        self.assertEqual((start, headers["final"]), ("BYE the account was removed", "yes"))
        self.user("alice")  # anybody
        thief = self.connect()
        thief.send(f"REGISTER alice\nVersion: 2\nSession: {token}\n\n".encode())
        self.assertTrue(thief.head().startswith(b"ERROR 105"))
        self.assertEqual(self.accounts("list").out, [])


class ModerationTests(AdminTestCase):
    ssh_door = True

    def test_the_operator_kicks_mutes_bans_and_pardons(self) -> None:
        bob, _ = self.user("bob")
        self.assertEqual(self.admin("mute", "bob", "--for", "1h").wait(), 0)
        self.assertTrue(bob.ask("SEND ALL", body="x")[0].startswith("ERROR 111"))
        self.assertEqual(self.admin("kick", "bob", "--reason", "too loud").wait(), 0)
        self.assertIn(b"Kicked by admin: too loud", bob.rest())
        self.server.wait_for("audit: admin kick bob")
        self.assertEqual(self.admin("ban", "127.0.0.0/8").wait(), 0)
        out = self.admin("sanctions").out
        self.assertEqual((len(out), out[0]), (2, "ban 127.0.0.0/8 until ever by admin"))
        self.assertTrue(self.connect().end(b"REGISTER bob\nVersion: 2\n\n").startswith(b"ERROR"))
        for subject in ("127.0.0.0/8", "bob"):
            self.assertEqual(self.admin("pardon", subject).wait(), 0)
        bob, _ = self.user("bob")
        self.assertTrue(bob.ask("SEND ALL", body="x")[0].startswith("SENT"))

    def test_the_status_tells_who_is_here(self) -> None:
        alice, _ = self.user("alice")
        alice.ask("SEND ALL", body="x")
        command = self.admin("status", "--json")
        found = json.loads(command.out[0])
        self.assertEqual(command.err, [])
        self.assertEqual(found["connections"], {"plain version 2": 1})
        self.assertEqual((found["users"], found["messages"], found["running"]), (1, 1, True))
        self.assertEqual(found["process"], self.server.popen.pid)
        certificate = found["certificate"]
        self.assertEqual(
            (certificate["fingerprint"], certificate["vouched"]), (self.fingerprint, False)
        )
        logged = "\n".join(self.server.out)
        for client in ("weechat", "irssi"):
            self.assertRegex(logged, rf"for {client} \(\w+\) {certificate[client]}")
        lines = self.admin("status").out
        self.assertIn(f"certificate  {self.fingerprint}", lines)
        self.assertIn(f"for weechat  {certificate['weechat']}", lines)
        for key in found["host_keys"]:
            self.assertIn(f"the host key's fingerprint is {key}", logged)
            self.assertIn(" ".join(key.split()), "\n".join(lines))
        self.assertEqual(len(found["host_keys"]), 2)

    def test_the_status_tells_how_far_behind_everybody_is(self) -> None:
        alice, _ = self.user("alice")
        bob, _ = self.user("bob", "Instance: one")
        for text in "abc":
            alice.ask("SEND ALL", body=text)
        alice.ask("SEND bob", body="d")
        numbers = [int(bob.frame()[1]["message"]) for _ in range(4)]
        bob.send(f"RECEIVED alice\nMessage: {numbers[1]}\n\n".encode())
        bob.ask("WHO")  # which is answered after that
        lines = self.admin("status", "--users").out
        self.assertEqual(
            lines[-2:],
            [
                "alice guest sessions=1 from=127.0.0.1 behind=0",
                "bob guest sessions=1 from=127.0.0.1 behind=2",
            ],
        )
        found = json.loads(self.admin("status", "--users", "--json").out[0])["here"]
        self.assertEqual(
            [(user["name"], user["behind"]) for user in found], [("alice", 0), ("bob", 2)]
        )


class EndTests(AdminTestCase):
    def test_when_the_server_was_killed_the_command_works_on_the_files(self) -> None:
        self.kill()
        self.assertTrue((self.state / files.CONTROL).is_socket())
        self.assertEqual(self.admin("ban", "bob").wait(), 0)
        self.start()
        self.assertEqual(self.admin("sanctions").out, ["ban bob until ever by admin"])
        self.server.popen.send_signal(signal.SIGTERM)
        self.server.wait()
        self.assertFalse((self.state / files.CONTROL).exists())
        self.assertNoTraceback()

    def test_a_server_that_does_not_answer_is_waited_for_for_so_long(self) -> None:
        self.server.popen.send_signal(signal.SIGSTOP)
        self.addCleanup(self.server.popen.send_signal, signal.SIGCONT)
        with (
            mock.patch.object(reaching, "ANSWER_WITHIN", 0.2),
            self.assertRaisesRegex(reaching.NoAnswer, r"\(process \d+\) has not answered within"),
            self.asking() as ask,
        ):
            ask("status")

    def test_a_start_that_fails_leaves_no_socket_and_says_why(self) -> None:
        self.kill()
        control = self.state / files.CONTROL
        for listen, reason in (
            ("unix:/nowhere/x", "can't listen on unix:/nowhere/x: No such file"),
            ("tcp:0:interface=127.0.0.1", f"{control}: not a socket"),
        ):
            if "not a socket" in reason:
                control.mkdir()
            server = self.process(
                TWISTD, "-n", "chatserver", "--listen", listen, "--state", str(self.state)
            )
            self.assertEqual((server.wait(), len(server.err)), (1, 1), server.err)
            self.assertIn(reason, server.err[0])
            self.assertEqual(control.exists(), control.is_dir())


class HostileTests(AdminTestCase):
    def local(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.settimeout(PATIENCE)
        peer.connect(str(self.state / files.CONTROL))
        return peer

    def test_whoever_is_silent_talks_nonsense_or_too_much_keeps_nobody_out(self) -> None:
        silent = [self.local() for _ in range(100)]
        nonsense = self.local()
        nonsense.sendall(b"GET / HTTP/1.1\r\n\r\n" * 5)
        self.assertIn(b"refused", nonsense.recv(4096))
        loud = self.local()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                loud.sendall(b"x" * 65536)
            self.fail("it was read on")
        deaf = self.local()
        deaf.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:  # until the server reads no more
                deaf.sendall(b'{"ask": "status"}\n' * 1000)
        with self.asking() as ask:
            self.assertEqual(ask("status")["users"], 0)
        self.assertEqual(silent[0].recv(1), b"")  # the oldest made room
        self.assertNoTraceback()

    def test_fifty_commands_at_once_are_all_done(self) -> None:
        problems: list[Exception] = []

        def ban(number: int) -> None:
            try:
                with self.asking() as ask:
                    ask("ban", subject=f"user{number}", duration="", reason="")
            except Exception as problem:  # noqa: BLE001  it must be seen by the test
                problems.append(problem)

        threads = [threading.Thread(target=ban, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(problems, [])
        self.assertEqual(len(self.admin("sanctions").out), 50)
