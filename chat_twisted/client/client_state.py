"""What the client keeps from one run to the next: its folder, and files of names and values.

Several clients use these files at the same time: whoever changes one locks the folder, and puts a
whole new file in the place of the old one.
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
"""Seconds for which another client is waited for that has the folder locked."""

LOOK_EVERY = 0.01  # seconds


def config_folder() -> Path:
    """Return the client's folder.

    :raises FilesError: it is not known where that is.
    """
    return base_folder("XDG_CONFIG_HOME", ".config", "XDG_CONFIG_HOME") / "chat_twisted"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other clients from changing files in ``folder``, which is made if it is not there.

    :raises OSError: it can't be made, or another client does not let go of it.
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
            # Some network file systems can't lock a folder: files are still replaced as a whole.
            if error.errno in (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP):
                return
            raise


def replace(path: Path, data: bytes) -> None:
    """Write a file for its owner's eyes alone; it is the old one or the new one, never a part.

    The folder is to be locked. Nothing new is left behind by an attempt that fails.

    :raises OSError: it can't be written.
    """
    path = Path(os.path.realpath(path))  # a link to a file elsewhere stays one
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
    """A file of lines, ``name value``, for its owner's eyes alone.

    :param most: how many lines are kept, the newest; None: all.
    """

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.path = path
        self._most = most

    def get(self, name: str) -> str | None:
        """What is known of ``name``.

        :raises OSError: the file is there and can't be read.
        """
        return self._read().get(name)

    def set(self, name: str, value: str | None) -> None:
        """Remember ``value`` of ``name``; None to know nothing of it any more.

        :raises OSError: it can't be written.
        """
        self.update(name, lambda _: value)

    def update(self, name: str, change: Callable[[str | None], str | None]) -> None:
        """Remember what ``change`` makes of what is known, with no other client in between.

        :raises OSError: it can't be written.
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
