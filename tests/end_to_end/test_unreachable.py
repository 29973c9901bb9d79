"""A server whose storage can't serve for a while, or can't go on."""

from __future__ import annotations

import signal
import sys

from tests.end_to_end.support import Peer, ServerTestCase

PROGRAM = """
import signal

from chat_twisted import storage_choice
from chat_twisted.state_folder import EmbeddedStorage


class Storage(EmbeddedStorage):
    # Each signal makes the next thing happen.
    def watch(self, watcher):
        from twisted.internet import reactor

        steps = iter(
            [
                watcher.reachable,
                lambda: watcher.unreachable("the log does not answer"),
                watcher.reachable,
                lambda: watcher.broken("messages are missing in the log"),
            ]
        )
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(next(steps)))
        print("watched", flush=True)


storage_choice.open_storage = Storage

from twisted.scripts.twistd import run

run()
"""


class UnreachableTests(ServerTestCase):
    def start(self) -> None:
        state = ("--state", str(self.state), "--ssh", "no")
        listen = ("--listen", f"tcp:{self.port}:interface=127.0.0.1")
        arguments = ("-n", "chatserver", *listen, *state)
        self.server = self.process(sys.executable, "-c", PROGRAM, *arguments)
        self.server.wait_for("watched")

    def step(self) -> None:
        self.server.popen.send_signal(signal.SIGUSR1)

    def is_accepted(self) -> bool:
        peer = Peer(self.port)
        self.addCleanup(peer.close)
        try:
            peer.register("somebody")
        except (OSError, AssertionError):  # closed at once
            return False
        peer.send(b"QUIT\n\n")
        peer.rest()
        return True

    def test_it_accepts_clients_only_while_its_storage_is_reachable(self) -> None:
        self.assertFalse(self.is_accepted())
        self.step()
        self.server.wait_for("listening on")
        alice = self.connect()
        alice.register("alice")
        self.step()
        bye = b"BYE The server can't serve now: the log does not answer\n\n"
        self.assertEqual(alice.rest(), bye)
        self.server.wait_for("accepting no connections: the log does not answer")
        self.assertFalse(self.is_accepted())
        self.step()
        self.server.wait_for("accepting connections again")
        self.assertTrue(self.is_accepted())
        self.server.popen.terminate()
        self.assertEqual(self.server.wait(), 143)
        self.assertNoTraceback()

    def test_it_stops_with_status_1_when_it_can_not_go_on(self) -> None:
        self.step()
        self.server.wait_for("listening on")
        alice = self.connect()
        alice.register("alice")
        alice.send(b"SEND ALL\nContent-length: 2\n\nhi")
        self.assertIn(b"SENT ALL", alice.head())
        self.step()
        self.server.wait_for("accepting no connections")
        self.step()
        self.server.wait_for("accepting connections again")
        bob = self.connect()
        bob.register("bob")
        self.step()
        self.assertEqual(bob.rest(), b"BYE The server is stopping\n\n")
        self.assertEqual(self.server.wait(), 1)
        reasons = [line for line in self.server.out if "the server stops: " in line]
        self.assertEqual(len(reasons), 1)
        self.assertTrue(reasons[0].endswith("messages are missing in the log"), reasons)
        self.assertEqual((self.state / "lock").read_text(), "")
        self.assertNoTraceback()
