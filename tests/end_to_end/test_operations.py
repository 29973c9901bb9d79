"""The pages for operators, as somebody follows them on a new server: every command of them.

The page about backups has a module of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chat_twisted import __version__
from tests.end_to_end.support import (
    PATIENCE,
    ROOT,
    Daemon,
    DaemonTestCase,
    environment,
    free_port,
)

OLDER = 8
"""The schema of the state folder that is upgraded."""


def commands(page: str) -> list[str]:
    """Return the commands of a page in docs/operations that are indented by four."""
    text = (ROOT / "docs" / "operations" / page).read_text()
    blocks = re.findall(r"::\n\n((?: {4}\S.*\n)+)", text.replace(".. code:: toml", "toml"))
    return [line.strip() for block in blocks for line in block.splitlines()]


class PageTests(DaemonTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.daemons: list[Daemon] = []
        self.listen = f"tcp:{free_port()}:interface=127.0.0.1"

    def works(self, command: str, folder: Path | None = None) -> str:
        """Run a command of a page, and see that it says nothing is wrong; return what it says."""
        folder = folder or self.folder
        if starts := "twistd" in command and "--version" not in command:
            command += f" --listen {self.listen}"
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment(str(folder)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        if command.startswith("kill"):
            self.daemons[-1].wait()
        if starts:
            self.daemons.append(Daemon(folder / "state"))
            self.addCleanup(self.daemons[-1].close)
        return done.stdout

    def environments(self, *names: str) -> None:
        """The environments that the pages make: that the packages can be installed in an empty one
        is shown by ``test_packaging``.
        """
        for name in names:
            (self.folder / name).symlink_to(sys.prefix)

    def old_state(self) -> None:
        self.state.mkdir(mode=0o700)
        with tarfile.open(ROOT / "tests" / "state_folders" / f"{OLDER}.tar.xz") as packed:
            packed.extractall(self.state, filter="data")

    def test_install(self) -> None:
        self.environments("venv")
        key = Ed25519PrivateKey.generate().public_key()
        public = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (self.folder / "alice.pub").write_bytes(public + b" alice@home\n")
        page = (ROOT / "docs" / "operations" / "install.rst").read_text()
        options = re.search(r"code:: toml\n\n((?: {4}.*\n)+)", page)
        assert options is not None
        (self.folder / "chat.toml").write_text(re.sub("^    ", "", options[1], flags=re.M))
        make, install, version, start, *rest = commands("install.rst")
        self.assertEqual((make, install.split()[1]), ("python3 -m venv venv", "install"))
        self.assertIn(__version__, self.works(version))
        self.works(start)
        said, status, send, add, operator, accounts, backup, stop = rest
        self.assertRegex(self.works(said), r"fingerprint is SHA256:\S+")
        self.assertIn(__version__, self.works(status))
        port = self.listen.split(":")[1]
        self.assertIn("tester", self.shown(send.replace("127.0.0.1", f"127.0.0.1:{port}")))
        for command in (add, operator):
            self.works(command)
        self.assertRegex(self.works(accounts), r"alice\s+operator")
        self.assertIn("sound", self.works(backup))
        self.works(stop)

    def shown(self, command: str) -> str:
        """Run a client; return its output. It shows the fingerprint of a new server, too."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=environment(str(self.folder)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_upgrade_and_go_back(self) -> None:
        self.environments("venv", "newer")
        self.old_state()
        backup, make, install, stop, start, status, check, *back = commands("upgrade.rst")
        self.assertEqual((make, install.split()[1]), ("python3 -m venv newer", "install"))
        self.assertIn("sound", self.works(backup))
        self.works(start)
        self.assertIn(__version__, self.works(status))
        self.assertEqual(self.works(check), "sound\n")
        self.assertEqual(stop, back[1])
        export, end, restore, start = back
        self.works(export)
        self.assertIn("hello from schema", (self.folder / "since.jsonl").read_text())
        self.works(end)
        self.assertIn("chat.sqlite-replaced-1", self.works(restore))
        self.works(start)

    def test_move(self) -> None:
        self.environments("venv")
        self.old_state()
        stop, pack, unpack, check, start, said = commands("move.rst")
        self.works(start)
        before = re.findall(r"SHA256:\S+", self.works(said))
        self.works(stop)
        self.works(pack)
        self.assertEqual((self.folder / "state.tar.gz").stat().st_mode & 0o777, 0o600)
        new = self.folder / "new"
        new.mkdir()
        (new / "venv").symlink_to(sys.prefix)
        shutil.copy(self.folder / "state.tar.gz", new)
        self.works(unpack, new)
        self.assertEqual(self.works(check, new), "sound\n")
        self.works(start, new)
        self.assertEqual(re.findall(r"SHA256:\S+", self.works(said, new)), before)
