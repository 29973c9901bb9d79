"""The reader: scrolling, searching, and getting what is older and newer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from twisted.internet.defer import Deferred

from chat_twisted.client import reader as reader_module
from chat_twisted.client import waiting_lines
from chat_twisted.client.reader import HELP
from chat_twisted.ui.errors import NotConnected
from chat_twisted.ui.layout import Line, MessageLayout
from chat_twisted.ui.values import Found, Received
from tests.test_client_screen import (
    CTRL_C,
    DOWN,
    PAGE_DOWN,
    PAGE_UP,
    TIME,
    UP,
    ScreenTestCase,
    on_a_terminal,
)

ESCAPE, HOME, END, ALT_A = "\x1b", "\x1b[H", "\x1b[F", "\x1ba"

ROWS = 23
"""Rows of the terminal without the last, in which the reader says what can be done."""


class Pages:
    """A conversation of ``count`` messages, of which a page has ten."""

    title = "#dev"

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[str] = []
        self.texts: dict[int, str] = {}
        self.waits: Deferred[None] | None = None

    def messages(self, first: int, last: int) -> list[Received]:
        return [
            Received(n, TIME, "bob", "#dev", self.texts.get(n, f"message {n}."))
            for n in range(max(1, first), min(last, self.count) + 1)
        ]

    async def page(self, *, before: int | None = None, after: int | None = None) -> Found:
        self.asked.append(f"before {before}" if before else f"after {after}" if after else "newest")
        if self.waits is not None:
            await self.waits
        if after is not None:
            return Found(self.messages(after + 1, after + 10), after + 10 < self.count)
        before = self.count + 1 if before is None else before
        return Found(self.messages(before - 10, before - 1), before > 11)

    async def search(self, words: str) -> Found:
        self.asked.append(f"search {words}")
        found = [
            m for m in self.messages(1, self.count) if set(words.split()) <= set(m.text.split())
        ]
        return Found(found, False)

    def lines(self, messages: Sequence[Received]) -> list[Line]:
        layout = MessageLayout(UTC)
        return [line for message in messages for line in layout.lines(message, "alice")]


class ReaderTestCase(ScreenTestCase):
    async def open(self, count: int) -> Pages:
        self.pages = Pages(count)
        self.view.reader_pages = lambda: self.pages  # type: ignore[method-assign,assignment,return-value]
        self.press(PAGE_UP)
        await self.until(lambda: HELP in self.glass.text)
        return self.pages

    async def step(self, key: str) -> None:
        """Press a key, and wait until it is handled and nothing is waited for."""
        app = self.screen._prompt
        before = app.render_counter
        self.press(key)
        await self.until(lambda: app.render_counter > before)
        await self.until(lambda: "…" not in self.glass.lines[-1])

    async def see_top(self, text: str) -> None:
        await self.until(lambda: text in self.glass.lines[0])

    async def see_end(self, text: str) -> None:
        """Wait until ``text`` is in the last row of messages."""
        await self.until(lambda: text in self.glass.lines[-2])

    async def see_status(self, text: str) -> None:
        await self.until(lambda: text in self.glass.lines[-1])


class ReaderTests(ReaderTestCase):
    @on_a_terminal
    async def test_it_shows_the_newest_messages_and_leaves_everything_as_it_was(self) -> None:
        self.hear("hello")
        await self.type("half a line", "half a line")
        await self.see("10:00 [ALL] Bob: hello", "ALL> half a line")
        before = self.glass.lines
        for key in (ESCAPE, "q", CTRL_C):
            await self.open(5)
            await self.see_status(f" #dev {HELP}")
            await self.until(lambda: "message 5." in self.glass.text)
            self.assertNotIn("ALL>", self.glass.text)
            self.press(key)
            await self.see_last("ALL> half a line")
            self.assertEqual(self.glass.lines, before)
        await self.type("!", "half a line!")
        self.assertNotIn("SEND", [frame.verb for frame in self.requests()])

    @on_a_terminal
    async def test_it_scrolls_to_the_first_message_and_back(self) -> None:
        pages = await self.open(100)
        await self.see_end("message 100.")
        for _ in range(100):
            await self.step(PAGE_UP)
            if "That is the first one" in self.glass.lines[-1]:
                break
        await self.see_top("Mon 23 Nov")
        self.assertIn("message 1.", self.glass.lines[1])
        asked = ["newest", *(f"before {n}" for n in range(91, 1, -10))]
        self.assertEqual(pages.asked, asked)
        self.press(PAGE_DOWN)
        await self.until(lambda: "message 1." not in self.glass.text)
        self.press(END)
        await self.see_end("message 100.")
        self.press("k")
        await self.see_end("message 99.")
        self.press(UP)
        await self.see_end("message 98.")
        self.press("j")
        await self.see_end("message 99.")
        self.press(DOWN)
        await self.see_end("message 100.")
        self.press(HOME)
        await self.see_top("Mon 23 Nov")
        self.press("G")
        await self.see_end("message 100.")
        self.assertEqual(pages.asked, asked)

    @on_a_terminal
    async def test_it_keeps_a_limited_number_of_rows_and_gets_the_others_again(self) -> None:
        self.patch(reader_module, "MAX_ROWS", 60)
        pages = await self.open(300)
        await self.see_end("message 300.")
        reader = self.screen._reader
        assert reader is not None
        for _ in range(40):
            await self.step(PAGE_UP)
            self.assertLess(reader._count(), 90)
        await self.see_status("That is the first one")
        asked = len(pages.asked)
        for _ in range(40):
            await self.step(PAGE_DOWN)
            self.assertLess(reader._count(), 90)
        await self.see_end("message 300.")
        self.assertIn("after 80", pages.asked[asked:])
        self.press(HOME)
        await self.until(lambda: "message 300." not in self.glass.text)
        self.press(END)
        await self.see_end("message 300.")

    @on_a_terminal
    async def test_what_comes_meanwhile_is_shown_behind_it(self) -> None:
        await self.open(5)
        for number in range(10):
            self.hear(f"meanwhile {number}")
        self.press("k")
        await self.see_status("That is the first one")
        self.assertNotIn("meanwhile", self.glass.text)
        self.press("q")
        await self.see("10:00 [ALL] Bob: meanwhile 9", "ALL>")

    @on_a_terminal
    async def test_much_that_comes_meanwhile_is_written_under_it(self) -> None:
        self.patch(waiting_lines, "MAX_WAITING", 50)
        await self.open(5)
        for number in range(200):
            self.hear(f"meanwhile {number}")
        self.assertEqual(self.server.producerState, "producing")
        await self.until(lambda: "meanwhile 199" in self.glass.raw)
        await self.see_status(HELP)
        self.assertNotIn("meanwhile", self.glass.text)
        self.press("q")
        await self.see("10:00 [ALL] Bob: meanwhile 199", "ALL>")
        self.assertEqual(self.glass.text.count("meanwhile"), 200)

    @on_a_terminal
    async def test_a_question_is_asked_at_the_prompt(self) -> None:
        await self.open(5)
        self.screen.ask("Password: ", secret=True)
        await self.see_last("Password: ")

    @on_a_terminal
    async def test_the_end_of_the_chat_is_its_end(self) -> None:
        await self.open(5)
        self.screen.show([[("", "the end")]])
        self.screen.stop(1, "gone")
        self.assertEqual(await self.end(), (1, "gone"))
        self.assertIn("the end", self.glass.text)
        self.assertNotIn(HELP, self.glass.text)

    @on_a_terminal
    async def test_a_request_that_fails_is_explained(self) -> None:
        self.view.reader_pages = lambda: pages  # type: ignore[method-assign,assignment,return-value]
        pages = Pages(5)
        pages.waits = Deferred()
        self.press(PAGE_UP)
        await self.see_status(" #dev … ")
        pages.waits.errback(NotConnected("The connection is lost"))
        await self.see_status("The connection is lost. ")
        pages.waits = Deferred()
        self.press("q" + PAGE_UP)
        await self.see_status(" #dev … ")
        self.press("q")
        await self.see_last("ALL> ")
        pages.waits.callback(None)  # the answer comes too late
        await self.type("x", "x")
        await self.see_last("ALL> x")

    @on_a_terminal
    async def test_nothing_that_somebody_said_acts_on_the_terminal(self) -> None:
        pages = Pages(1)
        pages.texts[1] = "a\x1b]0;x\x07\x9b2J\x1b[31m"
        pages.title = "#d\x1b]0;x\x07"
        self.view.reader_pages = lambda: pages  # type: ignore[method-assign,assignment,return-value]
        self.press(PAGE_UP)
        await self.until(lambda: "a␛]0;x␇\ufffd2J␛[31m" in self.glass.text)
        self.assertEqual(self.glass.told, [])

    @on_a_terminal
    async def test_it_is_drawn_for_the_width_that_the_terminal_has_then(self) -> None:
        pages = Pages(30)
        pages.texts[30] = "words " * 10
        self.view.reader_pages = lambda: pages  # type: ignore[method-assign,assignment,return-value]
        self.press(PAGE_UP)
        await self.until(lambda: "#dev" in self.glass.lines[-1])
        self.glass.columns = 30
        self.screen.resized()
        self.press(END)
        await self.see_end("        words")
        self.assertEqual(len(self.glass.lines), ROWS + 1)
        self.glass.columns = 80
        self.screen.resized()
        await self.see_end("words " * 9 + "words")

    @on_a_terminal
    async def test_other_keys_do_nothing(self) -> None:
        await self.open(5)
        self.press(f"{ALT_A}x\t\x1b[15~")
        self.press("j")
        await self.see_status(HELP)
        self.press("q")
        await self.see_last("ALL> ")
        self.assertEqual((self.typed, self.requests()), ("", []))


class SearchTests(ReaderTestCase):
    @on_a_terminal
    async def test_words_are_found_upwards_and_marked(self) -> None:
        await self.open(20)
        await self.until(lambda: "message 1." in self.glass.text)
        self.assertEqual(self.glass.text.count("── Mon"), 1)
        self.press("/")
        await self.until(lambda: self.glass.lines[-1] == "/")
        self.press("MESSAGE 12\r")
        reader = self.screen._reader
        assert reader is not None
        await self.until(lambda: reader._hit == 12)
        marked = [text for style, text in reader._visible() if "found" in style]
        self.assertEqual(marked, ["message 12"])

    @on_a_terminal
    async def test_the_server_finds_what_is_older_and_what_is_newer(self) -> None:
        pages = Pages(500)
        for number in (20, 250, 480):
            pages.texts[number] = f"the deploy failed {number}"
        self.view.reader_pages = lambda: pages  # type: ignore[method-assign,assignment,return-value]
        self.press(PAGE_UP)
        await self.until(lambda: "message 500." in self.glass.text)
        self.press("/deploy failed\r")
        for key, number in (("", 480), ("n", 250), ("n", 20), ("N", 250), ("N", 480)):
            self.press(key)
            await self.until(lambda number=number: f"failed {number}" in self.glass.text)
            await self.until(lambda: "…" not in self.glass.lines[-1])
        self.press("N")
        await self.see_status("Not found. ")
        self.assertEqual(pages.asked.count("search deploy failed"), 1)
        self.press(END)
        await self.see_end("message 500.")

    @on_a_terminal
    async def test_what_is_nowhere_is_not_found(self) -> None:
        await self.open(5)
        self.press("/nowhere\r")
        await self.see_status("Not found. ")

    @on_a_terminal
    async def test_a_search_can_be_given_up(self) -> None:
        await self.open(5)
        for key in (ESCAPE, CTRL_C):
            self.press("/x")
            await self.until(lambda: self.glass.lines[-1] == "/x")
            self.press(key)
            await self.see_status(HELP)
