"""Reads ``config.toml`` in the client's folder: names of servers, and settings of the terminal.

Each mistake is reported with its line and ignored; a server with an invalid fingerprint is left out
entirely.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat_twisted.client.address import PORT, parse_address, parse_host
from chat_twisted.client.connection import Server
from chat_twisted.client.tls import parse_fingerprint
from chat_twisted.core.message import fold
from chat_twisted.toml_file import TOMLError, TOMLFile
from chat_twisted.ui.settings import Settings

FILE = "config.toml"

MAX_SHOWN = 1000
"""Maximum of ``history``: the server returns no more at once."""

EVENTS = ("joins",)
"""The kinds of events that can be hidden."""


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server with a short name. An empty value means: as in ``Config``."""

    server: Server
    user: str = ""
    identity: str = ""
    rooms: tuple[str, ...] = ()


@dataclass(slots=True)
class Config(Settings):
    """The settings.

    :ivar user: the user's name for servers that set none.
    :ivar keys: ``emacs`` or ``vi``.
    :ivar theme: ``dark``, ``light``, or ``auto`` for the one that suits the background, if it is
        known.
    :ivar colours: prompt_toolkit styles by the names of ``themes.THEMES``; an empty style is plain.
    :ivar servers: the servers by their short names.
    :ivar problems: the mistakes in the file, one line each.
    """

    user: str = ""
    keys: str = "emacs"
    theme: str = "auto"
    colours: dict[str, str] = field(default_factory=dict)
    servers: dict[str, KnownServer] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Reader:
    """Takes valid values from a table, and notes a problem for each invalid one."""

    def __init__(self, file: TOMLFile, problems: list[str]) -> None:
        self._file = file
        self._problems = problems

    def problem(self, table: str, key: str, what: str) -> None:
        """Note a problem with ``key`` in ``table``."""
        self._problems.append(f"{self._file.locate(key, table)}: {what}")

    def take(self, table: str, values: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
        """Return those of ``values`` that are valid.

        :param kinds: for each key, a type, a tuple of the allowed words, or a function that returns
            the value or raises ``ValueError``.
        """
        taken = {}
        for key, value in values.items():
            kind = kinds.get(key)
            if kind is None:
                expected = ", ".join(kinds)
                self.problem(table, key, f"{key} is nothing that can be set here ({expected})")
            elif isinstance(kind, tuple):
                if value in kind:
                    taken[key] = value
                else:
                    words = " or ".join(f'"{word}"' for word in kind)
                    self.problem(table, key, f"{key} is {words}, not {value!r}")
            elif isinstance(kind, type):
                if type(value) is kind:
                    taken[key] = value
                else:
                    self.problem(table, key, f"{key} is {_KINDS[kind]}, not {value!r}")
            else:
                try:
                    taken[key] = kind(value)
                except ValueError as error:
                    self.problem(table, key, f"{key}: {error}")
        return taken


_KINDS: dict[type, str] = {str: "a text in quotes", bool: "true or false", dict: "a table"}


def _port(value: Any) -> int:
    if type(value) is not int or not 0 < value < 65536:
        raise ValueError(f"{value!r} is not a port")
    return value


def _fingerprint(value: Any) -> str:
    return parse_fingerprint(str(value))


def _rooms(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(room, str) and re.fullmatch(r"#[\w-]{1,32}", room, re.ASCII) for room in value
    ):
        raise ValueError('not a list of rooms like ["#dev"]')
    return tuple(value)


def _hosts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(host, str) for host in value):
        raise ValueError('not a list of hosts like ["a.example.org", "b.example.org:9000"]')
    for host in value:
        parse_host(host, PORT)
    return tuple(value)


def _history(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SHOWN:
        raise ValueError(f"{value!r} is not a number from 0 to {MAX_SHOWN}")
    return value


def _highlight(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(word, str) and word.strip() for word in value
    ):
        raise ValueError('not a list of words like ["deploy"]')
    return tuple(word.strip() for word in value)


def _hide(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(event in EVENTS for event in value):
        raise ValueError("not a list of " + " and ".join(f'"{event}"' for event in EVENTS))
    return tuple(value)


def _colours(value: Any) -> dict[str, str]:
    from prompt_toolkit.styles import Style  # imported late: it is slow, and few users set colours

    if not isinstance(value, dict):
        raise ValueError("not a table")
    for name, style in value.items():
        if not re.fullmatch(r"[a-z0-9-]+", name) or not isinstance(style, str):
            raise ValueError(f"{name} is not a colour")
        try:
            Style([(name, style)])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return value


def read(path: Path) -> Config:
    """Read the file. A missing file is treated as an empty one."""
    config = Config()
    try:
        file = TOMLFile(path)
    except FileNotFoundError:
        return config
    except OSError as error:
        config.problems.append(f"{path}: {error.strerror}")
        return config
    except TOMLError as error:
        config.problems.append(str(error))
        return config
    reader = _Reader(file, config.problems)
    top = reader.take(
        "",
        file.tables,
        {
            "user": str,
            "keys": ("emacs", "vi"),
            "bell": bool,
            "notify": ("auto", "on", "off"),
            "history": _history,
            "highlight": _highlight,
            "hide": _hide,
            "back": bool,
            "view": ("all", "current"),
            "theme": ("dark", "light", "auto"),
            "colours": _colours,
            "servers": dict,
        },
    )
    for name, value in top.pop("servers", {}).items():
        known = _read_server(reader, name, value)
        if known is not None:
            config.servers[name] = known
    for name, value in top.items():
        setattr(config, name, value)
    return config


def _read_server(reader: _Reader, name: str, value: Any) -> KnownServer | None:
    """Read the table of a server. Return None if it can't be connected to."""
    if not isinstance(value, dict):
        reader.problem("servers", name, f"{name} is a table, [servers.{name}]")
        return None
    table = f"servers.{name}"
    found = reader.take(
        table,
        value,
        {
            "host": str,
            "port": _port,
            "hosts": _hosts,
            "fingerprint": _fingerprint,
            "plain": bool,
            "user": str,
            "identity": str,
            "rooms": _rooms,
        },
    )
    if "fingerprint" in value and "fingerprint" not in found:
        return None  # it must not be connected to with a weaker check
    hosts = [*found.get("hosts", ())]
    if "host" in found:
        hosts.insert(0, found["host"])
    if not hosts:
        reader.problem("servers", name, f"{name} has no host")
        return None
    try:
        address = parse_address(hosts[0])
    except ValueError as error:
        reader.problem(table, "host", f"host: {error}")
        return None
    port, user = found.get("port"), found.get("user", "")
    if port is not None and len(hosts) == 1 and address.port not in (None, port):
        reader.problem(table, "port", f"port: host has another one, {address.port}")
    if user and address.user and fold(user) != fold(address.user):
        reader.problem(table, "user", f"user: host has another one, {address.user}")
    return KnownServer(
        Server(
            address.host,
            address.port or port or PORT,
            found.get("fingerprint"),
            found.get("plain", False),
            tuple(parse_host(host, port or PORT) for host in hosts[1:]),
        ),
        address.user or user,
        found.get("identity", ""),
        found.get("rooms", ()),
    )
