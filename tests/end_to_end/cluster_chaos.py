"""Twenty clients of a cluster whose nodes and servers fail: do all get all messages?

The clients are those of ``chaos``; here they know all nodes, and go to another one when theirs does
not answer. All random choices come from a seed. As a program it goes through the faults in random
order for a given time, and must be started by ``machines.alone``.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import random
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end import chaos_checks
from tests.end_to_end.chaos import USERS, WINDOW, User
from tests.end_to_end.chaos_checks import Findings, Said, digest
from tests.end_to_end.cluster import CHAT_PORT, Cluster, Program, Server
from tests.end_to_end.faults import ALL, Fault, named

RATE = 80  # messages a second of all users together
OTHERS = 10  # other requests a second
CUTS = 2  # connections that are cut in a second
SILENCE = 4.0  # seconds after which a client goes to another node; it asks for an answer after half
AVOIDED = 20.0  # seconds for which it does not choose a silent node
SOON = 10.0  # seconds within which everybody must be served again
AHEAD = 3.0  # seconds by which the log's time may be ahead of the time of day
SOON_AFTER_ELECTION = 5.0  # the same, if the servers needed longer to elect the stream's leader
PATIENCE = 60.0  # seconds after which it is given up


LOUNGES = ("#x", "#y", "#z")  # rooms without messages, in which everything else happens
OTHER = "other"  # with it Ids of requests begin that are not SEND


class Client(User):
    """A client that knows several nodes.

    :ivar node: the index of the node that it is connected to, or tries next.
    :ivar away: whether it stays away.
    :ivar answered: the highest number of its own messages that was answered by SENT.
    """

    chaos: ClusterChaos

    def __init__(self, chaos: ClusterChaos, name: str) -> None:
        super().__init__(chaos, name)
        self.node = chaos.chance.randrange(len(chaos.cluster.nodes))
        self.away = False
        self.answered = 0
        self.asked = 0
        self.input = self.output = b""
        self.accepted: dict[int, int] = {}  # numbers of its messages
        self._retried: set[int] = set()  # messages that were refused once, and were said again
        self._open: set[str] = set()  # Ids that wait for an answer on this connection
        self._unknown: set[str] = set()  # Ids that were never answered on an earlier one
        self._again: dict[str, float] = {}  # Ids that were refused, and when they are sent again
        self._was_cut = False
        self._silent: dict[int, float] = {}  # nodes that did not answer, and when that was
        self._tries = 0
        self._not_before = 0.0
        self._heard = 0.0
        self._asked = False

    def order(self) -> list[int]:
        """Return the numbers of its messages, in the order in which it said them. A message that
        was refused first may have been overtaken.
        """
        return [self.accepted[id] for id in sorted(self.accepted) if id not in self._retried]

    # The connection

    def connect(self) -> None:
        now = time.monotonic()
        if self.away or now < self._not_before:
            return
        self.socket = socket.socket()
        self.socket.setblocking(False)
        address = self.chaos.cluster.nodes[self.node].address
        self.chaos.selector.register(self.socket, selectors.EVENT_WRITE, self)
        resume = f"Session: {self.token}\nResume: {self.newest}\n" if self.token else ""
        self.input, self.output = b"", f"REGISTER {self.name}\nVersion: 2\n{resume}\n".encode()
        self._heard, self._asked = now, False
        if self.socket.connect_ex((address, CHAT_PORT)) not in (0, errno.EINPROGRESS):
            self.drop()

    def drop(self) -> None:
        if self.socket is None:
            return
        nodes = len(self.chaos.cluster.nodes)
        self._tries = 0 if self.ready else self._tries + 1
        super().drop()
        self._unknown |= self._open
        self._open.clear()
        self._not_before = time.monotonic() + min(0.1 * self._tries, 0.5)
        self.node = (self.node + 1) % nodes
        if self._was_cut:
            now = time.monotonic()
            silent = [node for node, when in self._silent.items() if now - when < AVOIDED]
            left = [node for node in range(nodes) if node not in silent]
            self.node = self.chaos.chance.choice(left or range(nodes))
        self._was_cut = False

    def move(self, node: int) -> None:
        """Leave, and try a node next."""
        self.drop()
        self.node = node

    def up_to_the_cut(self, data: bytes) -> tuple[bytes, bool]:
        data, cut = super().up_to_the_cut(data)
        self._was_cut = self._was_cut or cut
        return data, cut

    def handle(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._heard, self._asked = time.monotonic(), False
        super().handle(events)

    def forgive(self, seconds: float) -> None:
        """Don't count a time as silence."""
        self._heard += seconds

    def tend(self, now: float) -> None:
        """Do what is due."""
        if self.socket is None:
            self.connect()
            return
        if now - self._heard > SILENCE:
            self._silent[self.node] = now
            self.drop()
            return
        if self.ready and not self._asked and now - self._heard > SILENCE / 2:
            self._asked = True
            self.write("PING\n\n")
        for id, due in list(self._again.items()):
            if self.ready and now >= due:
                self.send(id, *self.waiting[id])

    # The talk

    def take(self, start: str, headers: dict[str, str], body: str) -> None:
        match start.split(" "):
            case ["ERROR", *_] if headers.get("Id", "").startswith(OTHER):
                pass  # it is not a member, for example
            case ["JOINED", room] if room in LOUNGES:
                pass
            case ["ERROR", code, *_]:
                self._refused(int(code), headers, start)
            case ["BYE", *_]:
                self.chaos.note(f"{self.name} at n{self.node}: {start}")
                if "Final" in headers:
                    self.chaos.faults.append(f"{self.name}: {start}, for ever")
            case ["REGISTERED", *_]:
                if self.token and int(headers["Last"]) < self.newest:
                    last = f"{headers['Last']} is the last, but {self.name} has {self.newest}"
                    self.chaos.faults.append(last)
                self.chaos.served(self.node)
                super().take(start, headers, body)
            case ["SENT", *_]:
                id = headers["Id"]
                if id in self.waiting:
                    self.accepted[int(id[1:])] = int(headers["Message"])
                    self.answered = max(self.answered, int(id[1:]))
                self._forget(id)
                super().take(start, headers, body)
            case _:
                super().take(start, headers, body)

    def _refused(self, code: int, headers: dict[str, str], start: str) -> None:
        id = headers.get("Id", "")
        if code != 112:
            self.chaos.faults.append(f"{self.name} at n{self.node}: {start} to {id}")
        if not self.ready:
            self.drop()
            return
        if id not in self.waiting:
            return
        self.chaos.refusals += 1
        if id in self._unknown:
            # An earlier try had no answer: the message may have been taken then.
            self._open.discard(id)
            self._retried.add(int(id[1:]))
            self._again[id] = time.monotonic() + 0.5
        else:
            self._forget(id)
            self.chaos.refused.add(digest(self.waiting.pop(id)[1]))

    def _forget(self, id: str) -> None:
        self._open.discard(id)
        self._unknown.discard(id)
        self._again.pop(id, None)

    def ask(self) -> None:
        """Change something else than messages; it may be refused."""
        chance = self.chaos.chance
        room, other = chance.choice(LOUNGES), chance.choice(self.chaos.users).name
        request, body = chance.choice(
            [
                (f"JOIN {room}", ""),
                (f"LEAVE {room}", ""),
                (f"TOPIC {room}", f"about {chance.random()}"),
                (f"INVITE {room}\nUser: {other}", ""),
                (f"RANK {room}\nUser: {other}\nRank: {chance.choice(['operator', 'none'])}", ""),
                (f"KICK {room}\nUser: {other}", ""),
                (f"BAN {room}\nUser: {other}", ""),
                (f"UNBAN {room}\nUser: {other}", ""),
                (f"MODE {room}\nMode: topic\nOn: {chance.choice(['yes', 'no'])}", ""),
                ("STATUS away", f"until {chance.random()}"),
                ("STATUS here", ""),
                (f"READ {other}\nMessage: {self.newest}", ""),
                ("PING", ""),
            ]
        )
        self.asked += 1
        length = f"Content-length: {len(body)}\n" if body else ""
        self.write(f"{request}\nId: {OTHER}{self.asked}\n{length}\n{body}")

    def send(self, id: str, to: str, text: str) -> None:
        self._again.pop(id, None)
        self._open.add(id)
        super().send(id, to, text)


class ClusterChaos:
    """The cluster, its clients, and the records of sent and received messages.

    :param servers: how many NATS servers; 0 for a single node without any.
    :param said: gets a line for each thing that happens.
    """

    def __init__(
        self, folder: Path, seed: int, servers: int, nodes: int, said: Callable[[str], None]
    ) -> None:
        self.chance = random.Random(seed)
        self.note = said
        self.selector = selectors.DefaultSelector()
        self.sent: dict[bytes, Said] = {}
        self.refused: set[bytes] = set()
        self.faults: list[str] = []
        self.said = self.cuts = self.refusals = self.late = 0
        self.slowest = 0.0
        self.cluster = Cluster(folder, servers, nodes)
        self.users: list[Client] = []
        self._numbers = nodes
        self._served: set[int] = set()  # nodes that have accepted a session lately
        self.rate = RATE
        self._talks = False
        self._may_say = 0.0
        self._last = time.monotonic()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        for program in self.programs:
            program.start()
        self.users = [Client(self, f"u{i}") for i in range(USERS)]
        self.until(lambda: all(user.ready for user in self.users), "names")
        for user in self.users:
            user.join()
        self.until(lambda: all(len(user.rooms) == 2 for user in self.users), "rooms")

    @property
    def programs(self) -> list[Program]:
        return [*self.cluster.servers, *self.cluster.nodes]

    def served(self, node: int) -> None:
        """Called when a node has accepted a session."""
        self._served.add(node)

    def new_number(self) -> int:
        """Return the number of a further node."""
        self._numbers += 1
        return self._numbers - 1

    # Time

    def tick(self) -> None:
        """Let everybody read and write for a moment."""
        for key, events in self.selector.select(0.02):
            key.data.handle(events)
        now = time.monotonic()
        for user in self.users:
            if now - self._last > 1:  # this program has waited for something else
                user.forgive(now - self._last)
            user.tend(now)
        if self._talks:
            self._talk(now - self._last)
        self._last = now
        for program in self.programs:
            status = program.ended()
            if status is not None and not program.may_end:
                self.faults.append(f"{program.name} ended with {status}")
                program.may_end = True

    def _talk(self, passed: float) -> None:
        if self.chance.random() < passed * CUTS:
            self.chance.choice(self.users).cut_at = self.chance.randrange(1, 3000)
            self.cuts += 1
        if (
            self.chance.random() < passed * OTHERS
            and (user := self.chance.choice(self.users)).ready
        ):
            user.ask()
        self._may_say = min(self._may_say + passed * self.rate, self.rate)
        while self._may_say >= 1:
            self._may_say -= 1
            user = self.chance.choice(self.users)
            if len(user.waiting) < WINDOW:
                user.say()

    def until(self, true: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Let time pass until something is true.

        :raises AssertionError: if it takes too long.
        """
        end = time.monotonic() + patience
        while not true():
            if time.monotonic() > end:
                states = [user.state() for user in self.users if user.waiting or not user.ready]
                raise AssertionError(f"no {what}; {self.faults}; {states}")
            self.tick()

    def talk(self, seconds: float) -> None:
        """Let everybody talk, and cut connections."""
        self._talks = True
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()
        self._talks = False

    def back(self, what: str, *, all_nodes: bool = True) -> None:
        """Wait until everybody who is not away has got a SENT for a new message, and each node has
        accepted somebody; the talk goes on meanwhile.
        """
        begun = time.monotonic()
        here = [user for user in self.users if not user.away]
        before = {user: user.ids for user in here}
        for user in here:
            user.say()
        self._served.clear()
        nodes = set(range(len(self.cluster.nodes))) if all_nodes else set()
        moved = begun

        def done() -> bool:
            nonlocal moved
            lacking = sorted(nodes - self._served)
            if lacking and time.monotonic() > moved + 1:
                moved = time.monotonic()
                self.chance.choice(here).move(lacking[0])
            silent = [user for user in here if user.answered <= before[user]]
            for user in silent:
                if not user.waiting:  # its message was refused
                    user.say()
            return not lacking and not silent

        self._talks = True
        self.until(done, f"service after {what}")
        self._talks = False
        took = time.monotonic() - begun
        leading = self.cluster.leading()
        self.slowest = max(self.slowest, took)
        self.late += took > SOON and leading > SOON_AFTER_ELECTION
        told = f", {leading:.1f} s after the last election" if leading < took else ""
        self.note(f"{what}: back after {took:.1f} s{told}")

    def hear(self, text: str) -> None:
        """Send a message to all, and wait until they have it, and so all messages before it."""
        self.until(lambda: not any(user.waiting for user in self.users), "SENT")
        for speaker in self.users[:2]:  # a sender gets no copy, so a second one sends too
            while True:
                said = f"{text} {self.said}"
                speaker.say("ALL", said)
                self.until(lambda: not speaker.waiting, "SENT")  # noqa: B023
                if digest(said) in self.sent:
                    break
            self.until(lambda: all(u.has(said) for u in self.users), said)  # noqa: B023

    # Faults

    def leader(self) -> Server:
        """Wait until a server leads the stream."""
        found: Server | None = None

        def is_found() -> bool:
            nonlocal found
            found = self.cluster.leader()
            return found is not None

        self.until(is_found, "leader")
        assert found is not None
        return found

    def stop(self, program: Program, number: int = signal.SIGTERM) -> None:
        """Send a signal, and wait for the end."""
        program.signal(number)
        self.until(lambda: program.ended() is not None, f"end of {program.name}", 20)

    def round(self, fault: Fault) -> None:
        """Let something fail, while one user is away, and see that it is as it should be."""
        # Servers need a while after they were cut off from each other.
        self.until(self.cluster.is_whole, "agreement of the servers")
        for user in self.users:
            user.cut_at = None
        self.talk(1)
        away = self.chance.choice(self.users)
        away.away = True
        away.drop()
        self.note(f"{fault}, while {away.name} is away")
        fault.run(self)
        away.away = False
        away.node = self.chance.randrange(len(self.cluster.nodes))
        self.back(str(fault))
        for user in self.users:
            user.cut_at = None
        self.hear("so far")

    # The end

    def finish(self) -> dict[str, float]:
        """Compare everything; return the figures."""
        findings = Findings(faults=self.faults)
        self.hear("the end")
        findings.check_streams(self.users, self.sent)
        findings.check_senders({user.name: user.order() for user in self.users})
        archives = {node.name: node.archive for node in self.cluster.nodes}
        heard = [user.got for user in self.users]
        for name, archive in archives.items():
            stored = findings.check_messages(chaos_checks.messages(archive), self.sent)
            heard.append(stored)
            if unknown := stored.keys() - self.sent.keys() - self.refused:
                self.faults.append(f"{name} has {len(unknown)} messages that nobody has sent")
        findings.check_refused(self.refused, *heard)
        self._compare(findings, archives)
        for node in self.cluster.nodes:
            if (ahead := chaos_checks.clock_ahead(node.archive)) > AHEAD:
                self.faults.append(f"the log's time of {node.name} was {ahead} s ahead")
            if (checked := node.admin("check").stdout) != "sound\n":
                self.faults.append(f"the archive of {node.name}: {checked}")
        for program in self.programs:
            if "Traceback" in program.said():
                self.faults.append(f"{program.log} has a traceback")
        for text in (findings.details + self.faults)[:30]:
            self.note(f"FAULT: {text}")
        return {
            "messages": len(self.sent),
            "cuts": self.cuts,
            "refusals": self.refusals,
            "lost": findings.lost,
            "doubled": findings.doubled,
            "out_of_order": findings.out_of_order,
            "refused_found": findings.refused_found,
            "archives_differ": findings.archives_differ,
            "late": self.late,
            "other_faults": len(self.faults),
            "slowest": round(self.slowest, 1),
        }

    def _compare(self, findings: Findings, archives: dict[str, Path]) -> None:
        found: dict[str, chaos_checks.Snapshot] | None = None

        def equal() -> bool:
            nonlocal found
            found = chaos_checks.same_position(archives)
            return found is not None

        try:
            self.until(equal, "position that all have")
        except AssertionError:
            findings.archives_differ += 1
            self.faults.append(f"positions: {chaos_checks.positions(archives)}")
        else:
            assert found is not None
            findings.check_equal(found)

    def close(self) -> None:
        for user in self.users:
            user.drop()
        self.cluster.close()
        self.selector.close()


FAULTS = (
    "lost",
    "doubled",
    "out_of_order",
    "refused_found",
    "archives_differ",
    "late",
    "other_faults",
)
"""The figures that must be 0."""


def run(
    folder: Path,
    seed: int,
    servers: int,
    nodes: int,
    faults: list[Fault],
    note: Callable[[str], None],
    until: float = float("inf"),
    rate: int = RATE,
) -> dict[str, float]:
    """Run a cluster through faults, at most until a time; return the figures.

    :param folder: gets the output of all programs, and the disks.
    :param note: gets a line for each thing that happens.
    :param rate: messages a second of all users together.
    :raises AssertionError: if something does not come back.
    """
    chaos = ClusterChaos(folder, seed, servers, nodes, note)
    chaos.rate = rate
    rounds = 0
    try:
        for fault in faults:
            if time.monotonic() < until:
                chaos.round(fault)
                rounds += 1
        figures = {"rounds": rounds, **chaos.finish()}
        if any(figures[kind] for kind in FAULTS):
            _keep(folder)
        return figures
    except AssertionError as error:
        note(f"FAULT: {error}")
        _keep(folder)
        raise
    finally:
        chaos.close()


def _keep(folder: Path) -> None:
    """Copy the archives from the disks, which will be gone."""
    for path in folder.glob("n*/*.sqlite*"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")


class Plan:
    """Which faults come next: all, in random order, for one cluster after the other.

    :param servers: how many NATS servers clusters have.
    :param rounds: how many faults a cluster goes through.
    """

    def __init__(self, seed: int, servers: list[int], rounds: int) -> None:
        self._chance = random.Random(seed)
        self._servers = servers
        self._rounds = rounds
        self._left: dict[int, list[Fault]] = {}

    def next(self) -> tuple[int, int, list[Fault]]:
        """Return a seed, the number of servers, and the faults for the next cluster."""
        servers = self._chance.choice(self._servers)
        left = self._left.get(servers)
        if not left:
            left = ALL[servers](self._chance)
            self._chance.shuffle(left)
        faults, self._left[servers] = left[: self._rounds], left[self._rounds :]
        return self._chance.randrange(10**6), servers, faults


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--servers", type=int, choices=ALL, action="append")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--rate", type=int, default=RATE, help="messages a second")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--fault", type=named, action="append", help="only these, once")
    parser.add_argument("--keep", type=Path, help="where to copy logs and archives after a fault")
    parser.add_argument("--patient", action="store_true", help="to be late is no fault")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    begun = time.monotonic()
    until = begun + options.minutes * 60
    plan = Plan(options.seed, options.servers or [1, 3], options.rounds)
    total: Counter[str] = Counter()
    slowest = 0.0
    while True:
        seed, servers, faults = plan.next()
        figures = _run_one(seed, servers, options.fault or faults, until, options)
        slowest = max(slowest, figures.pop("slowest", 0))
        total.update(figures)
        if options.fault or time.monotonic() > until:
            break
    if options.patient:
        total["late"] = 0
    seconds = round(time.monotonic() - begun)
    line = {**total, "slowest": slowest, "seconds": seconds, "seed": options.seed}
    print(*(f"{key}={value}" for key, value in line.items()))  # noqa: T201
    return int(any(total[kind] for kind in FAULTS))


def _run_one(
    seed: int, servers: int, faults: list[Fault], until: float, options: argparse.Namespace
) -> dict[str, float]:
    nodes = options.nodes if servers else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder / "journal", echo=options.verbose)
        journal(f"{servers} servers, {nodes} nodes: {'; '.join(map(str, faults))}")
        if options.fault:
            until = float("inf")
        try:
            figures = run(folder, seed, servers, nodes, faults, journal, until, options.rate)
        except AssertionError:
            figures = {"other_faults": 1}
        journal(" ".join(f"{key}={value}" for key, value in figures.items()))
        if any(figures.get(kind) for kind in FAULTS) and options.keep:
            _copy(folder, options.keep / f"{options.seed}-{seed}")
    return figures


class Journal:
    """Writes down what happens, with the time of day."""

    def __init__(self, path: Path, *, echo: bool) -> None:
        self._path = path
        self._echo = echo

    def __call__(self, text: str) -> None:
        line = f"{datetime.datetime.now(datetime.UTC):%H:%M:%S.%f} {text}\n"
        with open(self._path, "a") as file:
            file.write(line)
        if self._echo or text.startswith("FAULT"):
            sys.stderr.write(line)


def _copy(folder: Path, to: Path) -> None:
    to.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy(path, to)


if __name__ == "__main__":
    sys.exit(main())
