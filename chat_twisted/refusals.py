"""The ERROR frame of each error in the framed protocol: code, reason, whether the connection is
closed, and further headers (docs/protocol.rst, Errors). Door and client share this module.

It must not know connections or requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chat_twisted.core.commands import CONSOLE_NAME
from chat_twisted.core.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    EncryptionRequired,
    MalformedName,
    NameInUse,
    NoSuchRoom,
    NotPermitted,
    RoomIsPublic,
    Sanctioned,
    SearchTooBroad,
    TooFast,
    UnableToSend,
    Unavailable,
)
from chat_twisted.frames import HeaderIncomplete, MessageTooLong, format_time, format_until


class NotRegistered(ChatError):
    """Another request came before REGISTER; in version 1, also a refused name."""


class UnknownCommand(ChatError):
    """The server does not know the verb, or the argument that belongs to it."""


class Refusal(NamedTuple):
    """The code and the reason of an ERROR.

    :ivar closes: whether the server closes the connection after it.
    """

    code: int
    reason: str
    closes: bool = False

    def __str__(self) -> str:
        """Return the argument of an ERROR."""
        return f"{self.code} {self.reason}"


REFUSALS: dict[type[ChatError], Refusal] = {
    MalformedName: Refusal(100, "Malformed username", closes=True),
    NotRegistered: Refusal(101, "No user registered", closes=True),
    UnableToSend: Refusal(102, "Unable to send"),
    HeaderIncomplete: Refusal(103, "Header Incomplete", closes=True),
    UnknownCommand: Refusal(104, "Unknown command"),
    NameInUse: Refusal(105, "Name in use"),
    AuthenticationRequired: Refusal(106, "Authentication required"),
    AuthenticationFailed: Refusal(107, "Authentication failed"),
    MessageTooLong: Refusal(108, "Message too long"),
    TooFast: Refusal(109, "Too fast"),
    NoSuchRoom: Refusal(110, "No such room"),
    NotPermitted: Refusal(111, "Not permitted"),
    Unavailable: Refusal(112, "Unavailable"),
    EncryptionRequired: Refusal(113, "Encryption required", closes=True),
}
"""Refusals by classes of errors. Another class has the refusal of its nearest base class."""

_REASONS: dict[type[ChatError], str] = {
    RoomIsPublic: "there is a public room of that name",
    SearchTooBroad: "the search is too broad, take longer or rarer words",
}
"""The header ``Reason``, a text for people, of errors that always have the same one."""


def refusal_of(error: type[ChatError]) -> Refusal:
    """Return the refusal of a class of errors."""
    return next(REFUSALS[base] for base in error.__mro__ if base in REFUSALS)


def refusal_headers(error: ChatError) -> Iterator[tuple[str, object]]:
    """Yield the headers of an ERROR that depend only on the error."""
    if error.retry_after is not None:
        yield "Retry-after", error.retry_after
    if isinstance(error, Sanctioned):
        yield "Until", format_until(error.until)
        yield "By", error.by or CONSOLE_NAME
        if error.why:
            yield "Reason", error.why
    elif isinstance(error, NameInUse):
        if error.until:
            yield "Until", format_time(error.until)
    elif (reason := _REASONS.get(type(error))) is not None:
        yield "Reason", reason
