"""The state folder of each earlier version is brought to the newest one, and back by the copy that
was made.

``tests/state_folders`` has the folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sqlite3
import ssl
import tarfile
from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chat_twisted.storage.upgrade import newest_schema
from tests.end_to_end.support import ROOT, ServerTestCase

FOLDERS = ROOT / "tests" / "state_folders"
RELEASED = range(1, newest_schema())
FIRST_WITH_ACCOUNTS = 2
FIRST_WITH_STAMP = 3
PASSWORD = "correct horse battery"


def content(path: Path) -> list[str]:
    """Return all that is in an archive, as SQL, and last its schema.

    Its stamp is left out: a restored archive has a new one, so that no older index is taken for
    its own.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        [schema] = connection.execute("PRAGMA user_version").fetchone()
        if schema >= FIRST_WITH_STAMP:
            connection.execute("UPDATE progress SET stamp = x''")
        lines = [*connection.iterdump(), str(schema)]
        connection.rollback()
        return lines


class UpgradeTests(ServerTestCase):
    def setUp(self) -> None:
        self.schema = 0
        super().setUp()

    def start(self) -> None:
        """Start the server on a folder that a test has unpacked, not on an empty one."""
        if self.schema:
            super().start()

    def unpack(self, schema: int) -> None:
        """Put the state folder of an earlier version there."""
        self.schema = schema
        self.state.mkdir(mode=0o700)
        with tarfile.open(FOLDERS / f"{schema}.tar.xz") as packed:
            packed.extractall(self.state, filter="data")
        self.before = Path(self.folder.name) / "before"
        shutil.copytree(self.state, self.before)
        self.key, self.password = (Path(self.folder.name) / name for name in ("key", "password"))
        self.key.write_bytes(
            Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(
                Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
            )
        )
        self.password.write_text(PASSWORD)
        for path in (self.key, self.password):
            path.chmod(0o600)

    def ended(self) -> None:
        self.server.popen.terminate()
        self.server.wait()
        self.assertNoTraceback()

    def output(self, user: str, *options: str) -> str:
        """Run a client that carries out one command; return its output."""
        client = self.client(user, *options)
        self.assertEqual(client.wait(), 0, client.err)
        return "\n".join(client.out)

    def serves_what_it_held(self) -> None:
        """The server that runs on the folder has all that the earlier version had stored."""
        certificate = ssl.PEM_cert_to_DER_cert((self.before / "certificate.pem").read_text())
        digest = b64encode(hashlib.sha256(certificate).digest()).decode().rstrip("=")
        self.assertEqual(self.fingerprint, f"SHA256:{digest}")
        peer = self.connect()
        peer.send(b"REGISTER gina\nVersion: 2\n\n")  # a guest who may come back
        self.assertNotIn("REGISTERED", peer.frame()[0])
        if self.schema < FIRST_WITH_ACCOUNTS:
            self.assertIn("hello from schema 1", self.output("erin", "--once", "/history"))
            return
        alice = ("alice", "--identity", str(self.key), "--once")
        told = self.output(*alice, "/history #dev")
        self.assertIn("the build is green", told)
        self.assertIn("from a guest", told)
        self.assertIn("the build is green", self.output(*alice, "/search green"))
        dave = self.output("dave", "--password-file", str(self.password), "--once", "/history")
        self.assertIn("kept for you", dave)
        self.assertIn(f"hello from schema {self.schema}", dave)

    def goes_and_comes_back(self, schema: int) -> None:
        self.unpack(schema)
        old = content(self.before / "chat.sqlite")
        self.assertEqual(old[-1], str(schema))
        self.start()
        said = f"the schema is brought from {schema} to {newest_schema()}; (.+) is the file before"
        match = re.search(said, "\n".join(self.server.out))
        assert match is not None, self.server.out
        copy = Path(match[1])
        self.serves_what_it_held()
        self.ended()
        self.assertEqual(self.admin("check").out, ["sound"])
        self.assertEqual(content(self.state / "chat.sqlite")[-1], str(newest_schema()))

        self.assertEqual(content(copy), old)
        restored = self.admin("restore", str(copy))
        self.assertEqual((restored.wait(), restored.err), (0, []))
        self.assertEqual(content(self.state / "chat.sqlite"), old)
        self.start()
        self.serves_what_it_held()
        self.ended()

    def test_there_is_a_folder_of_each_earlier_schema(self) -> None:
        names = {path.name for path in FOLDERS.glob("*.tar.xz")}
        self.assertEqual(names, {f"{schema}.tar.xz" for schema in RELEASED})


def _add_tests() -> None:
    """A test for each folder, so that each has its own name in a report."""
    for schema in RELEASED:

        def test(self: UpgradeTests, schema: int = schema) -> None:
            self.goes_and_comes_back(schema)

        setattr(UpgradeTests, f"test_schema_{schema}_goes_to_the_newest_and_comes_back", test)


_add_tests()
