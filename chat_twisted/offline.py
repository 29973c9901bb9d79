"""The chat of a state folder while no server runs: its state and its archive.

Requests of the operator's command go through ``Control``, as in a server. The same state decides
them, and the same statements write the facts. There is no hub, because nobody is connected, and no
ledger: each command is decided and written at once, in the caller's thread. The archive of a
cluster's node can be read here, and not changed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from chat_twisted.control import Control
from chat_twisted.core.commands import Announce, Command, Disconnect, Start
from chat_twisted.core.entries import Entry, Result
from chat_twisted.core.errors import ChatError, NotPermitted, UnableToSend
from chat_twisted.core.hub import Population
from chat_twisted.core.model import User
from chat_twisted.core.ordered import Listing
from chat_twisted.core.sessions import Session
from chat_twisted.core.snapshot import load
from chat_twisted.files import Say
from chat_twisted.storage import archive, clustered, tables
from chat_twisted.storage.clustered import Node
from chat_twisted.storage.upgrade import ArchiveError


class StoppedNode:
    """A cluster's node that does not run, for ``Control``."""

    def __init__(self, node: Node, path: Path) -> None:
        self._node = node
        self._path = path

    def status(self) -> dict[str, Any]:
        """See ``control.Cluster.status``. The archive knows only what it had applied."""
        node = self._node
        return {
            "node": node.name,
            "incarnation": node.incarnation,
            "stream": node.stream,
            "position": node.applied,
        }

    def forget(self, name: str) -> Deferred[None]:
        """See ``control.Cluster.forget``; fails always."""
        return fail(self._node.refuse_change(self._path))


class OfflineChat:
    """The chat of a state folder. The caller must hold the folder's lock (``archive.lock``).

    :param say: as in ``archive.prepare``.
    :raises FilesError: if the archive can't be opened.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self._path = folder / archive.FILE
        opened = archive.prepare(folder, say=say)
        self.state = load(opened.snapshot)
        self._newest = opened.newest
        self._node = opened.node
        self._connection = archive.connect(self._path, sync="full")
        cluster = None if opened.node is None else StoppedNode(opened.node, self._path)
        self._control = Control(self, None, cluster)

    def request(self, ask: str, **fields: object) -> dict[str, Any]:
        """Do a request (``Control.ask``); return the answer.

        :raises ChatError: if it is refused.
        :raises ArchiveError: if it can't be written.
        """
        results: list[Any] = []
        asked = Deferred.fromCoroutine(self._control.ask({"ask": ask, **fields}))
        asked.addBoth(results.append)
        [result] = results  # all Deferreds have fired already
        if isinstance(result, Failure):
            result.raiseException()
        return dict(result)

    def ask(self, command: Command) -> Deferred[Result]:
        """See ``control.Chat.ask``; fails with ``ArchiveError`` if it can't be written."""
        if self._node is not None:
            return fail(self._node.refuse_change(self._path))
        state, result = self.state, None
        if isinstance(command, Disconnect):  # the file may still have the last server's sessions
            return fail(UnableToSend("nobody is connected"))
        if isinstance(command, Announce):
            return fail(NotPermitted("the server does not run, so nobody is connected"))
        facts, result = state.apply(Entry(state.time, command))
        if isinstance(result, ChatError):
            return fail(result)
        if facts:
            try:
                with self._connection:
                    tables.write(self._connection.cursor(), facts, state.progress)
            except sqlite3.Error as error:
                return fail(ArchiveError(f"{self._path}: {error}"))
        return succeed(result)

    def leave_cluster(self) -> Node:
        """Make the archive of a cluster's node a single server's.

        The sessions of all nodes end, as those of a server that has stopped.

        :return: the node that it was.
        :raises NotPermitted: if it is a single server's already.
        :raises ArchiveError: if it can't be written; nothing is changed then.
        """
        state, node = self.state, self._node
        if node is None:
            raise NotPermitted("this server is not in a cluster")
        with_sessions = {
            session.node for user in state.users.values() for session in user.sessions.values()
        }
        try:
            with self._connection:
                cursor = self._connection.cursor()
                for number in sorted(with_sessions):
                    entry = Entry(state.time, Start(number, None, 0))
                    facts, _ = state.apply(entry)
                    tables.write(cursor, facts, state.progress)
                clustered.remove_node(cursor)
        except sqlite3.Error as error:
            raise ArchiveError(f"{self._path}: {error}") from None
        self._node = None
        return node

    def settled(self) -> float:
        """Return the time of day, in seconds."""
        return time.time()

    def who(self, after: str = "") -> Listing[User]:
        """Nobody is connected, though the file may have sessions that a killed server had."""
        return Listing(0, iter(()))

    def sessions_of(self, user: User) -> Collection[Session]:
        """Nobody is connected."""
        return ()

    def confirmed(self, user: User) -> int:
        """Return the number up to which a user has confirmed all messages."""
        return user.cursor

    def population(self) -> Population:
        """See ``control.Chat.population``. Nobody is connected; the next start holds the guests
        that were connected to the last server.
        """
        state = self.state
        accounts, rooms = len(state.accounts), len(state.rooms)
        return Population(0, 0, len(state.users) - accounts, accounts, rooms, self._newest)

    def close(self) -> None:
        """Close the archive."""
        self._connection.close()
