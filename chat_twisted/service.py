"""The subcommand ``twistd chatserver``: its options, and the service that they make.

The one place on the server's side that knows all parts and puts them together, and the only one
that takes the global reactor.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorFromThreads,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.threads import deferToThreadPool
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from chat_twisted import __version__, archive
from chat_twisted.accounts import HASHING_AT_ONCE, Accounts, Gate, Passwords
from chat_twisted.clocks import use_monotonic_clock
from chat_twisted.doors.framed import FIRST_WORDS, FramedFactory, describe
from chat_twisted.doors.front import (
    DECIDE_WITHIN,
    MAX_UNDECIDED,
    Choice,
    FrontFactory,
    Plaintext,
)
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.tls import ServerTLS, TLSError, ensure
from chat_twisted.files import FilesError
from chat_twisted.frames import MAX_BODY
from chat_twisted.hub import Hub, Origin
from chat_twisted.ledger import EmbeddedLedger, SQLiteStore
from chat_twisted.limits import OFF, Limiter, Limits, Rate
from chat_twisted.logs import Logger
from chat_twisted.text import printable

DEFAULT_LISTEN = "tcp:8828"
DEFAULT_CLIENTS = 10_000
DEFAULT_IDLE = 60  # seconds
DEFAULT_GRACE = 600  # seconds

DEFAULTS = Limits()

MAX_MOTD = 10_000
"""Characters of what is said to everybody who logs in."""

BACKLOG = 4096
"""How many peers may wait to be accepted; Linux takes no more than net.core.somaxconn."""

DAY = 24 * 60 * 60  # seconds

SWITCH_INTERVAL = 0.0005
"""Seconds for which the reactor may keep Python from the thread that writes, and the other way
round. With Python's own 5 ms, a commit of a few statements waits that long for each of them."""

COLLECT_AFTER = (20_000, 20, 50)
"""After how many new objects those are looked through for cycles, after how many times of that the
ones that stayed, and after how many of that all."""

SPARE_DESCRIPTORS = 128
"""File descriptors that are kept for the archive, the log and the operator's commands, and for
connections that were just accepted and must be closed again."""

FEWEST_CONNECTIONS = 16
"""A system that allows fewer is no place for a server."""


MANUAL = f"""\
NAME
    twistd chatserver - a chat that every terminal can talk to

SYNOPSIS
    twistd [-n] chatserver [--listen ENDPOINT]... [--max-message BYTES] [--max-clients N]
                           [--idle SECONDS] [--state DIR] [--sync normal|full]
                           [--grace SECONDS] [--retain DAYS]
                           [--plaintext loopback|anywhere|nowhere] [--guests yes|no]
                           [--motd FILE] [--limits on|off] [LIMIT]...
                           [--certificate FILE --private-key FILE]

DESCRIPTION
    Serves the chat to the bundled client (python -m chat_twisted.client USER HOST) and to the
    original client.py of CLI-Chat-Application, on the same port.

    With -n it stays in the foreground and logs to standard output; without, it becomes a daemon
    that logs to twistd.log. (twistd --help lists what else twistd can do.) It runs until SIGTERM or
    SIGINT (Ctrl-C), says BYE to every client, and leaves within a second. SIGHUP makes it read its
    certificate again; nobody is dropped.

    Connections are encrypted (TLS 1.2 or newer) with a certificate that is made at the first start.
    Clients remember it; its fingerprint is logged at every start, to be compared.

    What is said is written to one SQLite file before anybody hears of it: a message that was
    answered SENT survives a crash, and reaches who is away when he comes back.

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
        SECONDS, or said nothing at all for 10. Default: {DEFAULT_IDLE}.

    -s, --state DIR
        The folder of the files chat.sqlite and index.sqlite (which is made again if it is not
        there), made if there is none. One server at a time uses it.
        Default: $XDG_STATE_HOME/chat_twisted, else ~/.local/state/chat_twisted.
        "python -m chat_twisted.archive export --state DIR" prints all messages, "... check" looks
        whether the file is sound; both also while the server runs.

    --sync normal|full
        What a message that was answered SENT survives. normal: that the server is killed or
        crashes; if the machine does, or loses power, the last moments may be lost. full: that too,
        for a wait for the disk with every commit. Default: normal.

    -g, --grace SECONDS
        How long the name of a client whose connection was lost is kept for it, with what is sent to
        it meanwhile; also counted from the start of the server, if it was that which was gone. 0:
        not at all, and nobody can return. Default: {DEFAULT_GRACE}.

    --retain DAYS
        Delete messages that are older. Default: keep them all.

    --plaintext loopback|anywhere|nowhere
        From where connections without encryption are taken; the original client knows no other.
        Default: loopback, that is from this machine alone.

    --guests yes|no
        Whether anybody comes in under a name that has no account. Default: yes. Accounts are made
        by clients (/register), or with "python -m chat_twisted.accounts".

    --motd FILE
        A text to show to everybody who logs in.

    --limits on|off
        off: none of the limits below holds but --unread, for load tests. Default: on. People
        don't meet them, floods do; who does is told to wait (ERROR 109), or let go at the door
        (ERROR 112). A rate is PER_SECOND:BURST, so much for ever and so much at once.
    --messages RATE, --bytes RATE
        What one session may say. Default: 50:500 and 262144:4194304.
    --address-messages RATE, --address-bytes RATE
        What all sessions from one address may. Default: 500:5000 and 2621440:41943040.
    --work RATE, --address-work RATE
        How many seconds the server may work aside for one session, and for all from one address:
        reading back, and looking at passwords. Default: 0.25:10 and 0.5:30.
    --logins RATE, --registrations RATE
        Names asked for, and accounts made, from one address. Default: 20:500 and 1:100.
    --connections N
        From one address at once. Default: 1000. It has as many as there may be others at most:
        half of what the system allows in open files, if nobody else is there. It may make twice as
        many at once, and a tenth as many a second for ever (2000 and 100 at least).
    --unread BYTES
        What may wait for a client that does not read; past it, it is cut off. Default: 8388608.
    --rooms N, --address-rooms N
        How many rooms a user may be in, and how many there may be at once that users of one address
        have made. Default: {DEFAULTS.rooms} and {DEFAULTS.address_rooms}.
    --held N
        How many guests of one address are held at once who have lost their connections. Past it,
        the one who lost it first is let go before --grace is over. Default: {DEFAULTS.held}.

    --certificate FILE
    --private-key FILE
        A certificate of one's own, with those that lead to its authority behind it, and its key,
        both as PEM. Default: certificate.pem and private-key.pem in the state folder, which are
        made if they are not there.

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


def _number(option: str, least: int = 1) -> Callable[[str], int]:
    """Return what reads the value of ``option``: a whole number from ``least`` on."""

    def read(value: str) -> int:
        digits = value.isascii() and value.isdigit() and 0 < len(value) <= 9
        if not digits or int(value) < least:
            raise usage.UsageError(f"--{option} is a whole number from {least} on, not {value!r}")
        return int(value)

    return read


def _rate(option: str) -> Callable[[str], Rate]:
    """Return what reads the value of ``option``: so many a second, and so many at once."""

    def read(value: str) -> Rate:
        per_second, _, burst = value.partition(":")
        try:
            rate = Rate(float(per_second), float(burst))
        except ValueError:
            rate = Rate(0, 0)
        if not (0 < rate.per_second < 1e12 and 1 <= rate.burst < 1e12):
            raise usage.UsageError(f"--{option} is PER_SECOND:BURST, like 50:500, not {value!r}")
        return rate

    return read


def _one_of(option: str, *values: str) -> Callable[[str], str]:
    """Return what reads the value of ``option``: one of ``values``."""

    def read(value: str) -> str:
        if value not in values:
            listed = f"{', '.join(values[:-1])} or {values[-1]}"
            raise usage.UsageError(f"--{option} is {listed}, not {value!r}")
        return value

    return read


class Options(usage.Options):
    """What may be said behind ``twistd chatserver``."""

    optParameters = [
        ["max-message", "m", MAX_BODY, "", _number("max-message")],
        ["max-clients", "c", DEFAULT_CLIENTS, "", _number("max-clients")],
        ["idle", "i", DEFAULT_IDLE, "", _number("idle")],
        ["state", "s", None, "", Path],
        ["sync", None, "normal", "", _one_of("sync", "normal", "full")],
        ["grace", "g", DEFAULT_GRACE, "", _number("grace", 0)],
        ["retain", None, None, "", _number("retain")],
        [
            "plaintext",
            None,
            "loopback",
            "",
            _one_of("plaintext", "loopback", "anywhere", "nowhere"),
        ],
        ["guests", None, "yes", "", _one_of("guests", "yes", "no")],
        ["motd", None, None, "", Path],
        ["limits", None, "on", "", _one_of("limits", "on", "off")],
        ["messages", None, DEFAULTS.messages, "", _rate("messages")],
        ["bytes", None, DEFAULTS.octets, "", _rate("bytes")],
        ["address-messages", None, DEFAULTS.address_messages, "", _rate("address-messages")],
        ["address-bytes", None, DEFAULTS.address_octets, "", _rate("address-bytes")],
        ["work", None, DEFAULTS.work, "", _rate("work")],
        ["address-work", None, DEFAULTS.address_work, "", _rate("address-work")],
        ["logins", None, DEFAULTS.logins, "", _rate("logins")],
        ["registrations", None, DEFAULTS.registrations, "", _rate("registrations")],
        ["connections", None, DEFAULTS.connections, "", _number("connections")],
        ["unread", None, DEFAULTS.unread, "", _number("unread")],
        ["rooms", None, DEFAULTS.rooms, "", _number("rooms")],
        ["address-rooms", None, DEFAULTS.address_rooms, "", _number("address-rooms")],
        ["held", None, DEFAULTS.held, "", _number("held")],
        ["certificate", None, None, "", Path],
        ["private-key", None, None, "", Path],
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

    def _limits(self) -> Limits:
        return Limits(
            messages=self["messages"],
            octets=self["bytes"],
            address_messages=self["address-messages"],
            address_octets=self["address-bytes"],
            work=self["work"],
            address_work=self["address-work"],
            logins=self["logins"],
            registrations=self["registrations"],
            connections=self["connections"],
            arrivals=Rate(max(100, self["connections"] / 10), max(2000, 2 * self["connections"])),
            unread=self["unread"],
            rooms=self["rooms"],
            address_rooms=self["address-rooms"],
            held=self["held"],
        )

    def postOptions(self) -> None:
        """Make the endpoints, so that a wrong one is found before anything is started."""
        from twisted.internet import reactor

        self.motd = _read_motd(self["motd"])
        limits = self._limits()
        self.limits = OFF._replace(unread=limits.unread) if self["limits"] == "off" else limits
        own = (self["certificate"], self["private-key"])
        if (own[0] is None) != (own[1] is None):
            raise usage.UsageError("--certificate and --private-key go together")
        self.certificate_files = None if own[0] is None else own
        self.endpoints: list[tuple[str, IStreamServerEndpoint]] = []
        for description in self["listen"] or [DEFAULT_LISTEN]:
            try:
                endpoint = serverFromString(reactor, _with_backlog(description))
            except Exception as error:  # noqa: BLE001  plugins parse the strings, each in its way
                raise usage.UsageError(
                    f"--listen {description}: not an endpoint: {error}"
                ) from None
            self.endpoints.append((description, endpoint))


def _with_backlog(description: str) -> str:
    """Let more peers wait to be accepted than Twisted's 50: a class that comes in at once, or all
    clients after a restart, would be turned away by the system and try again a second later.
    """
    kind = description.partition(":")[0]
    if kind not in ("tcp", "tcp6", "unix") or ":backlog=" in description:
        return description
    return f"{description}:backlog={BACKLOG}"


def _read_motd(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")[:MAX_MOTD]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text in UTF-8"
        raise usage.UsageError(f"--motd {path}: {reason}") from None


def fail(reason: str) -> NoReturn:
    """Say in one line why the server can't start, and exit with 1.

    The line goes to the standard error that the process was started with, since twistd makes a
    log of ``sys.stderr``.
    """
    print(printable(f"chatserver: {reason}"), file=sys.__stderr__)
    raise SystemExit(1)


class ChatService(Service):
    """The server: listens when started, lets go of everybody when stopped.

    :param front: what listens; ``framed`` is a door behind it.
    :param wind_down: called at once, to end what nobody must wait for.
    :param stop_storage: called when all are gone, to finish what is to be written.
    :param pidfile: what twistd has written, and does not remove by itself if the start fails.
    """

    _log = Logger()

    def __init__(
        self,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        front: FrontFactory,
        framed: FramedFactory,
        tls: ServerTLS,
        wind_down: Callable[[], None],
        stop_storage: Callable[[], Deferred[None]],
        pidfile: str | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._front = front
        self._framed = framed
        self._tls = tls
        self._wind_down = wind_down
        self._stop_storage = stop_storage
        self._pidfile = pidfile
        self._ports: list[IListeningPort] = []
        self._started = False

    def privilegedStartService(self) -> None:
        """Listen, before twistd gives up the rights that a low port may need."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._started = True
        self._log_fingerprint()
        for description, endpoint in self._endpoints:
            problems: list[Failure] = []
            endpoint.listen(self._front).addCallbacks(self._listens, problems.append)
            if problems:
                self._give_up(description, problems[0])

    def startService(self) -> None:
        """Listen, unless ``privilegedStartService`` did."""
        super().startService()  # type: ignore[no-untyped-call]
        if not self._started:
            self.privilegedStartService()

    def _log_fingerprint(self) -> None:
        self._log.info(
            "the certificate's fingerprint is {fingerprint}", fingerprint=self._tls.fingerprint
        )

    def reload(self) -> None:
        """Take the certificate's files as they are now; if they can't be used, go on without."""
        try:
            self._tls.reload()
        except TLSError as error:
            self._log.error("the certificate stays as it was: {reason}", reason=str(error))
        else:
            self._log_fingerprint()

    def _listens(self, port: IListeningPort) -> None:
        self._ports.append(port)
        self._front.listens(port)
        self._log.info("listening on {address}", address=describe(port.getHost()))

    def _give_up(self, description: str, failure: Failure) -> NoReturn:
        if self._pidfile:
            with contextlib.suppress(OSError):
                os.unlink(self._pidfile)
        error = failure.value
        if isinstance(error, CannotListenError):
            error = error.socketError
        fail(f"can't listen on {description}: {getattr(error, 'strerror', None) or error}")

    def stopService(self) -> Deferred[Any]:
        """Say BYE to everybody; fire when all are gone and all is written."""
        super().stopService()  # type: ignore[no-untyped-call]
        stopping: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in self._ports]
        self._front.stop()
        stopping.append(self._framed.stop("The server is stopping"))
        self._wind_down()
        return gatherResults(stopping).addBoth(lambda _: self._stop_storage())


def _count_connections(clients: int) -> int:
    """Let this process have as many connections as the options allow, if the system does; return
    how many there may be.

    The limit that programs are started with is often 1024; they may raise it themselves. A client
    of version 1 has two connections.
    """
    try:
        own = len(os.listdir("/dev/fd")) + SPARE_DESCRIPTORS
    except OSError:
        own = 2 * SPARE_DESCRIPTORS
    wanted = own + 2 * clients + MAX_UNDECIDED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = wanted
    elif soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connections = soft - own
    if connections < FEWEST_CONNECTIONS:
        fail(f"the system allows {soft} open files: too few (see ulimit -n)")
    if connections < clients:
        Logger().warn(
            "the system allows {allowed} open files: {connections} connections, too few for "
            "{clients} clients",
            allowed=soft,
            connections=connections,
            clients=clients,
        )
    return connections


def _stop_when_told(reactor: Any) -> None:
    """Have the signals that end the server handled in the reactor's own time.

    Twisted's handlers log at once, and would wait for ever if they interrupt what is just logging.
    """

    def later(number: int, _: object) -> None:
        stop = reactor.sigInt if number == signal.SIGINT else reactor.sigTerm
        reactor.callFromThread(stop, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, later)


def _spare_the_collector() -> None:
    """Let Python look for cycles among what is new, and seldom.

    What is there at the start stays. A message is let go of by its last user and makes no cycle;
    counting objects to find that there is none is work for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def makeService(options: Options) -> Service:
    """Put the server together; twistd calls it with the options it has read."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    clock = cast(IReactorTime, reactor)
    try:
        folder = options["state"] or archive.default_folder()
        # Held until the process ends; a daemon inherits it.
        archive.lock(folder)
        saved = archive.prepare(folder, sync=options["sync"])
        tls = ServerTLS(*(options.certificate_files or ensure(folder)))
    except (archive.ArchiveError, FilesError, TLSError) as error:
        fail(str(error))
    connections = _count_connections(options["max-clients"])
    sys.setswitchinterval(SWITCH_INTERVAL)
    reactor.callWhenRunning(_spare_the_collector)
    reactor.callWhenRunning(_stop_when_told, reactor)
    store = SQLiteStore(folder, reactor, sync=options["sync"])
    retain = options["retain"]
    ledger: EmbeddedLedger[Origin] = EmbeddedLedger(
        store, saved, clock, time.time, retain=None if retain is None else retain * DAY
    )
    pool = ThreadPool(0, HASHING_AT_ONCE, "passwords")
    pool.start()  # which starts no thread yet: twistd may still fork
    threads = cast(IReactorFromThreads, reactor)
    passwords = Passwords(partial(deferToThreadPool, threads, pool), clock)
    accounts = Accounts(passwords)
    limiter = Limiter(options.limits, connections - connections // 8)
    hub = Hub(
        ledger,
        clock,
        time.time,
        accounts,
        limiter,
        max_clients=options["max-clients"],
        grace=options["grace"],
        guests=options["guests"] == "yes",
    )
    gate = Gate(accounts, clock)
    framed = FramedFactory(
        hub,
        gate,
        clock,
        max_message=options["max-message"],
        idle=options["idle"],
        max_unread=options.limits.unread,
        motd=options.motd,
        poller=Poller.over(reactor),
    )
    front = FrontFactory(
        [Choice(framed, FIRST_WORDS)],
        tls,
        clock,
        limiter,
        plaintext=Plaintext(options["plaintext"]),
        max_connections=connections,
        decide_within=min(DECIDE_WITHIN, options["idle"]),
        idle=options["idle"],
    )

    def wind_down() -> None:
        passwords.stop()
        ledger.wind_down()

    def stop() -> Deferred[None]:
        pool.stop()  # at most it waits for two passwords that are looked at
        return ledger.stop()

    parent: Mapping[str, str] = options.parent or {}
    service = ChatService(
        options.endpoints, front, framed, tls, wind_down, stop, parent.get("pidfile")
    )
    signal.signal(signal.SIGHUP, lambda *_: threads.callFromThread(service.reload))
    return service
