"""Who is reached by what, followed fact by fact behind a state that is ahead."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import facts
from chat_twisted.core.entries import LoggedIn, Outcome
from chat_twisted.core.events import (
    AccountChanged,
    AwayChanged,
    Event,
    Invitation,
    MemberInvited,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    NameChanged,
    RankChanged,
    RealNameChanged,
    TopicChanged,
    UserArrived,
    UserLeft,
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
        if isinstance(fact, facts.SessionGone):
            routes.detach((fact.user, fact.epoch), fact.user)
        told += [(event, list(sessions)) for event, sessions in routes.follow(fact)]
    if isinstance(outcome.result, LoggedIn):
        routes.attach(outcome.result[:2], outcome.result.user)
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

    def test_who_follows_everybody_knows_who_is_present_and_where(self) -> None:
        for (log, outcomes), _ in make_logs(range(20), 150):
            routes: Routes[Session] = Routes(
                users=[(-1, "irc", "", "")], online=[(-1, (), {1: True})]
            )
            routes.attach((-1, 1), -1, follows_everybody=True)
            state, present = State(), {}
            for entry, outcome in zip(log, outcomes, strict=True):
                told = [event for event, to in follow(routes, outcome) if (-1, 1) in to]
                replay(state, entry, outcome)
                for event in told:
                    match event:
                        case UserArrived(user, rooms):
                            self.assertNotIn(user, present)
                            there = state.names[user.lower()].rooms.values()
                            present[user] = {room.name for room in there}
                            self.assertEqual(present[user], set(rooms))
                        case UserLeft(user, rooms):
                            self.assertEqual(present.pop(user), set(rooms))
                        case NameChanged(before, after):
                            present[after] = present.pop(before)
                        case AwayChanged(user) | AccountChanged(user):
                            self.assertIn(user, present)
                        case RealNameChanged(user):
                            self.assertIn(user, present)
                        case MessageDeleted():
                            pass  # one to ALL
                        case _:
                            self.fail(f"the asker is in no room: {event}")
                # Who is in which room is told in the rooms, so only the names are compared.
                self.assertEqual(
                    sorted(present), sorted(u.name for u in state.users.values() if u.present)
                )
                for user in state.users.values():
                    if user.present:
                        present[user.name] = {room.name for room in user.rooms.values()}


class ToldTests(TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        self.routes: Routes[Session] = Routes()
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
        left = MemberLeft("#dev", "bob", "ann", "loud", True)
        self.tells(c.RemoveMember(*ann, "#dev", "bob", "loud"), (left, [ann, bob, cyd]))
        self.tells(
            c.Part(*ann, "#dev", "bye"),
            (MemberLeft("#dev", "ann", "", "bye", True), [ann, cyd]),
            (RankChanged("#dev", "cyd", 2, "", 0), [cyd]),
        )

    def test_the_end_of_a_user_is_told_to_whom_it_concerns(self) -> None:
        left = MemberLeft("#dev", "bob", "", "bye", False)
        self.tells(c.Detach(*self.bob, True, "bye"), (left, [self.ann]))

    def follow_everybody(self) -> list[Session]:
        """Add a session that follows everybody."""
        dan = self.chat.login("dan")
        self.routes.attach(dan, dan[0], follows_everybody=True)
        return [dan]

    def test_coming_and_going_is_told_to_who_follows_everybody(self) -> None:
        to, token = self.follow_everybody(), self.chat.tokens[self.bob]
        rooms = ("#dev",)
        self.tells(
            c.Detach(*self.bob, False, "why"),
            (UserLeft("bob", rooms, "why", True, ""), to),
        )
        bob = c.Login("bob", 99, b"new", token)
        self.tells(bob, (UserArrived("bob", rooms), to))
        self.tells(bob)  # a second session
        self.tells(c.Detach(self.bob[0], 2, True))
        self.tells(
            c.Disconnect(*self.operator(), "bob", "loud"),
            (UserLeft("bob", ("#dev",), "loud", False, "cyd"), to),
            (MemberLeft("#dev", "bob", "", "loud", False), [self.ann]),
        )

    def operator(self) -> Session:
        """Make cyd an operator of the server."""
        self.chat.register(self.cyd)
        self.chat.do(c.SetOperator(c.CONSOLE, 0, "cyd", True))
        return self.cyd

    def test_a_user_who_has_not_arrived_is_not_there_yet(self) -> None:
        to = self.follow_everybody()
        eve = self.chat.login("eve", present=False, kept=False)
        self.chat.join(eve, "#dev")
        self.tells(c.Arrive(*eve), (UserArrived("eve", ("#dev",)), to))
        self.tells(
            c.Detach(*eve),
            (UserLeft("eve", ("#dev",), "", True, ""), to),
            (MemberLeft("#dev", "eve", "", "", False), [self.ann, self.bob]),
        )
        self.tells(c.Detach(*self.chat.login("fay", present=False), True))

    def test_all_users_are_followed_and_absent_ones_are_not(self) -> None:
        [dan] = self.follow_everybody()
        self.tells(c.Rename(*self.cyd, "sid"), (NameChanged("cyd", "sid"), [self.cyd, dan]))
        self.tells(c.SetAway(*self.cyd, "tea"), (AwayChanged("sid", "tea"), [self.cyd, dan]))
        self.tells(
            c.MakeAccount(c.CONSOLE, 0, "", "", "hash", "eve", 99),
            (AccountChanged("eve", True), []),
        )
        self.routes.detach(dan, dan[0])
        self.tells(c.SetAway(*self.cyd, None), (AwayChanged("sid", None), [self.cyd]))

    def test_a_real_name_is_told_to_who_follows_everybody(self) -> None:
        to, token = self.follow_everybody(), self.chat.tokens[self.bob]
        rooms = ("#dev",)
        self.tells(
            c.SetRealName(*self.bob, "Bob B."), (RealNameChanged("bob", "Bob B.", rooms), to)
        )
        again = c.Login("bob", 99, b"new", token, real_name="Bob")
        self.tells(again, (RealNameChanged("bob", "Bob", rooms), to))
        for epoch in (1, 2):
            self.chat.do(c.Detach(self.bob[0], epoch))
        back = c.Login("bob", 99, b"new", token, real_name="Rob", bot=True)
        changed = RealNameChanged("bob", "Rob"), []
        self.tells(back, changed, (UserArrived("bob", ("#dev",)), to))

    def test_a_session_that_is_closed_before_its_end_is_committed_is_left_out(self) -> None:
        [dan] = self.follow_everybody()
        self.routes.detach(self.bob, self.bob[0])  # as ``Logins.leave`` does
        self.tells(
            c.SetTopic(*self.ann, "#dev", "x", 1), (TopicChanged("#dev", "x", "ann", 1), [self.ann])
        )
        self.tells(c.Part(*self.bob, "#dev"), (MemberLeft("#dev", "bob", "", "", True), [self.ann]))
        self.chat.join(self.bob, "#b")
        self.tells(c.Rename(*self.bob, "rob"), (NameChanged("bob", "rob", ("#b",)), [dan]))
        self.tells(
            c.Detach(*self.bob),
            (UserLeft("rob", ("#b",), "", True, ""), [dan]),
        )

    def test_an_invitation_is_told_to_the_members_who_follow_everybody(self) -> None:
        [dan] = self.follow_everybody()
        invitation = Invitation("#dev", "cyd", "bob"), [self.cyd]
        invited = MemberInvited("#dev", "cyd", "bob")
        self.tells(c.Invite(*self.bob, "#dev", "cyd"), invitation, (invited, []))
        self.chat.join(dan, "#dev")
        self.tells(c.Invite(*self.bob, "#dev", "cyd"), invitation, (invited, [dan]))

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
