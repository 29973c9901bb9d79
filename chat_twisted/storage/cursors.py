"""The acknowledgement cursors of a node's users, on their way to the other nodes and to the log.

A cursor moves with nearly every message, so the log gets it only now and then. The other nodes are
told at once by messages that may be lost: the senders there get their receipts, and a user who logs
in there is not brought what they have already. This module must not know records, or who is a
member.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.commands import Acknowledge
from chat_twisted.core.ledger import Acknowledged
from chat_twisted.core.model import User
from chat_twisted.storage.log import Log

TOPIC = "acknowledged"

TELL_AFTER = 0.01
"""Seconds for which cursors are gathered before the other nodes are told."""

AT_ONCE = 1000
"""Maximum number of cursors in one message or command."""


class Cursors:
    """Gathers cursors.

    :param clock: a monotonic clock.
    :param acknowledged: called with the cursors that other nodes tell.
    """

    def __init__(self, log: Log, clock: IReactorTime, acknowledged: Acknowledged) -> None:
        self._to = log
        self._clock = clock
        self._acknowledged = acknowledged
        self._lasting: dict[int, int] = {}  # those that the log does not have yet
        self._untold: dict[int, int] = {}
        self._telling: IDelayedCall | None = None
        log.hear(TOPIC, self._hear)

    def move(self, user: int, number: int, *, lasting: bool) -> None:
        """Note that a user has confirmed all messages up to a number.

        :param lasting: whether the log gets it, too.
        """
        for cursors in (self._lasting, self._untold) if lasting else (self._untold,):
            if number > cursors.get(user, 0):
                cursors[user] = number
        if self._telling is None:
            self._telling = self._clock.callLater(TELL_AFTER, self._tell)

    def commands(self, users: Mapping[int, User]) -> Iterator[Acknowledge]:
        """Return the commands for the log with all cursors that it does not have yet.

        :param users: the users of the state.
        """
        lasting, self._lasting = self._lasting, {}
        cursors = [
            (user, number)
            for user, number in lasting.items()
            if user in users and number > users[user].cursor
        ]
        for first in range(0, len(cursors), AT_ONCE):
            yield Acknowledge(tuple(cursors[first : first + AT_ONCE]))

    def stop(self) -> None:
        """Tell nothing any more."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _tell(self) -> None:
        self._telling = None
        cursors, self._untold = list(self._untold.items()), {}
        for first in range(0, len(cursors), AT_ONCE):
            self._to.tell(TOPIC, json.dumps(cursors[first : first + AT_ONCE]).encode())

    def _hear(self, data: bytes) -> None:
        try:
            cursors = [(int(user), int(number)) for user, number in json.loads(data)]
        except (ValueError, TypeError, OverflowError, RecursionError):
            return  # nobody needs it: the log has it later
        self._acknowledged(cursors)
