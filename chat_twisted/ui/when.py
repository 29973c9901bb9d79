"""Parses times as people type them: ``yesterday``, ``monday 10:30``, ``2h ago``, ``1 october``.

What is typed names a span of time: a day has 24 hours, ``10:30`` is a minute. All times are
relative to a ``now`` that the caller gives. This module must not know what the times are for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

MAX_WORDS = 4
"""Maximum number of words of a time, as in ``1 october 2026 14:00``."""

EXAMPLES = "yesterday, monday, 10:30, 2h ago, 2026-10-01"

_INSTANT = timedelta(milliseconds=1)  # the server's times are as fine as that
_YEARS = range(1970, 9999)

_MONTHS = ["january", "february", "march", "april", "may", "june"]
_MONTHS += ["july", "august", "september", "october", "november", "december"]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS) + "|sept"
_DAY = "|".join(f"{name}|{name[:3]}" for name in _DAYS) + "|tues|thur|thurs"

_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "mo": timedelta(days=30),
    "y": timedelta(days=365),
}
_AGO = re.compile(
    r"(?:([0-9]{1,9}) ?|an? )"
    r"(?:(s)(?:ecs?|econds?)?|(mo)(?:nths?)|(m)(?:ins?|inutes?)?|(h)(?:ours?)?|(d)(?:ays?)?"
    r"|(w)(?:eeks?)?|(y)(?:ears?)?)(?: ago)?"
)
_CLOCK = r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?"
_DAY_AND_CLOCK = re.compile(rf"(?:(.+?)(?: |(?<=[0-9])t))?{_CLOCK}")
_CLOCK_AND_DAY = re.compile(rf"{_CLOCK} (.+)")
_WEEKDAY = re.compile(rf"(?:last )?({_DAY})")
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})(?:-([0-9]{1,2}))?")
_DAY_MONTH = re.compile(rf"([0-9]{{1,2}})(?:st|nd|rd|th|\.)? ({_MONTH})(?:,? ([0-9]{{4}}))?")
_MONTH_DAY = re.compile(
    rf"({_MONTH})(?: ([0-9]{{1,2}})(?:st|nd|rd|th)?(?=,|\Z| [0-9]{{4}}))?(?:,? ([0-9]{{4}}))?"
)
_YEAR = re.compile(r"[0-9]{4}")


class NoTimeError(ValueError):
    """What was typed is no time. The text explains why, for people."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, as aware times in UTC: from ``start`` until before ``end``."""

    start: datetime
    end: datetime


def take_span(words: Sequence[str], now: datetime) -> tuple[Span, int]:
    """Parse the time with which a list of words begins; return it and the number of its words.

    :param now: as in ``parse_span``.
    :raises NoTimeError: if they don't begin with a time.
    """
    for count in range(min(MAX_WORDS, len(words)), 0, -1):
        try:
            return parse_span(" ".join(words[:count]), now), count
        except _NoSuchTimeError:  # rather than to take "february 31" for all of february
            raise
        except NoTimeError:
            continue
    raise NoTimeError(_no_time(words[0] if words else ""))


def parse_span(text: str, now: datetime) -> Span:
    """Parse a time.

    A weekday is the last one before today. A time of day without a day is the last one before now,
    and so are a day and a month without a year.

    :param now: an aware time, in whose zone the text is meant; or a naive one in the zone of this
        machine.
    :raises NoTimeError: if it is no time.
    """
    words = " ".join(text.lower().split())
    try:
        return _parse(words, now)
    except NoTimeError:
        raise
    except (ValueError, OverflowError, OSError):  # as the 31st of February
        raise _NoSuchTimeError(f"There is no such time: {words}") from None


class _NoSuchTimeError(NoTimeError):
    """It has the form of a time, but there is none like it."""


def _parse(words: str, now: datetime) -> Span:
    if words == "now":
        return _instant(now)
    if ago := _AGO.fullmatch(words):
        unit = next(unit for unit in ago.groups()[1:] if unit)
        return _instant(now.astimezone(UTC) - int(ago[1] or 1) * _UNITS[unit])
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}t", words) and re.search(r"z$|[+-]..:..$", words):
        return _instant(datetime.fromisoformat(words.upper()))
    today = now.date()
    clock = _DAY_AND_CLOCK.fullmatch(words)
    if clock:
        day, *parts = clock.groups()
    elif clock := _CLOCK_AND_DAY.fullmatch(words):
        *parts, day = clock.groups()
    else:
        first, end = _days(words, today)
        return Span(_at(first, time(), now), _at(end, time(), now))
    hour, minute, second = (None if part is None else int(part) for part in parts)
    at = time(hour or 0, minute or 0, second or 0)
    on = today
    if day is not None:
        on, end = _days(day, today)
        if end - on != timedelta(1):
            raise NoTimeError(_no_time(words))
    elif at > now.time():
        on -= timedelta(1)
    start = _at(on, at, now)
    return Span(start, start + timedelta(seconds=60 if second is None else 1))


def _days(words: str, today: date) -> tuple[date, date]:
    """Return the first of the days that are named, and the first one after them."""
    if words in ("today", "yesterday"):
        day = today - timedelta(words == "yesterday")
        return day, day + timedelta(1)
    if weekday := _WEEKDAY.fullmatch(words):
        index = next(i for i, name in enumerate(_DAYS) if name.startswith(weekday[1][:3]))
        day = today - timedelta((today.weekday() - index - 1) % 7 + 1)
        return day, day + timedelta(1)
    if found := _DATE.fullmatch(words):
        year, month, day_of_month = found.groups()
        return _span_of(int(year), int(month), day_of_month, today)
    if found := _DAY_MONTH.fullmatch(words):
        day_of_month, name, year = found.groups()
    elif found := _MONTH_DAY.fullmatch(words):
        name, day_of_month, year = found.groups()
    elif _YEAR.fullmatch(words):
        return date(_year(int(words)), 1, 1), date(int(words) + 1, 1, 1)
    else:
        raise NoTimeError(_no_time(words))
    month = next(i for i, known in enumerate(_MONTHS, 1) if known.startswith(name[:3]))
    return _span_of(int(year) if year else None, month, day_of_month, today)


def _span_of(
    year: int | None, month: int, day_of_month: str | None, today: date
) -> tuple[date, date]:
    if year is None:
        year = today.year - ((month, int(day_of_month or 1)) > (today.month, today.day))
    first = date(_year(year), month, int(day_of_month or 1))
    if day_of_month is not None:
        return first, first + timedelta(1)
    return first, date(year + month // 12, month % 12 + 1, 1)


def _year(year: int) -> int:
    if year not in _YEARS:
        raise ValueError("nothing was sent in that year")
    return year


def _at(day: date, at: time, now: datetime) -> datetime:
    local = datetime.combine(day, at, now.tzinfo)
    return local.astimezone(UTC)  # takes a naive time as one in the zone of this machine


def _instant(at: datetime) -> Span:
    return Span(at.astimezone(UTC), at.astimezone(UTC) + _INSTANT)


def _no_time(words: str) -> str:
    if not words:
        return f"A time is missing: {EXAMPLES}"
    return f"{words} is not a time; times are {EXAMPLES}"
