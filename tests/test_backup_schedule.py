"""The backup of every night: what is kept, and that a backup that fails replaces nothing."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.storage import archive, maintenance

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "contrib" / "chatserver-backup"
PAGE = ROOT / "docs" / "operations" / "backup-schedule.rst"

WEEK = 604_800  # seconds


class ScriptTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "state").mkdir(0o700)
        archive.prepare(self.folder / "state")
        (self.folder / "bin").mkdir()

    def run_on(self, day: int, week: int) -> int:
        """Run the page's command on a day of a week; return its exit code."""
        date = self.folder / "bin" / "date"
        date.write_text(f"#!/bin/sh\ncase $1 in +%u) echo {day};; +%s) echo {week * WEEK};; esac\n")
        date.chmod(0o755)
        [command] = re.findall(r"^ {4}(PYTHON=\S+ sh \S+ .*)$", PAGE.read_text(), re.M)
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        command = command.replace("venv/share/chat_twisted/chatserver-backup", str(SCRIPT))
        command = command.replace("venv/bin/python", sys.executable)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            check=False,
        )
        return done.returncode

    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "backups").iterdir())

    def test_seven_days_and_four_sundays_are_kept(self) -> None:
        self.assertEqual(self.run_on(3, 10), 0)
        self.assertEqual(self.kept(), ["daily-3.sqlite"])
        self.assertEqual(self.run_on(7, 10), 0)
        self.assertEqual(self.kept(), ["daily-3.sqlite", "daily-7.sqlite", "weekly-2.sqlite"])
        for name in self.kept():
            path = self.folder / "backups" / name
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            self.assertEqual(maintenance.check(path, with_index=False), [])

    def test_a_backup_that_fails_replaces_none_and_is_noticed(self) -> None:
        self.assertEqual(self.run_on(3, 10), 0)
        before = (self.folder / "backups" / "daily-3.sqlite").read_bytes()
        (self.folder / "state" / archive.FILE).write_bytes(b"damaged" * 1000)
        self.assertNotEqual(self.run_on(3, 11), 0)
        self.assertEqual((self.folder / "backups" / "daily-3.sqlite").read_bytes(), before)


class UnitTests(TestCase):
    def unit(self, name: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(ROOT / "contrib" / "systemd" / name)
        return parser

    def test_the_timer_and_the_service_belong_together(self) -> None:
        service, timer = (
            self.unit("chatserver-backup.service"),
            self.unit("chatserver-backup.timer"),
        )
        start = service["Service"]["ExecStart"].split()
        self.assertEqual(Path(start[0]).name, SCRIPT.name)
        folders = service["Service"]["StateDirectory"].split()
        self.assertEqual(start[1:], [f"%S/{folder}" for folder in folders])
        self.assertEqual(timer["Install"]["WantedBy"], "timers.target")
        for name in (SCRIPT.name, "chatserver-backup.*", "chatserver-backup.timer"):
            self.assertIn(name, PAGE.read_text())

    def test_the_operators_command_has_the_user_and_the_folders_of_the_units(self) -> None:
        command = (ROOT / "contrib" / "chatserver-admin").read_text()
        service = self.unit("chatserver-backup.service")["Service"]
        for name in (
            "DynamicUser",
            "User",
            "Group",
            "StateDirectory",
            "StateDirectoryMode",
            "UMask",
        ):
            self.assertIn(f"{name}={service[name]}", command)
