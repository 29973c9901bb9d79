"""What was meant by a mistyped word."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.ui import suggestions
from chat_twisted.ui.suggestions import nearest


class NearestTests(TestCase):
    def test_one_mistake_is_understood(self) -> None:
        names = ["alice", "bob", "carol", "#dev", "/join"]
        for word, meant in (
            ("alic", "alice"),
            ("allice", "alice"),
            ("alixe", "alice"),
            ("laice", "alice"),
            ("BOBB", "bob"),
            ("#dve", "#dev"),
            ("/jion", "/join"),
            ("alice", "alice"),
        ):
            self.assertEqual(nearest(word, names), meant)

    def test_two_mistakes_are_understood_in_a_longer_word(self) -> None:
        self.assertEqual(nearest("/hsitroy", ["/history"]), "/history")
        self.assertEqual(nearest("crl", ["carol"]), "")

    def test_another_word_is_no_mistake(self) -> None:
        for word in ("", "x", "dance", "bobby-tables", "a" * 1000):
            self.assertEqual(nearest(word, ["alice", "bob"]), "")

    def test_the_most_similar_one_is_taken_and_among_equals_always_the_same(self) -> None:
        self.assertEqual(nearest("mary", ["mark", "gary", "mart"]), "mark")
        self.assertEqual(nearest("mary", ["mart", "gary", "mark"]), "mark")
        self.assertEqual(nearest("johanna", ["joanna", "johann2", "hannah"]), "joanna")

    def test_a_few_of_many_candidates_are_compared(self) -> None:
        compared: list[str] = []

        def count(one: str, other: str) -> int:
            compared.append(other)
            return distance(one, other)

        distance = suggestions._distance
        self.patch(suggestions, "_distance", count)
        names = [f"user{number}" for number in range(20_000)]
        self.assertEqual(nearest("usre9999", names), "user9999")
        self.assertLessEqual(len(compared), suggestions.MAX_COMPARED)
