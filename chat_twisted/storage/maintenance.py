"""The operator's commands on the files of an archive: export, check, back up, restore.

They are for ``python -m chat_twisted.admin``. All but ``restore`` work while a server runs. This
module knows the files; the queries are in ``archive`` and ``index``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from chat_twisted import files
from chat_twisted.core.commands import KINDS
from chat_twisted.files import FilesError, Say
from chat_twisted.storage import archive, index, lookup, upgrade
from chat_twisted.storage.clustered import LEAVE, Node, find_node, forget_incarnation
from chat_twisted.storage.sql import copy, count, damage, has_foreign_log, open_to_read, sync

REPLACED = "-replaced-"
"""Part of the names of files that ``restore`` has replaced; a number follows."""


FIRST_WITH_DELETION = 6
"""The first schema whose messages have kinds and can be deleted."""

ERASED = "EXISTS (SELECT 1 FROM erasure AS e WHERE e.user = author AND message.number <= e.number)"
"""Whether a message's text is to be deleted, which the server does behind its commits."""


class Unsound(Exception):
    """A database is damaged. The message has one line for each problem."""


def export(path: Path) -> Iterator[dict[str, object]]:
    """Yield all messages of an archive as the objects that ``export`` prints.

    Deleted messages have an empty text and ``deleted``, as in the client's records; so have those
    that are to be deleted with their author's account.

    :raises sqlite3.Error: if it can't be read.
    """
    with contextlib.closing(open_to_read(path)) as connection:
        text, kind = "text", "0"
        if _schema(connection) >= FIRST_WITH_DELETION:
            text, kind = f"CASE WHEN {ERASED} THEN '' ELSE text END", "kind"
        number = 0
        while True:  # in parts: a long read transaction would block the server's checkpoints
            rows = connection.execute(
                f'SELECT number, time, sender, "to", {text}, {kind} FROM message '
                "WHERE number > ? ORDER BY number LIMIT 1000",
                (number,),
            ).fetchall()
            if not rows:
                return
            for *row, kind_of in rows:
                record = dict(zip(("message", "time", "sender", "to", "text"), row, strict=True))
                deleted = {} if record["text"] else {"deleted": True}
                yield {**record, "kind": KINDS[kind_of], **deleted}
            number = rows[-1][0]


def check(path: Path, *, with_index: bool = True) -> list[str]:
    """Check whether an archive is sound.

    :param with_index: also check the index beside it, which a backup does not have.
    :return: the problems, one line each.
    :raises sqlite3.Error: if the file can't be read.
    """
    if has_foreign_log(path):
        return [f"{path.name}-wal is the write-ahead log of another file: see docs/backup.rst"]
    with contextlib.closing(open_to_read(path)) as connection:
        problems = _check_archive(connection)
        if with_index:
            problems += index.check(connection, path.parent)
        return problems


def _schema(connection: sqlite3.Connection) -> int:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check_archive(connection: sqlite3.Connection) -> list[str]:
    questions = {
        "members of rooms that are not there": "SELECT count(*) FROM member "
        "WHERE until IS NULL AND room NOT IN (SELECT id FROM room)",
    }
    if _schema(connection) >= FIRST_WITH_DELETION:
        questions |= {
            f"rows of users that are not there ({table})": f"SELECT count(*) FROM {table} "
            "WHERE user NOT IN (SELECT id FROM user)"
            for table in ("account", "key", "token", "session", "hold", "invitation", "marker")
        }
        questions["texts of deleted messages"] = (
            "SELECT count(*) FROM deletion JOIN message USING (number) WHERE message.text != ''"
        )
    return damage(connection, "main") + count(connection, questions)


def _require_sound(connection: sqlite3.Connection) -> None:
    """Check that a copy is sound, and an archive that this version can use.

    :raises Unsound: if it is not.
    """
    version = _schema(connection)
    [tables] = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('message', 'progress')"
    ).fetchone()
    if tables != 2 or version == 0:
        raise Unsound("no archive of a server")
    if version > upgrade.newest_schema():
        raise Unsound(f"made by a newer version of the server (schema {version})")
    if problems := _check_archive(connection):
        raise Unsound("\n".join(problems))


def backup(folder: Path, path: Path) -> str:
    """Copy the archive of a state folder, and check the copy.

    :param path: the copy, a single file. An existing backup is replaced if the new one is sound;
        other existing files are not replaced.
    :return: a description of its contents.
    :raises Unsound: if the archive is not sound; there is then no new copy.
    :raises FilesError: if the copy can't be written there.
    :raises sqlite3.Error: if the archive can't be read, or the disk is full.
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
    """Replace the archive of a state folder by a backup, while no server runs.

    If this is interrupted at any moment, even by a loss of power, the archive is either the old or
    the new one. The old one is kept under another name.

    :param say: told also which cluster's node the archive belongs to, before or after.
    :return: a description of the backup's contents.
    :raises Unsound: if the backup is not sound; nothing is changed then.
    :raises FilesError: if a server or another command uses the folder, or it is not writable.
    :raises sqlite3.Error: if the backup can't be read, or the disk is full.
    """
    folder = files.make_private_folder(folder, say)
    target = folder / archive.FILE
    files.make_private(target, say)
    if target.exists() and path.exists() and path.samefile(target):
        raise FilesError(f"{path}: the archive itself")
    held, node = "", None

    def finish(connection: sqlite3.Connection) -> None:
        nonlocal held, node
        _require_sound(connection)
        held = describe(connection)
        node = find_node(connection)
        forget_incarnation(connection)
        with contextlib.suppress(sqlite3.OperationalError):  # a schema from before the stamp
            # The existing index belongs to another archive now; a new stamp has it rebuilt.
            connection.execute("UPDATE progress SET stamp = randomblob(16)")

    lock = archive.lock(folder, say)
    try:
        with files.sharing(folder, alone=True):
            lock.write()
            restored = folder / f"{archive.FILE}-restored"
            with contextlib.closing(open_to_read(path)) as connection:
                copy(connection, restored, finish)
            was_node = target.exists() and _is_of_node(target)
            if target.exists():
                say(f"what was there before is {_set_aside(target)} now")
            os.replace(restored, target)
            sync(folder)
            lock.clear()
    finally:
        lock.close()
    for line in _describe_cluster(node, was_node):
        say(line)
    return held


def _is_of_node(path: Path) -> bool:
    """Return whether an archive belongs to a cluster's node, as far as it can be read."""
    with (
        contextlib.suppress(sqlite3.Error),  # the reason for the restore may be damage
        contextlib.closing(open_to_read(path)) as connection,
    ):
        return find_node(connection) is not None
    return False


def _describe_cluster(node: Node | None, was_node: bool) -> Iterator[str]:
    """Yield what an operator has to know of a restored archive.

    :param node: the node that the backup belongs to.
    :param was_node: whether the replaced archive belonged to one.
    """
    if node is not None:
        yield (
            f"it is a copy of node {node.name} of a cluster up to position {node.applied} of the "
            f'log: start it with --cluster; for a server alone or a new log, run "{LEAVE}" first'
        )
    elif was_node:
        yield (
            "it is a single server's: a node can't follow the log from it; restore a backup of a "
            "node, or move the archive away and start the node without one"
        )


def _set_aside(path: Path) -> Path:
    """Give the archive a second name, after a checkpoint, and remove its write-ahead log.

    It keeps its own name too.

    :return: the second name.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and not has_foreign_log(path):
        # If it can't be read, its log is kept beside it: the reason for the restore may be damage.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(archive.connect(path)) as old:
            old.execute("PRAGMA journal_mode = DELETE")  # so that the file is complete by itself
    for other in path.parent.glob(f"{path.name}{REPLACED}*"):
        if other.samefile(path):  # left by an interrupted restore
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


def measure(folder: Path) -> dict[str, Any]:
    """Measure a state folder, at a cost that does not depend on the number of messages.

    :return: ``messages``, their count; ``newest``, the number of the newest; ``newest_time``, its
        time in milliseconds since the epoch, or None; ``unindexed``, how many messages wait to be
        indexed; ``files``, the sizes of the files in bytes; and ``free``, the bytes of the disk
        that are free.
    :raises sqlite3.Error: if the archive can't be read.
    """
    with contextlib.closing(open_to_read(folder / archive.FILE)) as connection:
        newest = connection.execute(
            "SELECT number, time FROM message ORDER BY number DESC LIMIT 1"
        ).fetchone() or (0, None)
        upto, indexed = index.measure(connection, folder)
        [unindexed] = connection.execute(
            "SELECT count(*) FROM message WHERE number > ?", (upto,)
        ).fetchone()
    sizes = {}
    for name in (archive.FILE, f"{archive.FILE}-wal", index.FILE, f"{index.FILE}-wal"):
        with contextlib.suppress(FileNotFoundError):
            sizes[name] = (folder / name).stat().st_size
    disk = os.statvfs(folder)
    return {
        "messages": indexed + unindexed,
        "newest": newest[0],
        "newest_time": newest[1],
        "unindexed": unindexed,
        "files": sizes,
        "free": disk.f_bavail * disk.f_frsize,
    }


def growth(folder: Path, now: int) -> float | None:
    """Return by how many bytes a day the archive has grown in the last seven days, about.

    :param now: the time of day, in milliseconds.
    :return: None if all messages are younger than a day.
    :raises sqlite3.Error: if the archive can't be read.
    """
    week = 7 * 86_400_000
    with contextlib.closing(open_to_read(folder / archive.FILE)) as connection:
        first, last, before, begin = connection.execute(
            "SELECT min(number), max(number), (SELECT max(number) FROM moment WHERE time < ?), "
            "(SELECT min(time) FROM moment) FROM message",
            (now - week,),
        ).fetchone()
    if begin is None or now - begin < week / 7 or last == first:
        return None
    days = min(week, now - begin) / 86_400_000
    share = (last - max(first, before or 0)) / (last - first)
    return float((folder / archive.FILE).stat().st_size * share / days)


def count_missed(folder: Path, confirmed: Iterable[tuple[int, int]]) -> list[int]:
    """Return how many messages each of some users has not confirmed, of the ``lookup.SCAN``
    newest.

    :param confirmed: the users' numbers, each with the number of the last message confirmed.
    :raises sqlite3.Error: the archive can't be read.
    """
    with contextlib.closing(open_to_read(folder / archive.FILE)) as connection:
        cursor = connection.cursor()
        return [lookup.count_missed(cursor, user, after) for user, after in confirmed]


def describe(connection: sqlite3.Connection) -> str:
    """Describe an archive's contents: the number of messages, and the time of the newest."""
    messages, newest = connection.execute("SELECT count(*), max(time) FROM message").fetchone()
    if newest is None:
        return "no messages"
    until = datetime.datetime.fromtimestamp(newest / 1000, datetime.UTC)
    return f"{messages} messages, the newest of {until:%Y-%m-%d %H:%M:%S} UTC"


def _is_database(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"
