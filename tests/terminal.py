"""Base classes for tests of the terminal's view: a terminal that records, and a session whose
server is the test.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import count
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.client.config import Config
from chat_twisted.client.identity import Identity
from chat_twisted.client.login import Credentials
from chat_twisted.client.session import ClientSession
from chat_twisted.client.user_files import LocalFiles
from chat_twisted.frames import Frame, FrameReader, encode
from chat_twisted.text import printable
from chat_twisted.ui.conversation_view import ConversationView
from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.layout import Line
from chat_twisted.ui.settings import Memory
from tests.door import Transport
from tests.wire import frames

TIME = "2026-11-23T10:00:59.123Z"
LOST = "! Connection lost, trying again. What you write is sent then."
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def plain(line: Line) -> str:
    return printable("".join(text for _, text in line))  # as the screen does


class Terminal:
    """A terminal that records its output."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.rings = 0
        self.notices: list[tuple[str, str]] = []
        self.questions: list[tuple[str, bool, Deferred[str]]] = []
        self.stopped: list[tuple[int, str]] = []
        self.refreshed = 0

    def show(self, lines: Sequence[Line]) -> None:
        self.lines.extend(lines)

    def columns(self) -> int:
        return 80

    def clear(self) -> None:
        self.lines.clear()

    def refresh(self) -> None:
        self.refreshed += 1

    def ring(self) -> None:
        self.rings += 1

    def notify(self, title: str, text: str) -> None:
        self.notices.append((printable(title), printable(text)))

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        answered: Deferred[str] = Deferred()
        self.questions.append((what, secret, answered))
        return answered

    def stop(self, code: int, reason: str) -> None:
        self.stopped.append((code, printable(reason)))


class TalkTestCase(TestCase):
    rooms: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    place = ""
    token = ""
    timezone: tzinfo = UTC

    def setUp(self) -> None:
        self.clock = Clock()
        self.terminal = Terminal()
        self.config = Config()
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.identity = Identity(folder / "key", own=True)
        self.remembered: list[str | None] = []
        self.renames: list[str] = []
        self.ignores: list[list[str]] = []
        self.places: list[str] = []
        self.away = False  # whether there is no server to connect to
        self.numbers = count(1)
        self.number_of: dict[str, int] = {}  # the numbers of sent messages, by request ID
        self.view = self.make_view()
        self.connect()

    def make_view(self) -> ConversationView:
        view = ConversationView(
            "alice",
            LocalFiles(self.identity),
            self.clock,
            self.terminal,
            self.config,
            Memory(
                ignored=self.ignored,
                place=self.place,
                remember_ignored=lambda names: self.ignores.append(list(names)),
                remember_place=self.places.append,
                remember_token=self.remembered.append,
                renamed=self.renames.append,
            ),
            rooms=self.rooms,
            timezone=self.timezone,
            now=lambda: NOW.astimezone(self.timezone),
        )
        view.session = ClientSession(
            "alice",
            view,
            Credentials(self.identity, self.ask_password),
            self.clock,
            self.reconnect,
            token=self.token,
            first_id=1,
            other_name=lambda refusal: Deferred.fromCoroutine(view.other_name(refusal)),
        )
        view.session.where = "chat.example"
        return view

    def ask_password(self, what: str) -> Deferred[str]:
        def given(password: str) -> str:
            if not password:
                raise IdentityError("No password of alice was given")
            return password

        return Deferred.fromCoroutine(self.view.ask_password(what)).addCallback(given)

    def connect(self) -> None:
        self.server = Transport()
        self.reader = FrameReader()
        self.view.session.makeConnection(self.server)

    def reconnect(self, session: ClientSession) -> Deferred[None]:
        if self.away:
            return fail(ConnectionRefusedError())
        self.connect()
        return succeed(None)

    def hear(self, *frames: bytes) -> list[str]:
        """Receive frames from the server; return the new output."""
        self.view.session.dataReceived(b"".join(frames))
        return self.shown()

    def type(self, *lines: str) -> list[str]:
        """Type lines; return the new output."""
        for line in lines:
            self.view.take(line)
        return self.shown()

    def shown(self) -> list[str]:
        """The output since the last call, as text."""
        lines, self.terminal.lines = self.terminal.lines, []
        return [plain(line) for line in lines]

    def styles(self) -> list[Line]:
        lines, self.terminal.lines = self.terminal.lines, []
        return lines

    def beside(self) -> list[str]:
        return [plain(line) for line in self.view.beside()]

    def prompt(self) -> str:
        return plain(self.view.prompt())

    def answer(self, text: str) -> list[str]:
        """Answer the oldest question; return the new output."""
        self.terminal.questions.pop(0)[2].callback(text)
        return self.shown()

    def requests(self, *but: str) -> list[Frame]:
        """The requests since the last call, except those with some verbs."""
        asked = frames(self.server.take(), self.reader)
        return [frame for frame in asked if frame.verb not in but]

    def asked(self, line: str) -> Frame:
        """The single request of a line; ``self.last_id`` is its ID."""
        self.requests()
        self.assertEqual(self.type(line), [])
        [frame] = self.requests()
        self.last_id = frame.id
        return frame

    def refused(self, id: str | None, error: str = "102 Unable to send") -> list[str]:
        return self.hear(encode("ERROR", error, [("Id", id)] if id else []))

    def lose(self) -> list[str]:
        self.view.session.connectionLost(Failure(ConnectionDone()))
        return self.shown()

    def come_back(self, last: int = 1000) -> list[str]:
        """Reconnect and register."""
        self.away = False
        self.clock.advance(31)
        return self.hear(registered(last))


def registered(last: int = 0, token: str = "x", name: str = "alice") -> bytes:
    headers = [("Version", 2), ("Session", token), ("Max-message", 1000), ("Last", last)]
    return encode("REGISTERED", name, headers)


class Registered(TalkTestCase):
    users = ("alice", "Bob", "carol away at lunch")
    known_rooms = ("#dev 2 member", "#Ops 1")
    marker_lines: tuple[str, ...] = ()

    def setUp(self) -> None:
        super().setUp()
        self.requests()
        self.greeting = self.hear(registered())
        self.greeting += self.look_around()
        self.day = ["── Mon 23 Nov 2026 ──"]

    def look_around(self) -> list[str]:
        """Answer the requests that follow a connection."""
        shown = []
        self.first: list[Frame] = []
        while asked := self.requests():
            self.first += asked
            for frame in asked:
                shown += self.look(frame)
        return shown

    def look(self, frame: Frame) -> list[str]:
        """Answer a request that reads; return the new output."""
        lists = {"WHO": self.users, "ROOMS": self.known_rooms, "READ": self.marker_lines}
        if frame.verb == "HISTORY":
            return self.hear(encode("HISTORY", frame.argument, [("Id", frame.id)]))
        if frame.verb in lists and not frame.argument:
            body = "".join(f"{line}\n" for line in lists[frame.verb])
            return self.hear(encode(frame.verb, "", [("Id", frame.id)], body))
        return []

    def forward(
        self, to: str, text: str, sender: str = "Bob", *, number: int = 0, time: str = TIME
    ) -> list[str]:
        """Receive a message; return the new output without the line with the date."""
        headers = [("To", to), ("Message", number or next(self.numbers)), ("Time", time)]
        shown = self.hear(encode("FORWARD", sender, headers, text))
        return self.without_day(shown)

    def without_day(self, shown: list[str]) -> list[str]:
        return [line for line in shown if line not in self.day]

    def said(self, line: str) -> str:
        """Type a message; return its ID."""
        frame = self.asked(line)
        self.assertEqual(frame.verb, "SEND")
        return frame.id or ""

    def sent(self, id: str, to: str = "Bob") -> list[str]:
        number = self.number_of.setdefault(id, next(self.numbers))
        headers = [("Id", id), ("Message", number), ("Time", TIME)]
        return self.without_day(self.hear(encode("SENT", to, headers)))

    def delivered(self, id: str, to: str = "Bob") -> list[str]:
        headers = [("Id", id), ("Message", self.number_of[id])]
        return self.without_day(self.hear(encode("DELIVERED", to, headers)))

    def turn(self, to: str, *history: tuple[int, str, str]) -> list[str]:
        """Turn to a conversation, and answer the request for its history; return the output."""
        asked = self.asked(to)
        self.assertEqual((asked.verb, asked.argument), ("HISTORY", to.removeprefix("@")))
        return self.without_day(self.hear(*self.history(asked, *history)))

    def history(self, asked: Frame, *messages: tuple[int, str, str]) -> Iterator[bytes]:
        for number, sender, text in messages:
            headers = [("Id", asked.id), ("To", asked.argument), ("Message", number)]
            yield encode("MESSAGE", sender, [*headers, ("Time", TIME)], text)
        yield encode("HISTORY", asked.argument, [("Id", asked.id), ("Count", len(messages))])
