"""The page about the operator's command: each command of it prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import shlex

from chat_twisted import admin
from tests.end_to_end.support import ROOT, ServerTestCase

PAGE = ROOT / "docs" / "operations" / "admin.rst"


def transcripts() -> list[tuple[str, list[str]]]:
    """The commands of the page, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in re.findall(r"^ {4}(.+)$", PAGE.read_text(), re.MULTILINE):
        if line.startswith("$ admin "):
            found.append((line.removeprefix("$ admin "), []))
        else:
            found[-1][1].append(line)
    return found


def alike(line: str) -> str:
    """Leave out what differs from run to run: numbers, times, fingerprints and white space."""
    line = re.sub(r"SHA256:\S+|\b[0-9a-f]{64}\b|\b[0-9A-F]{2}(:[0-9A-F]{2}){31}\b", "F", line)
    line = re.sub(r"^(per second ).*", r"\1", line)
    return " ".join(re.sub(r"\d+([.:]\d+)*", "0", line).split())


class PageTests(ServerTestCase):
    def test_every_command_prints_what_the_page_shows(self) -> None:
        alice, bob = self.connect(), self.connect()
        alice.register("alice")
        bob.register("bob")
        alice.ask("JOIN #tea")
        alice.ask("SEND ALL", body="hi")
        self.assertGreater(len(transcripts()), 12)
        for command, shown in transcripts():
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                code = admin.main([*shlex.split(command), "--state", str(self.state)])
            lines = out.getvalue().splitlines()
            if command.startswith("doctor"):  # what it finds is this machine's
                about = [
                    re.findall(r"^\S+ +(\w+):", "\n".join(each), re.M) for each in (lines, shown)
                ]
                self.assertEqual(*map(set, about))
            else:
                self.assertEqual([*map(alike, lines)], [*map(alike, shown)], command)
                self.assertEqual(code, 0, command)
        self.assertIn(b"NOTICE announcement\nContent-length: 39\n\nThe server is down", bob.rest())
        self.assertNoTraceback()
