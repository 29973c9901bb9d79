"""Lines that stay, while they wait to be written to the terminal.

They are counted, so that who shows lines can stop before too many wait. This module must not know
the prompt, or where the lines come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from prompt_toolkit.styles import BaseStyle

from chat_twisted.client.terminal_output import TerminalOutput, pen
from chat_twisted.client.wrapping import BREAKS, NO_BREAKS, SEQUENCE, length, wrap
from chat_twisted.ui.layout import Line

MAX_WAITING, MAX_WAITING_TEXT = 2000, 4 * 1024 * 1024
"""Lines, and characters in them, that may wait for the terminal."""


class WaitingLines:
    """The lines that wait, in order."""

    def __init__(self, output: TerminalOutput, style: BaseStyle) -> None:
        self._output = output
        self._style = style
        self._lines: deque[Line] = deque()
        self._text = 0  # their characters
        self._written = self._added = 0  # the numbers of lines so far
        # what to call when so many lines have been written
        self._when_written: deque[tuple[int, Callable[[], None]]] = deque()

    def __len__(self) -> int:
        """Return the number of lines that wait."""
        return len(self._lines)

    @property
    def fullness(self) -> float:
        """The part of what may wait that waits; over 1 if too much does."""
        return max(len(self._lines) / MAX_WAITING, self._text / MAX_WAITING_TEXT)

    def add(self, lines: Sequence[Line]) -> None:
        """Let further lines wait."""
        self._lines.extend(lines)
        self._added += len(lines)
        self._text += sum(map(length, lines))

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` in ``tell_written`` when all lines so far are written; at once if none
        waits.
        """
        if self._lines:
            self._when_written.append((self._added, then))
        else:
            then()

    def write(self, count: int) -> None:
        """Write the first ``count`` lines, or all if there are fewer, where the cursor is."""
        output = self._output
        columns, count = output.get_size().columns, min(count, len(self._lines))
        styles = pen(self._style, output.get_default_color_depth())
        if count:
            output.reset_attributes()
            output.write_raw(NO_BREAKS)
        for _ in range(count):
            line = self._lines.popleft()
            self._text -= length(line)
            for row in wrap(line, columns, whole_links=True):
                for style, text in row:
                    output.write_raw(text if style == SEQUENCE else styles[style] + text)
                output.write_raw(styles[""] + "\r\n")
        if count:
            output.write_raw(BREAKS)
            output.flush()
        self._written += count

    def tell_written(self) -> None:
        """Make the calls of ``when_written`` that are due."""
        while self._when_written and self._when_written[0][0] <= self._written:
            self._when_written.popleft()[1]()

    def clear(self) -> None:
        """Forget all lines, and make no further call of ``when_written``."""
        self._lines.clear()
        self._when_written.clear()
        self._text = 0
