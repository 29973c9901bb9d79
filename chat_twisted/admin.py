"""python -m chat_twisted.admin: the operator's command on the server's machine.

This module runs an action and turns errors into exit codes. The command line is in
``admin_parser``, the actions are in ``admin_actions`` and others.
"""

from __future__ import annotations

import chat_twisted.dependencies  # noqa: F401  ends the process if one is missing

# isort: split
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from chat_twisted import admin_actions as do
from chat_twisted.admin_parser import make_parser
from chat_twisted.files import FilesError
from chat_twisted.reaching import Refused
from chat_twisted.storage import archive, maintenance


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = make_parser().parse_args(arguments)
    named: Path | None = getattr(options, "file", None)
    try:
        folder = options.state or archive.default_folder()
        source = folder / archive.FILE if named is None or options.action == "backup" else named
        code: int = options.run(options, folder)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the rest in the buffer
        return do.DONE
    except maintenance.Unsound as error:
        for line in str(error).split("\n"):
            do.complain(f"{source}: {line}")
        return do.REFUSED
    except Refused as error:
        do.complain(str(error))
        return do.REFUSED
    except UnicodeDecodeError as error:
        do.complain(f"not a text: {error.reason}")
        return do.REFUSED
    except FilesError as error:
        do.complain(str(error))
        return do.FAILED
    except sqlite3.Error as error:
        copies = options.action in ("backup", "restore")
        do.complain(f"{options.action} of {source}: {error}" if copies else f"{source}: {error}")
        return do.FAILED
    except OSError as error:
        do.complain(f"{error.filename or source}: {error.strerror}")
        return do.FAILED
    except (KeyboardInterrupt, EOFError):
        do.complain("ended before it was done")
        return do.FAILED


if __name__ == "__main__":
    raise SystemExit(main())
