"""The units for systemd, as systemd's own tool reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[1]
UNITS = ROOT / "contrib" / "systemd"
MOST_EXPOSED = 25
"""The exposure that ``systemd-analyze security`` may find, in tenths: of 100."""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


class UnitTests(TestCase):
    def setUp(self) -> None:
        """Copy the units, with programs that exist here."""
        self.folder = Path(tempfile.mkdtemp()) / "units"
        self.addCleanup(shutil.rmtree, self.folder.parent)
        shutil.copytree(UNITS, self.folder)
        for unit in self.folder.iterdir():
            text = unit.read_text()
            for program in ("/opt/chat_twisted/bin/twistd", "/usr/local/bin/chatserver-backup"):
                text = text.replace(program, sys.executable)
            unit.write_text(text)

    def test_systemd_finds_nothing_wrong(self) -> None:
        units = sorted(str(unit) for unit in self.folder.iterdir())
        self.assertEqual(len(units), 4)
        done = analyze("verify", *units)
        # It also reads the units of this machine that they need.
        about_ours = [line for line in done.stderr.splitlines() if "chatserver" in line]
        self.assertEqual(about_ours, [])

    def test_a_mistake_in_a_unit_is_found(self) -> None:
        unit = self.folder / "chatserver.service"
        unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))
        self.assertIn("WatchdogSecs", analyze("verify", str(unit)).stderr)

    def test_the_services_may_do_little(self) -> None:
        for unit in self.folder.glob("*.service"):
            for most, code in ((MOST_EXPOSED, 0), (1, 1)):  # nothing on a network is that low
                done = analyze("security", "--offline=true", f"--threshold={most}", str(unit))
                self.assertEqual(done.returncode, code, done.stdout)
