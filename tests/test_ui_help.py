"""The help for what can be typed."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.ui import commands
from chat_twisted.ui.commands import (
    COMMANDS,
    TOPICS,
    Command,
)
from chat_twisted.ui.help import help_text
from chat_twisted.ui.parsing import parse


class HelpTests(TestCase):
    def test_every_command_is_in_the_help_and_of_a_topic(self) -> None:
        text = help_text()
        for name, form in COMMANDS.items():
            self.assertIn(form.topic, TOPICS)
            self.assertEqual(f"\n{name} " in text, not form.screen, name)
            on_screen = f"\n{help_text(form.topic, screen=True)}\n"
            self.assertIn(f"\n{name} ", on_screen)
            self.assertIn(form.what, on_screen)

    def test_on_a_terminal_there_is_first_an_overview(self) -> None:
        overview = help_text(screen=True)
        for topic in TOPICS:
            self.assertIn(f"/help {topic}", overview)
        self.assertNotIn("/invite", overview)
        for text in (overview, *(help_text(topic, screen=True) for topic in TOPICS)):
            for line in text.split("\n"):
                self.assertLess(len(line), 100)

    def test_the_help_of_one_command_is_its_line(self) -> None:
        line = "/nick name                       change your name, as a guest"
        self.assertEqual(help_text("nick"), line)
        self.assertEqual(help_text("account"), help_text("account", screen=True))
        self.assertEqual(parse("/help /nick"), Command("/help", "nick"))
        self.assertTrue(help_text("bell").startswith("No such topic"))
        self.assertTrue(help_text("bell", screen=True).startswith("/bell"))

    def test_an_unknown_topic_is_answered_with_those_that_there_are(self) -> None:
        text = help_text("fish")
        for word in ("fish", *TOPICS):
            self.assertIn(word, text)

    def test_the_names_of_all_commands(self) -> None:
        self.assertEqual(list(commands.command_names(screen=True)), list(COMMANDS))
        self.assertNotIn("/bell", list(commands.command_names(screen=False)))
