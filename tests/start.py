"""For tests of what happens when the server is started."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile

from twisted.trial.unittest import TestCase

from tests.quick_keys import shorten_keys


class CommandTestCase(TestCase):
    def setUp(self) -> None:
        self.error = io.StringIO()
        self.patch(sys, "__stderr__", self.error)
        shorten_keys(self)

    def assertFails(self, text: str, function, *arguments) -> None:
        """One line on standard error, and exit code 1."""
        exit = self.assertRaises(SystemExit, function, *arguments)
        self.assertEqual(exit.code, 1)
        self.assertIn(text, self.error.getvalue())
        self.assertEqual(self.error.getvalue().count("\n"), 1)
        self.error.truncate(0)

    def folder(self) -> str:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return folder
