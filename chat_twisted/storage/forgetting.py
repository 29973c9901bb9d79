"""An operator removes a node that has ended from the known ones: the log is kept no longer for it.

This module must not know how the request gets into the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from twisted.internet.defer import Deferred, fail

from chat_twisted.core.errors import ChatError, UnableToSend, Unavailable
from chat_twisted.storage.membership import Node


class Forgetting:
    """The requests that are not decided yet.

    :param note: called with the names that the next record is to remove.
    """

    def __init__(self, note: Callable[[Sequence[str]], None]) -> None:
        self._note = note
        self._waiting: dict[str, Deferred[None]] = {}

    def ask(self, name: str, node: Node | None) -> Deferred[None]:
        """Ask that a node be removed.

        :param node: the node of that name; None if there is none.
        :return: fires when it is removed, or fails with a ``ChatError``.
        """
        if node is None:
            return fail(UnableToSend(f"no node is called {name}"))
        if node.live:
            return fail(UnableToSend(f"{name} is a member now: stop it first"))
        if name in self._waiting:
            return fail(UnableToSend(f"{name} is being forgotten already"))
        done = self._waiting[name] = Deferred()
        self._note([name])
        return done

    def decided(self, names: Iterable[str], known: Collection[str]) -> None:
        """Called when a record that removes nodes was applied.

        :param known: the names of the nodes that are known after it.
        """
        for name in names:
            if name in known:
                self._fail(name, UnableToSend(f"{name} has become a member again"))
            elif (done := self._waiting.pop(name, None)) is not None:
                done.callback(None)

    def refused(self, names: Iterable[str]) -> None:
        """Called when such a record was not taken."""
        for name in names:
            self._fail(name, UnableToSend("the log does not take records"))

    def stop(self) -> None:
        """Refuse what is not decided yet."""
        for name in list(self._waiting):
            self._fail(name, Unavailable("the server is stopping"))

    def _fail(self, name: str, error: ChatError) -> None:
        if (done := self._waiting.pop(name, None)) is not None:
            done.errback(error)
