"""Events as plain text: whole lines."""

from __future__ import annotations

import math
from dataclasses import replace

from twisted.trial.unittest import TestCase

from chat_twisted.text import MAX_LINES
from chat_twisted.ui.commands import Command, Mistake, Say
from chat_twisted.ui.help import help_text
from chat_twisted.ui.values import Event, Received, Refusal, Room, Seen, State
from chat_twisted.ui.wording import Wording, describe_kept


def message(text: str, to: str = "alice", sender: str = "bob") -> Received:
    return Received(1, "2026-11-23T10:00:59.123Z", sender, to, text)


class WordsTestCase(TestCase):
    def setUp(self) -> None:
        self.words = Wording("alice")


class InputTests(WordsTestCase):
    def test_a_line_is_an_order_without_a_mark(self) -> None:
        self.assertEqual(self.words.parse("@bob: x"), (Say("bob", "x"), None))
        self.assertEqual(self.words.parse(" "), (None, None))
        self.assertIsInstance(self.words.parse("hello")[0], Mistake)


class OwnTests(WordsTestCase):
    def test_what_became_of_a_message_is_a_line(self) -> None:
        words = self.words
        self.assertEqual(words.sent(None, "#dev", 1, "t"), "Message delivered to #dev")
        self.assertEqual(words.accepted(None, "bob", 1, "t"), "")
        self.assertEqual(words.delivered(None, "bob"), "Message delivered to bob")
        self.assertEqual(words.overdue(None, "bob"), "Message sent to bob, not yet delivered")
        self.assertEqual(
            words.unanswered(None, "bob"), "Server Inactive : Message not delivered to bob"
        )

    def test_a_refusal_has_the_words_of_the_original_client_where_it_had_some(self) -> None:
        for code, reason, words in (
            (102, "Unable to send", "Unable to Send"),
            (103, "Header Incomplete", "Incomplete Header"),
            (109, "Too fast", "Too fast"),
        ):
            self.assertEqual(
                self.words.not_sent(None, "bob", Refusal(code, reason)),
                f"ERROR {code} : {words} : Message not delivered to bob",
            )

    def test_a_refused_command_is_named_with_what_it_was_about(self) -> None:
        refusal = Refusal(111, "Not permitted")
        self.assertEqual(
            self.words.refused(None, Command("/kick", "bob", None, "#dev"), "#dev", refusal),
            "ERROR 111 : Not permitted : /kick #dev",
        )
        self.assertEqual(
            self.words.refused(None, Command("/bans"), "", refusal),
            "ERROR 111 : Not permitted : /bans",
        )

    def test_what_was_asked_and_is_done_is_said(self) -> None:
        for command, what, said in (
            (Command("/register"), "register", "alice is yours from now on"),
            (Command("/unregister"), "unregister", "alice has no account any more"),
            (Command("/password"), "password", "The password is set"),
            (Command("/keys", "add", "f"), "add", "The key is added"),
            (Command("/keys", "remove", "k"), "remove", "The key is removed"),
            (Command("/away"), "away", "You are away"),
            (Command("/back"), "here", "You are back"),
            (Command("/unban", "bob"), "bob", "Done: /unban bob"),
            (
                Command("/account", "unregister", "erase"),
                "unregister",
                "alice has no account any more; its messages are deleted",
            ),
        ):
            self.assertEqual(self.words.changed(None, command, what, []), said)

    def test_keys_are_listed_a_line_each(self) -> None:
        keys = self.words.changed(None, Command("/keys"), "keys", ["ssh-ed25519 A x", "k"])
        self.assertEqual(keys, "ssh-ed25519 A x\nk")
        self.assertEqual(self.words.changed(None, Command("/keys"), "keys", []), "No keys")

    def test_lists(self) -> None:
        alice, bob = Seen("alice", State.HERE), Seen("Bob", State.AWAY)
        carol = Seen("Carol", State.AWAY, "at lunch")
        for command, to, found, said in (
            (Command("/who"), "", [alice, bob, carol], ""),
            (Command("/who", "#x"), "#x", [alice], "1 in #x: alice"),
            (
                Command("/who", "#x"),
                "#x",
                [
                    Seen("a", State.HERE, "", "operator"),
                    Seen("b", State.AWAY, "", "voice"),
                    Seen("c", State.AWAY, "at lunch", "operator"),
                ],
                "3 in #x: a (operator) b (voice, away) c (operator, away: at lunch)",
            ),
            (
                Command("/rooms"),
                "",
                [Room("#a", 1, False, False), Room("#b", 12, True, True)],
                "#a, 1 member\n#b, 12 members, you are in it, private",
            ),
            (Command("/rooms"), "", [], "No rooms"),
            (Command("/bans"), "", ["bob ban ever alice", "x"], "bob ban ever alice\nx"),
            (Command("/bans"), "", [], "Nobody is banned or muted"),
        ):
            said = said or "3 here: alice Bob (away) Carol (away: at lunch)"
            self.assertEqual(self.words.listed(None, command, to, found), said)

    def test_what_was_found_has_its_time_and_place_in_every_line(self) -> None:
        at = "2026-11-23 10:00"
        self.assertEqual(
            self.words.found(
                None, Command("/history"), [message("a\nb"), message("c", "#dev", "alice")]
            ),
            f"{at} bob to alice: a\n{at} bob to alice: b\n{at} alice to #dev: c",
        )
        self.assertEqual(self.words.found(None, Command("/search"), []), "Nothing found")

    def test_help_and_mistakes(self) -> None:
        self.assertEqual(self.words.help(None, "rooms"), help_text("rooms"))
        self.assertEqual(self.words.mistake(None, "one\ntwo"), "one\ntwo")


class EventTests(WordsTestCase):
    def test_who_said_it_and_to_whom_is_before_every_line(self) -> None:
        self.assertEqual(self.words.received(message("x", "ALICE")), "bob: x")
        self.assertEqual(
            self.words.received(message("one\r\ncarol: two\n\nfour\n", "ALL")),
            "bob to ALL: one\nbob to ALL: carol: two\nbob to ALL: \nbob to ALL: four",
        )

    def test_only_a_line_end_ends_a_line(self) -> None:
        for text in ("a\x1b\x85\u2028b", "a\n\x85\x0b\u2028b", "\r\n\r\n", "\n"):
            for line in self.words.received(message(text)).split("\n"):
                self.assertTrue(line.startswith("bob: "), line)

    def test_a_text_of_very_many_lines_has_no_more_than_can_be_kept(self) -> None:
        said = self.words.received(message("\n" * 300_000))
        self.assertEqual(said.count("bob: "), MAX_LINES)
        self.assertEqual(said.count("\n"), MAX_LINES - 1, "no line is without its sender")
        self.assertEqual(said.count("␊"), 300_000 - MAX_LINES)

    def test_what_happens_in_rooms(self) -> None:
        for event, said in (
            (Event("JOINED", "#dev", "bob", "", None), "bob joined #dev"),
            (Event("JOINED", "#dev", "alice", "", "plans"), "alice joined #dev (plans)"),
            (Event("LEFT", "#dev", "bob", "", None), "bob left #dev"),
            (
                Event("JOINED", "#dev", "alice", "", "plans", modes=("private", "moderated")),
                "alice joined #dev (plans) [private, moderated]",
            ),
            (Event("LEFT", "#dev", "bob", "", None, reason="late"), "bob left #dev: late"),
            (
                Event("LEFT", "#dev", "bob", "carol", None, reason="loud"),
                "bob was removed from #dev by carol: loud",
            ),
            (Event("LEFT", "#dev", "bob", "carol", None), "bob was removed from #dev by carol"),
            (
                Event("INVITED", "#dev", "ALICE", "bob", None),
                "bob invites you to #dev (/join #dev)",
            ),
            (Event("INVITED", "#dev", "bob", "alice", None), "bob is invited to #dev"),
            (Event("TOPIC", "#dev", "bob", "", "a b"), "bob set the topic of #dev: a b"),
            (Event("TOPIC", "#dev", "bob", "", ""), "bob set the topic of #dev: "),
            (Event("TOPIC", "#dev", "", "", "plans"), "#dev: plans"),
            (Event("TOPIC", "#dev", "", "", ""), "#dev: no topic"),
        ):
            self.assertEqual(self.words.told(None, event), said)

    def test_ranks_modes_and_bans_of_rooms(self) -> None:
        for event, said in (
            (
                Event("RANK", "#dev", "bob", "alice", None, rank="operator"),
                "alice made bob an operator of #dev",
            ),
            (
                Event("RANK", "#dev", "bob", "alice", None, rank="voice"),
                "alice gave bob a voice in #dev",
            ),
            (
                Event("RANK", "#dev", "bob", "alice", None, rank="none"),
                "alice ended the rank of bob in #dev",
            ),
            (
                Event("RANK", "#dev", "bob", "", None, rank="operator"),
                "bob is an operator of #dev now",
            ),
            (
                Event("RANK", "#dev", "bob", "alice", None, rank="keeper"),
                "alice made bob keeper in #dev",
            ),
            (
                Event("MODE", "#dev", "", "bob", None, mode="private", on=True),
                "bob made #dev private: only invited users can join",
            ),
            (
                Event("MODE", "#dev", "", "bob", None, mode="moderated", on=False),
                "bob ended the moderation of #dev: all members can speak",
            ),
            (
                Event("MODE", "#dev", "", "bob", None, mode="topic", on=True),
                "bob locked the topic of #dev: only operators can set it",
            ),
            (
                Event("MODE", "#dev", "", "", None, mode="quiet", on=True),
                "The server set mode quiet of #dev on",
            ),
            (Event("MODE", "#dev", "", "", None, modes=("topic",)), "#dev: topic"),
            (Event("MODE", "#dev", "", "", None), "#dev: no modes"),
            (
                Event("BAN", "#dev", "bob", "carol", None, reason="spam"),
                "carol banned bob from #dev: spam",
            ),
            (
                Event("UNBAN", "#dev", "bob", "carol", None),
                "carol ended the ban of bob from #dev",
            ),
        ):
            self.assertEqual(self.words.told(None, event), said)

    def test_names_and_messages(self) -> None:
        def about(verb: str, conversation: str) -> Event:
            return Event(verb, "", "", "bob", None, conversation=conversation, number=42)

        for event, said in (
            (Event("RENAMED", "", "bob", "", None, new_name="bobby"), "bob is bobby now"),
            (Event("RENAMED", "", "al", "", None, new_name="alice"), "You are alice now"),
            (about("DELETED", "bob"), "bob deleted message 42"),
            (about("DELETED", "#dev"), "bob deleted message 42 in #dev"),
            (about("DELETED", "ALL"), "bob deleted message 42 in ALL"),
            (
                replace(about("DELETED", "#dev"), reason="spam"),
                "bob deleted message 42 in #dev: spam",
            ),
            (about("READ", "#dev"), ""),
        ):
            self.assertEqual(self.words.told(None, event), said)

    def test_who_comes_and_goes_is_not_said_in_a_pipe(self) -> None:
        self.assertEqual(self.words.seen([Seen("bob", State.GONE)]), "")

    def test_a_deleted_message_has_no_text(self) -> None:
        deleted = Received(1, "2026-11-23T10:00:59.123Z", "bob", "#dev", "", True)
        self.assertEqual(self.words.received(deleted), "bob to #dev: (deleted)")

    def test_a_message_to_an_earlier_name_is_direct(self) -> None:
        self.assertEqual(self.words.received(message("x", "al")), "bob: x")
        self.assertEqual(self.words.received(message("x", "bob", "alice")), "alice to bob: x")

    def test_for_how_long_messages_are_kept_is_said(self) -> None:
        for seconds, said in (
            (None, []),
            (0, ["Messages are not kept."]),
            (math.inf, ["Messages are kept for ever."]),
            (30 * 86400, ["Messages are kept for 30 days."]),
            (86400, ["Messages are kept for 1 day."]),
            (36 * 3600, ["Messages are kept for 36 hours."]),
            (5400, ["Messages are kept for 90 minutes."]),
            (61, ["Messages are kept for 61 seconds."]),
        ):
            self.assertEqual(describe_kept(seconds), said)
            self.assertEqual(self.words.greeting("alice", seconds).split("\n")[1:], said)

    def test_the_connection(self) -> None:
        self.assertEqual(
            self.words.greeting("alice", None),
            "alice : REGISTERED (/help tells what can be typed)",
        )
        self.assertEqual(self.words.noticed("one\ntwo\n"), "one\ntwo")
        self.assertEqual(self.words.disconnected("x"), "Connection lost, trying again")
        self.assertEqual(self.words.reconnected(""), "Connected again")
        self.assertEqual(self.words.reconnected("b:1"), "Connected again, to b:1")
        self.assertIn("lost the last messages", self.words.went_back())
        self.assertEqual(self.words.over(""), "Server Inactive")
        self.assertEqual(self.words.over("stopping"), "Server Inactive : stopping")
