"""Guests without a connection whose names are held: until when, and who makes room for others.

Pure: the time is an argument, in seconds, an address an opaque text. Nothing here knows what a
guest is, or what becomes of one whose hold is over.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")

UNKNOWN = ""
"""The address of guests who came over a local socket, or before the server was started."""


class Held(Generic[T]):
    """All guests who are held, in the order in which their holds end.

    No address can have all the room. One that holds more than its share lets its own oldest go.
    When too many are held in all, the address that holds the most does. Guests of an unknown
    address count as one address without a share: others can push out only as many of them as their
    own shares allow, and they are no more than there may be in all.

    :param most: how many guests may be held in all.
    :param share: how many of one address; None for any number.
    """

    def __init__(self, most: int, share: int | None) -> None:
        self._most = most
        self._share = share
        # To find the first of a dict takes the longer, the more were removed before it.
        self._holds: OrderedDict[T, tuple[float, str]] = OrderedDict()  # the first ends first
        self._of: dict[str, OrderedDict[T, None]] = {}  # the same, of each address
        self._by_size: dict[int, dict[str, None]] = {}  # addresses, by how many guests they have
        self._largest = 0
        self._evicted: OrderedDict[T, None] = OrderedDict()

    def __len__(self) -> int:
        """How many guests are held, without those who were evicted."""
        return len(self._holds)

    def add(self, guest: T, address: str, until: float) -> None:
        """Hold ``guest`` until a time, which is no earlier than those of the guests before. Another
        one may be evicted for it; the next one that ``due`` returns is that one then.
        """
        self._holds[guest] = (until, address)
        guests = self._of.setdefault(address, OrderedDict())
        guests[guest] = None
        self._resized(address, len(guests) - 1, len(guests))
        if self._share is not None and address != UNKNOWN and len(guests) > self._share:
            self._evict(address)
        elif len(self._holds) > self._most:
            self._evict(next(iter(self._by_size[self._largest])))

    def remove(self, guest: T) -> None:
        """Hold ``guest`` no longer, if it is held."""
        self._evicted.pop(guest, None)
        if guest not in self._holds:
            return
        _, address = self._holds.pop(guest)
        guests = self._of[address]
        del guests[guest]
        self._resized(address, len(guests) + 1, len(guests))
        if not guests:
            del self._of[address]

    def due(self, now: float) -> T | None:
        """Return a guest whose hold is over, if there is one; it stays until it is removed."""
        if self._evicted:
            return next(iter(self._evicted))
        guest = next(iter(self._holds), None)
        return None if guest is None or self._holds[guest][0] > now else guest

    @property
    def next_due(self) -> float | None:
        """When the next hold is over, which may be long ago; None if nobody is held."""
        if self._evicted:
            return 0.0
        return next((until for until, _ in self._holds.values()), None)

    def _evict(self, address: str) -> None:
        guest = next(iter(self._of[address]))
        self.remove(guest)
        self._evicted[guest] = None

    def _resized(self, address: str, before: int, now: int) -> None:
        if before:
            del self._by_size[before][address]
            if not self._by_size[before]:
                del self._by_size[before]
        if now:
            self._by_size.setdefault(now, {})[address] = None
        if now > self._largest or self._largest not in self._by_size:
            self._largest = now  # it changes by one at a time
