"""python -m chat_twisted.archive: the old name of some actions of ``python -m chat_twisted.admin``.

It goes with the next version.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from chat_twisted import admin
from chat_twisted.admin_parser import PROGRAM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    sys.stderr.write(f"python -m chat_twisted.archive is now {PROGRAM}\n")
    return admin.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
