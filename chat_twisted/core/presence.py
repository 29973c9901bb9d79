"""Presence: which users are here, away or gone, and notifying the sessions that watch changes.

Changes are gathered for half a second and notified together, so that a thousand simultaneous logins
don't cause a million notifications. The presence at the end of that time counts. This module must
not know protocols.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.core import facts
from chat_twisted.core.facts import Fact
from chat_twisted.core.model import User
from chat_twisted.core.routes import Routes

TELL_AFTER = 0.5
"""Seconds for which changes are gathered."""

HERE, AWAY, GONE = "here", "away", "gone"


class Presence(NamedTuple):
    """A user's presence.

    :ivar name: the user's name.
    :ivar state: ``HERE``, ``AWAY`` or ``GONE``.
    :ivar why: the away text, if any.
    :ivar identity: the user's identity (``identity_of``), in notifications.
    :ivar identity_only: whether only the identity has changed.
    """

    name: str
    state: str
    why: str = ""
    identity: str = ""
    identity_only: bool = False


W = TypeVar("W")


class Watchers(Generic[W]):
    """The sessions that watch changes of presence.

    :ivar watching: these sessions, in the order in which they started to watch.
    :param clock: a monotonic clock.
    :param routes: the names and the presence of users, as of the facts that were followed.
    :param look: returns the current presence of the user with a given name; it also gets the number
        of the user who had the name when it changed.
    :param tell: called with the changed presences, one for each name, if any session watches.
    """

    def __init__(
        self,
        clock: IReactorTime,
        routes: Routes[W],
        look: Callable[[str, int], Presence],
        tell: Callable[[Sequence[Presence]], None],
    ) -> None:
        self.watching: dict[W, None] = {}
        self._clock = clock
        self._routes = routes
        self._look = look
        self._tell = tell
        self._changed: dict[
            str, tuple[int, bool]
        ] = {}  # user, and whether it is the identity alone
        self._telling: IDelayedCall | None = None

    def follow(self, fact: Fact) -> None:
        """Note the changes of a fact. Call this before the routes follow it."""
        routes = self._routes
        match fact:
            case facts.SessionCame(user, present=True) | facts.SessionArrived(user):
                if not routes.is_present(user):
                    self._note(routes.name_of(user), user)
            case facts.SessionGone(user, epoch) if routes.is_last(user, epoch):
                self._note(routes.name_of(user), user)
            case facts.AwaySet(user) if routes.is_present(user):
                self._note(routes.name_of(user), user)
            case facts.UserRenamed(user, name) if routes.is_present(user):
                self._note(routes.name_of(user), user)
                self._note(name, user)
            case facts.AccountMade(user) | facts.AccountGone(user) if routes.is_present(user):
                self._note(routes.name_of(user), user, identity_only=True)

    def _note(self, name: str, user: int, *, identity_only: bool = False) -> None:
        if self.watching:
            _, before = self._changed.get(name, (user, True))
            self._changed[name] = user, before and identity_only
            if self._telling is None:
                self._telling = self._clock.callLater(TELL_AFTER, self._tell_all)

    def _tell_all(self) -> None:
        self._telling = None
        changed, self._changed = self._changed, {}
        seen = (
            self._look(name, user)._replace(identity_only=identity_only)
            for name, (user, identity_only) in changed.items()
        )
        # A user whose name has only changed in case is notified once.
        self._tell(list(dict.fromkeys(seen)))


def presence_of(user: User) -> Presence:
    """Return the presence of a user."""
    if not user.present:
        return Presence(user.name, GONE)
    return Presence(user.name, HERE) if user.away is None else Presence(user.name, AWAY, user.away)


def identity_of(user: User) -> str:
    """Return the identity by which clients tell the users of a name apart: empty for an account,
    whose name is nobody else's; for a guest that of ``identity``.
    """
    return "" if user.account is not None else identity(user.id)


@lru_cache(maxsize=10_000)
def identity(guest: int) -> str:
    """Return the identity of a guest: the same for as long as the guest is kept, also under another
    name, and another one for every other guest.

    :param guest: their number. It has 62 random bits, so 36 bits of its hash don't reveal it.
    """
    digest = hashlib.blake2b(b"%d" % guest, digest_size=6, person=b"identity").digest()
    return urlsafe_b64encode(digest)[:6].decode()
