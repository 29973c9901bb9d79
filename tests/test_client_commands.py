"""Parsing of typed lines, and the requests of commands."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.ui import commands
from chat_twisted.ui.commands import (
    COMMANDS,
    FORMAT_HELP,
    TOPICS,
    Command,
    Mistake,
    Say,
    SwitchTo,
)


class Asked:
    """A session that records requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[object, ...]] = []

    def ask(self, *request: object) -> int:
        self.requests.append(request)
        return len(self.requests)


class PipeTests(TestCase):
    def test_nothing_is_nothing(self) -> None:
        for line in ("", "  ", "\t\n"):
            self.assertIsNone(commands.parse(line))

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
            self.assertEqual(commands.parse(line), said)

    def test_a_line_without_an_address_is_no_message(self) -> None:
        for line in ("hello", "@bob hello", "@bob", "#dev", "@bob:", "@: x", "#dev:"):
            self.assertEqual(commands.parse(line), Mistake(FORMAT_HELP), line)

    def test_a_word_that_makes_sense_on_a_terminal_alone_is_no_command(self) -> None:
        for line, name in (("/unread", "/unread"), ("/bell on", "/bell"), ("/notify", "/notify")):
            self.assertEqual(commands.parse(line), Mistake(f"{name} is for a terminal (/help)"))
            self.assertIsInstance(commands.parse(line, "ALL"), Command)


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
            self.assertEqual(commands.parse(line, "#dev"), Say("#dev", said))

    def test_an_address_goes_before_the_conversation_that_one_is_in(self) -> None:
        self.assertEqual(commands.parse("@bob: a\nb", "#dev"), Say("bob", "a\nb"))
        self.assertEqual(commands.parse("@ALL: x", "bob"), Say("ALL", "x"))
        self.assertEqual(commands.parse("#x: y", "bob"), Say("#x", "y"))

    def test_an_address_alone_turns_to_a_conversation(self) -> None:
        for line, to in (
            ("@bob", "bob"),
            ("@bob_the-2nd", "bob_the-2nd"),
            (" @ALL ", "ALL"),
            ("#dev", "#dev"),
            ("@bob:", "bob"),
            ("#dev: ", "#dev"),
        ):
            self.assertEqual(commands.parse(line, "carol"), SwitchTo(to))

    def test_an_unknown_command_is_named_and_not_said_to_anybody(self) -> None:
        for current in ("ALL", None):
            mistake = Mistake("No such command: /whp (/help)")
            self.assertEqual(commands.parse("/whp", current), mistake)
        self.assertEqual(
            commands.parse("/etc/passwd x", "ALL"), Mistake("No such command: /etc/passwd (/help)")
        )
        self.assertIsInstance(commands.parse("/", "ALL"), Mistake)


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
            ("/history", Command("/history")),
            ("/history 5", Command("/history", None, "5")),
            ("/history bob", Command("/history", "bob")),
            ("/history bob7", Command("/history", "bob7")),
            ("/history bob 7", Command("/history", "bob", "7")),
            ("/history @7bob", Command("/history", "@7bob")),
            ("/history #7 7", Command("/history", "#7", "7")),
            ("/keys", Command("/keys")),
            ("/keys add ~/a key.pub", Command("/keys", "add", "~/a key.pub")),
            ("/ban 2001:db8::/32 2h", Command("/ban", "2001:db8::/32", "2h")),
            ("/ban bob 3 strikes", Command("/ban", "bob", "3 strikes")),
            ("/search red wine", Command("/search", "red wine")),
            ("/bell off", Command("/bell", "off")),
            ("/help rooms", Command("/help", "rooms")),
        ):
            self.assertEqual(commands.parse(line, "ALL"), command)

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
            self.assertEqual(commands.parse(line, "#dev"), command)

    def test_an_address_is_banned_from_the_server_wherever_one_is(self) -> None:
        for line, command in (
            ("/ban 192.0.2.1 2h", Command("/ban", "192.0.2.1", "2h")),
            ("/unban 2001:db8::/32", Command("/unban", "2001:db8::/32")),
        ):
            self.assertEqual(commands.parse(line, "#dev"), command)

    def test_a_command_that_needs_a_room_asks_for_it(self) -> None:
        for current in ("ALL", "bob", None):
            self.assertEqual(
                commands.parse("/op bob", current), Mistake("Which room? /op #room name")
            )
            self.assertIsInstance(commands.parse("/mode private", current), Mistake)

    def test_a_ban_from_a_room_for_a_time_is_not_taken_for_one_for_ever(self) -> None:
        for line in ("/ban bob 2h spam", "/ban #dev bob 2h"):
            order = commands.parse(line, "#dev")
            assert isinstance(order, Mistake)
            self.assertIn("duration", order.text)

    def test_requests_in_rooms_and_of_names_and_messages(self) -> None:
        for command, request in (
            (Command("/nick", "bobby"), ("RENAME", "bobby")),
            (Command("/delete", "42"), ("DELETE", "", (("Message", 42),))),
            (
                Command("/op", "bob", None, "#a"),
                ("RANK", "#a", (("User", "bob"), ("Rank", "operator"))),
            ),
            (
                Command("/voice", "bob", None, "#a"),
                ("RANK", "#a", (("User", "bob"), ("Rank", "voice"))),
            ),
            (
                Command("/deop", "bob", None, "#a"),
                ("RANK", "#a", (("User", "bob"), ("Rank", "none"))),
            ),
            (Command("/mode", None, None, "#a"), ("MODE", "#a", ())),
            (
                Command("/mode", "topic", None, "#a"),
                ("MODE", "#a", (("Mode", "topic"), ("On", "yes"))),
            ),
            (
                Command("/mode", "topic", "off", "#a"),
                ("MODE", "#a", (("Mode", "topic"), ("On", "no"))),
            ),
            (
                Command("/ban", "bob", "spam", "#a"),
                ("BAN", "#a", (("User", "bob"),), "spam"),
            ),
            (Command("/unban", "bob", None, "#a"), ("UNBAN", "#a", (("User", "bob"),), None)),
            (Command("/kick", "bob", "loud", "#a"), ("KICK", "#a", (("User", "bob"),), "loud")),
            (Command("/bans", None, None, "#a"), ("BAN", "#a")),
            (Command("/leave", "#a", "so long"), ("LEAVE", "#a", (), "so long")),
            (Command("/who", "#a"), ("WHO", "#a", (("Ranks", "yes"),))),
            (
                Command("/account", "unregister", "erase"),
                ("ACCOUNT", "unregister", (("Erase", "yes"),)),
            ),
        ):
            session = Asked()
            commands.ask(session, command)
            self.assertEqual(session.requests, [request])

    def test_a_wrong_command_is_answered_with_its_form(self) -> None:
        for line in (
            "/who dev",
            "/back now",
            "/ignore a b",
            "/unignore",
            "/join",
            "/leave dev",
            "/join #dev secret",
            "/leave",
            "/invite #dev",
            "/kick",
            "/kick #dev",
            "/history a b c",
            "/search",
            "/keys add",
            "/keys drop x",
            "/mute #dev",
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
                commands.parse(line, "ALL"),
                Mistake(f"Usage: {name} {COMMANDS[name].usage}".rstrip()),
            )

    def test_history_is_of_the_conversation_that_one_is_in_if_it_does_not_say(self) -> None:
        for command, current, request in (
            (Command("/history"), "#dev", ("HISTORY", "#dev", (("Count", 20),))),
            (Command("/history", None, "3"), "bob", ("HISTORY", "bob", (("Count", 3),))),
            (Command("/history", "@carol"), "bob", ("HISTORY", "carol", (("Count", 20),))),
            (Command("/history"), "ALL", ("HISTORY", "ALL", (("Count", 20),))),
        ):
            session = Asked()
            self.assertEqual(commands.ask(session, command, current), 1)
            self.assertEqual(session.requests, [request])

    def test_being_away_has_a_reason_or_none(self) -> None:
        session = Asked()
        commands.ask(session, Command("/away", "lunch"))
        commands.ask(session, Command("/away"))
        commands.ask(session, Command("/back"))
        self.assertEqual(
            session.requests,
            [
                ("STATUS", "away", (), "lunch"),
                ("STATUS", "away", (), None),
                ("STATUS", "here"),
            ],
        )

    def test_commands_of_the_client_alone_are_not_sent_to_the_server(self) -> None:
        session = Asked()
        for command in (
            Command("/quit"),
            Command("/help"),
            Command("/ignore", "bob"),
            Command("/bell"),
            Command("/unread"),
            Command("/password"),
            Command("/register"),
            Command("/keys", "add", "x"),
        ):
            self.assertIsNone(commands.ask(session, command))
        self.assertEqual(session.requests, [])

    def test_an_answer_names_the_subject_of_its_request(self) -> None:
        for command, about in (
            (Command("/history"), "#dev"),
            (Command("/history", "@bob"), "bob"),
            (Command("/search", "wine"), ""),
            (Command("/away", "lunch"), ""),
            (Command("/kick", "bob", None, "#x"), "#x"),
            (Command("/kick", "bob"), "bob"),
            (Command("/mode", "private", None, "#x"), "#x"),
            (Command("/who", "#x"), "#x"),
            (Command("/who"), ""),
        ):
            self.assertEqual(commands.about(command, "#dev"), about)


class HelpTests(TestCase):
    def test_every_command_is_in_the_help_and_of_a_topic(self) -> None:
        text = commands.help_text()
        for name, form in COMMANDS.items():
            self.assertIn(form.topic, TOPICS)
            self.assertEqual(f"\n{name} " in text, not form.screen, name)
            on_screen = f"\n{commands.help_text(form.topic, screen=True)}\n"
            self.assertIn(f"\n{name} ", on_screen)
            self.assertIn(form.what, on_screen)

    def test_on_a_terminal_there_is_first_an_overview(self) -> None:
        overview = commands.help_text(screen=True)
        for topic in TOPICS:
            self.assertIn(f"/help {topic}", overview)
        self.assertNotIn("/invite", overview)
        for text in (overview, *(commands.help_text(topic, screen=True) for topic in TOPICS)):
            for line in text.split("\n"):
                self.assertLess(len(line), 100)

    def test_the_help_of_one_command_is_its_line(self) -> None:
        line = "/nick name                       change your name, as a guest"
        self.assertEqual(commands.help_text("nick"), line)
        self.assertEqual(commands.help_text("account"), commands.help_text("account", screen=True))
        self.assertEqual(commands.parse("/help /nick"), Command("/help", "nick"))
        self.assertTrue(commands.help_text("bell").startswith("No such topic"))
        self.assertTrue(commands.help_text("bell", screen=True).startswith("/bell"))

    def test_an_unknown_topic_is_answered_with_those_that_there_are(self) -> None:
        text = commands.help_text("fish")
        for word in ("fish", *TOPICS):
            self.assertIn(word, text)

    def test_the_names_of_all_commands(self) -> None:
        self.assertEqual(list(commands.command_names(screen=True)), list(COMMANDS))
        self.assertNotIn("/bell", list(commands.command_names(screen=False)))


class BanTests(TestCase):
    def test_a_number_without_a_unit_belongs_to_the_reason(self) -> None:
        for given, request in (
            ("3 strikes", ("BAN", "bob", (), "3 strikes")),
            ("3d too loud", ("BAN", "bob", (("Duration", "3d"),), "too loud")),
            ("3d", ("BAN", "bob", (("Duration", "3d"),), None)),
        ):
            session = Asked()
            commands.ask(session, Command("/ban", "bob", given))
            self.assertEqual(session.requests, [request])


class NoColonTests(TestCase):
    def test_a_line_that_begins_with_a_name_and_no_colon_is_not_sent_to_everybody(self) -> None:
        for text in ("@bob what do you say?", "@bob\nand: x", "@bob see http://x", "@bob hello"):
            order = commands.parse(text, "ALL")
            assert isinstance(order, Mistake)
            self.assertIn("@bob: ", order.text)
        self.assertEqual(commands.parse("@: x", "ALL"), Mistake("To whom? @bob: hello"))

    def test_a_room_to_join_needs_no_sign(self) -> None:
        session = Asked()
        commands.ask(session, Command("/join", "dev"))
        self.assertEqual(session.requests, [("JOIN", "#dev", ())])

    def test_the_help_fits_a_terminal(self) -> None:
        for topic in (None, *TOPICS):
            for line in commands.help_text(topic, screen=True).split("\n"):
                self.assertLess(len(line), 80, line)
