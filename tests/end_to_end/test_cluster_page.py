"""The page about clusters, as somebody follows it: two nodes on one machine; files for NATS."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tests.end_to_end.support import ROOT, TWISTD, Peer, Process, free_port

PAGE = ROOT / "docs" / "cluster.rst"
NATS_SERVER = str(Path(sys.executable).with_name("nats-server"))

PROGRAMS = {
    "venv/bin/nats-server": NATS_SERVER,
    "venv/bin/twistd": TWISTD,
    "venv/bin/python": sys.executable,
}


def blocks(title: str, end: str) -> list[str]:
    """Return the literal blocks of a section of the page, without their indentation."""
    section = PAGE.read_text().partition(f"\n{title}\n")[2].partition(end)[0]
    found = re.findall(r"::\n\n((?: {4}.*\n|\n(?= {4}))+)", section)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in found]


class TrialTests(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.ports = {port: str(free_port()) for port in ("4222", "8828", "8829")}

    def run_command(self, command: str) -> Process:
        """Run a command of the page, with free ports instead of its own."""
        for port, free in self.ports.items():
            command = re.sub(rf"\b{port}\b", free, command)
        program, *arguments = shlex.split(command)
        process = Process(PROGRAMS[program], *arguments, cwd=self.folder)
        self.addCleanup(process.close)
        return process

    def run_nodes(self, *commands: str) -> list[Process]:
        """Run the commands of nodes, and wait until they serve clients."""
        nodes = [self.run_command(f"{command} --ssh no") for command in commands]
        for node in nodes:
            node.wait_for(r"listening on 127\.0\.0\.1:")
        return nodes

    def peer(self, port: str, name: str) -> Peer:
        peer = Peer(int(self.ports[port]), tls=True)
        self.addCleanup(peer.close)
        peer.register(name)
        return peer

    def interrupt(self, node: Process) -> None:
        node.popen.send_signal(signal.SIGINT)
        self.assertEqual(node.wait(), 130)

    def test_the_commands_start_two_nodes_that_are_one_chat_and_have_one_certificate(self) -> None:
        text = "".join(blocks("On one machine, to try it", "\n\n\n"))
        _, log, first, second, status, init, join = text.splitlines()
        self.run_command(log)
        nodes = self.run_nodes(first, second)
        alice, bob = self.peer("8828", "alice"), self.peer("8829", "bob")
        self.assertNotEqual(alice.binding, bob.binding)
        self.assertTrue(alice.ask("SEND bob", body="hi")[0].startswith("SENT"))
        while not (frame := bob.frame())[0].startswith("FORWARD"):
            pass
        self.assertEqual(frame[2], b"hi")

        shown = self.run_command(status)
        self.assertEqual(shown.wait(), 0, shown.err)
        for name in "ab":
            self.assertRegex("\n".join(shown.out), rf"(?m)^{name} member position=\d+ ")

        made = self.run_command(init)
        self.assertEqual(made.wait(), 0, made.err)
        early = self.run_command(join)
        self.assertEqual(early.wait(), 2)
        self.assertIn("another server uses it", early.err[0])
        for node in nodes:
            self.interrupt(node)
        shutil.rmtree(Path(self.folder, "b"))
        joined = self.run_command(join)
        self.assertEqual((joined.wait(), joined.out), (0, made.out[:-1]))
        nodes = self.run_nodes(first, second)
        carol, dora = self.peer("8828", "carol"), self.peer("8829", "dora")
        self.assertEqual(carol.binding, dora.binding)
        self.interrupt(nodes[0])
        self.assertTrue(dora.ask("SEND ALL", body="still here")[0].startswith("SENT"))


class NatsTests(unittest.TestCase):
    @unittest.skipUnless(shutil.which("openssl"), "needs openssl")
    def test_the_file_for_the_servers_is_accepted_with_certificates_that_are_made_as_it_says(
        self,
    ) -> None:
        configuration, certificates, *_ = blocks("NATS\n....", "\nOne certificate\n")
        with tempfile.TemporaryDirectory() as folder:
            for command in certificates.replace("\\\n", "").splitlines():
                self.run_in(folder, *shlex.split(command))
            # Python is as strict from version 3.13 on.
            self.run_in(
                folder, *shlex.split("openssl verify -x509_strict -CAfile ca.pem nats1.pem")
            )
            Path(folder, "nats.conf").write_text(configuration.replace("/var/lib", folder))
            self.run_in(folder, NATS_SERVER, "-t", "-c", "nats.conf")

    def run_in(self, folder: str, *command: str) -> None:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout)
