"""What was typed on a terminal, from one run to the next: a file that several clients add to.

It is a comfort: what can't be written is said once, and keeps nobody from talking. Nothing here
knows what the lines mean.
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
"""Bytes of the file; of a larger one the older half is dropped at the start."""


class InputHistory(FileHistory):
    """What was typed before, for the user's eyes alone.

    :param tell: called once with the reason if it can't be read or written.
    """

    def __init__(self, path: Path, tell: Callable[[str], object]) -> None:
        super().__init__(str(path))
        self._path = path
        self._tell = tell
        self._told = False

    def load_history_strings(self) -> Iterable[str]:
        """prompt_toolkit: return what was typed, the newest first."""
        try:
            with locked(self._path.parent):
                self._prepare()
                return list(super().load_history_strings())
        except OSError as error:
            self._complain(error)
            return []

    def store_string(self, string: str) -> None:
        """prompt_toolkit: a line was typed."""
        lines = "".join(f"+{line}\n" for line in string.split("\n"))
        entry = f"\n# {datetime.datetime.now()}\n{lines}".encode(errors="replace")
        try:
            with locked(self._path.parent):
                self._append(entry)
        except OSError as error:
            self._complain(error)

    def _prepare(self) -> None:
        """Make the file, and drop the older half of one that has grown large."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with open(descriptor, "rb") as file:
            os.fchmod(descriptor, 0o600)
            data = file.read()
        if len(data) > MAX_HISTORY:
            newer = data[len(data) // 2 :]
            replace(self._path, newer[newer.find(b"\n# ") + 1 :])  # from the next entry on

    def _append(self, entry: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, entry) < len(entry):
                os.ftruncate(descriptor, size)  # half an entry would be another line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def _complain(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            self._tell(f"{self._path}: {error.strerror}: what you type is not remembered")
