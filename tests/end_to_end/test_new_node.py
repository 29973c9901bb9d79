"""A new node of a cluster: the copy of another node's archive, by itself and by hand, or none."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nats
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.storage import archive, index, maintenance, offering
from chat_twisted.storage.nats import NatsLog
from tests.copying import fill, indexed, texts
from tests.end_to_end.support import TWISTD, Peer, Process, ServerTestCase, environment, free_port
from tests.nats import NatsServer


async def forget_the_beginning(url: str) -> None:
    """Purge the log, as the nodes do now and then."""
    client = await nats.connect(url)
    try:
        stream = client.jetstream()
        info = await stream.stream_info("chat")
        await stream.purge_stream("chat", seq=info.state.last_seq)
    finally:
        await client.close()


class NewNodeTests(ServerTestCase):
    """Nodes over one NATS server; each has a folder of its name."""

    def setUp(self) -> None:
        self.log = NatsServer(Path(tempfile.mkdtemp()))
        self.addCleanup(shutil.rmtree, self.log.folder)
        self.addCleanup(self.log.kill)
        self.ports = {name: free_port() for name in "ab"}
        super().setUp()

    def start(self) -> None:
        """Each test starts the nodes that it needs."""

    def launch(self, name: str, *, alone: bool = False) -> Process:
        """Start a node, or a single server, without waiting."""
        listen = ("--listen", f"tcp:{self.ports[name]}:interface=127.0.0.1")
        state = ("--state", str(self.folder_of(name)), "--ssh", "no")
        cluster = () if alone else ("--cluster", self.log.url, "--node", name)
        return self.process(TWISTD, "-n", "--pidfile=", "chatserver", *listen, *state, *cluster)

    def node(self, name: str, *, alone: bool = False) -> Process:
        """Start a node, and wait until it serves."""
        process = self.launch(name, alone=alone)
        process.wait_for("listening on")
        return process

    def folder_of(self, name: str) -> Path:
        return Path(self.folder.name) / name

    def stop(self, process: Process) -> None:
        process.popen.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 128 + signal.SIGTERM)  # as twistd ends
        self.assertNotIn("Traceback", "\n".join(process.out + process.err))

    def user(self, node: str, name: str) -> Peer:
        peer = Peer(self.ports[node])
        self.addCleanup(peer.close)
        peer.register(name)
        return peer

    def say(self, node: str, name: str, *texts: str) -> None:
        peer = self.user(node, name)
        for text in texts:
            self.assertTrue(peer.ask("SEND ALL", body=text)[0].startswith("SENT"))
        peer.send(b"QUIT\n\n")
        peer.rest()

    def history(self, node: str, name: str) -> list[str]:
        peer = self.user(node, name)
        peer.send(b"HISTORY ALL\nId: 1\n\nQUIT\n\n")
        found = []
        while not (frame := peer.frame())[0].startswith("HISTORY"):
            found.append(frame[2].decode())
        peer.rest()
        return found

    def admin_of(self, node: str, *arguments: str) -> Process:
        self.state = self.folder_of(node)
        return self.admin(*arguments)

    def test_it_copies_the_archive_of_a_node_that_runs(self) -> None:
        self.log.start()
        first = self.node("a")
        self.say("a", "alice", "one", "two")
        asyncio.run(forget_the_beginning(self.log.url))
        second = self.node("b")
        self.assertIn("copying the archive of node a", second.err[0])
        self.assertEqual(self.history("b", "bob"), ["one", "two"])
        self.say("b", "bob", "three")
        self.assertEqual(self.history("a", "alice"), ["one", "two", "three"])
        self.assertEqual(self.admin_of("b", "check").out, ["sound"])
        for process in (first, second):
            self.stop(process)
        again = self.node("b")
        self.assertEqual(again.err, [])
        self.assertEqual(self.history("b", "bob"), ["one", "two", "three"])

    def test_it_copies_what_a_single_server_has_brought_into_the_cluster(self) -> None:
        alone = self.node("a", alone=True)
        self.say("a", "alice", "one", "two")
        self.stop(alone)
        self.log.start()
        self.node("a")
        self.say("a", "alice", "three")
        second = self.node("b")
        self.assertIn("copying the archive of node a", second.err[0])
        self.assertEqual(self.history("b", "bob"), ["one", "two", "three"])

    def test_it_replays_a_log_that_has_everything(self) -> None:
        self.log.start()
        self.node("a")
        self.say("a", "alice", "one", "two")
        second = self.node("b")
        self.assertEqual(second.err, [])
        self.assertEqual(self.history("b", "bob"), ["one", "two"])

    def test_a_backup_that_is_restored_there_is_as_good_as_a_copy(self) -> None:
        self.log.start()
        self.node("a")
        self.say("a", "alice", "one", "two")
        asyncio.run(forget_the_beginning(self.log.url))
        backup = str(Path(self.folder.name) / "backup.sqlite")
        self.assertEqual(self.admin_of("a", "backup", backup).wait(), 0)
        self.say("a", "alice", "three")
        self.assertEqual(self.admin_of("b", "restore", backup).wait(), 0)
        second = self.node("b")
        self.assertEqual(second.err, [])
        self.assertEqual(self.history("b", "bob"), ["one", "two", "three"])

    def test_the_archive_of_a_single_server_can_not_join_others(self) -> None:
        alone = self.node("b", alone=True)
        self.say("b", "bob", "mine")
        self.stop(alone)
        self.log.start()
        self.node("a")
        process = self.launch("b")
        self.assertEqual(process.wait(), 1)
        [line] = process.err
        self.assertIn("can't join a cluster", line)
        self.assertIn("move ", line)

    def test_it_waits_for_a_log_that_does_not_answer(self) -> None:
        process = self.launch("a")
        process.wait_for("waiting for the cluster's log: ", error=True)
        self.log.start()
        process.wait_for("listening on")
        self.assertEqual(len(process.err), 1)


ASK = """
import sys
from pathlib import Path

from chat_twisted.storage import copying, joining
from chat_twisted.storage.nats_peer import NatsPeer

copying.TRY_AFTER = 0.2
joining.prepare(Path(sys.argv[1]), lambda found: NatsPeer(sys.argv[2:]), print)
"""


class Asker(ProcessProtocol):
    """A process that copies. The test's own process is the node that is copied.

    :ivar ended: fires with the exit status, or minus the signal.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.output = ""
        self.ended: Deferred[int] = Deferred()
        command = [sys.executable, "-c", ASK, str(folder), url]
        env = environment(str(folder))
        self.process = reactor.spawnProcess(self, command[0], command, env)  # type: ignore[attr-defined]

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode()

    def errReceived(self, data: bytes) -> None:
        self.output += data.decode()

    def processEnded(self, reason: Failure) -> None:
        if reason.check(ProcessDone):
            self.ended.callback(0)
        else:
            assert isinstance(reason.value, ProcessTerminated)
            self.ended.callback(reason.value.exitCode or -reason.value.signal)


class CopyTests(TestCase):
    """A copy through a real NATS server, with misfortunes in the middle of it."""

    timeout = 100

    async def setUp(self) -> None:
        self.folders = [Path(tempfile.mkdtemp()).resolve() for _ in range(3)]
        for folder in self.folders:
            self.addCleanup(shutil.rmtree, folder)
        self.peer, self.folder, files = self.folders
        self.server = NatsServer(files)
        self.server.start()
        self.addCleanup(self.server.kill)
        self.patch(offering, "PIECE", 16_384)
        reactor_loop.use(reactor)
        self.log = NatsLog([self.server.url], reactor)
        self.addCleanup(reactor_loop.leave)
        self.addCleanup(self.log.close)
        self.log.start()
        last = (await self.log.bounds()).last  # it waits for the connection
        for _ in range(3):
            last = await self.log.append(b"a record")
        await self.log.purge(last)
        bounds = await self.log.bounds()
        fill(self.peer, 5000, applied=last, stream=bounds.identity)
        self.addCleanup(offering.Copies(self.peer, "peer", self.log, reactor).stop)
        self.pieces = 0
        self.meanwhile: dict[int, Callable[[], None]] = {}
        whole = offering._Copy.read

        def read(copy: Any, *which: Any) -> bytes:
            self.pieces += 1
            if then := self.meanwhile.pop(self.pieces, None):
                reactor.callFromThread(then)  # type: ignore[attr-defined]
            return whole(copy, *which)

        self.patch(offering._Copy, "read", read)

    def assertCopied(self, asker: Asker) -> None:
        self.assertIn("the copy is complete", asker.output)
        self.assertEqual(sorted(os.listdir(self.folder)), [archive.FILE, index.FILE])
        self.assertEqual(texts(self.folder), texts(self.peer))
        self.assertEqual(indexed(self.folder), 5000)
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])

    async def test_a_node_that_was_killed_while_it_copied_begins_anew(self) -> None:
        asker = Asker(self.folder, self.server.url)
        self.meanwhile[10] = lambda: asker.process.signalProcess("KILL")
        self.assertEqual(await asker.ended, -signal.SIGKILL)
        self.assertFalse((self.folder / archive.FILE).exists())
        asker = Asker(self.folder, self.server.url)
        self.assertEqual(await asker.ended, 0, asker.output)
        self.assertCopied(asker)

    async def test_a_copy_goes_on_when_the_nats_server_is_back(self) -> None:
        def restart() -> None:
            self.server.kill()
            self.server.start()

        asker = Asker(self.folder, self.server.url)
        self.meanwhile[10] = restart
        self.assertEqual(await asker.ended, 0, asker.output)
        self.assertCopied(asker)

    async def test_interrupting_it_is_one_line_and_leaves_nothing(self) -> None:
        asker = Asker(self.folder, self.server.url)
        self.meanwhile[10] = lambda: asker.process.signalProcess("INT")
        self.assertEqual(await asker.ended, 1)
        self.assertIn("interrupted before it was ready for the cluster", asker.output)
        self.assertEqual(os.listdir(self.folder), [])
