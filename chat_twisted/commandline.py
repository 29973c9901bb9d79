"""What the commands read their arguments with: argparse, whose complaints quote what was typed."""

from __future__ import annotations

import argparse
from typing import NoReturn

from chat_twisted.text import printable_lines


class Parser(argparse.ArgumentParser):
    """A parser whose complaints can't act on a terminal, whatever is on the command line."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Argparse: say what is wrong, and exit."""
        super().exit(status, printable_lines(message) if message else None)
