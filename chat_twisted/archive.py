"""python -m chat_twisted.archive: looks after what a server has stored."""

from __future__ import annotations

import argparse
import io
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from chat_twisted.commandline import Parser
from chat_twisted.files import FilesError
from chat_twisted.storage import archive
from chat_twisted.storage.maintenance import Unsound, backup, check, export, restore
from chat_twisted.text import escape_json, printable


def _parser() -> Parser:
    parser = Parser(
        prog="python -m chat_twisted.archive",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Look after what a server has stored, all but restore also while it runs.

  export [FILE]   print all messages, oldest first, a JSON object a line with the fields message
                  (its number), time (milliseconds since the epoch, UTC), sender, to and text
  check [FILE]    look whether the file is sound
  backup FILE     copy the archive to FILE, and check the copy; FILE is replaced if it is a backup
  restore FILE    check a backup, and put it in the place of the archive, which is kept under
                  another name; the server must not run

export and check read the archive in the state folder unless a backup is named. docs/backup.rst
tells of backups.""",
        epilog="exit status: 0 done and sound, 1 something is wrong with the file, 2 it can't be "
        "done",
    )
    parser.add_argument("action", choices=("export", "check", "backup", "restore"))
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a backup")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help=f"the server's state folder ({archive.DEFAULT_FOLDER})",
    )
    return parser


def _print(line: str) -> None:
    sys.stdout.write(f"{printable(line)}\n")


def _complain(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")


def _export(path: Path) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON's, whatever the locale
    for record in export(path):
        sys.stdout.write(escape_json(json.dumps(record, ensure_ascii=False)) + "\n")
    return 0


def _check(path: Path, with_index: bool) -> int:
    problems = check(path, with_index=with_index)
    for problem in problems or ["sound"]:
        _print(problem)
    return 1 if problems else 0


def _backup(folder: Path, path: Path) -> int:
    _print(f"{path}: sound, {backup(folder, path)}")
    return 0


def _restore(folder: Path, path: Path) -> int:
    _print(f"restored: {restore(folder, path, _print)}; the server makes its index when it starts")
    return 0


def _run(options: argparse.Namespace, folder: Path) -> Callable[[], int]:
    path = options.file or folder / archive.FILE
    match options.action:
        case "export":
            return lambda: _export(path)
        case "check":
            return lambda: _check(path, options.file is None)
        case "backup":
            return lambda: _backup(folder, path)
    return lambda: _restore(folder, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    if options.action in ("backup", "restore") and options.file is None:
        parser.error(f"{options.action}: name the FILE")
    source = options.file
    try:
        folder = options.state or archive.default_folder()
        if source is None or options.action == "backup":
            source = folder / archive.FILE
        code = _run(options, folder)()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes there
        return 0
    except Unsound as error:
        for line in str(error).split("\n"):
            _complain(f"{source}: {line}")
        return 1
    except FilesError as error:
        _complain(str(error))
        return 2
    except sqlite3.Error as error:
        what = source if options.action in ("export", "check") else f"{options.action} of {source}"
        _complain(f"{what}: {error}")
        return 2
    except OSError as error:
        _complain(f"{error.filename or source}: {error.strerror}")
        return 2
    except KeyboardInterrupt:
        _complain("ended before it was done")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
