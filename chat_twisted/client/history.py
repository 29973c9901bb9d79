"""The input history of the terminal: a file that several clients append to.

It is optional: an error is reported once, and the chat goes on. This module must not know what the
lines mean.
"""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory

from chat_twisted.client.client_state import locked, replace

MAX_HISTORY = 256 * 1024
"""Maximum size in bytes. At the start, the older half of a larger file is dropped."""


class InputHistory(FileHistory):
    """The lines that the user typed before, in a private file.

    :param path: the file.
    :param tell: called once, with the reason, if the file can't be read or written.
    """

    def __init__(self, path: Path, tell: Callable[[str], object]) -> None:
        super().__init__(str(path))
        self._path = path
        self._tell = tell
        self._told = False

    def load_history_strings(self) -> Iterable[str]:
        """Return the typed lines, newest first. Called by prompt_toolkit at the start."""
        try:
            with locked(self._path.parent):
                self._prepare()
                return list(super().load_history_strings())
        except OSError as error:
            self._complain(error)
            return []

    def store_string(self, string: str) -> None:
        """Append a typed line. Called by prompt_toolkit."""
        lines = "".join(f"+{line}\n" for line in string.split("\n"))
        entry = f"\n# {datetime.datetime.now()}\n{lines}".encode(errors="replace")
        try:
            with locked(self._path.parent):
                self._append(entry)
        except OSError as error:
            self._complain(error)

    def _prepare(self) -> None:
        """Create the file if needed, and drop the older half of a large one."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with open(descriptor, "rb") as file:
            os.fchmod(descriptor, 0o600)
            data = file.read()
        if len(data) > MAX_HISTORY:
            newer = data[len(data) // 2 :]
            replace(self._path, newer[newer.find(b"\n# ") + 1 :])  # starts with a complete entry

    def _append(self, entry: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, entry) < len(entry):
                os.ftruncate(descriptor, size)  # part of an entry would be read as another line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def _complain(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            self._tell(f"{self._path}: {error.strerror}: what you type is not remembered")
