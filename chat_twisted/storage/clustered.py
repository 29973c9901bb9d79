"""Whether an archive belongs to a node of a cluster.

The archive of a node has one row in the table ``cluster``; the archive of a single server has none.
Only the log of the cluster may change a node's archive, so the other users of the file ask here.
This module must not know the log, or what the node's rows are for.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from chat_twisted.storage.sql import Cursor
from chat_twisted.storage.upgrade import ArchiveError

LEAVE = "python -m chat_twisted.admin cluster leave"


class Node(NamedTuple):
    """The node that an archive belongs to.

    :ivar name: its name (``--node``).
    :ivar incarnation: the number of its last start.
    :ivar stream: the identity of the log's stream.
    :ivar applied: the position in the log up to which the archive has all records.
    """

    name: str
    incarnation: int
    stream: str
    applied: int

    def refuse_start(self, path: Path) -> ArchiveError:
        """Return the error for a start without ``--cluster``."""
        return ArchiveError(
            f"{path}: it belongs to node {self.name} of a cluster: start it with --cluster and "
            f'--node {self.name}, or run "{LEAVE}" to make it a single server\'s archive'
        )

    def refuse_change(self, path: Path) -> ArchiveError:
        """Return the error for a change while the node does not run."""
        return ArchiveError(
            f"{path}: it belongs to node {self.name} of a cluster, and only the cluster's log may "
            "change it: start the node, or run the command on the machine of a node that runs"
        )


def find_node(connection: sqlite3.Connection | Cursor) -> Node | None:
    """Return the node that an archive belongs to, or None.

    :param connection: an archive or a backup, of any version.
    :raises sqlite3.Error: if it can't be read.
    """
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'cluster'").fetchone()
    if found is None:
        return None
    found = connection.execute("SELECT node, incarnation, stream, applied FROM cluster").fetchone()
    return None if found is None else Node._make(found)


def forget_incarnation(connection: sqlite3.Connection) -> None:
    """Make a copy of an archive one that was not started yet. Else a node that starts with it could
    prove to be the one that wrote it, and take its place while that one runs.

    :param connection: an archive or a backup, of any version.
    """
    if find_node(connection) is not None:
        connection.execute("UPDATE cluster SET incarnation = 0")


def remove_node(cursor: Cursor) -> None:
    """Make the archive, which has the newest schema, a single server's."""
    cursor.execute("DELETE FROM cluster")
    cursor.execute("DELETE FROM node")
