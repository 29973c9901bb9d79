"""The rules of the chat, asked of the state without doors, ledger or file."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import errors, facts
from chat_twisted.core.accounts import MAX_KEYS
from chat_twisted.core.commands import CONSOLE, MODERATED, NONE, OPERATOR, PRIVATE, VOICE
from chat_twisted.core.entries import Duplicate, Entry, InRoom, LoggedIn, Outcome, Read, Swept
from chat_twisted.core.message import Message
from chat_twisted.core.messages import DELETE_WITHIN, MAX_MARKERS
from chat_twisted.core.model import MAX_REMEMBERED, REMEMBER
from chat_twisted.core.names import MAX_TOKENS
from chat_twisted.core.state import State

MINUTE = 60_000
KEY, OTHER_KEY = "ssh-ed25519 AAAA", "ssh-ed25519 BBBB"
AT = tuple[int, int]
"""A session: its user and epoch."""


class Chat:
    """A state, and what is asked of it at which time."""

    def __init__(self, **options: Any) -> None:
        self.state = State()
        self.now = 1_000_000
        self.drawn = 0
        self.tokens: dict[AT, bytes] = {}
        self.options = c.Options(grace=10 * MINUTE)._replace(**options)
        self.ask(c.Start(0, self.options, 0))

    def ask(self, command: Any) -> Outcome:
        return self.state.apply(Entry(self.now, command))

    def do(self, command: Any) -> tuple[facts.Fact, ...]:
        """Ask what must not be refused; return what changed."""
        outcome = self.ask(command)
        if isinstance(outcome.result, errors.ChatError):
            raise outcome.result
        return outcome.facts

    def new(self) -> int:
        self.drawn += 1
        return self.drawn

    def login(self, name: str, token: bytes = b"", proof: str = "", **more: Any) -> AT:
        id = self.new()
        command = c.Login(name, id, b"token %d" % id, token, proof)._replace(**more)
        outcome = self.ask(command)
        if isinstance(outcome.result, errors.ChatError):
            raise outcome.result
        assert isinstance(outcome.result, LoggedIn)
        at = outcome.result[:2]
        self.tokens[at] = outcome.result.token
        return at

    def join(self, at: AT, room: str, *, private: bool = False) -> None:
        self.do(c.Join(*at, room, self.new(), private))

    def say(self, at: AT, to: str, text: str = "hello", key: str | None = None, **more: Any) -> Any:
        return self.ask(c.Send(*at, to, text, self.now, key)._replace(**more)).result

    def register(self, at: AT, key: str = KEY, hash: str = "") -> None:
        self.do(c.MakeAccount(*at, key, "", hash))

    def after(self, milliseconds: int) -> None:
        self.now += milliseconds


class StateTests(TestCase):
    def refuses(self, error: type[errors.ChatError], outcome: Any) -> None:
        """Check that a refusal, of just this kind, is the answer."""
        result = outcome.result if isinstance(outcome, Outcome) else outcome
        self.assertIs(type(result), error)


class OrderTests(StateTests):
    """What today's faults were: decided before the order, or twice."""

    def test_a_user_removed_from_a_room_can_not_send_to_it(self) -> None:
        chat = Chat()
        ann, bob = chat.login("ann"), chat.login("bob")
        chat.join(ann, "#dev")
        chat.join(bob, "#dev")
        chat.do(c.RemoveMember(*ann, "#dev", "bob"))
        self.refuses(errors.NotAMember, chat.say(bob, "#dev"))

    def test_a_muted_user_can_not_send(self) -> None:
        chat = Chat()
        bob = chat.login("bob")
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "bob", chat.now + MINUTE, "loud"))
        self.refuses(errors.Muted, chat.say(bob, "ALL"))
        chat.after(MINUTE)
        self.assertIsInstance(chat.say(bob, "ALL"), Message)

    def test_a_disconnected_user_can_not_send(self) -> None:
        chat = Chat()
        bob = chat.login("bob")
        chat.do(c.Disconnect(CONSOLE, 0, "bob"))
        self.refuses(errors.NoSession, chat.say(bob, "ALL"))
        self.refuses(errors.NoSession, chat.ask(c.Join(*bob, "#dev", 9)))

    def test_a_request_on_an_old_session_is_refused_when_the_user_is_back(self) -> None:
        chat = Chat()
        bob = chat.login("bob")
        token = chat.tokens[bob]
        chat.do(c.Detach(*bob))
        again = chat.login("bob", token)
        self.assertEqual(again[0], bob[0])
        self.refuses(errors.NoSession, chat.say(bob, "ALL"))
        self.assertEqual(chat.do(c.Detach(*bob)), ())  # it comes late, and ends nothing
        self.assertIsInstance(chat.say(again, "ALL"), Message)

    def test_a_thief_can_not_come_back_when_the_account_was_given_up_and_made_again(self) -> None:
        chat = Chat()
        owner = chat.login("ann")
        chat.register(owner, KEY, "stolen")
        thief = chat.login("ann", proof="stolen")
        chat.do(c.Detach(*thief))
        chat.do(c.DropAccount(*owner))
        with self.assertRaises(errors.NameInUse):
            chat.login("ann", chat.tokens[thief])
        chat.register(owner, OTHER_KEY)
        with self.assertRaises(errors.AuthenticationRequired):
            chat.login("ann", chat.tokens[thief])
        self.assertEqual(chat.login("ann", chat.tokens[owner])[0], owner[0])

    def test_a_connected_thief_makes_no_account_of_the_one_that_was_given_up(self) -> None:
        chat = Chat()
        owner = chat.login("ann")
        chat.register(owner, KEY, "stolen")
        thief = chat.login("ann", proof="stolen")
        chat.do(c.DropAccount(*owner))
        self.refuses(errors.NotProven, chat.ask(c.MakeAccount(*thief, "", "", "mine")))
        chat.register(owner, OTHER_KEY)
        self.refuses(errors.NotProven, chat.ask(c.SetPassword(*thief, "mine")))

    def test_a_password_counts_that_is_the_right_one_when_it_is_its_turn(self) -> None:
        chat = Chat()
        owner = chat.login("ann")
        chat.register(owner, "", "old")
        chat.do(c.SetPassword(*owner, "new"))  # while the old one was being verified
        with self.assertRaises(errors.AuthenticationFailed):
            chat.login("ann", proof="old")
        chat.login("ann", proof="new")

    def test_a_user_whose_proof_was_revoked_can_change_no_account(self) -> None:
        chat = Chat()
        owner = chat.login("ann")
        chat.register(owner, KEY, "stolen")
        thief = chat.login("ann", proof="stolen")
        chat.do(c.SetPassword(*owner, "new"))
        self.refuses(errors.NotProven, chat.ask(c.SetPassword(*thief, "mine")))
        self.refuses(errors.NotProven, chat.ask(c.DropAccount(*thief)))
        with self.assertRaises(errors.AuthenticationRequired):
            chat.login("ann", chat.tokens[thief])
        chat.do(c.SetPassword(*owner, "newer"))
        chat.login("ann", chat.tokens[owner])

    def test_an_account_of_a_name_is_made_by_the_console_or_by_its_guest(self) -> None:
        chat = Chat()
        guest = chat.login("ann")
        chat.register(guest, KEY)
        made = c.MakeAccount(CONSOLE, 0, "", "", "hash", "ann", chat.new())
        self.refuses(errors.HasAccount, chat.ask(made))
        self.assertEqual(chat.login("ann", proof=KEY)[0], guest[0])

        other = Chat()
        other.do(made)
        with self.assertRaises(errors.AuthenticationRequired):
            other.login("ann")
        self.assertEqual(other.login("ann", proof="hash")[0], made.id)

    def test_a_room_can_be_made_anew_at_once(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        chat.join(ann, "#dev")
        left = chat.do(c.Part(*ann, "#dev"))
        self.assertEqual([type(fact) for fact in left], [facts.Left, facts.RoomGone])
        made = chat.do(c.Join(*ann, "#dev", chat.new()))
        self.assertEqual([type(fact) for fact in made], [facts.RoomMade, facts.Joined])

    def test_a_user_who_inherits_a_room_is_told(self) -> None:
        chat = Chat()
        ann, bob, cyd = chat.login("ann"), chat.login("bob"), chat.login("cyd")
        for at in (ann, bob, cyd):
            chat.join(at, "#dev")
        left, heir = chat.do(c.Part(*ann, "#dev"))
        self.assertIsInstance(left, facts.Left)
        assert isinstance(heir, facts.RankSet)
        self.assertEqual(heir[1:], (bob[0], OPERATOR, 0, NONE))

    def test_the_end_of_a_guest_is_of_their_memberships_first(self) -> None:
        chat = Chat()
        ann, bob = chat.login("ann"), chat.login("bob")
        chat.join(bob, "#dev")
        chat.join(ann, "#dev")
        kinds = [type(fact) for fact in chat.do(c.Detach(*bob, True, "bye"))]
        expected = [facts.SessionGone, facts.Left, facts.RankSet, facts.UserGone]
        self.assertEqual(kinds, expected)

    def test_a_reason_to_leave_is_told_if_its_user_could_say_it_in_all_their_rooms(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        for room, mode in (("#a", False), ("#b", True)):
            chat.join(ann, room)
            chat.do(c.SetMode(*ann, room, MODERATED, mode))

        def reason(rooms: str, said: str) -> str:
            bob = chat.login("bob")
            for room in rooms.split():
                chat.join(bob, room)
            first, *others = chat.do(c.Detach(*bob, True, said))
            assert isinstance(first, facts.SessionGone)
            for fact in others:
                if isinstance(fact, facts.Left):
                    self.assertEqual(fact.reason, first.reason)
            return first.reason

        self.assertEqual(reason("#a", " bye "), "bye")
        self.assertEqual(reason("#a", "é" * 100), "é" * 100)
        for said in ("a\nb", "é" * 101, " "):
            self.assertEqual(reason("", said), "")
        self.assertEqual(reason("#a #b", "bye"), "")
        chat.do(c.BanFromRoom(*ann, "#a", "cyd", True))
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "bob"))
        self.assertEqual(reason("", "bye"), "")

    def test_a_real_name_is_a_line(self) -> None:
        chat = Chat()
        bob = chat.login("bob", real_name=" Bob B. ")
        user = chat.state.users[bob[0]]
        self.assertEqual(user.real_name, "Bob B.")
        for wrong in ("x" * 201, "a\nb", "a\0b", "a\x1bb", "a\x85b", "a\u2028b"):
            self.refuses(errors.TextTooLong, chat.ask(c.SetRealName(*bob, wrong)))
            chat.login("bob", chat.tokens[bob], real_name=wrong)  # is no reason to refuse that
        self.assertEqual(chat.do(c.SetRealName(*bob, "Bob B.")), ())
        chat.login("bob", chat.tokens[bob])
        self.assertEqual(user.real_name, "Bob B.")
        chat.do(c.SetRealName(*bob, "é" * 200))
        chat.login("bob", chat.tokens[bob], real_name="")
        self.assertEqual(user.real_name, "")

    def test_the_name_on_the_user_s_own_machine_is_a_word(self) -> None:
        chat = Chat()
        bob = chat.login("bob", login_name="bob.b")
        self.assertEqual(chat.state.users[bob[0]].login_name, "bob.b")
        for wrong in ("", "b b", "b@c", "x" * 33, "b\n"):
            chat.login("bob", chat.tokens[bob], login_name=wrong)  # is no reason to refuse that
            self.assertEqual(chat.state.users[bob[0]].login_name, "bob.b")

    def test_a_muted_user_says_nothing_by_a_real_name(self) -> None:
        chat = Chat()
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "bob"))
        bob = chat.login("bob", real_name="buy")
        self.refuses(errors.Muted, chat.ask(c.SetRealName(*bob, "buy")))
        self.assertEqual(chat.state.users[bob[0]].real_name, "")
        chat.do(c.Lift(CONSOLE, 0, c.MUTE, "bob"))
        chat.do(c.SetRealName(*bob, "Bob"))
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "bob"))
        chat.login("bob", chat.tokens[bob], real_name="buy")
        self.assertEqual(chat.state.users[bob[0]].real_name, "Bob")
        chat.do(c.SetRealName(*bob, ""))

    def test_a_user_is_a_program_until_a_client_says_that_they_are_none(self) -> None:
        chat = Chat()
        bob = chat.login("bob", bot=True)
        user, token = chat.state.users[bob[0]], chat.tokens[bob]
        chat.login("bob", token)
        self.assertTrue(user.bot)
        self.assertEqual(chat.do(c.SetBot(*bob, True)), ())
        chat.do(c.SetBot(*bob, False))
        self.assertFalse(user.bot)
        chat.login("bob", token, bot=True)
        chat.login("bob", token, bot=False)
        self.assertFalse(user.bot)

    def test_two_clients_of_a_user_may_use_the_same_id(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        also = chat.login("ann", chat.tokens[ann])
        first = chat.say(ann, "ALL", "one", "1\ninstance a")
        second = chat.say(also, "ALL", "two", "1\ninstance b")
        self.assertEqual(second.number, first.number + 1)

    def test_a_message_that_was_sent_again_through_another_connection_is_one(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        again = chat.login("ann", chat.tokens[ann])
        sent = chat.say(again, "ALL", key="1\na")
        late = chat.say(ann, "ALL", key="1\na")  # was on its way in the first one
        self.assertEqual(late, Duplicate(sent.number, sent.time))


class MessageTests(StateTests):
    def test_numbers_increase_by_one_and_refusals_take_none(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        first = chat.say(ann, "ALL")
        self.refuses(errors.UnableToSend, chat.say(ann, "bob"))
        self.assertEqual(chat.say(ann, "ALL").number, first.number + 1)

    def test_a_start_may_leave_out_numbers(self) -> None:
        chat = Chat()
        chat.ask(c.Start(0, chat.options, 1000))
        ann = chat.login("ann")
        self.assertEqual(chat.say(ann, "ALL").number, 1001)
        chat.ask(c.Start(0, chat.options, 5))
        self.assertEqual(chat.state.number, 1001)

    def test_a_message_has_its_kind_and_the_names_as_their_owners_write_them(self) -> None:
        chat = Chat()
        ann, _ = chat.login("Ann"), chat.login("Bob")
        sent = chat.say(ann, "bOB", kind=c.ACTION)
        self.assertEqual((sent.sender, sent.to, sent.kind), ("Ann", "Bob", c.ACTION))

    def test_an_id_is_remembered_for_a_time_and_as_many_as_are_remembered(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        first = chat.say(ann, "ALL", key="1")
        chat.after(REMEMBER - 1)
        self.assertEqual(chat.say(ann, "ALL", key="1"), Duplicate(first.number, first.time))
        self.assertEqual(
            chat.ask(c.DuplicateQuery(ann[0], "1")).result, chat.say(ann, "ALL", key="1")
        )
        chat.after(1)
        self.assertIsNone(chat.ask(c.DuplicateQuery(ann[0], "1")).result)
        self.assertIsInstance(chat.say(ann, "ALL", key="1"), Message)
        for number in range(MAX_REMEMBERED):
            chat.say(ann, "ALL", key=f"more {number}")
        self.assertIsInstance(chat.say(ann, "ALL", key="1"), Message)

    def test_expired_ids_take_no_memory(self) -> None:
        chat = Chat()
        users = [chat.login(f"user{number}") for number in range(10)]
        for at in users:
            chat.say(at, "ALL", key="1")
        chat.after(REMEMBER)
        for number in range(100):
            chat.say(users[0], "ALL", key=f"more {number}")
        self.assertEqual(list(chat.state.senders), [chat.state.users[users[0][0]]])
        self.assertEqual([bool(user.recent) for user in chat.state.users.values()].count(True), 1)

    def test_a_duplicate_is_one_though_it_would_be_refused_now(self) -> None:
        chat = Chat()
        ann, bob = chat.login("ann"), chat.login("bob")
        sent = chat.say(ann, "bob", key="1")
        chat.do(c.Detach(*bob, True))
        self.assertEqual(chat.say(ann, "bob", key="1"), Duplicate(sent.number, sent.time))

    def test_only_some_sessions_reach_absent_users(self) -> None:
        chat = Chat()
        ann, bob = chat.login("ann"), chat.login("bob")
        chat.do(c.Detach(*bob))
        self.assertIsInstance(chat.say(ann, "bob"), Message)
        self.refuses(errors.UnableToSend, chat.say(ann, "bob", reaches_absent=False))
        self.refuses(errors.UnableToSend, chat.say(ann, "ALL", reaches_absent=False))
        self.refuses(errors.UnableToSend, chat.say(ann, "ann", reaches_absent=False))
        self.assertIsInstance(chat.say(ann, "ann"), Message)  # for one's other devices

    def test_a_user_who_has_not_arrived_is_unreachable_by_sessions_of_those_present(
        self,
    ) -> None:
        chat = Chat()
        ann = chat.login("ann")
        bob = chat.login("bob", kept=False, present=False)
        self.refuses(errors.UnableToSend, chat.say(ann, "bob"))
        chat.do(c.Arrive(*bob))
        self.assertIsInstance(chat.say(ann, "bob", reaches_absent=False), Message)

    def test_messages_are_deleted_by_those_who_may(self) -> None:
        chat = Chat()
        ann, bob, cyd = chat.login("ann"), chat.login("bob"), chat.login("cyd")
        for at in (ann, bob):
            chat.join(at, "#dev")
        said = chat.say(bob, "#dev")

        def delete(at: AT) -> Outcome:
            what = (said.number, said.author, said.recipient, said.room, said.logged)
            return chat.ask(c.Delete(*at, *what))

        self.refuses(errors.NotYours, delete(cyd))
        for at in (ann, bob):
            self.assertIsInstance(delete(at).facts[0], facts.Deleted)
        chat.after(DELETE_WITHIN)
        self.refuses(errors.NotYours, delete(bob))
        self.assertIsInstance(delete(ann).facts[0], facts.Deleted)
        chat.register(cyd)
        chat.do(c.SetOperator(CONSOLE, 0, "cyd", True))
        self.assertIsInstance(delete(cyd).facts[0], facts.Deleted)

    def test_only_those_who_may_send_give_a_reason_for_a_deletion(self) -> None:
        chat = Chat()
        ann, bob = chat.login("ann"), chat.login("bob")
        for at in (ann, bob):
            chat.join(at, "#dev")

        def delete(said: Message, reason: str) -> Outcome:
            what = (said.number, said.author, said.recipient, said.room, said.logged)
            return chat.ask(c.Delete(*bob, *what, reason=reason))

        in_room, to_all = chat.say(bob, "#dev"), chat.say(bob, "ALL")
        for said in (in_room, to_all):
            self.assertEqual(delete(said, " a slip ").facts[0].reason, "a slip")
            self.refuses(errors.TextTooLong, delete(said, "x" * 201))
            self.refuses(errors.TextTooLong, delete(said, "a\nb"))
        chat.do(c.SetMode(*ann, "#dev", c.MODERATED, True))
        self.refuses(errors.RoomIsModerated, delete(in_room, "x"))
        self.assertTrue(delete(in_room, "").facts)
        self.assertTrue(delete(to_all, "x").facts)
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "bob"))
        for said in (in_room, to_all):
            self.refuses(errors.Muted, delete(said, "x"))
            self.assertTrue(delete(said, " ").facts)


class NameTests(StateTests):
    def test_a_guest_is_held_for_the_grace_and_then_is_no_more(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        chat.do(c.Detach(*ann))
        with self.assertRaises(errors.NameInUse):
            chat.login("ANN")
        chat.after(chat.options.grace - 1)
        self.assertEqual(chat.ask(c.Sweep(10)), Outcome((), Swept(0)))
        self.assertEqual(chat.state.next_due, chat.now + 1)
        chat.after(1)
        self.assertEqual(chat.ask(c.Sweep(10)).result, Swept(1))
        self.assertNotEqual(chat.login("ann")[0], ann[0])

    def test_a_sweep_ends_a_bounded_number_of_holds_and_sanctions(self) -> None:
        chat = Chat()
        for number in range(5):
            chat.do(c.Detach(*chat.login(f"guest{number}")))
        chat.after(chat.options.grace)
        self.assertEqual(
            [chat.ask(c.Sweep(2)).result for _ in range(3)], [Swept(2), Swept(2), Swept(1)]
        )

    def test_a_guest_who_quits_or_whose_name_is_not_kept_is_not_held(self) -> None:
        chat = Chat()
        chat.do(c.Detach(*chat.login("ann"), True))
        chat.do(c.Detach(*chat.login("bob", kept=False)))
        self.assertEqual(chat.state.users, {})

    def test_one_session_of_several_that_ends_is_not_the_end(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        also = chat.login("ann", chat.tokens[ann])
        chat.do(c.Detach(*ann, True))
        self.assertIsInstance(chat.say(also, "ALL"), Message)

    def test_an_address_that_holds_too_many_lets_its_own_oldest_go(self) -> None:
        chat = Chat(held=100, address_held=2)
        for number in range(3):
            chat.do(c.Detach(*chat.login(f"guest{number}", host="10.0.0.1")))
        chat.do(c.Detach(*chat.login("other", host="10.0.0.2")))
        self.assertEqual(sorted(chat.state.names), ["guest1", "guest2", "other"])

    def test_when_too_many_are_held_the_address_that_holds_most_makes_room(self) -> None:
        chat = Chat(held=3, address_held=None)
        for number, host in enumerate(("10.0.0.2", "10.0.0.1", "10.0.0.1", "10.0.0.3")):
            chat.do(c.Detach(*chat.login(f"guest{number}", host=host)))
        self.assertEqual(sorted(chat.state.names), ["guest0", "guest2", "guest3"])

    def test_a_start_ends_the_sessions_of_its_node_alone(self) -> None:
        chat = Chat()
        ann, _ = chat.login("ann"), chat.login("bob", kept=False)
        cyd = chat.login("cyd", node=1)
        chat.do(c.Start(0, chat.options, 0))
        self.refuses(errors.NoSession, chat.say(ann, "ALL"))
        self.assertIsInstance(chat.say(cyd, "ALL"), Message)
        self.assertEqual(sorted(chat.state.names), ["ann", "cyd"])
        self.assertEqual(chat.login("ann", chat.tokens[ann])[0], ann[0])

    def test_with_an_account_a_name_is_for_ever_and_tokens_are_many_but_not_too_many(self) -> None:
        chat = Chat()
        chat.register(chat.login("ann"))
        logins = [chat.login("ann", proof=KEY) for _ in range(MAX_TOKENS)]
        for user in list(chat.state.users.values()):
            for epoch in list(user.sessions):
                chat.do(c.Detach(user.id, epoch, True))
        chat.after(10**9)
        self.assertEqual(chat.ask(c.Sweep(10)).result, Swept(0))
        chat.login("ann", proof=KEY)
        chat.login("ann", chat.tokens[logins[1]])
        with self.assertRaises(errors.AuthenticationRequired):
            chat.login("ann", chat.tokens[logins[0]])

    def test_guests_are_refused_if_the_options_say_so(self) -> None:
        chat = Chat(guests=False)
        with self.assertRaises(errors.AuthenticationRequired):
            chat.login("ann")
        with self.assertRaises(errors.NameInUse):
            chat.login("ann", may_authenticate=False)

    def test_a_held_name_is_refused_with_the_time_of_day_until_which_it_is(self) -> None:
        chat = Chat()
        ann, bob = chat.login("ann"), chat.login("bob")
        self.assertEqual(chat.ask(c.Rename(*ann, "bob", 50_000)).result.until, 0)
        chat.do(c.Detach(*bob))
        hold = chat.state.holds.get(bob[0])
        assert hold is not None
        chat.after(1000)  # the log's clock, which may lag behind the time of day
        until = 50_000 + hold.until - chat.now
        self.assertEqual(chat.ask(c.Rename(*ann, "bob", 50_000)).result.until, until)
        with self.assertRaises(errors.NameInUse) as caught:
            chat.login("bob", time=50_000)
        self.assertEqual(caught.exception.until, until)

    def test_a_guest_is_renamed_and_an_account_is_not(self) -> None:
        chat = Chat()
        ann, bob = chat.login("ann"), chat.login("bob")
        self.refuses(errors.NameInUse, chat.ask(c.Rename(*ann, "BOB")))
        self.refuses(errors.MalformedName, chat.ask(c.Rename(*ann, "_x")))
        chat.do(c.Rename(*ann, "Anna"))
        self.assertEqual(chat.say(bob, "anna").recipient, ann[0])
        self.refuses(errors.UnableToSend, chat.say(bob, "ann"))
        self.assertEqual(chat.say(ann, "bob").sender, "Anna")
        self.assertEqual([u.name for u in chat.state.present.after("")], ["Anna", "bob"])
        chat.register(ann)
        self.refuses(errors.HasAccount, chat.ask(c.Rename(*ann, "other")))

    def test_a_muted_user_keeps_the_name_that_is_muted(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "ann"))
        self.refuses(errors.Muted, chat.ask(c.Rename(*ann, "other")))

    def test_cursors_move_forward_and_not_past_the_last_message(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        sent = [chat.say(ann, "ALL").number for _ in range(3)]
        user = chat.state.users[ann[0]]
        chat.do(c.Acknowledge(((user.id, sent[1]), (user.id, sent[0]), (99, 1))))
        self.assertEqual(user.cursor, sent[1])
        chat.do(c.Acknowledge(((user.id, sent[2] + 5), (user.id, sent[0]))))
        self.assertEqual(user.cursor, sent[2])
        self.assertEqual(chat.do(c.Acknowledge(((user.id, sent[2]),))), ())

    def test_read_markers_are_of_conversations_and_move_forward(self) -> None:
        chat = Chat()
        ann, _ = chat.login("ann"), chat.login("bob")
        chat.join(ann, "#dev")
        for to in ("ALL", "#dev", "bob"):
            last = chat.say(ann, to).number
        for to in ("ALL", "#Dev", "Bob"):
            self.assertEqual(len(chat.do(c.MarkRead(*ann, to, last))), 1)
            back = chat.ask(c.MarkRead(*ann, to, last - 1))
            self.assertEqual(back, Outcome((), Read(last, 0)))
        self.refuses(errors.NoSuchRoom, chat.ask(c.MarkRead(*ann, "#other", last)))

    def test_the_time_of_a_read_marker_moves_forward_and_is_of_its_number(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        first, last = chat.say(ann, "ALL").number, chat.say(ann, "ALL").number
        for number, time, marker in (
            (0, 0, (0, 0)),
            (0, 50, (0, 50)),
            (0, 40, (0, 50)),
            (first, 60, (first, 60)),
            (first, 0, (first, 60)),
            (first, 55, (first, 60)),
            (0, 70, (first, 60)),
            (first, 70, (first, 70)),
            (last, 0, (last, 0)),  # when that was sent is not known
            (first, 80, (last, 0)),
            (last, 90, (last, 90)),
            (last + 5, 95, (last, 95)),
        ):
            before = chat.state.users[ann[0]].markers.get((0, ""), (0, 0))
            outcome = chat.ask(c.MarkRead(*ann, "ALL", number, time))
            self.assertEqual(outcome.result, Read(*marker))
            self.assertEqual(bool(outcome.facts), marker != before)
            self.assertEqual(chat.state.users[ann[0]].markers.get((0, ""), (0, 0)), marker)

    def test_the_oldest_read_marker_makes_room(self) -> None:
        chat = Chat()
        ann = chat.login("ann")
        for number in range(MAX_MARKERS + 1):
            chat.say(ann, "ALL")
            chat.do(c.MarkRead(*ann, f"user{number}", chat.state.number))
        markers = chat.state.users[ann[0]].markers
        self.assertEqual(len(markers), MAX_MARKERS)
        self.assertNotIn((0, "user0"), markers)


class RoomTests(StateTests):
    def setUp(self) -> None:
        self.chat = chat = Chat(rooms=3, address_rooms=4)
        self.ann, self.bob, self.cyd = (chat.login(name) for name in ("ann", "bob", "cyd"))

    def test_the_user_who_makes_a_room_is_its_operator(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#dev")
        chat.join(self.bob, "#dev")
        [room] = chat.state.rooms.values()
        self.assertEqual([m.rank for m in room.members.values()], [OPERATOR, NONE])
        outcome = chat.ask(c.Join(*self.ann, "#DEV", 99))
        self.assertEqual(outcome, Outcome((), InRoom(room.id)))

    def test_a_private_room_is_for_invited_users_and_unknown_to_others(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#den", private=True)
        self.refuses(errors.RoomIsPrivate, chat.ask(c.Join(*self.bob, "#den", 99)))
        self.refuses(errors.NoSuchRoom, chat.say(self.bob, "#den"))
        chat.do(c.Invite(*self.ann, "#den", "bob"))
        self.assertEqual(chat.state.rooms_seen_by(self.bob[0]).count, 1)
        self.refuses(errors.NotAMember, chat.say(self.bob, "#den"))
        chat.join(self.bob, "#den")
        self.refuses(errors.RoomOperatorRequired, chat.ask(c.Invite(*self.bob, "#den", "cyd")))
        self.refuses(errors.AlreadyThere, chat.ask(c.Invite(*self.ann, "#den", "bob")))
        self.refuses(errors.NoSuchRoom, chat.ask(c.Invite(*self.cyd, "#den", "cyd")))
        chat.do(c.Part(*self.bob, "#den"))
        self.assertEqual(chat.state.rooms_seen_by(self.bob[0]).count, 0)

    def test_a_room_becomes_private_or_public(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#dev")
        chat.join(self.bob, "#dev")
        self.refuses(errors.RoomIsPublic, chat.ask(c.Join(*self.ann, "#dev", 9, True)))
        for on, count in ((True, 0), (False, 1)):
            chat.do(c.SetMode(*self.ann, "#dev", PRIVATE, on))
            self.assertEqual(chat.state.rooms_seen_by(self.cyd[0]).count, count)
            self.assertEqual(chat.state.rooms_seen_by(self.bob[0]).count, 1)

    def test_only_some_speak_in_a_moderated_room(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#dev")
        chat.join(self.bob, "#dev")
        chat.do(c.SetMode(*self.ann, "#dev", MODERATED, True))
        self.refuses(errors.RoomIsModerated, chat.say(self.bob, "#dev"))
        self.refuses(errors.RoomIsModerated, chat.ask(c.Part(*self.bob, "#dev", "spam")))
        self.assertIsInstance(chat.say(self.ann, "#dev"), Message)
        chat.do(c.SetRank(*self.ann, "#dev", "bob", VOICE))
        self.assertIsInstance(chat.say(self.bob, "#dev"), Message)

    def test_only_operators_set_a_topic_that_is_locked(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#dev")
        chat.join(self.bob, "#dev")
        chat.do(c.SetTopic(*self.bob, "#dev", " tea ", 12_000))
        [room] = chat.state.rooms.values()
        self.assertEqual((room.topic, room.topic_author, room.topic_time), ("tea", "bob", 12_000))
        chat.do(c.SetMode(*self.ann, "#dev", c.TOPIC_LOCKED, True))
        self.refuses(errors.RoomOperatorRequired, chat.ask(c.SetTopic(*self.bob, "#dev", "x")))
        self.refuses(errors.TextTooLong, chat.ask(c.SetTopic(*self.ann, "#dev", "a\nb")))

    def test_a_room_always_has_an_operator(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#dev")
        chat.join(self.bob, "#dev")
        self.refuses(errors.LastOperator, chat.ask(c.SetRank(*self.ann, "#dev", "ann", NONE)))
        self.refuses(errors.RoomOperatorRequired, chat.ask(c.SetRank(*self.bob, "#dev", "bob", 2)))
        none_before = c.SetRank(*self.ann, "#dev", "bob", VOICE, NONE)
        [voiced] = chat.do(none_before)
        assert isinstance(voiced, facts.RankSet)
        self.assertEqual((voiced.rank, voiced.before), (VOICE, NONE))
        [raised] = chat.do(c.SetRank(*self.ann, "#dev", "bob", OPERATOR))
        assert isinstance(raised, facts.RankSet)
        self.assertEqual((raised.rank, raised.before), (OPERATOR, VOICE))
        self.assertEqual(chat.ask(none_before).facts, ())
        self.assertEqual(len(chat.do(c.Part(*self.ann, "#dev"))), 1)  # bob needs no inheritance
        self.refuses(errors.NotThere, chat.ask(c.RemoveMember(*self.bob, "#dev", "bob")))

    def test_a_user_banned_from_a_room_can_neither_join_nor_send_unless_invited(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#dev")
        chat.join(self.bob, "#dev")
        chat.do(c.BanFromRoom(*self.ann, "#dev", "Bob", True, "loud", 12_000))
        [room] = chat.state.rooms.values()
        self.assertEqual(
            chat.ask(c.BanFromRoom(*self.ann, "#dev", "bob", True, "", 13_000)).facts, ()
        )
        self.assertEqual(room.bans["bob"].time, 12_000)
        self.refuses(errors.BannedFromRoom, chat.say(self.bob, "#dev"))
        chat.do(c.RemoveMember(*self.ann, "#dev", "bob"))
        self.refuses(errors.BannedFromRoom, chat.ask(c.Join(*self.bob, "#dev", 9)))
        chat.do(c.Invite(*self.ann, "#dev", "bob"))
        chat.join(self.bob, "#dev")
        chat.do(c.BanFromRoom(*self.ann, "#dev", "bob", False))
        self.assertIsInstance(chat.say(self.bob, "#dev"), Message)
        self.refuses(errors.NotThere, chat.ask(c.BanFromRoom(*self.ann, "#dev", "bob", False)))

    def test_ban_from_a_room_ends_an_earlier_invitation(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#den", private=True)
        chat.do(c.Invite(*self.ann, "#den", "bob"))
        chat.do(c.BanFromRoom(*self.ann, "#den", "bob", True))
        self.refuses(errors.RoomIsPrivate, chat.ask(c.Join(*self.bob, "#den", 9)))
        self.assertEqual(chat.state.rooms_seen_by(self.bob[0]).count, 0)
        [room] = chat.state.rooms.values()
        self.assertEqual((room.invited, chat.state.users[self.bob[0]].invitations), ({}, {}))
        chat.do(c.Invite(*self.ann, "#den", "bob"))
        chat.join(self.bob, "#den")

    def test_a_user_is_in_so_many_rooms_and_an_address_makes_so_many(self) -> None:
        chat = self.chat
        for number in range(3):
            chat.join(self.ann, f"#room{number}")
        self.refuses(errors.TooManyRooms, chat.ask(c.Join(*self.ann, "#more", 99)))
        one, other = (chat.login(name, host="10.0.0.1") for name in ("one", "other"))
        for at, name in ((one, "#a"), (one, "#b"), (other, "#c"), (other, "#d")):
            chat.join(at, name)
        self.refuses(errors.TooManyRooms, chat.ask(c.Join(*other, "#e", 99)))
        chat.do(c.Part(*one, "#a"))
        chat.join(other, "#e")

    def test_heirs_that_leave_together_leave_no_room_behind(self) -> None:
        chat = self.chat
        for at in (self.ann, self.bob, self.cyd):
            chat.join(at, "#dev")
            chat.do(c.Detach(*at))
        chat.after(chat.options.grace)
        chat.ask(c.Sweep(100))
        self.assertEqual((chat.state.rooms, chat.state.users), ({}, {}))

    def test_invitations_end_with_the_user_and_with_the_room(self) -> None:
        chat = self.chat
        chat.join(self.ann, "#den", private=True)
        for name in ("bob", "cyd"):
            chat.do(c.Invite(*self.ann, "#den", name))
        chat.do(c.Detach(*self.cyd, True))
        [room] = chat.state.rooms.values()
        self.assertEqual(list(room.invited), [self.bob[0]])
        chat.do(c.Part(*self.ann, "#den"))
        self.assertEqual(chat.state.users[self.bob[0]].invitations, {})
        self.assertEqual(chat.state.hidden_of, {})


class AccountTests(StateTests):
    def setUp(self) -> None:
        self.chat = Chat()
        self.ann = self.chat.login("ann")

    def test_the_last_way_in_is_not_taken_away(self) -> None:
        chat, ann = self.chat, self.ann
        chat.register(ann)
        self.refuses(errors.LastWayIn, chat.ask(c.RemoveKey(*ann, KEY)))
        self.refuses(errors.NoSuchKey, chat.ask(c.RemoveKey(*ann, OTHER_KEY)))
        chat.do(c.AddKey(*ann, OTHER_KEY))
        chat.do(c.RemoveKey(*ann, KEY))
        with self.assertRaises(errors.AuthenticationFailed):
            chat.login("ann", proof=KEY)

    def test_a_key_that_is_removed_takes_the_tokens_of_others_with_it(self) -> None:
        chat, ann = self.chat, self.ann
        chat.register(ann, KEY)
        chat.do(c.AddKey(*ann, OTHER_KEY))
        other = chat.login("ann", proof=OTHER_KEY)
        chat.do(c.RemoveKey(*ann, OTHER_KEY))
        with self.assertRaises(errors.AuthenticationRequired):
            chat.login("ann", chat.tokens[other])
        chat.login("ann", chat.tokens[ann])
        self.assertIsInstance(chat.say(other, "ALL"), Message)  # the session stays

    def test_messages_are_deleted_with_the_account_if_requested(self) -> None:
        chat, ann = self.chat, self.ann
        chat.register(ann)
        number = chat.say(ann, "ALL").number
        [erased] = [
            f for f in chat.do(c.DropAccount(*ann, True)) if isinstance(f, facts.AuthorErased)
        ]
        self.assertEqual(erased, facts.AuthorErased(ann[0], number))

    def test_an_account_that_the_console_removes_takes_its_user_with_it(self) -> None:
        for here in (True, False):
            chat = Chat()
            ann = chat.login("ann")
            chat.join(ann, "#dev")
            chat.register(ann)
            if not here:
                chat.do(c.Detach(*ann))
            chat.do(c.DropAccount(CONSOLE, 0, False, "Ann"))
            self.assertEqual((chat.state.users, chat.state.rooms), ({}, {}))

    def test_only_the_console_makes_operators(self) -> None:
        chat, ann = self.chat, self.ann
        chat.register(ann)
        self.refuses(errors.OperatorRequired, chat.ask(c.SetOperator(*ann, "ann", True)))
        self.refuses(errors.OperatorRequired, chat.ask(c.Disconnect(*ann, "ann")))
        chat.do(c.SetOperator(CONSOLE, 0, "ann", True))
        chat.do(c.Impose(*ann, c.MUTE, "bob"))
        self.refuses(errors.NoAccount, chat.ask(c.SetOperator(CONSOLE, 0, "bob", True)))

    def test_an_account_has_so_many_keys_at_most(self) -> None:
        chat, ann = self.chat, self.ann
        chat.register(ann)
        for number in range(1, MAX_KEYS):
            chat.do(c.AddKey(*ann, f"ssh-ed25519 {number}"))
        self.refuses(errors.TooManyKeys, chat.ask(c.AddKey(*ann, "ssh-ed25519 more")))
        chat.do(c.AddKey(*ann, "ssh-ed25519 1", "another comment"))
        chat.do(c.RemoveKey(*ann, "ssh-ed25519 1"))
        chat.do(c.AddKey(*ann, "ssh-ed25519 more"))

    def test_accounts_are_listed_by_their_folded_names(self) -> None:
        chat = self.chat
        for name in ("dan", "Cyd", "BOB"):
            chat.do(c.MakeAccount(CONSOLE, 0, KEY, "", "", name, chat.new()))
        accounts = chat.state.accounts
        self.assertEqual([user.name for user in accounts.after("")], ["BOB", "Cyd", "dan"])
        self.assertEqual([user.name for user in accounts.after("bob")], ["Cyd", "dan"])
        chat.do(c.DropAccount(CONSOLE, 0, False, "cyd"))
        self.assertEqual([user.name for user in accounts.after("bob")], ["dan"])


class SanctionTests(StateTests):
    def test_a_banned_user_is_disconnected_and_kept_out(self) -> None:
        chat = Chat()
        chat.login("ann", host="10.0.0.1")
        bob = chat.login("bob", host="10.0.1.1")
        chat.do(c.Impose(CONSOLE, 0, c.BAN, "10.0.0.0/24", 0, "spam"))
        self.assertEqual(list(chat.state.names), ["bob"])
        with self.assertRaises(errors.Banned) as caught:
            chat.login("ann", host="10.0.0.9")
        self.assertEqual(caught.exception.why, "spam")
        chat.do(c.Impose(CONSOLE, 0, c.BAN, "bob", chat.now + MINUTE))
        self.refuses(errors.NoSession, chat.say(bob, "ALL"))
        chat.after(MINUTE)
        chat.login("bob")

    def test_operators_are_not_kept_out(self) -> None:
        chat = Chat()
        ann = chat.login("ann", host="10.0.0.1")
        chat.register(ann)
        chat.do(c.SetOperator(CONSOLE, 0, "ann", True))
        chat.do(c.Impose(*ann, c.BAN, "10.0.0.0/8"))
        self.assertIsInstance(chat.say(ann, "ALL"), Message)
        chat.login("ann", proof=KEY, host="10.0.0.1")

    def test_an_expired_sanction_is_swept(self) -> None:
        chat = Chat()
        chat.do(c.Impose(CONSOLE, 0, c.BAN, "10.0.0.0/24", chat.now + MINUTE))
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "bob", 0))
        self.assertEqual(chat.state.next_due, chat.now + MINUTE)
        chat.after(MINUTE)
        self.assertEqual(chat.ask(c.Sweep(10)).result, Swept(1))
        self.assertIsNone(chat.state.next_due)
        self.assertEqual(chat.state.banned_networks, {})
        self.refuses(errors.NoSuchSanction, chat.ask(c.Lift(CONSOLE, 0, c.BAN, "10.0.0.0/24")))
        chat.do(c.Lift(CONSOLE, 0, c.MUTE, "bob"))

    def test_the_clock_of_the_state_does_not_go_back(self) -> None:
        chat = Chat()
        chat.do(c.Impose(CONSOLE, 0, c.MUTE, "bob", chat.now + MINUTE))
        bob = chat.login("bob")
        chat.after(2 * MINUTE)
        self.assertIsInstance(chat.say(bob, "ALL"), Message)
        chat.after(-2 * MINUTE)
        self.assertIsInstance(chat.say(bob, "ALL"), Message)
