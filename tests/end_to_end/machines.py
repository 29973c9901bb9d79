"""Machines with cables that can be pulled: network namespaces, connected by bridges.

``alone`` is how a program is started that may use the rest: as the first process of namespaces of
its own. So it need not be root, and everything that it makes or starts is gone when it ends.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.forks import ROOT

UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork")
CLONE_NEWNET = 0x40000000  # sched.h

_libc = ctypes.CDLL(None, use_errno=True)


def alone(*arguments: str) -> list[str]:
    """Return the command that runs ``python -m ARGUMENTS`` in new namespaces.

    The program and all its processes are killed when the command ends.
    """
    return [*UNSHARE, "--kill-child", sys.executable, "-m", *arguments]


def why_not_alone() -> str:
    """Return why this system can't run programs so, or nothing if it can."""
    script = "ip link add name hub type bridge && mount -t tmpfs none /mnt"
    try:
        done = subprocess.run(
            [*UNSHARE, "sh", "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
        )
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


def ip(command: str) -> None:
    """Run a command of ``ip`` in the current network namespace."""
    subprocess.run(["ip", *command.split()], check=True)


class Bridge:
    """A network of machines, to which this program belongs too, at ``.1``.

    :param name: at most ten letters.
    :param network: the first three numbers of the addresses.
    """

    def __init__(self, name: str, network: str) -> None:
        self.name = name
        self.network = network
        ip(f"link add name {name} type bridge")
        ip(f"address add {network}.1/24 dev {name}")
        ip(f"link set dev {name} up")

    def close(self) -> None:
        ip(f"link delete dev {self.name}")


class Machine:
    """A network namespace with a cable to each of some bridges.

    :param number: the last part of its addresses.
    """

    def __init__(self, number: int, *bridges: Bridge) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._ports = {bridge: f"{bridge.name}{number}" for bridge in bridges}
        _succeed(_libc.unshare(CLONE_NEWNET))
        self._net = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        # The process by whose number ``ip`` finds the namespace. It ends with its input.
        self._holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        ip("link set dev lo up")
        _succeed(_libc.setns(self._home, CLONE_NEWNET))
        for bridge, port in self._ports.items():
            peer = f"type veth peer name {bridge.name} netns {self._holder.pid}"
            ip(f"link add name {port} {peer}")
            ip(f"link set dev {port} master {bridge.name} up")
            with self.inside():
                ip(f"address add {bridge.network}.{number}/24 dev {bridge.name}")
                ip(f"link set dev {bridge.name} up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets and processes that are made meanwhile belong to the machine."""
        _succeed(_libc.setns(self._net, CLONE_NEWNET))
        try:
            yield
        finally:
            _succeed(_libc.setns(self._home, CLONE_NEWNET))

    def unplug(self, bridge: Bridge) -> None:
        """Pull the cable: from now on nothing arrives, and nobody is told."""
        ip(f"link set dev {self._ports[bridge]} nomaster")

    def plug(self, bridge: Bridge) -> None:
        """Put the cable back."""
        ip(f"link set dev {self._ports[bridge]} master {bridge.name}")

    def close(self) -> None:
        """Take the machine away; its processes must have ended."""
        for port in self._ports.values():
            ip(f"link delete dev {port}")
        self._holder.communicate()
        os.close(self._net)
        os.close(self._home)


class Disk:
    """A small file system in memory, which can be filled.

    :param size: in MiB.
    """

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir()
        self.folder = folder
        self._filler = folder / "filler"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=700", "none", str(folder)],
            check=True,
        )

    def fill(self) -> None:
        """Take all space that is left."""
        with open(self._filler, "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                block = bytes(size)
                try:
                    while file.write(block) == size:
                        pass
                except OSError:
                    pass

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink()

    def close(self) -> None:
        """Take the disk away, with all that is on it."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def _succeed(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
