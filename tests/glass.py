"""A simulated terminal that shows the output of prompt_toolkit."""

from __future__ import annotations

import re

from prompt_toolkit.utils import get_cwidth

_TOKEN = re.compile(
    r"\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)|\x1b\[([?>0-9;]*)([A-Za-z])|.", re.S
)

_STYLE_OR_MODE = "mhl"


class Glass:
    """A terminal of ``columns`` columns, from which no line is scrolled out. It has an alternate
    screen.

    It wraps lines at its edge unless that is disabled, has tab stops every eight columns, and shows
    a character followed by VARIATION SELECTOR-16 in two columns, as newer terminals do. It treats
    an unknown sequence as an attack, and fails.

    :ivar raw: all output.
    :ivar asked: the number of questions for the terminal's device attributes.
    :ivar told: the operating system commands, such as notifications.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.raw = ""
        self.rings = 0
        self.asked = 0
        self.told: list[str] = []
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0
        self._breaks = True
        self._under = self._lines, 0, 0  # the screen and the cursor under the alternate screen

    def write(self, text: str) -> None:
        self.raw += text
        for token in _TOKEN.finditer(text):
            if token["osc"] is not None:
                self.told.append(token["osc"])
            elif token[3]:
                self._control(token[2], token[3])
            else:
                self._put(token[0])

    def flush(self) -> None:
        pass

    @property
    def lines(self) -> list[str]:
        """The visible text, without trailing blanks."""
        return ["".join(line).rstrip() for line in self._lines]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def last(self) -> str:
        """The current line, up to the cursor."""
        return "".join(self._line()[: self._column])

    def _line(self) -> list[str]:
        while len(self._lines) <= self._row:
            self._lines.append([])
        line = self._lines[self._row]
        line.extend(" " * (self._column - len(line)))
        return line

    def _control(self, argument: str, kind: str) -> None:
        number = int(argument) if argument.isdigit() else 1
        match kind:
            case "A":
                self._row = max(self._row - number, 0)
            case "B":
                self._row += number
            case "C":
                self._column = min(self._column + number, self.columns - 1)
            case "D":
                self._column = max(min(self._column, self.columns - 1) - number, 0)
            case "H":
                row, _, column = argument.partition(";")
                self._row, self._column = (max(int(n or 1) - 1, 0) for n in (row, column))
            case "J" if argument == "2":
                self._lines = [[]]
            case "J":
                del self._line()[self._column :], self._lines[self._row + 1 :]
            case "K":
                del self._line()[self._column :]
            case "H":
                self._row = self._column = 0
            case "h" if argument == "?1049":
                self._under = self._lines, self._row, self._column
                self._lines, self._row, self._column = [[]], 0, 0
            case "l" if argument == "?1049":
                self._lines, self._row, self._column = self._under
            case "c" if argument == ">":
                self.asked += 1
            case _ if argument == "?7":
                self._breaks = kind == "h"
            case _:
                assert kind in _STYLE_OR_MODE, f"\\x1b[{argument}{kind}"

    def _put(self, character: str) -> None:
        match character:
            case "\r":
                self._column = 0
            case "\n":
                self._row += 1
                self._line()
            case "\b":
                self._column = max(self._column - 1, 0)
            case "\t":
                self._column = min((self._column // 8 + 1) * 8, self.columns - 1)
            case "\a":
                self.rings += 1
            case "\ufe0f":
                self._line()[self._column : self._column + 1] = [""]
                self._column = min(self._column + 1, self.columns)
            case _:
                assert character >= " ", ascii(character)
                assert not "\x7f" <= character < "\xa0", ascii(character)
                self._show(character, get_cwidth(character))

    def _show(self, character: str, width: int) -> None:
        if not width and self._column:
            self._line()[self._column - 1] += character
            return
        if self._column + width > self.columns:
            if self._breaks:
                self._row, self._column = self._row + 1, 0
            else:
                self._column = self.columns - width
        self._line()[self._column : self._column + width] = [character, *[""] * (width - 1)]
        self._column += width
