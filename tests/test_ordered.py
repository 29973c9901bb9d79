"""Lists in order: what is in them, and what reading a page of them costs."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.core import ordered
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
                is_new = key not in model
                model[key] = Item(key)
                self.assertEqual(ordered.put(model[key]), is_new)
            else:
                self.assertFalse(ordered.discard(Item(key)))  # another one, which is not here
                was_there = key in model
                self.assertEqual(ordered.discard(model.pop(key, Item(key))), was_there)
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


class LongListTests(TestCase):
    def test_a_list_of_several_parts_is_as_one(self) -> None:
        self.patch(ordered, "MOST", 4)
        draw = random.Random(1)
        for _ in range(30):
            begun = draw.sample(range(60), draw.randrange(12))
            items: Ordered[list[int]] = Ordered(lambda item: item[0], ([n] for n in begun))
            there = {item[0]: item for item in items.after(-1)}
            for _ in range(200):
                number = draw.randrange(60)
                if draw.randrange(2):
                    there[number] = [number]
                    items.put(there[number])
                else:
                    items.discard([number])  # another one
                    items.discard(there.pop(number, [number]))
                expected = [there[n] for n in sorted(there)]
                self.assertEqual(list(items.after(-1)), expected)
                self.assertEqual(len(items), len(expected))
                self.assertIs(items.first(), expected[0] if expected else None)
                self.assertIs(items.get(number), there.get(number))
                behind = [item for item in expected if item[0] > number]
                self.assertEqual(list(items.after(number)), behind)
