"""The parser of keys: the library's keys, pasted texts, and what a stranger may send."""

from __future__ import annotations

from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys
from twisted.trial.unittest import TestCase

from chat_twisted.client.key_parser import MAX_SEQUENCE, KeyParser

BEGIN, END = "\x1b[200~", "\x1b[201~"


class KeyParserTests(TestCase):
    def setUp(self) -> None:
        self.keys: list[KeyPress] = []
        self.parser = KeyParser(self.keys.append, max_paste=100)

    def parse(self, *pieces: str) -> list[tuple[str, str]]:
        """The keys in pieces of input, after which nothing follows."""
        for piece in pieces:
            self.parser.feed(piece)
        self.parser.flush()
        found = [(str(press.key), press.data) for press in self.keys]
        self.keys.clear()
        return found

    def test_the_keys_are_those_of_the_library(self) -> None:
        expected: list[KeyPress] = []
        library = Vt100Parser(expected.append)
        for keys in ANSI_SEQUENCES:
            if keys == BEGIN:
                continue
            for text in (keys, f"a{keys}b", f"\x1b{keys}", keys[:-1], keys * 2):
                expected.clear()
                library.feed_and_flush(text)
                found = [(str(press.key), press.data) for press in expected]
                self.assertEqual(self.parse(text), found, ascii(text))

    def test_a_sequence_may_come_in_pieces(self) -> None:
        for keys in ANSI_SEQUENCES:
            if keys != BEGIN:
                self.assertEqual(self.parse(*keys), self.parse(keys), ascii(keys))

    def test_a_pasted_text_is_one_key_however_it_arrives(self) -> None:
        text = "one\r\x1b[A\x1b[201 two\x1b"
        data = f"a{BEGIN}{text}{END}b"
        for size in range(1, len(data) + 1):
            pieces = [data[i : i + size] for i in range(0, len(data), size)]
            self.assertEqual(
                self.parse(*pieces), [("a", "a"), (str(Keys.BracketedPaste), text), ("b", "b")]
            )

    def test_a_pasted_text_is_kept_up_to_a_limit_alone(self) -> None:
        self.parser.feed(BEGIN)
        for _ in range(50):
            self.parser.feed("xyz")
        self.assertTrue(self.parser.is_pasting)
        self.parser.flush()
        self.assertEqual(self.parse(END), [(str(Keys.BracketedPaste), ("xyz" * 50)[:100])])

    def test_answers_of_the_terminal_and_the_mouse_are_no_keys(self) -> None:
        for text in ("\x1b[12;40R", "\x1b[<0;10;20M", "\x1b[?1;2c", "\x1b[" + "1;" * 20 + "z"):
            self.assertEqual(self.parse(f"a{text}b"), [("a", "a"), ("b", "b")], ascii(text))

    def test_a_sequence_without_an_end_is_not_kept(self) -> None:
        text = "\x1b[" + "1" * 100_000
        for piece in (text[i : i + 1000] for i in range(0, len(text), 1000)):
            self.parser.feed(piece)
            self.assertLess(len(self.parser._waiting), MAX_SEQUENCE + 10)
        self.assertEqual(len(self.keys), len(text))
        for _ in range(1000):
            self.parser.feed("\x1b[")
        self.assertLess(len(self.parser._waiting), 10)
