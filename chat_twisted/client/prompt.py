"""The line of input, and what stands above it: an application of prompt_toolkit, made small.

Hundreds of them can run in one process, each on its own terminal. They share their keys and their
styles. The library draws a grid of characters; a prompt is a few rows of text, which are written
again from the first one that has changed. This module must not know what the rows mean, or what
becomes of a line.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from prompt_toolkit.application import Application, application, get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.clipboard import InMemoryClipboard
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER, SEARCH_BUFFER, EditingMode
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_bindings import Binding, KeyBindingsBase, KeysTuple
from prompt_toolkit.key_binding.key_processor import KeyPress, KeyProcessor
from prompt_toolkit.layout import HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl, SearchBufferControl, UIContent
from prompt_toolkit.layout.processors import (
    ConditionalProcessor,
    DisplayMultipleCursors,
    HighlightIncrementalSearchProcessor,
    HighlightSelectionProcessor,
    PasswordProcessor,
    ReverseSearchProcessor,
)
from prompt_toolkit.renderer import Renderer
from prompt_toolkit.styles import BaseStyle
from prompt_toolkit.utils import get_cwidth

from chat_twisted.client.keys import KeyLayout, PromptLayout, Target, prompt_keys
from chat_twisted.client.terminal_output import TerminalOutput, pen
from chat_twisted.client.wrapping import width
from chat_twisted.text import printable
from chat_twisted.ui.layout import Line

ESCAPE_TIMEOUT = 0.1
"""Seconds after which an escape character is the key of that name."""

MAX_UNDO = 50
"""Number of states of a line that are kept."""

MAX_KILLED = 10
"""Number of deleted texts that are kept."""

MAX_REPETITIONS = 100
"""Maximum number of times that a key is repeated by an argument."""

TAB = "␉"

# Every application loads the library's keys, 2,000 objects, which never change and are not used
# here: ``keys`` loads those that are. There is no other way to leave that out.
application.load_key_bindings = cache(application.load_key_bindings)  # type: ignore[attr-defined]
application.load_page_navigation_bindings = cache(  # type: ignore[attr-defined]
    application.load_page_navigation_bindings  # type: ignore[attr-defined]
)


class Prompted(Target, Protocol):
    """The terminal that has the prompt."""

    @property
    def hides_input(self) -> bool:
        """Whether the text that is typed is not shown."""

    def message(self, size: Size) -> tuple[list[Line], Line]:
        """Return the printable rows above the input, and the text before it."""

    def draw_soon(self) -> None:
        """Draw again, after what else waits. Calls ``Prompt.draw``."""


class InputBuffer(Buffer):
    """A text that is typed.

    :param full: called when a part of it has been dropped because it is too long.
    :param max_size: the maximum size in bytes; None for any.
    """

    def __init__(
        self,
        *,
        full: Callable[[], None] = lambda: None,
        max_size: int | None = None,
        name: str = "",
        multiline: bool = True,
        history: History | None = None,
        accept_handler: Callable[[Buffer], bool] | None = None,
    ) -> None:
        super().__init__(
            name=name, multiline=multiline, history=history, accept_handler=accept_handler
        )
        self._full = full
        self._max_size = max_size
        if max_size is not None:
            self.on_text_changed += self._limit

    def _limit(self, _: Buffer) -> None:
        text, most = self.text, self._max_size
        if most is None or len(text) * 4 <= most:
            return
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > most:
            text = data[:most].decode("utf-8", "ignore")
            self.document = Document(text, min(self.cursor_position, len(text)))
            self._full()

    def save_to_undo_stack(self, clear_redo_stack: bool = True) -> None:
        """Keep the state of the text, to return to it. Called by prompt_toolkit."""
        super().save_to_undo_stack(clear_redo_stack)
        del self._undo_stack[:-MAX_UNDO]


class Prompt(Application[str]):
    """The input of a terminal.

    :ivar buffer: the text that is typed.
    :ivar prompt_layout: the layout; another one can be shown in its place.
    :param target: the terminal.
    :param full: called when a part of the input has been dropped because it is too long.
    :param rewraps: returns whether the terminal rewraps its rows when its width changes.
    :param local: whether the user may use this machine.
    :param max_line: the maximum size of the input in bytes; None for any.
    """

    layout: Layout
    output: TerminalOutput

    def __init__(
        self,
        target: Prompted,
        *,
        input: Input,
        output: TerminalOutput,
        history: History,
        style: BaseStyle,
        accept: Callable[[Buffer], bool],
        full: Callable[[], None],
        rewraps: Callable[[], bool],
        vi: bool,
        local: bool,
        max_line: int | None,
    ) -> None:
        self._target = target
        self.buffer = InputBuffer(
            name=DEFAULT_BUFFER,
            history=history,
            accept_handler=accept,
            full=full,
            max_size=max_line,
        )
        self._search = SearchBufferControl(
            InputBuffer(name=SEARCH_BUFFER, multiline=False, full=full, max_size=max_line),
            input_processors=[ReverseSearchProcessor()],
        )
        self._control = BufferControl(
            self.buffer,
            search_buffer_control=self._search,
            input_processors=[*_PROCESSORS],
            include_default_input_processors=False,
            preview_search=True,
        )
        # The windows hold the focus; the rows are drawn by the renderer.
        self.prompt_layout = PromptLayout(
            HSplit([Window(self._control), Window(self._search)]),
            self._control,
            prompt_keys(vi=vi, local=local),
        )
        self.prompt_layout.target = target
        super().__init__(
            layout=self.prompt_layout,
            style=style,
            include_default_pygments_style=False,
            clipboard=InMemoryClipboard(max_size=MAX_KILLED),
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            erase_when_done=True,
            reverse_vi_search_direction=True,
            terminal_size_polling_interval=None,
            input=input,
            output=output,
        )
        self._drawn_layout: Layout | None = None  # that is shown
        self.ttimeoutlen = ESCAPE_TIMEOUT
        vars(self.key_processor).clear()  # a reference cycle
        self.key_processor = _KeyProcessor(_ShownKeys(self))
        self.renderer: PromptRenderer = PromptRenderer(style, output, self._lay_out, rewraps)

    def invalidate(self) -> None:
        """Draw again, soon."""
        if self._is_running:
            self._target.draw_soon()

    def draw(self) -> None:
        """Draw the rows that have changed."""
        with self.output.together():
            if self._drawn_layout is not self.layout:
                self._redraw()
            elif self.context is not None:
                self.context.copy().run(self._draw_again)

    def _redraw(self, render_as_done: bool = False) -> None:
        """Draw a layout for the first time, or at the end. Called by prompt_toolkit, too.

        It also looks at all parts of the layout, which takes long, and leaves a reference cycle.
        """
        super()._redraw(render_as_done)
        self._drawn_layout = self.layout

    def _draw_again(self) -> None:
        if self.is_running and not self._running_in_terminal:
            self.render_counter += 1
            self.renderer.render(self, self.layout)
            self.after_render.fire()

    def dissolve(self) -> None:
        """Remove the references between the parts; see ``Screen.dissolve``."""
        for part in (
            *self.prompt_layout.find_all_windows(),
            *(self._control, self._search, self.buffer, self._search.buffer),
            *(self.prompt_layout, self.renderer, self.key_processor, self),
        ):
            vars(part).clear()

    def _lay_out(self, size: Size) -> tuple[list[Line], Point]:
        """Return the rows and the place of the cursor."""
        rows, start = self._target.message(size)
        control = self._control
        if self.layout.current_control is self._search:
            control, start = self._search, []
        elif (repetitions := self.key_processor.arg) is not None:
            start = [("class:prompt.arg", f"(arg: {repetitions}) ")]
        if control is self._control and not self.buffer.text:
            self.buffer.load_history_if_not_yet_loaded()
            return [*rows, start], Point(width(start), len(rows))
        room = max(1, size.rows - len(rows))
        content = control.create_content(size.columns, room)
        typed, cursor = _input_rows(content, start, size.columns, room)
        return [*rows, *typed], Point(cursor.x, cursor.y + len(rows))


_PROCESSORS = (
    HighlightIncrementalSearchProcessor(),
    HighlightSelectionProcessor(),
    ConditionalProcessor(PasswordProcessor(), Condition(lambda: _shown_target().hides_input)),
    DisplayMultipleCursors(),
)


def _shown_target() -> Any:
    layout = get_app().layout
    assert isinstance(layout, PromptLayout)
    return layout.target


def _input_rows(
    content: UIContent, start: Line, columns: int, room: int
) -> tuple[list[Line], Point]:
    """Return the rows of the input, and the place of the cursor in them.

    :param start: the text before it; further rows begin with as many blanks.
    :param room: the maximum number of rows.
    """
    indent = width(start)
    margin: Line = [("", " " * indent)]
    rows: list[Line] = []
    place = Point(0, 0)
    at = content.cursor_position
    # as many lines before and after the cursor as can be seen
    for number in range(max(0, at.y - room), min(content.line_count, at.y + room + 1)):
        fragments = content.get_line(number)
        found, cursor = _wrap(fragments, max(1, columns - indent), at.x if number == at.y else -1)
        if number == at.y:
            place = Point(indent + cursor.x, len(rows) + cursor.y)
        for i, row in enumerate(found):
            rows.append([*(margin if number or i else start), *row])
    top = min(max(0, place.y - room // 2), max(0, len(rows) - room))
    return rows[top : top + room], Point(place.x, place.y - top)


def _wrap(fragments: StyleAndTextTuples, columns: int, cursor: int) -> tuple[list[Line], Point]:
    """Wrap a line at any character; return its rows, and the place of a character in them.

    :param cursor: the index of the character; -1 for none.
    """
    rows: list[Line] = [[]]
    used = at = 0
    place = Point(0, 0)
    for style, text, *_ in fragments:
        text = printable(text).replace("\t", TAB)
        start = 0
        while start < len(text):
            end, size = _fitting(text, start, columns - used)
            if end == start and used:
                rows.append([])
                used = 0
                continue
            if end == start:  # a character that is wider than a row
                end, size = start + 1, columns
            if at <= cursor < at + end - start:
                before = text[start : start + cursor - at]
                place = Point(used + sum(map(get_cwidth, before)), len(rows) - 1)
            rows[-1].append((style, text[start:end]))
            at += end - start
            used += size
            start = end
    return rows, place


def _fitting(text: str, start: int, columns: int) -> tuple[int, int]:
    """Return the end of the part of a text that fits into a number of columns, and its columns."""
    if text.isascii():
        end = min(len(text), start + columns)
        return end, end - start
    used = 0
    for i in range(start, len(text)):
        size = get_cwidth(text[i])
        if used + size > columns:
            return i, used
        used += size
    return len(text), used


class _ShownKeys(KeyBindingsBase):
    """The keys of the layout that is shown."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    def _shown(self) -> KeyBindings:
        layout = self._prompt.layout
        assert isinstance(layout, KeyLayout)
        return layout.bindings

    @property
    def _version(self) -> int:
        return 0

    @property
    def bindings(self) -> list[Binding]:
        """All of them."""
        return self._shown().bindings

    def get_bindings_for_keys(self, keys: KeysTuple) -> list[Binding]:
        """Return the bindings of a sequence of keys. Called by prompt_toolkit."""
        return self._shown().get_bindings_for_keys(keys)

    def get_bindings_starting_with_keys(self, keys: KeysTuple) -> list[Binding]:
        """Return the bindings of longer sequences. Called by prompt_toolkit."""
        return self._shown().get_bindings_starting_with_keys(keys)


class _KeyProcessor(KeyProcessor):
    """Calls the functions of keys."""

    _argument: str | None = None

    @property
    def arg(self) -> str | None:
        """How often the next key is repeated; a large number would hold everybody up."""
        return self._argument

    @arg.setter
    def arg(self, argument: str | None) -> None:
        if argument is not None and argument.isdigit():
            argument = str(min(int(argument[:9]), MAX_REPETITIONS))
        self._argument = argument

    def _start_timeout(self) -> None:
        """Start the timer after which a sequence of keys ends, if there is one."""
        if self.key_buffer or self._flush_wait_task is not None:
            super()._start_timeout()
        if not self.key_buffer and self._flush_wait_task is not None:
            self._flush_wait_task.cancel()
            self._flush_wait_task = None

    def empty_queue(self) -> list[KeyPress]:
        """Drop the keys that wait; return none of them, for no other prompt may get them."""
        super().empty_queue()
        return []


class PromptRenderer(Renderer):
    """Draws the rows of a prompt; a layout that has the whole screen is drawn by the library.

    :param lay_out: returns the rows for a size of the terminal, and the place of the cursor.
    :param rewraps: returns whether the terminal rewraps its rows when its width changes.
    """

    output: TerminalOutput

    def __init__(
        self,
        style: BaseStyle,
        output: TerminalOutput,
        lay_out: Callable[[Size], tuple[list[Line], Point]],
        rewraps: Callable[[], bool],
    ) -> None:
        self._lay_out = lay_out
        self._rewraps = rewraps
        self._columns = 0  # of the terminal when the rows were drawn
        self._pen = pen(style, output.get_default_color_depth())
        super().__init__(style, output)

    def reset(self, _scroll: bool = False, leave_alternate_screen: bool = True) -> None:
        """Forget what has been drawn. Called by prompt_toolkit."""
        super().reset(_scroll, leave_alternate_screen)
        self._drawn: list[str] = []  # the rows
        self._widths: list[int] = []  # their columns

    def render(self, app: Application[Any], layout: Layout, is_done: bool = False) -> None:
        """Draw. Called by prompt_toolkit."""
        if self.full_screen:
            super().render(app, layout, is_done)
            return
        output, size = self.output, self.output.get_size()
        if size.columns != self._columns and self._drawn:
            self.erase()  # also before the signal that says so
        rows, cursor = self._lay_out(size)
        texts = [self._pen.write([(style, printable(text)) for style, text in row]) for row in rows]
        if texts == self._drawn and cursor == self._cursor_pos:
            return
        if not self._bracketed_paste_enabled:
            output.enable_bracketed_paste()
            self._bracketed_paste_enabled = True
        same = 0
        for text, drawn in zip(texts, self._drawn, strict=False):
            if text != drawn:
                break
            same += 1
        y = self._cursor_pos.y
        output.hide_cursor()
        if same < len(texts) or same < len(self._drawn):
            begin = min(same, max(len(self._drawn) - 1, 0))
            output.cursor_up(max(0, y - begin))
            output.cursor_down(max(0, begin - y))
            output.write_raw("\r\n" if same > begin else "\r")
            output.reset_attributes()
            output.erase_down()
            output.disable_autowrap()
            output.write_raw("\r\n".join(texts[same:]))
            output.enable_autowrap()
            output.reset_attributes()
            y = max(same, len(texts) - 1)
        output.cursor_up(max(0, y - cursor.y))
        output.cursor_down(max(0, cursor.y - y))
        output.write_raw("\r")
        output.cursor_forward(cursor.x)
        output.show_cursor()
        output.flush()
        self._cursor_pos, self._columns = cursor, size.columns
        self._drawn, self._widths = texts, [width(row) for row in rows]
        layout.visible_windows = [layout.current_window]

    def erase(self, leave_alternate_screen: bool = True) -> None:
        """Erase what has been drawn. Called by prompt_toolkit.

        If the terminal has become narrower since, it has wrapped the rows.
        """
        columns, cursor = self.output.get_size().columns, self._cursor_pos
        if self._drawn and columns < self._columns and self._rewraps():
            more = sum((max(1, width) - 1) // columns for width in self._widths[: cursor.y])
            self.output.cursor_up(more + cursor.x // columns)
        with self.output.keeping_paste():
            super().erase(leave_alternate_screen)
