"""Who is kept out and who may not talk."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted import moderation
from chat_twisted.changes import Pardoned, Sanctioned
from chat_twisted.errors import NotPermitted
from chat_twisted.moderation import (
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
        self.sanctions = Sanctions()

    def ban(self, subject: str, duration: str = "", now: int = 0) -> None:
        for change in self.sanctions.ban(subject, duration, "why", "op", now):
            self.sanctions.apply(change)

    def is_banned(self, name: str = "x", host: str | None = "203.0.113.9", now: int = 0) -> bool:
        return self.sanctions.banned(name, host, now) is not None

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
        self.ban("bob", "10m", now=1000)
        self.ban("10.0.0.0/8")
        self.assertTrue(self.is_banned("bob", now=600_999))
        self.assertFalse(self.is_banned("bob", now=601_000))
        self.assertEqual(self.sanctions.pardon(BAN, "10.1.2.3/8"), [Pardoned(BAN, "10.0.0.0/8")])
        self.sanctions.apply(Pardoned(BAN, "10.0.0.0/8"))
        self.assertFalse(self.is_banned(host="10.0.0.1"))
        with self.assertRaises(NotPermitted):
            self.sanctions.pardon(BAN, "10.0.0.0/8")

    def test_another_ban_of_the_same_takes_its_place(self) -> None:
        self.ban("10.0.0.0/8", "1m")
        self.ban("10.0.0.0/8")
        self.assertTrue(self.is_banned(host="10.0.0.1", now=10**12))
        self.assertEqual(self.sanctions.listing(0).count, 1)

    def test_muting_is_for_users_alone_and_no_ban(self) -> None:
        for change in self.sanctions.mute("Bob", "1h", "loud", "op", 0):
            self.sanctions.apply(change)
        self.assertEqual(self.sanctions.muted("BOB", 0), (MUTE, "bob", 3_600_000, "loud", "op"))
        self.assertIsNone(self.sanctions.muted("BOB", 3_600_000))
        self.assertFalse(self.is_banned("bob"))
        with self.assertRaises(NotPermitted):
            self.sanctions.mute("192.0.2.1", "", "", "op", 0)

    def test_a_reason_is_a_line(self) -> None:
        for reason in ("x" * 201, "é" * 101, "a\nb"):
            with self.assertRaises(NotPermitted):
                self.sanctions.ban("bob", "", reason, "op", 0)
        [change] = self.sanctions.ban("bob", "", " why\n", "op", 0)
        self.assertEqual(change.reason, "why")

    def test_there_are_so_many_at_most_and_those_that_are_over_do_not_count(self) -> None:
        self.patch(moderation, "MAX_SANCTIONS", 2)
        self.ban("a", "1s")
        self.ban("b")
        with self.assertRaises(NotPermitted):
            self.ban("c", now=999)
        self.ban("b", now=999)
        self.ban("c", now=1000)
        self.assertEqual([s.subject for s in self.sanctions.listing(1000).items], ["b", "c"])

    def test_what_is_saved_is_there_again(self) -> None:
        saved = Sanctions([("ban", "10.0.0.0/8", 0, "why", "op")])
        self.assertIsNotNone(saved.banned("x", "10.1.1.1", 5))

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

        def listed(now: int, after: str = "") -> tuple[int, list[str]]:
            listing = self.sanctions.listing(now, after)
            return listing.count, [sanction.key for sanction in listing.items]

        self.assertEqual(listed(0), (4, ["192.0.2.0/24 ban", "a ban", "b ban", "c ban"]))
        self.assertEqual(listed(1000, "a ban"), (3, ["c ban"]))
        self.assertEqual(listed(2000), (3, ["192.0.2.0/24 ban", "a ban", "c ban"]))
        self.assertEqual(listed(3000), (2, ["192.0.2.0/24 ban", "a ban"]))

    def test_what_is_done_is_a_change(self) -> None:
        self.assertEqual(
            self.sanctions.ban("Bob", "1m", "why", "op", 5),
            [Sanctioned("ban", "bob", 60_005, "why", "op")],
        )
