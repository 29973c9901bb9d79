"""The hosts of one chat, and the order in which a client tries them.

This module must not know how a connection is made, or how long to wait between two rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chat_twisted.client.address import Host


class Candidate(NamedTuple):
    """A host to connect to.

    :ivar target: where the server is.
    :ivar given: the host as the user has named it. Only this name is trusted: the certificate must
        be the one of this name. It is another than ``target`` if ``target`` comes from DNS.
    """

    target: Host
    given: Host


class Hosts:
    """The hosts of a chat, tried in rounds: each host once, then from the first one again.

    A round begins with the host after the one that was tried last.
    """

    def __init__(self, candidates: Sequence[Candidate] = ()) -> None:
        self._candidates: list[Candidate] = []
        self._next = 0
        self._untried = 0  # in this round
        self._again = False
        self.replace(candidates)

    @property
    def has_untried(self) -> bool:
        """Whether a host has not been tried in this round."""
        return self._untried > 0

    @property
    def has_alternative(self) -> bool:
        """Whether a host that is silent for a while is to be given up for another one.

        Not after a round has failed: when many clients come at once, each host answers late, and a
        client that always goes on would be served by none.
        """
        return len(self._candidates) > 1 and not self._again

    @property
    def in_haste(self) -> bool:
        """The same while connecting: another host can then be tried at once."""
        return self.has_untried and self.has_alternative

    def take(self) -> Candidate:
        """Return the host to try now; the next call returns the one after it."""
        candidate = self._candidates[self._next]
        self._next = (self._next + 1) % len(self._candidates)
        self._untried = max(0, self._untried - 1)
        return candidate

    def start_round(self, *, again: bool = False) -> None:
        """Begin a new round of all hosts. The round of a single host is empty, so that the host is
        not tried again without a delay.

        :param again: whether the round before it has failed.
        """
        self._untried = len(self._candidates) if len(self._candidates) > 1 else 0
        self._again = again

    def leave_out(self, candidate: Candidate) -> bool:
        """Don't try the host that was taken last any more.

        :return: whether other hosts are left; if not, nothing is changed.
        """
        if len(self._candidates) == 1:
            return False
        index = self._candidates.index(candidate)
        del self._candidates[index]
        self._next = index % len(self._candidates)
        return True

    def replace(self, candidates: Sequence[Candidate]) -> None:
        """Replace the hosts; this round is over."""
        self._candidates = list(candidates)
        self._next = 0
        self._untried = 0
