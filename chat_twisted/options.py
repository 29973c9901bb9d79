"""The options of ``twistd chatserver``: their values, and the help text.

An invalid command line ends the start with one line. This module does not open files of the state
folder, listen, or start anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from twisted.python import usage

from chat_twisted import __version__
from chat_twisted.core.commands import Options as Deciding
from chat_twisted.core.limits import OFF, Limits, Rate
from chat_twisted.files import FilesError, require_trusted
from chat_twisted.frames import MAX_BODY
from chat_twisted.logfile import KEPT, MAX_SIZE
from chat_twisted.text import printable

DEFAULT_LISTEN = "tcp:8828"
DEFAULT_CLIENTS = 10_000
DEFAULT_IDLE = 60  # seconds
DEFAULT_GRACE = 600  # seconds

DEFAULTS = Limits()

MAX_MOTD = 10_000
"""Maximum characters of the message of the day."""

HINT = "(twistd chatserver --help lists the options)"
"""Ends the error message about an invalid command line."""

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
    """Return a function that parses the value of ``option``, a whole number from ``least`` on."""

    def read(value: str) -> int:
        digits = value.isascii() and value.isdigit() and 0 < len(value) <= 9
        if not digits or int(value) < least:
            raise usage.UsageError(f"--{option} is a whole number from {least} on, not {value!r}")
        return int(value)

    return read


def _rate(option: str) -> Callable[[str], Rate]:
    """Return a function that parses the value of ``option``, a rate limit."""

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
    """Return a function that parses the value of ``option``, one of ``values``."""

    def read(value: str) -> str:
        if value not in values:
            listed = f"{', '.join(values[:-1])} or {values[-1]}"
            raise usage.UsageError(f"--{option} is {listed}, not {value!r}")
        return value

    return read


def _path(value: str) -> Path:
    """Return an absolute path, because twistd may change the current folder (--rundir)."""
    return Path(value).absolute()


class Options(usage.Options):
    """The options of ``twistd chatserver``, as items, and values that are derived from them.

    :ivar limits: the limits for the hub and the doors.
    :ivar decide: the options for the state.
    :ivar motd: the text of the file ``--motd``.
    :ivar certificate_files: the operator's own certificate and key, or None.
    :ivar pidfile, log_path: the options of twistd, or None.
    """

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
        """Add an endpoint on which the server listens."""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_version(self) -> NoReturn:
        """Display the version and exit."""
        print(f"chat_twisted {__version__}")  # noqa: T201  the output of the option
        sys.exit(0)

    def __str__(self) -> str:
        return MANUAL  # printed by --help

    def parseArgs(self, *arguments: str) -> None:
        """Refuse arguments that are not options. Called by Twisted."""
        if arguments:
            raise usage.UsageError(f"not an option: {arguments[0]}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; if it is invalid, print one line and exit with 1.

        Twisted's own way is to print the whole help, with the reason as its last line.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            fail(f"{error} {HINT}")

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
        """Look at the options together, when each is read."""
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
