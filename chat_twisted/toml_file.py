"""TOML files that people write: mistakes in them are reported with the number of the line.

This module must not know which keys a file has.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any


class TOMLError(Exception):
    """A file is not TOML. The message is one line for the user, with the file and the line."""


class TOMLFile:
    """The contents of a TOML file.

    :ivar tables: the contents, as ``tomllib`` returns them.
    :raises OSError: if it can't be read.
    :raises TOMLError: if it is not TOML in UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        data = path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise TOMLError(f"{path}:{line}: not UTF-8") from None
        try:
            self.tables: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            where = re.search(r"at line (\d+)", str(error))
            line = int(where[1]) if where else text.count("\n") + 1
            what = re.sub(r" \(at .*\)", "", str(error))
            raise TOMLError(f"{path}:{line}: {what}") from None
        self._lines = text.split("\n")

    def locate(self, key: str, table: str = "") -> str:
        """Return the file and the line that sets a key, or the best guess, as ``FILE:LINE``.

        :param table: the table with the key; empty for keys that are in no table.
        """
        return f"{self._path}:{self._find(key, table)}"

    def _find(self, key: str, table: str) -> int:
        at, current = 1, ""
        sets = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[+([^\]]*)\]", line):
                current = header[1].strip().replace('"', "").replace("'", "")
                if current == f"{table}.{key}".lstrip("."):
                    at = number
            elif current == table and sets.match(line):
                return number
        return at
