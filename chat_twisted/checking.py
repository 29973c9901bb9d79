"""``twistd chatserver --check``: what would keep the server from starting with its options.

Everything is read, and nothing is made or changed, so it works beside a running server too. The
options themselves are checked when they are parsed. This module must not start parts of the server.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.protocol import Factory

from chat_twisted import passed_sockets
from chat_twisted.doors.ssh import host_keys
from chat_twisted.doors.tls import CERTIFICATE, KEY, ServerTLS, TLSError
from chat_twisted.files import FilesError, acting_as, is_locked, make_private_folder, require_owner
from chat_twisted.listening import (
    count_connections,
    for_this_machine,
    listen,
    make_endpoints,
    require_prometheus,
)
from chat_twisted.options import PORT, Options, tell
from chat_twisted.state_folder import require_readable
from chat_twisted.storage import archive, clustered, index, sql, upgrade
from chat_twisted.storage.joining import Found

EXPIRES_SOON = datetime.timedelta(days=30)
"""A certificate that is valid for a shorter time is reported."""

Examine = Callable[[Path, Found, Callable[[str], None]], None]
"""Examines whether a state folder can be used in the cluster. It gets the folder, what that has,
and a function that reports a line that is no problem; it raises ``FilesError``."""


class Check:
    """Checks options.

    :ivar problems: how many problems were reported.
    :param user, group: as in ``StateFolder``.
    :param examine_cluster: examines the cluster, if the options name one.
    :param say: reports a line to the operator.
    """

    def __init__(
        self,
        options: Options,
        user: int | None,
        group: int | None,
        examine_cluster: Examine,
        say: Callable[[str], None] = tell,
    ) -> None:
        self.problems = 0
        self._options = options
        self._user, self._group = user, group
        self._examine_cluster = examine_cluster
        self._say = say
        self._running = False
        self._found = Found(None, 0)

    def run(self, reactor: Any) -> int:
        """Check everything, and report it.

        :return: the exit status: 0 if there is no problem, else 1.
        """
        with self._reporting(), acting_as(self._user, self._group):
            folder = self._options["state"] or archive.default_folder(self._user)
            if self._has_folder(folder):
                self._running = is_locked(folder / archive.LOCK)
                for check in (self._check_files, self._check_archive, self._check_host_keys):
                    with self._reporting():
                        check(folder)
            for check in (self._check_certificate, self._check_cluster, self._check_logs):
                with self._reporting():
                    check(folder)
        with self._reporting():
            count_connections(self._options["max-clients"])
        if self._running:
            self._note("a server uses the state folder, so the addresses are not checked")
        else:
            self._check_addresses(reactor)
        self._say("nothing is wrong" if not self.problems else f"{self.problems} problems")
        return 1 if self.problems else 0

    def _problem(self, line: str) -> None:
        self.problems += 1
        self._say(line)

    def _note(self, line: str) -> None:
        self._say(f"note: {line}")

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Report what the body raises; functions that end the start have reported it already."""
        try:
            yield
        except (FilesError, TLSError) as error:
            self._problem(str(error))
        except SystemExit:
            self.problems += 1

    # The state folder

    def _has_folder(self, folder: Path) -> bool:
        """Check the state folder; return whether there is a usable one."""
        with self._reporting():
            if folder.exists():
                make_private_folder(folder, self._note)
                return True
            parent = next(path for path in folder.parents if path.exists())
            _require_access(parent, os.W_OK | os.X_OK)
            self._note(f"{folder} will be made")
        return False

    def _check_files(self, folder: Path) -> None:
        names = (archive.FILE, index.FILE, archive.LOCK, CERTIFICATE, KEY)
        for name in (*names, host_keys.ED25519, host_keys.RSA):
            path = folder / name
            if path.exists() and not path.is_symlink():
                with self._reporting():
                    require_owner(path)

    def _check_archive(self, folder: Path) -> None:
        path = folder / archive.FILE
        if not path.exists():
            return
        try:
            if sql.has_foreign_log(path):
                raise FilesError(f"{path}: {path.name}-wal beside it is of another file")
            with contextlib.closing(sql.open_to_read(path, in_use=self._running)) as connection:
                [schema] = connection.execute("PRAGMA user_version").fetchone()
                if schema > upgrade.newest_schema():
                    raise FilesError(
                        f"{path}: made by a newer version of the server (schema {schema}, this one "
                        f"knows {upgrade.newest_schema()})"
                    )
                if schema < upgrade.newest_schema():
                    self._note(f"{path}: the start updates it from schema {schema}, after a copy")
                node, version = clustered.find_node(connection), schema
                if schema >= upgrade.FIRST_WITH_VERSION:
                    [version] = connection.execute("SELECT version FROM progress").fetchone()
                self._found = Found(node, version)
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FilesError(f"{path}: {reason}") from None
        if node is not None and self._options.cluster is None:
            raise node.refuse_start(path)

    def _check_host_keys(self, folder: Path) -> None:
        if self._options["ssh"] != "yes":
            return
        for name in (host_keys.ED25519, host_keys.RSA):
            if (folder / name).exists():
                with self._reporting():
                    host_keys.read(folder / name)

    # Other files

    def _check_certificate(self, folder: Path) -> None:
        own = (folder / CERTIFICATE, folder / KEY)
        files = self._options.certificate_files or own
        if files == own and not any(path.exists() for path in own):
            return  # they are made at the first start
        ServerTLS(*files)
        first, *_ = x509.load_pem_x509_certificates(files[0].read_bytes())
        left = first.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        if left <= datetime.timedelta(0):
            self._problem(f"{files[0]}: the certificate has expired")
        elif left < EXPIRES_SOON:
            self._note(f"{files[0]}: the certificate expires in {left.days} days")

    def _check_logs(self, folder: Path) -> None:
        for path in (self._options.log_path, self._options["audit"]):
            if path is not None:
                with self._reporting():
                    if path.exists():
                        _require_access(path, os.W_OK)
                    else:
                        _require_access(path.parent, os.W_OK | os.X_OK)

    def _check_cluster(self, folder: Path) -> None:
        cluster = self._options.cluster
        if cluster is None:
            return
        require_readable(cluster.credentials, secret=True)
        require_readable(cluster.ca)
        self._examine_cluster(folder, self._found, self._note)

    # Addresses

    def _check_addresses(self, reactor: Any) -> None:
        addresses = [("--listen", description) for description in self._options["listen"]]
        if not self._options.listens and passed_sockets.listens_for_root(PORT):
            self._note(f"root listens on port {PORT}, as a socket unit does, so it is not checked")
            addresses = []
        if self._options["metrics"] is not None:
            with self._reporting():
                require_prometheus()
            addresses.append(("--metrics", for_this_machine(self._options["metrics"])))
        for option, description in addresses:
            kind = description.removeprefix("haproxy:").partition(":")[0]
            with self._reporting():
                endpoints = make_endpoints([description], reactor, option)
                if kind in ("tcp", "tcp6"):
                    listen(endpoints, Factory(), reactor)  # until the process ends
                else:
                    self._note(f"{option} {description}: not checked")


def _require_access(path: Path, mode: int) -> None:
    """Check that this user may access a file.

    :raises FilesError: if not.
    """
    if not path.exists():
        raise FilesError(f"{path}: No such file or directory")
    if mode & os.X_OK and not path.is_dir():
        raise FilesError(f"{path}: Not a directory")
    if not os.access(path, mode, effective_ids=os.access in os.supports_effective_ids):
        raise FilesError(f"{path}: Permission denied")
