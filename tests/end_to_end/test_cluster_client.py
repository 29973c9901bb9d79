"""The bundled client with two nodes of a cluster: it goes on at the other one."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path

from tests.end_to_end.support import TWISTD, Process, free_port
from tests.nats import NatsServer

COUNT = 20  # messages of each kind


class ClusterClientTests(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.nats = NatsServer(Path(self.folder) / "nats")
        self.addCleanup(self.nats.kill)
        self.nats.start()
        self.nodes: dict[str, Process] = {}
        self.ports: dict[str, int] = {}
        for name, action in (("a", "init"), ("b", "join")):
            state = str(Path(self.folder) / name)
            bundle = ("cluster", action, str(Path(self.folder) / "bundle"))
            admin = self.run_module("chat_twisted.admin", *bundle, "--state", state)
            self.assertEqual(admin.wait(), 0, admin.err)
            self.ports[name] = free_port()
            self.nodes[name] = self.process(
                TWISTD,
                *("-n", "--pidfile=", "chatserver", "--ssh", "no", "--limits", "off"),
                *("--listen", f"tcp:{self.ports[name]}:interface=127.0.0.1", "--state", state),
                *("--cluster", self.nats.url, "--node", name),
            )
            self.nodes[name].wait_for("listening on")

    def process(self, *command: str) -> Process:
        process = Process(*command, cwd=self.folder)
        self.addCleanup(process.close)
        return process

    def run_module(self, name: str, *arguments: str) -> Process:
        return self.process(sys.executable, "-m", name, *arguments)

    def client(self, user: str, *nodes: str) -> Process:
        """Start a client that knows these nodes."""
        hosts = [part for node in nodes for part in ("--host", f"127.0.0.1:{self.ports[node]}")]
        client = self.run_module("chat_twisted.client", user, *hosts, "--json")
        self.next(client, "registered")
        return client

    def next(self, client: Process, event: str) -> dict[str, str]:
        """The next event of this kind; others before it are skipped."""
        while (record := json.loads(client.next_line()))["event"] != event:
            pass
        return record

    def moved_to(self, client: Process, node: str) -> list[str]:
        """Wait until a client is at another node; return the messages that came before."""
        texts = []
        while (record := json.loads(client.next_line()))["event"] != "reconnected":
            self.assertNotEqual(record["event"], "over")
            if record["event"] == "message":
                texts.append(record["text"])
        self.assertEqual(record["host"], f"127.0.0.1:{self.ports[node]}")
        return texts

    def say(self, client: Process, to: str, what: str) -> None:
        """Let a client send ``COUNT`` messages."""
        lines = [json.dumps({"to": to, "text": f"{what} {n}"}) for n in range(COUNT)]
        client.write("\n".join(lines) + "\n")

    def heard(self, client: Process, *said: str) -> None:
        """Check that these, and no others, are the next messages of a client, in this order."""
        expected = [f"{what} {n}" for what in said for n in range(COUNT)]
        self.assertEqual([self.next(client, "message")["text"] for _ in expected], expected)

    def test_at_the_other_node_nothing_is_missing_and_nothing_comes_twice(self) -> None:
        alice, bob = self.client("alice", "a", "b"), self.client("bob", "b", "a")
        self.say(bob, "alice", "before")
        self.heard(alice, "before")
        self.say(bob, "alice", "meanwhile")
        self.say(alice, "bob", "from alice")  # without waiting for the answers
        self.nodes["a"].popen.kill()
        self.say(bob, "alice", "after")
        back = self.moved_to(alice, "b")
        self.say(bob, "alice", "at last")
        self.assertEqual(back, [f"meanwhile {n}" for n in range(len(back))])
        said = [f"{what} {n}" for what in ("meanwhile", "after", "at last") for n in range(COUNT)]
        rest = said[len(back) :]
        self.assertEqual([self.next(alice, "message")["text"] for _ in rest], rest)
        self.heard(bob, "from alice")
        for client, other in ((alice, bob), (bob, alice)):
            client.write(json.dumps({"to": "ALL", "text": "the end"}) + "\n")
            self.assertEqual(self.next(other, "message")["text"], "the end")

    def test_a_node_that_stops_hands_its_clients_to_the_other(self) -> None:
        alice, bob = self.client("alice", "a", "b"), self.client("bob", "b", "a")
        self.nodes["a"].popen.terminate()
        lost = self.next(alice, "disconnected")
        self.assertEqual(lost["reason"], "The server is stopping")
        self.assertEqual(self.moved_to(alice, "b"), [])
        self.say(alice, "bob", "from b")
        self.heard(bob, "from b")
        alice.end_input()
        self.assertEqual(alice.wait(), 0)
