"""Commands: the requests that the state decides, each as an immutable value.

A command carries everything that the state can't compute itself, because it must be deterministic:
random identifiers, digests of tokens, hashes of passwords, times of day. The proposer provides
them. This module must not know rules, connections, files or the wire protocol.

Users and rooms are given by their numbers, times in milliseconds. Most commands begin with ``user``
and ``epoch``, which identify the asking session; they are refused if that session has ended.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

CONSOLE = 0
"""Stands for a user in commands of the operator at the server's machine, who may do everything."""

CONSOLE_NAME = "admin"
"""The name of that operator, for users and in the log."""

TEXT, ACTION, NOTICE = range(3)
"""Kinds of messages: said; what the sender does (``waves``); of a program, which nobody answers."""

KINDS = {TEXT: "text", ACTION: "action", NOTICE: "notice"}
"""The names of these kinds."""

NONE, VOICE, OPERATOR = range(3)
"""Ranks of a room's members."""

PRIVATE, MODERATED, TOPIC_LOCKED = "private", "moderated", "topic"
INVITE_ONLY, SECRET = "invite-only", "secret"
"""Modes of a room: only invited users can join, or know of it; only operators and voices can send;
only operators can set the topic. ``INVITE_ONLY`` and ``SECRET`` are each one half of ``PRIVATE``:
only invited users can join; only members and invited users know of the room."""

MODES = (PRIVATE, MODERATED, TOPIC_LOCKED, INVITE_ONLY, SECRET)

BAN, MUTE = "ban", "mute"
"""Kinds of sanctions."""


def new_id() -> int:
    """Draw a random number for a new user or room; it is unique for ever."""
    return secrets.randbits(62) + 1


class Options(NamedTuple):
    """The server's options on which decisions depend. None means no limit.

    :ivar grace: milliseconds for which a guest's name is held after their last session.
    :ivar guests: whether users without an account may log in.
    :ivar rooms: maximum number of rooms of one user.
    :ivar address_rooms: maximum number of rooms that were made from one address.
    :ivar held: maximum number of held guests.
    :ivar address_held: maximum number of held guests of one address.
    """

    grace: int = 600_000
    guests: bool = True
    rooms: int | None = 100
    address_rooms: int | None = 5000
    held: int = 10_000
    address_held: int | None = 1000


class Start(NamedTuple):
    """A node has started, or is lost: all sessions that it had before are gone.

    :ivar options: the options from now on; None for those that the state has.
    :ivar after: the next message gets a higher number than this one, so that no number is used
        twice.
    """

    node: int
    options: Options | None
    after: int


class SetOptions(NamedTuple):
    """Change the options while the server runs; in a cluster, for all nodes."""

    options: Options


class Login(NamedTuple):
    """Log in a session under a name.

    :ivar id: the number of the user, if a new one is made.
    :ivar fresh: the digest of a new token; used unless ``token`` is valid.
    :ivar token: the digest of the token that the client has sent; empty without one.
    :ivar proof: the verified proof that the client owns the account: a key, or the stored hash of a
        password; empty without one.
    :ivar kept: whether a guest's name is held after their last session.
    :ivar present: whether messages reach the session from now on.
    :ivar may_authenticate: whether the session's dialect can send proofs.
    :ivar host: the peer's address; empty for a local socket.
    :ivar node: the node that has the session.
    :ivar time: the time of day.
    :ivar real_name: as in ``SetRealName``; it is left out if it is not valid. None: as before.
    :ivar bot: as in ``SetBot``. None: as before.
    :ivar login_name: the user's name on their own machine, as the client says; it is left out if it
        is not valid. None: as before.
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
    time: int = 0
    real_name: str | None = None
    bot: bool | None = None
    login_name: str | None = None


class Arrive(NamedTuple):
    """Messages reach a session from now on. Follows a ``Login`` that was not ``present``."""

    user: int
    epoch: int


class Detach(NamedTuple):
    """A session has ended.

    :ivar for_good: whether the user has ended it; otherwise the connection was lost.
    :ivar reason: the reason that the user gave; it is left out if it is not valid.
    """

    user: int
    epoch: int
    for_good: bool = False
    reason: str = ""


class Rename(NamedTuple):
    """Rename a guest.

    :ivar time: the time of day.
    :ivar token: the digest of another token that becomes valid; empty without one.
    """

    user: int
    epoch: int
    name: str
    time: int = 0
    token: bytes = b""


class SetAway(NamedTuple):
    """Mark a user as away.

    :ivar why: the text that others see, which may be empty; None if the user is back.
    """

    user: int
    epoch: int
    why: str | None


class SetRealName(NamedTuple):
    """Set a user's real name, or whatever they write about themselves.

    :ivar real_name: a line without control characters; empty for none.
    """

    user: int
    epoch: int
    real_name: str


class SetBot(NamedTuple):
    """Mark a user as a program, or end that."""

    user: int
    epoch: int
    on: bool


class Acknowledge(NamedTuple):
    """Advance the acknowledgement cursors of users.

    :ivar cursors: pairs of a user and the number up to which they have all messages.
    """

    cursors: tuple[tuple[int, int], ...]


class MarkRead(NamedTuple):
    """Advance a user's read marker in a conversation.

    :ivar to: the conversation, as in ``Send``.
    :ivar number: the number of the last message that the user has seen, or 0.
    :ivar time: the time up to which they have seen it, in milliseconds since the epoch; 0 if only
        the number is known.
    """

    user: int
    epoch: int
    to: str
    number: int
    time: int = 0


class Send(NamedTuple):
    """Send a message.

    :ivar to: the name of a user or a room, or ALL.
    :ivar time: the time of day.
    :ivar key: the deduplication key: equal for a message and its repetition, and for no other
        message of the user; None if the message can't be repeated.
    :ivar kind: ``TEXT``, ``ACTION`` or ``NOTICE``.
    :ivar reaches_absent: whether the recipient may be absent; otherwise the message is refused if
        nobody can get it now.
    """

    user: int
    epoch: int
    to: str
    text: str
    time: int
    key: str | None = None
    kind: int = TEXT
    reaches_absent: bool = True


class Signal(NamedTuple):
    """Pass something on that is not kept, to the sessions that a message would reach now.

    :ivar to: as in ``Send``.
    :ivar content: the text to pass on, in a form that only doors understand.
    """

    user: int
    epoch: int
    to: str
    content: str


class Announce(NamedTuple):
    """Tell all present users something that is not kept. Operators and the console may do so.

    :ivar text: one line.
    """

    user: int
    epoch: int
    text: str


class DuplicateQuery(NamedTuple):
    """Ask whether a message with this key was sent, before it is refused for another reason."""

    user: int
    key: str


class Delete(NamedTuple):
    """Delete the text of a message. The proposer has read the message in the archive, and copies
    those of its fields that decide, or are told, and never change.
    """

    user: int
    epoch: int
    number: int
    author: int
    recipient: int
    room: int
    logged: int
    sender: str = ""
    to: str = ""
    reason: str = ""


class Join(NamedTuple):
    """Join a room; make it if it does not exist.

    :ivar id: the number of the room, if it is made.
    :ivar private: whether the room must be private.
    """

    user: int
    epoch: int
    room: str
    id: int
    private: bool = False


class Part(NamedTuple):
    """Leave a room."""

    user: int
    epoch: int
    room: str
    reason: str = ""


class RemoveMember(NamedTuple):
    """Remove a member from a room. Only the room's operators may."""

    user: int
    epoch: int
    room: str
    whom: str
    reason: str = ""


class Invite(NamedTuple):
    """Invite a user to a room."""

    user: int
    epoch: int
    room: str
    whom: str


class SetTopic(NamedTuple):
    """Set the topic of a room.

    :ivar time: the time of day, in milliseconds.
    """

    user: int
    epoch: int
    room: str
    topic: str
    time: int = 0


class SetRank(NamedTuple):
    """Set the rank of a member. Only the room's operators may.

    :ivar before: the rank that the member must have now; if it is another one, nothing changes.
        None means any.
    """

    user: int
    epoch: int
    room: str
    whom: str
    rank: int
    before: int | None = None


class SetMode(NamedTuple):
    """Turn one of ``MODES`` of a room on or off. Only the room's operators may."""

    user: int
    epoch: int
    room: str
    mode: str
    on: bool


class BanFromRoom(NamedTuple):
    """Ban a name from a room, or lift that ban. Only the room's operators may.

    :ivar on: True to ban, False to lift the ban.
    :ivar time: the time of day, in milliseconds.
    """

    user: int
    epoch: int
    room: str
    whom: str
    on: bool
    reason: str = ""
    time: int = 0


class MakeAccount(NamedTuple):
    """Make an account, which reserves the name for ever.

    :ivar key: a public key in canonical form, without its comment.
    :ivar hash: the hash of a password. Either ``key`` or ``hash`` may be empty.
    :ivar name: the name of the account, if the console asks; else the asker's account is meant.
    :ivar id: the number of the new user, if the console asks.
    :ivar time: the time of day.
    """

    user: int
    epoch: int
    key: str = ""
    comment: str = ""
    hash: str = ""
    name: str = ""
    id: int = 0
    time: int = 0


class DropAccount(NamedTuple):
    """Delete an account. Its user becomes a guest; if the console asks, the user ends.

    :ivar erase: whether to delete all messages of the user too.
    :ivar name: as in ``MakeAccount``.
    """

    user: int
    epoch: int
    erase: bool = False
    name: str = ""


class AddKey(NamedTuple):
    """Add a key to an account."""

    user: int
    epoch: int
    key: str
    comment: str = ""
    name: str = ""


class RemoveKey(NamedTuple):
    """Remove a key from an account."""

    user: int
    epoch: int
    key: str
    name: str = ""


class SetPassword(NamedTuple):
    """Set the password of an account, or remove it if ``hash`` is empty."""

    user: int
    epoch: int
    hash: str
    name: str = ""


class SetOperator(NamedTuple):
    """Make the user of an account an operator of the server, or revoke that. Only the console
    may.
    """

    user: int
    epoch: int
    name: str
    on: bool


class Disconnect(NamedTuple):
    """End all sessions of a user, who may log in again. Only operators of the server may."""

    user: int
    epoch: int
    whom: str
    reason: str = ""


class Impose(NamedTuple):
    """Ban or mute. Only operators of the server may.

    :ivar kind: ``BAN`` or ``MUTE``.
    :ivar subject: a folded name, or the canonical text of an address or network.
    :ivar until: the time of day at which it ends; 0 means never.
    """

    user: int
    epoch: int
    kind: str
    subject: str
    until: int = 0
    reason: str = ""


class Lift(NamedTuple):
    """End a sanction. Only operators of the server may."""

    user: int
    epoch: int
    kind: str
    subject: str


class Sweep(NamedTuple):
    """End at most ``limit`` holds and sanctions whose time is over. Proposed by the ledger."""

    limit: int


class Turn(NamedTuple):
    """Change nothing. A request that only reads takes its place in the order by it."""


Command = (
    Start
    | SetOptions
    | Login
    | Arrive
    | Detach
    | Rename
    | SetAway
    | SetRealName
    | SetBot
    | Acknowledge
    | MarkRead
    | Send
    | Signal
    | Announce
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
