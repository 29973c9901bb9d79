"""Commands in a checkout that is not installed, or with an old Python, say so in one sentence."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted import dependencies

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("client", "admin", "accounts", "archive")

OLD = """
import sys
sys.version_info = (3, 9, 2)
import chat_twisted.dependencies
"""


class DependencyTests(TestCase):
    def run_python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the checkout, without any installed package."""
        command = [sys.executable, "-E", "-s", "-S", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def test_a_command_without_its_packages_says_which_and_what_to_do(self) -> None:
        for name in COMMANDS:
            done = self.run_python("-m", f"chat_twisted.{name}", "alice", "127.0.0.1")
            self.assertEqual((done.returncode, done.stdout), (2, ""), name)
            self.assertRegex(
                done.stderr,
                r"^chat_twisted is not installed for \S+, which has no argon2-cffi, .*twisted.*: "
                r".*python3 -m venv venv && venv/bin/pip install \. .*\n$",
            )
            self.assertEqual(done.stderr.count("\n"), 1)

    def test_an_old_python_is_named_with_the_oldest_that_will_do(self) -> None:
        done = self.run_python("-c", OLD)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(
            done.stderr, r"^chat_twisted needs Python 3\.11 or later; \S+ is 3\.9\.2\.\n$"
        )

    def test_old_pythons_can_parse_what_comes_before_the_sentence(self) -> None:
        for name in (
            "__init__",
            "text",
            "dependencies",
            "client/__init__",
            "client/__main__",
            *COMMANDS[1:],
        ):
            source = (ROOT / "chat_twisted" / f"{name}.py").read_text()
            ast.parse(source, feature_version=(3, 8))

    def test_the_packages_and_the_python_are_those_that_pip_is_told(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        required = re.findall(r"^[\w-]+", setup["options"]["install_requires"], re.MULTILINE)
        brought = {"pyOpenSSL", "bcrypt"}  # by "twisted[conch,tls]"
        self.assertEqual(sorted({*dependencies.MODULES.values()} - brought), sorted(required))
        least = ".".join(map(str, dependencies.PYTHON))
        self.assertEqual(setup["options"]["python_requires"], f">={least}")
