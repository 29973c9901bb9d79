"""The state of the chat as data: users, sessions, rooms, sanctions, and what they are found by.

``Model`` has what decisions are made from, and questions about it. What may change, the rules say
(``names``, ``messages``, ``room_rules``, ``accounts``, ``sanctions``); it changes by facts alone
(``state``). Whatever is walked through here has an order that the file has, too.
"""

from __future__ import annotations

import heapq
import hmac
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

from chat_twisted.core.commands import OPERATOR, Options
from chat_twisted.core.entries import Progress
from chat_twisted.core.limits import network
from chat_twisted.core.message import fold
from chat_twisted.core.ordered import Listing, Ordered

REMEMBER = 15 * 60_000
"""Milliseconds for which it is remembered that a message was sent."""

MAX_REMEMBERED = 256
"""How many messages of a user that is remembered of."""

Sent = tuple[int, int, int, int]
"""A message that was sent: its number and time of day, when it was logged, and the how many of its
author it was.
"""


class Token(NamedTuple):
    """What is known of a token: what let its user have it, and its place in the order."""

    proof: str
    ordinal: int


class Session:
    """One session of a user, on some node. ``proof`` is how its user proved who they are."""

    __slots__ = ("host", "node", "present", "proof", "token")

    def __init__(self, node: int, host: str, token: bytes, proof: str, present: bool) -> None:
        self.node = node
        self.host = host
        self.token = token
        self.proof = proof
        self.present = present

    @property
    def address(self) -> str:
        """What counts as the peer's address; empty if it is not known."""
        return network(self.host) if self.host else ""


class Account:
    """What proves who a user is: keys, each with a comment and an ordinal, and a password's hash,
    which may be empty.
    """

    __slots__ = ("keys", "operator", "password", "time")

    def __init__(self, time: int, *, operator: bool = False, password: str = "") -> None:
        self.time = time
        self.operator = operator
        self.password = password
        self.keys: dict[str, tuple[str, int]] = {}

    def is_proof(self, proof: str) -> bool:
        """Tell whether something proves, at this moment, who the user is."""
        return bool(proof) and (proof in self.keys or proof == self.password)

    @property
    def ways_in(self) -> int:
        """How many proofs of who one is there are."""
        return len(self.keys) + bool(self.password)


class User:
    """Somebody who has a name: on sessions, or held, or with an account, which is for ever.

    ``epoch`` is the number of the last login. A guest who is not ``kept`` is no more when the last
    session is gone. ``cursor`` is up to which message the user has everything. ``recent``, and
    before it ``older``, have what was sent lately, by its key; ``sent`` is how many that were.
    """

    __slots__ = (
        "account",
        "away",
        "cursor",
        "epoch",
        "id",
        "invitations",
        "kept",
        "key",
        "markers",
        "name",
        "older",
        "ordinal",
        "recent",
        "rooms",
        "sent",
        "sessions",
        "since",
        "tokens",
    )

    def __init__(self, id: int, name: str, kept: bool, since: int, ordinal: int) -> None:
        self.id = id
        self.name = name
        self.key = fold(name)
        self.kept = kept
        self.since = since
        self.ordinal = ordinal
        self.cursor = since
        self.epoch = 0
        self.away: str | None = None
        self.account: Account | None = None
        self.tokens: dict[bytes, Token] = {}
        self.sessions: dict[int, Session] = {}
        self.rooms: dict[int, Room] = {}
        self.invitations: dict[int, Room] = {}
        self.markers: dict[tuple[int, str], int] = {}
        self.recent: dict[str, Sent] = {}
        self.older: dict[str, Sent] = {}
        self.sent = 0

    @property
    def operator(self) -> bool:
        """Whether this is an operator of the server."""
        return self.account is not None and self.account.operator

    @property
    def present(self) -> bool:
        """Whether messages reach the user, or will as soon as they have what they missed."""
        return any(session.present for session in self.sessions.values())

    @property
    def reachable(self) -> bool:
        """Whether a message to the user is kept until they come back."""
        return self.kept or self.account is not None

    def find_sent(self, key: str, now: int) -> Sent | None:
        """Return the message that was sent lately with this key, if there is one."""
        sent = self.recent.get(key) or self.older.get(key)
        if sent is None or now - sent[2] >= REMEMBER or self.sent - sent[3] >= MAX_REMEMBERED:
            return None
        return sent

    def remembered(self, now: int) -> list[tuple[str, Sent]]:
        """Return all that was sent lately, with its key, the oldest first."""
        known = {**self.older, **self.recent}
        found = [(key, sent) for key in known if (sent := self.find_sent(key, now)) is not None]
        return sorted(found, key=lambda item: item[1])

    def find_token(self, digest: bytes) -> Token | None:
        """Return what is known of a token, if it lets the user in; takes as long if not."""
        found = None
        for known, token in self.tokens.items():
            if hmac.compare_digest(known, digest):
                found = token
        return found


class RoomBan(NamedTuple):
    """Why a name is kept out of a room, since when and by whom."""

    author: str
    time: int
    reason: str


class Room:
    """A room. ``members`` have ranks, and are in the order in which they joined; so are those of
    them who are ``operators``. ``address`` is where its maker came from.
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
        self.operators: set[int] = set()
        self.invited: dict[int, None] = {}
        self.bans: dict[str, RoomBan] = {}
        self._in_order: Ordered[User] | None = None

    @property
    def private(self) -> bool:
        """Whether only who is invited joins it, and only they know of it."""
        return "private" in self.modes

    def visible(self, user: int) -> bool:
        """Tell whether a user may know that there is the room."""
        return "private" not in self.modes or user in self.members or user in self.invited

    def list_members(self, users: dict[int, User]) -> Ordered[User]:
        """Return the members in the order of their keys. They are sorted when they are first asked
        for, and kept in order from then on.
        """
        if self._in_order is None:
            self._in_order = Ordered(user_key, (users[id] for id in self.members))
        return self._in_order

    def list_member(self, user: User) -> None:
        """Have a user among the members in order, or not among them."""
        if self._in_order is not None:
            if user.id in self.members:
                self._in_order.put(user)
            else:
                self._in_order.discard(user)

    def unlist_member(self, user: User) -> None:
        """Take a user from the members in order: their key is about to be another."""
        if self._in_order is not None:
            self._in_order.discard(user)


class Member(NamedTuple):
    """What a member of a room has: a rank, and a place in the order of joining."""

    rank: int
    since: int
    ordinal: int


class Hold(NamedTuple):
    """Until when a guest is held, for which address, and after whom."""

    until: int
    address: str
    ordinal: int


class Sanction(NamedTuple):
    """Who is kept out or may not talk. ``until`` is 0 for ever; ``author`` an operator's name."""

    kind: str
    subject: str
    until: int
    reason: str
    author: str

    @property
    def key(self) -> str:
        """What a sanction is listed by: whom it is for, and of what kind it is."""
        return f"{self.subject} {self.kind}"


class _Group:
    """The guests of one address who are held, oldest first."""

    __slots__ = ("guests",)

    def __init__(self) -> None:
        self.guests: OrderedDict[int, Hold] = OrderedDict()

    @property
    def oldest(self) -> tuple[int, int]:
        """Whose hold began first: its ordinal, and the user."""
        user, hold = next(iter(self.guests.items()))
        return hold.ordinal, user


class Holds:
    """Guests without a session whose names are held, in the order in which they came to be.

    No address can have all the room. One that holds more than its share lets its own oldest go.
    When too many are held in all, the address that holds the most does; of several that hold as
    many, the one whose oldest is held longest. Guests of an unknown address count as one address
    without a share.
    """

    def __init__(self) -> None:
        self._all: dict[int, Hold] = {}
        self._groups: dict[str, _Group] = {}
        self._by_size: dict[int, Ordered[_Group]] = {}
        self._ends: list[tuple[int, int, int]] = []  # until, ordinal, user; some are no more

    def __len__(self) -> int:
        return len(self._all)

    def get(self, user: int) -> Hold | None:
        """Return the hold of a user, if they are held."""
        return self._all.get(user)

    def add(self, user: int, hold: Hold) -> None:
        """Hold a guest."""
        group = self._groups.setdefault(hold.address, _Group())
        self._unlist(group)
        self._all[user] = group.guests[user] = hold
        self._list(group)
        heapq.heappush(self._ends, (hold.until, hold.ordinal, user))

    def remove(self, user: int) -> None:
        """Hold a guest no longer, if they are held."""
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
        """Return the guest who must be let go since one of ``address`` is held, if any must."""
        group = self._groups.get(address)
        if share is not None and address and group is not None and len(group.guests) > share:
            return group.oldest[1]
        if len(self._all) <= most:
            return None
        largest = self._by_size[max(self._by_size)].first()
        assert largest is not None
        return largest.oldest[1]

    def next_end(self) -> int | None:
        """Return when the first hold ends, which may be past; None if nobody is held."""
        ends = self._ends
        while ends and self._is_stale(ends[0]):
            heapq.heappop(ends)
        return ends[0][0] if ends else None

    def due(self, now: int, limit: int) -> list[int]:
        """Return at most ``limit`` users whose holds are over, the first one first."""
        found: list[tuple[int, int, int]] = []
        while len(found) < limit and (end := self.next_end()) is not None and end <= now:
            found.append(heapq.heappop(self._ends))
        for end_of_hold in found:  # they are held until there is a fact that says otherwise
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
    """Return what a user is listed by."""
    return user.key


def room_key(room: Room) -> str:
    """Return what a room is listed by."""
    return room.key


class Model:
    """All of the state, without a way to change it that anybody but ``State`` should take."""

    def __init__(self) -> None:
        self.version = 0
        self.time = 0
        self.number = 0
        self.options = Options()
        self.users: dict[int, User] = {}
        self.names: dict[str, User] = {}
        self.accounts: Ordered[User] = Ordered(user_key)
        self.holds = Holds()
        self.present: Ordered[User] = Ordered(user_key)
        self.rooms: dict[int, Room] = {}
        self.room_names: dict[str, Room] = {}
        self.rooms_made: Counter[str] = Counter()  # by the addresses of their makers
        self.public: Ordered[Room] = Ordered(room_key)
        self.private_of: dict[int, Ordered[Room]] = {}  # those that a user may know of
        self.sanctions: dict[tuple[str, str], Sanction] = {}
        self.sanctions_in_order: Ordered[Sanction] = Ordered(lambda sanction: sanction.key)
        self.sanctions_ending: Ordered[Sanction] = Ordered(lambda s: (s.until, s.key))
        self.banned_networks: Counter[tuple[int, int]] = Counter()  # by version and length
        self.senders: deque[User] = deque()  # whose "recent" or "older" is not empty

    @property
    def progress(self) -> Progress:
        """How far the log has been applied."""
        return Progress(self.version, self.time, self.number)

    @property
    def next_due(self) -> int | None:
        """When a ``Sweep`` has something to do, which may be past; None if never."""
        ends = [] if (end := self.holds.next_end()) is None else [end]
        if (sanction := self.sanctions_ending.first()) is not None:
            ends.append(sanction.until)
        return min(ends, default=None)

    def rooms_seen_by(self, user: int, after: str = "") -> Listing[Room]:
        """All rooms that a user may know of, in the order of their keys, those behind ``after``."""
        rooms, private = self.public.after(after), self.private_of.get(user)
        if private is None:
            return Listing(len(self.public), rooms)
        both: Iterator[Room] = heapq.merge(rooms, private.after(after), key=room_key)
        return Listing(len(self.public) + len(private), both)

    def owner_of(self, room: Room) -> User | None:
        """Return the room's operator who is longest in it."""
        for id, member in room.members.items():
            if member.rank == OPERATOR:
                return self.users[id]
        return None
