"""Starts a server for a benchmark, on a port of its own, and always ends it."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from chat_twisted.doors.tls import ensure  # noqa: E402

Address = tuple[str, int]

UNLIMITED = ("--limits", "off", "--max-clients", "100000")
"""Options that turn off all limits."""


class Server:
    """The process.

    :param folder: the folder for its state and its log.
    :param core: the processor core that it uses, if it exists; None for all.
    :param options: options of ``twistd chatserver``.
    :param files: its maximum number of open files; None for that of this process.
    :param tree: the project folder of the server.
    """

    def __init__(
        self,
        folder: str,
        core: int | None = None,
        options: Sequence[str] = UNLIMITED,
        files: int | None = None,
        tree: Path = root,
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address: Address = probe.getsockname()
        self.process = subprocess.Popen(
            self.command(folder, options), cwd=folder, env={**os.environ, "PYTHONPATH": str(tree)}
        )
        if files is not None:
            resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (files, files))
        if core is not None:
            with contextlib.suppress(OSError):  # there is no such core
                os.sched_setaffinity(self.process.pid, {core})

    def command(self, folder: str, options: Sequence[str]) -> list[str]:
        """Return the command line."""
        host, port = self.address
        return [
            *(str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "--logfile=log"),
            *("chatserver", "--state", folder, *options),
            *("--listen", f"tcp:{port}:interface={host}"),
        ]

    def wait(self) -> None:
        """Wait until the server accepts connections.

        :raises SystemExit: if it has ended; it has printed why.
        """
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(self.address, 60).close()
                break
            if self.process.poll() is not None:
                raise SystemExit("the server has ended")
            time.sleep(0.05)

    @property
    def processor_time(self) -> float:
        """The processor time of all its threads, in seconds."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def stop(self) -> None:
        """End the server as an operator does; kill it if it does not end."""
        stop(self.process)


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process by SIGTERM, or, if it does not end within 20 seconds, by SIGKILL."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Relay(Server):
    """The process of relay.py, which has neither options nor state."""

    def command(self, folder: str, options: Sequence[str]) -> list[str]:
        """See ``Server.command``."""
        program = Path(__file__).with_name("relay.py")
        return [sys.executable, str(program), self.endpoint(folder)]

    def endpoint(self, folder: str) -> str:
        """Return what it listens on, as Twisted writes that."""
        host, port = self.address
        return f"tcp:{port}:interface={host}"


class TLSRelay(Relay):
    """The same with TLS, by Twisted's own transport, with a certificate like the server's."""

    def endpoint(self, folder: str) -> str:
        """See ``Relay.endpoint``."""
        host, port = self.address
        certificate, key = ensure(Path(folder))
        return f"ssl:{port}:interface={host}:certKey={certificate}:privateKey={key}"


@contextlib.contextmanager
def server(
    folder: str | None = None,
    core: int | None = None,
    options: Sequence[str] = UNLIMITED,
    files: int | None = None,
    tree: Path = root,
    kind: type[Server] = Server,
) -> Iterator[Server]:
    """Run a server during a ``with`` statement; it also ends if a signal ends this process.

    :param folder: the folder with its state; None for an empty one.
    :param core, options, files, tree: as in ``Server``.
    :param kind: the class of the server.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        state = folder or stack.enter_context(tempfile.TemporaryDirectory())
        started = kind(state, core, options, files, tree)
        stack.callback(started.stop)
        started.wait()
        yield started


def read_arguments(purpose: str | None) -> None:
    """Parse the command line, which has only the option ``--help``; it prints ``purpose``."""
    argparse.ArgumentParser(
        description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
