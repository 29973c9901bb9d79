"""Where the log goes: files that can be opened again, audit lines apart, and the journal."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from twisted.logger import LogPublisher
from twisted.trial.unittest import TestCase

from chat_twisted.files import FilesError
from chat_twisted.log_output import LogOutput, StandardFile, is_journal, open_output
from chat_twisted.logs import Logger


class LogOutputTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.publisher = LogPublisher()
        self.log = Logger("chat_twisted.test", observer=self.publisher)

    def open(
        self, *, audit: bool = False, as_objects: bool = False, level: str = "info"
    ) -> LogOutput:
        output = open_output(
            self.folder / "log",
            None,
            self.folder / "audit" if audit else None,
            as_objects=as_objects,
            level=level,
            environment={},
        )
        assert output is not None
        self.publisher.addObserver(output)
        return output

    def found(self, name: str = "log") -> list[str]:
        """Return the events in a file."""
        return [line.split()[2] for line in (self.folder / name).read_text().splitlines()]

    def test_events_below_the_level_are_left_out(self) -> None:
        output = self.open(level="warn")
        self.log.info("x", event="one")
        self.log.warn("x", event="two")
        self.log.critical("x", event="three")
        output.set_level("debug")
        self.log.debug("x", event="four")
        self.assertEqual(self.found(), ["two", "three", "four"])

    def test_audit_lines_have_a_file_of_their_own_whatever_the_level(self) -> None:
        self.open(audit=True, level="error")
        self.log.info("x", event="audit")
        self.log.error("x", event="broken")
        self.assertEqual((self.found(), self.found("audit")), (["broken"], ["audit"]))
        self.assertEqual((self.folder / "audit").stat().st_mode & 0o777, 0o600)

    def test_without_that_file_they_are_in_the_log(self) -> None:
        self.open(level="error")
        self.log.info("x", event="audit")
        self.assertEqual(self.found(), ["audit"])

    def test_lines_can_be_objects(self) -> None:
        self.open(audit=True, as_objects=True)
        self.log.info("x", event="one", n=1)
        self.log.info("x", event="audit", n=2)
        for name, n in (("log", 1), ("audit", 2)):
            self.assertEqual(json.loads((self.folder / name).read_text())["n"], n)

    def test_both_files_are_opened_again(self) -> None:
        output = self.open(audit=True)
        for name in ("log", "audit"):
            (self.folder / name).rename(self.folder / f"old-{name}")
        self.assertEqual(output.reopen(), [])
        self.log.info("x", event="one")
        self.log.info("x", event="audit")
        self.assertEqual((self.found(), self.found("audit")), (["one"], ["audit"]))

    def test_a_file_that_can_not_be_opened_again_goes_on_as_it_was(self) -> None:
        output = self.open()
        (self.folder / "log").rename(self.folder / "old")
        (self.folder / "log").mkdir()
        [problem] = output.reopen()
        self.assertIn("Is a directory", problem)
        self.log.info("x", event="one")
        self.assertEqual(self.found("old"), ["one"])

    def test_a_file_that_can_not_be_opened_is_told(self) -> None:
        shutil.rmtree(self.folder)
        self.assertRaises(FilesError, self.open)
        self.folder.mkdir()

    def test_there_may_be_no_log(self) -> None:
        self.assertIsNone(
            open_output(None, None, None, as_objects=False, level="info", environment={})
        )


class StandardFileTests(TestCase):
    def setUp(self) -> None:
        self.reader, self.writer = os.pipe()
        self.addCleanup(os.close, self.reader)
        found = os.fstat(self.writer)
        self.journal = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}

    def written(self, environment: dict[str, str], *, as_objects: bool = False) -> str:
        output = LogOutput(
            StandardFile(self.writer, environment), as_objects=as_objects, level="debug"
        )
        publisher = LogPublisher(output)
        log = Logger("chat_twisted.test", observer=publisher)
        for level in ("debug", "info", "warn", "error", "critical"):
            getattr(log, level)("x", event=f"an-{level}")
        self.assertEqual(output.reopen(), [])
        os.close(self.writer)
        return os.read(self.reader, 10_000).decode()

    def test_the_journal_gets_priorities_and_no_times(self) -> None:
        self.assertEqual(
            self.written(self.journal),
            "<7>debug an-debug x\n<6>info an-info x\n<4>warn an-warn x\n<3>error an-error x\n"
            "<2>critical an-critical x\n",
        )

    def test_the_journal_gets_priorities_of_objects_too(self) -> None:
        first = self.written(self.journal, as_objects=True).splitlines()[0]
        self.assertEqual(json.loads(first.removeprefix("<7>"))["event"], "an-debug")

    def test_any_other_file_gets_times(self) -> None:
        for line in self.written({"JOURNAL_STREAM": "1:2"}).splitlines():
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\S+ \w+ an-\w+ x$")

    def test_a_file_that_is_not_open_is_no_journal(self) -> None:
        os.close(self.writer)
        self.assertFalse(is_journal(self.writer, self.journal))

    def test_a_file_that_nobody_reads_does_no_harm(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        StandardFile(writer, {}).write("x\n")
        os.close(writer)
