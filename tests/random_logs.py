"""Logs of random commands, for tests of the state. As a program it prints a digest of outcomes.

A log is made while it is applied, because commands refer to the outcomes of earlier ones.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

from chat_twisted.core import commands as c
from chat_twisted.core.entries import Entry, LoggedIn, Outcome
from chat_twisted.core.errors import ChatError
from chat_twisted.core.message import Message, fold
from chat_twisted.core.snapshot import dump
from chat_twisted.core.state import State

OPTIONS = c.Options(grace=60_000, rooms=2, address_rooms=2, held=2, address_held=1)
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
            (16, self.login),
            (7, lambda: c.Detach(*self.asker(), self.maybe(6))),
            (2, lambda: c.Arrive(*self.asker())),
            (2, lambda: c.Rename(*self.asker(), self.name())),
            (1, lambda: c.SetAway(*self.asker(), self.pick((None, "", "tea")))),
            (2, lambda: c.Acknowledge(tuple(self.cursor() for _ in range(3)))),
            (2, lambda: c.MarkRead(*self.asker(), self.target(), self.pick((0, 1, 3, 90)))),
            (16, self.send),
            (2, lambda: c.DuplicateQuery(self.asker()[0], self.id())),
            (2, self.delete),
            (10, lambda: c.Join(*self.asker(), self.room(), self.new(), self.maybe(3))),
            (4, lambda: c.Part(*self.member(), "bye")),
            (3, lambda: c.RemoveMember(*self.member(), self.name(), "why")),
            (4, lambda: c.Invite(*self.member(), self.name())),
            (2, lambda: c.SetTopic(*self.member(), "tea")),
            (3, lambda: c.SetRank(*self.member(), self.name(), self.pick((0, 1, 2)))),
            (3, lambda: c.SetMode(*self.member(), self.pick(c.MODES), self.maybe(2))),
            (2, lambda: c.BanFromRoom(*self.member(), self.name(), self.maybe(2))),
            (6, self.make_account),
            (2, lambda: c.DropAccount(*self.owner(), self.maybe(2), self.name())),
            (3, lambda: c.AddKey(*self.owner(), self.pick(PROOFS[:2]), "c", self.name())),
            (2, lambda: c.RemoveKey(*self.owner(), self.pick(PROOFS[:2]), self.name())),
            (2, lambda: c.SetPassword(*self.owner(), self.pick(("", *PROOFS[2:])), self.name())),
            (3, lambda: c.SetOperator(*self.owner(), self.name(), self.maybe(2))),
            (1, lambda: c.Disconnect(*self.owner(), self.name(), "why")),
            (2, self.impose),
            (3, lambda: c.Lift(*self.owner(), self.kind(), self.pick(SUBJECTS))),
            (4, lambda: c.Sweep(self.pick((1, 2, 100)))),
            (1, c.Turn),
            (0.4, lambda: c.Start(self.pick((0, 1)), self.options(), self.pick((0, 5, 1000)))),
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
        return self.pick((OPTIONS, OPTIONS._replace(grace=90_000, held=3)))

    def asker(self) -> tuple[int, int]:
        users = self.state.users.values()
        there = [(user.id, epoch) for user in users for epoch in user.sessions]
        if self.maybe(6) or not there:
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

    def owner(self) -> tuple[int, int]:
        return (c.CONSOLE, 0) if self.maybe(2) else self.asker()

    def cursor(self) -> tuple[int, int]:
        return self.asker()[0], self.pick((0, 1, 2, 5, 1000))

    def login(self) -> Any:
        name = self.name()
        user = self.state.names.get(fold(name))
        token, proof = b"", ""
        if user is not None and not self.maybe(4):  # usually with valid credentials
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
        return c.MakeAccount(*self.owner(), key, "c", hash, self.name(), self.new())

    def impose(self) -> Any:
        kind, duration = self.kind(), self.pick((0, 40_000, 400_000))
        subject = self.pick(SUBJECTS if kind == c.BAN else SUBJECTS[:2])
        until = self.time + duration if duration else 0
        return c.Impose(*self.owner(), kind, subject, until, "why")


def plain(outcome: Outcome) -> Any:
    """Return an outcome in a form that can be compared."""
    facts, result = outcome
    return facts, (type(result), result.args) if isinstance(result, ChatError) else result


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
