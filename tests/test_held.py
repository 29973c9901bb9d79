"""Guests who are held: until when, and who goes when there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.core.held import UNKNOWN, Held


def let_go(held: Held[str], now: float = 0.0) -> list[str]:
    """Those whose holds are over."""
    gone = []
    while (guest := held.due(now)) is not None:
        gone.append(guest)
        held.remove(guest)
    return gone


class HeldTests(TestCase):
    def test_each_is_held_until_its_time(self) -> None:
        held: Held[str] = Held(10, None)
        for until, guest in enumerate("abc", 1):
            held.add(guest, "one", until)
        self.assertEqual((held.next_due, let_go(held, 0.9)), (1, []))
        held.remove("b")
        self.assertEqual(let_go(held, 2.5), ["a"])
        self.assertEqual((held.next_due, len(held)), (3, 1))
        self.assertEqual(let_go(held, 3), ["c"])
        self.assertIsNone(held.next_due)

    def test_who_is_not_held_can_be_removed(self) -> None:
        held: Held[str] = Held(10, 1)
        held.remove("nobody")
        self.assertEqual(len(held), 0)

    def test_an_address_over_its_share_lets_its_own_oldest_go(self) -> None:
        held: Held[str] = Held(10, 2)
        for guest, address in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "one")):
            held.add(guest, address, 600)
        self.assertEqual(held.next_due, 0)  # at once
        self.assertEqual(let_go(held), ["a"])

    def test_when_too_many_are_held_the_address_that_holds_the_most_lets_its_oldest_go(
        self,
    ) -> None:
        held: Held[str] = Held(4, 3)
        for guest in ("a1", "b1", "b2", "b3", "c1", "d1"):
            held.add(guest, guest[0], 600)
        self.assertEqual(let_go(held), ["b1", "b2"])
        held.add("e1", "e", 600)  # all have one now but b, which has one too
        self.assertEqual(len(let_go(held)), 1)

    def test_one_address_pushes_out_no_more_of_the_unknown_than_its_share(self) -> None:
        held: Held[str] = Held(100, 10)
        for i in range(100):
            held.add(f"before {i}", UNKNOWN, 600)
        for i in range(50):
            held.add(f"flood {i}", "one", 600)
        gone = let_go(held)
        self.assertEqual(
            [name for name in gone if "before" in name], [f"before {i}" for i in range(10)]
        )
        self.assertEqual(len(gone), 50)

    def test_of_the_unknown_there_are_no_more_than_of_all(self) -> None:
        held: Held[str] = Held(5, 1)
        for guest in "abcdefg":
            held.add(guest, UNKNOWN, 600)
        self.assertEqual(let_go(held), ["a", "b"])

    def test_who_comes_back_in_time_is_not_let_go(self) -> None:
        held: Held[str] = Held(1, None)
        held.add("a", "one", 600)
        held.add("b", "one", 600)
        held.remove("a")
        self.assertEqual(let_go(held), [])
        self.assertEqual(let_go(held, 600), ["b"])

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("abc"))))
    def test_no_bound_is_ever_passed(self, steps) -> None:
        held: Held[str] = Held(7, 4)
        here: dict[str, str] = {}
        for adds, number, address in steps:
            guest = f"{number}"
            if adds and guest not in here:
                held.add(guest, address, 600)
                here[guest] = address
            elif not adds:
                held.remove(guest)
                here.pop(guest, None)
            for gone in let_go(held):
                counts = [list(here.values()).count(one) for one in "abc"]
                self.assertTrue(
                    here[gone] == address or counts["abc".index(here[gone])] == max(counts)
                )
                del here[gone]
            self.assertEqual(len(held), len(here))
            self.assertLessEqual(len(here), 7)
            for one in "abc":
                self.assertLessEqual(list(here.values()).count(one), 4)
