"""The interface of a ledger: it puts commands into one order, decides them, makes facts durable.

A command is proposed, with a request that the asker wants back. It gets its place in the order, the
state decides what becomes of it, the facts are made durable, and its outcome comes back through
``committed``, in order and once; or it comes back through ``failed``, if it is certain that it was
not taken. A ledger knows no connections, and no rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from chat_twisted.core.commands import Command
from chat_twisted.core.entries import Outcome
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.state import State

Request = TypeVar("Request")
"""What the asker wants to have back with the outcome."""

Committed = Callable[[Sequence[tuple[Outcome, Request]]], None]
"""Called with the outcomes of one commit, in order, each with its request."""

Failed = Callable[[Sequence[tuple[Command, Request]], Unavailable], None]
"""Called with commands that were not taken and won't be."""


class Ledger(Protocol[Request]):
    """What the hub asks of a ledger."""

    @property
    def state(self) -> State:
        """The state by which is decided. It may be another one after a failure, and it may be
        ahead of what ``committed`` has had.
        """

    @property
    def has_backlog(self) -> bool:
        """Whether more waits to be committed."""

    def start(self, committed: Committed[Request], failed: Failed[Request]) -> None:
        """Say who is told; called once, before the first proposal."""

    def propose(self, command: Command, request: Request) -> None:
        """Give a command its place in the order.

        :raises Unavailable: too much waits already.
        """

    def acknowledge(self, user: int, number: int) -> None:
        """Propose, not at once, that a user has everything up to a number."""
