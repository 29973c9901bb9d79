"""Rate limits for log lines that peers can cause.

Lines of an address that exceed its rate are counted, and reported by one line a minute. So a flood
is visible in the log as long as it lasts, but does not fill the disk. This module must not know
what the lines are about.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.limits import Bucket, Rate, network

REPORT_EVERY = 60
"""Seconds after which omitted lines are reported."""

MAX_REPORTED = 10
"""Maximum number of addresses with a line of their own in a report; the others share one line."""

MAX_ADDRESSES = 1000
"""Maximum number of addresses that are counted separately."""


class _Address:
    """The recent log lines of one address."""

    __slots__ = ("bucket", "last", "omitted")

    def __init__(self, rate: Rate, now: float) -> None:
        self.bucket = Bucket(rate, now)
        self.omitted = 0  # lines since the last report
        self.last: tuple[str, dict[str, Any]] = ("", {})  # the last omitted line


class PeerLog:
    """Writes log lines within rate limits.

    :param write: a method of a ``twisted.logger.Logger``.
    :param clock: a monotonic clock.
    :param each: the rate of each address.
    :param all: the rate of all addresses together.
    """

    def __init__(
        self, write: Callable[..., None], clock: IReactorTime, *, each: Rate, all: Rate
    ) -> None:
        self._write = write
        self._clock = clock
        self._each = each
        self._all = Bucket(all, clock.seconds())
        self._addresses: dict[str, _Address] = {}
        self._others = 0  # omitted lines of addresses that are not counted separately
        self._reporting: IDelayedCall | None = None

    def emit(self, host: str | None, format: str, /, **fields: Any) -> None:
        """Write a line that the peer at ``host`` has caused, or count it as omitted. The fields are
        those of ``logs.Logger``, with ``event``.
        """
        now = self._clock.seconds()
        name = network(host or "")
        address = self._addresses.get(name)
        if address is None:
            if len(self._addresses) >= MAX_ADDRESSES and self._reporting is None:
                self._forget(now)
            if len(self._addresses) >= MAX_ADDRESSES:
                self._others += 1
                self._report_later()
                return
            address = self._addresses[name] = _Address(self._each, now)
        # After an omitted line all are omitted until the report, so that lines stay in order.
        if address.omitted or address.bucket.wait(1, now) or self._all.wait(1, now):
            address.omitted += 1
            address.last = (format, fields)
            self._report_later()
            return
        address.bucket.take(1)
        self._all.take(1)
        self._write(format, **fields)

    def report(self) -> None:
        """Report the omitted lines now, if there are any."""
        if self._reporting is not None:
            self._reporting.cancel()
            self._report()

    def _report_later(self) -> None:
        if self._reporting is None:
            self._reporting = self._clock.callLater(REPORT_EVERY, self._report)

    def _report(self) -> None:
        self._reporting = None
        omitted = {name: a for name, a in self._addresses.items() if a.omitted}
        for name in nlargest(MAX_REPORTED, omitted, key=lambda name: omitted[name].omitted):
            address = omitted.pop(name)
            format, fields = address.last
            self._write(
                "{omitted} more lines about {address}, the last: " + format,
                omitted=address.omitted,
                address=name or "a local socket",
                **fields,
            )
            address.omitted = 0
        rest = self._others + sum(address.omitted for address in omitted.values())
        if rest:
            self._write(
                "{omitted} more lines about other addresses", event="lines-omitted", omitted=rest
            )
        self._others = 0
        for address in omitted.values():
            address.omitted = 0
        self._forget(self._clock.seconds())

    def _forget(self, now: float) -> None:
        """Forget addresses without omitted lines whose buckets are full."""
        self._addresses = {
            name: address
            for name, address in self._addresses.items()
            if address.omitted or not address.bucket.full(now)
        }
