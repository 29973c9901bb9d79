"""Serves the metrics on the endpoints for them.

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
from chat_twisted.listening import listen
from chat_twisted.metrics import LoopLag
from chat_twisted.serving import Monitored
from chat_twisted.state_folder import Storage


def serve_metrics(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
    collect: Callable[[LoopLag], Collector],
    storage: Storage,
    front: FrontFactory,
    reactor: Any,
) -> Monitored:
    """Listen on the endpoints for metrics; if that fails, print why and exit with 1. Prometheus
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
