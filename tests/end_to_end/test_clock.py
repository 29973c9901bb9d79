"""The time of day is set under a running server and a client, by libfaketime."""

from __future__ import annotations

import datetime
import glob
import json
import time
import unittest
from pathlib import Path

from tests.end_to_end.support import Process, ServerTestCase

HOUR = 60 * 60
DAY = 24 * HOUR

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")


@unittest.skipUnless(LIBRARIES, "needs libfaketime")
class ClockTests(ServerTestCase):
    options = ("--idle", "6")  # also the time in which one must log in

    def setUp(self) -> None:
        self.jump = 0
        super().setUp()

    def process(self, *command: str) -> Process:
        """Start a process whose time of day is the one that ``set`` says, and no other clock."""
        self.clock = Path(self.folder.name) / "clock"
        self.set(self.jump)
        settings = {
            "LD_PRELOAD": LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        return super().process("env", *(f"{n}={v}" for n, v in settings.items()), *command)

    def set(self, jump: int) -> None:
        """Set the clock of all processes ahead of the right time by so many seconds."""
        self.jump = jump
        new = self.clock.with_name("clock-new")
        new.write_text(f"{jump:+d}s\n")
        new.replace(self.clock)

    def ahead(self, time_header: str) -> int:
        """How far ahead of the right time a message's is, to a minute."""
        moment = datetime.datetime.fromisoformat(time_header).timestamp()
        return round((moment - time.time()) / 60) * 60

    def test_when_the_clock_is_set_nobody_is_refused_and_timers_go_on(self) -> None:
        secret = Path(self.folder.name) / "secret"
        secret.write_text("right\n")
        for i, jump in enumerate((-HOUR, 40 * DAY, -120)):
            before, after = self.connect(), self.connect()
            before.register(f"before{i}")
            self.set(jump)
            start, headers, _ = before.ask("SEND ALL", body="hello")
            self.assertEqual((start, self.ahead(headers["time"])), ("SENT ALL", jump))
            self.assertEqual(before.ask("WHO")[0], "WHO")
            after.register(f"after{i}")
            name = f"made{i}"
            command = self.accounts("add", name, "--password-file", str(secret))
            self.assertEqual(command.err, [])
            peer = self.connect()
            peer.send(f"REGISTER {name}\nVersion: 2\n\n".encode())
            self.assertEqual(peer.frame()[0], "ERROR 106 Authentication required")
            peer.send(b"AUTH password\nContent-length: 5\n\nwrong")
            self.assertEqual(peer.frame()[0], "ERROR 107 Authentication failed")
            while not after.frame()[0].startswith("PING"):  # it is silent
                pass
        self.assertNoTraceback()

    def test_times_are_right_when_the_clock_is_and_all_is_found(self) -> None:
        alice = self.connect()
        alice.register("alice")
        said: list[str] = []
        for i, jump in enumerate((0, 400 * DAY, 0, -HOUR, 0)):
            self.set(jump)
            text = f"text {i}"
            _, headers, _ = alice.ask("SEND ALL", body=text)
            self.assertEqual(self.ahead(headers["time"]), jump)
            said.append(text)
        self.kill()
        self.start()
        bob = self.connect()
        bob.register("bob")
        _, headers, _ = bob.ask("SEND ALL", body="after")
        self.assertEqual(self.ahead(headers["time"]), 0)
        bob.send(b"HISTORY ALL\nId: h\n\n")
        self.assertEqual([bob.frame()[2].decode() for _ in range(6)], [*said, "after"])
        bob.frame()
        now = datetime.datetime.now(datetime.UTC)
        since, until = (
            f"{now + datetime.timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}" for minutes in (-9, 9)
        )
        bob.send(f"HISTORY ALL\nId: h\nSince: {since}\nUntil: {until}\n\n".encode())
        found = [bob.frame()[2].decode() for _ in range(4)]
        self.assertEqual(found, ["text 0", "text 2", "text 4", "after"])

    def test_a_client_comes_back_though_the_clock_is_set_back(self) -> None:
        client = self.client("carol", "--json", "--plain")
        client.wait_for('"registered"')
        self.kill()
        client.wait_for('"disconnected"')  # and waits for its next try
        self.set(-HOUR)
        self.start()
        client.wait_for('"reconnected"')
        dave = self.connect()
        dave.register("dave")
        dave.ask("SEND ALL", body="hello")
        event = json.loads(client.wait_for('"message"').string)
        self.assertEqual(event["text"], "hello")
