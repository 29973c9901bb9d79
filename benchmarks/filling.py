"""Fills the archive of a benchmark before the server starts."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chat_twisted.core.commands import Command, Options, Start
from chat_twisted.core.entries import Entry, Progress
from chat_twisted.core.errors import ChatError
from chat_twisted.core.facts import Fact, UserCame
from chat_twisted.core.message import Message
from chat_twisted.core.snapshot import load
from chat_twisted.storage import archive, index, tables

STEP = 1000
"""Number of messages that are written and indexed in one transaction."""

UNLIMITED = Options(rooms=None, address_rooms=None, held=10**6, address_held=None)


def add_messages(folder: Path, messages: Iterable[Message]) -> None:
    """Add messages to the archive of a state folder, and index them."""
    opened = archive.prepare(folder)
    version, time, _ = opened.snapshot.progress
    connection = archive.connect(folder / archive.FILE)
    index.attach(connection, folder)
    cursor = connection.cursor()
    for some in _batched(messages, STEP):
        version, time = version + 1, max(time, some[-1].logged)
        tables.write(cursor, some, Progress(version, time, some[-1].number))
        index.extend(cursor, STEP)
        connection.commit()
    connection.close()


def decide(folder: Path, commands: Iterable[Command]) -> None:
    """Decide commands by the state of a folder, and write the facts to its archive. New users may
    also read all earlier messages.

    :raises ChatError: if a command is refused.
    """
    opened = archive.prepare(folder)
    state = load(opened.snapshot)
    changes: list[Fact] = []
    for command in itertools.chain([Start(0, UNLIMITED, opened.after)], commands):
        facts, result = state.apply(Entry(state.time, command))
        if isinstance(result, ChatError):
            raise result
        changes += (fact._replace(since=0) if type(fact) is UserCame else fact for fact in facts)
    connection = archive.connect(folder / archive.FILE)
    tables.write(connection.cursor(), changes, state.progress)
    connection.commit()
    connection.close()


def _batched(messages: Iterable[Message], size: int) -> Iterator[list[Message]]:
    rest = iter(messages)
    while some := list(itertools.islice(rest, size)):
        yield some
