"""Whether the log survives a loss of power of all its servers: what ``--sync full`` demands.

Three servers must keep it, and each must wait for its disk before it confirms a record
(``sync_interval: always``). A client of NATS can't see that setting; the servers tell it on their
monitoring ports, of which this module asks ``/varz``. It must not know records.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

SERVERS = 3
"""How many servers must keep the log."""

PATIENCE = 3.0
"""Seconds for the answer of one server."""


async def find_shortcoming(
    keepers: frozenset[str], monitors: Sequence[str], reactor: Any
) -> tuple[str, bool]:
    """Find out why a log would not survive that.

    :param keepers: the names of the servers that keep the log (``NatsLog.keepers``).
    :param monitors: the URLs of the monitoring of all servers: ``http://HOST:PORT``.
    :return: the reason, part of a sentence, empty if there is none; and whether it is certain, not
        only that some server did not answer.
    """
    if len(keepers) < SERVERS:
        return (
            f"the number of NATS servers that keep the log is {len(keepers)}, not {SERVERS}",
            True,
        )
    found: dict[str, bool] = {}
    silent: list[str] = []
    asked = [Deferred.fromCoroutine(_ask(monitor, reactor)) for monitor in monitors]
    for monitor, answer in zip(monitors, await gatherResults(asked), strict=True):
        if answer is None:
            silent.append(monitor)
        else:
            found.update([answer])
    for name in sorted(keepers):
        if found.get(name) is False:
            return f"the NATS server {name} does not have sync_interval: always", True
    if unknown := sorted(keepers - found.keys()):
        names = ", ".join(unknown)
        where = ", ".join(silent) or "the other URLs of --cluster-monitor"
        reason = f"nothing is known about the NATS server {names}: no answer from {where}"
        return f"{reason} (http: 8222 in its configuration)", False
    return "", True


async def _ask(monitor: str, reactor: Any) -> tuple[str, bool] | None:
    """Return a server's name, and whether it waits for its disk; None if it does not answer."""
    agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor))
    asking = agent.request(b"GET", f"{monitor.rstrip('/')}/varz".encode())
    try:
        response = await asking.addTimeout(PATIENCE, reactor)
        body = _Body()
        response.deliverBody(body)
        answer = json.loads(await body.complete.addTimeout(PATIENCE, reactor))
        config = answer["jetstream"]["config"]
        return answer["server_name"], bool(config.get("sync_always"))
    except Exception:  # noqa: BLE001  whatever it is that answers there, it is not such a server
        return None


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Makes the connections for an ``Agent``."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def endpointForURI(self, uri: URI) -> _QuietEndpoint:
        """Return what connects to a URL's host. Called by Twisted."""
        return _QuietEndpoint(self._reactor, uri.host, uri.port, timeout=PATIENCE)


class _QuietEndpoint(HostnameEndpoint):
    """Connects without a line in the log: a node may have to ask every few seconds."""

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """Connect. Called by Twisted."""
        protocolFactory.noisy = False
        return super().connect(protocolFactory)


class _Body(Protocol):
    """Collects the body of an answer.

    :ivar complete: fires with it.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.complete: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted with each piece."""
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted at the end."""
        if self.complete.called:
            return  # it was too late
        if reason.check(ResponseDone):
            self.complete.callback(b"".join(self._pieces))
        else:
            self.complete.errback(reason)
