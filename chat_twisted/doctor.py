"""``python -m chat_twisted.admin doctor``: looks for what is wrong, and says what to do.

Each examination yields findings about one thing; the table ``EXAMINATIONS`` has all of them. They
read only, and work whether a server runs or not. The options are checked by the server itself
(``twistd chatserver --check``). This module must not know SQL.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509

from chat_twisted import __version__, files, machine
from chat_twisted.admin_actions import DONE, REFUSED, moment, report
from chat_twisted.files import FilesError
from chat_twisted.reaching import Refused, owner, reach_server, require_folder
from chat_twisted.storage import archive, maintenance
from chat_twisted.text import escape_json

CERTIFICATE = "certificate.pem"
"""The file in the state folder."""

MB = 1024 * 1024
DAY = 24 * 60 * 60  # seconds

LEAST_FREE = 500 * MB
"""Free bytes of a disk below which something must be done."""

LEAST_INODES = 1000
LEAST_MEMORY = 200 * MB
LEAST_DAYS = 14
"""Days below which something must be done: until the disk is full, or the certificate ends."""

FULL = 0.8
"""The part of the allowed descriptors above which something must be done."""

FEW_DESCRIPTORS = 4096
SHORT_BACKLOG = 512
AHEAD = 5.0
"""Seconds by which the newest message may be ahead of the clock."""

OLD_BACKUP = 2 * DAY
CHECK_WITHIN = 120.0
"""Seconds within which the options must be checked."""

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """One thing that was found.

    :ivar level: ``OK``, ``NOTE`` or ``PROBLEM``.
    :ivar found: one line.
    :ivar advice: one line; empty if there is nothing to do.
    """

    about: str
    level: str
    found: str
    advice: str = ""


@dataclass
class Case:
    """What the examinations look at.

    :ivar status: the answer of the running server; empty if none runs.
    :ivar archive: what ``maintenance.measure`` has found; empty if the archive can't be read.
    :ivar unreadable: why the archive can't be read; empty if it can.
    :ivar config, backups, hosts: as the operator has named them.
    :ivar now: the time of day, in seconds.
    """

    folder: Path
    status: dict[str, Any] = field(default_factory=dict)
    archive: dict[str, Any] = field(default_factory=dict)
    unreadable: str = ""
    config: Path | None = None
    backups: Path | None = None
    hosts: tuple[str, ...] = ()
    now: float = field(default_factory=time.time)


Findings = Iterator[Finding]


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return (
                f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} TB"


def _server(case: Case) -> Findings:
    status = case.status
    if status:
        yield Finding("server", OK, f"process {status['process']} runs, and answers")
        if reason := status["not_accepting"]:
            yield Finding(
                "server", PROBLEM, f"it accepts no clients: {reason}", "see its log for the reason"
            )
    elif files.is_locked(case.folder / archive.LOCK):
        yield Finding(
            "server",
            PROBLEM,
            "a process has the state folder, and answers no commands",
            "if it does not just start or end, see its log, and restart it",
        )
    else:
        yield Finding("server", NOTE, "it does not run", "start it, unless that is intended")


def _folder(case: Case) -> Findings:
    """The permissions and the owner of the state folder, and of the files in it."""
    wrong = 0
    notes: list[str] = []
    try:
        folder = files.make_private_folder(case.folder, notes.append)
    except FilesError as error:
        yield Finding("files", PROBLEM, str(error), "the server does not start until that is right")
        return
    for note in notes:
        yield Finding("files", NOTE, note, "make the folder private, so that nobody can look in")
    for path in sorted(folder.iterdir()):
        try:
            found = path.lstat()
            files.require_owner(path)
        except FileNotFoundError:
            continue  # the server has removed it meanwhile
        except FilesError as error:
            wrong += 1
            yield Finding("files", PROBLEM, str(error), f"chown it to the owner of {folder}")
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            wrong += 1
            yield Finding(
                "files",
                PROBLEM,
                f"{path}: other users can use it (mode {stat.S_IMODE(found.st_mode):o})",
                f"chmod go= {path.name}; copies that others have made stay with them",
            )
    if not wrong:
        yield Finding("files", OK, f"{folder} and what is in it are private")


def _archive(case: Case) -> Findings:
    if case.unreadable:
        yield Finding(
            "archive",
            PROBLEM,
            case.unreadable,
            'run "check", and restore a backup if it is damaged',
        )
        return
    lag, messages = case.archive["unindexed"], case.archive["messages"]
    text = f"{messages} messages, {_size(sum(case.archive['files'].values()))}"
    if lag > 20_000:
        yield Finding(
            "archive", NOTE, f"{text}; {lag} wait to be indexed", "the server does that; look again"
        )
    else:
        yield Finding("archive", OK, text)


def _disk(case: Case) -> Findings:
    disk = os.statvfs(case.folder)
    free, inodes = disk.f_bavail * disk.f_frsize, disk.f_favail
    size = case.archive["files"].get(archive.FILE, 0) if case.archive else 0
    grows = maintenance.growth(case.folder, int(case.now * 1000)) if size else None
    text = f"{_size(free)} free"
    if grows:
        text += f"; the archive grows by {_size(grows)} a day"
    if free < LEAST_FREE or (grows and free / grows < LEAST_DAYS):
        yield Finding("disk", PROBLEM, text, "make space, or delete old messages (--retain)")
    elif free < size:
        yield Finding("disk", NOTE, text, "a newer version may need as much as the archive has now")
    else:
        yield Finding("disk", OK, text)
    if disk.f_files and inodes < LEAST_INODES:
        yield Finding("disk", PROBLEM, f"{inodes} files can still be made", "remove small files")


def _clock(case: Case) -> Findings:
    newest = case.archive.get("newest_time")
    if newest is not None and newest / 1000 > case.now + AHEAD:
        yield Finding(
            "clock",
            PROBLEM,
            f"the newest message is of {moment(newest)}, which is yet to come",
            "set the clock; if it is right now, it was ahead before, and times differ until then",
        )
    synchronised = machine.is_synchronised()
    if synchronised is False:
        yield Finding(
            "clock",
            NOTE,
            "no program keeps this machine's clock right",
            "run chrony or systemd-timesyncd (timedatectl set-ntp true)",
        )
    elif synchronised:
        yield Finding("clock", OK, "it is synchronised")


def _descriptors(case: Case) -> Findings:
    if not case.status:
        return
    allowed = case.status["descriptors"]
    used = machine.descriptors_of(case.status["process"])
    text = f"{allowed} are allowed" if used is None else f"{used} of {allowed} are open"
    advice = "set LimitNOFILE=65536 in the unit (or ulimit -n 65536), and restart the server"
    if used is not None and used > FULL * allowed:
        yield Finding("descriptors", PROBLEM, text, advice)
    elif allowed < FEW_DESCRIPTORS:
        yield Finding("descriptors", NOTE, f"{text}: each client needs one", advice)
    else:
        yield Finding("descriptors", OK, text)


def _read_certificate(folder: Path) -> dict[str, Any] | None:
    """Read the certificate that a server without other options would use."""
    try:
        data = (folder / CERTIFICATE).read_bytes()
        until = x509.load_pem_x509_certificate(data).not_valid_after_utc
    except (FileNotFoundError, ValueError):
        return None
    return {"until": int(until.timestamp() * 1000), "names": (), "vouched": False}


def _certificate(case: Case) -> Findings:
    certificate = case.status["certificate"] if case.status else _read_certificate(case.folder)
    if certificate is None:
        return  # the server makes it at its first start
    until = certificate["until"]
    days = (until / 1000 - case.now) / DAY
    text = f"it ends at {moment(until)}"
    advice = "renew it, and send SIGHUP to the server; clients that pin it must learn the new one"
    if days < LEAST_DAYS:
        yield Finding("certificate", PROBLEM, text, advice)
    else:
        yield Finding("certificate", OK, text)
    names = certificate["names"]
    for host in case.hosts if certificate["vouched"] else ():
        parent = f"*.{host.partition('.')[2]}"
        if not {host.lower(), parent.lower()} & {name.lower() for name in names}:
            yield Finding(
                "certificate",
                PROBLEM,
                f"it is for {', '.join(names) or 'no name'}, and not for {host}",
                "get one with that name, or give clients a name that it has",
            )


def _hosts(case: Case) -> Findings:
    for host in case.hosts:
        addresses = machine.addresses_of(host)
        if not addresses:
            why = "its addresses were not found in time" if addresses is None else "it has none"
            yield Finding(
                "names", PROBLEM, f"{host}: {why}", "see the name's entries in DNS, or /etc/hosts"
            )
            continue
        strange = [address for address in addresses if not machine.has_address(address)]
        text = f"{host} is {', '.join(addresses)}"
        if strange:
            yield Finding(
                "names",
                NOTE,
                f"{text}; this machine does not have {', '.join(strange)}",
                "that is right behind a router or a proxy that passes the port on",
            )
        else:
            yield Finding("names", OK, text)


def _backups(case: Case) -> Findings:
    if case.backups is None:
        yield Finding("backups", NOTE, "not looked at", "name their folder by --backups DIR")
        return
    try:
        made = [path.stat().st_mtime for path in case.backups.glob("*.sqlite")]
    except OSError as error:
        made, reason = [], error.strerror
    else:
        reason = "there is none"
    advice = "see why the last ones were not made (docs/operations/backup-schedule.rst)"
    if not made:
        yield Finding("backups", PROBLEM, f"{case.backups}: {reason}", advice)
        return
    age = case.now - max(made)
    text = f"{len(made)}, the newest {age / 3600:.0f} hours old"
    if age > OLD_BACKUP:
        yield Finding("backups", PROBLEM, text, advice)
    else:
        yield Finding("backups", OK, text)


def _memory(case: Case) -> Findings:
    available = machine.available_memory()
    if available is None:
        return
    text = f"{_size(available)} available"
    used = machine.memory_of(case.status["process"]) if case.status else None
    if used is not None:
        text += f"; the server has {_size(used)}"
    if available < LEAST_MEMORY:
        yield Finding("memory", PROBLEM, text, "end other programs, or add memory")
    else:
        yield Finding("memory", OK, text)


def _kernel(case: Case) -> Findings:
    longest = machine.longest_backlog()
    if longest is None:
        return
    text = f"{longest} connections can wait to be accepted (net.core.somaxconn)"
    if longest < SHORT_BACKLOG:
        yield Finding("kernel", NOTE, text, "sysctl -w net.core.somaxconn=4096")
    else:
        yield Finding("kernel", OK, text)


def _versions(case: Case) -> Findings:
    """The versions of this program, and of what it needs."""
    yield Finding(
        "versions",
        OK,
        f"chat_twisted {__version__}, Python {platform.python_version()}, "
        f"Twisted {version('twisted')}, {' '.join(ssl.OPENSSL_VERSION.split()[:2])}, "
        f"SQLite {sqlite3.sqlite_version}",
    )
    if case.status and case.status["version"] != __version__:
        yield Finding(
            "versions",
            PROBLEM,
            f"the server that runs is version {case.status['version']}",
            "restart it, so that it is the installed one",
        )


def _options(case: Case) -> Findings:
    """The options, as the server checks them itself."""
    if case.config is None:
        yield Finding(
            "options", NOTE, "not checked", "name the file of the options by --config FILE"
        )
        return
    run = "from twisted.scripts.twistd import run; run()"
    # Where twistd would log is of no interest, since it is not started from here: hence --nodaemon.
    server = [sys.executable, "-c", run, "--nodaemon", "chatserver"]
    command = [*server, "--check", "--config", str(case.config), "--state", str(case.folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CHECK_WITHIN, check=False
        )
    except subprocess.TimeoutExpired:
        yield Finding("options", PROBLEM, "the check does not end", "run twistd chatserver --check")
        return
    *lines, last = done.stderr.splitlines() or ["it says nothing"]
    if done.returncode and not lines:
        lines = [last]  # the options themselves are wrong
    for line in lines:
        line = line.removeprefix("chatserver: ")
        level = NOTE if line.startswith("note: ") else PROBLEM
        advice = f"see docs/options.rst, and change {case.config}" if level is PROBLEM else ""
        yield Finding("options", level, line.removeprefix("note: "), advice)
    if not done.returncode:
        yield Finding("options", OK, f"{case.config}: nothing is wrong")


EXAMINATIONS: tuple[Callable[[Case], Findings], ...] = (
    _server,
    _folder,
    _archive,
    _disk,
    _clock,
    _descriptors,
    _certificate,
    _hosts,
    _backups,
    _memory,
    _kernel,
    _versions,
    _options,
)


def examine(case: Case) -> Findings:
    """Yield all findings. An examination that can't be made is a finding itself."""
    for examination in EXAMINATIONS:
        about = examination.__name__.removeprefix("_")
        try:
            yield from examination(case)
        except KeyError as error:
            if case.status.get("version", __version__) == __version__:
                raise
            yield Finding(
                about,
                NOTE,
                f"a server of version {case.status['version']} does not say its {error.args[0]}",
                "restart it, and look again",
            )
        except (OSError, sqlite3.Error) as error:
            yield Finding(
                about, PROBLEM, f"can't be examined: {error}", "run it as the server's user"
            )


def _ask_server(case: Case) -> Findings:
    """Ask the server, if one runs; yield why it can't be asked."""
    try:
        with reach_server(case.folder) as ask:
            if ask is not None:
                case.status = ask("status")
    except (FilesError, Refused) as error:
        yield Finding("server", PROBLEM, str(error), "see its log, and restart it")


def _measure(case: Case) -> None:
    try:
        case.archive = maintenance.measure(case.folder)
    except sqlite3.Error as error:
        case.unreadable = f"{case.folder / archive.FILE}: {error}"


def doctor(options: argparse.Namespace, folder: Path) -> int:
    """Print the findings; the exit code says whether one is a problem."""
    require_folder(folder)
    case = Case(folder, config=options.config, backups=options.backups, hosts=tuple(options.host))
    sick = False
    with files.acting_as(owner(folder), None):
        if not os.access(folder, os.X_OK, effective_ids=True):
            raise FilesError(
                f"{folder}: its owner gets there only as the service of systemd; use "
                "chatserver-admin (docs/operations/systemd.rst)"
            )
        _measure(case)
        for finding in (*_ask_server(case), *examine(case)):
            sick = sick or finding.level == PROBLEM
            _show(finding, options)
    return REFUSED if sick else DONE


def _show(finding: Finding, options: argparse.Namespace) -> None:
    about, level, found, advice = finding
    if options.json:
        record = {"about": about, "level": level, "found": found, "advice": advice}
        sys.stdout.write(escape_json(json.dumps(record)) + "\n")
        return
    report(f"{level:8} {about}: {found}")
    if advice:
        report(f"         -> {advice}")
