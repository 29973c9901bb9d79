"""The state folder of a server: opened once at the start, and kept by the ledger from then on.

``StateFolder`` is what must be there before twistd makes a daemon: the lock, the archive in the
newest schema, the certificate. ``Storage`` is what writes and reads while the server runs. Nothing
here knows a door or what is said in the chat.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.interfaces import IReactorTime

from chat_twisted.clocks import LogTime, SettledTime
from chat_twisted.core import snapshot
from chat_twisted.core.commands import Start
from chat_twisted.core.sessions import Request
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.tls import ServerTLS, ensure
from chat_twisted.files import Say, acting_as, make_private_folder
from chat_twisted.logfile import LogFile
from chat_twisted.options import Options
from chat_twisted.storage import archive
from chat_twisted.storage.embedded import EmbeddedLedger
from chat_twisted.storage.housekeeping import Housekeeping
from chat_twisted.storage.reads import ArchiveReads
from chat_twisted.storage.store import SQLiteStore

LOCK_PATIENCE = 5.0
"""Seconds that a start waits for a server that ends, or for an operator's command."""

DAY = 24 * 60 * 60  # seconds


class StateFolder:
    """A state folder that this process has locked, and the files that it starts with.

    ``path`` is the folder, ``lock`` says which process serves, ``log_file`` is None where twistd
    logs elsewhere, ``opened`` is what the archive had, and ``tls`` the certificate.

    :param user, group: who is to own the files, if root starts the server; None for the process's
        own.
    :param say: takes a line of what was found and mended.
    :raises FilesError: a file can't be used, or another server uses the folder.
    :raises TLSError: the certificate can't be used.
    """

    def __init__(self, options: Options, user: int | None, group: int | None, say: Say) -> None:
        with acting_as(user, group):
            folder = options["state"] or archive.default_folder(user)
            self.path = make_private_folder(folder, say)
            # Until the process ends; a daemon inherits it.
            self.lock = archive.lock(self.path, say, patience=LOCK_PATIENCE)
            self.log_file = None if options.log_path is None else LogFile(options.log_path)
            self.opened = archive.prepare(self.path, sync=options["sync"], say=say)
            self.tls = ServerTLS(*(options.certificate_files or ensure(self.path, say)))


class Storage:
    """What keeps the chat while the server runs: the ledger, and what is done behind it.

    ``start`` is the first command that is to be proposed to ``ledger``; ``reads`` answers what is
    read back; ``settled`` returns the time of day by which durations count, in seconds; ``retain``
    is for how many seconds messages are kept, None for ever.

    :param turn: is when the ledger commits what one turn of the reactor has brought.
    """

    def __init__(
        self, folder: StateFolder, options: Options, turn: EndOfTurn, reactor: Any
    ) -> None:
        clock: IReactorTime = reactor
        opened = folder.opened
        self._store = SQLiteStore(folder.path, reactor, sync=options["sync"])
        state = snapshot.load(opened.snapshot)
        settled = SettledTime(clock.seconds, time.time, state.time / 1000 if state.time else None)
        self.settled = settled.now
        log_time = LogTime(clock.seconds, settled, state.time)
        self.retain = None if options["retain"] is None else options["retain"] * DAY
        self._housekeeping = Housekeeping(
            self._store,
            clock,
            log_time,
            opened.after,
            retain=self.retain,
        )
        reactor.callWhenRunning(self._housekeeping.start)
        self.ledger: EmbeddedLedger[Request] = EmbeddedLedger(
            self._store, state, clock, log_time, turn, self._housekeeping.written
        )
        self.reads = ArchiveReads(self._store, self._housekeeping.when_indexed)
        self.start = Start(0, options.decide, opened.after)
        self.newest = opened.newest

    def interrupt(self) -> None:
        """End the readings that are under way: nobody waits for them any more."""
        self._store.interrupt()

    async def stop(self) -> None:
        """Write what is to be written, and close the files."""
        await self.ledger.stop()
        await self._housekeeping.stop()
        self._store.close()
