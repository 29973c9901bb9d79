"""Tells the service manager that started this process, such as systemd, how the process is.

The protocol is that of sd_notify(3): datagrams of lines ``NAME=VALUE`` to a Unix socket. Without a
service manager, nothing is sent. This module must not know the chat.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from enum import Enum

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

REPORT_EVERY = 10.0
"""Seconds between two reports; fewer if the service manager wants to hear more often."""

LEAST_INTERVAL = 0.1
"""Seconds of the shortest watchdog that is fed; more frequent reports would leave no time for
clients."""

EXTENSION = 3 * REPORT_EVERY
"""Seconds for which a report asks while the process starts or stops."""

LONGEST_OPENING = 60 * 60.0
"""Seconds within which the files must be open."""

LONGEST_STOP = 5 * 60.0
"""Seconds after which a process that stops asks for no more time."""

PATIENCE = 1.0
"""Seconds for which a message that is not repeated waits for a service manager that is busy."""

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""The variables of the protocol."""


class Phase(Enum):
    """How far the process is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class ServiceManager:
    """Reports to the service manager.

    :param environment: of the process. The variables of the protocol are removed, so that no child
        reports in the name of this process.
    :ivar describe: returns a short line about the state of the server.
    """

    def __init__(self, environment: MutableMapping[str, str], clock: IReactorTime) -> None:
        address, interval, process = (environment.pop(name, "") for name in VARIABLES)
        self._address = _parse_address(address)
        self._interval = _parse_interval(interval)
        self._watched = process
        self._phase = Phase.STARTING
        self._left = LONGEST_STOP
        self._said = ""
        self.describe: Callable[[], str] = lambda: ""
        self._is_watched = False
        self._every = REPORT_EVERY
        self._reporting = LoopingCall(self._report)
        self._reporting.clock = clock

    def opening(self) -> None:
        """Ask for much time at once: an upgrade of large files lasts, and the reactor does not run
        meanwhile.
        """
        self._send(_extend(LONGEST_OPENING), patience=PATIENCE)

    def start(self) -> None:
        """Report from now on. Called in the process that serves."""
        if self._address is None:
            return
        if self._interval and self._watched in ("", str(os.getpid())):
            self._is_watched = True
            self._every = min(REPORT_EVERY, max(self._interval, LEAST_INTERVAL) / 2)
        self._reporting.start(self._every)

    def ready(self) -> None:
        """Called when the server accepts clients for the first time."""
        if self._phase is Phase.STARTING:
            self._phase = Phase.READY
            self._send("READY=1", *self._news(), patience=PATIENCE)

    def changed(self) -> None:
        """Called when the line about the state has changed in an important way."""
        self._send(*self._news())

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """While the body runs, the server reloads its files."""
        if self._phase is not Phase.READY:  # the end of a reload says that the server is ready
            yield
            return
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", patience=PATIENCE
        )
        try:
            yield
        finally:
            self._send("READY=1", patience=PATIENCE)

    def stopping(self) -> None:
        """Called when the server begins to stop."""
        self._phase = Phase.STOPPING
        self._send("STOPPING=1", *self._news())

    def stop(self) -> None:
        """Report nothing more. Called when the server has stopped."""
        if self._reporting.running:
            self._reporting.stop()

    def _report(self) -> None:
        lines = self._news()
        if self._is_watched:
            lines.append("WATCHDOG=1")
        if self._phase is Phase.STOPPING:
            self._left -= self._every
        if self._phase is Phase.STARTING or (self._phase is Phase.STOPPING and self._left > 0):
            lines.append(_extend(EXTENSION))
        self._send(*lines)

    def _news(self) -> list[str]:
        """Return the line about the state, if it is another than before."""
        said, self._said = self._said, " ".join(self.describe().split())
        return [f"STATUS={self._said}"] if self._said != said else []

    def _send(self, *lines: str, patience: float = 0.0) -> None:
        """Send a datagram.

        :param patience: seconds to wait for room.
        """
        if self._address is None or not lines:
            return
        # A service manager that has gone, or does not read, must not hold up the server.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to,
        ):
            to.settimeout(patience)
            to.sendto("\n".join(lines).encode(errors="replace"), self._address)


def _parse_address(address: str) -> str | None:
    """Return the address for the socket; None if there is no service manager, or it can't be
    reached by a Unix socket.
    """
    if address.startswith("@"):
        return "\0" + address[1:]  # in Linux's abstract namespace
    return address if address.startswith("/") else None


def _parse_interval(text: str) -> float:
    """Return the seconds of a number of microseconds; 0 if it is none."""
    return int(text) / 1e6 if re.fullmatch("[0-9]{1,18}", text) else 0.0


def _extend(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"
