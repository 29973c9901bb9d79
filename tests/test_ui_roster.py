"""Who is present: what is told of it, guests and accounts, and who took somebody's name."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.ui import roster as module
from chat_twisted.ui.roster import MAX_PRESENT, Roster
from chat_twisted.ui.values import Room, Seen, State


class RosterTestCase(TestCase):
    def setUp(self) -> None:
        self.roster = Roster()
        self.roster.set_present(
            [Seen("alice", State.HERE), Seen("bob", State.HERE), Seen("carol", State.AWAY)]
        )

    def follow(self, name: str, state: str = "here", identity: str | None = None) -> str:
        return self.roster.follow(Seen(name, State(state), identity=identity), "alice")


class PresenceTests(RosterTestCase):
    def test_only_a_user_who_was_away_is_back(self) -> None:
        self.assertEqual(self.follow("bob"), "")
        self.assertEqual(self.follow("carol"), "carol is back")
        self.assertEqual(self.follow("carol"), "")
        self.assertEqual(self.follow("bob", "away"), "bob is away")
        self.assertEqual(self.follow("bob"), "bob is back")

    def test_a_user_who_left_while_away_is_here_when_they_come(self) -> None:
        self.assertEqual(self.follow("carol", "gone"), "carol left")
        self.assertEqual(self.follow("carol"), "carol is here")

    def test_a_renamed_user_is_still_away(self) -> None:
        self.roster.rename("carol", "caro")
        self.assertEqual(self.follow("caro"), "caro is back")

    def test_a_return_after_the_reconnect_is_no_news(self) -> None:
        self.roster.disconnected()
        self.roster.set_present([Seen("alice", State.HERE)])
        self.assertEqual([self.follow("bob"), self.follow("dave")], ["", "dave is here"])


class MemoryTests(RosterTestCase):
    def test_a_name_is_in_memory_once_however_many_rosters_have_it(self) -> None:
        rosters = [Roster(), Roster()]
        for roster in rosters:
            erin, dave, room = (bytes(name, "ascii").decode() for name in ("Erin", "Dave", "#Dev"))
            roster.set_present([Seen(erin, State.HERE)])
            roster.follow(Seen(dave, State.HERE), "alice")
            roster.set_rooms([Room(room, 1, member=True, private=False)])
        one, other = ([*roster.users(""), *roster.rooms()] for roster in rosters)
        self.assertEqual(one, ["Dave", "Erin", "#Dev"])
        for name, same in zip(one, other, strict=True):
            self.assertIs(name, same)


class GuestTests(RosterTestCase):
    def test_guests_are_marked(self) -> None:
        self.assertEqual(self.follow("dave", identity="t1"), "~dave is here")
        self.assertEqual(self.follow("erin", identity=""), "erin is here")
        self.assertEqual(
            [self.roster.is_guest(n) for n in ("DAVE", "erin", "bob")], [True, False, False]
        )
        self.assertEqual([self.roster.marked(n) for n in ("Dave", "erin")], ["~Dave", "erin"])
        self.roster.set_present([Seen("bob", State.HERE, identity="t2")])
        self.assertEqual(self.roster.marked("bob"), "~bob")
        self.assertEqual(self.follow("bob", "gone"), "~bob left")
        self.assertTrue(self.roster.is_guest("bob"))  # their messages are still on the screen

    def test_another_guest_under_the_name_of_one_you_talked_to_is_announced_once(self) -> None:
        self.follow("dave", identity="t1")
        self.roster.talked("dave")
        self.assertEqual(self.follow("dave", "away", "t1"), "~dave is away")
        self.follow("dave", "gone", "t1")
        self.assertEqual(
            self.follow("DAVE", identity="t2"), "~DAVE is here, not the ~DAVE you talked to"
        )
        self.assertEqual(self.follow("dave", identity="t2"), "")

    def test_an_account_under_that_name_is_announced_too(self) -> None:
        self.follow("dave", identity="t1")
        self.roster.talked("dave")
        self.follow("dave", "gone", "t1")
        self.assertEqual(
            self.follow("dave", identity=""), "dave is here, perhaps not the ~dave you talked to"
        )

    def test_a_guest_who_makes_an_account_is_the_same(self) -> None:
        self.follow("dave", identity="t1")
        self.roster.talked("dave")
        self.assertEqual(self.follow("dave", identity=""), "")
        self.assertFalse(self.roster.is_guest("dave"))

    def test_it_is_told_among_many_and_after_a_reconnect(self) -> None:
        self.follow("dave", identity="t1")
        self.roster.talked("dave")
        for number in range(MAX_PRESENT):
            self.follow(f"u{number}")
        self.follow("dave", "gone", "t1")
        self.assertIn("not the ~dave", self.follow("dave", identity="t2"))
        seen = [Seen("dave", State.HERE, identity="t3"), Seen("bob", State.HERE)]
        self.assertEqual(self.roster.set_present(seen), ["~dave is not the ~dave you talked to"])
        self.assertEqual(self.roster.set_present(seen), [])

    def test_a_guest_to_whom_nobody_talked_is_no_news(self) -> None:
        self.follow("dave", identity="t1")
        self.follow("dave", "gone", "t1")
        self.assertEqual(self.follow("dave", identity="t2"), "~dave is here")

    def test_a_renamed_guest_is_the_same_guest(self) -> None:
        self.follow("dave", identity="t1")
        self.roster.talked("dave", spoken_to=True)
        self.roster.rename("dave", "dan")
        self.assertEqual(self.follow("dan", identity="t1"), "")
        self.assertEqual((self.roster.marked("dan"), self.roster.last_speaker), ("~dan", "dan"))

    def test_who_speaks_before_they_are_known_does_not_look_like_an_account(self) -> None:
        self.roster.spoke("dave")
        self.assertFalse(self.roster.is_guest("dave"))  # the server tells nobody's identity
        self.follow("erin", identity="")
        self.roster.spoke("dave")
        self.roster.spoke("erin")
        self.roster.talked("dave")
        self.assertEqual([self.roster.marked(n) for n in ("dave", "erin")], ["~dave", "erin"])
        self.assertEqual(self.follow("dave", identity=""), "dave is here")

    def test_it_is_told_although_comings_are_hidden(self) -> None:
        self.follow("dave", identity="t1")
        self.roster.talked("dave")
        gone, here = (
            Seen("dave", state, identity=i) for state, i in ((State.GONE, "t1"), (State.HERE, "t2"))
        )
        self.assertEqual(self.roster.follow(gone, "alice", hide=True), "")
        self.assertIn("not the ~dave", self.roster.follow(here, "alice", hide=True))

    def test_what_is_remembered_has_limits(self) -> None:
        self.patch(module, "MAX_PARTNERS", 2)
        self.patch(module, "MAX_NAMES", 3)
        for number in range(9):
            self.follow(f"g{number}", identity="t")
            self.roster.talked(f"g{number}")
            self.follow(f"g{number}", "gone", "t")
        self.assertEqual((len(self.roster._partners), len(self.roster._identities)), (2, 3))


class SpeakerTests(RosterTestCase):
    def test_the_last_speaker_is_who_spoke_to_the_user(self) -> None:
        self.assertEqual(self.roster.last_speaker, "")
        self.roster.talked("bob", spoken_to=True)
        self.roster.talked("carol")
        self.assertEqual(self.roster.last_speaker, "bob")
