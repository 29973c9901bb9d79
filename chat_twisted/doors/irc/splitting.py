"""Splits texts of several or long lines into lines of IRC, and marks actions (CTCP).

Nothing of a text is cut off, except that empty lines are left out where IRC has no way to write
them. This module must not know sessions or capabilities.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from chat_twisted.doors.irc.grammar import MAX_LINE
from chat_twisted.text import FORMATTING, printable

LONGEST_CHARACTER = 4
"""Bytes of the longest character in UTF-8."""

_DELIMITER = "\x01"
ACTION_OCTETS = len("\x01ACTION \x01")
"""Bytes that ``action`` adds to a text."""

# Control characters except TAB, LF and the formatting of IRC; and characters that break lines, or
# change the direction of all text after them. The delimiter of CTCP is one of them: a text that
# begins with it would be a request to the client.
_SYMBOLS = {
    code: printable(chr(code))
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\t\n" + FORMATTING
}
_HARMFUL = re.compile(f"[{''.join(map(chr, _SYMBOLS))}]")

_ZERO_WIDTH_JOINER = "\u200d"
_FLAG_LETTERS = "\U0001f1e6", "\U0001f1ff"
# Characters beside the combining marks that belong to the one before them: the joiners, the skin
# tones and tags of emoji, vowels of Thai and Lao, Hangul letters that end a syllable, half-width
# voiced marks.
_EXTENDING = re.compile(
    "[\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u0e33\u0eb3\u1160-\u11ff"
    "\ud7b0-\ud7fb\uff9e\uff9f]"
)
_FIRST_MARK = "\u0300"


def text_limit(verb: str, target: str, source: str) -> int:
    """Return the maximum bytes of the text in one line of these parts."""
    return MAX_LINE - len(f":{source} {verb} {target} :".encode())


def harmless(text: str) -> str:
    """Replace the control characters that have no meaning on IRC by symbols. LF is kept."""
    return text.translate(_SYMBOLS) if _HARMFUL.search(text) else text


def split(text: str, octets: int, joins: Sequence[int] = ()) -> list[str]:
    """Split a text into lines that are not empty; see ``pieces``.

    Empty lines are left out, because IRC can't write them outside of multiline batches.
    """
    return [piece for piece, _ in pieces(text, octets, joins) if piece]


def pieces(text: str, octets: int, joins: Sequence[int] = ()) -> Iterator[tuple[str, bool]]:
    """Split a text into pieces of at most ``octets`` bytes: at its lines, and long lines after
    words if possible, otherwise between characters as people see them.

    All pieces, with an LF before each that does not continue a line, are the text again, after
    ``harmless`` and with LF instead of CR LF. If the text has nothing but line ends, it becomes one
    space, so that it is not without any line.

    :param octets: at least 4.
    :param joins: places in the text, ascending, where its sender split lines; these are used too.
    :return: the pieces, and whether each continues the line of the one before.
    """
    if octets < LONGEST_CHARACTER:
        raise ValueError("no room for a character")
    text = harmless(text.replace("\r\n", "\n"))
    if not text.strip("\n"):
        yield " ", False
        return
    short = octets // LONGEST_CHARACTER
    begin = following = 0
    for line in text.split("\n"):
        start, end = begin, begin + len(line)
        begin = end + 1
        if len(line) <= short and following == len(joins):  # the usual case
            yield line, False
            continue
        continues = False
        while following < len(joins) and joins[following] < end:
            if joins[following] > start:
                yield from _pieces(text[start : joins[following]], octets, continues)
                start, continues = joins[following], True
            following += 1
        yield from _pieces(text[start:end], octets, continues)


def _pieces(line: str, octets: int, continues: bool) -> Iterator[tuple[str, bool]]:
    data, start = line.encode(), 0
    while len(data) - start > octets:
        stop = _end(data, start, start + octets)
        yield data[start:stop].decode(), continues
        start, continues = stop, True
    yield data[start:].decode(), continues


def _end(data: bytes, start: int, stop: int) -> int:
    """Return where a piece that begins at ``start`` should end, at ``stop`` at the latest."""
    word = data.rfind(b" ", start, stop) + 1
    if word > start and not data[start:word].isspace():
        return word
    while data[stop] & 0xC0 == 0x80:  # don't split a character
        stop -= 1
    text = data[start : stop + LONGEST_CHARACTER].decode(errors="ignore")
    count = len(data[start:stop].decode())
    while count and _is_joined(text, count):
        count -= 1
    return start + len(text[:count].encode()) if count else stop


def _is_joined(text: str, i: int) -> bool:
    """Return whether the characters before and after a place are shown as one.

    These are the rules of Unicode (UAX 29), simplified for what people write.
    """
    before, after = text[i - 1], text[i]
    if after < _FIRST_MARK:
        return False
    first, last = _FLAG_LETTERS
    if first <= after <= last:  # a flag is a pair of letters
        letters = i
        while letters and first <= text[letters - 1] <= last:
            letters -= 1
        return (i - letters) % 2 == 1
    return (
        before == _ZERO_WIDTH_JOINER
        or unicodedata.category(after).startswith("M")
        or _EXTENDING.match(after) is not None
    )


def ctcp(text: str) -> tuple[str, str] | None:
    """Parse a text that is a CTCP message.

    The delimiter at its end may be missing: some software splits long messages so.

    :return: the command in upper case and its argument; None if it is an ordinary text.
    """
    if not text.startswith(_DELIMITER):
        return None
    command, _, argument = text[1:].removesuffix(_DELIMITER).partition(" ")
    return (command.upper(), argument) if command else None


def harmless_ctcp(text: str) -> str:
    """Do what ``harmless`` does, but keep the delimiters around a CTCP message."""
    if not text.startswith(_DELIMITER):
        return harmless(text)
    content = text[1:].removesuffix(_DELIMITER)
    return _DELIMITER + harmless(content) + text[1 + len(content) :]


def action(text: str) -> str:
    """Return a text of one line as a CTCP ACTION, of ``ACTION_OCTETS`` more bytes."""
    return f"{_DELIMITER}ACTION {harmless(text)}{_DELIMITER}"
