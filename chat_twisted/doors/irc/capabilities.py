"""Capabilities: the extensions of IRC that a client can turn on (IRCv3, Capability Negotiation).

Each is a bit, so that what a client has turned on is one number: output is encoded once for all
clients with the same number. This module must not know connections or users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

NAMES = (
    "account-notify",
    "account-tag",
    "away-notify",
    "batch",
    "cap-notify",
    "draft/account-registration",
    "draft/chathistory",
    "draft/event-playback",
    "draft/message-redaction",
    "draft/multiline",
    "draft/no-implicit-names",
    "draft/read-marker",
    "echo-message",
    "extended-join",
    "extended-monitor",
    "invite-notify",
    "labeled-response",
    "message-tags",
    "multi-prefix",
    "sasl",
    "server-time",
    "setname",
    "standard-replies",
    "sts",
    "userhost-in-names",
    "znc.in/self-message",
)
"""The names of all capabilities."""

BITS: Mapping[str, int] = {name: 1 << position for position, name in enumerate(NAMES)}
"""The bit of each capability."""

ACCOUNT_NOTIFY = BITS["account-notify"]
ACCOUNT_TAG = BITS["account-tag"]
AWAY_NOTIFY = BITS["away-notify"]
BATCH = BITS["batch"]
CAP_NOTIFY = BITS["cap-notify"]
CHATHISTORY = BITS["draft/chathistory"]
ECHO_MESSAGE = BITS["echo-message"]
EXTENDED_JOIN = BITS["extended-join"]
EXTENDED_MONITOR = BITS["extended-monitor"]
INVITE_NOTIFY = BITS["invite-notify"]
LABELED_RESPONSE = BITS["labeled-response"]
MESSAGE_TAGS = BITS["message-tags"]
MULTILINE = BITS["draft/multiline"]
MULTI_PREFIX = BITS["multi-prefix"]
NO_IMPLICIT_NAMES = BITS["draft/no-implicit-names"]
READ_MARKER = BITS["draft/read-marker"]
REDACTION = BITS["draft/message-redaction"]
SASL = BITS["sasl"]
SELF_MESSAGE = BITS["znc.in/self-message"]
SERVER_TIME = BITS["server-time"]
SETNAME = BITS["setname"]
STANDARD_REPLIES = BITS["standard-replies"]
USERHOST_IN_NAMES = BITS["userhost-in-names"]

INFORMATIVE = BITS["sts"]
"""Capabilities that only tell something, and can't be requested."""


def apply(request: str, enabled: int, offered: Mapping[str, str | None]) -> int | None:
    """Apply the parameter of CAP REQ.

    :param enabled: the capabilities that the client has turned on.
    :param offered: the names that the server offers to it.
    :return: the capabilities afterwards; None if the request must be refused as a whole.
    """
    for word in request.split():
        name = word.removeprefix("-")
        bit = BITS.get(name, 0)
        if not bit or bit & INFORMATIVE or name not in offered:
            return None
        enabled = enabled & ~bit if word != name else enabled | bit
    return enabled


def names_of(enabled: int) -> list[str]:
    """Return the names of capabilities."""
    return [name for name, bit in BITS.items() if enabled & bit]


def pages(words: list[str], octets: int) -> Iterator[tuple[str, bool]]:
    """Yield lists of words for lines of at most ``octets`` bytes, each with whether more follow."""
    page: list[str] = []
    size = 0
    for word in words:
        if page and size + len(word) > octets:
            yield " ".join(page), True
            page, size = [], 0
        page.append(word)
        size += len(word) + 1
    yield " ".join(page), False
