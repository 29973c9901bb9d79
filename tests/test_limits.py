"""Buckets and counts: what is let through, what is not, and what is forgotten."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import TestCase

from chat_twisted.core import limits as limits_module
from chat_twisted.core.errors import TooFast
from chat_twisted.core.limits import OFF, Bucket, FairPool, Limiter, Limits, Rate, network


class BucketTests(TestCase):
    def test_a_burst_goes_at_once_and_the_rest_at_the_rate(self) -> None:
        bucket = Bucket(Rate(2, 3), 100)
        for _ in range(3):
            self.assertEqual(bucket.wait(1, 100), 0)
            bucket.take(1)
        self.assertEqual(bucket.wait(1, 100), 0.5)
        self.assertEqual(bucket.wait(1, 100.5), 0)
        self.assertFalse(bucket.full(101))
        self.assertTrue(bucket.full(101.5))

    def test_what_is_larger_than_the_burst_waits_until_all_is_there(self) -> None:
        bucket = Bucket(Rate(1, 10), 0)
        bucket.take(1)
        self.assertEqual(bucket.wait(100, 0), 1)
        self.assertEqual(bucket.wait(100, 1), 0)
        bucket.take(100)
        self.assertEqual(bucket.wait(1, 1), 91)


class LimiterTestCase(TestCase):
    def limiter(self, **limits: object) -> Limiter:
        return Limiter(OFF._replace(**limits))

    def refused(self, ask: Callable[..., object], *arguments: object) -> int:
        with self.assertRaises(TooFast) as caught:
            ask(*arguments)
        return caught.exception.retry_after or 0


class LimiterTests(LimiterTestCase):
    def test_a_session_is_told_after_how_many_seconds_it_may_go_on(self) -> None:
        allowance = self.limiter(messages=Rate(0.1, 2)).session("192.0.2.1", 0)
        assert allowance is not None
        allowance.spend(10**9, 0)
        allowance.spend(1, 0)
        self.assertEqual(self.refused(allowance.spend, 1, 0.5), 10)
        self.assertEqual(self.refused(allowance.spend, 1, 9.99), 1)
        allowance.spend(1, 10.5)

    def test_once_refused_nothing_is_taken_before_the_time_that_was_told(self) -> None:
        allowance = self.limiter(messages=Rate(10, 1)).session("192.0.2.1", 0)
        assert allowance is not None
        allowance.spend(1, 0)
        self.assertEqual(self.refused(allowance.spend, 1, 0), 1)
        self.assertEqual(self.refused(allowance.spend, 1, 0.5), 1)  # though one would be free
        allowance.spend(1, 1)

    def test_bytes_count_too_and_what_is_refused_takes_nothing(self) -> None:
        limiter = self.limiter(messages=Rate(1, 3), octets=Rate(10, 100))
        allowance = limiter.session("192.0.2.1", 0)
        assert allowance is not None
        allowance.spend(100, 0)
        for _ in range(9):
            self.assertEqual(self.refused(allowance.spend, 50, 0), 5)
        allowance.spend(50, 5)
        allowance.spend(0, 5)
        allowance.spend(0, 5)
        self.refused(allowance.spend, 0, 5)

    def test_sessions_of_one_address_share_what_it_may(self) -> None:
        limiter = self.limiter(messages=Rate(1, 9), address_messages=Rate(1, 3))
        one, two = (limiter.session("192.0.2.1", 0) for _ in range(2))
        other = limiter.session("192.0.2.2", 0)
        assert one is not None
        assert two is not None
        assert other is not None
        one.spend(1, 0)
        two.spend(1, 0)
        one.spend(1, 0)
        self.refused(two.spend, 1, 0)
        other.spend(1, 0)

    def test_logins_and_registrations_are_an_addresss(self) -> None:
        limiter = self.limiter(logins=Rate(1, 2), registrations=Rate(0.01, 1))
        for _ in range(2):
            limiter.login("192.0.2.1", 0)
        self.assertEqual(self.refused(limiter.login, "192.0.2.1", 0), 1)
        limiter.registration("192.0.2.1", 0)
        self.assertEqual(self.refused(limiter.registration, "192.0.2.1", 0), 100)
        limiter.login("192.0.2.2", 0)
        for _ in range(9):
            limiter.login(None, 0)  # a local socket
            limiter.registration(None, 0)

    def test_connections_of_an_address_are_so_many_at_most(self) -> None:
        limiter = self.limiter(connections=2)
        self.assertEqual([limiter.connect("::1", 0) for _ in range(3)], [True, True, False])
        self.assertTrue(limiter.connect("192.0.2.1", 0))
        limiter.disconnect("::1", 0)
        self.assertTrue(limiter.connect("::1", 0))
        limiter.disconnect("203.0.113.5", 0)  # that was never here
        self.assertTrue(all(limiter.connect(None, 0) for _ in range(9)))

    def test_an_address_has_as_many_connections_as_there_are_places_free(self) -> None:
        limiter = Limiter(OFF._replace(connections=1000), 100)

        def connect(host: str) -> int:
            return sum(limiter.connect(host, 0) for _ in range(200))

        self.assertEqual([connect(f"192.0.2.{i}") for i in range(4)], [50, 25, 13, 6])
        for _ in range(50):
            limiter.disconnect("192.0.2.0", 0)
        self.assertEqual(connect("192.0.2.9"), 28)

    def test_an_address_makes_so_many_connections_at_most_however_short_they_are(self) -> None:
        limiter = self.limiter(arrivals=Rate(1, 20))

        def arrive(host: str | None, now: float) -> int:
            return sum(limiter.arrive(host, now) for _ in range(100))

        self.assertEqual([arrive("192.0.2.1", now) for now in (0, 0, 1, 11)], [20, 0, 1, 10])
        self.assertEqual([arrive(host, 0) for host in ("192.0.2.2", None)], [20, 100])

    def test_there_are_so_many_connections_at_most_wherever_from_and_whatever_is_off(self) -> None:
        limiter = Limiter(OFF, 10)
        self.assertEqual(sum(limiter.connect("192.0.2.1", 0) for _ in range(20)), 10)
        self.assertFalse(limiter.connect(None, 0))
        limiter.disconnect("192.0.2.1", 0)
        self.assertTrue(limiter.connect(None, 0))
        self.assertFalse(limiter.connect("192.0.2.2", 0))
        limiter.disconnect(None, 0)
        self.assertTrue(limiter.connect("192.0.2.2", 0))

    def test_a_line_of_version_6_is_one_address(self) -> None:
        limiter = self.limiter(connections=1)
        self.assertTrue(limiter.connect("2001:db8::1", 0))
        self.assertFalse(limiter.connect("2001:db8::2", 0))
        self.assertTrue(limiter.connect("2001:db8:0:1::1", 0))
        self.assertTrue(limiter.connect("::ffff:192.0.2.1", 0))
        self.assertFalse(limiter.connect("192.0.2.1", 0))
        self.assertEqual(network("fe80::1%eth0"), "fe80::/64")
        self.assertEqual(network("nonsense"), "nonsense")

    def test_off_is_no_limit_at_all(self) -> None:
        limiter = Limiter(OFF)
        self.assertIsNone(limiter.session("192.0.2.1", 0))
        for _ in range(2000):
            limiter.login("192.0.2.1", 0)
            limiter.registration("192.0.2.1", 0)
            self.assertTrue(limiter.arrive("192.0.2.1", 0))
            self.assertTrue(limiter.connect("192.0.2.1", 0))

    def test_the_defaults_are_never_met_by_a_person_and_always_by_a_flood(self) -> None:
        allowance = Limiter(Limits()).session("192.0.2.1", 0)
        assert allowance is not None
        for second in range(60):  # somebody who pastes ten lines a second
            for _ in range(10):
                allowance.spend(200, second)
        with self.assertRaises(TooFast):
            for _ in range(1000):
                allowance.spend(200, 60)


class FairPoolTests(TestCase):
    def setUp(self) -> None:
        self.evicted: list[str] = []
        self.pool: FairPool[str] = FairPool(8, self.evicted.append)

    def add(self, host: str, count: int) -> None:
        for i in range(count):
            self.pool.add(f"{host} {i}", host)

    def test_past_its_share_an_address_loses_its_oldest(self) -> None:
        self.add("192.0.2.1", 6)
        self.assertEqual(self.evicted, ["192.0.2.1 0", "192.0.2.1 1"])
        self.add("192.0.2.2", 3)
        self.assertEqual(self.evicted[2:], ["192.0.2.2 0"])
        self.assertEqual(len(list(self.pool)), 6)

    def test_who_comes_from_an_address_of_their_own_always_finds_a_place(self) -> None:
        for i in range(20):
            self.add(f"192.0.2.{i}", 5)
        self.assertLessEqual(len(list(self.pool)), 8)
        self.add("198.51.100.1", 1)
        self.assertIn("198.51.100.1 0", list(self.pool))

    def test_a_place_that_is_given_up_is_free(self) -> None:
        self.add("192.0.2.1", 4)
        self.pool.remove("192.0.2.1 2")
        self.pool.remove("192.0.2.1 2")
        self.add("192.0.2.2", 2)
        self.assertEqual(self.evicted, [])
        for member in self.pool:
            self.pool.remove(member)
        self.assertEqual((list(self.pool), self.pool._of), ([], {}))

    def test_a_line_of_version_6_and_all_local_sockets_are_one_address_each(self) -> None:
        for i in range(5):
            self.pool.add(f"line {i}", f"2001:db8::{i}")
        self.assertEqual(self.evicted, ["line 0"])
        for i in range(3):
            self.pool.add(f"local {i}", None)
        self.assertEqual(self.evicted, ["line 0", "local 0"])


class ForgettingTests(LimiterTestCase):
    def count(self, limiter: Limiter) -> int:
        return len(limiter._addresses)

    def test_an_address_that_left_and_owes_nothing_is_forgotten(self) -> None:
        limiter = self.limiter(logins=Rate(1, 10))
        for i in range(100):
            host = f"192.0.2.{i}"
            limiter.connect(host, i)
            limiter.login(host, i)
            limiter.disconnect(host, i)
        self.assertLess(self.count(limiter), 5)

    def test_one_that_owes_something_is_not_forgotten_by_leaving(self) -> None:
        limiter = self.limiter(logins=Rate(0.001, 1))
        limiter.connect("192.0.2.1", 0)
        limiter.login("192.0.2.1", 0)
        limiter.disconnect("192.0.2.1", 0)
        for i in range(2, 100):
            limiter.connect(f"192.0.2.{i}", 1)
            limiter.disconnect(f"192.0.2.{i}", 1)
        self.refused(limiter.login, "192.0.2.1", 1)

    def test_so_many_are_known_at_most_beside_those_who_are_here(self) -> None:
        self.patch(limits_module, "MAX_ADDRESSES", 20)
        limiter = self.limiter(logins=Rate(0.001, 1), connections=1)
        limiter.connect("198.51.100.1", 0)
        for i in range(200):
            limiter.login(f"192.0.2.{i}", 0)
        self.assertLessEqual(self.count(limiter), 22)
        self.assertFalse(limiter.connect("198.51.100.1", 0))
