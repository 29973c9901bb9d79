"""SSH host keys for tests, which need not wait for large primes.

Who needs files that a server has made copies ``host_key_files``. Where the code under test makes
them itself, ``shorten_keys`` has it make RSA keys of a third of the length in a twentieth of the
time: all else is as it is. test_ssh_host_keys.py makes keys of the full length.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.doors.ssh import host_keys

RSA_SIZE = 1024
"""Bits; the least that OpenSSL and OpenSSH accept."""


def shorten_keys(case: TestCase) -> None:
    """Have short RSA keys made for the duration of a test."""
    case.patch(host_keys, "RSA_SIZE", RSA_SIZE)


@cache
def host_key_files() -> dict[str, bytes]:
    """Return the files of host keys of the full length, made once in this process."""
    with tempfile.TemporaryDirectory() as name:
        host_keys.load(Path(name))
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def put_host_keys(folder: Path) -> None:
    """Put the host keys of this process into a new state folder."""
    folder.mkdir(0o700)
    for name, data in host_key_files().items():
        path = folder / name
        path.touch(0o600)
        path.write_bytes(data)
