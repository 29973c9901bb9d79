"""The interface of a ledger, which puts commands into one order and makes their facts durable.

A command is proposed together with a request, which identifies it for the proposer. The ledger
gives the command its place in the order, lets the state decide it, and stores the facts. Then it
calls ``committed`` with the outcome, once and in order; or ``failed``, if it is certain that the
command has had no effect. A ledger must not know connections or the rules of the chat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from chat_twisted.core.commands import Command
from chat_twisted.core.entries import Outcome
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.state import State

Request = TypeVar("Request")
"""The proposer's own object, which the ledger returns with the outcome."""

Committed = Callable[[Sequence[tuple[Outcome, Request]]], None]
"""Type of the callback for the outcomes of a batch, in order, each with its request."""

Failed = Callable[[Sequence[tuple[Command, Request]], Unavailable], None]
"""Type of the callback for commands that have failed, each with its request."""

Acknowledged = Callable[[Sequence[tuple[int, int]]], None]
"""Type of the callback for confirmations on other nodes: pairs of a user and the number up to which
they have confirmed all messages. It may be ahead of the outcomes that were reported."""


class Ledger(Protocol[Request]):
    """The part of a ledger that the hub uses."""

    @property
    def state(self) -> State:
        """The state that decides. It may be ahead of the outcomes that were reported. After a
        failure the ledger replaces it by another object.
        """

    @property
    def has_backlog(self) -> bool:
        """Whether outcomes of further commands are to be expected soon."""

    def start(
        self, committed: Committed[Request], failed: Failed[Request], acknowledged: Acknowledged
    ) -> None:
        """Set the callbacks. Call this once, before the first proposal."""

    def propose(self, command: Command, request: Request) -> None:
        """Propose a command.

        :raises Unavailable: if too many commands wait already.
        """

    def acknowledge(self, user: int, number: int, *, lasting: bool = True) -> None:
        """Propose, within some time, that a user's acknowledgement cursor advances to ``number``,
        and tell other nodes at once, if there are any.

        Such a proposal may be lost; clients acknowledge again.

        :param lasting: whether it is proposed; otherwise other nodes are told only.
        """
