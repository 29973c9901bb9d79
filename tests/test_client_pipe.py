"""Standard input and output: input, output and the exit code."""

from __future__ import annotations

import shutil
import tempfile
from itertools import count
from pathlib import Path

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.client import pipe as pipe_module
from chat_twisted.client.identity import Identity
from chat_twisted.client.login import Credentials
from chat_twisted.client.pipe import Pipe
from chat_twisted.client.session import ClientSession
from chat_twisted.client.user_files import LocalFiles
from chat_twisted.frames import Frame, FrameReader, encode
from chat_twisted.ui.commands import FORMAT_HELP
from chat_twisted.ui.help import help_text
from tests.door import Transport
from tests.wire import frames

TIME = "2026-11-23T10:00:00.123Z"

REGISTERED = b"REGISTERED alice\nVersion: 2\nSession: x\nMax-message: 100\nLast: 0\n\n"


class Stdio(StringTransport):
    def loseConnection(self) -> None:
        super().loseConnection()
        self.protocol.connectionLost(Failure(ConnectionDone()))


class PipeTestCase(TestCase):
    greet = False
    tail = ""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stdio: Stdio | None = None
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.remembered: list[str | None] = []
        self.questions: list[str] = []
        self.secrets: list[str] = []
        self.identity = Identity(self.folder / "key", own=True, ask=self.ask)
        self.pipe = Pipe(
            "alice",
            LocalFiles(self.identity),
            self.clock,
            self.attach,
            greet=self.greet,
            tail=self.tail,
            ask_password=self.identity.ask_password,
            remember=self.remembered.append,
        )
        self.pipe.session = ClientSession(
            "alice",
            self.pipe,
            Credentials(self.identity, self.pipe.ask_password),
            self.clock,
            token="x",
            first_id=1,
        )
        self.server = Transport()
        self.reader = FrameReader()
        self.pipe.session.makeConnection(self.server)
        self.requests()

    def ask(self, what: str) -> str:
        self.questions.append(what)
        return self.secrets.pop(0) if self.secrets else ""

    def attach(self, pipe: Pipe) -> None:
        self.stdio = Stdio()
        self.stdio.protocol = pipe
        pipe.makeConnection(self.stdio)

    def hear(self, data: bytes) -> str:
        """Receive frames from the server; return the new output."""
        self.pipe.session.dataReceived(data)
        return self.shown()

    def type(self, text: str | bytes) -> str:
        """Receive input; return the new output."""
        self.pipe.dataReceived(text.encode() if isinstance(text, str) else text)
        return self.shown()

    def shown(self) -> str:
        value = self.stdio.value().decode() if self.stdio else ""
        if self.stdio:
            self.stdio.clear()
        return value

    def requests(self) -> list[Frame]:
        """The requests since the last call."""
        return frames(self.server.take(), self.reader)

    def lose(self) -> None:
        self.pipe.session.connectionLost(Failure(ConnectionDone()))


class Registered(PipeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.assertIsNone(self.stdio, "no input is taken before there is somebody to send it to")
        self.greeting = self.hear(REGISTERED)
        self.numbers = count(1)

    def forward(self, to: str, text: str) -> str:
        headers = [("To", to), ("Message", next(self.numbers)), ("Time", TIME)]
        return self.hear(encode("FORWARD", "bob", headers, text))


class TypingTests(Registered):
    def test_a_message_is_sent(self) -> None:
        self.assertEqual(self.type(" @bob : hello: you  \n@ALL:x\n"), "")
        self.assertEqual(
            [(f.verb, f.argument, f.body) for f in self.requests()],
            [("SEND", "bob", "hello: you"), ("SEND", "ALL", "x")],
        )

    def test_anything_else_prints_the_help_for_the_format(self) -> None:
        for line in ("hello", "@bob hello", "@bob:", "@: x", "@bob:  "):
            self.assertEqual(self.type(line + "\n"), FORMAT_HELP + "\n", line)
        self.assertEqual(self.type("\n  \n"), "")
        self.assertEqual(self.requests(), [])

    def test_a_wrong_command_is_answered_about_the_command(self) -> None:
        for line, shown in (
            ("/jion #dev", "No such command: /jion; did you mean /join? (/help)"),
            ("/join", "Usage: /join #room [private]"),
            ("/bell on", "/bell is for a terminal (/help)"),
        ):
            self.assertEqual(self.type(f"{line}\n"), f"{shown}\n")
        self.assertEqual(self.requests(), [])

    def test_a_mark_at_the_start_of_the_input_is_no_part_of_the_first_line(self) -> None:
        self.type(b"\xef\xbb\xbf@bob: one\n@bob: \xef\xbb\xbftwo\n")
        self.assertEqual([f.body for f in self.requests()], ["one", "\ufefftwo"])

    def test_a_path_that_is_not_utf_8_can_be_shown(self) -> None:
        self.identity._path = self.folder / "\udcff" / "key"
        self.folder.joinpath("\udcff").write_text("")
        self.assertEqual(self.type("/register\n"), f"{self.folder}/\ufffd/key: File exists\n")

    def test_a_message_to_oneself_is_sent_for_the_users_other_devices(self) -> None:
        self.assertEqual(self.type("@Alice: x\n"), "")
        self.assertEqual([(f.argument, f.body) for f in self.requests()], [("Alice", "x")])

    def test_a_message_for_which_the_server_would_close_the_connection_is_not_sent(self) -> None:
        for line, words in (
            ("@b@d: x", "ERROR 102 : Unable to Send : Message not delivered to b@d"),
            (
                f"@{'x' * 600}: x",
                f"ERROR 102 : Unable to Send : Message not delivered to {'x' * 600}",
            ),
            ("@bob: " + "é" * 51, "ERROR 108 : Message too long : Message not delivered to bob"),
            ("@bob: a\0b", "ERROR 103 : Incomplete Header : Message not delivered to bob"),
            (b"@bob: \xff", "Not UTF-8 : Message not sent"),
        ):
            line = line if isinstance(line, bytes) else line.encode()
            self.assertEqual(self.type(line + b"\n"), words + "\n")
        self.assertEqual(self.requests(), [])

    def test_a_line_without_an_end_is_not_kept_without_bound(self) -> None:
        self.patch(Pipe, "MAX_LENGTH", 100)
        shown = self.type("x" * 150)
        self.assertEqual(shown, "Message too long : Message not sent\n")
        self.assertEqual(self.type("y" * 5000), "")
        self.assertEqual(self.type("y\n@bob: hello\n"), "")
        self.assertEqual([f.body for f in self.requests()], ["hello"])

    def test_lines_behind_one_that_is_too_long_are_lines(self) -> None:
        self.patch(Pipe, "MAX_LENGTH", 100)
        self.type("x" * 150 + "\n@bob: one\n@bob: two\n@bob: three")
        self.clock.advance(0)
        self.pipe.readConnectionLost()
        self.assertEqual([f.body for f in self.requests()], ["one", "two", "three"])

    def test_no_more_is_read_than_the_server_answers(self) -> None:
        self.patch(pipe_module, "WINDOW", 2)
        self.type("@bob: 1\n@bob: 2\n@bob: 3\n")
        self.assertEqual([f.body for f in self.requests()], ["1", "2"])
        self.assertEqual(self.stdio.producerState, "paused")
        self.hear(b"SENT bob\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.assertEqual([f.body for f in self.requests()], ["3"])

    def test_commands(self) -> None:
        self.assertEqual(self.type("/help\n"), help_text() + "\n")
        self.type("/who\n")
        self.assertEqual([f.verb for f in self.requests()], ["WHO"])
        shown = self.hear(b"WHO\nId: 1\nCount: 2\nContent-length: 10\n\nalice\nbob\n")
        self.assertEqual(shown, "2 here: alice bob\n")
        self.type("/quit\n@bob: x\n")
        self.assertEqual([f.verb for f in self.requests()], ["QUIT"])
        self.lose()
        self.assertEqual(self.successResultOf(self.pipe.done), 0)


class ShowingTests(Registered):
    def test_a_direct_message_is_marked_differently_from_a_broadcast(self) -> None:
        self.assertEqual(self.forward("alice", "hello"), "bob: hello\n")
        self.assertEqual(self.forward("ALL", "hello"), "bob to ALL: hello\n")

    def test_every_line_has_its_sender(self) -> None:
        shown = self.forward("alice", "one\r\ncarol: two\n\nfour\n")
        self.assertEqual(shown, "bob: one\nbob: carol: two\nbob: \nbob: four\n")

    def test_no_control_sequence_reaches_the_terminal(self) -> None:
        self.assertEqual(
            self.forward("alice", "a\x1b]0;x\x07\x9b2J\r!"), "bob: a␛]0;x␇\ufffd2J␍!\n"
        )

    def test_delivery_is_told_in_the_words_of_the_original(self) -> None:
        self.type("@bob: x\n@ALL: y\n")
        self.assertEqual(
            self.hear(b"SENT bob\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n"), ""
        )
        self.assertEqual(
            self.hear(b"SENT ALL\nId: 2\nMessage: 2\nTime: 2026-11-23T10:00:00.123Z\n\n"),
            "Message delivered to ALL\n",
        )
        self.assertEqual(
            self.hear(b"DELIVERED bob\nId: 1\nMessage: 1\n\n"), "Message delivered to bob\n"
        )

    def test_a_delivery_that_takes_long_is_told(self) -> None:
        self.type("@bob: x\n")
        self.hear(b"SENT bob\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.clock.advance(10)
        self.assertEqual(self.shown(), "Message sent to bob, not yet delivered\n")

    def test_refusals_are_told_in_the_words_of_the_original(self) -> None:
        self.type("@bob: x\n" * 3)
        self.assertEqual(
            self.hear(
                b"ERROR 102 Unable to send\nId: 1\n\nERROR 103 Header Incomplete\nId: 2\n\n"
                b"ERROR 112 Unavailable\nId: 3\n\n"
            ),
            "ERROR 102 : Unable to Send : Message not delivered to bob\n"
            "ERROR 103 : Incomplete Header : Message not delivered to bob\n"
            "ERROR 112 : Unavailable : Message not delivered to bob\n",
        )

    def test_a_slow_reader_of_standard_output_slows_down_the_server(self) -> None:
        self.stdio.producer.pauseProducing()
        self.assertEqual(self.server.producerState, "paused")
        self.stdio.producer.resumeProducing()
        self.assertEqual(self.server.producerState, "producing")

    def test_a_slow_reader_of_standard_output_holds_back_the_input_too(self) -> None:
        self.patch(pipe_module, "WINDOW", 1)
        self.stdio.producer.pauseProducing()
        self.assertEqual(self.stdio.producerState, "paused")
        self.assertEqual(self.type("@bob: 1\n@bob: 2\n"), "")
        self.stdio.producer.resumeProducing()
        self.assertEqual([f.body for f in self.requests()], ["1"])
        self.stdio.producer.pauseProducing()
        self.hear(b"SENT bob\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.assertEqual(self.requests(), [])
        self.stdio.producer.resumeProducing()
        self.assertEqual([f.body for f in self.requests()], ["2"])


class GreetingTests(Registered):
    greet = True

    def test_somebody_who_looks_on_is_told_that_they_are_registered(self) -> None:
        self.assertEqual(self.greeting, "alice : REGISTERED (/help tells what can be typed)\n")


class WrongServerTests(PipeTestCase):
    greet = True

    def test_a_server_can_not_play_with_the_terminal_either(self) -> None:
        self.assertEqual(self.hear(REGISTERED.replace(b"alice", b"a\x1b[2J")), "")
        self.assertEqual(
            self.pipe.failure,
            "the server broke the protocol: what should be a user's name is none",
        )


class EndTests(Registered):
    def code(self) -> int:
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return self.successResultOf(self.pipe.done)

    def quits(self) -> bool:
        return "QUIT" in [frame.verb for frame in self.requests()]

    def test_what_lets_a_guest_come_back_is_kept_until_they_have_said_goodbye(self) -> None:
        self.assertEqual(self.remembered, ["x"])
        self.type("/quit\n")
        self.assertEqual(self.remembered, ["x"])
        self.lose()
        self.assertEqual(self.remembered, ["x", None])

    def test_without_a_goodbye_it_is_kept(self) -> None:
        self.lose()
        self.assertEqual(self.remembered, ["x"])

    def test_the_code_of_a_signal_is_the_one_that_it_ends_with(self) -> None:
        done = self.pipe.interrupt(143)
        self.type("@bob: never sent\n")
        self.lose()
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(done), 143)

    def test_the_end_of_input_waits_for_the_delivery(self) -> None:
        self.type("@bob: x")  # a last line without an end
        self.pipe.readConnectionLost()
        self.assertFalse(self.quits())
        self.hear(b"SENT bob\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.assertFalse(self.quits())
        self.hear(b"DELIVERED bob\nId: 1\nMessage: 1\n\n")
        self.assertTrue(self.quits())
        self.assertEqual(self.code(), 0)

    def test_the_end_of_input_waits_for_the_commitment_of_a_broadcast(self) -> None:
        self.type("@ALL: x\n")
        self.pipe.readConnectionLost()
        self.assertFalse(self.quits())
        self.hear(b"SENT ALL\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.assertTrue(self.quits())
        self.assertEqual(self.code(), 0)

    def test_a_message_that_the_server_has_is_a_success_even_if_the_delivery_takes_long(
        self,
    ) -> None:
        self.type("@bob: x\n")
        self.pipe.readConnectionLost()
        self.hear(b"SENT bob\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.clock.advance(10)
        self.assertTrue(self.quits())
        self.assertEqual(self.code(), 0)

    def test_no_input_at_all_is_a_success(self) -> None:
        self.pipe.readConnectionLost()
        self.assertTrue(self.quits())
        self.assertEqual(self.code(), 0)

    def test_a_refused_message_is_exit_code_1(self) -> None:
        self.type("@bob: x\n")
        self.pipe.readConnectionLost()
        self.hear(b"ERROR 102 Unable to send\nId: 1\n\n")
        self.assertTrue(self.quits())
        self.assertEqual(self.code(), 1)

    def test_a_line_that_is_not_a_message_is_exit_code_1(self) -> None:
        self.type("rubbish\n")
        self.pipe.readConnectionLost()
        self.assertEqual(self.code(), 1)

    def test_a_server_that_goes_away_is_exit_code_1_and_says_what_was_not_delivered(self) -> None:
        self.type("@bob: x\n")
        self.hear(b"BYE The server is stopping\n\n")
        shown: list[str] = []
        self.patch(self.stdio, "loseConnection", lambda: shown.append(self.shown()))
        self.lose()
        self.assertEqual(
            shown,
            [
                "Server Inactive : Message not delivered to bob\n"
                "Server Inactive : The server is stopping\n"
            ],
        )
        self.pipe.connectionLost()
        self.assertEqual(self.successResultOf(self.pipe.done), 1)

    def test_nobody_reading_standard_output_is_a_quiet_end(self) -> None:
        self.pipe.readConnectionLost()
        self.pipe.writeConnectionLost()
        self.assertTrue(self.quits())
        self.assertEqual(self.forward("alice", "x"), "")
        self.assertEqual(self.code(), 0)

    def test_input_that_was_not_sent_because_nobody_reads_the_output_is_exit_code_1(self) -> None:
        self.pipe.writeConnectionLost()
        self.assertEqual(self.type("@bob: x\n"), "")
        self.assertEqual([f.verb for f in self.requests()], ["QUIT"])
        self.assertEqual(self.code(), 1)

    def test_quit_waits_until_the_server_has_what_was_sent_before(self) -> None:
        self.type("@bob: x\n/quit\n@bob: y\n")
        self.assertEqual([f.verb for f in self.requests()], ["SEND"])
        self.hear(b"SENT bob\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.assertTrue(self.quits())
        self.assertEqual(self.code(), 0)

    def test_a_server_that_closes_without_an_answer_is_exit_code_1(self) -> None:
        self.type("@bob: x\n")
        self.pipe.readConnectionLost()
        self.assertEqual(self.code(), 1)

    def test_an_interruption_waits_for_nothing_long(self) -> None:
        self.type("@bob: x\n")
        done = self.pipe.interrupt()
        self.assertTrue(self.quits())
        self.assertNoResult(done)
        self.clock.advance(0.5)
        self.assertEqual(self.successResultOf(done), 130)


class NotRegisteredTests(PipeTestCase):
    def test_a_refused_name_is_exit_code_2_with_the_reason(self) -> None:
        self.hear(b"ERROR 105 Name in use\n\n")
        self.lose()
        self.assertEqual(self.successResultOf(self.pipe.done), 2)
        self.assertEqual(self.pipe.failure, "ERROR 105 : Name in use : alice")

    def test_a_server_that_closes_is_exit_code_2(self) -> None:
        self.lose()
        self.assertEqual(self.successResultOf(self.pipe.done), 2)
        self.assertEqual(self.pipe.failure, "Server Inactive")


class CommandTests(Registered):
    def asked(self, line: str) -> tuple[object, ...]:
        """The single request of a line: verb, argument, headers without the ID, body."""
        self.requests()
        self.assertEqual(self.type(line + "\n"), "")
        [frame] = self.requests()
        self.last_id = int(frame.id or 0)
        headers = {name: value for name, value in frame.headers.items() if name != "id"}
        headers.pop("content-length", None)
        return (frame.verb, frame.argument, headers, frame.body)

    def test_each_command_is_a_request(self) -> None:
        for line, request in (
            ("/who #dev", ("WHO", "#dev", {"ranks": "yes", "identities": "yes"}, None)),
            ("/nick bobby", ("RENAME", "bobby", {}, None)),
            ("/delete 42", ("DELETE", "", {"message": "42"}, None)),
            ("/op #dev bob", ("RANK", "#dev", {"user": "bob", "rank": "operator"}, None)),
            ("/mode #dev private", ("MODE", "#dev", {"mode": "private", "on": "yes"}, None)),
            ("/ban #dev bob spam", ("BAN", "#dev", {"user": "bob"}, "spam")),
            ("/unban #dev bob", ("UNBAN", "#dev", {"user": "bob"}, None)),
            ("/bans #dev", ("BAN", "#dev", {}, None)),
            (
                "/account unregister erase",
                ("ACCOUNT", "unregister", {"erase": "yes"}, None),
            ),
            ("/history", ("HISTORY", "ALL", {"count": "20", "total": "yes"}, None)),
            ("/history 5", ("HISTORY", "ALL", {"count": "5", "total": "yes"}, None)),
            ("/history #dev", ("HISTORY", "#dev", {"count": "20", "total": "yes"}, None)),
            ("/history @bob 3", ("HISTORY", "bob", {"count": "3", "total": "yes"}, None)),
            ("/search red wine", ("SEARCH", "", {"count": "20", "total": "yes"}, "red wine")),
            ("/rooms", ("ROOMS", "", {}, None)),
            ("/join #dev", ("JOIN", "#dev", {}, None)),
            ("/join #dev private", ("JOIN", "#dev", {"private": "yes"}, None)),
            ("/leave #dev", ("LEAVE", "#dev", {}, None)),
            ("/topic #dev", ("TOPIC", "#dev", {}, None)),
            ("/topic #dev a b", ("TOPIC", "#dev", {}, "a b")),
            ("/invite #dev bob", ("INVITE", "#dev", {"user": "bob"}, None)),
            ("/kick #dev @bob", ("KICK", "#dev", {"user": "bob"}, None)),
            ("/kick bob too loud", ("KICK", "bob", {}, "too loud")),
            ("/kick @bob", ("KICK", "bob", {}, None)),
            ("/ban bob", ("BAN", "bob", {}, None)),
            (
                "/ban 192.0.2.0/24 7d a lot of spam",
                ("BAN", "192.0.2.0/24", {"duration": "7d"}, "a lot of spam"),
            ),
            ("/mute @bob 10m", ("MUTE", "bob", {"duration": "10m"}, None)),
            ("/mute bob 3rd time", ("MUTE", "bob", {}, "3rd time")),
            ("/unban bob", ("UNBAN", "bob", {}, None)),
            ("/unmute bob", ("UNMUTE", "bob", {}, None)),
            ("/bans", ("BAN", "", {}, None)),
            ("/unregister", ("ACCOUNT", "unregister", {}, None)),
            ("/keys", ("ACCOUNT", "keys", {}, None)),
            (
                "/keys remove ssh-ed25519 AAAA x",
                ("ACCOUNT", "remove", {"key": "ssh-ed25519 AAAA x"}, None),
            ),
            ("#dev: hello: you", ("SEND", "#dev", {}, "hello: you")),
            ("@#dev: hello", ("SEND", "#dev", {}, "hello")),
        ):
            self.assertEqual(self.asked(line), request, line)

    def test_a_command_that_is_wrong_is_answered_with_its_form(self) -> None:
        for line, usage in (
            ("/join", "/join #room [private]"),
            ("/join dev secret", "/join #room [private]"),
            ("/search", "/search words [#room] [@author] [since|before time]"),
            ("/invite #dev", "/invite #room name"),
            ("/rooms x", "/rooms"),
            ("/history a b c", "/history [#room|@user] [since|before time] [n]"),
        ):
            self.assertEqual(self.type(line + "\n"), f"Usage: {usage}\n")

    def test_what_was_said_is_shown_with_its_time_and_place(self) -> None:
        self.asked("/history #dev")
        time = ("Time", "2026-11-23T10:00:59.123Z")
        headers = [("Id", self.last_id), ("To", "#dev"), ("Message", 1), time]
        shown = self.hear(
            encode("MESSAGE", "bob", headers, "one\x1b\ntwo")
            + encode("HISTORY", "#dev", [("Id", self.last_id), ("Count", 1)])
        )
        at = "2026-11-23 10:00 bob to #dev"
        self.assertEqual(shown, f"{at}: one␛\n{at}: two\n")
        self.asked("/search x")
        shown = self.hear(encode("SEARCH", "", [("Id", self.last_id), ("Count", 0)]))
        self.assertEqual(shown, "Nothing found\n")

    def test_what_happens_in_rooms_is_shown(self) -> None:
        for frame, line in (
            ("JOINED #dev\nUser: bob\n\n", "bob joined #dev"),
            ("LEFT #dev\nUser: bob\n\n", "bob left #dev"),
            ("LEFT #dev\nUser: bob\nBy: carol\n\n", "bob was removed from #dev by carol"),
            ("TOPIC #dev\nUser: bob\nContent-length: 2\n\nhi", "bob set the topic of #dev: hi"),
            ("INVITED #dev\nUser: alice\nBy: bob\n\n", "bob invites you to #dev (/join #dev)"),
        ):
            self.assertEqual(self.hear(frame.encode()), line + "\n")

    def test_rooms_and_members_are_listed(self) -> None:
        self.asked("/rooms")
        body = "#a 1 member private\n#b 12\n"
        shown = self.hear(encode("ROOMS", "", [("Id", self.last_id), ("Count", 2)], body))
        self.assertEqual(shown, "#a, 1 member, you are in it, private\n#b, 12 members\n")
        self.asked("/who #a")
        body = "alice\nbob away\n"
        shown = self.hear(encode("WHO", "#a", [("Id", self.last_id), ("Count", 2)], body))
        self.assertEqual(shown, "2 in #a: alice bob (away)\n")

    def test_a_refused_command_is_named(self) -> None:
        self.asked("/join #dev")
        shown = self.hear(encode("ERROR", "111 Not permitted", [("Id", self.last_id)]))
        self.assertEqual(shown, "ERROR 111 : Not permitted : /join #dev\n")

    def test_register_sends_the_public_key_which_is_made_when_there_is_none(self) -> None:
        verb, argument, headers, _ = self.asked("/register")
        self.assertEqual((verb, argument), ("ACCOUNT", "register"))
        self.assertTrue(headers["key"].startswith("ssh-ed25519 AAAA"))
        self.assertEqual((self.folder / "key").stat().st_mode & 0o777, 0o600)
        self.assertEqual(
            self.hear(f"ACCOUNT register\nId: {self.last_id}\n\n".encode()),
            "alice is yours from now on\n",
        )

    def test_a_password_is_asked_for_twice(self) -> None:
        self.secrets = ["right", "right"]
        self.assertEqual(self.asked("/password"), ("ACCOUNT", "password", {}, "right"))
        self.secrets = ["right", "wrong"]
        self.assertEqual(self.type("/password\n"), "The two are not the same\n")
        self.assertEqual(self.type("/password\n"), "No password was given\n")

    def test_a_key_may_be_given_as_text(self) -> None:
        key = "ssh-ed25519 AAAA alice@lab"
        self.assertEqual(self.asked(f"/keys add {key}"), ("ACCOUNT", "add", {"key": key}, None))

    def test_a_file_that_is_no_key_is_said(self) -> None:
        self.assertEqual(self.type("/keys add /nowhere\n"), "/nowhere: No such file or directory\n")

    def test_messages_of_an_ignored_user_are_not_shown_until_further_notice(self) -> None:
        said = "FORWARD bob\nTo: alice\nMessage: {}\nTime: 2026-11-23T10:00:00.123Z\n"
        said += "Content-length: 1\n\nx"
        self.assertEqual(self.type("/ignore @Bob\n"), "Bob is ignored\n")
        self.assertEqual(self.hear(said.format(1).encode()), "")
        self.assertEqual(self.type("/ignore\n"), "Ignored: Bob\n")
        self.assertEqual(self.type("/unignore BOB\n"), "BOB is not ignored any more\n")
        self.assertEqual(self.hear(said.format(2).encode()), "bob: x\n")

    def test_what_the_server_has_to_say_is_shown_without_what_acts_on_a_terminal(self) -> None:
        self.assertEqual(self.hear(b"NOTICE motd\nContent-length: 5\n\na\x1b\nb\n"), "a␛\nb\n")
        self.assertEqual(
            self.hear(b"NOTICE announcement\nContent-length: 4\n\nsoon"), "Announcement: soon\n"
        )


class DeliveryTests(Registered):
    def test_no_more_is_read_while_too_much_waits_to_be_delivered(self) -> None:
        self.patch(pipe_module, "DELIVERY_WINDOW", 2)
        ids = []
        for text in "ab":
            self.type(f"@bob: {text}\n")
            ids += [int(frame.id or 0) for frame in self.requests()]
            self.hear(
                encode("SENT", "bob", [("Id", ids[-1]), ("Message", len(ids)), ("Time", TIME)])
            )
        self.assertTrue(self.pipe.paused)
        self.hear(encode("DELIVERED", "bob", [("Id", ids[0]), ("Message", 1)]))
        self.assertFalse(self.pipe.paused)


class TailTests(PipeTestCase):
    tail = "#dev"

    def setUp(self) -> None:
        super().setUp()
        self.hear(REGISTERED)
        [join] = self.requests()
        self.assertEqual((join.verb, join.argument), ("JOIN", "#dev"))
        self.hear(encode("JOINED", "#dev", [("Id", join.id), ("User", "alice")], ""))

    def test_who_is_put_out_of_the_room_leaves_and_says_why(self) -> None:
        shown = self.hear(encode("LEFT", "#dev", [("User", "alice"), ("By", "bob")]))
        self.assertEqual(shown, "alice was removed from #dev by bob\n")
        self.assertEqual([frame.verb for frame in self.requests()], ["QUIT"])
        self.lose()
        self.assertEqual(self.successResultOf(self.pipe.done), 1)
