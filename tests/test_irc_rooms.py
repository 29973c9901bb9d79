"""Channels of the IRC door: joining, leaving, topics, kicks, invitations and lists."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from chat_twisted.core.commands import CONSOLE, MakeAccount, new_id
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.turns import Asker, unlimited
from chat_twisted.doors.irc import running
from chat_twisted.doors.irc.commands.rooms import NOT_A_CHANNEL
from tests.irc import IRCClient, IRCTestCase


def verbs(lines: list[str]) -> list[str]:
    """Return the verb or the number of each line without tags."""
    return [line.split()[1] for line in lines]


class WaitingLists:
    """Lists wait for ``turn``."""

    def __init__(self) -> None:
        self.turn: Deferred[None] = Deferred()

    async def do(self, asker: Asker, work: Callable[[], None]) -> None:
        await self.turn
        work()


class RoomTestCase(IRCTestCase):
    joins_all = False

    def says(self, client: IRCClient, line: str, *expected: str) -> None:
        """Check what a client gets for a line."""
        self.assertEqual(client.say(line), [f":{text}" for text in expected])

    def hears(self, client: IRCClient, *expected: str) -> None:
        """Check what a client has got since the last time."""
        self.assertEqual(client.lines(), [f":{text}" for text in expected])

    def add_account(self, name: str) -> None:
        """Make an account with the password ``sesame``."""
        hash = self.successResultOf(self.gate.passwords.hash("sesame", unlimited("test")))
        self.hub.ask(MakeAccount(CONSOLE, 0, hash=hash, name=name, id=new_id()))
        self.commit()

    def log_in(self, name: str) -> IRCClient:
        """Return a client that is logged in to an account."""
        client = self.client()
        lines = client.say("PASS sesame", f"NICK {name}", f"USER {name} 0 * :{name}")
        self.assertIn(f" 001 {name} ", lines[0])
        return client


class JoinTests(RoomTestCase):
    def test_keys_are_ignored_and_each_channel_is_answered_by_itself(self) -> None:
        alice = self.join("alice")
        lines = alice.say("JOIN #a,#in@valid,plain,#b key,other")
        self.assertEqual(verbs(lines), ["JOIN", "353", "366", "403", "403", "JOIN", "353", "366"])
        self.assertEqual(lines[3], f":chat.server 403 alice #in@valid :{NOT_A_CHANNEL}")

    def test_nothing_between_commas_is_no_channel(self) -> None:
        alice = self.join("alice")
        self.assertEqual(verbs(alice.say("JOIN ,#a,,")), ["JOIN", "353", "366"])
        self.assertEqual(verbs(alice.say("KICK #a ,", "NAMES ,", "PART ,#a")), ["366", "PART"])

    def test_joining_again_says_nothing(self) -> None:
        alice = self.join("alice", "#a")
        self.says(alice, "JOIN #A")

    def test_the_members_see_it_and_the_joiner_gets_topic_and_names(self) -> None:
        alice = self.join("alice", "#a")
        alice.say("TOPIC #a :plans")
        bob = self.join("bob")
        lines = bob.say("JOIN #A")
        self.assertEqual(verbs(lines), ["JOIN", "332", "333", "353", "366"])
        self.assertEqual(lines[0], ":bob!bob@chat JOIN #a")
        self.assertEqual(lines[1], ":chat.server 332 bob #a :plans")
        self.assertRegex(lines[2], r"^:chat.server 333 bob #a alice!alice@chat \d+$")
        self.assertEqual(lines[3], ":chat.server 353 bob = #a :@alice bob")
        self.hears(alice, "bob!bob@chat JOIN #a")

    def test_an_unlabeled_event_can_not_come_between_the_parts_of_a_labeled_join(self) -> None:
        alice = self.join("alice", caps="batch labeled-response")
        lines = alice.say("@label=1 JOIN #a")
        self.assertEqual(verbs([line.split(" ", 1)[1] for line in lines[:1]]), ["BATCH"])
        batch = lines[0].split("+")[1].split()[0]
        self.assertEqual(
            lines,
            [
                f"@label=1 :chat.server BATCH +{batch} labeled-response",
                f"@batch={batch} :alice!alice@chat JOIN #a",
                f"@batch={batch} :chat.server 353 alice = #a :@alice",
                f"@batch={batch} :chat.server 366 alice #a :End of NAMES list",
                f":chat.server BATCH -{batch}",
            ],
        )

    def test_who_joins_while_a_labeled_list_of_names_is_written_comes_behind_the_join(self) -> None:
        members = [self.join(f"member{number}", "#a") for number in range(3)]
        self.patch(running, "PAGE", 2)
        alice = self.join("alice", caps="batch labeled-response")
        bob = self.join("bob")
        self.irc.context.lists._spent = 1.0  # each page waits for a turn of the reactor
        alice.protocol.dataReceived(b"@label=1 JOIN #a\r\n")
        self.clock.advance(0)
        bob.protocol.dataReceived(b"JOIN #a\r\n")
        lines = alice.lines()
        at = lines.index(":bob!bob@chat JOIN #a")
        self.assertEqual(lines[1].split()[1:], [":alice!alice@chat", "JOIN", "#a"])
        self.assertLess(1, at)
        self.assertEqual(len(members), 3)

    def test_other_sessions_of_the_account_are_in_the_channel_too_and_leave_it_too(self) -> None:
        self.add_account("alice")
        phone, laptop = self.log_in("alice"), self.log_in("alice")
        phone.say("JOIN #a")
        self.assertEqual(verbs(laptop.lines()), ["JOIN", "353", "366"])
        laptop.say("PART #a :bye")
        self.hears(phone, "alice!alice@chat PART #a :bye")
        phone.say("JOIN #a")
        self.assertEqual(verbs(laptop.lines()), ["JOIN", "353", "366"])

    def test_a_session_that_ends_while_it_is_shown_a_channel_leaves_no_fault(self) -> None:
        self.add_account("alice")
        phone, laptop = self.log_in("alice"), self.log_in("alice")
        lists = WaitingLists()
        self.irc.context.lists = lists  # type: ignore[assignment]
        self.assertEqual(verbs(phone.say("JOIN #a")), ["JOIN"])
        self.assertEqual(verbs(laptop.lines()), ["JOIN"])
        laptop.gone()
        lists.turn.callback(None)
        self.assertEqual(verbs(phone.lines()), ["353", "366"])

    def test_a_list_of_names_that_has_waited_too_long_has_an_end(self) -> None:
        alice = self.join("alice")
        lists = WaitingLists()
        self.irc.context.lists = lists  # type: ignore[assignment]
        self.assertEqual(verbs(alice.say("JOIN #a")), ["JOIN"])
        lists.turn.errback(Unavailable("it has waited too long"))
        self.assertEqual(verbs(alice.lines()), ["366"])

    def test_join_0_leaves_all_channels(self) -> None:
        alice = self.join("alice", "#a", "&ALL", "#b")
        self.says(
            alice,
            "JOIN 0",
            "alice!alice@chat PART #a",
            "alice!alice@chat PART #b",
            "alice!alice@chat PART &ALL",
        )


class LeaveTests(RoomTestCase):
    def test_a_reason_is_told_and_a_channel_without_members_ends(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        alice.lines()
        self.says(alice, "PART #a :gone fishing", "alice!alice@chat PART #a :gone fishing")
        self.hears(bob, "alice!alice@chat PART #a :gone fishing", "chat.server MODE #a +o bob")
        self.says(bob, "PART #a", "bob!bob@chat PART #a")
        self.says(bob, "PART #a", "chat.server 403 bob #a :No such channel")

    def test_one_must_be_in_a_channel_to_leave_it(self) -> None:
        self.join("alice", "#a")
        bob = self.join("bob")
        self.says(
            bob,
            "PART #a,#none",
            "chat.server 442 bob #a :You're not on that channel",
            "chat.server 403 bob #none :No such channel",
        )

    def test_a_user_who_may_not_speak_can_leave_with_the_reason_of_their_client(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        alice.say("MODE #a +m")
        bob.lines()
        self.says(bob, "PART #a :WeeChat 4.1", "bob!bob@chat PART #a")

    def test_a_reason_forges_no_line(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        bob.lines()
        alice.feed(b"PART #a :x\r:bob NOTICE alice :forged\n")
        (line, _) = bob.lines()
        self.assertEqual(line, ":alice!alice@chat PART #a :x")


class KickTests(RoomTestCase):
    def test_several_are_kicked_and_the_reason_is_the_kickers_name_without_one(self) -> None:
        alice, bob, carol = (self.join(name, "#a") for name in ("alice", "bob", "carol"))
        alice.lines(), bob.lines()
        self.says(
            alice,
            "KICK #a bob,CAROL",
            "alice!alice@chat KICK #a bob :alice",
            "alice!alice@chat KICK #a carol :alice",
        )
        self.hears(bob, "alice!alice@chat KICK #a bob :alice")
        self.hears(
            carol, "alice!alice@chat KICK #a bob :alice", "alice!alice@chat KICK #a carol :alice"
        )
        bob.say("JOIN #a")
        alice.lines()
        self.says(
            alice,
            "KICK #a,#a bob,carol :loud",
            "alice!alice@chat KICK #a bob :loud",
            "chat.server 441 alice carol #a :They aren't on that channel",
        )

    def test_refusals(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        carol = self.join("carol")
        for client, line, number in (
            (bob, "KICK #a alice", "482"),
            (carol, "KICK #a alice", "442"),
            (carol, "KICK #none alice", "403"),
            (alice, "KICK #a carol", "441"),
            (alice, "KICK #a nobody", "401"),
            (alice, "KICK #a", "461"),
            (alice, "KICK &ALL bob", "482"),
        ):
            client.lines()
            self.assertEqual(verbs(client.say(line)), [number], line)


class TopicTests(RoomTestCase):
    def test_a_topic_is_set_shown_and_removed(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        alice.lines()
        self.says(alice, "TOPIC #a", "chat.server 331 alice #a :No topic is set")
        self.says(bob, "TOPIC #A :plans", "bob!bob@chat TOPIC #a :plans")
        self.hears(alice, "bob!bob@chat TOPIC #a :plans")
        self.assertEqual(verbs(self.join("carol").say("TOPIC #a")), ["332", "333"])
        self.says(alice, "TOPIC #a :", "alice!alice@chat TOPIC #a :")
        self.assertEqual(verbs(self.join("dave").say("JOIN #a")), ["JOIN", "353", "366"])

    def test_refusals(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob", "#a")
        alice.say("MODE #a +t")
        for client, line, number in (
            (bob, "TOPIC #a :x", "482"),
            (self.join("carol"), "TOPIC #a :x", "442"),
            (bob, "TOPIC #none", "403"),
            (bob, "TOPIC", "461"),
            (bob, "TOPIC &ALL :x", "482"),
            (alice, "TOPIC #a :" + "x" * 401, "417"),
        ):
            client.lines()
            self.assertEqual(verbs(client.say(line)), [number], line)

    def test_a_text_of_another_door_passes_no_control_sequence_to_a_terminal(self) -> None:
        alice, dora = self.join("alice", "#a"), self.user("dora")
        dora.ask("JOIN #a\n\n")
        alice.lines()
        dora.ask("TOPIC #a\nContent-length: 8\n\n\x1b[2Jx\x01\x9c")
        dora.ask("LEAVE #a\nContent-length: 5\n\n\x1b[2Jx")
        self.hears(alice, "dora!dora@chat TOPIC #a :␛[2Jx␁�", "dora!dora@chat PART #a :␛[2Jx")
        for line in ("TOPIC #a", "LIST"):
            self.assertIn("␛[2Jx␁�", " ".join(alice.say(line)))


class InviteTests(RoomTestCase):
    def test_an_invited_user_is_told_and_may_join_a_channel_for_invited_users(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob")
        watching = self.join("watching", "#a", caps="invite-notify")
        alice.say("MODE #a +i")
        watching.lines()
        self.says(bob, "JOIN #a", "chat.server 473 bob #a :Cannot join channel (+i)")
        self.says(alice, "INVITE BOB #A", "chat.server 341 alice bob #a")
        self.hears(bob, "alice!alice@chat INVITE bob #a")
        self.hears(watching, "alice!alice@chat INVITE bob #a")
        self.says(
            bob, "INVITE", "chat.server 336 bob #a", "chat.server 337 bob :End of INVITE list"
        )
        self.assertEqual(verbs(bob.say("JOIN #a")), ["JOIN", "353", "366"])
        self.says(bob, "INVITE", "chat.server 337 bob :End of INVITE list")

    def test_the_inviter_sees_that_the_invited_user_is_away(self) -> None:
        alice, bob = self.join("alice", "#a"), self.join("bob")
        bob.say("AWAY :lunch")
        self.assertEqual(verbs(alice.say("INVITE bob #a")), ["341", "301"])

    def test_refusals(self) -> None:
        alice, bob, carol = self.join("alice", "#a"), self.join("bob", "#a"), self.join("carol")
        alice.say("MODE #a +i")
        for client, line, text in (
            (bob, "INVITE carol #a", "482 bob #a :You're not channel operator"),
            (carol, "INVITE carol #a", "442 carol #a :You're not on that channel"),
            (carol, "INVITE bob #none", "403 carol #none :No such channel"),
            (alice, "INVITE bob #a", "443 alice bob #a :is already on channel"),
            (alice, "INVITE nobody #a", "401 alice nobody :No such nick"),
            (alice, "INVITE carol", "461 alice INVITE :Not enough parameters"),
        ):
            client.lines()
            self.says(client, line, f"chat.server {text}")
        self.hears(carol)


class TagTests(RoomTestCase):
    def test_what_an_account_does_has_its_name_for_clients_that_want_it(self) -> None:
        self.add_account("alice")
        bob, alice = self.join("bob", caps="account-tag"), self.log_in("alice")
        alice.say("JOIN #a", "INVITE bob #a")
        self.assertEqual(bob.lines(), ["@account=alice :alice!alice@chat INVITE bob #a"])
        bob.say("JOIN #a")
        alice.say("TOPIC #a :x", "KICK #a bob :y")
        self.assertEqual(
            bob.lines(),
            [
                "@account=alice :alice!alice@chat TOPIC #a :x",
                "@account=alice :alice!alice@chat KICK #a bob :y",
            ],
        )


class HiddenTests(RoomTestCase):
    def test_an_outsider_can_not_tell_a_hidden_channel_from_one_that_does_not_exist(self) -> None:
        for number, mode in enumerate("sp"):
            room = f"#room{number}"
            member, outsider = self.join(f"member{number}", room), self.join(f"outsider{number}")
            member.say(f"MODE {room} +{mode}")
            for line in (
                "LIST {}",
                "LIST",
                "NAMES {}",
                "MODE {}",
                "MODE {} b",
                "MODE {} +o member",
                "TOPIC {}",
                "TOPIC {} :x",
                "INVITE member {}",
                "KICK {} member",
                "PART {}",
            ):
                with self.subTest(mode=mode, line=line):
                    hidden = outsider.say(line.format(room))
                    none = outsider.say(line.format("#none0"))
                    self.assertEqual([found.replace(room, "#none0") for found in hidden], none)
            self.assertIn(
                f":chat.server 322 {member} {room} 1 :".replace(str(member), f"member{number}"),
                member.say("LIST"),
            )
            (names, _) = member.say(f"NAMES {room}")
            self.assertEqual(names, f":chat.server 353 member{number} @ {room} :@member{number}")


class NamesTests(RoomTestCase):
    def test_several_channels_have_one_end_and_unknown_ones_only_that(self) -> None:
        alice = self.join("alice", "#a", "#b")
        self.says(
            alice,
            "NAMES #a,#b,#none",
            "chat.server 353 alice = #a :@alice",
            "chat.server 353 alice = #b :@alice",
            "chat.server 366 alice #a,#b,#none :End of NAMES list",
        )
        self.says(alice, "NAMES", "chat.server 366 alice * :End of NAMES list")

    def test_only_present_members_are_named_and_ranks_and_hosts_are_shown(self) -> None:
        alice = self.join("alice", "#a")
        bob = self.user("bob")
        bob.ask("JOIN #a\n\n")
        bob.gone()
        self.clock.advance(1)
        carol = self.join("carol", "#a", caps="userhost-in-names")
        alice.say("MODE #a +v carol")
        (names, _) = carol.say("NAMES #a")[-2:]
        self.assertTrue(names.endswith(" #a :@alice!alice@chat +carol!carol@chat"), names)

    def test_many_names_take_several_lines_that_fit(self) -> None:
        expected = ["@alice"]
        alice = self.join("alice", "#" + "r" * 32)
        for number in range(30):
            name = f"{number:02}" + "n" * 30
            self.join(name, "#" + "r" * 32)
            expected.append(name)
        self.patch(running, "PAGE", 7)
        alice.lines()
        *lines, end = alice.say("NAMES #" + "r" * 32)
        self.assertIn(" 366 ", end)
        found: list[str] = []
        for line in lines:
            self.assertLessEqual(len(line), 510)
            found += line.split(" :")[1].split(" ")
        self.assertCountEqual(found, expected)


class ListTests(RoomTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("alice", "#one", "#two")
        self.bob = self.join("bob", "#two")
        self.alice.say("TOPIC #one :first")

    def names(self, line: str) -> list[str]:
        lines = self.bob.say(line)
        self.assertEqual(verbs(lines[:1] + lines[-1:]), ["321", "323"])
        return [line.split()[3] for line in lines[1:-1]]

    def test_channels_have_the_number_of_present_members_and_a_topic(self) -> None:
        self.says(
            self.bob,
            "LIST",
            "chat.server 321 bob Channel :Users  Name",
            "chat.server 322 bob #one 1 :first",
            "chat.server 322 bob #two 2 :",
            "chat.server 322 bob &ALL 2 :Everybody on this server",
            "chat.server 323 bob :End of LIST",
        )

    def test_names_masks_and_numbers_select(self) -> None:
        for words, names in (
            ("#TWO", ["#two"]),
            ("#two,#none,&all", ["#two", "&ALL"]),
            (">1", ["#two", "&ALL"]),
            ("<2", ["#one"]),
            ("*O*", ["#one", "#two"]),
            ("!*o*", ["&ALL"]),
            ("#tw?", ["#two"]),
            ("#*,>1", ["#two"]),
            ("[x]*", []),
        ):
            self.assertEqual(self.names(f"LIST {words}"), names, words)

    def test_the_times_of_channels_and_topics_select(self) -> None:
        self.clock.advance(90)
        self.alice.say("JOIN #three")
        self.alice.say("TOPIC #three :third")
        self.clock.advance(30)
        for words, names in (
            ("C>1", ["#one", "#two", "&ALL"]),
            ("c<1", ["#three"]),
            ("C<3", ["#one", "#three", "#two", "&ALL"]),
            ("T>1", ["#one"]),
            ("T<1", ["#three"]),
            ("t>0", ["#one", "#three"]),
            ("T<0", []),
        ):
            self.assertEqual(self.names(f"LIST {words}"), names, words)
