"""Lists that are kept in order, and read by page.

The cost of a page depends on its items, not on the length of the list. This module must not know
what the items are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A view of a list.

    :ivar count: the number of all items.
    :ivar items: the items after some key, in order. It reads from the list, so it must be used
        before the list changes.
    """

    count: int
    items: Iterator[T]


MOST = 1024
"""Maximum number of items in one block of an ``Ordered``."""


class Ordered(Generic[T]):
    """Items in the order of their keys, with one item per key.

    They are stored in several short blocks, so adding or removing one takes two binary searches and
    moves a few kilobytes: some microseconds in a list of 100,000.

    :param key: returns an item's key, which must not change while the item is in the list.
    """

    __slots__ = ("_blocks", "_count", "_key", "_lows")

    def __init__(self, key: Callable[[T], Any], items: Iterable[T] = ()) -> None:
        self._key = key
        ordered = sorted(items, key=key)
        self._count = len(ordered)
        half = MOST // 2
        self._blocks = [ordered[at : at + half] for at in range(0, len(ordered), half)]
        self._lows = [key(block[0]) for block in self._blocks]  # a lower bound of the block's keys

    def __len__(self) -> int:
        return self._count

    def _find(self, key: Any) -> tuple[int, int, bool]:
        """Return the block where a key belongs, the position there, and whether the key exists."""
        number = max(0, bisect_right(self._lows, key) - 1)
        if number == len(self._blocks):
            return number, 0, False
        block = self._blocks[number]
        at = bisect_left(block, key, key=self._key)
        return number, at, at < len(block) and self._key(block[at]) == key

    def get(self, key: Any) -> T | None:
        """Return the item with ``key``, or None."""
        number, at, there = self._find(key)
        return self._blocks[number][at] if there else None

    def put(self, item: T) -> bool:
        """Add ``item``, or replace the item with the same key.

        :return: whether there was no item with that key.
        """
        key = self._key(item)
        number, at, there = self._find(key)
        if there:
            self._blocks[number][at] = item
            return False
        self._count += 1
        if number == len(self._blocks):
            self._blocks.append([item])
            self._lows.append(key)
            return True
        block = self._blocks[number]
        block.insert(at, item)
        if at == 0:
            self._lows[number] = key
        if len(block) > MOST:
            half = len(block) // 2
            self._blocks[number : number + 1] = [block[:half], block[half:]]
            self._lows.insert(number + 1, self._key(block[half]))
        return True

    def discard(self, item: T) -> bool:
        """Remove ``item`` if it is in the list. Another item with the same key stays.

        :return: whether it was in the list.
        """
        number, at, there = self._find(self._key(item))
        if not there or self._blocks[number][at] is not item:
            return False
        self._count -= 1
        del self._blocks[number][at]
        if not self._blocks[number]:
            del self._blocks[number], self._lows[number]
        return True

    def first(self) -> T | None:
        """Return the item with the lowest key, or None."""
        return self._blocks[0][0] if self._blocks else None

    def after(self, key: Any) -> Iterator[T]:
        """Return the items with higher keys than ``key``, in order."""
        blocks = self._blocks
        if not blocks:
            return iter(())
        number = max(0, bisect_right(self._lows, key) - 1)
        start = bisect_right(blocks[number], key, key=self._key)
        first = map(blocks[number].__getitem__, range(start, len(blocks[number])))
        further = map(blocks.__getitem__, range(number + 1, len(blocks)))
        return chain(first, chain.from_iterable(further))
