"""The server's file goes back: a backup is put back, or the last moments before a loss of power."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.end_to_end.support import Process, ServerTestCase


class RestoredTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.old = Path(self.folder.name) / "old"
        self.old.mkdir()
        self.clients = [self.client(name, "--json", "--plain") for name in ("alice", "bob")]
        for client in self.clients:
            client.wait_for('"registered"')
        self.texts: dict[Process, list[str]] = {client: [] for client in self.clients}

    def say(self, what: str, count: int) -> list[str]:
        """Say ``count`` texts to all on a connection of its own; return them."""
        peer = self.connect()
        peer.register(f"{what}er")
        texts = [f"{what} {i}" for i in range(count)]
        for text in texts:
            self.assertEqual(peer.ask("SEND ALL", body=text)[0], "SENT ALL")
        peer.send(b"QUIT\n\n")
        peer.rest()
        return texts

    def event(self, client: Process) -> dict[str, str]:
        event: dict[str, str] = json.loads(client.next_line())
        if event["event"] == "message":
            self.texts[client].append(event["text"])
        return event

    def wait_for_text(self, text: str) -> None:
        for client in self.clients:
            while self.texts[client][-1:] != [text]:
                self.event(client)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The server does nothing meanwhile."""
        self.server.popen.send_signal(signal.SIGSTOP)
        yield
        self.server.popen.send_signal(signal.SIGCONT)

    def put_back(self) -> None:
        shutil.rmtree(self.state)
        shutil.copytree(self.old, self.state)

    def goes_on(self, before: list[str], put_back: Callable[[], None]) -> None:
        """20 more messages; then the server is killed, the old file is put back, and all clients
        get what is said afterwards, once.
        """
        lost = self.say("lost", 20)
        self.wait_for_text(lost[-1])
        self.kill()
        put_back()
        self.start()
        new = self.say("new", 30)  # more than was lost, and perhaps before the clients are back
        self.wait_for_text(new[-1])
        more = self.say("more", 3)
        self.wait_for_text(more[-1])
        for client in self.clients:
            self.assertEqual(self.texts[client], before + lost + new + more)
        self.assertNoTraceback()

    def archive(self, *arguments: str) -> None:
        """The operator's command, run to its end."""
        module = ("-m", "chat_twisted.admin")
        command = self.process(sys.executable, *module, *arguments, "--state", str(self.state))
        self.assertEqual(command.wait(), 0, command.err)

    def test_after_a_backup_is_restored_all_new_messages_arrive_once(self) -> None:
        before = self.say("early", 3)
        self.wait_for_text(before[-1])
        backup = str(self.old / "backup")
        self.archive("backup", backup)
        self.goes_on(before, lambda: self.archive("restore", backup))

    def test_after_a_backup_of_a_chat_in_which_nothing_was_said_is_restored(self) -> None:
        backup = str(self.old / "backup")
        self.archive("backup", backup)
        self.goes_on([], lambda: self.archive("restore", backup))

    def test_after_a_loss_of_power_all_new_messages_arrive_once(self) -> None:
        before = self.say("early", 3)
        self.wait_for_text(before[-1])
        with self.stopped():
            shutil.copytree(
                self.state, self.old, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.socket")
            )
        self.goes_on(before, self.put_back)

    def test_clients_say_in_one_line_that_messages_are_lost(self) -> None:
        with self.stopped():
            shutil.copytree(
                self.state, self.old, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.socket")
            )
        self.wait_for_text(self.say("lost", 1)[0])
        self.kill()
        self.put_back()
        self.start()
        for client in self.clients:
            events = [self.event(client)["event"] for _ in range(3)]
            self.assertEqual(events, ["disconnected", "reconnected", "went_back"])
