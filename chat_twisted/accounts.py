"""python -m chat_twisted.accounts: makes and changes accounts, also while the server runs.

It writes the archive itself; the server sees that within a second.
"""

from __future__ import annotations

import argparse
import getpass
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import argon2

from chat_twisted.auth.accounts import MAX_PASSWORD, Accounts
from chat_twisted.commandline import Parser
from chat_twisted.core.changes import Change, UserGone
from chat_twisted.core.errors import ChatError, MalformedName
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.saved import ACCOUNT, OPERATOR, Users
from chat_twisted.files import FilesError
from chat_twisted.storage import archive
from chat_twisted.text import printable


class _Mistake(Exception):
    """What was asked can't be done."""


def _decide(
    options: argparse.Namespace, hash: str, key: str
) -> Callable[[Users, int], tuple[list[Change], Mapping[int, int]]]:
    """Return what ``archive.edit`` is to be asked for."""

    def decide(found: Users, newest: int) -> tuple[list[Change], Mapping[int, int]]:
        users, keys, passwords, _ = found
        accounts = Accounts()
        accounts.load(users, keys, passwords)
        account = accounts.find(options.name)
        if options.action == "add":
            if any(fold(user.name) == fold(options.name) for user in users):
                raise _Mistake(f"{options.name} is the name of somebody: an account, or a guest")
            id = secrets.randbits(62) + 1
            return accounts.make(id, check_user_name(options.name), newest, key, hash), {}
        if account is None:
            raise _Mistake(f"there is no account {options.name}")
        match options.action:
            case "remove":
                return [UserGone(account.id)], {}
            case "password":
                return accounts.set_password(account, hash), {}
            case "key" if options.remove:
                return accounts.remove_key(account, key), {}
            case "key":
                return accounts.add_key(account, key), {}
        role = ACCOUNT if options.remove else OPERATOR
        return [], {account.id: role}

    return decide


def _parser() -> Parser:
    parser = Parser(
        prog="python -m chat_twisted.accounts",
        description="Manage accounts, also while the server runs: it sees it within a second.",
        epilog="exit status: 0 done, 1 it can't be done; the reason is on standard error",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, help: str) -> Parser:
        made = actions.add_parser(name, help=help, description=help)
        made.add_argument(
            "--state",
            type=Path,
            metavar="DIR",
            help=f"the server's state folder ({archive.DEFAULT_FOLDER})",
        )
        if name != "list":
            made.add_argument("name", metavar="NAME")
        return made

    def password(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--password-file",
            type=Path,
            metavar="FILE",
            help="the password is the first line of FILE (otherwise it is asked for)",
        )

    add = action("add", "make an account, with a key or else a password")
    add.add_argument(
        "--key", metavar="FILE", type=Path, help="a public key, as ssh-keygen makes it"
    )
    password(add)
    action("remove", "remove an account: its name is free, its connections are closed")
    change = action("password", "set an account's password")
    change.add_argument("--remove", action="store_true", help="let the account have none")
    password(change)
    key = action("key", "let a key into an account")
    key.add_argument("key", metavar="FILE", type=Path, help="a public key (id.pub)")
    key.add_argument("--remove", action="store_true", help="let it in no more")
    operator = action("operator", "make an account an operator's, who may kick, ban and mute")
    operator.add_argument("--remove", action="store_true", help="not any more")
    action("list", "list the accounts: name, operator or not, how many keys, password or not")
    return parser


def _ask_password(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8-sig").split("\n")[0]
    if not sys.stdin.isatty():
        return sys.stdin.readline().removeprefix("\ufeff").rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise _Mistake("the two are not the same")
    return password


def _listed(folder: Path) -> Iterable[str]:
    users, keys, passwords = archive.read_accounts(folder)
    accounts = Accounts()
    accounts.load(users, keys, passwords)
    for account in accounts.all():
        role = " operator" if account.operator else ""
        password = " password" if account.password else ""
        yield f"{account.name}{role} keys={len(account.keys)}{password}"


def _say(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        state = options.state or archive.default_folder()
        if options.action == "list":
            for line in _listed(state):
                sys.stdout.write(printable(line) + "\n")
            return 0
        key_file = getattr(options, "key", None)
        key = "" if key_file is None else key_file.read_text(encoding="utf-8-sig").strip()
        hash = ""
        if options.action in ("add", "password") and not key and not getattr(options, "remove", 0):
            password = _ask_password(options.password_file)
            if not password or len(password.encode()) > MAX_PASSWORD:
                raise _Mistake(f"a password has 1 to {MAX_PASSWORD} bytes")
            hash = argon2.PasswordHasher().hash(password)
        os.umask(0o077)
        archive.edit(state, _decide(options, hash, key), _say)
    except MalformedName:
        reason = f"{options.name!r} is no name: 1 to 32 letters, digits, _ and -"
    except (_Mistake, archive.ArchiveError, ChatError, FilesError) as error:
        reason = str(error)
    except UnicodeDecodeError as error:
        reason = f"not a text: {error.reason}"
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
    except (KeyboardInterrupt, EOFError):
        reason = "nothing was changed"
    else:
        return 0
    _say(reason)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
