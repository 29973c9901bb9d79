"""What ``chat_twisted.client`` offers to those who write bots, and what importing it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted import client
from chat_twisted.ui.requests import ChatRequests

ROOT = Path(__file__).resolve().parents[1]


class ExportTests(TestCase):
    def test_these_names_are_there_and_no_others(self) -> None:
        self.assertEqual(
            client.__all__,
            [
                "ChatClient",
                "ClientError",
                "Done",
                "Event",
                "Found",
                "Marker",
                "NotConnected",
                "NotDelivered",
                "Profile",
                "Received",
                "Refused",
                "Room",
                "Seen",
                "Sent",
                "State",
                "printable",
                "use_monotonic_clock",
            ],
        )
        for name in client.__all__:
            self.assertEqual(getattr(client, name).__name__, name)
            self.assertIn(name, dir(client))
        self.assertRaises(AttributeError, lambda: client.Nothing)

    def test_each_request_of_a_bot_is_on_the_librarys_page(self) -> None:
        page = (ROOT / "docs/library.rst").read_text()
        requests = [name for name in vars(ChatRequests) if name[0] != "_"]
        self.assertGreater(len(requests), 30)
        for name in requests:
            if name != "ask":  # the common part of the others
                self.assertRegex(page, rf"``{name}\b", name)

    def test_the_errors_are_one_family(self) -> None:
        for error in (client.NotConnected, client.NotDelivered, client.Refused):
            self.assertTrue(issubclass(error, client.ClientError))

    def loaded(self, statement: str) -> set[str]:
        """The modules that a process has after ``statement``."""
        code = f"{statement}\nimport sys\nprint(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return set(done.stdout.split())

    def test_the_package_alone_is_cheap(self) -> None:
        loaded = self.loaded("import chat_twisted.client")
        self.assertEqual([name for name in loaded if name.split(".")[0] == "twisted"], [])
        self.assertNotIn("asyncio", loaded)

    def test_the_reactor_can_be_chosen_after_the_client_is_imported(self) -> None:
        loaded = self.loaded(
            "from chat_twisted.client import ChatClient; ChatClient('a', 'b', reactor=None)"
        )
        self.assertIn("chat_twisted.client.chat", loaded)
        self.assertNotIn("twisted.internet.reactor", loaded)
