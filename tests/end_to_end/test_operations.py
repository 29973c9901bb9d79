"""The pages for operators, as somebody follows them on a new server: every command of them.

The page about backups has a module of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
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
        self.options()

    def options(self) -> None:
        (self.folder / "chat.toml").write_text('state = "state"\n')

    def test_install(self) -> None:
        self.environments("venv")
        key = Ed25519PrivateKey.generate().public_key()
        public = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (self.folder / "alice.pub").write_bytes(public + b" alice@home\n")
        page = (ROOT / "docs" / "operations" / "install.rst").read_text()
        options = re.search(r"code:: toml\n\n((?: {4}.*\n)+)", page)
        assert options is not None
        (self.folder / "chat.toml").write_text(re.sub("^    ", "", options[1], flags=re.M))
        make, install, version, check, start, *rest = commands("install.rst")
        self.assertEqual((make, install.split()[1]), ("python3 -m venv venv", "install"))
        self.assertIn(__version__, self.works(version))
        self.assertEqual(
            self.complaint(check),
            f"chatserver: note: {self.state} will be made\nchatserver: nothing is wrong\n",
        )
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

    def run_by_shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command that has something to say on standard error, too."""
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
        return done

    def shown(self, command: str) -> str:
        """Run a client; return its output. It shows the fingerprint of a new server, too."""
        return self.run_by_shell(command).stdout

    def complaint(self, check: str) -> str:
        """Check the options, with an address that is free; return what is said."""
        return self.run_by_shell(f"{check} --listen {self.listen}").stderr

    def test_watch_and_back_up_every_night(self) -> None:
        self.environments("venv")
        self.options()
        page = (ROOT / "docs" / "operations" / "metrics.rst").read_text()
        asked = re.search(r"code:: yaml\n\n((?: {4}.*\n)+)", page)
        assert asked is not None
        (self.folder / "prometheus.yml").write_text(re.sub("^    ", "", asked[1], flags=re.M))
        shutil.copy(ROOT / "docs" / "operations" / "alerts.yml", self.folder)

        install, start, look, check = commands("metrics.rst")
        self.assertEqual(install.split()[1], "install")
        port = str(free_port())
        self.works(start.replace("9464", port))
        url = look.replace("9464", port).split()[-1]
        with urllib.request.urlopen(url) as answer:
            self.assertEqual(answer.read(), b"ok\n")
        beside_python = f'PATH="{Path(sys.executable).parent}:$PATH"'  # .ci/run puts promtool there
        self.assertRegex(self.works(f"{beside_python} {check}"), r"SUCCESS: \d+ rules found")

        night, doctor = commands("backup-schedule.rst")
        script = str(ROOT / "contrib" / "chatserver-backup")
        self.works(night.replace("venv/share/chat_twisted/chatserver-backup", script))
        made = [path.name for path in (self.folder / "backups").glob("daily-[1-7].sqlite")]
        self.assertEqual(len(made), 1)
        found = self.shown(f"{doctor} || true")  # this machine may have problems
        self.assertRegex(found, r"ok +backups: [12], the newest 0 hours old")

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
        for name in ("state.tar.gz", "chat.toml"):
            shutil.copy(self.folder / name, new)
        self.works(unpack, new)
        self.assertEqual(self.works(check, new), "sound\n")
        self.works(start, new)
        self.assertEqual(re.findall(r"SHA256:\S+", self.works(said, new)), before)
