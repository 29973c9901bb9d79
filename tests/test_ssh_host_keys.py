"""The host keys of SSH: made once, for the owner alone, and shown as OpenSSH shows them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import TestCase

from chat_twisted.doors.ssh.authentication import is_signed
from chat_twisted.doors.ssh.host_keys import ED25519, RSA, HostKeys, load
from chat_twisted.files import FilesError
from tests.ssh import host_keys, private


def write(path: Path, key, encryption=NoEncryption()) -> None:  # noqa: B008
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption))
    path.chmod(0o600)


class HostKeyTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def load(self) -> HostKeys:
        self.said: list[str] = []
        return load(self.folder, self.said.append)

    def give(self) -> None:
        """Give the folder both keys, which take long to make."""
        write(self.folder / ED25519, private("ssh-ed25519"))
        write(self.folder / RSA, private("ssh-rsa"))

    def test_they_are_made_once_and_are_for_the_owner_alone(self) -> None:
        made = self.load()
        self.assertEqual(sorted(os.listdir(self.folder)), [ED25519, RSA])
        for path in self.folder.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        loaded = self.load()
        self.assertEqual(loaded.fingerprints, made.fingerprints)
        self.assertEqual(loaded.secret, made.secret)
        self.assertEqual(self.said, [])

    def test_the_algorithms_are_without_sha_1(self) -> None:
        names = (b"ssh-ed25519", b"rsa-sha2-512", b"rsa-sha2-256")
        self.assertEqual(host_keys().algorithms, names)

    def test_signatures_are_valid(self) -> None:
        keys = host_keys()
        for name in keys.algorithms:
            key = keys.find(name)
            signature = key.sign(b"data", name)
            self.assertTrue(is_signed(key.line, name, signature, b"data"))
            self.assertFalse(is_signed(key.line, name, signature, b"other"))

    def test_the_fingerprint_is_what_ssh_keygen_prints(self) -> None:
        self.give()
        printed = [
            subprocess.run(
                ["ssh-keygen", "-lf", self.folder / name],
                capture_output=True,
                check=True,
                text=True,
            ).stdout.strip()
            for name in (ED25519, RSA)
        ]
        self.assertEqual(self.load().fingerprints, printed)

    def test_lines_for_known_hosts_name_the_port_if_it_is_not_22(self) -> None:
        line, _ = host_keys().known_hosts("chat.example", 8828)
        self.assertRegex(line, r"^\[chat\.example\]:8828 ssh-ed25519 AAAA[\w+/]+=*$")
        _, line = host_keys().known_hosts("chat.example", 22)
        self.assertRegex(line, r"^chat\.example ssh-rsa AAAA[\w+/]+=*$")

    def test_the_secret_depends_on_the_key(self) -> None:
        self.give()
        before = self.load().secret
        self.assertEqual(len(before), 32)
        write(self.folder / ED25519, ed25519.Ed25519PrivateKey.generate())
        self.assertNotEqual(self.load().secret, before)

    def test_permissions_that_are_too_wide_are_corrected(self) -> None:
        self.give()
        (self.folder / ED25519).chmod(0o644)
        self.load()
        self.assertEqual(stat.S_IMODE((self.folder / ED25519).stat().st_mode), 0o600)
        self.assertRegex(" ".join(self.said), "other users could read it")

    def test_an_unusable_file_is_one_line_that_names_it_and_it_stays(self) -> None:
        for case, content in {
            "empty": b"",
            "rubbish": b"\0this is a letter to my aunt",
            "encrypted": private("ssh-ed25519").private_bytes(
                Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"x")
            ),
            "another kind": private("ssh-rsa").private_bytes(
                Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
            ),
        }.items():
            with self.subTest(case):
                self.give()
                (self.folder / ED25519).write_bytes(content)
                with self.assertRaisesRegex(FilesError, f"^[^\n]*{ED25519}: [^\n]+$"):
                    self.load()
                self.assertEqual((self.folder / ED25519).read_bytes(), content)

    def test_a_damaged_key_is_one_line(self) -> None:
        self.give()
        whole = private("ssh-rsa").private_numbers()
        numbers = (whole.p, whole.q, whole.d + 2, whole.dmp1, whole.dmq1, whole.iqmp)
        damaged = rsa.RSAPrivateNumbers(*numbers, whole.public_numbers)
        write(self.folder / RSA, damaged.private_key(unsafe_skip_rsa_key_validation=True))
        with self.assertRaisesRegex(FilesError, f"^[^\n]*{RSA}: the private key is damaged$"):
            self.load()

    def test_a_folder_in_the_place_of_a_key_is_one_line(self) -> None:
        self.give()
        (self.folder / RSA).unlink()
        (self.folder / RSA).mkdir()
        with self.assertRaisesRegex(FilesError, f"{RSA}: Is a directory"):
            self.load()

    def test_a_folder_that_can_not_be_written_is_one_line(self) -> None:
        with self.assertRaisesRegex(FilesError, "No such file or directory"):
            load(self.folder / "nowhere")

    def test_a_link_to_a_key_that_others_may_read_is_refused(self) -> None:
        self.give()
        (self.folder / ED25519).rename(self.folder / "elsewhere")
        (self.folder / "elsewhere").chmod(0o644)
        (self.folder / ED25519).symlink_to(self.folder / "elsewhere")
        with self.assertRaisesRegex(FilesError, "all users may read it"):
            self.load()
