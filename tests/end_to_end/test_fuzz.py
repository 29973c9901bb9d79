"""Random input through the IRC door breaks nothing: the short form of benchmarks/fuzz."""

from __future__ import annotations

import subprocess
import sys
import unittest

from tests.end_to_end.support import ROOT


class FuzzTests(unittest.TestCase):
    def test_random_input_leaves_no_fault_and_every_last_ping_is_answered(self) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "fuzz"), "0.03", "--seed", "7"]
        fuzz = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(fuzz.returncode, 0, fuzz.stdout + fuzz.stderr)
