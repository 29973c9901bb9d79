"""The server: ``makeService`` puts the parts together for ``twistd chatserver``, ``ChatService``
starts and stops them.

The one place on the server's side that knows all parts, and the only one that takes the global
reactor. The options are in ``options``; twistd looks for them here.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TextIO, cast

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, textFileLogObserver
from twisted.python.components import Componentized
from twisted.python.threadpool import ThreadPool

from chat_twisted.auth.gate import Gate
from chat_twisted.auth.passwords import HASHING_AT_ONCE, Passwords
from chat_twisted.clocks import use_monotonic_clock
from chat_twisted.control import Control
from chat_twisted.control_socket import ControlFactory, ControlService
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import Limiter
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.framed import FIRST_WORDS, FramedConnection, FramedFactory, describe
from chat_twisted.doors.front import DECIDE_WITHIN, Choice, FrontFactory, Plaintext
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.tls import ServerTLS, TLSError
from chat_twisted.doors.version1 import Version1
from chat_twisted.files import FilesError, InUse, ProcessFile, acting_as
from chat_twisted.listening import count_connections, listen, make_endpoints
from chat_twisted.logfile import LogFile
from chat_twisted.logs import Logger
from chat_twisted.options import DEFAULT_LISTEN, Options, fail
from chat_twisted.process import GivingBack, set_up
from chat_twisted.state_folder import StateFolder, Storage
from chat_twisted.storage.reading import lower_priority

__all__ = ["ChatService", "Options", "makeService"]

HASHING_NICE = 10
"""How much the threads that look at passwords give way to the others."""


class ChatService(Service):
    """The server: serves until it is stopped, and lets go of everybody then.

    :param ports: where ``front`` listens already; ``framed`` is a door behind it.
    :param control: where the operator's commands ask.
    :param wind_down: called at once, to end what nobody must wait for.
    :param stop_storage: called when all are gone, to finish what is to be written.
    :param lock, pidfile: say which process serves.
    :param log_file: what is logged goes there, unless twistd logs elsewhere.
    """

    _log = Logger()

    def __init__(
        self,
        ports: Sequence[IListeningPort],
        front: FrontFactory,
        framed: FramedFactory,
        tls: ServerTLS,
        control: ControlService,
        wind_down: Callable[[], None],
        stop_storage: Callable[[], Coroutine[Any, Any, None]],
        lock: ProcessFile,
        pidfile: ProcessFile | None = None,
        log_file: LogFile | None = None,
    ) -> None:
        self._ports = ports
        self._front = front
        self._framed = framed
        self._tls = tls
        self._control = control
        self._wind_down = wind_down
        self._stop_storage = stop_storage
        self._lock = lock
        self._pidfile = pidfile
        self._log_file = log_file

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application that twistd has made, and have it log to our file."""
        if self._log_file is not None and isinstance(parent, Componentized):
            observer = textFileLogObserver(cast(TextIO, self._log_file))
            parent.setComponent(ILogObserver, observer)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Say in the log where it listens; called in the process that serves."""
        super().startService()  # type: ignore[no-untyped-call]
        self._lock.write()
        if self._pidfile is not None:
            self._pidfile.write()
        self._log_fingerprint()
        for port in self._ports:
            self._log.info("listening on {address}", address=describe(port.getHost()))

    def _log_fingerprint(self) -> None:
        self._log.info(
            "the certificate's fingerprint is {fingerprint}", fingerprint=self._tls.fingerprint
        )

    def reload(self) -> None:
        """Open the log file anew, and take the certificate's files as they are now. If one of them
        can't be used, go on with what there was.
        """
        if self._log_file is not None:
            try:
                self._log_file.reopen()
            except FilesError as error:
                self._log.error("the log file stays as it was: {reason}", reason=str(error))
        try:
            self._tls.reload()
        except TLSError as error:
            self._log.error("the certificate stays as it was: {reason}", reason=str(error))
        else:
            self._log_fingerprint()

    def stopService(self) -> Deferred[Any]:
        """Say BYE to everybody; fire when all are gone and all is written."""
        super().stopService()  # type: ignore[no-untyped-call]
        stopping: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in self._ports]
        self._wind_down()
        self._front.stop()
        stopping.append(self._framed.stop("The server is stopping"))
        stopping.append(self._control.stop())
        # Whatever fails: a Unix socket that somebody has removed, for one.
        stopped = DeferredList(stopping, consumeErrors=True)
        finished = stopped.addCallback(lambda _: Deferred.fromCoroutine(self._stop_storage()))
        return finished.addBoth(self._clear_process_files)

    def _clear_process_files(self, result: Any) -> Any:
        self._lock.clear()
        if self._pidfile is not None:
            self._pidfile.remove()
        return result


def _count_by_kind(framed: FramedFactory) -> Counter[str]:
    """Count the connections of each kind: what they come over, and what they speak."""
    kinds: Counter[str] = Counter()
    for stream in framed.streams.open:
        connection = stream.protocol
        assert isinstance(connection, FramedConnection)
        way = "local" if connection.host is None else "plain"
        way = "TLS" if connection.channel.encrypted else way
        speaks = "version 1" if isinstance(connection.session, Version1) else "version 2"
        kinds[f"{way} {'unregistered' if connection.session is None else speaks}"] += 1
    return kinds


class _YieldingThread(Thread):
    """A thread that lets the others have the processor first, and so do those that it makes: a
    password is looked at by four.
    """

    def run(self) -> None:
        """Do what it is for."""
        lower_priority(HASHING_NICE)
        super().run()


def _make_pool() -> ThreadPool:
    """Make the threads that look at passwords."""
    pool = ThreadPool(0, HASHING_AT_ONCE, "passwords")
    pool.threadFactory = _YieldingThread
    pool.start()  # which starts no thread yet: twistd may still fork
    return pool


def _lock_pidfile(path: Path | None) -> ProcessFile | None:
    if path is None:
        return None
    try:
        return ProcessFile(path, 0o644)
    except InUse as error:
        fail(f"--pidfile {path}: another server uses it ({error})")
    except FilesError as error:
        fail(f"--pidfile {error}")


def makeService(options: Options) -> Service:
    """Put the server together; twistd calls it with the options it has read."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    clock = cast(IReactorTime, reactor)
    threads = cast(IReactorFromThreads, reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    user, group = twistd.get("uid"), twistd.get("gid")
    log = Logger()
    endpoints = make_endpoints(options["listen"] or [DEFAULT_LISTEN], reactor)
    try:
        folder = StateFolder(options, user, group, lambda line: log.warn("{line}", line=line))
    except (FilesError, TLSError) as error:
        fail(str(error))
    connections = count_connections(options["max-clients"])
    set_up(reactor)
    giving_back = GivingBack(reactor)
    turn = EndOfTurn(clock)
    storage = Storage(folder, options, turn, reactor)
    pool = _make_pool()
    passwords = Passwords(partial(deferToThreadPool, threads, pool), clock)
    limiter = Limiter(options.limits, connections - connections // 8)
    hub = Hub(
        storage.ledger,
        storage.reads,
        clock,
        time.time,
        storage.settled,
        limiter,
        storage.start,
        storage.newest,
        max_clients=options["max-clients"],
    )
    framed = FramedFactory(
        hub,
        Gate(lambda: hub.state, passwords, clock),
        clock,
        max_message=options["max-message"],
        idle=options["idle"],
        max_unread=options.limits.unread,
        motd=options.motd,
        retain=storage.retain,
        poller=Poller.over(reactor, turn),
        turn=turn,
    )
    front = FrontFactory(
        [Choice(framed, FIRST_WORDS)],
        folder.tls,
        clock,
        limiter,
        plaintext=Plaintext(options["plaintext"]),
        max_connections=connections,
        decide_within=min(DECIDE_WITHIN, options["idle"]),
        idle=options["idle"],
    )
    started = clock.seconds()

    def status() -> dict[str, Any]:
        uptime = round(clock.seconds() - started, 3)
        return {"process": os.getpid(), "uptime": uptime, "connections": _count_by_kind(framed)}

    def wind_down() -> None:
        hub.logins.stop()
        passwords.stop()
        storage.interrupt()

    async def stop() -> None:
        giving_back.stop()
        pool.stop()  # at most it waits for two passwords that are looked at
        await storage.stop()

    pidfile = _lock_pidfile(options.pidfile)
    control = None
    try:
        with acting_as(user, group):
            commands = ControlFactory(Control(hub, status), clock)
            control = ControlService(folder.path, commands, reactor)
        ports = listen(endpoints, front, reactor)
    except (SystemExit, FilesError) as error:
        if control is not None:
            control.remove()
        if pidfile is not None:
            pidfile.remove()
        if isinstance(error, FilesError):
            fail(str(error))
        raise
    service = ChatService(
        ports,
        front,
        framed,
        folder.tls,
        control,
        wind_down,
        stop,
        folder.lock,
        pidfile,
        folder.log_file,
    )
    signal.signal(signal.SIGHUP, lambda *_: threads.callFromThread(service.reload))
    return service
