"""Connects a session to a host of its chat, and again after the connection is lost.

Errors are explained in plain words for the user. This module must not know the session's listener.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint, connectProtocol

from chat_twisted.client import srv, tls
from chat_twisted.client.address import PORT, Host
from chat_twisted.client.client_state import StateFile, config_folder
from chat_twisted.client.hosts import Candidate, Hosts
from chat_twisted.client.session import ClientSession
from chat_twisted.client.tls import ClosedEarly, NotEncrypted, Trust, Untrusted

CONNECTED_WITHIN = 20
"""Seconds for connecting, including the TLS handshake."""

NEXT_WITHIN = 5
"""The same while another host is to be tried instead (``Hosts.in_haste``)."""


class NotReached(Exception):
    """None of several hosts could be connected to. The message says why, for each."""


FAILURES = (
    error.ConnectError,
    error.DNSLookupError,
    socket.gaierror,  # an address with an unknown zone
    ValueError,  # not a valid host name
    Untrusted,
    NotEncrypted,
    NotReached,
    defer.TimeoutError,
)
"""Exceptions that a connection attempt can fail with; ``explain`` describes them."""

Find = Callable[[Any, str], Coroutine[Any, Any, list[Host]]]
"""Type of ``srv.find``."""


@dataclass(frozen=True, slots=True)
class Server:
    """A chat's address, or several, and how its identity is checked.

    :ivar host: a host name or IP address.
    :ivar port: a TCP port.
    :ivar fingerprint: the fingerprint that its certificate must have, as ``tls.parse_fingerprint``
        returns it; None to accept a certificate of an authority, or else the pinned one.
    :ivar plain: connect without encryption.
    :ivar others: more hosts of the same chat, which are tried in this order.
    """

    host: str
    port: int = PORT
    fingerprint: str | None = None
    plain: bool = False
    others: tuple[Host, ...] = ()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts of the chat, each once, in the order in which they are tried."""
        hosts: dict[str, Host] = {}
        for host in (Host(self.host, self.port), *self.others):
            hosts.setdefault(host.key, host)
        return tuple(hosts.values())


class Connector:
    """Connects sessions to one chat: to the first of its hosts that can be reached.

    :ivar hosts: the hosts, and which one is next.
    :param tell: called with a notice for the user, which may have several lines.
    :param find: finds the hosts of a domain in DNS.
    """

    def __init__(
        self,
        reactor: Any,
        server: Server,
        tell: Callable[[str], object],
        find: Find = srv.find,
    ) -> None:
        self.hosts = Hosts([Candidate(host, host) for host in server.hosts])
        self._reactor = reactor
        self._server = server
        self._tell = tell
        self._find = find
        self._known = StateFile(config_folder() / "known_servers")
        self._untrusted: set[Candidate] = set()  # these are not tried again

    def connect(self, session: ClientSession) -> Deferred[Any]:
        """Connect ``session`` to the first host that can be reached.

        :return: fires when the session is connected; fails with one of ``FAILURES``.
        """
        return Deferred.fromCoroutine(self._connect(session))

    def reconnect(self, session: ClientSession) -> Deferred[Any]:
        """Connect ``session`` to the next host. If no host has the expected certificate, the
        session ends.

        :return: as ``connect``, but fails with ``Untrusted`` only if other hosts are left.
        """
        return Deferred.fromCoroutine(self._reconnect(session))

    async def _connect(self, session: ClientSession) -> None:
        await self._look_up()
        self.hosts.start_round()
        problems: list[str] = []
        while True:
            candidate = self.hosts.take()
            within = self._within()
            try:
                await self._attempt(session, candidate, within)
                return
            except FAILURES as problem:
                is_last = not self.hosts.has_untried
                if is_last and not problems and candidate.target == candidate.given:
                    raise  # the only host
                if isinstance(problem, Untrusted):
                    self._leave_out(candidate, problem)
                problems.append(_explain_briefly(problem, candidate.target, within))
            if is_last:
                raise NotReached("; ".join(problems))

    async def _reconnect(self, session: ClientSession) -> None:
        candidate = self.hosts.take()
        try:
            await self._attempt(session, candidate, self._within())
        except FAILURES as problem:
            if isinstance(problem, Untrusted) and not self._leave_out(candidate, problem):
                session.fail(str(problem))
                return
            if not self.hosts.has_untried:
                await self._look_up()  # hosts may have been added
            raise

    def _within(self) -> int:
        """Return the seconds for an attempt to connect to the host that was taken just now."""
        return NEXT_WITHIN if self.hosts.in_haste else CONNECTED_WITHIN

    async def _attempt(self, session: ClientSession, candidate: Candidate, within: int) -> None:
        host, given = candidate
        session.where = host.address
        # HostnameEndpoint drops the zone of an IPv6 address.
        kind = TCP6ClientEndpoint if "%" in host.name else HostnameEndpoint
        endpoint = kind(self._reactor, host.name, host.port, within)
        connecting: Deferred[Any]
        if self._server.plain:
            connecting = connectProtocol(endpoint, session)
        else:
            others = [other for other in self._server.hosts if other != given]
            trust = Trust(given, self._known, self._server.fingerprint, others)
            connecting = tls.connect(endpoint, session, trust, self._tell)
        await connecting.addTimeout(within, self._reactor, _no_answer)

    def _leave_out(self, candidate: Candidate, problem: Untrusted) -> bool:
        """Don't try a host again whose certificate is not the expected one, and tell the user.

        :return: whether other hosts are left; if not, nothing is done.
        """
        is_left_out = self.hosts.leave_out(candidate)
        if is_left_out:
            self._untrusted.add(candidate)
            self._tell(str(problem))
        return is_left_out

    async def _look_up(self) -> None:
        """Find the hosts in DNS, if the user has given one name that may have such records."""
        given, *others = self._server.hosts
        if others or not srv.may_have_records(given):
            return
        targets = await self._find(self._reactor, given.name)
        found = [Candidate(target, given) for target in targets]
        trusted = [candidate for candidate in found if candidate not in self._untrusted]
        if trusted:
            self.hosts.replace(trusted)


def _no_answer(_: object, seconds: float) -> None:
    """Report a timeout. Called when connecting took too long; a cancelled attempt may fail in
    several ways.
    """
    raise defer.TimeoutError(f"{seconds} s")


def explain(problem: Exception, server: Server) -> str:
    """Describe in one line why there is no connection; ``problem`` is one of ``FAILURES``."""
    if isinstance(problem, Untrusted | NotReached):
        return str(problem)
    return _explain_briefly(problem, server.hosts[0], CONNECTED_WITHIN)


def _explain_briefly(problem: Exception, host: Host, within: int) -> str:
    """Describe why a host can't be connected to.

    :param within: the seconds that the attempt had.
    """
    address = host.address
    match problem:
        case error.DNSLookupError() | socket.gaierror() | ValueError():
            return f"host not found: {host.name}"
        case error.ConnectionRefusedError():
            return f"connection refused: no server at {address}"
        case ClosedEarly():
            return (
                f"{address} has closed the connection: it accepts nobody now, or does not speak TLS"
            )
        case NotEncrypted():
            return f"{address} does not speak TLS (--plain connects without encryption)"
        case Untrusted():
            return f"the certificate of {address} is not the expected one"
        case error.TimeoutError() | defer.TimeoutError():
            return f"no answer from {address} within {within} s"
        case _:
            return f"can't connect to {address}: {problem}"
