"""Terms: how texts are written for the full-text index, and how users' queries ask it.

The tokenizer of SQLite takes a run of letters and digits as one word. Chinese, Japanese and Korean
have no blanks between words, so that nobody would find a word inside a sentence; and it knows no
``C++``. Hence both texts and queries are rewritten before the tokenizer reads them:

- A run of Chinese, Japanese or Korean characters becomes its pairs and its last character:
  ``東京都`` becomes ``東京 京都 都``. A word of several characters is found as pairs in a row, and
  one character as the beginning of a pair.
- Colours of IRC are left out, because their numbers would be parts of words.
- A word with ``+`` or ``#`` at its end is followed by the same word with letters of the private use
  area for these: ``C++`` is found by ``C`` too, but ``C`` not by ``C++``.

This module must not know tables, or who may read a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from chat_twisted.text import unformatted

_UNSPACED = (
    "\u1100-\u11ff\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u318e"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uffdc"
    "\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_UNSPACED}]+")
_MARKED = re.compile(r"\b(\w{1,32})([+#]{1,8})(?![\w+#])")
_MARKS = str.maketrans("+#", "\ue02b\ue023")

MAY_CHANGE = (
    "(length(text) != length(CAST(text AS BLOB)) OR instr(text, '+') OR instr(text, '#')"
    " OR instr(text, char(3)) OR instr(text, char(4)))"
)
"""An SQL condition for texts that ``rewrite`` may change, so that other words are found: they are
not ASCII, or have a mark or a colour."""


def rewrite(text: str) -> str:
    """Return a text as the tokenizer has to read it."""
    if "\x03" in text or "\x04" in text:
        text = unformatted(text)
    return _MARKED.sub(_repeat_marked, _RUN.sub(_pairs_and_last, text))


def _pairs_and_last(run: re.Match[str]) -> str:
    return f" {_pairs(run[0])} {run[0][-1]} "


def _pairs(run: str) -> str:
    return " ".join(map("".join, pairwise(run)))


def _repeat_marked(word: re.Match[str]) -> str:
    return f"{word[1]} {word[1]}{word[2].translate(_MARKS)}"


_TERM = re.compile(r'"([^"]*)(?:"|\Z)(\*?)|([^\s"]+)')
_OPERATORS = ("AND", "OR", "NOT")

SHORTEST_PREFIX = 2
"""Words with fewer characters are not taken as prefixes unless they have a star."""


def expressions(query: str) -> list[str]:
    """Return the FTS5 expressions of a query, in the order in which they are to be tried.

    All words must occur. ``"two words"`` is a phrase, ``word*`` a prefix. ``OR``, ``NOT`` and
    ``AND`` between two words are operators; all else is words, so that no query is invalid.

    :return: the query as it is; then, if it has words that may be prefixes, with these as prefixes.
    """
    typed = [match.groups() for match in _TERM.finditer(query.replace("\0", " "))]
    terms = [term for term in typed if _has_word(term[0] if term[2] is None else term[2])]
    exact: list[str] = []
    wide: list[str] = []
    after_term = False
    for number, (phrase, star, word) in enumerate(terms):
        if word in _OPERATORS and after_term and number + 1 < len(terms):
            exact.append(word)
            wide.append(word)
            after_term = False
            continue
        text = (phrase if word is None else word.rstrip("*")) or ""
        prefix = star == "*" or (word or "").endswith("*")
        may_widen = word is not None and len(word) >= SHORTEST_PREFIX and exact[-1:] != ["NOT"]
        exact.append(_match(text, prefix=prefix))
        wide.append(_match(text, prefix=prefix or may_widen))
        after_term = True
    found = dict.fromkeys([" ".join(exact), " ".join(wide)])
    return [expression for expression in found if expression]


def _has_word(text: str | None) -> bool:
    return any(map(str.isalnum, text or ""))


def _match(text: str, *, prefix: bool) -> str:
    """Return an expression for a word or a phrase as a user has typed it."""
    parts = list(_parts(text, prefix))
    return " ".join(f'"{part}"{"*" if starred else ""}' for part, starred in parts)


def _parts(text: str, prefix: bool) -> Iterator[tuple[str, bool]]:
    """Split a text at the runs of characters without blanks, each of which is a phrase of pairs.

    :return: yields the parts, and whether they are prefixes.
    """
    end = 0
    for run in _RUN.finditer(text):
        if _has_word(before := text[end : run.start()]):
            yield rewrite(before), False
        yield (_pairs(run[0]), False) if len(run[0]) > 1 else (run[0], True)
        end = run.end()
    if _has_word(after := text[end:]):
        yield rewrite(after), prefix
