"""Refusals as sentences."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.trial.unittest import TestCase

from chat_twisted.auth import passwords
from chat_twisted.core import names, room_rules, sanctions
from chat_twisted.core.errors import MalformedName
from chat_twisted.core.message import check_user_name
from chat_twisted.doors import reading
from chat_twisted.refusals import REFUSALS
from chat_twisted.ui import sentences
from chat_twisted.ui.commands import COMMANDS, Command, Reading, Say
from chat_twisted.ui.sentences import explain, explain_login, name_rule, other_name
from chat_twisted.ui.values import Refusal

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))


class Known:
    def names(self) -> list[str]:
        return ["bob", "fred"]

    def rooms(self) -> list[str]:
        return ["#dev", "#ops"]


def said(
    code: int,
    asked: Say | Command,
    *,
    until: str = "",
    why: str = "",
    by: str = "",
    member: bool | None = None,
) -> str:
    refusal = Refusal(code, "Not permitted", until, why, by)
    return explain(refusal, asked, known=Known(), member=member, max_message=65536, now=lambda: NOW)


class NameTests(TestCase):
    def test_the_broken_rule_is_named(self) -> None:
        for name, rule in (
            ("all", "ALL means everybody; nobody can have that name"),
            ("", "A name has at least one character"),
            ("x" * 40, "A name has at most 32 characters; this one has 40"),
            ("_bob", "A name begins with a letter or a digit, not with _"),
            ("jürgen", "A name has only letters (a to z), digits, _ and -; not ü"),
            ("a b", "A name has only letters (a to z), digits, _ and -; not U+0020"),
            ("a\x1b", "A name has only letters (a to z), digits, _ and -; not U+001B"),
        ):
            self.assertEqual(name_rule(name), rule)
            self.assertRaises(MalformedName, check_user_name, name)
        for name in ("bob", "Bob_the-2nd", "7", "x" * 32):
            self.assertEqual(name_rule(name), "")

    def test_another_name_is_like_it_and_not_known_to_be_taken(self) -> None:
        self.assertEqual(other_name("alice"), "alice_")
        self.assertEqual(other_name("alice", ["Alice_", "alice2"]), "alice3")
        self.assertEqual(other_name("x" * 32, ["x" * 31 + "_"]), "x" * 31 + "2")
        taken = ["a_", *(f"a{number}" for number in range(2, 1000))]
        self.assertEqual(other_name("a", taken), "a1000")


class LoginTests(TestCase):
    def login(self, code: int, **more: str) -> str:
        return explain_login(Refusal(code, "No", **more), "alice", ["alice_"], lambda: NOW)

    def test_a_name_in_use_is_taken_or_kept_and_another_one_is_offered(self) -> None:
        self.assertEqual(self.login(105), "alice is taken; alice2 may be free")
        self.assertEqual(
            self.login(105, until="2026-11-27T11:30:00.000Z"),
            "alice is kept until 12:30 for a guest who has left; alice2 may be free",
        )

    def test_a_ban_says_by_whom_until_when_and_why(self) -> None:
        self.assertEqual(
            self.login(111, until="2026-11-28T08:00:00.000Z", by="carol", why="spam"),
            "alice is banned here by carol until tomorrow 09:00: spam",
        )
        self.assertEqual(self.login(111, until="ever"), "alice is banned here for ever")

    def test_every_code_has_a_sentence(self) -> None:
        for refusal in REFUSALS.values():
            self.assertNotIn("  ", self.login(refusal.code))
        self.assertIn("--plain", self.login(113))
        self.assertIn("999 No", self.login(999))
        self.assertIn("key or password", self.login(106))


class MuteTests(TestCase):
    def test_a_mute_says_by_whom_until_when_and_why(self) -> None:
        for until, text in (
            ("2026-11-27T13:30:00.000Z", "You are muted by carol until 14:30: too many links"),
            (
                "2026-12-24T13:30:00.000Z",
                "You are muted by carol until 2026-12-24 14:30: too many links",
            ),
            ("ever", "You are muted by carol for ever: too many links"),
            ("soon", "You are muted by carol: too many links"),
            ("9999-12-31T23:59:59.999Z", "You are muted by carol: too many links"),
        ):
            given = said(111, Say("ALL", "x"), until=until, by="carol", why="too many links")
            self.assertEqual(given, text)
        for asked in (Command("/topic", "#dev", "x"), Command("/join", "dev"), Say("#dev", "x")):
            either = "You are muted, or banned from #dev, for ever"
            self.assertEqual(said(111, asked, until="ever"), either)
        self.assertIn("bobby is banned", said(111, Command("/nick", "bobby"), until="ever"))


class OtherNameTests(TestCase):
    def test_a_name_that_is_offered_is_valid(self) -> None:
        for name, other in (
            ("b@d", "bd_"),
            ("_al", "al_"),
            ("\u00e9", "guest_"),
            ("x" * 40, "x" * 31 + "_"),
        ):
            self.assertEqual(other_name(name), other)


class MessageTests(TestCase):
    def test_an_unknown_recipient_may_be_a_mistyped_one(self) -> None:
        self.assertEqual(said(102, Say("bbo", "x")), "There is no bbo here; did you mean bob?")
        self.assertEqual(said(102, Say("gwen", "x")), "There is no gwen here")
        self.assertEqual(said(102, Say("b@d", "x")), name_rule("b@d"))
        self.assertEqual(said(102, Say("ALL", "x")), "Nobody else is here")
        self.assertEqual(
            said(102, Command("/invite", "#dev", "ferd")),
            "There is no ferd here; did you mean fred?",
        )

    def test_a_text_says_how_long_it_is_and_may_be(self) -> None:
        self.assertEqual(
            said(108, Say("bob", "ü" * 35_000)),
            "The text has 70,000 bytes; at most 65,536 are possible",
        )

    def test_a_room_in_which_one_may_not_write(self) -> None:
        say = Say("#dev", "x")
        self.assertEqual(said(111, say, member=False), "You are not in #dev (/join #dev)")
        self.assertTrue(said(111, say, member=True).startswith("You may not write in #dev: it is"))
        self.assertTrue(said(111, say).startswith("You are not in #dev, or it is moderated"))

    def test_an_unknown_room_may_be_a_mistyped_one(self) -> None:
        self.assertEqual(said(110, Say("#dve", "x")), "There is no room #dve; did you mean #dev?")
        self.assertEqual(
            said(110, Command("/leave", "#none")), "There is no room #none (/join #none makes one)"
        )
        self.assertIn("1 to 32 letters", said(110, Command("/join", "#ö")))
        search = Command("/search", "x", reading=Reading("x", "#cpp"))
        self.assertIn('To search for the word: "#cpp"', said(110, search))


class CommandTests(TestCase):
    def test_the_reason_of_the_server_goes_before_our_guess(self) -> None:
        self.assertEqual(
            said(112, Command("/search", "x"), why="the search is too broad"),
            "The search is too broad",
        )
        self.assertEqual(
            said(111, Command("/join", "#dev", "private"), why="there is a public room"),
            "There is a public room",
        )

    def test_what_is_too_long_says_how_long_it_may_be(self) -> None:
        for command, text in (
            (Command("/topic", "#dev", "x" * 401), "topic has 401 characters; at most 400"),
            (Command("/away", "x" * 201), "text has 201 characters; at most 200"),
            (Command("/ban", "bob", "ü" * 101), "reason has 202 bytes; at most 200"),
            (
                Command("/search", "x", reading=Reading("x" * 501)),
                "search has 501 characters; at most 500",
            ),
            (Command("/topic", "#dev", "a\nb"), "A topic is one line"),
        ):
            self.assertIn(text, said(111, command))

    def test_the_limits_are_those_of_the_server(self) -> None:
        self.assertEqual(sentences.MAX_TOPIC, room_rules.MAX_TOPIC)
        self.assertEqual(sentences.MAX_AWAY, names.MAX_WHY)
        self.assertEqual(sentences.MAX_REASON, sanctions.MAX_REASON)
        self.assertEqual(sentences.MAX_QUERY, reading.MAX_QUERY)
        self.assertEqual(sentences.MAX_PASSWORD, passwords.MAX_PASSWORD)

    def test_a_new_name_may_be_taken_or_break_a_rule(self) -> None:
        self.assertEqual(said(105, Command("/nick", "bob")), "bob is taken; bob_ may be free")
        self.assertEqual(said(100, Command("/nick", "_x")), name_rule("_x"))
        self.assertIn("belongs to an account", said(106, Command("/nick", "bob")))

    def test_every_command_has_a_sentence_for_every_code(self) -> None:
        for name in COMMANDS:
            for command in (
                Command(name),
                Command(name, "bob", "x"),
                Command(name, "bob", "x", "#dev"),
                Command(name, "#dev", "x"),
                Command(name, "add", "x"),
                Command(name, "remove", "x"),
                Command(name, "#dev", "bob", reading=Reading(place="#dev")),
            ):
                # only /nick is refused for a name that is taken, and it has one
                codes = {refusal.code for refusal in REFUSALS.values()}
                for code in codes if command.first else codes - {105, 106}:
                    for member in (None, True, False):
                        sentence = said(code, command, member=member)
                        self.assertTrue(sentence[:1].isalnum() or sentence[:1] in "#", sentence)
                        self.assertNotIn("  ", sentence)
                        self.assertNotIn("None", sentence)
