"""Server addresses, as they are typed and printed: ``[USER@]HOST[:PORT]``.

The command line, ``config.toml``, the library and all output share this grammar: any printed
address can be typed. This module must not know which host or user names are valid.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import NamedTuple

PORT = 8828
"""The port of an address that names none."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address, with the user's name if it is given.

    :ivar host: a host name, or an IP address without brackets; an IPv6 address may have a zone, as
        in ``fe80::1%eth0``.
    :ivar port: a TCP port, or None.
    :ivar user: the user's name, or empty.
    """

    host: str
    port: int | None = None
    user: str = ""


class Host(NamedTuple):
    """A host, and the TCP port at which a server is reached there.

    :ivar name: a host name or IP address, as in ``Address``.
    """

    name: str
    port: int

    @property
    def address(self) -> str:
        """The address as it is printed and can be typed."""
        return format_address(self.name, self.port)

    @property
    def key(self) -> str:
        """The key under which facts about the host are stored, the same for all spellings."""
        return address_key(self.name, self.port)


def parse_address(text: str) -> Address:
    """Parse ``HOST``, ``HOST:PORT``, ``::1``, ``[::1]`` or ``[::1]:PORT``, with or without
    ``user@``.

    :raises ValueError: if the text is none of these; the message explains why.
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


def parse_host(text: str, port: int) -> Host:
    """Parse the address of a host, without a user.

    :param port: the port of an address that names none.
    :raises ValueError: if the text is no address, or has a user.
    """
    address = parse_address(text)
    if address.user:
        raise ValueError(f"{text!r} has a user; here is only a host")
    return Host(address.host, address.port or port)


def parse_port(text: str) -> int:
    """Parse a TCP port number.

    :raises ValueError: if the text is not a port.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def format_address(host: str, port: int) -> str:
    """Format an address so that ``parse_address`` can parse it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip_address(host: str) -> bool:
    """Return whether a host is an IP address, with or without a zone, and not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def address_key(host: str, port: int) -> str:
    """Return the key under which facts about a server are stored, the same for all spellings."""
    return format_address(host if ":" in host else host.lower(), port)
