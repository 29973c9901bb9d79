"""The subcommand ``twistd chatserver``: its options, and the service that they make.

The one place on the server's side that knows all parts and puts them together, and the only one
that takes the global reactor.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import signal
import socket
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn, TextIO, cast

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorFromThreads,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, textFileLogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from chat_twisted import __version__
from chat_twisted.auth.gate import Gate
from chat_twisted.auth.passwords import HASHING_AT_ONCE, Passwords
from chat_twisted.clocks import LogTime, SettledTime, use_monotonic_clock
from chat_twisted.control import Control, ControlFactory, ControlService
from chat_twisted.core import snapshot
from chat_twisted.core.commands import Options as Deciding
from chat_twisted.core.commands import Start
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import OFF, Limiter, Limits, Rate
from chat_twisted.core.sessions import Request
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.framed import FIRST_WORDS, FramedConnection, FramedFactory, describe
from chat_twisted.doors.front import (
    DECIDE_WITHIN,
    MAX_UNDECIDED,
    Choice,
    FrontFactory,
    Plaintext,
)
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.tls import ServerTLS, TLSError, ensure
from chat_twisted.doors.version1 import Version1
from chat_twisted.files import (
    FilesError,
    InUse,
    ProcessFile,
    acting_as,
    make_private_folder,
    require_trusted,
)
from chat_twisted.frames import MAX_BODY
from chat_twisted.logfile import KEPT, MAX_SIZE, LogFile
from chat_twisted.logs import Logger
from chat_twisted.memory import find_trim
from chat_twisted.storage import archive
from chat_twisted.storage.embedded import EmbeddedLedger
from chat_twisted.storage.housekeeping import Housekeeping
from chat_twisted.storage.reading import lower_priority
from chat_twisted.storage.reads import ArchiveReads
from chat_twisted.storage.store import SQLiteStore
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

TRIM_EVERY = 10
"""Seconds after which memory that is free is given back to the system."""

COLLECT_AFTER = (20_000, 20, 50)
"""After how many new objects those are looked through for cycles, after how many times of that the
ones that stayed, and after how many of that all."""

HASHING_NICE = 10
"""How much the threads that look at passwords give way to the others."""

SPARE_DESCRIPTORS = 128
"""File descriptors that are kept for the archive, the log and the operator's commands, and for
connections that were just accepted and must be closed again."""

FEWEST_CONNECTIONS = 16
"""A system that allows fewer is no place for a server."""


LOCK_PATIENCE = 5.0
"""Seconds that a start waits for a server that ends, or an operator's command."""

LOG_MEGABYTES = MAX_SIZE // 1_000_000

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
    that logs to twistd.log in the folder where it was started ("twistd --logfile FILE" names
    another; twistd --help lists what else twistd can do). It runs until SIGTERM or SIGINT (Ctrl-C),
    says BYE to every client, and leaves within a second. Its process number is in the file "lock"
    of the state folder while it runs: kill "$(cat DIR/lock)". "twistd --pidfile FILE" has it
    written to a file of one's own as well; there is none otherwise.

    SIGHUP makes it open its log file anew and read its certificate again; nobody is dropped.
    SIGUSR1 and SIGUSR2 are ignored. A log file of {LOG_MEGABYTES} MB is renamed to FILE.1;
    {KEPT} old ones are kept.

    Started by root with "twistd --uid USER", it listens as root and makes all its files, the log
    too, as USER; the default state folder is in the home folder of USER then.

    Connections are encrypted (TLS 1.2 or newer) with a certificate that is made at the first start.
    Clients remember it; its fingerprint is logged at every start, to be compared.

    What is said is written to one SQLite file before anybody hears of it: a message that was
    answered SENT survives a crash, and reaches users who are away when they come back.

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
        The longest text of a message, in bytes of UTF-8. Default: {MAX_BODY}. The client of this
        project reads texts of up to 4 MiB and ends its session at a longer one.

    -c, --max-clients N
        How many clients may be connected at once. Default: {DEFAULT_CLIENTS}.

    -i, --idle SECONDS
        A client that was silent for so long is asked whether it is there; one that was silent for
        twice as long is disconnected, and so is a connection that did not register within
        SECONDS, or said nothing at all for 10. Default: {DEFAULT_IDLE}.

    -s, --state DIR
        The folder of the files chat.sqlite and index.sqlite (which is made again if it is not
        there), made if there is none. One server at a time uses it. It is for the server's user
        alone: if others may write in it, or it belongs to another user, the server does not start.
        If others may read or write a file in it, the server takes that permission away, and the log
        says so.
        Default: $XDG_STATE_HOME/chat_twisted, else ~/.local/state/chat_twisted.
        "python -m chat_twisted.admin" manages the server while it runs, over the Unix socket
        control.socket in this folder: "... status" says how it is, "... accounts", "... kick" and
        "... ban" who may come in; and "... export" prints all messages, "... check" looks whether
        the file is sound, "... backup FILE" copies it. "... --help" tells of them all.
        docs/backup.rst tells how to put a backup back.

    --sync normal|full
        What a message that was answered SENT survives. normal: that the server is killed or
        crashes; if the machine does, or loses power, the last moments may be lost. full: that too,
        for a wait for the disk with every commit. Default: normal.

    -g, --grace SECONDS
        How long the name of a client whose connection was lost is kept for it, with what is sent to
        it meanwhile; also counted from the start of the server, if it was that which was gone. 0:
        not at all, and nobody can return. Default: {DEFAULT_GRACE}.

    --retain DAYS
        Delete messages that are older. Default: keep them all. If the clock was set, messages are
        deleted by its new time only after that has stood for an hour.

    --plaintext loopback|anywhere|nowhere
        From where connections without encryption are taken; the original client knows no other.
        Default: loopback, that is from this machine alone.

    --guests yes|no
        Whether anybody comes in under a name that has no account. Default: yes. Accounts are made
        by clients (/register), or with "python -m chat_twisted.admin accounts".

    --motd FILE
        A text to show to everybody who logs in.

    --limits on|off
        off: none of the limits below holds but --unread, for load tests. Default: on. People
        don't meet the limits, floods do. A client that does is told to wait (ERROR 109); one that
        has too many connections is refused (ERROR 112). A rate is PER_SECOND:BURST: so much each
        second for any time, and so much at once.
    --messages RATE, --bytes RATE
        What one session may say. Default: 50:500 and 262144:4194304.
    --address-messages RATE, --address-bytes RATE
        What all sessions from one address may. Default: 500:5000 and 2621440:41943040.
    --work RATE, --address-work RATE
        How many seconds the server may work aside for one session, and for all from one address:
        reading back, and looking at passwords. A page of a list counts ten times, since everybody
        waits for it. Default: 0.25:10 and 0.5:30.
    --logins RATE, --registrations RATE
        Names asked for, and accounts made, from one address. Default: 20:500 and 1:100.
    --connections N
        How many connections one address may have at once. Default: 1000. It never has more than
        are still free: if nobody else is there, half of what the system allows in open files. It
        may open twice as many at once, and a tenth as many each second (at least 2000 and 100).
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
        made if they are not there. A key that everybody may read is refused.

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
    twistd --logfile chat.log chatserver --max-clients 200
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


def _path(value: str) -> Path:
    """Read a path; it stays the same when the process goes to another folder (--rundir)."""
    return Path(value).absolute()


class Options(usage.Options):
    """What may be said behind ``twistd chatserver``."""

    optParameters = [
        ["max-message", "m", MAX_BODY, "", _number("max-message")],
        ["max-clients", "c", DEFAULT_CLIENTS, "", _number("max-clients")],
        ["idle", "i", DEFAULT_IDLE, "", _number("idle")],
        ["state", "s", None, "", _path],
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
        ["certificate", None, None, "", _path],
        ["private-key", None, None, "", _path],
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

    def _take_over_from_twistd(self) -> None:
        """Take over those of twistd's own options that it would follow too late or otherwise.

        A pid file is written if one is asked for, and never keeps the server from starting: that
        the state folder is free is decided by the lock in it, also where a number in a file that
        was left behind belongs to another process by now.
        """
        self.pidfile: Path | None = None
        self.log_path: Path | None = None
        twistd = self.parent
        if twistd is None or "pidfile" not in twistd:  # another program, ``twist`` for one
            return
        # twistd does not say whether it was given; if so, it is another object than the default.
        if twistd["pidfile"] and twistd["pidfile"] is not twistd.defaults["pidfile"]:
            self.pidfile = Path(twistd["pidfile"]).absolute()
        twistd["pidfile"] = ""
        if twistd["chroot"] is not None:
            raise usage.UsageError("--chroot: it would not find its files there")
        if not Path(twistd["rundir"]).is_dir():
            raise usage.UsageError(f"--rundir {twistd['rundir']}: no such folder")
        if twistd["logger"] is None and not twistd["syslog"] and twistd["logfile"] != "-":
            foreground = twistd["nodaemon"] or twistd["debug"]
            if twistd["logfile"] or not foreground:
                self.log_path = Path(twistd["logfile"] or "twistd.log").absolute()

    def postOptions(self) -> None:
        """Make the endpoints, so that a wrong one is found before anything is started."""
        from twisted.internet import reactor

        self._take_over_from_twistd()
        self.motd = _read_motd(self["motd"])
        limits = self._limits()
        self.limits = OFF._replace(unread=limits.unread) if self["limits"] == "off" else limits
        self.decide = Deciding(
            self["grace"] * 1000,
            self["guests"] == "yes",
            self.limits.rooms,
            self.limits.address_rooms,
            self["max-clients"],
            self.limits.held,
        )
        own = (self["certificate"], self["private-key"])
        if (own[0] is None) != (own[1] is None):
            raise usage.UsageError("--certificate and --private-key go together")
        self.certificate_files = None if own[0] is None else own
        self.endpoints: list[tuple[str, IStreamServerEndpoint]] = []
        for description in self["listen"] or [DEFAULT_LISTEN]:
            try:
                endpoint = serverFromString(reactor, _as_we_listen(description))
            except Exception as error:  # noqa: BLE001  plugins parse the strings, each in its way
                raise usage.UsageError(
                    f"--listen {description}: not an endpoint: {error}"
                ) from None
            self.endpoints.append((description, endpoint))


def _lock_pidfile(path: Path) -> ProcessFile:
    try:
        return ProcessFile(path, 0o644)
    except InUse as error:
        fail(f"--pidfile {path}: another server uses it ({error})")
    except FilesError as error:
        fail(f"--pidfile {error}")


def _as_we_listen(description: str) -> str:
    """Add to the description of an endpoint what this server wants otherwise than Twisted.

    More peers may wait to be accepted than Twisted's 50: a class that comes in at once, or all
    clients after a restart, would be turned away by the system and try again a second later. A Unix
    socket has no lock that names the process, since a daemon gets another number; see ``listen``.
    """
    kind = description.removeprefix("haproxy:").partition(":")[0]
    if kind in ("tcp", "tcp6", "unix") and ":backlog=" not in description:
        description = f"{description}:backlog={BACKLOG}"
    if kind == "unix":
        description = re.sub(r":lockfile=[^:]*", "", description) + ":lockfile=0"
    return description


def _read_motd(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        require_trusted(path)
        return path.read_text(encoding="utf-8-sig")[:MAX_MOTD]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text in UTF-8"
        raise usage.UsageError(f"--motd {path}: {reason}") from None
    except FilesError as error:
        raise usage.UsageError(f"--motd {error}") from None


def fail(reason: str) -> NoReturn:
    """Say in one line why the server can't start, and exit with 1.

    The line goes to the standard error that the process was started with, since twistd makes a
    log of ``sys.stderr``.
    """
    print(printable(f"chatserver: {reason}"), file=sys.__stderr__)
    raise SystemExit(1)


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


def listen(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]], factory: FrontFactory, reactor: Any
) -> list[IListeningPort]:
    """Listen on all endpoints; if one can't be listened on, say why and exit with 1.

    This happens before twistd makes a daemon of the process and gives up the rights of root: so the
    reason reaches the standard error of whoever starts it, and nothing is left behind.
    """
    ports: list[IListeningPort] = []
    for description, endpoint in endpoints:
        failure = _try_to_listen(endpoint, factory, ports)
        if failure is not None and _remove_stale_socket(failure.value):
            failure = _try_to_listen(endpoint, factory, ports)
        if failure is not None:
            for port in ports:
                port.stopListening()
            reactor.iterate()  # which removes Unix sockets
            error = failure.value
            if isinstance(error, CannotListenError):
                error = error.socketError
            fail(f"can't listen on {description}: {getattr(error, 'strerror', None) or error}")
    for port in ports:
        factory.listens(port)
    return ports


def _try_to_listen(
    endpoint: IStreamServerEndpoint, factory: FrontFactory, ports: list[IListeningPort]
) -> Failure | None:
    failures: list[Failure] = []
    endpoint.listen(factory).addCallbacks(ports.append, failures.append)
    return failures[0] if failures else None


def _remove_stale_socket(error: BaseException | None) -> bool:
    """Remove the Unix socket that a server which was killed has left, if that is the problem."""
    path = error.port if isinstance(error, CannotListenError) else None
    if not isinstance(path, str | bytes):
        return False
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False  # a file is refused in the same way, and is nobody's to remove
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            os.unlink(path)
            return True
    except OSError:
        pass
    return False


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


def stop_when_told(reactor: Any) -> None:
    """Have the signals that end the server handled in the reactor's own time.

    Twisted's handlers log at once, and would wait for ever if they interrupt what is just logging.
    The first signal is enough: a reactor that is told twice to stop raises.
    """

    def later(number: int, _: object) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
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


class _YieldingThread(Thread):
    """A thread that lets the others have the processor first, and so do those that it makes: a
    password is looked at by four.
    """

    def run(self) -> None:
        """Do what it is for."""
        lower_priority(HASHING_NICE)
        super().run()


def makeService(options: Options) -> Service:
    """Put the server together; twistd calls it with the options it has read."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    clock = cast(IReactorTime, reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    user, group = twistd.get("uid"), twistd.get("gid")
    log = Logger()

    def say(line: str) -> None:
        log.warn("{line}", line=line)

    log_file = None
    try:
        with acting_as(user, group):
            folder = options["state"] or archive.default_folder(user)
            folder = make_private_folder(folder, say)
            # Until the process ends; a daemon inherits it.
            lock = archive.lock(folder, say, patience=LOCK_PATIENCE)
            if options.log_path is not None:
                log_file = LogFile(options.log_path)
            opened = archive.prepare(folder, sync=options["sync"], say=say)
            tls = ServerTLS(*(options.certificate_files or ensure(folder, say)))
    except (FilesError, TLSError) as error:
        fail(str(error))
    connections = _count_connections(options["max-clients"])
    sys.setswitchinterval(SWITCH_INTERVAL)
    reactor.callWhenRunning(_spare_the_collector)
    giving_back = LoopingCall(find_trim() or (lambda: None))
    giving_back.clock = clock
    reactor.callWhenRunning(giving_back.start, TRIM_EVERY, now=False)
    reactor.callWhenRunning(stop_when_told, reactor)
    store = SQLiteStore(folder, reactor, sync=options["sync"])
    turn = EndOfTurn(clock)
    state = snapshot.load(opened.snapshot)
    settled = SettledTime(clock.seconds, time.time, state.time / 1000 if state.time else None)
    log_time = LogTime(clock.seconds, settled, state.time)
    retain = None if options["retain"] is None else options["retain"] * DAY
    keeper = Housekeeping(
        store,
        clock,
        log_time,
        opened.after,
        retain=retain,
    )
    reactor.callWhenRunning(keeper.start)
    ledger: EmbeddedLedger[Request] = EmbeddedLedger(
        store, state, clock, log_time, turn, keeper.written
    )
    pool = ThreadPool(0, HASHING_AT_ONCE, "passwords")
    pool.threadFactory = _YieldingThread
    pool.start()  # which starts no thread yet: twistd may still fork
    threads = cast(IReactorFromThreads, reactor)
    passwords = Passwords(partial(deferToThreadPool, threads, pool), clock)
    limiter = Limiter(options.limits, connections - connections // 8)
    hub = Hub(
        ledger,
        ArchiveReads(store, keeper.when_indexed),
        clock,
        time.time,
        settled.now,
        limiter,
        Start(0, options.decide, opened.after),
        opened.newest,
        max_clients=options["max-clients"],
    )
    gate = Gate(lambda: hub.state, passwords, clock)
    framed = FramedFactory(
        hub,
        gate,
        clock,
        max_message=options["max-message"],
        idle=options["idle"],
        max_unread=options.limits.unread,
        motd=options.motd,
        retain=retain,
        poller=Poller.over(reactor, turn),
        turn=turn,
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
        hub.stop()
        passwords.stop()
        store.interrupt()

    async def stop() -> None:
        if giving_back.running:
            giving_back.stop()
        pool.stop()  # at most it waits for two passwords that are looked at
        await ledger.stop()
        await keeper.stop()
        store.close()

    started = clock.seconds()

    def status() -> dict[str, Any]:
        uptime = round(clock.seconds() - started, 3)
        connections = _count_by_kind(framed)
        return {"process": os.getpid(), "uptime": uptime, "connections": connections}

    pidfile = None if options.pidfile is None else _lock_pidfile(options.pidfile)
    control = None
    try:
        with acting_as(user, group):
            commands = ControlFactory(Control(hub, status), clock)
            control = ControlService(folder, commands, reactor)
        ports = listen(options.endpoints, front, reactor)
    except (SystemExit, FilesError) as error:
        if control is not None:
            control.remove()
        if pidfile is not None:
            pidfile.remove()
        if isinstance(error, FilesError):
            fail(str(error))
        raise
    signal.signal(signal.SIGHUP, lambda *_: threads.callFromThread(service.reload))
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # the system's default is to end the process
        signal.signal(number, signal.SIG_IGN)
    service = ChatService(
        ports, front, framed, tls, control, wind_down, stop, lock, pidfile, log_file
    )
    return service
