"""The page about backups, as somebody follows it at night: every command of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

from tests.end_to_end.support import (
    PATIENCE,
    ROOT,
    Daemon,
    DaemonTestCase,
    Peer,
    environment,
    free_port,
)

PAGE = ROOT / "docs" / "backup.rst"


class PageTests(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        (self.folder / "venv").symlink_to(sys.prefix)
        (self.folder / "safe").mkdir()
        (self.folder / "backups").mkdir()
        self.port = free_port()
        self.daemons: list[Daemon] = []
        self.server()

    def shell(self, command: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=environment(str(self.folder)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def works(self, command: str) -> str:
        """Run a command of the page, and see that it says nothing is wrong; return what it says."""
        if "twistd" in command:
            command += f" --listen tcp:{self.port}:interface=127.0.0.1"
        code, out, err = self.shell(command)
        self.assertEqual((code, err), (0, ""), command)
        if command.startswith("kill"):
            self.daemons[-1].wait()
        if "twistd" in command:
            daemon = Daemon(self.state)
            self.addCleanup(daemon.close)
            self.daemons.append(daemon)
        return out

    def server(self) -> None:
        self.works("venv/bin/twistd --logfile chat.log chatserver --state state")

    def say(self, *texts: str) -> None:
        peer = Peer(self.port)
        with contextlib.closing(peer.socket):
            peer.register("alice")
            for text in texts:
                self.assertTrue(peer.ask("SEND ALL", body=text)[0].startswith("SENT"))
            peer.send(b"QUIT\n\n")
            peer.rest()

    def history(self) -> list[str]:
        peer = Peer(self.port)
        texts = []
        with contextlib.closing(peer.socket):
            peer.register("alice")
            peer.send(b"HISTORY ALL\nId: 1\n\nQUIT\n\n")
            while not (frame := peer.frame())[0].startswith("HISTORY"):
                texts.append(frame[2].decode())
            peer.rest()
        return texts

    def test_every_command_of_the_page_does_what_it_says(self) -> None:
        commands = re.findall(r"^ {4}(\S.*)$", PAGE.read_text(), re.MULTILINE)
        self.assertGreater(len(commands), 12)
        backed_up, night, kept, good, read, stop, put_back, start, well, *rest = commands
        self.say("first")
        self.assertRegex(self.works(backed_up), r"^monday\.sqlite: sound, 1 messages, the newest ")
        self.say("second")
        cron = night.removeprefix("0 3 * * * cd /srv/chat && ").replace("\\%", "%")
        self.assertNotEqual(cron, night)
        self.works(cron)
        self.assertEqual(len(os.listdir(self.folder / "backups")), 1)
        self.works(kept)
        self.assertEqual(self.works(good), "sound\n")
        self.assertEqual(self.works(read).count("\n"), 1)

        code, _, error = self.shell(put_back)  # too early
        self.assertEqual(code, 2)
        self.assertIn("another server uses it", error)
        self.works(stop)
        self.assertEqual((self.state / "lock").read_text(), "")
        self.assertIn("chat.sqlite-replaced-1 now", self.works(put_back))
        self.works(start)
        self.assertEqual(self.works(well), "sound\n")
        self.assertEqual(self.history(), ["first"])
        self.say("third")
        for command in rest[:3]:  # it was the wrong one
            self.works(command)
        self.assertEqual(self.history(), ["first", "second"])

        for command in rest[3:]:
            self.works(command)
        self.assertEqual(
            (self.folder / "new" / "certificate.pem").read_bytes(),
            (self.state / "certificate.pem").read_bytes(),
        )
        self.works(stop)
        self.state = self.folder / "new"
        self.works(start.replace("--state state", "--state new"))
        self.assertEqual(self.history(), ["first"])


class WhileItRunsTests(DaemonTestCase):
    def test_restored_by_force_with_the_log_of_the_newer_one_there(self) -> None:
        """A server that was killed has left its log; restore takes that away."""
        listen = ("--listen", "unix:socket")
        daemon = self.daemon(*listen)
        self.say("first")
        archive = (sys.executable, "-m", "chat_twisted.admin")
        state = ("--state", str(self.state))
        self.assertEqual(self.run_command(*archive, "backup", "b", *state), (0, ""))
        self.say("second")
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        self.assertGreater((self.state / "chat.sqlite-wal").stat().st_size, 0)
        self.assertEqual(self.run_command(*archive, "restore", "b", *state), (0, ""))
        self.assertEqual(self.run_command(*archive, "check", "b"), (0, ""))
        daemon = self.daemon(*listen)
        self.assertEqual(self.run_command(*archive, "check", *state), (0, ""))
        self.say("third")

    def say(self, text: str) -> None:
        with socket.socket(socket.AF_UNIX) as local:
            local.settimeout(PATIENCE)
            local.connect(str(self.folder / "socket"))
            name = text.encode()
            local.sendall(b"REGISTER %b\nVersion: 2\n\n" % name)
            self.assertIn(b"REGISTERED", local.recv(4096))
            local.sendall(b"SEND ALL\nId: 1\nContent-length: %d\n\n%b" % (len(name), name))
            self.assertIn(b"SENT", local.recv(4096))
