"""The bundle of the files that all nodes of a cluster share, and what it refuses."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import TestCase

from chat_twisted import bundle
from chat_twisted.bundle import MAX_BUNDLE, MAX_FILE, NAMES, BundleError, Contents
from chat_twisted.doors import tls
from chat_twisted.doors.ssh import host_keys
from chat_twisted.files import FilesError, InUse
from chat_twisted.storage import archive
from tests.quick_keys import shorten_keys


def silent(line: str) -> None:
    raise AssertionError(f"nothing was to be said: {line}")


@cache
def contents() -> Contents:
    """The files that a new server makes."""
    with tempfile.TemporaryDirectory() as folder:
        return bundle.collect(Path(folder), None, silent)


def packed(
    *members: tuple[str, bytes], mode: int = 0o600, kind: bytes = tarfile.REGTYPE, claim: int = 0
) -> bytes:
    """Pack a tar file of members that no ``init`` packs.

    :param claim: by how much the sizes in the headers are too large.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.type = len(data), mode, kind
            tar.addfile(member, io.BytesIO(data))
    if not claim:
        return file.getvalue()
    name, data = members[-1]
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(data) + claim, mode
    return header.tobuf() + data


class BundleTestCase(TestCase):
    def setUp(self) -> None:
        shorten_keys(self)
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.state = self.folder / "state"
        self.file = self.folder / "bundle.tar"

    def in_state(self) -> Contents:
        """The files in the state folder."""
        there = (path for path in self.state.iterdir() if path.name in NAMES)
        return {path.name: path.read_bytes() for path in there}

    def put(self, data: bytes) -> None:
        """Write a file in the place of a bundle."""
        self.file.write_bytes(data)
        self.file.chmod(0o600)


class MakingTests(BundleTestCase):
    def test_a_new_folder_gets_the_files_and_the_bundle_has_them(self) -> None:
        made = bundle.collect(self.state, None, silent)
        self.assertEqual(self.in_state(), made)
        self.assertEqual(self.state.stat().st_mode & 0o777, 0o700)
        self.assertEqual(sorted(made), sorted(NAMES))
        bundle.write(self.file, made)
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(bundle.read(self.file), made)
        self.assertEqual(bundle.collect(self.state, None, silent), made)

    def test_other_programs_can_list_it(self) -> None:
        bundle.write(self.file, contents())
        with tarfile.open(self.file) as tar:
            found = [(member.name, member.mode) for member in tar]
        self.assertEqual(found, [(name, 0o600) for name in NAMES])

    def test_the_operators_own_certificate_is_packed_instead_of_the_folders(self) -> None:
        bundle.install(self.state, contents(), silent)
        own = tls.ensure(self.folder)
        made = bundle.collect(self.state, own, silent)
        self.assertEqual(made[tls.CERTIFICATE], own[0].read_bytes())
        self.assertEqual(made[tls.KEY], own[1].read_bytes())
        self.assertEqual(made[host_keys.RSA], contents()[host_keys.RSA])
        self.assertEqual(self.in_state(), contents())

    def test_a_certificate_and_the_key_of_another_are_refused(self) -> None:
        bundle.install(self.state, contents(), silent)
        certificate, _ = tls.ensure(self.folder)
        with self.assertRaisesRegex(BundleError, r"^private-key\.pem is not the key of cert"):
            bundle.collect(self.state, (certificate, self.state / tls.KEY), silent)

    def test_a_certificate_without_its_key_is_refused(self) -> None:
        bundle.install(self.state, contents(), silent)
        (self.state / tls.KEY).unlink()
        with self.assertRaisesRegex(BundleError, "its key private-key.pem is not"):
            bundle.collect(self.state, None, silent)

    def test_a_file_that_is_too_long_for_a_bundle_is_refused(self) -> None:
        bundle.install(self.state, contents(), silent)
        with open(self.state / tls.CERTIFICATE, "ab") as file:
            file.write(b"\n" * MAX_FILE)
        with self.assertRaisesRegex(BundleError, "certificate.pem: longer than 65536 bytes"):
            bundle.collect(self.state, None, silent)

    def test_a_running_server_does_not_matter_and_a_starting_one_does(self) -> None:
        bundle.install(self.state, contents(), silent)
        self.patch(bundle, "START_WITHIN", 0.0)
        lock = archive.lock(self.state)
        self.addCleanup(lock.close)
        with self.assertRaises(InUse):
            bundle.collect(self.state, None, silent)
        lock.write()
        self.assertEqual(bundle.collect(self.state, None, silent), contents())

    def test_an_existing_file_is_not_replaced(self) -> None:
        self.file.write_text("mine")
        with self.assertRaisesRegex(FilesError, "bundle.tar: File exists"):
            bundle.write(self.file, contents())
        self.assertEqual(self.file.read_text(), "mine")

    def test_nothing_is_left_of_a_bundle_that_could_not_be_written(self) -> None:
        with (
            mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
            self.assertRaisesRegex(FilesError, "bundle.tar: No space left on device"),
        ):
            bundle.write(self.file, contents())
        self.assertFalse(self.file.exists())


class InstallingTests(BundleTestCase):
    def test_the_files_come_private_into_a_new_folder_and_a_server_can_use_them(self) -> None:
        lines = bundle.install(self.state, contents(), silent)
        self.assertEqual(self.in_state(), contents())
        for path in self.state.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        self.assertEqual({path.name for path in self.state.iterdir()}, {*NAMES, archive.LOCK})
        used = tls.ServerTLS(*tls.ensure(self.state))
        [certificate, *keys] = lines
        self.assertEqual(certificate, f"certificate {used.fingerprint}")
        prints = host_keys.load(self.state).fingerprints
        self.assertEqual(keys, [f"host key {' '.join(print.split())}" for print in prints])

    def test_it_can_be_done_twice(self) -> None:
        lines = bundle.install(self.state, contents(), silent)
        self.assertEqual(bundle.install(self.state, contents(), silent), lines)
        self.assertEqual(self.in_state(), contents())

    def test_an_interrupted_one_can_be_done_again_and_no_server_starts_before(self) -> None:
        for number, missing in enumerate(NAMES[1:], 1):
            with mock.patch(
                "pathlib.Path.rename", autospec=True, side_effect=self.fail_at(self.state / missing)
            ):
                self.assertRaises(ZeroDivisionError, bundle.install, self.state, contents(), silent)
            self.assertEqual(set(self.in_state()), set(NAMES[:number]))
            self.assertRaises(tls.TLSError, tls.ensure, self.state)
        bundle.install(self.state, contents(), silent)
        self.assertEqual(self.in_state(), contents())

    def fail_at(self, path: Path) -> object:
        """A ``Path.rename`` that ends with an error at one target."""

        def rename(source: Path, target: Path) -> None:
            if target == path:
                raise ZeroDivisionError
            os.rename(source, target)

        return rename

    def test_a_folder_that_has_another_file_is_left_alone(self) -> None:
        for name in NAMES:
            shutil.rmtree(self.state, ignore_errors=True)
            self.state.mkdir(mode=0o700)
            (self.state / name).write_bytes(b"another")
            (self.state / name).chmod(0o600)
            with self.assertRaisesRegex(BundleError, f"{name}: another one than in the bundle"):
                bundle.install(self.state, contents(), silent)
            self.assertEqual(self.in_state(), {name: b"another"})

    def test_nothing_is_changed_while_a_server_runs(self) -> None:
        self.state.mkdir(mode=0o700)
        lock = archive.lock(self.state)
        self.addCleanup(lock.close)
        lock.write()
        with self.assertRaisesRegex(InUse, "another server uses it"):
            bundle.install(self.state, contents(), silent)
        self.assertEqual(self.in_state(), {})

    def test_files_that_no_server_can_use_are_refused_and_name_no_other_folder(self) -> None:
        for name in NAMES:
            with self.assertRaises(BundleError) as raised:
                bundle.install(self.state, {**contents(), name: b"nonsense"}, silent)
            self.assertTrue(str(raised.exception).startswith(f"{name}: not "), raised.exception)
            self.assertEqual({path.name for path in self.state.iterdir()}, {archive.LOCK})


class ReadingTests(BundleTestCase):
    def assertRefused(self, reason: str, data: bytes) -> None:
        self.put(data)
        with self.assertRaises(BundleError) as raised:
            bundle.read(self.file)
        self.assertIn(f"bundle.tar: not a bundle: {reason}", str(raised.exception))

    def test_a_bundle_that_others_can_read_or_write_is_refused(self) -> None:
        bundle.write(self.file, contents())
        for mode in (0o640, 0o604, 0o620, 0o602):
            self.file.chmod(mode)
            with self.assertRaisesRegex(BundleError, r"other users may .*\(chmod 600\)"):
                bundle.read(self.file)

    def test_what_init_does_not_write_is_refused(self) -> None:
        files = list(contents().items())
        ours, data = files[0]
        self.assertRefused("it does not have private-key.pem", packed(*files[:-1]))
        self.assertRefused("it has a file '../certificate.pem'", packed((f"../{ours}", data)))
        self.assertRefused("it has a file '/etc/passwd'", packed(("/etc/passwd", b"")))
        self.assertRefused("it has a file 'lock'", packed(*files, ("lock", b"")))
        self.assertRefused(f"it has {ours} twice", packed(*files, files[0]))
        self.assertRefused(f"{ours} is not a private", packed(*files, mode=0o644))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            self.assertRefused(f"{ours} is not a private", packed((ours, b""), kind=kind))
        self.assertRefused(f"{ours} is longer", packed((ours, bytes(MAX_FILE + 1))))
        self.assertRefused(f"{ours} is longer", packed((ours, data), claim=8**10))
        self.assertRefused("it ends too early", packed((ours, data), claim=2000))
        self.assertRefused("it is damaged", b"nonsense")
        self.assertRefused("it does not have certificate.pem", b"")

    def test_a_file_that_is_too_long_or_no_file_is_refused(self) -> None:
        self.put(bytes(MAX_BUNDLE + 1))
        self.assertRaises(BundleError, bundle.read, self.file)
        self.assertRaises(FilesError, bundle.read, self.folder)
        self.assertRaises(FilesError, bundle.read, self.folder / "nowhere")

    def test_the_longest_files_are_taken(self) -> None:
        longest = dict.fromkeys(NAMES, bytes(MAX_FILE))
        bundle.write(self.file, longest)
        self.assertEqual(bundle.read(self.file), longest)

    def test_a_damaged_bundle_is_refused_or_has_files_of_these_names(self) -> None:
        whole = packed(*contents().items())
        draw = random.Random(19)
        refused = 0
        for _ in range(500):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                start = draw.choice((0, draw.randrange(len(data))))  # often in a header
                data[start + draw.randrange(512) : draw.randrange(len(data))] = draw.randbytes(
                    draw.randint(0, 20)
                )
            self.put(bytes(data))
            try:
                found = bundle.read(self.file)
            except BundleError:
                refused += 1
            else:
                self.assertEqual(list(found), list(NAMES))
        self.assertGreater(refused, 250)
