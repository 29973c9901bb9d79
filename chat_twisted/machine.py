"""What the system says about this machine: memory, clock, processes, names and addresses.

Each function returns None if the system does not tell. This module must not know the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import socket
import subprocess
from pathlib import Path

LOOK_UP_WITHIN = 5.0
"""Seconds within which the addresses of a name must be found."""

TIME_ERROR = 5
"""The result of ``adjtimex`` if the clock is not synchronised (adjtimex(2))."""

PROC = Path("/proc")


def _read(path: str) -> str | None:
    try:
        return (PROC / path).read_text()
    except OSError:
        return None


def available_memory() -> int | None:
    """Return how many bytes of memory programs can still get."""
    found = re.search(r"^MemAvailable: +(\d+) kB", _read("meminfo") or "", re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def memory_of(process: int) -> int | None:
    """Return how many bytes of memory a process has."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", _read(f"{process}/status") or "", re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def descriptors_of(process: int) -> int | None:
    """Return how many descriptors a process has open."""
    try:
        return len(os.listdir(PROC / str(process) / "fd"))
    except OSError:
        return None


def longest_backlog() -> int | None:
    """Return how many connections of a port can wait to be accepted."""
    found = _read("sys/net/core/somaxconn")
    return None if found is None else int(found)


def is_synchronised() -> bool | None:
    """Return whether a program such as chrony keeps the clock right."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != TIME_ERROR


def addresses_of(host: str) -> list[str] | None:
    """Return the addresses of a name, in their order; none if it has none.

    Another program looks them up, since the system's function can't be interrupted.
    """
    command = ["getent", "ahosts", "--", host]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LOOK_UP_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return list(dict.fromkeys(line.split()[0] for line in done.stdout.splitlines() if line))


def has_address(address: str) -> bool:
    """Return whether this machine has an IP address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True
