"""NATS servers and nodes on machines of their own, which can be killed, frozen and cut off.

The program that uses this must have been started by ``machines.alone``. Nothing here waits for
a server or a node: who uses it asks until it answers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.end_to_end.forks import ROOT
from tests.end_to_end.machines import Bridge, Disk, Machine
from tests.end_to_end.support import TWISTD

NATS_SERVER = shutil.which("nats-server") or str(Path(sys.executable).with_name("nats-server"))
CLIENT_PORT, ROUTE_PORT, CHAT_PORT = 4222, 6222, 8828
SERVER, NODE = 20, 10  # the last parts of addresses begin here
STREAM = "chat"
DISK = 256  # MiB
ELECTED = re.compile(r"^\[\d+\] (\S+ \S+) \[INF\] JetStream cluster new stream leader", re.M)


class Program:
    """A program on a machine of its own with a disk of its own, which is started again and again;
    its output is in one file.
    """

    def __init__(self, name: str, folder: Path, machine: Machine) -> None:
        self.name = name
        self.folder = folder
        self.machine = machine
        self.disk = Disk(folder / name, DISK)
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.may_end = False  # whether it is expected to end by itself

    def run(self, *command: str) -> None:
        self.may_end = False
        with self.machine.inside(), open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )

    def start(self) -> None:
        raise NotImplementedError

    def signal(self, number: int) -> None:
        self.may_end = number not in (signal.SIGSTOP, signal.SIGCONT)
        if self.process is not None:
            self.process.send_signal(number)

    def ended(self) -> int | None:
        """Return the exit status, or None if it runs."""
        return 0 if self.process is None else self.process.poll()

    def end(self) -> None:
        """Kill it and wait for its end."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        """Kill it, and take its machine away."""
        self.end()
        self.machine.close()
        self.disk.close()

    def said(self, begin: int = 0) -> str:
        """Return its output from a byte on."""
        with open(self.log, "rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")


class Server(Program):
    """A NATS server.

    :param others: how many servers there are in all.
    """

    def __init__(self, number: int, count: int, folder: Path, nats: Bridge, routes: Bridge) -> None:
        machine = Machine(SERVER + number, nats, routes)
        super().__init__(f"s{number}", folder, machine)
        self.address = f"{nats.network}.{SERVER + number}"
        self.options = ["--addr", "0.0.0.0", "--port", str(CLIENT_PORT), "--jetstream"]
        self.options += [
            "--logtime_utc",
            "--store_dir",
            str(self.disk.folder),
            "--server_name",
            self.name,
        ]
        if count > 1:
            hosts = [f"nats://{routes.network}.{SERVER + n}:{ROUTE_PORT}" for n in range(count)]
            self.options += ["--cluster_name", "cluster", "--cluster", hosts[number]]
            self.options += ["--routes", ",".join(hosts), "--no_advertise"]

    def start(self) -> None:
        self.run(NATS_SERVER, *self.options)


class Node(Program):
    """A chat server.

    :param servers: the addresses of the NATS servers; empty for a single server.
    :param label: its name for the cluster, if that is another one than here.
    """

    def __init__(
        self,
        number: int,
        folder: Path,
        bridges: tuple[Bridge, ...],
        servers: list[str],
        label: str = "",
    ) -> None:
        super().__init__(f"n{number}", folder, Machine(NODE + number, *bridges))
        self.address = f"{bridges[0].network}.{NODE + number}"
        self.state = self.disk.folder
        self.archive = self.state / "chat.sqlite"
        listen = f"tcp:{CHAT_PORT}:interface={self.address}"
        self.options = ["--state", str(self.state), "--listen", listen, "--plaintext", "anywhere"]
        self.options += ["--limits", "off", "--ssh", "no"]
        if servers:
            urls = ",".join(f"nats://{address}:{CLIENT_PORT}" for address in servers)
            self.options += ["--cluster", urls, "--node", label or self.name]

    def start(self) -> None:
        self.run(TWISTD, "-n", "--pidfile=", "chatserver", *self.options)

    def admin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the operator's command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "chat_twisted.admin", *arguments, "--state", str(self.state)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )


class Cluster:
    """All servers and nodes.

    :ivar front: the network of the chat's clients.
    :ivar nats: that of servers and nodes.
    :ivar routes: that of the servers alone.
    :param servers: how many NATS servers; 0 for one node that needs none.
    """

    def __init__(self, folder: Path, servers: int, nodes: int) -> None:
        self.front = Bridge("front", "10.80.0")
        self.nats = Bridge("nats", "10.81.0")
        self.routes = Bridge("routes", "10.82.0")
        self.servers = [Server(n, servers, folder, self.nats, self.routes) for n in range(servers)]
        self.folder = folder
        self.bundle = folder / "bundle"
        self.nodes: list[Node] = []
        for number in range(nodes):
            self.nodes.append(self.node(number))

    def node(self, number: int, label: str = "") -> Node:
        """Make a node that shows the same certificate as the others; it is not started."""
        bridges = (self.front, self.nats) if self.servers else (self.front,)
        addresses = [server.address for server in self.servers]
        node = Node(number, self.folder, bridges, addresses, label)
        if self.servers:
            done = node.admin("cluster", "join" if self.nodes else "init", str(self.bundle))
            assert not done.returncode, done.stderr
        return node

    def request(
        self, subject: str, data: object = None, server: Server | None = None
    ) -> dict[str, Any]:
        """Ask by the protocol of JetStream's API.

        :param server: who is asked; None for the first that answers.
        :raises OSError: if there is no answer.
        """
        request = json.dumps(data).encode()
        for each in self.servers if server is None else [server]:
            with suppress(OSError), socket.create_connection((each.address, CLIENT_PORT), 2) as to:
                return json.loads(_request(to, f"$JS.API.{subject}", request))
        raise TimeoutError(f"no server has answered {subject}")

    def stream(self) -> dict[str, Any]:
        """Return what the servers say about the stream."""
        return self.request(f"STREAM.INFO.{STREAM}")

    def leader(self) -> Server | None:
        """Return the server that leads the stream; None if there is none now."""
        if len(self.servers) == 1:
            return self.servers[0]
        try:
            name = self.stream().get("cluster", {}).get("leader")
        except OSError:
            return None
        return next((server for server in self.servers if server.name == name), None)

    def leading(self) -> float:
        """Return for how many seconds the stream has had its leader."""
        times = [time for server in self.servers for time in ELECTED.findall(server.said())]
        if not times:
            return float("inf")
        last = datetime.strptime(max(times), "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC)
        return (datetime.now(UTC) - last).total_seconds()

    def is_whole(self) -> bool:
        """Return whether each server agrees that one leads the stream and all others follow."""
        if len(self.servers) < 2:
            return True
        leaders = set()
        for server in self.servers:
            try:
                info = self.request(f"STREAM.INFO.{STREAM}", server=server)["cluster"]
            except (OSError, KeyError):
                return False
            leaders.add(info.get("leader"))
            others = info.get("replicas", [])
            if len(others) < len(self.servers) - 1 or not all(each["current"] for each in others):
                return False
        return len(leaders) == 1 and None not in leaders

    def purge(self) -> None:
        """Delete everything that the stream has, as an operator can do by mistake."""
        answer = self.request(f"STREAM.PURGE.{STREAM}")
        assert answer.get("success"), answer

    def limit(self, spare: int | None) -> None:
        """Let the stream have so many bytes more than it has, or as many as it needs."""
        stream = self.stream()
        size = -1 if spare is None else stream["state"]["bytes"] + spare
        answer = self.request(
            f"STREAM.UPDATE.{STREAM}",
            {**stream["config"], "max_bytes": size},
        )
        assert "error" not in answer, answer

    def close(self) -> None:
        for program in (*self.nodes, *self.servers):
            program.close()
        for bridge in (self.front, self.nats, self.routes):
            bridge.close()


def _request(to: socket.socket, subject: str, data: bytes) -> bytes:
    """Send a request on a new connection to a NATS server; return the answer."""
    file = to.makefile("rwb")
    file.readline()  # INFO
    file.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB inbox 1\r\n')
    file.write(f"PUB {subject} inbox {len(data)}\r\n".encode() + data + b"\r\n")
    file.flush()
    while line := file.readline():
        verb, *words = line.split()
        if verb == b"PING":
            file.write(b"PONG\r\n")
            file.flush()
        elif verb == b"MSG":
            return file.read(int(words[-1]))
        elif verb == b"HMSG":  # no responders
            raise OSError(file.read(int(words[-1])).decode())
    raise OSError("closed")
