"""Facts: the changes that follow from a command, each as an immutable value.

A fact is one change of the state and of the archive; a ``Message`` is a fact, too. Rules make
facts, ``state`` applies them, ``storage.tables`` writes them, ``routes`` turns them into events.

``ordinal`` orders things of one kind: it is the version of the state that the fact leads to. ``by``
is the user who caused the change, 0 for nobody or the console. ``by`` and ``reason`` are for events
and not part of the state. Times are milliseconds of the log's clock, which never goes back;
messages, new users and accounts, topics, bans from a room and the ends of sanctions have the time
of day.
"""

from __future__ import annotations

from typing import NamedTuple

from chat_twisted.core.commands import NONE, Options
from chat_twisted.core.message import Message


class OptionsSet(NamedTuple):
    """The server's options have changed."""

    options: Options


class NumbersSkipped(NamedTuple):
    """The next message gets a higher number than this one."""

    number: int


class UserCame(NamedTuple):
    """There is a new user.

    :ivar kept: whether the name is held after the last session.
    :ivar since: the number of the last message before; the user may not read it or older ones.
    """

    id: int
    name: str
    kept: bool
    since: int
    ordinal: int
    time: int = 0


class UserRenamed(NamedTuple):
    """A user has got another name."""

    id: int
    name: str


class UserGone(NamedTuple):
    """A user has ended: the name is free. They have left their rooms before."""

    id: int
    name: str
    reason: str = ""


class TokenAdded(NamedTuple):
    """A user has a new token.

    :ivar digest: the SHA-256 digest of the token.
    :ivar proof: the proof by which the user logged in to get it; empty for a guest.
    """

    user: int
    digest: bytes
    proof: str
    ordinal: int


class TokenGone(NamedTuple):
    """A token is not valid any more."""

    user: int
    digest: bytes


class SessionCame(NamedTuple):
    """A user has logged in.

    :ivar epoch: the number of the login; it identifies the session together with the user.
    :ivar node: the node that has the session.
    :ivar host: the peer's address; empty for a local socket.
    :ivar token: the digest of the session's token.
    :ivar proof: the proof by which the user logged in; empty for a guest.
    :ivar present: whether messages reach the session.
    :ivar rooms: the rooms of the user, for events; it is not part of the state.
    """

    user: int
    epoch: int
    node: int
    host: str
    token: bytes
    proof: str
    present: bool
    rooms: tuple[int, ...] = ()


class SessionArrived(NamedTuple):
    """Messages reach the session from now on."""

    user: int
    epoch: int


class SessionGone(NamedTuple):
    """A session has ended.

    :ivar for_good: whether the user or an operator has ended it; otherwise the connection was lost.
    :ivar address: the session's address, as ``limits.network`` returns it.
    """

    user: int
    epoch: int
    for_good: bool
    address: str
    by: int = 0
    reason: str = ""


class ProofRenewed(NamedTuple):
    """A session, and its token, depend on another proof from now on."""

    user: int
    epoch: int
    proof: str


class Held(NamedTuple):
    """The name of a guest without a session is held.

    :ivar until: the time at which the hold ends.
    :ivar address: the address for which the hold is counted.
    """

    user: int
    until: int
    address: str
    ordinal: int


class AwaySet(NamedTuple):
    """A user is away with the text ``why``, or back if it is None."""

    user: int
    why: str | None


class RealNameSet(NamedTuple):
    """A user has another real name, or none if it is empty."""

    user: int
    real_name: str


class LoginNameSet(NamedTuple):
    """The client of a user says another name that they have on their own machine."""

    user: int
    login_name: str


class BotSet(NamedTuple):
    """A user is a program, or is none any more."""

    user: int
    on: bool


class CursorMoved(NamedTuple):
    """A user's acknowledgement cursor has advanced: they have all messages up to ``number``."""

    user: int
    number: int


class MarkerSet(NamedTuple):
    """A user's read marker in a conversation has advanced (``model.Marker``).

    :ivar room: the number of the room, or 0.
    :ivar name: the folded name of the other user; empty for a room and for ALL.
    """

    user: int
    room: int
    name: str
    number: int
    time: int


class MarkerGone(NamedTuple):
    """A user's read marker in a conversation is deleted, because there are too many."""

    user: int
    room: int
    name: str


class Deleted(NamedTuple):
    """The text of a message is deleted. ``sender`` and ``to`` are the names that it has."""

    number: int
    author: int
    recipient: int
    room: int
    by: int
    sender: str = ""
    to: str = ""
    reason: str = ""


class AuthorErased(NamedTuple):
    """The texts of all messages of a user up to ``number`` are to be deleted."""

    user: int
    number: int


class RoomMade(NamedTuple):
    """There is a new room, without members.

    :ivar address: the address from which it was made, as ``limits.network`` returns it.
    """

    id: int
    name: str
    private: bool
    address: str
    time: int
    ordinal: int


class RoomGone(NamedTuple):
    """A room has ended."""

    id: int


class Joined(NamedTuple):
    """A user has joined a room.

    :ivar since: the number of the last message before; the member may not read it or older ones.
    """

    room: int
    user: int
    rank: int
    since: int
    ordinal: int


class Left(NamedTuple):
    """A member has left a room, or was removed by the user ``by``.

    :ivar until: the number of the last message that the member may read.
    """

    room: int
    user: int
    until: int
    by: int = 0
    reason: str = ""


class RankSet(NamedTuple):
    """A member has got another rank. ``by`` is 0 if the member has inherited the room. ``before``,
    the rank until then, is only for events.
    """

    room: int
    user: int
    rank: int
    by: int = 0
    before: int = NONE


class ModeSet(NamedTuple):
    """A mode of a room was turned on or off."""

    room: int
    mode: str
    on: bool
    by: int


class TopicSet(NamedTuple):
    """A room has another topic; ``author`` is the name of the user who has set it."""

    room: int
    topic: str
    author: str
    time: int
    by: int


class Invited(NamedTuple):
    """A user is invited, and may join a private room."""

    room: int
    user: int
    by: int


class Uninvited(NamedTuple):
    """An invitation to a private room has ended, because the user's name was banned from it."""

    room: int
    user: int


class Asked(NamedTuple):
    """A user is invited to a public room. Nothing is stored, since everybody may join."""

    room: int
    user: int
    by: int


class RoomBanned(NamedTuple):
    """A name is banned from a room; the author's name and the reason are stored."""

    room: int
    name: str
    author: str
    time: int
    reason: str
    by: int


class RoomUnbanned(NamedTuple):
    """A ban from a room is lifted."""

    room: int
    name: str
    by: int


class AccountMade(NamedTuple):
    """A user has got an account."""

    user: int
    time: int


class AccountGone(NamedTuple):
    """A user's account, with its keys and password, is deleted."""

    user: int


class KeyAdded(NamedTuple):
    """An account has a new key, or another comment for a key."""

    user: int
    key: str
    comment: str
    ordinal: int


class KeyRemoved(NamedTuple):
    """A key is removed from an account."""

    user: int
    key: str


class PasswordSet(NamedTuple):
    """An account has another password, or none if ``hash`` is empty."""

    user: int
    hash: str


class OperatorSet(NamedTuple):
    """The user of an account has become an operator of the server, or is none any more."""

    user: int
    on: bool


class Imposed(NamedTuple):
    """A sanction was imposed.

    :ivar until: the time at which it ends; 0 means never.
    :ivar author: the operator's name; empty for the console.
    """

    kind: str
    subject: str
    until: int
    reason: str
    author: str
    by: int


class Lifted(NamedTuple):
    """A sanction has ended. ``by`` is 0 if its time was over, or for the console."""

    kind: str
    subject: str
    by: int


Fact = (
    Message
    | OptionsSet
    | NumbersSkipped
    | UserCame
    | UserRenamed
    | UserGone
    | TokenAdded
    | TokenGone
    | SessionCame
    | SessionArrived
    | SessionGone
    | ProofRenewed
    | Held
    | AwaySet
    | RealNameSet
    | LoginNameSet
    | BotSet
    | CursorMoved
    | MarkerSet
    | MarkerGone
    | Deleted
    | AuthorErased
    | RoomMade
    | RoomGone
    | Joined
    | Left
    | RankSet
    | ModeSet
    | TopicSet
    | Invited
    | Uninvited
    | Asked
    | RoomBanned
    | RoomUnbanned
    | AccountMade
    | AccountGone
    | KeyAdded
    | KeyRemoved
    | PasswordSet
    | OperatorSet
    | Imposed
    | Lifted
)
