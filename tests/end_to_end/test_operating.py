"""The options of an operator: a file of options, SIGHUP, --check, and what the log has."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.end_to_end.irc import IRCPeer
from tests.end_to_end.support import (
    PATIENCE,
    TWISTD,
    DaemonTestCase,
    Peer,
    Process,
    ServerTestCase,
    environment,
    free_port,
)
from tests.nats import NatsServer

SECRETS = {
    "message": "the-fox-jumps-over",
    "password": "hunter22-of-alice",
    "wrong": "hunter33-of-nobody",
    "token": "",
}
"""Texts that must not be in a log; the server makes the token."""


class LogTests(ServerTestCase):
    """All that users say, and everything by which they log in, stays out of the log."""

    def start(self) -> None:
        self.audit = Path(self.folder.name) / "audit"
        self.server = self.process(
            *(TWISTD, "-n", "chatserver", "--listen", f"tcp:{self.port}:interface=127.0.0.1"),
            *("--state", str(self.state), "--ssh", "no", "--log", "-", "--log-format", "json"),
            *("--log-level", "debug", "--audit", str(self.audit)),
        )
        self.event("listening")

    def event(self, name: str) -> dict[str, object]:
        """Return the next event with a name."""
        while (found := json.loads(self.server.next_line(error=True)))["event"] != name:
            pass
        return dict(found)

    def irc(self) -> IRCPeer:
        peer = IRCPeer(self.port, tls=True)
        self.addCleanup(peer.close)
        return peer

    def test_no_text_token_or_password_is_in_the_log(self) -> None:
        message, password, wrong = (SECRETS[name] for name in ("message", "password", "wrong"))
        alice = self.connect(tls=True)
        token = alice.register("alice")["session"]
        alice.ask("ACCOUNT register", body=password)
        self.assertEqual(self.event("login")["user"], "alice")
        alice.ask("SEND ALL", body=message)
        alice.ask("SEND bob", body=message)
        alice.ask("AWAY", body=message)
        bob = self.connect()
        bob.send(f"REGISTER bob\nVersion: 2\nSession: {message}\n\n".encode())
        bob.frame()
        failing = self.connect(tls=True)
        failing.ask("REGISTER alice", "Version: 2")
        failing.ask("AUTH password", body=wrong)
        self.assertEqual(self.event("login-failed")["name"], "alice")
        login = self.connect(tls=True)
        login.ask("REGISTER alice", "Version: 2")
        login.ask("AUTH password", body=password)
        resumed = self.connect(tls=True)
        resumed.send(f"REGISTER alice\nVersion: 2\nSession: {token}\n\n".encode())
        resumed.frame()
        for secret in (password, wrong):
            peer = self.irc()
            peer.say("CAP REQ sasl", "NICK alice", "USER alice 0 * :x", "AUTHENTICATE PLAIN")
            peer.until("AUTHENTICATE +")
            response = base64.b64encode(f"\0alice\0{secret}".encode()).decode()
            peer.say(f"AUTHENTICATE {response}", f"PASS {secret}", secret, f"{secret} {secret}")
            peer.until(" 90")
            peer.say(f"PRIVMSG ALL :{message}", f"TOPIC #x :{message}", f"QUIT :{message}")
            peer.rest()
        for number, text in enumerate(
            (f"SEND ALL\nId: 9{message}\n\n", f"SEND {message} {message}\n\n", f"{message}\n\n")
        ):
            broken = self.connect()
            broken.register(f"broken{number}")
            broken.end(text.encode())
            self.connect().end(text.encode())
        self.assertEqual(self.admin("kick", "bob").err, [])
        self.server.popen.send_signal(signal.SIGTERM)
        self.server.wait()
        lines = self.server.err
        audit = self.audit.read_text().splitlines()
        for line in (*lines, *audit, *self.server.out):
            for secret in (message, password, wrong, token, response):
                self.assertNotIn(secret, line)
                self.assertNotIn(secret.encode().hex(), line)
        events = [json.loads(line)["event"] for line in lines]
        self.assertNotIn("fault", events)
        self.assertNotIn("audit", events)
        [kicked] = map(json.loads, audit)
        self.assertEqual(
            {name: kicked[name] for name in ("event", "by", "action", "subject")},
            {"event": "audit", "by": "admin", "action": "kick", "subject": "bob"},
        )


class JournalTests(DaemonTestCase):
    def test_the_journal_gets_a_priority_with_each_line(self) -> None:
        reader, writer = os.pipe()
        found = os.fstat(writer)
        journal = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        server = subprocess.Popen(
            [
                *(TWISTD, "-n", "--pidfile=", "chatserver", "--log", "-", "--ssh", "no"),
                *("--listen", "tcp:0:interface=127.0.0.1", "--state", str(self.state)),
            ],
            cwd=self.folder,
            env={**environment(str(self.folder)), **journal},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writer,
        )
        self.addCleanup(server.wait, PATIENCE)
        self.addCleanup(server.kill)
        os.close(writer)
        with os.fdopen(reader) as lines:
            while " listening " not in (line := next(lines)):
                self.assertRegex(line, r"^<6>info [a-z-]+ ")
            peer = Peer(int(line.rpartition(":")[2]))
            self.addCleanup(peer.close)
            peer.register("alice")
            server.terminate()
            last = list(lines)
        for line in last:
            self.assertRegex(line, r"^<6>info [a-z-]+ ")
        self.assertIn("<6>info login alice came", "".join(last))


class FileTests(DaemonTestCase):
    """A daemon with a file of options."""

    def write(self, text: str) -> None:
        (self.folder / "chat.toml").write_text(text)

    def setUp(self) -> None:
        super().setUp()
        self.port = free_port()
        self.write(self.text())

    def text(self, *lines: str) -> str:
        listen = f'listen = "tcp:{self.port}:interface=127.0.0.1"'
        return "\n".join((listen, 'log = "chat.log"', 'state = "state"', "ssh = false", *lines))

    def run_server(self, *options: str) -> tuple[int, str]:
        return self.run_command(TWISTD, "chatserver", "--config", "chat.toml", *options)

    def answer(self, name: str) -> str:
        peer = Peer(self.port)
        self.addCleanup(peer.close)
        return peer.ask(f"REGISTER {name}", "Version: 2")[0]

    def follow_log(self) -> Process:
        follow = Process("tail", "-F", "-n", "+1", "chat.log", cwd=str(self.folder))
        self.addCleanup(follow.close)
        return follow

    def test_a_signal_takes_over_what_has_changed_and_nobody_is_dropped(self) -> None:
        daemon = self.daemon_of_the_file()
        alice = Peer(self.port)
        self.addCleanup(alice.close)
        alice.register("alice")
        log = self.follow_log()
        self.write(self.text("guests = false", "max-clients = 7", 'messages = "9:90"'))
        daemon.signal(signal.SIGHUP)
        log.wait_for("warn restart-needed --max-clients has changed")
        log.wait_for("info option-changed --guests is now no")
        log.wait_for("info option-changed --messages is now 9:90")
        log.wait_for("info certificate ")
        self.assertTrue(self.answer("bob").startswith("ERROR 106"))
        self.assertTrue(alice.ask("WHO")[0].startswith("WHO"))
        self.write(self.text("guests = true", "gusts = 5"))
        daemon.signal(signal.SIGHUP)
        log.wait_for(r"error reload-failed the options stay .*chat\.toml:6: gusts is not an option")
        self.write(self.text("guests = true"))
        daemon.signal(signal.SIGHUP)
        log.wait_for("info option-changed --guests is now yes")
        self.assertEqual(self.answer("carol"), "REGISTERED carol")
        self.write(self.text("guests = false"))
        daemon.signal(signal.SIGHUP)
        log.wait_for("info option-changed --guests is now no")
        (self.folder / "chat.log").rename(self.folder / "old.log")
        daemon.signal(signal.SIGHUP)
        log.wait_for("info certificate ")
        daemon.signal(signal.SIGTERM)
        daemon.wait()
        self.assertNotIn("fault", (self.folder / "chat.log").read_text())

    def daemon_of_the_file(self):
        self.assertEqual(self.run_server(), (0, ""))
        return self.adopt()

    def test_mistakes_in_the_file_are_told_with_their_lines_and_nothing_is_made(self) -> None:
        self.write(self.text("gusts = false", "idle = 0"))
        code, error = self.run_server()
        self.assertEqual(code, 1)
        self.assertRegex(error, r"chat\.toml:5: gusts is not an option\n.*:6: idle is a whole")
        self.assertEqual(self.names(), {"chat.toml"})

    def test_a_check_says_what_is_wrong_and_makes_nothing(self) -> None:
        code, error = self.run_server("--check")
        self.assertEqual(code, 0, error)
        self.assertRegex(error, "note: .*state will be made\nchatserver: nothing is wrong\n$")
        self.assertEqual(self.names(), {"chat.toml"})
        with socket.create_server(("127.0.0.1", self.port)):
            code, error = self.run_server("--check")
        self.assertEqual(code, 1)
        self.assertIn(f"can't listen on tcp:{self.port}:interface=127.0.0.1: Address", error)
        nats = ("--cluster", f"nats://127.0.0.1:{self.port}", "--node", "a")
        code, error = self.run_server("--check", *nats)
        self.assertEqual(code, 1)
        self.assertTrue(re.search("chatserver: --cluster: .", error), error)
        self.assertEqual(self.names(), {"chat.toml"})

    def test_a_check_beside_a_running_server(self) -> None:
        self.daemon_of_the_file()
        code, error = self.run_server("--check")
        self.assertEqual(code, 0, error)
        self.assertIn("a server uses the state folder", error)
        self.assertEqual(self.answer("alice"), "REGISTERED alice")


class NodeTests(unittest.TestCase):
    """Two nodes of a cluster, each with a file of options."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.nats = NatsServer(self.folder / "nats")
        self.addCleanup(self.nats.kill)
        self.nats.start()
        self.ports = {"a": free_port(), "b": free_port()}

    def write(self, name: str, *lines: str) -> None:
        listen = f'listen = "tcp:{self.ports[name]}:interface=127.0.0.1"'
        cluster = f'cluster = "{self.nats.url}"\nnode = "{name}"\nstate = "{name}"\nssh = false'
        (self.folder / f"{name}.toml").write_text("\n".join((listen, cluster, *lines)))

    def run_node(self, name: str, *options: str) -> Process:
        command = (TWISTD, "-n", "--pidfile=", "chatserver", "--config", f"{name}.toml", *options)
        process = Process(*command, cwd=str(self.folder))
        self.addCleanup(process.close)
        return process

    def check(self, name: str) -> str:
        checked = self.run_node(name, "--check")
        self.assertEqual(checked.wait(), 0, checked.err)
        return "\n".join(checked.err)

    def answer(self, name: str, user: str) -> str:
        peer = Peer(self.ports[name])
        self.addCleanup(peer.close)
        return peer.ask(f"REGISTER {user}", "Version: 2")[0]

    def test_a_rule_that_is_changed_on_one_node_is_changed_on_all(self) -> None:
        self.write("a")
        self.write("b")
        for _ in range(2):
            self.assertIn("there is no log yet", self.check("a"))
        a = self.run_node("a")
        a.wait_for("listening on")
        self.assertNotIn("note: --cluster", self.check("b"))
        b = self.run_node("b")
        b.wait_for("listening on")
        self.assertEqual(self.answer("b", "bob"), "REGISTERED bob")
        self.write("a", "guests = false")
        a.popen.send_signal(signal.SIGHUP)
        a.wait_for("option-changed --guests is now no")
        alice = Peer(self.ports["a"])  # her request comes after the change in the order
        self.addCleanup(alice.close)
        self.assertTrue(alice.ask("REGISTER alice", "Version: 2")[0].startswith("ERROR 106"))
        self.assertTrue(self.answer("b", "carol").startswith("ERROR 106"))
        b.popen.send_signal(signal.SIGHUP)  # its file says otherwise, and has not changed
        b.wait_for("certificate's fingerprint")
        self.assertTrue(self.answer("b", "dora").startswith("ERROR 106"))
