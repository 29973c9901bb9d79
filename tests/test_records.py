"""What is put into a record comes out of it, in all versions of the format."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any, get_args

from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import facts
from chat_twisted.core.message import Message
from chat_twisted.storage import records
from chat_twisted.storage.outbox import LOCAL
from chat_twisted.storage.records import Record, Up, decode, encode, encode_command, link
from tests.random_logs import make_logs

HEAD = Record("a", 1 << 61, 7, 1_800_000_000_000, 123, b"\x01\xff" * 8)

SHAPE = "c1c3125c"
"""A digest of the fields of all commands and facts. Whoever changes one makes a new version of the
format, and then changes this.
"""


BAD_OPTIONS = (
    7,
    "x",
    [1] * 7,
    [0.5, True],
    [1, 1],
    [True, True],
    [1, True, -1],
    [1, True, 1, 1, None],
)
"""Options that are none."""


def through(*commands: c.Command, version: int = records.FORMAT) -> Record:
    return decode(encode(HEAD, [encode_command(command, version) for command in commands], version))


class RecordTests(TestCase):
    def test_all_parts_come_through(self) -> None:
        record = HEAD._replace(
            up=Up(5, c.Options(guests=False, rooms=None), 1, 7),
            gone=("b",),
            forget=("d", "e"),
            down=True,
            commands=(c.Send(1, 2, "#r", "täxt\n\x07\ud800 \U0001f600", 5, None, c.ACTION, False),),
        )
        encoded = [encode_command(command) for command in record.commands]
        self.assertEqual(decode(encode(record, encoded)), record)

    def test_commands_of_all_kinds_come_through(self) -> None:
        kinds: set[type] = set()
        for (log, _), _ in make_logs(range(20), 200):
            commands = [entry.command for entry in log if type(entry.command) in records._CODES]
            kinds.update(map(type, commands))
            self.assertEqual(through(*commands).commands, tuple(commands))
        self.assertEqual(kinds, set(records._CODES))

    def test_all_commands_are_in_the_format_but_those_that_never_go_to_the_log(self) -> None:
        kinds = set(get_args(c.Command)) - {c.Start, *LOCAL}
        self.assertEqual(set(records._CODES), kinds)

    def test_the_newest_version_has_all_fields(self) -> None:
        for kind, counts in records._KINDS.values():
            self.assertEqual(counts[-1], len(kind._fields), kind.__name__)
            self.assertLessEqual(len(counts), records.FORMAT, kind.__name__)

    def test_who_changes_a_command_or_a_fact_makes_a_new_version(self) -> None:
        shapes = [(kind.__name__, kind._fields) for kind in get_args(c.Command)]
        shapes += [(kind.__name__, kind._fields) for kind in get_args(facts.Fact)]
        digest = hashlib.sha256(repr((records.FORMAT, shapes)).encode()).hexdigest()
        self.assertEqual(digest[:8], SHAPE)

    def test_what_is_no_record_is_unreadable(self) -> None:
        good: dict[str, Any] = json.loads(encode(HEAD, [encode_command(c.Sweep(1))]))
        bad = [b"", b"\xff", b"1", b"null", b"[]", b"{}", b"[" * 100_000]
        bad += [json.dumps({k: v for k, v in good.items() if k != key}).encode() for key in good]
        for key, value in [
            ("chain", "x"),
            ("commands", [[99]]),
            ("commands", 1),
            ("up", [1]),
            ("commands", [[1]]),
            ("commands", [[10, 1]]),
            *(("commands", [[31, options]]) for options in BAD_OPTIONS),
            *(("up", [1, options, 1, 0]) for options in BAD_OPTIONS),
            ("format", "x"),
        ]:
            bad.append(json.dumps({**good, key: value}).encode())
        for data in bad:
            self.assertRaises(records.Unreadable, decode, data)

    def test_random_bytes_are_unreadable_or_a_record(self) -> None:
        draw = random.Random(1)
        good = encode(HEAD, [encode_command(c.Sweep(1)), encode_command(c.Acknowledge(((1, 2),)))])
        for _ in range(2000):
            data = bytearray(good)
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            try:
                decode(bytes(data))
            except (records.Unreadable, records.TooNew):
                continue

    def test_a_newer_version_is_not_read(self) -> None:
        self.assertRaises(records.TooNew, decode, encode(HEAD, [], records.FORMAT + 1))


class ChainTests(TestCase):
    def test_it_depends_on_the_chain_before_the_position_and_the_facts(self) -> None:
        message = Message(1, 2, 3, "ann", 0, 0, "ALL", "x", None, 0, 5)
        chains = {
            link(b"", 1, ()),
            link(b"x", 1, ()),
            link(b"", 2, ()),
            link(b"", 1, (message,)),
            link(b"", 1, (message._replace(text="y"),)),
            link(b"", 1, (facts.TokenGone(1, b"x"),)),
            link(b"", 1, (facts.TokenGone(1, b"y"),)),
            link(b"", 1, (facts.AccountGone(1),)),
            link(b"", 1, (facts.RoomGone(1),)),
        }
        self.assertEqual(len(chains), 9)
        self.assertEqual(link(b"", 1, (message,)), link(b"", 1, (message,)))

    def test_it_is_the_same_whatever_characters_a_python_can_print(self) -> None:
        said = rb"(7, AwaySet(user=1, why='\u0378\U0001fae9\udc80'))"
        away = facts.AwaySet(1, "\u0378\U0001fae9\udc80")
        expected = hashlib.blake2b(said, digest_size=16, key=b"x").digest()
        self.assertEqual(link(b"x", 7, (away,)), expected)
