"""The rules of rooms: what a request would change, and what a committed change does."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.core import rooms as rooms_module
from chat_twisted.core.changes import (
    Invited,
    Joined,
    Left,
    OwnerSet,
    RoomGone,
    RoomMade,
    TopicSet,
    UserGone,
)
from chat_twisted.core.errors import NoSuchRoom, NotPermitted, Unavailable
from chat_twisted.core.rooms import Room, Rooms

ALICE, BOB, CAROL = 1, 2, 3


class RoomsTestCase(TestCase):
    def setUp(self) -> None:
        self.rooms = Rooms()

    def apply(self, changes) -> None:
        for change in changes:
            self.rooms.apply(change)

    def join(self, user: int, name: str = "#dev", *, private: bool = False):
        self.apply(self.rooms.join(name, user, private=private, since=0))
        return self.rooms.find(name, user)

    def seen_by(self, user: int, after: str = "") -> list[str]:
        """The names of the rooms that ``user`` may know of; as many as are counted."""
        listing = self.rooms.seen_by(user, after)
        names = [room.name for room in listing.items]
        self.assertTrue(after or len(names) == listing.count)
        return names


class RoomTests(RoomsTestCase):
    def test_a_request_changes_nothing_by_itself(self) -> None:
        made, joined = self.rooms.join("#dev", ALICE, private=False, since=5)
        self.assertIsInstance(made, RoomMade)
        self.assertEqual(joined, Joined(made.id, ALICE, 5))
        with self.assertRaises(NoSuchRoom):
            self.rooms.find("#dev", ALICE)

    def test_two_who_make_the_same_room_at_once_are_in_one(self) -> None:
        first = self.rooms.join("#dev", ALICE, private=False, since=0)
        second = self.rooms.join("#DEV", BOB, private=False, since=0)
        self.apply([*first, *second])
        self.assertEqual(list(self.rooms.find("#dev", CAROL).members), [ALICE, BOB])

    def test_nobody_slips_into_a_private_room_that_is_being_made(self) -> None:
        self.rooms.join("#dev", ALICE, private=True, since=0)
        with self.assertRaises(NotPermitted):
            self.rooms.join("#dev", BOB, private=False, since=0)

    def test_a_room_that_could_not_be_made_can_be_made_by_another(self) -> None:
        self.rooms.join("#dev", ALICE, private=True, since=0)
        self.rooms.failed()
        self.assertEqual(self.join(BOB).owner, BOB)

    def test_rooms_and_members_are_there_again_from_what_was_saved(self) -> None:
        rooms = Rooms([(9, "#dev", "plans", True, ALICE)], [(9, ALICE), (8, BOB)], [(9, CAROL)])
        room = rooms.find("#dev", CAROL)
        self.assertEqual(
            (room.topic, list(room.members), room.invited), ("plans", [ALICE], {CAROL})
        )
        self.assertEqual(rooms.of(ALICE), [room])
        self.assertEqual(rooms.of(BOB), [])

    def test_of_two_rooms_of_one_name_the_one_with_members_counts_and_the_other_ends(self) -> None:
        for rows in (
            [(1, "#dev", "", 0, 7), (2, "#dev", "", 0, 7)],
            [(2, "#dev", "", 0, 7), (1, "#dev", "", 0, 7)],
        ):
            rooms = Rooms(rows, [(1, 7)])
            self.assertEqual([rooms.settle(id) for id in rooms.unsettled()], [[RoomGone(2)]])
            rooms.apply(RoomGone(2))
            self.assertEqual(rooms.find("#dev", 7).id, 1)

    def test_rooms_are_listed_in_order_without_private_ones_of_others(self) -> None:
        for name in ("#b", "#A", "#c"):
            self.join(ALICE, name, private=name == "#c")
        self.assertEqual(self.seen_by(BOB), ["#A", "#b"])
        self.assertEqual(self.seen_by(ALICE), ["#A", "#b", "#c"])

    def test_nobody_is_in_too_many_rooms(self) -> None:
        self.rooms = Rooms(max_rooms=1)
        room = self.join(ALICE)
        with self.assertRaises(NotPermitted):
            self.join(ALICE, "#more")
        self.join(ALICE)  # that one is in already
        self.apply(self.rooms.leave(room, ALICE, until=0))
        self.join(ALICE, "#more")

    def test_only_the_owner_lets_others_into_a_private_room(self) -> None:
        room = self.join(ALICE, private=True)
        self.apply(self.rooms.invite(room, ALICE, BOB))
        self.join(BOB)
        self.assertEqual(room.invited, set())
        for member, user in ((BOB, CAROL), (ALICE, BOB)):
            with self.assertRaises(NotPermitted):
                self.rooms.invite(room, member, user)

    def test_the_owner_puts_out_members_and_nobody_else_and_not_himself(self) -> None:
        room = self.join(ALICE)
        self.join(BOB)
        for owner, user in ((BOB, ALICE), (ALICE, ALICE), (ALICE, CAROL)):
            with self.assertRaises(NotPermitted):
                self.rooms.kick(room, owner, user, until=0)
        self.assertEqual(self.rooms.kick(room, ALICE, BOB, until=7), [Left(room.id, BOB, 7)])


class ListTests(RoomsTestCase):
    def test_private_rooms_are_among_the_others_for_members_and_invited_alone(self) -> None:
        for name in ("#b", "#D", "#a", "#c"):
            self.join(ALICE, name, private=name in "#a #c")
        self.apply(self.rooms.invite(self.rooms.find("#c", ALICE), ALICE, BOB))
        self.assertEqual(self.seen_by(ALICE), ["#a", "#b", "#c", "#D"])
        self.assertEqual(self.seen_by(BOB), ["#b", "#c", "#D"])
        self.assertEqual(self.seen_by(CAROL), ["#b", "#D"])
        self.assertEqual(self.seen_by(ALICE, "#b"), ["#c", "#D"])
        self.assertEqual(self.seen_by(BOB, "#c"), ["#D"])
        self.assertEqual(self.seen_by(BOB, "#zzz"), [])

    def test_who_left_a_private_room_knows_of_it_no_more(self) -> None:
        room = self.join(ALICE, private=True)
        self.apply(self.rooms.invite(room, ALICE, BOB))
        self.join(BOB)
        self.apply(self.rooms.leave(room, BOB, until=0))
        self.assertEqual((self.seen_by(BOB), self.seen_by(ALICE)), ([], ["#dev"]))

    def test_a_room_that_ended_is_listed_for_nobody_and_invites_nobody(self) -> None:
        for private in (False, True):
            room = self.join(ALICE, private=private)
            self.apply(self.rooms.invite(room, ALICE, BOB))
            self.apply(self.rooms.leave(room, ALICE, until=0))
            self.apply(self.rooms.settle(room.id))
            self.assertEqual((self.seen_by(ALICE), self.seen_by(BOB)), ([], []))
            self.assertEqual(self.rooms._private, {})

    def test_what_was_saved_is_listed_again(self) -> None:
        rows = [(1, "#b", "", False, ALICE), (2, "#a", "", True, ALICE), (3, "#A", "", True, BOB)]
        self.rooms = Rooms(rows, [(1, ALICE), (2, ALICE)], [(2, BOB), (3, CAROL), (1, CAROL)])
        self.assertEqual(self.seen_by(ALICE), ["#a", "#b"])
        self.assertEqual(self.seen_by(BOB), ["#a", "#b"])
        self.assertEqual(self.seen_by(CAROL), ["#b"])

    def test_the_end_of_a_user_looks_at_rooms_of_its_own_alone(self) -> None:
        looked: list[str] = []

        class Watched(Room):
            def __getattribute__(self, name: str) -> object:
                if name in ("members", "invited"):
                    looked.append(object.__getattribute__(self, "name"))
                return object.__getattribute__(self, name)

        self.patch(rooms_module, "Room", Watched)
        for i in range(100):
            self.join(ALICE, f"#of-alice-{i}", private=i % 2 == 0)
        self.join(BOB, "#of-bob")
        self.apply(self.rooms.invite(self.rooms.find("#of-alice-0", ALICE), ALICE, BOB))
        looked.clear()
        self.apply([UserGone(BOB)])
        self.assertEqual(set(looked), {"#of-bob", "#of-alice-0"})


class ShareTests(RoomsTestCase):
    """How many rooms users of one address may have made."""

    def setUp(self) -> None:
        self.rooms = Rooms([(9, "#old", "", False, ALICE)], [(9, ALICE)], share=2)

    def make(self, name: str, user: int = ALICE, address: str = "192.0.2.1"):
        return self.rooms.join(name, user, private=False, since=0, address=address)

    def test_past_its_share_an_address_makes_none_and_others_do(self) -> None:
        self.apply([*self.make("#a"), *self.make("#b", BOB)])
        for user in (ALICE, BOB, CAROL):
            with self.assertRaises(NotPermitted):
                self.make("#c", user)
        self.make("#a", CAROL)  # that one is there
        self.make("#old", CAROL)
        self.make("#c", CAROL, "192.0.2.2")

    def test_rooms_that_are_being_made_count_until_they_can_not_be(self) -> None:
        self.make("#a")
        self.make("#b")
        with self.assertRaises(NotPermitted):
            self.make("#c")
        self.rooms.failed()
        self.make("#c")

    def test_a_room_that_ended_counts_no_more_whoever_had_it_last(self) -> None:
        self.apply([*self.make("#a"), *self.make("#b"), *self.make("#a", BOB, "192.0.2.2")])
        room = self.rooms.find("#a", BOB)
        self.apply([UserGone(ALICE)])
        self.apply(self.rooms.settle(room.id))
        self.assertEqual(room.owner, BOB)
        self.apply(self.rooms.settle(self.rooms.find("#b", BOB).id))
        self.apply(self.make("#c"))
        with self.assertRaises(NotPermitted):
            self.make("#d")

    def test_an_unknown_address_has_no_bound(self) -> None:
        for i in range(5):
            self.apply(self.make(f"#r{i}", address=""))

    def test_so_many_are_invited_at_once_at_most(self) -> None:
        self.patch(rooms_module, "MAX_INVITED", 2)
        room = self.join(ALICE, "#p", private=True)
        for user in (BOB, CAROL, BOB):
            self.apply(self.rooms.invite(room, ALICE, user))
        with self.assertRaises(NotPermitted):
            self.rooms.invite(room, ALICE, 4)
        self.join(BOB, "#p")
        self.rooms.invite(room, ALICE, 4)


class EndTests(RoomsTestCase):
    def test_the_longest_member_inherits(self) -> None:
        room = self.join(ALICE)
        self.join(BOB)
        self.join(CAROL)
        self.assertEqual(self.rooms.settle(room.id), [])
        self.apply(self.rooms.leave(room, ALICE, until=0))
        self.assertEqual(self.rooms.unsettled(), [room.id])
        self.assertEqual(self.rooms.settle(room.id), [OwnerSet(room.id, BOB)])

    def test_an_empty_room_ends_and_can_not_be_joined_meanwhile(self) -> None:
        room = self.join(ALICE)
        self.apply([UserGone(ALICE)])
        ending = self.rooms.settle(room.id)
        self.assertEqual(ending, [RoomGone(room.id)])
        with self.assertRaises(Unavailable):
            self.join(BOB)
        self.apply(ending)
        self.assertNotEqual(self.join(BOB).id, room.id)

    def test_a_room_that_somebody_joined_in_time_does_not_end(self) -> None:
        room = self.join(ALICE)
        joining = self.rooms.join("#dev", BOB, private=False, since=0)
        self.apply(self.rooms.leave(room, ALICE, until=0))
        ending = self.rooms.settle(room.id)
        self.apply([*joining, *ending])
        self.assertEqual(list(self.join(CAROL).members), [BOB, CAROL])

    def test_who_joined_a_room_in_time_inherits_it(self) -> None:
        room = self.join(ALICE)
        joining = self.rooms.join("#dev", BOB, private=False, since=0)
        self.apply(self.rooms.leave(room, ALICE, until=0))
        self.apply([*joining, *self.rooms.settle(room.id)])
        self.assertEqual(self.rooms.settle(room.id), [OwnerSet(room.id, BOB)])

    def test_what_comes_too_late_changes_nothing(self) -> None:
        room = self.join(ALICE)
        self.apply([UserGone(ALICE), RoomGone(room.id)])
        self.apply(
            [
                Joined(room.id, BOB, 0),
                Left(room.id, ALICE, 0),
                OwnerSet(room.id, BOB),
                TopicSet(room.id, "late"),
                Invited(room.id, BOB),
                RoomGone(room.id),
                UserGone(ALICE),
            ]
        )
        self.assertEqual((self.seen_by(BOB), self.rooms.of(BOB)), ([], []))
        self.assertEqual(self.rooms.settle(room.id), [])
        self.assertEqual(room.topic, "")

    def test_who_is_gone_is_invited_nowhere(self) -> None:
        room = self.join(ALICE, private=True)
        self.apply(self.rooms.invite(room, ALICE, BOB))
        self.assertEqual(self.seen_by(BOB), ["#dev"])
        self.apply([UserGone(BOB)])
        self.assertEqual(self.seen_by(BOB), [])
        with self.assertRaises(NotPermitted):
            self.join(BOB)

    def test_only_a_member_acts_in_a_room_and_private_ones_are_not_betrayed(self) -> None:
        self.join(ALICE, "#open")
        self.join(ALICE, "#secret", private=True)
        with self.assertRaises(NotPermitted):
            self.rooms.joined("#open", BOB)
        for name in ("#secret", "#nowhere"):
            with self.assertRaises(NoSuchRoom):
                self.rooms.joined(name, BOB)

    def test_a_room_whose_end_could_not_be_written_goes_on(self) -> None:
        room = self.join(ALICE)
        self.apply([UserGone(ALICE)])
        self.rooms.settle(room.id)
        self.rooms.failed()
        self.assertIs(self.join(BOB), room)
