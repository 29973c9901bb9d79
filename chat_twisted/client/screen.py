"""The terminal of the client, made with prompt_toolkit: messages above a line of input.

It draws lines and reads keys; ``conversation_view`` decides what is shown and done. Lines above the
prompt are written once and then belong to the terminal's own scrollback. The prompt runs in the
asyncio event loop of the reactor (``reactor_loop``). This module must not know the session's
requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, Filter, emacs_mode, has_focus, vi_navigation_mode
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chat_twisted.client import themes
from chat_twisted.client.completion import CommandCompleter, CompletionRound, Names
from chat_twisted.client.config import Config
from chat_twisted.client.reader import Reader, ReaderPages
from chat_twisted.client.terminal_kind import QUESTION, AnsweringParser, TerminalKind
from chat_twisted.client.wrapping import (
    BREAKS,
    NO_BREAKS,
    SEQUENCE,
    length,
    shorten,
    width,
    wrap,
)
from chat_twisted.text import printable
from chat_twisted.ui.layout import Line

Handler = Callable[[KeyPressEvent], None]

SHOWN_AT_ONCE = 100
"""Number of lines that are written before the keyboard is read again."""

MAX_WAITING, MAX_WAITING_TEXT = 2000, 4 * 1024 * 1024
"""Lines, and characters in them, that may wait for the terminal before receiving is paused."""

TIMEOUT, READER_TIMEOUT, ESCAPE_TIMEOUT = 1.0, 0.05, 0.1
"""Maximum seconds between the keys of a sequence, at the prompt and in the reader; and those after
which an escape character is the key of that name."""

LEAVE_WITHIN = 1.0
"""Maximum seconds between two presses of Ctrl-C that leave."""


class Session(Protocol):
    """The part of a session that this module uses."""

    def pauseProducing(self) -> None:
        """Receive nothing for now."""

    def resumeProducing(self) -> None:
        """Receive again."""


class View(Names, Protocol):
    """The view that is shown: ``conversation_view.ConversationView``."""

    @property
    def session(self) -> Session:
        """The session from which the lines come."""

    def beside(self) -> list[Line]:
        """Return the lines above the prompt that may still change."""

    def prompt(self) -> Line:
        """Return the text before the input; the last piece is the name of the conversation."""

    def take(self, line: str) -> str:
        """Handle a typed line; return the text that stays in the input, which may be empty."""

    @property
    def offered(self) -> str:
        """The line that replaces the text that stays in the input; empty if none is offered."""

    def next_unread(self) -> None:
        """Turn to the next conversation that has something unread."""

    def turn_to(self, number: int) -> None:
        """Turn to a conversation by its number in the prompt."""

    def toggle_view(self) -> None:
        """Show the current conversation alone, or all."""

    def reader_pages(self) -> ReaderPages:
        """Return the current conversation, to read back in it."""

    def send_again(self) -> None:
        """Send the refused messages again."""

    def drop(self) -> None:
        """Drop the refused messages."""

    def interrupt(self) -> object:
        """Leave."""


class Screen:
    """A terminal, as ``conversation_view.Terminal`` describes it.

    Several can run in one process, each on its own terminal.

    :ivar view: the view that is shown; to be set before ``start``.
    :ivar done: fires with the exit code and the reason, which may be empty, when the screen has
        ended.
    :param history: the input history.
    :param environment: the environment variables of the terminal.
    :param input: the source of keys; None for the process's terminal.
    :param output: the output to draw on; None for the process's terminal.
    :param local: whether the user may use this machine: its editor, the names of its files, and
        Ctrl-Z, which stops the process.
    """

    view: View

    def __init__(
        self,
        config: Config,
        history: History,
        *,
        environment: Mapping[str, str],
        input: Input | None = None,
        output: Output | None = None,
        local: bool = True,
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
        self._kept = ""  # the line that the view left in the input
        self._reader: Reader | None = None  # that is shown
        self._is_editing = False  # in an editor
        self._leaving_until = 0.0  # the loop's time until which Ctrl-C leaves
        self._kind = TerminalKind(environment)
        # The cursor's position is not requested: no menu needs to fit below it.
        self._output: Output = output or _Output(
            sys.stdout,
            _size,
            term=environment.get("TERM"),
            default_color_depth=ColorDepth.DEPTH_1_BIT if environment.get("NO_COLOR") else None,
            enable_cpr=False,
        )
        self._input = input or create_input()
        if isinstance(self._input, Vt100Input) and not self._kind.is_known:
            self._input.vt100_parser = AnsweringParser(
                self._input.vt100_parser.feed_key_callback, self._kind.answered
            )
        colours = themes.styles(config.theme, environment)
        self._style = Style(list({**colours, **config.colours}.items()))
        completer = CommandCompleter(lambda: self.view, files=local)
        self._completions = CompletionRound(completer)
        self._session: PromptSession[str] = PromptSession(
            self._message,
            history=history,
            complete_while_typing=False,
            enable_suspend=local,
            erase_when_done=True,
            reserve_space_for_menu=0,
            vi_mode=config.keys == "vi",
            key_bindings=self._bindings(local),
            style=self._style,
            prompt_continuation=lambda width, line, wrapped: " " * width,
            input_processors=[_Printable()],
            input=self._input,
            output=self._output,
        )
        self._session.default_buffer.accept_handler = self._accept
        self._drawn_columns = 0
        app = self._session.app
        app.before_render += self._will_be_drawn
        app.after_render += self._is_drawn
        app.ttimeoutlen = ESCAPE_TIMEOUT
        app.terminal_size_polling_interval = None  # ``resized`` is called
        self._erase_as_drawn = app.renderer.erase
        app.renderer.erase = self._erase  # type: ignore[method-assign]

    async def run(self) -> None:
        """Draw and read keys until the end, then fire ``done``."""
        try:
            if self._result is None:
                with create_app_session(self._input, self._output):
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

    def _bindings(self, local: bool) -> KeyBindings:
        bindings = KeyBindings()
        buffer = has_focus(DEFAULT_BUFFER)  # not in the reader, nor in a search
        asked = Condition(lambda: bool(self._questions))
        empty = Condition(lambda: not self._session.default_buffer.text)

        def key(
            *keys: str, filter: Filter = ~asked & buffer, eager: bool = False
        ) -> Callable[[Handler], Handler]:
            return bindings.add(*keys, filter=filter, eager=eager)

        @key("c-c", filter=asked & buffer, eager=True)
        @key("c-d", filter=asked & buffer & empty, eager=True)
        def _(event: KeyPressEvent) -> None:
            self._answer("")

        @key("enter", filter=asked & buffer)
        def _(event: KeyPressEvent) -> None:
            self._answer(event.current_buffer.text)

        @key("tab", filter=asked)
        @key("s-tab", filter=asked)
        @key("pageup", filter=asked)
        @key("pagedown", filter=buffer)
        @key("c-z", filter=Condition(lambda: not local))
        def _(event: KeyPressEvent) -> None:
            """Do nothing: the library has other uses for these keys."""

        @key("c-c", eager=True)
        def _(event: KeyPressEvent) -> None:
            self._clear_or_leave()

        @key("c-d", filter=~asked & buffer & empty, eager=True)
        def _(event: KeyPressEvent) -> None:
            self.view.take("/quit")

        @key("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @key("tab", filter=~asked & buffer & ~vi_navigation_mode)
        def _(event: KeyPressEvent) -> None:
            self._complete(1)

        @key("s-tab", filter=~asked & buffer & ~vi_navigation_mode)
        def _(event: KeyPressEvent) -> None:
            self._complete(-1)

        @key("pageup")
        def _(event: KeyPressEvent) -> None:
            self._open_reader()

        @key("escape", "a", filter=~asked & buffer & emacs_mode)
        @key("f6")
        def _(event: KeyPressEvent) -> None:
            self.view.next_unread()

        @key("escape", "v", filter=~asked & buffer & emacs_mode)
        @key("f7")
        def _(event: KeyPressEvent) -> None:
            self.view.toggle_view()

        for digit in "123456789":

            @key("escape", digit, filter=~asked & buffer & emacs_mode)
            def _(event: KeyPressEvent) -> None:
                self.view.turn_to(int(event.key_sequence[-1].key))

        @key("f5", filter=buffer)
        def _(event: KeyPressEvent) -> None:
            self.view.send_again()

        @key("f8", filter=buffer)
        def _(event: KeyPressEvent) -> None:
            self.view.drop()

        if local:

            @key("c-x", "c-e", filter=~asked & buffer & emacs_mode)
            @key("v", filter=~asked & buffer & vi_navigation_mode)
            def _(event: KeyPressEvent) -> None:
                self._is_editing = True
                event.current_buffer.open_in_editor().add_done_callback(self._is_edited)

        return bindings

    def _is_edited(self, task: asyncio.Task[None]) -> None:
        self._is_editing = False
        self._flush_soon()
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.show([[("class:error", f"! The editor: {problem}")]])

    def _clear_or_leave(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._leaving_until:
            self._leaving_until = 0
            self.view.interrupt()
            return
        self._leaving_until = loop.time() + LEAVE_WITHIN
        loop.call_later(LEAVE_WITHIN, self.refresh)
        self._session.default_buffer.reset()
        self.refresh()

    def _complete(self, step: int) -> None:
        buffer = self._session.default_buffer
        if (offered := self.view.offered) and buffer.text == self._kept:
            completed = Document(offered)
        else:
            completed = self._completions.turn(buffer.document, step)
        if completed != buffer.document:
            buffer.save_to_undo_stack()
            buffer.document = completed
        self.refresh()

    def _accept(self, buffer: Buffer) -> bool:
        """Handle a finished line; return whether to keep it. Called by prompt_toolkit."""
        # A byte that is not UTF-8 arrives as a lone surrogate, which can't be encoded.
        text = buffer.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if self._questions:
            self._answer(text)
            return True  # the line from before the question has been restored
        self._accepting = True
        try:
            self._kept = self.view.take(text)
        finally:
            self._accepting = False
        if self._kept and not self._questions:
            buffer.document = Document(self._kept)
        return bool(self._kept or self._questions)

    def _answer(self, text: str) -> None:
        _, _, answered = self._questions.popleft()
        self._session.is_password = False
        self._session.default_buffer.reset(self._typed)  # answers don't go into the input history
        if self._questions:
            self._put_question()
        answered.callback(text)
        self.refresh()

    def _put_question(self) -> None:
        self._close_reader()
        buffer = self._session.default_buffer
        if self._accepting:
            buffer.append_to_history()
            buffer.reset()
        self._typed = buffer.document
        self._session.is_password = self._questions[0][1]
        buffer.reset()
        self.refresh()

    # The reader, which has the terminal's alternate screen, if there is one

    def _open_reader(self) -> None:
        app = self._session.app
        self._reader = Reader(
            self.view.reader_pages(), self._output.get_size, self.refresh, self._close_reader
        )
        app.renderer.erase()
        self._write(len(self._lines))
        self._resume()  # the reader waits for answers
        app.renderer.full_screen = True
        app.layout = self._reader.layout
        app.timeoutlen = READER_TIMEOUT
        self.refresh()

    def _close_reader(self) -> None:
        if self._reader is None:
            return
        app = self._session.app
        self._reader = None
        app.renderer.erase()
        app.renderer.full_screen = False
        app.layout = self._session.layout
        app.timeoutlen = TIMEOUT
        self._flush_soon()
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
        if not self._paused and self._fullness() > 1 and self._reader is None:
            self._paused = True
            self.view.session.pauseProducing()
        self._flush_soon()

    def _fullness(self) -> float:
        return max(len(self._lines) / MAX_WAITING, self._waiting_text / MAX_WAITING_TEXT)

    def _flush_soon(self) -> None:
        if self._flushing is None and self._session.app.is_running and not self._is_editing:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if not self._session.app.is_running or self._is_editing:
            return  # written when it runs, after the editor, or at the end
        if self._reader is not None and self._fullness() < 1:
            return  # written behind the reader when they are many, or after it
        self._session.app.renderer.erase()
        self._write(SHOWN_AT_ONCE if self._reader is None else len(self._lines))
        self._session.app.invalidate()
        if self._lines:
            # after input from the keyboard and the server
            self._flushing = asyncio.get_running_loop().call_later(0.01, self._flush)
        self._resume()

    def _resume(self) -> None:
        if self._paused and self._fullness() < 0.5:
            self._paused = False
            self.view.session.resumeProducing()

    def _will_be_drawn(self, _: object) -> None:
        """Erase the prompt if the width has changed, also before the signal that says so."""
        renderer = self._session.app.renderer
        if renderer.last_rendered_screen and self.columns() != self._drawn_columns:
            renderer.erase(leave_alternate_screen=False)

    def _is_drawn(self, _: object) -> None:
        if not self._drawn_columns and not self._kind.is_known:
            self._output.write_raw(QUESTION)  # now that its answer is not echoed
            self._output.flush()
        self._drawn_columns = self._output.get_size().columns

    def _erase(self, leave_alternate_screen: bool = True) -> None:
        """Erase the prompt. Called by prompt_toolkit.

        If the terminal has become narrower since the prompt was drawn, it has wrapped the prompt's
        rows, which the library does not know.
        """
        columns, app = self._output.get_size().columns, self._session.app
        drawn = app.renderer.last_rendered_screen
        narrower = columns < self._drawn_columns and not app.renderer.full_screen
        if self._kind.rewraps and narrower and drawn is not None:
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
            for line in wrap(waited, columns, whole_links=True):
                text.extend(line)
                text.append(("", "\n"))
        if text:
            text.insert(0, (SEQUENCE, NO_BREAKS))
            text.append((SEQUENCE, BREAKS))
            app = self._session.app
            print_formatted_text(self._output, text, self._style, color_depth=app.color_depth)

    def columns(self) -> int:
        """Return the width of the terminal, in columns."""
        return self._output.get_size().columns

    def clear(self) -> None:
        """Clear the screen above the prompt."""
        self._session.app.renderer.clear()

    def refresh(self) -> None:
        """Draw the prompt again."""
        self._session.app.invalidate()

    def ring(self) -> None:
        """Ring the bell."""
        self._output.bell()

    def notify(self, title: str, text: str) -> None:
        """Show a desktop notification with an escape sequence of the terminal."""
        always = self._config.notify == "on"
        title, text = (printable(part).replace("\t", " ") for part in (title, text))
        self._output.write_raw(self._kind.notification(title, text, always=always))
        self._output.flush()

    def resized(self) -> None:
        """Draw for the new size. To be called when the terminal's size has changed."""
        if self._session.app.is_running and not self._is_editing:
            self._session.app._on_resize()

    def stop(self, code: int, reason: str) -> None:
        """End with this exit code and reason."""
        if self._result is None:
            self._close_reader()
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
        size = self._output.get_size()
        *state, (style, name) = self.view.prompt()
        lines = [shorten(line, size.columns) for line in self.view.beside()]
        texts, at = self._completions.shown(self._session.default_buffer.document)
        if texts:
            lines.append(_menu(texts, at, size.columns))
        if asyncio.get_running_loop().time() < self._leaving_until:
            lines.append([("class:dim", "Ctrl-C once more leaves")])
        # There must be room for the input.
        end = shorten([(style, name[:-2]), (style, name[-2:])], size.columns // 2)
        if state and width([*state, *end]) > size.columns // 2:
            lines.append(state)
            state = []
        rows = [row for line in lines for row in wrap(line, size.columns)]
        for row in rows[-max(1, size.rows // 2) :]:
            text.extend(row)
            text.append(("", "\n"))
        text.extend((style, printable(piece)) for style, piece in [*state, *end])
        return text


def _menu(texts: Sequence[str], at: int, columns: int) -> Line:
    """Return those of ``texts`` that fit into a row with the one at the index ``at``."""
    row: Line = []
    for i, text in enumerate(texts):
        if row and width([*row, ("", text)]) >= columns:
            if i > at or at == len(texts):
                break
            row = []
        row += [("reverse" if i == at else "class:dim", text.strip()), ("", "  ")]
    return row


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


def _size() -> Size:
    columns, rows = os.get_terminal_size()
    return Size(rows or 24, columns or 80)
