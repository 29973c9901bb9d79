"""What can change beside that something is said: who is held, and the rooms.

Plain immutable values, which go through the ledger among the messages and take effect when they are
committed. Users and rooms are meant by their numbers. ``since`` and ``until`` are the number of the
message before the change.
"""

from __future__ import annotations

from typing import NamedTuple


class UserCame(NamedTuple):
    """A user has a name that is to be held. ``token`` is the SHA-256 of what proves who it is."""

    id: int
    name: str
    token: bytes
    since: int


class UserGone(NamedTuple):
    """A user is held no longer, and is a member of nothing."""

    id: int


class RoomMade(NamedTuple):
    """There is a room, without members yet."""

    id: int
    name: str
    private: bool
    owner: int


class RoomGone(NamedTuple):
    """The last member has left."""

    id: int


class OwnerSet(NamedTuple):
    """A room has another owner."""

    room: int
    owner: int


class TopicSet(NamedTuple):
    """A room has another topic."""

    room: int
    topic: str


class Joined(NamedTuple):
    """A user is a member of a room from now on."""

    room: int
    user: int
    since: int


class Left(NamedTuple):
    """A user is no member of a room any more."""

    room: int
    user: int
    until: int


class Invited(NamedTuple):
    """A user may join a private room."""

    room: int
    user: int


class AccountMade(NamedTuple):
    """A user has an account from now on, and with it the name for ever."""

    id: int
    name: str
    since: int


class AccountGone(NamedTuple):
    """A user is a guest again, by the SHA-256 of this token."""

    id: int
    token: bytes


class KeyAdded(NamedTuple):
    """A key proves who an account's user is."""

    user: int
    key: str
    comment: str


class KeyRemoved(NamedTuple):
    """A key does not any more."""

    user: int
    key: str


class PasswordSet(NamedTuple):
    """An account has another password: what argon2 made of it; nothing if it has none."""

    user: int
    hash: str


class RoleSet(NamedTuple):
    """An account is an operator's from now on, or not any more."""

    user: int
    operator: bool


class Sanctioned(NamedTuple):
    """Somebody or some network is kept out ("ban") or may not talk ("mute"): ``subject`` is a
    folded name, an address or a network, ``until`` in milliseconds since the epoch, 0 for ever.
    """

    kind: str
    subject: str
    until: int
    reason: str
    by: str


class Pardoned(NamedTuple):
    """A sanction is over."""

    kind: str
    subject: str


Change = (
    UserCame
    | UserGone
    | RoomMade
    | RoomGone
    | OwnerSet
    | TopicSet
    | Joined
    | Left
    | Invited
    | AccountMade
    | AccountGone
    | KeyAdded
    | KeyRemoved
    | PasswordSet
    | RoleSet
    | Sanctioned
    | Pardoned
)
