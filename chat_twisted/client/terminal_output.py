"""The screen of a terminal, as output of prompt_toolkit, and styles as its escape sequences.

This module must not know what is drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from io import StringIO
from typing import TextIO

from prompt_toolkit.data_structures import Size
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import BaseStyle

from chat_twisted.ui.layout import Line


class TerminalOutput(Vt100_Output):
    """Writes to a terminal. It does not request the cursor's position.

    :param stream: what is drawn is written to it.
    :param size: returns the size of the terminal.
    :param environment: the environment variables of the terminal: TERM, NO_COLOR and
        COLORTERM.
    """

    def __init__(
        self, stream: TextIO, size: Callable[[], Size], environment: Mapping[str, str]
    ) -> None:
        super().__init__(
            stream,
            size,
            term=environment.get("TERM", ""),
            default_color_depth=_depth(environment),
            enable_cpr=False,
        )
        self._is_gathering = self._keeps_paste = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write all that is drawn in this context at its end, at once."""
        if self._is_gathering:
            yield
            return
        self._is_gathering = True
        try:
            yield
        finally:
            self._is_gathering = False
            self.flush()

    def flush(self) -> None:
        """Write what has been drawn."""
        if not self._is_gathering:
            super().flush()

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


def _depth(environment: Mapping[str, str]) -> ColorDepth | None:
    """Return how many colours a terminal has; None if TERM says it."""
    if environment.get("NO_COLOR"):
        return ColorDepth.DEPTH_1_BIT
    if environment.get("COLORTERM") in ("truecolor", "24bit"):
        return ColorDepth.DEPTH_24_BIT
    return None


@cache
def pen(style: BaseStyle, depth: ColorDepth) -> Pen:
    """Return the pen of a style, one for all terminals."""
    return Pen(style, depth)


class Pen(dict[str, str]):
    """The escape sequence of each name of a style, such as ``class:time``."""

    def __init__(self, style: BaseStyle, depth: ColorDepth) -> None:
        self._style = style
        self._depth = depth
        self._seen: dict[str, bool] = {}

    def __missing__(self, name: str) -> str:
        stream = StringIO()
        output = Vt100_Output(stream, lambda: Size(rows=1, columns=1))
        output.set_attributes(self._style.get_attrs_for_style_str(name), self._depth)
        output.flush()
        self[name] = sequence = stream.getvalue()
        return sequence

    def write(self, row: Line) -> str:
        """Return a printable row with its escape sequences, without blanks at the end, which would
        be copied with it.
        """
        end = len(row)
        while end and not row[end - 1][1].strip(" ") and not self._is_seen(row[end - 1][0]):
            end -= 1
        text = "".join([self[style] + text for style, text in row[:end]])
        return text if not end or self._is_seen(row[end - 1][0]) else text.rstrip(" ")

    def _is_seen(self, name: str) -> bool:
        """Return whether blanks are seen in a style."""
        if name not in self._seen:
            found = self._style.get_attrs_for_style_str(name)
            self._seen[name] = bool(
                found.bgcolor or found.underline or found.strike or found.reverse
            )
        return self._seen[name]
