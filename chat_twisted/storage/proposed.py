"""The commands that were proposed to a ledger: those that wait, and the reports of their fate.

This module must not know when a batch begins, or where it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic

from chat_twisted.core.commands import Command, Send
from chat_twisted.core.entries import Outcome
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.ledger import Committed, Failed, Request
from chat_twisted.logs import Logger

MAX_WAITING = 100_000
"""Maximum number of commands that wait."""

MAX_WAITING_TEXT = 64 * 1024 * 1024
"""Maximum length of all waiting messages together, in characters."""

RETRY_AFTER = 5
"""Seconds that a refused client has to wait before it tries again."""

Item = tuple[Command, Request | None]
"""A command with its request; None for a command that the ledger itself proposes."""


class Waiting(Generic[Request]):
    """The commands that wait, in order.

    :param scarce: what they wait for, part of a sentence.
    """

    def __init__(self, scarce: str) -> None:
        self._scarce = scarce
        self._items: list[Item[Request]] = []
        self._text = 0

    def __len__(self) -> int:
        """Return the number of commands."""
        return len(self._items)

    def add(self, command: Command, request: Request | None) -> None:
        """Add a command.

        :raises Unavailable: if too many wait.
        """
        if len(self._items) >= MAX_WAITING or self._text >= MAX_WAITING_TEXT:
            raise Unavailable(f"too much waits for the {self._scarce}", retry_after=RETRY_AFTER)
        if type(command) is Send:
            self._text += len(command.text)
        self._items.append((command, request))

    def take(self) -> list[Item[Request]]:
        """Take all commands."""
        items, self._items = self._items, []
        self._text = 0
        return items

    def __iter__(self) -> Iterator[Item[Request]]:
        """Return an iterator over the commands; commands may be added meanwhile."""
        return iter(self._items)

    def drop(self, count: int) -> None:
        """Drop the first commands."""
        for command, _ in self._items[:count]:
            if type(command) is Send:
                self._text -= len(command.text)
        del self._items[:count]


class Reports(Generic[Request]):
    """Reports to the hub what has become of commands. The ledger continues if the hub raises an
    exception; that is logged.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._committed: Committed[Request | None] | None = None
        self._failed: Failed[Request | None] | None = None

    def start(self, committed: Committed[Request | None], failed: Failed[Request | None]) -> None:
        """Set the callbacks; see ``Ledger.start``."""
        self._committed = committed
        self._failed = failed

    def committed(self, outcomes: Sequence[tuple[Outcome, Request | None]]) -> None:
        """Report the outcomes of a batch."""
        assert self._committed is not None, "the ledger was not started"
        try:
            self._committed(outcomes)
        except Exception:  # noqa: BLE001  the batch is committed all the same
            self._log.failure("while outcomes were reported")

    def failed(self, items: Sequence[Item[Request]], refusal: Unavailable) -> None:
        """Report commands that have had no effect."""
        assert self._failed is not None, "the ledger was not started"
        try:
            self._failed(items, refusal)
        except Exception:  # noqa: BLE001  the ledger must continue
            self._log.failure("while failed commands were reported")
