"""Rate limits and counts, for each session and each network address.

The time is an argument, in seconds of a monotonic clock. This module must not know what a message
is, or how a refused client is answered. ``Allowance.spend`` runs for every message, so it only
calculates with a few floats and makes no objects.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from chat_twisted.core.errors import TooFast

MAX_ADDRESSES = 10_000
"""Maximum number of addresses without a connection that are remembered. With more, those that
disconnected longest ago are forgotten."""

KIB = 1024
MIB = 1024 * KIB


class Rate(NamedTuple):
    """A rate limit: ``per_second`` on average, and at most ``burst`` at once."""

    per_second: float
    burst: float


LINE_OCTETS = 64
"""Bytes that every further line of a text counts besides its own, because IRC clients get each line
as a message: 64 KiB of line ends are a megabyte for each of them."""


class Limits(NamedTuple):
    """The limits of a server; None means no limit. The defaults are more than people need.

    ``unread`` can't be turned off, because it protects the memory of the server.
    """

    messages: Rate | None = Rate(50, 500)
    octets: Rate | None = Rate(256 * KIB, 4 * MIB)
    """The sent messages of a session, and the bytes of their texts."""
    address_messages: Rate | None = Rate(500, 5000)
    address_octets: Rate | None = Rate(2560 * KIB, 40 * MIB)
    """The same for all sessions from one address."""
    work: Rate | None = Rate(0.25, 10)
    address_work: Rate | None = Rate(0.5, 30)
    """Seconds of work in threads, such as reading the archive and hashing passwords, for a session
    and for all sessions from one address. The time is known only afterwards, so a bucket may go
    into debt."""
    logins: Rate | None = Rate(20, 500)
    registrations: Rate | None = Rate(1, 100)
    """Attempts to log in from one address, and accounts made from one address."""
    connections: int | None = 1000
    """Simultaneous connections from one address."""
    arrivals: Rate | None = Rate(100, 2000)
    """New connections from one address."""
    unread: int = 8 * MIB
    """Bytes that wait for a client that does not read."""
    rooms: int | None = 100
    """Rooms of one user."""
    address_rooms: int | None = 5000
    """Rooms that were made from one address."""
    held: int | None = 1000
    """Guests of one address whose names are held."""


OFF = Limits(
    *(None,) * 8, connections=None, arrivals=None, rooms=None, address_rooms=None, held=None
)
"""No limits except ``unread``."""


class Bucket:
    """A token bucket. It fills at its rate, up to its burst.

    An amount larger than the burst can be taken when the bucket is full; it goes into debt then.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._burst = rate
        self._level = self._burst
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until ``amount`` can be taken; 0 if it can be taken now."""
        burst = self._burst  # min() would cost as much as all the rest
        level = self._level + (now - self._at) * self._rate
        self._level = level = level if level < burst else burst
        self._at = now
        lacking = (amount if amount < burst else burst) - level
        return lacking / self._rate if lacking > 0 else 0.0

    def take(self, amount: float) -> None:
        """Take ``amount``. Call ``wait`` before, to fill the bucket."""
        self._level -= amount

    def full(self, now: float) -> bool:
        """Return whether the bucket is full."""
        return self._level + (now - self._at) * self._rate >= self._burst


class Address:
    """The connections and the buckets of one address."""

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
        self.limit(limits, now)

    def limit(self, limits: Limits, now: float) -> None:
        """Make new buckets, which are full."""
        self.arrivals = _bucket(limits.arrivals, now)
        self.messages = _bucket(limits.address_messages, now)
        self.octets = _bucket(limits.address_octets, now)
        self.work = _bucket(limits.address_work, now)
        self.logins = _bucket(limits.logins, now)
        self.registrations = _bucket(limits.registrations, now)

    def idle(self, now: float) -> bool:
        """Return whether the address can be forgotten: it has no connection, and full buckets."""
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
    """The rate limits of one session.

    After a refusal, everything is refused until the announced time, because otherwise a later
    message could overtake a refused one that is sent again.
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
        """Count a message of ``octets`` bytes.

        :raises TooFast: if it exceeds a limit; it is not counted then.
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
        """Count the bytes of an answer. This never refuses, but it delays the next messages."""
        for bucket in self._octets:
            bucket.take(octets)

    def work_wait(self, now: float) -> float:
        """Return the seconds until more work may be done in threads; 0 if it may be done now."""
        return max((bucket.wait(0.0, now) for bucket in self._work), default=0.0)

    def charge_work(self, seconds: float, now: float) -> None:
        """Count the duration of some work."""
        for bucket in self._work:
            bucket.wait(0.0, now)  # fills the bucket up to now
            bucket.take(seconds)


_Member = TypeVar("_Member")


class FairPool(Generic[_Member]):
    """A bounded set of members, for example connections, which is shared fairly by addresses.

    An address may have as many members as there are free places. So a single address can take half
    of the places, a second one half of the rest, and a further address always finds a place
    ("dynamic threshold": A. K. Choudhury, E. L. Hahne, IEEE/ACM Transactions on Networking 6(2),
    1998). If an address has its share, a new member replaces its own oldest one.

    :param places: the maximum number of members; it may be changed.
    :param evict: called with a member that was replaced.
    """

    def __init__(self, places: int, evict: Callable[[_Member], None]) -> None:
        self.places = places
        self._evict = evict
        self._members: dict[_Member, str] = {}  # oldest first, as in ``_of``
        self._of: dict[str, dict[_Member, None]] = {}

    def __iter__(self) -> Iterator[_Member]:
        return iter(list(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: _Member, host: str | None) -> None:
        """Add ``member``, and evict another one if necessary.

        :param host: the member's address; None for a local socket.
        """
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
        """Remove ``member``, if it has a place."""
        name = self._members.pop(member, None)
        if name is None:
            return
        own = self._of[name]
        del own[member]
        if not own:
            del self._of[name]


class Limiter:
    """The limits of all addresses. Local sockets have no address, so only their sessions are
    limited.

    In all methods ``host`` is the peer's address, None for a local socket, and ``now`` the time.

    :param places: the maximum number of connections in all; None if it is not known. An address may
        have as many connections as there are free places, unless ``Limits.connections`` is None.
    """

    def __init__(self, limits: Limits, places: int | None = None) -> None:
        self.limits = limits
        self._places = places
        self.connections = 0
        """The number of counted connections."""
        self._addresses: dict[str, Address] = {}
        self._left: dict[str, None] = {}  # addresses without a connection, longest ago first

    def change(self, limits: Limits, now: float) -> None:
        """Change the limits. Sessions keep the allowances that they have."""
        self.limits = limits
        for address in self._addresses.values():
            address.limit(limits, now)

    def arrive(self, host: str | None, now: float) -> bool:
        """Count a new connection for the rate limit ``Limits.arrivals``; return whether it is
        within the limit.
        """
        address = self._address(host, now)
        if address is None or address.arrivals is None:
            return True
        if address.arrivals.wait(1.0, now):
            return False
        address.arrivals.take(1.0)
        return True

    def connect(self, host: str | None, now: float) -> bool:
        """Count an open connection; return False, without counting it, if there are too many."""
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
        """Uncount a connection that ``connect`` has counted."""
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
            self._forget_some(now)

    def _forget_some(self, now: float) -> None:
        """Forget at most two addresses: they disconnected longest ago, and their buckets are full
        or too many addresses are remembered.
        """
        for _ in range(2):
            name = next(iter(self._left), None)
            if name is None:
                return
            if len(self._left) >= MAX_ADDRESSES or self._addresses[name].idle(now):
                del self._left[name], self._addresses[name]
            else:  # to the end of the queue
                del self._left[name]
                self._left[name] = None

    def login(self, host: str | None, now: float) -> None:
        """Count an attempt to log in.

        :raises TooFast: if there were too many from this address.
        """
        address = self._address(host, now)
        self._spend(None if address is None else address.logins, now)

    def registration(self, host: str | None, now: float) -> None:
        """Count the making of an account.

        :raises TooFast: if there were too many from this address.
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
        """Return the allowance of a new session; None if it is not limited."""
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
            self._forget_some(now)
            address = self._addresses[name] = Address(self.limits, now)
            self._left[name] = None
        return address


@lru_cache(maxsize=4096)
def network(host: str) -> str:
    """Return the address that limits count: for IPv6 the network of the first 64 bits, which
    usually belongs to one customer.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((address, 64), strict=False))
        return str(address.ipv4_mapped)
    return str(address)
