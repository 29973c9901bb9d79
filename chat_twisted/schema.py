"""The options of the server: one row for each, from which everything else about them comes.

The command line, the file of ``--config``, the text of ``--help``, ``docs/options.rst`` and the
reload at SIGHUP are made from these rows. A new option is a new row here. This module must not know
where values come from, or what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chat_twisted import option_values as values
from chat_twisted.core.limits import Limits
from chat_twisted.frames import MAX_BODY
from chat_twisted.logfile import KEPT, MAX_SIZE
from chat_twisted.node_options import (
    CLUSTER_PORT,
    MONITOR_PORT,
    parse_monitors,
    parse_node,
    parse_servers,
)

PORT = 8828
"""The port that clients use if they are given none."""

LEVELS = ("debug", "info", "warn", "error")
"""The values of ``--log-level``."""

DEFAULTS = Limits()


class Option(NamedTuple):
    """An option.

    :ivar name: its name, as on the command line and in the file.
    :ivar form: what stands for the value in the help.
    :ivar parse: turns the text of a value into the value, as in ``option_values``.
    :ivar help: paragraphs; one whose lines are indented is kept as it is.
    :ivar default: the value if there is none; None if ``help`` says what happens then.
    :ivar short: the one letter for the command line, or None.
    :ivar many: whether it may be given several times; the value is a tuple then.
    :ivar reloads: whether a running server takes it over from the file at SIGHUP.
    :ivar in_file: whether the file may set it.
    """

    name: str
    form: str
    parse: Callable[[str], Any]
    help: str
    default: Any = None
    short: str | None = None
    many: bool = False
    reloads: bool = False
    in_file: bool = True


YES_OR_NO = values.one_of("yes", "no")

GROUPS: dict[str, tuple[Option, ...]] = {
    "Start": (
        Option(
            "config",
            "FILE",
            values.path,
            """A file in TOML that sets options by the names that they have here, for example
            max-clients = 200. What the command line says comes first. Paths in the file are
            relative to its folder. A key that is not an option is refused. At SIGHUP the server
            reads the file again; docs/options.rst says which options it takes over. Others can
            be changed in it, and are used from the next start on.""",
            in_file=False,
        ),
        Option(
            "listen",
            "ENDPOINT",
            str,
            """Where to listen; may be given several times, in the file as a list.

            ENDPOINT is a Twisted endpoint string, among them:

                tcp:8828                         port 8828 on every IPv4 address
                tcp:8828:interface=127.0.0.1     the same for this machine alone
                tcp6:8828                        port 8828 on every IPv6 address
                unix:/run/chat.socket            a Unix socket

            If systemd passes sockets on, the server listens on them, and on those of this option,
            if it is given. See docs/operations/systemd.rst.""",
            (f"tcp:{PORT}",),
            "l",
            many=True,
        ),
        Option(
            "state",
            "DIR",
            values.path,
            """The folder of the files chat.sqlite and index.sqlite (which the server rebuilds if
            it is missing). It is made if necessary. Only one server can use it. It is private to
            the server's user: if others may write in it, or it belongs to another user, the
            server does not start. If others may read or write a file in it, the server removes
            that permission and logs it. Default: $XDG_STATE_HOME/chat_twisted, else
            ~/.local/state/chat_twisted.

            "python -m chat_twisted.admin" manages the running server over the Unix socket
            control.socket in this folder: "... status" shows its state, "... accounts", "... kick"
            and "... ban" manage users, "... export" prints all messages, "... check" checks the
            files, "... backup FILE" copies the archive. "... --help" lists all actions.
            docs/backup.rst explains how to restore a backup.""",
            short="s",
        ),
        Option(
            "sync",
            "normal|full",
            values.one_of("normal", "full"),
            """normal: a message that was answered SENT survives a crash of the server, but the
            last moments before a loss of power may be lost. full: it survives that too, and every
            commit waits for the disk. A node of a cluster with "full" starts only if the NATS
            servers wait for their disks, too (--cluster-monitor).""",
            "normal",
        ),
        Option(
            "retain",
            "DAYS",
            values.Number(),
            """Delete older messages. Default: keep all. After a change of the system's clock, its
            new time is used only after an hour.""",
        ),
    ),
    "Clients": (
        Option(
            "max-message",
            "BYTES",
            values.Number(),
            """The maximum length of a message, in bytes of UTF-8. The client of this project
            accepts up to 4 MiB, and ends its session at a longer text.""",
            MAX_BODY,
            "m",
        ),
        Option(
            "max-clients",
            "N",
            values.Number(),
            "The maximum number of connected clients.",
            10_000,
            "c",
        ),
        Option(
            "idle",
            "SECONDS",
            values.Number(),
            """A client that is silent for so long gets a PING, and is disconnected after twice as
            long. A connection that does not register within SECONDS, or sends nothing for 10
            seconds, is closed too.""",
            60,
            "i",
        ),
        Option(
            "grace",
            "SECONDS",
            values.Number(0),
            """How long a guest whose connection was lost keeps the name and gets later messages;
            also counted from a restart of the server. 0: not at all, and guests can't return.""",
            600,
            "g",
            reloads=True,
        ),
        Option(
            "plaintext",
            "loopback|anywhere|nowhere",
            values.one_of("loopback", "anywhere", "nowhere"),
            """Where unencrypted connections are accepted from; the original client has no
            encryption. loopback: from this machine only.""",
            "loopback",
        ),
        Option(
            "guests",
            "yes|no",
            YES_OR_NO,
            """Whether users without an account may log in. Accounts are made by clients
            (/register), or with "python -m chat_twisted.admin accounts".""",
            "yes",
            reloads=True,
        ),
        Option(
            "irc-all",
            "yes|no",
            YES_OR_NO,
            """Whether clients of IRC are in the channel &ALL from the start; otherwise they join
            it by themselves.""",
            "yes",
        ),
        Option(
            "ssh",
            "yes|no",
            YES_OR_NO,
            f"""Whether users can log in by ssh, with nothing installed: ssh -p {PORT} USER@HOST.
            The host keys are made in the state folder at the first start. Their fingerprints, and
            lines for known_hosts files, are logged at every start.""",
            "yes",
        ),
        Option(
            "ssh-terminals",
            "N",
            values.Number(0),
            """The maximum number of terminals over ssh: each takes about 130 KiB of memory, and
            time for each message. Without a terminal (ssh -T), the limits are those of all
            clients.""",
            200,
        ),
        Option(
            "motd",
            "FILE",
            values.path,
            "A text to show to everybody who logs in. Default: none.",
            reloads=True,
        ),
    ),
    "Limits": (
        Option(
            "limits",
            "on|off",
            values.one_of("on", "off"),
            """off: turns off all limits below except --unread, for load tests. People don't reach
            these limits, floods do. The server tells a client that exceeds a limit to wait (ERROR
            109), and refuses too many connections (ERROR 112). A rate is PER_SECOND:BURST: per
            second on average, and at once.""",
            "on",
            reloads=True,
        ),
        Option(
            "messages",
            "RATE",
            values.rate,
            "Messages of one session.",
            DEFAULTS.messages,
            reloads=True,
        ),
        Option(
            "bytes",
            "RATE",
            values.rate,
            "Bytes of the messages of one session; each further line of a text counts 64 more.",
            DEFAULTS.octets,
            reloads=True,
        ),
        Option(
            "address-messages",
            "RATE",
            values.rate,
            "As --messages, for all sessions from one address.",
            DEFAULTS.address_messages,
            reloads=True,
        ),
        Option(
            "address-bytes",
            "RATE",
            values.rate,
            "As --bytes, for all sessions from one address.",
            DEFAULTS.address_octets,
            reloads=True,
        ),
        Option(
            "work",
            "RATE",
            values.rate,
            """Seconds of work for one session: reading history, searching, and hashing passwords.
            A page of a list counts ten times, because everybody waits for it.""",
            DEFAULTS.work,
            reloads=True,
        ),
        Option(
            "address-work",
            "RATE",
            values.rate,
            "As --work, for all sessions from one address.",
            DEFAULTS.address_work,
            reloads=True,
        ),
        Option(
            "logins",
            "RATE",
            values.rate,
            "Logins from one address.",
            DEFAULTS.logins,
            reloads=True,
        ),
        Option(
            "registrations",
            "RATE",
            values.rate,
            "Accounts that are made from one address.",
            DEFAULTS.registrations,
            reloads=True,
        ),
        Option(
            "connections",
            "N",
            values.Number(),
            """Maximum connections of one address, which are never more than the free places: at
            most half of the open files that the system allows. An address may open twice as many
            at once, and a tenth as many per second (at least 2000 and 100).""",
            DEFAULTS.connections,
            reloads=True,
        ),
        Option(
            "unread",
            "BYTES",
            values.Number(),
            """Output that may wait for a client that does not read; beyond it, the client is
            disconnected.""",
            DEFAULTS.unread,
            reloads=True,
        ),
        Option(
            "rooms",
            "N",
            values.Number(),
            "Maximum rooms of a user.",
            DEFAULTS.rooms,
            reloads=True,
        ),
        Option(
            "address-rooms",
            "N",
            values.Number(),
            "Maximum rooms that were made from one address.",
            DEFAULTS.address_rooms,
            reloads=True,
        ),
        Option(
            "held",
            "N",
            values.Number(),
            """Maximum guests of one address whose names are held after a lost connection. Beyond
            it, the oldest one is released before --grace is over.""",
            DEFAULTS.held,
            reloads=True,
        ),
    ),
    "Certificate": (
        Option(
            "certificate",
            "FILE",
            values.path,
            """The operator's own certificate, followed by intermediate certificates, as PEM; it
            needs --private-key. Default: certificate.pem and private-key.pem in the state folder,
            which are made if they are missing.""",
            reloads=True,
        ),
        Option(
            "private-key",
            "FILE",
            values.path,
            "The key of --certificate, as PEM. A key that everybody can read is refused.",
            reloads=True,
        ),
    ),
    "Log": (
        Option(
            "log",
            "FILE|-",
            values.path_or_dash,
            f"""Where to log: one line for each event. docs/operations/logs.rst lists the events.
            "-" is standard error, for a server in the foreground; systemd's journal then gets the
            priority of each line. A file of {MAX_SIZE // 1_000_000} MB is renamed to FILE.1;
            {KEPT} old ones are kept. Default: where twistd logs: standard output in the
            foreground, else twistd.log in the current folder, or "twistd --logfile FILE".""",
        ),
        Option(
            "log-format",
            "text|json",
            values.one_of("text", "json"),
            "json: each line is a JSON object.",
            "text",
        ),
        Option(
            "log-level",
            "|".join(LEVELS),
            values.one_of(*LEVELS),
            "Log events of this level and of higher ones.",
            "info",
            reloads=True,
        ),
        Option(
            "audit",
            "FILE",
            values.path,
            """Write what operators do to this file, and not to the log. It is renamed like a file
            of --log. Default: to the log.""",
        ),
    ),
    "Metrics": (
        Option(
            "metrics",
            "ENDPOINT",
            str,
            """Serve metrics for Prometheus by HTTP (/metrics), and whether the server can commit
            (/healthz) and accepts clients (/readyz). ENDPOINT is as for --listen, for example
            tcp:9464: only this machine can reach it then, unless an interface is named, as in
            tcp:9464:interface=192.0.2.1. There is no encryption, and no password. It needs the
            package prometheus-client. docs/operations/metrics.rst explains the metrics. Default:
            none.""",
        ),
    ),
    "Cluster": (
        Option(
            "cluster",
            "URL[,URL]...",
            parse_servers,
            f"""Be a node of a cluster: several servers, on one machine or several, that are one
            chat. URL is a NATS server with JetStream: nats://HOST:PORT, or tls://HOST:PORT with
            TLS; give all of them. The default port is {CLUSTER_PORT}. A node that can't reach them
            ends its sessions, and accepts none until it can. docs/cluster.rst explains the
            setup and the guarantees.""",
        ),
        Option(
            "node",
            "NAME",
            parse_node,
            """The name of this node in the cluster: 1 to 32 of a-z, 0-9 and -. No two nodes have
            the same.""",
        ),
        Option(
            "cluster-credentials",
            "FILE",
            values.path,
            """The credentials for the NATS servers: a .creds file of NATS, or a line USER:PASSWORD.
            A file that everybody can read is refused. Default: none.""",
        ),
        Option(
            "cluster-ca",
            "FILE",
            values.path,
            """The certificates, as PEM, of the authorities that vouch for the NATS servers.
            Default: those of the system.""",
        ),
        Option(
            "cluster-monitor",
            "URL[,URL]...",
            parse_monitors,
            f"""The monitoring of the NATS servers, http://HOST:PORT of each. With "--sync full", a
            node asks there whether they wait for their disks ("sync_interval: always"), and starts
            only if three do that keep the log. Default: port {MONITOR_PORT} of the hosts of
            --cluster.""",
        ),
    ),
}
"""The options, by the headings under which the help shows them."""

OPTIONS: dict[str, Option] = {row.name: row for rows in GROUPS.values() for row in rows}
