"""The client's folder, and its state files of names and values.

Several clients may use these files at the same time. To change a file, a client locks the folder
and replaces the whole file. This module must not know what the values mean.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chat_twisted.files import base_folder

LOCKED_WITHIN = 5
"""Seconds to wait for a lock that another client holds."""

LOOK_EVERY = 0.01  # seconds between two attempts to lock


def config_folder() -> Path:
    """Return the client's configuration folder.

    :raises FilesError: if the home folder is not known.
    """
    return base_folder("XDG_CONFIG_HOME", ".config", "XDG_CONFIG_HOME") / "chat_twisted"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` during a ``with`` statement, creating it if needed.

    Blocks for up to ``LOCKED_WITHIN`` seconds.

    :raises OSError: if it can't be created, or another client keeps the lock.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    end = time.monotonic() + LOCKED_WITHIN
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(LOOK_EVERY)
        except OSError as error:
            # Some network file systems can't lock a folder. Files are still replaced atomically.
            if error.errno in (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP):
                return
            raise


def replace(path: Path, data: bytes) -> None:
    """Replace a file atomically; only its owner may read it.

    The caller must have locked the folder. A failed attempt leaves no new file.

    :raises OSError: if the file can't be written.
    """
    path = Path(os.path.realpath(path))  # keep a symbolic link and replace its target
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


class StateFile:
    """A private file with one ``name value`` pair in each line.

    :param path: the file.
    :param most: the maximum number of lines; the newest are kept. None means no limit.
    """

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.path = path
        self._most = most

    def get(self, name: str) -> str | None:
        """Return the value of ``name``, or None.

        :raises OSError: if the file exists but can't be read.
        """
        return self._read().get(name)

    def set(self, name: str, value: str | None) -> None:
        """Set the value of ``name``; None removes it.

        :raises OSError: if the file can't be written.
        """
        self.update(name, lambda _: value)

    def update(self, name: str, change: Callable[[str | None], str | None]) -> None:
        """Set the value of ``name`` to ``change(old value)``, atomically among clients.

        :param change: gets the old value, or None, and returns the new one; it may be called twice.
        :raises OSError: if the file can't be read or written.
        """
        before = self.get(name)
        if change(before) == before:
            return
        with locked(self.path.parent):
            known = self._read()
            value = change(known.pop(name, None))
            if value is not None:
                known[name] = value
            lines = [f"{name} {value}\n" for name, value in known.items()]
            if self._most is not None:
                lines = lines[-self._most :]
            replace(self.path, "".join(lines).encode())

    def _read(self) -> dict[str, str]:
        try:
            text = self.path.read_text(encoding="utf-8-sig", errors="replace")
        except FileNotFoundError:
            return {}
        return {words[0]: words[1] for line in text.split("\n") if len(words := line.split()) == 2}
