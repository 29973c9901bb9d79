"""What of a foreign text may reach a terminal or a log: the one place that decides.

Whoever writes where people look (a screen, standard output or error, a log) passes the text through
here last. Nothing here knows where a text is from or where it goes.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

MAX_MARKS = 8
"""How many marks without a width of their own may stand on one character. Scripts need up to five
or so; a pile of them is drawn over the lines above and below."""

# Replaced is what acts on a terminal (the control characters), what turns the direction of a text
# round or is not seen at all (the format characters, with those parts of Unicode that are reserved
# for more of them), and what has no meaning of its own (halves of surrogate pairs, noncharacters,
# private use). Left are the two joiners, which emoji and several scripts are written with, and the
# signs of numbers and the like that Unicode counts as format though they are seen. What is not
# assigned yet elsewhere is left: it will be a letter or a sign, and newer than this Python.
_UNPRINTABLE = re.compile(
    "["
    "\x00-\x08\x0a-\x1f\x7f-\x9f"  # control characters, but for TAB
    "\u2028-\u202e\u2066-\u2069\u200e\u200f\u061c"  # line separators, direction
    "\u00ad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags; between the two are variation selectors
    "\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 15))
    + "]"
)

# Marks are neither letters nor digits, so a run of other signs is all that must be looked at; of a
# long one a part at a time, which bounds the memory for it.
_SIGNS = re.compile(rf"[^\w\s\x00-\x7f]{{{MAX_MARKS + 1},4096}}")
_JOINERS = "\u200c\u200d"

MAX_LINES = 100_000
"""Lines of a text that are shown as such."""


def _sign(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the block "Control Pictures" has one for each of C0
    return {0x7F: "\u2421", 0xAD: "-"}.get(code, "\ufffd")


def _replace(text: str, replacement: Callable[[str], str]) -> str:
    is_printable = text.isprintable() or text.replace("\t", "").isprintable()
    if is_printable and text.isascii():  # as most are
        return text

    def thin(run: re.Match[str]) -> str:
        characters, marks = list(run[0]), 0
        for i, character in enumerate(characters):
            is_mark = unicodedata.category(character) in ("Mn", "Me") or character in _JOINERS
            marks = marks + 1 if is_mark else 0
            if marks > MAX_MARKS:
                characters[i] = replacement(character)
        return "".join(characters)

    text = _SIGNS.sub(thin, text)
    if is_printable:
        return text
    return _UNPRINTABLE.sub(lambda found: replacement(found[0]), text)


def printable(text: str) -> str:
    """Return ``text`` with each character but TAB that acts on a terminal, turns a text round or
    can't be seen replaced by one that only looks like it, or by U+FFFD.

    One character becomes one character, so that lengths stay. Line ends are replaced too; see
    ``printable_lines``.
    """
    return _replace(text, _sign)


def lines(text: str) -> list[str]:
    """Return the lines of what somebody has said, without the end of the last. Past ``MAX_LINES``
    the rest is one, with signs for the line ends in it.
    """
    found = text.removesuffix("\n").split("\n", MAX_LINES - 1)
    found[-1] = found[-1].replace("\n", _sign("\n"))
    return [line.removesuffix("\r") for line in found]


def printable_lines(text: str) -> str:
    """Return the same, with the line ends (LF) of ``text`` left as they are."""
    return "\n".join(map(printable, text.split("\n")))


def escape_json(text: str) -> str:
    """Return JSON that means the same as ``text``, with an escape for each character that
    ``printable`` would replace.

    :param text: JSON without blanks between its parts but spaces: ``json.dumps`` writes no others.
    """
    return _replace(text, lambda character: json.dumps(character)[1:-1])
