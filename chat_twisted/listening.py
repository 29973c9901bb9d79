"""Listens for clients on the endpoints of the command line, before twistd makes a daemon; and says
how other machines reach the server.

If an endpoint is invalid or in use, or the system allows too few open files, the start ends with
one line.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import resource
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from chat_twisted.doors import is_loopback
from chat_twisted.doors.front import MAX_UNDECIDED
from chat_twisted.logs import Logger
from chat_twisted.options import HINT, PORT, Options, fail
from chat_twisted.passed_sockets import PassedSocketError, take_over

METRICS = "metrics"
"""The name of a socket that is passed on for ``--metrics``."""

BACKLOG = 4096
"""Maximum number of connections that wait to be accepted; Linux also has net.core.somaxconn."""

SPARE_DESCRIPTORS = 128
"""File descriptors that are reserved for the archive, the log, the operator's commands, and for
connections that are accepted and closed again."""

FEWEST_CONNECTIONS = 16
"""The server does not start if the system allows fewer connections."""


def make_endpoints(
    descriptions: Sequence[str], reactor: Any, option: str = "--listen"
) -> list[tuple[str, IStreamServerEndpoint]]:
    """Make endpoints from their descriptions; if one is invalid, print why and exit with 1.

    :param option: the option that has the descriptions.
    :return: the descriptions with their endpoints.
    """
    endpoints: list[tuple[str, IStreamServerEndpoint]] = []
    for description in descriptions:
        if description.removeprefix("haproxy:").startswith("systemd:"):
            fail(f"{option} {description}: sockets that are passed on need no option")
        try:
            endpoint = serverFromString(reactor, _as_we_listen(description))
        except Exception as error:  # noqa: BLE001  plugins that parse endpoints may raise anything
            fail(f"{option} {description}: not an endpoint: {error} {HINT}")
        endpoints.append((description, endpoint))
    return endpoints


class Addresses(NamedTuple):
    """The endpoints to listen on, with their descriptions.

    :ivar clients: for clients.
    :ivar metrics: for the operator's monitoring.
    """

    clients: list[tuple[str, IStreamServerEndpoint]]
    metrics: list[tuple[str, IStreamServerEndpoint]]


def make_addresses(options: Options, environment: Mapping[str, str], reactor: Any) -> Addresses:
    """Make all endpoints: sockets that systemd passes on, and those of the options. If one can't be
    used, print why and exit with 1.

    The default of ``--listen`` is for a server that gets no socket for clients.

    :param environment: with which the process was started.
    """
    try:
        passed = take_over(environment, BACKLOG, reactor)
    except PassedSocketError as error:
        fail(str(error))
    named = [(f"the socket {each.name}", each) for each in passed]
    clients: list[tuple[str, IStreamServerEndpoint]] = []
    metrics: list[tuple[str, IStreamServerEndpoint]] = []
    for description, endpoint in named:
        (metrics if endpoint.name == METRICS else clients).append((description, endpoint))
    if options.listens or not clients:
        clients += make_endpoints(options["listen"], reactor)
    if options["metrics"] is not None:
        metrics += make_endpoints([for_this_machine(options["metrics"])], reactor, "--metrics")
    if metrics:
        require_prometheus()
    return Addresses(clients, metrics)


def _as_we_listen(description: str) -> str:
    """Add this server's own defaults to the description of an endpoint.

    The backlog is longer than Twisted's 50: otherwise, if many clients connect at once, for example
    after a restart, the system refuses some, which try again a second later. Unix sockets get no
    lock file, because the process ID in it would be wrong after the daemon forks; see ``listen``.
    """
    kind = description.removeprefix("haproxy:").partition(":")[0]
    if kind in ("tcp", "tcp6", "unix") and ":backlog=" not in description:
        description = f"{description}:backlog={BACKLOG}"
    if kind == "unix":
        description = re.sub(r":lockfile=[^:]*", "", description) + ":lockfile=0"
    return description


def for_this_machine(description: str) -> str:
    """Return the description of an endpoint which this machine alone can reach, unless the
    description itself says where to listen.
    """
    kind = description.partition(":")[0]
    if kind == "tcp" and ":interface=" not in description:
        return f"{description}:interface=127.0.0.1"
    if kind == "tcp6" and ":interface=" not in description:
        return rf"{description}:interface=\:\:1"
    if kind == "unix" and ":mode=" not in description:
        return f"{description}:mode=600"
    return description


def require_prometheus() -> None:
    """Check that the package for ``--metrics`` is there; if not, print why and exit with 1."""
    if find_spec("prometheus_client") is None:
        fail("--metrics needs the package prometheus-client: pip install 'chat_twisted[metrics]'")


def listen(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]], factory: IProtocolFactory, reactor: Any
) -> list[IListeningPort]:
    """Listen on all endpoints; if one fails, print why and exit with 1.

    This happens before twistd makes a daemon and gives up the rights of root, so the reason appears
    on standard error, and nothing is left behind.
    """
    ports: list[IListeningPort] = []
    for description, endpoint in endpoints:
        failure = _try_to_listen(endpoint, factory, ports)
        if failure is not None and _remove_stale_socket(failure.value):
            failure = _try_to_listen(endpoint, factory, ports)
        if failure is not None:
            for port in ports:
                port.stopListening()
            reactor.iterate()  # removes Unix sockets
            error = failure.value
            if isinstance(error, CannotListenError):
                error = error.socketError
            fail(f"can't listen on {description}: {getattr(error, 'strerror', None) or error}")
    return ports


def _try_to_listen(
    endpoint: IStreamServerEndpoint, factory: IProtocolFactory, ports: list[IListeningPort]
) -> Failure | None:
    failures: list[Failure] = []
    endpoint.listen(factory).addCallbacks(ports.append, failures.append)
    return failures[0] if failures else None


def _remove_stale_socket(error: BaseException | None) -> bool:
    """Remove the Unix socket of a server that was killed, if that has caused ``error``.

    :return: whether it was removed.
    """
    path = error.port if isinstance(error, CannotListenError) else None
    if not isinstance(path, str | bytes):
        return False
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False  # an ordinary file causes the same error, and must not be removed
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            os.unlink(path)
            return True
    except OSError:
        pass
    return False


def ways_in(addresses: Iterable[IAddress], machine: str, fingerprint: str) -> Iterator[str]:
    """Yield lines for the log that tell how other machines reach the server: the port for the
    firewall, and the command of the client. There is none for loopback addresses and Unix sockets.

    :param addresses: those on which the server listens.
    :param machine: the name of this machine.
    :param fingerprint: that of the server's certificate.
    """
    places = [(host, port) for host, port in _places(addresses, machine) if not is_loopback(host)]
    for port in dict.fromkeys(port for _, port in places):
        yield f"clients on other machines need TCP port {port}: a firewall must let it through"
    for host, port in places:
        if port != PORT:
            host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        yield f"on another machine: chat-twisted NAME {host} --fingerprint {fingerprint}"


def ssh_ways_in(
    addresses: Iterable[IAddress], machine: str, known_hosts: Callable[[str, int], Iterable[str]]
) -> Iterator[str]:
    """Yield lines for the log that tell how to log in by ssh: the command, and the lines for a
    known_hosts file.

    :param addresses, machine: as in ``ways_in``.
    :param known_hosts: returns those lines for a host and a port.
    """
    for host, port in _places(addresses, machine):
        yield f"by ssh: ssh -p {port} NAME@{host}; for known_hosts files:"
        yield from known_hosts(host, port)


def _places(addresses: Iterable[IAddress], machine: str) -> list[tuple[str, int]]:
    """Return the hosts and ports by which clients reach the server."""
    if not machine or machine.startswith("localhost"):
        machine = "HOST"
    places: dict[tuple[str, int], None] = {}
    for address in addresses:
        if isinstance(address, IPv4Address | IPv6Address):
            anywhere = ipaddress.ip_address(address.host.partition("%")[0]).is_unspecified
            places[machine if anywhere else address.host, address.port] = None
    return list(places)


def count_connections(clients: int) -> int:
    """Raise the limit of open files as far as the options need and the system allows.

    The initial limit is often 1024, and a process may raise it itself. A client of version 1 has
    two connections.

    :param clients: the maximum number of clients.
    :return: the maximum number of connections.
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
            event="few-files",
            allowed=soft,
            connections=connections,
            clients=clients,
        )
    return connections
