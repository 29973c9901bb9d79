"""Records, of which the log of a cluster consists: each is one batch of commands of one node.

A record is a JSON object, described in ``docs/cluster.rst``. The format has versions: a new kind of
command, a new field of one, and another shape of a fact are each a new version. A node writes the
newest version that all members know, and does not read a newer one than it knows. This module must
not know what a command means, who is a member, or where the log is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from chat_twisted.core import commands
from chat_twisted.core.commands import Command, Options
from chat_twisted.core.facts import Fact

FORMAT = 2
"""The newest version of the format that this program knows."""

_KINDS: dict[int, tuple[type[Any], tuple[int, ...]]] = {
    1: (commands.Login, (14,)),
    2: (commands.Arrive, (2,)),
    3: (commands.Detach, (4,)),
    4: (commands.Rename, (5,)),
    5: (commands.SetAway, (3,)),
    6: (commands.SetRealName, (3,)),
    7: (commands.SetBot, (3,)),
    8: (commands.Acknowledge, (1,)),
    9: (commands.MarkRead, (5,)),
    10: (commands.Send, (8,)),
    11: (commands.Signal, (4,)),
    12: (commands.Delete, (10,)),
    13: (commands.Join, (5,)),
    14: (commands.Part, (4,)),
    15: (commands.RemoveMember, (5,)),
    16: (commands.Invite, (4,)),
    17: (commands.SetTopic, (5,)),
    18: (commands.SetRank, (6,)),
    19: (commands.SetMode, (5,)),
    20: (commands.BanFromRoom, (7,)),
    21: (commands.MakeAccount, (8,)),
    22: (commands.DropAccount, (4,)),
    23: (commands.AddKey, (5,)),
    24: (commands.RemoveKey, (4,)),
    25: (commands.SetPassword, (4,)),
    26: (commands.SetOperator, (4,)),
    27: (commands.Disconnect, (4,)),
    28: (commands.Impose, (6,)),
    29: (commands.Lift, (4,)),
    30: (commands.Sweep, (1,)),
    31: (commands.SetOptions, (0, 1)),
}
"""The kinds of commands in the log, by their codes. For each version of the format, from the first
one on: how many fields the kind has in it; 0 if it has no such kind."""


class Unreadable(Exception):
    """A record is not one of ours. All nodes ignore it."""


class TooNew(Exception):
    """A record has a version of the format that this program does not know."""


class NotInFormat(Exception):
    """A command can't be written in the version of the format that the cluster uses now."""


class Up(NamedTuple):
    """A node asks to become a member.

    :ivar previous: its incarnation before, as its archive says; 0 for none. It proves that this is
        the same node, so that it need not wait for the end of its lease.
    :ivar options: the options on which decisions depend.
    :ivar format: the newest version of the format that it knows.
    """

    previous: int
    options: Options
    format: int


class Record(NamedTuple):
    """One record.

    :ivar node: the name of the node.
    :ivar incarnation: a number that it has drawn when it came up.
    :ivar number: the number of the batch; a later one of the same incarnation has a higher one.
    :ivar time: the log's time when it was proposed, in milliseconds.
    :ivar position: the position that the node had applied then, and ``chain`` the hash chain there.
    :ivar up: the node asks to become a member.
    :ivar gone: members that the node has not heard of for too long.
    :ivar forget: nodes that an operator removes from the known ones.
    :ivar down: the node ends.
    :ivar commands: the commands, in the order of their proposals.
    """

    node: str
    incarnation: int
    number: int
    time: int
    position: int
    chain: bytes
    up: Up | None = None
    gone: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    down: bool = False
    commands: tuple[Command, ...] = ()


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=bytes.hex).encode


def _make(kind: Callable[..., Command], fields: list[Any]) -> Command:
    return kind(*fields)


def _login(fields: list[Any]) -> Command:
    fields[2], fields[3] = bytes.fromhex(fields[2]), bytes.fromhex(fields[3])
    return commands.Login(*fields)


def _rename(fields: list[Any]) -> Command:
    fields[4] = bytes.fromhex(fields[4])
    return commands.Rename(*fields)


def _acknowledge(fields: list[Any]) -> Command:
    return commands.Acknowledge(tuple((user, number) for user, number in fields[0]))


def _set_options(fields: list[Any]) -> Command:
    return commands.SetOptions(Options(*fields[0]))


_CODES = {kind: code for code, (kind, _) in _KINDS.items()}
_MAKE: dict[int, Callable[[list[Any]], Command]] = {
    **{code: partial(_make, kind) for code, (kind, _) in _KINDS.items()},
    _CODES[commands.Login]: _login,
    _CODES[commands.Rename]: _rename,
    _CODES[commands.Acknowledge]: _acknowledge,
    _CODES[commands.SetOptions]: _set_options,
}


def encode_command(command: Command, version: int = FORMAT) -> bytes:
    """Return a command as it is in a record.

    :param version: the version of the format.
    :raises NotInFormat: if that version can't say it.
    """
    kind = type(command)
    code = _CODES[kind]
    counts = _KINDS[code][1]
    # A kind whose last version is older than ``version`` has not changed since.
    count = counts[min(version, len(counts)) - 1]
    fields = tuple(command)
    if count < len(fields):
        if not count or fields[count:] != tuple(
            kind._field_defaults[name] for name in kind._fields[count:]
        ):
            raise NotInFormat(f"a member does not know {kind.__name__} as it is here")
        fields = fields[:count]
    return _encode([code, *fields]).encode("utf-8", "surrogatepass")


def encode(record: Record, encoded: Sequence[bytes], version: int = FORMAT) -> bytes:
    """Return the bytes of a record.

    :param record: the record, whose ``commands`` are not looked at.
    :param encoded: its commands, each as ``encode_command`` returns it.
    :param version: the version of the format.
    """
    node, incarnation, number, time, position, chain, up, gone, forget, down, _ = record
    head: dict[str, Any] = {
        "format": version,
        "node": node,
        "incarnation": incarnation,
        "batch": number,
        "time": time,
        "position": position,
        "chain": chain,
    }
    if up is not None:
        head["up"] = up
    if gone:
        head["gone"] = gone
    if forget:
        head["forget"] = forget
    if down:
        head["down"] = True
    return b'%s,"commands":[%s]}' % (_encode(head)[:-1].encode(), b",".join(encoded))


def decode(data: bytes) -> Record:
    """Return a record.

    :raises TooNew: if its format is newer than this program.
    :raises Unreadable: if it is no record.
    """
    try:
        head = json.loads(data.decode("utf-8", "surrogatepass"))
        version = head["format"]
        if version > FORMAT:
            raise TooNew(f"version {version} of the log's format; this program knows {FORMAT}")
        up = None
        if "up" in head:
            previous, options, known = head["up"]
            up = Up(previous, Options(*options), known)
        return Record(
            head["node"],
            head["incarnation"],
            head["batch"],
            head["time"],
            head["position"],
            bytes.fromhex(head["chain"]),
            up,
            tuple(head.get("gone", ())),
            tuple(head.get("forget", ())),
            head.get("down", False),
            tuple(_MAKE[code](fields) for code, *fields in head["commands"]),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def link(chain: bytes, position: int, facts: Iterable[Fact]) -> bytes:
    """Return the hash chain after a record, in 16 bytes.

    :param chain: the chain before it.
    :param facts: all facts that the record has led to.
    """
    done = tuple(facts)
    kinds = [type(fact).__name__ for fact in done]
    said = _encode([position, kinds, done]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=16, key=chain).digest()


def first_link(rows: object) -> bytes:
    """Return the chain before the first record, for an archive that is not empty.

    :param rows: all rows of its state (``snapshot.dump``).
    """
    return hashlib.blake2b(repr(rows).encode("utf-8", "surrogatepass"), digest_size=16).digest()
