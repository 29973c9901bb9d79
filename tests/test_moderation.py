"""Who is kept out and who may not talk."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.clocks import SettledTime
from chat_twisted.core import moderation
from chat_twisted.core.changes import Pardoned, Sanctioned
from chat_twisted.core.errors import NotPermitted
from chat_twisted.core.moderation import (
    BAN,
    MUTE,
    Sanctions,
    is_within,
    network_of,
    parse_duration,
    parse_subject,
)


class ParsingTests(TestCase):
    def test_a_subject_is_a_name_an_address_or_a_network(self) -> None:
        for text, subject in (
            ("Bob", "bob"),
            ("123", "123"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("2001:DB8::1", "2001:db8::1"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
        ):
            self.assertEqual(parse_subject(text), subject)
        for text in ("", "b@d", "all", "1.2.3", "10.0.0.0/33", "a.b", "#dev", "x" * 33, "/"):
            with self.assertRaises(NotPermitted):
                parse_subject(text)

    def test_a_duration_has_a_unit_or_is_in_seconds(self) -> None:
        for text, seconds in (
            ("", 0),
            ("90", 90),
            ("1s", 1),
            ("10m", 600),
            ("2h", 7200),
            ("1d", 86400),
        ):
            self.assertEqual(parse_duration(text), seconds)
        for text in ("0", "-1", "1w", "m", "1.5h", "9" * 10, "4000d", "٣"):
            with self.assertRaises(NotPermitted):
                parse_duration(text)


class SanctionsTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ahead = 0.0
        self.sanctions = self.make()

    def make(self, *saved: tuple[str, str, int, str, str]) -> Sanctions:
        time = SettledTime(self.clock.seconds, lambda: self.clock.seconds() + self.ahead)
        return Sanctions(self.clock.seconds, time, saved)

    def ban(self, subject: str, duration: str = "") -> None:
        for change in self.sanctions.ban(subject, duration, "why", "op"):
            self.sanctions.apply(change)

    def is_banned(self, name: str = "x", host: str | None = "203.0.113.9") -> bool:
        return self.sanctions.banned(name, host) is not None

    def test_a_name_an_address_and_a_network_are_kept_out(self) -> None:
        for subject in ("Bob", "192.0.2.1", "198.51.100.0/24", "198.51.0.0/20", "2001:db8::/32"):
            self.ban(subject)
        for name, host in (
            ("bOB", None),
            ("x", "192.0.2.1"),
            ("x", "::ffff:192.0.2.1"),
            ("x", "198.51.100.200"),
            ("x", "198.51.1.1"),
            ("x", "2001:db8:ffff::1"),
        ):
            self.assertTrue(self.is_banned(name, host), (name, host))
        for name, host in (
            ("bobby", None),
            ("x", None),
            ("x", "192.0.2.2"),
            ("x", "198.51.101.1"),
            ("x", "2001:db9::1"),
            ("x", "nonsense"),
        ):
            self.assertFalse(self.is_banned(name, host), (name, host))

    def test_it_ends_at_its_time_or_when_it_is_pardoned(self) -> None:
        self.clock.advance(1)
        self.ban("bob", "10m")
        self.ban("10.0.0.0/8")
        self.clock.advance(599.5)
        self.assertTrue(self.is_banned("bob"))
        self.clock.advance(0.5)
        self.assertFalse(self.is_banned("bob"))
        self.assertEqual(self.sanctions.pardon(BAN, "10.1.2.3/8"), [Pardoned(BAN, "10.0.0.0/8")])
        self.sanctions.apply(Pardoned(BAN, "10.0.0.0/8"))
        self.assertFalse(self.is_banned(host="10.0.0.1"))
        with self.assertRaises(NotPermitted):
            self.sanctions.pardon(BAN, "10.0.0.0/8")

    def test_another_ban_of_the_same_takes_its_place(self) -> None:
        self.ban("10.0.0.0/8", "1m")
        self.ban("10.0.0.0/8")
        self.clock.advance(10**9)
        self.assertTrue(self.is_banned(host="10.0.0.1"))
        self.assertEqual(self.sanctions.listing().count, 1)

    def test_it_ends_at_its_time_however_the_clock_jumps(self) -> None:
        for jump in (40 * 24 * 3600, -3600, 30):
            self.ban("before", "1h")
            self.ahead += jump
            self.ban("during", "1h")
            self.clock.advance(60)
            self.ahead -= jump
            self.ban("after", "1h")
            self.clock.advance(3600 - 61)
            self.assertTrue(self.is_banned("before") and self.is_banned("during"), jump)
            self.assertEqual(self.sanctions.listing().count, 3)
            self.clock.advance(1)
            self.assertFalse(self.is_banned("before") or self.is_banned("during"), jump)
            self.assertEqual([s.subject for s in self.sanctions.listing().items], ["after"])
            self.clock.advance(60)
            self.assertFalse(self.is_banned("after"), jump)

    def test_one_of_before_the_start_is_not_ended_by_a_jump(self) -> None:
        self.sanctions = self.make((BAN, "bob", 7200_000, "why", "op"))
        self.assertTrue(self.is_banned("bob"))
        self.ahead = 40 * 24 * 3600
        self.assertTrue(self.is_banned("bob"))
        self.assertEqual(self.sanctions.listing().count, 1)
        self.ahead = 0
        self.clock.advance(7200)
        self.assertEqual(self.sanctions.listing().count, 0)

    def test_muting_is_for_users_alone_and_no_ban(self) -> None:
        for change in self.sanctions.mute("Bob", "1h", "loud", "op"):
            self.sanctions.apply(change)
        self.assertEqual(self.sanctions.muted("BOB"), (MUTE, "bob", 3_600_000, "loud", "op"))
        self.clock.advance(3600)
        self.assertIsNone(self.sanctions.muted("BOB"))
        self.assertFalse(self.is_banned("bob"))
        with self.assertRaises(NotPermitted):
            self.sanctions.mute("192.0.2.1", "", "", "op")

    def test_a_reason_is_a_line(self) -> None:
        for reason in ("x" * 201, "é" * 101, "a\nb"):
            with self.assertRaises(NotPermitted):
                self.sanctions.ban("bob", "", reason, "op")
        [change] = self.sanctions.ban("bob", "", " why\n", "op")
        self.assertEqual(change.reason, "why")

    def test_there_are_so_many_at_most_and_those_that_are_over_do_not_count(self) -> None:
        self.patch(moderation, "MAX_SANCTIONS", 2)
        self.ban("a", "1s")
        self.ban("b")
        self.clock.advance(0.5)
        with self.assertRaises(NotPermitted):
            self.ban("c")
        self.ban("b")
        self.clock.advance(0.5)
        self.ban("c")
        self.assertEqual([s.subject for s in self.sanctions.listing().items], ["b", "c"])

    def test_what_is_saved_is_there_again(self) -> None:
        saved = self.make(("ban", "10.0.0.0/8", 0, "why", "op"))
        self.assertIsNotNone(saved.banned("x", "10.1.1.1"))

    def test_whom_a_network_means(self) -> None:
        for subject, host, means in (
            ("10.0.0.0/8", "10.1.1.1", True),
            ("10.1.1.1", "::ffff:10.1.1.1", True),
            ("10.0.0.0/8", "2001:db8::1", False),
            ("10.0.0.0/8", None, False),
            ("10.0.0.0/8", "nonsense", False),
        ):
            banned = network_of(subject)
            assert banned is not None
            self.assertEqual(is_within(host, banned), means)
        self.assertIsNone(network_of("bob"))

    def test_those_that_are_over_are_listed_no_more_and_the_others_from_where_one_wants(
        self,
    ) -> None:
        for subject, duration in (("b", "1s"), ("a", ""), ("c", "2s"), ("192.0.2.0/24", "")):
            self.ban(subject, duration)
        self.ban("c", "3s")
        self.ban("d", "1s")
        for change in self.sanctions.pardon("ban", "d"):
            self.sanctions.apply(change)

        def listed(seconds: float, after: str = "") -> tuple[int, list[str]]:
            self.clock.advance(seconds)
            listing = self.sanctions.listing(after)
            return listing.count, [sanction.key for sanction in listing.items]

        self.assertEqual(listed(0), (4, ["192.0.2.0/24 ban", "a ban", "b ban", "c ban"]))
        self.assertEqual(listed(1, "a ban"), (3, ["c ban"]))
        self.assertEqual(listed(1), (3, ["192.0.2.0/24 ban", "a ban", "c ban"]))
        self.assertEqual(listed(1), (2, ["192.0.2.0/24 ban", "a ban"]))

    def test_what_is_done_is_a_change(self) -> None:
        self.assertEqual(
            self.sanctions.ban("Bob", "1m", "why", "op"),
            [Sanctioned("ban", "bob", 60_000, "why", "op")],
        )
