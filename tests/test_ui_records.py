"""Events as JSON: one object per line, ASCII, with the given id."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.client.identity import Identity
from chat_twisted.client.login import Credentials
from chat_twisted.client.pipe import Pipe
from chat_twisted.client.session import ClientSession
from chat_twisted.client.user_files import LocalFiles
from chat_twisted.frames import Frame, FrameReader, encode
from chat_twisted.ui.commands import FORMAT_HELP, Command, Mistake, Reading, Say
from chat_twisted.ui.help import help_text
from chat_twisted.ui.records import USAGE, Records
from chat_twisted.ui.values import Event, Received, Refusal, Room, Seen, State
from tests.door import Transport
from tests.wire import frames

TEXT = 'é 🐟 \x1b[2J\x85\u2028 "x"\n{}'
MESSAGE = Received(7, "2026-11-23T10:00:59.123Z", "bob", "#dev", TEXT)


TIME = "2026-11-23T10:00:00.123Z"


class InputTests(TestCase):
    def setUp(self) -> None:
        self.records = Records("alice")

    def test_a_message_is_taken_as_it_is(self) -> None:
        for line, order in (
            ('{"to": "bob", "text": "hello"}', (Say("bob", "hello"), None)),
            ('{"to": "@bob", "text": " a\\nb "}', (Say("bob", " a\nb "), None)),
            ('{"to": "#dev", "text": "/quit", "more": []}', (Say("#dev", "/quit"), None)),
            ('{"to": "bob", "text": "\\ud83d\\udc1f"}', (Say("bob", "🐟"), None)),
        ):
            self.assertEqual(self.records.parse(line), order)

    def test_a_command_is_one_that_can_be_typed(self) -> None:
        for line, order in (
            (
                '{"command": "/history #dev 5"}',
                Command("/history", "#dev", "5", reading=Reading(place="#dev", count=5)),
            ),
            ('{"command": "/msg bob hi"}', Say("bob", "hi")),
            ('{"command": "/join"}', Mistake("Usage: /join #room [private]")),
            ('{"command": "/dance"}', Mistake("No such command: /dance (/help)")),
            ('{"command": "dance"}', Mistake(USAGE)),
            ('{"command": "@bob: x"}', Mistake(USAGE)),
            ('{"command": ""}', Mistake(USAGE)),
        ):
            self.assertEqual(self.records.parse(line), (order, None))

    def test_any_id_but_null_is_the_mark_of_what_follows(self) -> None:
        for value in (0, "x", 1.5, [1], {"a": None}, False, ""):
            for given in ({"to": "bob", "text": "x"}, {"command": "/who"}, {"nothing": 1}):
                _, mark = self.records.parse(json.dumps({"id": value, **given}))
                self.assertEqual(mark, value)
                self.assertEqual(json.loads(self.records.mistake(mark, "x"))["id"], value)
        _, mark = self.records.parse('{"id": null, "command": "/who"}')
        self.assertNotIn("id", json.loads(self.records.mistake(mark, "x")))

    def test_bad_input_is_answered_with_what_is_good(self) -> None:
        self.assertEqual(self.records.parse("  "), (None, None))
        for line in ("x", "{", "[1", '{"to": "bob", "text": "x"} x', "[" * 100_000, "9" * 10_000):
            order, mark = self.records.parse(line)
            self.assertEqual((order, mark), (Mistake(f"not JSON; {USAGE}"), None), line[:40])
        for line in ("1", "[]", "null", '"x"'):
            order, _ = self.records.parse(line)
            self.assertEqual(order, Mistake(f"not an object; {USAGE}"))
        for line in (
            "{}",
            '{"to": "bob"}',
            '{"text": "x"}',
            '{"to": "bob", "text": ""}',
            '{"to": "", "text": "x"}',
            '{"to": 1, "text": "x"}',
            '{"to": "bob", "text": ["x"]}',
            '{"command": 1}',
        ):
            self.assertEqual(self.records.parse(line), (Mistake(USAGE), None))

    def test_what_json_does_not_have_is_none_and_what_can_not_be_answered_is_said(self) -> None:
        for value in ("NaN", "Infinity", "-Infinity", "[NaN]"):
            line = f'{{"to": "bob", "text": "x", "more": {value}}}'
            order, mark = self.records.parse(line)
            self.assertEqual((order, mark), (Mistake(f"not JSON; {USAGE}"), None))
        for value in ("1e400", "[-1e400]", "[" * 900 + "]" * 900):
            line = f'{{"to": "bob", "text": "x", "id": {value}}}'
            order, mark = self.records.parse(line)
            json.loads(self.records.mistake(mark, "x"), parse_constant=self.fail)
            if isinstance(order, Mistake):
                self.assertIsNone(mark)
        line = '{"to": "bob", "text": "x", "more": 1e400}'
        self.assertEqual(self.records.parse(line), (Say("bob", "x"), None))

    def test_the_only_thing_to_do_is_an_object_or_what_a_person_would_write(self) -> None:
        for text, order in (
            ('{"to": "bob", "text": "x"}', Say("bob", "x")),
            ("@bob: x", Say("bob", "x")),
            (" /who", Command("/who")),
            ("{", Mistake(f"not JSON; {USAGE}")),
            ("x", Mistake(FORMAT_HELP)),
        ):
            self.assertEqual(self.records.parse_once(text), (order, None))

    def test_half_a_character_is_no_text(self) -> None:
        for line in (
            '{"to": "bob", "text": "\\ud800", "id": 1}',
            '{"to": "\\udfff", "text": "x", "id": 1}',
            '{"command": "/search \\ud800", "id": 1}',
        ):
            order, mark = self.records.parse(line)
            self.assertIsInstance(order, Mistake, line)
            self.assertEqual(mark, 1)


class OutputTests(TestCase):
    def setUp(self) -> None:
        self.records = Records("alice")

    def check(self, written: str, expected: dict[str, Any]) -> None:
        self.assertTrue(written.isascii())
        self.assertTrue(written.isprintable())
        self.assertEqual(json.loads(written), expected)

    def test_what_became_of_a_message(self) -> None:
        records = self.records
        sent = {"event": "sent", "id": 1, "to": "bob", "number": 7, "time": "t"}
        self.check(records.sent(1, "bob", 7, "t"), sent)
        self.check(records.accepted(1, "bob", 7, "t"), sent)
        self.check(records.delivered(1, "bob"), {"event": "delivered", "id": 1, "to": "bob"})
        self.check(records.overdue([], "bob"), {"event": "undelivered", "id": [], "to": "bob"})
        self.check(records.unanswered(0, "bob"), {"event": "unanswered", "id": 0, "to": "bob"})
        self.check(
            records.not_sent(None, "bob", Refusal(102, TEXT)),
            {"event": "refused", "to": "bob", "code": 102, "reason": TEXT},
        )

    def test_what_became_of_a_command(self) -> None:
        records, refusal = self.records, Refusal(111, "Not permitted")
        self.check(
            records.refused("x", Command("/join", "#a"), "#a", refusal),
            {
                "event": "refused",
                "id": "x",
                "command": "/join",
                "about": "#a",
                "code": 111,
                "reason": "Not permitted",
            },
        )
        self.assertNotIn("about", json.loads(records.refused(1, Command("/bans"), "", refusal)))
        self.check(
            records.changed(1, Command("/away"), "away", []),
            {"event": "done", "id": 1, "command": "/away", "about": "away"},
        )
        self.check(
            records.changed(1, Command("/keys"), "keys", ["k é"]),
            {"event": "done", "id": 1, "command": "/keys", "about": "keys", "keys": ["k é"]},
        )

    def test_lists(self) -> None:
        records = self.records
        self.check(
            records.listed(
                1,
                Command("/who"),
                "",
                [Seen("alice", State.HERE), Seen("bob", State.AWAY, TEXT[:9])],
            ),
            {
                "event": "who",
                "id": 1,
                "users": [
                    {"user": "alice", "state": "here"},
                    {"user": "bob", "state": "away", "why": TEXT[:9]},
                ],
            },
        )
        self.check(
            records.listed(1, Command("/bans", room="#a"), "#a", ["bob ever alice"]),
            {"event": "bans", "id": 1, "room": "#a", "bans": ["bob ever alice"]},
        )
        self.check(
            records.listed(1, Command("/who", "#a"), "#a", [Seen("a", State.HERE, "", "voice")]),
            {
                "event": "who",
                "id": 1,
                "room": "#a",
                "users": [{"user": "a", "state": "here", "rank": "voice"}],
            },
        )
        self.check(
            records.listed(1, Command("/who", "#a"), "#a", []),
            {"event": "who", "id": 1, "room": "#a", "users": []},
        )
        self.check(
            records.listed(
                1,
                Command("/rooms"),
                "",
                [Room("#a", 1, False, False), Room("#b", 12, True, True)],
            ),
            {
                "event": "rooms",
                "id": 1,
                "rooms": [
                    {"room": "#a", "members": 1, "member": False, "private": False},
                    {"room": "#b", "members": 12, "member": True, "private": True},
                ],
            },
        )
        self.check(
            records.listed(1, Command("/bans"), "", ["bob ban"]),
            {"event": "bans", "id": 1, "bans": ["bob ban"]},
        )

    def test_messages(self) -> None:
        fields = {
            "number": 7,
            "time": "2026-11-23T10:00:59.123Z",
            "from": "bob",
            "to": "#dev",
            "text": TEXT,
        }
        self.check(self.records.received(MESSAGE), {"event": "message", **fields})
        for name in ("history", "search"):
            self.check(
                self.records.found(1, Command(f"/{name}"), [MESSAGE]),
                {"event": name, "id": 1, "messages": [fields]},
            )
        self.check(
            self.records.found(None, Command("/search"), []), {"event": "search", "messages": []}
        )

    def test_what_happens_in_rooms(self) -> None:
        for event, expected in (
            (
                Event("JOINED", "#a", "bob", "", "plans"),
                {"event": "joined", "room": "#a", "user": "bob", "topic": "plans"},
            ),
            (
                Event("LEFT", "#a", "bob", "carol", None),
                {"event": "left", "room": "#a", "user": "bob", "by": "carol"},
            ),
            (
                Event("TOPIC", "#a", "bob", "", ""),
                {"event": "topic", "room": "#a", "user": "bob", "topic": ""},
            ),
            (
                Event("INVITED", "#a", "alice", "bob", None),
                {"event": "invited", "room": "#a", "user": "alice", "by": "bob"},
            ),
        ):
            self.check(self.records.told(None, event), expected)
            self.check(self.records.told(3, event), {**expected, "id": 3})

    def test_events_have_what_belongs_to_them(self) -> None:
        room = {"room": "#a", "user": "bob", "by": "alice"}
        for event, expected in (
            (
                Event("JOINED", "#a", "bob", "", "", rank="voice", modes=("topic",)),
                {
                    "event": "joined",
                    "room": "#a",
                    "user": "bob",
                    "topic": "",
                    "rank": "voice",
                    "modes": ["topic"],
                },
            ),
            (
                Event("JOINED", "#a", "bob", "", "", operators=("alice", "carol")),
                {
                    "event": "joined",
                    "room": "#a",
                    "user": "bob",
                    "topic": "",
                    "operators": ["alice", "carol"],
                },
            ),
            (
                Event("LEFT", "#a", "bob", "alice", None, reason=TEXT),
                {"event": "left", **room, "reason": TEXT},
            ),
            (
                Event("RANK", "#a", "bob", "alice", None, rank="none"),
                {"event": "rank", **room, "rank": "none"},
            ),
            (
                Event("MODE", "#a", "", "alice", None, mode="private", on=False),
                {"event": "mode", "room": "#a", "mode": "private", "on": False, "by": "alice"},
            ),
            (
                Event("MODE", "#a", "", "", None, modes=("private", "topic")),
                {"event": "mode", "room": "#a", "modes": ["private", "topic"]},
            ),
            (Event("MODE", "#a", "", "", None), {"event": "mode", "room": "#a", "modes": []}),
            (
                Event("BAN", "#a", "bob", "alice", None, reason="spam"),
                {"event": "ban", **room, "reason": "spam"},
            ),
            (Event("UNBAN", "#a", "bob", "alice", None), {"event": "unban", **room}),
            (
                Event("RENAMED", "", "bob", "", None, new_name="bobby"),
                {"event": "renamed", "user": "bob", "to": "bobby"},
            ),
            (
                Event("DELETED", "", "", "bob", None, reason="x", conversation="#a", number=42),
                {"event": "deleted", "conversation": "#a", "number": 42, "by": "bob"}
                | {"reason": "x"},
            ),
            (
                Event("READ", "", "", "", None, conversation="bob", number=42),
                {"event": "read", "conversation": "bob", "number": 42},
            ),
        ):
            self.check(self.records.told(None, event), expected)
            self.check(self.records.told(3, event), {**expected, "id": 3})

    def test_a_deleted_message_says_so(self) -> None:
        deleted = Received(7, TIME, "bob", "#dev", "", True)
        self.check(
            self.records.received(deleted),
            {
                "event": "message",
                "number": 7,
                "time": TIME,
                "from": "bob",
                "to": "#dev",
                "text": "",
                "deleted": True,
            },
        )

    def test_who_comes_and_goes_is_a_line_each(self) -> None:
        first, second = self.records.seen(
            [Seen("bob", State.AWAY, "lunch"), Seen("carol", State.GONE)]
        ).split("\n")
        self.check(first, {"event": "presence", "user": "bob", "state": "away", "why": "lunch"})
        self.check(second, {"event": "presence", "user": "carol", "state": "gone"})
        self.assertEqual(self.records.seen([]), "")

    def test_all_else(self) -> None:
        records = self.records
        self.check(records.greeting("alice", None), {"event": "registered", "user": "alice"})
        for seconds, kept in ((math.inf, "ever"), (0, "off"), (60, 60)):
            self.check(
                records.greeting("alice", seconds),
                {"event": "registered", "user": "alice", "kept": kept},
            )
        self.check(records.help(None, "rooms"), {"event": "help", "text": help_text("rooms")})
        self.check(records.mistake(2, TEXT), {"event": "mistake", "id": 2, "text": TEXT})
        self.check(records.noticed(TEXT), {"event": "notice", "text": TEXT})
        self.check(records.disconnected(TEXT), {"event": "disconnected", "reason": TEXT})
        self.check(records.reconnected(""), {"event": "reconnected"})
        self.check(records.reconnected("b:1"), {"event": "reconnected", "host": "b:1"})
        self.check(records.went_back(), {"event": "went_back"})
        self.check(records.over(""), {"event": "over", "reason": ""})


class PipeTests(TestCase):
    """The same through standard input and output."""

    away = False  # the server

    def setUp(self) -> None:
        self.clock = Clock()
        self.stdio = StringTransport()
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        identity = Identity(folder / "key", own=True)
        self.pipe = Pipe(
            "alice",
            LocalFiles(identity),
            self.clock,
            lambda pipe: pipe.makeConnection(self.stdio),
            greet=True,
            output_format=Records("alice"),
        )
        self.pipe.session = ClientSession(
            "alice",
            self.pipe,
            Credentials(identity, self.pipe.ask_password),
            self.clock,
            lambda session: fail(ConnectionDone()) if self.away else self.connect(),
        )
        self.connect()
        self.events = self.hear(encode("REGISTERED", "alice", self.registered(0)))

    def connect(self) -> Deferred[None]:
        self.server = Transport()
        self.reader = FrameReader()
        self.pipe.session.makeConnection(self.server)
        return succeed(None)

    def registered(self, last: int) -> list[tuple[str, object]]:
        return [("Version", 2), ("Session", "x"), ("Max-message", 100), ("Last", last)]

    def shown(self) -> list[dict[str, Any]]:
        """The output since the last call."""
        data = self.stdio.value()
        self.stdio.clear()
        self.assertTrue(data.isascii())
        return [json.loads(line) for line in data.splitlines()]

    def hear(self, *data: bytes) -> list[dict[str, Any]]:
        self.pipe.session.dataReceived(b"".join(data))
        return self.shown()

    def type(self, *given: dict[str, Any]) -> list[dict[str, Any]]:
        self.pipe.dataReceived("".join(f"{json.dumps(line)}\n" for line in given).encode())
        return self.shown()

    def requests(self) -> list[Frame]:
        return frames(self.server.take(), self.reader)

    def test_a_session_from_the_greeting_to_the_end(self) -> None:
        self.assertEqual(self.events, [{"event": "registered", "user": "alice"}])
        self.assertEqual(
            self.type(
                {"to": "bob", "text": "é\nx", "id": "m"},
                {"to": "nobody", "text": "x", "id": 2},
                {"command": "/who", "id": 3},
                {"command": "/join #a", "id": 4},
            ),
            [],
        )
        bob, nobody, who, join = (frame.id for frame in self.requests() if frame.id)
        time = ("Time", TIME)
        self.assertEqual(
            self.hear(
                encode("SENT", "bob", [("Id", bob), ("Message", 5), time]),
                encode("ERROR", "102 Unable to send", [("Id", nobody)]),
                encode("WHO", "", [("Id", who), ("Count", 1)], "alice\n"),
                encode("JOINED", "#a", [("Id", join), ("User", "alice")], "plans"),
                encode("FORWARD", "bob", [("To", "alice"), ("Message", 6), time], "hi\n"),
                encode("DELIVERED", "bob", [("Id", bob), ("Message", 5)]),
                encode("NOTICE", "", (), "a\nb"),
            ),
            [
                {"event": "sent", "id": "m", "to": "bob", "number": 5, "time": TIME},
                {
                    "event": "refused",
                    "id": 2,
                    "to": "nobody",
                    "code": 102,
                    "reason": "Unable to send",
                },
                {"event": "who", "id": 3, "users": [{"user": "alice", "state": "here"}]},
                {"event": "joined", "id": 4, "room": "#a", "user": "alice", "topic": "plans"},
                {
                    "event": "message",
                    "number": 6,
                    "time": TIME,
                    "from": "bob",
                    "to": "alice",
                    "text": "hi\n",
                },
                {"event": "delivered", "id": "m", "to": "bob"},
                {"event": "notice", "text": "a\nb"},
            ],
        )
        self.type({"command": "/quit"})
        self.assertEqual([frame.verb for frame in self.requests()][-1], "QUIT")

    def test_a_lost_connection_is_told_once_and_that_it_stands_again(self) -> None:
        self.away = True
        self.pipe.session.connectionLost(Failure(ConnectionDone()))
        self.clock.pump([1] * 10)
        self.assertEqual(self.shown(), [{"event": "disconnected", "reason": ""}])
        self.away = False
        self.clock.advance(30)
        again = self.hear(encode("REGISTERED", "alice", self.registered(0)))
        self.assertEqual(again, [{"event": "reconnected"}])

    def test_bad_input_is_a_mistake_and_the_next_line_is_read(self) -> None:
        self.pipe.dataReceived(
            b'{"id": 5}\n\xff\n{"to": "bob", "text": "\\ud800", "id": 6}\n'
            b'{"to": "", "text": "x", "id": 7}\n{"to": "bob", "text": "\\u0000", "id": 8}\n'
            b'{"to": "bob", "text": "ok"}\n'
        )
        self.assertEqual(
            [(event["event"], event.get("id")) for event in self.shown()],
            [("mistake", 5), ("mistake", None), ("mistake", 6), ("mistake", 7), ("refused", 8)],
        )
        self.assertEqual([frame.body for frame in self.requests()], [None, "ok"])
