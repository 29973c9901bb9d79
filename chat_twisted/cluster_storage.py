"""The storage of a node of a cluster: the ledger that all nodes share, and copies for new nodes.

Only this module joins the ledger and the program that stores its log. It is imported only if the
server is a node. It must not know doors or the rules of the chat.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from chat_twisted.core.commands import Start
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.sessions import Request
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.files import FilesError, Say
from chat_twisted.logs import Logger
from chat_twisted.node_options import ClusterOptions
from chat_twisted.options import Options
from chat_twisted.state_folder import StateFolder, Storage, Watcher
from chat_twisted.storage import archive, joining, replica
from chat_twisted.storage.log import Bounds, LogBroken, Unknown
from chat_twisted.storage.membership import node_number
from chat_twisted.storage.nats import NatsLog
from chat_twisted.storage.nats_durability import find_shortcoming
from chat_twisted.storage.nats_peer import NatsPeer
from chat_twisted.storage.offering import Copies
from chat_twisted.storage.replicated import ReplicatedLedger

CHECK_AGAIN = 2.0
"""Seconds before the NATS servers are asked again how they keep the log."""


def complete(folder: Path, cluster: ClusterOptions, say: Say) -> None:
    """Copy the archive of another node into a state folder, if it needs that. Called before the
    archive is opened.

    :param say: reports one line to the operator, at once: this may last.
    :raises FilesError: if the folder can't be used in this cluster, or a file of the options can't
        be used.
    """

    def make_peer(found: joining.Found) -> NatsPeer:
        try:
            return _make_peer(cluster, found)
        except (OSError, ValueError) as error:
            raise FilesError(f"--cluster: {error}") from None

    joining.prepare(folder, make_peer, say)


def examine(
    cluster: ClusterOptions, folder: Path, found: joining.Found, note: Callable[[str], None]
) -> None:
    """Examine whether the NATS servers can be reached, and a state folder can follow their log.
    Nothing is changed.

    :param found: what the folder has.
    :param note: reports a line that is no problem.
    :raises FilesError: if not.
    """

    async def look() -> Bounds | None:
        peer = _make_peer(cluster, found)
        try:
            return await peer.look()
        finally:
            await peer.close()

    try:
        bounds = asyncio.run(look())
    except (OSError, ValueError, Unknown, LogBroken) as error:
        raise FilesError(f"--cluster: {error}") from None
    if found.place is not None and found.place.name != cluster.node:
        note(f"--node: the archive in {folder} was that of node {found.place.name}")
    if bounds is None:
        note("--cluster: there is no log yet; the start makes it")
    elif joining.needs_copy(bounds, found.place, found.version, folder):
        note("--cluster: the start copies the archive of another node")


def _make_peer(cluster: ClusterOptions, found: joining.Found) -> NatsPeer:
    """Connect to the NATS servers. The archive of a node belongs to a log that was made before.

    :param found: what the state folder has.
    :raises ValueError: if a URL or a file has mistakes.
    :raises OSError: if a file can't be read.
    """
    credentials, ca = _files(cluster)
    may_make = found.place is None
    return NatsPeer(cluster.servers, credentials=credentials, ca=ca, may_make=may_make)


def _files(cluster: ClusterOptions) -> list[str | None]:
    """Return the paths of the credentials and the certificates for the servers."""
    return [None if path is None else str(path) for path in (cluster.credentials, cluster.ca)]


class ClusterStorage(Storage):
    """The storage of a node. The parameters are those of ``Storage``."""

    _log = Logger()

    def __init__(
        self, folder: StateFolder, options: Options, turn: EndOfTurn, reactor: Any
    ) -> None:
        super().__init__(folder, options, turn, reactor)
        cluster = options.cluster
        assert cluster is not None, "the options of a node"
        with contextlib.closing(archive.connect(folder.path / archive.FILE)) as connection:
            place = replica.load(connection.cursor(), cluster.node)
        self._monitors = cluster.monitors
        self._must_be_durable = options["sync"] == "full"
        self._checking: Deferred[None] | None = None
        self.start = Start(node_number(cluster.node), options.decide, folder.opened.after)
        self._reactor = reactor
        credentials, ca = _files(cluster)
        self._nats = NatsLog(
            cluster.servers, reactor, credentials=credentials, ca=ca, may_make=place is None
        )
        self._copies = Copies(folder.path, cluster.node, self._nats, reactor)
        self._node: ReplicatedLedger[Request] = ReplicatedLedger(
            self._store,
            self._state,
            reactor,
            self._log_time,
            self._nats,
            cluster.node,
            place,
            turn,
            self._housekeeping.written,
        )
        self.ledger = self._node
        self.rounds = self._node.rounds
        self.cluster = self._node

    def watch(self, watcher: Watcher) -> None:
        """See ``Storage.watch``. The node follows the log as soon as the reactor runs."""
        self._reactor.callWhenRunning(self._begin, watcher)

    def _begin(self, watcher: Watcher) -> None:
        self._nats.start()
        if self._must_be_durable:
            self._checking = Deferred.fromCoroutine(self._begin_durable(watcher))
            self._checking.addErrback(lambda failure: failure.trap(CancelledError) and None)
        else:
            self._node.begin(watcher)

    async def _begin_durable(self, watcher: Watcher) -> None:
        """Begin as soon as it is known that the NATS servers keep the log as ``--sync full`` says.
        If it is known that they don't, stop.
        """
        said = ""
        while True:
            try:
                keepers = await self._nats.keepers()
            except (Unknown, LogBroken) as error:
                reason, is_certain = str(error), isinstance(error, LogBroken)
            else:
                reason, is_certain = await find_shortcoming(keepers, self._monitors, self._reactor)
            if not reason:
                self._node.begin(watcher)
                return
            if is_certain:
                watcher.broken(f"--sync full: {reason}")
                return
            if said != (said := reason):
                self._log.warn(
                    "--sync full: waiting: {reason}", event="sync-waiting", reason=reason
                )
            await deferLater(self._reactor, CHECK_AGAIN)

    @property
    def cluster_lag(self) -> int:
        """See ``Storage.cluster_lag``."""
        return max(0, self._nats.known - self._node.position)

    async def check_writing(self) -> None:
        """See ``Storage.check_writing``. A node that can't reach its cluster commits nothing."""
        if not self._node.in_touch:
            raise Unavailable("the node can't reach its cluster")
        await super().check_writing()

    async def stop(self) -> None:
        """See ``Storage.stop``."""
        if self._checking is not None:
            self._checking.cancel()
        await self._copies.stop()
        await super().stop()
