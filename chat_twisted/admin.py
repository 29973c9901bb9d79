"""python -m chat_twisted.admin: what the operator does at the server's machine.

Accounts, moderation and ``status`` are asked of the chat, whether a server runs or not
(``reaching``). Backups, exports and checks read the file themselves, also beside a server, so that
it has no work by them; ``restore`` needs the file for itself. Nothing here knows SQL or the chat's
rules.
"""

from __future__ import annotations

import argparse
import getpass
import io
import json
import os
import sqlite3
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chat_twisted.commandline import Parser
from chat_twisted.files import FilesError
from chat_twisted.reaching import Refused, pages, reach
from chat_twisted.storage import archive, maintenance
from chat_twisted.text import escape_json, printable

DONE, REFUSED, FAILED = range(3)
"""Exit codes: refused, or something is wrong with the file; and it could not be tried."""

# What is done


def _print(line: str) -> None:
    sys.stdout.write(f"{printable(line)}\n")


def _complain(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")


def _accounts_list(options: argparse.Namespace, folder: Path) -> int:
    with reach(folder, _complain) as (ask, _):
        for account in pages(ask, "list accounts"):
            role = " operator" if account["operator"] else ""
            password = " password" if account["password"] else ""
            _print(f"{account['name']}{role} keys={account['keys']}{password}")
    return DONE


def _accounts_add(options: argparse.Namespace, folder: Path) -> int:
    key = _read_key(options.key)
    hash = _hash_password(options.password_file) if options.password_file or not key else ""
    os.umask(0o077)
    return _ask(folder, "add account", make=True, name=options.name, key=key, hash=hash)


def _accounts_remove(options: argparse.Namespace, folder: Path) -> int:
    return _ask(folder, "remove account", name=options.name)


def _accounts_password(options: argparse.Namespace, folder: Path) -> int:
    hash = "" if options.remove else _hash_password(options.password_file)
    return _ask(folder, "set password", name=options.name, hash=hash)


def _accounts_key(options: argparse.Namespace, folder: Path) -> int:
    verb = "remove key" if options.remove else "add key"
    return _ask(folder, verb, name=options.name, key=_read_key(options.key))


def _accounts_operator(options: argparse.Namespace, folder: Path) -> int:
    verb = "make no operator" if options.remove else "make operator"
    return _ask(folder, verb, name=options.name)


def _ask(folder: Path, what: str, *, make: bool = False, **fields: object) -> int:
    with reach(folder, _complain, make=make) as (ask, _):
        ask(what, **fields)
    return DONE


def _read_key(file: Path | None) -> str:
    return "" if file is None else file.read_text(encoding="utf-8-sig").strip()


def _hash_password(file: Path | None) -> str:
    # What takes a password alone needs them, and loading them takes its time.
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


def _kick(options: argparse.Namespace, folder: Path) -> int:
    return _ask(folder, "kick", name=options.name, reason=options.reason)


def _sanction(options: argparse.Namespace, folder: Path) -> int:
    return _ask(
        folder,
        options.action,
        subject=options.whom,
        duration=options.duration,
        reason=options.reason,
    )


def _pardon(options: argparse.Namespace, folder: Path) -> int:
    return _ask(folder, "pardon", subject=options.whom)


def _sanctions(options: argparse.Namespace, folder: Path) -> int:
    with reach(folder, _complain) as (ask, _):
        for sanction in pages(ask, "list sanctions"):
            until = _moment(sanction["until"]) if sanction["until"] else "ever"
            line = f"{sanction['kind']} {sanction['subject']} until {until} by {sanction['by']}"
            _print(f"{line}: {sanction['reason']}" if sanction["reason"] else line)
    return DONE


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def _status(options: argparse.Namespace, folder: Path) -> int:
    with reach(folder, _complain) as (ask, runs):
        found: dict[str, Any] = {"running": runs, **ask("status"), **maintenance.measure(folder)}
    if options.json:
        sys.stdout.write(escape_json(json.dumps(found)) + "\n")
        return DONE
    for name, text in _describe_status(found).items():
        _print(f"{name:12} {text}")
    return DONE


def _describe_status(found: dict[str, Any]) -> dict[str, str]:
    lines = {"server": f"not running (chat_twisted {found['version']})"}
    if found["running"]:
        days, seconds = divmod(int(found["uptime"]), 24 * 60 * 60)
        up = f"{days} days " * bool(days) + time.strftime("%H:%M:%S", time.gmtime(seconds))
        lines["server"] = f"chat_twisted {found['version']}, process {found['process']}, up {up}"
        kinds = (f"{count} {kind}" for kind, count in sorted(found["connections"].items()))
        lines["connections"] = ", ".join(kinds) or "none"
    lines["users"] = (
        f"{found['users']} here in {found['sessions']} sessions, {found['held']} guests held, "
        f"{found['accounts']} accounts"
    )
    lines["rooms"] = str(found["rooms"])
    newest = found["newest_time"]
    since = "" if newest is None else f", the newest number {found['newest']} of {_moment(newest)}"
    lines["messages"] = f"{found['messages']}{since}; {found['unindexed']} wait to be indexed"
    lines["files"] = ", ".join(f"{name} {size} bytes" for name, size in found["files"].items())
    return lines


def _export(options: argparse.Namespace, folder: Path) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON's, whatever the locale
    for record in maintenance.export(options.file or folder / archive.FILE):
        sys.stdout.write(escape_json(json.dumps(record, ensure_ascii=False)) + "\n")
    return DONE


def _check(options: argparse.Namespace, folder: Path) -> int:
    path = options.file or folder / archive.FILE
    problems = maintenance.check(path, with_index=options.file is None)
    for problem in problems or ["sound"]:
        _print(problem)
    return REFUSED if problems else DONE


def _backup(options: argparse.Namespace, folder: Path) -> int:
    _print(f"{options.file}: sound, {maintenance.backup(folder, options.file)}")
    return DONE


def _restore(options: argparse.Namespace, folder: Path) -> int:
    held = maintenance.restore(folder, options.file, _print)
    _print(f"restored: {held}; the server makes its index when it starts")
    return DONE


# The command line

PROGRAM = "python -m chat_twisted.admin"

STATUS = """\
exit status: 0 done; 1 refused, or something is wrong with the file; 2 it could not be tried: the
server does not answer, the file can't be read or written, the command line is wrong. The reason is
one line on standard error."""

DURATION = "90 or 90s, 10m, 2h, 7d; without it, for ever"


class _Action(Parser):
    """The parser of one action. Options may stand anywhere, also before a FILE that is optional."""

    _parsing = False

    def add_subparsers(self, **kw: Any) -> Any:
        """Argparse: it only has actions of its own, and no FILE."""
        self._parsing = True
        return super().add_subparsers(**kw)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Argparse: parse the arguments of this action."""
        if self._parsing:
            return super().parse_known_args(args, namespace)
        self._parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._parsing = False


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Manage a chat server at its machine, as the server's user or root.

While the server runs, it is asked; what it does takes effect at once. Without one the files in the
state folder are changed. Each action has a page of its own: "ACTION --help".""",
        epilog=f"""\
examples:
  {PROGRAM} status
  {PROGRAM} accounts add ci --password-file secret
  {PROGRAM} ban 192.0.2.0/24 --for 2h --reason "a flood"
  {PROGRAM} backup monday.sqlite

{STATUS}""",
    )
    state = {
        "type": Path,
        "metavar": "DIR",
        "help": f"the server's state folder ({archive.DEFAULT_FOLDER})",
    }
    parser.add_argument("--state", **state)  # type: ignore[arg-type]

    def action(
        actions: Any,
        name: str,
        do: Callable[[argparse.Namespace, Path], int],
        help: str,
        *examples: str,
        more: str = "",
    ) -> Parser:
        listed = "\n".join(f"  {PROGRAM} {name} {example}".rstrip() for example in examples)
        description = textwrap.fill(f"{help[0].upper()}{help[1:]}.", 90)
        made: Parser = actions.add_parser(
            name.rpartition(" ")[2],
            help=help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description=f"{description}\n\n{more}" if more else description,
            epilog=f"examples:\n{listed}\n\n{STATUS}",
        )
        made.add_argument("--state", default=argparse.SUPPRESS, **state)  # type: ignore[arg-type]
        made.set_defaults(do=do)
        return made

    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=_Action
    )
    accounts = actions.add_parser(
        "accounts",
        help="make, change, list and remove accounts",
        description="Make, change, list and remove accounts.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUS,
    )
    accounts.add_argument(
        "--state",
        default=argparse.SUPPRESS,
        **state,  # type: ignore[arg-type]
    )
    _add_account_actions(accounts, action)

    kick = action(
        actions,
        "kick",
        _kick,
        "close all connections of a user, who may come back",
        "bob",
        'bob --reason "too loud"',
    )
    kick.add_argument("name", metavar="NAME")
    for name, help, whom in (
        ("ban", "keep a name, an address or a network out", "NAME|ADDRESS|NETWORK"),
        ("mute", "let a user read and not talk", "NAME"),
    ):
        made = action(
            actions,
            name,
            _sanction,
            help,
            "bob",
            f'{"192.0.2.0/24" if name == "ban" else "bob"} --for 2h --reason "a flood"',
            more='Operators with an account can\'t be banned. "sanctions" lists what there is, '
            '"pardon" ends it.',
        )
        made.add_argument("whom", metavar=whom)
        made.add_argument("--for", dest="duration", default="", metavar="DURATION", help=DURATION)
        made.add_argument("--reason", default="", help="one line; the user is told")
    kick.add_argument("--reason", default="", help="one line; the user is told")
    pardon = action(actions, "pardon", _pardon, "end the bans and mutes of somebody", "bob")
    pardon.add_argument("whom", metavar="NAME|ADDRESS|NETWORK")
    action(actions, "sanctions", _sanctions, "list the bans and mutes", "")
    status = action(
        actions,
        "status",
        _status,
        "say how the server is, who is here and how much is stored",
        "",
        "--json",
        more="""\
With --json it is one object: running, version, users, sessions, held (guests without a connection),
accounts, rooms, newest (the number of the newest message), newest_time (milliseconds since the
epoch), messages (to within a thousand where old ones are deleted), unindexed (messages that wait to
be indexed), files (bytes by name; chat.sqlite-wal is the write-ahead log); and of a server that
runs process, uptime (seconds) and connections (how many, by kind).""",
    )
    status.add_argument("--json", action="store_true", help="as one JSON object")
    _add_file_actions(actions, action)
    return parser


def _add_account_actions(accounts: Parser, action: Callable[..., Parser]) -> None:
    actions = accounts.add_subparsers(
        dest="change", required=True, metavar="ACTION", parser_class=_Action
    )

    def password(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--password-file",
            type=Path,
            metavar="FILE",
            help="the password is the first line of FILE (otherwise it is asked for, or read from "
            "standard input)",
        )

    add = action(
        actions,
        "accounts add",
        _accounts_add,
        "make an account, with a key or else a password",
        "ci --key ci_key.pub",
        "ci --password-file secret",
    )
    add.add_argument(
        "--key", metavar="FILE", type=Path, help="a public key, as ssh-keygen makes it"
    )
    password(add)
    remove = action(
        actions,
        "accounts remove",
        _accounts_remove,
        "remove an account: its name is free, its connections are closed",
        "ci",
    )
    change = action(
        actions,
        "accounts password",
        _accounts_password,
        "set an account's password; clients have to log in again when they come back",
        "ci --password-file secret",
        "ci --remove",
    )
    change.add_argument("--remove", action="store_true", help="let the account have none")
    password(change)
    key = action(
        actions,
        "accounts key",
        _accounts_key,
        "let a key into an account",
        "ci ci_key.pub",
        "ci ci_key.pub --remove",
    )
    operator = action(
        actions,
        "accounts operator",
        _accounts_operator,
        "make an account an operator's, who may kick, ban and mute",
        "alice",
        "alice --remove",
    )
    for made in (add, remove, change, key, operator):
        made.add_argument("name", metavar="NAME")
    key.add_argument("key", metavar="FILE", type=Path, help="a public key (id.pub)")
    key.add_argument("--remove", action="store_true", help="let it in no more")
    operator.add_argument("--remove", action="store_true", help="not any more")
    action(
        actions,
        "accounts list",
        _accounts_list,
        "list the accounts: name, operator or not, how many keys, password or not",
        "",
    )


def _add_file_actions(actions: Any, action: Callable[..., Parser]) -> None:
    export = action(
        actions,
        "export",
        _export,
        "print all messages, oldest first, a JSON object a line",
        "",
        "monday.sqlite",
        more="""\
The fields are message (its number), time (milliseconds since the epoch, UTC), sender, to and
text.""",
    )
    check = action(
        actions,
        "check",
        _check,
        "look whether the archive is sound, or a backup",
        "",
        "monday.sqlite",
    )
    for made in (export, check):
        made.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a backup")
    backup = action(
        actions,
        "backup",
        _backup,
        "copy the archive to FILE, and check the copy; FILE is replaced if it is a backup",
        "monday.sqlite",
        more="The server may run. docs/backup.rst tells of backups.",
    )
    restore = action(
        actions,
        "restore",
        _restore,
        "check a backup, and put it in the place of the archive, which is kept under another name",
        "monday.sqlite",
        more="The server must not run. docs/backup.rst tells of backups.",
    )
    for made in (backup, restore):
        made.add_argument("file", type=Path, metavar="FILE", help="the backup")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    named: Path | None = getattr(options, "file", None)
    try:
        folder = options.state or archive.default_folder()
        source = folder / archive.FILE if named is None or options.action == "backup" else named
        code: int = options.do(options, folder)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes there
        return DONE
    except maintenance.Unsound as error:
        for line in str(error).split("\n"):
            _complain(f"{source}: {line}")
        return REFUSED
    except Refused as error:
        _complain(str(error))
        return REFUSED
    except UnicodeDecodeError as error:
        _complain(f"not a text: {error.reason}")
        return REFUSED
    except FilesError as error:
        _complain(str(error))
        return FAILED
    except sqlite3.Error as error:
        copies = options.action in ("backup", "restore")
        _complain(f"{options.action} of {source}: {error}" if copies else f"{source}: {error}")
        return FAILED
    except OSError as error:
        _complain(f"{error.filename or source}: {error.strerror}")
        return FAILED
    except (KeyboardInterrupt, EOFError):
        _complain("ended before it was done")
        return FAILED


if __name__ == "__main__":
    raise SystemExit(main())
