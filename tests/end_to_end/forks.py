"""Processes of the project that start at once: forks of a process that has imported its modules.

Importing is most of what a test with real processes would cost. ``Fork`` stands in for
``subprocess.Popen``: the program runs in a new process, a child of the tests' own, with its own
environment, folder and standard files; but what it imports is there. That commands also start by
themselves is shown by the tests that start them in another way, as by a shell or as a daemon.

As a program, this module is the process that is forked. It must not import the reactor, because
its forks would share the reactor's file descriptors.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO

MODULES = (
    "chat_twisted.admin",
    "chat_twisted.client.arguments",
    "chat_twisted.client.main",
    "chat_twisted.client.pipe",
    "chat_twisted.doors.ssh.connection",
    "chat_twisted.inside.host",
    "chat_twisted.service",
    "twisted.internet.epollreactor",
    "twisted.internet.task",
    "twisted.scripts.twistd",
)
"""What servers and clients import."""

ROOT = Path(__file__).resolve().parents[2]
MAX_REQUEST = 1 << 17  # bytes
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Those that a program leaves ignored if it is started so, as under nohup."""

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Fork:
    """A program in Python that runs in a fork. The attributes and methods that there are do what
    those of ``subprocess.Popen`` do.

    :param args: a script in Python, or ``sys.executable`` and what it takes: a script, or ``-m``
        and a module; then arguments.
    """

    def __init__(self, args: tuple[str, ...], *, cwd: str, env: dict[str, str]) -> None:
        self.args = args
        self.returncode: int | None = None
        (stdin, to), (out, stdout), (error, stderr) = os.pipe(), os.pipe(), os.pipe()
        ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
        request = json.dumps([args, cwd, env, ignored]).encode()
        self.pid = _fork(request, (stdin, stdout, stderr))
        self._handle = os.pidfd_open(self.pid)
        for inner in (stdin, stdout, stderr):
            os.close(inner)
        self.stdin = os.fdopen(to, "wb")
        self.stdout = os.fdopen(out, "rb")
        self.stderr = os.fdopen(error, "rb")

    def wait(self, timeout: float) -> int:
        if self.returncode is None:
            if not select.select([self._handle], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            os.close(self._handle)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _mother() -> tuple[socket.socket, IO[bytes]]:
    """Start the process that is forked; return the connection to it, and its standard error. It
    ends with this process.

    Its standard files are pipes, because the forks take over the objects in ``sys``.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, __file__, str(its.fileno())],  # with -m it would import hypothesis too
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        pass_fds=[its.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    its.close()
    atexit.register(process.communicate)
    atexit.register(ours.close)
    return ours, process.stderr


def _fork(request: bytes, files: tuple[int, int, int]) -> int:
    """Have the process forked; return the ID of the new one, which becomes a child of this one."""
    mother, error = _mother()
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # the parent of all below it whose own parent has ended
    try:
        socket.send_fds(mother, [request], files)
        pid = mother.recv(20)
        mother.recv(1)
    except ConnectionError:
        raise AssertionError(error.read().decode()) from None
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)
    return int(pid)


def _serve(requests: socket.socket) -> tuple[str, ...]:
    """Fork for each request, until there is none; return in the forks only, with their arguments.

    The new process is the child of one that ends, so that the tests' process inherits it.
    """
    while True:
        request, files, _, _ = socket.recv_fds(requests, MAX_REQUEST, 3)
        if not request:
            os._exit(0)
        between = os.fork()
        if not between:
            if pid := os.fork():
                requests.send(str(pid).encode())
                os._exit(0)
            requests.close()
            return _prepare(*json.loads(request), files)
        os.waitpid(between, 0)
        for file in files:
            os.close(file)
        requests.send(b"!")


def _prepare(
    args: list[str],
    folder: str,
    variables: dict[str, str],
    ignored: list[int],
    files: list[int],
) -> list[str]:
    """Give this process its folder, its environment, its signals and its standard files."""
    for number in SIGNALS:
        wanted = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else wanted)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    return args


def _run(program: str, *arguments: str) -> None:
    """Run the program as Python does when it is called so."""
    if program == sys.executable:
        program, *arguments = arguments
    if program == "-m":
        module, *arguments = arguments
        sys.path[0] = os.getcwd()
        sys.argv[1:] = arguments
        sys.modules.pop(module, None)  # it is now __main__
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(program)
        sys.argv = [program, *arguments]
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not the folder of this file, whose modules have common names
    for name in MODULES:
        import_module(name)
    from twisted.application.service import IServiceMaker
    from twisted.plugin import getPlugins

    list(getPlugins(IServiceMaker))
    gc.freeze()
    if "twisted.internet.reactor" in sys.modules:
        raise SystemExit("the reactor is imported")
    _run(*_serve(socket.socket(fileno=int(sys.argv[1]))))
