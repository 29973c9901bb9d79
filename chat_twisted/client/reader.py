"""Reads back in a conversation, on a screen of its own: the messages that have left the screen.

It scrolls, searches, and gets older and newer messages while they are needed; of those that it has
got it keeps a limited number. This module must not know how messages are requested, and what is
under the reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Protocol

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Filter, buffer_has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import ConditionalContainer, HSplit, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.processors import BeforeInput
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chat_twisted.client.keys import KeyLayout, reading_keys
from chat_twisted.client.prompt import InputBuffer
from chat_twisted.client.wrapping import shorten, wrap
from chat_twisted.logs import Logger
from chat_twisted.ui.errors import ClientError
from chat_twisted.ui.layout import Line
from chat_twisted.ui.values import Found, Received

MAX_ROWS = 10_000
"""Maximum number of rows that are kept beside the part that was got last."""

HEADING = "class:mark"
"""The style of a date between messages."""

MAX_SEARCH = 1000
"""Maximum size in bytes of the words that are searched for."""

HELP = "Esc back, / search"


class ReaderPages(Protocol):
    """A conversation that can be read in parts.

    The coroutines raise ``ClientError``.
    """

    @property
    def title(self) -> str:
        """The name of the conversation."""

    def page(self, *, before: int | None = None, after: int | None = None) -> Awaitable[Found]:
        """Return the last messages before a number, the first after one, or the newest."""

    def search(self, words: str) -> Awaitable[Found]:
        """Return messages of the conversation that contain the words."""

    def lines(self, messages: Sequence[Received]) -> list[Line]:
        """Lay out messages that follow each other."""


class _Part:
    """Messages that follow each other, as rows.

    :ivar first: the number of the first message.
    :ivar last: the number of the last message.
    """

    def __init__(self, messages: Sequence[Received], lines: list[Line], columns: int) -> None:
        self.first, self.last = messages[0].number, messages[-1].number
        self._lines = lines
        self.wrap(columns)

    def wrap(self, columns: int) -> None:
        """Make the rows for a width."""
        self._columns = columns
        self.rows: list[Line] = []
        self._starts: list[int] = []  # the index of each line's first row
        for line in self._lines:
            self._starts.append(len(self.rows))
            self.rows.extend(wrap(line, columns))

    def drop_heading(self, before: _Part) -> int:
        """Drop the date at the begin if it is in the part ``before``; return the number of rows by
        which this part is shorter.
        """
        heading, rows = self._lines[0], len(self.rows)
        if heading[0][0] != HEADING or heading not in before._lines:
            return 0
        del self._lines[0]
        self.wrap(self._columns)
        return rows - len(self.rows)

    def find(self, words: str) -> list[int]:
        """Return the index of the first row of each line that contains ``words``."""
        return [
            start
            for start, line in zip(self._starts, self._lines, strict=True)
            if words in "".join(text for _, text in line).casefold()
        ]


class ReaderLayout(KeyLayout):
    """The layout of a reader.

    :ivar reader: the reader that is shown.
    """

    reader: Reader


@cache
def reader_keys(*, vi: bool, local: bool) -> KeyBindings:
    """Return the keys of all readers; the parameters are those of ``keys.editing_keys``."""
    bindings = KeyBindings()

    def key(
        *keys: str, filter: Filter = ~buffer_has_focus, eager: bool = False
    ) -> Callable[[Callable[[Reader], None]], None]:
        def bind(function: Callable[[Reader], None]) -> None:
            def call(event: KeyPressEvent) -> None:
                layout = event.app.layout
                assert isinstance(layout, ReaderLayout)
                function(layout.reader)

            for name in keys:
                bindings.add(name, filter=filter, eager=eager)(call)

        return bind

    key("q", "escape", "c-c", "c-d")(lambda reader: reader._close())
    key("k", "up")(lambda reader: reader._scroll(-1))
    key("j", "down", "enter")(lambda reader: reader._scroll(1))
    key("pageup", "b", "c-b")(lambda reader: reader._scroll(1 - reader._height()))
    key("pagedown", "space", "c-f")(lambda reader: reader._scroll(reader._height() - 1))
    key("home", "g")(lambda reader: reader._scroll(-reader._count()))
    key("end", "G")(lambda reader: reader._end())
    key("/")(lambda reader: reader._ask_for_words())
    key("n")(lambda reader: reader._search(-1))
    key("N")(lambda reader: reader._search(1))
    key("escape", "c-c", "c-d", filter=buffer_has_focus, eager=True)(Reader._stop_typing)

    @bindings.add("escape", Keys.Any, filter=~buffer_has_focus)
    def _(event: KeyPressEvent) -> None:
        """Ignore keys with Alt, instead of leaving."""

    return reading_keys(bindings, vi=vi, local=local)


class Reader:
    """A conversation, to scroll and search in.

    :ivar layout: the layout to show.
    :param pages: the conversation.
    :param size: returns the size of the terminal.
    :param refresh: called when the layout must be drawn again.
    :param close: called when the user leaves.
    :param vi: see ``keys.editing_keys``, as for ``local``.
    """

    _log = Logger()

    def __init__(
        self,
        pages: ReaderPages,
        size: Callable[[], Size],
        refresh: Callable[[], None],
        close: Callable[[], None],
        *,
        vi: bool,
        local: bool,
    ) -> None:
        self._pages = pages
        self._size = size
        self._refresh = refresh
        self._close = close
        self._columns = size().columns
        self._parts: deque[_Part] = deque()
        self._more_older = self._more_newer = False
        self._top = 0  # the index of the first visible row
        self._words = ""  # that are searched for, in small letters
        self._hit = -1  # the row of the last hit
        self._hits: list[int] = []  # the numbers of messages that the server has found
        self._asked_for = ""  # the words for which it has
        self._waiting = False
        self._is_closed = False
        self._note = ""
        self._typed = InputBuffer(multiline=False, accept_handler=self._accept, max_size=MAX_SEARCH)
        self._text = FormattedTextControl(self._visible, focusable=True, show_cursor=False)
        typed = BufferControl(
            self._typed,
            input_processors=[BeforeInput("/")],
            include_default_input_processors=False,
        )
        root = HSplit(
            [
                Window(self._text),
                ConditionalContainer(
                    Window(FormattedTextControl(self._status), height=1, style="reverse"),
                    ~buffer_has_focus,
                ),
                ConditionalContainer(Window(typed, height=1), buffer_has_focus),
            ]
        )
        self.layout = ReaderLayout(root, self._text, reader_keys(vi=vi, local=local))
        self.layout.reader = self
        self._get(self._pages.page, self._newest)

    def dissolve(self) -> None:
        """Remove the references between the parts; see ``Screen.dissolve``."""
        self._is_closed = True
        for part in (*self.layout.find_all_windows(), self._text, self._typed, self.layout):
            vars(part).clear()

    # Keys

    def _stop_typing(self) -> None:
        self._typed.reset()
        self.layout.focus(self._text)

    def _ask_for_words(self) -> None:
        self._typed.reset()
        self.layout.focus(self._typed)

    def _accept(self, buffer: Buffer) -> bool:
        """Search for the words that were typed. Called by prompt_toolkit."""
        self.layout.focus(self._text)
        if words := buffer.text.strip().casefold():
            self._words, self._hit = words, min(self._top + self._height(), self._count())
        self._search(-1)
        return False

    # Rows

    def _height(self) -> int:
        return max(1, self._size().rows - 1)

    def _count(self) -> int:
        return sum(len(part.rows) for part in self._parts)

    def _rows(self) -> Iterator[Line]:
        return (row for part in self._parts for row in part.rows)

    def _bottom(self) -> int:
        """Return the index of the first visible row when the last row is visible."""
        return max(0, self._count() - self._height())

    def _scroll(self, rows: int) -> None:
        top = self._top + rows
        self._top = min(max(0, top), self._bottom())
        self._note = ""
        if rows < 0 and self._top < self._height() and self._more_older:
            self._get(lambda: self._pages.page(before=self._parts[0].first), self._older)
        elif rows > 0 and self._top + self._height() > self._bottom() and self._more_newer:
            self._get(lambda: self._pages.page(after=self._parts[-1].last), self._newer)
        elif top < 0:
            self._note = "That is the first one. "

    def _end(self) -> None:
        if self._more_newer:
            self._get(self._pages.page, self._newest)
        else:
            self._scroll(self._count())

    def _visible(self) -> StyleAndTextTuples:
        """Return the visible rows. Called by prompt_toolkit."""
        columns = self._size().columns
        if columns != self._columns:
            self._rewrap(columns)
        self._top = min(self._top, self._bottom())
        text: StyleAndTextTuples = []
        for row in islice(self._rows(), self._top, self._top + self._height()):
            text.extend(_marked(row, self._words))
            text.append(("", "\n"))
        return text[:-1]

    def _rewrap(self, columns: int) -> None:
        before = self._count()
        for part in self._parts:
            part.wrap(columns)
        self._columns = columns
        self._top = self._top * self._count() // max(1, before)
        self._hit = self._hit * self._count() // max(1, before)

    def _status(self) -> StyleAndTextTuples:
        """Return the last row. Called by prompt_toolkit."""
        note = "… " if self._waiting else self._note
        line = [("", f" {self._pages.title} "), ("", f"{note}{HELP}")]
        return [*next(wrap(shorten(line, self._columns), self._columns))]

    # Parts

    def _get(self, read: Callable[[], Awaitable[Found]], then: Callable[[Found], None]) -> None:
        """Read messages, then call ``then`` with them, unless others are being read."""

        async def get() -> None:
            try:
                found = await read()
            except ClientError as problem:
                self._waiting = False
                self._note = f"{problem}. "
            else:
                self._waiting = False
                if self._is_closed:
                    return
                then(found)
                if self._more_older and self._count() < self._height():
                    self._scroll(-1)
            self._refresh()

        if not self._waiting:
            self._waiting, self._note = True, ""
            Deferred.fromCoroutine(get()).addErrback(self._failed)

    def _failed(self, fault: Failure) -> None:
        self._log.failure("in the reader", fault)

    def _part(self, found: Found) -> _Part:
        return _Part(found.messages, self._pages.lines(found.messages), self._columns)

    def _newest(self, found: Found) -> None:
        self._show_only(found, more_newer=False)

    def _show_only(self, found: Found, *, more_newer: bool) -> None:
        self._parts.clear()
        self._hit = -1
        self._more_older, self._more_newer = found.more, more_newer
        if found.messages:
            self._parts.append(self._part(found))
        else:
            self._note = "There are no messages. "
        self._top = self._bottom()

    def _older(self, found: Found) -> None:
        self._more_older = found.more
        if not found.messages:
            return
        part = self._part(found)
        added = len(part.rows) - self._parts[0].drop_heading(part)
        self._parts.appendleft(part)
        self._move(added)
        while len(self._parts) > 2 and self._count() - added > MAX_ROWS:
            self._parts.pop()
            self._more_newer = True

    def _newer(self, found: Found) -> None:
        self._more_newer = found.more
        if not found.messages:
            return
        part = self._part(found)
        part.drop_heading(self._parts[-1])
        self._parts.append(part)
        while len(self._parts) > 2 and self._count() - len(part.rows) > MAX_ROWS:
            self._move(-len(self._parts.popleft().rows))
            self._more_older = True

    def _move(self, rows: int) -> None:
        """Adapt to rows that were added or removed above."""
        self._top += rows
        if self._hit >= 0:
            self._hit = max(0, self._hit + rows)

    # Search

    def _search(self, step: int) -> None:
        """Go to the next hit: an older one for the step -1, or a newer one for 1."""
        if not self._words or not self._parts:
            return
        self._note = ""
        hits, begin = [], 0
        for part in self._parts:
            hits += [begin + row for row in part.find(self._words)]
            begin += len(part.rows)
        if self._hit < 0:
            self._hit = self._count() if step < 0 else self._top
        if step < 0:
            hit = max((row for row in hits if row < self._hit), default=None)
        else:
            hit = min((row for row in hits if row > self._hit), default=None)
        if hit is not None:
            self._hit = hit
            self._top = min(max(0, hit - self._height() // 2), self._bottom())
        elif self._asked_for == self._words:
            self._turn_to_hit(step)
        elif self._more_older or self._more_newer:
            words = self._words

            def found(found: Found) -> None:
                self._asked_for = words
                self._hits = [message.number for message in found.messages]
                self._turn_to_hit(step)

            self._get(lambda: self._pages.search(words), found)
        else:
            self._note = "Not found. "

    def _turn_to_hit(self, step: int) -> None:
        """Show the next message that the server has found outside of the parts."""
        if step < 0:
            hit = max((n for n in self._hits if n < self._parts[0].first), default=None)
        else:
            hit = min((n for n in self._hits if n > self._parts[-1].last), default=None)
        if hit is None:
            self._note = "Not found. "
            return

        def show(found: Found) -> None:
            self._show_only(found, more_newer=True)
            # The words of the server's search need not follow each other in the text.
            self._hit = max(self._parts[-1].find(self._words) if self._parts else [], default=-1)

        self._get(lambda: self._pages.page(before=hit + 1), show)


def _marked(row: Line, words: str) -> StyleAndTextTuples:
    """Return a row with the words that were found in it marked."""
    marked: StyleAndTextTuples = []
    for style, text in row:
        folded = text.casefold()
        if not words or words not in folded or len(folded) != len(text):
            marked.append((style, text))
            continue
        end = 0
        while (start := folded.find(words, end)) >= 0:
            marked.append((style, text[end:start]))
            end = start + len(words)
            marked.append((f"{style} class:found", text[start:end]))
        marked.append((style, text[end:]))
    return marked
