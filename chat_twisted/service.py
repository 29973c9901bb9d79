"""``makeService`` puts the parts of the server together for ``twistd chatserver``.

This is the only module that knows all parts, and the only one of the server that takes the global
reactor. ``serving.ChatService`` starts and stops the parts. twistd also expects the options in this
module; they are in ``options``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime

from chat_twisted import storage_choice
from chat_twisted.auth.gate import Gate
from chat_twisted.auth.passwords import Passwords
from chat_twisted.checking import Check
from chat_twisted.clocks import use_monotonic_clock
from chat_twisted.collecting import Collector
from chat_twisted.control import Control
from chat_twisted.control_socket import ControlFactory, ControlService
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import Limiter
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.tls import TLSError
from chat_twisted.files import FilesError, InUse, ProcessFile, acting_as
from chat_twisted.listening import count_connections, listen, make_addresses
from chat_twisted.logs import Logger
from chat_twisted.making_doors import make_doors
from chat_twisted.metrics import LoopLag
from chat_twisted.monitoring import serve_metrics
from chat_twisted.options import Options, fail
from chat_twisted.passed_sockets import environment_at_start
from chat_twisted.password_threads import PasswordThreads
from chat_twisted.process import GivingBack, set_up, stop_as_failed
from chat_twisted.reloading import Reloading
from chat_twisted.service_manager import ServiceManager
from chat_twisted.serving import ChatService
from chat_twisted.state_folder import StateFolder
from chat_twisted.status import RunningServer

__all__ = ["ChatService", "Options", "makeService"]


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
    """Make the server from its parts. Called by twistd."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    clock = cast(IReactorTime, reactor)
    threads = cast(IReactorFromThreads, reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    user, group = twistd.get("uid"), twistd.get("gid")
    if options["check"]:
        raise SystemExit(
            Check(options, user, group, partial(storage_choice.examine, options)).run(reactor)
        )
    log = Logger()
    manager = ServiceManager(os.environ, clock)
    addresses = make_addresses(options, environment_at_start(), reactor)
    try:
        manager.opening()
        folder = StateFolder(
            options,
            user,
            group,
            lambda line: log.warn("{line}", event="files", line=line),
            partial(storage_choice.complete, options),
        )
    except (FilesError, TLSError) as error:
        fail(str(error))
    connections = count_connections(options["max-clients"])
    set_up(reactor)
    giving_back = GivingBack(reactor)
    turn = EndOfTurn(clock)
    storage = storage_choice.open_storage(folder, options, turn, reactor)
    password_threads = PasswordThreads(threads)
    passwords = Passwords(password_threads.run, clock)
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
        recent=storage.recent,
    )
    gate = Gate(lambda: hub.state, passwords, clock)
    doors = make_doors(
        options,
        hub,
        gate,
        limiter,
        folder.tls,
        folder.host_keys,
        turn,
        reactor,
        connections=connections,
        retain=storage.retain,
    )
    front = doors.front
    running = RunningServer(
        hub, gate, doors.all, front, folder.tls, folder.host_keys, storage, clock
    )
    reactor.callWhenRunning(running.rates.start)
    manager.describe = running.summarize

    def wind_down() -> None:
        hub.logins.stop()
        passwords.stop()
        storage.interrupt()

    async def stop() -> None:
        giving_back.stop()
        running.rates.stop()
        password_threads.stop()
        await storage.stop()

    def collect(lag: LoopLag) -> Collector:
        return Collector(hub, gate, front, doors.by_name, storage, folder.tls, lag, clock)

    pidfile = _lock_pidfile(options.pidfile)
    control = metrics = None
    try:
        with acting_as(user, group):
            commands = ControlFactory(Control(hub, running, storage.cluster), clock)
            control = ControlService(folder.path, commands, reactor)
        if addresses.metrics:
            metrics = serve_metrics(addresses.metrics, collect, storage, front, reactor)
        ports = listen(addresses.clients, front, reactor)
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
        doors.all,
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
        Reloading(options, folder.path, hub, doors.all, folder.tls, folder.log_output).take_over,
        metrics,
        manager,
    )
    signal.signal(signal.SIGHUP, lambda *_: threads.callFromThread(service.reload))
    return service
