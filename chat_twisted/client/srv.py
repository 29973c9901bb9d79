"""Finds the hosts of a chat in the SRV records of its name (RFC 2782):
``_chat-twisted._tcp.chat.example.org``.

DNS is not trusted: an answer says where to connect, never whose certificate to accept. This module
must not know what a host is asked for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorUDP

from chat_twisted.client.address import PORT, Host, is_ip_address

SERVICE = "_chat-twisted._tcp"

FOUND_WITHIN = 1
"""Seconds to wait for an answer; then the name is used as it is."""

MAX_HOSTS = 20
"""Maximum number of hosts that are used of an answer."""

RESOLV_CONF = Path("/etc/resolv.conf")

_LOCAL = ("localhost", "local")
"""Domains that are never looked up: names of this machine, and of its own network (RFC 6762)."""


class Record(NamedTuple):
    """An SRV record: the lowest priority first, and by chance in proportion to the weight."""

    priority: int
    weight: int
    host: Host


def may_have_records(host: Host) -> bool:
    """Return whether a host is looked up: a domain name, without a port of its own.

    IP addresses, and names without a dot, are used as they are.
    """
    labels = host.name.rstrip(".").lower().split(".")
    is_domain = len(labels) > 1 and labels[-1] not in _LOCAL and not is_ip_address(host.name)
    return is_domain and host.port == PORT


async def find(reactor: Any, name: str) -> list[Host]:
    """Return the hosts in the SRV records of a domain, in the order in which to try them.

    The list is empty if there are none, or there is no answer within ``FOUND_WITHIN`` seconds.
    """
    # imported late: few hosts are looked up
    from twisted.internet.defer import TimeoutError
    from twisted.names.client import Resolver
    from twisted.names.dns import Record_SRV
    from twisted.names.error import ResolverError

    servers = _name_servers()
    if not servers or not IReactorUDP.providedBy(reactor):
        return []
    try:
        resolver = Resolver(servers=servers, reactor=reactor)
        each = FOUND_WITHIN / len(servers)
        asked = resolver.lookupService(f"{SERVICE}.{name}", timeout=(each,))
        answers, _, _ = await asked.addTimeout(FOUND_WITHIN, reactor)
    except (ResolverError, TimeoutError, OSError, ValueError):  # the last: the domain is not known
        return []
    payloads = [answer.payload for answer in answers if isinstance(answer.payload, Record_SRV)]
    return order(
        (
            Record(payload.priority, payload.weight, host)
            for payload in payloads
            if (host := _parse_target(payload.target.name, payload.port)) is not None
        ),
        random.random,
    )


def _name_servers() -> list[tuple[str, int]]:
    try:
        text = RESOLV_CONF.read_text(errors="replace")
    except OSError:
        return []
    found = re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)
    return [(server, 53) for server in found if is_ip_address(server) and "%" not in server]


def _parse_target(name: bytes, port: int) -> Host | None:
    """Return the host of a record; None if it can't be one. ``.`` means that there is none."""
    text = name.decode("ascii", "replace").rstrip(".")
    valid = re.fullmatch(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", text)
    return Host(text, port) if valid and port else None


def order(records: Iterable[Record], chance: Callable[[], float]) -> list[Host]:
    """Return the hosts of SRV records in the order in which to try them (RFC 2782).

    :param chance: returns a random number from 0 to 1.
    """
    left = sorted(records)
    hosts: list[Host] = []
    while left and len(hosts) < MAX_HOSTS:
        first = [record for record in left if record.priority == left[0].priority]
        drawn = chance() * sum(record.weight for record in first)
        chosen = first[0]
        for chosen in first:
            drawn -= chosen.weight
            if drawn <= 0:
                break
        left.remove(chosen)
        hosts.append(chosen.host)
    return hosts
