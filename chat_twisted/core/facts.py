"""What can change: the facts that follow from commands.

Plain immutable values. A fact is one change of the state and of the file. A message is one, too.
``ordinal`` orders things of a kind: it is the version of the state that the fact makes. ``by`` is
the user who did it, 0 for nobody or the console; with ``reason`` it is for those who are told, and
not part of the state. Times are milliseconds by the log's clock, which never goes back.
"""

from __future__ import annotations

from typing import NamedTuple

from chat_twisted.core.commands import Options
from chat_twisted.core.message import Message


class OptionsSet(NamedTuple):
    """Other options decide from now on."""

    options: Options


class NumbersSkipped(NamedTuple):
    """The next message has a number above this one."""

    number: int


class UserCame(NamedTuple):
    """There is a user, who is a party to no message up to ``since``."""

    id: int
    name: str
    kept: bool
    since: int
    ordinal: int


class UserRenamed(NamedTuple):
    """A user has another name."""

    id: int
    name: str


class UserGone(NamedTuple):
    """A user is no more; they are a member of nothing."""

    id: int
    name: str
    reason: str = ""


class TokenAdded(NamedTuple):
    """A token lets a user in, by its digest; ``proof`` is what let them have it."""

    user: int
    digest: bytes
    proof: str
    ordinal: int


class TokenGone(NamedTuple):
    """A token lets nobody in any more."""

    user: int
    digest: bytes


class SessionCame(NamedTuple):
    """A user has one more session, the ``epoch``-th. ``token`` is the digest of its token,
    ``proof`` how its user proved who they are.
    """

    user: int
    epoch: int
    node: int
    host: str
    token: bytes
    proof: str
    present: bool


class SessionArrived(NamedTuple):
    """Messages reach a session from now on."""

    user: int
    epoch: int


class SessionGone(NamedTuple):
    """A user has one session less. ``for_good``: at their own wish, or against it. ``address`` is
    what counts as the address where it came from.
    """

    user: int
    epoch: int
    for_good: bool
    address: str
    by: int = 0
    reason: str = ""


class ProofRenewed(NamedTuple):
    """Whoever has a session has proven anew who they are."""

    user: int
    epoch: int
    proof: str


class Held(NamedTuple):
    """A guest without a session is held until some time, counted for an address."""

    user: int
    until: int
    address: str
    ordinal: int


class AwaySet(NamedTuple):
    """A user is away, and why; None if they are not."""

    user: int
    why: str | None


class CursorMoved(NamedTuple):
    """A user has everything up to a number."""

    user: int
    number: int


class MarkerSet(NamedTuple):
    """A user has seen a conversation up to a number. It is a room's number, or 0 and the key of
    the other's name, which is empty for ALL.
    """

    user: int
    room: int
    name: str
    number: int


class MarkerGone(NamedTuple):
    """A user's read marker of a conversation is forgotten."""

    user: int
    room: int
    name: str


class Deleted(NamedTuple):
    """A message has no text any more."""

    number: int
    author: int
    recipient: int
    room: int
    by: int


class AuthorErased(NamedTuple):
    """No message of a user up to a number has a text any more."""

    user: int
    number: int


class RoomMade(NamedTuple):
    """There is a room, without members yet. ``address`` is where its maker came from."""

    id: int
    name: str
    private: bool
    address: str
    time: int
    ordinal: int


class RoomGone(NamedTuple):
    """A room is no more."""

    id: int


class Joined(NamedTuple):
    """A user is a member of a room: a party to its messages after ``since``."""

    room: int
    user: int
    rank: int
    since: int
    ordinal: int


class Left(NamedTuple):
    """A user is no member of a room any more; ``by`` is another if they were removed."""

    room: int
    user: int
    until: int
    by: int = 0
    reason: str = ""


class RankSet(NamedTuple):
    """A member has another rank; ``by`` is 0 for who inherits the room."""

    room: int
    user: int
    rank: int
    by: int = 0


class ModeSet(NamedTuple):
    """A mode of a room is on, or off."""

    room: int
    mode: str
    on: bool
    by: int


class TopicSet(NamedTuple):
    """A room has another topic, set by somebody of that name."""

    room: int
    topic: str
    author: str
    time: int
    by: int


class Invited(NamedTuple):
    """A user may join a private room."""

    room: int
    user: int
    by: int


class Asked(NamedTuple):
    """A user was asked into a public room; nothing is kept of it."""

    room: int
    user: int
    by: int


class RoomBanned(NamedTuple):
    """A name is kept out of a room; author and reason are kept."""

    room: int
    name: str
    author: str
    time: int
    reason: str
    by: int


class RoomUnbanned(NamedTuple):
    """A name is not kept out of a room any more."""

    room: int
    name: str
    by: int


class AccountMade(NamedTuple):
    """A user has an account."""

    user: int
    time: int


class AccountGone(NamedTuple):
    """A user has none any more, no key and no password."""

    user: int


class KeyAdded(NamedTuple):
    """A key proves who an account's user is."""

    user: int
    key: str
    comment: str
    ordinal: int


class KeyRemoved(NamedTuple):
    """A key does not any more."""

    user: int
    key: str


class PasswordSet(NamedTuple):
    """An account has another password, or none with an empty ``hash``."""

    user: int
    hash: str


class OperatorSet(NamedTuple):
    """An account is an operator's, or not."""

    user: int
    on: bool


class Imposed(NamedTuple):
    """A sanction counts until some time, 0 for ever; ``author`` is the operator's name."""

    kind: str
    subject: str
    until: int
    reason: str
    author: str
    by: int


class Lifted(NamedTuple):
    """A sanction counts no more; ``by`` is 0 if its time is over."""

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
