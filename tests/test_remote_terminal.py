"""The terminal at the other end of a stream: keys in slices, limits, waiting, and the end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

from prompt_toolkit.data_structures import Size
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.client import waiting_lines
from chat_twisted.client.config import Config
from chat_twisted.client.remote import (
    MAX_HISTORY,
    MAX_LINE,
    MAX_SIZE,
    MIN_SIZE,
    SLICE,
    RecentLines,
    RemoteInput,
    RemoteOutput,
)
from chat_twisted.client.screen import Screen
from chat_twisted.ui.layout import Line
from tests.glass import Glass
from tests.test_client_reader import Pages

ENTER, CTRL_C, CTRL_R, CTRL_Y, CTRL_U = b"\r", b"\x03", b"\x12", b"\x19", b"\x15"
ESCAPE, PAGE_UP, UP = b"\x1b", b"\x1b[5~", b"\x1b[A"
BEGIN_PASTE, END_PASTE = b"\x1b[200~", b"\x1b[201~"

TOO_LONG = f"! A line has at most {MAX_LINE} bytes"


class Session:
    """A session whose receiving can be paused."""

    is_paused = False

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False


class View:
    """A view that records what is typed."""

    offered = ""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.session = Session()
        self.lines: list[str] = []
        self.interrupts = 0

    def beside(self) -> list[Line]:
        return []

    def prompt(self) -> Line:
        return [("class:prompt", "ALL> ")]

    def take(self, line: str) -> str:
        self.lines.append(line)
        return ""

    def names(self) -> list[str]:
        return ["Bob", "carol"]

    def rooms(self) -> list[str]:
        return ["#dev", "#ops"]

    def last_speaker(self) -> str:
        return ""

    def reader_pages(self) -> Pages:
        return Pages(5)

    def next_unread(self) -> None:
        pass

    def turn_to(self, number: int) -> None:
        pass

    def toggle_view(self) -> None:
        pass

    def send_again(self) -> None:
        pass

    def drop(self) -> None:
        pass

    def interrupt(self) -> None:
        self.interrupts += 1
        self.screen.stop(130, "")


class Terminal:
    """A remote terminal, with its screen in this process."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.glass = Glass(80)
        self.taken: list[int] = []
        self.environment = environment or {"TERM": "xterm", "TMUX": "x"}
        loop = asyncio.get_running_loop()
        self.input = RemoteInput(loop.call_soon, self.taken.append)
        self.output = RemoteOutput(self.write, Size(24, 80), self.environment)
        self.writes = 0
        self.screen = Screen(
            Config(),
            RecentLines(),
            environment=self.environment,
            input=self.input,
            output=self.output,
            local=False,
        )
        self.view = self.screen.view = View(self.screen)
        self.screen.start()

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.glass.write(data.decode())

    def show(self, *texts: str) -> None:
        self.screen.show([[("", text)] for text in texts])


class RemoteTestCase(TestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        reactor_loop.use(self.reactor)
        self.addCleanup(reactor_loop.leave)
        self.terminals: list[Terminal] = []
        self.addCleanup(self.end)
        self.terminal = self.open()

    def open(self, environment: dict[str, str] | None = None) -> Terminal:
        terminal = Terminal(environment)
        self.terminals.append(terminal)
        self.settle()
        return terminal

    def settle(self, seconds: float = 0.2) -> None:
        """Run everything that is due."""
        self.reactor.advance(seconds)
        while any(call.getTime() <= self.reactor.seconds() for call in self.calls()):
            self.reactor.advance(0)

    def calls(self) -> list[Any]:
        return self.reactor.getDelayedCalls()

    def type(self, *texts: str | bytes) -> None:
        for text in texts:
            self.terminal.input.feed(text.encode() if isinstance(text, str) else text)
            self.settle()

    def end(self) -> None:
        for terminal in self.terminals:
            terminal.screen.lost()
        self.settle(2)


class TypingTests(RemoteTestCase):
    def test_what_is_typed_is_shown_and_taken(self) -> None:
        self.type("hello")
        self.assertEqual(self.terminal.glass.last, "ALL> hello")
        self.type(ENTER)
        self.assertEqual(self.terminal.view.lines, ["hello"])
        self.assertEqual(self.terminal.glass.lines, ["ALL>"])
        self.assertEqual(sum(self.terminal.taken), 6)

    def test_a_character_may_be_split_and_bytes_that_are_none_are_replaced(self) -> None:
        for byte in "ä日".encode():
            self.type(bytes([byte]))
        self.assertEqual(self.terminal.glass.last, "ALL> ä日")
        self.type(b"caf\xe9 x", ENTER)
        self.assertEqual(self.terminal.view.lines, ["ä日caf\ufffd x"])

    def test_a_sequence_may_be_split_and_escape_is_a_key_after_a_moment(self) -> None:
        self.type("ab")
        for byte in b"\x1b[D":
            self.terminal.input.feed(bytes([byte]))
            self.reactor.advance(0)
        self.type("x")
        self.assertEqual(self.terminal.view.screen._prompt.buffer.text, "axb")

    def test_keys_are_processed_a_few_at_a_time(self) -> None:
        self.type(b"a\x02" * 10 * SLICE)
        self.assertEqual(self.terminal.taken, [SLICE] * 20)

    def test_a_text_without_a_key_is_inserted_at_once(self) -> None:
        text = "ä" * 1000
        self.type(ESCAPE + b"[D" + text.encode() + ENTER)
        self.assertEqual(self.terminal.view.lines, [text])
        self.assertGreater(max(self.terminal.taken), len(text.encode()) - 2 * SLICE)

    def test_terminals_take_turns(self) -> None:
        other = self.open()
        other.taken = self.terminal.taken
        other.input._taken = other.taken.append
        self.terminal.input.feed(b"x\x02" * (3 * SLICE // 2))
        other.input.feed(b"yy")
        self.settle()
        self.assertEqual(self.terminal.taken, [SLICE, 2, SLICE, SLICE])

    def test_a_fault_in_a_key_does_not_hold_up_the_others(self) -> None:
        def take(line: str) -> str:
            self.terminal.view.take = self.terminal.view.lines.append  # type: ignore[method-assign,assignment]
            raise ZeroDivisionError

        self.terminal.view.take = take  # type: ignore[method-assign]
        self.type(b"a\r" + b"b\x02" * 3 * SLICE)
        self.assertEqual(sum(self.terminal.taken), 2 + 6 * SLICE)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_keys_before_the_end_of_the_input_count(self) -> None:
        self.terminal.input.feed(b"x" * 100 + ENTER)
        self.terminal.input.end()
        self.settle()
        self.assertEqual(self.terminal.view.lines, ["x" * 100])
        self.assertEqual(self.terminal.view.interrupts, 1)
        self.assertEqual(self.successResultOf(self.terminal.screen.done), (130, ""))

    def test_what_is_shown_after_the_end_of_the_input_is_written(self) -> None:
        self.terminal.view.interrupt = lambda: None  # type: ignore[method-assign]
        self.terminal.input.end()
        self.settle()
        self.terminal.show("the last word")
        self.terminal.screen.stop(0, "")
        self.assertEqual(self.terminal.glass.lines[0], "the last word")
        self.assertNotIn("ALL>", self.terminal.glass.text)


class LimitTests(RemoteTestCase):
    def typed(self) -> str:
        return self.terminal.screen._prompt.buffer.text

    def told(self) -> int:
        return self.terminal.glass.text.count(TOO_LONG)

    def test_a_typed_line_is_cut_and_that_is_said_once(self) -> None:
        self.type(*["ä\x06"] * 10, "ä" * MAX_LINE)
        self.assertEqual(self.typed(), "ä" * (MAX_LINE // 2))
        self.assertEqual(self.told(), 1)
        self.assertGreater(self.terminal.glass.rings, 0)
        self.type(ENTER, "x" * MAX_LINE, ENTER)
        self.assertEqual(self.terminal.view.lines, ["ä" * (MAX_LINE // 2), "x" * MAX_LINE])
        self.assertEqual(self.told(), 1)

    def test_a_pasted_line_is_cut(self) -> None:
        self.type(BEGIN_PASTE, b"y" * 200_000, b"z" * 200_000, END_PASTE)
        self.assertEqual(self.typed(), "y" * MAX_LINE)
        self.assertEqual(self.told(), 1)
        self.assertEqual(sum(self.terminal.taken), 400_012)
        self.type(ENTER)
        self.assertEqual(self.terminal.view.lines, ["y" * MAX_LINE])

    def test_deleted_text_can_not_be_inserted_without_end(self) -> None:
        self.type("x" * 1000, CTRL_U)
        for _ in range(10):
            self.type(ESCAPE + b"0" + b"9" * 8, CTRL_Y)
        self.assertEqual(self.typed(), "x" * MAX_LINE)

    def test_states_to_return_to_are_limited(self) -> None:
        for _ in range(100):
            self.type("x" * 10, b"\x02")  # Ctrl-B: the next key is a new state
        self.assertLess(len(self.terminal.screen._prompt.buffer._undo_stack), 60)

    def test_a_macro_can_not_call_itself(self) -> None:
        self.type(b"\x18(x\x18ey\x18)\x18e", ENTER)
        self.assertEqual(self.terminal.view.lines, ["(xey)e"])

    def test_words_that_are_searched_for_are_limited(self) -> None:
        words = BEGIN_PASTE + b"w" * 2 * MAX_LINE + END_PASTE
        self.type(CTRL_R, words)
        self.assertEqual(len(self.terminal.screen._prompt.layout.current_buffer.text), MAX_LINE)  # type: ignore[union-attr]
        self.type(CTRL_C, PAGE_UP, "/", words)
        self.assertLess(len(self.terminal.screen._prompt.layout.current_buffer.text), MAX_LINE)  # type: ignore[union-attr]

    def test_the_last_lines_are_kept(self) -> None:
        for number in range(MAX_HISTORY + 10):
            self.type(f"line {number}", ENTER)
        for _ in range(MAX_HISTORY + 20):
            self.type(UP)
        self.assertEqual(self.typed(), "line 10")

    def test_a_terminal_of_any_size_is_drawn_for(self) -> None:
        self.type("x" * 10)
        for columns, rows in ((0, 0), (1, 1), (2**32 - 1, 2**32 - 1), (80, 24)):
            self.terminal.output.size = Size(rows, columns)
            self.terminal.glass.columns = max(MIN_SIZE, min(columns, MAX_SIZE))
            self.terminal.screen.resized()
            self.terminal.show("x" * 100)
            self.settle()
        self.assertEqual(self.terminal.glass.last, "ALL> " + "x" * 10)


class TwoTerminalsTests(RemoteTestCase):
    def test_completions_and_searches_are_each_on_its_own_terminal(self) -> None:
        other = self.open()
        self.terminal.input.feed(b"see #\t")
        other.input.feed(b"@\t\t")
        self.settle()
        self.assertEqual(self.terminal.glass.lines, ["#dev  #ops", "ALL> see #dev"])
        self.assertEqual(other.glass.lines[-1], "ALL> @Bob:")
        self.assertNotIn("#dev", other.glass.raw)
        self.assertNotIn("Bob", self.terminal.glass.raw)
        self.terminal.screen.lost()
        self.settle()
        other.input.feed(b"!")
        self.settle()
        self.assertEqual(other.glass.lines[-1], "ALL> @Bob: !")

    def test_one_shows_what_another_one_says_while_that_one_has_a_key(self) -> None:
        other = self.open()
        self.terminal.view.take = lambda line: other.show(line) or ""  # type: ignore[method-assign,func-returns-value]
        self.type("hello", ENTER)
        self.assertEqual(other.glass.lines, ["hello", "ALL>"])
        self.assertEqual(self.terminal.glass.lines, ["ALL>"])

    def test_keys_that_are_left_at_the_end_go_nowhere(self) -> None:
        self.terminal.view.take = lambda line: self.terminal.screen.stop(0, "") or ""  # type: ignore[method-assign,func-returns-value]
        self.type(ENTER + b"secret")
        other = self.open()
        self.assertEqual(other.glass.last, "ALL> ")


class WaitingTests(RemoteTestCase):
    def test_nothing_is_written_and_no_key_taken_until_the_terminal_takes_output(self) -> None:
        terminal = self.terminal
        terminal.screen.hold()
        before = terminal.glass.raw
        terminal.show("hello")
        terminal.screen.ring()
        terminal.screen.notify("a", "b")
        self.type("x")
        self.assertEqual((terminal.glass.raw, terminal.taken), (before, []))
        terminal.screen.go_on()
        self.settle()
        self.assertEqual(terminal.glass.lines, ["hello", "ALL> x"])

    def test_nothing_more_is_received_while_much_waits(self) -> None:
        self.patch(waiting_lines, "MAX_WAITING", 20)
        terminal = self.terminal
        terminal.screen.hold()
        terminal.show(*["x"] * 21)
        self.assertTrue(terminal.view.session.is_paused)
        terminal.screen.go_on()
        self.settle()
        self.assertFalse(terminal.view.session.is_paused)

    def test_no_key_is_taken_while_much_waits(self) -> None:
        self.patch(waiting_lines, "MAX_WAITING", 20)
        terminal, waiting = self.terminal, []

        def take(line: str) -> str:
            waiting.append(len(terminal.screen._lines))
            terminal.show(*["x"] * 300)
            return ""

        terminal.view.take = take  # type: ignore[method-assign]
        self.type(ENTER * 10 * SLICE)
        self.assertEqual(waiting, [*range(0, 300 * SLICE, 300)] * 10)

    def test_it_is_told_when_lines_have_been_written(self) -> None:
        told: list[str] = []
        terminal = self.terminal
        terminal.screen.when_shown(lambda: told.append("nothing"))
        self.assertEqual(told, ["nothing"])
        terminal.show("one")
        terminal.screen.when_shown(lambda: told.append("one"))
        terminal.show("two")
        terminal.screen.hold()
        self.settle()
        self.assertEqual(told, ["nothing"])
        terminal.screen.when_shown(lambda: self.assertIn("two", terminal.glass.text))
        terminal.screen.when_shown(lambda: told.append("two"))
        terminal.screen.go_on()
        self.settle()
        self.assertEqual(told, ["nothing", "one", "two"])

    def test_a_message_is_written_at_once(self) -> None:
        before = self.terminal.writes
        self.terminal.show("hello")
        self.settle()
        self.assertEqual(self.terminal.writes, before + 1)

    def test_what_has_not_changed_is_not_drawn_again(self) -> None:
        before = self.terminal.writes
        self.terminal.screen.refresh()
        self.settle()
        self.assertEqual(self.terminal.writes, before)

    def test_a_screen_that_waits_wakes_nobody_up(self) -> None:
        self.settle(2)
        self.assertEqual(self.calls(), [])


class EndTests(RemoteTestCase):
    def ends(self, end: Callable[[Terminal], object]) -> None:
        """Check that nothing is left of a terminal after its end."""
        terminal = self.open()
        terminal.input.feed(b"half a line\x12ha\x1b[5~")
        terminal.show("hello")
        self.settle(0.05)
        terminal.screen.ask("Password: ", secret=True)
        end(terminal)
        self.settle()
        self.assertTrue(terminal.screen.done.called)
        left = [weakref.ref(part) for part in (terminal.screen, terminal.view, terminal.input)]
        self.terminals.remove(terminal)
        del terminal
        gc.collect()
        self.assertEqual([ref() for ref in left], [None] * 3)

    def test_nothing_is_left_of_a_lost_terminal(self) -> None:
        self.ends(lambda terminal: terminal.screen.lost())

    def test_nothing_is_left_after_an_end(self) -> None:
        self.ends(lambda terminal: terminal.screen.stop(0, ""))

    def test_nothing_is_left_after_the_end_of_the_input(self) -> None:
        self.ends(lambda terminal: terminal.input.end())

    def test_nothing_is_left_of_a_reader_that_was_closed(self) -> None:
        gc.disable()  # the server's collector hardly ever frees what has lasted
        self.addCleanup(gc.enable)
        self.type(PAGE_UP, "/x", ENTER)
        reader = self.terminal.screen._reader
        left = [weakref.ref(reader), weakref.ref(reader.layout)]  # type: ignore[union-attr]
        del reader
        self.type("q", "hello", ENTER)
        self.assertEqual([ref() for ref in left], [None, None])
        self.assertEqual(self.terminal.view.lines, ["hello"])

    def test_a_lost_terminal_is_not_drawn(self) -> None:
        told: list[str] = []
        self.terminal.show("hello")
        self.terminal.screen.when_shown(lambda: told.append("hello"))
        before = self.terminal.glass.raw
        self.terminal.screen.lost()
        self.settle(2)
        self.assertEqual((self.terminal.glass.raw, told), (before, []))
        self.assertEqual(self.successResultOf(self.terminal.screen.done), (0, ""))
        self.assertEqual(self.calls(), [])
        self.terminal.screen.lost()
        self.terminal.screen.stop(0, "")

    def test_the_terminal_is_left_as_it_was(self) -> None:
        self.type("x")
        self.terminal.show("the last")
        self.terminal.screen.stop(0, "")
        self.terminal.screen.stop(1, "twice")
        self.settle()
        self.assertEqual(self.terminal.glass.lines, ["the last", ""])
        self.assertTrue(self.terminal.glass.raw.rindex("\x1b[?2004l"))
        self.assertEqual(self.successResultOf(self.terminal.screen.done), (0, ""))

    def test_an_end_while_the_reader_is_open(self) -> None:
        self.type(PAGE_UP)
        self.assertIn("message 5.", self.terminal.glass.text)
        self.terminal.screen.stop(0, "")
        self.settle()
        self.assertNotIn("message 5.", self.terminal.glass.text)
