"""Listens for clients on the endpoints of the command line, before twistd makes a daemon.

An endpoint that is wrong or can't be listened on ends the start with one line, and so does a system
that allows too few open files.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import stat
from collections.abc import Sequence
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure

from chat_twisted.doors.front import MAX_UNDECIDED, FrontFactory
from chat_twisted.logs import Logger
from chat_twisted.options import HINT, fail

BACKLOG = 4096
"""How many peers may wait to be accepted; Linux takes no more than net.core.somaxconn."""

SPARE_DESCRIPTORS = 128
"""File descriptors that are kept for the archive, the log and the operator's commands, and for
connections that were just accepted and must be closed again."""

FEWEST_CONNECTIONS = 16
"""A system that allows fewer is no place for a server."""


def make_endpoints(
    descriptions: Sequence[str], reactor: Any
) -> list[tuple[str, IStreamServerEndpoint]]:
    """Make endpoints of their descriptions; if one is wrong, say so and exit with 1.

    :return: them with their descriptions.
    """
    endpoints: list[tuple[str, IStreamServerEndpoint]] = []
    for description in descriptions:
        try:
            endpoint = serverFromString(reactor, _as_we_listen(description))
        except Exception as error:  # noqa: BLE001  plugins parse the strings, each in its way
            fail(f"--listen {description}: not an endpoint: {error} {HINT}")
        endpoints.append((description, endpoint))
    return endpoints


def _as_we_listen(description: str) -> str:
    """Add to the description of an endpoint what this server wants otherwise than Twisted.

    More peers may wait to be accepted than Twisted's 50: a class that comes in at once, or all
    clients after a restart, would be turned away by the system and try again a second later. A Unix
    socket has no lock that names the process, since a daemon gets another number; see ``listen``.
    """
    kind = description.removeprefix("haproxy:").partition(":")[0]
    if kind in ("tcp", "tcp6", "unix") and ":backlog=" not in description:
        description = f"{description}:backlog={BACKLOG}"
    if kind == "unix":
        description = re.sub(r":lockfile=[^:]*", "", description) + ":lockfile=0"
    return description


def listen(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]], factory: FrontFactory, reactor: Any
) -> list[IListeningPort]:
    """Listen on all endpoints; if one can't be listened on, say why and exit with 1.

    This happens before twistd makes a daemon of the process and gives up the rights of root: so the
    reason reaches the standard error of whoever starts it, and nothing is left behind.
    """
    ports: list[IListeningPort] = []
    for description, endpoint in endpoints:
        failure = _try_to_listen(endpoint, factory, ports)
        if failure is not None and _remove_stale_socket(failure.value):
            failure = _try_to_listen(endpoint, factory, ports)
        if failure is not None:
            for port in ports:
                port.stopListening()
            reactor.iterate()  # which removes Unix sockets
            error = failure.value
            if isinstance(error, CannotListenError):
                error = error.socketError
            fail(f"can't listen on {description}: {getattr(error, 'strerror', None) or error}")
    for port in ports:
        factory.listens(port)
    return ports


def _try_to_listen(
    endpoint: IStreamServerEndpoint, factory: FrontFactory, ports: list[IListeningPort]
) -> Failure | None:
    failures: list[Failure] = []
    endpoint.listen(factory).addCallbacks(ports.append, failures.append)
    return failures[0] if failures else None


def _remove_stale_socket(error: BaseException | None) -> bool:
    """Remove the Unix socket that a server which was killed has left, if that is the problem."""
    path = error.port if isinstance(error, CannotListenError) else None
    if not isinstance(path, str | bytes):
        return False
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False  # a file is refused in the same way, and is nobody's to remove
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            os.unlink(path)
            return True
    except OSError:
        pass
    return False


def count_connections(clients: int) -> int:
    """Let this process have as many connections as the options allow, if the system does; return
    how many there may be.

    The limit that programs are started with is often 1024; they may raise it themselves. A client
    of version 1 has two connections.
    """
    try:
        own = len(os.listdir("/dev/fd")) + SPARE_DESCRIPTORS
    except OSError:
        own = 2 * SPARE_DESCRIPTORS
    wanted = own + 2 * clients + MAX_UNDECIDED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = wanted
    elif soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connections = soft - own
    if connections < FEWEST_CONNECTIONS:
        fail(f"the system allows {soft} open files: too few (see ulimit -n)")
    if connections < clients:
        Logger().warn(
            "the system allows {allowed} open files: {connections} connections, too few for "
            "{clients} clients",
            allowed=soft,
            connections=connections,
            clients=clients,
        )
    return connections
