"""The pages in docs/ name only tests, modules, classes, functions and tables that exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.doors.irc.capabilities import NAMES
from chat_twisted.doors.irc.commands import COMMANDS
from chat_twisted.doors.ssh.transport import SIGNATURES, SSHTransport
from tests.source import PACKAGE, statements
from tests.ssh import host_keys

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"


@functools.cache
def defined(path: Path) -> set[str]:
    """The names of the classes and functions of a module of tests."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse(path.read_text())
    return {node.name for node in statements(tree) if isinstance(node, kinds)}


def members(body: list[ast.stmt]) -> dict[str, set[str]]:
    """Return the names that the statements of a module or class define, and those inside each.

    :return: for each name its own members: of a class its attributes and methods, of others none.
    """
    found: dict[str, set[str]] = {}
    for statement in body:
        match statement:
            case ast.ClassDef(name=name):
                found[name] = set(members(statement.body)) | {
                    node.attr
                    for node in ast.walk(statement)
                    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                }
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found[name] = set()
            case ast.Assign() | ast.AnnAssign():
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        found[node.id] = set()
            case ast.ImportFrom(names=names) | ast.Import(names=names):
                found |= {alias.asname or alias.name: set() for alias in names}
    return found


class Known:
    """The names that a page about the package may use.

    :ivar texts: all literal texts of the package, and the literal parts of formatted ones.
    :ivar words: these, and other names than those of classes and functions.
    """

    def __init__(self) -> None:
        self.members: dict[str, set[str]] = {}
        self.imported: set[str] = set()
        self.texts: set[str] = set()
        self.words: set[str] = set()
        for path in PACKAGE.rglob("*.py"):
            tree = ast.parse(path.read_text())
            own = members(tree.body)
            package = path.parent.name if path.name == "__init__.py" else path.stem
            self._add(package, set(own))
            for name, inside in own.items():
                self._add(name, inside)
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    self.texts.add(node.value)
                elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("chat_"):
                    self.imported |= {alias.asname or alias.name for alias in node.names}
                elif isinstance(node, ast.arg):
                    self.words.add(node.arg)
        self.words |= self.texts
        for path in PACKAGE.rglob("schema/*.sql"):
            self.words |= set(re.findall(r"\b[a-z_]+\b", path.read_text()))

    @classmethod
    @functools.cache
    def of_the_package(cls) -> Known:
        return cls()

    def _add(self, name: str, inside: set[str]) -> None:
        self.members.setdefault(name, set()).update(inside)

    def has(self, literal: str) -> bool:
        """Return whether a name, perhaps with dots, is one of the package or of its imports."""
        if literal in self.words:
            return True
        *owners, name = literal.split(".")
        if owners:
            owner = owners[-1]
            return owner in self.imported or name in self.members.get(owner, ())
        named = name in self.members or name in self.imported
        return named or any(name in inside for inside in self.members.values())


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
    def test_each_name_of_the_code_exists(self) -> None:
        text = (ROOT / "docs/architecture.rst").read_text()
        known, found = Known.of_the_package(), 0
        for literal in re.findall(r"``([^`]+)``", text):
            if re.fullmatch(r"[\w/]+\.(py|rst|sql)|[\w/]+/", literal):
                places = (ROOT, ROOT / "docs", PACKAGE, PACKAGE / "storage/schema")
                self.assertTrue(any((place / literal).exists() for place in places), literal)
            elif re.fullmatch(r"[A-Za-z_][\w.]*", literal):
                self.assertTrue(known.has(literal), literal)
                found += 1
        self.assertGreater(found, 150)

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
        there = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
        unnamed = {"chat_twisted/__init__.py", "chat_twisted/client/__init__.py"}
        self.assertEqual(named, there - unnamed)


class IRCTests(TestCase):
    """The page about IRC lists what the door has, and its figures of irctest add up."""

    page = (ROOT / "docs/irc.rst").read_text()

    def part(self, title: str) -> str:
        """Return a section of the page."""
        start = self.page.index(f"\n{title}\n{'-' * len(title)}\n")
        return re.split(r"\n\n\n(?=[^\n]+\n---)", self.page[start + 1 :])[0]

    def test_each_command_and_no_other_is_listed(self) -> None:
        rows = re.findall(r"^``([A-Z, `]+)``  +\S", self.part("Commands"), re.MULTILINE)
        listed = [name for row in rows for name in row.split("``, ``")]
        self.assertEqual(sorted(listed), sorted(COMMANDS))

    def test_each_capability_and_no_other_is_listed(self) -> None:
        listed = re.findall(r"^``([a-z./-]+)`` +\S", self.part("Capabilities"), re.MULTILINE)
        self.assertEqual(sorted(listed), sorted(NAMES))

    def test_the_figures_of_irctest_add_up(self) -> None:
        part = self.part("irctest")
        rows = re.findall(r"^(\w[\w/]*) +(\d+) +(\d+) +(\d+)$", part, re.MULTILINE)
        *groups, total = [(name, *map(int, figures)) for name, *figures in rows]
        self.assertEqual(
            total, ("all", *(sum(column) for column in [*zip(*groups, strict=True)][1:]))
        )
        failing = re.findall(r"^- \((\d+)\) ``test\w+``", part, re.MULTILINE)
        self.assertEqual(sum(map(int, failing)), total[2])


class SSHTests(TestCase):
    """The page about SSH lists the algorithms that the door has."""

    def test_each_algorithm_and_no_other_is_listed(self) -> None:
        page = (ROOT / "docs/ssh.rst").read_text()
        for title, algorithms in (
            ("key exchange", SSHTransport.supportedKeyExchanges),
            ("host keys", host_keys().algorithms),
            ("users' keys", SIGNATURES),
            ("ciphers", SSHTransport.supportedCiphers),
            ("integrity", SSHTransport.supportedMACs),
            ("compression", SSHTransport.supportedCompressions),
        ):
            row = re.search(rf"^{title} +``.*\n(?: +``.*\n)*", page, re.MULTILINE)
            assert row is not None, title
            listed = re.findall(r"``(\S+)``", row[0])
            self.assertEqual(listed, [name.decode() for name in algorithms], title)


class ClusterTests(TestCase):
    """The page about clusters explains only messages that there are."""

    def test_each_message_exists(self) -> None:
        page = (ROOT / "docs/cluster.rst").read_text()
        part = page.partition("\nTroubleshooting\n")[2]
        lines = re.findall(r"^``.+``$", part, re.MULTILINE)
        listed = [message for line in lines for message in re.findall(r"``(.+?)``", line)]
        self.assertGreater(len(listed), 10)
        texts = Known.of_the_package().texts
        for message in listed:
            for piece in message.split("..."):
                self.assertTrue(any(piece.strip() in text for text in texts), message)
