"""The screens of README.rst and docs/terminal.rst are what real terminals show: the script that
writes them into these pages runs its scenes again.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import unittest
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"


def script() -> Any:
    """Return docs/screenshots as a module."""
    loader = importlib.machinery.SourceFileLoader("screenshots", str(DOCS / "screenshots"))
    spec = importlib.util.spec_from_loader("screenshots", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class ScreenshotTests(unittest.TestCase):
    maxDiff = None

    def test_the_screens_of_the_pages_are_what_the_scenes_show(self) -> None:
        screenshots = script()
        blocks: dict[str, str] = {}
        for page in screenshots.PAGES:
            blocks |= screenshots.blocks(page.read_text())
        shots = screenshots.captured()
        self.assertEqual(set(blocks), set(shots))
        for name, shot in shots.items():
            self.assertEqual(screenshots.lasting(blocks[name]), screenshots.lasting(shot), name)
        for name in screenshots.COLOURED:
            self.assertTrue((DOCS / f"terminal-{name}.svg").exists(), name)
