"""Finds the word that was meant by a mistyped one: a command, a room or a name.

This module must not know what the words stand for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice

from chat_twisted.core.message import fold

MAX_WORD = 40
"""Maximum characters of a word for which a similar one is searched. Names are shorter."""

MAX_COMPARED = 500
"""Maximum number of candidates that are compared letter by letter, the most similar ones."""


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Return the candidate that is most similar to a word, or an empty text if none is similar.

    A candidate is similar if one mistake leads to it: a letter that is missing, added or wrong, or
    two letters in the wrong order; two mistakes, if the word has more than five characters. Upper
    and lower case are the same. Among equals the first in alphabetical order is taken. The search
    takes about 100 ms for 100,000 candidates.
    """
    key = fold(word)
    if not key or len(key) > MAX_WORD:
        return ""
    allowed = 2 if len(key) > 5 else 1
    shortest, longest, letters = len(key) - allowed, len(key) + allowed, set(key)
    # Candidates by the number of letters that only they or only the word have: a cheap test, after
    # which few need the exact one.
    like: list[list[str]] = [[] for _ in range(2 * allowed + 1)]
    for candidate in candidates:
        if shortest <= len(candidate) <= longest:
            different = len(letters.symmetric_difference(fold(candidate)))
            if different < len(like):
                like[different].append(candidate)
    found = []
    for candidate in islice(chain.from_iterable(like), MAX_COMPARED):
        other = fold(candidate)
        distance = _distance(key, other)
        if distance <= allowed:
            found.append((distance, other[:1] != key[:1], other, candidate))
    return min(found)[3] if found else ""


def _distance(one: str, other: str) -> int:
    """Return the number of mistakes between two words (the distance of Damerau and Levenshtein,
    in which no letter is moved twice).
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
