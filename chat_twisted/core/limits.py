"""Limits: how much, how fast and how many, for one session and for one network address.

Token buckets and counts, pure: the time is an argument, in seconds. Nothing here knows what a
message is or what becomes of who asks too much.

``Allowance.spend`` is on the way of every message: it takes two or four floats, and makes nothing.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from chat_twisted.core.errors import TooFast

MAX_ADDRESSES = 10_000
"""How many addresses without a connection are remembered; of more, those that left longest ago are
forgotten."""

KIB = 1024
MIB = 1024 * KIB


class Rate(NamedTuple):
    """``per_second`` for ever, and ``burst`` at once."""

    per_second: float
    burst: float


class Limits(NamedTuple):
    """What is allowed; None for what is not limited. The defaults are more than people do.

    ``unread`` always is: it is memory, that of everybody else too.
    """

    messages: Rate | None = Rate(50, 500)
    octets: Rate | None = Rate(256 * KIB, 4 * MIB)
    """Of a session, in messages and in the bytes of their texts."""
    address_messages: Rate | None = Rate(500, 5000)
    address_octets: Rate | None = Rate(2560 * KIB, 40 * MIB)
    """Of all sessions from one address."""
    work: Rate | None = Rate(0.25, 10)
    address_work: Rate | None = Rate(0.5, 30)
    """Seconds that the server works aside for a session, or for all from one address: reading back,
    and hashing passwords. What it takes is known afterwards, so this makes debts."""
    logins: Rate | None = Rate(20, 500)
    registrations: Rate | None = Rate(1, 100)
    """From one address: tries to have a name, and accounts made."""
    connections: int | None = 1000
    """From one address at once."""
    arrivals: Rate | None = Rate(100, 2000)
    """Connections that one address makes, however short they are."""
    unread: int = 8 * MIB
    """Bytes that wait for a peer that does not read."""
    rooms: int | None = 100
    """That a user may be in."""
    address_rooms: int | None = 5000
    """That users of one address have made."""
    held: int | None = 1000
    """Guests of one address who have no connection, and whose names are held."""


OFF = Limits(
    *(None,) * 8, connections=None, arrivals=None, rooms=None, address_rooms=None, held=None
)
"""No limit but that of memory."""


class Bucket:
    """Fills at a rate, up to its burst. What is larger than the burst is let through when the
    bucket is full, and makes debts: it would never be otherwise.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._burst = rate
        self._level = self._burst
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Return after how many seconds ``amount`` can be taken; 0 if it can now."""
        burst = self._burst  # min() would take half of the time
        level = self._level + (now - self._at) * self._rate
        self._level = level = level if level < burst else burst
        self._at = now
        lacking = (amount if amount < burst else burst) - level
        return lacking / self._rate if lacking > 0 else 0.0

    def take(self, amount: float) -> None:
        """Take ``amount``, of which ``wait`` has just said that it can be."""
        self._level -= amount

    def full(self, now: float) -> bool:
        """Whether all that was taken has come back."""
        return self._level + (now - self._at) * self._rate >= self._burst


class Address:
    """What one address has: connections, and what it may still do."""

    __slots__ = (
        "arrivals",
        "connections",
        "logins",
        "messages",
        "octets",
        "registrations",
        "work",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.connections = 0
        self.arrivals = _bucket(limits.arrivals, now)
        self.messages = _bucket(limits.address_messages, now)
        self.octets = _bucket(limits.address_octets, now)
        self.work = _bucket(limits.address_work, now)
        self.logins = _bucket(limits.logins, now)
        self.registrations = _bucket(limits.registrations, now)

    def idle(self, now: float) -> bool:
        """Whether nothing would be different if it were forgotten."""
        buckets = (
            self.arrivals,
            self.messages,
            self.octets,
            self.work,
            self.logins,
            self.registrations,
        )
        return not self.connections and all(b is None or b.full(now) for b in buckets)


def _bucket(rate: Rate | None, now: float) -> Bucket | None:
    return None if rate is None else Bucket(rate, now)


class Allowance:
    """What one session may say. Once it was too much, nothing is taken before the time that was
    told: else what is under way would overtake what was refused before it.
    """

    __slots__ = ("_messages", "_octets", "_until", "_work")

    def __init__(self, limits: Limits, address: Address | None, now: float) -> None:
        own = (_bucket(rate, now) for rate in (limits.messages, limits.octets, limits.work))
        shared: tuple[Bucket | None, ...] = (None, None, None)
        if address is not None:
            shared = (address.messages, address.octets, address.work)
        self._messages, self._octets, self._work = (
            tuple(bucket for bucket in pair if bucket is not None)
            for pair in zip(own, shared, strict=True)
        )
        self._until = now

    def spend(self, octets: int, now: float) -> None:
        """Say something of so many bytes.

        :raises TooFast: it is too much; nothing is taken then.
        """
        wait = self._until - now
        if wait <= 0:
            for bucket in self._messages:
                wait = bucket.wait(1.0, now) or wait
            for bucket in self._octets:
                wait = bucket.wait(octets, now) or wait
            if wait > 0:
                self._until = now + math.ceil(wait)
        if wait > 0:
            raise TooFast("too many messages", retry_after=math.ceil(wait))
        for bucket in self._messages:
            bucket.take(1.0)
        self.charge(octets)

    def charge(self, octets: int) -> None:
        """Count bytes that were answered: they are not refused, but what follows waits for them."""
        for bucket in self._octets:
            bucket.take(octets)

    def work_wait(self, now: float) -> float:
        """Return after how many seconds there may be more work aside; 0 if there may be now."""
        return max((bucket.wait(0.0, now) for bucket in self._work), default=0.0)

    def charge_work(self, seconds: float, now: float) -> None:
        """Count how long some work took."""
        for bucket in self._work:
            bucket.wait(0.0, now)  # so that no more than the burst has come back
            bucket.take(seconds)


_Member = TypeVar("_Member")


class FairPool(Generic[_Member]):
    """Members that are there for a while, each of an address, and a bound on how many.

    An address may have as many as there are places free. So one address takes half of them at
    most, a second one half of the rest, and there is one for whoever comes from yet another
    ("dynamic threshold": A. K. Choudhury, E. L. Hahne, IEEE/ACM Transactions on Networking 6(2),
    1998). Past its share an address gets a place for that of its own oldest member.

    :param places: how many there are; may be changed.
    :param evict: called with a member that lost its place.
    """

    def __init__(self, places: int, evict: Callable[[_Member], None]) -> None:
        self.places = places
        self._evict = evict
        self._members: dict[_Member, str] = {}  # the oldest first, here and below
        self._of: dict[str, dict[_Member, None]] = {}

    def __iter__(self) -> Iterator[_Member]:
        return iter(list(self._members))

    def add(self, member: _Member, host: str | None) -> None:
        """Give ``member`` a place, and evict another if it must be."""
        name = network(host or "")
        own = self._of.setdefault(name, {})
        free = self.places - len(self._members)
        loser = None
        if len(own) >= free:
            loser = next(iter(own or self._members), None)
        self._members[member] = name
        own[member] = None
        if loser is not None:
            self.remove(loser)
            self._evict(loser)

    def remove(self, member: _Member) -> None:
        """``member`` needs its place no more, if it has one."""
        name = self._members.pop(member, None)
        if name is None:
            return
        own = self._of[name]
        del own[member]
        if not own:
            del self._of[name]


class Limiter:
    """All addresses. A peer without one, on a local socket, is limited as a session alone.

    :param places: how many connections there may be in all; None if that is not known. Unless
        ``Limits.connections`` is off, an address may have as many as there are places free.
    """

    def __init__(self, limits: Limits, places: int | None = None) -> None:
        self.limits = limits
        self._places = places
        self.connections = 0
        """How many are counted."""
        self._addresses: dict[str, Address] = {}
        self._left: dict[str, None] = {}  # those without a connection, longest ago first

    def arrive(self, host: str | None, now: float) -> bool:
        """Say whether another connection may be made, before anything is done for it."""
        address = self._address(host, now)
        if address is None or address.arrivals is None:
            return True
        if address.arrivals.wait(1.0, now):
            return False
        address.arrivals.take(1.0)
        return True

    def connect(self, host: str | None, now: float) -> bool:
        """Count a connection; return whether there may be one more. If not, it is not counted."""
        free = math.inf if self._places is None else self._places - self.connections
        if free <= 0:
            return False
        address = self._address(host, now)
        most = self.limits.connections
        if address is not None:
            if most is not None and address.connections >= min(most, free):
                return False
            address.connections += 1
            self._left.pop(network(host or ""), None)
        self.connections += 1
        return True

    def disconnect(self, host: str | None, now: float) -> None:
        """A connection that was counted is gone."""
        if host is None:
            self.connections -= 1
            return
        name = network(host)
        address = self._addresses.get(name)
        if address is None or not address.connections:
            return
        self.connections -= 1
        address.connections -= 1
        if not address.connections:
            self._left[name] = None
            self._tidy(now)

    def _tidy(self, now: float) -> None:
        """Forget the two that left longest ago, if nothing is known of them that matters, or too
        many are known.
        """
        for _ in range(2):
            name = next(iter(self._left), None)
            if name is None:
                return
            if len(self._left) >= MAX_ADDRESSES or self._addresses[name].idle(now):
                del self._left[name], self._addresses[name]
            else:  # looked at again when the others have been
                del self._left[name]
                self._left[name] = None

    def login(self, host: str | None, now: float) -> None:
        """Somebody wants a name.

        :raises TooFast: too many did from this address.
        """
        address = self._address(host, now)
        self._spend(None if address is None else address.logins, now)

    def registration(self, host: str | None, now: float) -> None:
        """Somebody wants an account.

        :raises TooFast: too many did from this address.
        """
        address = self._address(host, now)
        self._spend(None if address is None else address.registrations, now)

    @staticmethod
    def _spend(bucket: Bucket | None, now: float) -> None:
        if bucket is None:
            return
        wait = bucket.wait(1.0, now)
        if wait:
            raise TooFast("too many from this address", retry_after=math.ceil(wait))
        bucket.take(1.0)

    def session(self, host: str | None, now: float) -> Allowance | None:
        """Return what a new session may say; None if everything."""
        address = self._address(host, now)
        allowance = Allowance(self.limits, address, now)
        limited = allowance._messages or allowance._octets or allowance._work
        return allowance if limited else None

    def _address(self, host: str | None, now: float) -> Address | None:
        if host is None:
            return None
        name = network(host)
        address = self._addresses.get(name)
        if address is None:
            self._tidy(now)
            address = self._addresses[name] = Address(self.limits, now)
            self._left[name] = None
        return address


@lru_cache(maxsize=4096)
def network(host: str) -> str:
    """Return what counts as one address: of version 6 the first 64 bits, which one line has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((address, 64), strict=False))
        return str(address.ipv4_mapped)
    return str(address)
