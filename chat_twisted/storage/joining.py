"""Whether a state folder can follow the log of a cluster, and whether it first needs a copy.

This runs before the server opens the archive, so there is no reactor yet: ``prepare`` runs an
asyncio loop meanwhile. This module must not know which program stores the log, or how files are
copied (``copying``).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from chat_twisted.files import Say
from chat_twisted.storage import archive, clustered, upgrade
from chat_twisted.storage.copying import Peer, Sleep, fetch
from chat_twisted.storage.log import Bounds, LogBroken, Unknown
from chat_twisted.storage.upgrade import ArchiveError

LOG_AFTER = 2.0
"""Seconds between two questions to a log that does not answer."""


class ClosingPeer(Peer, Protocol):
    """A peer with a connection."""

    async def close(self) -> None:
        """Close the connection."""


class Found(NamedTuple):
    """What a state folder has.

    :ivar place: the archive's place in a cluster; None if it has none.
    :ivar version: the version of the archive's state; 0 if nothing was decided yet.
    """

    place: clustered.Node | None
    version: int


def prepare(folder: Path, make_peer: Callable[[Found], ClosingPeer], say: Say) -> None:
    """Copy the files of another node into a state folder, if it needs them for this cluster. Blocks
    until that is done.

    :param folder: as ``files.make_private_folder`` returns it; this process has locked it.
    :param make_peer: called in the asyncio loop with what the folder has.
    :param say: reports one line to the operator.
    :raises ArchiveError: if the folder can't be used in this cluster.
    """

    found = look(folder)

    async def run() -> None:
        peer = make_peer(found)
        try:
            await complete(peer, folder, found, say)
        finally:
            await peer.close()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        raise ArchiveError(f"{folder}: interrupted before it was ready for the cluster") from None


async def complete(
    peer: Peer, folder: Path, found: Found, say: Say, sleep: Sleep = asyncio.sleep
) -> None:
    """Copy the files of another node into a state folder, if it needs them for this cluster.

    A folder that was used in a cluster before does not wait for the log.

    :param folder: as ``files.make_private_folder`` returns it; this process has locked it.
    :param found: what the folder has.
    :param say: as in ``fetch``.
    :raises ArchiveError: if the folder can't be used in this cluster.
    """
    said = ""
    while True:
        try:
            bounds = await peer.bounds()
            break
        except LogBroken as error:
            raise ArchiveError(f"--cluster: {error}; docs/cluster.rst says more") from None
        except Unknown as error:
            if found.place is not None:
                return  # the ledger follows the log as soon as it answers
            if said != (said := str(error)):
                say(f"waiting for the cluster's log: {error}")
        await sleep(LOG_AFTER)
    if needs_copy(bounds, found.place, found.version, folder):
        await fetch(peer, folder, say, sleep)


def look(folder: Path) -> Found:
    """Find out what a state folder has.

    :raises ArchiveError: if its archive can't be read.
    """
    path = folder / archive.FILE
    if not path.exists():
        log = folder / f"{archive.FILE}-wal"
        if log.exists() and log.stat().st_size:
            raise ArchiveError(f"{log}: it is of an archive that is not here: move it away too")
        return Found(None, 0)
    try:
        with contextlib.closing(archive.connect(path)) as connection:
            place = clustered.find_node(connection)
            [schema] = connection.execute("PRAGMA user_version").fetchone()
            if schema < upgrade.FIRST_WITH_VERSION:
                return Found(place, schema)  # of an old server, which has used it
            [version] = connection.execute("SELECT version FROM progress").fetchone()
            return Found(place, version)
    except sqlite3.Error as error:
        raise ArchiveError(f"{path}: {error}") from None


def needs_copy(bounds: Bounds, place: clustered.Node | None, version: int, folder: Path) -> bool:
    """Return whether a state folder needs the archive of another node before it can follow a log.

    An archive that was not in a cluster before can only begin a cluster: the log must be empty.

    :param place, version: see ``Found``.
    :param folder: for the messages.
    :raises ArchiveError: if it has an archive that can't follow this log.
    """
    path = folder / archive.FILE
    instead = f"move {path} away, and start again: then the archive of another node is copied"
    if place is None:
        if version and bounds.last:
            raise ArchiveError(
                f"{path}: the archive of a single server can't join a cluster that has its own "
                f"messages: {instead}"
            )
        return bounds.first > 1
    if place.stream != bounds.identity:
        raise ArchiveError(
            f"{path}: it belongs to another cluster, or the cluster's log was deleted and made "
            f"again: check --cluster; docs/cluster.rst says more"
        )
    if place.applied > bounds.last:
        raise ArchiveError(
            f"{path}: it is at position {place.applied}, and the cluster's log ends at "
            f"{bounds.last}: the log has lost records; docs/cluster.rst says more"
        )
    if place.applied + 1 < bounds.first:
        raise ArchiveError(
            f"{path}: it is at position {place.applied}, and the cluster's log begins at "
            f"{bounds.first}: {instead}"
        )
    return False
