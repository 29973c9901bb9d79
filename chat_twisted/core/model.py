"""The data of the state: users, sessions, rooms, holds and sanctions, and indexes to find them.

``Model`` is the input of the rules (``names``, ``messages``, ``room_rules``, ``accounts``,
``sanctions``), which only read it; ``state`` changes it by applying facts. To keep decisions
deterministic, everything that is iterated over has an order that is also in the archive.
"""

from __future__ import annotations

import heapq
import hmac
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

from chat_twisted.core.commands import Options
from chat_twisted.core.entries import Progress
from chat_twisted.core.limits import network
from chat_twisted.core.message import fold
from chat_twisted.core.ordered import Listing, Ordered

REMEMBER = 15 * 60_000
"""Milliseconds for which the key of a sent message is remembered, to detect duplicates."""

MAX_REMEMBERED = 256
"""Maximum number of a user's messages whose keys are remembered."""

Sent = tuple[int, int, int, int]
"""A sent message: its number, its time of day, the time when it was logged, and a count of its
author's messages."""


class Token(NamedTuple):
    """A valid token.

    :ivar proof: the proof by which the user logged in to get it; empty for a guest.
    """

    proof: str
    ordinal: int


class Session:
    """One session of a user; the attributes are those of ``facts.SessionCame``."""

    __slots__ = ("host", "node", "present", "proof", "token")

    def __init__(self, node: int, host: str, token: bytes, proof: str, present: bool) -> None:
        self.node = node
        self.host = host
        self.token = token
        self.proof = proof
        self.present = present

    @property
    def address(self) -> str:
        """The address for limits, as ``limits.network`` returns it; empty for a local socket."""
        return network(self.host) if self.host else ""


class Account:
    """The account of a user.

    :ivar time: the time of day when it was made; 0 if it is not known.
    :ivar operator: whether the user is an operator of the server.
    :ivar password: the hash of the password; empty without one.
    :ivar keys: the comment and the ordinal of each public key.
    """

    __slots__ = ("keys", "operator", "password", "time")

    def __init__(self, time: int, *, operator: bool = False, password: str = "") -> None:
        self.time = time
        self.operator = operator
        self.password = password
        self.keys: dict[str, tuple[str, int]] = {}

    def is_proof(self, proof: str) -> bool:
        """Return whether ``proof`` is a key of this account, or its password's hash."""
        return bool(proof) and (proof in self.keys or proof == self.password)

    @property
    def ways_in(self) -> int:
        """The number of keys and passwords."""
        return len(self.keys) + bool(self.password)


class Marker(NamedTuple):
    """A user's read marker in a conversation.

    :ivar number: the number of the last message that the user has seen; 0 if there was none.
    :ivar time: the time up to which they have seen the conversation, in milliseconds since the
        epoch; 0 if it is not known, because a door has only set the number.
    """

    number: int
    time: int


NO_MARKER = Marker(0, 0)
"""The read marker of a conversation that the user has not read."""


class User:
    """A user: somebody who owns a name, because they have a session, are held, or have an account.

    :ivar key: the folded name.
    :ivar kept: whether a guest's name is held after the last session.
    :ivar since: the number of the last message before the user existed.
    :ivar time: the time of day when the user came; 0 if it is not known.
    :ivar cursor: the acknowledgement cursor: the user has all messages up to this number.
    :ivar epoch: the number of the last login.
    :ivar away: the text that others see while the user is away; None if the user is not away.
    :ivar login_name: the user's name on their own machine, as their client says; empty for none.
    :ivar real_name: the user's real name, or whatever they write about themselves; empty for none.
    :ivar bot: whether the user is a program.
    :ivar tokens: the valid tokens, by their digests; the oldest first.
    :ivar sessions: the sessions, by their epochs.
    :ivar invitations: the private rooms to which the user is invited.
    :ivar markers: the read markers, by room and name as in ``facts.MarkerSet``.
    :ivar recent: the recently sent messages, by their keys; ``older`` has those before them.
    :ivar sent: the number of messages that were remembered in these.
    """

    __slots__ = (
        "account",
        "away",
        "bot",
        "cursor",
        "epoch",
        "id",
        "invitations",
        "kept",
        "key",
        "login_name",
        "markers",
        "name",
        "older",
        "ordinal",
        "real_name",
        "recent",
        "rooms",
        "sent",
        "sessions",
        "since",
        "time",
        "tokens",
    )

    def __init__(
        self, id: int, name: str, kept: bool, since: int, ordinal: int, time: int = 0
    ) -> None:
        self.id = id
        self.name = name
        self.key = fold(name)
        self.kept = kept
        self.since = since
        self.ordinal = ordinal
        self.time = time
        self.cursor = since
        self.epoch = 0
        self.away: str | None = None
        self.real_name = ""
        self.login_name = ""
        self.bot = False
        self.account: Account | None = None
        self.tokens: dict[bytes, Token] = {}
        self.sessions: dict[int, Session] = {}
        self.rooms: dict[int, Room] = {}
        self.invitations: dict[int, Room] = {}
        self.markers: dict[tuple[int, str], Marker] = {}
        self.recent: dict[str, Sent] = {}
        self.older: dict[str, Sent] = {}
        self.sent = 0

    @property
    def operator(self) -> bool:
        """Whether the user is an operator of the server."""
        return self.account is not None and self.account.operator

    @property
    def present(self) -> bool:
        """Whether the user has a session that messages reach, perhaps after catching up."""
        for session in self.sessions.values():  # noqa: SIM110  any() takes three times as long
            if session.present:
                return True
        return False

    @property
    def reachable(self) -> bool:
        """Whether the user gets messages at the next login that were sent in their absence."""
        return self.kept or self.account is not None

    def find_sent(self, key: str, now: int) -> Sent | None:
        """Return the recently sent message with this key, or None."""
        sent = self.recent.get(key) or self.older.get(key)
        if sent is None or now - sent[2] >= REMEMBER or self.sent - sent[3] >= MAX_REMEMBERED:
            return None
        return sent

    def remembered(self, now: int) -> list[tuple[str, Sent]]:
        """Return all recently sent messages with their keys, oldest first."""
        known = {**self.older, **self.recent}
        found = [(key, sent) for key in known if (sent := self.find_sent(key, now)) is not None]
        return sorted(found, key=lambda item: item[1])

    def find_token(self, digest: bytes) -> Token | None:
        """Return the valid token with this digest, or None; both take the same time."""
        found = None
        for known, token in self.tokens.items():
            if hmac.compare_digest(known, digest):
                found = token
        return found


class RoomBan(NamedTuple):
    """A ban from a room: the name of the operator who imposed it, when, and why."""

    author: str
    time: int
    reason: str


class Room:
    """A room.

    :ivar key: the folded name.
    :ivar address: the address from which the room was made, as ``limits.network`` returns it.
    :ivar time: the time when it was made.
    :ivar members: the members, in the order of joining.
    :ivar present: how many of them are present.
    :ivar operators: the users among them who are the room's operators.
    :ivar invited: the users who are invited and have not joined.
    :ivar bans: the bans, by folded names.
    """

    __slots__ = (
        "_in_order",
        "address",
        "bans",
        "id",
        "invited",
        "key",
        "members",
        "modes",
        "name",
        "operators",
        "ordinal",
        "present",
        "time",
        "topic",
        "topic_author",
        "topic_time",
    )

    def __init__(self, id: int, name: str, address: str, time: int, ordinal: int) -> None:
        self.id = id
        self.name = name
        self.key = fold(name)
        self.address = address
        self.time = time
        self.ordinal = ordinal
        self.modes: set[str] = set()
        self.topic = ""
        self.topic_author = ""
        self.topic_time = 0
        self.members: OrderedDict[int, Member] = OrderedDict()
        self.present = 0
        self.operators: set[int] = set()
        self.invited: dict[int, None] = {}
        self.bans: dict[str, RoomBan] = {}
        self._in_order: Ordered[User] | None = None

    @property
    def invite_only(self) -> bool:
        """Whether only invited users can join the room."""
        return "private" in self.modes or "invite-only" in self.modes

    @property
    def hidden(self) -> bool:
        """Whether only members and invited users may know of the room."""
        return "private" in self.modes or "secret" in self.modes

    @property
    def private(self) -> bool:
        """Whether only invited users can join the room or know of it."""
        return self.invite_only and self.hidden

    def visible(self, user: int) -> bool:
        """Return whether a user may know of the room."""
        return not self.hidden or user in self.members or user in self.invited

    def list_members(self, users: dict[int, User]) -> Ordered[User]:
        """Return the members in the order of their names. The list is made at the first call, and
        kept up to date from then on.
        """
        if self._in_order is None:
            self._in_order = Ordered(user_key, (users[id] for id in self.members))
        return self._in_order

    def list_member(self, user: User) -> None:
        """Update the list of members after ``user`` has joined, left or been renamed."""
        if self._in_order is not None:
            if user.id in self.members:
                self._in_order.put(user)
            else:
                self._in_order.discard(user)

    def unlist_member(self, user: User) -> None:
        """Remove a user from the list of members, before they are renamed."""
        if self._in_order is not None:
            self._in_order.discard(user)


class Member(NamedTuple):
    """The membership of a user in a room.

    :ivar rank: ``NONE``, ``VOICE`` or ``OPERATOR``.
    :ivar since: the number of the last message before the user joined.
    """

    rank: int
    since: int
    ordinal: int


class Hold(NamedTuple):
    """The hold of a guest's name: when it ends, and for which address it is counted."""

    until: int
    address: str
    ordinal: int


class Sanction(NamedTuple):
    """A sanction that is in force; the attributes are those of ``facts.Imposed``."""

    kind: str
    subject: str
    until: int
    reason: str
    author: str

    @property
    def key(self) -> str:
        """The key by which lists of sanctions are ordered."""
        return f"{self.subject} {self.kind}"


class _Group:
    """The held guests of one address, oldest hold first."""

    __slots__ = ("guests",)

    def __init__(self) -> None:
        self.guests: OrderedDict[int, Hold] = OrderedDict()

    @property
    def oldest(self) -> tuple[int, int]:
        """The oldest hold: its ordinal and its user."""
        user, hold = next(iter(self.guests.items()))
        return hold.ordinal, user


class Holds:
    """The held guests, and the choice of a guest to evict if there are too many.

    An address with more held guests than its share loses its oldest one. If there are too many in
    all, the address with the most loses its oldest one; among equals, the address whose oldest hold
    is the oldest. Guests of local sockets count as one address, which has no share.
    """

    def __init__(self) -> None:
        self._all: dict[int, Hold] = {}
        self._groups: dict[str, _Group] = {}
        self._by_size: dict[int, Ordered[_Group]] = {}
        self._ends: list[tuple[int, int, int]] = []  # until, ordinal, user; some are stale

    def __len__(self) -> int:
        return len(self._all)

    def get(self, user: int) -> Hold | None:
        """Return the hold of a user, or None."""
        return self._all.get(user)

    def add(self, user: int, hold: Hold) -> None:
        """Hold a guest."""
        group = self._groups.setdefault(hold.address, _Group())
        self._unlist(group)
        self._all[user] = group.guests[user] = hold
        self._list(group)
        heapq.heappush(self._ends, (hold.until, hold.ordinal, user))

    def remove(self, user: int) -> None:
        """Remove the hold of a guest, if there is one."""
        hold = self._all.pop(user, None)
        if hold is None:
            return
        group = self._groups[hold.address]
        self._unlist(group)
        del group.guests[user]
        self._list(group)
        if not group.guests:
            del self._groups[hold.address]
        if len(self._ends) > 2 * len(self._all) + 100:
            self._ends = [(h.until, h.ordinal, id) for id, h in self._all.items()]
            heapq.heapify(self._ends)

    def excess(self, most: int, share: int | None, address: str) -> int | None:
        """Return the guest to evict after a guest of ``address`` was added, or None.

        :param most: the maximum number of held guests.
        :param share: the maximum number of one address; None means no limit.
        """
        group = self._groups.get(address)
        if share is not None and address and group is not None and len(group.guests) > share:
            return group.oldest[1]
        if len(self._all) <= most:
            return None
        largest = self._by_size[max(self._by_size)].first()
        assert largest is not None
        return largest.oldest[1]

    def next_end(self) -> int | None:
        """Return the time when the first hold ends, which may be past; None without a hold."""
        ends = self._ends
        while ends and self._is_stale(ends[0]):
            heapq.heappop(ends)
        return ends[0][0] if ends else None

    def due(self, now: int, limit: int) -> list[int]:
        """Return at most ``limit`` users whose holds have ended, in the order of their ends."""
        found: list[tuple[int, int, int]] = []
        while len(found) < limit and (end := self.next_end()) is not None and end <= now:
            found.append(heapq.heappop(self._ends))
        for end_of_hold in found:  # a fact removes the holds; this function changes nothing
            heapq.heappush(self._ends, end_of_hold)
        return [user for _, _, user in found]

    def _is_stale(self, end: tuple[int, int, int]) -> bool:
        until, ordinal, user = end
        hold = self._all.get(user)
        return hold is None or (hold.until, hold.ordinal) != (until, ordinal)

    def _unlist(self, group: _Group) -> None:
        size = len(group.guests)
        if size:
            self._by_size[size].discard(group)
            if not self._by_size[size]:
                del self._by_size[size]

    def _list(self, group: _Group) -> None:
        size = len(group.guests)
        if size:
            self._by_size.setdefault(size, Ordered(lambda group: group.oldest)).put(group)


def user_key(user: User) -> str:
    """Return the key by which lists of users are ordered."""
    return user.key


def room_key(room: Room) -> str:
    """Return the key by which lists of rooms are ordered."""
    return room.key


class Model:
    """The state, for reading. Only ``State``, its subclass, may change it."""

    def __init__(self) -> None:
        self.version = 0
        self.time = 0
        self.number = 0
        self.options = Options()
        self.users: dict[int, User] = {}
        self.names: dict[str, User] = {}
        self.token_users: dict[bytes, int] = {}  # by the digests of their tokens
        self.accounts: Ordered[User] = Ordered(user_key)
        self.key_users: dict[str, tuple[int, ...]] = {}  # by the keys of their accounts, sorted
        self.holds = Holds()
        self.present: Ordered[User] = Ordered(user_key)
        self.rooms: dict[int, Room] = {}
        self.room_names: dict[str, Room] = {}
        self.rooms_made: Counter[str] = Counter()  # by the addresses of their makers
        self.listed: Ordered[Room] = Ordered(room_key)  # those that are not hidden
        self.hidden_of: dict[int, Ordered[Room]] = {}  # the hidden rooms that a user may know of
        self.sanctions: dict[tuple[str, str], Sanction] = {}
        self.sanctions_in_order: Ordered[Sanction] = Ordered(lambda sanction: sanction.key)
        self.sanctions_ending: Ordered[Sanction] = Ordered(lambda s: (s.until, s.key))
        self.banned_networks: Counter[tuple[int, int]] = Counter()  # by version and length
        self.senders: deque[User] = deque()  # users whose "recent" or "older" is not empty

    def find_user(self, name: str, token: bytes) -> User | None:
        """Return the user who logs in: the owner of the token, even if they were renamed and the
        client does not know it; otherwise the user who has the name, if there is one.

        :param token: the digest of a token; empty without one.
        """
        named = self.names.get(fold(name))
        if not token or (named is not None and named.find_token(token) is not None):
            return named
        id = self.token_users.get(token)
        return named if id is None else self.users[id]

    def find_key_owner(self, key: str, name: str) -> User | None:
        """Return the user whose account has a key: the one with this name, or else the only one.

        None if several others have it: anybody can add the public key of somebody else to their
        account, and nobody must be logged in to an account that is not meant.

        :param key: a public key, as ``keys.parse_key`` returns it.
        :param name: the name that the client wants; may be empty.
        """
        owners = self.key_users.get(key, ())
        named = self.names.get(fold(name))
        if named is not None and named.id in owners:
            return named
        return self.users[owners[0]] if len(owners) == 1 else None

    @property
    def progress(self) -> Progress:
        """The progress of the state."""
        return Progress(self.version, self.time, self.number)

    @property
    def next_due(self) -> int | None:
        """The time when the next hold or sanction ends, which may be past; None if none ends."""
        ends = [] if (end := self.holds.next_end()) is None else [end]
        if (sanction := self.sanctions_ending.first()) is not None:
            ends.append(sanction.until)
        return min(ends, default=None)

    def rooms_seen_by(self, user: int, after: str = "") -> Listing[Room]:
        """Return the rooms that a user may know of, in the order of their names.

        :param after: the folded name after which the items begin; the count includes all rooms.
        """
        rooms, hidden = self.listed.after(after), self.hidden_of.get(user)
        if hidden is None:
            return Listing(len(self.listed), rooms)
        both: Iterator[Room] = heapq.merge(rooms, hidden.after(after), key=room_key)
        return Listing(len(self.listed) + len(hidden), both)
