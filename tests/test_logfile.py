"""The server's log file: reopened, rotated, and bounded in number."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.files import FilesError
from chat_twisted.logfile import LogFile


class LogFileTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "chat.log"

    def open(self, **bounds: int) -> LogFile:
        file = LogFile(self.path, **bounds)
        self.addCleanup(file.close)
        return file

    def found(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.iterdir()}

    def test_it_is_made_for_its_owner_alone_and_appended_to(self) -> None:
        self.open().write("ä\n")
        self.open().write("b\udcff\n")
        self.assertEqual(self.path.read_text(), "ä\nb\\udcff\n")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_after_somebody_has_renamed_it_the_next_one_has_its_name_and_permissions(self) -> None:
        self.path.touch()
        self.path.chmod(0o640)
        file = self.open()
        file.write("old\n")
        self.path.rename(self.folder / "old")
        file.write("still\n")
        file.reopen()
        file.write("new\n")
        self.assertEqual(self.found(), {"old": "old\nstill\n", "chat.log": "new\n"})
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)

    def test_what_was_made_in_its_place_keeps_its_permissions(self) -> None:
        file = self.open()
        self.path.rename(self.folder / "old")
        self.path.touch()
        self.path.chmod(0o644)
        file.reopen()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o644)

    def test_if_it_can_not_be_opened_anew_it_goes_on_as_it_was(self) -> None:
        file = self.open()
        self.path.rename(self.folder / "old")
        self.path.mkdir()
        with self.assertRaisesRegex(FilesError, r"chat\.log: Is a directory"):
            file.reopen()
        file.write("still\n")
        self.assertEqual((self.folder / "old").read_text(), "still\n")

    def test_a_long_one_is_rotated_and_few_are_kept(self) -> None:
        file = self.open(max_size=10, kept=3)
        for number in range(9):
            file.write(f"line {number}\n")
        self.assertEqual(
            self.found(),
            {
                "chat.log": "line 8\n",
                "chat.log.1": "line 7\n",
                "chat.log.2": "line 6\n",
                "chat.log.3": "line 5\n",
            },
        )

    def test_one_that_was_long_at_the_start_is_rotated(self) -> None:
        self.path.write_text("x" * 10)
        self.open(max_size=10, kept=3).write("new\n")
        self.assertEqual(self.found(), {"chat.log": "new\n", "chat.log.1": "x" * 10})

    def test_a_rotation_renames_few_files_however_many_there_are(self) -> None:
        renamed: list[str] = []

        def replace(old: str, new: str, replace=os.replace) -> None:
            replace(old, new)
            renamed.append(str(old))

        for number in range(1, 200):
            (self.folder / f"chat.log.{number}").write_text(str(number))
        file = self.open(max_size=10, kept=3)
        self.patch(os, "replace", replace)
        file.write("line 1\n")
        file.write("line 2\n")
        self.assertEqual(len(renamed), 3)
        self.assertEqual((self.folder / "chat.log.199").read_text(), "199")

    def test_where_nothing_can_be_renamed_it_goes_on(self) -> None:
        file = self.open(max_size=10, kept=1)
        (self.folder / "chat.log.1").mkdir()
        for number in range(9):
            file.write(f"line {number}\n")
        self.assertEqual(len(self.path.read_text().splitlines()), 9)

    def test_what_is_no_file_is_not_rotated(self) -> None:
        file = LogFile(Path("/dev/null"), max_size=1)
        self.addCleanup(file.close)
        file.write("x\n")
        file.write("x\n")
