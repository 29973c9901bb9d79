"""The hosts of a chat, in rounds, and the delays between these."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.client.address import Host
from chat_twisted.client.hosts import Candidate, Hosts
from chat_twisted.client.reconnection import FIRST_RETRY, SETTLED, Reconnection


def candidates(names: str) -> list[Candidate]:
    """A candidate for each letter."""
    return [Candidate(Host(name, 1), Host(name, 1)) for name in names]


class HostsTests(TestCase):
    def round(self, hosts: Hosts) -> str:
        """The names of the hosts that are tried in a round."""
        hosts.start_round()
        names = ""
        while hosts.has_untried:
            names += hosts.take().target.name
        return names

    def test_a_round_has_each_host_once_and_begins_after_the_one_that_was_tried_last(self) -> None:
        hosts = Hosts(candidates("abc"))
        self.assertEqual(self.round(hosts), "abc")
        self.assertEqual(hosts.take().target.name, "a")  # a connection that stood for long
        self.assertEqual(self.round(hosts), "bca")

    def test_a_single_host_is_tried_without_being_untried(self) -> None:
        hosts = Hosts(candidates("a"))
        self.assertEqual(self.round(hosts), "")
        self.assertEqual(hosts.take().target.name, "a")
        self.assertFalse(hosts.has_untried)

    def test_a_host_that_is_left_out_is_not_tried_again_but_the_last_one_stays(self) -> None:
        for tried, rest in ((1, "bc"), (2, "ca"), (3, "ab")):
            hosts = Hosts(candidates("abc"))
            hosts.start_round()
            for _ in range(tried):
                last = hosts.take()
            self.assertTrue(hosts.leave_out(last))
            self.assertEqual(hosts.has_untried, tried < 3)
            self.assertEqual(self.round(hosts), rest)
        hosts = Hosts(candidates("a"))
        self.assertFalse(hosts.leave_out(hosts.take()))
        self.assertEqual(hosts.take().target.name, "a")

    def test_a_silent_host_is_given_up_sooner_for_another_one_but_not_when_a_round_has_failed(
        self,
    ) -> None:
        hosts = Hosts(candidates("ab"))
        for again in (False, True, False):
            hosts.start_round(again=again)
            self.assertEqual((hosts.has_alternative, hosts.in_haste), (not again, not again))
            hosts.take()
            hosts.take()
            self.assertEqual((hosts.has_alternative, hosts.in_haste), (not again, False))
        hosts = Hosts(candidates("a"))
        hosts.start_round()
        self.assertFalse(hosts.has_alternative or hosts.in_haste)

    def test_hosts_that_are_replaced_wait_for_a_new_round(self) -> None:
        hosts = Hosts(candidates("ab"))
        hosts.start_round()
        hosts.replace(candidates("cd"))
        self.assertFalse(hosts.has_untried)
        self.assertEqual(self.round(hosts), "cd")


class ReconnectionTests(TestCase):
    """Each attempt fails unless a test says otherwise. Half of each delay is left to chance, which
    is always 1: the delay is whole.
    """

    def make(self, names: str, limit: float = 600) -> None:
        self.clock = Clock()
        self.hosts = Hosts(candidates(names))
        self.tried: list[tuple[float, str]] = []
        self.given_up = 0
        self.answer: list[Deferred[Any]] = []
        self.reconnection = Reconnection(
            self.clock, self.connect, self.give_up, limit, lambda: 1, self.hosts
        )
        self.hosts.start_round()

    def connect(self) -> Deferred[Any]:
        self.tried.append((self.clock.seconds(), self.hosts.take().target.name))
        return self.answer.pop() if self.answer else fail(ConnectionLost())

    def give_up(self) -> None:
        self.given_up += 1
        self.reconnection.end()

    def lose(self, lasted: float = SETTLED) -> None:
        self.reconnection.lost(lasted, progress=False)
        self.reconnection.try_later()

    def run_for(self, seconds: float) -> list[tuple[float, str]]:
        """The attempts of so many seconds."""
        for _ in range(int(seconds * 4)):
            self.clock.pump([0] * 3)  # the hosts that are tried at once
            self.clock.advance(0.25)
        tried, self.tried = self.tried, []
        return tried

    def test_each_host_is_tried_at_once_and_then_after_longer_and_longer_delays(self) -> None:
        self.make("abc")
        self.hosts.take()  # connected to a
        self.lose()
        self.assertEqual(
            self.run_for(4),
            [
                *((0, name) for name in "bca"),
                *((FIRST_RETRY, name) for name in "bca"),
                *((3 * FIRST_RETRY, name) for name in "bca"),
                *((7 * FIRST_RETRY, name) for name in "bca"),
            ],
        )

    def test_a_single_host_is_never_tried_at_once(self) -> None:
        self.make("a")
        self.hosts.take()
        self.lose()
        self.assertEqual(
            [time for time, _ in self.run_for(4)], [FIRST_RETRY, 3 * FIRST_RETRY, 7 * FIRST_RETRY]
        )

    def test_hosts_that_accept_and_close_are_tried_at_once_only_once_a_round(self) -> None:
        self.make("ab")
        self.hosts.take()
        self.lose()
        for count in range(1, 7):
            self.answer = [Deferred()]  # connected, and lost before it has settled
            self.clock.advance(0)
            while len(self.tried) < count:
                self.clock.advance(0.25)
            self.lose(lasted=0)
        later = FIRST_RETRY, 3 * FIRST_RETRY
        times = [0, 0, later[0], later[0], later[1], later[1]]
        self.assertEqual(self.tried, list(zip(times, "bababa", strict=True)))

    def test_before_the_user_was_registered_there_is_one_round(self) -> None:
        self.make("abc", limit=0)
        self.hosts.take()
        self.reconnection.try_later()
        self.assertEqual(self.run_for(4), [(0, "b"), (0, "c")])
        self.assertEqual(self.given_up, 1)

    def test_no_host_is_tried_when_the_time_is_over(self) -> None:
        self.make("ab", limit=1)
        self.hosts.take()
        self.lose()
        tried = self.run_for(4)
        self.assertEqual(tried[-1], (3 * FIRST_RETRY, "b"))
        self.assertEqual(self.given_up, 1)
