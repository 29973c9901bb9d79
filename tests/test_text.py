"""Replacement of harmful characters in foreign text."""

from __future__ import annotations

import json
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.text import MAX_MARKS, escape_json, printable, printable_lines, unformatted

# By Unicode's categories, not by the list under test.
FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
VISIBLE_FORMAT = {0x0600, 0x0601, 0x0602, 0x0603, 0x0604, 0x0605, 0x06DD, 0x070F}
VISIBLE_FORMAT |= {0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}
JOINERS = {0x200C, 0x200D}
RESERVED = {0x2065, *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE0100), *range(0xE01F0, 0xE1000)}
"""Unassigned code points that Unicode reserves for invisible characters
(Default_Ignorable_Code_Point)."""


def may_be_shown(code: int) -> bool:
    if code in VISIBLE_FORMAT | JOINERS or code == 0x09:
        return True
    noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    # Format characters of a newer Unicode version than this Python's.
    newer = 0x13430 <= code <= 0x1345F and unicodedata.category(chr(code)) == "Cn"
    return newer or not (
        unicodedata.category(chr(code)) in FORBIDDEN or noncharacter or code in RESERVED
    )


class PrintableTests(TestCase):
    def test_control_characters_become_ones_that_only_look_like_them(self) -> None:
        self.assertEqual(printable("\x1b[2J\x07\x7f\x9b"), "␛[2J␇␡\ufffd")
        self.assertEqual(printable("a\r\nb"), "a␍␊b")

    def test_text_and_tabs_stay(self) -> None:
        for text in (
            "é 漢字 😀 👩\u200d❤\ufe0f\u200d👩 \t.",
            "\u0645\u06cc\u200c\u062e\u0648",
            "ท้าย ที่ ก็",
            "a\u0301\u0323 \u05d1\u05bc\u05b0\u0591",
            "\u00a0\u3000",
            "葛\U000e0100",
        ):
            self.assertEqual(printable(text), text)

    def test_marks_that_turn_round_or_break_lines_or_are_not_seen_are_replaced(self) -> None:
        for mark in "\u202e\u2066\u2069\u200e\u200f\u061c\u2028\u2029\x85\ufeff\u200b\U000e0041":
            self.assertEqual(printable(f"a{mark}b"), "a\ufffdb")
        self.assertEqual(printable("a\ud83db\ue000\uffff"), "a\ufffdb\ufffd\ufffd")
        self.assertEqual(printable("Donau\u00addampf"), "Donau-dampf")

    def test_every_code_point_is_shown_or_replaced_as_its_kind_says(self) -> None:
        for begin in range(0, sys.maxunicode + 1, 0x1000):
            codes = range(begin, begin + 0x1000)
            shown = printable("".join(f"{chr(code)}x" for code in codes))[::2]
            for code, character in zip(codes, shown, strict=True):
                if 0x13430 <= code <= 0x1345F:  # of these, some versions of Unicode have more
                    continue
                if (character == chr(code)) != may_be_shown(code):
                    self.fail(f"{code:#x} is shown as {character!r}")

    def test_the_formatting_of_irc_can_be_left_out(self) -> None:
        for text, plain in (
            ("\x02bold\x02, \x1ditalics\x1d and \x0fnone", "bold, italics and none"),
            ("\x034,12red\x03 \x0304red\x033,x \x03123", "red red,x 3"),
            ("\x04ff0000red\x04 \x04FF0000,00ff00red \x04ff", "red red ff"),
            ("\x1b[2J\x01\tno formatting\n", "\x1b[2J\x01\tno formatting\n"),
        ):
            self.assertEqual(unformatted(text), plain)

    def test_a_pile_of_marks_is_cut_down(self) -> None:
        for mark in ("\u0301", "\u0e49", "\u20dd", "\U000e0100", "\u200d"):
            shown = printable("x" + mark * 100 + "y")
            self.assertEqual(shown, "x" + mark * MAX_MARKS + "\ufffd" * (100 - MAX_MARKS) + "y")
        self.assertEqual(printable("😀" * 100), "😀" * 100)

    def test_lines_stay_where_they_are_wanted(self) -> None:
        self.assertEqual(printable_lines("a\x1b\nb\r\n\u2028"), "a␛\nb␍\n\ufffd")

    @given(st.text(st.characters()))
    def test_nothing_that_acts_on_a_terminal_is_left_and_lengths_stay(self, text: str) -> None:
        shown = printable(text)
        self.assertEqual(len(shown), len(text))
        self.assertEqual([c for c in shown if not may_be_shown(ord(c))], [])
        self.assertEqual(printable(shown), shown)
        shown.encode()

    @given(st.text(st.characters(), max_size=50))
    def test_json_means_the_same_when_it_can_be_shown(self, text: str) -> None:
        text += "\u0301" * 20
        written = escape_json(json.dumps({text: [text, 1]}, ensure_ascii=False))
        self.assertEqual(printable(written), written)
        self.assertEqual(json.loads(written), {text: [text, 1]})
