"""python -m chat_twisted.accounts: the old name of ``python -m chat_twisted.admin accounts``.

It goes with the next version.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from chat_twisted import admin
from chat_twisted.admin_parser import PROGRAM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, which was never more than 1."""
    sys.stderr.write(f"python -m chat_twisted.accounts is now {PROGRAM} accounts\n")
    return min(1, admin.main(["accounts", *(sys.argv[1:] if arguments is None else arguments)]))


if __name__ == "__main__":
    raise SystemExit(main())
