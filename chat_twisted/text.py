"""Makes foreign text safe to show on a terminal or in a log.

Code that writes to a screen, standard output, standard error or a log must pass the text through
this module last. This module must not know where a text is from or where it goes.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

MAX_MARKS = 8
"""Maximum number of combining marks on one character. Scripts need up to about five; a larger pile
is drawn over the lines above and below."""

# This matches control characters; format characters that change the direction of text or are
# invisible, with the Unicode ranges reserved for more of them; and code points without a meaning of
# their own (surrogates, noncharacters, private use). It does not match the two joiners, which emoji
# and several scripts need; visible format characters such as number signs; and unassigned code
# points elsewhere, which may be letters that are newer than this Python.
_UNPRINTABLE = re.compile(
    "["
    "\x00-\x08\x0a-\x1f\x7f-\x9f"  # control characters except TAB
    "\u2028-\u202e\u2066-\u2069\u200e\u200f\u061c"  # line separators, direction
    "\u00ad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    # tags; variation selectors, between these two ranges, are kept
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
    "\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 15))
    + "]"
)

# Marks are neither letters nor digits, so only runs of other characters are examined. A long run is
# examined in parts, which bounds the memory.
_SIGNS = re.compile(rf"[^\w\s\x00-\x7f]{{{MAX_MARKS + 1},4096}}")
_JOINERS = "\u200c\u200d"

FORMATTING = "\x02\x03\x04\x0f\x11\x16\x1d\x1e\x1f"
"""The control characters by which IRC clients format text: bold, colour, colour in hexadecimal,
reset, monospace, reverse, italics, strikethrough and underline."""

_FORMATTED = re.compile(
    r"\x03(?:[0-9]{1,2}(?:,[0-9]{1,2})?)?|\x04(?:[0-9A-Fa-f]{6}(?:,[0-9A-Fa-f]{6})?)?"
    f"|[{FORMATTING}]"
)

MAX_LINES = 100_000
"""Maximum number of lines into which a text is split for display."""


def _sign(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the block "Control Pictures" has a picture of each C0 control
    return {0x7F: "\u2421", 0xAD: "-"}.get(code, "\ufffd")


def _replace(text: str, replacement: Callable[[str], str]) -> str:
    is_printable = text.isprintable() or text.replace("\t", "").isprintable()
    if is_printable and text.isascii():  # the usual case
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


def unformatted(text: str) -> str:
    """Return a text without the formatting of IRC clients: colours, bold and others."""
    return text if text.isprintable() else _FORMATTED.sub("", text)


def printable(text: str) -> str:
    """Replace characters that could act on a terminal.

    Control characters except TAB, characters that change the direction of text, and invisible ones
    are replaced by a harmless lookalike or U+FFFD. Each character is replaced by one character, so
    lengths don't change. Line ends are replaced too; see ``printable_lines``.
    """
    return _replace(text, _sign)


def lines(text: str) -> list[str]:
    """Split a text into lines, ignoring the end of the last line.

    A text has at most ``MAX_LINES`` lines; the last one contains the rest, with visible symbols for
    its line ends.
    """
    found = text.removesuffix("\n").split("\n", MAX_LINES - 1)
    found[-1] = found[-1].replace("\n", _sign("\n"))
    return [line.removesuffix("\r") for line in found]


def printable_lines(text: str) -> str:
    """Do the same as ``printable``, but keep the line ends (LF) of ``text``."""
    return "\n".join(map(printable, text.split("\n")))


def escape_json(text: str) -> str:
    """Return equivalent JSON that escapes each character that ``printable`` would replace.

    :param text: JSON with no white space between its tokens except spaces, as ``json.dumps``
        writes.
    """
    return _replace(text, lambda character: json.dumps(character)[1:-1])
