"""Styles program text in messages with Pygments, if that is installed.

The styles are ``class:code`` and ``class:code-…``. This module must not know where the text stands.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

_Line = list[tuple[str, str]]

MAX_CODE = 10_000
"""Maximum characters that are highlighted: longer text could block the terminal for long."""

LANGUAGES = (
    *("bash", "c", "c++", "console", "cpp", "css", "diff", "dockerfile", "go", "html", "ini"),
    *("java", "javascript", "js", "json", "kotlin", "lua", "make", "perl", "php", "py", "pycon"),
    *("python", "python3", "rb", "rst", "ruby", "rust", "sh", "shell", "sql", "swift", "toml"),
    *("ts", "typescript", "xml", "yaml", "yml"),
)
"""The languages that are highlighted. The sender of a message chooses one."""

_STYLES = (
    ("Comment", "class:code-comment"),
    ("Keyword", "class:code-keyword"),
    ("Name.Function", "class:code-name"),
    ("Name.Class", "class:code-name"),
    ("Literal.String", "class:code-string"),
    ("Literal.Number", "class:code-number"),
    ("Generic.Inserted", "class:code-string"),
    ("Generic.Deleted", "class:error"),
)


def highlight(lines: list[str], language: str) -> list[_Line]:
    """Return the lines with styles; all in ``class:code`` if they can't be highlighted.

    :param language: the word behind the fence.
    """
    text = "\n".join(lines)
    lexer = _lexer(language.lower()) if len(text) <= MAX_CODE else None
    plain: list[_Line] = [[("class:code", line)] for line in lines]
    if lexer is None:
        return plain
    found: list[_Line] = [[]]
    for token, part in lexer.get_tokens(text):
        first, *more = part.split("\n")
        found[-1].append((_style(token), first))
        found.extend([(_style(token), line)] for line in more)
    # A lexer replaces some characters, such as single CRs; the text must stay as it was sent.
    is_same = ["".join(part for _, part in line) for line in found] == lines
    return [[piece for piece in line if piece[1]] for line in found] if is_same else plain


@functools.cache
def _lexer(language: str) -> Any:
    """Return the lexer of a language, or None."""
    if language not in LANGUAGES:
        return None
    try:
        lexers = importlib.import_module("pygments.lexers")
        return lexers.get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except (ImportError, ValueError):  # an older Pygments knows fewer names, and raises the latter
        return None


@functools.cache
def _style(token: Any) -> str:
    name = str(token).removeprefix("Token.")
    return next((style for kind, style in _STYLES if name.startswith(kind)), "class:code")
