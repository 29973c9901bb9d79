"""Records, of which the log of a cluster consists: each is one batch of commands of one node.

A record is a JSON object, described in ``docs/cluster.rst``. The format has versions: a new kind of
command, a new field of one, and another shape of a fact are each a new version. A node writes the
newest version that all members know, and does not read a newer one than it knows. This module must
not know what a command means, who is a member, or where the log is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from chat_twisted.core import commands
from chat_twisted.core.commands import Command, Options
from chat_twisted.core.facts import Fact

FORMAT = 1
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
    31: (commands.SetOptions, (1,)),
    32: (commands.Announce, (3,)),
}
"""The kinds of commands in the log, by their codes. For each version of the format, from the first
one on: how many fields the kind has in it; 0 if it has no such kind."""


LATEST = 253_402_300_799_999
"""The latest time of a record, in milliseconds since the epoch: the end of the year 9999."""

MOST = (1 << 63) - 1
"""The highest number that an archive can store."""

MOST_ALLOWED = 1 << 53
"""The highest value of an option, so that sums with it can be stored too."""

_NODE = re.compile(r"[a-z0-9-]{1,32}")


class Unreadable(Exception):
    """A record is not one of ours. All nodes ignore it."""


class TooNew(Exception):
    """A record has a version of the format that this program does not know.

    :ivar version: that version.
    """

    def __init__(self, version: int) -> None:
        super().__init__(
            f"version {version} of the log's format; this program knows {FORMAT}: update this node"
        )
        self.version = version


class NotInFormat(Exception):
    """A command can't be written in the version of the format that the cluster uses now."""


class Up(NamedTuple):
    """A node asks to become a member.

    :ivar previous: its incarnation before, as its archive says; 0 for none. It proves that this is
        the same node, so that it need not wait for the end of its lease.
    :ivar options: the options on which decisions depend.
    :ivar format: the newest version of the format that it knows.
    :ivar after: the number after which the messages are numbered, if it is the first node of all
        (``commands.Start``).
    """

    previous: int
    options: Options
    format: int
    after: int = 0


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
    :ivar format: the version of the format in which it is written.
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
    format: int = 1


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=bytes.hex).encode


_CODES = {kind: code for code, (kind, _) in _KINDS.items()}

Shape = tuple[type, ...]
"""The types of some values."""


class _Shapes:
    """Which types the fields of a command may have.

    :ivar known: shapes that were found to be right, so that they need not be looked at again.
    :param stored: whether the fields are as in a record, where bytes are hexadecimal digits.
    """

    def __init__(self, kind: type[Any], *, stored: bool) -> None:
        hints = get_type_hints(kind)
        self._name = kind.__name__
        self._fields = [self._types(hints[name], stored) for name in kind._fields]
        self.known: set[Shape] = set()

    def _types(self, hint: Any, stored: bool) -> tuple[Any, ...]:
        types = get_args(hint) if isinstance(hint, UnionType) else (get_origin(hint) or hint,)
        return tuple(
            {bytes: str, tuple: list, Options: list}.get(each, each) if stored else each
            for each in types
        )

    def check(self, shape: Shape) -> None:
        """Check the shape of a command that is not known yet.

        :raises TypeError: if it is not right.
        """
        if len(shape) > len(self._fields) or any(
            each not in types for each, types in zip(shape, self._fields, strict=False)
        ):
            raise TypeError(f"{self._name} has fields of other types")
        self.known.add(shape)


_SHAPES = {kind: _Shapes(kind, stored=False) for kind in _CODES}
_STORED_SHAPES = {kind: _Shapes(kind, stored=True) for kind in _CODES}


def _make(kind: type[Any], shapes: _Shapes, fields: list[Any]) -> Command:
    shape = tuple(map(type, fields))
    if shape not in shapes.known:
        shapes.check(shape)
    if kind is commands.Login:
        fields[2], fields[3] = bytes.fromhex(fields[2]), bytes.fromhex(fields[3])
    elif kind is commands.Rename:
        fields[4] = bytes.fromhex(fields[4])
    elif kind is commands.Acknowledge:
        fields[0] = tuple(_pair(each) for each in fields[0])
    elif kind is commands.SetOptions:
        fields[0] = _options(fields[0])
    made: Command = kind(*fields)
    return made


def _pair(pair: list[Any]) -> tuple[int, int]:
    user, number = pair
    if type(user) is not int or type(number) is not int:
        raise TypeError("a cursor is two numbers")
    return user, number


_MAKE: dict[int, Callable[[list[Any]], Command]] = {
    code: partial(_make, kind, _STORED_SHAPES[kind]) for kind, code in _CODES.items()
}


def encode_command(command: Command, version: int = FORMAT) -> bytes:
    """Return a command as it is in a record.

    :param version: the version of the format.
    :raises NotInFormat: if that version can't say it.
    :raises TypeError: if a field has another type than it should have.
    """
    kind = type(command)
    shapes = _SHAPES[kind]
    shape = tuple(map(type, command))
    if shape not in shapes.known:
        shapes.check(shape)
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
    node, incarnation, number, time, position, chain, up, gone, forget, down, *_ = record
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
        version = _number(head["format"], 1)
        if version > FORMAT:
            raise TooNew(version)
        node, down = head["node"], head.get("down", False)
        if type(down) is not bool:
            raise TypeError("it is not true or false whether the node ends")
        return Record(
            _names([node])[0],
            _number(head["incarnation"], 1),
            _number(head["batch"], 1),
            _number(head["time"], 0, LATEST),
            _number(head["position"], 0),
            bytes.fromhex(head["chain"]),
            _up(*head["up"]) if "up" in head else None,
            _names(head["gone"]) if "gone" in head else (),
            _names(head["forget"]) if "forget" in head else (),
            down,
            tuple(_MAKE[code](fields) for code, *fields in head["commands"]),
            version,
        )
    except KeyError as error:
        raise Unreadable(f"{error} is missing, or unknown") from None
    except (ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def _number(value: object, lowest: int, highest: int = MOST) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError("a number is not one, or too high or too low")
    return value


def _names(names: list[object]) -> tuple[str, ...]:
    for name in names:
        if type(name) is not str or not _NODE.fullmatch(name):
            raise ValueError("it is not the name of a node")
    return tuple(map(str, names))


def _up(previous: object, options: list[Any], known: object, after: object) -> Up:
    return Up(
        _number(previous, 0),
        _options(options),
        _number(known, 1),
        _number(after, 0, MOST_ALLOWED),
    )


def _options(values: list[Any]) -> Options:
    types = get_type_hints(Options)
    decide = Options(*values)
    for name, value in zip(Options._fields, decide, strict=True):
        if types[name] is bool:
            if type(value) is not bool:
                raise TypeError("an option is not true or false")
        elif value is not None or types[name] is int:
            _number(value, 0, MOST_ALLOWED)
    return decide


def link(chain: bytes, position: int, facts: Iterable[Fact]) -> bytes:
    """Return the hash chain after a record, in 16 bytes.

    :param chain: the chain before it.
    :param facts: all facts that the record has led to.
    """
    said = _said((position, *facts))
    return hashlib.blake2b(said, digest_size=16, key=chain).digest()


def first_link(rows: object) -> bytes:
    """Return the chain before the first record, for an archive that is not empty.

    :param rows: all rows of its state (``snapshot.dump``).
    """
    return hashlib.blake2b(_said(rows), digest_size=16).digest()


def _said(values: object) -> bytes:
    """Return values in a form that is the same on all nodes: ``repr`` would depend on which
    characters their version of Python can print.
    """
    return ascii(values).encode()
