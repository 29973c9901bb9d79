"""What the client keeps from one run to the next: its folder, and files of names and values."""

from __future__ import annotations

import os
from pathlib import Path


def config_folder() -> Path:
    """Return the client's folder of the XDG base directory specification."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "chat_twisted"


class Remembered:
    """A file of lines, ``name value``, for its owner's eyes alone. Several clients may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> str | None:
        """What is known of ``name``.

        :raises OSError: the file is there and can't be read.
        """
        return self._read().get(name)

    def set(self, name: str, value: str | None) -> None:
        """Remember ``value`` of ``name``; None to know nothing of it any more.

        :raises OSError: it can't be written.
        """
        known = self._read()
        if known.get(name) == value:
            return
        known.pop(name, None)
        if value is not None:
            known[name] = value
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            file.writelines(f"{name} {value}\n" for name, value in known.items())
        temporary.replace(self.path)

    def _read(self) -> dict[str, str]:
        try:
            lines = self.path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        return {words[0]: words[1] for line in lines if len(words := line.split()) == 2}
