"""What the system does with a connection's socket: how much it holds, and when it gives a peer up.

Every door's connections get these options from the front. Nothing here knows what is said.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

BUFFER = 65_536
"""Bytes that the system is asked to keep in each of a socket's two buffers. By itself it lets them
grow to several MiB for a peer that does not read."""

HELD_BY_SYSTEM = 2 * BUFFER
"""Bytes that the system holds for a peer at most: it doubles what it is asked for (``man 7
socket``), since its own records count too."""

PROBES = 3
"""How many unanswered keepalive probes end a connection."""

_MAX_SECONDS = 32_767
"""The longest idle time and interval that Linux takes."""

Option = tuple[int, int, int]


def options(idle: float) -> Sequence[Option]:
    """Return the level, name and value of each option of a TCP socket.

    A machine that vanished is found within two ``idle`` intervals (seconds), whether something
    waits to be acknowledged by it (``TCP_USER_TIMEOUT``) or nothing does (keepalive). Version 1 has
    no PING to find it with.
    """
    quiet = min(max(1, int(idle)), _MAX_SECONDS)
    interval = max(1, quiet // (PROBES + 1))
    tcp = socket.IPPROTO_TCP
    found = [
        (socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    # Not every system has all of them. With a user timeout Linux counts no probes, but ends the
    # connection at the first probe after that time: so it is half an interval short of two.
    for name, value in (
        ("TCP_KEEPIDLE", quiet),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", min(PROBES, quiet // interval)),
        ("TCP_USER_TIMEOUT", quiet * 1500),
    ):
        if hasattr(socket, name):
            found.append((tcp, getattr(socket, name), value))
    return found


def prepare(transport: Any, options: Sequence[Option]) -> None:
    """Set ``options`` on the socket below ``transport``, if that is one of TCP."""
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    if not isinstance(handle, socket.socket):
        return
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for level, name, value in options:
        handle.setsockopt(level, name, value)
