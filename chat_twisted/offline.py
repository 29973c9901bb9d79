"""The chat of a state folder while no server runs: a hub on the archive's file, without doors.

So what the operator's command changes then goes the same way as with a server: through ``Control``,
the hub and the ledger. Here is what stands in for the reactor and its threads: all is done at once,
in the caller's thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from chat_twisted.auth.accounts import Accounts
from chat_twisted.control import Control
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.hub import Hub, Origin
from chat_twisted.core.limits import OFF, Limiter
from chat_twisted.core.turns import Asker
from chat_twisted.files import Say
from chat_twisted.storage import archive
from chat_twisted.storage.embedded import EmbeddedLedger
from chat_twisted.storage.sql import Cursor

Result = TypeVar("Result")


class OfflineStore:
    """A ``Store`` that does at once what it is asked for; see ``embedded.Store``.

    :param folder: where ``archive.prepare`` has prepared the files.
    :ivar problem: what writing has failed with last.
    """

    def __init__(self, folder: Path) -> None:
        self._connection = archive.connect(folder / archive.FILE, sync="full")
        self.problem: Exception | None = None

    def write(self, function: Callable[..., Result], *args: Any, **kw: Any) -> Deferred[Result]:
        """See ``Store.write``."""
        return maybeDeferred(self._transact, function, args, kw)

    def _transact(
        self, function: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Any:
        try:
            with self._connection:
                return function(self._connection.cursor(), *args, **kw)
        except Exception as error:
            self.problem = error
            raise

    index = write

    def alone(self, function: Callable[[Cursor], Result]) -> Deferred[Result]:
        """See ``Store.alone``."""
        return self.write(function)

    def read(
        self,
        function: Callable[..., Result],
        *args: Any,
        asker: Asker,
        search: bool = False,
        **kw: Any,
    ) -> Deferred[Result]:
        """See ``Store.read``."""
        return self.write(function, *args, **kw)

    def interrupt(self) -> None:
        """See ``Store.interrupt``."""

    def close(self) -> None:
        """See ``Store.close``."""
        self._connection.close()


class OfflineChat:
    """The chat of a state folder whose lock the caller has (``archive.lock``), until it is closed.

    :param say: takes a line of what was found and mended.
    :raises FilesError: the archive can't be opened (``archive.prepare``).
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self._path = folder / archive.FILE
        self._clock = Clock()
        saved = archive.prepare(folder, say=say)
        self._store = OfflineStore(folder)
        self._ledger: EmbeddedLedger[Origin] = EmbeddedLedger(
            self._store, saved, self._clock, time.time
        )
        accounts = Accounts()
        hub = Hub(self._ledger, self._clock, accounts, Limiter(OFF), max_clients=sys.maxsize)
        self._control = Control(hub, accounts, dict)

    def ask(self, ask: str, **fields: object) -> dict[str, Any]:
        """Ask one thing (``Control.ask``); return the answer.

        :raises ChatError: it is refused.
        :raises ArchiveError: it can't be written.
        """
        results: list[Any] = []
        asked = Deferred.fromCoroutine(self._control.ask({"ask": ask, **fields}))
        asked.addBoth(results.append)
        while not results:
            self._clock.advance(0)  # the turn of the reactor at whose end a commit is made
        try:
            if isinstance(results[0], Failure):
                results[0].raiseException()
        except Unavailable as error:
            problem = self._store.problem or error
            raise archive.ArchiveError(f"{self._path}: {problem}") from None
        return dict(results[0])

    def close(self) -> None:
        """Finish the file as a server does that ends."""
        stopped = self._ledger.stop()
        while not stopped.called:
            self._clock.advance(0)
