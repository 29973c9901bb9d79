"""Sanctions: who is kept out, who may not talk, until when, and why.

A request is checked by a method that returns the changes it would take; ``apply`` takes a change
that is committed. Names are folded, addresses and networks canonical text, times milliseconds since
the epoch. Nothing here knows who may ask for that, or sessions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from chat_twisted.clocks import SettledTime
from chat_twisted.core.changes import Change, Pardoned, Sanctioned
from chat_twisted.core.errors import MalformedName, NotPermitted
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.ordered import Listing, Ordered

BAN, MUTE = "ban", "mute"

MAX_SANCTIONS = 10_000

MAX_REASON = 200
"""Characters."""

MAX_DURATION = 10 * 365 * 24 * 60 * 60
"""Seconds."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Sanction(NamedTuple):
    """``until`` is 0 for ever; ``by`` is the operator's name."""

    kind: str
    subject: str
    until: int
    reason: str
    by: str

    @property
    def key(self) -> str:
        """What a sanction is listed by: whom it is for, and of what kind it is."""
        return f"{self.subject} {self.kind}"


def parse_subject(text: str) -> str:
    """Read whom a sanction is for: a user's name, an address or a network.

    :raises NotPermitted: it is none of them.
    """
    try:
        if "." not in text and ":" not in text:
            return fold(check_user_name(text))
        network = _unmapped(ipaddress.ip_network(text, strict=False))
    except (ValueError, MalformedName):
        raise NotPermitted("neither a name nor an address nor a network") from None
    return _canonical(network)


def _unmapped(network: Network) -> Network:
    """Return a network of version 4 that is written as one of version 6 as what it is."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def _canonical(network: Network) -> str:
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


def network_of(subject: str) -> Network | None:
    """Return the network that a ban is for, which may be a single address; None if it is a name."""
    return ipaddress.ip_network(subject) if "." in subject or ":" in subject else None


def is_within(host: str | None, network: Network) -> bool:
    """Whether the address of a peer is in ``network``; that of a local socket is in none."""
    try:
        return host is not None and _address(host) in network
    except ValueError:
        return False


def parse_duration(text: str) -> int:
    """Read seconds: ``90``, ``10m``, ``2h``, ``7d``; 0, for ever, from nothing.

    :raises NotPermitted: it is no such thing.
    """
    if not text:
        return 0
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= MAX_DURATION:
        raise NotPermitted("not a duration")
    return seconds


class Sanctions:
    """All sanctions.

    One that was imposed since the start ends by the monotonic clock, one of before by the time of
    day: so no jump of that ends it early, nor keeps it for longer.

    :param clock: a monotonic clock, in seconds.
    :param saved: those of before.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        time: SettledTime,
        saved: Iterable[tuple[str, str, int, str, str]] = (),
    ) -> None:
        self._clock = clock
        self._time = time
        self._all: dict[tuple[str, str], Sanction] = {}
        self._in_order: Ordered[Sanction] = Ordered(lambda sanction: sanction.key)
        # Those that end, of before and since the start; when the latter do, by the clock.
        self._before: Ordered[Sanction] = Ordered(lambda sanction: (sanction.until, sanction.key))
        self._since: Ordered[Sanction] = Ordered(lambda s: (self._ends[s.key], s.key))
        self._ends: dict[str, float] = {}
        self._networks: dict[tuple[int, int], int] = {}  # banned, by version and length: how many
        for row in saved:
            sanction = Sanction(*row)
            self._put(sanction)
            if sanction.until:
                self._before.put(sanction)

    # What there is

    @property
    def any(self) -> bool:
        """Whether there are sanctions at all."""
        return bool(self._all)

    def banned(self, name: str, host: str | None) -> Sanction | None:
        """Return the ban that keeps out who is called ``name`` or comes from ``host``, if any."""
        found = self._get(BAN, fold(name))
        if found is not None or host is None:
            return found
        return self.banned_address(host)

    def banned_address(self, host: str) -> Sanction | None:
        """Return the ban of an address, or of a network that it is in, if any."""
        try:
            address = _address(host)
        except ValueError:
            return None
        found = self._get(BAN, str(address))
        if found is not None:
            return found
        for version, length in list(self._networks):
            if version == address.version:
                network = ipaddress.ip_network((address, length), strict=False)
                if (found := self._get(BAN, str(network))) is not None:
                    return found
        return None

    def muted(self, name: str) -> Sanction | None:
        """Return what keeps ``name`` from talking, if anything."""
        return self._get(MUTE, fold(name))

    def listing(self, after: str = "") -> Listing[Sanction]:
        """All that count now, in the order of their keys, those behind ``after``."""
        self._drop_past()
        return Listing(len(self._in_order), self._in_order.after(after))

    def _get(self, kind: str, subject: str) -> Sanction | None:
        found = self._all.get((kind, subject))
        if found is not None and found.until and self._is_over(found):
            self._remove(kind, subject)
            return None
        return found

    def _is_over(self, sanction: Sanction) -> bool:
        if sanction.key in self._ends:
            return self._clock() >= self._ends[sanction.key]
        return sanction.until <= self._time.earliest() * 1000

    # What is asked

    def ban(self, subject: str, duration: str, reason: str, by: str) -> list[Change]:
        """Keep somebody, an address or a network out.

        :raises NotPermitted: subject, duration or reason is none, or there are too many.
        """
        return self._sanction(BAN, parse_subject(subject), duration, reason, by)

    def mute(self, name: str, duration: str, reason: str, by: str) -> list[Change]:
        """Let a user not talk.

        :raises NotPermitted: as ``ban`` does.
        """
        try:
            subject = fold(check_user_name(name))
        except MalformedName:
            raise NotPermitted("not a user's name") from None
        return self._sanction(MUTE, subject, duration, reason, by)

    def _sanction(
        self, kind: str, subject: str, duration: str, reason: str, by: str
    ) -> list[Change]:
        seconds = parse_duration(duration)
        reason = check_reason(reason)
        if (kind, subject) not in self._all and len(self._all) >= MAX_SANCTIONS:
            self._drop_past()
            if len(self._all) >= MAX_SANCTIONS:
                raise NotPermitted("too many sanctions")
        until = int(self._time.now() * 1000) + seconds * 1000 if seconds else 0
        return [Sanctioned(kind, subject, until, reason, by)]

    def pardon(self, kind: str, subject: str) -> list[Change]:
        """End a sanction.

        :raises NotPermitted: there is none.
        """
        subject = parse_subject(subject)
        if (kind, subject) not in self._all:
            raise NotPermitted("no such sanction")
        return [Pardoned(kind, subject)]

    # What has happened

    def apply(self, change: Change) -> None:
        """Take a committed change."""
        match change:
            case Sanctioned():
                sanction = Sanction(*change)
                self._put(sanction)
                if sanction.until:
                    lasts = sanction.until / 1000 - self._time.now()
                    self._ends[sanction.key] = self._clock() + lasts
                    self._since.put(sanction)
            case Pardoned(kind, subject):
                self._remove(kind, subject)

    def _put(self, sanction: Sanction) -> None:
        kind, subject = sanction.kind, sanction.subject
        self._remove(kind, subject)
        self._all[kind, subject] = sanction
        self._in_order.put(sanction)
        if (length := _length(subject)) is not None:
            self._networks[length] = self._networks.get(length, 0) + 1

    def _remove(self, kind: str, subject: str) -> None:
        sanction = self._all.pop((kind, subject), None)
        if sanction is None:
            return
        self._in_order.discard(sanction)
        self._before.discard(sanction)
        if sanction.key in self._ends:
            self._since.discard(sanction)
            del self._ends[sanction.key]
        if (length := _length(subject)) is not None:
            self._networks[length] -= 1
            if not self._networks[length]:
                del self._networks[length]

    def _drop_past(self) -> None:
        for ending in (self._before, self._since):
            while (first := ending.first()) is not None and self._is_over(first):
                self._remove(first.kind, first.subject)


def check_reason(reason: str) -> str:
    """Return a reason without what surrounds it.

    :raises NotPermitted: it is not one line of at most ``MAX_REASON`` bytes.
    """
    reason = reason.strip()
    if len(reason.encode()) > MAX_REASON or len(reason.splitlines()) > 1:
        raise NotPermitted("a reason that is too long, or not a line")
    return reason


@lru_cache(maxsize=16_384)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _length(subject: str) -> tuple[int, int] | None:
    if "/" not in subject:
        return None
    network = ipaddress.ip_network(subject)
    return network.version, network.prefixlen
