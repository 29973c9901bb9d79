"""Which guests are held, and who makes room; asked of the state."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core.snapshot import dump, load
from tests.test_state import AT, Chat

UNKNOWN = ""


class HoldTests(TestCase):
    def away(self, chat: Chat, name: str, host: str) -> AT:
        at = chat.login(name, host=host)
        chat.do(c.Detach(*at))
        return at

    def held(self, chat: Chat) -> list[str]:
        users = chat.state.users.values()
        return [user.name for user in users if chat.state.holds.get(user.id) is not None]

    def test_an_address_over_its_share_lets_its_own_oldest_go(self) -> None:
        chat = Chat(held=100, address_held=3)
        self.away(chat, "bob", "192.0.2.1")
        for number in range(20):  # a line of version 6 is one address
            self.away(chat, f"flood{number}", f"2001:db8::{number % 2 + 1}")
        self.assertEqual(self.held(chat), ["bob", "flood17", "flood18", "flood19"])

    def test_if_too_many_are_held_the_address_with_most_loses_its_own(self) -> None:
        chat = Chat(held=10, address_held=3)
        for number in range(10):
            self.away(chat, f"user{number}", f"192.0.2.{number}")
        for number in range(5):
            self.away(chat, f"flood{number}", "203.0.113.1")
        held = self.held(chat)
        self.assertEqual(len(held), 10)
        self.assertEqual(len([name for name in held if name.startswith("user")]), 9)

    def test_of_addresses_with_as_many_the_one_with_the_oldest_hold_loses_it(
        self,
    ) -> None:
        for restarted in (False, True):
            chat = Chat(held=4, address_held=None)
            for name, host in (("b1", "10.0.0.2"), ("a1", "10.0.0.1"), ("a2", "10.0.0.1")):
                self.away(chat, name, host)
            self.away(chat, "b2", "10.0.0.2")
            if restarted:
                chat.state = load(dump(chat.state))
            self.away(chat, "c1", "10.0.0.3")
            self.assertEqual(self.held(chat), ["a1", "a2", "b2", "c1"])

    def test_one_address_pushes_out_no_more_of_the_unknown_than_its_share(self) -> None:
        chat = Chat(held=100, address_held=10)
        for number in range(100):
            self.away(chat, f"before{number}", UNKNOWN)
        for number in range(50):
            self.away(chat, f"flood{number}", "203.0.113.1")
        held = set(self.held(chat))
        self.assertEqual(len(held), 100)
        gone = [number for number in range(100) if f"before{number}" not in held]
        self.assertEqual(gone, list(range(10)))

    def test_unknown_addresses_are_limited_by_the_total_alone(self) -> None:
        chat = Chat(held=5, address_held=1)
        for number in range(7):
            self.away(chat, f"user{number}", UNKNOWN)
        self.assertEqual(self.held(chat), [f"user{number}" for number in range(2, 7)])

    def test_user_who_comes_back_in_time_is_not_evicted(self) -> None:
        chat = Chat(held=1)
        ann = self.away(chat, "ann", UNKNOWN)
        again = chat.login("ann", chat.tokens[ann])
        self.away(chat, "bob", UNKNOWN)
        self.assertEqual(self.held(chat), ["bob"])
        chat.do(c.Detach(*again))
        self.assertEqual((self.held(chat), list(chat.state.names)), (["ann"], ["ann"]))

    def test_accounts_are_not_held_and_make_no_room(self) -> None:
        chat = Chat(held=2)
        ann = chat.login("ann")
        chat.register(ann)
        chat.do(c.Detach(*ann))
        for number in range(5):
            self.away(chat, f"guest{number}", UNKNOWN)
        self.assertEqual(sorted(chat.state.names), ["ann", "guest3", "guest4"])

    def test_with_other_options_there_is_room_for_fewer_at_once(self) -> None:
        chat = Chat(held=10)
        for number in range(5):
            self.away(chat, f"guest{number}", UNKNOWN)
        chat.do(c.Start(0, chat.options._replace(held=2), 0))
        self.assertEqual(self.held(chat), ["guest3", "guest4"])

    def test_without_grace_nobody_is_held_for_longer_than_to_the_next_sweep(self) -> None:
        chat = Chat(grace=0)
        self.away(chat, "ann", UNKNOWN)
        self.assertEqual(chat.state.next_due, chat.now)
        chat.do(c.Sweep(10))
        self.assertEqual(chat.state.users, {})

    @settings(deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("123"))))
    def test_no_bound_is_ever_passed(self, steps: list[tuple[bool, int, str]]) -> None:
        chat = Chat(held=7, address_held=4)
        here: dict[str, tuple[AT, str]] = {}
        for adds, number, address in steps:
            name = f"guest{number}"
            if adds and name not in here:
                here[name] = self.away(chat, name, f"192.0.2.{address}"), address
            elif not adds and name in here:
                at, _ = here.pop(name)
                chat.do(c.Detach(*chat.login(name, chat.tokens[at]), True))
            counts = Counter(host for _, host in here.values())
            for gone in set(here) - set(chat.state.names):
                _, host = here.pop(gone)
                self.assertTrue(host == address or counts[host] == max(counts.values()))
            self.assertEqual(set(self.held(chat)), set(here))
            self.assertLessEqual(len(here), 7)
            self.assertLessEqual(max(Counter(h for _, h in here.values()).values(), default=0), 4)
