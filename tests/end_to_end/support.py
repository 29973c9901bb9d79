"""Real processes for tests: a server by twistd, clients by python -m, and blocking sockets.

Everything waits for an event (a line, an answer, an exit) and fails when it does not come within
``PATIENCE`` seconds; nothing sleeps.
"""

from __future__ import annotations

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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30  # seconds; never waited for unless something is broken

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in a shell's background job: what is started from here would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ids = itertools.count(1)  # of requests: a user who comes back must not use one again


def environment(folder: str) -> dict[str, str]:
    """The environment of a process that runs this tree, whatever else is installed, and keeps what
    it remembers in ``folder``.
    """
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "XDG_CONFIG_HOME": os.path.join(folder, "config"),
    }


class Process:
    """A process whose output is read line by line, so that it never blocks on a full pipe."""

    def __init__(self, *command: str, cwd: str) -> None:
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
        self._readers = [
            threading.Thread(target=self._read, args=(self.popen.stdout, self.out), daemon=True),
            threading.Thread(target=self._read, args=(self.popen.stderr, self.err), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines: list[str]) -> None:
        for raw in stream:
            line = raw.decode().rstrip("\n")
            lines.append(line)
            if lines is self.out:
                self._new.put(line)
        if lines is self.out:
            self._new.put(None)

    def write(self, text: str) -> None:
        self.popen.stdin.write(text.encode())
        self.popen.stdin.flush()

    def end_input(self) -> None:
        self.popen.stdin.close()

    def next_line(self) -> str:
        """The next line of standard output."""
        line = self._new.get(timeout=PATIENCE)
        if line is None:
            raise AssertionError(f"the process ended: {self.out} {self.err}")
        return line

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read on until a line of standard output matches."""
        while True:
            if match := re.search(pattern, self.next_line()):
                return match

    def wait(self) -> int:
        """Wait for the end; return the exit code, which is for a signal what a shell has for it."""
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
    """TLS for a client that looks at nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Peer:
    """A blocking socket that speaks raw bytes, inside TLS if that is asked for.

    ``binding`` is the SHA-256 of the server's certificate, empty without TLS.

    :param window: how many bytes the system takes for it before it reads them; 0 for as many as
        the system likes.
    """

    def __init__(
        self, port: int, source: str = "127.0.0.1", *, tls: bool = False, window: int = 0
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.binding = b""
        if tls:
            self.socket = any_certificate().wrap_socket(self.socket)
            self.binding = hashlib.sha256(self.socket.getpeercert(True)).digest()
        self.pending = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.pending += data
        return bool(data)

    def head(self) -> bytes:
        """The next frame without its body: up to and with the empty line."""
        while b"\n\n" not in self.pending:
            if not self._more():
                raise AssertionError(f"closed after {self.pending!r}")
        head, self.pending = self.pending.split(b"\n\n", 1)
        return head + b"\n\n"

    def frame(self) -> tuple[str, dict[str, str], bytes]:
        """The next frame of version 2: start line, headers in lower case, body."""
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
        """Everything until the server closes the connection."""
        while self._more():
            pass
        rest, self.pending = self.pending, b""
        return rest

    def end(self, data: bytes = b"") -> bytes:
        """Send ``data`` and nothing more; return everything until the connection is gone, in
        whatever way.
        """
        with contextlib.suppress(OSError):
            self.send(data)
            self.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            return self.rest()
        return self.pending

    def ask(self, start: str, *headers: str, body: str = "") -> tuple[str, dict[str, str], bytes]:
        """Ask something in version 2; return the answer, and pass over what comes before it."""
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


TWISTD = str(Path(sys.executable).with_name("twistd"))


class ServerTestCase(unittest.TestCase):
    """A server of its own for each test, on a port that the system chose."""

    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.state = Path(self.folder.name) / "state"
        self.port = 0  # the system chooses one; when started again it is the same
        self.start()

    def start(self) -> None:
        """Start the server, on what one before it has written."""
        self.server = self.process(
            TWISTD,
            "-n",
            "chatserver",
            "--listen",
            f"tcp:{self.port}:interface=127.0.0.1",
            "--state",
            str(self.state),
            *self.options,
        )
        self.fingerprint = self.server.wait_for(r"fingerprint is (SHA256:\S+)")[1]
        self.port = int(self.server.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])

    def kill(self) -> None:
        """End the server as a crash does."""
        self.server.popen.kill()
        self.server.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have the server stand still. What is sent meanwhile it takes in one turn of its reactor,
        in the order in which it was sent, and commits together.
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
        """The bundled client, with standard input and output as pipes."""
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
        """The operator's command, run to its end."""
        state = ("--state", str(self.state))
        command = self.process(sys.executable, "-m", "chat_twisted.admin", *state, *arguments)
        command.wait()
        return command

    def accounts(self, *arguments: str) -> Process:
        """The operator's command for accounts, run to its end."""
        return self.admin("accounts", *arguments)

    def connect(self, source: str = "127.0.0.1", *, tls: bool = False, window: int = 0) -> Peer:
        peer = Peer(self.port, source, tls=tls, window=window)
        self.addCleanup(peer.close)
        return peer

    def came(self, user: str, times: int = 1) -> None:
        """Wait until the server has ``user``."""
        for _ in range(times):
            self.server.wait_for(rf"\b{user} came from")

    def assertNoTraceback(self) -> None:
        self.assertNotIn("Traceback", "\n".join(self.server.out + self.server.err))


class Daemon:
    """A server that has made itself a daemon, by the number in its state folder's lock."""

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
    """Servers as ``twistd`` starts them without ``-n``, in a folder of their own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.state = self.folder / "state"

    def run_command(self, *command: str, **more) -> tuple[int, str]:
        """Run a command to its end; return its exit code and standard error."""
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
        return self.run_command(TWISTD, *twistd, "chatserver", "--state", str(self.state), *options)

    def daemon(self, *options: str, twistd: tuple[str, ...] = ()) -> Daemon:
        """Start a daemon and see that it has begun to serve."""
        listen = () if "--listen" in options else ("--listen", "tcp:0:interface=127.0.0.1")
        self.assertEqual(self.start(*options, *listen, twistd=twistd), (0, ""))
        daemon = Daemon(self.state)
        self.addCleanup(daemon.close)
        return daemon

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}
