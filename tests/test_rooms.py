"""Rooms: who knows of them, how many there may be, what ends with them; asked of the state."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import errors, facts, room_rules
from chat_twisted.core.commands import OPERATOR, PRIVATE
from chat_twisted.core.model import Room
from chat_twisted.core.snapshot import dump, load
from chat_twisted.core.state import State
from tests.test_state import AT, KEY, Chat, StateTests


def seen_by(state: State, at: AT, after: str = "") -> list[str]:
    """The names of the rooms that a user may know of."""
    return [room.name for room in state.rooms_seen_by(at[0], after).items]


class ListTests(TestCase):
    def setUp(self) -> None:
        self.chat = chat = Chat()
        self.ann, self.bob, self.cyd = (chat.login(name) for name in ("ann", "bob", "cyd"))

    def test_private_rooms_are_among_the_others_for_members_and_invited_alone(self) -> None:
        chat = self.chat
        for name in ("#b", "#D", "#a", "#c"):
            chat.join(self.ann, name, private=name in "#a #c")
        chat.do(c.Invite(*self.ann, "#c", "bob"))
        for state in (chat.state, load(dump(chat.state))):
            for at, after, names in (
                (self.ann, "", ["#a", "#b", "#c", "#D"]),
                (self.bob, "", ["#b", "#c", "#D"]),
                (self.cyd, "", ["#b", "#D"]),
                (self.ann, "#b", ["#c", "#D"]),
                (self.bob, "#c", ["#D"]),
                (self.bob, "#zzz", []),
            ):
                self.assertEqual(seen_by(state, at, after), names)
            counts = [state.rooms_seen_by(at[0]).count for at in (self.ann, self.bob, self.cyd)]
            self.assertEqual(counts, [4, 3, 2])

    def test_each_half_of_private_does_its_half(self) -> None:
        chat = self.chat
        for name, mode in (("#i", c.INVITE_ONLY), ("#s", c.SECRET)):
            chat.join(self.ann, name)
            chat.do(c.SetMode(*self.ann, name, mode, True))
        for state in (chat.state, load(dump(chat.state))):
            self.assertEqual(seen_by(state, self.ann), ["#i", "#s"])
            self.assertEqual(seen_by(state, self.bob), ["#i"])
        refusal = chat.ask(c.Join(*self.bob, "#i", 99)).result
        self.assertIs(type(refusal), errors.RoomIsPrivate)
        self.assertIs(type(chat.say(self.bob, "#i")), errors.NotAMember)
        self.assertIs(type(chat.say(self.bob, "#s")), errors.NoSuchRoom)
        for name in ("#i", "#s"):
            refusal = chat.ask(c.Join(*self.bob, name, 99, True)).result
            self.assertIs(type(refusal), errors.RoomIsPublic)  # it is not both
        chat.join(self.bob, "#s")
        chat.do(c.Invite(*self.bob, "#s", "cyd"))
        chat.join(self.cyd, "#s")
        chat.do(c.Invite(*self.ann, "#i", "bob"))
        chat.join(self.bob, "#i")
        refusal = chat.ask(c.Invite(*self.bob, "#i", "cyd")).result
        self.assertIs(type(refusal), errors.RoomOperatorRequired)

    def test_both_halves_of_private_are_private(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#a")
        [room] = chat.state.rooms.values()
        for modes, private in (
            ([c.INVITE_ONLY], False),
            ([c.SECRET], False),
            ([c.INVITE_ONLY, c.SECRET], True),
            ([c.PRIVATE], True),
            ([c.PRIVATE, c.INVITE_ONLY], True),
        ):
            for mode in c.MODES:
                chat.do(c.SetMode(*self.ann, "#a", mode, mode in modes))
            self.assertEqual(room.private, private)
            seen = ["#a"] if modes == [c.INVITE_ONLY] else []
            for state in (chat.state, load(dump(chat.state))):
                self.assertEqual(seen_by(state, self.bob), seen)
        chat.do(c.SetMode(*self.ann, "#a", c.PRIVATE, False))
        self.assertEqual(seen_by(chat.state, self.bob), ["#a"])
        self.assertEqual(chat.state.hidden_of, {})

    def test_former_member_can_not_see_a_private_room(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#den", private=True)
        chat.do(c.Invite(*self.ann, "#den", "bob"))
        chat.join(self.bob, "#den")
        chat.do(c.Part(*self.bob, "#den"))
        self.assertEqual(seen_by(chat.state, self.bob), [])
        self.assertEqual(seen_by(chat.state, self.ann), ["#den"])

    def test_a_room_that_ended_is_listed_for_nobody_and_invites_nobody(self) -> None:
        chat = self.chat
        for private in (False, True):
            chat.join(self.ann, "#den", private=private)
            chat.do(c.Invite(*self.ann, "#den", "bob"))
            chat.do(c.Part(*self.ann, "#den"))
            self.assertEqual(seen_by(chat.state, self.ann) + seen_by(chat.state, self.bob), [])
        self.assertEqual(chat.state.hidden_of, {})
        chat.join(self.cyd, "#den", private=True)  # another one
        self.assertIs(type(chat.ask(c.Join(*self.bob, "#den", 99)).result), errors.RoomIsPrivate)

    def test_members_stay_in_order_when_users_join_leave_and_rename(self) -> None:
        chat = self.chat
        dora = chat.login("Dora")
        for at in (dora, self.bob, self.ann):
            chat.join(at, "#dev")

        def members(after: str = "") -> list[str]:
            [room] = chat.state.rooms.values()
            return [user.name for user in room.list_members(chat.state.users).after(after)]

        self.assertEqual(members(), ["ann", "bob", "Dora"])
        self.assertEqual(members("ann"), ["bob", "Dora"])
        chat.join(self.cyd, "#dev")
        chat.do(c.Join(*self.bob, "#dev", 99))
        self.assertEqual(members("bob"), ["cyd", "Dora"])
        chat.do(c.Part(*self.bob, "#dev"))
        chat.do(c.Rename(*self.cyd, "Zoe"))
        chat.do(c.Detach(*self.ann, True))
        self.assertEqual(members(), ["Dora", "Zoe"])
        chat.do(c.RemoveMember(*dora, "#dev", "zoe"))
        self.assertEqual(members(), ["Dora"])
        chat.do(c.Part(*dora, "#dev"))
        chat.join(self.cyd, "#dev")  # another room of that name
        self.assertEqual(members(), ["Zoe"])

    def test_the_present_members_are_counted(self) -> None:
        chat = self.chat
        for at in (self.ann, self.bob, self.cyd):
            chat.join(at, "#dev")
        chat.register(self.cyd)
        room = chat.state.room_names["#dev"]
        self.assertEqual(room.present, 3)
        chat.do(c.Detach(*self.cyd))
        self.assertEqual((len(room.members), room.present), (3, 2))
        late = chat.login("cyd", proof=KEY, present=False)
        self.assertEqual(room.present, 2)
        chat.do(c.Arrive(*late))
        chat.login("cyd", proof=KEY)
        chat.do(c.Rename(*self.bob, "Ben"))
        self.assertEqual(room.present, 3)
        chat.do(c.Part(*self.bob, "#dev"))
        chat.do(c.Detach(*self.ann, True))
        self.assertEqual(room.present, 1)

    def test_the_end_of_a_user_looks_at_their_own_rooms_alone(self) -> None:
        chat = self.chat
        for number in range(100):
            chat.join(self.ann, f"#of-ann-{number}", private=number % 2 == 0)
        chat.join(self.bob, "#of-bob")
        chat.do(c.Invite(*self.ann, "#of-ann-0", "bob"))
        looked: list[str] = []

        class Watched(Room):
            __slots__ = ()

            def __getattribute__(self, name: str) -> object:
                if name in ("members", "invited"):
                    looked.append(object.__getattribute__(self, "name"))
                return object.__getattribute__(self, name)

        for room in chat.state.rooms.values():
            room.__class__ = Watched
        chat.do(c.Detach(*self.bob, True))
        self.assertEqual(set(looked), {"#of-bob", "#of-ann-0"})


class BoundTests(StateTests):
    def test_room_counts_for_its_makers_address_until_it_ends(self) -> None:
        chat = Chat(rooms=None, address_rooms=2)
        ann, bob = (chat.login(name, host="192.0.2.1") for name in ("ann", "bob"))
        other = chat.login("other", host="192.0.2.2")
        chat.join(ann, "#a")
        chat.join(bob, "#b")
        chat.join(other, "#a")
        for at in (ann, bob):
            self.refuses(errors.TooManyRooms, chat.ask(c.Join(*at, "#c", 99)))
        chat.do(c.Detach(*ann, True))  # the room goes on without them
        self.refuses(errors.TooManyRooms, chat.ask(c.Join(*bob, "#c", 99)))
        chat.do(c.Part(*other, "#a"))
        for state in (chat.state, load(dump(chat.state))):
            chat.state = state
            self.assertEqual(chat.state.rooms_made, {"192.0.2.1": 1})
        chat.join(bob, "#c")
        chat.join(other, "#d")
        self.refuses(errors.TooManyRooms, chat.ask(c.Join(*bob, "#e", 99)))

    def test_a_line_of_version_6_is_one_address_and_an_unknown_one_has_no_bound(self) -> None:
        chat = Chat(address_rooms=1)
        first, second = (
            chat.login(f"user{number}", host=f"2001:db8::{number}") for number in (1, 2)
        )
        chat.join(first, "#a")
        self.refuses(errors.TooManyRooms, chat.ask(c.Join(*second, "#b", 99)))
        local = chat.login("local")
        for number in range(5):
            chat.join(local, f"#local{number}")

    def test_member_of_too_many_rooms_may_join_one_of_them_again(self) -> None:
        chat = Chat(rooms=1)
        ann = chat.login("ann")
        chat.join(ann, "#a")
        self.refuses(errors.TooManyRooms, chat.ask(c.Join(*ann, "#b", 99)))
        chat.join(ann, "#A")
        chat.do(c.Part(*ann, "#a"))
        chat.join(ann, "#b")

    def test_invitations_to_a_room_are_limited(self) -> None:
        self.patch(room_rules, "MAX_INVITED", 2)
        chat = Chat()
        ann, bob, _, _ = (chat.login(name) for name in ("ann", "bob", "cyd", "dan"))
        chat.join(ann, "#den", private=True)
        for name in ("bob", "cyd", "bob"):
            chat.do(c.Invite(*ann, "#den", name))
        self.refuses(errors.TooManyThere, chat.ask(c.Invite(*ann, "#den", "dan")))
        chat.join(bob, "#den")
        chat.do(c.Invite(*ann, "#den", "dan"))

    def test_bans_from_a_room_are_limited(self) -> None:
        self.patch(room_rules, "MAX_BANNED", 2)
        chat = Chat()
        ann = chat.login("ann")
        chat.join(ann, "#dev")
        for name in ("bob", "cyd", "BOB"):
            chat.do(c.BanFromRoom(*ann, "#dev", name, True))
        self.refuses(errors.TooManyThere, chat.ask(c.BanFromRoom(*ann, "#dev", "dan", True)))
        chat.do(c.BanFromRoom(*ann, "#dev", "bob", False))
        chat.do(c.BanFromRoom(*ann, "#dev", "dan", True))


class PermittedTests(StateTests):
    def setUp(self) -> None:
        self.chat = chat = Chat()
        self.ann, self.bob, self.cyd = (chat.login(name) for name in ("ann", "bob", "cyd"))

    def test_only_a_member_acts_in_a_room_and_private_ones_are_not_betrayed(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#open")
        chat.join(self.ann, "#secret", private=True)
        for name, error in (
            ("#open", errors.NotAMember),
            ("#secret", errors.NoSuchRoom),
            ("#nowhere", errors.NoSuchRoom),
        ):
            for command in (
                c.Send(*self.bob, name, "x", 1),
                c.Part(*self.bob, name),
                c.SetTopic(*self.bob, name, "x"),
                c.Invite(*self.bob, name, "cyd"),
                c.RemoveMember(*self.bob, name, "ann"),
                c.SetRank(*self.bob, name, "ann", 0),
                c.SetMode(*self.bob, name, PRIVATE, True),
                c.BanFromRoom(*self.bob, name, "ann", True),
            ):
                self.refuses(error, chat.ask(command))

    def test_only_operators_of_a_room_run_it(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#dev")
        chat.join(self.bob, "#dev")
        for command in (
            c.RemoveMember(*self.bob, "#dev", "ann"),
            c.SetRank(*self.bob, "#dev", "bob", OPERATOR),
            c.SetMode(*self.bob, "#dev", PRIVATE, True),
            c.BanFromRoom(*self.bob, "#dev", "ann", True),
        ):
            self.refuses(errors.RoomOperatorRequired, chat.ask(command))
        for whom in ("ann", "cyd", "nobody"):
            self.refuses(errors.NotThere, chat.ask(c.RemoveMember(*self.ann, "#dev", whom)))
        left = chat.do(c.RemoveMember(*self.ann, "#dev", "BOB", " loud "))
        number = chat.state.number
        [room] = chat.state.rooms
        self.assertEqual(left, (facts.Left(room, self.bob[0], number, self.ann[0], "loud"),))

    def test_invalid_room_name_is_refused(self) -> None:
        for name in ("dev", "#", "#b@d", "", "#" + "x" * 33):
            self.refuses(errors.NoSuchRoom, self.chat.ask(c.Join(*self.ann, name, 99)))

    def test_longest_member_inherits_the_room_even_if_absent(self) -> None:
        chat = self.chat
        for at in (self.ann, self.bob, self.cyd):
            chat.join(at, "#dev")
        chat.do(c.Detach(*self.bob))
        chat.do(c.Part(*self.ann, "#dev"))
        [room] = chat.state.rooms.values()
        self.assertEqual(room.operators, {self.bob[0]})
        chat.join(self.ann, "#dev")  # behind all others now
        chat.do(c.Detach(*chat.login("bob", chat.tokens[self.bob]), True))
        self.assertEqual(room.operators, {self.cyd[0]})

    def test_invitation_ends_with_its_user(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#den", private=True)
        chat.do(c.Invite(*self.ann, "#den", "bob"))
        chat.do(c.Detach(*self.bob, True))
        again = chat.login("bob")
        self.assertEqual(seen_by(chat.state, again), [])
        self.refuses(errors.RoomIsPrivate, chat.ask(c.Join(*again, "#den", 99)))

    def test_held_user_can_be_invited_and_unknown_one_can_not(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#den", private=True)
        chat.do(c.Detach(*self.bob))
        chat.do(c.Invite(*self.ann, "#den", "bob"))
        chat.join(chat.login("bob", chat.tokens[self.bob]), "#den")
        self.refuses(errors.UnableToSend, chat.ask(c.Invite(*self.ann, "#den", "nobody")))
