"""The errors of requests, also for bots. Their texts are for people, and safe to print.

This module must not know when they are raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chat_twisted.core.errors import ChatError
from chat_twisted.refusals import refusal_of
from chat_twisted.text import printable_lines
from chat_twisted.ui.values import Refusal


class ClientError(Exception):
    """An error of a session. Its text is for people, and safe to print on a terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(printable_lines(text))


class NotConnected(ClientError):
    """There is no connection, and the client will not connect again; the text explains why.

    A request that was not answered before may or may not have been carried out.
    """


class Refused(ClientError):
    """The server has refused a request, or would refuse it.

    :ivar refusal: why.
    :ivar code: the code in the protocol's table (docs/protocol.rst, Errors).
    :ivar reason: the reason, from the same table, with what else the server tells about it.
    """

    def __init__(self, code: int, reason: str, refusal: Refusal | None = None) -> None:
        super().__init__(f"ERROR {code} {reason}")
        self.code = code
        self.reason = reason
        self.refusal = refusal or Refusal(code, reason)


def refused(error: type[ChatError], why: str = "") -> Refused:
    """Return what the server's refusal for ``error`` raises; ``why`` is added to the reason."""
    code, reason, _ = refusal_of(error)
    refusal = Refusal(code, reason, why=why)
    return Refused(code, refusal.text, refusal)


class IdentityError(Exception):
    """A key, a password or a file of the user is not available. Its text is one line for people."""


class NotDelivered(ClientError):
    """A message was sent, but its delivery was not confirmed in time. It may still be delivered.

    :ivar sent: the result that ``send`` would have returned.
    """

    def __init__(self, sent: Sent) -> None:
        super().__init__(f"message {sent.number} is sent, but not known to be delivered")
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of this client that is committed: it will not be lost.

    :ivar number: its number, as in ``Received``.
    :ivar time: the time of its commit, as in ``Received``.
    """

    number: int
    time: str


@contextmanager
def as_refused() -> Iterator[None]:
    """Raise ``Refused`` for a request that the server would refuse or close the connection for."""
    try:
        yield
    except ChatError as error:
        raise refused(type(error)) from None
