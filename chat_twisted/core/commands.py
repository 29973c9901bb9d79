"""What can be asked: the commands that go through the log.

Plain immutable values. A command carries all that can't be decided from the state, drawn or found
out by who proposes it: identifiers, digests of tokens, hashes of passwords, times of day. Nothing
here decides anything, and nothing here knows connections, files or the wire.

Users and rooms are meant by their numbers, times are milliseconds. Most commands begin with the
user and the epoch of the session that asks: what is asked on a session that has ended is refused.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

CONSOLE = 0
"""The user on whose behalf the operator at the server itself asks; everything is permitted."""

TEXT, ACTION, NOTICE = range(3)
"""Kinds of messages."""

NONE, VOICE, OPERATOR = range(3)
"""Ranks of a room's members."""

PRIVATE, MODERATED, TOPIC_LOCKED = "private", "moderated", "topic"
"""Modes of a room: only who is invited joins it; only operators and voices speak in it; only
operators set its topic."""

MODES = (PRIVATE, MODERATED, TOPIC_LOCKED)

BAN, MUTE = "ban", "mute"
"""Kinds of sanctions."""


def new_id() -> int:
    """Draw a number for a user or a room that no other has had or will have."""
    return secrets.randbits(62) + 1


class Options(NamedTuple):
    """The server's options that decide; None is no limit.

    ``grace`` is for how many milliseconds a guest is held whose last session is gone; ``guests``,
    whether names without an account can be had; ``rooms``, how many a user may be in;
    ``address_rooms``, how many there may be that users of one address have made; ``held``, how many
    guests may be held in all, and ``address_held`` those of one address.
    """

    grace: int = 600_000
    guests: bool = True
    rooms: int | None = 100
    address_rooms: int | None = 5000
    held: int = 10_000
    address_held: int | None = 1000


class Start(NamedTuple):
    """A node begins anew: the sessions that it had are gone.

    ``after`` is a number after which messages are numbered, so that none is given twice.
    """

    node: int
    options: Options
    after: int


class Login(NamedTuple):
    """A session wants a name.

    ``id`` and ``fresh`` are a number for the user, if there is none of that name, and the digest
    of a token for whoever is not in by ``token``, the digest of one that they have. ``proof`` is
    the key, or the stored hash of the password, by which it was verified that they own the account;
    empty without. ``kept`` says whether a guest's name is held when the last session is gone,
    ``present``, whether messages reach the session at once; ``host`` is the peer's address, empty
    on a local socket.
    """

    name: str
    id: int
    fresh: bytes
    token: bytes = b""
    proof: str = ""
    kept: bool = True
    present: bool = True
    may_authenticate: bool = True
    host: str = ""
    node: int = 0


class Arrive(NamedTuple):
    """From now on messages reach a session that logged in without being present."""

    user: int
    epoch: int


class Detach(NamedTuple):
    """A session is gone; ``for_good``: its user said so."""

    user: int
    epoch: int
    for_good: bool = False
    reason: str = ""


class Rename(NamedTuple):
    """A guest wants another name."""

    user: int
    epoch: int
    name: str


class SetAway(NamedTuple):
    """A user does not read for now, and says why; with None, they do again."""

    user: int
    epoch: int
    why: str | None


class Acknowledge(NamedTuple):
    """Users have everything up to these numbers."""

    cursors: tuple[tuple[int, int], ...]


class MarkRead(NamedTuple):
    """A user has seen a conversation up to a number; ``to`` is as in ``Send``."""

    user: int
    epoch: int
    to: str
    number: int


class Send(NamedTuple):
    """Something is said to ``to``: a user, a room or ALL.

    ``time`` is the time of day, ``key`` what this message and the same one sent again have in
    common and no other one of the user has; None if there is no such thing. Without
    ``reaches_absent`` only who is present counts.
    """

    user: int
    epoch: int
    to: str
    text: str
    time: int
    key: str | None = None
    kind: int = TEXT
    reaches_absent: bool = True


class DuplicateQuery(NamedTuple):
    """A question whether a message with this key was said, where it would be refused else."""

    user: int
    key: str


class Delete(NamedTuple):
    """A message is to have no text any more. What it is and when it was logged is carried along by
    who has read it: that never changes.
    """

    user: int
    epoch: int
    number: int
    author: int
    recipient: int
    room: int
    logged: int


class Join(NamedTuple):
    """A user wants to be a member of a room; ``id`` is a number for it if there is none."""

    user: int
    epoch: int
    room: str
    id: int
    private: bool = False


class Part(NamedTuple):
    """A member leaves a room."""

    user: int
    epoch: int
    room: str
    reason: str = ""


class RemoveMember(NamedTuple):
    """An operator of a room makes somebody leave it."""

    user: int
    epoch: int
    room: str
    whom: str
    reason: str = ""


class Invite(NamedTuple):
    """A member asks somebody into a room."""

    user: int
    epoch: int
    room: str
    whom: str


class SetTopic(NamedTuple):
    """A member says what a room is about."""

    user: int
    epoch: int
    room: str
    topic: str


class SetRank(NamedTuple):
    """An operator of a room gives a member a rank."""

    user: int
    epoch: int
    room: str
    whom: str
    rank: int


class SetMode(NamedTuple):
    """An operator of a room turns one of ``MODES`` on or off."""

    user: int
    epoch: int
    room: str
    mode: str
    on: bool


class BanFromRoom(NamedTuple):
    """An operator of a room keeps a name out of it and from speaking in it, or lets it in again."""

    user: int
    epoch: int
    room: str
    whom: str
    on: bool
    reason: str = ""


class MakeAccount(NamedTuple):
    """A user gets an account, and with it the name for ever.

    ``key`` is canonical and without ``comment``, ``hash`` is of a password; one may be empty. The
    console names somebody else, for whom ``id`` is a number if there is no such user.
    """

    user: int
    epoch: int
    key: str = ""
    comment: str = ""
    hash: str = ""
    name: str = ""
    id: int = 0


class DropAccount(NamedTuple):
    """An account is given up; ``erase``: with all that its user said. By the console: with the
    user.
    """

    user: int
    epoch: int
    erase: bool = False
    name: str = ""


class AddKey(NamedTuple):
    """Another key proves who an account's user is."""

    user: int
    epoch: int
    key: str
    comment: str = ""
    name: str = ""


class RemoveKey(NamedTuple):
    """A key does not any more."""

    user: int
    epoch: int
    key: str
    name: str = ""


class SetPassword(NamedTuple):
    """An account has another password, by its hash; none with an empty one."""

    user: int
    epoch: int
    hash: str
    name: str = ""


class SetOperator(NamedTuple):
    """The console makes an account an operator's, or not any more."""

    user: int
    epoch: int
    name: str
    on: bool


class Disconnect(NamedTuple):
    """An operator closes all sessions of a user, who may come back."""

    user: int
    epoch: int
    whom: str
    reason: str = ""


class Impose(NamedTuple):
    """An operator imposes a sanction. ``subject`` is a name's key, or canonical text of an address
    or network; ``until`` is the time of day at which it ends, in milliseconds, 0 for never.
    """

    user: int
    epoch: int
    kind: str
    subject: str
    until: int = 0
    reason: str = ""


class Lift(NamedTuple):
    """An operator ends a sanction."""

    user: int
    epoch: int
    kind: str
    subject: str


class Sweep(NamedTuple):
    """Ends what is due: at most ``limit`` holds and sanctions."""

    limit: int


class Turn(NamedTuple):
    """Changes nothing: a reading waits for its turn in the order."""


Command = (
    Start
    | Login
    | Arrive
    | Detach
    | Rename
    | SetAway
    | Acknowledge
    | MarkRead
    | Send
    | DuplicateQuery
    | Delete
    | Join
    | Part
    | RemoveMember
    | Invite
    | SetTopic
    | SetRank
    | SetMode
    | BanFromRoom
    | MakeAccount
    | DropAccount
    | AddKey
    | RemoveKey
    | SetPassword
    | SetOperator
    | Disconnect
    | Impose
    | Lift
    | Sweep
    | Turn
)
