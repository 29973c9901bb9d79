"""Completes names, rooms, commands and their arguments on the terminal, by the table of commands.

This module must not know what a completed line does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Protocol

from prompt_toolkit.document import Document

from chat_twisted.text import printable
from chat_twisted.ui import commands

MAX_COMPLETIONS = 1000
"""Maximum number of completions of a word."""


class Names(Protocol):
    """The names that can be completed."""

    def names(self) -> list[str]:
        """Return the names of the other users who are present."""

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""

    def last_speaker(self) -> str:
        """Return the name of the user who spoke to this user last; empty if nobody did."""


class CommandCompleter:
    """Completes names, rooms, commands and the arguments of commands.

    :param names: returns the names.
    :param files: whether names of files are completed.
    """

    def __init__(self, names: Callable[[], Names], *, files: bool) -> None:
        self._names = names
        self._files = files

    def completions(self, before: str) -> Iterator[str]:
        """Return the completions of the last word of ``before``, the text before the cursor."""
        start = max(map(before.rfind, " \t\n")) + 1
        head, word = before[:start], before[start:]
        for text, key in self._candidates(head, word):
            if key.lower().startswith(word.lower()):
                yield text

    def _candidates(self, head: str, word: str) -> Iterable[tuple[str, str]]:
        """Return completions, each with the text that its beginning is typed of."""
        names = self._names()
        if not head:
            return self._first(names, word)
        form = commands.COMMANDS.get(head.split()[0]) if head.strip() else None
        if form is None:  # within a message
            if not word:
                return ()
            bare = [] if word[0] in "@#" else [f"{name} " for name in names.names()]
            return _same([*bare, *(f"@{name} " for name in names.names()), *_rooms(names, " ")])
        at = len(head.split()) - 1
        kinds = form.completes[at].split("|") if at < len(form.completes) else []
        return _same(chain.from_iterable(self._arguments(names, kind, word) for kind in kinds))

    def _first(self, names: Names, word: str) -> Iterable[tuple[str, str]]:
        if not word:
            speaker = names.last_speaker()
            return _same([f"@{speaker}: "] if speaker else [])
        if word[0] == "/":
            return _same(f"{name} " for name in commands.command_names(screen=True))
        if word[0] == "#":
            return _same(_rooms(names, ": "))
        if word[0] == "@":
            # "ALL" is not offered for "@a": a user who types small letters means a name.
            users = names.names() if word.startswith("@a") else ["ALL", *names.names()]
            return _same(f"@{name}: " for name in users)
        return ((f"@{name}: ", name) for name in names.names())

    def _arguments(self, names: Names, kind: str, word: str) -> Iterable[str]:
        """Return the completions of a kind of argument, see ``CommandSpec.completes``."""
        match kind:
            case "ROOM":
                return _rooms(names, " ")
            case "USER":
                prefix = "@" if word.startswith("@") else ""
                return (f"{prefix}{name} " for name in names.names())
            case "CONVERSATION":
                return [*(f"@{name} " for name in names.names()), *_rooms(names, " ")]
            case "TOPIC":
                return commands.TOPICS
            case "FILE":
                return _files(word) if self._files else ()
        return (kind,)


def _same(texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((text, text) for text in texts)


def _rooms(names: Names, end: str) -> list[str]:
    return [room + end for room in names.rooms()]


def _files(word: str) -> Iterator[str]:
    folder, name = os.path.split(word)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            found = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)
    except OSError:
        return
    for entry in found:
        if (name or not entry.startswith(".")) and printable(entry) == entry:
            yield os.path.join(folder, entry)


class CompletionRound:
    """The completions that repeated presses of Tab go through, and at last the typed text again.

    :param completer: returns the completions.
    """

    def __init__(self, completer: CommandCompleter) -> None:
        self._completer = completer
        self._texts: list[str] = []
        self._typed = Document()  # before the round, and after its last completion
        self._at = 0

    def _document(self) -> Document:
        if self._at == len(self._texts):
            return self._typed
        before, after = self._typed.text_before_cursor, self._typed.text_after_cursor
        completed = before[: max(map(before.rfind, " \t\n")) + 1] + self._texts[self._at]
        return Document(completed + after, len(completed))

    def turn(self, document: Document, step: int) -> Document:
        """Return the next document, or ``document`` if there is no completion.

        :param document: the document as it is now; if it is not the last one of this round, a new
            round begins.
        :param step: 1 for the next completion, or -1 for the one before.
        """
        if not self.shown(document)[0]:
            found = self._completer.completions(document.text_before_cursor)
            self._texts = list(islice(found, MAX_COMPLETIONS))
            self._typed = document
            self._at = len(self._texts)
        self._at = (self._at + step) % (len(self._texts) + 1)
        return self._document()

    def shown(self, document: Document) -> tuple[Sequence[str], int]:
        """Return the completions and the index of the one that ``document`` has.

        There are none if ``document`` is not of this round, or has the only completion: then Tab
        goes on with the next word.
        """
        if len(self._texts) > 1 and self._document() == document:
            return self._texts, self._at
        return (), 0
