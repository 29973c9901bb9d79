"""The context: what all sessions and registrations of the door share."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from chat_twisted.auth.gate import Gate
from chat_twisted.core.hub import Hub
from chat_twisted.core.turns import Paced
from chat_twisted.doors.irc.messages import NO_EXTRA, About, Extra
from chat_twisted.metrics import Refusals

LIST_TIME = 0.002
"""Seconds for lists in one turn of the reactor; see ``Paced``."""


MAX_EXTRAS = 200
"""Number of messages of which ``Extra`` is remembered; usually they are delivered at once."""


class Context:
    """What all sessions and registrations of the door share.

    :ivar lists: encodes lists.
    :ivar unregistered: the number of connections that are not logged in.
    :ivar peak: the highest number of users that LUSERS has counted.
    :ivar started: the time of day when the server started, in seconds.
    :param gate: verifies credentials.
    :param clock: the reactor.
    :param max_message: the maximum length of a text, in bytes.
    :param motd: the message of the day; empty without one.
    :param joins_all: whether the server joins ``&ALL`` for every client.
    :param is_vouched_for: returns whether authorities vouch for the server's certificate.
    :param refused: counts the refusals.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        clock: IReactorTime,
        max_message: int,
        motd: str,
        joins_all: bool,
        is_vouched_for: Callable[[], bool],
        refused: Refusals,
    ) -> None:
        self.hub = hub
        self.gate = gate
        self.clock = clock
        self.max_message = max_message
        self.motd = motd
        self.joins_all = joins_all
        self.is_vouched_for = is_vouched_for
        self.refused = refused
        self.lists = Paced(clock, LIST_TIME)
        self.unregistered = 0
        self.peak = 0
        self._extras: dict[int, Extra] = {}
        self.started = int(hub.settled())

    @property
    def takes_guests(self) -> bool:
        """Whether users without an account may log in."""
        return self.hub.state.options.guests

    def about(self, author: int, number: int = 0) -> About:
        """Return what a message itself does not say.

        :param author: the number of its author.
        :param number: its number; 0 for a signal.
        """
        extra = self._extras.get(number, NO_EXTRA) if self._extras else NO_EXTRA
        user = self.hub.state.users.get(author)
        if user is None:
            return About("", False, extra)
        return About("" if user.account is None else user.name, user.bot, extra)

    def remember(self, number: int, extra: Extra) -> None:
        """Remember what is to be delivered with a message, but is not kept with it."""
        while len(self._extras) >= MAX_EXTRAS:
            del self._extras[next(iter(self._extras))]
        self._extras[number] = extra
