"""The certificate: made once, checked when it is loaded, kept when what replaces it is broken."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from twisted.trial.unittest import TestCase

from chat_twisted.doors.tls import ServerTLS, TLSError, ensure


class CertificateTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_it_is_made_once_for_ten_years_and_its_key_is_for_the_owner_alone(self) -> None:
        certificate, key = ensure(self.folder)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        public = found.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        self.assertEqual(public.curve.name, "secp256r1")
        valid = found.not_valid_after_utc - found.not_valid_before_utc
        self.assertGreaterEqual(valid.days, 3650)
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        before = certificate.read_bytes(), key.read_bytes()
        self.assertEqual(ensure(self.folder), (certificate, key))
        self.assertEqual((certificate.read_bytes(), key.read_bytes()), before)
        self.assertEqual(len(list(self.folder.iterdir())), 2)

    def test_a_start_that_was_broken_off_between_the_two_files_is_made_good(self) -> None:
        certificate, _ = ensure(self.folder)
        certificate.unlink()
        ServerTLS(*ensure(self.folder))

    def test_a_certificate_without_its_key_is_an_error_and_stays(self) -> None:
        certificate, key = ensure(self.folder)
        key.unlink()
        with self.assertRaisesRegex(TLSError, "its key private-key.pem is not"):
            ensure(self.folder)
        self.assertTrue(certificate.exists())

    def test_a_folder_that_can_not_be_written_is_one_line(self) -> None:
        with self.assertRaisesRegex(TLSError, "No such file or directory"):
            ensure(self.folder / "nowhere")

    def test_an_unusable_file_is_one_line_that_names_it(self) -> None:
        certificate, key = ensure(self.folder)
        other = self.folder / "other"
        other.mkdir()
        _, other_key = ensure(other)
        locked = self.folder / "locked.pem"
        locked.write_bytes(
            ed25519.Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
            )
        )
        rubbish = self.folder / "rubbish"
        rubbish.write_bytes(b"\0this is a letter to my aunt")
        for file in (locked, rubbish):
            file.chmod(0o600)
        for files, reason in (
            ((rubbish, key), "rubbish: not a certificate in PEM"),
            ((key, key), "private-key.pem: not a certificate in PEM"),
            ((certificate, rubbish), "rubbish: not an unencrypted private key in PEM"),
            ((certificate, locked), "locked.pem: not an unencrypted private key in PEM"),
            ((certificate, other_key), "is not the key of"),
            ((self.folder / "nowhere", key), "nowhere: No such file or directory"),
            ((self.folder, key), "Is a directory"),
        ):
            with self.assertRaisesRegex(TLSError, reason):
                ServerTLS(*files)

    def test_a_reload_takes_the_new_files_and_keeps_the_old_ones_if_those_are_broken(self) -> None:
        certificate, key = ensure(self.folder)
        tls = ServerTLS(certificate, key)
        first = tls.fingerprint
        self.assertRegex(first, r"^SHA256:[A-Za-z0-9+/]{43}$")
        certificate.write_bytes(b"broken")
        self.assertRaises(TLSError, tls.reload)
        self.assertEqual(tls.fingerprint, first)
        certificate.unlink()
        ensure(self.folder)
        tls.reload()
        self.assertNotEqual(tls.fingerprint, first)

    def test_a_key_that_others_may_read_or_write_is_refused_and_a_group_may_read_it(self) -> None:
        certificate, key = ensure(self.folder)
        for mode, reason in ((0o604, "all users may read it"), (0o620, "other users may write it")):
            key.chmod(mode)
            with self.assertRaisesRegex(TLSError, f"private-key.pem: {reason}"):
                ServerTLS(certificate, key)
        key.chmod(0o640)
        ServerTLS(certificate, key)
        certificate.chmod(0o666)
        with self.assertRaisesRegex(TLSError, "certificate.pem: other users may write it"):
            ServerTLS(certificate, key)

    def test_the_key_that_the_server_has_made_is_taken_from_others(self) -> None:
        _, key = ensure(self.folder)
        key.chmod(0o644)
        said: list[str] = []
        ensure(self.folder, said.append)
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        self.assertEqual(said, [f"{key}: other users could read it; from now on they can't"])
