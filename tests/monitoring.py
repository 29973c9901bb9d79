"""A server in memory with a collector of its metrics."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from chat_twisted.collecting import Collector, Metric, Values
from chat_twisted.core.limits import Limiter, Limits
from chat_twisted.doors.front import Choice, FrontFactory
from chat_twisted.metrics import Histogram, LoopLag, Reads
from chat_twisted.state_folder import Storage
from chat_twisted.testing import MemoryServer, MemoryStore
from tests.door import server_tls
from tests.irc import IRCTestCase

CLUSTER = {
    "node": "a",
    "in_touch": True,
    "position": 7,
    "nodes": [
        {"name": "a", "member": True, "position": 7, "silent": 0.0},
        {"name": "b", "member": False, "position": 5, "silent": 60.5},
    ],
}


class MemoryStorage(Storage):
    """The storage of a server in memory."""

    def __init__(self, server: MemoryServer, store: MemoryStore, folder: Path) -> None:
        self._store: Any = store
        self._folder = folder
        self._housekeeping = server.housekeeping
        self.ledger = server.ledger
        self.cluster = None
        self.rounds = Histogram()
        self.reading: Any = SimpleNamespace(waiting=3, short=Reads(), searches=Reads())

    @property
    def readers(self) -> Any:
        return self.reading


class MonitoredTestCase(IRCTestCase):
    """A hub with two doors and the front, and a collector of their metrics."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.storage = MemoryStorage(self.server, self.store, self.folder)
        choices = [Choice(self.irc, (b"NICK",)), Choice(self.factory)]
        self.front = FrontFactory(choices, server_tls(), self.clock, Limiter(Limits()))
        self.lag = LoopLag(self.clock)
        self.collector = Collector(
            self.hub,
            self.gate,
            self.front,
            {"framed": self.factory, "irc": self.irc},
            self.storage,
            server_tls(),
            self.lag,
            self.clock,
        )

    def be_a_node(self) -> None:
        """Have the storage be that of a node of a cluster."""
        self.storage.cluster = SimpleNamespace(status=lambda: CLUSTER)  # type: ignore[assignment]

    def values(self, metric: Metric) -> Values:
        return self.collector.collect()[metric]

    def value(self, metric: Metric, *labels: str) -> float:
        """The value with these labels."""
        [found] = [value for names, value in self.values(metric) if names == labels]
        assert not isinstance(found, Histogram)
        return float(found)

    def histogram(self, metric: Metric) -> Histogram:
        [(_, found)] = self.values(metric)
        assert isinstance(found, Histogram)
        return found


def parse(text: str) -> dict[tuple[str, ...], float]:
    """Parse the text format of Prometheus.

    :return: the values, each by the name of its sample and the values of its labels in the order of
        their names.
    """
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
