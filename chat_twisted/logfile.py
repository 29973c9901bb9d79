"""A log file: opened anew when something else has renamed it, and rotated before it grows too long.

Twisted's own keeps every old file and renames all of them at each rotation. This one renames as
many as it keeps. It knows nothing of what is logged.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from chat_twisted.files import FilesError

MAX_SIZE = 10_000_000
"""Bytes after which the next file is begun."""

KEPT = 9
"""How many old files there are at most: ``NAME.1`` is the newest of them."""


class LogFile:
    """A file that text is appended to, for a log observer.

    It is made for its owner alone; one that is there keeps its permissions, and so do those that
    follow it.

    :raises FilesError: it can't be opened.
    """

    def __init__(self, path: Path, max_size: int = MAX_SIZE, kept: int = KEPT) -> None:
        self.path = path
        self._max_size = max_size
        self._kept = kept
        self._mode: int | None = None
        self._descriptor = -1
        self.reopen()

    def reopen(self) -> None:
        """Open the file of that name, which may be another one by now.

        :raises FilesError: it can't be opened; what is logged goes on to the one before.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
        try:
            try:
                descriptor = os.open(self.path, flags)
            except FileNotFoundError:
                descriptor = os.open(self.path, flags | os.O_CREAT, 0o600)
                if self._mode is not None:
                    os.fchmod(descriptor, self._mode)
        except OSError as error:
            raise FilesError(f"{self.path}: {error.strerror}") from None
        found = os.fstat(descriptor)
        self._mode = stat.S_IMODE(found.st_mode)
        self.close()
        self._descriptor = descriptor
        self._regular = stat.S_ISREG(found.st_mode)
        self._rotate_at = self._max_size
        self._size = found.st_size

    def write(self, text: str) -> None:
        """Append ``text``. What a full disk does not take is lost."""
        data = text.encode("utf-8", "backslashreplace")
        if self._regular and self._size and self._size + len(data) > self._rotate_at:
            self.rotate()
        with contextlib.suppress(OSError):
            self._size += os.write(self._descriptor, data)

    def flush(self) -> None:
        """Observers call this after each entry; nothing is kept back here."""

    def rotate(self) -> None:
        """Begin the next file; where that is not allowed, go on and try again much later."""
        try:
            for number in range(self._kept - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            os.replace(self.path, f"{self.path}.1")
            self.reopen()
        except (OSError, FilesError):
            self._rotate_at = self._size + self._max_size

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
