"""The archive in memory, and a Clock that is taken as far as it goes."""

from __future__ import annotations

from twisted.internet.task import Clock

from chat_twisted.testing import MemoryStore as InlineStore
from chat_twisted.testing import quick_accounts

__all__ = ["InlineStore", "quick_accounts", "settle"]


def settle(clock: Clock) -> None:
    """Let everything happen that is to happen now, though each step may ask for another turn."""
    for _ in range(12):
        clock.advance(0)
