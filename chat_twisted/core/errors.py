"""Refusals: one exception class for each reason that a door may need to distinguish.

The core raises a ``ChatError``, and a door writes it in its protocol. Any other exception is a
defect. This module must not know protocols: no codes, and no texts for users.
"""

from __future__ import annotations


class ChatError(Exception):
    """A request was refused because of its contents, or because of the state of the chat.

    :ivar retry_after: seconds after which the client may try again; None if waiting does not help.
    """

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        """:param detail: for the log only; it must not quote text of a user."""
        super().__init__(detail or type(self).__name__)
        self.retry_after = retry_after


class MalformedName(ChatError):
    """A user name that is malformed (``message.check_user_name``) or reserved."""


class UnableToSend(ChatError):
    """There is no recipient for the message."""


class NameInUse(ChatError):
    """Another user has the name.

    :ivar until: if its guest is gone, and the name only held: the time of day until which it is, in
        milliseconds since the epoch; otherwise 0.
    """

    def __init__(self, until: int = 0) -> None:
        super().__init__()
        self.until = until


class AuthenticationRequired(ChatError):
    """The name has an account, and the client must prove that its user owns it."""


class AuthenticationFailed(ChatError):
    """The proof is not valid, or there is no such account; users can't see which."""


class TooFast(ChatError):
    """A rate limit was exceeded; ``retry_after`` says when the client may continue."""


class NoSuchRoom(ChatError):
    """The room does not exist, or the user may not know of it."""


class NotPermitted(ChatError):
    """The request is valid, but not allowed for this user or at this time."""


class Unavailable(ChatError):
    """A temporary condition prevents the request; the client may try again later."""


class TookTooLong(Unavailable):
    """The request took too long and was interrupted."""


class SearchTooBroad(TookTooLong):
    """A search took too long and was interrupted; it would take too long again."""


class EncryptionRequired(ChatError):
    """Plain text is not allowed from the client's address."""


# Reasons that a door may need to distinguish


class NoSession(NotPermitted):
    """The asking session has ended."""


class Sanctioned(NotPermitted):
    """A ban or a mute forbids it.

    :ivar until: its end, in milliseconds since the epoch; 0 means never.
    :ivar why: the operator's reason; may be empty.
    :ivar by: the name of the operator; empty for the console.
    """

    def __init__(self, until: int = 0, why: str = "", by: str = "") -> None:
        super().__init__()
        self.until = until
        self.why = why
        self.by = by


class Banned(Sanctioned):
    """The name or the address is banned from the server."""


class Muted(Sanctioned):
    """The user is muted."""


class NotAMember(NotPermitted):
    """The asker is not a member of the room."""


class NotThere(NotPermitted):
    """The other user is not a member of the room, or the name is not banned from it."""


class AlreadyThere(NotPermitted):
    """The other user is a member of the room already."""


class RoomIsPrivate(NotPermitted):
    """Only invited users may join the room."""


class RoomIsPublic(NotPermitted):
    """The user wants a private room, and there is a public room of that name."""


class BannedFromRoom(Sanctioned):
    """The user's name is banned from the room: they can't join it, or can't send to it."""


class RoomIsModerated(NotPermitted):
    """Only operators and voices can send to the room."""


class RoomOperatorRequired(NotPermitted):
    """Only operators of the room may do that."""


class LastOperator(NotPermitted):
    """The room would have no operator."""


class TooManyRooms(NotPermitted):
    """The user is in the maximum number of rooms, or their address has made the maximum."""


class TooManyThere(NotPermitted):
    """There is the maximum number of invitations, bans or sanctions."""


class TextTooLong(NotPermitted):
    """A topic, a reason or an away text is too long, or not one line."""


class OperatorRequired(NotPermitted):
    """Only operators of the server may do that."""


class NoAccount(NotPermitted):
    """There is no account."""


class HasAccount(NotPermitted):
    """The user has an account already, or another user has the name."""


class NotProven(NotPermitted):
    """The account does not have the proof of the asking session any more."""


class NoSuchKey(NotPermitted):
    """The account has no such key."""


class TooManyKeys(NotPermitted):
    """The account has the maximum number of keys."""


class LastWayIn(NotPermitted):
    """This is the last key or password of the account."""


class NoSuchSanction(NotPermitted):
    """There is no such ban or mute."""


class NotYours(NotPermitted):
    """The asker may not delete the message, or not any more."""
