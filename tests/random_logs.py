"""Logs of random commands, for tests of the state. As a program it prints a digest of outcomes.

A log is made while it is applied, because commands refer to the outcomes of earlier ones.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from chat_twisted.core import changes, messages, model, names
from chat_twisted.core import commands as c
from chat_twisted.core.entries import Entry, LoggedIn, Outcome
from chat_twisted.core.errors import ChatError
from chat_twisted.core.message import Message, fold
from chat_twisted.core.model import Account, Room, Session, User
from chat_twisted.core.ordered import Ordered
from chat_twisted.core.snapshot import dump
from chat_twisted.core.state import State

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase

OPTIONS = c.Options(grace=120_000, rooms=2, address_rooms=2, held=2, address_held=1)
NAMES = ("Ann", "bob", "cyd", "DAN", "eve", "fay")
ROOMS = ("#a", "#B", "#c")
HOSTS = ("", "", "10.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1")
SUBJECTS = ("ann", "bob", "10.0.0.1", "10.0.0.0/24", "2001:db8::/32")
PROOFS = ("ssh-ed25519 AAAA", "ssh-ed25519 BBBB", "$argon2id$one", "$argon2id$two")

Run = tuple[list[Entry], list[Outcome]]


class Maker:
    """Makes one log."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.state = State()
        self.time = 1_000_000
        self.sessions: list[tuple[int, int]] = []  # all sessions, even those that have ended
        self.tokens: list[bytes] = [b""]
        self.messages: list[Message] = []
        self.drawn = 0

    def make(self, length: int) -> Run:
        log, outcomes = [Entry(self.time, c.Start(0, OPTIONS, 0))], []
        outcomes.append(self.state.apply(log[0]))
        while len(log) < length:
            self.time += self.draw.choice(
                (0, 0, 0, 0, 1, 1, 500, 500, 5_000, 5_000, 30_000, 61_000)
            )
            entry = Entry(self.time - self.draw.choice((0, 0, 0, 5)), self.command())
            log.append(entry)
            outcome = self.state.apply(entry)
            outcomes.append(outcome)
            if isinstance(outcome.result, LoggedIn):
                self.sessions.append(outcome.result[:2])
                self.tokens.append(outcome.result.token)
            elif isinstance(outcome.result, Message):
                self.messages.append(outcome.result)
        return log, outcomes

    def command(self) -> Any:
        kinds: tuple[tuple[float, Callable[[], Any]], ...] = (
            (20, self.login),
            (9, lambda: c.Detach(*self.asker(), self.maybe(6))),
            (2, lambda: c.Arrive(*self.asker())),
            (2, lambda: c.Rename(*self.asker(), self.name())),
            (1, lambda: c.SetAway(*self.asker(), self.pick((None, "", "tea")))),
            (2, lambda: c.SetRealName(*self.asker(), self.pick(("", "Eve", "x" * 201)))),
            (2, lambda: c.SetBot(*self.asker(), self.maybe(2))),
            (2, lambda: c.Acknowledge(tuple(self.cursor() for _ in range(3)))),
            (
                5,
                lambda: c.MarkRead(
                    *self.asker(), self.target(), self.pick((0, 1, 3, 90)), self.pick((0, 0, 7, 8))
                ),
            ),
            (16, self.send),
            (4, lambda: c.Signal(*self.asker(), self.target(), "typing")),
            (1, lambda: c.Announce(*self.operator(), self.pick(("soon", "")))),
            (2, lambda: c.DuplicateQuery(self.asker()[0], self.id())),
            (2, self.delete),
            (10, self.join),
            (4, lambda: c.Part(*self.member(), "bye")),
            (3, lambda: c.RemoveMember(*self.two_members(), "why")),
            (4, lambda: c.Invite(*self.member(), self.name())),
            (2, lambda: c.SetTopic(*self.member(), "tea", self.time)),
            (4, lambda: c.SetRank(*self.two_members(), self.pick((0, 1, 2)))),
            (3, lambda: c.SetMode(*self.member(), self.pick(c.MODES), self.maybe(2))),
            (3, self.ban_from_room),
            (6, self.make_account),
            (2, lambda: c.DropAccount(*self.owner(), self.maybe(2), self.name())),
            (3, lambda: c.AddKey(*self.owner(), self.pick(PROOFS[:2]), "c", self.name())),
            (2, lambda: c.RemoveKey(*self.owner(), self.pick(PROOFS[:2]), self.name())),
            (2, lambda: c.SetPassword(*self.owner(), self.pick(("", *PROOFS[2:])), self.name())),
            (3, self.set_operator),
            (1, lambda: c.Disconnect(*self.owner(), self.name(), "why")),
            (2, self.impose),
            (3, lambda: c.Lift(*self.operator(), self.kind(), self.pick(SUBJECTS))),
            (4, lambda: c.Sweep(self.pick((1, 2, 100)))),
            (1, c.Turn),
            (0.5, lambda: c.Start(self.pick((0, 1)), self.options(), self.pick((0, 5, 1000)))),
            (0.2, lambda: c.SetOptions(self.options())),
        )
        [(_, make)] = self.draw.choices(kinds, [weight for weight, _ in kinds])
        return make()

    def pick(self, items: Any) -> Any:
        return self.draw.choice(items)

    def maybe(self, one_in: int) -> bool:
        return self.draw.randrange(one_in) == 0

    def new(self) -> int:
        self.drawn += 1
        return (self.drawn * 7919) % 1_000_003 + 1

    def name(self) -> str:
        return str(self.pick(NAMES))

    def room(self) -> str:
        return str(self.pick(ROOMS))

    def target(self) -> str:
        return str(self.pick((*NAMES, *ROOMS, "ALL")))

    def id(self) -> str:
        return f"{self.draw.randrange(12)}\nx"

    def kind(self) -> str:
        return str(self.pick((c.BAN, c.MUTE)))

    def options(self) -> c.Options:
        others = OPTIONS._replace(grace=60_000, held=3), OPTIONS._replace(guests=False)
        return self.pick((*[OPTIONS] * 4, *others))

    def asker(self) -> tuple[int, int]:
        users = self.state.users.values()
        there = [(user.id, epoch) for user in users for epoch in user.sessions]
        if self.maybe(10) or not there:
            return self.pick(self.sessions or [(1, 1)])  # this session may have ended
        return self.pick(there)

    def member(self) -> tuple[int, int, str]:
        """Return a session and a room, of which its user is probably an operator."""
        found = [
            (id, epoch, room.name)
            for room in self.state.rooms.values()
            for id, member in room.members.items()
            for epoch in self.state.users[id].sessions
            for _ in range(1 + member.rank)
        ]
        return self.pick(found) if found and not self.maybe(5) else (*self.asker(), self.room())

    def two_members(self) -> tuple[int, int, str, str]:
        """Return what ``member`` returns and a name, which is often another member's."""
        user, epoch, name = self.member()
        room = self.state.room_names.get(fold(name))
        others = [] if room is None else [self.state.users[id].name for id in room.members]
        return user, epoch, name, self.pick(others) if others and self.maybe(2) else self.name()

    def owner(self) -> tuple[int, int]:
        return (c.CONSOLE, 0) if self.maybe(2) else self.asker()

    def operator(self) -> tuple[int, int]:
        """Return the console, or a session that is probably an operator's."""
        users = self.state.users.values()
        there = [(user.id, epoch) for user in users if user.operator for epoch in user.sessions]
        return self.pick(there) if there and self.maybe(2) else self.owner()

    def join(self) -> Any:
        """Return a Join, often of a user who is invited to the room."""
        invited = [
            (id, epoch, room.name)
            for room in self.state.rooms.values()
            for id in room.invited
            for epoch in self.state.users[id].sessions
        ]
        rooms = [*ROOMS, *(room.name for room in self.state.rooms.values() for _ in range(3))]
        where = (
            self.pick(invited) if invited and self.maybe(2) else (*self.asker(), self.pick(rooms))
        )
        return c.Join(*where, self.new(), self.maybe(4))

    def ban_from_room(self) -> Any:
        user, epoch, room = self.member()
        found = self.state.room_names.get(fold(room))
        if found is not None and found.bans and self.maybe(2):
            return c.BanFromRoom(user, epoch, room, self.pick(list(found.bans)), False)
        return c.BanFromRoom(user, epoch, room, self.name(), not self.maybe(4), "why", self.time)

    def set_operator(self) -> Any:
        owner, accounts = self.owner(), [user.name for user in self.state.accounts.after("")]
        name = self.pick(accounts) if accounts and self.maybe(2) else self.name()
        return c.SetOperator(*owner, name, self.maybe(2))

    def cursor(self) -> tuple[int, int]:
        return self.asker()[0], self.pick((0, 1, 2, 5, 1000))

    def login(self) -> Any:
        name = self.name()
        user = self.state.names.get(fold(name))
        token, proof = b"", ""
        if user is not None and not self.maybe(5):  # usually with valid credentials
            if user.tokens and not (user.account and self.maybe(2)):
                token = self.pick(list(user.tokens))
            elif user.account is not None:
                proof = self.pick([*user.account.keys, user.account.password])
        elif self.maybe(2):
            token, proof = self.pick(self.tokens[-6:]), self.pick(("", *PROOFS))
        return c.Login(
            name,
            self.new(),
            b"token %d" % self.new(),
            token,
            proof,
            not self.maybe(6),
            not self.maybe(4),
            not self.maybe(4),
            self.pick(HOSTS),
            self.pick((0, 0, 1)),
            self.time + 7,
            self.pick((None, None, "Ann", "")),
            self.pick((None, None, True, False)),
            self.pick((None, "ann", "")),
        )

    def send(self) -> Any:
        key = self.id() if self.maybe(2) else None
        kind, reaches = self.pick((0, 1, 2)), not self.maybe(4)
        return c.Send(*self.asker(), self.target(), "text", self.time + 7, key, kind, reaches)

    def delete(self) -> Any:
        if not self.messages:
            return c.Turn()
        m = self.pick(self.messages)
        return c.Delete(*self.asker(), m.number, m.author, m.recipient, m.room, m.logged)

    def make_account(self) -> Any:
        key, hash = self.pick((*PROOFS[:2], "")), self.pick((*PROOFS[2:], ""))
        return c.MakeAccount(*self.owner(), key, "c", hash, self.name(), self.new(), self.time + 7)

    def impose(self) -> Any:
        kind, duration = self.kind(), self.pick((0, 40_000, 400_000))
        subject = self.pick(SUBJECTS if kind == c.BAN else SUBJECTS[:2])
        until = self.time + duration if duration else 0
        return c.Impose(*self.operator(), kind, subject, until, "why")


def lower_bounds(case: TestCase) -> None:
    """Lower the bounds that a random log would never reach, for the duration of a test."""
    case.patch(messages, "MAX_MARKERS", 2)
    case.patch(names, "MAX_TOKENS", 3)
    case.patch(model, "MAX_REMEMBERED", 2)
    case.patch(changes, "MAX_REMEMBERED", 2)


def plain(outcome: Outcome) -> Any:
    """Return an outcome in a form that can be compared."""
    facts, result = outcome
    return facts, (type(result), result.args) if isinstance(result, ChatError) else result


def everything(state: State) -> dict[str, Any]:
    """Return all that a state holds in a form that can be compared: each attribute of its parts, so
    also those that the rows of a snapshot might lack. Caches are left out, and so is any order that
    decides nothing.
    """

    def of(thing: Any) -> Any:
        match thing:
            case Ordered():
                return [getattr(item, "id", item) for block in thing._blocks for item in block]
            case Account() | Session():
                return {name: of(getattr(thing, name)) for name in type(thing).__slots__}
            case dict():
                return [(key, of(value)) for key, value in thing.items()]
        return thing

    def of_user(user: User) -> dict[str, Any]:
        found = {name: of(getattr(user, name)) for name in User.__slots__}
        del found["older"], found["sent"]
        found["recent"] = [(key, sent[:3]) for key, sent in user.remembered(state.time)]
        found["rooms"] = list(user.rooms)
        found["invitations"], found["markers"] = sorted(user.invitations), sorted(found["markers"])
        return found

    def of_room(room: Room) -> dict[str, Any]:
        found = {name: of(getattr(room, name)) for name in Room.__slots__}
        del found["_in_order"]
        return found | {"invited": sorted(room.invited), "bans": sorted(room.bans.items())}

    found = {name: of(value) for name, value in vars(state).items()}
    del found["senders"]  # those of whom something is remembered
    found["users"] = [of_user(user) for user in state.users.values()]
    found["rooms"] = [of_room(room) for room in state.rooms.values()]
    found["names"] = sorted((key, user.id) for key, user in state.names.items())
    found["room_names"] = sorted((key, room.id) for key, room in state.room_names.items())
    found["holds"] = sorted((hold[::-1], id) for id, hold in state.holds._all.items())
    unordered = (
        "token_users",
        "key_users",
        "rooms_made",
        "hidden_of",
        "sanctions",
        "banned_networks",
    )
    for name in unordered:
        found[name].sort()
    return found


def make_logs(seeds: Iterable[int], length: int) -> Iterable[tuple[Run, State]]:
    for seed in seeds:
        maker = Maker(random.Random(seed))
        yield maker.make(length), maker.state


def main() -> None:
    digest = hashlib.sha256()
    for (_, outcomes), state in make_logs(range(30), 200):
        for outcome in outcomes:
            digest.update(repr(plain(outcome)).encode())
        digest.update(repr(dump(state)).encode())
    sys.stdout.write(digest.hexdigest() + "\n")


if __name__ == "__main__":
    main()
