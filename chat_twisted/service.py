"""The subcommand ``twistd chatserver``: its options, and the service that they make.

The one place on the server's side that knows all parts and puts them together, and the only one
that takes the global reactor.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from chat_twisted import __version__
from chat_twisted.doors.framed import FramedFactory, describe
from chat_twisted.frames import MAX_BODY
from chat_twisted.hub import Hub, Request
from chat_twisted.ledger import MemoryLedger

DEFAULT_LISTEN = "tcp:8828"
DEFAULT_CLIENTS = 10_000
DEFAULT_IDLE = 60  # seconds

SPARE_DESCRIPTORS = 64
"""File descriptors that the process needs beside its clients' connections."""


MANUAL = f"""\
NAME
    twistd chatserver - a chat that every terminal can talk to

SYNOPSIS
    twistd [-n] chatserver [--listen ENDPOINT]... [--max-message BYTES] [--max-clients N]
                           [--idle SECONDS]

DESCRIPTION
    Serves the chat to the bundled client (python -m chat_twisted.client USER HOST) and to the
    original client.py of CLI-Chat-Application, on the same port.

    With -n it stays in the foreground and logs to standard output; without, it becomes a daemon
    that logs to twistd.log. (twistd --help lists what else twistd can do.) It runs until SIGTERM or
    SIGINT (Ctrl-C), says BYE to every client, and leaves within a second. A message is kept in
    memory for as long as it takes to deliver it.

OPTIONS
    -l, --listen ENDPOINT
        Where to take connections; may be given several times. Default: {DEFAULT_LISTEN}.
        ENDPOINT is a Twisted endpoint string, among them:
            tcp:8828                         port 8828 on every IPv4 address
            tcp:8828:interface=127.0.0.1     the same for this machine alone
            tcp6:8828                        port 8828 on every IPv6 address
            unix:/run/chat.socket            a Unix socket
            systemd:domain=INET:index=0      a socket that systemd opened

    -m, --max-message BYTES
        The longest text of a message, in bytes of UTF-8. Default: {MAX_BODY}.

    -c, --max-clients N
        How many clients may be connected at once. Default: {DEFAULT_CLIENTS}.

    -i, --idle SECONDS
        A client that was silent for so long is asked whether it is there; one that was silent for
        twice as long is disconnected, and so is a connection that did not register within
        SECONDS. Default: {DEFAULT_IDLE}.

    --version
        Print the version and exit.

    --help
        Print this page and exit.

EXIT STATUS
    1   could not start: the reason is the last line on standard error
    Stopped by a signal, it ends by that signal: 143 in a shell after SIGTERM, 130 after Ctrl-C.

EXAMPLES
    twistd -n chatserver
    twistd -n chatserver --listen tcp:8828:interface=127.0.0.1 --listen tcp6:8828
    twistd --pidfile chat.pid --logfile chat.log chatserver --max-clients 200
"""


def _number(option: str) -> Callable[[str], int]:
    """Return what reads the value of ``option``: a whole number from 1 on."""

    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and 0 < len(value) <= 9 and int(value)):
            raise usage.UsageError(f"--{option} is a whole number from 1 on, not {value!r}")
        return int(value)

    return read


class Options(usage.Options):
    """What may be said behind ``twistd chatserver``."""

    optParameters = [
        ["max-message", "m", MAX_BODY, "", _number("max-message")],
        ["max-clients", "c", DEFAULT_CLIENTS, "", _number("max-clients")],
        ["idle", "i", DEFAULT_IDLE, "", _number("idle")],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Add an endpoint to those that connections are taken at."""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_version(self) -> NoReturn:
        """Display the version and exit."""
        print(f"chat_twisted {__version__}")  # noqa: T201  what was asked for
        sys.exit(0)

    def __str__(self) -> str:
        return MANUAL  # which --help prints

    def parseArgs(self, *arguments: str) -> None:
        """Take what is not an option: there is no such thing."""
        if arguments:
            raise usage.UsageError(f"not an option: {arguments[0]}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; on a wrong one, say what is wrong in one line and exit with 1.

        Twisted's own way is to print the whole help, with the reason as its last line.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            fail(f"{error} (twistd chatserver --help lists the options)")

    def postOptions(self) -> None:
        """Make the endpoints, so that a wrong one is found before anything is started."""
        from twisted.internet import reactor

        self.endpoints: list[tuple[str, IStreamServerEndpoint]] = []
        for description in self["listen"] or [DEFAULT_LISTEN]:
            try:
                endpoint = serverFromString(reactor, description)
            except Exception as error:  # noqa: BLE001  plugins parse the strings, each in its way
                raise usage.UsageError(
                    f"--listen {description}: not an endpoint: {error}"
                ) from None
            self.endpoints.append((description, endpoint))


def fail(reason: str) -> NoReturn:
    """Say in one line why the server can't start, and exit with 1.

    The line goes to the standard error that the process was started with, since twistd makes a
    log of ``sys.stderr``.
    """
    print(f"chatserver: {reason}", file=sys.__stderr__)
    raise SystemExit(1)


class ChatService(Service):
    """The server: listens when started, lets go of everybody when stopped.

    :param pidfile: what twistd has written, and does not remove by itself if the start fails.
    """

    _log = Logger()

    def __init__(
        self,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        factory: FramedFactory,
        pidfile: str | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._factory = factory
        self._pidfile = pidfile
        self._ports: list[IListeningPort] = []
        self._started = False

    def privilegedStartService(self) -> None:
        """Listen, before twistd gives up the rights that a low port may need."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._started = True
        for description, endpoint in self._endpoints:
            problems: list[Failure] = []
            endpoint.listen(self._factory).addCallbacks(self._listens, problems.append)
            if problems:
                self._give_up(description, problems[0])

    def startService(self) -> None:
        """Listen, unless ``privilegedStartService`` did."""
        super().startService()  # type: ignore[no-untyped-call]
        if not self._started:
            self.privilegedStartService()

    def _listens(self, port: IListeningPort) -> None:
        self._ports.append(port)
        self._log.info("listening on {address}", address=describe(port.getHost()))

    def _give_up(self, description: str, failure: Failure) -> NoReturn:
        if self._pidfile:
            with contextlib.suppress(OSError):
                os.unlink(self._pidfile)
        error = failure.value
        if isinstance(error, CannotListenError):
            error = error.socketError
        fail(f"can't listen on {description}: {getattr(error, 'strerror', None) or error}")

    def stopService(self) -> Deferred[list[Any]]:
        """Say BYE to everybody; fire when all are gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        stopping: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in self._ports]
        stopping.append(self._factory.stop("The server is stopping"))
        return gatherResults(stopping)


def _raise_descriptor_limit(clients: int) -> None:
    """Let this process have as many connections as the options allow, if the system does.

    The limit that programs are started with is often 1024; they may raise it themselves. A client
    of version 1 has two connections.
    """
    wanted = 2 * clients + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < clients + SPARE_DESCRIPTORS:
        Logger().warn(
            "the system allows {allowed} open files: too few for {clients} clients",
            allowed=allowed,
            clients=clients,
        )


def makeService(options: Options) -> Service:
    """Put the server together; twistd calls it with the options it has read."""
    from twisted.internet import reactor

    clock = cast(IReactorTime, reactor)
    _raise_descriptor_limit(options["max-clients"])
    ledger: MemoryLedger[Request] = MemoryLedger(clock)
    hub = Hub(ledger, max_clients=options["max-clients"])
    factory = FramedFactory(hub, clock, max_message=options["max-message"], idle=options["idle"])
    parent: Mapping[str, str] = options.parent or {}
    return ChatService(options.endpoints, factory, parent.get("pidfile"))
