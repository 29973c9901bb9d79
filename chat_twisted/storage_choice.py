"""The storage that the options ask for: of a single server, or of a node of a cluster.

``cluster_storage`` and nats-py are imported only here, and only for a node: a single server needs
neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chat_twisted.core.turns import EndOfTurn
from chat_twisted.options import Options, tell
from chat_twisted.state_folder import EmbeddedStorage, StateFolder, Storage


def complete(options: Options, folder: Path) -> None:
    """Give a new node of a cluster an archive. See ``cluster_storage.complete``."""
    if options.cluster is not None:
        from chat_twisted import cluster_storage

        cluster_storage.complete(folder, options.cluster, tell)


def examine(options: Options, *arguments: Any) -> None:
    """Examine the cluster that the options name. See ``cluster_storage.examine``."""
    if options.cluster is not None:
        from chat_twisted import cluster_storage

        cluster_storage.examine(options.cluster, *arguments)


def open_storage(folder: StateFolder, options: Options, turn: EndOfTurn, reactor: Any) -> Storage:
    """Make the storage that the options ask for."""
    if options.cluster is None:
        return EmbeddedStorage(folder, options, turn, reactor)
    from chat_twisted.cluster_storage import ClusterStorage

    return ClusterStorage(folder, options, turn, reactor)
