"""Serves the metrics on the endpoint of ``--metrics``.

``metrics_site``, Prometheus and HTTP are imported only here, and only with the option: without it,
the server needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint

from chat_twisted.collecting import Collector
from chat_twisted.doors.front import FrontFactory
from chat_twisted.listening import for_this_machine, listen, make_endpoints, require_prometheus
from chat_twisted.metrics import LoopLag
from chat_twisted.serving import Monitored
from chat_twisted.state_folder import Storage


def make_metrics_endpoints(
    description: str | None, reactor: Any
) -> list[tuple[str, IStreamServerEndpoint]]:
    """Make the endpoint of ``--metrics``; if it is invalid, print why and exit with 1.

    :param description: the value of the option; None without it.
    :return: as ``make_endpoints`` does; empty without the option.
    """
    if description is None:
        return []
    require_prometheus()
    return make_endpoints([for_this_machine(description)], reactor, "--metrics")


def serve_metrics(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
    collect: Callable[[LoopLag], Collector],
    storage: Storage,
    front: FrontFactory,
    reactor: Any,
) -> Monitored:
    """Listen on the endpoint of ``--metrics``; if that fails, print why and exit with 1. Prometheus
    and HTTP are imported only here: without the option, the server needs neither.

    :param collect: makes the collector.
    """
    from chat_twisted import metrics_site

    def check() -> Deferred[None]:
        return Deferred.fromCoroutine(storage.check_writing())

    lag = LoopLag(reactor)
    site = metrics_site.make_factory(
        collect(lag).collect, check, lambda: front.not_accepting, reactor
    )
    return metrics_site.MetricsService(listen(endpoints, site, reactor), site, lag)
