"""Wraps lines of styled text into the rows of a terminal.

The result is printable. This module must not know what the lines mean, or the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator

from prompt_toolkit.utils import get_cwidth

from chat_twisted.text import printable
from chat_twisted.ui.layout import Line

INDENT = 8
"""Columns by which the rest of a long line is indented, so that it does not look like a
new line."""

TAB = 4
"""Columns between two tab stops."""


def wrap(line: Line, columns: int) -> Iterator[Line]:
    """Wrap a line into rows of at most ``columns`` columns, preferably between words.

    The result is printable.
    """
    piece: Line = []
    used, space = 0, max(columns - 1, INDENT + 2)
    for style, text in line:
        text = printable(text).expandtabs(TAB)  # the terminal's own tabs could pass its edge
        start = cut = 0
        for i, character in enumerate(text):
            width = _width(text, i)
            if used + width > space:
                end, used = i, INDENT
                if cut > start:
                    word = INDENT + sum(_width(text, j) for j in range(cut, i))
                    if word + width <= space:
                        end, used = cut, word
                piece.append((style, text[start:end].rstrip(" ")))
                yield piece
                start = end
                piece = [("", " " * INDENT)]
            used += width
            if character == " ":
                cut = i + 1
        piece.append((style, text[start:]))
    yield piece


def _width(text: str, i: int) -> int:
    # VARIATION SELECTOR-16 turns a character into an emoji of two columns.
    return 2 if text.startswith("\ufe0f", i + 1) else get_cwidth(text[i])


def length(line: Line) -> int:
    """Return the number of characters in a line."""
    return sum(len(text) for _, text in line)


def shorten(line: Line, columns: int) -> Line:
    """Shorten the first piece of a line, so that the line fits into one row."""
    (style, text), *end = line
    room = min(sum(get_cwidth(part) for _, part in end), columns // 2)
    pieces = wrap([(style, text)], columns - 1 - room)
    first = next(pieces)
    return [first[0], (style, "…"), *end] if next(pieces, None) else line
