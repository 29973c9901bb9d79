"""Compares what clients have sent with what clients and archives have: lost, doubled, out of order.

It knows neither connections nor processes, so it can be tested with wrong records.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

LOCAL_TABLES = frozenset({"moment", "deletion"})
"""Tables of an archive that each node fills by its own clock, or empties at its own pace."""

LOCAL_COLUMNS = {
    "progress": {"number", "time", "stamp"},
    "cluster": {"node", "incarnation"},
    "erasure": {"done"},
}
"""Columns, by table, whose values are each node's own."""


def digest(text: str) -> bytes:
    """Return a short key for a text, because millions of texts would not fit into memory."""
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


class Said(NamedTuple):
    """A message that was answered by SENT."""

    number: int
    sender: str
    to: str


class Listener(Protocol):
    """A client, and what it has received. Texts are given by their digests."""

    name: str
    rooms: set[str]
    got: Counter[bytes]
    number_of: dict[bytes, int]
    numbers: list[int]


class Snapshot(NamedTuple):
    """The rows of an archive at one moment.

    :ivar applied: the position in the log; 0 for a single server.
    :ivar chain: the digest of everything up to there.
    :ivar tables: the rows by table, without what is a node's own.
    """

    applied: int
    chain: bytes
    tables: dict[str, list[tuple[object, ...]]]


@dataclass
class Findings:
    """How many faults of each kind were found.

    :ivar faults: describes those of other kinds, one by one.
    :ivar details: says more about those that are counted.
    """

    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    refused_found: int = 0
    archives_differ: int = 0
    faults: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list, compare=False)

    def check_streams(self, users: Sequence[Listener], sent: Mapping[bytes, Said]) -> None:
        """Compare what the clients have received with what was sent.

        Every party must have each message once, with the number of its SENT, and in the order of
        the numbers; nobody else may have it.
        """
        for user in users:
            if user.numbers != sorted(set(user.numbers)):
                self.out_of_order += 1
                self.details.append(f"{user.name} did not get the messages in their order")
            for text, (number, sender, to) in sent.items():
                count = user.got[text]
                self.doubled += count > 1
                if sender != user.name and to != "ALL" and to != user.name and to not in user.rooms:
                    if count:
                        self.faults.append(f"{user.name} got {number}, which was for {to}")
                    continue
                if sender != user.name and not count:
                    self.lost += 1
                    self.details.append(f"{user.name} has not got {number}")
                if count and user.number_of[text] != number:
                    self.faults.append(f"{user.name} had another number for {number}")

    def check_senders(self, orders: Mapping[str, Sequence[int]]) -> None:
        """Check that the messages of each user have increasing numbers.

        :param orders: for each user the numbers of messages, in the order in which they were said.
        """
        for user, numbers in orders.items():
            before = 0
            for number in numbers:
                if number < before:
                    self.out_of_order += 1
                    self.details.append(f"{number} of {user} was said after {before}")
                before = number

    def check_refused(self, refused: Iterable[bytes], *places: Iterable[bytes]) -> None:
        """Check that no message that was refused is found.

        :param places: the texts that clients or archives have.
        """
        found = frozenset(refused).intersection(*[frozenset().union(*places)])
        self.refused_found += len(found)
        self.details += [f"{text.hex()} was refused, and is there" for text in found]

    def check_messages(
        self, stored: Iterable[tuple[int, str]], sent: Mapping[bytes, Said]
    ) -> Counter[bytes]:
        """Compare the numbers and texts in an archive with what was sent; return its texts."""
        count: Counter[bytes] = Counter()
        for number, text in stored:
            key = digest(text)
            count[key] += 1
            if key in sent and sent[key].number != number:
                self.faults.append(f"{sent[key].number} is stored as {number}")
        missing = [said.number for key, said in sent.items() if not count[key]]
        self.lost += len(missing)
        self.details += [f"{number} is not stored" for number in missing]
        self.doubled += sum(times > 1 for times in count.values())
        return +count

    def check_equal(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Compare the archives of all nodes at one position.

        :param snapshots: one for each node, by its name.
        """
        (first, its), *others = snapshots.items()
        for node, snapshot in others:
            differ = [
                table
                for table in sorted(its.tables.keys() | snapshot.tables.keys())
                if its.tables.get(table) != snapshot.tables.get(table)
            ]
            if its.chain != snapshot.chain:
                differ.append("chain")
            if its.applied != snapshot.applied:
                differ.append("position")
            if differ:
                self.archives_differ += 1
                self.faults.append(f"the archives of {first} and {node} differ in {differ}")
                self.faults += [
                    _difference(table, its.tables.get(table, []), snapshot.tables.get(table, []))
                    for table in differ
                    if table in its.tables or table in snapshot.tables
                ]


def _difference(table: str, one: list[tuple[object, ...]], other: list[tuple[object, ...]]) -> str:
    left, right = Counter(map(repr, one)), Counter(map(repr, other))
    only = [f"{list((a - b).elements())[:3]}" for a, b in ((left, right), (right, left))]
    return f"{table}: {only[0]} against {only[1]}"[:1000]


def same_position(archives: Mapping[str, Path]) -> dict[str, Snapshot] | None:
    """Read the archives of running nodes, if all are at the same position in the log.

    :param archives: the files, by the names of their nodes.
    :return: None if they are not.
    """
    opened = {node: _open(path) for node, path in archives.items()}
    try:
        for database in opened.values():
            database.execute("BEGIN")  # from its first query on it reads one state of the file
        found = {node: _position(database) for node, database in opened.items()}
        if len({applied for applied, _ in found.values()}) > 1:
            return None
        return {
            node: Snapshot(*found[node], _tables(database)) for node, database in opened.items()
        }
    finally:
        for database in opened.values():
            database.close()


def positions(archives: Mapping[str, Path]) -> dict[str, int]:
    """Read the position of each node."""
    found = {}
    for node, path in archives.items():
        with closing(_open(path)) as database:
            found[node] = _position(database)[0]
    return found


def messages(archive: Path) -> list[tuple[int, str]]:
    """Read the numbers and texts of all messages."""
    with closing(_open(archive)) as database:
        return database.execute("SELECT number, text FROM message ORDER BY number").fetchall()


def clock_ahead(archive: Path) -> float:
    """Return by how many seconds the log's time was ahead of the time of day at last.

    A message that had to wait has a later time in the log, so this is the minimum of several.
    """
    with closing(_open(archive)) as database:
        last = "SELECT logged - time AS ahead FROM message ORDER BY number DESC LIMIT 20"
        [ahead] = database.execute(f"SELECT min(ahead) FROM ({last})").fetchone()
        return (ahead or 0) / 1000


def _open(archive: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{archive}?mode=ro", uri=True, isolation_level=None)


def _position(database: sqlite3.Connection) -> tuple[int, bytes]:
    there = "SELECT 1 FROM sqlite_schema WHERE name = 'cluster'"
    if not database.execute(there).fetchone():
        return 0, b""
    row = database.execute("SELECT applied, chain FROM cluster").fetchone()
    return row or (0, b"")


def _tables(database: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Read all rows that must be equal on all nodes."""
    names = database.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    )
    tables = {}
    for (table,) in names.fetchall():
        if table in LOCAL_TABLES:
            continue
        columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        shared = [name for name in columns if name not in LOCAL_COLUMNS.get(table, ())]
        listed = ", ".join(f'"{name}"' for name in shared)
        rows = database.execute(f'SELECT {listed} FROM "{table}"').fetchall()
        tables[table] = sorted(rows, key=repr)
    return tables
