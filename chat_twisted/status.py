"""The status of the running process, for the operator's command ``admin status``.

This module must not know the chat: ``control`` adds the users, the rooms and the rest.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from typing import Any

from twisted.internet.interfaces import IReactorTime

from chat_twisted.collecting import encryption_of
from chat_twisted.doors.connecting import DoorFactory
from chat_twisted.doors.ssh.host_keys import HostKeys
from chat_twisted.doors.tls import ServerTLS


def _count_by_kind(doors: Collection[DoorFactory[Any]]) -> Counter[str]:
    """Count the connections by transport and protocol, but not those in memory."""
    kinds: Counter[str] = Counter()
    for door in doors:
        for stream in door.streams.open:
            if stream.protocol.channel.inside:
                continue
            kinds[f"{encryption_of(stream.protocol)} {stream.protocol.kind}"] += 1
    return kinds


class Status:
    """Describes the process and its connections. The uptime counts from when this is made.

    :param host_keys: the host keys of the SSH door; None without that door.
    """

    def __init__(
        self,
        doors: Collection[DoorFactory[Any]],
        tls: ServerTLS,
        host_keys: HostKeys | None,
        clock: IReactorTime,
    ) -> None:
        self._doors = doors
        self._tls = tls
        self._host_keys = host_keys
        self._clock = clock
        self._started = clock.seconds()

    def describe(self) -> dict[str, Any]:
        """Return the status as values for JSON. The uptime is in seconds."""
        tls = self._tls
        return {
            "process": os.getpid(),
            "uptime": round(self._clock.seconds() - self._started, 3),
            "connections": _count_by_kind(self._doors),
            "certificate": {
                "fingerprint": tls.fingerprint,
                "weechat": tls.digits,
                "irssi": tls.pairs,
                "vouched": tls.is_vouched_for,
            },
            "host_keys": [] if self._host_keys is None else self._host_keys.fingerprints,
        }
