"""The rows that a node of a cluster has in its archive beside the chat: its position in the log,
the hash chain, and the known nodes.

They are written in the transaction of the facts that led to them. The functions take a cursor and
block. This module must not know the log, or the rules of the chat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chat_twisted.core.entries import Progress
from chat_twisted.core.facts import Fact
from chat_twisted.core.snapshot import Snapshot
from chat_twisted.storage import tables
from chat_twisted.storage.membership import Node
from chat_twisted.storage.sql import Cursor


class Replica(NamedTuple):
    """The place of an archive in a cluster.

    :ivar stream: the identity of the cluster's log.
    :ivar applied: the position up to which all records are applied.
    :ivar chain: the hash chain there.
    :ivar node: the name of the node.
    :ivar incarnation: the number of its last incarnation; 0 for none.
    :ivar nodes: the known nodes.
    """

    stream: str
    applied: int
    chain: bytes
    node: str
    incarnation: int
    nodes: tuple[Node, ...] = ()


class Step(NamedTuple):
    """One step through the log.

    :ivar before: the position before, and ``after`` the position after it.
    :ivar chain: the hash chain after it.
    :ivar incarnation: the incarnation of this node.
    """

    before: int
    after: int
    chain: bytes
    incarnation: int


class ForeignWriter(Exception):
    """Somebody else has written the archive."""


def load(cursor: Cursor, node: str) -> Replica | None:
    """Return the place of the archive; None if it belongs to a single server.

    :param node: the name of this node. If the archive is a copy of another node's, this one has no
        incarnation yet.
    """
    cursor.execute("SELECT stream, applied, chain, node, incarnation FROM cluster")
    row = cursor.fetchone()
    if row is None:
        return None
    stream, applied, chain, wrote, incarnation = row
    cursor.execute(
        "SELECT name, incarnation, batch, heard, position, format, since, live FROM node "
        "ORDER BY name"
    )
    nodes = tuple(Node(*row) for row in cursor.fetchall())
    return Replica(stream, applied, chain, node, incarnation if wrote == node else 0, nodes)


def load_all(cursor: Cursor, node: str) -> tuple[Snapshot, Replica]:
    """Return the rows of the state and the place of the archive, of one moment."""
    replica = load(cursor, node)
    assert replica is not None, "the archive of a node"
    return tables.load(cursor), replica


def join(cursor: Cursor, replica: Replica) -> None:
    """Make the archive that of a node, at the beginning of a log, or after it was copied."""
    cursor.execute("DELETE FROM cluster")
    cursor.execute("INSERT INTO cluster VALUES (?, ?, ?, ?, ?)", replica[:5])


def write(
    cursor: Cursor,
    changes: Sequence[Fact],
    progress: Progress,
    step: Step,
    nodes: Iterable[tuple[str, Node | None]],
) -> None:
    """Write the facts of some records, and the position after them. If that was done before,
    nothing is changed: a commit may succeed whose success is not known.

    :param nodes: the nodes that have changed (``Membership.changes``).
    :raises ForeignWriter: if the archive has another position than before or after the step.
    """
    cursor.execute("SELECT applied FROM cluster")
    [applied] = cursor.fetchone() or (None,)
    if applied == step.after:
        return
    if applied != step.before:
        raise ForeignWriter(f"the archive is at position {applied}, not {step.before}")
    if changes:
        tables.write(cursor, changes, progress)
    cursor.execute(
        "UPDATE cluster SET applied = ?, chain = ?, incarnation = ?",
        (step.after, step.chain, step.incarnation),
    )
    for name, node in nodes:
        if node is None:
            cursor.execute("DELETE FROM node WHERE name = ?", (name,))
        else:
            cursor.execute("INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?, ?, ?, ?, ?)", node.row)
