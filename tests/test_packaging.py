"""What a release has: the sdist, the wheel that is built from it, and what setup.cfg asks for.

The wheel is installed in an empty environment, where the server and the client run.
"""

from __future__ import annotations

import atexit
import configparser
import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.trial.unittest import TestCase

from chat_twisted import __version__
from chat_twisted.dependencies import PYTHON
from tests.end_to_end.support import free_port

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    ".ci",
    "CHANGELOG.rst",
    "Containerfile",
    "LICENSE",
    "MANIFEST.in",
    "README.rst",
    "SECURITY.rst",
    "benchmarks",
    "chat_twisted",
    "contrib",
    "docs",
    "examples",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "tests",
    "twisted",
)
BESIDE = {
    "share/chat_twisted/alerts.yml",
    "share/chat_twisted/chatserver-admin",
    "share/chat_twisted/chatserver-backup",
    "share/chat_twisted/dashboard.json",
    "share/chat_twisted/systemd/chatserver-backup.service",
    "share/chat_twisted/systemd/chatserver-backup.timer",
    "share/chat_twisted/systemd/chatserver.service",
    "share/chat_twisted/systemd/chatserver.socket",
    "share/man/man1/chat-twisted.1",
}
"""What pip puts into the environment beside the package."""

NEWEST_PYTHON = (3, 14)
"""The newest version of Python with which all tests were run."""


@functools.cache  # trial knows no setUpClass
def build() -> Path:
    """Build the files of a release in a new folder, which is removed at the end."""
    folder = Path(tempfile.mkdtemp()).resolve()
    atexit.register(shutil.rmtree, folder)
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            made = shutil.ignore_patterns("__pycache__", "dropin.cache")
            shutil.copytree(ROOT / name, tree / name, ignore=made)
        else:
            shutil.copy(ROOT / name, tree / name)
    # It builds the wheel from the sdist, as it comes out of the archive.
    run_python("-m", "build", "--no-isolation", "--outdir", str(folder), str(tree))
    return folder


def environment() -> dict[str, str]:
    """The variables of a process that finds only the packages of its own environment: trial names
    those of its own to the processes among which it divides the tests.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run_python(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)


class ReleaseTests(TestCase):
    """The files of a release, which are built once for all tests."""

    def setUp(self) -> None:
        self.folder = build()
        [self.sdist] = self.folder.glob("chat_twisted-*.tar.gz")
        [self.wheel] = self.folder.glob("chat_twisted-*.whl")

    def test_the_sdist_has_what_is_needed_to_build_test_and_read_the_project(self) -> None:
        with tarfile.open(self.sdist) as packed:
            names = {name.partition("/")[2] for name in packed.getnames()}
        for name in (*SOURCES, "docs/index.rst", "docs/operations/install.rst", "tests/wire.py"):
            self.assertIn(name, names)
        self.assertEqual([n for n in names if "__pycache__" in n or n.endswith("cache")], [])

    def test_the_wheel_has_the_package_the_plugin_and_what_is_installed_beside_them(self) -> None:
        self.assertEqual(self.wheel.name, f"chat_twisted-{__version__}-py3-none-any.whl")
        names = zipfile.ZipFile(self.wheel).namelist()
        there = ROOT.glob("chat_twisted/**/*")
        for path in there:
            if path.suffix in (".py", ".sql", ".typed"):
                self.assertIn(str(path.relative_to(ROOT)), names)
        self.assertIn("twisted/plugins/chatserver.py", names)
        beside = {n.partition(".data/data/")[2] for n in names} - {""}
        self.assertEqual(beside, BESIDE)
        metadata = (
            rf"(chat_twisted|twisted/plugins|{self.wheel.name.partition('-py3')[0]}\.[\w-]+)/"
        )
        self.assertEqual([n for n in names if not re.match(metadata, n)], [])

    def test_the_wheel_serves_in_an_empty_environment(self) -> None:
        place, state = self.folder / "empty", self.folder / "state"
        venv.create(place, symlinks=True)
        python = place / "bin" / "python"
        install = ("install", "--no-compile", str(self.wheel))
        run_python("-m", "pip", "--quiet", "--python", str(python), *install)
        variables = environment()
        variables |= {"XDG_CONFIG_HOME": str(self.folder / "config"), "PYTHONUNBUFFERED": "1"}
        port = free_port()
        listen = f"tcp:{port}:interface=127.0.0.1"
        chatserver = ("chatserver", "--listen", listen, "--state", str(state))
        server = subprocess.Popen(
            [place / "bin" / "twistd", "-n", *chatserver],
            cwd=self.folder,
            env=variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if "listening on" in line:
                    break
            client = (place / "bin" / "chat-twisted", "alice", f"127.0.0.1:{port}")
            admin = (python, "-m", "chat_twisted.admin")
            for command, said in (
                ((*client, "--once", "@alice: it works"), r"Message (delivered|sent) to alice.*\n"),
                ((*admin, "check", "--state", str(state)), r"sound\n"),
            ):
                done = subprocess.run(
                    command,
                    cwd=self.folder,
                    env=variables,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout, rf"^{said}$")
        finally:
            server.terminate()
            server.stdout.read()
            server.stdout.close()
            server.wait()


class VersionTests(TestCase):
    def test_the_newest_changes_are_of_this_version(self) -> None:
        changes = (ROOT / "CHANGELOG.rst").read_text()
        headings = re.findall(r"^(\d+\.\d+\.\d+) \(.+\)\n-+$", changes, re.MULTILINE)
        self.assertEqual(headings[0], __version__)

    def test_the_version_is_written_nowhere_else(self) -> None:
        for path in (
            ROOT / "setup.cfg",
            ROOT / "pyproject.toml",
            *ROOT.glob("chat_twisted/**/*.py"),
        ):
            own = path == ROOT / "chat_twisted" / "__init__.py"
            self.assertEqual(f'"{__version__}"' in path.read_text(), own, str(path))

    def test_each_tested_python_is_named(self) -> None:
        setup = _setup()
        named = re.findall(
            r":: Python :: 3\.(\d+)$", setup["metadata"]["classifiers"], re.MULTILINE
        )
        self.assertEqual([*map(int, named)], [*range(PYTHON[1], NEWEST_PYTHON[1] + 1)])
        ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
        self.assertEqual(ruff["target-version"], "py{}{}".format(*PYTHON))


class DependencyTests(TestCase):
    def test_an_upper_bound_has_its_reason_in_the_line_above(self) -> None:
        lines = (ROOT / "setup.cfg").read_text().splitlines()
        bounds = 0
        for above, line in itertools.pairwise(lines):
            if (bound := re.search(r"<\S+$", line)) and not line.strip().startswith("#"):
                self.assertRegex(above, rf"^    # {re.escape(bound[0])}: \w+", line)
                bounds += 1
        self.assertGreater(bounds, 2)

    def test_the_page_has_the_licence_of_each_package_that_is_used(self) -> None:
        page = (ROOT / "docs" / "licences.rst").read_text()
        rows = re.findall(r"^   \* - (\S+)\n     - (\S.+)\n     - .+", page, re.MULTILINE)
        self.assertEqual(rows.pop(0), ("package", "licence"))
        listed = {canonicalize_name(name): licence for name, licence in rows}
        used = _used()
        self.assertEqual(sorted(listed), sorted(used))
        for name, package in used.items():
            self.assertIn(listed[name], _declared(package), name)


OLD_NAMES = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Zope Public License": "ZPL-2.1",
}
"""Names of licences in classifiers, which newer packages don't have, and their SPDX identifiers."""


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


def _used() -> dict[str, Distribution]:
    """Return the installed packages that a server, a node and a client need, by their names."""
    setup = _setup()
    extras = setup["options.extras_require"]
    lines = [setup["options"]["install_requires"]]
    lines += [extras[name] for name in extras if name not in ("test", "docs", "dev")]
    wanted = [Requirement(line) for line in "\n".join(lines).split("\n") if line]
    used: dict[str, Distribution] = {}
    seen = set()
    while wanted:
        requirement = wanted.pop()
        package = distribution(requirement.name)
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            used[canonicalize_name(requirement.name)] = package
            for needed in map(Requirement, package.requires or ()):
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    wanted.append(needed)
    return used


def _declared(package: Distribution) -> set[str]:
    """Return the licences that a package declares, as SPDX expressions."""
    if expression := package.metadata.get("License-Expression"):
        return {expression}
    kinds = package.metadata.get_all("Classifier") or []
    names = {kind.split(" :: ")[-1] for kind in kinds if kind.startswith("License ::")}
    return {OLD_NAMES.get(name, name) for name in names}
