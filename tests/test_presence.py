"""Who is here, and what is told of it to whom."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import NotPermitted
from chat_twisted.core.presence import (
    AWAY,
    GONE,
    HERE,
    MAX_WHY,
    TELL_AFTER,
    Presence,
    Roster,
    check_why,
    seen,
)


class Person:
    def __init__(self, name: str, away: str | None = None, *, present: bool = True) -> None:
        self.name = name
        self.key = name.lower()
        self.away = away
        self.present = present


class RosterTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[list[tuple[str, ...]]] = []
        self.roster: Roster[Person, str] = Roster(self.clock, self.tell)
        self.roster.watchers["somebody"] = None

    def tell(self, changed: Sequence[Presence]) -> None:
        self.told.append([tuple(presence) for presence in changed])

    def come(self, name: str) -> Person:
        person = Person(name)
        self.roster.changed(person)
        return person

    def go(self, person: Person) -> None:
        person.present = False
        self.roster.changed(person)

    def take(self) -> list[list[tuple[str, ...]]]:
        """What is told when it is time."""
        self.clock.advance(TELL_AFTER)
        told, self.told = self.told, []
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return told

    def test_all_who_are_present_are_in_the_order_of_their_folded_names(self) -> None:
        people = [self.come(name) for name in ("bob", "Carol", "alice", "Z", "0")]
        self.assertEqual(
            [person.name for person in self.roster.listing("").items],
            ["0", "alice", "bob", "Carol", "Z"],
        )
        self.go(people[0])
        self.assertEqual([p.name for p in self.roster.listing("a").items], ["alice", "Carol", "Z"])
        self.assertEqual(len(self.roster), 4)

    def test_who_comes_twice_is_here_once(self) -> None:
        self.roster.changed(self.come("bob"))
        self.assertEqual(len(self.roster), 1)
        self.assertEqual(self.take(), [[("bob", HERE, "")]])

    def test_changes_are_told_half_a_second_after_the_first_of_them(self) -> None:
        self.come("bob")
        self.clock.advance(0.4)
        self.come("carol")
        self.assertEqual(self.told, [])
        self.clock.advance(0.1)
        self.assertEqual(self.told, [[("bob", HERE, ""), ("carol", HERE, "")]])
        self.come("dave")
        self.clock.advance(0.4)
        self.assertEqual(len(self.told), 1)

    def test_a_storm_of_changes_is_one_notice_with_everybody_once(self) -> None:
        people = [self.come(f"u{i}") for i in range(1000)]
        for person in people[:500]:
            self.go(person)
        people[-1].away = "lunch"
        self.roster.changed(people[-1])
        [told] = self.take()
        self.assertEqual(len(told), 1000)
        self.assertEqual(
            (told[0], told[500], told[999]),
            (("u0", GONE, ""), ("u500", HERE, ""), ("u999", AWAY, "lunch")),
        )

    def test_it_is_told_how_it_is_in_the_end(self) -> None:
        bob = self.come("bob")
        self.take()
        bob.away = "x"
        self.roster.changed(bob)
        bob.away = None
        self.roster.changed(bob)
        self.assertEqual(self.take(), [[("bob", HERE, "")]])

    def test_who_takes_a_name_after_somebody_who_left_it_is_the_one_who_is_here(self) -> None:
        bob = self.come("bob")
        self.take()
        another = self.come("Bob")
        self.go(bob)  # GONE is sent later
        self.assertEqual(self.take(), [[("Bob", HERE, "")]])
        self.assertEqual(list(self.roster.listing("").items), [another])

    def test_nothing_is_kept_for_nobody(self) -> None:
        del self.roster.watchers["somebody"]
        self.come("bob")
        self.assertEqual(self.take(), [])
        self.roster.watchers["somebody"] = None
        self.come("carol")
        self.assertEqual(self.take(), [[("carol", HERE, "")]])
        self.assertEqual(len(self.roster), 2)


class WordsTests(TestCase):
    def test_where_somebody_is(self) -> None:
        for person, presence in (
            (Person("Bob"), ("Bob", HERE, "")),
            (Person("Bob", ""), ("Bob", AWAY, "")),
            (Person("Bob", "lunch"), ("Bob", AWAY, "lunch")),
            (Person("Bob", "lunch", present=False), ("Bob", GONE, "")),
        ):
            self.assertEqual(seen(person), presence)

    def test_why_somebody_is_away_is_a_line(self) -> None:
        for why, taken in (
            ("", ""),
            ("  at lunch \n", "at lunch"),
            ("é" * MAX_WHY, "é" * MAX_WHY),
            ("\x1b[2J", "\x1b[2J"),  # who shows it sees to that
        ):
            self.assertEqual(check_why(why), taken)
        for why in ("x" * (MAX_WHY + 1), "a\nb", "\nb", "a\r\nb", "a\x0bb", "a\x85b", "a\u2028b"):
            self.assertRaises(NotPermitted, check_why, why)
        for end in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
            self.assertEqual(check_why(f"a{end}"), "a")
