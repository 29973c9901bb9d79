"""Limits the answers of a bot to one user, so that two bots that answer each other fall silent.

This module must not know what an answer is.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from chat_twisted.core.message import fold

ANSWERS = 20
ANSWER_EVERY = 10
"""Number of answers that one user gets at once, and seconds until one more is allowed."""

MAX_ANSWERED = 10_000
"""Maximum number of users whose answers are counted."""


class AnswerLimit:
    """Limits the number of answers to each user.

    It is not known whether a person or a program wrote a message, so an exchange with a program
    might never end.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # the number of answers, and the time of that number
        self._given: dict[str, tuple[float, float]] = {}

    def spend(self, user: str) -> bool:
        """Count one answer to ``user``; return whether it is allowed."""
        key, now = fold(user), self._clock.seconds()
        given, then = self._given.pop(key, (0.0, now))
        given = max(0.0, given - max(0.0, now - then) / ANSWER_EVERY)
        may = given + 1 <= ANSWERS
        self._given[key] = given + may, now
        if len(self._given) > MAX_ANSWERED:
            del self._given[next(iter(self._given))]
        return may
