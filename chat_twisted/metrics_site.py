"""The web site for the operator's monitoring: ``/metrics`` for Prometheus, ``/healthz`` and
``/readyz``.

This is the only module that knows Prometheus and HTTP, and it is imported only with ``--metrics``.
Whoever asks can't harm the chat: the connections are few and short, a request has no content, and
values are collected at most once a second. This module must not know what the values mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector as FamilyCollector
from twisted.internet.defer import Deferred, DeferredList, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from chat_twisted.collecting import Kind, Metric, Values
from chat_twisted.doors import describe
from chat_twisted.logs import Logger
from chat_twisted.metrics import Histogram, LoopLag

MAX_CONNECTIONS = 16
"""Maximum number of connections; a new one replaces the oldest."""

CLOSED_AFTER = 15.0
"""Seconds after which a connection is closed, whatever it does."""

FRESH = 1.0
"""Seconds for which the values and the state of health that were found are used again."""

CHECK_WITHIN = 5.0
"""Seconds within which a row must be written; otherwise the server counts as ill."""

TEXT = b"text/plain; charset=utf-8"

Collect = Callable[[], dict[Metric, Values]]
"""Type of the function that returns the values of all metrics."""


class _Families(FamilyCollector):
    """Passes the values to the library of Prometheus."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Family]:
        """Yield all metrics. Called by the library."""
        for metric, values in self._collect().items():
            yield _family(metric, values)

    def describe(self) -> Iterator[Family]:
        """Yield nothing, so that the library does not ask for the values at once."""
        return iter(())


def _family(metric: Metric, values: Values) -> Family:
    name, kind, help, labels = metric
    if kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, help, labels=labels)
        for value_labels, value in values:
            assert isinstance(value, Histogram)
            histogram.add_metric(value_labels, list(_buckets(value)), value.sum)
        return histogram
    family: GaugeMetricFamily | CounterMetricFamily
    if kind is Kind.COUNTER:
        family = CounterMetricFamily(name, help, labels=labels)
    else:
        family = GaugeMetricFamily(name, help, labels=labels)
    for value_labels, value in values:
        assert not isinstance(value, Histogram)
        family.add_metric(value_labels, value)
    return family


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Yield the upper bounds, each with the number of values that are not larger."""
    number = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        number += count
        yield str(float(bound)), number
    yield "+Inf", histogram.total


class _Page(Resource):
    """A page without pages below it: the one of all paths that have no other."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def render(self, request: Request) -> int:
        """Answer a request, now or later. Called by Twisted."""
        if request.method in (b"GET", b"HEAD"):
            self.show(request)
        else:
            self.answer(request, 405, b"only GET and HEAD are allowed\n")
        return NOT_DONE_YET

    def show(self, request: Request) -> None:
        """Answer a GET or HEAD."""
        self.answer(request, 404, b"there are /metrics, /healthz and /readyz\n")

    def answer(self, request: Request, code: int, content: bytes, kind: bytes = TEXT) -> None:
        """Send the answer to a request whose connection is still there."""
        request.setResponseCode(code)
        request.setHeader(b"content-type", kind)
        request.setHeader(b"content-length", b"%d" % len(content))
        request.write(b"" if request.method == b"HEAD" else content)
        request.finish()


class MetricsPage(_Page):
    """The values of all metrics, in the text format of Prometheus."""

    def __init__(self, collect: Collect, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock
        self._content = b""
        self._made_at: float | None = None
        self._registry = CollectorRegistry()
        self._registry.register(_Families(collect))
        ProcessCollector(registry=self._registry)

    def show(self, request: Request) -> None:
        """See ``_Page.show``."""
        now = self._clock.seconds()
        if self._made_at is None or now - self._made_at >= FRESH:
            self._made_at = now
            self._content = generate_latest(self._registry)
        self.answer(request, 200, self._content, CONTENT_TYPE_LATEST.encode())


class HealthPage(_Page):
    """Whether the server can commit.

    :param check: fires when something was written; fails with the reason if it can't be.
    """

    def __init__(self, check: Callable[[], Deferred[None]], clock: IReactorTime) -> None:
        super().__init__()
        self._check = check
        self._clock = clock
        self._reason = ""
        self._found_at: float | None = None
        self._waiting: dict[Request, None] = {}
        self._is_checking = False

    def show(self, request: Request) -> None:
        """See ``_Page.show``; all that ask meanwhile get the same answer."""
        now = self._clock.seconds()
        if self._found_at is not None and now - self._found_at < FRESH:
            self._answer(request)
            return
        self._waiting[request] = None
        request.notifyFinish().addErrback(lambda _: self._waiting.pop(request, None))
        if not self._is_checking:
            self._is_checking = True
            checking = self._check().addTimeout(CHECK_WITHIN, self._clock)
            checking.addCallbacks(lambda _: "", _reason).addCallback(self._found)

    def _found(self, reason: str) -> None:
        self._is_checking = False
        self._reason = reason
        self._found_at = self._clock.seconds()
        waiting, self._waiting = self._waiting, {}
        for request in waiting:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        _answer_yes_or_no(self, request, self._reason)


def _reason(failure: Failure) -> str:
    if failure.check(TimeoutError):
        return f"nothing could be written within {CHECK_WITHIN:g} seconds"
    return f"can't commit: {failure.getErrorMessage()}"


class ReadyPage(_Page):
    """Whether the server accepts clients.

    :param reason: returns the reason why not; empty if it does.
    """

    def __init__(self, reason: Callable[[], str]) -> None:
        super().__init__()
        self._reason = reason

    def show(self, request: Request) -> None:
        """See ``_Page.show``."""
        _answer_yes_or_no(self, request, self._reason())


def _answer_yes_or_no(page: _Page, request: Request, reason: str) -> None:
    page.answer(request, 503 if reason else 200, f"{reason or 'ok'}\n".encode())


class _Root(Resource):
    """The root of the site."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def getChild(self, path: bytes, request: Request) -> Resource:
        """Return the page of a path that has none. Called by Twisted."""
        return _Page()


class _Connection(HTTPChannel):
    """A connection: one request without content, and a deadline."""

    factory: MetricsFactory
    transport: Any
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Set the deadline. Called by Twisted."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._deadline = self.factory.clock.callLater(CLOSED_AFTER, self.cut_off)
        self.factory.came(self)

    def cut_off(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection. Called by Twisted."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self.factory.gone(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Return that the connection ends with the answer. Called by Twisted."""
        request.setHeader(b"connection", b"close")
        return False

    def allHeadersReceived(self) -> None:
        """Cut off a client that sends content. Called by Twisted."""
        if self.length == 0:
            super().allHeadersReceived()  # type: ignore[no-untyped-call]
            return
        self.requests[-1].content = BytesIO()  # Twisted would write it to a temporary file
        self.cut_off()


class MetricsFactory(Site):
    """The factory of the connections.

    :param root: the pages.
    :param clock: the reactor.
    """

    noisy = False
    protocol = _Connection  # type: ignore[assignment]  # no HTTP/2 here

    def __init__(self, root: Resource, clock: IReactorTime) -> None:
        super().__init__(root, reactor=clock, timeout=CLOSED_AFTER)  # type: ignore[no-untyped-call]
        self.clock = clock
        self._open: dict[_Connection, None] = {}  # oldest first

    def startFactory(self) -> None:
        """Do nothing: there is no log of requests. Called by Twisted."""

    def stopFactory(self) -> None:
        """Do nothing. Called by Twisted."""

    def log(self, request: Request) -> None:
        """Do nothing. Called by Twisted for each request."""

    def came(self, connection: _Connection) -> None:
        """Called for a new connection."""
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cut_off()
        self._open[connection] = None

    def gone(self, connection: _Connection) -> None:
        """Called when a connection is lost."""
        self._open.pop(connection, None)

    def close_all(self) -> None:
        """Close all connections at once."""
        for connection in list(self._open):
            connection.cut_off()


def make_factory(
    collect: Collect,
    check: Callable[[], Deferred[None]],
    not_ready: Callable[[], str],
    clock: IReactorTime,
) -> MetricsFactory:
    """Make the site.

    :param collect: returns the values of all metrics.
    :param check: see ``HealthPage``.
    :param not_ready: see ``ReadyPage``.
    :param clock: the reactor.
    """
    root = _Root()
    root.putChild(b"metrics", MetricsPage(collect, clock))
    root.putChild(b"healthz", HealthPage(check, clock))
    root.putChild(b"readyz", ReadyPage(not_ready))
    return MetricsFactory(root, clock)


class MetricsService:
    """The site while it is served, and the measuring of the event loop.

    :param ports: the ports, on which ``factory`` listens already.
    """

    _log = Logger()

    def __init__(
        self, ports: Sequence[IListeningPort], factory: MetricsFactory, lag: LoopLag
    ) -> None:
        self._ports = ports
        self._factory = factory
        self._lag = lag

    def start(self) -> None:
        """Start to measure. Called in the process that serves."""
        self._lag.start()
        for port in self._ports:
            self._log.info(
                "metrics on {address}", event="metrics", address=describe(port.getHost())
            )

    def stop(self) -> Deferred[Any]:
        """Close everything.

        :return: fires when that is done.
        """
        self._lag.stop()
        stopping = [maybeDeferred(port.stopListening) for port in self._ports]
        self._factory.close_all()
        return DeferredList(stopping, consumeErrors=True)
