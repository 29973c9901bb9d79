"""Completes names, rooms, commands and their arguments on the terminal, by the table of commands.

This module must not know what a completed line does.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from chat_twisted.text import printable
from chat_twisted.ui import commands


class Names(Protocol):
    """The names that can be completed."""

    def names(self) -> list[str]:
        """Return the names of the other users who are present."""

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""


class CommandCompleter(Completer):
    """Completes names, rooms, commands and the arguments of commands."""

    def __init__(self, view: Callable[[], Names]) -> None:
        self._view = view

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Return the completions at the cursor. Called by prompt_toolkit."""
        before = document.text_before_cursor
        head, _, word = before.rpartition(" ")
        for text in self._candidates(head, word, first=" " not in before):
            if text.lower().startswith(word.lower()):
                yield Completion(text, -len(word))

    def _candidates(self, head: str, word: str, *, first: bool) -> Iterable[str]:
        view = self._view()
        if first and word.startswith("/"):
            return (f"{name} " for name in commands.command_names(screen=True))
        if first:
            # "ALL" is not offered for "@a": a user who types small letters means a name.
            names = view.names() if word.startswith("@a") else ["ALL", *view.names()]
            return [*(f"@{name}: " for name in names), *_rooms(view, ": ")] if word else ()
        form = commands.COMMANDS.get(head.split(" ", 1)[0])
        if form is None:  # within a message
            return [*(f"@{name} " for name in view.names()), *_rooms(view, " ")]
        at = len(head.split()) - 1
        kinds = form.completes[at].split("|") if at < len(form.completes) else []
        return itertools.chain.from_iterable(_completions(view, kind, word) for kind in kinds)


def _completions(view: Names, kind: str, word: str) -> Iterable[str]:
    """Return the completions of a kind of argument, see ``CommandSpec.completes``."""
    match kind:
        case "ROOM":
            return _rooms(view, " ")
        case "USER":
            prefix = "@" if word.startswith("@") else ""
            return (f"{prefix}{name} " for name in view.names())
        case "CONVERSATION":
            return [*(f"@{name} " for name in view.names()), *_rooms(view, " ")]
        case "TOPIC":
            return commands.TOPICS
        case "FILE":
            return _files(word)
    return (kind,)


def _rooms(view: Names, end: str) -> list[str]:
    return [room + end for room in view.rooms()]


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
