"""The user's private key: created at first use, completely or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.trial.unittest import TestCase

from chat_twisted.client import identity as identity_module
from chat_twisted.client.identity import Identity, read_key
from chat_twisted.ui.errors import IdentityError


class IdentityTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "config" / "key"

    def identity(self, *, own: bool = True) -> Identity:
        return Identity(self.path, own=own)

    def refused(self, *, own: bool = True) -> str:
        with self.assertRaises(IdentityError) as caught:
            self.identity(own=own).public()
        return str(caught.exception)


class OwnKeyTests(IdentityTestCase):
    def test_it_is_made_when_it_is_needed_and_the_same_from_then_on(self) -> None:
        self.assertFalse(self.identity().has_key())
        public = self.identity().public()
        self.assertTrue(self.identity().has_key())
        self.assertEqual(self.identity().public(), public)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_where_there_is_no_room_for_it_nothing_of_it_stays(self) -> None:
        def full(_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "fsync", full)
        self.assertEqual(self.refused(), f"{self.path}: No space left on device")
        self.assertEqual(list(self.path.parent.iterdir()), [])

    def test_an_empty_file_is_no_key_and_is_replaced(self) -> None:
        self.path.parent.mkdir()
        self.path.touch()
        self.assertFalse(self.identity().has_key())
        public = self.identity().public()
        self.assertEqual(self.identity().public(), public)

    def test_half_a_key_is_kept_and_reported_with_a_remedy(self) -> None:
        self.identity().public()
        half = self.path.read_bytes()[:100]
        self.path.write_bytes(half)
        reason = "not a private key, or not its passphrase"
        self.assertEqual(
            self.refused(), f"{self.path}: {reason}; move it away, and a new one is made"
        )
        self.assertEqual(self.refused(own=False), f"{self.path}: {reason}")
        self.assertEqual(self.path.read_bytes(), half)


class PassphraseTests(IdentityTestCase):
    def test_the_package_that_opens_the_keys_of_openssh_is_named_if_it_is_missing(self) -> None:
        def load(data: bytes, passphrase: bytes | None) -> None:
            if passphrase is None:
                raise TypeError("Key is password-protected")
            raise UnsupportedAlgorithm("Need bcrypt module")

        self.patch(identity_module, "load_ssh_private_key", load)
        self.path.parent.mkdir()
        self.path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
        self.assertRegex(self.refused(own=False), "install the Python package bcrypt$")


class CertificateTests(IdentityTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path.parent.mkdir()
        self.file = self.folder / "alice.pem"

    def certify(self, private: PrivateKeyTypes, passphrase: str = "") -> x509.Certificate:
        """Write a key file, and its certificate; return this, after it was checked."""
        locked = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        format = PrivateFormat.PKCS8 if passphrase else PrivateFormat.OpenSSH
        self.path.write_bytes(private.private_bytes(Encoding.PEM, format, locked))
        identity = Identity(self.path, own=False, ask=lambda _: passphrase)
        identity.write_certificate(self.file, "alice")
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        data = self.file.read_bytes()
        self.file.unlink()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)  # OpenSSL can use it
        context.use_certificate(x509.load_pem_x509_certificate(data))
        context.use_privatekey(load_pem_private_key(data, None))
        context.check_privatekey()
        return x509.load_pem_x509_certificate(data)

    def test_one_file_has_the_key_and_its_certificate(self) -> None:
        for private in (
            ed25519.Ed25519PrivateKey.generate(),
            ec.generate_private_key(ec.SECP384R1()),
            rsa.generate_private_key(65537, 2048),
        ):
            certificate = self.certify(private)
            self.assertEqual(certificate.public_key(), private.public_key())
            certificate.verify_directly_issued_by(certificate)
            self.assertEqual(certificate.subject.rfc4514_string(), "CN=alice")

    def test_of_a_key_with_a_passphrase_too(self) -> None:
        private = ed25519.Ed25519PrivateKey.generate()
        certificate = self.certify(private, "passphrase")
        self.assertEqual(certificate.public_key(), private.public_key())

    def test_the_clients_own_key_is_made_for_it(self) -> None:
        self.identity().write_certificate(self.file, "alice")
        private = load_pem_private_key(self.file.read_bytes(), None)
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.assertEqual(self.identity().public(), public.decode())

    def test_no_file_is_overwritten_and_nothing_of_a_failed_one_stays(self) -> None:
        def full(_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.identity().public()
        for file, reason in (
            (self.path, "File exists"),
            (self.folder / "none" / "x", "No such file or directory"),
            (Path("a\0b"), "not a file name"),
        ):
            with self.assertRaisesRegex(IdentityError, f"{file}: {reason}"):
                self.identity().write_certificate(file, "alice")
        self.patch(os, "fsync", full)
        with self.assertRaisesRegex(IdentityError, "No space left on device"):
            self.identity().write_certificate(self.file, "alice")
        self.assertFalse(self.file.exists())


class PublicKeyTests(IdentityTestCase):
    def test_a_mark_at_the_start_of_the_file_is_not_part_of_it(self) -> None:
        self.path.parent.mkdir()
        self.path.write_bytes(b"\xef\xbb\xbfssh-ed25519 AAAA bob\n")
        self.assertEqual(read_key(str(self.path)), "ssh-ed25519 AAAA bob")

    def test_an_invalid_file_or_key_is_one_line(self) -> None:
        (self.folder / "binary").write_bytes(b"\xff\xfe")
        for name, reason in (
            ("a\0b", "not a public key"),
            (f"{self.folder}/binary", "not a public key"),
            (f"{self.folder}/none", "No such file or directory"),
            (f"{self.folder}/\udcff", "No such file or directory"),
        ):
            with self.assertRaises(IdentityError) as caught:
                read_key(name)
            self.assertEqual(str(caught.exception), f"{name}: {reason}")

    def test_a_private_key_is_called_one(self) -> None:
        file = self.folder / "key"
        for line in (
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----",
            "PuTTY-User-Key-File-3: ssh-ed25519",
        ):
            file.write_text(f"{line}\nsecret\n")
            with self.assertRaises(IdentityError) as caught:
                read_key(str(file))
            self.assertIn("key is a private key", str(caught.exception))
            self.assertIn("key.pub", str(caught.exception))

    def test_a_file_without_end_is_read_for_so_long_and_no_longer(self) -> None:
        self.patch(identity_module, "MAX_KEY", 5)
        self.path.parent.mkdir()
        self.path.write_text("ssh-ed25519")
        self.assertEqual(read_key(str(self.path)), "ssh-e")
