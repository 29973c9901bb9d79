"""Folders and files on this machine: where they are by default, and who may use them.

The server, its commands and the client share this. It knows nothing of what is in a file.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path


class FilesError(Exception):
    """A folder or a file can't be used; the reason is one line."""


def base_folder(variable: str, below: str, instead: str, user: int | None = None) -> Path:
    """Return the base folder of the XDG base directory specification.

    :param variable: the environment variable that names it, ``XDG_STATE_HOME`` for one.
    :param below: where it is in the home folder if the variable is not set.
    :param instead: what the operator can use to name a folder, an option or a variable.
    :param user: the number of another user whose folder it is; the environment is not theirs.
    :raises FilesError: the home folder is not known.
    """
    if user is None:
        base = os.environ.get(variable, "")
        if os.path.isabs(base):  # the specification wants others ignored
            return Path(base)
    home = os.environ.get("HOME", "") if user is None else ""
    if not os.path.isabs(home):
        number = os.geteuid() if user is None else user
        try:
            home = pwd.getpwuid(number).pw_dir
        except KeyError:
            home = ""
        if not os.path.isabs(home):
            unset = "HOME is not set and " if user is None else ""
            raise FilesError(f"{unset}user {number} has no home folder: name a folder by {instead}")
    return Path(home) / below
