"""The audit log: one line for each action of an operator, in the chat or at the console."""

from __future__ import annotations

from collections.abc import Callable

from chat_twisted.core import commands
from chat_twisted.core.commands import CONSOLE, CONSOLE_NAME, Command
from chat_twisted.core.entries import Disconnected, Outcome
from chat_twisted.core.errors import ChatError
from chat_twisted.log_lines import AUDIT
from chat_twisted.logs import Logger

_log = Logger()

_OF_ACCOUNTS: dict[type, str] = {
    commands.MakeAccount: "add account",
    commands.DropAccount: "remove account",
    commands.AddKey: "add key",
    commands.RemoveKey: "remove key",
    commands.SetPassword: "set password",
}


def audit(command: Command, outcome: Outcome, name_of: Callable[[int], str]) -> None:
    """Log a command that was done, if it is an operator's."""
    result = outcome.result
    if isinstance(result, ChatError):
        return
    match command:
        case commands.Impose():
            _write(name_of, command, command.kind, command.subject, command.reason, command.until)
        case commands.Lift():
            _write(name_of, command, f"un{command.kind}", command.subject)
        case commands.Disconnect():
            whom = result.name if isinstance(result, Disconnected) else command.whom
            _write(name_of, command, "kick", whom, command.reason)
        case commands.Delete() if command.user != command.author:
            message = f"message {command.number} of {command.sender}"
            _write(name_of, command, "delete", message, command.reason)
        case commands.Announce():
            _write(name_of, command, "say", "everybody", command.text)
        case commands.SetOperator():
            what = "make operator" if command.on else "make no operator"
            _write(name_of, command, what, command.name)
        case (
            commands.MakeAccount()
            | commands.DropAccount()
            | commands.AddKey()
            | commands.RemoveKey()
            | commands.SetPassword()
        ) if command.user == CONSOLE:
            _write(name_of, command, _OF_ACCOUNTS[type(command)], command.name)


def audit_console(action: str, subject: str, reason: str = "") -> None:
    """Log an action of the console that is not a command to the state."""
    _emit(CONSOLE_NAME, action, subject, reason, 0)


def _write(
    name_of: Callable[[int], str],
    command: commands.Impose
    | commands.Lift
    | commands.Disconnect
    | commands.Delete
    | commands.Announce
    | commands.SetOperator
    | commands.MakeAccount
    | commands.DropAccount
    | commands.AddKey
    | commands.RemoveKey
    | commands.SetPassword,
    what: str,
    subject: str,
    reason: str = "",
    until: int = 0,
) -> None:
    _emit(name_of(command.user) or CONSOLE_NAME, what, subject, reason, until)


def _emit(by: str, action: str, subject: str, reason: str, until: int) -> None:
    _log.info(
        "audit: {by} {action} {subject} until {until}: {reason!r}",
        event=AUDIT,
        by=by,
        action=action,
        subject=subject,
        until=until or "ever",
        reason=reason,
    )
