"""The argument parser of all commands: argparse with error messages that are safe to show.

Error messages quote the command line, which may contain control characters.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from chat_twisted.text import printable_lines


class Parser(argparse.ArgumentParser):
    """An argument parser whose error messages can't act on a terminal."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Print ``message`` and exit. Called by argparse after an error or after the help."""
        super().exit(status, printable_lines(message) if message else None)
