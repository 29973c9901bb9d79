"""Where a server is, and how a session gets its connection, and the next one when it is lost.

What may go wrong is told in words for people. It does not know who listens to the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.python.failure import Failure

from chat_twisted.client import secure
from chat_twisted.client.remembered import Remembered, config_folder
from chat_twisted.client.secure import NotEncrypted, Trust, Untrusted
from chat_twisted.client.session import ClientSession

PORT = 8828

FAILURES = (
    error.ConnectError,
    error.DNSLookupError,
    ValueError,  # what no host can be called
    Untrusted,
    NotEncrypted,
    defer.TimeoutError,
)
"""What connecting can fail with; ``explain`` says it in words."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and how it is known.

    :ivar fingerprint: the certificate that it must have, as ``secure.parse_fingerprint`` returns
        it; None for the one that authorities vouch for or that was met first.
    :ivar plain: whether it is spoken to without encryption.
    """

    host: str
    port: int = PORT
    fingerprint: str | None = None
    plain: bool = False

    @property
    def name(self) -> str:
        """What is remembered of it is under this name."""
        host = self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host.lower()}:{self.port}"


class Connector:
    """Connects sessions to one server.

    :param tell: called with what the user is to be told, a text of several lines.
    """

    def __init__(self, reactor: Any, server: Server, tell: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._server = server
        self._tell = tell
        self._endpoint = HostnameEndpoint(reactor, server.host, server.port)
        known = Remembered(config_folder() / "known_servers")
        self._trust = Trust(server.host, server.port, known, server.fingerprint)

    def connect(self, session: ClientSession) -> Deferred[Any]:
        """Connect ``session``; fire when that is done, or fail with one of ``FAILURES``."""
        if self._server.plain:
            connected: Deferred[Any] = connectProtocol(self._endpoint, session)
            return connected
        return secure.connect(self._endpoint, session, self._trust, self._tell, self._reactor)

    def reconnect(self, session: ClientSession) -> Deferred[Any]:
        """The same for one that is lost. If the server has become another, the session fails."""

        def other(failure: Failure) -> None:
            failure.trap(Untrusted)
            session.fail(str(failure.value))

        return self.connect(session).addErrback(other)


def explain(problem: Exception, server: Server) -> str:
    """Say why there is no connection."""
    host, port = server.host, server.port
    match problem:
        case error.DNSLookupError() | ValueError():
            return f"host not found: {host}"
        case error.ConnectionRefusedError():
            return f"connection refused: no server at {host} port {port}"
        case NotEncrypted():
            return f"{host} port {port} does not speak TLS (--plain connects without encryption)"
        case Untrusted():
            return str(problem)
        case error.TimeoutError() | defer.TimeoutError():
            return f"timed out: no answer from {host} port {port}"
        case _:
            return f"can't connect to {host} port {port}: {problem}"
