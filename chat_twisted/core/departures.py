"""Departures: the users who have gone lately, for clients that ask who somebody was.

They are kept in memory only, so a start forgets them. This module must not know protocols.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from chat_twisted.core.message import fold

MAX_DEPARTURES = 1000
"""Maximum number of departures that are remembered; beyond it the oldest is forgotten."""


class Departure(NamedTuple):
    """A user has gone: their last present session has ended.

    :ivar real_name, login_name: as in ``model.User``.
    :ivar has_account: whether they had an account.
    :ivar time: the time of day, in milliseconds.
    """

    name: str
    real_name: str
    login_name: str
    has_account: bool
    time: int


class Departures:
    """The last departures."""

    def __init__(self) -> None:
        self._all: deque[tuple[str, Departure]] = deque(maxlen=MAX_DEPARTURES)

    def add(self, departure: Departure) -> None:
        """Remember a departure."""
        self._all.append((fold(departure.name), departure))

    def find(self, name: str) -> list[Departure]:
        """Return the departures of users who had a name, the newest first."""
        key = fold(name)
        return [departure for known, departure in reversed(self._all) if known == key]
