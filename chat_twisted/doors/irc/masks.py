"""Masks: patterns with ``*`` and ``?`` for names.

This module must not know what has the names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate

from chat_twisted.core.message import fold


def is_mask(word: str) -> bool:
    """Return whether a word has a wildcard."""
    return "*" in word or "?" in word


def matcher(mask: str) -> Callable[[str], bool]:
    """Return a function that says whether a folded name matches a mask. Its time is linear in the
    name for each ``*``, whatever the mask: ``translate`` makes a pattern that does not backtrack.
    """
    match = re.compile(translate(fold(mask).replace("[", "[[]"))).match
    return lambda name: match(name) is not None
