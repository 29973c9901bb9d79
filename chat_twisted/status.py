"""The running server for the operator's command: its status, and what the command can change.

This module must not know the requests of the command, which are in ``control``; that adds the
users, the rooms and the rest to the status.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chat_twisted.auth.gate import Gate
from chat_twisted.core.hub import Hub
from chat_twisted.doors.connecting import DoorFactory, encryption_of
from chat_twisted.doors.front import FrontFactory
from chat_twisted.doors.ssh.host_keys import HostKeys
from chat_twisted.doors.tls import ServerTLS
from chat_twisted.rates import Rates
from chat_twisted.state_folder import Storage


def _count_by_kind(doors: Collection[DoorFactory[Any]]) -> Counter[str]:
    """Count the connections by transport and protocol, but not those in memory."""
    kinds: Counter[str] = Counter()
    for door in doors:
        for stream in door.streams.open:
            if stream.protocol.channel.inside:
                continue
            kinds[f"{encryption_of(stream.protocol)} {stream.protocol.kind}"] += 1
    return kinds


class RunningServer:
    """The server of this process, for ``Control``. The uptime counts from when this is made.

    :ivar rates: the rates of the traffic; they must be started.
    :param host_keys: the host keys of the SSH door; None without that door.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        doors: Collection[DoorFactory[Any]],
        front: FrontFactory,
        tls: ServerTLS,
        host_keys: HostKeys | None,
        storage: Storage,
        clock: IReactorTime,
    ) -> None:
        self._hub = hub
        self._gate = gate
        self._doors = doors
        self._front = front
        self._tls = tls
        self._host_keys = host_keys
        self._storage = storage
        self._clock = clock
        self._started = clock.seconds()
        self.rates = Rates(self._count, clock)

    def _count(self) -> dict[str, float]:
        """Return the counters for the rates."""
        to_all, to_rooms, to_users, deliveries, _ = self._hub.traffic()
        logins = self._hub.logins
        return {
            "messages": to_all + to_rooms + to_users,
            "deliveries": deliveries,
            "logins": sum(logins.accepted.values()),
            "refused logins": sum(logins.refused.values()) + self._gate.failed,
            "commits": self._storage.ledger.commits.seconds.total,
        }

    # The part of a server that ``Control`` uses

    def summarize(self) -> str:
        """Return the status as one short line."""
        if reason := self._front.not_accepting:
            return f"no clients: {reason}"
        users = self._hub.population().users
        return f"{users} users, {_count_by_kind(self._doors).total()} connections"

    def describe(self) -> dict[str, Any]:
        """See ``control.Server.describe``."""
        tls, storage = self._tls, self._storage
        found = {
            "process": os.getpid(),
            "uptime": round(self._clock.seconds() - self._started, 3),
            "not_accepting": self._front.not_accepting,
            "connections": _count_by_kind(self._doors),
            "rates": self.rates.per_second(),
            "queues": {
                "commands": storage.ledger.waiting,
                "logins": self._hub.logins.waiting,
                "passwords": self._gate.passwords.waiting,
                "readings": storage.readers.waiting,
            },
            "unsent": sum(stream.unsent for door in self._doors for stream in door.streams.open),
            "certificate": {
                "fingerprint": tls.fingerprint,
                "weechat": tls.digits,
                "irssi": tls.pairs,
                "vouched": tls.is_vouched_for,
                "until": int(tls.valid_until * 1000),
                "names": tls.names,
            },
            "host_keys": [] if self._host_keys is None else self._host_keys.fingerprints,
            "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "retain": storage.retain,
        }
        if storage.cluster is not None:
            node = storage.cluster.status()
            found["cluster"] = {
                **{field: node[field] for field in ("node", "in_touch", "position")},
                "behind": storage.cluster_lag,
            }
        return found

    @property
    def motd(self) -> str:
        """See ``control.Server.motd``."""
        return next((door.motd for door in self._doors if door.motd), "")

    def set_motd(self, motd: str) -> None:
        """See ``control.Server.set_motd``."""
        for door in self._doors:
            door.set_motd(motd)

    @property
    def retain(self) -> float | None:
        """See ``control.Server.retain``."""
        return self._storage.retain

    def delete_older(self, seconds: float) -> Deferred[int]:
        """See ``control.Server.delete_older``."""
        return self._storage.delete_older(seconds)
