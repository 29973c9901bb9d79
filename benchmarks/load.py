"""Builds and runs the load generator load.c for benchmarks.

Of servers this module knows only the process IDs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from server import stop

cores = sorted(os.sched_getaffinity(0))
"""The processor cores that this program may use at its start."""

NEEDED = "Debian: apt-get install gcc libc6-dev libssl-dev"


class Trouble(Exception):
    """A measurement has failed; the text says why."""


def say(text: str) -> None:
    """Print a line about the progress on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def build(folder: Path) -> Path:
    """Compile load.c into ``folder``.

    :raises SystemExit: if that fails; the text says why.
    """
    if shutil.which("gcc") is None:
        sys.exit(f"load.c needs gcc, which is missing ({NEEDED})")
    program = folder / "load"
    source = Path(__file__).with_suffix(".c")
    command = ["gcc", "-O2", "-o", str(program), str(source), "-lssl", "-lcrypto"]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"load.c does not compile ({NEEDED})")
    return program


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run processes that are started in a ``with`` statement on ``core`` only; None for all."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def started(pids: int | Sequence[int], command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a load during a ``with`` statement.

    :param pids: the process ID of the server, whose processor time the load measures; or those of
        several processes.
    """
    names = [pids] if isinstance(pids, int) else pids
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SERVER_PID": ",".join(map(str, names))},
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                stop(process)


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the end of a load; return its figures.

    :raises Trouble: if it has none.
    """
    output, errors = process.communicate()
    if process.returncode:
        raise Trouble(errors.strip() or f"the load ended with {process.returncode}")
    result = dict(json.loads(output))
    if result.get("deliveries") == 0:
        raise Trouble("nothing was delivered while it was counted")
    return result


def report(pids: int | Sequence[int], command: Sequence[str]) -> dict[str, Any]:
    """Run a load; return its figures.

    :param pids: as in ``started``.
    :raises Trouble: if it has none.
    """
    with started(pids, command) as process:
        return result_of(process)
