"""Options of sockets: buffer sizes, and the detection of peers that have vanished.

The front sets them on its ports, so the connections of all doors have them. This module must not
know protocols.
"""

from __future__ import annotations

import socket
from typing import Any

BUFFER = 65_536
"""Size in bytes of each of a socket's two buffers. Otherwise the system lets them grow to several
MiB for a peer that does not read."""

HELD_BY_SYSTEM = 2 * BUFFER
"""Maximum bytes that the system buffers for a peer. It doubles the requested size, because its own
records count too (``man 7 socket``)."""

PROBES = 3
"""Number of unanswered keepalive probes that end a connection."""

_MAX_SECONDS = 32_767
"""The longest keepalive time and interval that Linux allows."""

_INTERNET = (socket.AF_INET, socket.AF_INET6)


def prepare(port: Any, idle: float) -> None:
    """Set the options on a listening TCP port; accepted connections inherit them.

    A peer that has vanished is detected within two ``idle`` intervals: by ``TCP_USER_TIMEOUT`` if
    data waits to be acknowledged, otherwise by keepalive. Version 1 needs this, because it has no
    PING.

    :param idle: seconds.
    """
    listening = getattr(port, "socket", None)
    if not isinstance(listening, socket.socket) or listening.family not in _INTERNET:
        return
    quiet = min(max(1, int(idle)), _MAX_SECONDS)
    interval = max(1, quiet // (PROBES + 1))
    for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listening.setsockopt(socket.SOL_SOCKET, name, BUFFER)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system has all options. With a user timeout Linux does not count probes, but ends
    # the connection at the first probe after that time, so it is 1.5 intervals.
    for option, value in (
        ("TCP_KEEPIDLE", quiet),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", min(PROBES, quiet // interval)),
        ("TCP_USER_TIMEOUT", quiet * 1500),
    ):
        if hasattr(socket, option):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
