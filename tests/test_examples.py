"""The examples, and the page about the library, which quotes them: what it shows is run."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
import textwrap
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.client.chat import ANSWERS
from chat_twisted.testing import Chat

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


PAGE = ROOT / "docs" / "library.rst"


def blocks(page: Path = PAGE) -> list[str]:
    """The literal blocks of a page."""
    found = re.findall(r"::\n((?:\n+    .*)+)\n", page.read_text())
    return [textwrap.dedent(block).strip("\n") + "\n" for block in found]


def block(words: str, page: Path = PAGE) -> str:
    """The one that has ``words``."""
    [found] = [block for block in blocks(page) if words in block]
    return found


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PageTests(TestCase):
    def test_the_page_quotes_the_examples_as_they_are(self) -> None:
        quoted = blocks()
        for path in sorted(EXAMPLES.glob("*.py")):
            self.assertIn(path.read_text(), quoted, path.name)

    def test_the_tests_on_the_page_pass(self) -> None:
        names = ("echo", "remind")
        self.addCleanup(lambda: [sys.modules.pop(name) for name in names])
        sys.modules.update({name: load(name) for name in names})
        namespace = {"__name__": "page"}
        exec(compile(block("class BotTests"), "library.rst", "exec"), namespace)
        tests = unittest.defaultTestLoader.loadTestsFromTestCase(namespace["BotTests"])
        result = unittest.TextTestRunner(io.StringIO()).run(tests)
        self.assertEqual((result.testsRun, result.failures, result.errors), (2, [], []))

    def test_an_example_is_short(self) -> None:
        for path in EXAMPLES.glob("*.py"):
            self.assertLess(len(path.read_text().splitlines()), 40)


class BotTestCase(TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        self.addCleanup(self.chat.close)
        self.bot, self.alice = self.chat.join("bot"), self.chat.join("alice")

    def heard(self) -> list[str]:
        """What alice was told since the last call."""
        texts = []
        while True:
            try:
                texts.append(self.chat.run(anext(self.alice)).text)
            except AssertionError:  # there is no more
                return texts


class ReadmeTests(BotTestCase):
    def greeter(self, client: Any) -> Any:
        """The bot of the README, as ``client``."""

        class Client:
            def __init__(self, *_: object, **__: object) -> None:
                pass

            async def __aenter__(self) -> Any:
                return client

            async def __aexit__(self, *_: object) -> None:
                pass

        code = block("greeter", ROOT / "README.rst").replace("react(main)", "")
        namespace: dict[str, Any] = {"__name__": "readme"}
        exec(compile(code, "README.rst", "exec"), namespace)
        namespace["ChatClient"] = Client
        return namespace["main"](None)

    def test_its_bot_answers_what_is_said_to_it_alone(self) -> None:
        self.chat.start(self.greeter(self.bot))
        for to in ("ALL", "bot"):
            self.chat.run(self.alice.send(to, "hello"))
        self.assertEqual(self.heard(), ["hello, alice"])

    def test_two_of_them_are_silent_among_themselves_and_fall_silent_when_one_speaks(self) -> None:
        other = self.chat.join("other")
        for client in (self.bot, other):
            self.chat.start(self.greeter(client))
        self.chat.run(self.alice.send("ALL", "hello, all"))
        self.assertEqual(self.chat.run(self.alice.history("ALL"))[-1].text, "hello, all")
        self.chat.run(other.send("bot", "hello"))
        said = self.chat.run(other.history("bot", 1000))
        self.assertEqual(len(said), 2 * ANSWERS + 1)


class EchoTests(BotTestCase):
    def test_it_answers_what_is_said_to_it_and_nothing_else(self) -> None:
        self.chat.start(load("echo").echo(self.bot))
        for client in (self.bot, self.alice):
            self.chat.run(client.join("#dev"))
        for to in ("#dev", "ALL", "bot"):
            self.chat.run(self.alice.send(to, f"to {to}"))
        self.assertEqual(self.heard(), ["to bot"])

    def test_it_goes_on_when_who_spoke_is_gone(self) -> None:
        self.bot._bot.session.pauseProducing()
        self.chat.run(self.alice.send("bot", "hello"))
        self.chat.run(self.alice.close())
        self.bot._bot.session.resumeProducing()
        running = self.chat.start(load("echo").echo(self.bot))
        self.assertNoResult(running)


class RemindTests(BotTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.running = self.chat.start(load("remind").remind(self.bot, self.chat.reactor))

    def test_it_says_so_when_it_is_time_where_it_was_asked(self) -> None:
        for client in (self.bot, self.alice):
            self.chat.run(client.join("#dev"))
        for to, text in (
            ("bot", "!remind 10m tea\nand milk"),
            ("#dev", "!remind 1h stand-up"),
            ("bot", "!remind 5s now"),
            ("bot", "remind 1s x"),
            ("bot", "!remind 1d x"),
            ("ALL", "!remind 1s x"),
        ):
            self.chat.run(self.alice.send(to, text))
        for seconds, texts in (
            (4, []),
            (1, ["alice: now"]),
            (594, []),
            (1, ["alice: tea\nand milk"]),
            (2999, []),
            (1, ["alice: stand-up"]),
        ):
            self.chat.advance(seconds)
            self.assertEqual(self.heard(), texts)

    def test_it_goes_on_when_who_asked_is_gone(self) -> None:
        self.chat.run(self.alice.send("bot", "!remind 1m x"))
        self.chat.run(self.alice.close())
        self.chat.advance(60)
        self.assertNoResult(self.running)
        self.assertEqual(self.flushLoggedErrors(), [])
