"""Lists in order: what is in them, and what reading a page of them costs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.core.ordered import Ordered


class Item:
    def __init__(self, key: str) -> None:
        self.key = key


class OrderedTests(TestCase):
    def setUp(self) -> None:
        self.looks = 0

    def key(self, item: Item) -> str:
        self.looks += 1
        return item.key

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40), st.integers(0, 9))
    def test_it_is_a_dict_in_the_order_of_its_keys(self, steps, after: int) -> None:
        ordered, model = Ordered(self.key), {}
        for adds, number in steps:
            key = str(number)
            if adds:
                model[key] = Item(key)
                ordered.put(model[key])
            else:
                ordered.discard(Item(key))  # another one, which is not here
                ordered.discard(model.pop(key, Item(key)))
        self.assertEqual(len(ordered), len(model))
        self.assertEqual(
            list(ordered.after(str(after))),
            [model[key] for key in sorted(model) if key > str(after)],
        )
        self.assertEqual(ordered.get(str(after)), model.get(str(after)))
        self.assertEqual(ordered.first(), model[min(model)] if model else None)

    def test_it_is_made_of_items_in_any_order(self) -> None:
        ordered = Ordered(self.key, [Item(key) for key in "cab"])
        self.assertEqual([item.key for item in ordered.after("")], ["a", "b", "c"])

    def test_to_change_it_and_to_read_a_page_costs_a_search_and_the_page(self) -> None:
        ordered = Ordered(self.key, [Item(f"{i:05}") for i in range(50_000)])
        item = Item("25000x")
        for do in (
            lambda: ordered.put(item),
            lambda: ordered.discard(item),
            lambda: next(ordered.after("49000")),
            lambda: list(ordered.after("zzzzz")),
        ):
            self.looks = 0
            do()
            self.assertLess(self.looks, 20)
