"""The state decides as one that was loaded from its rows does, whatever was asked before."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core.changes import APPLY
from chat_twisted.core.entries import Entry, Outcome
from chat_twisted.core.errors import ChatError
from chat_twisted.core.snapshot import Snapshot, dump, load
from chat_twisted.core.state import _RULES, State
from tests.random_logs import Maker, everything, lower_bounds, make_logs, plain

ROOT = Path(__file__).resolve().parents[1]

Change = Callable[[Snapshot], Snapshot]


def restarted(log: Sequence[Entry]) -> Iterator[Any]:
    """Apply a log, with a new state from the rows of the last one before each entry; yield what
    came of the entries, and all that the last state holds.
    """
    state = State()
    for entry in log:
        state = load(dump(state))
        yield plain(state.apply(entry))
    yield everything(state)


def altered(log: Sequence[Entry], change: Change) -> Iterator[Any]:
    """Apply a log; before each entry whose rows ``change`` alters, begin with a new state from the
    altered ones. Yield what came of the entries.

    Rows that are not altered need no new state: ``RandomLogTests`` shows that it decides the same.
    """
    state = State()
    for entry in log:
        rows = dump(state)
        changed = change(rows)
        if changed != rows:
            state = load(changed)
        yield plain(state.apply(entry))


class RandomLogTests(TestCase):
    def setUp(self) -> None:
        lower_bounds(self)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.integers(0, 2**32), st.integers(1, 200))
    def test_a_state_that_was_loaded_decides_as_the_one_that_ended(
        self, seed: int, length: int
    ) -> None:
        maker = Maker(random.Random(seed))
        log, outcomes = maker.make(length)
        expected = [*map(plain, outcomes), everything(maker.state)]
        self.assertEqual([*restarted(log)], expected)

    @settings(deadline=None, max_examples=40, derandomize=True)
    @given(st.integers(0, 2**32))
    def test_refused_and_duplicate_entries_change_nothing(self, seed: int) -> None:
        log, _ = Maker(random.Random(seed)).make(80)
        state = State()
        for entry in log:
            before = dump(state)
            outcome = state.apply(entry)
            if outcome.facts:
                self.assertEqual(state.version, before.progress.version + 1)
            else:
                self.assertEqual(dump(state), before)

    @settings(deadline=None, max_examples=40, derandomize=True)
    @given(st.integers(0, 2**32))
    def test_facts_alone_lead_to_the_same_state(self, seed: int) -> None:
        maker = Maker(random.Random(seed))
        log, outcomes = maker.make(120)
        state = State()
        for entry, outcome in zip(log, outcomes, strict=True):
            replay(state, entry, outcome)
        self.assertEqual(dump(state), dump(maker.state))

    def test_commands_of_all_kinds_are_accepted_and_most_are_refused_too(self) -> None:
        accepted: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for (log, outcomes), _ in make_logs(range(40), 200):
            for entry, outcome in zip(log, outcomes, strict=True):
                name = type(entry.command).__name__
                accepted[name] += bool(outcome.facts)
                refused[name] += isinstance(outcome.result, ChatError)
        kinds = {rule.__name__ for rule in _RULES}
        self.assertEqual(
            {name for name in accepted if accepted[name]},
            kinds - {"Turn", "DuplicateQuery", "Signal", "Announce"},
        )
        never = {"Start", "SetOptions", "Detach", "Acknowledge", "Sweep", "Turn", "DuplicateQuery"}
        self.assertEqual({name for name in refused if refused[name]}, kinds - never)

    def test_the_order_of_hashes_decides_nothing(self) -> None:
        found = {self.run_logs(seed) for seed in ("0", "1", "4242")}
        self.assertEqual(len(found), 1)

    def run_logs(self, seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(Path(__file__).with_name("random_logs.py"))]
        return subprocess.run(
            command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout


def replay(state: State, entry: Entry, outcome: Outcome) -> None:
    for fact in outcome.facts:
        APPLY[type(fact)](state, fact)
    if outcome.facts:
        state.time = max(state.time, entry.time)
        state.version += 1


def without(table: str) -> Change:
    return lambda snapshot: snapshot._replace(**{table: type(getattr(snapshot, table))()})


def without_progress(field: str) -> Change:
    return lambda snapshot: snapshot._replace(progress=snapshot.progress._replace(**{field: 0}))


def with_option(field: str, value: Any) -> Change:
    return lambda snapshot: snapshot._replace(options=snapshot.options._replace(**{field: value}))


def reversed_rows(table: str) -> Change:
    return lambda snapshot: snapshot._replace(**{table: getattr(snapshot, table)[::-1]})


def with_column(table: str, at: int, value: Any) -> Change:
    def change(snapshot: Snapshot) -> Snapshot:
        rows = [(*row[:at], value, *row[at + 1 :]) for row in getattr(snapshot, table)]
        return snapshot._replace(**{table: rows})

    return change


class ForgottenTests(TestCase):
    """Each thing that the state must not forget is missed by the logs above if it is forgotten."""

    def setUp(self) -> None:
        lower_bounds(self)

    @staticmethod
    @functools.cache
    def make(seed: int) -> tuple[list[Entry], list[Any]]:
        log, outcomes = Maker(random.Random(seed)).make(150)
        return log, [*map(plain, outcomes)]

    def check(self, change: Change) -> None:
        for seed in range(200):
            log, outcomes = self.make(seed)
            try:
                pairs = zip(outcomes, altered(log, change), strict=True)
                if any(expected != found for expected, found in pairs):
                    return
            except (KeyError, AssertionError):  # what refers to it can't be loaded
                return
        self.fail("it makes no difference")

    def test_tables(self) -> None:
        tables = set(Snapshot._fields) - {"progress", "options"}
        for table in sorted(tables):
            with self.subTest(table=table):
                self.check(without(table))

    def test_options(self) -> None:
        for field, value in c.Options()._asdict().items():
            with self.subTest(field=field):
                self.check(with_option(field, value))

    def test_version_time_and_number(self) -> None:
        for field in ("version", "time", "number"):
            with self.subTest(field=field):
                self.check(without_progress(field))

    def test_orders(self) -> None:
        for table in ("users", "tokens", "sessions", "members", "holds", "sent"):
            with self.subTest(table=table):
                self.check(reversed_rows(table))

    def test_whether_and_until_when_a_user_is_there(self) -> None:
        for table, at, value in (
            ("users", 2, True),  # kept
            ("users", 6, 0),  # the epoch of the last login
            ("sessions", 6, True),  # present
            ("sessions", 2, 0),  # the node
            ("sessions", 3, ""),  # the host
            ("sessions", 5, ""),  # the proof
            ("tokens", 2, ""),
            ("holds", 1, 0),  # until when
            ("holds", 2, ""),  # for which address
            ("users", 9, ""),  # the real name
            ("users", 10, False),  # whether it is a program
            ("rooms", 8, False),  # the modes
            ("rooms", 9, False),
            ("rooms", 2, ""),  # where its maker came from
            ("members", 2, 0),  # the rank
        ):
            with self.subTest(table=table, at=at):
                self.check(with_column(table, at, value))
