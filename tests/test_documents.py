"""The pages in docs/ name the tests and modules that there are."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"


@functools.cache
def defined(path: Path) -> set[str]:
    """The names of the classes and functions of a module of tests."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


class NamedTests(TestCase):
    def test_each_test_that_a_page_names_is_there(self) -> None:
        found = 0
        for page in (ROOT / "README.rst", *ROOT.glob("docs/*.rst")):
            text = page.read_text()
            for module, name in re.findall(r"``(?:tests/)?([\w/]+\.py)::(\w+)``", text):
                self.assertIn(name, defined(TESTS / module), f"{page}: {module}")
                found += 1
        self.assertGreater(found, 50)


class ArchitectureTests(TestCase):
    def test_the_house_has_each_module_and_no_other(self) -> None:
        text = (ROOT / "docs/architecture.rst").read_text()
        house = text.partition("\nThe house\n")[2].partition("    twisted/plugins")[0]
        named, folders = set(), [Path("chat_twisted")]
        for indent, name in re.findall(r"^ {6}( *)(\w+\.py|\w+/)(?: |$)", house, re.MULTILINE):
            del folders[len(indent) // 2 + 1 :]
            if name.endswith("/"):
                folders.append(folders[-1] / name)
            else:
                named.add(str(folders[-1] / name))
        package = ROOT / "chat_twisted"
        there = {str(path.relative_to(ROOT)) for path in package.rglob("*.py")}
        unnamed = {"chat_twisted/__init__.py", "chat_twisted/client/__init__.py"}
        self.assertEqual(named, there - unnamed)
