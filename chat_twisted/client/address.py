"""Where a server is, as people write it and as the client prints it: ``[USER@]HOST[:PORT]``.

One grammar for the command line, ``config.toml``, the library and everything that is printed: what
is printed can be typed. It knows neither names of hosts nor those of users.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

PORT = 8828
"""Where there is none in an address."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address, and who wants to be there.

    :ivar host: a name, or an IP address without brackets; of version 6 perhaps with a zone, as in
        ``fe80::1%eth0``.
    :ivar port: None if there is none.
    :ivar user: empty if there is none.
    """

    host: str
    port: int | None = None
    user: str = ""


def parse_address(text: str) -> Address:
    """Read ``HOST``, ``HOST:PORT``, ``::1``, ``[::1]`` or ``[::1]:PORT``, each perhaps behind
    ``user@``.

    :raises ValueError: it is none of these; the text says why.
    """
    user, at, place = text.rpartition("@")
    if at and not user:
        raise ValueError(f"{text!r} has no user before the @")
    if place.startswith("["):
        inside, bracket, behind = place[1:].partition("]")
        if not bracket or behind[:1] not in ("", ":"):
            raise ValueError(f"{text!r} is no address: write [::1] or [::1]:PORT")
        host, colon, port = _parse_version6(inside), behind[:1], behind[1:]
    elif place.count(":") > 1:
        host, colon, port = _parse_version6(place), "", ""
    else:
        host, colon, port = place.partition(":")
    if not host:
        raise ValueError(f"{text!r} has no host")
    return Address(host, parse_port(port) if colon else None, user)


def _parse_version6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address of version 6") from None


def parse_port(text: str) -> int:
    """Read the number of a TCP port.

    :raises ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def format_address(host: str, port: int) -> str:
    """Write an address, as ``parse_address`` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_key(host: str, port: int) -> str:
    """Return what is remembered of a server under, however its address was written."""
    return format_address(host if ":" in host else host.lower(), port)
