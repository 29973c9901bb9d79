"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from twisted.trial.unittest import TestCase

from chat_twisted.ui.when import NoTimeError, Span, parse_span, take_span

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 27, 12, 0, 30, tzinfo=BERLIN)  # a Friday


def at(text: str) -> datetime:
    """A time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


class SpanTests(TestCase):
    def check(self, text: str, start: str, end: str) -> None:
        self.assertEqual(parse_span(text, NOW), Span(at(start), at(end)), text)

    def test_days(self) -> None:
        for text, day in (
            ("today", "2026-11-27"),
            ("yesterday", "2026-11-26"),
            ("Monday", "2026-11-23"),
            ("thu", "2026-11-26"),
            ("friday", "2026-11-20"),  # a Friday is not its own last one
            ("last saturday", "2026-11-21"),
            ("2026-10-01", "2026-10-01"),
            ("2026-1-2", "2026-01-02"),
            ("1 october", "2026-10-01"),
            ("october 1", "2026-10-01"),
            ("Oct 1st, 2025", "2025-10-01"),
            ("1 oct 2025", "2025-10-01"),
            ("28. november", "2025-11-28"),  # this year's is still to come
            ("29 february 2024", "2024-02-29"),
        ):
            start = at(day)
            self.assertEqual(parse_span(text, NOW), Span(start, start + timedelta(days=1)), text)

    def test_longer_spans(self) -> None:
        self.check("october", "2026-10-01", "2026-11-01")
        self.check("december", "2025-12-01", "2026-01-01")
        self.check("2026-10", "2026-10-01", "2026-11-01")
        self.check("may 2025", "2025-05-01", "2025-06-01")
        self.check("2025", "2025-01-01", "2026-01-01")

    def test_times_of_day(self) -> None:
        self.check("10:30", "2026-11-27T10:30", "2026-11-27T10:31")
        self.check("9:05", "2026-11-27T09:05", "2026-11-27T09:06")
        self.check("14:00", "2026-11-26T14:00", "2026-11-26T14:01")  # the last one before now
        self.check("today 14:00", "2026-11-27T14:00", "2026-11-27T14:01")
        self.check("yesterday 10:30", "2026-11-26T10:30", "2026-11-26T10:31")
        self.check("10:30 yesterday", "2026-11-26T10:30", "2026-11-26T10:31")
        self.check("2026-10-01 14:00", "2026-10-01T14:00", "2026-10-01T14:01")
        self.check("2026-10-01T14:00:05", "2026-10-01T14:00:05", "2026-10-01T14:00:06")
        self.check("1 october 2025 14:00", "2025-10-01T14:00", "2025-10-01T14:01")

    def test_so_long_ago(self) -> None:
        for text, ago in (
            ("2h ago", timedelta(hours=2)),
            ("2 hours ago", timedelta(hours=2)),
            ("90m", timedelta(minutes=90)),
            ("5 min ago", timedelta(minutes=5)),
            ("an hour ago", timedelta(hours=1)),
            ("3 Days  ago", timedelta(days=3)),
            ("2w", timedelta(weeks=2)),
            ("3 months ago", timedelta(days=90)),
            ("now", timedelta()),
        ):
            self.assertEqual(parse_span(text, NOW).start, NOW.astimezone(UTC) - ago, text)

    def test_the_times_of_the_server_itself(self) -> None:
        span = parse_span("2026-11-23T10:00:00.123Z", NOW)
        self.assertEqual(span.start, datetime(2026, 11, 23, 10, 0, 0, 123000, tzinfo=UTC))
        self.assertEqual(span.end - span.start, timedelta(milliseconds=1))

    def test_a_day_is_the_one_of_the_zone_also_when_its_clocks_change(self) -> None:
        day = parse_span("25 october", NOW)
        self.assertEqual(day.end - day.start, timedelta(hours=25))

    def test_without_a_zone_it_is_the_time_of_this_machine(self) -> None:
        now = datetime(2026, 11, 27, 12, 0)
        self.assertEqual(
            parse_span("10:30", now).start, datetime(2026, 11, 27, 10, 30).astimezone(UTC)
        )

    def test_what_is_no_time(self) -> None:
        for text in (
            "",
            "lunch",
            "since",
            "10",
            "5",
            "10:3",
            "monday 10",
            "october 10:30",
            "1.10.",
        ):
            with self.assertRaises(NoTimeError) as caught:
                parse_span(text, NOW)
            self.assertIn("yesterday, monday, 10:30", str(caught.exception))

    def test_what_does_not_exist(self) -> None:
        for text in (
            "31 february",
            "2026-13-01",
            "25:00",
            "10:60",
            "0001-01-01",
            "9999-12-31",
            "999999999 weeks ago",
            "29 february 2026",
            "2026-10-01T14:00:99Z",
        ):
            with self.assertRaises(NoTimeError) as caught:
                parse_span(text, NOW)
            self.assertIn("There is no such time", str(caught.exception), text)


class TakingTests(TestCase):
    def test_the_longest_time_is_taken(self) -> None:
        for words, used in (
            ("yesterday 50", 1),
            ("monday 10:30 #dev", 2),
            ("1 october 2025 14:00 x", 4),
            ("1 october 20", 2),
            ("2 hours ago x", 3),
            ("2025 50", 1),
        ):
            self.assertEqual(take_span(words.split(), NOW)[1], used, words)

    def test_a_day_that_does_not_exist_is_not_taken_for_its_month(self) -> None:
        self.assertRaises(NoTimeError, take_span, ["february", "31"], NOW)
        self.assertRaises(NoTimeError, take_span, [], NOW)
