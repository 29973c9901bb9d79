"""What the system does with a connection's socket: how much it holds, and when it gives a peer up.

The front prepares the ports, and so every door's connections. Nothing here knows what is said.
"""

from __future__ import annotations

import socket
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

_INTERNET = (socket.AF_INET, socket.AF_INET6)


def prepare(port: Any, idle: float) -> None:
    """Have the connections that ``port`` accepts made with these options, if it is one of TCP: they
    take them over from its socket.

    A machine that vanished is found within two ``idle`` intervals (seconds), whether something
    waits to be acknowledged by it (``TCP_USER_TIMEOUT``) or nothing does (keepalive). Version 1 has
    no PING to find it with.
    """
    listening = getattr(port, "socket", None)
    if not isinstance(listening, socket.socket) or listening.family not in _INTERNET:
        return
    quiet = min(max(1, int(idle)), _MAX_SECONDS)
    interval = max(1, quiet // (PROBES + 1))
    for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listening.setsockopt(socket.SOL_SOCKET, name, BUFFER)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system has all of them. With a user timeout Linux counts no probes, but ends the
    # connection at the first probe after that time: so it is half an interval short of two.
    for option, value in (
        ("TCP_KEEPIDLE", quiet),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", min(PROBES, quiet // interval)),
        ("TCP_USER_TIMEOUT", quiet * 1500),
    ):
        if hasattr(socket, option):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
