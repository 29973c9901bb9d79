"""The server: ``makeService`` puts the parts together for ``twistd chatserver``, ``ChatService``
starts and stops them.

This is the only module of the server that knows all parts, and the only one that takes the global
reactor. twistd also expects the options in this module; they are in ``options``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, cast

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorFromThreads,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.threadpool import ThreadPool

from chat_twisted.auth.gate import Gate
from chat_twisted.auth.passwords import HASHING_AT_ONCE, Passwords
from chat_twisted.checking import Check
from chat_twisted.clocks import use_monotonic_clock
from chat_twisted.collecting import Collector, encryption_of
from chat_twisted.control import Control
from chat_twisted.control_socket import ControlFactory, ControlService
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import Limiter
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors import describe
from chat_twisted.doors.connecting import DoorFactory
from chat_twisted.doors.framed import FIRST_WORDS, FramedFactory
from chat_twisted.doors.front import DECIDE_WITHIN, Choice, Door, FrontFactory, NoDoor, Plaintext
from chat_twisted.doors.irc.connection import FIRST_COMMANDS, IRCFactory
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.ssh.host_keys import HostKeys
from chat_twisted.doors.tls import ServerTLS, TLSError
from chat_twisted.files import FilesError, InUse, ProcessFile, acting_as
from chat_twisted.listening import (
    count_connections,
    for_this_machine,
    listen,
    make_endpoints,
    require_prometheus,
    ssh_ways_in,
    ways_in,
)
from chat_twisted.log_output import LogOutput
from chat_twisted.logs import Logger
from chat_twisted.metrics import LoopLag
from chat_twisted.options import Options, fail, tell
from chat_twisted.process import GivingBack, set_up, stop_as_failed
from chat_twisted.reloading import Reloading
from chat_twisted.state_folder import EmbeddedStorage, StateFolder, Storage, Watcher
from chat_twisted.storage.reading import lower_priority

__all__ = ["ChatService", "Options", "makeService"]

SSH_WORDS = (b"SSH-",)
"""The first bytes of connections for the SSH door (RFC 4253, 4.2)."""

DOORS = ("framed", "irc", "ssh")
"""The names of the doors for the operator's monitoring, in the order in which they are made."""

HASHING_NICE = 10
"""Niceness that is added to the threads that hash passwords."""


class Monitored(Protocol):
    """The part of the site with the metrics that the service uses."""

    def start(self) -> None:
        """Called in the process that serves."""

    def stop(self) -> Deferred[Any]:
        """Close everything.

        :return: fires when that is done.
        """


class ChatService(Service):
    """The running server, as a Twisted service. When it is stopped, it closes all connections.

    It is the ``Watcher`` of the storage: clients are accepted while that is reachable.

    :param ports: the ports, on which ``front`` listens already.
    :param doors: the doors behind ``front``; first the one whose sessions others have.
    :param control: the control socket.
    :param host_keys: the host keys of the SSH door; None without that door.
    :param watch_storage: ``Storage.watch``.
    :param wind_down: called first when the server stops, to interrupt readings and the like.
    :param stop_storage: called when all connections are closed, to finish writing.
    :param stop_as_failed: called to stop the server when it can't go on.
    :param lock, pidfile: get the ID of the process that serves.
    :param log_output: writes the log; None if the program that runs the server does that.
    :param take_over: takes over changed options; see ``Reloading.take_over``.
    :param metrics: what the operator's monitoring asks; None without it.
    """

    _log = Logger()

    def __init__(
        self,
        ports: Sequence[IListeningPort],
        front: FrontFactory,
        doors: Sequence[DoorFactory[Any]],
        tls: ServerTLS,
        host_keys: HostKeys | None,
        control: ControlService,
        watch_storage: Callable[[Watcher], None],
        wind_down: Callable[[], None],
        stop_storage: Callable[[], Coroutine[Any, Any, None]],
        stop_as_failed: Callable[[], None],
        lock: ProcessFile,
        pidfile: ProcessFile | None = None,
        log_output: LogOutput | None = None,
        take_over: Callable[[], None] = lambda: None,
        metrics: Monitored | None = None,
    ) -> None:
        self._ports = ports
        self._front = front
        self._doors = doors
        self._tls = tls
        self._host_keys = host_keys
        self._control = control
        self._watch_storage = watch_storage
        self._wind_down = wind_down
        self._stop_storage = stop_storage
        self._stop_as_failed = stop_as_failed
        self._lock = lock
        self._pidfile = pidfile
        self._log_output = log_output
        self._take_over = take_over
        self._metrics = metrics
        self._has_served = False
        front.pause("the server is not ready")

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join twistd's application, and set its log. Called by twistd."""
        if self._log_output is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log_output)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Log the addresses, and write the process files. Called by Twisted in the process that
        serves.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._lock.write()
        if self._pidfile is not None:
            self._pidfile.write()
        self._log_fingerprint()
        if self._metrics is not None:
            self._metrics.start()
        self._watch_storage(self)

    def reachable(self) -> None:
        """Accept clients. See ``Watcher.reachable``."""
        if not self.running:
            return
        self._front.resume()
        if self._has_served:
            self._log.info("accepting connections again", event="resumed")
            return
        self._has_served = True
        for port in self._ports:
            self._log.info(
                "listening on {address}", event="listening", address=describe(port.getHost())
            )
        self._log_ways_in()
        self._log_host_keys()

    def unreachable(self, reason: str) -> None:
        """End all sessions, and accept no clients until ``reachable``. See
        ``Watcher.unreachable``.
        """
        if not self.running:
            return
        self._log.warn("accepting no connections: {reason}", event="paused", reason=reason)
        self._front.pause(reason)
        for door in self._doors:
            door.drop_all(f"The server can't serve now: {reason}")

    def broken(self, reason: str) -> None:
        """Stop the server. See ``Watcher.broken``."""
        self._log.critical("the server stops: {reason}", event="broken", reason=reason)
        if self.running:
            self._stop_as_failed()

    def _log_host_keys(self) -> None:
        if self._host_keys is None:
            return
        addresses = [port.getHost() for port in self._ports]
        known_hosts = self._host_keys.known_hosts
        for line in [
            *(f"the host key's fingerprint is {print}" for print in self._host_keys.fingerprints),
            *ssh_ways_in(addresses, socket.gethostname(), known_hosts),
        ]:
            self._log.info("{line}", event="host-key", line=line)

    def _log_fingerprint(self) -> None:
        self._log.info(
            "the certificate's fingerprint is {fingerprint}",
            event="certificate",
            fingerprint=self._tls.fingerprint,
        )
        self._log.info(
            "that is for weechat (tls_fingerprint) {digits}, for irssi (tls_pinned_cert) {pairs}",
            event="certificate-pins",
            digits=self._tls.digits,
            pairs=self._tls.pairs,
        )

    def _log_ways_in(self) -> None:
        addresses = [port.getHost() for port in self._ports]
        for line in ways_in(addresses, socket.gethostname(), self._tls.fingerprint):
            self._log.info("{line}", event="way-in", line=line)

    def reload(self) -> None:
        """Reopen the log files, take over changed options, and reload the certificate. A file that
        can't be used is logged, and the old one stays in use. Called at SIGHUP.
        """
        problems = [] if self._log_output is None else self._log_output.reopen()
        for reason in problems:
            self._log.error(
                "the log file stays as it was: {reason}", event="reload-failed", reason=reason
            )
        self._take_over()
        try:
            self._tls.reload()
        except TLSError as error:
            self._log.error(
                "the certificate stays as it was: {reason}",
                event="reload-failed",
                reason=str(error),
            )
        else:
            self._log_fingerprint()
            self._log_ways_in()

    def stopService(self) -> Deferred[Any]:
        """Close all connections, and finish writing. Called by Twisted.

        :return: fires when that is done.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        stopping: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in self._ports]
        self._wind_down()
        self._front.stop()
        stopping += [door.stop("The server is stopping") for door in self._doors]
        stopping.append(self._control.stop())
        if self._metrics is not None:
            stopping.append(self._metrics.stop())
        # Continue even if something fails, such as the removal of a Unix socket.
        stopped = DeferredList(stopping, consumeErrors=True)
        finished = stopped.addCallback(lambda _: Deferred.fromCoroutine(self._stop_storage()))
        return finished.addBoth(self._clear_process_files)

    def _clear_process_files(self, result: Any) -> Any:
        self._lock.clear()
        if self._pidfile is not None:
            self._pidfile.remove()
        return result


def _count_by_kind(doors: Iterable[DoorFactory[Any]]) -> Counter[str]:
    """Count the connections by transport and protocol, but not those in memory."""
    kinds: Counter[str] = Counter()
    for door in doors:
        for stream in door.streams.open:
            if stream.protocol.channel.inside:
                continue
            kinds[f"{encryption_of(stream.protocol)} {stream.protocol.kind}"] += 1
    return kinds


class _YieldingThread(Thread):
    """A thread with a lower priority. The four threads that argon2 starts for a password inherit
    it.
    """

    def run(self) -> None:
        """Lower the priority, and run the thread's function."""
        lower_priority(HASHING_NICE)
        super().run()


def _make_pool() -> ThreadPool:
    """Make the pool of threads that hash passwords."""
    pool = ThreadPool(0, HASHING_AT_ONCE, "passwords")
    pool.threadFactory = _YieldingThread
    pool.start()  # starts no thread yet: twistd may still fork
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


def _make_ssh(
    options: Options,
    host_keys: HostKeys,
    framed: FramedFactory,
    hub: Hub,
    gate: Gate,
    reactor: Any,
    poller: Poller | None,
    turn: EndOfTurn,
) -> DoorFactory[Any]:
    """Make the SSH door. Conch and prompt_toolkit are imported only here: without the door, the
    server needs neither.
    """
    from chat_twisted import reactor_loop
    from chat_twisted.doors.ssh.connection import SSHFactory
    from chat_twisted.inside.connecting import Connector
    from chat_twisted.inside.host import InsideHost

    def soon(call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)

    reactor.callWhenRunning(reactor_loop.use, reactor)  # when twistd has forked
    connector = Connector(framed, reactor, soon, host_keys.secret)
    host = InsideHost(connector, options["ssh-terminals"], socket.gethostname())
    ssh: DoorFactory[Any] = SSHFactory(
        hub,
        gate,
        host,
        host_keys,
        reactor,
        idle=options["idle"],
        max_unread=options.limits.unread,
        poller=poller,
        turn=turn,
    )
    return ssh


def _complete(options: Options, folder: Path) -> None:
    """Give a new node of a cluster an archive. See ``cluster_storage.complete``."""
    if options.cluster is not None:
        from chat_twisted import cluster_storage

        cluster_storage.complete(folder, options.cluster, tell)


def _examine(options: Options, *arguments: Any) -> None:
    """Examine the cluster that the options name. See ``cluster_storage.examine``."""
    if options.cluster is not None:
        from chat_twisted import cluster_storage

        cluster_storage.examine(options.cluster, *arguments)


def _open_storage(folder: StateFolder, options: Options, turn: EndOfTurn, reactor: Any) -> Storage:
    """Make the storage that the options ask for. nats-py is imported only for a node of a
    cluster.
    """
    if options.cluster is None:
        return EmbeddedStorage(folder, options, turn, reactor)
    from chat_twisted.cluster_storage import ClusterStorage

    return ClusterStorage(folder, options, turn, reactor)


def _make_metrics_endpoints(
    description: str | None, reactor: Any
) -> list[tuple[str, IStreamServerEndpoint]]:
    if description is None:
        return []
    require_prometheus()
    return make_endpoints([for_this_machine(description)], reactor, "--metrics")


def _serve_metrics(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
    collect: Callable[[LoopLag], Collector],
    storage: Storage,
    front: FrontFactory,
    reactor: Any,
) -> Monitored:
    """Listen on the endpoint of ``--metrics``; if that fails, print why and exit with 1. Prometheus
    and HTTP are imported only here: without the option, the server needs neither.

    :param collect: makes the collector.
    """
    from chat_twisted import metrics_site

    def check() -> Deferred[None]:
        return Deferred.fromCoroutine(storage.check_writing())

    lag = LoopLag(reactor)
    site = metrics_site.make_factory(
        collect(lag).collect, check, lambda: front.not_accepting, reactor
    )
    return metrics_site.MetricsService(listen(endpoints, site, reactor), site, lag)


def makeService(options: Options) -> Service:
    """Make the server from its parts. Called by twistd."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    clock = cast(IReactorTime, reactor)
    threads = cast(IReactorFromThreads, reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    user, group = twistd.get("uid"), twistd.get("gid")
    if options["check"]:
        raise SystemExit(Check(options, user, group, partial(_examine, options)).run(reactor))
    log = Logger()
    endpoints = make_endpoints(options["listen"], reactor)
    metrics_endpoints = _make_metrics_endpoints(options["metrics"], reactor)
    try:
        folder = StateFolder(
            options,
            user,
            group,
            lambda line: log.warn("{line}", event="files", line=line),
            partial(_complete, options),
        )
    except (FilesError, TLSError) as error:
        fail(str(error))
    connections = count_connections(options["max-clients"])
    set_up(reactor)
    giving_back = GivingBack(reactor)
    turn = EndOfTurn(clock)
    storage = _open_storage(folder, options, turn, reactor)
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
    gate = Gate(lambda: hub.state, passwords, clock)
    poller = Poller.over(reactor, turn)
    framed = FramedFactory(
        hub,
        gate,
        clock,
        max_message=options["max-message"],
        idle=options["idle"],
        max_unread=options.limits.unread,
        motd=options.motd,
        retain=storage.retain,
        poller=poller,
        turn=turn,
    )
    irc = IRCFactory(
        hub,
        gate,
        clock,
        max_message=options["max-message"],
        idle=options["idle"],
        max_unread=options.limits.unread,
        motd=options.motd,
        joins_all=options["irc-all"] == "yes",
        is_vouched_for=lambda: folder.tls.is_vouched_for,
        poller=poller,
        turn=turn,
    )
    doors: list[DoorFactory[Any]] = [framed, irc]
    ssh: Door = NoDoor()  # the framed door would wait for more than an SSH client says
    if folder.host_keys is not None:
        ssh = _make_ssh(options, folder.host_keys, framed, hub, gate, reactor, poller, turn)
        doors.append(ssh)
    choices = [
        Choice(ssh, SSH_WORDS, encrypted=True),
        Choice(irc, commands=FIRST_COMMANDS),
        Choice(framed, FIRST_WORDS),
    ]
    front = FrontFactory(
        choices,
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
        tls = folder.tls
        return {
            "process": os.getpid(),
            "uptime": uptime,
            "connections": _count_by_kind(doors),
            "certificate": {
                "fingerprint": tls.fingerprint,
                "weechat": tls.digits,
                "irssi": tls.pairs,
                "vouched": tls.is_vouched_for,
            },
            "host_keys": [] if folder.host_keys is None else folder.host_keys.fingerprints,
        }

    def wind_down() -> None:
        hub.logins.stop()
        passwords.stop()
        storage.interrupt()

    async def stop() -> None:
        giving_back.stop()
        pool.stop()  # waits for at most two passwords
        await storage.stop()

    def collect(lag: LoopLag) -> Collector:
        named = dict(zip(DOORS, doors, strict=False))
        return Collector(hub, gate, front, named, storage, folder.tls, lag, clock)

    pidfile = _lock_pidfile(options.pidfile)
    control = metrics = None
    try:
        with acting_as(user, group):
            commands = ControlFactory(Control(hub, status, storage.cluster), clock)
            control = ControlService(folder.path, commands, reactor)
        if metrics_endpoints:
            metrics = _serve_metrics(metrics_endpoints, collect, storage, front, reactor)
        ports = listen(endpoints, front, reactor)
        for port in ports:
            front.listens(port)
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
        doors,
        folder.tls,
        folder.host_keys,
        control,
        storage.watch,
        wind_down,
        stop,
        partial(stop_as_failed, reactor),
        folder.lock,
        pidfile,
        folder.log_output,
        Reloading(options, folder.path, hub, doors, folder.tls, folder.log_output).take_over,
        metrics,
    )
    signal.signal(signal.SIGHUP, lambda *_: threads.callFromThread(service.reload))
    return service
