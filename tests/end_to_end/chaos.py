"""Twenty clients of a server that is killed, on connections that are cut: do all get all messages?

The client is written from docs/protocol.rst alone. All random choices come from a seed. As a
program it runs for a given time.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter

from tests.end_to_end.chaos_checks import Findings, Said, digest
from tests.end_to_end.support import ROOT, TWISTD, free_port

USERS = 20
ROOMS = ("#a", "#b", "#c", "#d")
WINDOW = 8  # messages of a user that wait for their SENT
PATIENCE = 60  # seconds without any progress after which the test fails
NOBODYS = Said(0, "", "")


class Chaos:
    """The server, its clients, and the records of sent and received messages."""

    def __init__(self, folder: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.state = os.path.join(folder, "state")
        self.port = free_port()
        self.kills = self.cuts = self.said = 0
        self.selector = selectors.DefaultSelector()
        self.sent: dict[bytes, Said] = {}  # by digest of text
        self.faults: list[str] = []
        self.start()
        self.users = [User(self, f"u{i}") for i in range(USERS)]
        for user in self.users:
            user.connect()
        self.run("name", lambda: [user for user in self.users if not user.ready])
        for user in self.users:
            user.join()
        self.run("room", lambda: [user for user in self.users if len(user.rooms) < 2])

    def start(self) -> None:
        self.log = open(os.path.join(self.folder, "log"), "a+")  # noqa: SIM115
        begin = self.log.seek(0, os.SEEK_END)
        listen = ("--listen", f"tcp:{self.port}:interface=127.0.0.1")
        command = (TWISTD, "-n", "--pidfile=", "chatserver")
        self.server = subprocess.Popen(
            [*command, "--state", self.state, "--limits", "off", "--ssh", "no", *listen],
            stdout=self.log,
            stderr=self.log,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
        until = time.monotonic() + PATIENCE
        while True:
            self.log.seek(begin)
            text = self.log.read()
            if "listening on 127.0.0.1:" in text:
                return
            assert self.server.poll() is None, text
            assert time.monotonic() < until, text
            self.selector.select(0.01)

    def kill(self) -> None:
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()
        self.log.close()
        self.kills += 1
        self.start()

    def run(self, what, lacking, step=lambda: None) -> None:
        """Let all clients read and write until ``lacking()`` returns no client any more.

        :param lacking: returns the clients that still miss something.
        """
        seen, deadline = None, 0.0
        while users := lacking():
            if time.monotonic() >= deadline:
                progress = [user.progress() for user in self.users]
                assert progress != seen, f"no {what} for {[user.state() for user in users]}"
                seen, deadline = progress, time.monotonic() + PATIENCE
            for key, events in self.selector.select(0.05):
                key.data.handle(events)
            for user in self.users:
                if user.socket is None:
                    user.connect()
            step()

    def talk(self, messages: int, kills: int, cuts: int) -> None:
        """Send ``messages``, and kill the server and cut connections at random times meanwhile."""
        events = [self.kill] * kills + [self.cut] * cuts
        at = sorted((self.said + self.chance.randrange(1, messages) for _ in events), reverse=True)
        self.chance.shuffle(events)
        goal = self.said + messages

        def step() -> None:
            for user in self.users:
                if self.said < goal and len(user.waiting) < WINDOW and self.chance.random() < 0.5:
                    user.say()
            while at and self.said >= at[-1]:
                at.pop()
                events.pop()()

        self.run("SENT", lambda: self.users if self.said < goal or at else [], step)
        self.run("SENT", lambda: [user for user in self.users if user.waiting])

    def cut(self) -> None:
        self.chance.choice(self.users).cut_at = self.chance.randrange(1, 3000)
        self.cuts += 1

    def hear(self, text: str) -> None:
        """Send a message to all, and wait until they have it, and so all messages before it."""
        for speaker in self.users[:2]:  # a sender gets no copy, so a second one sends too
            said = f"{text} {self.said}"
            speaker.say("ALL", said)
            self.run(said, lambda: [u for u in self.users if not u.has(said)])  # noqa: B023

    def finish(self) -> dict[str, int]:
        """Wait until all clients have the last message; compare, and return the figures."""
        for user in self.users:
            user.cut_at = None
        self.hear("the end")
        findings = Findings(faults=self.faults)
        findings.check_streams(self.users, self.sent)
        exported = map(json.loads, self.archive("export").splitlines())
        findings.check_messages(((said["message"], said["text"]) for said in exported), self.sent)
        if self.archive("check") != "sound\n":
            self.faults.append(f"the archive: {self.archive('check')}")
        return {
            "messages": len(self.sent),
            "kills": self.kills,
            "cuts": self.cuts,
            "lost": findings.lost,
            "doubled": findings.doubled,
            "out_of_order": findings.out_of_order,
            "other_faults": len(self.faults),
        }

    def archive(self, action: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "chat_twisted.admin", action, "--state", self.state],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ).stdout

    def close(self) -> None:
        for user in self.users:
            user.drop()
        self.server.kill()
        self.server.wait()
        self.log.close()
        self.selector.close()


class User:
    """One client: its sent and received messages, and its connection, if it has one."""

    def __init__(self, chaos: Chaos, name: str) -> None:
        self.chaos = chaos
        self.name = name
        self.socket: socket.socket | None = None
        self.ready = False
        self.token = ""
        self.newest = 0
        self.rooms: set[str] = set()
        self.waiting: dict[str, tuple[str, str]] = {}  # target and text of unanswered SENDs, by Id
        self.got: Counter[bytes] = Counter()
        self.number_of: dict[bytes, int] = {}
        self.numbers: list[int] = []
        self.ids = 0
        self.cut_at: int | None = None  # after how many more bytes, read or written

    def has(self, text: str) -> bool:
        """Return whether it has received ``text``, or the SENT for its own message."""
        own = self.chaos.sent.get(digest(text), NOBODYS).sender == self.name
        return digest(text) in self.got or own

    def progress(self) -> tuple[int, ...]:
        """Return a value that changes with each progress of the client."""
        return self.newest, self.ids - len(self.waiting), len(self.rooms), bool(self.token)

    def state(self) -> str:
        """Describe the client, for debugging."""
        ends = self.socket and f"from {self.socket.getsockname()[1]}, ready {self.ready}"
        unsent = f"{len(self.input)} bytes not parsed, {len(self.output)} not written"
        waiting = {id: (to, text[:20]) for id, (to, text) in self.waiting.items()}
        return f"{self.name} ({ends}; has up to {self.newest}; {unsent}; no SENT: {waiting})"

    # The connection

    def connect(self) -> None:
        try:
            self.socket = socket.create_connection(("127.0.0.1", self.chaos.port), PATIENCE)
        except OSError:
            self.socket = None
            return
        self.socket.setblocking(False)
        self.input = self.output = b""
        headers = f"Session: {self.token}\nResume: {self.newest}\n" if self.token else ""
        self.chaos.selector.register(self.socket, selectors.EVENT_READ, self)
        self.write(f"REGISTER {self.name}\nVersion: 2\n{headers}\n")

    def drop(self) -> None:
        """Reset the connection at once."""
        if self.socket is not None:
            self.chaos.selector.unregister(self.socket)
            self.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )  # bytes on their way are lost
            self.socket.close()
        self.socket = None
        self.ready = False

    def write(self, text: str) -> None:
        self.output += text.encode()
        self.flush()

    def flush(self) -> None:
        if self.socket is None:
            return
        data, cut = self.up_to_the_cut(self.output)
        try:
            self.output = self.output[self.socket.send(data) :] if data else self.output
        except BlockingIOError:
            pass
        except OSError:
            cut = True
        if cut:
            self.drop()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.output else 0)
        self.chaos.selector.modify(self.socket, events, self)

    def up_to_the_cut(self, data: bytes) -> tuple[bytes, bool]:
        if self.cut_at is None or not self.token:
            return data, False
        if len(data) < self.cut_at:
            self.cut_at -= len(data)
            return data, False
        data, self.cut_at = data[: self.cut_at], None
        return data, True

    def handle(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self.flush()
        if self.socket is None or not events & selectors.EVENT_READ:
            return
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        ended = not data
        data, cut = self.up_to_the_cut(data)
        self.input += data
        while (end := self.input.find(b"\n\n")) >= 0:
            start, *lines = self.input[:end].decode().split("\n")
            headers = dict(line.split(": ", 1) for line in lines)
            size = int(headers.get("Content-length", 0))
            if len(self.input) < end + 2 + size:
                break
            body = self.input[end + 2 : end + 2 + size].decode()
            self.input = self.input[end + 2 + size :]
            self.take(start, headers, body)
        if self.numbers and self.socket is not None and self.ready:
            self.write(f"RECEIVED x\nMessage: {self.newest}\n\n")
        if ended or cut:
            self.drop()

    # The talk

    def take(self, start: str, headers: dict[str, str], body: str) -> None:
        verb, _, argument = start.partition(" ")
        if verb == "REGISTERED":
            if self.token and headers["Session"] != self.token:
                self.chaos.faults.append(f"{self.name} was not known any more")
            self.token = headers["Session"]
            self.ready = True
            for id, (to, text) in self.waiting.items():
                self.send(id, to, text)
        elif verb == "FORWARD":
            self.newest = int(headers["Message"])
            self.numbers.append(self.newest)
            text = digest(body)
            self.got[text] += 1
            self.number_of[text] = self.newest
        elif verb == "SENT":
            to, text = self.waiting.pop(headers["Id"], ("", ""))
            said = Said(int(headers["Message"]), self.name, to)
            if text and self.chaos.sent.setdefault(digest(text), said) != said:
                self.chaos.faults.append(f"two numbers for {text[:20]}")
        elif verb == "JOINED" and headers["User"] == self.name:
            self.rooms.add(argument)
        elif verb == "ERROR":
            self.chaos.faults.append(f"{self.name}: {start}")

    def join(self) -> None:
        for room in self.chaos.chance.sample(ROOMS, 2):
            self.write(f"JOIN {room}\nId: {room}\n\n")

    def say(self, to: str = "", text: str = "") -> None:
        chance = self.chaos.chance
        if not to:
            others = [user.name for user in self.chaos.users if user is not self]
            to = chance.choice([chance.choice(others), chance.choice(sorted(self.rooms)), "ALL"])
            length = chance.choice([1, 10, 100, 1000])
            text = f"{self.name}/{self.ids}/" + chance.choice("xé漢\n") * length
        self.ids += 1
        self.chaos.said += 1
        self.waiting[f"i{self.ids}"] = (to, text)
        if self.ready:
            self.send(f"i{self.ids}", to, text)

    def send(self, id: str, to: str, text: str) -> None:
        self.write(f"SEND {to}\nId: {id}\nContent-length: {len(text.encode())}\n\n{text}")


def run(seed: int, rounds: int, seconds: float = 0) -> dict[str, int]:
    """Run for ``rounds`` of 500 messages, or for ``seconds``; return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(folder, seed)
        try:
            until = time.monotonic() + seconds
            while rounds > 0 or time.monotonic() < until:
                chaos.talk(500, kills=1, cuts=12)
                if rounds % 2 == 0:  # otherwise some clients might never be live
                    chaos.hear("so far")
                rounds -= 1
            figures = chaos.finish()
            for fault in chaos.faults[:10]:
                print(fault, file=sys.stderr)  # noqa: T201
            chaos.log.seek(0)
            assert "Traceback" not in chaos.log.read()
            return figures
        finally:
            chaos.close()


if __name__ == "__main__":
    begun = time.monotonic()
    number = random.randrange(10**6)
    result = run(number, 1, float(sys.argv[1]) * 60 if len(sys.argv) > 1 else 0)
    result |= {"seconds": round(time.monotonic() - begun), "seed": number}
    print(*(f"{name}={value}" for name, value in result.items()))  # noqa: T201
    sys.exit(any(result[name] for name in ("lost", "doubled", "out_of_order", "other_faults")))
