"""The terminal of the client, made with prompt_toolkit: messages above a line of input.

It draws lines and reads keys; ``conversation_view`` decides what is shown and done. Lines above the
prompt are written once and then belong to the terminal's own scrollback. The prompt runs in the
asyncio event loop of Twisted's asyncio reactor. This module must not know the session's requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chat_twisted.client.completion import CommandCompleter
from chat_twisted.client.config import Config
from chat_twisted.client.conversation_view import ConversationView
from chat_twisted.client.wrapping import length, shorten, wrap
from chat_twisted.text import printable
from chat_twisted.ui.layout import Line

STYLE = {
    "time": "ansibrightblack",
    "direct": "ansimagenta bold",
    "room": "ansicyan",
    "all": "ansigreen",
    "own": "bold",
    "mention": "bold",
    "dim": "ansibrightblack",
    "error": "ansired",
    "mark": "ansiyellow",
    "unread": "ansiyellow bold",
    "prompt": "bold",
    "name-0": "ansired",
    "name-1": "ansigreen",
    "name-2": "ansiyellow",
    "name-3": "ansiblue",
    "name-4": "ansimagenta",
    "name-5": "ansicyan",
    "name-6": "ansibrightred",
    "name-7": "ansibrightblue",
}
"""The styles, which ``config.toml`` can change under [colours]."""

SHOWN_AT_ONCE = 100
"""Number of lines that are written before the keyboard is read again."""

MAX_WAITING, MAX_WAITING_TEXT = 2000, 4 * 1024 * 1024
"""Lines, and characters in them, that may wait for the terminal before receiving is paused."""

NO_BREAKS, BREAKS = "\x1b[?7l", "\x1b[?7h"
"""DECAWM: disable or enable line breaks by the terminal. A character that the terminal draws wider
than ``wrap`` assumes, such as some newer emoji, would otherwise continue on the next row."""

OSC_9 = {"iTerm.app", "WezTerm", "ghostty", "vscode"}
"""Values of TERM_PROGRAM of terminals that show OSC 9 as a desktop notification."""


class Screen:
    """A terminal, as ``conversation_view.Terminal`` describes it.

    :ivar view: the view that is shown; to be set before ``start``.
    :ivar done: fires with the exit code and the reason, which may be empty, when the screen has
        ended.
    :param history: the input history.
    :param input: the source of keys; None for the terminal.
    :param output: the output to draw on; None for the terminal.
    """

    view: ConversationView

    def __init__(
        self,
        config: Config,
        history: History,
        *,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self.done: Deferred[tuple[int, str]] = Deferred()
        self._lines: deque[Line] = deque()
        self._waiting_text = 0  # their characters
        self._flushing: asyncio.Handle | None = None
        self._paused = False
        self._is_gone = False
        # the first is being asked
        self._questions: deque[tuple[str, bool, Deferred[str]]] = deque()
        self._typed = Document()  # the input before the question
        self._accepting = False
        self._result: tuple[int, str] | None = None
        self._config = config
        self._notifying = _notifying(os.environ)
        # The cursor's position is not requested: no menu needs to fit below it.
        self._output: Output = output or _Output(
            sys.stdout,
            _size,
            term=os.environ.get("TERM"),
            default_color_depth=ColorDepth.from_env(),  # NO_COLOR
            enable_cpr=False,
        )
        self._style = Style(list({**STYLE, **config.colours}.items()))
        self._session: PromptSession[str] = PromptSession(
            self._message,
            history=history,
            completer=CommandCompleter(lambda: self.view),
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            enable_suspend=True,
            erase_when_done=True,
            reserve_space_for_menu=0,
            vi_mode=config.keys == "vi",
            key_bindings=self._bindings(),
            style=self._style,
            prompt_continuation=lambda width, line, wrapped: " " * width,
            input_processors=[_Printable()],
            input=input,
            output=self._output,
        )
        self._session.default_buffer.accept_handler = self._accept
        self._reflows = _reflows(os.environ)
        self._drawn_columns = 0
        app = self._session.app
        app.after_render += self._is_drawn
        self._erase_as_drawn = app.renderer.erase
        app.renderer.erase = self._erase  # type: ignore[method-assign]

    async def run(self) -> None:
        """Draw and read keys until the end, then fire ``done``."""
        try:
            if self._result is None:
                await self._session.prompt_async(
                    pre_run=self._flush_soon, handle_sigint=False, set_exception_handler=False
                )
        except (EOFError, OSError):  # the terminal is gone: only QUIT remains
            self._is_gone = True
            self.view.interrupt()
            return
        self._write(len(self._lines))
        self._is_done()

    def _is_done(self) -> None:
        if not self.done.called:
            self.done.callback(self._result or (0, ""))

    def start(self) -> None:
        """Start ``run``."""
        Deferred.fromFuture(asyncio.ensure_future(self.run())).addErrback(self._failed)

    def _failed(self, fault: Failure) -> None:
        if not self.done.called:
            self.done.errback(fault)

    # Keys

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        asked = Condition(lambda: bool(self._questions))
        empty = Condition(lambda: not self._session.default_buffer.text)

        @bindings.add("c-c", filter=asked, eager=True)
        @bindings.add("c-d", filter=asked & empty, eager=True)
        def _(event: KeyPressEvent) -> None:
            self._answer("")

        @bindings.add("enter", filter=asked & has_focus(DEFAULT_BUFFER))
        def _(event: KeyPressEvent) -> None:
            self._answer(event.current_buffer.text)

        @bindings.add("c-c", filter=~asked & empty, eager=True)
        def _(event: KeyPressEvent) -> None:
            self.view.interrupt()

        @bindings.add("c-c", filter=~asked & ~empty, eager=True)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.reset()

        @bindings.add("c-d", filter=~asked & empty, eager=True)
        def _(event: KeyPressEvent) -> None:
            self.view.take("/quit")

        @bindings.add("escape", "enter", filter=~asked)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @bindings.add("f5")
        def _(event: KeyPressEvent) -> None:
            self.view.send_again()

        @bindings.add("f8")
        def _(event: KeyPressEvent) -> None:
            self.view.drop()

        return bindings

    def _accept(self, buffer: Buffer) -> bool:
        """Handle a finished line; return whether to keep it. Called by prompt_toolkit."""
        # A byte that is not UTF-8 arrives as a lone surrogate, which can't be encoded.
        text = buffer.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if self._questions:
            self._answer(text)
            return True  # the line from before the question has been restored
        self._accepting = True
        try:
            self.view.take(text)
        finally:
            self._accepting = False
        return bool(self._questions)

    def _answer(self, text: str) -> None:
        _, _, answered = self._questions.popleft()
        self._session.is_password = False
        self._session.default_buffer.reset(self._typed)  # answers don't go into the input history
        if self._questions:
            self._put_question()
        answered.callback(text)
        self.refresh()

    def _put_question(self) -> None:
        buffer = self._session.default_buffer
        if self._accepting:
            buffer.append_to_history()
            buffer.reset()
        self._typed = buffer.document
        self._session.is_password = self._questions[0][1]
        buffer.reset()
        self.refresh()

    # The Terminal interface

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a line, in place of the prompt; see ``Terminal.ask``."""
        answered: Deferred[str] = Deferred()
        self._questions.append((what, secret, answered))
        if len(self._questions) == 1:
            self._put_question()
        return answered

    def show(self, lines: Sequence[Line]) -> None:
        """Show lines above the prompt, as soon as they can be drawn."""
        self._lines.extend(lines)
        self._waiting_text += sum(map(length, lines))
        if not self._paused and self._fullness() > 1:
            self._paused = True
            self.view.session.pauseProducing()
        self._flush_soon()

    def _fullness(self) -> float:
        return max(len(self._lines) / MAX_WAITING, self._waiting_text / MAX_WAITING_TEXT)

    def _flush_soon(self) -> None:
        if self._flushing is None and self._session.app.is_running:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if not self._session.app.is_running:
            return  # written when it runs, or at the end
        self._session.app.renderer.erase()
        self._write(SHOWN_AT_ONCE)
        self._session.app.invalidate()
        if self._lines:
            # after input from the keyboard and the server
            self._flushing = asyncio.get_running_loop().call_later(0.01, self._flush)
        if self._paused and self._fullness() < 0.5:
            self._paused = False
            self.view.session.resumeProducing()

    def _is_drawn(self, _: object) -> None:
        self._drawn_columns = self._output.get_size().columns

    def _erase(self, leave_alternate_screen: bool = True) -> None:
        """Erase the prompt. Called by prompt_toolkit.

        If the terminal has become narrower since the prompt was drawn, it has wrapped the prompt's
        rows, which the library does not know.
        """
        columns, app = self._output.get_size().columns, self._session.app
        drawn = app.renderer.last_rendered_screen
        if self._reflows and drawn is not None and columns < self._drawn_columns:
            cursor = drawn.get_cursor_position(app.layout.current_window)
            widths = (max(drawn.data_buffer[row], default=0) + 1 for row in range(cursor.y))
            more = sum((width - 1) // columns for width in widths) + cursor.x // columns
            self._output.cursor_up(more)
        if isinstance(self._output, _Output):
            with self._output.keeping_paste():
                self._erase_as_drawn(leave_alternate_screen)
        else:
            self._erase_as_drawn(leave_alternate_screen)

    def _write(self, count: int) -> None:
        columns = self._output.get_size().columns
        text: StyleAndTextTuples = []
        for _ in range(min(count, len(self._lines))):
            waited = self._lines.popleft()
            self._waiting_text -= length(waited)
            for line in wrap(waited, columns):
                text.extend(line)
                text.append(("", "\n"))
        if text:
            text.insert(0, ("[ZeroWidthEscape]", NO_BREAKS))
            text.append(("[ZeroWidthEscape]", BREAKS))
            app = self._session.app
            print_formatted_text(self._output, text, self._style, color_depth=app.color_depth)

    def refresh(self) -> None:
        """Draw the prompt again."""
        self._session.app.invalidate()

    def ring(self) -> None:
        """Ring the bell."""
        self._output.bell()

    def notify(self, title: str, text: str) -> None:
        """Show a desktop notification with an escape sequence of the terminal."""
        kind = self._notifying or ("9" if self._config.notify == "on" else "")
        title, text = (printable(part).replace("\t", " ") for part in (title, text))
        if kind == "777":
            title, text = title.replace(";", ","), text.replace(";", ",")
            self._output.write_raw(f"\x1b]777;notify;{title};{text}\x1b\\")
        elif kind:
            self._output.write_raw(f"\x1b]9;{title}: {text}\x1b\\")
        self._output.flush()

    def stop(self, code: int, reason: str) -> None:
        """End with this exit code and reason."""
        if self._result is None:
            self._result = code, reason
            if self._is_gone:
                self._is_done()
            elif self._session.app.is_running:
                self._session.app.exit(result="")

    # Drawing

    def _message(self) -> StyleAndTextTuples:
        """Return the text before the input. Called by prompt_toolkit."""
        text: StyleAndTextTuples = []
        if self._questions:
            return [("class:prompt", printable(self._questions[0][0]))]
        columns = self._output.get_size().columns
        for line in self.view.beside():
            for piece in wrap(shorten(line, columns), columns):
                text.extend(piece)
                text.append(("", "\n"))
        text.extend((style, printable(piece)) for style, piece in self.view.prompt())
        return text


class _Printable(Processor):
    """Shows typed and pasted text in its printable form."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """Replace the text of a line that is drawn. Called by prompt_toolkit."""
        fragments = transformation_input.fragments
        return Transformation([(style, printable(text)) for style, text, *_ in fragments])


class _Output(Vt100_Output):
    """A terminal output that can keep bracketed paste enabled while the prompt is erased."""

    _keeps_paste = False

    @contextlib.contextmanager
    def keeping_paste(self) -> Iterator[None]:
        """Keep bracketed paste enabled, so that pasted text stays one message."""
        self._keeps_paste = True
        try:
            yield
        finally:
            self._keeps_paste = False

    def disable_bracketed_paste(self) -> None:
        """Disable bracketed paste. Called by prompt_toolkit."""
        if not self._keeps_paste:
            super().disable_bracketed_paste()


def _reflows(environment: Mapping[str, str]) -> bool:
    """Return whether the terminal is known to rewrap its rows when its width changes."""
    return (
        any(name in environment for name in ("TMUX", "VTE_VERSION", "KITTY_WINDOW_ID"))
        or environment.get("TERM_PROGRAM") in OSC_9
        or environment.get("TERM", "").startswith(("alacritty", "foot"))
    )


def _size() -> Size:
    columns, rows = os.get_terminal_size()
    return Size(rows or 24, columns or 80)


def _notifying(environment: Any) -> str:
    """Return the OSC number for notifications, ``9`` or ``777``; empty if it is not known."""
    if "TMUX" in environment or environment.get("TERM", "").startswith("screen"):
        return ""  # it drops both sequences
    if environment.get("TERM_PROGRAM") in OSC_9 or "KITTY_WINDOW_ID" in environment:
        return "9"
    if environment.get("TERM", "").startswith(("foot", "rxvt")):
        return "777"
    return ""
