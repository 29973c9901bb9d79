"""Connects a session to its server, and again after the connection is lost.

Errors are explained in plain words for the user. This module must not know the session's listener.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.python.failure import Failure

from chat_twisted.client import tls
from chat_twisted.client.address import PORT, address_key, format_address
from chat_twisted.client.client_state import StateFile, config_folder
from chat_twisted.client.session import ClientSession
from chat_twisted.client.tls import NotEncrypted, Trust, Untrusted

CONNECTED_WITHIN = 20
"""Seconds for connecting, including the TLS handshake."""

FAILURES = (
    error.ConnectError,
    error.DNSLookupError,
    socket.gaierror,  # an address with an unknown zone
    ValueError,  # not a valid host name
    Untrusted,
    NotEncrypted,
    defer.TimeoutError,
)
"""Exceptions that a connection attempt can fail with; ``explain`` describes them."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address, and how its identity is checked.

    :ivar host: a host name or IP address.
    :ivar port: a TCP port.
    :ivar fingerprint: the fingerprint that its certificate must have, as ``tls.parse_fingerprint``
        returns it; None to accept a certificate of an authority, or else the pinned one.
    :ivar plain: connect without encryption.
    """

    host: str
    port: int = PORT
    fingerprint: str | None = None
    plain: bool = False

    @property
    def address(self) -> str:
        """The address as it is printed and can be typed."""
        return format_address(self.host, self.port)

    @property
    def name(self) -> str:
        """The key under which facts about the server are stored."""
        return address_key(self.host, self.port)


class Connector:
    """Connects sessions to one server.

    :param tell: called with a notice for the user, which may have several lines.
    """

    def __init__(self, reactor: Any, server: Server, tell: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._server = server
        self._tell = tell
        # HostnameEndpoint drops the zone of an IPv6 address.
        endpoint = TCP6ClientEndpoint if "%" in server.host else HostnameEndpoint
        self._endpoint = endpoint(reactor, server.host, server.port, CONNECTED_WITHIN)
        known = StateFile(config_folder() / "known_servers")
        self._trust = Trust(server.host, server.port, known, server.fingerprint)

    def connect(self, session: ClientSession) -> Deferred[Any]:
        """Connect ``session``.

        :return: fires when the session is connected; fails with one of ``FAILURES``.
        """
        session.where = self._server.address
        connecting: Deferred[Any]
        if self._server.plain:
            connecting = connectProtocol(self._endpoint, session)
        else:
            connecting = tls.connect(self._endpoint, session, self._trust, self._tell)
        return connecting.addTimeout(CONNECTED_WITHIN, self._reactor, _no_answer)

    def reconnect(self, session: ClientSession) -> Deferred[Any]:
        """Connect ``session`` again. If the server's certificate has changed, the session ends.

        :return: as ``connect``, but does not fail with ``Untrusted``.
        """

        def other(failure: Failure) -> None:
            failure.trap(Untrusted)
            session.fail(str(failure.value))

        return self.connect(session).addErrback(other)


def _no_answer(_: object, seconds: float) -> None:
    """Report a timeout. Called when connecting took too long; a cancelled attempt may fail in
    several ways.
    """
    raise defer.TimeoutError(f"{seconds} s")


def explain(problem: Exception, server: Server) -> str:
    """Describe in one line why there is no connection; ``problem`` is one of ``FAILURES``."""
    address = server.address
    match problem:
        case error.DNSLookupError() | socket.gaierror() | ValueError():
            return f"host not found: {server.host}"
        case error.ConnectionRefusedError():
            return f"connection refused: no server at {address}"
        case NotEncrypted():
            return f"{address} does not speak TLS (--plain connects without encryption)"
        case Untrusted():
            return str(problem)
        case error.TimeoutError() | defer.TimeoutError():
            return f"no answer from {address} within {CONNECTED_WITHIN} s"
        case _:
            return f"can't connect to {address}: {problem}"
