"""Where a server is, and how a session gets its connection, and the next one when it is lost.

What may go wrong is told in words for people. It does not know who listens to the session.
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
"""Seconds until a server must have taken the connection and, if it is encrypted, shaken hands."""

FAILURES = (
    error.ConnectError,
    error.DNSLookupError,
    socket.gaierror,  # of an address whose zone there is not
    ValueError,  # what no host can be called
    Untrusted,
    NotEncrypted,
    defer.TimeoutError,
)
"""What connecting can fail with; ``explain`` says it in words."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and how it is known.

    :ivar fingerprint: the certificate that it must have, as ``tls.parse_fingerprint`` returns
        it; None for the one that authorities vouch for or that was met first.
    :ivar plain: whether it is spoken to without encryption.
    """

    host: str
    port: int = PORT
    fingerprint: str | None = None
    plain: bool = False

    @property
    def address(self) -> str:
        """Where it is, as it is printed and can be typed."""
        return format_address(self.host, self.port)

    @property
    def name(self) -> str:
        """What is remembered of it is under this name."""
        return address_key(self.host, self.port)


class Connector:
    """Connects sessions to one server.

    :param tell: called with what the user is to be told, a text of several lines.
    """

    def __init__(self, reactor: Any, server: Server, tell: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._server = server
        self._tell = tell
        # The other endpoint drops the zone of an address.
        endpoint = TCP6ClientEndpoint if "%" in server.host else HostnameEndpoint
        self._endpoint = endpoint(reactor, server.host, server.port, CONNECTED_WITHIN)
        known = StateFile(config_folder() / "known_servers")
        self._trust = Trust(server.host, server.port, known, server.fingerprint)

    def connect(self, session: ClientSession) -> Deferred[Any]:
        """Connect ``session``; fire when that is done, or fail with one of ``FAILURES``."""
        session.where = self._server.address
        connecting: Deferred[Any]
        if self._server.plain:
            connecting = connectProtocol(self._endpoint, session)
        else:
            connecting = tls.connect(self._endpoint, session, self._trust, self._tell)
        return connecting.addTimeout(CONNECTED_WITHIN, self._reactor, _no_answer)

    def reconnect(self, session: ClientSession) -> Deferred[Any]:
        """The same for one that is lost. If the server has become another, the session fails."""

        def other(failure: Failure) -> None:
            failure.trap(Untrusted)
            session.fail(str(failure.value))

        return self.connect(session).addErrback(other)


def _no_answer(_: object, seconds: float) -> None:
    """The time for connecting is over. How the attempt was cancelled depends on how far it was."""
    raise defer.TimeoutError(f"{seconds} s")


def explain(problem: Exception, server: Server) -> str:
    """Say why there is no connection."""
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
