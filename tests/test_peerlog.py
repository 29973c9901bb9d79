"""Lines that peers cause: all of those that people cause, and few of a flood."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core import peerlog
from chat_twisted.core.limits import Rate
from chat_twisted.core.peerlog import MAX_ADDRESSES, MAX_REPORTED, REPORT_EVERY, PeerLog


class PeerLogTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.log = PeerLog(self.write, self.clock, each=Rate(0.1, 3), all=Rate(1, 20))

    def write(self, format: str, **fields: Any) -> None:
        self.lines.append(format.format(**fields))

    def flood(self, count: int, host: str | None = "192.0.2.1") -> list[str]:
        """Cause so many lines; return those that were written."""
        self.lines.clear()
        for number in range(count):
            self.log.emit(host, "refused {peer}", peer=f"{host}:{number}")
        return list(self.lines)

    def pass_time(self, seconds: float = REPORT_EVERY) -> list[str]:
        self.lines.clear()
        self.clock.advance(seconds)
        return list(self.lines)

    def test_what_a_person_causes_is_written_as_it_comes(self) -> None:
        self.assertEqual(self.flood(2), ["refused 192.0.2.1:0", "refused 192.0.2.1:1"])
        self.assertEqual(self.flood(1, None), ["refused None:0"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_flood_is_its_first_lines_and_one_a_minute_with_their_number(self) -> None:
        self.assertEqual(len(self.flood(6500)), 3)
        self.assertEqual(
            self.pass_time(),
            ["6497 more lines about 192.0.2.1, the last: refused 192.0.2.1:6499"],
        )
        self.assertEqual(self.flood(9)[0], "refused 192.0.2.1:0")
        self.assertEqual(len(self.pass_time()), 1)
        self.assertEqual(self.pass_time(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_others_are_written_as_before(self) -> None:
        self.flood(6500)
        self.assertEqual(self.flood(1, "192.0.2.2"), ["refused 192.0.2.2:0"])

    def test_no_line_comes_before_the_number_of_those_omitted_before_it(self) -> None:
        self.flood(4)
        self.assertEqual(self.pass_time(40), [])
        self.assertEqual(self.flood(1), [])
        self.assertEqual(len(self.pass_time(20)), 1)

    def test_a_flood_from_many_addresses_has_few_lines_too(self) -> None:
        hosts = [f"10.{i // 256}.{i % 256}.1" for i in range(3 * MAX_ADDRESSES)]
        written = sum(len(self.flood(2, host)) for host in hosts)
        self.assertEqual(written, 20)
        reported = self.pass_time()
        self.assertEqual(len(reported), MAX_REPORTED + 1)
        omitted = sum(int(line.split()[0]) for line in reported)
        self.assertEqual(written + omitted, 2 * len(hosts))
        self.assertRegex(reported[-1], "^[0-9]+ more lines about other addresses$")

    def test_so_many_addresses_are_remembered_at_most(self) -> None:
        self.patch(peerlog, "MAX_ADDRESSES", 5)
        for i in range(50):
            self.flood(1, f"192.0.2.{i}")
        self.assertLessEqual(len(self.log._addresses), 5)
        self.pass_time()
        self.assertEqual(self.log._addresses, {})
        self.flood(1)
        self.clock.advance(1000)  # nobody has been omitted, so nothing was due meanwhile
        for i in range(5):
            self.assertEqual(len(self.flood(1, f"192.0.2.{i}")), 1)

    def test_at_the_end_what_is_only_counted_is_written(self) -> None:
        self.log.report()
        self.flood(5)
        self.lines.clear()
        self.log.report()
        self.assertEqual(len(self.lines), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
