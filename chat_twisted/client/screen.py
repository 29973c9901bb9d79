"""The terminal of the client, made with prompt_toolkit: messages above a line of input.

It draws lines and reads keys; ``conversation_view`` decides what is shown and done. Lines above the
prompt are written once and then belong to the terminal's own scrollback. The prompt runs in the
asyncio event loop of the reactor (``reactor_loop``). Several screens can run in one process, each
on a terminal of its own. This module must not know the session's requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from prompt_toolkit.application import create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.history import History
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.input.vt100 import Vt100Input
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chat_twisted.client import keys, themes
from chat_twisted.client.completion import CommandCompleter, CompletionRound, Names
from chat_twisted.client.config import Config
from chat_twisted.client.key_parser import KeyParser
from chat_twisted.client.prompt import Prompt
from chat_twisted.client.reader import Reader, ReaderPages
from chat_twisted.client.remote import MAX_LINE, RemoteInput, RemoteOutput
from chat_twisted.client.terminal_kind import QUESTION, TerminalKind
from chat_twisted.client.terminal_output import TerminalOutput
from chat_twisted.client.waiting_lines import WaitingLines
from chat_twisted.client.wrapping import shorten, width, wrap
from chat_twisted.text import printable
from chat_twisted.ui.layout import Line

SHOWN_AT_ONCE = 100
"""Number of lines that are written before the keyboard is read again."""

TIMEOUT, READER_TIMEOUT = 1.0, 0.05
"""Maximum seconds between the keys of a sequence, at the prompt and in the reader."""

MIN_INPUT = 8
"""Columns that a question must leave for the answer, to stand in the same row."""

LEAVE_WITHIN = 1.0
"""Maximum seconds between two presses of Ctrl-C that leave."""


class Session(Protocol):
    """The part of a session that this module uses."""

    def pauseProducing(self) -> None:
        """Receive nothing for now."""

    def resumeProducing(self) -> None:
        """Receive again."""


class View(Names, keys.View, Protocol):
    """The view that is shown: ``conversation_view.ConversationView``."""

    @property
    def session(self) -> Session:
        """The session from which the lines come."""

    def beside(self) -> list[Line]:
        """Return the lines above the prompt that may still change."""

    def prompt(self) -> Line:
        """Return the text before the input; the last piece is the name of the conversation."""

    @property
    def offered(self) -> str:
        """The line that replaces the text that stays in the input; empty if none is offered."""

    def reader_pages(self) -> ReaderPages:
        """Return the current conversation, to read back in it."""

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
        Ctrl-Z, which stops the process. A line of another user has at most ``MAX_LINE`` bytes.
    """

    view: View

    def __init__(
        self,
        config: Config,
        history: History,
        *,
        environment: Mapping[str, str],
        input: Input | None = None,
        output: TerminalOutput | None = None,
        local: bool = True,
    ) -> None:
        self.done: Deferred[tuple[int, str]] = Deferred()
        self._drawing: asyncio.Handle | None = None
        self._paused = False
        self._is_held = False  # output waits for the terminal
        self._is_gone = self._has_run = self._is_over = False
        # the first is being asked
        self._questions: deque[tuple[str, bool, Deferred[str]]] = deque()
        self._typed = Document()  # the input before the question
        self._accepting = False
        self._result: tuple[int, str] | None = None
        self._config = config
        self._local = local
        self._kept = ""  # the line that the view left in the input
        self._has_told_full = False  # that the line is too long
        self._reader: Reader | None = None  # that is shown
        self._is_editing = False  # in an editor
        self._leaving_until = 0.0  # the loop's time until which Ctrl-C leaves
        self._leaving: asyncio.TimerHandle | None = None
        self._kind = TerminalKind(environment)
        self._has_asked = self._kind.is_known  # for its kind
        self._output = output or TerminalOutput(sys.stdout, _size, environment)
        self._input = input or create_input()
        self._parse_keys()
        style = themes.style(config.theme, config.colours, environment)
        self._lines = WaitingLines(self._output, style)
        self._completions = CompletionRound(CommandCompleter(lambda: self.view, files=local))
        self._prompt = Prompt(
            self,
            input=self._input,
            output=self._output,
            history=history,
            style=style,
            accept=self._accept,
            full=self._tell_full,
            rewraps=lambda: self._kind.rewraps,
            vi=config.keys == "vi",
            local=local,
            max_line=None if local else MAX_LINE,
        )
        self._prompt.after_render += self._is_drawn

    def _parse_keys(self) -> None:
        if isinstance(self._input, RemoteInput):
            self._input.parser.answered = self._kind.answered
        elif isinstance(self._input, Vt100Input):
            parser = KeyParser(self._input.vt100_parser.feed_key_callback, self._kind.answered)
            self._input.vt100_parser = parser  # type: ignore[assignment]

    async def run(self) -> None:
        """Draw and read keys until the end, then fire ``done``."""
        try:
            if self._result is None:
                with create_app_session(self._input, self._output):
                    await self._prompt.run_async(
                        pre_run=self.draw_soon, handle_sigint=False, set_exception_handler=False
                    )
        except EOFError as end:  # there are no more keys: only QUIT remains
            end.__traceback__ = None  # it refers to the frames that refer to it
        except OSError:  # the terminal is gone, too
            self._is_gone = True
        finally:
            for timer in (self._drawing, self._leaving):
                if timer is not None:
                    timer.cancel()
        self._has_run = True
        if self._result is None:
            self.view.interrupt()  # it calls ``stop``
        else:
            self._end()

    def _end(self) -> None:
        """Write what waits, and fire ``done``."""
        if not self._is_gone:
            with contextlib.suppress(OSError), self._output.together():
                self._output.disable_bracketed_paste()
                self._lines.write(len(self._lines))
            self._lines.tell_written()
        self._is_over = True
        self._lines.clear()
        self._questions.clear()
        self._close_streams()
        assert self._result is not None
        self.done.callback(self._result)

    def start(self) -> None:
        """Start ``run``."""
        Deferred.fromFuture(asyncio.ensure_future(self.run())).addErrback(self._failed)

    def _failed(self, fault: Failure) -> None:
        if not self.done.called:
            self.done.errback(fault)

    # For the keys

    @property
    def is_asking(self) -> bool:
        """Whether a question is in the place of the prompt."""
        return bool(self._questions)

    @property
    def hides_input(self) -> bool:
        """Whether the answer to the question is secret."""
        return bool(self._questions) and self._questions[0][1]

    def edit(self, buffer: Buffer) -> None:
        """Edit the input in the user's editor."""
        self._is_editing = True
        buffer.open_in_editor().add_done_callback(self._is_edited)

    def _is_edited(self, task: asyncio.Task[None]) -> None:
        self._is_editing = False
        self.draw_soon()
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.show([[("class:error", f"! The editor: {problem}")]])

    def clear_or_leave(self) -> None:
        """Clear the input; leave if that was done within the last second."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._leaving_until:
            self._leaving_until = 0
            self.view.interrupt()
            return
        self._leaving_until = loop.time() + LEAVE_WITHIN
        if self._leaving is not None:
            self._leaving.cancel()
        self._leaving = loop.call_later(LEAVE_WITHIN, self.refresh)
        self._prompt.buffer.reset()
        self.refresh()

    def complete(self, step: int) -> None:
        """Complete the word before the cursor."""
        buffer = self._prompt.buffer
        if (offered := self.view.offered) and buffer.text == self._kept:
            completed = Document(offered)
        else:
            completed = self._completions.turn(buffer.document, step)
        if completed != buffer.document:
            buffer.save_to_undo_stack()
            buffer.document = completed
        self.refresh()

    def _tell_full(self) -> None:
        """Tell that a part of the line has been dropped."""
        self.ring()
        if not self._has_told_full:
            self._has_told_full = True
            self.show([[("class:error", f"! A line has at most {MAX_LINE} bytes")]])

    def _accept(self, buffer: Buffer) -> bool:
        """Handle a finished line; return whether to keep it. Called by prompt_toolkit."""
        # A byte that is not UTF-8 arrives as a lone surrogate, which can't be encoded.
        text = buffer.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self._has_told_full = False
        if self._questions:
            self.answer(text)
            return True  # the line from before the question has been restored
        self._accepting = True
        try:
            self._kept = self.view.take(text)
        finally:
            self._accepting = False
        if self._kept and not self._questions:
            buffer.document = Document(self._kept)
        return bool(self._kept or self._questions)

    def answer(self, text: str) -> None:
        """Answer the question."""
        _, _, answered = self._questions.popleft()
        self._prompt.buffer.reset(self._typed)  # answers don't go into the input history
        if self._questions:
            self._put_question()
        answered.callback(text)
        self.refresh()

    def _put_question(self) -> None:
        self._close_reader()
        buffer = self._prompt.buffer
        if self._accepting:
            buffer.append_to_history()
            buffer.reset()
        self._typed = buffer.document
        buffer.reset()
        self.refresh()

    # The reader, which has the terminal's alternate screen, if there is one

    def open_reader(self) -> None:
        """Read back in the conversation."""
        prompt = self._prompt
        self._reader = Reader(
            self.view.reader_pages(),
            self._output.get_size,
            self.refresh,
            self._close_reader,
            vi=self._config.keys == "vi",
            local=self._local,
        )
        with self._output.together():
            prompt.renderer.erase()
            self._lines.write(len(self._lines))
        self._lines.tell_written()
        self._resume()  # the reader waits for answers
        prompt.renderer.full_screen = True
        prompt.layout = self._reader.layout
        prompt.timeoutlen = READER_TIMEOUT
        self.refresh()

    def _close_reader(self) -> None:
        if self._reader is None:
            return
        prompt = self._prompt
        asyncio.get_running_loop().call_soon(self._reader.dissolve)  # its key may have called this
        self._reader = None
        prompt.renderer.erase()
        prompt.renderer.full_screen = False
        prompt.layout = prompt.prompt_layout
        prompt.timeoutlen = TIMEOUT
        self.refresh()

    # The Terminal interface

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a line, in place of the prompt; see ``Terminal.ask``."""
        answered: Deferred[str] = Deferred()
        self._questions.append((what, secret, answered))
        if len(self._questions) == 1 and not self._is_over:
            self._put_question()
        return answered

    def show(self, lines: Sequence[Line]) -> None:
        """Show lines above the prompt, as soon as they can be drawn."""
        if self._is_over or self._is_gone:
            return
        self._lines.add(lines)
        if (
            not self._paused
            and self._lines.fullness > 1
            and (self._reader is None or self._is_held)
        ):
            self._paused = True
            self.view.session.pauseProducing()
            self._take_keys()
        self.draw_soon()

    def when_shown(self, then: Callable[[], None]) -> None:
        """Call ``then`` when all lines that have been shown so far have been written to the
        terminal; never, if it is lost before.
        """
        self._lines.when_written(then)

    def draw_soon(self) -> None:
        """Write the lines that wait, and draw the prompt, after what else waits in the loop."""
        if self._drawing is None and self._can_draw():
            self._drawing = asyncio.get_running_loop().call_soon(self._draw)

    def _can_draw(self) -> bool:
        """Return whether something may be drawn; if not, it is after the editor, or at the end."""
        return (
            not self._is_over
            and self._prompt.is_running
            and not self._is_editing
            and not self._is_held
        )

    def _draw(self) -> None:
        self._drawing = None
        if not self._can_draw():
            return
        with self._output.together():
            # Behind the reader lines are written when they are many, or after it.
            if self._lines and (self._reader is None or self._lines.fullness >= 1):
                self._prompt.renderer.erase()
                self._lines.write(SHOWN_AT_ONCE if self._reader is None else len(self._lines))
            self._prompt.draw()
        self._lines.tell_written()
        if self._lines and self._reader is None:
            self.draw_soon()  # after input from the keyboard and the server
        self._resume()

    def _resume(self) -> None:
        if self._paused and self._lines.fullness < 0.5:
            self._paused = False
            self.view.session.resumeProducing()
            self._take_keys()

    def _take_keys(self) -> None:
        """Take keys, or not, of a terminal of somebody else.

        Each line that is typed may show thousands, so none is taken while so many wait.
        """
        if isinstance(self._input, RemoteInput):
            if self._is_held or self._paused:
                self._input.hold()
            else:
                self._input.go_on()

    def _is_drawn(self, _: object) -> None:
        if not self._has_asked:
            self._has_asked = True
            self._output.write_raw(QUESTION)  # now that its answer is not echoed
            self._output.flush()

    def columns(self) -> int:
        """Return the width of the terminal, in columns."""
        return self._output.get_size().columns

    def clear(self) -> None:
        """Clear the screen above the prompt."""
        with self._output.together():
            self._prompt.renderer.clear()

    def refresh(self) -> None:
        """Draw the prompt again."""
        self.draw_soon()

    def ring(self) -> None:
        """Ring the bell."""
        if not self._is_held:
            self._output.bell()

    def notify(self, title: str, text: str) -> None:
        """Show a desktop notification with an escape sequence of the terminal."""
        if self._is_held:
            return
        always = self._config.notify == "on"
        title, text = (printable(part).replace("\t", " ") for part in (title, text))
        self._output.write_raw(self._kind.notification(title, text, always=always))
        self._output.flush()

    def stop(self, code: int, reason: str) -> None:
        """End with this exit code and reason."""
        if self._result is None:
            self._close_reader()
            self._result = code, reason
            if self._has_run:
                self._end()
            elif self._prompt.is_running and not self._prompt.is_done:
                self._prompt.exit(result="")

    def resized(self) -> None:
        """Draw for the new size. To be called when the terminal's size has changed."""
        self.draw_soon()

    # For a terminal at the other end of a stream

    def hold(self) -> None:
        """Draw nothing and take no keys until ``go_on``: the terminal does not take its output."""
        self._is_held = True
        self._take_keys()

    def go_on(self) -> None:
        """Draw and take keys again."""
        self._is_held = False
        self._take_keys()
        self.draw_soon()

    def lost(self) -> None:
        """End without drawing: the terminal is gone."""
        self._is_gone = True
        self._lines.clear()
        self._close_streams()
        self.stop(0, "")

    def dissolve(self) -> None:
        """Remove the references between the parts. Nothing may be called any more.

        They refer to each other. In a server, where the collector of such cycles runs rarely, they
        would last.
        """
        self._prompt.dissolve()
        vars(self).clear()

    def _close_streams(self) -> None:
        for stream in (self._input, self._output):
            if isinstance(stream, RemoteInput | RemoteOutput):
                stream.close()

    # Drawing

    def message(self, size: Size) -> tuple[list[Line], Line]:
        """Return the rows above the input, and the text before it. Called by the prompt."""
        if self._questions:
            question: Line = [("class:prompt", printable(self._questions[0][0]))]
            if width(question) <= size.columns - MIN_INPUT:
                return [], question
            return [*wrap(question, size.columns)], []
        *state, (style, name) = self.view.prompt()
        lines = [shorten(line, size.columns) for line in self.view.beside()]
        texts, at = self._completions.shown(self._prompt.buffer.document)
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
        start = [(style, printable(piece)) for style, piece in [*state, *end]]
        return rows[-max(1, size.rows // 2) :], start


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


def _size() -> Size:
    columns, rows = os.get_terminal_size()
    return Size(rows or 24, columns or 80)
