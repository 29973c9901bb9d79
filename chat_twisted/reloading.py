"""SIGHUP: the running server takes over the options of the file that can change.

Options that are rules of the chat, such as ``--guests``, are changed by a command, so that they
have a place in the order, and change on all nodes of a cluster. Only those that have changed here
are proposed: another node may have changed others. This module must not know signals, or the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure
from twisted.python.usage import UsageError

from chat_twisted.config_file import ConfigError
from chat_twisted.core.commands import Options as Deciding
from chat_twisted.core.hub import Hub
from chat_twisted.doors.connecting import DoorFactory
from chat_twisted.doors.tls import CERTIFICATE, KEY, ServerTLS
from chat_twisted.log_lines import explain
from chat_twisted.log_output import LogOutput
from chat_twisted.logs import Logger
from chat_twisted.option_values import show
from chat_twisted.options import Options


class Reloading:
    """Takes over changed options.

    :param options: those that the server was started with.
    :param folder: the state folder, which has the certificate if the options name none.
    :param doors: get the message of the day, and the limit of unread output.
    :param output: gets the level of the log; None if the server does not write its log.
    """

    _log = Logger()

    def __init__(
        self,
        options: Options,
        folder: Path,
        hub: Hub,
        doors: Sequence[DoorFactory[Any]],
        tls: ServerTLS,
        output: LogOutput | None,
    ) -> None:
        self._options = options
        self._decide = options.decide
        self._folder = folder
        self._hub = hub
        self._doors = doors
        self._tls = tls
        self._output = output

    def take_over(self) -> None:
        """Read the file again, take over what can be changed, and log it. If the file has a
        mistake, nothing changes. The caller reloads the certificate afterwards.
        """
        try:
            again = self._options.read_again()
        except (ConfigError, UsageError) as error:
            for reason in error.problems if isinstance(error, ConfigError) else [str(error)]:
                self._log.error(
                    "the options stay as they were: {reason}", event="reload-failed", reason=reason
                )
            return
        for option in again.pending:
            self._log.warn(
                "--{option} has changed: that needs a restart",
                event="restart-needed",
                option=option.name,
            )
        for option in again.taken:
            self._log.info(
                "--{option} is now {value}",
                event="option-changed",
                option=option.name,
                value=show(again.options[option.name]) or "not set",
            )
        before, self._options = self._options, again.options
        self._apply(before, again.options)

    def _apply(self, before: Options, after: Options) -> None:
        if after.limits != before.limits:
            self._hub.change_limits(after.limits)
        for door in self._doors:
            door.set_max_unread(after.limits.unread)
            door.set_motd(after.motd)
        if self._output is not None:
            self._output.set_level(after["log-level"])
        own = after.certificate_files or (self._folder / CERTIFICATE, self._folder / KEY)
        self._tls.set_files(*own)
        self._propose(after.decide)

    def _propose(self, decide: Deciding) -> None:
        before = self._decide
        changed: dict[str, Any] = {
            name: value
            for name, value, old in zip(Deciding._fields, decide, before, strict=True)
            if value != old
        }
        if not changed:
            return
        self._decide = decide

        def failed(failure: Failure) -> None:
            self._decide = before  # they are proposed again at the next SIGHUP
            self._log.error(
                "the options stay as they were: {reason}",
                event="reload-failed",
                reason=explain(failure.value),
            )

        options = self._hub.state.options._replace(**changed)
        self._hub.change_options(options).addErrback(failed)
