"""Texts as lines of IRC: nothing is lost, no character is broken, and no text is a command to a
client."""

from __future__ import annotations

import itertools
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.doors.irc.grammar import encode
from chat_twisted.doors.irc.splitting import (
    ACTION_OCTETS,
    action,
    ctcp,
    harmless,
    pieces,
    split,
    text_limit,
)

FORMATTING = "\x02\x03\x04\x0f\x11\x16\x1d\x1e\x1f"
FAMILY = "👩\u200d👩\u200d👧"
FLAG = "🇫🇷"


class SplittingTests(TestCase):
    def test_a_short_text_of_one_line_stays(self) -> None:
        for text in ("a", "é 😀", " ", "a b ", f"{FORMATTING}a\t"):
            self.assertEqual(split(text, 400), [text])
            self.assertEqual(list(pieces(text, 400)), [(text, False)])

    def test_each_line_is_a_line(self) -> None:
        self.assertEqual(split("a\nb\r\nc", 400), ["a", "b", "c"])

    def test_empty_lines_are_left_out_outside_of_batches(self) -> None:
        self.assertEqual(split("\na\n\n\r\nb\n", 400), ["a", "b"])
        self.assertEqual([piece for piece, _ in pieces("\na\n\nb", 400)], ["", "a", "", "b"])

    def test_a_text_of_line_ends_alone_is_a_space(self) -> None:
        for text in ("", "\n", "\r\n\n"):
            self.assertEqual(list(pieces(text, 400)), [(" ", False)])

    def test_a_long_line_is_split_after_words(self) -> None:
        self.assertEqual(split("one two three four", 8), ["one two ", "three ", "four"])
        self.assertEqual(split("one  two", 5), ["one  ", "two"])
        self.assertEqual(split("é é é é é é", 6), ["é é ", "é é ", "é é"])
        self.assertEqual(
            list(pieces("one two\nthree four", 6)),
            [("one ", False), ("two", True), ("three ", False), ("four", True)],
        )

    def test_a_long_word_is_split_between_characters(self) -> None:
        self.assertEqual(split("abcdefghij", 4), ["abcd", "efgh", "ij"])
        self.assertEqual(split("漢字漢字", 7), ["漢字", "漢字"])
        self.assertEqual(split("a😀😀", 4), ["a", "😀", "😀"])
        self.assertEqual(split("  abcdefgh", 4), ["  ab", "cdef", "gh"])
        self.assertEqual(split("     a", 4), ["    ", " a"])
        self.assertEqual(split("abcd efgh", 4), ["abcd", " efg", "h"])

    def test_what_is_seen_as_one_character_is_not_split(self) -> None:
        for cluster in (
            FAMILY,
            FLAG,
            "e\u0301\u0323",
            "❤\ufe0f",
            "👍\U0001f3fd",
            "🏴\U000e0067\U000e0062\U000e007f",
            "\u0e17\u0e35\u0e48",
            "\u0e17\u0e33",
            "\u1112\u1161\u11ab",
            "\u304b\uff9e",
        ):
            octets = len(cluster.encode())
            for before in ("", "a", "é", "\u6f22", FLAG):
                text = before + 20 * cluster
                for limit in range(octets + len(before.encode()), 4 * octets):
                    for piece in split(text, limit):
                        rest = piece.removeprefix(before)
                        self.assertEqual(rest.replace(cluster, ""), "", (cluster, limit))

    def test_a_character_that_is_longer_than_a_line_is_split_nevertheless(self) -> None:
        text = "e" + 30 * "\u0301"
        result = split(text, 10)
        self.assertEqual("".join(result), text)
        self.assertLessEqual(len(result), 8)

    def test_lines_that_the_sender_joined_are_split_where_they_were(self) -> None:
        self.assertEqual(
            list(pieces("a\nbcdef\ng", 400, [4, 6])),
            [("a", False), ("bc", False), ("de", True), ("f", True), ("g", False)],
        )
        for joins in ([0], [1], [2], [3], [99], [-1], [0, 1, 1, 2, 3]):
            self.assertEqual("".join(split("a\nb", 400, joins)), "ab")
        self.assertEqual(split("\nab", 400, [1]), ["ab"])
        self.assertEqual(split("abcdefg", 4, [5]), ["abcd", "e", "fg"])

    def test_no_line_is_so_short_that_a_character_has_no_room(self) -> None:
        with self.assertRaises(ValueError):
            split("a", 3)

    def test_the_limit_is_what_one_line_has_room_for(self) -> None:
        limit = text_limit("PRIVMSG", "#dév", "alice!alice@chat")
        for text in ("x" * limit, "é" * (limit // 2) + "x" * (limit % 2)):
            data = encode("PRIVMSG", ["#dév", text], source="alice!alice@chat", trailing=True)
            self.assertEqual(len(data), 512)
            self.assertTrue(data.endswith(f":{text}\r\n".encode()))

    def test_64_kib_are_split_in_few_steps(self) -> None:
        """The number of Python's lines that run grows with the text, not with its square."""
        steps = 0

        def trace(frame, event, argument):
            nonlocal steps
            steps += 1
            return trace

        for part in ("\n", "a\n", "漢", " ", "a b ", "🇫", "e\u0301", "\u0301", "\x1b"):
            text = part * (65536 // len(part.encode()))
            before = sys.gettrace()
            steps = 0
            sys.settrace(trace)
            try:
                split(text, 440)
            finally:
                sys.settrace(before)
            self.assertLess(steps, 8 * 65536, part)


class HarmlessTests(TestCase):
    def test_control_characters_become_symbols(self) -> None:
        self.assertEqual(harmless("a\x1b[2J\x07\r\0\x7f\x9b\x01"), "a␛[2J␇␍␀␡\ufffd␁")
        self.assertEqual(harmless("a\u202eb\u2066\u2028"), "a\ufffdb\ufffd\ufffd")

    def test_formatting_and_emoji_stay(self) -> None:
        for text in (FORMATTING, f"\x0304,12a\tb\n{FAMILY}{FLAG}", "🏴\U000e0067\U000e007f\u200f"):
            self.assertEqual(harmless(text), text)

    def test_each_control_character_is_formatting_or_replaced(self) -> None:
        for code in (*range(32), *range(0x7F, 0xA0)):
            self.assertEqual(harmless(chr(code)) == chr(code), chr(code) in f"{FORMATTING}\t\n")

    def test_a_text_from_another_door_is_no_ctcp(self) -> None:
        self.assertEqual(split("\x01VERSION\x01", 400), ["␁VERSION␁"])


class CtcpTests(TestCase):
    def test_a_command_and_its_argument(self) -> None:
        for text, result in (
            ("\x01VERSION\x01", ("VERSION", "")),
            ("\x01ping 1 2\x01", ("PING", "1 2")),
            ("\x01ACTION waves", ("ACTION", "waves")),
            ("\x01ACTION  waves \x01", ("ACTION", " waves ")),
            ("\x01ACTION\x01", ("ACTION", "")),
        ):
            self.assertEqual(ctcp(text), result)

    def test_other_texts_are_none(self) -> None:
        for text in ("", "a", "a\x01VERSION\x01", "\x01", "\x01\x01", "\x01 a\x01"):
            self.assertIsNone(ctcp(text))

    def test_an_action(self) -> None:
        self.assertEqual(action("waves"), "\x01ACTION waves\x01")
        self.assertEqual(action("a\x01\x1b"), "\x01ACTION a␁␛\x01")
        self.assertEqual(ctcp(action("é b ")), ("ACTION", "é b "))
        self.assertEqual(len(action("é").encode()) - len("é".encode()), ACTION_OCTETS)


TEXT = st.text(
    st.sampled_from(f"ab \n\r\té漢😀\u0301\u200d\x01\x1b{FLAG}{FORMATTING}")
    | st.characters(exclude_categories=["Cs"]),
    max_size=200,
)


class PropertyTests(TestCase):
    @given(TEXT, st.integers(4, 60), st.lists(st.integers(-2, 200)).map(sorted))
    def test_the_pieces_are_the_text(self, text, octets, joins) -> None:
        found = list(pieces(text, octets, joins))
        for piece, _ in found:
            self.assertLessEqual(len(piece.encode()), octets)
            self.assertNotIn("\n", piece)
        joined = "".join(piece if goes_on else f"\n{piece}" for piece, goes_on in found)[1:]
        text = harmless(text.replace("\r\n", "\n"))
        self.assertEqual(joined, text if text.strip("\n") else " ")
        self.assertEqual(
            split(text, octets, joins), [piece for piece, _ in pieces(text, octets, joins) if piece]
        )
        self.assertTrue(split(text, octets))

    @given(TEXT)
    def test_harmless_changes_no_lengths_and_nothing_twice(self, text) -> None:
        self.assertEqual(len(harmless(text)), len(text))
        self.assertEqual(harmless(harmless(text)), harmless(text))

    @given(TEXT, st.integers(4, 60))
    def test_long_lines_are_split_as_late_as_possible(self, text, octets) -> None:
        """Two neighbours of one line have no room in one piece, unless a word or a cluster begins
        between them."""
        found = list(pieces(text, octets))
        for (piece, _), (following, goes_on) in itertools.pairwise(found):
            if goes_on and not piece.endswith(" ") and piece.isascii() and following.isascii():
                self.assertEqual(len(piece), octets)

    @given(TEXT)
    def test_no_text_is_ctcp_after_splitting_but_an_action_is(self, text) -> None:
        for line in split(text, 100):
            self.assertIsNone(ctcp(line))
            self.assertEqual(ctcp(action(line)), ("ACTION", line))
