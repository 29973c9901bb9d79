"""A terminal at the other end of a stream of bytes, as input and output of prompt_toolkit.

Hundreds of them can be in one process: there is no descriptor, thread or signal, what has been
typed and is not processed yet is bounded by the stream's window, and it is processed a few keys at
a time. This module must not know what carries the stream, or what is drawn.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from io import StringIO

from prompt_toolkit.data_structures import Size
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

from chat_twisted.client.key_parser import KeyParser
from chat_twisted.client.terminal_output import TerminalOutput

SLICE, TEXT_SLICE = 4, 4096
"""Number of bytes that are processed at a time, of keys and of text."""

_TEXT = re.compile(rb"[^\x00-\x1f\x7f]{64,%d}" % TEXT_SLICE)
"""So much without a control character is a text that was pasted into a terminal that does not say
so. It is inserted at once, because a key takes hundreds of times as long as a character."""

MAX_LINE = 4096
"""Maximum size in bytes of a line that is typed or pasted."""

MAX_HISTORY = 50
"""Number of lines that are kept of those typed before."""

MIN_SIZE, MAX_SIZE = 2, 500
"""Columns and rows that are drawn for, whatever size a terminal says it has."""

Soon = Callable[[Callable[[], None]], object]
"""Calls a function soon, after other functions that wait: ``call_soon`` of the event loop."""


class RemoteInput(Input):
    """The keys of a remote terminal.

    :ivar parser: the parser of the keys.
    :param soon: used to process the keys in slices.
    :param taken: called with the number of bytes that have been processed, so that the peer may
        send more. At most so many bytes are kept as the peer may send without it.
    """

    def __init__(self, soon: Soon, taken: Callable[[int], None]) -> None:
        self._soon = soon
        self._taken = taken
        self._bytes = bytearray()  # not processed yet
        self._is_ended = self._is_held = self._is_planned = False
        self._ready: Callable[[], None] | None = None
        self._keys: list[KeyPress] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        # one character more than a line, so that it is noticed
        self.parser = KeyParser(self._keys.append, max_paste=MAX_LINE + 1)

    # For the stream

    def feed(self, data: bytes) -> None:
        """Take bytes that the terminal has sent."""
        self._bytes += data
        self._plan()

    def end(self) -> None:
        """Note that nothing more comes: the prompt ends after the keys that wait."""
        self._is_ended = True
        self._plan()

    # For the screen

    def hold(self) -> None:
        """Process nothing, until ``go_on``."""
        self._is_held = True

    def go_on(self) -> None:
        """Process keys again."""
        self._is_held = False
        self._plan()

    def close(self) -> None:
        """Drop what waits, and process nothing any more."""
        self._bytes.clear()
        self._is_held, self._ready = True, None
        self._taken = lambda count: None

    def _plan(self) -> None:
        if self._is_planned or self._is_held or self._ready is None:
            return
        if self._bytes or self._is_ended:
            self._is_planned = True
            self._soon(self._process)

    def _process(self) -> None:
        self._is_planned = False
        if self._ready is not None and not self._is_held:
            try:
                self._ready()  # calls ``read_keys``
            finally:
                if not self.closed:
                    self._plan()

    # For prompt_toolkit

    def read_keys(self) -> list[KeyPress]:
        """Return some of the keys that wait. Called by prompt_toolkit."""
        text = None if self.parser.is_waiting else _TEXT.match(self._bytes)
        size = TEXT_SLICE if self.parser.is_pasting else text.end() if text else SLICE
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        typed = self._decoder.decode(data, final=self.closed)
        if text:
            self._keys.append(KeyPress(Keys.BracketedPaste, typed))
        else:
            self.parser.feed(typed)
        if data:
            self._taken(len(data))
        return self._read()

    def flush_keys(self) -> list[KeyPress]:
        """Return the keys of a sequence that is not continued. Called by prompt_toolkit."""
        self.parser.flush()
        return self._read()

    def _read(self) -> list[KeyPress]:
        keys = self._keys.copy()
        self._keys.clear()
        return keys

    @property
    def closed(self) -> bool:
        """Whether the terminal has sent its last key, and that has been read."""
        return self._is_ended and not self._bytes

    @contextlib.contextmanager
    def _attached(self, ready: Callable[[], None] | None) -> Iterator[None]:
        before, self._ready = self._ready, ready
        self._plan()
        try:
            yield
        finally:
            self._ready = before

    def attach(self, input_ready_callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Call a function when there are keys, in this context. Called by prompt_toolkit."""
        return self._attached(input_ready_callback)

    def detach(self) -> AbstractContextManager[None]:
        """Read no keys in this context. Called by prompt_toolkit."""
        return self._attached(None)

    def raw_mode(self) -> AbstractContextManager[None]:
        """Do nothing: the terminal at the other end is in raw mode. Called by prompt_toolkit."""
        return contextlib.nullcontext()

    cooked_mode = raw_mode

    def fileno(self) -> int:
        """Raise ``NotImplementedError``: there is no descriptor."""
        raise NotImplementedError

    def typeahead_hash(self) -> str:
        """Return the name under which prompt_toolkit stores keys that are left for a next prompt.

        It keeps an entry for each name for ever, so there is one name; ``Prompt`` leaves no keys.
        """
        return "remote"


class _Stream(StringIO):
    """Sends what is written to it, as UTF-8."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self.send = send

    def write(self, text: str) -> int:
        """Send a text. Called by prompt_toolkit."""
        self.send(text.encode("utf-8", "replace"))
        return len(text)


class RemoteOutput(TerminalOutput):
    """The screen of a remote terminal.

    :ivar size: its size, which can be set; ``Screen.resized`` draws for it.
    :param write: sends bytes to the terminal.
    :param environment: the environment variables of the terminal, as in ``TerminalOutput``.
    """

    def __init__(
        self, write: Callable[[bytes], None], size: Size, environment: Mapping[str, str]
    ) -> None:
        self._stream = _Stream(write)
        self.size = size
        super().__init__(self._stream, lambda: size, environment)

    def get_size(self) -> Size:
        """Return the size that is drawn for."""
        columns, rows = self.size.columns, self.size.rows
        return Size(
            rows=min(max(rows, MIN_SIZE), MAX_SIZE), columns=min(max(columns, MIN_SIZE), MAX_SIZE)
        )

    def close(self) -> None:
        """Send nothing any more."""
        self._stream.send = lambda data: None


class RecentLines(History):
    """An input history that keeps the last lines in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=MAX_HISTORY)

    async def load(self) -> AsyncGenerator[str, None]:
        """Return the lines, newest first. Called by prompt_toolkit."""
        for line in reversed(self._lines.copy()):
            yield line

    def get_strings(self) -> list[str]:
        """Return the lines, oldest first. Called by prompt_toolkit."""
        return list(self._lines)

    def append_string(self, string: str) -> None:
        """Append a typed line. Called by prompt_toolkit."""
        self._lines.append(string)

    def load_history_strings(self) -> Iterable[str]:
        """Return the lines, newest first."""
        return reversed(self._lines)

    def store_string(self, string: str) -> None:
        """Do nothing: ``append_string`` keeps the line."""
