"""The client's session: what it writes, and what it tells its listener."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.client.session import ClientSession, Received, Refusal
from chat_twisted.frames import encode
from tests.door import Transport

REGISTERED = b"REGISTERED alice\nVersion: 2\nSession: x\nMax-message: 100\nLast: 0\n\n"


class Log:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def __getattr__(self, name: str):
        return lambda *arguments: self.events.append((name, *arguments))


class SessionTestCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.log = Log()
        self.session = ClientSession("alice", self.log, self.clock)
        self.transport = Transport()
        self.session.makeConnection(self.transport)

    def hear(self, data: bytes) -> bytes:
        """The server writes; return what the session answers."""
        self.transport.clear()
        self.session.dataReceived(data)
        return self.transport.take()

    def take(self) -> list[tuple[object, ...]]:
        events, self.log.events = self.log.events, []
        return events

    def lose(self, reason: Exception | None = None) -> None:
        self.session.connectionLost(Failure(reason or ConnectionDone()))


class RegistrationTests(SessionTestCase):
    def test_it_registers_when_the_connection_stands(self) -> None:
        self.assertEqual(self.transport.take(), b"REGISTER alice\nVersion: 2\n\n")
        self.hear(REGISTERED)
        self.assertEqual(self.take(), [("registered", "alice")])
        self.assertEqual(self.session.max_message, 100)

    def test_a_refusal_is_told_and_the_connection_closed(self) -> None:
        answer = self.hear(b"ERROR 105 Name in use\n\n")
        self.assertEqual(answer, b"QUIT\n\n")
        self.assertEqual(self.take(), [("not_registered", Refusal(105, "Name in use"))])

    def test_a_second_registered_is_not_believed(self) -> None:
        self.hear(REGISTERED)
        self.hear(REGISTERED)
        self.assertTrue(self.transport.aborting)


class TalkTests(SessionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hear(REGISTERED)
        self.take()

    def test_requests_have_ids_and_answers_come_with_them(self) -> None:
        self.transport.clear()
        first, second = self.session.send("bob", "hé"), self.session.send("ALL", "x")
        self.assertEqual(
            self.transport.take(),
            "SEND bob\nId: 1\nContent-length: 3\n\nhé".encode()
            + b"SEND ALL\nId: 2\nContent-length: 1\n\nx",
        )
        self.hear(
            b"SENT bob\nId: 1\nMessage: 9\nTime: t\n\nERROR 102 Unable to send\nId: 2\n\n"
            b"DELIVERED bob\nId: 1\nMessage: 9\n\nERROR 109 Too fast\n\n"
        )
        self.assertEqual(
            self.take(),
            [
                ("sent", first),
                ("refused", second, Refusal(102, "Unable to send")),
                ("delivered", first),
                ("refused", None, Refusal(109, "Too fast")),
            ],
        )

    def test_what_comes_together_is_confirmed_together(self) -> None:
        data = b"".join(
            encode("FORWARD", "bob", [("To", "alice"), ("Message", n), ("Time", "t")], f"n{n}")
            for n in (4, 6)
        )
        self.assertEqual(self.hear(data), b"RECEIVED bob\nMessage: 6\n\n")
        self.assertEqual(
            self.take(),
            [("received", Received(n, "t", "bob", "alice", f"n{n}")) for n in (4, 6)],
        )

    def test_a_list_that_goes_on_is_told_when_it_is_whole(self) -> None:
        id = self.session.who()
        answer = self.hear(b"WHO\nId: 1\nCount: 3\nMore: bob\nContent-length: 10\n\nalice\nbob\n")
        self.assertEqual(answer, b"WHO\nId: 1\nAfter: bob\n\n")
        self.hear(b"WHO\nId: 1\nCount: 3\nContent-length: 11\n\ncarol away\n")
        self.assertEqual(self.take(), [("listed", id, ["alice", "bob", "carol"])])

    def test_ping_is_answered_and_what_is_not_known_ignored(self) -> None:
        self.assertEqual(self.hear(b"PING x\n\nNOTICE news\n\nPONG y\n\n"), b"PONG x\n\n")
        self.assertEqual(self.take(), [])

    def test_what_can_not_be_understood_ends_the_session(self) -> None:
        for wrong in (b"\n", b"SENT bob\n\n", b"FORWARD bob\nContent-length: 1\n\nx"):
            self.setUp()
            self.hear(wrong)
            self.assertTrue(self.transport.aborting)
            self.lose(ConnectionLost())
            self.assertEqual(self.take(), [("lost", "what the server says can't be understood")])


class EndTests(SessionTestCase):
    def test_the_reason_is_the_servers_if_it_gave_one(self) -> None:
        self.hear(REGISTERED + b"BYE The server is stopping\n\n")
        self.lose()
        self.assertEqual(self.take()[1:], [("lost", "The server is stopping")])

    def test_quit_is_said_once_and_the_server_need_not_answer(self) -> None:
        self.hear(REGISTERED)
        self.transport.clear()
        self.session.quit()
        self.session.quit()
        self.assertEqual(self.transport.take(), b"QUIT\n\n")
        self.clock.advance(2)
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_silent_server_is_asked_and_then_given_up(self) -> None:
        self.hear(REGISTERED)
        self.clock.advance(60)
        self.transport.clear()
        self.clock.advance(60)
        self.assertEqual(self.transport.take(), b"PING idle\n\n")
        self.clock.advance(60)
        self.assertTrue(self.transport.aborting)

    def test_a_server_that_is_not_read_is_not_silent(self) -> None:
        self.hear(REGISTERED)
        self.session.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.pump([60] * 9)
        self.assertFalse(self.transport.aborting)
        self.session.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_the_end_is_seen_even_if_nothing_can_be_shown_any_more(self) -> None:
        self.hear(REGISTERED)
        self.session.pauseProducing()
        self.session.stopProducing()
        self.assertEqual(self.transport.producerState, "producing")
