"""What a built wheel carries: twistd must find the plugin from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "chat_twisted",
    "docs",
    "twisted",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "README.rst",
)


class WheelTests(TestCase):
    def pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_installed_wheel_offers_the_plugin_and_its_types(self) -> None:
        folder = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, folder)
        tree, wheels, site = folder / "tree", folder / "wheels", folder / "site"
        tree.mkdir(parents=True)
        for name in (*SOURCES, "LICENSE"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        self.pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(tree))
        [wheel] = wheels.glob("chat_twisted-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        for name in (
            "chat_twisted/py.typed",
            "chat_twisted/storage/schema/1.sql",
            "chat_twisted/doors/framed.py",
            "chat_twisted/client/__main__.py",
            "twisted/plugins/chatserver.py",
        ):
            self.assertIn(name, names)
        self.assertEqual([n for n in names if n.startswith(("tests", "twisted/__init__"))], [])
        self.assertTrue(any(n.endswith("share/man/man1/chat-twisted.1") for n in names))

        self.pip("install", "--no-deps", "--target", str(site), str(wheel))
        twistd = str(Path(sys.executable).with_name("twistd"))
        listing = subprocess.run(
            [twistd, "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site)},
        )
        self.assertRegex(listing.stdout, r"\n +chatserver +\w")
        self.assertTrue((site / "bin" / "chat-twisted").exists())
