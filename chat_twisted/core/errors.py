"""What can be refused, each refusal with its code and reason on the wire.

Doors turn a ``ChatError`` into their dialect's words in one place; everybody else only raises it.
Any other exception is a bug of ours. Nothing here knows how a refusal is written or to whom.
"""

from __future__ import annotations

from typing import ClassVar


class ChatError(Exception):
    """A request was refused because of what was asked, or of the state that the chat is in.

    ``code`` and ``reason`` are those of the protocol's error table (docs/protocol.rst, Errors).
    ``closes`` says that the connection can't go on after it. ``retry_after`` is in seconds,
    where waiting helps. ``headers`` are what else the answer says, where the dialect has headers.
    ``id`` is the request's own mark, where a frame is refused before it is one.
    """

    code: ClassVar[int]
    reason: ClassVar[str]
    closes: ClassVar[bool] = False
    retry_after: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    id: str | None = None

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        """``detail`` is for the log alone: it must not quote what a user wrote."""
        super().__init__(detail or self.reason)
        self.retry_after = retry_after


class MalformedName(ChatError):
    """A user name that is malformed (``message.check_user_name``) or reserved."""

    code = 100
    reason = "Malformed username"
    closes = True


class NotRegistered(ChatError):
    """Something else was asked before REGISTER; in version 1, also a name that can't be had."""

    code = 101
    reason = "No user registered"
    closes = True


class UnableToSend(ChatError):
    """Nobody is there to receive the message."""

    code = 102
    reason = "Unable to send"


class HeaderIncomplete(ChatError):
    """A frame against the grammar, or without what its verb must have: who wrote it does not speak
    this protocol, and what follows in the stream can't be trusted.
    """

    code = 103
    reason = "Header Incomplete"
    closes = True


class UnknownCommand(ChatError):
    """A verb that the server does not know."""

    code = 104
    reason = "Unknown command"


class NameInUse(ChatError):
    """Somebody else is connected under that name."""

    code = 105
    reason = "Name in use"


class AuthenticationRequired(ChatError):
    """A name that has an account; it is had by proving who one is."""

    code = 106
    reason = "Authentication required"


class AuthenticationFailed(ChatError):
    """The proof was none, or there is no such account: which of them is not said."""

    code = 107
    reason = "Authentication failed"


class MessageTooLong(ChatError):
    """A body over the server's limit."""

    code = 108
    reason = "Message too long"


class TooFast(ChatError):
    """More was asked for than a person would; ``retry_after`` says when it may go on."""

    code = 109
    reason = "Too fast"


class NoSuchRoom(ChatError):
    """A room that does not exist."""

    code = 110
    reason = "No such room"


class NotPermitted(ChatError):
    """A request that is well-formed and known, and not allowed to this user or at this point."""

    code = 111
    reason = "Not permitted"


class Unavailable(ChatError):
    """What is asked can't be done now."""

    code = 112
    reason = "Unavailable"


class TookTooLong(Unavailable):
    """What was asked took so long that it was given up."""


class EncryptionRequired(ChatError):
    """Plain text, from where the server takes none."""

    code = 113
    reason = "Encryption required"
    closes = True


# Why something is not permitted, or can't be done, where a door may have to tell them apart.


class NoSession(NotPermitted):
    """What is asked on a session that has ended."""


class Banned(NotPermitted):
    """The name or the address is kept out of the server; ``why`` is the operator's reason."""

    def __init__(self, why: str = "") -> None:
        super().__init__("banned")
        self.why = why
        self.headers = (("Reason", why),) if why else ()


class Muted(NotPermitted):
    """An operator of the server lets the user not talk, until a time in milliseconds or (0) for
    ever; ``why`` is the operator's reason.
    """

    def __init__(self, until: int = 0, why: str = "") -> None:
        super().__init__("is muted")
        self.until = until
        self.why = why


class NotAMember(NotPermitted):
    """The asker is not a member of the room."""


class NotThere(NotPermitted):
    """Whom it is about is not a member of the room."""


class AlreadyThere(NotPermitted):
    """Whom it is about is a member of the room already."""


class RoomIsPrivate(NotPermitted):
    """Only who is invited may join the room."""


class RoomIsPublic(NotPermitted):
    """A private room was asked for, and there is a public one of that name."""

    headers = (("Reason", "there is a public room of that name"),)


class BannedFromRoom(NotPermitted):
    """The name is kept out of the room, or from speaking in it."""


class RoomIsModerated(NotPermitted):
    """Only operators and voices speak in the room."""


class RoomOperatorRequired(NotPermitted):
    """Only operators of the room may do that."""


class LastOperator(NotPermitted):
    """The room would have no operator."""


class TooManyRooms(NotPermitted):
    """The user is in as many rooms as they may be, or users of the address have made as many."""


class TooManyThere(NotPermitted):
    """So many are invited, or banned, or sanctioned, that there can be no more."""


class TextTooLong(NotPermitted):
    """A topic or a reason that is too long, or not one line."""


class OperatorRequired(NotPermitted):
    """Only operators of the server may do that."""


class NoAccount(NotPermitted):
    """There is no account."""


class HasAccount(NotPermitted):
    """There is an account already, or somebody who has the name."""


class NotProven(NotPermitted):
    """What the session's user proved who they are by proves it no more."""


class NoSuchKey(NotPermitted):
    """The account has no such key."""


class TooManyKeys(NotPermitted):
    """The account has as many keys as it may have."""


class LastWayIn(NotPermitted):
    """Without this key or password nothing proves who the user is."""


class NoSuchSanction(NotPermitted):
    """There is no such sanction."""


class NotYours(NotPermitted):
    """A message that the asker may not delete, or not any more."""
