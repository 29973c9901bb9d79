"""Wraps lines of styled text into the rows of a terminal.

The result is printable. This module must not know what the lines mean, or the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from prompt_toolkit.utils import get_cwidth

from chat_twisted.text import printable
from chat_twisted.ui.layout import Line

INDENT = 8
"""Columns by which the rest of a long line is indented, so that it does not look like a
new line."""

TAB = 4
"""Columns between two tab stops."""

NO_BREAKS, BREAKS = "\x1b[?7l", "\x1b[?7h"
"""DECAWM: disable or enable line breaks by the terminal. A character that the terminal draws wider
than ``wrap`` assumes, such as some newer emoji, would otherwise continue on the next row."""

SEQUENCE = "[ZeroWidthEscape]"
"""The style of a piece that is a sequence for the terminal, as prompt_toolkit calls it."""

# Without spaces and square brackets, so that its rest, which the terminal puts at the edge, can't
# look like the beginning of another message.
_LINK = re.compile(r"https?://[\w.~:/?#@!$&'()*+,;=%-]+", re.ASCII)


def wrap(line: Line, columns: int, *, whole_links: bool = False) -> Iterator[Line]:
    """Wrap a line into rows of at most ``columns`` columns, preferably between words.

    The result is printable, if it is written with ``NO_BREAKS``.

    :param whole_links: leave web addresses in one piece, so that they can be opened and copied. One
        that is longer than a row is a row of its own, which the terminal breaks.
    """
    piece: Line = []
    used, space = 0, max(columns - 1, INDENT + 2)
    after_link = False
    for style, text in line:
        text = printable(text).expandtabs(TAB)  # the terminal's own tabs could pass its edge
        if text.isascii() and used + len(text) <= space:  # the usual case
            piece.append((style, text))
            used += len(text)
            continue
        start = cut = 0
        links = _links(text) if whole_links and "://" in text else {}
        for i, character in enumerate(text):
            if i < start:  # in a link that has a row of its own
                continue
            if i in links and used + links[i] > space:
                piece.append((style, text[start:i]))
                if used > INDENT:
                    yield piece
                    piece = [("", " " * INDENT)]
                start, used = i, INDENT
                if INDENT + links[i] > space:
                    start += links[i]
                    link = (style, text[i:start])
                    yield [*piece, (SEQUENCE, BREAKS), link, (SEQUENCE, NO_BREAKS)]
                    piece, after_link = [("", " " * INDENT)], True
                    start += text.startswith(" ", start)
                    continue
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
    if not after_link or any(text.strip() for _, text in piece):
        yield piece


def _links(text: str) -> dict[int, int]:
    """Return the length of each web address in a text, by its index."""
    return {found.start(): len(found[0]) for found in _LINK.finditer(text)}


def _width(text: str, i: int) -> int:
    # VARIATION SELECTOR-16 turns a character into an emoji of two columns.
    return 2 if text.startswith("\ufe0f", i + 1) else get_cwidth(text[i])


def length(line: Line) -> int:
    """Return the number of characters in a line."""
    return sum(len(text) for _, text in line)


def width(line: Line) -> int:
    """Return the number of columns of a line."""
    return sum(get_cwidth(text) for _, text in line)


def shorten(line: Line, columns: int) -> Line:
    """Shorten the first piece of a line, so that the line fits into one row."""
    (style, text), *end = line
    room = min(width(end), columns // 2)
    pieces = wrap([(style, text)], columns - 1 - room)
    first = next(pieces)
    return [first[0], (style, "…"), *end] if next(pieces, None) else line
