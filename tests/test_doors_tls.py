"""The certificate: made once, checked when it is loaded, kept when what replaces it is broken; and
those that clients show.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from OpenSSL import SSL, crypto
from twisted.trial.unittest import TestCase

from chat_twisted.client.tls import parse_fingerprint
from chat_twisted.doors.tls import ServerTLS, TLSError, certificate_key, ensure


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
        self.assertRegex(tls.digits, r"^[0-9a-f]{64}$")
        self.assertRegex(tls.pairs, r"^([0-9A-F]{2}:){31}[0-9A-F]{2}$")
        for text in (tls.digits, tls.pairs):
            self.assertEqual(parse_fingerprint(text), first)
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


class AuthorityTests(TestCase):
    """Whether the system's authorities vouch for a certificate."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.trusted = self.folder / "trusted.pem"
        for name, path in (("SSL_CERT_FILE", self.trusted), ("SSL_CERT_DIR", self.folder / "none")):
            before = os.environ.get(name)
            os.environ[name] = str(path)  # OpenSSL reads it from the process itself
            if before is None:
                self.addCleanup(os.environ.pop, name)
            else:
                self.addCleanup(os.environ.__setitem__, name, before)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.trusted.write_text("")

    def sign(self, name: str, private: Any, by: str, issuer: Any, days: int = 1) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        subject, author = (
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, who)]) for who in (name, by)
        )
        made = (
            x509.CertificateBuilder(author, subject, private.public_key(), 1)
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(name != "chat", None), critical=True)
        )
        return made.sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM)

    def load(self, *certificates: bytes) -> ServerTLS:
        files = self.folder / "given.pem", self.folder / "key.pem"
        data = (
            b"".join(certificates),
            self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )
        for file, content in zip(files, data, strict=True):
            file.write_bytes(content)
            file.chmod(0o600)
        return ServerTLS(*files)

    def test_by_a_chain_up_to_one_that_is_trusted(self) -> None:
        root, middle = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        first = self.sign("chat", self.key, "middle", middle)
        between = self.sign("middle", middle, "root", root)
        self.assertFalse(self.load(first, between).is_vouched_for)
        self.trusted.write_bytes(self.sign("root", root, "root", root))
        self.assertFalse(self.load(first).is_vouched_for)
        tls = self.load(first, between)
        self.assertTrue(tls.is_vouched_for)
        self.load(self.sign("chat", self.key, "middle", middle, days=-1), between)
        tls.reload()
        self.assertFalse(tls.is_vouched_for)

    def test_not_for_one_that_the_server_has_made(self) -> None:
        self.assertFalse(ServerTLS(*ensure(self.folder)).is_vouched_for)


def certify(private: Any, *, days: int = 1, longer: int = 0) -> x509.Certificate:
    """Make a self-signed certificate that is valid for some days; less than 0: it has expired.

    :param longer: the bytes of an extension without a meaning.
    """
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(subject, subject, private.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    if longer:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(longer))
        builder = builder.add_extension(extension, critical=False)
    without_hash = isinstance(private, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(private, None if without_hash else hashes.SHA256())


def openssh(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


class ClientCertificateTests(TestCase):
    """Both sides in memory, as bytes that are carried to and fro."""

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.tls = ServerTLS(*ensure(folder))
        self.key = ed25519.Ed25519PrivateKey.generate()

    def client(
        self, private: Any = None, certificate: Any = None, version: int = VERSIONS[1]
    ) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        if private is not None:
            context.use_certificate(certificate or certify(private))
            context.use_privatekey(private)
        peer = SSL.Connection(context, None)
        peer.set_connect_state()
        return peer

    def connect(self, peer: SSL.Connection) -> SSL.Connection:
        """Complete the handshake of a client, and send a byte in each direction."""
        own = self.tls.serverConnectionForTLS(None)
        own.set_accept_state()
        self.carried = 0
        for _ in range(4):
            for one, other in ((peer, own), (own, peer)):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    self.carried += other.bio_write(one.bio_read(65536))
        for one, other in ((peer, own), (own, peer)):
            one.send(b"x")
            other.bio_write(one.bio_read(65536))
            self.assertEqual(other.recv(1), b"x")
        return own

    def test_a_client_without_a_certificate_is_served(self) -> None:
        for version in VERSIONS:
            self.assertEqual(certificate_key(self.connect(self.client(version=version))), "")

    def test_the_key_of_each_accepted_type_is_known(self) -> None:
        for private in (
            self.key,
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
        ):
            for version in VERSIONS:
                own = self.connect(self.client(private, version=version))
                self.assertEqual(certificate_key(own), openssh(private))

    def test_whoever_has_signed_it_and_whenever_it_has_expired(self) -> None:
        for days in (1, -1):
            own = self.connect(self.client(self.key, certify(self.key, days=days)))
            self.assertEqual(certificate_key(own), openssh(self.key))

    def test_a_key_of_another_type_is_none_and_its_client_is_served(self) -> None:
        for private in (
            ed448.Ed448PrivateKey.generate(),
            rsa.generate_private_key(65537, 1024),
        ):
            self.assertEqual(certificate_key(self.connect(self.client(private))), "")

    def test_a_resumed_session_still_has_the_key(self) -> None:
        for version in VERSIONS:
            first = self.client(self.key, version=version)
            self.connect(first)
            full = self.carried
            session = first.get_session()
            assert session is not None
            second = SSL.Connection(first.get_context(), None)
            second.set_connect_state()
            second.set_session(session)
            self.assertEqual(certificate_key(self.connect(second)), openssh(self.key))
            self.assertLess(self.carried, full - 400)  # no certificate of either side was sent

    def test_a_damaged_certificate_that_is_still_one_does_no_harm(self) -> None:
        good = certify(self.key).public_bytes(Encoding.DER)
        known = 0
        for place in range(len(good)):
            damaged = good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :]
            try:
                peer = self.client(self.key, x509.load_der_x509_certificate(damaged))
            except (ValueError, crypto.Error, SSL.Error):
                continue  # not even this client's side can use it
            found = certificate_key(self.connect(peer))
            known += found == openssh(self.key)
            self.assertIn(found, ("", openssh(self.key)))
        self.assertGreater(known, 50)
