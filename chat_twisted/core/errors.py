"""What is refused: one class for each reason that a door may have to tell from the others.

A door turns a ``ChatError`` into the words of its protocol; everybody else only raises it. Any
other exception is a bug of ours. Nothing here knows a protocol: neither codes nor texts for users.
"""

from __future__ import annotations


class ChatError(Exception):
    """A request was refused because of what was asked, or of the state that the chat is in.

    :ivar retry_after: seconds after which it is worth trying again; None where waiting does not
        help.
    """

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        """``detail`` is for the log alone: it must not quote what a user wrote."""
        super().__init__(detail or type(self).__name__)
        self.retry_after = retry_after


class MalformedName(ChatError):
    """A user name that is malformed (``message.check_user_name``) or reserved."""


class UnableToSend(ChatError):
    """Nobody is there to receive the message."""


class NameInUse(ChatError):
    """Somebody else is connected under that name."""


class AuthenticationRequired(ChatError):
    """A name that has an account; it is had by proving who one is."""


class AuthenticationFailed(ChatError):
    """The proof was none, or there is no such account: which of them is not said."""


class TooFast(ChatError):
    """More was asked for than a person would; ``retry_after`` says when it may go on."""


class NoSuchRoom(ChatError):
    """A room that does not exist."""


class NotPermitted(ChatError):
    """A request that is well-formed and known, and not allowed to this user or at this point."""


class Unavailable(ChatError):
    """What is asked can't be done now."""


class TookTooLong(Unavailable):
    """What was asked took so long that it was given up."""


class SearchTooBroad(TookTooLong):
    """A search took so long that it was given up, and would again."""


class EncryptionRequired(ChatError):
    """Plain text, from where the server takes none."""


# Why something is not permitted, or can't be done, where a door may have to tell them apart.


class NoSession(NotPermitted):
    """What is asked on a session that has ended."""


class Sanctioned(NotPermitted):
    """An operator of the server has forbidden it.

    :ivar until: the end, in milliseconds since the epoch; 0 if there is none.
    :ivar why: the operator's reason; may be empty.
    """

    def __init__(self, until: int = 0, why: str = "") -> None:
        super().__init__()
        self.until = until
        self.why = why


class Banned(Sanctioned):
    """The name or the address is kept out of the server."""


class Muted(Sanctioned):
    """The user may not talk."""


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
