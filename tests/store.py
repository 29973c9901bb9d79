"""An archive in a folder or in memory, and functions that run all work of a Clock that is due."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core.entries import Progress
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import Conversation, Message
from chat_twisted.core.reads import Found, Search, Span
from chat_twisted.storage import archive, index, lookup, tables
from chat_twisted.storage.sql import Cursor
from chat_twisted.testing import MemoryStore as InlineStore
from chat_twisted.testing import quick_passwords

__all__ = ["ArchiveTestCase", "InlineStore", "quick_passwords", "settle", "write"]


def settle(clock: Clock) -> None:
    """Run the clock until no work is due now."""
    for _ in range(12):
        if not any(call.getTime() <= clock.seconds() for call in clock.calls):
            break
        clock.advance(0)


def turn(clock: Clock) -> None:
    """Run one turn of the reactor: the calls that are due, but not those that they schedule."""
    due = [call for call in clock.calls if call.getTime() <= clock.seconds()]
    for call in due:
        if call.active():
            clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


ALICE, BOB, CAROL, DEV = 1, 2, 3, 9
NAMES = {ALICE: "alice", BOB: "Bob", CAROL: "carol"}


def write(cursor: Cursor, changes: Sequence[Fact]) -> None:
    """Write facts as one commit; the caller ends the transaction."""
    [(version, time, number)] = cursor.execute("SELECT version, logged, newest FROM progress")
    number = max([number, *(fact.number for fact in changes if isinstance(fact, Message))])
    tables.write(cursor, changes, Progress(version + 1, time, number))


class ArchiveTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        archive.prepare(self.folder)
        self.connection = archive.connect(self.folder / archive.FILE)
        self.addCleanup(lambda: self.connection.close())  # a test may have opened another one
        index.attach(self.connection, self.folder)
        self.cursor = self.connection.cursor()
        self.number = 0

    def say(self, author: int, to: int, text: str, id: str | None = None, time: int = 0) -> None:
        """Store and index a message to a user, the room DEV or everybody (0)."""
        self.number += 1
        recipient, room = (0, to) if to == DEV else (to, 0)
        name = {0: "ALL", DEV: "#dev", **NAMES}[to]
        message = Message(
            self.number, time or self.number, author, NAMES[author], recipient, room, name, text, id
        )
        self.change(message)
        self.index()

    def index(self) -> None:
        before, now = -1, 0
        while now > before:
            before, now = now, index.extend(self.cursor, 2)
        self.connection.commit()

    def expire(self, upto: int, limit: int) -> bool:
        """Delete messages up to a number; return whether any were deleted."""
        span = index.remove(self.cursor, upto, limit)
        self.connection.commit()
        if span is not None:
            archive.expire(self.cursor, *span)
        self.connection.commit()
        return span is not None

    def change(self, *changes: Fact) -> None:
        """Write facts."""
        write(self.cursor, changes)
        self.connection.commit()

    def missed(self, user: int, after: int = 0, *, own: bool = False) -> list[str]:
        page = lookup.missed(self.cursor, user, after, self.number, own=own)
        return [message.text for message in page.messages]

    def history(self, conversation: Conversation, *bounds, **more) -> list[str]:
        return [m.text for m in lookup.history(self.cursor, conversation, Span(*bounds, **more))[0]]

    def search(
        self, query: str, user: int = ALICE, rooms=(), conversation=None, **more
    ) -> list[str]:
        found = self.find(query, user, rooms, conversation, **more)
        return [message.text for message in found.messages]

    def find(self, query: str, user: int = ALICE, rooms=(), conversation=None, **more) -> Found:
        search = Search(query, **{"limit": 10, **more})
        return lookup.search(self.cursor, user, rooms, conversation, search)
