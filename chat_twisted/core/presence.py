"""Presence: which users are here, away or gone, and notifying the sessions that watch changes.

Changes are gathered for half a second and notified together, so that a thousand simultaneous logins
don't cause a million notifications. The presence at the end of that time counts. This module must
not know protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core import facts
from chat_twisted.core.facts import Fact
from chat_twisted.core.model import User

TELL_AFTER = 0.5
"""Seconds for which changes are gathered."""

HERE, AWAY, GONE = "here", "away", "gone"


class Presence(NamedTuple):
    """A user's presence.

    :ivar name: the user's name.
    :ivar state: ``HERE``, ``AWAY`` or ``GONE``.
    :ivar why: the away text, if any.
    """

    name: str
    state: str
    why: str = ""


W = TypeVar("W")


class Watchers(Generic[W]):
    """The sessions that watch changes of presence.

    :ivar watching: these sessions, in the order in which they started to watch.
    :param clock: a monotonic clock.
    :param present: the user and the epoch of each session that is present at the start.
    :param name_of: returns the name of a user.
    :param look: returns the current presence of the user with a given name.
    :param tell: called with the changed presences, one for each name, if any session watches.
    """

    def __init__(
        self,
        clock: IReactorTime,
        present: Iterable[tuple[int, int]],
        name_of: Callable[[int], str],
        look: Callable[[str], Presence],
        tell: Callable[[Sequence[Presence]], None],
    ) -> None:
        self.watching: dict[W, None] = {}
        self._clock = clock
        self._name_of = name_of
        self._look = look
        self._tell = tell
        self._epochs: dict[int, set[int]] = {}
        for user, epoch in present:
            self._epochs.setdefault(user, set()).add(epoch)
        self._changed: dict[str, None] = {}
        self._telling: IDelayedCall | None = None

    def follow(self, fact: Fact) -> None:
        """Note the changes of a fact. Call this before ``name_of`` returns the new names."""
        match fact:
            case facts.SessionCame(user, epoch, present=True) | facts.SessionArrived(user, epoch):
                epochs = self._epochs.setdefault(user, set())
                if not epochs:
                    self._note(self._name_of(user))
                epochs.add(epoch)
            case facts.SessionGone(user, epoch) if user in self._epochs:
                self._epochs[user].discard(epoch)
                if not self._epochs[user]:
                    del self._epochs[user]
                    self._note(self._name_of(user))
            case facts.AwaySet(user) if user in self._epochs:
                self._note(self._name_of(user))
            case facts.UserRenamed(user, name) if user in self._epochs:
                self._note(self._name_of(user))
                self._note(name)

    def _note(self, name: str) -> None:
        if self.watching:
            self._changed[name] = None
            if self._telling is None:
                self._telling = self._clock.callLater(TELL_AFTER, self._tell_all)

    def _tell_all(self) -> None:
        self._telling = None
        changed, self._changed = self._changed, {}
        # A user whose name has only changed in case is notified once.
        self._tell(list(dict.fromkeys(self._look(name) for name in changed)))


def presence_of(user: User) -> Presence:
    """Return the presence of a user."""
    if not user.present:
        return Presence(user.name, GONE)
    return Presence(user.name, HERE) if user.away is None else Presence(user.name, AWAY, user.away)
