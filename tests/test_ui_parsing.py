"""Parsing of typed lines, and the requests of commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from twisted.trial.unittest import TestCase

from chat_twisted.ui import commands
from chat_twisted.ui.commands import (
    COMMANDS,
    FORMAT_HELP,
    TOPICS,
    Command,
    Mistake,
    Offer,
    Reading,
    Say,
    SwitchTo,
)
from chat_twisted.ui.help import help_text
from chat_twisted.ui.parsing import parse


class Known:
    """The names that a terminal knows."""

    def names(self) -> list[str]:
        return ["bob", "fred"]

    def rooms(self) -> list[str]:
        return ["#dev", "#ops"]


def typed(line: str, current: str = "ALL") -> object:
    """The meaning of a line on a terminal that knows names."""
    return parse(line, current, known=Known(), now=lambda: NOW)


NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)  # a Friday


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


class PipeTests(TestCase):
    def test_nothing_is_nothing(self) -> None:
        for line in ("", "  ", "\t\n"):
            self.assertIsNone(parse(line))

    def test_a_message_has_its_address(self) -> None:
        for line, said in (
            ("@bob: hello", Say("bob", "hello")),
            ("  @bob :hello: you  ", Say("bob", "hello: you")),
            ("@ALL: x", Say("ALL", "x")),
            ("#dev: x", Say("#dev", "x")),
            ("#dev : x", Say("#dev", "x")),
            ("@#dev: x", Say("#dev", "x")),
            ("@b@d: x", Say("b@d", "x")),
        ):
            self.assertEqual(parse(line), said)

    def test_a_line_without_an_address_is_no_message(self) -> None:
        for line in ("hello", "@bob hello", "@bob", "#dev", "@bob:", "@: x", "#dev:"):
            self.assertEqual(parse(line), Mistake(FORMAT_HELP), line)

    def test_a_word_that_makes_sense_on_a_terminal_alone_is_no_command(self) -> None:
        for line, name in (("/unread", "/unread"), ("/bell on", "/bell"), ("/notify", "/notify")):
            self.assertEqual(parse(line), Mistake(f"{name} is for a terminal (/help)"))
            self.assertIsInstance(parse(line, "ALL"), Command)


class TerminalTests(TestCase):
    def test_a_text_without_an_address_is_for_the_conversation_that_one_is_in(self) -> None:
        for line, said in (
            ("hello", "hello"),
            ("hello @bob: look", "hello @bob: look"),
            ("12:30 is fine", "12:30 is fine"),
            ("see @bob and carol: hello", "see @bob and carol: hello"),
            ("one\n  two\n\nthree", "one\n  two\n\nthree"),
            ("//bin/ls is a file", "/bin/ls is a file"),
            ("//", "/"),
        ):
            self.assertEqual(parse(line, "#dev"), Say("#dev", said))

    def test_an_address_goes_before_the_conversation_that_one_is_in(self) -> None:
        self.assertEqual(parse("@bob: a\nb", "#dev"), Say("bob", "a\nb"))
        self.assertEqual(parse("@ALL: x", "bob"), Say("ALL", "x"))
        self.assertEqual(parse("#x: y", "bob"), Say("#x", "y"))

    def test_an_address_alone_turns_to_a_conversation(self) -> None:
        for line, to in (
            ("@bob", "bob"),
            ("@bob_the-2nd", "bob_the-2nd"),
            (" @ALL ", "ALL"),
            ("#dev", "#dev"),
            ("@bob:", "bob"),
            ("#dev: ", "#dev"),
        ):
            self.assertEqual(parse(line, "carol"), SwitchTo(to))

    def test_an_unknown_command_is_named_and_not_said_to_anybody(self) -> None:
        for current in ("ALL", None):
            for line, answer in (
                ("/dance", "No such command: /dance (/help)"),
                ("/whp", "No such command: /whp; did you mean /who? (/help)"),
                ("/hsitory #dev", "No such command: /hsitory; did you mean /history? (/help)"),
                ("/qery bob", "No such command: /qery; did you mean /query? (/help)"),
            ):
                self.assertEqual(parse(line, current), Mistake(answer))
        self.assertIsInstance(parse("/", "ALL"), Mistake)
        self.assertEqual(parse("/etc/passwd x"), Mistake("No such command: /etc/passwd (/help)"))

    def test_a_path_is_a_text(self) -> None:
        for line in ("/usr/lib/x: cannot open", "/etc/passwd x", "/etc/passwd", "/s/foo/bar/"):
            self.assertEqual(typed(line), Say("ALL", line))
        for line in ("/msg/bob secret", "/JOIN/#dev", "/usr is full"):
            self.assertIsInstance(typed(line), Mistake, line)

    def test_a_number_is_a_text_where_there_is_no_such_room(self) -> None:
        for line in ("#42: fixed", "#42", "#42:", "#42 is fixed"):
            self.assertEqual(typed(line), Say("ALL", line))
        self.assertEqual(parse("#42: fixed", "ALL"), Say("#42", "fixed"))
        self.assertEqual(parse("#42: fixed"), Say("#42", "fixed"))

    def test_the_first_of_several_lines_keeps_its_indentation(self) -> None:
        for line, said in (
            ("    if x:\n        y()\n", "    if x:\n        y()"),
            ("\n \n  a\n  b", "  a\n  b"),
            ("  a", "a"),
            ("  a\n", "a"),
            ("\n  a\n", "a"),
        ):
            self.assertEqual(typed(line), Say("ALL", said))
        self.assertEqual(typed("@bob:\n  a\n  b"), Say("bob", "  a\n  b"))
        self.assertEqual(typed("@bob:  a\n  b"), Say("bob", "a\n  b"))


class CommandTests(TestCase):
    def test_arguments_are_read(self) -> None:
        for line, command in (
            ("/who", Command("/who")),
            ("/who #dev", Command("/who", "#dev")),
            ("/away", Command("/away")),
            ("/away  at lunch ", Command("/away", "at lunch")),
            ("/ignore @Bob", Command("/ignore", "Bob")),
            ("/ignore bob_-", Command("/ignore", "bob_-")),
            ("/ignore", Command("/ignore")),
            ("/join #dev private", Command("/join", "#dev", "private")),
            ("/topic #dev what it  is", Command("/topic", "#dev", "what it  is")),
            ("/invite #dev @bob", Command("/invite", "#dev", "bob")),
            ("/kick #dev @bob", Command("/kick", "bob", None, "#dev")),
            ("/kick #dev bob too loud", Command("/kick", "bob", "too loud", "#dev")),
            ("/kick @bob be quiet", Command("/kick", "bob", "be quiet")),
            ("/leave #dev so long", Command("/leave", "#dev", "so long")),
            ("/nick bobby", Command("/nick", "bobby")),
            ("/delete", Command("/delete")),
            ("/delete 42", Command("/delete", "42")),
            ("/op #dev @bob", Command("/op", "bob", None, "#dev")),
            ("/devoice #dev bob", Command("/devoice", "bob", None, "#dev")),
            ("/mode #dev", Command("/mode", None, None, "#dev")),
            ("/mode #dev private", Command("/mode", "private", None, "#dev")),
            ("/mode #dev topic off", Command("/mode", "topic", "off", "#dev")),
            ("/ban #dev bob spam", Command("/ban", "bob", "spam", "#dev")),
            ("/unban #dev bob", Command("/unban", "bob", None, "#dev")),
            ("/bans", Command("/bans")),
            ("/bans #dev", Command("/bans", None, None, "#dev")),
            ("/account unregister", Command("/account", "unregister")),
            ("/account unregister erase", Command("/account", "unregister", "erase")),
            ("/account export ~/my file", Command("/account", "export", "~/my file")),
            ("/unregister", Command("/account", "unregister")),
            ("/keys", Command("/keys")),
            ("/keys add ~/a key.pub", Command("/keys", "add", "~/a key.pub")),
            ("/ban 2001:db8::/32 2h", Command("/ban", "2001:db8::/32", "2h")),
            ("/ban bob 3 strikes", Command("/ban", "bob", "3 strikes")),
            ("/bell off", Command("/bell", "off")),
            ("/help rooms", Command("/help", "rooms")),
        ):
            self.assertEqual(parse(line, "ALL"), command)

    def test_a_command_for_a_room_acts_in_the_current_one_if_none_is_named(self) -> None:
        for line, command in (
            ("/op bob", Command("/op", "bob", None, "#dev")),
            ("/mode", Command("/mode", None, None, "#dev")),
            ("/mode moderated off", Command("/mode", "moderated", "off", "#dev")),
            ("/kick bob loud", Command("/kick", "bob", "loud", "#dev")),
            ("/ban bob spam", Command("/ban", "bob", "spam", "#dev")),
            ("/unban @bob", Command("/unban", "bob", None, "#dev")),
            ("/bans", Command("/bans", None, None, "#dev")),
            ("/op #ops bob", Command("/op", "bob", None, "#ops")),
        ):
            self.assertEqual(parse(line, "#dev"), command)

    def test_an_address_is_banned_from_the_server_wherever_one_is(self) -> None:
        for line, command in (
            ("/ban 192.0.2.1 2h", Command("/ban", "192.0.2.1", "2h")),
            ("/unban 2001:db8::/32", Command("/unban", "2001:db8::/32")),
        ):
            self.assertEqual(parse(line, "#dev"), command)

    def test_a_command_that_needs_a_room_asks_for_it(self) -> None:
        for current in ("ALL", "bob", None):
            self.assertEqual(parse("/op bob", current), Mistake("Which room? /op #room name"))
            self.assertIsInstance(parse("/mode private", current), Mistake)

    def test_a_ban_from_a_room_for_a_time_is_not_taken_for_one_for_ever(self) -> None:
        for line in ("/ban bob 2h spam", "/ban #dev bob 2h"):
            order = parse(line, "#dev")
            assert isinstance(order, Mistake)
            self.assertIn("duration", order.text)

    def test_a_wrong_command_is_answered_with_its_form(self) -> None:
        for line in (
            "/who dev",
            "/back now",
            "/ignore a b",
            "/unignore",
            "/join",
            "/join #dev secret",
            "/invite #dev",
            "/kick",
            "/kick #dev",
            "/history a b c",
            "/search",
            "/keys add",
            "/keys drop x",
            "/mute #dev 2h",
            "/mute",
            "/msg",
            "/me",
            "/whois",
            "/hide all",
            "/unhide",
            "/unhighlight",
            "/show",
            "/more 5",
            "/bell loud",
            "/register bob",
            "/nick",
            "/nick a b",
            "/delete x",
            "/op #dev",
            "/mode #dev loud",
            "/mode #dev private maybe",
            "/unban #dev",
            "/bans dev",
            "/account",
            "/account export",
            "/account unregister all",
            "/quit now",
        ):
            name = line.split()[0]
            self.assertEqual(
                parse(line, "ALL"),
                Mistake(f"Usage: {name} {COMMANDS[name].usage}".rstrip()),
            )


class NoColonTests(TestCase):
    def test_a_line_that_begins_with_a_name_and_no_colon_is_offered_to_the_user_and_to_all(
        self,
    ) -> None:
        for line, there in (
            ("@fred hello there", "@fred: hello there"),
            ("@bob\nand: x", "@bob: and: x"),
            ("@bob see http://x", "@bob: see http://x"),
            ("@bob, hello", "@bob: hello"),
            ("@nobody hello", "@nobody: hello"),
            ("@bob and carol: hello", "@bob: and carol: hello"),
            ("#dev hello", "#dev: hello"),
        ):
            offer = typed(line)
            assert isinstance(offer, Offer), line
            self.assertEqual((offer.here, offer.there), (Say("ALL", line), there))
            self.assertIn("to everybody", offer.text)
        offer = typed("@ALL hello", "bob")
        assert isinstance(offer, Offer)
        self.assertEqual(offer.here, Say("bob", "@ALL hello"))
        self.assertEqual(
            offer.text, "Enter once more says it to bob; Tab makes it @ALL: ..., for ALL only"
        )

    def test_where_the_conversation_is_the_addressed_one_there_is_nothing_to_ask(self) -> None:
        self.assertEqual(typed("@Bob hello", "bob"), Say("bob", "@Bob hello"))
        self.assertEqual(typed("#dev hello", "#dev"), Say("#dev", "#dev hello"))
        self.assertEqual(typed("@ALL hello"), Say("ALL", "@ALL hello"))

    def test_a_mention_is_a_text(self) -> None:
        for line in ("@bob?", "#else hello", "well @bob hello", "bob: hello", "@bob@host is down"):
            self.assertEqual(typed(line), Say("ALL", line))
        self.assertEqual(typed("@: x"), Mistake("To whom? @bob: hello"))

    def test_a_line_for_a_room_that_does_not_exist_goes_nowhere_at_once(self) -> None:
        offer = typed("#dve: hello")
        assert isinstance(offer, Offer)
        self.assertEqual((offer.here, offer.there), (Say("ALL", "#dve: hello"), "#dev: hello"))
        self.assertEqual(
            offer.text,
            "There is no room #dve. Tab makes it #dev: ...; "
            "enter once more says it here, to everybody",
        )
        offer = typed("#elsewhere: hello", "#dev")
        assert isinstance(offer, Offer)
        self.assertEqual(offer.here, Say("#dev", "#elsewhere: hello"))
        self.assertEqual(offer.there, "#elsewhere: hello")
        self.assertEqual(typed("#DEV: hello"), Say("#DEV", "hello"))
        self.assertEqual(typed("#elsewhere"), SwitchTo("#elsewhere"))

    def test_the_help_fits_a_terminal(self) -> None:
        for topic in (None, *TOPICS):
            for line in help_text(topic, screen=True).split("\n"):
                self.assertLess(len(line), 80, line)

    def test_the_help_fits_a_narrow_terminal(self) -> None:
        for topic in (None, *TOPICS, *(name[1:] for name in COMMANDS), "fish"):
            for line in help_text(topic, screen=True, width=40).split("\n"):
                self.assertLess(len(line), 40, line)
        self.assertEqual(
            help_text("kick", screen=True, width=40),
            "/kick [#room] name [reason]\n    remove from a room or the server\nalso /k",
        )


class OtherNamesTests(TestCase):
    """Commands as other chats name them."""

    def test_a_command_has_the_names_that_hands_know(self) -> None:
        for line, command in (
            ("/WHO", Command("/who")),
            ("/Part #dev bye", Command("/leave", "#dev", "bye")),
            ("/names #dev", Command("/who", "#dev")),
            ("/list", Command("/rooms")),
            ("/j #dev", Command("/join", "#dev")),
            ("/exit", Command("/quit")),
            ("/bye", Command("/quit")),
            ("/t #dev plans", Command("/topic", "#dev", "plans")),
            ("/k #dev bob", Command("/kick", "bob", None, "#dev")),
            ("/whois @bob", Command("/whois", "bob")),
            ("/hilight deploy failed", Command("/highlight", "deploy failed")),
            ("/UNREGISTER", Command("/account", "unregister")),
        ):
            self.assertEqual(typed(line), command)
        self.assertEqual(parse("/LIST"), Command("/rooms"))

    def test_a_message_can_be_a_command(self) -> None:
        for line, said in (
            ("/msg bob hi there", Say("bob", "hi there")),
            ("/MSG @bob: hi", Say("bob", "hi")),
            ("/query #ops hi", Say("#ops", "hi")),
            ("/msg bob", SwitchTo("bob")),
            ("/query #dev", SwitchTo("#dev")),
            ("/me waves", Say("#dev", "waves", "action")),
            ("/say /me is a command", Say("#dev", "/me is a command")),
            ("/say @bob hello", Say("#dev", "@bob hello")),
        ):
            self.assertEqual(typed(line, "#dev"), said)

    def test_in_a_pipe_a_message_has_an_address(self) -> None:
        self.assertEqual(parse("/msg bob hi"), Say("bob", "hi"))
        self.assertEqual(parse("/msg bob"), Mistake(FORMAT_HELP))
        self.assertEqual(parse("/me waves"), Mistake("/me is for a terminal (/help)"))

    def test_the_help_tells_the_other_names(self) -> None:
        text = help_text("part")
        self.assertTrue(text.startswith("/leave "))
        self.assertTrue(text.endswith("also /part, /p"))
        self.assertIn("did you mean rooms?", help_text("roms"))

    def test_no_other_name_is_a_command(self) -> None:
        for alias, name in commands.ALIASES.items():
            self.assertNotIn(alias, COMMANDS)
            self.assertIn(name, COMMANDS)


class CurrentRoomTests(TestCase):
    """Commands without a room act in the current one."""

    def test_a_command_without_a_room_acts_in_the_current_one(self) -> None:
        for line, command in (
            ("/leave", Command("/leave", "#dev")),
            ("/leave so long", Command("/leave", "#dev", "so long")),
            ("/leave #ops", Command("/leave", "#ops")),
            ("/topic", Command("/topic", "#dev")),
            ("/topic what it is", Command("/topic", "#dev", "what it is")),
            ("/who", Command("/who", "#dev")),
            ("/who ALL", Command("/who")),
        ):
            self.assertEqual(typed(line, "#dev"), command)
        self.assertEqual(typed("/who", "bob"), Command("/who"))
        self.assertEqual(typed("/whois", "bob"), Command("/whois", "bob"))

    def test_elsewhere_it_asks_for_the_room(self) -> None:
        for current in ("ALL", "bob", None):
            for line, usage in (
                ("/leave", "/leave #room [reason]"),
                ("/leave dev", "/leave #room [reason]"),
                ("/topic plans", "/topic #room [text]"),
            ):
                self.assertEqual(parse(line, current), Mistake(f"Which room? {usage}"))

    def test_a_room_without_its_sign_is_not_taken_for_a_reason(self) -> None:
        mistake = typed("/leave ops", "#dev")
        assert isinstance(mistake, Mistake)
        self.assertIn("/leave #ops", mistake.text)

    def test_a_conversation_is_muted_here_and_a_user_everywhere(self) -> None:
        for line, command in (
            ("/mute #dev", Command("/mute", "#dev")),
            ("/mute all", Command("/mute", "ALL")),
            ("/unmute @ALL", Command("/unmute", "ALL")),
            ("/mute bob 10m loud", Command("/mute", "bob", "10m loud")),
            ("/unmute bob", Command("/unmute", "bob")),
        ):
            self.assertEqual(typed(line), command)
        mistake = parse("/mute #dev")
        assert isinstance(mistake, Mistake)
        self.assertIn("terminal", mistake.text)

    def test_commands_for_the_view(self) -> None:
        for line, command in (
            ("/view", Command("/view")),
            ("/view current", Command("/view", "current")),
            ("/hide joins", Command("/hide", "joins")),
            ("/unhide joins", Command("/unhide", "joins")),
            ("/numbers", Command("/numbers")),
            ("/show 12", Command("/show", "12")),
            ("/again", Command("/again")),
            ("/drop", Command("/drop")),
            ("/more", Command("/more")),
            ("/clear", Command("/clear")),
        ):
            self.assertEqual(typed(line), command)
            mistake = parse(line)
            assert isinstance(mistake, Mistake)
            self.assertIn("is for a terminal", mistake.text)


class ReadingTests(TestCase):
    """The arguments of /history and /search."""

    def reading(self, line: str, current: str = "ALL") -> Reading:
        command = typed(line, current)
        assert isinstance(command, Command), command
        assert command.reading is not None
        return command.reading

    def test_history_is_of_a_conversation(self) -> None:
        for line, place, count in (
            ("/history", "#ops", None),
            ("/history 5", "#ops", 5),
            ("/history bob", "bob", None),
            ("/history bob7", "bob7", None),
            ("/history bob 7", "bob", 7),
            ("/history @7bob", "7bob", None),
            ("/history #7 7", "#7", 7),
            ("/history 7 #dev", "#dev", 7),
            ("/history @all", "ALL", None),
        ):
            self.assertEqual(self.reading(line, "#ops"), Reading(place=place, count=count))
        command = parse("/history")
        assert isinstance(command, Command)
        self.assertEqual(command.reading, Reading(place="ALL"))

    def test_history_is_of_a_time(self) -> None:
        last = timedelta(milliseconds=1)
        for line, reading in (
            ("/history #dev before 2026-11-01", Reading(place="#dev", until=at(1) - last)),
            ("/history since yesterday", Reading(place="ALL", since=at(26))),
            ("/history since 2h ago 50", Reading(place="ALL", since=at(27, 10), count=50)),
            (
                "/history Since monday 10:30 until 25 november #dev",
                Reading(place="#dev", since=at(23, 10, 30), until=at(26) - last),
            ),
            ("/history after yesterday", Reading(place="ALL", since=at(27))),
        ):
            self.assertEqual(self.reading(line), reading)

    def test_search_takes_place_author_and_time_in_any_order(self) -> None:
        for line in (
            "/search deploy failed #dev @bob since monday",
            "/search since monday @bob deploy #dev failed",
        ):
            self.assertEqual(
                self.reading(line),
                Reading("deploy failed", "#dev", "bob", since=at(23)),
            )
        self.assertEqual(self.reading("/search red  wine 5"), Reading("red wine 5"))
        self.assertEqual(self.reading("/search x @ALL"), Reading("x", "ALL"))

    def test_the_syntax_of_the_search_is_kept(self) -> None:
        for words in (
            '"since monday"',
            '"since" OR deplo*',
            'NEAR("a b" c, 5)',
            '("before lunch" OR x) NOT y',
            'a 5" disk',
            "a@b.example C++",
            '"#dev" "@bob"',
            "#42 is fixed",
            "#",
        ):
            self.assertEqual(self.reading(f"/search {words}"), Reading(words))
        self.assertEqual(self.reading("/search x #elsewhere"), Reading("x", "#elsewhere"))

    def test_what_is_no_time_is_answered_with_examples(self) -> None:
        for line, text in (
            ("/history since lunch", "lunch is not a time; times are yesterday"),
            ("/history since", "A time is missing: yesterday"),
            ("/history since february 31", "There is no such time: february 31"),
            ("/search happy since then", 'To search for the word: "since"'),
            ("/history since today before yesterday", "ends before it begins"),
        ):
            mistake = typed(line)
            assert isinstance(mistake, Mistake), line
            self.assertIn(text, mistake.text)

    def test_what_is_twice_or_missing_is_answered_with_the_usage(self) -> None:
        for line in ("/history #dev #ops", "/history 5 5", "/search #dev", "/search x #dev #ops"):
            mistake = typed(line)
            assert isinstance(mistake, Mistake), line
            self.assertTrue(mistake.text.startswith("Usage: "), mistake)
        mistake = typed("/search x @bob @fred")
        self.assertEqual(mistake, Mistake("Only the messages of one author can be searched"))
