"""Presence: keeps the users who are here or away, and tells subscribers of changes.

It gathers changes for half a second and tells them together, so that a thousand logins at once are
not a million notices. It knows no session and no protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core.errors import NotPermitted
from chat_twisted.core.ordered import Listing, Ordered

TELL_AFTER = 0.5
"""Seconds for which changes are gathered."""

MAX_WHY = 200
"""Characters of why somebody is away."""

HERE, AWAY, GONE = "here", "away", "gone"


class Presence(NamedTuple):
    """A user's presence: ``HERE``, ``AWAY`` or ``GONE``; and their away text, if any."""

    name: str
    state: str
    why: str = ""


class Somebody(Protocol):
    """The part of a user that is needed. ``away`` is the away text, or None."""

    name: str
    key: str
    away: str | None

    @property
    def present(self) -> bool:
        """Whether messages reach the user."""


T = TypeVar("T", bound=Somebody)
W = TypeVar("W")


class Roster(Generic[T, W]):
    """All who are present.

    :ivar watchers: who want to hear of changes, in the order in which they came.
    :param tell: called with what has changed, once for each user, if there are watchers.
    """

    def __init__(self, clock: IReactorTime, tell: Callable[[Sequence[Presence]], None]) -> None:
        self.watchers: dict[W, None] = {}
        self._clock = clock
        self._tell = tell
        self._present: Ordered[T] = Ordered(lambda user: user.key)
        self._changed: dict[str, T] = {}
        self._telling: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._present)

    def changed(self, user: T) -> None:
        """Called when ``user`` came, left, went away or came back."""
        if user.present:
            self._present.put(user)
        else:
            self._present.discard(user)
        if not self.watchers:
            return
        self._changed[user.key] = user
        if self._telling is None:
            self._telling = self._clock.callLater(TELL_AFTER, self._tell_all)

    def listing(self, after: str) -> Listing[T]:
        """All who are present, in the order of their folded names, those behind ``after``."""
        return Listing(len(self._present), self._present.after(after))

    def _tell_all(self) -> None:
        self._telling = None
        changed, self._changed = self._changed, {}
        self._tell([seen(self._present.get(key) or user) for key, user in changed.items()])


def seen(user: Somebody) -> Presence:
    """Say where ``user`` is."""
    if not user.present:
        return Presence(user.name, GONE)
    return Presence(user.name, HERE) if user.away is None else Presence(user.name, AWAY, user.away)


def check_why(why: str) -> str:
    """Return why somebody is away, without what surrounds it.

    :raises NotPermitted: it is too long, or not one line.
    """
    if len(why) > MAX_WHY or len(why.splitlines()) > 1:
        raise NotPermitted("why one is away is a line")
    return why.strip()
