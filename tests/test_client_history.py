"""The input history of the terminal."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.client import history as history_module
from chat_twisted.client.history import InputHistory


class HistoryTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "chat" / "input_history"
        self.told: list[str] = []

    def open(self) -> InputHistory:
        return InputHistory(self.path, self.told.append)

    def kept(self) -> list[str]:
        return list(self.open().load_history_strings())


class HistoryTests(HistoryTestCase):
    def tearDown(self) -> None:
        self.assertEqual(self.told, [])

    def test_typed_lines_are_there_the_next_time(self) -> None:
        history = self.open()
        history.store_string("one")
        history.store_string("two\nlines")
        self.assertEqual(self.kept(), ["two\nlines", "one"])

    def test_half_a_character_is_kept_as_a_question_mark(self) -> None:
        self.open().store_string("a\udcff")
        self.assertEqual(self.kept(), ["a?"])

    def test_only_the_user_can_read_it_with_any_mask_and_any_mode_it_had_before(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.kept()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)
        self.path.chmod(0o644)
        self.kept()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_of_one_that_grew_large_the_newer_half_is_kept_in_whole_entries(self) -> None:
        self.patch(history_module, "MAX_HISTORY", 1000)
        history = self.open()
        for number in range(40):
            history.store_string(f"line {number}\nand more")
        kept = self.kept()
        self.assertLess(self.path.stat().st_size, 1000)
        self.assertEqual(kept, [f"line {39 - i}\nand more" for i in range(len(kept))])
        self.assertGreater(len(kept), 5)
        self.assertEqual(self.kept(), kept)

    def test_a_folder_that_is_removed_meanwhile_is_made_again(self) -> None:
        history = self.open()
        history.store_string("one")
        shutil.rmtree(self.path.parent)
        history.store_string("two")
        self.assertEqual(self.kept(), ["two"])


class BrokenTests(HistoryTestCase):
    def tearDown(self) -> None:
        reason = self.reason
        self.assertEqual(self.told, [f"{self.path}: {reason}: what you type is not remembered"])

    def setUp(self) -> None:
        super().setUp()
        self.reason = "No space left on device"

    def test_where_it_can_not_be_kept_it_is_not_and_that_is_said_once(self) -> None:
        (self.folder / "chat").write_text("")
        self.reason = "File exists"
        history = self.open()
        self.assertEqual(list(history.load_history_strings()), [])
        for line in ("x", "y"):
            history.append_string(line)
        self.assertEqual(history.get_strings(), ["x", "y"])

    def test_nothing_stays_of_an_entry_for_which_there_is_no_room(self) -> None:
        history = self.open()
        history.store_string("one")
        before = self.path.read_bytes()
        write = os.write
        self.patch(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        history.append_string("two")
        self.assertEqual(history.get_strings(), ["two"])
        self.assertEqual(self.path.read_bytes(), before)
