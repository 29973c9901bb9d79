"""The command line of ``python -m chat_twisted.admin``: one table of all actions, with their help.

The actions are in ``admin_actions``, ``admin_status``, ``cluster_actions`` and ``doctor``. This
module must not do anything.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_twisted import admin_actions as do
from chat_twisted import admin_status, cluster_actions, doctor
from chat_twisted.commandline import Parser
from chat_twisted.storage import archive

PROGRAM = "python -m chat_twisted.admin"

STATUS = """\
exit status: 0 done; 1 refused, or something is wrong; 2 it could not be tried: the server does not
answer, a file can't be read or written, the command line is wrong. The reason is one line on
standard error."""

DURATION = "90 or 90s, 10m, 2h, 7d; without it, for ever"


class _Action(Parser):
    """The parser of one action. Options may also stand before an optional FILE."""

    _parsing = False

    def add_subparsers(self, **kw: Any) -> Any:
        """Note that this action has only actions of its own. Called by argparse."""
        self._parsing = True
        return super().add_subparsers(**kw)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the arguments of this action. Called by argparse."""
        if self._parsing:
            return super().parse_known_args(args, namespace)
        self._parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._parsing = False


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=PROGRAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Manage a chat server at its machine, as the server's user or root.

While the server runs, it is asked; what it does takes effect at once. Without one the files in the
state folder are changed. Each action has a page of its own: "ACTION --help".""",
        epilog=f"""\
examples:
  {PROGRAM} status
  {PROGRAM} accounts add ci --password-file secret
  {PROGRAM} ban 192.0.2.0/24 --for 2h --reason "a flood"
  {PROGRAM} backup monday.sqlite

{STATUS}""",
    )
    state = {
        "type": Path,
        "metavar": "DIR",
        "help": f"the server's state folder ({archive.DEFAULT_FOLDER})",
    }
    parser.add_argument("--state", **state)  # type: ignore[arg-type]

    def action(
        actions: Any,
        name: str,
        run: Callable[[argparse.Namespace, Path], int],
        help: str,
        *examples: str,
        more: str = "",
    ) -> Parser:
        listed = "\n".join(f"  {PROGRAM} {name} {example}".rstrip() for example in examples)
        description = textwrap.fill(f"{help[0].upper()}{help[1:]}.", 90)
        made: Parser = actions.add_parser(
            name.rpartition(" ")[2],
            help=help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description=f"{description}\n\n{more}" if more else description,
            epilog=f"examples:\n{listed}\n\n{STATUS}",
        )
        made.add_argument("--state", default=argparse.SUPPRESS, **state)  # type: ignore[arg-type]
        made.set_defaults(run=run)
        return made

    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=_Action
    )
    accounts = actions.add_parser(
        "accounts",
        help="make, change, list and remove accounts",
        description="Make, change, list and remove accounts.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUS,
    )
    accounts.add_argument(
        "--state",
        default=argparse.SUPPRESS,
        **state,  # type: ignore[arg-type]
    )
    _add_account_actions(accounts, action)

    kick = action(
        actions,
        "kick",
        do.kick,
        "close all connections of a user, who may come back",
        "bob",
        'bob --reason "too loud"',
    )
    kick.add_argument("name", metavar="NAME")
    for name, help, whom in (
        ("ban", "keep a name, an address or a network out", "NAME|ADDRESS|NETWORK"),
        ("mute", "let a user read and not talk", "NAME"),
    ):
        made = action(
            actions,
            name,
            do.sanction,
            help,
            "bob",
            f'{"192.0.2.0/24" if name == "ban" else "bob"} --for 2h --reason "a flood"',
            more='Operators with an account can\'t be banned. "sanctions" lists what there is, '
            '"pardon" ends it.',
        )
        made.add_argument("whom", metavar=whom)
        made.add_argument("--for", dest="duration", default="", metavar="DURATION", help=DURATION)
        made.add_argument("--reason", default="", help="one line; the user is told")
    kick.add_argument("--reason", default="", help="one line; the user is told")
    for name, run, help in (
        ("unban", do.lift, "end the ban of a name, an address or a network"),
        ("unmute", do.lift, "let a user talk again"),
        ("pardon", do.pardon, "end the bans and mutes of somebody"),
    ):
        made = action(actions, name, run, help, "bob")
        made.add_argument("whom", metavar="NAME" if name == "unmute" else "NAME|ADDRESS|NETWORK")
    action(actions, "sanctions", do.sanctions, "list the bans and mutes", "")
    _add_server_actions(actions, action)
    _add_file_actions(actions, action)
    cluster = actions.add_parser(
        "cluster",
        help="share the certificate and keys of a cluster's nodes, show them, remove them",
        description="For the nodes of a cluster; docs/cluster.rst explains clusters.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUS,
    )
    cluster.add_argument(
        "--state",
        default=argparse.SUPPRESS,
        **state,  # type: ignore[arg-type]
    )
    _add_cluster_actions(cluster, action)
    return parser


def _add_server_actions(actions: Any, action: Callable[..., Parser]) -> None:
    status = action(
        actions,
        "status",
        admin_status.status,
        "say how the server is, how many are here and how much is stored",
        "",
        "--users",
        "--json",
        more="""\
With --json it is one object: running, version, users, sessions, held (guests without a connection),
accounts, rooms, newest (the number of the newest message), newest_time (milliseconds since the
epoch), messages (to within a thousand where old ones are deleted), unindexed (messages that wait to
be indexed), files (bytes by name; chat.sqlite-wal is the write-ahead log) and free (bytes of the
disk). Of a server that runs also process, uptime (seconds), not_accepting (why it accepts no
clients, or empty), connections (how many, by kind), rates (messages, deliveries, logins, refused
logins and commits per second, over the last minute), queues (how much waits), unsent (bytes that
wait for clients), certificate (until in milliseconds), host_keys, descriptors (how many are
allowed), retain (seconds, or null), and of a node of a cluster cluster (node, in_touch, position
and behind).

With --users, "here" is a list of the present users. Each has: name, account, operator, sessions,
from (the addresses), away (the text, or null) and behind (the number of messages to the user that
the user's clients have not confirmed yet, among the 10,000 newest of all).""",
    )
    status.add_argument(
        "--users", action="store_true", help="also list who is here, and how far behind"
    )
    status.add_argument("--json", action="store_true", help="as one JSON object")
    who = action(
        actions,
        "who",
        admin_status.who,
        "list who is here: how connected, since when, how long silent, from where, in which rooms",
        "",
        "--json",
        more="""\
Each user has a line: the name, with "*" after that of an operator and "?" after that of a guest;
the kinds of the connections; the time of the login (UTC); how long ago the user last sent a
message, or else logged in; the addresses; the rooms. In a cluster a user who is only on other nodes
has "-" for what only they know.

With --json each user is an object on a line of its own: name, account, operator, sessions, by (the
kinds), since and spoke (milliseconds since the epoch, or null), from, rooms and away.""",
    )
    who.add_argument("--json", action="store_true", help="as lines of JSON")
    say = action(
        actions,
        "say",
        do.say,
        "tell everybody who is connected one line, on all nodes of a cluster",
        '"The server is down from 18:00 to 18:10."',
        more="It is at most 400 bytes long. It is not kept: who is not connected misses it.",
    )
    say.add_argument("text", metavar="TEXT", help="the line")
    motd = action(
        actions,
        "motd",
        do.motd,
        "show or set the message of the day, which everybody gets who logs in",
        "",
        '"Closed on Sunday from 18:00."',
        "--file motd.txt",
        "--remove",
        more="""\
It is set at once, for this server until it ends or gets SIGHUP; then it is again what the file of
the server's option --motd says. In a cluster each node has its own.""",
    )
    motd.add_argument("text", nargs="?", metavar="TEXT", help="the new message")
    motd.add_argument("--file", type=Path, metavar="FILE", help="a file with the new message")
    motd.add_argument("--remove", action="store_true", help="have no message")
    retention = action(
        actions,
        "retention",
        do.retention,
        "delete old messages now",
        "",
        "--older-than 365d",
        more="""\
Without --older-than it deletes what the server's option --retain does not keep; the server does
that itself every minute. With it, it asks first: only a backup still has the messages then. The
server deletes them in small steps between its other work, and says how many. Ctrl-C ends that
between two steps; it brings back no message. The ages are right to a minute. In a cluster each
node deletes its own copies: run it on all of them.""",
    )
    retention.add_argument("--older-than", default="", metavar="AGE", help="15m or more, 2h, 365d")
    retention.add_argument("--yes", action="store_true", help="do not ask")
    checkup = action(
        actions,
        "doctor",
        doctor.doctor,
        "look for what is wrong with the server, its files and this machine, and say what to do",
        "",
        "--config chat.toml",
        "--json",
        more="""\
The server may run, or not. Each finding is a line that says what is found and one that says what to
do. The exit code is 1 if there is a problem; notes are no problems.

With --json each finding is an object on a line of its own: about, level (ok, note or problem),
found and advice.""",
    )
    checkup.add_argument(
        "--config", type=Path, metavar="FILE", help="the server's options, which are checked too"
    )
    checkup.add_argument(
        "--backups", type=Path, metavar="DIR", help="where the backups are: how old is the newest?"
    )
    checkup.add_argument(
        "--host", action="append", default=[], help="a name by which clients reach the server"
    )
    checkup.add_argument("--json", action="store_true", help="as lines of JSON")


def _add_account_actions(accounts: Parser, action: Callable[..., Parser]) -> None:
    actions = accounts.add_subparsers(
        dest="change", required=True, metavar="ACTION", parser_class=_Action
    )

    def password(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--password-file",
            type=Path,
            metavar="FILE",
            help="the password is the first line of FILE (otherwise it is asked for, or read from "
            "standard input)",
        )

    add = action(
        actions,
        "accounts add",
        do.accounts_add,
        "make an account, with a key or else a password",
        "ci --key ci_key.pub",
        "ci --password-file secret",
    )
    add.add_argument(
        "--key", metavar="FILE", type=Path, help="a public key, as ssh-keygen makes it"
    )
    password(add)
    remove = action(
        actions,
        "accounts remove",
        do.accounts_remove,
        "remove an account: its name is free, its connections are closed",
        "ci",
    )
    change = action(
        actions,
        "accounts password",
        do.accounts_password,
        "set an account's password; clients have to log in again when they come back",
        "ci --password-file secret",
        "ci --remove",
    )
    change.add_argument("--remove", action="store_true", help="let the account have none")
    password(change)
    key = action(
        actions,
        "accounts key",
        do.accounts_key,
        "let a key into an account",
        "ci ci_key.pub",
        "ci ci_key.pub --remove",
    )
    operator = action(
        actions,
        "accounts operator",
        do.accounts_operator,
        "make an account an operator's, who may kick, ban and mute",
        "alice",
        "alice --remove",
    )
    for made in (add, remove, change, key, operator):
        made.add_argument("name", metavar="NAME")
    keys = action(
        actions,
        "accounts keys",
        do.accounts_keys,
        "list the keys of an account, each a line as in id.pub",
        "ci",
    )
    keys.add_argument("name", metavar="NAME")
    key.add_argument("key", metavar="FILE", type=Path, help="a public key (id.pub)")
    key.add_argument("--remove", action="store_true", help="let it in no more")
    operator.add_argument("--remove", action="store_true", help="not any more")
    action(
        actions,
        "accounts list",
        do.accounts_list,
        "list the accounts: name, operator or not, how many keys, password or not",
        "",
    )


def _add_file_actions(actions: Any, action: Callable[..., Parser]) -> None:
    export = action(
        actions,
        "export",
        do.export,
        "print all messages, oldest first, a JSON object a line",
        "",
        "monday.sqlite",
        more="""\
The fields are message (its number), time (milliseconds since the epoch, UTC), sender, to, text and
kind (text, action or notice). The text of a deleted message is empty.""",
    )
    check = action(
        actions,
        "check",
        do.check,
        "look whether the archive is sound, or a backup",
        "",
        "monday.sqlite",
    )
    for made in (export, check):
        made.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a backup")
    backup = action(
        actions,
        "backup",
        do.backup,
        "copy the archive to FILE, and check the copy; FILE is replaced if it is a backup",
        "monday.sqlite",
        more="The server may run. docs/backup.rst tells of backups.",
    )
    restore = action(
        actions,
        "restore",
        do.restore,
        "check a backup, and put it in the place of the archive, which is kept under another name",
        "monday.sqlite",
        more="The server must not run. docs/backup.rst tells of backups.",
    )
    for made in (backup, restore):
        made.add_argument("file", type=Path, metavar="FILE", help="the backup")


def _add_cluster_actions(cluster: Parser, action: Callable[..., Parser]) -> None:
    actions = cluster.add_subparsers(
        dest="change", required=True, metavar="ACTION", parser_class=_Action
    )
    init = action(
        actions,
        "cluster init",
        cluster_actions.init,
        "write the certificate, its key and the host keys of ssh to a bundle for the other nodes",
        "bundle.tar",
        "bundle.tar --certificate fullchain.pem --private-key key.pem",
        more="""\
Clients recognise a server by these files, so all nodes must have the same ones. Those that the
state folder does not have yet are made. The server may run. The bundle is a tar file that only its
owner can read: keep it secret, and delete it when all nodes have it.

With --certificate and --private-key the bundle has those files, for servers that are started with
these options. "cluster join" puts them into the other state folders, where servers find them.""",
    )
    for name, what in (("certificate", "certificate"), ("private-key", "key")):
        init.add_argument(
            f"--{name}", type=Path, metavar="FILE", help=f"the server's own {what}, as PEM"
        )
    join = action(
        actions,
        "cluster join",
        cluster_actions.join,
        "put the files of a bundle into the state folder of another node",
        "bundle.tar",
        more="""\
The folder is made if necessary. Nothing is changed if it has other files of these names, or if a
server runs there. The printed fingerprints must be those that "cluster init" has printed.""",
    )
    for made in (init, join):
        made.add_argument("bundle", type=Path, metavar="FILE", help="the bundle")
    status = action(
        actions,
        "cluster status",
        cluster_actions.status,
        "say how this node is, and how far it and the others are in the cluster's log",
        "",
        "--json",
        more="""\
Each known node has a line: "member", or "gone" if it has ended or its lease is over; position, up
to which it had applied the log as of its last record; behind, how many records it had not applied
by then (a few are normal); silent, the seconds since that record; and the newest version of the
log's format that it knows. The log is kept for a node that is gone until "cluster forget" removes
the node.

With --json it is one object: running, node, position; of a node that runs also in_touch (whether it
reaches the log, and so serves clients), format (the version in which it writes), chain and nodes;
and stream, incarnation and last (the log's last position) where they are known. Each of the nodes
has name, member, position, silent and format.""",
    )
    status.add_argument("--json", action="store_true", help="as one JSON object")
    forget = action(
        actions,
        "cluster forget",
        cluster_actions.forget,
        "remove a node that will not come back, so that the log is not kept for it",
        "b",
        more="""\
Run it on any node that runs. The node must have stopped. It can come back later only as a new node:
with an empty state folder, or with the copy of another node's archive.""",
    )
    forget.add_argument("name", metavar="NODE")
    action(
        actions,
        "cluster leave",
        cluster_actions.leave,
        "make the archive of this node a single server's",
        "",
        more="""\
The node must not run. Its messages, accounts and rooms stay. From then on it is started without
--cluster, or begins a new log. It can't come back to its cluster with this archive.""",
    )
