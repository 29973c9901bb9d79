"""The actions of ``python -m chat_twisted.admin`` that say how the server is, and who is there.

This module must not know SQL, or how the numbers are found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chat_twisted.admin_actions import DONE, complain, moment, report
from chat_twisted.reaching import Ask, Refused, pages, reach
from chat_twisted.storage import maintenance
from chat_twisted.text import escape_json


@contextlib.contextmanager
def _understanding() -> Iterator[None]:
    """Run the body of a ``with`` statement, which uses answers of the server.

    :raises Refused: if they lack something.
    """
    try:
        yield
    except KeyError as error:
        raise Refused(
            f"the server does not say its {error.args[0]}; it is of another version: restart it"
        ) from None


@_understanding()
def status(options: argparse.Namespace, folder: Path) -> int:
    """Print the status of the server and, if requested, of its users."""
    with reach(folder, complain) as (ask, runs):
        found: dict[str, Any] = {"running": runs, **ask("status"), **maintenance.measure(folder)}
        if options.users:
            found["here"] = _list_users(ask, folder)
    if options.json:
        sys.stdout.write(escape_json(json.dumps(found)) + "\n")
        return DONE
    for name, text in _describe_status(found).items():
        report(f"{name:12} {text}")
    for user in found.get("here", ()):
        report(_describe_user(user))
    return DONE


def _list_users(ask: Ask, folder: Path) -> list[dict[str, Any]]:
    users = list(pages(ask, "list users"))
    behind = maintenance.count_missed(folder, ((u["user"], u["confirmed"]) for u in users))
    shown = ("name", "account", "operator", "sessions", "from", "away")
    return [
        {**{field: user[field] for field in shown}, "behind": count}
        for user, count in zip(users, behind, strict=True)
    ]


def _describe_user(user: dict[str, Any]) -> str:
    role = " operator" if user["operator"] else "" if user["account"] else " guest"
    line = f"{user['name']}{role} sessions={user['sessions']} from={','.join(user['from'])}"
    line += f" behind={user['behind']}"
    return line if user["away"] is None else f"{line} away: {user['away']}".rstrip(": ")


def _describe_status(found: dict[str, Any]) -> dict[str, str]:
    lines = {"server": f"not running (chat_twisted {found['version']})"}
    if found["running"]:
        lines = _describe_server(found)
    lines["users"] = (
        f"{found['users']} here in {found['sessions']} sessions, {found['held']} guests held, "
        f"{found['accounts']} accounts"
    )
    lines["rooms"] = str(found["rooms"])
    newest = found["newest_time"]
    since = "" if newest is None else f", the newest number {found['newest']} of {moment(newest)}"
    lines["messages"] = f"{found['messages']}{since}; {found['unindexed']} wait to be indexed"
    lines["files"] = ", ".join(f"{name} {size} bytes" for name, size in found["files"].items())
    lines["disk"] = f"{found['free']} bytes free"
    return lines


def _describe_server(found: dict[str, Any]) -> dict[str, str]:
    """Describe the part of the status that only a running server has."""
    days, seconds = divmod(int(found["uptime"]), 24 * 60 * 60)
    up = f"{days} days " * bool(days) + time.strftime("%H:%M:%S", time.gmtime(seconds))
    lines = {"server": f"chat_twisted {found['version']}, process {found['process']}, up {up}"}
    if found["not_accepting"]:
        lines["clients"] = f"not accepted: {found['not_accepting']}"
    kinds = (f"{count} {kind}" for kind, count in sorted(found["connections"].items()))
    lines["connections"] = ", ".join(kinds) or "none"
    rates = (f"{rate:.1f} {name}" for name, rate in found["rates"].items())
    lines["per second"] = ", ".join(rates) or "not known yet"
    queues = ", ".join(f"{count} {name}" for name, count in found["queues"].items())
    lines["waiting"] = f"{queues}, {found['unsent']} bytes for clients"
    if cluster := found.get("cluster"):
        touch = "" if cluster["in_touch"] else ", the log can't be reached"
        position = f"position {cluster['position']}, {cluster['behind']} behind"
        lines["cluster"] = f"node {cluster['node']}, {position}{touch}"
    certificate = found["certificate"]
    vouched = ", of an authority that this system trusts" if certificate["vouched"] else ""
    lines["certificate"] = f"{certificate['fingerprint']}{vouched}"
    lines["valid until"] = moment(certificate["until"])
    for client in ("weechat", "irssi"):
        lines[f"for {client}"] = certificate[client]
    if keys := found.get("host_keys"):
        lines["for ssh"] = ", ".join(" ".join(key.split()) for key in keys)
    return lines


@_understanding()
def who(options: argparse.Namespace, folder: Path) -> int:
    """List the present users, page by page."""
    shown = ("name", "account", "operator", "sessions", "by", "since", "spoke", "from", "rooms")
    with reach(folder, complain) as (ask, _):
        for user in pages(ask, "list users"):
            if options.json:
                found = {field: user[field] for field in (*shown, "away")}
                sys.stdout.write(escape_json(json.dumps(found)) + "\n")
            else:
                report(_describe_presence(user, time.time()))
    return DONE


def _describe_presence(user: dict[str, Any], now: float) -> str:
    """Return a line about a connected user.

    :param now: the time of day, in seconds.
    """
    mark = "*" if user["operator"] else "" if user["account"] else "?"
    since, idle = "-", "-"
    if user["since"] is not None:
        since = moment(user["since"])
        silent = max(0.0, now - max(user["since"], user["spoke"] or 0) / 1000)
        idle = f"{int(silent // 3600)}:{int(silent // 60 % 60):02}:{int(silent % 60):02}"
    line = f"{user['name'] + mark:16} {', '.join(user['by']) or '-':18} {since:20} {idle:>9} "
    line += f"{','.join(user['from']):15} {' '.join(user['rooms'])}".rstrip()
    return line if user["away"] is None else f"{line} away: {user['away']}".rstrip(": ")
