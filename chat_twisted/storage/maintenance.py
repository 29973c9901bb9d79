"""What an operator does with the archive's files: export, check, back up, restore.

``python -m chat_twisted.archive``; all but ``restore`` also while a server runs. It knows the
files, and what is asked of them is in ``archive`` and ``index``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from chat_twisted import files
from chat_twisted.files import FilesError, Say
from chat_twisted.storage import archive, index
from chat_twisted.storage.sql import copy, count, damage, has_foreign_log, open_to_read, sync

REPLACED = "-replaced-"
"""In the name of what ``restore`` has replaced, with a number that is free."""


class Unsound(Exception):
    """What is wrong with a file, each in a line."""


def export(path: Path) -> Iterator[dict[str, object]]:
    """Go through all messages of a file: what ``export`` prints of each.

    :raises sqlite3.Error: it can't be read.
    """
    with contextlib.closing(open_to_read(path)) as connection:
        number = 0
        while True:  # in pieces: a long reading would keep the server from tidying its file
            rows = connection.execute(
                'SELECT number, time, sender, "to", text FROM message WHERE number > ? '
                "ORDER BY number LIMIT 1000",
                (number,),
            ).fetchall()
            if not rows:
                return
            for row in rows:
                yield dict(zip(("message", "time", "sender", "to", "text"), row, strict=True))
            number = rows[-1][0]


def check(path: Path, *, with_index: bool = True) -> list[str]:
    """Look whether a file is sound, and the index beside it, which a backup has not.

    :return: what is not.
    :raises sqlite3.Error: it can't be read.
    """
    if has_foreign_log(path):
        return [f"{path.name}-wal is the write-ahead log of another file: see docs/backup.rst"]
    with contextlib.closing(open_to_read(path)) as connection:
        problems = _check_archive(connection)
        if with_index:
            problems += index.check(connection, path.parent)
        return problems


def _check_archive(connection: sqlite3.Connection) -> list[str]:
    return damage(connection, "main") + count(
        connection,
        {
            "members of rooms that are not there": "SELECT count(*) FROM member "
            "WHERE until IS NULL AND room NOT IN (SELECT id FROM room)",
        },
    )


def _require_sound(connection: sqlite3.Connection) -> None:
    """See that a copy is an archive that this version can use, and sound.

    :raises Unsound: it is not.
    """
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('message', 'progress')"
    ).fetchone()
    if tables != 2 or version == 0:
        raise Unsound("no archive of a server")
    if version > archive.newest_schema():
        raise Unsound(f"made by a newer version of the server (schema {version})")
    if problems := _check_archive(connection):
        raise Unsound("\n".join(problems))


def backup(folder: Path, path: Path) -> str:
    """Copy the archive of a state folder, and see that the copy is sound.

    :param path: the copy, which is a file that needs nothing beside it; a backup that is there is
        replaced when the new one is sound, anything else is not.
    :return: what it holds, in words.
    :raises Unsound: the archive is not sound; there is no new copy.
    :raises FilesError: the copy can't be made there.
    :raises sqlite3.Error: the archive can't be read, or there is no room.
    """
    source = folder / archive.FILE
    if path.exists():
        if path.samefile(source):
            raise FilesError(f"{path}: the archive itself")
        if path.is_dir():
            raise FilesError(f"{path}: a folder; name a file in it")
        if not _is_database(path):
            raise FilesError(f"{path}: is there, and no backup")
    held = ""

    def finish(target: sqlite3.Connection) -> None:
        nonlocal held
        _require_sound(target)
        held = describe(target)

    with files.sharing(folder), contextlib.closing(open_to_read(source)) as connection:
        copy(connection, path, finish)
    return held


def restore(folder: Path, path: Path, say: Say) -> str:
    """Put a backup in the place of the archive of a state folder, where no server runs.

    At whatever moment it is ended, by force or by a loss of power, the archive is wholly the old
    one or wholly the new one. The old one is kept under another name.

    :return: what the backup holds, in words.
    :raises Unsound: the backup is not sound; nothing was changed.
    :raises FilesError: a server or another command uses the folder, or it can't be written.
    :raises sqlite3.Error: the backup can't be read, or there is no room.
    """
    folder = files.make_private_folder(folder, say)
    target = folder / archive.FILE
    files.make_private(target, say)
    if target.exists() and path.exists() and path.samefile(target):
        raise FilesError(f"{path}: the archive itself")
    held = ""

    def finish(connection: sqlite3.Connection) -> None:
        nonlocal held
        _require_sound(connection)
        held = describe(connection)
        with contextlib.suppress(sqlite3.OperationalError):  # older than the stamp
            # What is left of the index is of another archive from now on, so it is made again.
            connection.execute("UPDATE progress SET stamp = randomblob(16)")

    lock = archive.lock(folder, say)
    try:
        with files.sharing(folder, alone=True):
            lock.write()
            restored = folder / f"{archive.FILE}-restored"
            with contextlib.closing(open_to_read(path)) as connection:
                copy(connection, restored, finish)
            if target.exists():
                say(f"what was there before is {_set_aside(target)} now")
            os.replace(restored, target)
            sync(folder)
            lock.clear()
    finally:
        lock.close()
    return held


def _set_aside(path: Path) -> Path:
    """Give the file another name too, with all that is committed to it, and take its write-ahead
    log away. It is still there under its own name.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and not has_foreign_log(path):
        # If it can't be read the log is kept beside it; that is what a restore is for.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(archive.connect(path)) as old:
            old.execute("PRAGMA journal_mode = DELETE")  # so that it needs nothing beside it
    for other in path.parent.glob(f"{path.name}{REPLACED}*"):
        if other.samefile(path):  # a restore was broken off after this
            other.unlink()
    number = 1
    while (aside := path.with_name(f"{path.name}{REPLACED}{number}")).exists():
        number += 1
    os.link(path, aside)
    if log.exists() and log.stat().st_size:
        os.link(log, aside.with_name(f"{aside.name}-wal"))
    sync(path.parent)
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    sync(path.parent)
    return aside


def describe(connection: sqlite3.Connection) -> str:
    """Say how much an archive holds, and up to when."""
    messages, newest = connection.execute("SELECT count(*), max(time) FROM message").fetchone()
    if newest is None:
        return "no messages"
    until = datetime.datetime.fromtimestamp(newest / 1000, datetime.UTC)
    return f"{messages} messages, the newest of {until:%Y-%m-%d %H:%M:%S} UTC"


def _is_database(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"
