"""Whether the archive of a node is that of the others: who is right if they differ.

``Applier`` compares the hash chains of the records. This module must not know how they are made.
"""

from __future__ import annotations

from chat_twisted.core.ledger import Request
from chat_twisted.logs import Logger
from chat_twisted.storage.applying import Applier


class Agreement:
    """Compares one node with the others, and logs each of those that differ once."""

    _log = Logger()

    def __init__(self) -> None:
        self._accused: set[str] = set()

    def find_fault(self, applier: Applier[Request]) -> str:
        """Return why this node must stop; empty if it need not.

        The majority is right; of two groups of the same size, that with the first member is.
        """
        agree, differ = applier.others_agree
        if not differ:
            return ""
        size = len(agree) + 1
        first = applier.membership.members[0].name
        if len(differ) > size or (len(differ) == size and first in differ):
            return (
                f"the archive of this node differs from that of {', '.join(differ)}; copy the "
                "archive of another node (docs/cluster.rst says how)"
            )
        for name in differ:
            if name not in self._accused:
                self._accused.add(name)
                self._log.error(
                    "the archive of node {name} differs from this one",
                    event="cluster-differs",
                    name=name,
                )
        return ""
