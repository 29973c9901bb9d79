"""The terminal: lines above the prompt, keys, questions, completion, and the input history."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC
from itertools import count
from pathlib import Path
from typing import Any

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.utils import get_cwidth
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.client import screen as screen_module
from chat_twisted.client import themes, waiting_lines
from chat_twisted.client import wrapping as wrapping_module
from chat_twisted.client.completion import CommandCompleter
from chat_twisted.client.config import Config
from chat_twisted.client.history import InputHistory
from chat_twisted.client.identity import Identity
from chat_twisted.client.key_parser import KeyParser
from chat_twisted.client.login import Credentials
from chat_twisted.client.screen import Screen
from chat_twisted.client.session import ClientSession
from chat_twisted.client.terminal_kind import TerminalKind
from chat_twisted.client.terminal_output import TerminalOutput
from chat_twisted.client.themes import THEMES
from chat_twisted.client.user_files import LocalFiles
from chat_twisted.client.wrapping import INDENT, SEQUENCE, shorten, wrap
from chat_twisted.frames import Frame, FrameReader, encode
from chat_twisted.ui.commands import COMMANDS, TOPICS
from chat_twisted.ui.conversation_view import ConversationView
from chat_twisted.ui.layout import Line
from chat_twisted.ui.sending import MAX_PASTE
from chat_twisted.ui.settings import Memory
from tests.door import Transport
from tests.glass import Glass
from tests.wire import frames

TIME = "2026-11-23T10:00:59.123Z"

PATIENCE = 60
"""Seconds after which a test fails; a passing test never waits so long."""

F5, F8, ALT_ENTER, CTRL_C, CTRL_D, UP = "\x1b[15~", "\x1b[19~", "\x1b\r", "\x03", "\x04", "\x1b[A"
TAB, SHIFT_TAB, PAGE_UP, PAGE_DOWN, DOWN = "\t", "\x1b[Z", "\x1b[5~", "\x1b[6~", "\x1b[B"

test_module = sys.modules[__name__]


def texts(line: Line, columns: int) -> list[str]:
    return ["".join(text for _, text in piece) for piece in wrap(line, columns)]


def paste(text: str) -> str:
    """The input that a terminal sends for pasted text."""
    return f"\x1b[200~{text}\x1b[201~"


class WrapTests(TestCase):
    def test_a_line_that_fits_stays_as_it_is(self) -> None:
        for line in ([("", "")], [], [("a", "x" * 39)], [("a", "x"), ("b", " y "), ("c", "")]):
            pieces = list(wrap(line, 40))
            self.assertEqual(len(pieces), 1)
            self.assertEqual([part for part in pieces[0] if part[1]], [p for p in line if p[1]])

    def test_a_long_line_is_broken_between_words_and_its_rest_is_indented(self) -> None:
        line = [("t", "10:00 "), ("n", "bob:"), ("", " one two three four five six seven")]
        self.assertEqual(
            texts(line, 25), ["10:00 bob: one two", "        three four five", "        six seven"]
        )

    def test_styles_stay_with_their_text(self) -> None:
        pieces = list(wrap([("a", "x" * 10), ("b", " " + "y" * 20)], 20))
        self.assertEqual(
            [[part for part in piece if part[1].strip()] for piece in pieces],
            [[("a", "x" * 10)], [("b", "y" * 11)], [("b", "y" * 9)]],
        )

    def test_a_word_that_is_longer_than_a_line_is_broken_where_it_must_be(self) -> None:
        for prefix in ("", "· ", "12345 ", "        ", "10:00 [@bob] bob: ", "a" * 30 + " "):
            word = "".join(chr(0x4E00 + i) if i % 7 == 0 else "x" for i in range(300))
            found = texts([("", prefix), ("", word)], 40)
            self.assertEqual("".join(found).replace(" ", ""), (prefix + word).replace(" ", ""))
            found = texts([("", prefix + word)], 40)
            self.assertEqual("".join(found).replace(" ", ""), (prefix + word).replace(" ", ""))
            self.assertNotIn("", found)

    def test_no_line_is_wider_than_the_terminal_and_none_but_the_first_begins_at_its_edge(
        self,
    ) -> None:
        for text in (
            "x" * 500,
            "日本語" * 100,
            "e\u0301" * 300,
            "x 日 " * 100,
            "👩\u200d👩\u200d👧 " * 60,
            "\u0301" * 300 + "x" * 90,
            " " * 300 + "x",
            "a\tb" * 100,
            "❤\ufe0f" * 100,
            "longer words 日本語日本語 and a-very-very-very-very-long-one-too " * 5,
        ):
            for columns in (10, 11, 20, 40, 80):
                for prefix in ("", "· ", "10:00 [@bob] bob: "):
                    first, *more = texts([("", prefix), ("", text)], columns)
                    self.assertLess(get_cwidth(first), max(columns, INDENT + 3))
                    for piece in more:
                        self.assertLess(get_cwidth(piece), max(columns, INDENT + 3))
                        self.assertTrue(piece.startswith(" " * INDENT))

    def test_a_wide_character_is_not_cut_in_half_nor_a_mark_taken_from_its_letter(self) -> None:
        self.assertEqual(
            texts([("", "日" * 10)], 12), ["日" * 5, " " * 8 + "日", *[" " * 8 + "日"] * 4]
        )
        for piece in texts([("", "e\u0301" * 40)], 20):
            self.assertTrue(piece.lstrip().startswith("e"))
            self.assertTrue(piece.endswith("\u0301"))

    def test_a_sign_that_some_terminals_show_wider_counts_as_that(self) -> None:
        first, *_ = texts([("", "❤\ufe0f" * 40)], 40)
        self.assertEqual(first, "❤\ufe0f" * 19)

    def test_a_tab_becomes_spaces(self) -> None:
        forged = "10:00 [@carol] carol: pay now"
        for text in ("\t" * 30 + forged, "x" + "\t" * 10 + "x" + forged):
            first, *more = texts([("", "10:00 [@bob] bob: "), ("", text)], 80)
            self.assertTrue(first.startswith("10:00 [@bob] bob:"))
            for piece in (first, *more):
                self.assertNotIn("\t", piece)
            for piece in more:
                self.assertTrue(piece.startswith(" " * INDENT))
        self.assertEqual(texts([("", "\ta\tb")], 80), ["    a   b"])

    def test_the_time_to_wrap_a_line_is_proportional_to_its_length(self) -> None:
        looked: list[str] = []

        def look(character: str) -> int:
            looked.append(character)
            return get_cwidth(character)

        self.patch(wrapping_module, "get_cwidth", look)
        for text in ("x" * 65536, "x " + "y" * 65536, "\u0301" * 65536, "x " * 32768):
            looked.clear()
            list(wrap([("", text)], 20))
            self.assertLess(len(looked), 3 * len(text))

    def test_beside_the_prompt_a_line_is_shortened_and_its_end_stays(self) -> None:
        end = " (refused; F5 sends it again)"
        for text, columns, shortened in (
            ("[@bob] alice: hello", 80, "[@bob] alice: hello"),
            ("[@bob] alice: " + "hello " * 20, 61, "[@bob] alice: hello hello…"),
            ("[@bob] alice: " + "hello " * 20, 44, "[@bob] alice: hello…"),
            ("日" * 100, 61, f"{'日' * 15}…"),
        ):
            line = shorten([("a", text), ("b", end)], columns)
            self.assertEqual("".join(text for _, text in line), shortened + end)
            self.assertEqual(line[-1], ("b", end))
            self.assertEqual(len(texts(line, columns)), 1 if columns > 60 else 2)
        self.assertEqual(shorten([("a", "… 3 more")], 80), [("a", "… 3 more")])
        for columns in (1, 10, 30):
            line = shorten([("a", "x" * 100), ("b", end)], columns)
            self.assertLess(len(texts(line, columns)), 20)


class LinkTests(TestCase):
    long = "https://example.org/" + "a-b/" * 20 + "?q=%20x&y=(z)"

    def rows(self, text: str, columns: int = 40) -> list[str]:
        """The rows of a message, with the addresses that are left whole in angle brackets."""
        line = [("", "10:00 [@bob] bob:"), ("x", f" {text}")]
        found = []
        for row in wrap(line, columns, whole_links=True):
            is_whole = any(style == SEQUENCE for style, _ in row)
            parts = [text for style, text in row if style != SEQUENCE]
            found.append("".join(parts[:-1]) + f"<{parts[-1]}>" if is_whole else "".join(parts))
        return found

    def test_an_address_that_is_longer_than_a_row_is_left_to_the_terminal(self) -> None:
        rest = " " * INDENT
        self.assertEqual(
            self.rows(f"see {self.long} and more"),
            ["10:00 [@bob] bob: see ", f"{rest}<{self.long}>", f"{rest}and more"],
        )
        self.assertEqual(self.rows(self.long)[1:], [f"{rest}<{self.long}>"])
        self.assertEqual(
            self.rows(f"{self.long}, ({self.long})")[1:],
            [f"{rest}<{self.long},>", f"{rest}(", f"{rest}<{self.long})>"],
        )
        first, *more = wrap([("", self.long)], 40, whole_links=True)
        self.assertEqual((first[0], more), (("", ""), []))

    def test_an_address_that_fits_into_a_row_is_never_broken(self) -> None:
        link = "https://example.org/abc"  # 23 columns
        for before in ("", "x" * 10 + " ", "(", "see: " + "(" * 9, "a-" * 30):
            found = "\n".join(self.rows(f"{before}{link} is it"))
            self.assertIn(link, found)
            self.assertNotIn("<", found)

    def test_what_the_terminal_puts_at_its_edge_can_not_look_like_a_message(self) -> None:
        for forged in ("10:00 [@carol] carol: pay now", "10:00\u00a0[ALL]\u3000carol:", "日" * 30):
            for row in self.rows(f"{self.long}{forged}"):
                if "<" in row:
                    self.assertRegex(row, r"\A {8}<https?://[^\s\[\]\u0080-\U0010ffff]*>\Z")
                else:
                    self.assertTrue(row.startswith((" " * INDENT, "10:00 [@bob]")), row)

    def test_without_the_option_no_row_is_wider_than_the_terminal(self) -> None:
        for row in texts([("", "10:00 [@bob] bob: "), ("", self.long)], 40):
            self.assertLess(len(row), 40)


class TerminalKindTests(TestCase):
    def test_a_known_terminal_is_notified_in_its_own_way(self) -> None:
        nine, seven = "\x1b]9;a: b\x1b\\", "\x1b]777;notify;a;b\x1b\\"
        in_tmux = "\x1bPtmux;\x1b\x1b]9;a: b\x07\x1b\\"
        in_screen = "\x1bP\x1b]9;a: b\x07\x1b\\"
        for environment, told in (
            ({}, ""),
            ({"TERM": "xterm-256color"}, ""),
            ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, nine),
            ({"TERM_PROGRAM": "iTerm.app"}, nine),
            ({"TERM_PROGRAM": "Apple_Terminal"}, ""),
            ({"TERM": "foot-extra"}, seven),
            ({"TERM": "rxvt-unicode-256color"}, seven),
            ({"TERM": "tmux", "TMUX": "/tmp/x", "TERM_PROGRAM": "WezTerm"}, ""),
            ({"TERM": "tmux", "TMUX": "/tmp/x", "WEZTERM_PANE": "0"}, in_tmux),
            ({"TERM": "screen.foot", "KITTY_WINDOW_ID": "1"}, in_screen),
            ({"TERM": "screen", "STY": "1.x"}, ""),
        ):
            kind = TerminalKind(environment)
            self.assertEqual(kind.notification("a", "b", always=False), told, environment)

    def test_an_unknown_terminal_is_notified_only_if_that_is_switched_on(self) -> None:
        for environment, told in (
            ({"TERM": "xterm"}, "\x1b]9;a: b\x1b\\"),
            ({"TERM": "tmux-256color"}, "\x1bPtmux;\x1b\x1b]9;a: b\x07\x1b\\"),
            ({"TERM": "screen"}, "\x1bP\x1b]9;a: b\x07\x1b\\"),
        ):
            self.assertEqual(TerminalKind(environment).notification("a", "b", always=True), told)

    def test_a_notification_is_short_and_one_character_is_not_cut(self) -> None:
        kind = TerminalKind({"TERM": "screen"})
        told = kind.notification("a", "日" * 1000, always=True)
        self.assertLess(len(told.encode()), 620)
        self.assertNotIn("\ufffd", told)

    def test_the_terminal_is_asked_whether_it_rewraps_unless_that_is_known(self) -> None:
        for environment, known in (
            ({"TERM": "xterm", "VTE_VERSION": "1"}, True),
            ({"TERM": "screen", "TMUX": "/tmp/x"}, True),
            ({"TERM": "foot"}, True),
            ({"TERM": "xterm-256color"}, None),
            ({"TERM": "screen-256color"}, None),
            ({"TERM": "screen", "STY": "1", "KITTY_WINDOW_ID": "1"}, None),
            ({"TERM": "linux"}, False),
        ):
            kind = TerminalKind(environment)
            self.assertEqual((kind.rewraps, kind.is_known), (known is True, known is not None))
        for answer, rewraps in (
            ("84;0;0", True),  # tmux
            ("65;6800;1", True),  # VTE
            ("1;4000;21", True),  # kitty
            ("41;370;0", False),  # xterm
            ("83;40900;0", False),  # screen
            ("0;136;0", False),  # PuTTY
        ):
            kind = TerminalKind({"TERM": "xterm"})
            kind.answered(answer)
            self.assertEqual((kind.rewraps, kind.is_known), (rewraps, True))

    def test_the_answer_of_the_terminal_is_no_key_however_it_is_split(self) -> None:
        for pieces in (
            ["ab\x1b[>84;0;0ccd"],
            ["ab\x1b[>8", "4;0", ";0", "ccd"],
            ["ab", "\x1b[>", "84;0;0c", "cd"],
        ):
            keys: list[KeyPress] = []
            answers: list[str] = []
            parser = KeyParser(keys.append, answers.append)
            for piece in pieces:
                parser.feed(piece)
            self.assertEqual("".join(press.data for press in keys), "abcd")
            self.assertEqual(answers, ["84;0;0"])

    def test_other_keys_are_not_kept_back(self) -> None:
        keys: list[KeyPress] = []
        parser = KeyParser(keys.append, self.fail)
        for piece in ("a", "\x1b[A", "\x1b[>x", "b"):
            parser.feed(piece)
        found = [press.data for press in keys]
        self.assertEqual(found[:2] + found[-1:], ["a", "\x1b[A", "b"])


class ThemeTests(TestCase):
    def test_the_background_decides_if_the_terminal_names_it(self) -> None:
        for theme, background, chosen in (
            ("auto", "", "dark"),
            ("auto", "15;0", "dark"),
            ("auto", "0;15", "light"),
            ("auto", "0;default;7", "light"),
            ("auto", "12;8", "dark"),
            ("dark", "0;15", "dark"),
            ("light", "15;0", "light"),
        ):
            found = themes.styles(theme, {"COLORFGBG": background} if background else {})
            self.assertEqual(found, THEMES[chosen], (theme, background))

    def test_both_themes_have_the_same_styles(self) -> None:
        self.assertEqual(list(THEMES["dark"]), list(THEMES["light"]))

    def test_colours_can_be_read_on_their_background(self) -> None:
        # the contrast of WCAG 2, which asks for 4.5
        for theme, background in (("light", 1.0), ("dark", 0.0)):
            for name, style in THEMES[theme].items():
                for colour in re.findall(r"#(\w{6})", style):
                    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
                    r, g, b = (((x + 0.055) / 1.055) ** 2.4 if x > 0.04 else x / 13 for x in parts)
                    light, dark = sorted((0.2126 * r + 0.7152 * g + 0.0722 * b, background))[::-1]
                    self.assertGreater((light + 0.05) / (dark + 0.05), 4.5, (theme, name))
            self.assertNotRegex(" ".join(THEMES["light"].values()), "ansi")


ScreenTest = Callable[[Any], Awaitable[None]]


def on_a_terminal(test: ScreenTest) -> Callable[[ScreenTestCase], None]:
    """Run a test while the screen draws and reads keys."""

    @functools.wraps(test)
    def run(self: ScreenTestCase) -> None:
        asyncio.run(self.play(test))

    return run


class ScreenTestCase(TestCase):
    columns = 80
    starts = True  # before the test
    environment: dict[str, str] = {"TERM": "xterm"}

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.clock = Clock()
        self.config = Config()
        folder = self.folder / "kept"
        self.history = InputHistory(folder / "history", lambda notice: self.view.tell(notice))
        self.server = Transport()
        self.reader = FrameReader()
        self.numbers = count(1)

    async def play(self, test: ScreenTest) -> None:
        with create_pipe_input() as self.input:
            self.make(self.input)
            if self.starts:
                self.screen.start()
                await self.see_last("ALL> ")
            try:
                await test(self)
            finally:
                self.screen.stop(0, "")
                if self.starts:
                    await self.until(lambda: self.screen.done.called)

    def make(self, input: PipeInput) -> None:
        self.glass = Glass(self.columns)
        output = TerminalOutput(
            self.glass,  # type: ignore[arg-type]
            lambda: Size(24, self.glass.columns),
            {"TERM": "xterm"},
        )
        self.screen = Screen(
            self.config, self.history, environment=self.environment, input=input, output=output
        )
        identity = Identity(self.folder / "key", own=True)
        self.view = self.screen.view = ConversationView(
            "alice",
            LocalFiles(identity),
            self.clock,
            self.screen,
            self.config,
            Memory(),
            timezone=UTC,
        )
        self.view.session = ClientSession(
            "alice",
            self.view,
            Credentials(identity, lambda what: self.screen.ask(what, secret=True)),
            self.clock,
        )
        self.view.session.makeConnection(self.server)
        headers = [("Version", 2), ("Session", "x"), ("Max-message", 65536), ("Last", 0)]
        self.view.session.dataReceived(encode("REGISTERED", "alice", headers))
        body = {"WHO": "alice\nBob\ncarol\n", "ROOMS": "#dev 2 member\n#ops 1\n", "READ": ""}
        while asked := self.requests():
            for frame in asked:
                if frame.verb in body or frame.verb == "HISTORY":
                    text = body.get(frame.verb)
                    answer = encode(frame.verb, frame.argument, [("Id", frame.id)], text)
                    self.view.session.dataReceived(answer)

    async def until(self, is_so: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not is_so():
                    await asyncio.sleep(0)
        except TimeoutError:
            raise AssertionError(f"not so; the last on the glass:\n{self.glass.text}") from None

    async def see(self, *lines: str) -> None:
        """Wait until ``lines`` are visible, one below the other."""
        wanted = "\n".join(["", *lines, ""])
        await self.until(lambda: wanted in f"\n{self.glass.text}\n")

    async def see_last(self, line: str) -> None:
        """Wait until ``line`` is before the cursor."""
        await self.until(lambda: self.glass.last == line)

    def press(self, keys: str) -> None:
        self.input.send_text(keys)

    @property
    def typed(self) -> str:
        """The text after the prompt."""
        return self.screen._prompt.buffer.text

    async def recall(self, typed: str) -> None:
        """Go back to the first line of the history, which is loaded in the background."""
        await self.until(lambda: self.press(UP) or self.typed == typed)

    async def type(self, keys: str, typed: str) -> None:
        """Press keys, and wait until ``typed`` is after the prompt."""
        self.press(keys)
        await self.until(lambda: self.typed == typed)

    def requests(self) -> list[Frame]:
        """The requests since the last call."""
        return frames(self.server.take(), self.reader)

    async def request(self) -> Frame:
        """Wait for a single request."""
        found: list[Frame] = []
        await self.until(lambda: found.extend(self.requests()) or found)
        [frame] = found
        return frame

    def hear(self, text: str, to: str = "ALL", sender: str = "Bob") -> None:
        """Receive a message."""
        headers = [("To", to), ("Message", next(self.numbers)), ("Time", TIME)]
        self.view.session.dataReceived(encode("FORWARD", sender, headers, text))

    def kept(self) -> list[str]:
        """The history as a later run reads it."""
        return list(
            InputHistory(self.folder / "kept" / "history", self.fail).load_history_strings()
        )

    async def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and the reason."""
        await self.until(lambda: self.screen.done.called)
        return self.successResultOf(self.screen.done)


class ShowingTests(ScreenTestCase):
    @on_a_terminal
    async def test_messages_are_shown_above_the_prompt(self) -> None:
        self.hear("hello\nyou")
        await self.see("10:00 [ALL] Bob:", "        hello", "        you", "ALL>")
        self.assertEqual(self.glass.text.count("ALL>"), 1)

    @on_a_terminal
    async def test_what_is_typed_in_another_encoding_is_replaced_and_harms_nothing(self) -> None:
        self.requests()
        self.input.send_bytes(b"caf\xe9\r")
        sent: list[Frame] = []
        await self.until(lambda: sent.extend(self.requests()) or sent)
        self.assertEqual((sent[0].body, self.typed), ("caf\ufffd", ""))

    @on_a_terminal
    async def test_nothing_that_somebody_says_acts_on_the_terminal(self) -> None:
        self.hear("a\x1b]0;x\x07\x9b2J\x1b[31m\rb\u2028c", "alice")
        await self.see("10:00 [@Bob] Bob: a␛]0;x␇\ufffd2J␛[31m␍b\ufffdc", "[3:@Bob!] ALL>")
        self.assertEqual(self.glass.told, [])

    @on_a_terminal
    async def test_no_part_of_what_somebody_says_stands_where_another_line_would_begin(
        self,
    ) -> None:
        forged = "11:00 [@carol] carol: pay now"
        for filling in (
            "x" * 62,
            "x " * 31,
            "\t" * 9 + "x",
            "❤\ufe0f" * 31,
            "日" * 31,
            "e\u0301" * 62,
        ):
            for gap in range(6):
                self.hear(f"{filling}{'x' * gap}{forged}\n{filling}{' ' * gap}{forged}")
        self.hear("the last")
        await self.see("10:00 [ALL] Bob: the last", "ALL>")
        for line in self.glass.lines[3:-2]:
            self.assertRegex(line, r"\A(10:00 \[ALL\] Bob:|        )")

    @on_a_terminal
    async def test_a_line_is_broken_for_the_width_that_the_terminal_has_then(self) -> None:
        for self.glass.columns, lines in (
            (30, ["10:00 [ALL] Bob: words words", "        words words words", "        words"]),
            (42, ["10:00 [ALL] Bob: words words words words", "        words words"]),
        ):
            self.hear("words " * 6)
            await self.see(*lines, "ALL>")

    @on_a_terminal
    async def test_a_terminal_that_is_not_known_is_asked_once_and_its_answer_is_not_typed(
        self,
    ) -> None:
        self.hear("hello")
        await self.see("10:00 [ALL] Bob: hello", "ALL>")
        self.assertEqual(self.glass.asked, 1)
        self.assertFalse(self.screen._kind.rewraps)
        self.press("a\x1b[>84;0;0cb")
        await self.until(lambda: self.typed == "ab")
        self.assertTrue(self.screen._kind.rewraps)

    @on_a_terminal
    async def test_an_own_message_stays_beside_the_prompt_with_its_state_until_that_is_final(
        self,
    ) -> None:
        self.press("long " * 50 + "\r")
        frame = await self.request()
        shown = "[ALL] alice: " + "long " * 9 + "long…"
        await self.see(f"{shown} (on its way)", "ALL>")
        headers = [("Id", frame.id), ("Message", 9), ("Time", TIME)]
        self.view.session.dataReceived(encode("SENT", "ALL", headers))
        await self.see(
            "        " + "long " * 13 + "long", "        " + "long " * 9 + "long", "ALL>"
        )
        self.assertNotIn("on its way", self.glass.text)

    @on_a_terminal
    async def test_many_lines_are_written_in_pieces_and_receiving_is_paused_meanwhile(self) -> None:
        self.patch(waiting_lines, "MAX_WAITING", 50)
        self.patch(screen_module, "SHOWN_AT_ONCE", 10)
        for first in range(0, 60, 15):
            self.hear("\n".join(f"line{i}" for i in range(first, first + 15)))
        self.assertEqual(self.server.producerState, "paused")
        await self.until(lambda: self.server.producerState == "producing")
        self.assertNotIn("line50", self.glass.text)
        await self.see("        line59", "ALL>")
        found = re.findall(r"line\d+", self.glass.text)
        self.assertEqual(found, [f"line{i}" for i in range(60)])

    @on_a_terminal
    async def test_the_bell_rings(self) -> None:
        self.hear("x", "alice")
        self.assertEqual(self.glass.rings, 1)

    @on_a_terminal
    async def test_a_terminal_that_is_not_known_to_notify_does_so_if_it_is_switched_on(
        self,
    ) -> None:
        self.screen.notify("Bob", "hello")
        self.assertEqual(self.glass.told, [])
        self.config.notify = "on"
        self.screen.notify("Bob", "hello")
        self.assertEqual(self.glass.told, ["9;Bob: hello"])

    @on_a_terminal
    async def test_all_waiting_lines_are_written_at_the_end(self) -> None:
        self.patch(screen_module, "SHOWN_AT_ONCE", 1)
        for first in (0, 15):
            self.hear("\n".join(f"line{i}" for i in range(first, first + 15)))
        self.screen.stop(1, "gone")
        self.assertEqual(await self.end(), (1, "gone"))
        found = re.findall(r"line\d+", self.glass.text)
        self.assertEqual(found, [f"line{i}" for i in range(30)])
        self.assertNotIn("ALL>", self.glass.text)
        self.screen.show([[("", "later")]])
        self.screen.stop(0, "")


class NotifyTests(ScreenTestCase):
    environment = {"TERM": "foot"}

    @on_a_terminal
    async def test_separators_in_a_notification_are_removed_from_its_text(self) -> None:
        self.screen.notify("a;b", "c;d")
        self.assertEqual(self.glass.told, ["777;notify;a,b;c,d"])


class RewrappingTests(ScreenTestCase):
    environment = {"TERM": "foot"}

    @on_a_terminal
    async def test_a_key_before_the_signal_of_a_new_width_leaves_no_row_of_the_prompt(self) -> None:
        await self.type("x" * 70, "x" * 70)
        await self.see_last("ALL> " + "x" * 70)
        self.glass.columns = 40  # the terminal has made two rows of it
        self.glass.raw = ""
        await self.type("y", "x" * 70 + "y")
        await self.until(lambda: "y" in self.glass.raw)
        before, _, _ = self.glass.raw.partition("ALL>")
        self.assertIn("\x1b[A", before)


class ColourTests(ScreenTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.config = Config(keys="vi", colours={"error": "#123456 underline", "dim": ""})

    @on_a_terminal
    async def test_colours_and_keys_are_those_of_the_config(self) -> None:
        self.assertEqual(self.screen._prompt.editing_mode, EditingMode.VI)
        self.press("/dance\r")
        await self.see("! No such command: /dance (/help)", "ALL> /dance")
        style = self.screen._prompt.style.get_attrs_for_style_str
        self.assertEqual((style("class:error").color, style("class:dim").color), ("123456", ""))
        self.assertEqual(style("class:mark").color, "d7af00")


class ColourDepthTests(TestCase):
    def test_the_environment_says_how_many_colours_there_are(self) -> None:
        with create_pipe_input() as input:
            for environment, depth in (
                ({}, ColorDepth.DEPTH_8_BIT),
                ({"NO_COLOR": "1", "COLORTERM": "truecolor"}, ColorDepth.DEPTH_1_BIT),
                ({"COLORTERM": "truecolor"}, ColorDepth.DEPTH_24_BIT),
                ({"COLORTERM": "gnome-terminal"}, ColorDepth.DEPTH_8_BIT),
                ({"TERM": "linux"}, ColorDepth.DEPTH_4_BIT),
            ):
                environment = {"TERM": "xterm", **environment}
                screen = Screen(Config(), InMemoryHistory(), environment=environment, input=input)
                self.assertEqual(screen._prompt.color_depth, depth, environment)


class StartTests(ScreenTestCase):
    starts = False

    @on_a_terminal
    async def test_a_screen_that_is_stopped_before_its_prompt_runs_ends(self) -> None:
        self.screen.start()
        self.screen.show([[("", "a word")]])
        self.screen.stop(2, "host not found: x")
        self.assertEqual(await self.end(), (2, "host not found: x"))
        self.assertIn("a word", self.glass.lines)

    @on_a_terminal
    async def test_lines_that_are_shown_before_the_prompt_runs_appear_with_it(self) -> None:
        self.screen.show([[("", "a word")]])
        self.screen.start()
        await self.see("a word", "ALL>")
        self.screen.stop(0, "")
        await self.end()


class KeysTests(ScreenTestCase):
    @on_a_terminal
    async def test_a_line_is_sent_and_kept(self) -> None:
        self.press("hello\r")
        frame = await self.request()
        self.assertEqual((frame.verb, frame.argument, frame.body), ("SEND", "ALL", "hello"))
        await self.until(lambda: self.typed == "")
        self.assertEqual(self.kept(), ["hello"])
        await self.recall("hello")

    @on_a_terminal
    async def test_a_line_that_the_history_can_not_keep_is_sent_once(self) -> None:
        folder = self.folder / "kept"
        shutil.rmtree(folder, ignore_errors=True)
        folder.write_text("")
        for line in ("hello", "again"):
            self.press(f"{line}\r")
            self.assertEqual((await self.request()).body, line)
            await self.type("", "")
        await self.see(f"· {folder}/history: File exists: what you type is not remembered")
        self.assertEqual(self.glass.text.count("not remembered"), 1)

    @on_a_terminal
    async def test_alt_enter_is_a_further_line_of_the_same_message(self) -> None:
        self.press(f"one{ALT_ENTER}two\r")
        self.assertEqual((await self.request()).body, "one\ntwo")

    @on_a_terminal
    async def test_a_paste_is_one_message_and_no_part_of_it_is_a_key(self) -> None:
        self.press(paste("one\r\n/quit\n\x03two"))
        await self.until(lambda: "two" in self.typed)
        self.press("\r")
        self.assertEqual((await self.request()).body, "one\n/quit\n\x03two")

    @on_a_terminal
    async def test_a_long_paste_is_sent_after_a_question_that_is_in_the_place_of_the_prompt(
        self,
    ) -> None:
        text = "\n".join(f"line{i}" for i in range(MAX_PASTE + 1))
        for number, answer in enumerate(("y\r", "n\r", "\r", CTRL_C)):
            self.press(paste(text))
            await self.until(lambda: self.typed == text)
            self.press("\r")
            await self.see_last("Send 21 lines to ALL? [y/N] ")
            self.assertEqual((self.typed, self.requests()), ("", []))
            self.press(answer)
            if answer == "y\r":
                self.assertEqual((await self.request()).body, text)
            else:
                await self.see(*["· Not sent"] * number)
            await self.see_last("ALL> ")
            self.assertEqual(self.typed, "")
        self.assertEqual(self.requests(), [])
        self.assertEqual(set(self.kept()), {text})

    @on_a_terminal
    async def test_two_ctrl_c_within_a_second_leave_and_the_first_drops_what_is_typed(
        self,
    ) -> None:
        self.patch(screen_module, "LEAVE_WITHIN", 1000.0)
        await self.type("hello", "hello")
        await self.type(CTRL_C, "")
        await self.see("Ctrl-C once more leaves", "ALL>")
        self.assertEqual(self.requests(), [])
        self.press(CTRL_C)
        self.assertEqual((await self.request()).verb, "QUIT")
        self.clock.advance(0.5)
        self.assertEqual(await self.end(), (130, ""))
        self.assertEqual(self.kept(), [])
        self.assertNotIn("once more", self.glass.text)

    @on_a_terminal
    async def test_one_ctrl_c_on_an_empty_line_does_not_leave_nor_one_that_comes_later(
        self,
    ) -> None:
        self.patch(screen_module, "LEAVE_WITHIN", 0.0)
        self.press(CTRL_C * 3)
        await self.type("x", "x")
        await self.see_last("ALL> x")
        self.assertNotIn("once more", self.glass.text)
        self.assertEqual(self.requests(), [])

    @on_a_terminal
    async def test_ctrl_d_leaves_where_nothing_is_typed(self) -> None:
        await self.type("x", "x")
        self.press(CTRL_D)
        await self.type("\x7f", "")
        self.assertEqual(self.requests(), [])
        self.press(CTRL_D)
        self.assertEqual((await self.request()).verb, "QUIT")

    @on_a_terminal
    async def test_keys_send_refused_messages_again_or_drop_them(self) -> None:
        self.press("@carol: hello\r")
        frame = await self.request()
        refused = "102 Unable to send"
        self.view.session.dataReceived(encode("ERROR", refused, [("Id", frame.id)]))
        await self.see("1 not sent: /again, /drop, or edit with Up", "ALL>")
        await self.type("half a ", "half a ")
        self.press(F5)
        again = await self.request()
        self.assertEqual(again.body, "hello")
        self.view.session.dataReceived(encode("ERROR", refused, [("Id", again.id)]))
        self.press(F8)
        await self.until(lambda: "not sent" not in self.glass.text)
        await self.see_last("ALL> half a ")
        self.assertEqual(self.view.beside(), [])

    @on_a_terminal
    async def test_a_session_whose_terminal_is_gone_sends_quit(self) -> None:
        self.input.close()
        self.assertEqual((await self.request()).verb, "QUIT")
        self.clock.advance(0.5)
        self.assertEqual(await self.end(), (130, ""))


class QuestionTests(ScreenTestCase):
    @on_a_terminal
    async def test_a_password_is_neither_shown_nor_kept(self) -> None:
        self.press("/password\r")
        await self.see_last("New password: ")
        self.press("hunter22")
        await self.see_last("New password: ********")
        self.press("\r")
        await self.see_last("Again: ")
        self.press("hunter22\r")
        frame = await self.request()
        self.assertEqual((frame.argument, frame.body), ("password", "hunter22"))
        await self.see_last("ALL> ")
        self.press("after\r")
        await self.request()
        await self.until(lambda: self.typed == "")
        self.assertNotIn("hunter22", self.glass.raw)
        self.assertEqual(self.kept(), ["after", "/password"])
        await self.recall("/password")

    @on_a_terminal
    async def test_the_input_before_a_question_is_restored_after_it(self) -> None:
        for answer, answered in (("secret\r", "secret"), (CTRL_C, ""), (CTRL_D, "")):
            await self.type("half a sentence", "half a sentence")
            asked = self.screen.ask("Password: ", secret=True)
            await self.see_last("Password: ")
            self.assertEqual(self.typed, "")
            self.press(answer)
            await self.until(lambda asked=asked: asked.called)
            self.assertEqual(self.successResultOf(asked), answered)
            await self.see_last("ALL> half a sentence")
            await self.type("\x15", "")
        self.assertEqual(self.kept(), [])

    @on_a_terminal
    async def test_questions_are_asked_one_after_the_other(self) -> None:
        await self.type("half", "half")
        first = self.screen.ask("First? ", secret=True)
        second = self.screen.ask("Second? ", secret=False)
        await self.see_last("First? ")
        self.press("one\r")
        await self.see_last("Second? ")
        self.assertEqual(self.successResultOf(first), "one")
        self.press("two")
        await self.see_last("Second? two")
        self.press("\r")
        await self.see_last("ALL> half")
        self.assertEqual(self.successResultOf(second), "two")
        self.assertEqual(self.kept(), [])

    @on_a_terminal
    async def test_an_empty_answer_counts_as_an_answer(self) -> None:
        self.press("/password\r")
        await self.see_last("New password: ")
        self.press("\r")
        await self.see("! No password was given", "ALL>")
        self.assertEqual(self.kept(), ["/password"])

    @on_a_terminal
    async def test_messages_are_shown_while_a_question_is_asked(self) -> None:
        self.screen.ask("Password: ", secret=True)
        await self.see_last("Password: ")
        self.hear("hello")
        await self.see("10:00 [ALL] Bob: hello", "Password:")


class CompletionTests(ScreenTestCase):
    starts = False
    files = True

    def complete(self, typed: str) -> list[str]:
        """The completed lines."""
        start = max(map(typed.rfind, " \n")) + 1
        completer = CommandCompleter(lambda: self.view, files=self.files)
        return [typed[:start] + found for found in completer.completions(typed)]

    @on_a_terminal
    async def test_a_line_begins_with_a_name_a_room_or_a_command(self) -> None:
        for typed, lines in (
            ("@", ["@ALL: ", "@Bob: ", "@carol: "]),
            ("@b", ["@Bob: "]),
            ("@A", ["@ALL: "]),
            ("@a", []),  # a user who types "@a" means alice, not ALL
            ("#", ["#dev: ", "#ops: "]),
            ("/unr", ["/unread "]),
            ("b", ["@Bob: "]),
            ("CAR", ["@carol: "]),
            ("x", []),
        ):
            self.assertEqual(self.complete(typed), lines)
        self.assertEqual(self.complete("/"), [f"{name} " for name in COMMANDS])
        self.assertEqual(self.complete(""), [])

    @on_a_terminal
    async def test_names_and_rooms_are_completed_within_a_text(self) -> None:
        self.assertEqual(self.complete("see you @"), ["see you @Bob ", "see you @carol "])
        self.assertEqual(self.complete("in #D"), ["in #dev "])
        self.assertEqual(self.complete("well, ca"), ["well, carol "])
        self.assertEqual(self.complete("two lines\nb"), ["two lines\nBob "])
        self.assertEqual(self.complete("well, "), [])
        self.assertEqual(self.complete("/nothing @b"), ["/nothing @Bob "])

    @on_a_terminal
    async def test_the_argument_of_a_command_is_completed(self) -> None:
        for typed, lines in (
            ("/join #", ["/join #dev ", "/join #ops "]),
            ("/join #dev p", ["/join #dev private"]),
            ("/join #dev private ", []),
            ("/invite #dev b", ["/invite #dev Bob "]),
            ("/invite #dev @b", ["/invite #dev @Bob "]),
            ("/ignore ", ["/ignore Bob ", "/ignore carol "]),
            ("/kick #dev c", ["/kick #dev carol "]),
            ("/kick @c", ["/kick @carol "]),
            ("/history ", [f"/history {x} " for x in ("@Bob", "@carol", "#dev", "#ops")]),
            ("/bell o", ["/bell on", "/bell off"]),
            ("/keys ", ["/keys add", "/keys remove"]),
            ("/help ", [f"/help {topic}" for topic in TOPICS]),
            ("/rooms ", []),
        ):
            self.assertEqual(self.complete(typed), lines)

    @on_a_terminal
    async def test_files_are_completed(self) -> None:
        for name in ("key.pub", "key", ".hidden", "other"):
            (self.folder / name).write_text("")
        (self.folder / "keys").mkdir()
        line = f"/keys add {self.folder}/"
        self.assertEqual(self.complete(f"{line}k"), [line + x for x in ("key", "key.pub", "keys/")])
        self.assertNotIn(f"{line}.hidden", self.complete(line))
        self.assertEqual(self.complete(f"{line}.h"), [f"{line}.hidden"])
        self.assertEqual(self.complete("/keys add /nowhere/x"), [])
        self.patch(os, "environ", {"HOME": str(self.folder)})
        self.assertEqual(self.complete("/keys add ~/o"), ["/keys add ~/other"])
        self.files = False
        self.assertEqual(self.complete("/keys add ~/o"), [])


class TabTests(ScreenTestCase):
    @on_a_terminal
    async def test_tab_completes(self) -> None:
        await self.type("@b\t", "@Bob: ")
        await self.type("in #d\t", "@Bob: in #dev ")
        self.press("\r")
        self.assertEqual((await self.request()).body, "in #dev")

    @on_a_terminal
    async def test_repeated_tabs_go_round_and_shift_tab_goes_back(self) -> None:
        await self.type("see #", "see #")
        for key, typed in (
            (TAB, "see #dev "),
            (TAB, "see #ops "),
            (TAB, "see #"),
            (SHIFT_TAB, "see #ops "),
            (SHIFT_TAB, "see #dev "),
            (SHIFT_TAB, "see #"),
            (TAB, "see #dev "),
        ):
            await self.type(key, typed)
            await self.see("#dev  #ops", f"ALL> {typed}".rstrip())
        await self.type("x", "see #dev x")
        await self.see("ALL> see #dev x")
        self.assertNotIn("#ops", self.glass.text)  # no list is left behind
        await self.type(TAB, "see #dev x")

    @on_a_terminal
    async def test_completions_take_one_row(self) -> None:
        self.glass.columns = 40
        await self.type("/un", "/un")
        commands = [name for name in COMMANDS if name.startswith("/un")]
        for command in [*commands, "/un"]:
            await self.type(TAB, f"{command} " if command in commands else command)
            await self.see_last(f"ALL> {self.typed}")
            above = self.glass.lines[-2]
            self.assertIn("/un", above)
            self.assertLess(len(above), 40)

    @on_a_terminal
    async def test_the_cursor_need_not_be_at_the_end(self) -> None:
        await self.type("see # now", "see # now")
        self.press("\x1b[D" * 4)
        await self.type(TAB, "see #dev  now")
        await self.type("!", "see #dev ! now")

    @on_a_terminal
    async def test_an_answer_is_not_completed(self) -> None:
        self.screen.ask("Password: ", secret=False)
        await self.see_last("Password: ")
        self.press("@b\t\x1b[Z")
        await self.see_last("Password: @b")


class ViewKeysTests(ScreenTestCase):
    @on_a_terminal
    async def test_keys_turn_to_conversations_and_change_what_is_shown(self) -> None:
        done: list[object] = []
        self.view.next_unread = lambda: done.append("next")  # type: ignore[method-assign]
        self.view.turn_to = done.append  # type: ignore[method-assign]
        self.view.toggle_view = lambda: done.append("view")  # type: ignore[method-assign]
        self.press("\x1ba\x1b1\x1b9\x1bv\x1b[17~\x1b[18~x")
        await self.until(lambda: self.typed == "x")
        self.assertEqual(done, ["next", 1, 9, "view", "next", "view"])

    @on_a_terminal
    async def test_a_line_that_the_view_does_not_take_stays_and_tab_replaces_it_by_the_offer(
        self,
    ) -> None:
        taken: list[str] = []

        def take(line: str) -> str:
            taken.append(line)
            return line if len(taken) == 1 else ""

        self.view.take = take  # type: ignore[method-assign]
        offered = property(lambda view: "@Bob: hello" if len(taken) == 1 else "")
        self.patch(ConversationView, "offered", offered)
        self.press("@Bob hello\r")
        await self.until(lambda: taken)
        await self.see_last("ALL> @Bob hello")
        await self.type("!", "@Bob hello!")
        await self.type(TAB, "@Bob hello!")  # another text is not replaced
        await self.type("\x7f", "@Bob hello")
        await self.type(TAB, "@Bob: hello")
        self.press("\r")
        await self.type("", "")
        self.assertEqual(taken, ["@Bob hello", "@Bob: hello"])

    @on_a_terminal
    async def test_tab_on_an_empty_line_answers_who_spoke_last(self) -> None:
        await self.type(TAB, "")
        self.hear("hello", "alice")
        await self.see("10:00 [@Bob] Bob: hello")
        await self.type(TAB, "@Bob: ")


class PromptTests(ScreenTestCase):
    columns = 40

    @on_a_terminal
    async def test_there_is_room_for_the_input_whatever_the_prompt_says(self) -> None:
        self.view.prompt = lambda: [  # type: ignore[method-assign]
            ("class:error", "(not connected) "),
            ("class:unread", "[#dev 12, @bob 3] "),
            ("class:prompt", "#a-room-with-the-longest-name-of-32> "),
        ]
        self.screen.refresh()
        await self.see("(not connected) [#dev 12, @bob 3]", "#a-room-with-the…>")
        self.view.prompt = lambda: [("", "[#b 1] "), ("", "#dev> ")]  # type: ignore[method-assign]
        self.screen.refresh()
        await self.see("[#b 1] #dev>")

    @on_a_terminal
    async def test_lines_beside_the_prompt_leave_room_for_it(self) -> None:
        self.view.beside = lambda: [  # type: ignore[method-assign]
            [("", f"[@bob] alice: {number}")] for number in range(50)
        ]
        self.screen.refresh()
        await self.see("[@bob] alice: 49", "ALL>")
        self.assertEqual(self.glass.text.count("[@bob]"), 12)


class SharedProcessTests(ScreenTestCase):
    @on_a_terminal
    async def test_two_screens_of_one_process_are_independent(self) -> None:
        first = self.screen, self.view, self.glass, self.server
        with create_pipe_input() as other:
            self.server, self.reader = Transport(), FrameReader()
            self.make(other)
            self.screen.start()
            await self.see_last("ALL> ")
            self.press("for the first")
            other.send_text("#d\t")
            await self.see_last("ALL> #dev: ")
            self.screen.stop(0, "second")
            self.assertEqual(await self.end(), (0, "second"))
        self.screen, self.view, self.glass, self.server = first
        await self.see_last("ALL> for the first")
        await self.type(CTRL_C, "")
        await self.type("#o\t", "#ops: ")


class EditorTests(ScreenTestCase):
    @on_a_terminal
    async def test_nothing_is_drawn_while_the_editor_has_the_terminal(self) -> None:
        opened, closed = threading.Event(), threading.Event()

        def edit(_: Buffer, file: str) -> bool:
            opened.set()
            self.assertTrue(closed.wait(PATIENCE))
            Path(file).write_text("edited")
            return True

        self.patch(Buffer, "_open_file_in_editor", edit)
        await self.type("x", "x")
        self.press("\x18\x05")
        await self.until(opened.is_set)
        before = self.glass.raw
        self.glass.columns = 30
        self.screen.resized()
        self.screen.show([[("", "a message")]])
        for _ in range(10):
            await asyncio.sleep(0)
        self.assertEqual(self.glass.raw, before)
        closed.set()
        await self.see("a message", "ALL> edited")


class ReactorTests(ScreenTestCase):
    def test_a_screen_that_waits_does_not_wake_up_its_reactor(self) -> None:
        reactor = MemoryReactorClock()
        reactor_loop.use(reactor)
        self.addCleanup(reactor_loop.leave)
        handler = signal.getsignal(signal.SIGWINCH)
        with create_pipe_input() as self.input:
            self.make(self.input)
            self.screen.start()
            reactor.pump([0, 1, 1])  # no more keys of a sequence are expected
            self.assertEqual(self.glass.last, "ALL> ")
            self.assertEqual(reactor.getDelayedCalls(), [])
            self.assertIs(signal.getsignal(signal.SIGWINCH), handler)  # it is the program's
            self.screen.stop(0, "end")
            reactor.advance(0)
        self.assertEqual(self.successResultOf(self.screen.done), (0, "end"))
        self.assertEqual((reactor.getDelayedCalls(), reactor.getReaders()), ([], []))


class ForeignMachineTests(ScreenTestCase):
    """A screen whose user has no rights on this machine, as that of an ssh session."""

    def make(self, input: PipeInput) -> None:
        screen = functools.partial(Screen, local=False)
        self.patch(test_module, "Screen", screen)
        super().make(input)

    @on_a_terminal
    async def test_there_is_no_editor_no_stop_and_no_file(self) -> None:
        def fail(*_: object) -> None:
            raise AssertionError

        self.patch(Buffer, "open_in_editor", fail)
        self.patch(os, "kill", fail)
        self.patch(os, "scandir", fail)
        self.press("\x18\x05\x1a/keys add /\t")
        await self.see_last("ALL> /keys add /")

    @on_a_terminal
    async def test_it_is_drawn_for_the_size_that_it_is_told(self) -> None:
        await self.type("x" * 30, "x" * 30)
        self.glass.columns = 30
        self.screen.resized()
        await self.see("ALL> " + "x" * 25, "     xxxxx")
