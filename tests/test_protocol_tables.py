"""The protocol's page says what is so: each row of its tables of requests is asked of a server, and
its table of errors is that of the code.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from twisted.trial.unittest import TestCase

from chat_twisted.core.commands import CONSOLE, SetOperator
from chat_twisted.core.errors import ChatError, NameInUse, Sanctioned
from chat_twisted.doors.framed import State
from chat_twisted.refusals import REFUSALS, refusal_headers, refusal_of
from tests.door import Client, DoorTestCase
from tests.wire import frames

PAGE = Path(__file__).parent.parent / "docs" / "protocol.rst"
SECTION = "Every request and its answer"


class Row(NamedTuple):
    """A row of a table: what is asked, and what the page says is answered."""

    under: str
    request: str
    answer: str
    note: str

    @property
    def kind(self) -> str:
        """The verb of the answer, an ERROR's code, or "nothing"."""
        return re.match(r"\w+", self.answer)[0]

    @property
    def closes(self) -> bool:
        return ", closed" in self.answer

    @property
    def header(self) -> str:
        """A header that the answer has, in lower case."""
        header = re.search("with ``([^`]+)``", self.note)
        return "" if header is None else header[1].lower()

    @property
    def has_id(self) -> bool:
        return ", no ``Id``" not in self.answer


def rows() -> Iterator[Row]:
    """Read the tables of the page."""
    text = PAGE.read_text()
    section = re.split(r"\n(?=[^\n]+\n---+\n)", text[text.index(f"\n{SECTION}\n---") + 1 :])[0]
    for part in re.split(r"\n(?=[^\n]+\n~~~+\n)", section)[1:]:
        table = re.findall(r'^   (".*)$', part, re.MULTILINE)
        for request, answer, *note in csv.reader(table, skipinitialspace=True, strict=True):
            request = request.removeprefix("``").removesuffix("``")
            yield Row(part.split("\n", 1)[0], request, answer, "".join(note))


ESCAPES = {"\\n": "\n", "\\0": "\0"}


def unescape(text: str) -> bytes:
    """Make bytes of what the page writes."""
    text = re.sub(r"(.)\{(\d+)\}", lambda times: times[1] * int(times[2]), text)
    data = re.sub(
        r"\\(?:x(..)|.)",
        lambda escape: chr(int(escape[1], 16)) if escape[1] else ESCAPES[escape[0]],
        text,
    )
    return data.encode("latin-1")


def frame(request: str) -> bytes:
    """Make a frame of a request as the page writes it."""
    head, blank, body = unescape(request).partition(b"\n\n")
    start, *headers = head.split(b"\n")
    if not any(header.startswith(b"Id:") for header in headers):
        headers.insert(0, b"Id: 7")
    if blank and not any(header.startswith(b"Content-length:") for header in headers):
        headers.append(b"Content-length: %d" % len(body))
    return b"\n".join([start, *headers]) + b"\n\n" + body


class TableTests(DoorTestCase):
    max_clients = 1000

    def setUp(self) -> None:
        """Make what the page says there is."""
        super().setUp()
        self.clock.advance(1)  # a time of 0 is one that is not known
        self.alice, self.bob, self.dora = (self.user(name) for name in ("alice", "bob", "dora"))
        self.ask(self.dora, "ACCOUNT register\n\nright")
        for client, room in ((self.alice, "#dev"), (self.bob, "#dev"), (self.bob, "#club")):
            self.ask(client, f"JOIN {room}")
        self.ask(self.bob, "JOIN #den\nPrivate: yes")
        self.set_operator(on=True)
        self.ask(self.dora, "BAN eve")
        self.user("frank").gone()
        self.set_operator(on=False)

    def set_operator(self, *, on: bool) -> None:
        self.hub.ask(SetOperator(CONSOLE, 0, "dora", on))
        self.commit()

    def ask(self, client: Client, request: str) -> bytes:
        """Ask, let happen what takes time, and return all that was answered."""
        client.transport.clear()
        client.protocol.dataReceived(frame(request))
        for _ in range(3):
            self.commit()
            self.clock.advance(1)
        return client.transport.take()

    def unproven(self) -> Client:
        client = self.connect()
        self.assertIn(b"ERROR 106", self.ask(client, "REGISTER dora"))
        return client

    def operator(self) -> Client:
        self.set_operator(on=True)
        return self.dora

    ASKERS: ClassVar[dict[str, Callable[[TableTests], Client]]] = {
        "Answers: frames": lambda self: self.alice,
        "Answers: the first words": lambda self: self.connect(),
        "Answers: AUTH": lambda self: self.unproven(),
        "Answers: being there, and messages": lambda self: self.alice,
        "Answers: who is here": lambda self: self.alice,
        "Answers: rooms": lambda self: self.alice,
        "Answers: reading back": lambda self: self.alice,
        "Answers: accounts, to a guest": lambda self: self.alice,
        "Answers: accounts, to their owners": lambda self: self.dora,
        "Answers: operators": lambda self: self.operator(),
    }

    def check(self, row: Row) -> None:
        """Ask as the row says, and compare."""
        client = self.ASKERS[row.under](self)
        found = frames(self.ask(client, row.request))
        answers = [each for each in found if each.verb != "MESSAGE"][:1]
        kinds = [each.argument[:3] if each.verb == "ERROR" else each.verb for each in answers]
        self.assertEqual(kinds, [] if row.kind == "nothing" else [row.kind])
        for answer in answers:
            *_, id = re.findall(rb"\nId: ?(.*)", frame(row.request))
            self.assertEqual(answer.headers.get("id"), id.decode() if row.has_id else None)
            if row.header:
                self.assertIn(row.header, answer.headers)
        self.assertEqual(client.closed, row.closes)
        if not row.closes:
            if client.protocol.state is State.NEW:
                self.assertIn(b"REGISTERED carol\n", self.ask(client, "REGISTER carol"))
            self.assertEqual(self.ask(client, "PING there"), b"PONG there\nId: 7\n\n")

    def test_all_tables_are_known(self) -> None:
        self.assertEqual({row.under for row in rows()}, set(self.ASKERS))


def classes(of: type[ChatError]) -> Iterator[type[ChatError]]:
    """The classes of errors."""
    for kind in of.__subclasses__():
        yield kind
        yield from classes(kind)


class ErrorTests(TestCase):
    def test_the_table_of_errors_is_that_of_the_code(self) -> None:
        table = re.findall(r"^(1\d\d)  (.{23}) (.+)$", PAGE.read_text(), re.MULTILINE)
        self.assertEqual(
            [
                (int(code), reason.rstrip(), then.startswith("the connection is closed"))
                for code, reason, then in table
            ],
            sorted(REFUSALS.values()),
        )

    def test_every_error_has_a_refusal_and_headers_that_the_page_knows(self) -> None:
        rows = re.findall(r"^(``[A-Z].*``) +(1\d\d(?:, 1\d\d)*) ", PAGE.read_text(), re.MULTILINE)
        documented = {
            (header, int(code))
            for headers, codes in rows
            for header in re.findall(r"``([^`]+)``", headers)
            for code in codes.split(",")
        }
        found = {("Methods", 106), ("Challenge", 106)}  # of the connection, not the error
        for kind in classes(ChatError):
            if issubclass(kind, Sanctioned):
                error: ChatError = kind(1, "why", "op")
            else:
                error = kind(1) if kind is NameInUse else kind(retry_after=1)
            code = refusal_of(kind).code
            headers = {header for header, _ in refusal_headers(error)} - {"Retry-after"}
            found |= {(header, code) for header in headers}
        # Those that say when to try again are for who raises them to choose.
        self.assertEqual(documented - {("Retry-after", 109), ("Retry-after", 112)}, found)

    def test_errors_of_the_chat_know_no_protocol(self) -> None:
        for kind in classes(ChatError):
            self.assertEqual([name for name in ("code", "reason") if hasattr(kind, name)], [])
            self.assertEqual(str(kind()), kind.__name__)


def asking(row: Row) -> Callable[[TableTests], None]:
    return lambda self: self.check(row)


for number, row in enumerate(rows()):
    # trial can't run a single test whose name has a dot, a slash or a line end
    name = re.sub(r"\W+", "_", f"test_{number:03} {row.under} {row.request[:40]}").rstrip("_")
    setattr(TableTests, name, asking(row))
