"""``ChatService``: starts and stops the parts of the server, in the process that serves.

It accepts clients while the storage is reachable, reloads files at SIGHUP, and closes everything at
the end. It gets the parts from ``service``. This module must not know signals, or how the parts are
made.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from chat_twisted.control_socket import ControlService
from chat_twisted.doors import describe
from chat_twisted.doors.connecting import DoorFactory
from chat_twisted.doors.front import FrontFactory
from chat_twisted.doors.ssh.host_keys import HostKeys
from chat_twisted.doors.tls import ServerTLS, TLSError
from chat_twisted.files import ProcessFile
from chat_twisted.listening import ssh_ways_in, ways_in
from chat_twisted.log_output import LogOutput
from chat_twisted.logs import Logger
from chat_twisted.service_manager import ServiceManager
from chat_twisted.state_folder import Watcher


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
    :param manager: is told how far the server is.
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
        manager: ServiceManager | None = None,
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
        self._manager = manager or ServiceManager({}, front.clock)
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
        self._manager.start()
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
            self._manager.changed()
            return
        self._has_served = True
        for port in self._ports:
            self._log.info(
                "listening on {address}", event="listening", address=describe(port.getHost())
            )
        self._log_ways_in()
        self._log_host_keys()
        self._manager.ready()

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
        self._manager.changed()

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
        with self._manager.reloading():
            self._reload()

    def _reload(self) -> None:
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
        self._manager.stopping()
        stopping += [door.stop("The server is stopping") for door in self._doors]
        stopping.append(self._control.stop())
        if self._metrics is not None:
            stopping.append(self._metrics.stop())
        # Continue even if something fails, such as the removal of a Unix socket.
        stopped = DeferredList(stopping, consumeErrors=True)
        finished = stopped.addCallback(lambda _: Deferred.fromCoroutine(self._stop_storage()))
        return finished.addBoth(self._clear_process_files)

    def _clear_process_files(self, result: Any) -> Any:
        self._manager.stop()
        self._lock.clear()
        if self._pidfile is not None:
            self._pidfile.remove()
        return result
