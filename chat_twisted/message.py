"""A message, whom it is to, and what users and rooms may be called.

Plain immutable values, and the rules of names that everybody shares. Nothing here knows how a
message travels, who is connected, or where it is kept.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from chat_twisted.errors import MalformedName, UnableToSend

_USER = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_ROOM = re.compile(r"#[A-Za-z0-9_-]{1,32}\Z")


class Audience(enum.Enum):
    """The three sorts of recipient that a message can have."""

    ALL = enum.auto()
    ROOM = enum.auto()
    USER = enum.auto()


def fold(name: str) -> str:
    """Give the form under which ``name`` is looked up: names that differ only in case are one."""
    return name.lower()


def check_user_name(name: str) -> str:
    """Return ``name`` if a user may be called so.

    :raises MalformedName: it is not 1 to 32 of ``[A-Za-z0-9]``, or it is ALL in any case.
    """
    if not _USER.match(name) or fold(name) == "all":
        raise MalformedName
    return name


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a message is to: ``name`` as it is shown, ``key`` as it is looked up."""

    audience: Audience
    name: str
    key: str


EVERYBODY = Target(Audience.ALL, "ALL", "all")


def parse_target(argument: str) -> Target:
    """Read the argument of a SEND: a user, a ``#room`` or ``ALL``.

    :raises UnableToSend: nobody and nothing can be called so.
    """
    if _USER.match(argument):
        key = fold(argument)
        return EVERYBODY if key == "all" else Target(Audience.USER, argument, key)
    if _ROOM.match(argument):
        return Target(Audience.ROOM, argument, fold(argument))
    raise UnableToSend("no user or room can have that name")


@dataclass(frozen=True, slots=True)
class Message:
    """What was said. It exists once the ledger has numbered it, and never changes.

    ``number`` is positive and grows in the order of commitment; ``time`` is in milliseconds since
    the epoch (UTC), as the server's clock had it; ``sender`` is the name as its owner wrote it.
    """

    number: int
    time: int
    sender: str
    target: Target
    text: str


def _visible(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)  # the block "Control Pictures" has one for each of C0
    return "\u2421" if code == 0x7F else "\ufffd"


# C0 without TAB, DEL and C1 act on a terminal. So do, on what is read there, the line and paragraph
# separators and the marks that reverse the direction of text (Unicode TR36, 2.3 and TR9, 2).
_CONTROLS = {
    code: _visible(code)
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    )
    if code != 0x09
}


def printable(text: str) -> str:
    """Return ``text`` with each control character but TAB replaced by one that only looks like it.

    One character becomes one character, so that lengths stay. Line ends are replaced too: split
    the lines before.
    """
    return text.translate(_CONTROLS)
