"""A server under a service manager: what it says, and the socket that it is given."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from tests.end_to_end.support import PATIENCE, TWISTD, Peer, environment

PASS_ON = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Starts a program with a descriptor, as the service manager does."""


class ServiceManagerTests(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.settimeout(PATIENCE)
        self.manager.bind(f"{self.folder}/notify")
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=10)
        self.addCleanup(self.socket.close)
        self.port = self.socket.getsockname()[1]

    def start(self) -> subprocess.Popen[bytes]:
        """Start a server with the socket, and wait until it is ready."""
        number = self.socket.fileno()
        command = ("-n", "chatserver", "--ssh", "no", "--state", f"{self.folder}/state")
        server = subprocess.Popen(
            [sys.executable, "-c", PASS_ON, str(number), TWISTD, *command],
            cwd=self.folder,
            env={
                **environment(self.folder),
                "LISTEN_FDS": "1",
                "LISTEN_FDNAMES": "chatserver.socket",
                "NOTIFY_SOCKET": f"{self.folder}/notify",
                "WATCHDOG_USEC": "200000",
            },
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.wait_for("READY=1")
        return server

    def wait_for(self, line: str) -> None:
        """Wait until the server says something."""
        while line not in self.manager.recv(4096).decode().split("\n"):
            pass

    def connect(self) -> Peer:
        peer = Peer(self.port)
        self.addCleanup(peer.close)
        return peer

    def test_it_says_how_it_is_and_its_clients_wait_while_it_is_started_again(self) -> None:
        server = self.start()
        alice = self.connect()
        alice.register("alice")
        self.wait_for("WATCHDOG=1")
        server.send_signal(signal.SIGHUP)
        self.wait_for("RELOADING=1")
        self.wait_for("READY=1")
        server.terminate()
        self.wait_for("STOPPING=1")
        self.assertEqual(server.wait(PATIENCE), -signal.SIGTERM)
        alice.rest()

        bob = self.connect()
        bob.send(b"REGISTER bob\nVersion: 2\n\n")
        self.start()
        self.assertEqual(bob.frame()[0], "REGISTERED bob")
