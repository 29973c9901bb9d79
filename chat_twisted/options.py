"""The options of ``twistd chatserver``: their values, from the command line and the file.

An invalid command line ends the start with one line; each mistake in the file of ``--config`` is a
line too. The options themselves are in ``schema``. This module does not open files of the state
folder, listen, or start anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from twisted.python import usage

from chat_twisted import __version__, config_file, manual
from chat_twisted.config_file import ConfigError
from chat_twisted.control import MAX_MOTD
from chat_twisted.core.commands import Options as Deciding
from chat_twisted.core.limits import OFF, Limits, Rate
from chat_twisted.files import FilesError, require_trusted
from chat_twisted.log_lines import PRIORITIES
from chat_twisted.log_output import is_journal
from chat_twisted.node_options import ClusterOptions, usual_monitors
from chat_twisted.option_values import DASH
from chat_twisted.schema import OPTIONS, PORT, Option
from chat_twisted.text import printable

__all__ = ["HINT", "MAX_MOTD", "PORT", "Options", "fail", "tell"]

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
"""Descriptors."""

HINT = "(twistd chatserver --help lists the options)"
"""Ends the error message about an invalid command line."""


def _parameter(option: Option) -> list[Any]:
    """Return the row of ``optParameters`` for an option. The default is set later: a value from
    the file comes before it.
    """

    def parse(value: str) -> Any:
        try:
            return option.parse(value)
        except ValueError as error:
            raise usage.UsageError(f"--{option.name} is {error}") from None

    return [option.name, option.short, None, "", parse]


class Options(usage.Options):
    """The options of ``twistd chatserver``, as items, and values that are derived from them.

    :ivar limits: the limits for the hub and the doors.
    :ivar decide: the options for the state.
    :ivar listens: whether ``--listen`` was given.
    :ivar motd: the text of the file ``--motd``.
    :ivar certificate_files: the operator's own certificate and key, or None.
    :ivar cluster: the options of a node; None for a single server.
    :ivar pidfile: the option of twistd, or None.
    :ivar log_path: the file to log to, or None.
    :ivar log_stream: the descriptor of the standard file to log to, or None. If there is neither,
        the program that runs the server has its own log.
    """

    optParameters = [_parameter(option) for option in OPTIONS.values() if not option.many]
    optFlags = [["check", None, ""]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: dict[str, Any] = {}  # by the command line
        self.pidfile: Path | None = None
        self.log_path: Path | None = None
        self.log_stream: int | None = None
        self._foreground = True
        self._twistd_logs = True  # another program than twistd has its own log
        self._twistd_log: str | None = None

    def opt_listen(self, endpoint: str) -> None:
        """Add an endpoint on which the server listens."""
        self._given["listen"] = (*self._given.get("listen", ()), endpoint)

    opt_l = opt_listen

    def opt_version(self) -> NoReturn:
        """Display the version and exit."""
        print(f"chat_twisted {__version__}")  # noqa: T201  the output of the option
        sys.exit(0)

    def __str__(self) -> str:
        return manual.help_text()  # printed by --help

    def parseArgs(self, *arguments: str) -> None:
        """Refuse arguments that are not options. Called by Twisted."""
        if arguments:
            raise usage.UsageError(f"not an option: {arguments[0]}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; if it is invalid, print why and exit with 1.

        Twisted's own way is to print the whole help, with the reason as its last line.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except ConfigError as error:
            fail(*error.problems)
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
        twistd = self.parent
        if twistd is None or "pidfile" not in twistd:  # another program, ``twist`` for one
            return
        # twistd does not say whether it was given; if so, it is another object than the default.
        if twistd["pidfile"] and twistd["pidfile"] is not twistd.defaults["pidfile"]:
            self.pidfile = Path(twistd["pidfile"]).absolute()
        twistd["pidfile"] = ""
        if twistd["chroot"] is not None:
            raise usage.UsageError("--chroot: it would not find its files there")
        if not os.path.isdir(twistd["rundir"]):  # Path.is_dir may raise PermissionError
            raise usage.UsageError(
                f"--rundir {twistd['rundir']}: no such folder, or not for this user"
            )
        self._foreground = bool(twistd["nodaemon"] or twistd["debug"])
        self._twistd_logs = twistd["logger"] is not None or bool(twistd["syslog"])
        self._twistd_log = twistd["logfile"]

    def _choose_log(self) -> None:
        """Decide where the server logs."""
        log, twistd_log = self["log"], self._twistd_log
        own = {"log": log is not None, "audit": self["audit"] is not None}
        own["log-format"] = self["log-format"] != OPTIONS["log-format"].default
        for option, given in own.items():
            if given and self._twistd_logs:
                raise usage.UsageError(
                    f"--{option}: the program that runs the server has a log already"
                )
        self.log_path = self.log_stream = None
        if log is not None:
            if twistd_log:
                raise usage.UsageError("--log: twistd --logfile names another log")
            if log != DASH:
                self.log_path = log
            elif self._foreground:
                self.log_stream = STANDARD_ERROR
            else:
                raise usage.UsageError("--log - is for a server in the foreground (twistd -n)")
        elif self._twistd_logs:
            pass
        elif twistd_log == "-" or (self._foreground and not twistd_log):
            self.log_stream = STANDARD_OUTPUT
        else:
            self.log_path = Path(twistd_log or "twistd.log").absolute()

    def postOptions(self) -> None:
        """Complete the options when the command line is read. Called by Twisted."""
        self._take_over_from_twistd()
        for name in OPTIONS:
            if self.get(name) is not None:
                self._given[name] = self[name]
        self._read()
        self._derive()

    def read_again(self) -> Reread:
        """Read the file again.

        :raises ConfigError: if it has mistakes.
        :raises UsageError: if the options don't go together, or a file that they name can't be
            used.
        """
        fresh = Options()
        fresh._given = self._given
        fresh.pidfile = self.pidfile
        fresh._foreground, fresh._twistd_logs = self._foreground, self._twistd_logs
        fresh._twistd_log = self._twistd_log
        fresh._read()
        changed = [option for name, option in OPTIONS.items() if fresh[name] != self[name]]
        taken = [option for option in changed if option.reloads]
        pending = [option for option in changed if not option.reloads]
        for option in pending:
            fresh[option.name] = self[option.name]
        fresh._derive()
        if fresh.motd != self.motd and OPTIONS["motd"] not in taken:
            taken.append(OPTIONS["motd"])
        return Reread(fresh, taken, pending)

    def _read(self) -> None:
        """Take each option from the command line, the file or the default."""
        path = self._given.get("config")
        from_file = {} if path is None else config_file.read(path)
        for name, option in OPTIONS.items():
            self[name] = self._given.get(name, from_file.get(name, option.default))
        self.listens = "listen" in self._given or "listen" in from_file

    def _derive(self) -> None:
        """Look at the options together, and derive values from them."""
        self._choose_log()
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


class Reread(NamedTuple):
    """The options after the file was read again.

    :ivar options: the options from now on.
    :ivar taken: those that have changed, and can change while the server runs.
    :ivar pending: those that have changed in the file, and are as before in ``options``.
    """

    options: Options
    taken: list[Option]
    pending: list[Option]


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


def fail(*reasons: str) -> NoReturn:
    """Say why the server can't start, a line for each reason, and exit with 1."""
    for reason in reasons:
        tell(reason, "error")
    raise SystemExit(1)


def tell(line: str, level: str = "info") -> None:
    """Write a line for the operator at once, while the server starts.

    The line goes to the standard error that the process was started with, since twistd makes a
    log of ``sys.stderr``, and writes nothing to the log until the server is made.

    :param level: a key of ``PRIORITIES``, which the journal of systemd gets.
    """
    priority = f"<{PRIORITIES[level]}>" if is_journal(STANDARD_ERROR, os.environ) else ""
    print(printable(f"{priority}chatserver: {line}"), file=sys.__stderr__, flush=True)
