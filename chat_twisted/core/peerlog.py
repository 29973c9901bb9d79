"""Log lines that a peer can cause as often as it likes, and a bound on how many are written.

What an address causes past its rate is counted, and becomes one line a minute. So a flood shows in
the log at once and for as long as it lasts, and does not fill the disk. Nothing here knows what the
lines are about.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.limits import Bucket, Rate, network

REPORT_EVERY = 60
"""Seconds after which it is written how many lines were not."""

MAX_REPORTED = 10
"""How many addresses have a line of their own then; the others have one together."""

MAX_ADDRESSES = 1000
"""How many addresses are told apart; what further ones cause is counted with all others'."""


class _Address:
    """What one address has caused lately."""

    __slots__ = ("bucket", "last", "omitted")

    def __init__(self, rate: Rate, now: float) -> None:
        self.bucket = Bucket(rate, now)
        self.omitted = 0  # lines since the last report
        self.last: tuple[str, dict[str, Any]] = ("", {})  # the newest of them


class PeerLog:
    """Writes lines, as many as the rates allow.

    :param write: a method of a ``twisted.logger.Logger``.
    :param each: for one address.
    :param all: for all addresses together.
    """

    def __init__(
        self, write: Callable[..., None], clock: IReactorTime, *, each: Rate, all: Rate
    ) -> None:
        self._write = write
        self._clock = clock
        self._each = each
        self._all = Bucket(all, clock.seconds())
        self._addresses: dict[str, _Address] = {}
        self._others = 0  # lines of those who are not told apart
        self._reporting: IDelayedCall | None = None

    def emit(self, host: str | None, format: str, /, **fields: Any) -> None:
        """Write a line that the peer at ``host`` causes, or count it."""
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
        # Once a line is omitted so are all until the report, which would else come out of order.
        if address.omitted or address.bucket.wait(1, now) or self._all.wait(1, now):
            address.omitted += 1
            address.last = (format, fields)
            self._report_later()
            return
        address.bucket.take(1)
        self._all.take(1)
        self._write(format, **fields)

    def report(self) -> None:
        """Write now what is only counted yet."""
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
            self._write("{omitted} more lines about other addresses", omitted=rest)
        self._others = 0
        for address in omitted.values():
            address.omitted = 0
        self._forget(self._clock.seconds())

    def _forget(self, now: float) -> None:
        """Forget those of whom nothing need be known."""
        self._addresses = {
            name: address
            for name, address in self._addresses.items()
            if address.omitted or not address.bucket.full(now)
        }
