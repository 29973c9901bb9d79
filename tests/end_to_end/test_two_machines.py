"""Server and client on two machines with a wire between them: what a network gets to see.

The machines are network namespaces inside a user namespace, so nobody need be root. They have no
names and are gone with the processes that hold them.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
import unittest
from pathlib import Path

from tests.end_to_end.support import PATIENCE, TWISTD, Process

SERVER, CLIENT = "10.88.28.1", "10.88.28.2"  # to each other alone

# Ends with its input; its process id is what the namespaces are entered by.
HOLD = ("sh", "-c", "echo held && exec cat")

LISTEN_IN = """
import socket, sys

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("wire", 0))
print("listening", flush=True)
sys.stdin.readline()
wire.setblocking(False)
heard = b""
try:
    while True:
        heard += wire.recv(65536)
except BlockingIOError:
    pass
for word in sys.argv[1:]:
    print(word, "heard" if word.encode() in heard else "not heard", flush=True)
"""

SPEAK_PLAINLY = """
import socket, sys

for name in sys.argv[2:]:
    with socket.create_connection((sys.argv[1], 8828), 30) as peer:
        peer.sendall(f"REGISTER {name}\\n\\n".encode())
        print(repr(peer.makefile().read()), flush=True)
"""

USE_THE_ORIGINAL_CLIENT = """
from tests.end_to_end.original import Original

dave = Original(8828, "dave")
dave.register()
print("registered", flush=True)
print(*dave.hear(), flush=True)
print(repr(dave.send("carol", "from loopback")), flush=True)
"""

STAY = """
import sys
from tests.end_to_end.original import Original

erin = Original(8828, sys.argv[2], sys.argv[1])
erin.register()
print("registered", flush=True)
sys.stdin.read()
"""


class TwoMachinesTests(unittest.TestCase):
    def setUp(self) -> None:
        missing = [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]
        if missing:
            self.skipTest(f"no two machines without {' and '.join(missing)}")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        new = ("unshare", "--user", "--map-root-user", "--net")
        self.here = self.hold(*new)
        user = ("nsenter", "--target", self.here, "--user", "--preserve-credentials")
        self.there = self.hold(*user, "unshare", "--net")
        self.ip(self.here, "link add wire type veth peer name wire netns " + self.there)
        for machine, address in ((self.here, SERVER), (self.there, CLIENT)):
            self.ip(machine, f"address add {address}/30 dev wire")
            self.ip(machine, "link set wire up")
            self.ip(machine, "link set lo up")

    def hold(self, *command: str) -> str:
        """Make a machine; return by which process it is entered."""
        holder = self.process(*command, *HOLD)
        try:
            holder.wait_for("held")
        except AssertionError:
            holder.wait()
            self.skipTest(f"no two machines: {' '.join(holder.err)}")
        return str(holder.popen.pid)

    def process(self, *command: str) -> Process:
        process = Process(*command, cwd=self.folder)
        self.addCleanup(process.close)
        return process

    def run_on(self, machine: str, *command: str) -> Process:
        enter = ("nsenter", "--target", machine, "--user", "--net", "--preserve-credentials")
        return self.process(*enter, *command)

    def await_addresses(self, machine: str) -> None:
        """Wait until the system has found that nobody else has the addresses of ``machine``."""
        show_tentative = ("ip", "-6", "address", "show", "dev", "wire", "tentative")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            show = self.run_on(machine, *show_tentative)
            self.assertEqual(show.wait(), 0)
            if not show.out:
                return
        self.fail(f"the addresses of {machine} are tentative for {PATIENCE} s")

    def ip(self, machine: str, command: str) -> None:
        process = self.run_on(machine, "ip", *command.split())
        self.assertEqual((process.wait(), process.err), (0, []), command)

    def python(self, machine: str, script: str, *arguments: str) -> Process:
        return self.run_on(machine, sys.executable, "-c", script, *arguments)

    def client(self, user: str, *options: str) -> Process:
        command = (sys.executable, "-m", "chat_twisted.client", user, SERVER, *options)
        return self.run_on(self.there, *command)

    def test_the_network_sees_nothing_and_plain_text_is_for_loopback(self) -> None:
        state = str(Path(self.folder) / "state")
        server = self.run_on(self.here, TWISTD, "-n", "chatserver", "--state", state)
        fingerprint = server.wait_for(r"fingerprint is (\S+)")[1]
        server.wait_for(r"listening on 0\.0\.0\.0:8828")
        words = ("carol", "across", "from loopback", "mallory")
        spy = self.python(self.there, LISTEN_IN, *words)
        spy.wait_for("listening")

        dave = self.python(self.here, USE_THE_ORIGINAL_CLIENT)
        dave.wait_for("registered")
        carol = self.client("carol")
        carol.write("@dave: across\n")
        self.assertEqual(dave.next_line(), "carol across")
        self.assertEqual(dave.next_line(), r"'SEND carol\n\n'")
        said = [carol.next_line() for _ in range(2)]
        self.assertEqual(sorted(said), ["Message delivered to dave", "dave: from loopback"])
        carol.end_input()
        self.assertEqual(carol.wait(), 0)
        new = f"{SERVER}:8828 is new here. Its fingerprint is {fingerprint}"
        self.assertEqual(carol.err, [new])
        server.wait_for(f"carol came from {CLIENT}:")

        plain = self.python(self.there, SPEAK_PLAINLY, SERVER, "mallory", "TOSEND mallory")
        for _ in range(2):
            self.assertEqual(plain.next_line(), r"'ERROR 113 Encryption required\n\n'")
        mallory = self.client("mallory", "--plain")
        self.assertEqual(mallory.wait(), 2)
        self.assertEqual(mallory.err, ["ERROR 113 : Encryption required : mallory"])

        spy.end_input()
        heard = [spy.next_line() for _ in words]
        self.assertEqual(heard, [f"{word} not heard" for word in words[:3]] + ["mallory heard"])
        self.assertNotIn("Traceback", "\n".join(server.out + server.err))

    def test_the_line_that_the_server_logs_brings_somebody_in_from_the_other_machine(self) -> None:
        state = str(Path(self.folder) / "state")
        server = self.run_on(self.here, TWISTD, "-n", "chatserver", "--state", state)
        server.wait_for("other machines need TCP port 8828: a firewall must let it through")
        logged = server.wait_for(r": chat-twisted NAME (\S+) (--fingerprint \S+)$")
        self.assertEqual(logged[1], socket.gethostname())
        # The other machine does not know that name.
        bob = self.client("bob", *logged[2].split(), "--once", "@ALL: hello")
        self.assertEqual((bob.wait(), bob.out), (0, ["Message delivered to ALL"]), bob.err)
        self.assertEqual(bob.err, [])
        server.wait_for(f"bob came from {CLIENT}:")

    def test_a_machine_that_vanishes_leaves_its_names_soon(self) -> None:
        state = str(Path(self.folder) / "state")
        options = ("--state", state, "--idle", "2", "--plaintext", "anywhere")
        server = self.run_on(self.here, TWISTD, "-n", "chatserver", *options)
        server.wait_for(r"listening on 0\.0\.0\.0:8828")
        for name in ("erin", "fred"):
            self.python(self.there, STAY, SERVER, name).wait_for("registered")
        alice = self.run_on(
            self.here, sys.executable, "-m", "chat_twisted.client", "alice", "127.0.0.1"
        )
        server.wait_for("alice came")
        self.ip(self.there, "link set wire down")
        # Something waits to be acknowledged by fred's machine, nothing by erin's.
        alice.write("@fred: are you there?\n")
        gone = {server.wait_for(rf"(erin|fred) went from {CLIENT}:")[1] for _ in range(2)}
        self.assertEqual(gone, {"erin", "fred"})

    def test_a_server_is_found_by_its_address_on_one_link_alone(self) -> None:
        state = str(Path(self.folder) / "state")
        listen = ("--listen", "tcp6:8828:interface=\\:\\:")
        server = self.run_on(self.here, TWISTD, "-n", "chatserver", "--state", state, *listen)
        server.wait_for("listening on")
        link = self.run_on(self.here, "ip", "-6", "address", "show", "dev", "wire")
        local = link.wait_for(r"inet6 (fe80\S+)/")[1]
        address = f"[{local}%wire]:8828"
        self.await_addresses(self.there)
        command = (
            sys.executable,
            "-m",
            "chat_twisted.client",
            f"carol@{address}",
            "--once",
            "/who",
        )
        carol = self.run_on(self.there, *command)
        self.assertEqual((carol.wait(), carol.out), (0, ["1 here: carol"]), carol.err)
        self.assertIn(f"{address} is new here", carol.err[0])
        command = (sys.executable, "-m", "chat_twisted.client", "carol", f"{local}%none")
        carol = self.run_on(self.there, *command)
        self.assertEqual((carol.wait(), carol.err), (2, [f"host not found: {local}%none"]))
