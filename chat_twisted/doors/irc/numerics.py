"""The numeric replies of IRC: their numbers, and the texts of errors (modern.ircdocs.horse).

This module must not know connections, or when a reply is given.
"""

from __future__ import annotations

from collections.abc import Mapping

from chat_twisted import __version__
from chat_twisted.core import errors
from chat_twisted.core.errors import ChatError
from chat_twisted.doors.irc.splitting import harmless
from chat_twisted.frames import format_time

SERVER = "chat.server"
"""The name under which the server speaks. It is a constant, as the host is: no address is shown."""

HOST = "chat"
"""The host of all users."""

NETWORK = "chat_twisted"

VERSION = f"chat_twisted-{__version__}"

ALL = "&ALL"
"""The channel of all users; its messages are those to ``ALL``."""

HISTORY = 100
"""Maximum number of messages in the answer to CHATHISTORY."""

MAX_TARGETS = 4
"""Maximum number of targets of PRIVMSG, NOTICE and TAGMSG."""

MAX_LIST_MODES = 20
"""Maximum number of mode changes in one MODE."""

MAX_MONITORED = 100
"""Maximum number of names that a client can monitor."""


ISUPPORT: Mapping[str, str] = {
    "ACCOUNTEXTBAN": "a",
    "AWAYLEN": "200",
    "BOT": "B",
    "CASEMAPPING": "ascii",
    "CHANLIMIT": "#&:100",
    "CHANMODES": "b,,,imnpst",
    "CHANNELLEN": "33",
    "CHANTYPES": "#&",
    "CHATHISTORY": str(HISTORY),
    "ELIST": "CMNTU",
    "EXTBAN": "$,a",
    "HOSTLEN": str(len(HOST)),
    "KICKLEN": "200",
    "MODES": str(MAX_LIST_MODES),
    "MONITOR": str(MAX_MONITORED),
    "MSGREFTYPES": "msgid,timestamp",
    "NAMELEN": "200",
    "NETWORK": NETWORK,
    "NICKLEN": "32",
    "PREFIX": "(ov)@+",
    "TARGMAX": f"JOIN:,KICK:,LIST:,NAMES:,NOTICE:{MAX_TARGETS},PART:,PRIVMSG:{MAX_TARGETS},"
    f"TAGMSG:{MAX_TARGETS},WHOIS:1",
    "TOPICLEN": "400",
    "USERLEN": "32",
    "UTF8ONLY": "",
    "WHOX": "",
}
"""The tokens of RPL_ISUPPORT."""

ERRORS: Mapping[type[ChatError], tuple[str, str]] = {
    errors.MalformedName: ("432", "Not a name here: letters, digits, - and _, 32 at most"),
    errors.NameInUse: ("433", "Nickname is already in use"),
    errors.AuthenticationRequired: ("433", "Nickname is an account's: log in with SASL or PASS"),
    errors.AuthenticationFailed: ("464", "Password incorrect"),
    errors.UnableToSend: ("401", "No such nick"),
    errors.NoSuchRoom: ("403", "No such channel"),
    errors.NotAMember: ("442", "You're not on that channel"),
    errors.NotThere: ("441", "They aren't on that channel"),
    errors.AlreadyThere: ("443", "is already on channel"),
    errors.RoomIsPrivate: ("473", "Cannot join channel (+i)"),
    errors.BannedFromRoom: ("474", "Cannot join channel (+b)"),
    errors.RoomIsModerated: ("404", "Cannot send to channel (+m)"),
    errors.RoomOperatorRequired: ("482", "You're not channel operator"),
    errors.LastOperator: ("482", "The channel would have no operator"),
    errors.TooManyRooms: ("405", "You have joined too many channels"),
    errors.TooManyThere: ("478", "The list is full"),
    errors.OperatorRequired: ("481", "Permission denied: you're not an operator"),
    errors.Banned: ("465", "You are banned from this server"),
    errors.Muted: ("404", "You are muted"),
    errors.HasAccount: ("447", "An account keeps its name"),
    errors.TooFast: ("263", "Please wait a while and try again"),
    errors.Unavailable: ("263", "Not now: please try again"),
    errors.EncryptionRequired: ("484", "Only on an encrypted connection"),
    errors.TextTooLong: ("417", "The text is too long"),
    errors.NotPermitted: ("484", "Not permitted"),
}
"""The numeric and the text of each class of errors; another class has those of its base class."""

SENDING: Mapping[type[ChatError], tuple[str, str]] = {
    errors.NotAMember: ("404", "Cannot send to channel (you have not joined it)"),
    errors.BannedFromRoom: ("404", "Cannot send to channel (+b)"),
}
"""The same for PRIVMSG and NOTICE, where it differs."""


def numeric_of(error: ChatError, *, sending: bool = False) -> tuple[str, str]:
    """Return the numeric and the text of an error."""
    number, text = "400", "Refused"
    for kind in type(error).__mro__:
        if sending and kind in SENDING:
            number, text = SENDING[kind]
            break
        if kind in ERRORS:
            number, text = ERRORS[kind]
            break
    if isinstance(error, errors.Sanctioned):
        if error.until:
            text += f" until {format_time(error.until)[:16].replace('T', ' ')} UTC"
        if error.why:
            text += f": {harmless(error.why)}"
    return number, text


def prefix(nick: str) -> str:
    """Return the source of what a user does."""
    return f"{nick}!{nick}@{HOST}"
