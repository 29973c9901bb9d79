"""The bundle: the files by which clients recognise a server. All nodes of a cluster share them.

They are the certificate, its key and the SSH host keys. ``admin cluster init`` packs them into a
tar file on one machine, and ``admin cluster join`` puts them into the state folders of the others.
This module must not know the cluster's log or the archive's contents.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from chat_twisted import files
from chat_twisted.doors import tls
from chat_twisted.doors.ssh import host_keys
from chat_twisted.doors.tls import ServerTLS, TLSError
from chat_twisted.files import FilesError, InUse, Say
from chat_twisted.storage import archive
from chat_twisted.storage.sql import sync

NAMES = (tls.CERTIFICATE, host_keys.ED25519, host_keys.RSA, tls.KEY)
"""The files of a bundle, in the order in which ``install`` writes them. No server starts with a
certificate without its key, so it can't make other files after an interrupted ``install``."""

MAX_FILE = 64 * 1024
"""Maximum bytes of one file."""

MAX_BUNDLE = 512 * 1024
"""Maximum bytes of a bundle."""

START_WITHIN = 5.0
"""Seconds to wait for a server that is starting or stopping."""

Contents = Mapping[str, bytes]
"""The bytes of the files by their ``NAMES``."""


class BundleError(Exception):
    """The bundle or the files can't be used. The message is one line for the user."""


def collect(folder: Path, own: tuple[Path, Path] | None, say: Say) -> Contents:
    """Read the files in a state folder; make those that do not exist. A server may run there.

    :param own: the certificate and the key that the server is started with, if it does not use
        those in the folder.
    :param say: as in ``files.make_private_folder``.
    :raises BundleError: if a file can't be used.
    :raises FilesError: if the folder or a file can't be read or written.
    """
    folder = files.make_private_folder(folder, say)
    with _no_start(folder, say):
        certificate, key = own or _making(folder, say)
        host_keys.load(folder, say)
        paths = {name: folder / name for name in NAMES}
        paths |= {tls.CERTIFICATE: certificate, tls.KEY: key}
        contents = {name: _read(path) for name, path in paths.items()}
    for name, data in contents.items():
        if len(data) > MAX_FILE:
            raise BundleError(f"{paths[name]}: longer than {MAX_FILE} bytes")
    describe(contents, folder)
    return contents


def _making(folder: Path, say: Say) -> tuple[Path, Path]:
    try:
        return tls.ensure(folder, say)
    except TLSError as error:
        raise BundleError(str(error)) from None


@contextlib.contextmanager
def _no_start(folder: Path, say: Say) -> Iterator[None]:
    """Keep servers from starting, and so from making the files, unless one runs already."""
    with contextlib.ExitStack() as stack:
        try:
            lock = archive.lock(folder, say, patience=START_WITHIN)
            stack.callback(lock.close)
        except InUse as error:
            if error.process is None:
                raise
        yield


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None


def describe(contents: Contents, folder: Path) -> list[str]:
    """Check that a server can use the files; return their fingerprints, one line each.

    :param folder: a private folder, in which the files are for a moment.
    :raises BundleError: if they can't be used.
    :raises FilesError: if they can't be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="bundle-", dir=folder) as name:
            there = Path(name)
            for file, data in contents.items():
                files.write_private(there / file, data)
            certificate = ServerTLS(there / tls.CERTIFICATE, there / tls.KEY).fingerprint
            keys = host_keys.load(there).fingerprints
    except OSError as error:
        raise FilesError(f"{error.filename or folder}: {error.strerror}") from None
    except (TLSError, FilesError) as error:
        raise BundleError(str(error).replace(f"{there}/", "")) from None
    return [f"certificate {certificate}", *(f"host key {' '.join(key.split())}" for key in keys)]


def write(path: Path, contents: Contents) -> None:
    """Write a bundle, which only its owner can read.

    :raises FilesError: if the file exists, or can't be written; nothing is left behind then.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(_pack(contents))
            file.flush()
            os.fsync(descriptor)
        sync(path.absolute().parent)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FilesError(f"{path}: {error.strerror}") from None
        raise


def _pack(contents: Contents) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in NAMES:
            member = tarfile.TarInfo(name)
            member.size = len(contents[name])
            member.mode = 0o600
            tar.addfile(member, io.BytesIO(contents[name]))
    return packed.getvalue()


def read(path: Path) -> Contents:
    """Read a bundle.

    :raises BundleError: if it is none, or other users can read or write it.
    :raises FilesError: if it can't be read.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            data = file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise FilesError(f"{path}: {error.strerror}") from None
    if found.st_mode & 0o077:
        raise BundleError(
            f"{path}: other users may read or write it, and it has private keys (chmod 600)"
        )
    if not stat.S_ISREG(found.st_mode) or len(data) > MAX_BUNDLE:
        raise BundleError(f"{path}: not a bundle")
    try:
        return _unpack(data)
    except BundleError as error:
        raise BundleError(f"{path}: not a bundle: {error}") from None


def _unpack(data: bytes) -> Contents:
    """Return the files of a bundle, which may be from anybody.

    :raises BundleError: unless it has exactly what ``_pack`` writes.
    """
    contents: dict[str, bytes] = {}
    position = 0
    # Not by TarFile, which follows links and extensions, and reads some damaged files for ever.
    while (header := data[position : position + tarfile.BLOCKSIZE]).strip(b"\0"):
        member = _parse(header)
        if member.name in contents:
            raise BundleError(f"it has {member.name} twice")
        start = position + tarfile.BLOCKSIZE
        contents[member.name] = data[start : start + member.size]
        if len(contents[member.name]) != member.size:
            raise BundleError("it ends too early")
        blocks = -(-member.size // tarfile.BLOCKSIZE)
        position = start + blocks * tarfile.BLOCKSIZE
    if missing := [name for name in NAMES if name not in contents]:
        raise BundleError(f"it does not have {missing[0]}")
    return contents


def _parse(header: bytes) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.TarError, ValueError):
        raise BundleError("it is damaged, or no tar file") from None
    if member.name not in NAMES:
        raise BundleError(f"it has a file {member.name!r}")
    if member.type != tarfile.REGTYPE or member.mode != 0o600:
        raise BundleError(f"{member.name} is not a private file in it")
    if not 0 <= member.size <= MAX_FILE:
        raise BundleError(f"{member.name} is longer than {MAX_FILE} bytes")
    return member


def install(folder: Path, contents: Contents, say: Say) -> list[str]:
    """Put the files of a bundle into a state folder in which no server runs.

    If this is interrupted, it can be done again.

    :param say: as in ``files.make_private_folder``.
    :return: the fingerprints, one line each.
    :raises BundleError: if the folder has other files of these names, or the files can't be used;
        nothing is changed then.
    :raises FilesError: if a server uses the folder, or a file can't be read or written.
    """
    folder = files.make_private_folder(folder, say)
    with contextlib.closing(archive.lock(folder, say, patience=START_WITHIN)):
        missing = []
        for name in NAMES:
            path = folder / name
            if not os.path.lexists(path):
                missing.append(name)
            elif _read(path) != contents[name]:
                raise BundleError(
                    f"{path}: another one than in the bundle; clients know this server by it. Move "
                    f"{', '.join(NAMES)} away if it shall be known by those of the bundle"
                )
            elif not path.is_symlink():  # the target of a link is checked when it is loaded
                files.make_private(path, say)
        lines = describe(contents, folder)
        try:
            for name in missing:
                files.write_private(folder / name, contents[name])
            sync(folder)
        except OSError as error:
            raise FilesError(f"{error.filename or folder}: {error.strerror}") from None
    return lines
