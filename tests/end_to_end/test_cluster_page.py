"""The first part of the page about clusters, as somebody follows it: two nodes on one machine."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import tempfile
import unittest
from pathlib import Path

from tests.end_to_end.support import ROOT, TWISTD, Peer, Process, free_port

PAGE = ROOT / "docs" / "cluster.rst"

PROGRAMS = {
    "venv/bin/nats-server": str(Path(sys.executable).with_name("nats-server")),
    "venv/bin/twistd": TWISTD,
    "venv/bin/python": sys.executable,
}


class PageTests(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.ports = {port: str(free_port()) for port in ("4222", "8828", "8829")}

    def commands(self) -> list[str]:
        """Return the commands of the section, without the one that installs."""
        section = PAGE.read_text().partition("\nOn one machine, to try it\n")[2]
        section = section.partition("\n\n\n")[0]
        _, *commands = re.findall(r"^ {4}(\S.*)$", section, re.MULTILINE)
        return commands

    def bundle_commands(self) -> list[str]:
        """Return the commands that make a bundle, and that use it."""
        return re.findall(
            r"^ {4}(venv/.* cluster (?:init|join) .*)$", PAGE.read_text(), re.MULTILINE
        )

    def run_command(self, command: str) -> Process:
        """Run a command of the page, with free ports instead of its own."""
        for port, free in self.ports.items():
            command = re.sub(rf"\b{port}\b", free, command)
        program, *arguments = shlex.split(command)
        process = Process(PROGRAMS[program], *arguments, cwd=self.folder)
        self.addCleanup(process.close)
        return process

    def peer(self, port: str, name: str) -> Peer:
        peer = Peer(int(self.ports[port]), tls=True)
        self.addCleanup(peer.close)
        peer.register(name)
        return peer

    def test_three_commands_start_two_nodes_that_are_one_chat(self) -> None:
        log, first, second, status = self.commands()
        self.run_command(log)
        nodes = [self.run_command(f"{node} --ssh no") for node in (first, second)]
        for node in nodes:
            node.wait_for(r"listening on 127\.0\.0\.1:")
        alice, bob = self.peer("8828", "alice"), self.peer("8829", "bob")
        self.assertTrue(alice.ask("SEND bob", body="hi")[0].startswith("SENT"))
        while not (frame := bob.frame())[0].startswith("FORWARD"):
            pass
        self.assertEqual(frame[2], b"hi")

        shown = self.run_command(status)
        self.assertEqual(shown.wait(), 0, shown.err)
        for name in "ab":
            self.assertRegex("\n".join(shown.out), rf"(?m)^{name} member position=\d+ ")

        init, join = self.bundle_commands()
        made = self.run_command(f"{init} --state a")
        self.assertEqual(made.wait(), 0, made.err)
        early = self.run_command(f"{join} --state b")
        self.assertEqual(early.wait(), 2)
        self.assertIn("another server uses it", early.err[0])
        joined = self.run_command(f"{join} --state c")
        self.assertEqual((joined.wait(), joined.out), (0, made.out[:-1]))

        nodes[0].popen.send_signal(signal.SIGINT)
        self.assertEqual(nodes[0].wait(), 130)
        self.assertTrue(bob.ask("SEND ALL", body="still here")[0].startswith("SENT"))
        self.peer("8829", "alice2")
