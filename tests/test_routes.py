"""Who is reached by what, followed fact by fact behind a state that is ahead."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import facts
from chat_twisted.core.entries import LoggedIn, Outcome
from chat_twisted.core.events import (
    AwayChanged,
    Event,
    Invitation,
    MemberJoined,
    MemberLeft,
    NameChanged,
    RankChanged,
    TopicChanged,
)
from chat_twisted.core.routes import Routes
from chat_twisted.core.state import State
from tests.random_logs import make_logs
from tests.test_state import Chat
from tests.test_state_logs import replay

Session = tuple[int, int]


def follow(routes: Routes[Session], outcome: Outcome) -> list[tuple[Event, list[Session]]]:
    """Have routes follow an outcome, as a hub does; return what is told."""
    told = []
    for fact in outcome.facts:
        told += [(event, list(sessions)) for event, sessions in routes.follow(fact)]
        if isinstance(fact, facts.SessionGone):
            routes.detach((fact.user, fact.epoch), fact.user)
    if isinstance(outcome.result, LoggedIn):
        routes.attach(outcome.result[:2], outcome.result.user, outcome.result.rooms)
    return told


class FollowingTests(TestCase):
    def test_at_each_point_of_a_log_they_reach_who_is_in_a_room_there(self) -> None:
        for (log, outcomes), _ in make_logs(range(20), 150):
            routes: Routes[Session] = Routes()
            state = State()
            for entry, outcome in zip(log, outcomes, strict=True):
                follow(routes, outcome)
                replay(state, entry, outcome)
                everybody = set()
                for user in state.users.values():
                    sessions = {(user.id, epoch) for epoch in user.sessions}
                    self.assertEqual(set(routes.of_user(user.id)), sessions)
                    self.assertEqual(routes.name_of(user.id), user.name)
                    everybody |= sessions
                self.assertEqual(set(routes.everybody), everybody)
                for room in state.rooms.values():
                    there = {s for s in everybody if s[0] in room.members}
                    self.assertEqual(set(routes.in_room(room.id)), there)


class ToldTests(TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        self.routes: Routes[Session] = Routes(
            rooms_elsewhere=lambda id: tuple(self.chat.state.users[id].rooms)
        )
        self.told: list[tuple[Event, list[Session]]] = []
        real = self.chat.ask

        def ask(command: Any) -> Outcome:
            outcome = real(command)
            self.told += follow(self.routes, outcome)
            return outcome

        self.chat.ask = ask  # type: ignore[method-assign]
        self.ann, self.bob, self.cyd = (self.chat.login(name) for name in ("ann", "bob", "cyd"))
        self.chat.join(self.ann, "#dev")
        self.chat.join(self.bob, "#dev")

    def tells(self, command: Any, *expected: tuple[Event, list[Session]]) -> None:
        del self.told[:]
        self.chat.do(command)
        self.assertEqual(self.told, list(expected))

    def test_members_are_told_and_so_is_who_leaves(self) -> None:
        ann, bob, cyd = self.ann, self.bob, self.cyd
        joined = MemberJoined("#dev", "cyd", 0)
        self.tells(c.Join(*cyd, "#DEV", 77), (joined, [ann, bob, cyd]))
        left = MemberLeft("#dev", "bob", "ann", "loud")
        self.tells(c.RemoveMember(*ann, "#dev", "bob", "loud"), (left, [ann, bob, cyd]))
        self.tells(
            c.Part(*ann, "#dev", "bye"),
            (MemberLeft("#dev", "ann", "", "bye"), [ann, cyd]),
            (RankChanged("#dev", "cyd", 2, ""), [cyd]),
        )

    def test_the_end_of_a_user_is_told_to_whom_it_concerns(self) -> None:
        left = MemberLeft("#dev", "bob", "", "bye")
        self.tells(c.Detach(*self.bob, True, "bye"), (left, [self.ann]))

    def test_an_invitation_is_for_who_is_invited(self) -> None:
        invitation = Invitation("#dev", "cyd", "bob")
        self.tells(c.Invite(*self.bob, "#dev", "cyd"), (invitation, [self.cyd]))

    def test_names_and_being_away_are_told_to_who_is_in_a_room_with_the_user(self) -> None:
        ann, bob = self.ann, self.bob
        self.tells(c.Rename(*bob, "rob"), (NameChanged("bob", "rob"), [bob, ann]))
        self.tells(c.SetAway(*bob, "tea"), (AwayChanged("rob", "tea"), [bob, ann]))

    def test_a_topic_is_told_with_its_author(self) -> None:
        topic = TopicChanged("#dev", "tea", "bob", 12_000)
        self.tells(c.SetTopic(*self.bob, "#dev", "tea", 12_000), (topic, [self.ann, self.bob]))

    def test_of_a_user_who_is_elsewhere_those_here_are_told(self) -> None:
        self.routes.detach(self.bob, self.bob[0])
        self.tells(c.Rename(*self.bob, "rob"), (NameChanged("bob", "rob"), [self.ann]))
