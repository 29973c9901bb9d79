"""MODE on the IRC door: modes, ranks and bans of channels, and the modes of the user."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.core.commands import CONSOLE, SetOperator
from chat_twisted.doors.irc.commands.modes import Change, changes_of, name_in
from tests.test_irc_rooms import RoomTestCase, verbs


class ParserTests(TestCase):
    def test_letters_take_the_parameters_that_belong_to_them(self) -> None:
        for words, expected in (
            (["+mo-v", "alice", "bob"], [("+", "m", None), ("+", "o", "alice"), ("-", "v", "bob")]),
            (["b"], [("+", "b", None)]),
            (["e"], [("+", "e", None)]),
            (["+klo", "key", "9", "bob"], [("+", "k", "key"), ("+", "l", "9"), ("+", "o", "bob")]),
            (["-lo", "bob"], [("-", "l", None), ("-", "o", "bob")]),
            (["+o", "a", "-o", "b"], [("+", "o", "a"), ("-", "o", "b")]),
            (["+", "-"], []),
        ):
            found = list(changes_of(words))
            self.assertEqual(found, [Change(*change) for change in expected])

    def test_a_mask_means_a_name_or_nothing(self) -> None:
        for mask in (
            "alice",
            "alice!*@*",
            "alice!alice@chat",
            "alice!~alice@*",
            "alice@chat",
            "*!alice@*",
            "*!*alice@chat",
            "$a:alice",
        ):
            self.assertEqual(name_in(mask), "alice", mask)
        for mask in ("*!*@*", "*", "*!*@chat", "al*!*@*", "alice!*@192.0.2.1", "a!b@*", "$r:a", ""):
            self.assertIsNone(name_in(mask), mask)


class ModeTests(RoomTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("alice", "#dev")
        self.bob = self.join("bob", "#dev")
        self.alice.lines()

    def test_a_channel_has_modes_and_the_time_when_it_was_made(self) -> None:
        lines = self.bob.say("MODE #DEV")
        self.assertEqual(lines[0], ":chat.server 324 bob #dev +n")
        self.assertRegex(lines[1], r"^:chat.server 329 bob #dev \d+$")
        self.alice.say("MODE #dev +tims")
        self.assertEqual(self.bob.say("MODE #dev")[-2], ":chat.server 324 bob #dev +imnst")
        self.says(
            self.bob, "MODE &ALL", "chat.server 324 bob &ALL +nt", "chat.server 329 bob &ALL 0"
        )

    def test_only_changes_that_happened_are_told(self) -> None:
        self.says(
            self.alice,
            "MODE #dev +mtn-s",
            "alice!alice@chat MODE #dev +m",
            "alice!alice@chat MODE #dev +t",
        )
        self.hears(self.bob, "alice!alice@chat MODE #dev +m", "alice!alice@chat MODE #dev +t")
        self.says(self.alice, "MODE #dev +m-v bob")
        self.hears(self.bob)

    def test_a_labeled_change_of_several_is_one_batch(self) -> None:
        carol = self.join("carol", "#own", caps="batch labeled-response")
        lines = carol.say("@label=x MODE #own +mt")
        self.assertEqual([line.split()[2] for line in lines[:-1]], ["BATCH", "MODE", "MODE"])
        self.assertEqual(carol.say("@label=y MODE #own +m"), ["@label=y :chat.server ACK"])

    def test_a_private_room_of_another_door_is_p(self) -> None:
        dora = self.user("dora")
        dora.ask("JOIN #den\nPrivate: yes\n\n")
        dora.ask("INVITE #den\nUser: bob\n\n")
        self.bob.say("JOIN #den")
        self.assertEqual(self.bob.say("MODE #den")[0], ":chat.server 324 bob #den +np")

    def test_unknown_modes_are_named_and_lists_that_clients_ask_for_are_passed_over(self) -> None:
        self.says(
            self.alice,
            "MODE #dev +xzx",
            "chat.server 472 alice x :is unknown mode char to me",
            "chat.server 472 alice z :is unknown mode char to me",
        )
        for words in ("e", "+I", "+n", "-k key", "-l"):
            self.says(self.alice, f"MODE #dev {words}")
        self.says(
            self.alice,
            "MODE #dev -n",
            "chat.server 696 alice #dev n * :Only members can send to channels here",
        )

    def test_keys_and_limits_are_refused_with_the_reason(self) -> None:
        self.says(
            self.alice,
            "MODE #dev +kl secret 9",
            "chat.server 696 alice #dev k * :Channels have no keys here: "
            "+i lets only invited users join",
            "chat.server 696 alice #dev l * :Channels have no limit of members here",
        )

    def test_refusals_come_once(self) -> None:
        carol = self.join("carol", "#other")
        for client, line, text in (
            (self.bob, "MODE #dev +mo bob", "482 bob #dev :You're not channel operator"),
            (carol, "MODE #dev +o bob", "442 carol #dev :You're not on that channel"),
            (carol, "MODE #none +o bob", "403 carol #none :No such channel"),
            (carol, "MODE &none", "403 carol &none :No such channel"),
            (carol, "MODE &ALL +m", "482 carol &ALL :You're not channel operator"),
            (self.alice, "MODE #dev +o carol", "441 alice carol #dev :They aren't on that channel"),
            (self.alice, "MODE #dev +o nobody", "401 alice nobody :No such nick"),
            (self.alice, "MODE #dev +o", "696 alice #dev o * :A name is missing"),
            (self.alice, "MODE", "461 alice MODE :Not enough parameters"),
        ):
            client.lines()
            self.says(client, line, f"chat.server {text}")


class RankTests(RoomTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("alice", "#dev")
        self.bob = self.join("bob", "#dev")
        self.alice.lines()

    def changes(self, line: str, *expected: str) -> None:
        """Check what both members see."""
        text = [f":alice!alice@chat MODE #dev {change}" for change in expected]
        self.assertEqual(self.alice.say(line), text)
        self.assertEqual(self.bob.lines(), text)

    def test_a_rank_is_given_and_taken(self) -> None:
        self.changes("MODE #dev +v BOB", "+v bob")
        self.changes("MODE #dev +o bob", "-v+o bob bob")
        self.changes("MODE #dev -o bob", "-o bob")
        self.changes("MODE #dev +vv bob alice", "+v bob")
        self.changes("MODE #dev -v bob", "-v bob")

    def test_an_operator_needs_no_voice_and_only_the_rank_that_one_has_can_be_taken(self) -> None:
        self.changes("MODE #dev +o bob", "+o bob")
        self.changes("MODE #dev +v bob")
        self.changes("MODE #dev -v bob")
        self.changes("MODE #dev -o bob", "-o bob")
        self.changes("MODE #dev -o bob")

    def test_the_last_operator_keeps_that_rank(self) -> None:
        self.says(
            self.alice,
            "MODE #dev -o alice",
            "chat.server 482 alice #dev :The channel would have no operator",
        )

    def test_a_heir_with_a_voice_becomes_operator(self) -> None:
        self.changes("MODE #dev +v bob", "+v bob")
        self.alice.say("PART #dev")
        self.hears(self.bob, "alice!alice@chat PART #dev", "chat.server MODE #dev -v+o bob bob")

    def test_the_rank_of_a_member_who_comes_back_is_told(self) -> None:
        self.add_account("dora")
        dora = self.log_in("dora")
        dora.say("JOIN #dev")
        self.alice.say("MODE #dev +o dora")
        dora.say("QUIT :later")
        self.bob.lines()
        self.log_in("dora")
        self.hears(self.bob, "dora!dora@chat JOIN #dev", "chat.server MODE #dev +o dora")


class BanTests(RoomTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join("alice", "#dev")

    def test_a_banned_name_can_not_join_in_whatever_case(self) -> None:
        self.says(self.alice, "MODE #dev +b BOB!*@*", "alice!alice@chat MODE #dev +b bob!*@*")
        bob = self.join("Bob")
        self.says(bob, "JOIN #dev", "chat.server 474 Bob #dev :Cannot join channel (+b)")
        self.says(self.alice, "MODE #dev +b bob")
        self.says(self.alice, "MODE #dev -b $a:bob", "alice!alice@chat MODE #dev -b bob!*@*")
        self.says(self.alice, "MODE #dev -b bob")
        self.assertEqual(verbs(bob.say("JOIN #dev"))[0], "JOIN")

    def test_members_can_list_the_bans(self) -> None:
        bob, carol = self.join("bob", "#dev"), self.join("carol")
        self.alice.say("MODE #dev +bb mallory eve!*@*")
        bob.lines()
        for line in ("MODE #dev b", "MODE #dev +b"):
            *bans, end = bob.say(line)
            self.assertEqual(
                [ban.rpartition(" ")[0] for ban in bans],
                [
                    f":chat.server 367 bob #dev {name}!*@* alice!alice@chat"
                    for name in ("eve", "mallory")
                ],
            )
            self.assertEqual(end, ":chat.server 368 bob #dev :End of channel ban list")
        self.assertEqual(verbs(carol.say("MODE #dev b")), ["442"])
        self.assertEqual(verbs(carol.say("MODE &ALL b")), ["368"])

    def test_the_mask_of_an_account_bans_only_an_account(self) -> None:
        self.add_account("dora")
        self.says(self.alice, "MODE #dev +b $a:Dora", "alice!alice@chat MODE #dev +b dora!*@*")
        self.join("bob")
        for name in ("bob", "nobody"):
            self.says(
                self.alice,
                f"MODE #dev +b $a:{name}",
                f"chat.server 696 alice #dev b $a:{name} :There is no account of this name",
            )

    def test_a_mask_that_means_no_name_is_refused_with_the_reason(self) -> None:
        text = "Only names can be banned: alice, alice!*@*"
        for sign in "+-":
            self.says(
                self.alice,
                f"MODE #dev {sign}b *!*@*.example",
                f"chat.server 696 alice #dev b *!*@*.example :{text}",
            )


class UserModeTests(RoomTestCase):
    def test_a_bot_says_so_and_another_client_can_not_change_that(self) -> None:
        bot, bob = self.join("helper"), self.join("bob")
        self.says(bot, "MODE helper", "chat.server 221 helper +")
        self.says(bot, "MODE HELPER +iB", "helper!helper@chat MODE helper +B")
        self.says(bot, "MODE helper +B")
        self.says(bot, "MODE helper", "chat.server 221 helper +B")
        self.says(
            bob, "MODE helper", "chat.server 502 bob :You can't see or change the modes of others"
        )
        self.says(bob, "MODE nobody", "chat.server 401 bob nobody :No such nick")
        self.says(bob, "MODE bob +iwsxQ", "chat.server 501 bob :Unknown mode")
        self.says(bot, "MODE helper -B", "helper!helper@chat MODE helper -B")

    def test_each_change_counts_as_a_command(self) -> None:
        bot, spent = self.join("helper"), []
        self.patch(self.hub.usage, "spend", spent.append)
        bot.say("MODE helper +B-B+B")
        self.assertEqual(len(spent), 3)

    def test_an_operator_of_the_server_has_o(self) -> None:
        self.add_account("alice")
        alice = self.log_in("alice")
        self.hub.ask(SetOperator(CONSOLE, 0, "alice", True))
        self.commit()
        self.says(alice, "MODE alice", "chat.server 221 alice +o")
        self.says(alice, "MODE alice -o")
        self.says(alice, "MODE alice", "chat.server 221 alice +o")
