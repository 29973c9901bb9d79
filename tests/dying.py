"""Runs of a process that ends in the middle of its work, each time at another point.

The process is a fork of one that has no threads (``forks.Fork``). A fork of the tests' own process
could have a lock that one of its threads held, and Python 3.12 and later warn of that.

As a program, this module is that process.
"""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from chat_twisted import admin
from chat_twisted.storage import archive
from tests.end_to_end.forks import ROOT, Fork

ENDED = 9
"""The exit code of a restore that has come to its point."""

SECONDS = 60


def killed_start(state: Path, points: int) -> bool:
    """Start the archive in ``state`` in a process that is killed (SIGKILL) before so many SQL
    statements and operations on files have been done.

    :return: whether it was killed; it is not if there are fewer.
    """
    code, error = _run("start", str(state), str(points))
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(error)
    return code != 0


def ended_restore(state: Path, file: Path, point: int) -> bool:
    """Restore in a process that ends before the file operation number ``point``.

    :return: whether it has ended so; it has not if there are fewer.
    """
    code, error = _run("restore", str(state), str(file), str(point))
    if code not in (0, ENDED):
        raise AssertionError(error)
    return code != 0


def _run(*arguments: str) -> tuple[int, str]:
    fork = Fork(
        (sys.executable, "-m", "tests.dying", *arguments), cwd=str(ROOT), env=dict(os.environ)
    )
    with fork.stdin, fork.stdout, fork.stderr:
        return fork.wait(SECONDS), fork.stderr.read().decode()


def _start(state: str, points: str) -> None:
    left = int(points)

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, _: object) -> None:
        if event.startswith(("os.", "open", "sqlite3.")):
            count()

    connect = sqlite3.connect

    def traced(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **more)
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = traced
    sys.addaudithook(watch)
    archive.prepare(Path(state), wall=lambda: 9001.0)
    os._exit(0)  # what Python does at its end is no point


def _restore(state: str, file: str, point: str) -> None:
    done = 0

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal done
            done += 1
            if done == int(point):
                os._exit(ENDED)
            return function(*arguments, **more)

        return call

    for name in ("replace", "link", "fsync", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
    sys.stdout = io.StringIO()
    os._exit(admin.main(["restore", file, "--state", state]))


if __name__ == "__main__":
    {"start": _start, "restore": _restore}[sys.argv[1]](*sys.argv[2:])
