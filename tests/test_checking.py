"""--check: what would keep the server from starting is told, and nothing is changed."""

from __future__ import annotations

import datetime
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from twisted.internet.testing import MemoryReactorClock

from chat_twisted.checking import Check
from chat_twisted.doors.ssh import host_keys
from chat_twisted.doors.tls import CERTIFICATE, KEY, ensure
from chat_twisted.files import FilesError
from chat_twisted.options import Options
from chat_twisted.storage import archive
from chat_twisted.storage.joining import Found
from tests.start import CommandTestCase


class CheckTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.folder())
        self.state = self.root / "state"
        self.status = -1
        listens = mock.patch("chat_twisted.passed_sockets.listens_for_root", return_value=False)
        self.listens_for_root = listens.start()
        self.addCleanup(listens.stop)

    def make(self) -> None:
        """Make the files that a server makes at its first start."""
        self.state.mkdir(0o700)
        archive.prepare(self.state)
        ensure(self.state)
        host_keys.load(self.state)

    def examine(self, folder: Path, found: Found, note: Callable[[str], None]) -> None:
        raise AssertionError("there is no cluster")

    def check(self, *arguments: str) -> list[str]:
        """Return the lines but the last one, which must agree with the status."""
        options = Options()
        options.parseOptions(["--state", str(self.state), *arguments])
        lines: list[str] = []
        check = Check(options, None, None, self.examine, lines.append)
        self.status = check.run(MemoryReactorClock())
        last = "nothing is wrong" if not check.problems else f"{check.problems} problems"
        self.assertEqual((self.status, lines.pop()), (int(check.problems > 0), last))
        return lines

    def everything(self) -> dict[str, tuple[int, int, bytes]]:
        found = {}
        for path in self.root.rglob("*"):
            entry = path.stat()
            data = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (entry.st_mode, entry.st_mtime_ns, data)
        return found

    def assertProblem(self, text: str, *arguments: str) -> None:
        lines = self.check(*arguments)
        self.assertEqual(len(lines), 1, lines)
        self.assertIn(text, lines[0])
        self.assertEqual(self.status, 1)

    def test_a_folder_that_is_not_there_is_fine_and_not_made(self) -> None:
        self.assertEqual(self.check(), [f"note: {self.state} will be made"])
        self.assertFalse(self.state.exists())

    def test_a_state_that_a_server_has_made_is_fine_and_not_changed(self) -> None:
        self.make()
        before = self.everything()
        self.assertEqual(self.check(), [])
        self.assertEqual(self.everything(), before)

    def test_a_folder_in_which_others_may_write(self) -> None:
        self.make()
        self.state.chmod(0o777)
        self.assertProblem("other users may write in it")

    def test_a_folder_that_can_not_be_made(self) -> None:
        (self.root / "file").touch()
        self.state = self.root / "file" / "state"
        self.assertProblem("Not a directory")

    def test_a_file_that_is_no_archive(self) -> None:
        self.make()
        (self.state / archive.FILE).write_bytes(b"a letter to my aunt. " * 100)
        self.assertProblem("chat.sqlite: file is not a database")

    def test_an_archive_of_a_newer_version(self) -> None:
        self.make()
        connection = archive.connect(self.state / archive.FILE)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        self.assertProblem("made by a newer version of the server (schema 99")

    def test_the_archive_of_a_node_without_its_cluster(self) -> None:
        self.make()
        connection = archive.connect(self.state / archive.FILE)
        with connection:
            connection.execute("INSERT INTO cluster VALUES ('log', 5, x'00', 'a', 1)")
        connection.close()
        self.assertProblem("it belongs to node a of a cluster")

    def test_a_certificate_without_its_key(self) -> None:
        self.make()
        (self.state / KEY).unlink()
        self.assertProblem(KEY)

    def test_a_key_that_everybody_can_read(self) -> None:
        self.make()
        (self.state / KEY).chmod(0o644)
        self.assertProblem("all users may read it")

    def renew(self, **left: float) -> None:
        """Make the certificate valid for so long from now on."""
        now = datetime.datetime.now(datetime.UTC)
        key = load_pem_private_key((self.state / KEY).read_bytes(), None)
        name = x509.Name([])
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(**left))
            .sign(key, hashes.SHA256())
        )
        (self.state / CERTIFICATE).write_bytes(made.public_bytes(Encoding.PEM))

    def test_a_certificate_that_has_expired_or_will_soon(self) -> None:
        self.make()
        self.renew(hours=-1)
        self.assertProblem("the certificate has expired")
        self.renew(days=5, hours=1)
        [line] = self.check()
        self.assertTrue(line.startswith("note: "), line)
        self.assertIn("expires in 5 days", line)

    def test_a_host_key_that_is_none(self) -> None:
        self.make()
        (self.state / host_keys.RSA).write_text("x")
        self.assertProblem("not an unencrypted private key of OpenSSH")
        self.assertEqual(self.check("--ssh", "no"), [])

    def test_logs_that_can_not_be_written(self) -> None:
        self.make()
        nowhere = str(self.root / "nowhere" / "audit")
        options = Options()
        options.parseOptions(["--state", str(self.state)])
        options["audit"] = Path(nowhere)
        lines: list[str] = []
        Check(options, None, None, self.examine, lines.append).run(MemoryReactorClock())
        self.assertEqual(lines[0], f"{Path(nowhere).parent}: No such file or directory")

    def test_what_is_no_endpoint(self) -> None:
        self.make()
        self.assertEqual(self.check("--listen", "bogus"), [])
        self.assertEqual(self.status, 1)
        self.assertIn("--listen bogus: not an endpoint", self.error.getvalue())

    def test_an_address_that_is_in_use(self) -> None:
        self.make()
        with mock.patch("chat_twisted.checking.listen", side_effect=SystemExit(1)) as listen:
            self.check("--listen", "tcp:1", "--listen", "unix:/x")
        self.assertEqual(listen.call_count, 1)
        self.assertEqual(self.status, 1)

    def test_a_port_that_a_socket_unit_has_is_not_checked_unless_it_is_named(self) -> None:
        self.make()
        self.listens_for_root.return_value = True
        with mock.patch("chat_twisted.checking.listen", side_effect=SystemExit(1)) as listen:
            [line] = self.check()
            self.assertEqual((listen.call_count, self.status), (0, 0))
            self.assertIn("root listens on port 8828", line)
            self.check("--listen", "tcp:8828")
        self.assertEqual((listen.call_count, self.status), (1, 1))

    def test_beside_a_running_server_the_addresses_are_not_checked(self) -> None:
        self.make()
        with open(self.state / archive.LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = self.check("--listen", "bogus")
        self.assertEqual(self.status, 0)
        self.assertIn("a server uses the state folder", lines[0])

    def test_several_problems_are_several_lines(self) -> None:
        self.make()
        (self.state / archive.FILE).write_bytes(b"x" * 4096)
        (self.state / CERTIFICATE).write_text("x")
        self.assertEqual(len(self.check()), 2)

    def test_a_cluster_is_examined(self) -> None:
        self.make()
        node = ("--cluster", "nats://h", "--node", "a")

        def refuse(folder: Path, found: Found, note: Callable[[str], None]) -> None:
            note(f"has {found.place} {found.version}")
            raise FilesError("--cluster: can't be reached")

        self.patch(self, "examine", refuse)
        lines = self.check(*node)
        self.assertEqual(lines, ["note: has None 0", "--cluster: can't be reached"])
        missing = str(self.root / "secret")
        self.assertProblem("No such file", *node, "--cluster-credentials", missing)

    def test_a_folder_of_another_user(self) -> None:
        self.make()
        self.patch(os, "geteuid", lambda: 12345)
        lines = self.check("--certificate", "x", "--private-key", "y")
        self.assertEqual(self.status, 1)
        self.assertIn("belongs to", lines[0])
