"""What fails in the chaos tests of a cluster, how, and what must hold meanwhile."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tests.end_to_end.cluster import Node, Program, Server

if TYPE_CHECKING:
    from tests.end_to_end.cluster_chaos import ClusterChaos

BEYOND_THE_LEASE = 8.0  # seconds
WITHIN_THE_LEASE = 2.0
ABOUT_THE_LEASE = (3.5, 4.5, 5.5)
TARGETS = ("node", "leader", "follower", "servers", "node and server")
WAYS = ("kill", "terminate", "freeze", "cut", "split")


class Fault(Protocol):
    """Something that fails. ``str`` says what."""

    def run(self, chaos: ClusterChaos) -> None:
        """Let it fail, and end it. Whoever still can must be served meanwhile."""


class Failure(NamedTuple):
    """Programs or their cables fail, and are repaired.

    :ivar target: one of ``TARGETS``.
    :ivar way: ``kill``, ``terminate``, ``freeze``, ``cut`` (servers from nodes) or ``split``
        (servers from other servers).
    """

    target: str
    way: str
    seconds: float = BEYOND_THE_LEASE

    def __str__(self) -> str:
        return f"{self.way} {self.target} for {self.seconds:g} s"

    def run(self, chaos: ClusterChaos) -> None:
        victims = self.victims(chaos)
        chaos.note(f"{self}: {' '.join(victim.name for victim in victims)}")
        for victim in victims:
            self.fail(chaos, victim)
        if self._survivable(chaos, victims) and self.seconds >= BEYOND_THE_LEASE:
            chaos.back(f"the beginning of: {self}", all_nodes=False)
        chaos.talk(self.seconds)
        for victim in victims:
            self.repair(chaos, victim)

    def victims(self, chaos: ClusterChaos) -> list[Program]:
        """Choose what fails."""
        node = chaos.chance.choice(chaos.cluster.nodes)
        if self.target == "node":
            return [node]
        if self.target == "servers":
            return [*chaos.cluster.servers]
        leader = chaos.leader()
        if self.target == "leader":
            return [leader]
        if self.target == "follower":
            others = [server for server in chaos.cluster.servers if server is not leader]
            return [chaos.chance.choice(others)]
        return [node, chaos.chance.choice(chaos.cluster.servers)]

    @staticmethod
    def _survivable(chaos: ClusterChaos, victims: list[Program]) -> bool:
        """Return whether a node is left, and most of the servers."""
        nodes = [node for node in chaos.cluster.nodes if node not in victims]
        servers = [server for server in chaos.cluster.servers if server not in victims]
        return bool(nodes) and len(servers) * 2 > len(chaos.cluster.servers)

    def fail(self, chaos: ClusterChaos, victim: Program) -> None:
        """Let it fail."""
        match self.way:
            case "kill":
                victim.signal(signal.SIGKILL)
            case "terminate":
                victim.signal(signal.SIGTERM)
            case "freeze":
                victim.signal(signal.SIGSTOP)
            case "split" if isinstance(victim, Server):
                victim.machine.unplug(chaos.cluster.routes)
            case _:
                victim.machine.unplug(chaos.cluster.nats)

    def repair(self, chaos: ClusterChaos, victim: Program) -> None:
        """End that."""
        match self.way:
            case "kill" | "terminate":
                chaos.until(lambda: victim.ended() is not None, f"end of {victim.name}", 20)
                victim.start()
            case "freeze":
                victim.signal(signal.SIGCONT)
            case "split" if isinstance(victim, Server):
                victim.machine.plug(chaos.cluster.routes)
            case _:
                victim.machine.plug(chaos.cluster.nats)


class Both:
    """Two of the others, one of which begins while the other lasts."""

    def __init__(self, first: Failure, second: Failure) -> None:
        self._first = first
        self._second = second

    def __str__(self) -> str:
        return f"{self._first} and {self._second}"

    def run(self, chaos: ClusterChaos) -> None:
        victims = self._first.victims(chaos)
        others = [each for each in self._second.victims(chaos) if each not in victims]
        chaos.note(f"{self}: {' '.join(each.name for each in (*victims, *others))}")
        for victim in victims:
            self._first.fail(chaos, victim)
        chaos.talk(self._first.seconds / 2)
        for victim in others:
            self._second.fail(chaos, victim)
        chaos.talk(self._first.seconds / 2)
        for victim in victims:
            self._first.repair(chaos, victim)
        chaos.talk(self._second.seconds / 2)
        for victim in others:
            self._second.repair(chaos, victim)


class NodeDiskFull:
    """A node can't write its archive."""

    def __str__(self) -> str:
        return "the disk of a node is full"

    def run(self, chaos: ClusterChaos) -> None:
        node = chaos.chance.choice(chaos.cluster.nodes)
        chaos.note(f"{self}: {node.name}")
        node.disk.fill()
        if len(chaos.cluster.nodes) > 1:
            chaos.back(f"the beginning of: {self}", all_nodes=False)
        chaos.talk(5)
        node.disk.free()


class ServerDiskFull:
    """A NATS server can't write. It must be restarted when it has space again."""

    def __str__(self) -> str:
        return "the disk of a server is full"

    def run(self, chaos: ClusterChaos) -> None:
        server = chaos.leader()
        chaos.note(f"{self}: {server.name}")
        server.disk.fill()
        chaos.talk(8)
        server.disk.free()
        chaos.stop(server)
        server.start()


class ServerWiped:
    """A NATS server loses its disk, and begins with an empty one."""

    def __str__(self) -> str:
        return "a server loses its disk"

    def run(self, chaos: ClusterChaos) -> None:
        server = chaos.leader()
        chaos.note(f"{self}: {server.name}")
        chaos.stop(server, signal.SIGKILL)
        shutil.rmtree(server.disk.folder / "jetstream")
        chaos.talk(2)
        server.start()
        chaos.talk(5)


class StreamFull:
    """The stream has as many bytes as it may."""

    def __str__(self) -> str:
        return "the stream is full"

    def run(self, chaos: ClusterChaos) -> None:
        before = chaos.refusals
        chaos.cluster.limit(5000)
        chaos.talk(5)
        if chaos.refusals == before:
            chaos.faults.append("a full stream has refused nothing")
        chaos.cluster.limit(None)


class Purge:
    """Somebody deletes the stream's messages, while a node that lacks some of them is stopped. It
    must say so, and begin anew with a copy.
    """

    def __str__(self) -> str:
        return "the stream is purged"

    def run(self, chaos: ClusterChaos) -> None:
        node = chaos.chance.choice(chaos.cluster.nodes)
        chaos.stop(node)
        chaos.talk(2)
        chaos.cluster.purge()
        chaos.back(f"{self}", all_nodes=False)
        begin = len(node.said())
        node.start()
        node.may_end = True
        chaos.until(lambda: node.ended() is not None, "end of the node that lacks messages", 30)
        chaos.note(f"{node.name} ended with {node.ended()}: {node.said(begin)[-1000:]}")
        if node.ended() != 1:
            chaos.faults.append(f"{node.name} lacks purged messages, and ended with {node.ended()}")
        for path in node.state.glob("*.sqlite*"):
            path.unlink()
        node.start()


class OldBackup:
    """A node gets an archive that it had earlier."""

    def __str__(self) -> str:
        return "an old backup is put back"

    def run(self, chaos: ClusterChaos) -> None:
        node = chaos.chance.choice(chaos.cluster.nodes)
        backup = Path(chaos.cluster.folder) / f"{node.name}.backup"
        self._admin(chaos, node, "backup", str(backup))
        chaos.talk(3)
        chaos.stop(node)
        chaos.talk(1)
        self._admin(chaos, node, "restore", str(backup))
        backup.unlink()
        node.start()

    @staticmethod
    def _admin(chaos: ClusterChaos, node: Node, *arguments: str) -> None:
        done = node.admin(*arguments)
        if done.returncode:
            chaos.faults.append(f"{arguments}: {done.stderr}")


class Twin:
    """Another node has the name of one that runs. It must end."""

    def __str__(self) -> str:
        return "two nodes have one name"

    def run(self, chaos: ClusterChaos) -> None:
        node = chaos.chance.choice(chaos.cluster.nodes)
        number = chaos.new_number()
        twin = chaos.cluster.node(number, label=node.name)
        twin.start()
        try:
            chaos.until(lambda: twin.ended() is not None, f"end of a second {node.name}", 30)
            chaos.note(f"{twin.name} ended with {twin.ended()}: {twin.said()[-500:]}")
            if twin.ended() != 1:
                chaos.faults.append(f"a second {node.name} ended with {twin.ended()}")
        finally:
            twin.close()


OTHERS: dict[str, Callable[[], Fault]] = {
    "node-disk": NodeDiskFull,
    "server-disk": ServerDiskFull,
    "stream-full": StreamFull,
    "purge": Purge,
    "old-backup": OldBackup,
    "twin": Twin,
}


OF_THREE: dict[str, Callable[[], Fault]] = {"server-wiped": ServerWiped}
"""The same, for clusters with three servers only."""


def named(text: str) -> Fault:
    """Return a fault: a key of ``OTHERS`` or ``OF_THREE``, or ``TARGET:WAY:SECONDS``.

    :raises ValueError: if there is none.
    """
    if make := OTHERS.get(text) or OF_THREE.get(text):
        return make()
    target, way, seconds = text.split(":")
    if target not in TARGETS or way not in WAYS:
        raise ValueError(text)
    return Failure(target, way, float(seconds))


def of_a_single_server(chance: random.Random) -> list[Fault]:
    """Return what can happen to a single server."""
    ways = ("kill", "terminate", "freeze")
    return [*(Failure("node", way) for way in ways), Failure("node", "kill", 0), NodeDiskFull()]


def of_one_server(chance: random.Random) -> list[Fault]:
    """Return what can happen to nodes with one NATS server."""
    targets = ("node", "servers", "node and server")
    ways = ("kill", "terminate", "freeze", "cut")
    failures = [Failure(target, way) for target in targets for way in ways]
    return [*failures, *_others(chance, failures)]


def of_three_servers(chance: random.Random) -> list[Fault]:
    """Return what can happen to nodes with three NATS servers."""
    failures = [Failure(target, way) for target in TARGETS for way in WAYS]
    failures.remove(Failure("node", "split"))
    return [*failures, *(make() for make in OF_THREE.values()), *_others(chance, failures)]


def _others(chance: random.Random, failures: list[Failure]) -> list[Fault]:
    short = [Failure(target, "freeze", WITHIN_THE_LEASE) for target in ("node", "servers")]
    at_once = [Failure(target, "kill", 0) for target in ("node", "servers")]
    ends = [
        Failure("node", way, seconds) for way in ("freeze", "cut") for seconds in ABOUT_THE_LEASE
    ]
    both = [Both(*chance.sample(failures, 2)) for _ in range(6)]
    return [*short, *at_once, *ends, *both, *(make() for make in OTHERS.values())]


ALL = {0: of_a_single_server, 1: of_one_server, 3: of_three_servers}
"""What can happen, by the number of NATS servers. The functions take what they choose by."""
