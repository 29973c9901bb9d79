"""The options of a node of a cluster: the NATS servers, and the name of the node.

This module does not connect to these servers, and must not know the other options.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from chat_twisted.control import NODE_NAME

CLUSTER_PORT = 4222
"""The port of a NATS server, unless its URL has another one."""

MONITOR_PORT = 8222
"""The usual port of the monitoring of a NATS server."""


def parse_servers(value: str) -> tuple[str, ...]:
    """Parse the value of ``--cluster``.

    :return: the URLs of the NATS servers, each with its port.
    :raises ValueError: if it is not valid, as in ``option_values``.
    """
    return tuple(_server(url.strip()) for url in value.split(","))


def parse_monitors(value: str) -> tuple[str, ...]:
    """Parse the value of ``--cluster-monitor``.

    :return: the URLs of the monitoring of the NATS servers.
    :raises ValueError: if it is not valid, as in ``option_values``.
    """
    urls = tuple(url.strip().rstrip("/") for url in value.split(","))
    for url in urls:
        try:
            parts = urlsplit(url)
        except ValueError:  # of an IPv6 address
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"http://HOST:PORT, several with commas, not {url!r}")
    return urls


def usual_monitors(servers: Sequence[str]) -> tuple[str, ...]:
    """Return where the monitoring of these NATS servers is, unless they have other ports."""
    hosts = [urlsplit(server).hostname or "" for server in servers]
    return tuple(
        f"http://[{host}]:{MONITOR_PORT}" if ":" in host else f"http://{host}:{MONITOR_PORT}"
        for host in hosts
    )


def _server(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or CLUSTER_PORT
    except ValueError:  # of the port, or of an IPv6 address
        parts, port = urlsplit(""), 0
    named = parts.hostname and "@" not in parts.netloc
    if parts.scheme not in ("nats", "tls") or not named or any(parts[2:]):
        raise ValueError(f"nats://HOST:PORT or tls://HOST:PORT, several with commas, not {url!r}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def parse_node(value: str) -> str:
    """Parse the value of ``--node``.

    :raises ValueError: if it is not valid, as in ``option_values``.
    """
    if not NODE_NAME.fullmatch(value):
        raise ValueError(f"1 to 32 of a-z, 0-9 and -, not {value!r}")
    return value


class ClusterOptions(NamedTuple):
    """The options of a node of a cluster.

    :ivar servers: the URLs of the NATS servers, each with its port.
    :ivar node: the name of this node.
    :ivar credentials: the file with the credentials for these servers, or None.
    :ivar ca: the file with the certificates of the authorities that vouch for them; None for those
        of the system.
    :ivar monitors: the URLs of the monitoring of these servers.
    """

    servers: tuple[str, ...]
    node: str
    credentials: Path | None
    ca: Path | None
    monitors: tuple[str, ...]
