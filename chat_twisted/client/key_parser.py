"""Parses the bytes' text that a terminal sends into keys of prompt_toolkit.

The library's own parser stores every beginning of a sequence in a table of the process for ever,
and its time grows with the square of the length of sequences and pasted texts. A stranger could
stop the server with that. The time of this parser grows with the length, and it stores a bounded
number of characters.

It also takes the terminal's answer to the question for its device attributes out of the keys. This
module must not know what a key does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

ESCAPE, END_OF_PASTE = "\x1b", "\x1b[201~"

MAX_SEQUENCE = 64
"""Maximum number of characters of a sequence that is not in the table of keys."""

_LONGEST = max(map(len, ANSI_SEQUENCES))
_BEGINNINGS = {keys[:end] for keys in ANSI_SEQUENCES for end in range(1, len(keys))}

# A control sequence (ECMA-48, 5.4), and one whose end is still missing
_SEQUENCE = re.compile(rf"\x1b\[[0-?]{{0,{MAX_SEQUENCE}}}[ -/]{{0,4}}[@-~]")
_PART = re.compile(rf"\x1b\[[0-?]{{0,{MAX_SEQUENCE}}}[ -/]{{0,4}}\Z")

_ANSWER = re.compile(r"\x1b\[>([0-9;]{1,40})c")
_PART_OF_ANSWER = re.compile(r"\x1b\[>[0-9;]*")
_PARAMETERS = re.compile(r"\x1b\[[0-9;<>?]")


class KeyParser:
    """Has the methods of ``prompt_toolkit.input.vt100_parser.Vt100Parser``.

    Control sequences that are no keys are dropped: answers to questions, and the mouse.

    :param feed_key_callback: called with each key.
    :param answered: called with the terminal's device attributes, such as ``84;0;0``.
    :param max_paste: the number of characters of a pasted text that are kept; None for all.
    """

    def __init__(
        self,
        feed_key_callback: Callable[[KeyPress], None],
        answered: Callable[[str], None] = lambda attributes: None,
        max_paste: int | None = None,
    ) -> None:
        self.feed_key_callback = feed_key_callback
        self.answered = answered
        self._max_paste = max_paste
        self._waiting = ""  # the beginning of a sequence
        self._pasted: list[str] | None = None  # the parts of a text that is being pasted
        self._pasted_length = 0

    @property
    def is_pasting(self) -> bool:
        """Whether the end of a pasted text is still missing."""
        return self._pasted is not None

    @property
    def is_waiting(self) -> bool:
        """Whether the end of a sequence or of a pasted text is still missing."""
        return self.is_pasting or bool(self._waiting)

    def feed(self, data: str) -> None:
        """Parse input."""
        data, self._waiting = self._waiting + data, ""
        at = 0
        while at < len(data):
            at = self._parse(data, at) if self._pasted is None else self._paste(data, at)

    def flush(self) -> None:
        """Parse what is there of an unfinished sequence as keys of its own: nothing follows."""
        if self._pasted is not None or _PART_OF_ANSWER.fullmatch(self._waiting):
            return
        data, self._waiting = self._waiting, ""
        at = 0
        while at < len(data):
            at = self._parse(data, at, is_end=True)

    def _parse(self, data: str, at: int, *, is_end: bool = False) -> int:
        """Parse one key at an index; return the index after it."""
        character = data[at]
        if character != ESCAPE:
            self._key(ANSI_SEQUENCES.get(character, character), character)
            return at + 1
        rest = data[at : at + _LONGEST]
        if not is_end and (rest in _BEGINNINGS or _PART.match(data, at)):
            self._waiting = data[at:]
            return len(data)
        for end in range(len(rest), 1, -1):
            if (key := ANSI_SEQUENCES.get(rest[:end])) is not None:
                self._key(key, rest[:end])
                return at + end
        if _PARAMETERS.match(data, at) and (sequence := _SEQUENCE.match(data, at)):
            if answer := _ANSWER.fullmatch(sequence[0]):
                self.answered(answer[1])
            return sequence.end()
        self._key(Keys.Escape, ESCAPE)
        return at + 1

    def _key(self, key: str | Keys | tuple[Keys, ...], data: str) -> None:
        if key == Keys.BracketedPaste:
            self._pasted, self._pasted_length = [], 0
        elif isinstance(key, tuple):
            for one in key:
                self.feed_key_callback(KeyPress(one, data))
                data = ""  # it is inserted once
        else:
            self.feed_key_callback(KeyPress(key, data))

    def _paste(self, data: str, at: int) -> int:
        assert self._pasted is not None
        end = data.find(END_OF_PASTE, at)
        if end >= 0:
            self._keep(data[at:end])
            text, self._pasted = "".join(self._pasted), None
            self.feed_key_callback(KeyPress(Keys.BracketedPaste, text))
            return end + len(END_OF_PASTE)
        end = len(data)
        for start in range(max(at, end - len(END_OF_PASTE) + 1), end):
            if END_OF_PASTE.startswith(data[start:]):  # the beginning of the mark
                self._waiting, end = data[start:], start
                break
        self._keep(data[at:end])
        return len(data)

    def _keep(self, text: str) -> None:
        assert self._pasted is not None
        if self._max_paste is not None:
            text = text[: self._max_paste - self._pasted_length]
        if text:
            self._pasted.append(text)
            self._pasted_length += len(text)
