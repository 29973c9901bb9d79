"""The actions of ``python -m chat_twisted.admin``: one function each, which returns an exit code.

Accounts and moderation are requests to the chat, whether a server runs or not (``reaching``).
Announcements, the message of the day and the deletion of old messages need a running server.
Backups, exports and checks read the file directly, so that they don't burden it; ``restore`` needs
the file for itself. This module must not know SQL or the rules of the chat.
"""

from __future__ import annotations

import argparse
import getpass
import io
import json
import os
import sys
import time
from pathlib import Path

from chat_twisted.core.errors import ChatError
from chat_twisted.core.sanctions import parse_duration
from chat_twisted.reaching import Refused, pages, reach
from chat_twisted.storage import archive, maintenance
from chat_twisted.text import escape_json, printable

DONE, REFUSED, FAILED = range(3)
"""Exit codes: success; refused, or the file is damaged; could not be tried."""


def report(line: str) -> None:
    """Print a line on standard output, without control sequences."""
    sys.stdout.write(f"{printable(line)}\n")


def complain(line: str) -> None:
    """Print a line on standard error, without control sequences."""
    sys.stderr.write(f"{printable(line)}\n")


def accounts_list(options: argparse.Namespace, folder: Path) -> int:
    """List the accounts."""
    with reach(folder, complain) as (ask, _):
        for account in pages(ask, "list accounts"):
            role = " operator" if account["operator"] else ""
            password = " password" if account["password"] else ""
            report(f"{account['name']}{role} keys={account['keys']}{password}")
    return DONE


def accounts_keys(options: argparse.Namespace, folder: Path) -> int:
    """List the keys of an account, in the format of public key files."""
    with reach(folder, complain) as (ask, _):
        for key in ask("list keys", name=options.name)["items"]:
            report(key)
    return DONE


def accounts_add(options: argparse.Namespace, folder: Path) -> int:
    """Make an account."""
    key = _read_key(options.key)
    hash = _hash_password(options.password_file) if options.password_file or not key else ""
    os.umask(0o077)
    return _ask(folder, "add account", make=True, name=options.name, key=key, hash=hash)


def accounts_remove(options: argparse.Namespace, folder: Path) -> int:
    """Remove an account."""
    return _ask(folder, "remove account", name=options.name)


def accounts_password(options: argparse.Namespace, folder: Path) -> int:
    """Set or remove an account's password."""
    hash = "" if options.remove else _hash_password(options.password_file)
    return _ask(folder, "set password", name=options.name, hash=hash)


def accounts_key(options: argparse.Namespace, folder: Path) -> int:
    """Add a key to an account, or remove it."""
    verb = "remove key" if options.remove else "add key"
    return _ask(folder, verb, name=options.name, key=_read_key(options.key))


def accounts_operator(options: argparse.Namespace, folder: Path) -> int:
    """Make the user of an account an operator, or revoke that."""
    verb = "make no operator" if options.remove else "make operator"
    return _ask(folder, verb, name=options.name)


def _ask(folder: Path, what: str, *, make: bool = False, **fields: object) -> int:
    with reach(folder, complain, make=make) as (ask, _):
        ask(what, **fields)
    return DONE


def _read_key(file: Path | None) -> str:
    return "" if file is None else file.read_text(encoding="utf-8-sig").strip()


def _hash_password(file: Path | None) -> str:
    # Imported only when needed, because the import is slow.
    import argon2

    from chat_twisted.auth.passwords import MAX_PASSWORD

    password = _ask_password(file)
    if not password or len(password.encode()) > MAX_PASSWORD:
        raise Refused(f"a password has 1 to {MAX_PASSWORD} bytes")
    return argon2.PasswordHasher().hash(password)


def _ask_password(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8-sig").split("\n")[0]
    if not sys.stdin.isatty():
        return sys.stdin.readline().removeprefix("\ufeff").rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise Refused("the two are not the same")
    return password


def kick(options: argparse.Namespace, folder: Path) -> int:
    """Close all connections of a user."""
    return _ask(folder, "kick", name=options.name, reason=options.reason)


def sanction(options: argparse.Namespace, folder: Path) -> int:
    """Ban or mute."""
    return _ask(
        folder,
        options.action,
        subject=options.whom,
        duration=options.duration,
        reason=options.reason,
    )


def pardon(options: argparse.Namespace, folder: Path) -> int:
    """Lift the sanctions of a subject."""
    return _ask(folder, "pardon", subject=options.whom)


def lift(options: argparse.Namespace, folder: Path) -> int:
    """End a ban or a mute."""
    return _ask(folder, "lift", kind=options.action.removeprefix("un"), subject=options.whom)


def sanctions(options: argparse.Namespace, folder: Path) -> int:
    """List the sanctions."""
    with reach(folder, complain) as (ask, _):
        for sanction in pages(ask, "list sanctions"):
            until = moment(sanction["until"]) if sanction["until"] else "ever"
            line = f"{sanction['kind']} {sanction['subject']} until {until} by {sanction['by']}"
            report(f"{line}: {sanction['reason']}" if sanction["reason"] else line)
    return DONE


def moment(milliseconds: int) -> str:
    """Return a time as people read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def say(options: argparse.Namespace, folder: Path) -> int:
    """Tell everybody who is connected something."""
    return _ask(folder, "say", text=options.text)


def motd(options: argparse.Namespace, folder: Path) -> int:
    """Show or set the message of the day."""
    given = [options.text is not None, options.file is not None, options.remove]
    if sum(given) > 1:
        raise Refused("TEXT, --file and --remove exclude each other")
    if not any(given):
        with reach(folder, complain) as (ask, _):
            for line in str(ask("motd")["text"]).splitlines():
                report(line)
        return DONE
    text = options.text or ""
    if options.file is not None:
        text = options.file.read_text(encoding="utf-8-sig")
    _ask(folder, "set motd", text=text)
    report("set until the server ends or gets SIGHUP; its option --motd FILE is for longer")
    return DONE


def retention(options: argparse.Namespace, folder: Path) -> int:
    """Delete old messages."""
    age: int | None = None
    if options.older_than:
        try:
            age = parse_duration(options.older_than, 0) // 1000
        except ChatError:
            raise Refused("an age is 15m or more, 2h or 365d") from None
        if not options.yes:
            _require_yes(
                f"Delete all messages that are older than {options.older_than}? Only a backup has "
                "them then"
            )
    deleted = 0
    try:
        with reach(folder, complain) as (ask, _):
            while count := ask("delete old", seconds=age, deleted=deleted)["deleted"]:
                deleted += count
    except KeyboardInterrupt:
        report(f"{deleted} messages are deleted; interrupted before the rest")
        return FAILED
    report(f"{deleted} messages are deleted")
    return DONE


def _require_yes(question: str) -> None:
    """Ask a question on the terminal.

    :raises Refused: if the answer is not "yes", or nobody can answer.
    """
    if not sys.stdin.isatty():
        raise Refused(f"{question}: --yes says so")
    if input(f"{question} (yes or no) ").strip().lower() != "yes":
        raise Refused("nothing is deleted")


def export(options: argparse.Namespace, folder: Path) -> int:
    """Print all messages."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON's, whatever the locale
    for record in maintenance.export(options.file or folder / archive.FILE):
        sys.stdout.write(escape_json(json.dumps(record, ensure_ascii=False)) + "\n")
    return DONE


def check(options: argparse.Namespace, folder: Path) -> int:
    """Check the archive, or a backup."""
    path = options.file or folder / archive.FILE
    problems = maintenance.check(path, with_index=options.file is None)
    for problem in problems or ["sound"]:
        report(problem)
    return REFUSED if problems else DONE


def backup(options: argparse.Namespace, folder: Path) -> int:
    """Copy the archive."""
    report(f"{options.file}: sound, {maintenance.backup(folder, options.file)}")
    return DONE


def restore(options: argparse.Namespace, folder: Path) -> int:
    """Replace the archive by a backup."""
    held = maintenance.restore(folder, options.file, report)
    report(f"restored: {held}; the server makes its index when it starts")
    return DONE
