"""The nodes of a cluster: who is a member, as the records of the log decide.

Every node applies the same records in the same order, and so knows the same members. A member's
lease is ``LEASE`` milliseconds of the log's time without a record of that node; then any member may
ask that it be gone. This module must not know the rules of the chat, files, or a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from chat_twisted.core.commands import Options, Start
from chat_twisted.storage.records import Record, Up

LEASE = 5_000
"""Milliseconds of the log's time after which a member that says nothing may be declared gone."""

_GIVEN_AS = {
    "rooms": "--rooms",
    "address_rooms": "--address-rooms",
    "held": "--max-clients",
    "address_held": "--held",
}


class NameTaken(Exception):
    """A member that is alive has the name."""


class OtherOptions(Exception):
    """Members decide by other options."""


class Node:
    """A known node.

    :ivar incarnation: the number that it has drawn when it came up.
    :ivar batch: the number of its last batch.
    :ivar heard: the log's time of that.
    :ivar position: the position that it had applied when it proposed that.
    :ivar format: the newest version of the format that it knows.
    :ivar since: the position at which it came up.
    :ivar live: whether it is a member.
    """

    __slots__ = ("batch", "format", "heard", "incarnation", "live", "name", "position", "since")

    def __init__(
        self,
        name: str,
        incarnation: int,
        batch: int,
        heard: int,
        position: int,
        format: int,
        since: int,
        live: int = True,
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.batch = batch
        self.heard = heard
        self.position = position
        self.format = format
        self.since = since
        self.live = bool(live)

    @property
    def row(self) -> tuple[str, int, int, int, int, int, int, bool]:
        """The row of the node in the archive."""
        return (
            *(self.name, self.incarnation, self.batch, self.heard),
            *(self.position, self.format, self.since, self.live),
        )


class Verdict(NamedTuple):
    """The decision about a record.

    :ivar taken: whether its commands are applied.
    :ivar before: commands to apply before those of the record, and ``after`` after them.
    :ivar refusal: why the node does not become a member; None if it does, or did not ask.
    """

    taken: bool
    before: tuple[Start, ...] = ()
    after: tuple[Start, ...] = ()
    refusal: NameTaken | OtherOptions | None = None


_IGNORED = Verdict(taken=False)
_TAKEN = Verdict(taken=True)


class Membership:
    """The known nodes.

    :ivar nodes: the nodes by name.
    :ivar time: the newest time of the log.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.time = max((node.heard for node in self.nodes.values()), default=0)
        self._changed: set[str] = set()

    def changes(self) -> list[tuple[str, Node | None]]:
        """Return the nodes that have changed since the last call; None stands for a node that is
        not known any more.
        """
        changed, self._changed = self._changed, set()
        return [(name, self.nodes.get(name)) for name in sorted(changed)]

    @property
    def members(self) -> list[Node]:
        """The members; the one that came up first comes first."""
        live = [node for node in self.nodes.values() if node.live]
        return sorted(live, key=lambda node: (node.since, node.name))

    @property
    def format(self) -> int:
        """The newest version of the format that all members know; without members, the first one,
        so that programs of all versions agree.
        """
        return min((node.format for node in self.nodes.values() if node.live), default=1)

    @property
    def lowest(self) -> int:
        """The lowest position of all known nodes: records up to it are not needed any more."""
        return min((node.position for node in self.nodes.values()), default=0)

    def is_member(self, name: str, incarnation: int) -> bool:
        """Return whether a node is a member with this incarnation."""
        node = self.nodes.get(name)
        return node is not None and node.live and node.incarnation == incarnation

    def overdue(self, now: int) -> list[str]:
        """Return the names of the members whose lease is over at a time of the log."""
        return [node.name for node in self.members if now - node.heard >= LEASE]

    def take(self, record: Record, position: int, options: Options) -> Verdict:
        """Decide about a record.

        :param position: its position in the log.
        :param options: the options of the state.
        """
        node = self.nodes.get(record.node)
        if node is not None and node.incarnation == record.incarnation:
            if not node.live or record.number <= node.batch:
                return _IGNORED  # declared gone, or repeated
        elif record.up is None:
            return _IGNORED
        before: tuple[Start, ...] = ()
        if record.up is not None:
            refusal = self._refuse(record, record.up, options)
            if refusal is not None:
                return Verdict(taken=False, refusal=refusal)
            options = record.up.options
            before = (Start(node_number(record.node), options, 0),)
            if not self.nodes:
                # It may have the archive of a single server, with its sessions.
                before = (Start(0, options, record.up.after), *before)
            node = Node(record.node, record.incarnation, 0, 0, 0, record.up.format, position)
            self.nodes[record.node] = node
        assert node is not None, "a member"
        self.time = max(self.time, record.time)
        self._changed.add(record.node)
        node.batch, node.heard, node.position = record.number, self.time, record.position
        if not (before or record.gone or record.forget or record.down):
            return _TAKEN
        for name in record.forget:
            if (known := self.nodes.get(name)) is not None and not known.live:
                del self.nodes[name]
                self._changed.add(name)
        after = [
            Start(node_number(name), None, 0)
            for name in record.gone
            if name != record.node and self._end(name)
        ]
        if record.down:
            node.live = False
            after.append(Start(node_number(record.node), None, 0))
        return Verdict(taken=True, before=before, after=tuple(after))

    def _refuse(self, record: Record, up: Up, options: Options) -> NameTaken | OtherOptions | None:
        time = max(self.time, record.time)
        node = self.nodes.get(record.node)
        if (
            node is not None
            and node.live
            and node.incarnation != up.previous
            and time - node.heard < LEASE
        ):
            return NameTaken(f"another node is called {record.node}")
        others = [
            other.name
            for other in self.members
            if other.name != record.node and time - other.heard < LEASE
        ]
        if others and up.options != options:
            differ = [
                field
                for field, ours, theirs in zip(Options._fields, up.options, options, strict=True)
                if ours != theirs
            ]
            return OtherOptions(
                f"{', '.join(others)} decide by other options: {_as_given(options, differ)}; "
                f"this node has {_as_given(up.options, differ)}"
            )
        return None

    def _end(self, name: str) -> bool:
        """End the membership of a node if its lease is over; return whether it was ended."""
        node = self.nodes.get(name)
        if node is None or not node.live or self.time - node.heard < LEASE:
            return False
        node.live = False
        self._changed.add(name)
        return True


def _as_given(options: Options, fields: Iterable[str]) -> str:
    """Return some options as they are given to the server, so that an operator can copy them."""
    given = []
    for field in fields:
        value = getattr(options, field)
        if value is None:
            given.append("--limits off")
        elif field == "grace":
            given.append(f"--grace {value / 1000:g}")
        elif field == "guests":
            given.append(f"--guests {'yes' if value else 'no'}")
        else:
            given.append(f"{_GIVEN_AS[field]} {value}")
    return " ".join(dict.fromkeys(given))


def node_number(name: str) -> int:
    """Return the number of a node, by which the state knows its sessions. It is never 0, which
    stands for a single server.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"node").digest()
    return (int.from_bytes(digest) >> 2) + 1
