"""A log file that can be reopened after it was renamed, and that rotates itself by size.

Twisted's own log file keeps every old file and renames all of them at each rotation; this one keeps
a fixed number. This module must not know the contents of the log.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from chat_twisted.files import FilesError

MAX_SIZE = 10_000_000
"""Size in bytes at which the log is rotated."""

KEPT = 9
"""Maximum number of old files. ``NAME.1`` is the newest of them."""


class LogFile:
    """A file to which a log observer appends text.

    A new file is private to its owner. An existing file keeps its permissions, and its successors
    get the same.

    :param path: the file.
    :ivar is_journal: always False, see ``log_output.Target``.
    :param max_size: bytes at which the file is rotated.
    :param kept: how many old files are kept.
    :raises FilesError: if the file can't be opened.
    """

    is_journal = False

    def __init__(self, path: Path, max_size: int = MAX_SIZE, kept: int = KEPT) -> None:
        self.path = path
        self._max_size = max_size
        self._kept = kept
        self._mode: int | None = None
        self._descriptor = -1
        self.reopen()

    def reopen(self) -> None:
        """Open the file at ``path`` again; it may be another file by now.

        :raises FilesError: if it can't be opened; the log then continues in the old file.
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
        """Append ``text``. Text that does not fit on a full disk is lost."""
        data = text.encode("utf-8", "backslashreplace")
        if self._regular and self._size and self._size + len(data) > self._rotate_at:
            self.rotate()
        with contextlib.suppress(OSError):
            self._size += os.write(self._descriptor, data)

    def flush(self) -> None:
        """Do nothing: there is no buffer. Called by log observers after each entry."""

    def rotate(self) -> None:
        """Start the next file. If that is not possible, continue and try again much later."""
        try:
            for number in range(self._kept - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            os.replace(self.path, f"{self.path}.1")
            self.reopen()
        except (OSError, FilesError):
            self._rotate_at = self._size + self._max_size

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
