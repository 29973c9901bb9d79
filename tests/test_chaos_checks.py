"""The checks of the chaos tests find each fault that is planted."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.end_to_end import chaos_checks
from tests.end_to_end.chaos_checks import Findings, Said, digest


class Listener:
    """A user who has received texts with the numbers 1, 2, 3... or those given."""

    def __init__(self, name: str, *texts: str, numbers: tuple[int, ...] = ()) -> None:
        self.name = name
        self.rooms = {"#a"}
        self.numbers = list(numbers or range(1, len(texts) + 1))
        self.got = Counter(map(digest, texts))
        self.number_of = dict(zip(map(digest, texts), self.numbers, strict=True))


SENT = {
    digest("one"): Said(1, "ann", "ALL"),
    digest("two"): Said(2, "ann", "bob"),
    digest("three"): Said(3, "ann", "#a"),
}


class StreamTests(TestCase):
    def check(self, bob: Listener, **expected: int) -> list[str]:
        """Compare; return the descriptions of other faults."""
        findings = Findings()
        findings.check_streams([Listener("ann"), bob], SENT)
        kinds = ("lost", "doubled", "out_of_order")
        found = {kind: getattr(findings, kind) for kind in kinds if getattr(findings, kind)}
        self.assertEqual(found, expected)
        return findings.faults

    def test_complete_streams_have_no_fault(self) -> None:
        self.assertEqual(self.check(Listener("bob", "one", "two", "three")), [])

    def test_a_lost_message_is_found(self) -> None:
        self.check(Listener("bob", "one", "three", numbers=(1, 3)), lost=1)

    def test_a_doubled_message_is_found(self) -> None:
        listener = Listener("bob", "one", "two", "three", "three", numbers=(1, 2, 3, 3))
        self.check(listener, doubled=1, out_of_order=1)

    def test_a_message_under_two_numbers_is_doubled_and_one_of_them_is_wrong(self) -> None:
        listener = Listener("bob", "one", "two", "three", "three", numbers=(1, 2, 3, 4))
        self.assertIn("another number", self.check(listener, doubled=1)[0])

    def test_swapped_messages_are_found(self) -> None:
        self.check(Listener("bob", "one", "three", "two", numbers=(1, 3, 2)), out_of_order=1)

    def test_a_message_that_was_for_others_is_found(self) -> None:
        findings = Findings()
        eve = Listener("eve", "one", "two", "three")
        findings.check_streams([eve], SENT)
        self.assertEqual(findings.faults, ["eve got 2, which was for bob"])

    def test_messages_of_one_sender_in_the_wrong_order_are_found(self) -> None:
        findings = Findings()
        findings.check_senders({"ann": [1, 2, 3], "bob": [5, 4]})
        self.assertEqual(findings.out_of_order, 1)

    def test_a_refused_message_that_somebody_has_is_found(self) -> None:
        findings = Findings()
        findings.check_refused([digest("no"), digest("never")], [digest("one")], [digest("no")])
        self.assertEqual(findings.refused_found, 1)


class ArchiveTests(TestCase):
    def archive(
        self, *texts: str, chain: bytes = b"chain", applied: int = 7, logged: int = 0
    ) -> Path:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "chat.sqlite"
        with closing(sqlite3.connect(path)) as database:
            database.execute(
                "CREATE TABLE message "
                "(number INTEGER PRIMARY KEY, text TEXT, time INTEGER DEFAULT 0, logged INTEGER)"
            )
            database.execute("CREATE TABLE moment (number INTEGER PRIMARY KEY, time INTEGER)")
            database.execute(
                "CREATE TABLE progress (number INTEGER, time INTEGER, version INTEGER)"
            )
            database.execute("CREATE TABLE cluster (applied INTEGER, chain BLOB, node TEXT)")
            database.executemany(
                "INSERT INTO message (number, text, logged) VALUES (?, ?, ?)",
                [(number, text, logged) for number, text in enumerate(texts, 1)],
            )
            # What may differ: these values are this node's own.
            database.execute("INSERT INTO moment VALUES (1, random())")
            database.execute("INSERT INTO progress VALUES (random(), random(), 3)")
            database.execute("INSERT INTO cluster VALUES (?, ?, random())", (applied, chain))
            database.commit()
        return path

    def compare(self, one: Path, other: Path) -> Findings:
        snapshots = chaos_checks.same_position({"a": one, "b": other})
        assert snapshots is not None
        findings = Findings()
        findings.check_equal(snapshots)
        return findings

    def check_messages(self, *texts: str) -> Findings:
        findings = Findings()
        findings.check_messages(chaos_checks.messages(self.archive(*texts)), SENT)
        return findings

    def test_archives_with_the_same_rows_are_equal(self) -> None:
        self.assertEqual(self.compare(self.archive("x"), self.archive("x")), Findings())

    def test_a_row_that_differs_is_found(self) -> None:
        findings = self.compare(self.archive("x", "y"), self.archive("x", "z"))
        self.assertEqual(findings.archives_differ, 1)
        self.assertIn("message: [\"(2, 'y', 0, 0)\"] against [\"(2, 'z', 0, 0)\"]", findings.faults)

    def test_a_chain_that_differs_is_found(self) -> None:
        findings = self.compare(self.archive("x"), self.archive("x", chain=b"other"))
        self.assertEqual(findings.archives_differ, 1)
        self.assertIn("['cluster', 'chain']", findings.faults[0])

    def test_archives_at_different_positions_are_not_compared(self) -> None:
        archives = {"a": self.archive("x"), "b": self.archive("x", "y", applied=8)}
        self.assertIsNone(chaos_checks.same_position(archives))
        self.assertEqual(chaos_checks.positions(archives), {"a": 7, "b": 8})

    def test_a_complete_archive_has_no_fault(self) -> None:
        self.assertEqual(self.check_messages("one", "two", "three"), Findings())

    def test_a_message_that_is_not_stored_is_found(self) -> None:
        self.assertEqual(self.check_messages("one", "two").lost, 1)

    def test_a_message_that_is_stored_twice_is_found(self) -> None:
        self.assertEqual(self.check_messages("one", "two", "three", "one").doubled, 1)

    def test_a_message_that_is_stored_under_another_number_is_found(self) -> None:
        findings = self.check_messages("two", "one", "three")
        self.assertEqual(findings.faults, ["2 is stored as 1", "1 is stored as 2"])

    def test_a_clock_that_is_ahead_is_found(self) -> None:
        self.assertEqual(chaos_checks.clock_ahead(self.archive("x", logged=4500)), 4.5)
        self.assertEqual(chaos_checks.clock_ahead(self.archive()), 0)
