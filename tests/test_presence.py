"""Who watches is told of changes of presence, together and in time."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.core import facts
from chat_twisted.core.model import Account, Session, User
from chat_twisted.core.presence import (
    AWAY,
    GONE,
    HERE,
    TELL_AFTER,
    Presence,
    Watchers,
    identity,
    identity_of,
    presence_of,
)
from chat_twisted.core.routes import Routes


class WatchersTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[list[str]] = []
        self.routes: Routes[str] = Routes(
            [(1, "alice", "", ""), (2, "bob", "", "")], online=[(1, (), {5: True})]
        )
        self.watchers: Watchers[str] = Watchers(self.clock, self.routes, self.look, self.tell)
        self.watchers.watching["somebody"] = None

    def look(self, name: str, user: int) -> Presence:
        return Presence(name, HERE, identity=str(user))

    def tell(self, seen: Sequence[Presence]) -> None:
        self.seen = list(seen)
        self.told.append([presence.name for presence in seen])

    def follow(self, fact: facts.Fact) -> None:
        """Follow a fact, as the hub does."""
        self.watchers.follow(fact)
        self.routes.follow(fact)

    def come(self, user: int, epoch: int, *, present: bool = True) -> None:
        self.follow(facts.SessionCame(user, epoch, 0, "", b"", "", present))

    def go(self, user: int, epoch: int) -> None:
        self.follow(facts.SessionGone(user, epoch, False, ""))

    def take(self) -> list[list[str]]:
        """What is told when it is time."""
        self.clock.advance(TELL_AFTER)
        told, self.told = self.told, []
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return told

    def test_changes_are_told_together_each_name_once(self) -> None:
        self.come(2, 1)
        self.clock.advance(TELL_AFTER / 2)
        self.go(1, 5)
        self.go(2, 1)
        self.assertEqual(self.told, [])
        self.assertEqual(self.take(), [["bob", "alice"]])

    def test_another_session_is_no_news_and_the_last_to_go_is(self) -> None:
        self.come(1, 6)
        self.go(1, 5)
        self.assertEqual(self.take(), [])
        self.go(1, 6)
        self.assertEqual(self.take(), [["alice"]])

    def test_a_session_is_news_when_it_is_there_to_get_messages(self) -> None:
        self.come(2, 1, present=False)
        self.assertEqual(self.take(), [])
        self.follow(facts.SessionArrived(2, 1))
        self.assertEqual(self.take(), [["bob"]])

    def test_of_a_user_who_is_not_here_nothing_is_told(self) -> None:
        self.follow(facts.AwaySet(2, "lunch"))
        self.come(2, 1, present=False)
        self.follow(facts.AwaySet(2, "lunch"))
        self.go(2, 1)
        self.assertEqual(self.take(), [])

    def test_who_is_renamed_is_told_under_both_names(self) -> None:
        self.follow(facts.UserRenamed(1, "alicia"))
        self.assertEqual(self.take(), [["alice", "alicia"]])

    def test_an_account_changes_the_identity_alone(self) -> None:
        self.follow(facts.AccountMade(1, 5))
        self.assertEqual(self.take(), [["alice"]])
        self.assertEqual(self.seen, [Presence("alice", HERE, identity="1", identity_only=True)])
        self.follow(facts.AccountGone(2))  # who is not here
        self.assertEqual(self.take(), [])
        pairs: tuple[tuple[facts.Fact, facts.Fact], ...] = (
            (facts.AccountMade(1, 5), facts.AwaySet(1, "lunch")),
            (facts.AwaySet(1, "lunch"), facts.AccountGone(1)),
        )
        for first, then in pairs:
            self.follow(first)
            self.follow(then)
            self.assertEqual(self.take(), [["alice"]])
            self.assertFalse(self.seen[0].identity_only)

    def test_nothing_is_gathered_for_nobody(self) -> None:
        self.watchers.watching.clear()
        self.come(2, 1)
        self.watchers.watching["somebody"] = None
        self.assertEqual(self.take(), [])


class IdentityTests(TestCase):
    def test_a_guest_has_one_of_their_own_and_an_account_none(self) -> None:
        user = User(2**62, "alice", True, 0, 1)
        self.assertEqual(identity_of(user), identity(2**62))
        self.assertRegex(identity_of(user), "^[A-Za-z0-9_-]{6}$")
        self.assertEqual(len({identity(number) for number in range(1, 2000)}), 1999)
        user.account = Account(5)
        self.assertEqual(identity_of(user), "")


class PresenceTests(TestCase):
    def test_where_a_user_is(self) -> None:
        user = User(1, "alice", True, 0, 1)
        self.assertEqual(presence_of(user), Presence("alice", GONE))
        user.sessions[1] = Session(0, "", b"", "", True)
        self.assertEqual(presence_of(user), Presence("alice", HERE))
        user.away = "lunch"
        self.assertEqual(presence_of(user), Presence("alice", AWAY, "lunch"))
