"""Upgrades the archive's file to the newest schema, step by step, after copying it.

The steps are the numbered files in ``schema``. This module knows no table.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from chat_twisted.files import FilesError, Say
from chat_twisted.storage.sql import copy

BEFORE = "-before-"
"""Part of the name of the copy that is made before the schema is changed; the schema's new number
follows."""

FIRST_WITH_VERSION = 6
"""The first schema in which the state has a version."""


class ArchiveError(FilesError):
    """The archive can't be opened. The message is one line for the user."""


def _read_steps(folder: Traversable) -> dict[int, str]:
    names = {step.name.removesuffix(".sql"): step for step in folder.iterdir()}
    return {int(name): step.read_text() for name, step in names.items() if name.isdigit()}


# Read early: the server may later run as a user who can't read the files.
_STEPS = _read_steps(resources.files("chat_twisted.storage") / "schema")


def migrate(connection: sqlite3.Connection, folder: Path | None = None) -> None:
    """Run the steps from the file's schema to the newest, each in its own transaction.

    :param folder: a folder of numbered steps; None for the package's own.
    :raises ArchiveError: if the schema is newer than the newest step.
    """
    steps = _STEPS if folder is None else _read_steps(folder)
    for number in range(_version(connection, steps) + 1, max(steps) + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {steps[number]}; PRAGMA user_version = {number}; COMMIT;"
        )


def newest_schema() -> int:
    """Return the number of the newest schema that this version knows."""
    return max(_STEPS)


def _version(connection: sqlite3.Connection, steps: Collection[int]) -> int:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > max(steps):
        raise ArchiveError(
            f"made by a newer version of the server (schema {version}, this one knows {max(steps)})"
        )
    return int(version)


def update_schema(
    connection: sqlite3.Connection, path: Path, folder: Path | None, say: Say
) -> None:
    """Copy the file, then run the steps to the newest schema.

    Only the copy from before the newest update is kept. It is not made again if nothing was written
    since, so a step that fails at every start does not fill the disk.

    :raises ArchiveError: if it fails, for example because the disk is full; nothing is changed
        then.
    """
    steps = _STEPS if folder is None else _read_steps(folder)
    version = _version(connection, steps)
    if 0 < version < max(steps):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        kept = path.with_name(f"{path.name}{BEFORE}{version + 1}")
        time = path.stat().st_mtime_ns
        if not kept.exists() or kept.stat().st_mtime_ns != time:
            try:
                copy(connection, kept, lambda target: None)
                os.utime(kept, ns=(time, time))  # the time identifies the copied state
            except (sqlite3.Error, OSError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ArchiveError(
                    f"{kept}: {reason}: this copy is needed before the schema is changed"
                ) from None
            for other in set(path.parent.glob(f"{path.name}{BEFORE}*")) - {kept}:
                other.unlink()
        say(f"the schema is brought from {version} to {max(steps)}; {kept} is the file before that")
    migrate(connection, folder)
