"""The man page tells of everything that the command takes."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.client.arguments import parser
from chat_twisted.client.themes import THEMES
from chat_twisted.ui.commands import COMMANDS

DOCS = Path(__file__).resolve().parents[1] / "docs"


class ManPageTests(TestCase):
    def setUp(self) -> None:
        text = (DOCS / "chat-twisted.1").read_text()
        text = re.sub(r"\\f[A-Z]|\\f\[[A-Z]*\]", "", text)
        for written, meant in ((r"\-", "-"), (r"\(aq", "'"), (r"\(dq", '"'), (r"\e", "\\")):
            text = text.replace(written, meant)
        self.page = text

    def test_every_option_is_there(self) -> None:
        options = re.findall(r"(?<![\w-])--[a-z-]+", parser().format_help())
        self.assertGreater(len(options), 9)
        for option in options:
            self.assertIn(option, self.page)

    def test_every_command_is_there_with_what_it_does(self) -> None:
        for name, form in COMMANDS.items():
            self.assertIn(f"{name} {form.usage}".rstrip(), self.page)
            self.assertIn(form.what, self.page)

    def test_every_colour_is_there(self) -> None:
        for name in THEMES["dark"]:
            if not re.fullmatch(r"name-[1-6]", name):
                self.assertRegex(self.page, rf"\b{name}\b")

    def test_it_was_made_from_its_source(self) -> None:
        source = (DOCS / "chat-twisted.1.rst").read_text()
        words = re.findall(r"[A-Za-z]{4,}", re.sub(r"^:.*$", "", source, flags=re.MULTILINE))
        for word in set(words) - {"commands"}:
            self.assertIn(word.lower(), self.page.lower())
