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
from chat_twisted.node_options import (
    CLUSTER_PORT,
    MONITOR_PORT,
    ClusterOptions,
    parse_monitors,
    parse_node,
    parse_servers,
    usual_monitors,
)
from chat_twisted.text import printable

PORT = 8828
"""The port that clients use if they are given none."""

DEFAULT_LISTEN = f"tcp:{PORT}"
DEFAULT_CLIENTS = 10_000
DEFAULT_IDLE = 60  # seconds
DEFAULT_GRACE = 600  # seconds
DEFAULT_SSH_TERMINALS = 200

DEFAULTS = Limits()

MAX_MOTD = 10_000
"""Maximum characters of the message of the day."""

HINT = "(twistd chatserver --help lists the options)"
"""Ends the error message about an invalid command line."""

LOG_MEGABYTES = MAX_SIZE // 1_000_000

MANUAL = f"""\
NAME
    twistd chatserver - a chat server for the command line

SYNOPSIS
    twistd [-n] chatserver [--listen ENDPOINT]... [--max-message BYTES] [--max-clients N]
                           [--idle SECONDS] [--state DIR] [--sync normal|full]
                           [--grace SECONDS] [--retain DAYS]
                           [--plaintext loopback|anywhere|nowhere] [--guests yes|no]
                           [--irc-all yes|no] [--ssh yes|no] [--ssh-terminals N]
                           [--motd FILE] [--limits on|off] [LIMIT]...
                           [--certificate FILE --private-key FILE]
                           [--cluster URL[,URL]... --node NAME
                            [--cluster-credentials FILE] [--cluster-ca FILE]
                            [--cluster-monitor URL[,URL]...]]

DESCRIPTION
    Serves the chat to the bundled client (python -m chat_twisted.client USER HOST) and to the
    original client.py of CLI-Chat-Application, to any IRC client, and to ssh, on the same port.

    With -n it stays in the foreground and logs to standard output; without it, it becomes a daemon
    that logs to twistd.log in the current folder ("twistd --logfile FILE" names another file;
    twistd --help lists further options). It runs until SIGTERM or SIGINT (Ctrl-C), sends BYE to
    every client, and ends within a second. While it runs, the file "lock" in the state folder has
    its process ID: kill "$(cat DIR/lock)". "twistd --pidfile FILE" writes the ID to another file as
    well.

    At SIGHUP it reopens its log file and reloads its certificate; clients stay connected. It
    ignores SIGUSR1 and SIGUSR2. A log file of {LOG_MEGABYTES} MB is renamed to FILE.1; {KEPT} old
    ones are kept.

    Started by root with "twistd --uid USER", it listens as root and makes all its files, including
    the log, as USER; the default state folder is then in the home folder of USER.

    Connections are encrypted (TLS 1.2 or newer) with a certificate that is made at the first start.
    Clients remember it. Its fingerprint is logged at every start, so that users can compare it.

    Messages are stored in one SQLite file before they are delivered: a message that was answered
    SENT survives a crash, and absent users get it when they return.

OPTIONS
    -l, --listen ENDPOINT
        Where to listen; may be given several times. Default: {DEFAULT_LISTEN}.
        ENDPOINT is a Twisted endpoint string, among them:
            tcp:8828                         port 8828 on every IPv4 address
            tcp:8828:interface=127.0.0.1     the same for this machine alone
            tcp6:8828                        port 8828 on every IPv6 address
            unix:/run/chat.socket            a Unix socket
            systemd:domain=INET:index=0      a socket that systemd opened

    -m, --max-message BYTES
        The maximum length of a message, in bytes of UTF-8. Default: {MAX_BODY}. The client of this
        project accepts up to 4 MiB, and ends its session at a longer text.

    -c, --max-clients N
        The maximum number of connected clients. Default: {DEFAULT_CLIENTS}.

    -i, --idle SECONDS
        A client that is silent for so long gets a PING, and is disconnected after twice as long. A
        connection that does not register within SECONDS, or sends nothing for 10 seconds, is closed
        too. Default: {DEFAULT_IDLE}.

    -s, --state DIR
        The folder of the files chat.sqlite and index.sqlite (which the server rebuilds if it is
        missing). It is made if necessary. Only one server can use it. It is private to the server's
        user: if others may write in it, or it belongs to another user, the server does not start.
        If others may read or write a file in it, the server removes that permission and logs it.
        Default: $XDG_STATE_HOME/chat_twisted, else ~/.local/state/chat_twisted.
        "python -m chat_twisted.admin" manages the running server over the Unix socket
        control.socket in this folder: "... status" shows its state, "... accounts", "... kick" and
        "... ban" manage users, "... export" prints all messages, "... check" checks the files,
        "... backup FILE" copies the archive. "... --help" lists all actions. docs/backup.rst
        explains how to restore a backup.

    --sync normal|full
        normal: a message that was answered SENT survives a crash of the server, but the last
        moments before a loss of power may be lost. full: it survives that too, and every commit
        waits for the disk. A node of a cluster with "full" starts only if the NATS servers wait for
        their disks, too (--cluster-monitor). Default: normal.

    -g, --grace SECONDS
        How long a guest whose connection was lost keeps the name and gets later messages; also
        counted from a restart of the server. 0: not at all, and guests can't return.
        Default: {DEFAULT_GRACE}.

    --retain DAYS
        Delete older messages. Default: keep all. After a change of the system's clock, its new time
        is used only after an hour.

    --plaintext loopback|anywhere|nowhere
        Where unencrypted connections are accepted from; the original client has no encryption.
        Default: loopback, which means from this machine only.

    --guests yes|no
        Whether users without an account may log in. Default: yes. Accounts are made by clients
        (/register), or with "python -m chat_twisted.admin accounts".

    --irc-all yes|no
        Whether clients of IRC are in the channel &ALL from the start; otherwise they join it by
        themselves. Default: yes.

    --ssh yes|no
        Whether users can log in by ssh, with nothing installed: ssh -p {PORT} USER@HOST. The host
        keys are made in the state folder at the first start. Their fingerprints, and lines for
        known_hosts files, are logged at every start. Default: yes.

    --ssh-terminals N
        The maximum number of terminals over ssh: each takes about 130 KiB of memory, and time for
        each message. Without a terminal (ssh -T), the limits are those of all clients.
        Default: {DEFAULT_SSH_TERMINALS}.

    --motd FILE
        A text to show to everybody who logs in.

    --limits on|off
        off: turns off all limits below except --unread, for load tests. Default: on. People don't
        reach these limits, floods do. The server tells a client that exceeds a limit to wait
        (ERROR 109), and refuses too many connections (ERROR 112). A rate is PER_SECOND:BURST: per
        second on average, and at once.
    --messages RATE, --bytes RATE
        Messages of one session, and their bytes; each further line of a text counts 64 bytes more.
        Default: 50:500 and 262144:4194304.
    --address-messages RATE, --address-bytes RATE
        The same for all sessions from one address. Default: 500:5000 and 2621440:41943040.
    --work RATE, --address-work RATE
        Seconds of work for one session, and for all from one address: reading history, searching,
        and hashing passwords. A page of a list counts ten times, because everybody waits for it.
        Default: 0.25:10 and 0.5:30.
    --logins RATE, --registrations RATE
        Logins, and accounts made, from one address. Default: 20:500 and 1:100.
    --connections N
        Maximum connections of one address, which are never more than the free places: at most half
        of the open files that the system allows. An address may open twice as many at once, and a
        tenth as many per second (at least 2000 and 100). Default: 1000.
    --unread BYTES
        Output that may wait for a client that does not read; beyond it, the client is disconnected.
        Default: 8388608.
    --rooms N, --address-rooms N
        Maximum rooms of a user, and of rooms that were made from one address.
        Default: {DEFAULTS.rooms} and {DEFAULTS.address_rooms}.
    --held N
        Maximum guests of one address whose names are held after a lost connection. Beyond it, the
        oldest one is released before --grace is over. Default: {DEFAULTS.held}.

    --certificate FILE
    --private-key FILE
        The operator's own certificate, followed by intermediate certificates, and its key, both as
        PEM. Default: certificate.pem and private-key.pem in the state folder, which are made if
        they are missing. A key that everybody can read is refused.

    --cluster URL[,URL]...
        Be a node of a cluster: several servers, on one machine or several, that are one chat. URL
        is a NATS server with JetStream: nats://HOST:PORT, or tls://HOST:PORT with TLS; give all of
        them. The default port is {CLUSTER_PORT}. A node that can't reach them ends its sessions,
        and accepts none until it can. docs/cluster.rst explains how to set it up, and what is
        promised.
    --node NAME
        The name of this node in the cluster: 1 to 32 of a-z, 0-9 and -. No two nodes have the same.
    --cluster-credentials FILE
        The credentials for the NATS servers: a .creds file of NATS, or a line USER:PASSWORD. A file
        that everybody can read is refused. Default: none.
    --cluster-ca FILE
        The certificates, as PEM, of the authorities that vouch for the NATS servers. Default: those
        of the system.
    --cluster-monitor URL[,URL]...
        The monitoring of the NATS servers, http://HOST:PORT of each. With "--sync full", a node
        asks there whether they wait for their disks ("sync_interval: always"), and starts only if
        three do that keep the log. Default: port {MONITOR_PORT} of the hosts of --cluster.

    --version
        Print the version and exit.

    --help
        Print this page and exit.

EXIT STATUS
    1   could not start: the reason is the last line on standard error; or a node of a cluster could
        not go on: the reason is in the log
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
    :ivar cluster: the options of a node; None for a single server.
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
        ["irc-all", None, "yes", "", _one_of("irc-all", "yes", "no")],
        ["ssh", None, "yes", "", _one_of("ssh", "yes", "no")],
        ["ssh-terminals", None, DEFAULT_SSH_TERMINALS, "", _number("ssh-terminals", 0)],
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
        ["cluster", None, None, "", parse_servers],
        ["node", None, None, "", parse_node],
        ["cluster-credentials", None, None, "", _path],
        ["cluster-ca", None, None, "", _path],
        ["cluster-monitor", None, None, "", parse_monitors],
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
        self.cluster = self._read_cluster()

    def _read_cluster(self) -> ClusterOptions | None:
        if self["cluster"] is None:
            for option in ("node", "cluster-credentials", "cluster-ca", "cluster-monitor"):
                if self[option] is not None:
                    raise usage.UsageError(f"--{option} is for a node of a cluster (--cluster)")
            return None
        if self["node"] is None:
            raise usage.UsageError("--cluster needs the name of this node (--node)")
        files = (self["cluster-credentials"], self["cluster-ca"])
        monitors = self["cluster-monitor"] or usual_monitors(self["cluster"])
        return ClusterOptions(self["cluster"], self["node"], *files, monitors)


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
    """Say in one line why the server can't start, and exit with 1."""
    tell(reason)
    raise SystemExit(1)


def tell(line: str) -> None:
    """Write a line for the operator at once, while the server starts.

    The line goes to the standard error that the process was started with, since twistd makes a
    log of ``sys.stderr``, and writes nothing to the log until the server is made.
    """
    print(printable(f"chatserver: {line}"), file=sys.__stderr__, flush=True)
