"""What the client keeps from one run to the next, for its owner's eyes alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.client.remembered import Remembered


class RememberedTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "config" / "chat" / "sessions"
        self.known = Remembered(self.path)

    def test_nothing_is_known_before_there_is_a_file_and_none_is_made_for_nothing(self) -> None:
        self.assertIsNone(self.known.get("a"))
        self.known.set("a", None)
        self.assertFalse(self.path.parent.exists())

    def test_what_was_set_is_known_to_the_next_who_looks(self) -> None:
        self.known.set("a", "1")
        self.known.set("b", "2")
        self.known.set("a", "3")
        again = Remembered(self.path)
        self.assertEqual((again.get("a"), again.get("b"), again.get("c")), ("3", "2", None))

    def test_none_is_to_know_nothing_of_it_any_more(self) -> None:
        self.known.set("a", "1")
        self.known.set("b", "2")
        self.known.set("a", None)
        self.assertIsNone(self.known.get("a"))
        self.assertEqual(self.path.read_text(), "b 2\n")

    def test_nobody_else_can_read_it_whatever_the_mask_is(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.known.set("a", "1")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)
        self.path.chmod(0o644)
        self.known.set("a", "2")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_the_file_is_never_half_written(self) -> None:
        self.known.set("a", "1")
        self.patch(Path, "replace", lambda *_: 1 / 0)
        with self.assertRaises(ZeroDivisionError):
            self.known.set("a", "2")
        self.assertEqual(self.path.read_text(), "a 1\n")

    def test_nothing_stays_beside_it_and_what_is_known_is_not_written_again(self) -> None:
        self.known.set("a", "1")
        before = self.path.stat()
        self.known.set("a", "1")
        self.assertEqual(self.path.stat().st_ino, before.st_ino)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_lines_that_say_nothing_are_passed_over(self) -> None:
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"\xff\xfe\n\n a  1 \nb 2 3\nc\n")
        self.assertEqual([self.known.get(name) for name in "abc"], ["1", None, None])
        self.known.set("b", "2")
        self.assertEqual(self.known.get("a"), "1")

    def test_what_can_not_be_read_or_written_is_an_error_of_the_system(self) -> None:
        (self.folder / "config").write_text("")
        self.assertRaises(NotADirectoryError, self.known.get, "a")
        self.assertRaises(OSError, self.known.set, "a", "1")
