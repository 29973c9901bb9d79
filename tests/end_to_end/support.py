"""Real processes for tests: a server run by twistd, clients run by python -m, blocking sockets.

All functions wait for an event (a line, an answer, an exit), and fail if it does not happen within
``PATIENCE`` seconds; none sleeps.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import os
import queue
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.end_to_end.forks import ROOT, Fork

TWISTD = str(Path(sys.executable).with_name("twistd"))
FIRST_PORT = 10_000  # below are those of well-known services
SHARE = 500  # ports of each process that runs tests
PATIENCE = 120  # seconds; they only pass if something is broken

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # In a shell's background job, the processes started here would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ids = itertools.count(1)  # Ids of requests; a reconnecting user must not use one again


def environment(folder: str) -> dict[str, str]:
    """Return the environment of a process that runs the code of this tree and has its state in
    ``folder``.
    """
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "XDG_CONFIG_HOME": os.path.join(folder, "config"),
    }


class Process:
    """A process whose output is read line by line, so that it never blocks on a full pipe.

    ``twistd``, ``python -m`` and scripts in Python are forks, all else is started.
    """

    popen: Fork | subprocess.Popen[bytes]

    def __init__(self, *command: str, cwd: str) -> None:
        if command[0] in (TWISTD, sys.executable) and command[1] not in ("-c", "-W"):
            self.popen = Fork(command, cwd=cwd, env=environment(cwd))
        else:
            self.popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment(cwd),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        self.out: list[str] = []
        self.err: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self._new_errors: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=of, daemon=True)
            for of in (
                (self.popen.stdout, self.out, self._new),
                (self.popen.stderr, self.err, self._new_errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines: list[str], new: queue.Queue[str | None]) -> None:
        for raw in stream:
            line = raw.decode().rstrip("\n")
            lines.append(line)
            new.put(line)
        new.put(None)

    def write(self, text: str) -> None:
        self.popen.stdin.write(text.encode())
        self.popen.stdin.flush()

    def end_input(self) -> None:
        self.popen.stdin.close()

    def next_line(self, *, error: bool = False) -> str:
        """Return the next line of standard output, or of standard error."""
        line = (self._new_errors if error else self._new).get(timeout=PATIENCE)
        if line is None:
            raise AssertionError(f"the process ended: {self.out} {self.err}")
        return line

    def wait_for(self, pattern: str, *, error: bool = False) -> re.Match[str]:
        """Wait for a line of standard output, or of standard error, that matches."""
        while True:
            if match := re.search(pattern, self.next_line(error=error)):
                return match

    def wait(self) -> int:
        """Wait for the end; return the exit code, for a signal as a shell reports it."""
        code = self.popen.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        self.popen.kill()
        self.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            stream.close()


def any_certificate() -> ssl.SSLContext:
    """Return the TLS context of a client that accepts every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Peer:
    """A client with a blocking socket, for raw bytes and frames.

    :ivar binding: the SHA-256 digest of the server's certificate; empty without TLS.
    :param tls: whether to use TLS.
    :param certificate: a file with the client's own certificate and its key; empty for none.
    :param window: the size of the receive buffer in bytes; 0 for the system's default.
    """

    def __init__(
        self,
        port: int,
        source: str = "127.0.0.1",
        *,
        tls: bool = False,
        window: int = 0,
        certificate: str = "",
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.binding = b""
        if tls:
            context = any_certificate()
            if certificate:
                context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket)
            self.binding = hashlib.sha256(self.socket.getpeercert(True)).digest()
        self.pending = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.pending += data
        return bool(data)

    def head(self) -> bytes:
        """Return the next frame without its body, including the empty line."""
        while b"\n\n" not in self.pending:
            if not self._more():
                raise AssertionError(f"closed after {self.pending!r}")
        head, self.pending = self.pending.split(b"\n\n", 1)
        return head + b"\n\n"

    def frame(self) -> tuple[str, dict[str, str], bytes]:
        """Return the next frame of version 2: start line, headers by lower-case names, body."""
        start, *lines = self.head().decode().rstrip("\n").split("\n")
        headers = {}
        for line in lines:
            name, value = line.split(": ", 1)
            headers[name.lower()] = value
        length = int(headers.get("content-length", 0))
        while len(self.pending) < length:
            if not self._more():
                raise AssertionError("closed in a body")
        body, self.pending = self.pending[:length], self.pending[length:]
        return start, headers, body

    def rest(self) -> bytes:
        """Return all bytes until the server closes the connection."""
        while self._more():
            pass
        rest, self.pending = self.pending, b""
        return rest

    def end(self, data: bytes = b"") -> bytes:
        """Send ``data`` and end this side; return all bytes until the connection is closed or
        reset.
        """
        with contextlib.suppress(OSError):
            self.send(data)
            self.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            return self.rest()
        return self.pending

    def ask(self, start: str, *headers: str, body: str = "") -> tuple[str, dict[str, str], bytes]:
        """Send a request of version 2; return the answer. Frames before it are skipped."""
        id = str(next(ids))
        lines = [start, f"Id: {id}", *headers]
        if body:
            lines.append(f"Content-length: {len(body.encode())}")
        self.send(("\n".join(lines) + f"\n\n{body}").encode())
        while (frame := self.frame())[1].get("id") != id:
            pass
        return frame

    def register(self, name: str, *headers: str) -> dict[str, str]:
        """Register in version 2; return the headers of the answer."""
        lines = [f"REGISTER {name}", "Version: 2", *headers]
        self.send(("\n".join(lines) + "\n\n").encode())
        start, headers, _ = self.frame()
        assert start == f"REGISTERED {name}", start
        return headers

    def close(self) -> None:
        self.socket.close()


@cache
def _ports() -> Iterator[int]:
    """Return TCP ports, over and over, that no other process of tests in this network gets.

    Each process has a share of them, as long as it has a socket with the name of the share.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for start in range(FIRST_PORT, first - SHARE, SHARE):
        owner = socket.socket(socket.AF_UNIX)
        try:
            owner.bind(f"\0chat_twisted tests: ports from {start}")
        except OSError:
            owner.close()
        else:
            atexit.register(owner.close)
            return itertools.cycle(range(start, start + SHARE))
    raise AssertionError(f"all ports between {FIRST_PORT} and {first} belong to other tests")


def free_port() -> int:
    """Return a free TCP port that no connection gets, and no other test.

    If the system chose it, it could give it to any connection while a server is restarted.
    """
    for port in itertools.islice(_ports(), SHARE):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("all ports of these tests are used")


class ServerTestCase(unittest.TestCase):
    """Starts a server for each test.

    :cvar ssh_door: whether it has the SSH door, for which it makes keys and imports much: half a
        second for each start.
    """

    options: tuple[str, ...] = ()
    ssh_door = False

    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.state = Path(self.folder.name) / "state"
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start the server with the state of the one before."""
        self.server = self.process(
            TWISTD,
            "-n",
            "chatserver",
            "--listen",
            f"tcp:{self.port}:interface=127.0.0.1",
            "--state",
            str(self.state),
            *(() if self.ssh_door else ("--ssh", "no")),
            *self.options,
        )
        self.fingerprint = self.server.wait_for(r"fingerprint is (SHA256:\S+)")[1]
        self.server.wait_for(r"listening on 127\.0\.0\.1:")

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        self.server.popen.kill()
        self.server.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the server. It then processes everything that was sent meanwhile in one turn of its
        reactor, in the order of sending, and commits it together.
        """
        pid = self.server.popen.pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def process(self, *command: str) -> Process:
        process = Process(*command, cwd=self.folder.name)
        self.addCleanup(process.close)
        return process

    def client(self, user: str, *options: str) -> Process:
        """Start the bundled client, with pipes as standard input and output."""
        return self.process(
            sys.executable,
            "-m",
            "chat_twisted.client",
            user,
            "127.0.0.1",
            "--port",
            str(self.port),
            *(() if "--plain" in options else ("--fingerprint", self.fingerprint)),
            *options,
        )

    def admin(self, *arguments: str) -> Process:
        """Run the operator's command to its end."""
        state = ("--state", str(self.state))
        command = self.process(sys.executable, "-m", "chat_twisted.admin", *state, *arguments)
        command.wait()
        return command

    def accounts(self, *arguments: str) -> Process:
        """Run the operator's command for accounts to its end."""
        return self.admin("accounts", *arguments)

    def connect(self, source: str = "127.0.0.1", *, tls: bool = False, window: int = 0) -> Peer:
        peer = Peer(self.port, source, tls=tls, window=window)
        self.addCleanup(peer.close)
        return peer

    def came(self, user: str, times: int = 1) -> None:
        """Wait until the server has logged that ``user`` has come."""
        for _ in range(times):
            self.server.wait_for(rf"\b{user} came from")

    def assertNoTraceback(self) -> None:
        self.assertNotIn("Traceback", "\n".join(self.server.out + self.server.err))


class Daemon:
    """A server that runs as a daemon, found by the process ID in its lock file."""

    def __init__(self, state: Path) -> None:
        self.pid = int((state / "lock").read_text())
        self._handle = os.pidfd_open(self.pid)

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._handle, number)

    def wait(self) -> None:
        """Wait until it has ended."""
        if not select.select([self._handle], [], [], PATIENCE)[0]:
            raise AssertionError(f"the daemon {self.pid} goes on")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.wait()
        os.close(self._handle)


class DaemonTestCase(unittest.TestCase):
    """Starts servers by ``twistd`` without ``-n``, in a folder of their own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.state = self.folder / "state"

    def run_command(self, *command: str, **more) -> tuple[int, str]:
        """Run a command to its end; return its exit code and standard error. One of the package's
        modules is a fork.
        """
        if command[:2] == (sys.executable, "-m") and not more:
            process = Process(*command, cwd=str(self.folder))
            process.end_input()
            code = process.wait()
            process.close()
            return code, "".join(f"{line}\n" for line in process.err)
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment(str(self.folder)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **more,
        )
        return done.returncode, done.stderr

    def start(self, *options: str, twistd: tuple[str, ...] = ()) -> tuple[int, str]:
        """Start a daemon; return the exit code and the standard error of the command."""
        state = ("--state", str(self.state), "--ssh", "no")
        return self.run_command(TWISTD, *twistd, "chatserver", *state, *options)

    def daemon(self, *options: str, twistd: tuple[str, ...] = ()) -> Daemon:
        """Start a daemon, and check that it serves."""
        listen = () if "--listen" in options else ("--listen", "tcp:0:interface=127.0.0.1")
        self.assertEqual(self.start(*options, *listen, twistd=twistd), (0, ""))
        return self.adopt()

    def adopt(self) -> Daemon:
        """Return the daemon that was started, and end it after the test."""
        daemon = Daemon(self.state)
        self.addCleanup(daemon.close)
        return daemon

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}
