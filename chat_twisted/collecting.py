"""The metrics of the server: their names, and how the values are asked of its parts.

Nothing here runs until somebody asks: the parts count in plain attributes, and everything else is
read off their state. No label has a name or a text of a user. ``metrics_site`` exports the values;
docs/operations/metrics.rst describes them for operators. This module must not know how they are
exported.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime

from chat_twisted import __version__
from chat_twisted.auth.gate import Gate
from chat_twisted.core.hub import Hub
from chat_twisted.doors.connecting import DoorFactory, encryption_of
from chat_twisted.doors.front import FrontFactory
from chat_twisted.doors.tls import ServerTLS
from chat_twisted.metrics import Histogram, LoopLag
from chat_twisted.state_folder import Storage


class Kind(enum.Enum):
    """The kinds of metrics, as Prometheus has them."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """A metric.

    :ivar name: its name; that of a counter ends with ``_total``.
    :ivar help: what it says, one sentence.
    :ivar labels: the names of its labels.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


Values = Sequence[tuple[tuple[str, ...], float | Histogram]]
"""The values of a metric, each with the values of the labels."""

Asked = Iterator[tuple[Metric, Values]]

_all: list[Metric] = []


def _metric(kind: Kind, name: str, help: str, *labels: str) -> Metric:
    metric = Metric(name, kind, help, labels)
    _all.append(metric)
    return metric


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return _metric(Kind.GAUGE, name, help, *labels)


def _counter(name: str, help: str, *labels: str) -> Metric:
    return _metric(Kind.COUNTER, name, help, *labels)


def _histogram(name: str, help: str, *labels: str) -> Metric:
    return _metric(Kind.HISTOGRAM, name, help, *labels)


# The server

INFO = _gauge("chat_info", "The version of the server; the value is always 1.", "version")
ACCEPTING = _gauge("chat_accepting", "Whether clients are accepted: 1 or 0.")
CERTIFICATE_END = _gauge(
    "chat_certificate_end_timestamp_seconds", "The time at which the certificate ends."
)
LOOP_LAG = _histogram(
    "chat_loop_lag_seconds", "How late the event loop was; everybody waits as long."
)
COLLECTING = _gauge("chat_metrics_seconds", "How long it took to collect these metrics last time.")

# Connections

CONNECTIONS = _gauge(
    "chat_connections",
    "Open connections, by the door, the kind of the client, and the encryption.",
    *("door", "kind", "encryption"),
)
OPENED = _counter("chat_connections_opened_total", "Connections that a door has got.", "door")
TURNED_AWAY = _counter(
    "chat_connections_turned_away_total",
    "Connections that were closed at once, by the reason.",
    "reason",
)
UNSENT = _gauge("chat_unsent_bytes", "Output that waits for clients, in bytes.", "door")
CUT = _counter("chat_slow_readers_cut_total", "Clients cut off because they did not read.", "door")
REFUSALS = _counter(
    "chat_refusals_total", "Refused requests and connections, by the error.", "door", "error"
)

# Users

SESSIONS = _gauge(
    "chat_sessions", "Sessions: live, or not yet: logging in or catching up.", "state"
)
USERS = _gauge("chat_users", "Users who are present.")
HELD = _gauge("chat_guests_held", "Guests without a session whose names are held.")
ACCOUNTS = _gauge("chat_accounts", "Accounts.")
ROOMS = _gauge("chat_rooms", "Rooms.")
LOGINS = _counter(
    "chat_logins_total",
    'Logins by outcome: "guest", "account", or the error.',
    "outcome",
)

# Messages

MESSAGES = _counter("chat_messages_total", "Messages that were committed, by the target.", "target")
DELIVERIES = _counter("chat_deliveries_total", "Messages times the sessions here that got them.")
QUEUES = _gauge("chat_queue_length", "What waits: commands, logins, passwords, readings.", "queue")

# Storage

COMMIT_SECONDS = _histogram("chat_commit_seconds", "Duration of the commits to the archive.")
COMMIT_COMMANDS = _histogram("chat_commit_commands", "Commands in each commit.")
COMMIT_FAILURES = _counter("chat_commit_failures_total", "Commits that have failed.")
INDEX_LAG = _gauge("chat_index_lag_messages", "Messages that are not indexed yet.")
FILES = _gauge("chat_file_bytes", "Sizes of the files; a log is a write-ahead log.", "file")
DISK_FREE = _gauge("chat_disk_free_bytes", "Free bytes of the disk of the state folder.")
READ_SECONDS = _histogram(
    "chat_read_seconds", "Duration of readings of stored messages, without waiting.", "kind"
)
READ_DEADLINES = _counter(
    "chat_read_deadlines_total", "Readings that were interrupted at their deadline.", "kind"
)
READ_REFUSALS = _counter(
    "chat_read_refusals_total", "Readings that were refused: too many, or too long.", "kind"
)

# The cluster; a single server has no values

IN_TOUCH = _gauge("chat_cluster_in_touch", "Whether this node reaches its cluster: 1 or 0.")
POSITION = _gauge("chat_cluster_position", "The record of the log up to which this node is.")
LAG = _gauge(
    "chat_cluster_lag_records", "Records that are in the log, and not applied by this node."
)
ROUND_SECONDS = _histogram(
    "chat_cluster_round_seconds", "Seconds until a batch of this node came back by the log."
)
NODE_MEMBER = _gauge("chat_cluster_node_member", "Whether a node is a member: 1 or 0.", "node")
NODE_POSITION = _gauge(
    "chat_cluster_node_position", "The record up to which a node was, when last heard.", "node"
)
NODE_SILENT = _gauge(
    "chat_cluster_node_silent_seconds", "Seconds since a node was last heard.", "node"
)

METRICS = tuple(_all)
"""All metrics."""


class Collector:
    """Asks the parts of a server for the values of all metrics.

    :param doors: the doors, by the names of their protocols.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        front: FrontFactory,
        doors: Mapping[str, DoorFactory[Any]],
        storage: Storage,
        tls: ServerTLS,
        lag: LoopLag,
        clock: IReactorTime,
    ) -> None:
        self._hub = hub
        self._gate = gate
        self._front = front
        self._doors = doors
        self._storage = storage
        self._tls = tls
        self._lag = lag
        self._clock = clock
        self._seconds = 0.0

    def collect(self) -> dict[Metric, Values]:
        """Return the values of the metrics. It takes about ten milliseconds with 10,000 clients."""
        begun = self._clock.seconds()
        found: dict[Metric, Values] = {}
        for part in (
            self._ask_server,
            self._ask_doors,
            self._ask_users,
            self._ask_hub,
            self._ask_storage,
            self._ask_cluster,
        ):
            found.update(part())
        self._seconds = self._clock.seconds() - begun
        return found

    def _ask_server(self) -> Asked:
        yield INFO, [((__version__,), 1)]
        yield ACCEPTING, _one(not self._front.not_accepting)
        yield CERTIFICATE_END, _one(self._tls.valid_until)
        yield LOOP_LAG, _one(self._lag.seconds)
        yield COLLECTING, _one(self._seconds)

    def _ask_doors(self) -> Asked:
        doors = self._doors.items()
        connections: Counter[tuple[str, ...]] = Counter()
        unsent: Counter[str] = Counter()
        for name, door in doors:
            for stream in door.streams.open:
                unsent[name] += stream.unsent
                protocol = stream.protocol
                if not protocol.channel.inside:  # the SSH door has its connection
                    connections[name, protocol.kind, encryption_of(protocol)] += 1
        connections["none", "undecided", "unknown"] = self._front.undecided
        yield CONNECTIONS, list(connections.items())
        yield UNSENT, [((name,), unsent[name]) for name, _ in doors]
        yield OPENED, [((name,), door.streams.opened) for name, door in doors]
        yield CUT, [((name,), door.streams.cut) for name, door in doors]
        yield TURNED_AWAY, _by_label(self._front.turned_away)
        yield (
            REFUSALS,
            [((name, error), n) for name, door in doors for error, n in door.refused.items()],
        )

    def _ask_users(self) -> Asked:
        hub = self._hub
        population, logins, live = hub.population(), hub.logins, hub.traffic().live
        yield SESSIONS, _by_label({"live": live, "arriving": population.sessions - live})
        yield USERS, _one(population.users)
        yield HELD, _one(population.held)
        yield ACCOUNTS, _one(population.accounts)
        yield ROOMS, _one(population.rooms)
        outcomes = Counter({"AuthenticationFailed": self._gate.failed})
        outcomes.update(logins.accepted)
        outcomes.update(logins.refused)
        yield LOGINS, _by_label(outcomes)

    def _ask_hub(self) -> Asked:
        to_all, to_rooms, to_users, deliveries, _ = self._hub.traffic()
        yield MESSAGES, _by_label({"all": to_all, "room": to_rooms, "user": to_users})
        yield DELIVERIES, _one(deliveries)
        waiting = {
            "commands": self._storage.ledger.waiting,
            "logins": self._hub.logins.waiting,
            "passwords": self._gate.passwords.waiting,
            "readings": self._storage.readers.waiting,
        }
        yield QUEUES, _by_label(waiting)

    def _ask_storage(self) -> Asked:
        storage = self._storage
        commits, readers = storage.ledger.commits, storage.readers
        yield COMMIT_SECONDS, _one(commits.seconds)
        yield COMMIT_COMMANDS, _one(commits.commands)
        yield COMMIT_FAILURES, _one(commits.failed)
        yield INDEX_LAG, _one(storage.index_lag)
        yield FILES, _by_label(storage.file_sizes())
        yield DISK_FREE, _one(storage.free_bytes())
        reads = [(("short",), readers.short), (("search",), readers.searches)]
        yield READ_SECONDS, [(kind, counted.seconds) for kind, counted in reads]
        yield READ_DEADLINES, [(kind, counted.deadlines) for kind, counted in reads]
        yield READ_REFUSALS, [(kind, counted.refused) for kind, counted in reads]

    def _ask_cluster(self) -> Asked:
        if self._storage.cluster is None:
            return
        status = self._storage.cluster.status()
        nodes = [((node["name"],), node) for node in status["nodes"]]
        yield IN_TOUCH, _one(status["in_touch"])
        yield POSITION, _one(status["position"])
        yield LAG, _one(self._storage.cluster_lag)
        yield ROUND_SECONDS, _one(self._storage.rounds)
        yield NODE_MEMBER, [(name, node["member"]) for name, node in nodes]
        yield NODE_POSITION, [(name, node["position"]) for name, node in nodes]
        yield NODE_SILENT, [(name, node["silent"]) for name, node in nodes]


def _one(value: float | Histogram) -> Values:
    return [((), value)]


def _by_label(values: Mapping[str, float]) -> Values:
    return [((label,), value) for label, value in values.items()]
