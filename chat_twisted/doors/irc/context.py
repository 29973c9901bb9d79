"""The context: what all sessions and registrations of the door share."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from chat_twisted.auth.gate import Gate
from chat_twisted.core.hub import Hub
from chat_twisted.core.message import Message
from chat_twisted.core.turns import Paced

LIST_TIME = 0.002
"""Seconds for lists in one turn of the reactor; see ``Paced``."""


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
    ) -> None:
        self.hub = hub
        self.gate = gate
        self.clock = clock
        self.max_message = max_message
        self.motd = motd
        self.joins_all = joins_all
        self.is_vouched_for = is_vouched_for
        self.lists = Paced(clock, LIST_TIME)
        self.unregistered = 0
        self.peak = 0
        self.started = int(hub.settled())

    @property
    def takes_guests(self) -> bool:
        """Whether users without an account may log in."""
        return self.hub.state.options.guests

    def account_of(self, message: Message) -> str:
        """Return the account of a message's author; empty for a guest."""
        author = self.hub.state.users.get(message.author)
        return "" if author is None or author.account is None else author.name
