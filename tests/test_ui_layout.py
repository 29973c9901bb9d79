"""How messages and lists are laid out; the terminal's view tests the rest."""

from __future__ import annotations

import sys
from datetime import UTC
from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.client.themes import THEMES
from chat_twisted.ui import folds as folds_module
from chat_twisted.ui import highlight as highlight_module
from chat_twisted.ui.conversations import Active
from chat_twisted.ui.folds import Folds
from chat_twisted.ui.highlight import LANGUAGES, highlight
from chat_twisted.ui.layout import (
    MAX_ROWS,
    ROW,
    Line,
    MessageLayout,
    activity_line,
    in_columns,
    user_lines,
)
from chat_twisted.ui.values import Received, Seen, State


def plain(line: Line) -> str:
    return "".join(text for _, text in line)


def message(text: str, number: int = 7, kind: str = "text", sender: str = "bob") -> Received:
    return Received(number, "2026-11-23T10:00:59.123Z", sender, "#dev", text, kind=kind)


class LayoutTestCase(TestCase):
    def setUp(self) -> None:
        self.folds = Folds()
        self.layout = MessageLayout(UTC, self.folds, lambda name: name == "bob")
        self.layout.lines(message(""), "alice")  # the date

    def shown(self, *args: Any, **options: Any) -> list[str]:
        return [plain(line) for line in self.layout.lines(message(*args), "alice", **options)]


class MessageTests(LayoutTestCase):
    def test_guests_are_marked(self) -> None:
        self.assertEqual(self.shown("hi"), ["10:00 [#dev] ~bob: hi"])
        self.assertEqual(self.shown("hi", 7, "text", "carol"), ["10:00 [#dev] carol: hi"])

    def test_actions_and_notices_look_like_none_of_the_others(self) -> None:
        self.assertEqual(self.shown("waves", 7, "action"), ["10:00 [#dev] * ~bob waves"])
        self.assertEqual(self.shown("built", 7, "notice", "ci"), ["10:00 [#dev] -ci- built"])

    def test_the_formatting_of_irc_is_not_shown(self) -> None:
        self.assertEqual(
            self.shown("\x02bold\x02 \x0304,01red\x03\n\x1ditalics"),
            ["10:00 [#dev] ~bob:", "        bold red", "        italics"],
        )

    def test_numbers_are_shown_on_demand(self) -> None:
        self.layout.numbers = True
        self.assertEqual(self.shown("hi", 41), ["41 10:00 [#dev] ~bob: hi"])
        self.assertEqual(self.shown("hi", 0), ["10:00 [#dev] ~bob: hi"])

    def test_earlier_messages_are_dimmed_wholly(self) -> None:
        lines = self.layout.lines(message("one\n```\ntwo\n```"), "alice", mentioned=True, dim=True)
        self.assertEqual({style for line in lines for style, _ in line}, {"class:dim"})

    def test_the_lines_of_a_text_stand_below_its_sender_with_their_indentation(self) -> None:
        self.assertEqual(
            self.shown("  def f():\n\treturn 1\n", mentioned=True),
            ["10:00*[#dev] ~bob:", "          def f():", "        \treturn 1"],
        )


class FoldTests(LayoutTestCase):
    def test_a_long_text_is_folded(self) -> None:
        text = "\n".join(f"line {number}" for number in range(1, 55))
        lines = self.shown(text)
        self.assertEqual(len(lines), MAX_ROWS + 2)
        self.assertEqual(lines[-2:], ["        line 20", "        … 34 more lines: /show 1"])
        self.assertEqual(self.folds.get(1), message(text))
        self.assertEqual(len(self.shown(text, whole=True)), 55)
        self.assertEqual(self.shown(text)[-1], "        … 34 more lines: /show 1")  # the same again
        self.assertIn("/show 2", self.shown(text, 8)[-1])

    def test_a_text_of_as_many_rows_is_not(self) -> None:
        self.assertEqual(len(self.shown("x\n" * MAX_ROWS)), MAX_ROWS + 1)
        self.assertIn("… 1 more line:", self.shown("x\n" * (MAX_ROWS + 1))[-1])

    def test_a_long_line_counts_as_several_rows(self) -> None:
        lines = self.shown("a\n" + "x" * ROW * MAX_ROWS + "\nb")
        self.assertEqual(lines[1:], ["        a", "        … 2 more lines: /show 1"])
        first, last = self.shown("x" * ROW * (MAX_ROWS + 1), 8)
        self.assertTrue(first.endswith("x…"))
        self.assertEqual(last, "        … more: /show 2")
        self.assertLess(len(first), ROW * (MAX_ROWS + 1))

    def test_a_remark_stands_behind_it(self) -> None:
        self.assertIn("/show 1 (sent)", self.shown("x\n" * 99, state="sent")[-1])

    def test_a_deleted_message_is_not_kept(self) -> None:
        self.shown("x\n" * 99)
        self.folds.remove(7)
        self.assertEqual(self.folds.get(1), None)

    def test_folded_messages_have_limits(self) -> None:
        self.patch(folds_module, "MAX_FOLDS", 3)
        self.patch(folds_module, "MAX_FOLD_TEXT", 1000)
        shorts = [self.folds.add(message("x" * 300, number)) for number in range(1, 6)]
        self.assertEqual(shorts, [1, 2, 3, 4, 5])
        self.assertEqual([bool(self.folds.get(n)) for n in shorts], [False] * 2 + [True] * 3)
        self.folds.add(message("x" * 900, 9))
        self.assertEqual((self.folds.get(5), bool(self.folds.get(6))), (None, True))


class CodeTests(LayoutTestCase):
    code = "see:\n```python\ndef f():\n    return 'a'  # b\n```\nok"

    def lines(self, text: str) -> list[Line]:
        return [line[1:] for line in self.layout.lines(message(text), "alice")[1:]]

    def test_text_between_fences_is_highlighted_and_unchanged(self) -> None:
        lines = self.lines(self.code)
        self.assertEqual("\n".join(map(plain, lines)), self.code)
        self.assertIn(("class:code-keyword", "def"), lines[2])
        self.assertIn(("class:code-name", "f"), lines[2])
        self.assertIn(("class:code-string", "'"), lines[3])
        self.assertIn(("class:code-comment", "# b"), lines[3])
        self.assertEqual(
            [line[0][0] for line in lines[:2] + lines[4:]], ["", "class:dim", "class:dim", ""]
        )

    def test_without_pygments_it_has_one_style(self) -> None:
        highlight_module._lexer.cache_clear()
        self.addCleanup(highlight_module._lexer.cache_clear)
        self.patch(sys, "modules", {**sys.modules, "pygments.lexers": None})
        lines = self.lines(self.code)
        self.assertEqual("\n".join(map(plain, lines)), self.code)
        self.assertEqual(lines[2], [("class:code", "def f():")])

    def test_a_language_that_an_older_pygments_does_not_know_has_one_style(self) -> None:
        self.patch(highlight_module, "LANGUAGES", ("of tomorrow",))
        self.assertEqual(highlight(["x = 1"], "of tomorrow"), [[("class:code", "x = 1")]])

    def test_a_fence_without_an_end_a_language_or_text_is_harmless(self) -> None:
        for text in (
            "a\n```",
            "```\n```",
            "```nonsense\nx",
            "```c\n\n\n",
            "a\n```py\n\n\nx\n\n```\n",
        ):
            self.assertEqual("\n".join(map(plain, self.lines(text))), text.removesuffix("\n"))

    def test_whatever_is_sent_stays_as_it_was(self) -> None:
        for language in sorted(LANGUAGES):
            for line in ("a\rb", "\ufeffx", "\x1b[2J\x00", "\t'\\", "<a\xa0b", ""):
                shown = highlight([line, "x = 1"], language)
                self.assertEqual(list(map(plain, shown)), [line, "x = 1"])

    def test_each_style_has_a_colour(self) -> None:
        styles = {style.removeprefix("class:") for _, style in highlight_module._STYLES}
        self.assertLessEqual(styles | {"code"}, set(THEMES["dark"]))

    def test_much_text_is_not_highlighted(self) -> None:
        self.patch(highlight_module, "MAX_CODE", 10)
        self.assertEqual(highlight(["def f(): pass"], "py"), [[("class:code", "def f(): pass")]])


class ListTests(TestCase):
    def test_a_few_users_have_a_row_each_and_many_stand_in_columns(self) -> None:
        few = [
            Seen("bob", State.AWAY, "lunch", "operator", "x1"),
            Seen("carol", State.HERE, identity=""),
        ]
        self.assertEqual(user_lines(few, 80, ranks=True), ["~bob   operator  away  lunch", "carol"])
        many = [
            Seen(
                f"u{number}", State.HERE, rank="voice" * (number == 3), identity="g" * (number == 2)
            )
            for number in range(1, 14)
        ]
        many.append(Seen("zoe", State.AWAY, "lunch", "operator"))
        self.assertEqual(
            user_lines(many, 40, ranks=True),
            ["u1   +u3  u5  u7  u9   u11  u13", "~u2  u4   u6  u8  u10  u12  @zoe (away)"],
        )

    def test_columns_fit_the_width_and_hold_all(self) -> None:
        for count in (0, 1, 2, 7, 100):
            cells = [f"name{'x' * (number * 7 % 12)}{number}" for number in range(count)]
            for columns in (10, 40, 80, 200):
                lines = in_columns(cells, columns)
                self.assertEqual(sorted(" ".join(lines).split()), sorted(cells))
                self.assertTrue(all(len(line) <= max(columns, 20) for line in lines))
        self.assertEqual(in_columns(list("abcde"), 8), ["a  c  e", "b  d"])


class ActivityTests(TestCase):
    activity = [
        Active(2, "#dev", 3, False),
        Active(3, "bob", 1, True),
        Active(11, "#operations", 1, False),
    ]

    def line(self, columns: int, count: int = 3) -> str:
        return plain(activity_line(self.activity[:count], columns))

    def test_conversations_are_shown_with_numbers_names_and_highlights(self) -> None:
        self.assertEqual(self.line(80), "[2:#dev 3:@bob! 11:#operations] ")
        self.assertEqual(self.line(40, 2), "[2:#dev 3:@bob!] ")
        self.assertEqual(self.line(80, 0), "")

    def test_it_fits_half_of_the_terminal(self) -> None:
        self.assertEqual(self.line(40), "[2 3:@bob! 11] ")
        self.assertEqual(self.line(24), "[2 3! 11] ")
        self.assertEqual(self.line(18), "[2 3! …] ")
        many = [Active(n, f"#room{n}", n, n % 2 > 0) for n in range(2, 500)]
        for columns in (10, 20, 40, 80):
            self.assertLessEqual(len(plain(activity_line(many, columns))), columns // 2)
